"""What several tests need. Imported before any of them: utils comes before torch, whose threads it sets up."""

import shutil

import utils  # noqa: F401

import pytest


@pytest.fixture(scope="module")
def browser():
    from selenium import webdriver  # only `make test-browser` installs it

    program, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    assert program and driver, "no Chromium with its driver here; on Debian: apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for option in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1300,1000"):
        options.add_argument(option)
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    browser.set_script_timeout(3600)
    yield browser
    browser.quit()
