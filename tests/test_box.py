"""`make box`: what it fetches for which computer, and what it says; no test here needs a network."""

import os
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


def test_it_starts_only_with_a_python_that_it_has_packages_for(monkeypatch, folder, tmp_path):
    monkeypatch.setattr(subprocess, "call", lambda _: 0)
    box.main()
    assert "for python in python3.13 python3; do" in (folder / "start.sh").read_text(encoding="utf-8")
    assert "in (3.13) do (" in (folder / "start.bat").read_text(encoding="utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")  # as an older one answers
    (tmp_path / "bin" / "python3").chmod(0o755)
    only = {"PATH": f"{tmp_path / 'bin'}:/bin"}
    if sys.platform == "linux" and not shutil.which("python3.13", path=only["PATH"]):
        done = subprocess.run([shutil.which("sh"), folder / "start.sh"], env=only, capture_output=True, text=True)
        assert done.stderr == "start: this box is for Python 3.13, and none is here; install one from the stick\n"


# A namespace of Linux has no network but its own loop, over which Jupyter speaks to its kernels.
ALONE = ["unshare", "--map-root-user", "--net"]
LOOP = "import fcntl, socket, struct; fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sh22x', b'lo', 1))"
FIRST = "from utils import notebooks as n; print([cell.get('outputs') for cell in n.execute(n.read(n.PATHS[0])).cells])"


@pytest.mark.slow
@pytest.mark.skipif(
    not shutil.which("unshare") or subprocess.run([*ALONE, "true"], capture_output=True).returncode != 0,
    reason="only Linux, where it lets one, can take away the network",
)
def test_without_a_network_a_box_alone_starts_and_runs_its_first_notebook(monkeypatch, tmp_path):
    for name in ("ROOT", "BUILD"):
        monkeypatch.setattr(box, name, tmp_path)
    monkeypatch.setattr(box, "FOLDER", tmp_path / "box")
    for name, value in {"BOX": "", "PYTHONS": "{}.{}".format(*sys.version_info), "PIP_RETRIES": "0"}.items():
        monkeypatch.setenv(name, value)
    box.main()
    shutil.unpack_archive(tmp_path / "box.zip", tmp_path / "a room")
    shutil.rmtree(tmp_path / "box")
    (there,) = (tmp_path / "a room").iterdir()
    commands = f'{sys.executable} -c "{LOOP}" && sh start.sh --version && .venv/bin/python -c "{FIRST}"'
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "VIRTUAL_ENV"))}
    done = subprocess.run([*ALONE, "sh", "-c", commands], cwd=there, env=outside, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good" in done.stdout.splitlines()[-1]


def test_inside_a_box_nothing_is_asked_of_the_network(monkeypatch, tmp_path):
    monkeypatch.setattr(start, "WHEELS", str(tmp_path))
    monkeypatch.setattr(start, "urlopen", None)
    assert start.torch_options() == ["--no-index", "--find-links", str(tmp_path)]
