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
from unittest.mock import patch

from utils import clickable, plots
from utils.diagrams import contrast
from utils.notebooks import PATHS
from utils.pictures import four_drawings

import nbformat
import pytest
import requests
import torch
from IPython.core.formatters import DisplayFormatter

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


def wait_for(condition, seconds=3600):
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "waited too long"
        time.sleep(0.2)


SHARES = torch.randn(2, 196, 196, generator=torch.Generator().manual_seed(0)).mul(3).softmax(dim=-1)


def clickable_notebook(source):
    """A notebook of one cell that was run, and displayed a still picture and one that can be clicked."""
    displayed = []
    with patch.object(plots, "display", lambda *given, **_: displayed.append(given[0])):
        plots.show_images({"the scene": four_drawings()}, alt="Four drawings.")
    with patch.object(clickable, "display", displayed.append):
        clickable.show_clickable(four_drawings(), {"head 0": SHARES[0], "head 1": SHARES[1]}, chosen=45)
        clickable.show_clickable(four_drawings(), {"all heads": SHARES[0, :2]}, chosen=1, words=["a", "ship"])
    data = [DisplayFormatter().format(one)[0] for one in displayed]
    outputs = [nbformat.v4.new_output("display_data", data=one) for one in data]
    cell = nbformat.v4.new_code_cell(source, outputs=outputs, execution_count=1)
    return nbformat.v4.new_notebook(cells=[cell], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab by `make lab`'s program, on a copy of the repository (it saves by itself) -> the address of a notebook"""
    folder = tmp_path_factory.mktemp("lab")
    for name in ("notebooks", "utils", "models", "pictures", "readme_imgs", "requirements.txt"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / "repository" / name)
    (folder / "repository" / ".venv").symlink_to(sys.prefix)
    for name, source in {"notebooks/trusted.ipynb": "trusted", "untrusted.ipynb": "not trusted"}.items():
        nbformat.write(clickable_notebook(source), folder / "repository" / name)
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
    yield lambda path: f"http://127.0.0.1:{port}/lab/tree/{path}?token=secret&reset"
    os.killpg(server.pid, signal.SIGTERM)  # JupyterLab, too, which start.py waits for
    server.wait()


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
    browser.get(lab("").replace("/lab/tree/", "/"))
    wait_for(lambda: browser.execute_script(IS_OPEN))
    assert browser.execute_async_script(IS_CHANGED) == ["notebooks/00_start_here.ipynb", False, 0]


@pytest.mark.browser
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_all_cells_run_without_a_complaint_and_every_picture_is_seen(path, lab, browser):
    browser.get(lab(f"notebooks/{path.name}"))
    wait_for(lambda: browser.execute_script(IS_OPEN))
    # Not by execute_async_script: a slow machine needs longer than the two minutes after which its driver gives up.
    browser.execute_script(f"window.seen = null; (function () {{ {RUN_ALL} }})(seen => {{ window.seen = seen; }})")
    wait_for(lambda: browser.execute_script("return window.seen"))
    seen = browser.execute_script("return window.seen")
    assert seen.pop("pictures", 0) > 0, seen
    assert seen == {"ran": True, "never_run": 0, "complaints": [], "broken": [], "without_alt": 0}


@pytest.mark.browser
def test_on_a_wide_screen_a_line_of_text_is_no_longer_than_a_figure(lab, browser):
    browser.set_window_size(1920, 1080)
    try:
        browser.get(lab(f"notebooks/{PATHS[1].name}"))
        wait_for(lambda: browser.execute_script(IS_OPEN))
        widths = "return [...document.querySelectorAll('.jp-MarkdownOutput p')].map(paragraph => paragraph.offsetWidth)"
        wait_for(lambda: browser.execute_script(widths))  # a slow machine shows the cells later
        assert 600 < max(browser.execute_script(widths)) <= 900
    finally:
        browser.set_window_size(1300, 1000)


PROBE = """
const [theme, done] = arguments;
(async () => {
  await window.jupyterapp.commands.execute('apputils:change-theme', {theme});
  const probe = window.jupyterapp.shell.currentWidget.node.appendChild(document.createElement('p'));
  probe.style = 'color: var(--jp-mirror-editor-comment-color); background: var(--jp-cell-editor-background)';
  await new Promise(resolve => setTimeout(resolve, 2000));
  const {color, backgroundColor} = getComputedStyle(probe);
  done([color, backgroundColor].map(rgb => rgb.match(/\\d+/g).slice(0, 3).map(part => part / 255)));
})().catch(error => done(String(error)));
"""


@pytest.mark.browser
@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_a_comment_in_the_code_can_be_read(theme, lab, browser):
    browser.get(lab(f"notebooks/{PATHS[1].name}"))
    wait_for(lambda: browser.execute_script(IS_OPEN))
    ink, paper = browser.execute_async_script(PROBE, theme)
    assert contrast(ink, paper) >= 4.5
    assert (max(paper) < 0.5) == (theme == "JupyterLab Dark")


SAID = "return [...document.querySelectorAll('.clickable-look [aria-live]')].map(sentence => sentence.textContent)"
LOOKS = "return [...document.querySelectorAll('.clickable-look canvas')].map(canvas => canvas.getAttribute('aria-label'))"


def strongest(chosen):
    """What is to be said of a patch: where each head's look is strongest, by the shares themselves."""
    best = [(head, row[chosen].argmax().item(), row[chosen].max().item()) for head, row in enumerate(SHARES)]
    return [f"head {head} at row {patch // 14}, column {patch % 14} ({share:.0%})" for head, patch, share in best]


def said_of(chosen):
    return f"From row {chosen // 14}, column {chosen % 14}, the strongest look goes: {'; '.join(strongest(chosen))}."


def said_before(word, row):
    where = strongest(row)[0].removeprefix("head 0 at ")
    return f"Before “{word}”, the strongest look goes to {where}."


@pytest.mark.browser
def test_a_scene_is_clicked_and_says_what_the_model_does_before_anything_is_run(lab, browser):
    from selenium.webdriver import ActionChains, Keys

    browser.get(lab("notebooks/trusted.ipynb"))
    wait_for(lambda: browser.execute_script(IS_OPEN) and [*map(bool, browser.execute_script(SAID))] == [True, True])
    assert browser.execute_script(SAID) == [said_of(45), said_before("ship", 1)]
    scene = browser.find_element("css selector", ".clickable-look canvas")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", scene)
    ActionChains(browser).move_to_element_with_offset(scene, 5, 5).click().perform()  # from its middle, between four patches
    assert browser.execute_script(SAID)[0] == said_of(7 * 14 + 7)
    scene.send_keys(Keys.ARROW_LEFT, Keys.ARROW_UP, Keys.ARROW_UP)
    assert browser.execute_script(SAID)[0] == said_of(5 * 14 + 6)
    lit = [f"The scene lit by {look}." for look in strongest(5 * 14 + 6)]
    assert browser.execute_script(LOOKS)[:3] == ["The scene; row 5, column 6 is chosen.", *lit]
    browser.find_element("xpath", "//button[text()='a']").click()
    assert browser.execute_script(SAID)[1] == said_before("a", 0)
    lit = f"The scene lit by {strongest(0)[0].replace('head 0', 'all heads')}."
    assert browser.execute_script(LOOKS)[3:] == ["The scene.", lit]


@pytest.mark.browser
def test_in_a_notebook_that_is_not_trusted_the_still_picture_stands_alone(lab, browser):
    browser.get(lab("untrusted.ipynb"))
    wait_for(lambda: browser.execute_script(IS_OPEN) and browser.find_elements("css selector", ".jp-OutputArea img"))
    assert browser.execute_script(SAID) == [] and "script" not in browser.find_element("css selector", ".jp-OutputArea").text
