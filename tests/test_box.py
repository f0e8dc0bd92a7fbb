"""`make box`: what it fetches for which computer, and what it says; no test here needs a network."""

import shutil
import subprocess
import sys

from utils import box, editions, start
from utils.errors import LessonError

import pytest
from packaging.requirements import Requirement

LINES = [line for line in start.read(start.REQUIREMENTS).splitlines() if "==" in line]


def names(computer, python="3.13"):
    return {Requirement(line).name: Requirement(line) for line in box.packages(LINES, computer, python)}


@pytest.mark.parametrize("computer", box.COMPUTERS)
def test_each_computer_gets_what_the_series_requires_in_the_pinned_versions(computer):
    found = names(computer)
    for line in map(Requirement, LINES):
        assert str(found[line.name].specifier).removesuffix("+cpu") == str(line.specifier)
    assert ("+cpu" in str(found["torch"])) == computer.startswith("linux"), "no CUDA, which only Linux's usual build brings"
    assert not [name for name in found if name.startswith("nvidia")]


def test_what_only_one_kind_of_computer_needs_goes_to_that_one():
    assert "pywinpty" in names("windows") and "pywinpty" not in names("mac")
    assert "appnope" in names("mac") and "appnope" not in names("linux")
    assert "pexpect" in names("linux") and "pexpect" not in names("windows")


@pytest.mark.parametrize("computer", box.COMPUTERS)
def test_pip_is_asked_for_wheels_of_that_computer_and_python(monkeypatch, computer):
    command = box.pip_command(computer, "3.12", ["lesson==1.0"])
    assert command[command.index("--python-version") + 1].startswith("3.12.") and "--only-binary=:all:" in command
    platforms = [after for part, after in zip(command, command[1:]) if part == "--platform"]
    assert platforms == box.COMPUTERS[computer][2] and command[-1] == "lesson==1.0"
    assert ("--extra-index-url" in command) == (computer.startswith("linux") and bool(start.TORCH_INDEX))


def test_its_pythons_are_ones_that_the_series_runs_on():
    assert all(start.OLDEST <= tuple(map(int, python.split("."))) <= start.NEWEST for python in box.PYTHONS)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [("BOX", "linux amiga", "BOX names amiga; it can name linux, "), ("PYTHONS", "3.9", "PYTHONS names 3.9; it can name 3.11")],
)
def test_what_there_is_no_box_for_is_one_line(monkeypatch, variable, value, says):
    monkeypatch.setenv(variable, value)
    with pytest.raises(LessonError, match=says):
        box.wanted()


def test_without_a_name_it_is_for_this_computer(monkeypatch):
    monkeypatch.delenv("BOX", raising=False)
    monkeypatch.setenv("PYTHONS", "")
    assert box.wanted() == ([box.own_computer()], box.PYTHONS)
    monkeypatch.setattr(box.platform, "system", lambda: "Plan9")
    with pytest.raises(LessonError, match="there is no box for Plan9 on "):
        box.own_computer()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """Where the box is made, of a series of a few files."""
    series = tmp_path / "series"
    shutil.copytree(editions.ROOT / "utils", series / "utils", ignore=shutil.ignore_patterns("__pycache__"))
    (series / ".gitignore").write_text("build/\n", encoding="utf-8")
    monkeypatch.setattr(editions, "ROOT", series)
    monkeypatch.setattr(box, "ROOT", tmp_path)
    monkeypatch.setattr(box, "BUILD", tmp_path)
    monkeypatch.setattr(box, "FOLDER", tmp_path / "box")
    monkeypatch.setenv("BOX", "mac")
    monkeypatch.setenv("PYTHONS", "3.13")
    return box.FOLDER


def test_it_says_its_size_first_and_goes_on_where_it_was_stopped(monkeypatch, folder, capsys):
    def fail(command):
        (folder / "wheels").mkdir(exist_ok=True)
        (folder / "wheels" / "first.whl").write_text("fetched", encoding="utf-8")
        return 1

    monkeypatch.setattr(subprocess, "call", fail)
    with pytest.raises(SystemExit, match="box: pip could not fetch all packages for mac .*; run this again: it goes on"):
        box.main()
    assert capsys.readouterr().out.startswith("box: for mac, Python 3.13: about 290 MB, and the zip as much again\n")
    monkeypatch.setattr(subprocess, "call", lambda _: 0)
    box.main()
    assert (folder / "wheels" / "first.whl").exists() and (folder / "utils" / "start.py").exists()
    assert folder.with_suffix(".zip").exists() and b"\r\n" in (folder / "start.bat").read_bytes()
    if sys.platform != "win32":
        assert (
            subprocess.run(["sh", "-n", folder / "start.sh"]).returncode == 0 and (folder / "start.sh").stat().st_mode & 0o100
        )


def test_a_disk_that_is_too_small_is_one_line(monkeypatch, folder):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 0))
    with pytest.raises(SystemExit, match="box: 0.7 GB of disk are needed; make room"):
        box.main()
    assert not folder.exists()


def test_inside_a_box_nothing_is_asked_of_the_network(monkeypatch, tmp_path):
    monkeypatch.setattr(start, "WHEELS", str(tmp_path))
    monkeypatch.setattr(start, "urlopen", None)
    assert start.torch_options() == ["--no-index", "--find-links", str(tmp_path)]
