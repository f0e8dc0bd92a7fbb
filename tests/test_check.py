"""check.py, which learners run the day before with nothing but Python: each fault has its line, and the way out."""

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
import webbrowser
from pathlib import Path
from types import SimpleNamespace

import check
from utils import machine, start

import pytest

SOURCE = Path(check.__file__)
NOT_IN_3_8 = {"removeprefix", "removesuffix", "is_relative_to", "readlink", "with_stem", "unparse", "batched", "pairwise"}


def test_it_agrees_with_what_the_series_needs():
    assert (check.OLDEST, check.NEWEST) == (start.OLDEST, start.NEWEST)
    assert check.MEMORY == machine.MEMORY and check.DISK > machine.DISK
    assert any(line.startswith(check.PACKAGE + "==") for line in start.read(start.REQUIREMENTS).splitlines())


def test_python_3_8_can_read_it_and_it_needs_no_package():
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 8))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports for alias in node.names} | {getattr(node, "module", None) for node in imports}
    assert names - {None} <= sys.stdlib_module_names - {"tomllib", "graphlib", "zoneinfo"}
    assert not {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)} & NOT_IN_3_8
    assert not any(isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) for node in ast.walk(tree))


def test_older_and_newer_pythons_compile_it():
    """Those that lie on this machine; none is no failure, the syntax tree was read above."""
    for version in range(8, 15):
        python = shutil.which(f"python3.{version}")
        if python and subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            done = subprocess.run([python, SOURCE, "--help"], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


# Each fault and its line


def is_wrong(finding, found, cure):
    assert finding.status == check.WRONG and found in finding.found and cure in finding.cure, finding
    assert "\n" not in str(finding)


@pytest.mark.parametrize("version", [(3, 8, 18), (3, 10, 13), (3, 15, 0)])
def test_another_python(monkeypatch, version):
    monkeypatch.setattr(sys, "version_info", version)
    is_wrong(check.check_python(), f"Python 3.{version[1]}", "Python 3.11 to 3.14; install one")


@pytest.mark.parametrize(
    ("system", "kind", "release", "found"),
    [
        ("Darwin", "x86_64", "14.5", "Macs with an Intel processor"),
        ("Darwin", "arm64", "13.6", "macOS 13.6"),
        ("Windows", "ARM64", "", "Windows on Arm"),
        ("Linux", "x86_64", "", "Linux without glibc"),
    ],
)
def test_a_machine_without_a_build_of_torch_as_start_refuses_it(monkeypatch, system, kind, release, found):
    monkeypatch.setattr(check.platform, "system", lambda: system)
    monkeypatch.setattr(check.platform, "machine", lambda: kind)
    monkeypatch.setattr(check.platform, "mac_ver", lambda: (release, ("", "", ""), kind))
    monkeypatch.setattr(check.platform, "libc_ver", lambda: ("", ""))
    is_wrong(check.check_machine(), found, "computer")
    assert start.without_wheels()


def test_a_32_bit_python(monkeypatch):
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    is_wrong(check.check_machine(), "a 32-bit Python", "64-bit")
    assert start.without_wheels()


def test_too_little_disk_and_memory(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1.26e9))
    is_wrong(check.check_disk(str(tmp_path)), "1.3 GB of disk free", "3 GB are needed")
    monkeypatch.setattr(check, "free_memory", lambda: 1.0)
    is_wrong(check.check_memory(), "1.0 GB of memory free", "close other programs")


def unknown():
    raise OSError


@pytest.mark.parametrize("free", [lambda: None, unknown])
def test_memory_that_python_cannot_tell_is_a_note(monkeypatch, free):
    monkeypatch.setattr(check, "free_memory", free)
    assert check.check_memory().status == check.NOTE


@pytest.mark.parametrize(
    ("system", "folder", "found"),
    [
        ("Windows", r"C:\Users\Kim\OneDrive - School\siglip", "a cloud"),
        ("Darwin", "/Users/kim/Library/Mobile Documents/siglip", "a cloud"),
        ("Windows", r"\\server\homes\kim", "a network drive"),
        ("Windows", "C:\\Users\\kim\\" + "a" * 60, "too long for Windows"),
        ("Linux", f"/home/kim/a{os.pathsep}b", f"has a {os.pathsep!r}"),
    ],
)
def test_a_path_with_trouble(monkeypatch, system, folder, found):
    monkeypatch.setattr(check.platform, "system", lambda: system)
    if not folder.startswith("\\\\"):
        monkeypatch.setattr(check, "on_network", lambda _: False)
    is_wrong(check.check_path(folder), found, "use another folder, such as ")


