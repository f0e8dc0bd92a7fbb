"""Where the series runs in a browser: the files that hosts read, and the links that lead there."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from utils import start
from utils.notebooks import PATHS, read

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "INSTRUCTORS.md")]
PAGES += ["\n".join(cell.source for cell in read(PATHS[0]).cells)]
PAGES += [next(cell.source for cell in read(path).cells if cell.cell_type == "code") for path in PATHS]
# Owner and name behind each host's own address.
REPOSITORY = re.compile(
    r"(?:github\.com/|mybinder\.org/v2/gh/|codespaces\.new/|colab\.research\.google\.com/github/)([\w.-]+/[\w.-]+)"
)


def test_binder_installs_the_series_pins_and_torch_without_cuda():
    binder = ROOT / ".binder"
    lines = [line for line in (binder / "requirements.txt").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert lines == [f"--extra-index-url {start.TORCH_INDEX}", "-r ../requirements.txt"]
    assert (binder / "../requirements.txt").exists()
    version = re.fullmatch(r"python-(\d+)\.(\d+)\n", (binder / "runtime.txt").read_text(encoding="utf-8"))
    assert start.OLDEST <= tuple(map(int, version.groups())) <= start.NEWEST


def test_a_dev_container_sets_up_what_make_lab_sets_up():
    made = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    version = re.search(r":(\d+)\.(\d+)-", made["image"])
    assert start.OLDEST <= tuple(map(int, version.groups())) <= start.NEWEST
    assert made["onCreateCommand"] == "python utils/start.py setup" and "setup" in start.COMMANDS
    assert made["customizations"]["vscode"]["settings"]["python.defaultInterpreterPath"].endswith("/.venv/bin/python")


def test_all_links_name_one_repository():
    text = "\n".join(PAGES)
    found = REPOSITORY.findall(text)
    assert len(found) > 20 and len(set(found)) == 1, set(found)
    for host in ("mybinder.org", "codespaces.new", "colab.research.google.com"):
        assert host in PAGES[2], "00_start_here has the link"


# Colab opens a notebook without its repository


def first_cells_on_colab(path, folder, address):
    """Run a notebook's first two cells, as in Colab, where what GitHub has lies at `address`. -> a process that has ended"""
    cells = "\n".join([cell.source for cell in read(path).cells if cell.cell_type == "code"][:2])
    program = f"import sys\nsys.modules['google.colab'] = sys\n{cells}\nprint('utils from', sys.modules['utils'].__file__)"
    name = f"url.{address.as_uri()}.insteadOf"  # git takes the one for the other, wherever it clones from
    git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": name, "GIT_CONFIG_VALUE_0": "https://github.com/OWNER/REPOSITORY"}
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTHONPATH"))}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, cwd=folder, env=outside | git | {"PIP_NO_INDEX": "1"}, capture_output=True, text=True)


def test_on_colab_the_first_cell_fetches_the_series_once(tmp_path):
    github, here = tmp_path / "github", tmp_path / "content"
    for name in ("utils", "models/siglip-mini-patch16-224", "notebooks/images"):
        shutil.copytree(ROOT / name, github / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", github)
    for command in (["init", "--quiet"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", *command], cwd=github, check=True)
    here.mkdir()
    for _ in range(2):
        done = first_cells_on_colab(PATHS[1], here, github)
        assert f"utils from {here / 'series' / 'utils'}" in done.stdout, done.stderr
        shutil.rmtree(github, ignore_errors=True)  # the second time, nothing is fetched


def test_where_the_series_cannot_be_fetched_git_says_why_and_the_notebook_what_it_needs(tmp_path):
    first, *_, last = first_cells_on_colab(PATHS[1], tmp_path, tmp_path / "nothing").stderr.strip().splitlines()
    assert first.startswith("fatal: ") and first.endswith("does not appear to be a git repository")
    assert last == "AssertionError: this notebook needs its whole repository: clone it, and open the notebook in there"


def test_colab_gets_the_pins_that_it_lacks_and_keeps_its_torch(monkeypatch):
    asked = []
    monkeypatch.setattr(start.subprocess, "call", lambda command: asked.append(command) or 0)
    monkeypatch.setattr(start, "set_up", lambda: pytest.fail("Colab has no .venv"))
    monkeypatch.setattr(sys, "argv", ["start.py", "colab"])
    with pytest.raises(SystemExit, match="^0$"):
        start.main()
    (command,) = asked
    pins = [line for line in start.read(start.REQUIREMENTS).splitlines() if line.startswith(("transformers", "sentencepiece"))]
    assert len(pins) == 2 and command == [sys.executable, "-m", "pip", "install", "--quiet", *pins]
