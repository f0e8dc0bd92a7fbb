"""Where the series runs in a browser: the files that hosts read, and the links that lead there."""

import json
import re
from pathlib import Path

from utils import start
from utils.notebooks import PATHS, read

ROOT = Path(__file__).parents[1]
PAGES = [path.read_text(encoding="utf-8") for path in (ROOT / "README.md", ROOT / "INSTRUCTORS.md")]
PAGES += ["\n".join(cell.source for cell in read(PATHS[0]).cells)]
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
    assert len(found) > 8 and len(set(found)) == 1, set(found)
    for host in ("mybinder.org", "codespaces.new", "colab.research.google.com"):
        assert host in PAGES[-1], "00_start_here has the link"


def test_what_colab_installs_is_pinned():
    (names,) = re.findall(r'grep -E "\^\(([\w|]+)\)=="', PAGES[-1])
    pinned = {line.split("==")[0] for line in start.read(start.REQUIREMENTS).splitlines() if "==" in line}
    assert set(names.split("|")) <= pinned and "torch" not in names.split("|")