def test_a_space_in_the_path_is_a_note(monkeypatch):
    monkeypatch.setattr(check, "on_network", lambda _: False)
    assert check.check_path("/home/kim/my work").status == check.NOTE


def test_a_port_that_nobody_can_reach(monkeypatch):
    def refuse(*_, **__):
        raise OSError("refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    is_wrong(check.check_port(), "(refused)", "a firewall or VPN")


@pytest.mark.parametrize("name", [None, "w3m", "/usr/bin/www-browser"])
def test_no_browser_with_windows(monkeypatch, name):
    def get():
        if not name:
            raise webbrowser.Error("none")
        return SimpleNamespace(name=name)

    monkeypatch.setattr(webbrowser, "get", get)
    monkeypatch.setattr(check.platform, "release", lambda: "6.1")
    is_wrong(check.check_browser(), "no browser", "install Firefox")


@pytest.mark.parametrize(("system", "cure"), [("Linux", "sudo apt install python3."), ("Windows", "install Python again")])
def test_a_python_that_makes_no_environment(monkeypatch, system, cure):
    monkeypatch.setattr(check.platform, "system", lambda: system)
    monkeypatch.setattr(check, "run", lambda _: (1, "ensurepip is not available"))
    is_wrong(check.check_venv("trial"), "ensurepip is not available", cure)


@pytest.mark.parametrize(("box", "cure"), [(True, "a box that was made for this computer"), (False, "try another network")])
def test_packages_that_do_not_come(monkeypatch, tmp_path, box, cure):
    asked = []
    monkeypatch.setattr(check, "run", lambda command: asked.extend(command) or (1, "ERROR: none"))
    wheels = tmp_path / "wheels"
    if box:
        wheels.mkdir()
    is_wrong(check.check_packages("trial", str(wheels)), "(ERROR: none)", cure)
    assert ("--no-index" in asked) == box and ("--timeout" in asked) != box


def test_a_folder_that_cannot_be_written(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(check.tempfile, "mkdtemp", refuse)
    (finding,) = check.check_folder(str(tmp_path), "wheels")
    is_wrong(finding, "Permission denied", "a folder of your own")


def test_a_program_that_fails_hangs_or_is_missing_is_one_line(monkeypatch, tmp_path):
    assert check.run([sys.executable, "-c", "print('ERROR: no'); print('by'); exit(3)"]) == (3, "ERROR: no")
    assert check.run([str(tmp_path / "none")])[0] == 1

    def hang(*_, **__):
        raise subprocess.TimeoutExpired("pip", check.SECONDS)

    monkeypatch.setattr(subprocess, "run", hang)
    assert check.run(["pip"]) == (1, "no answer in 120 seconds")


# All of it


def test_nothing_is_left_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(check, "run", lambda command: (0, ""))
    assert [finding.name for finding in check.check_folder(str(tmp_path), "wheels")] == ["folder", "venv", "packages"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("status", "code", "last"), [(check.NOTE, 0, "ready"), (check.WRONG, 1, "not ready")])
def test_the_exit_status_and_the_json_say_the_same(monkeypatch, capsys, status, code, last):
    monkeypatch.setattr(check, "check_all", lambda *_: [check.Finding("path", status, "a space", "none")])
    for arguments in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["check.py", *arguments])
        with pytest.raises(SystemExit) as end:
            check.main()
        assert end.value.code == code
        said = capsys.readouterr().out
    told = json.loads(said)
    assert told["ready"] == (code == 0) and told["findings"] == [
        {"name": "path", "status": status, "found": "a space", "cure": "none"}
    ]


def test_a_folder_that_is_not_there_is_one_line():
    done = subprocess.run([sys.executable, SOURCE, "--folder", "nowhere"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("check: there is no folder ") and done.stderr.count("\n") == 1
