"""What a learner does after `make lab`: open each notebook in JupyterLab, in a real browser, and run all cells.

`make test-browser`; needs Chromium and its driver (on Debian the packages chromium and chromium-driver).
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from utils.notebooks import PATHS

import pytest
import requests

ROOT = Path(__file__).parents[1]
IS_OPEN = "return Boolean(window.jupyterapp && document.querySelector('.jp-NotebookPanel .jp-Cell'))"
RUN_ALL = """
const done = arguments[0];
(async () => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = app.shell.currentWidget;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  const ran = await app.commands.execute('notebook:run-all-cells');
  const cells = [...panel.content.model.cells].filter(cell => cell.type === 'code');
  const outputs = cells.flatMap(cell => cell.outputs.toJSON());
  const pictures = [...panel.node.querySelectorAll('img')];
  await Promise.allSettled(pictures.map(picture => picture.decode()));
  done({
    ran,
    never_run: cells.filter(cell => !cell.executionCount).length,
    complaints: outputs.filter(output => output.output_type === 'error' || output.name === 'stderr'),
    pictures: pictures.length,
    broken: pictures.filter(picture => !picture.naturalWidth).map(picture => picture.alt),
    without_alt: pictures.filter(picture => picture.closest('.jp-MarkdownCell') && !picture.alt).length,
  });
})().catch(error => done({failed: String(error)}));
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(address):
    try:
        return requests.get(address, timeout=5).ok
    except requests.ConnectionError:
        return False


def wait_for(condition, seconds=900):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "waited too long"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab by `make lab`'s program, on a copy of the repository (it saves by itself) -> the address of a notebook"""
    folder = tmp_path_factory.mktemp("lab")
    for name in ("notebooks", "utils", "models", "readme_imgs", "requirements.txt"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / "repository" / name)
    (folder / "repository" / ".venv").symlink_to(sys.prefix)
    own = {f"JUPYTERLAB_{name}_DIR": str(folder / name) for name in ("SETTINGS", "WORKSPACES")}
    # All cells are drawn, also those that are scrolled away, so that every picture is seen.
    settings = folder / "SETTINGS" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"windowingMode": "none"}), encoding="utf-8")
    port = free_port()
    options = [f"--port={port}", "--IdentityProvider.token=secret", "--no-browser", "--LabApp.expose_app_in_browser=True"]
    command = [sys.executable, folder / "repository" / "utils" / "start.py", "lab", *options]
    with open(folder / "log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log, start_new_session=True)
    wait_for(lambda: answers(f"http://127.0.0.1:{port}/api/status?token=secret"))
    yield lambda name: f"http://127.0.0.1:{port}/lab/tree/notebooks/{name}?token=secret&reset"
    os.killpg(server.pid, signal.SIGTERM)  # JupyterLab, too, which start.py waits for
    server.wait()


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


IS_CHANGED = """
const done = arguments[0];
(async () => {
  const panel = window.jupyterapp.shell.currentWidget;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  await new Promise(resolve => setTimeout(resolve, 2000));
  done([panel.context.path, panel.context.model.dirty, document.querySelectorAll('.Toastify__toast').length]);
})().catch(error => done(String(error)));
"""


@pytest.mark.browser
def test_it_opens_the_start_with_no_question_asked_and_nothing_to_save(lab, browser):
    browser.get(lab("00_start_here.ipynb").replace("/lab/tree/notebooks/00_start_here.ipynb", "/"))
    wait_for(lambda: browser.execute_script(IS_OPEN))
    assert browser.execute_async_script(IS_CHANGED) == ["notebooks/00_start_here.ipynb", False, 0]


@pytest.mark.browser
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_all_cells_run_without_a_complaint_and_every_picture_is_seen(path, lab, browser):
    browser.get(lab(path.name))
    wait_for(lambda: browser.execute_script(IS_OPEN))
    seen = browser.execute_async_script(RUN_ALL)
    assert seen.pop("pictures", 0) > 0, seen
    assert seen == {"ran": True, "never_run": 0, "complaints": [], "broken": [], "without_alt": 0}
