"""`make site`: the pages are read offline, from a folder, in light and dark, with a mouse, by keys, or by a screen reader."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from utils.notebooks import PATHS, read

import pytest

ROOT = Path(__file__).parents[1]
READ_BY_AXE = ["index", *(f"notebooks/{PATHS[number].stem}" for number in (0, 3, 7, -1))]


def build(folder, packages=""):
    """All pages, without a warning."""
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "site", ".", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(packages)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    build(folder)
    return folder


@pytest.mark.slow
def test_it_is_built_from_what_its_requirements_name(tmp_path):
    requirements, packages = ROOT / "site" / "requirements.txt", tmp_path / "packages"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", packages, "-r", requirements], check=True)
    build(tmp_path / "pages", packages)
    assert {f"{path.stem}.html" for path in PATHS} <= {page.name for page in (tmp_path / "pages" / "notebooks").iterdir()}


def soup(page):
    from bs4 import BeautifulSoup  # `make test-browser` installs it, with the site's requirements

    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@pytest.mark.browser
def test_no_link_is_broken_and_nothing_comes_from_elsewhere(site):
    pages = {page: soup(page) for page in site.rglob("*.html") if "_static" not in page.parts}
    names = {page: {tag["id"] for tag in parsed.select("[id]")} for page, parsed in pages.items()}
    assert len(pages) > len(PATHS)
    for page, parsed in pages.items():
        parts = [tag[name] for name in ("src", "href") for tag in parsed.select(f"[{name}]") if tag.name != "a"]
        assert not [part for part in parts if urlsplit(part).scheme in ("http", "https")], f"{page.name} fetches something"
        for link in [*parts, *(tag["href"] for tag in parsed.select("a[href]"))]:
            address = urlsplit(link)
            if address.scheme:
                continue
            target = (page.parent / unquote(address.path)).resolve() if address.path else page
            assert target.exists(), f"{page.name} links to {link}"
            assert not address.fragment or target not in names or unquote(address.fragment) in names[target] | {"top"}, link


@pytest.mark.browser
def test_each_picture_says_what_it_shows_once(site):
    for path in PATHS:
        stored = [output for cell in read(path).cells for output in cell.get("outputs", []) if "metadata" in output]
        alts = [form["alt"] for output in stored for form in output.metadata.values() if "alt" in form]
        page = soup(site / "notebooks" / f"{path.stem}.html")
        assert [picture["alt"] for picture in page.select(".cell_output img")] == alts
        assert [hidden.get_text() for hidden in page.select(".cell_output [aria-hidden=true] em")] == alts
        assert all(picture.get("alt") for picture in page.select("article img"))


@pytest.mark.browser
def test_solutions_are_folded(site):
    for path in PATHS:
        page = soup(site / "notebooks" / f"{path.stem}.html")
        solutions = [code for code in page.select("pre") if code.get_text().startswith("# Solution of exercise")]
        assert len(solutions) == sum(cell.source.count("# Solution of exercise") for cell in read(path).cells)
        assert all(code.find_parent("details") and not code.find_parent("details").has_attr("open") for code in solutions)


@pytest.mark.browser
def test_tables_of_mistakes_are_tables(site):
    for path in PATHS:
        page, cells = soup(site / "notebooks" / f"{path.stem}.html"), read(path).cells
        stored = [str(output.get("data", {}).get("text/markdown")) for cell in cells for output in cell.get("outputs", [])]
        tables = [table for table in page.select(".cell_output table") if table.find("th").get_text() == "moves"]
        assert len(tables) == "".join(stored).count("| moves |"), path.stem
        assert "|:---|" not in page.get_text()


@pytest.mark.browser
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_a_reader_who_cannot_see_it_well_can_read_it(site, browser, colours):
    from axe_core_python.selenium import Axe

    wishes = {"prefers-color-scheme": colours, "prefers-reduced-motion": "reduce"}  # colours that fade in are not read yet
    features = [{"name": name, "value": value} for name, value in wishes.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    for page in READ_BY_AXE:
        browser.get(f"file://{site}/{page}.html")
        found = Axe().run(browser, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]})
        assert not [(fault["id"], [node["html"][:200] for node in fault["nodes"]][:3]) for fault in found["violations"]], page


@pytest.mark.browser
def test_words_are_found_without_a_server(site, browser):
    browser.get(f"file://{site}/search.html?q=probe")
    browser.implicitly_wait(10)
    assert browser.find_elements("css selector", "#search-results li a[href*=notebooks]")


@pytest.mark.browser
def test_on_a_phone_no_page_is_wider_than_the_screen_and_what_moves_in_it_can_be_reached(site, browser):
    from axe_core_python.selenium import Axe

    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    for page in READ_BY_AXE:
        browser.get(f"file://{site}/{page}.html")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390, page
        found = Axe().run(browser, options={"runOnly": ["wcag2a", "wcag2aa"]})
        assert "scrollable-region-focusable" not in [fault["id"] for fault in found["violations"]], page
    first, last = (f"file://{site}/notebooks/{PATHS[number].stem}.html" for number in (1, -1))
    for page, right in ((first, False), (last, True)):  # the map shows where one is, be it at its right end
        browser.get(page)
        moved = "return document.querySelector('img[src*=you_are_here]').parentElement.scrollLeft > 0"
        assert browser.execute_script(moved) == right, page
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
