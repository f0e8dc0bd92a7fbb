"""The workshop in a box, for a room without a network: `make box` -> build/box, and build/box.zip

BOX="linux mac windows" names the computers it is for, PYTHONS="3.11 3.12 3.13" their Pythons. Stopped, it goes on later.
"""

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from utils.editions import BUILD, ROOT, copy_series
from utils.errors import LessonError
from utils.start import REQUIREMENTS, TORCH_INDEX, read

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

FOLDER = BUILD / "box"
# For each kind of computer: what its wheels are called, and what it answers to a requirement's conditions.
MANY = ["manylinux2014_{0}", "manylinux1_{0}", *(f"manylinux_2_{minor}_{{0}}" for minor in range(5, 29)), "linux_{0}"]
LINUX, MAC, WINDOWS = ("linux", "Linux", "posix"), ("darwin", "Darwin", "posix"), ("win32", "Windows", "nt")
COMPUTERS = {
    "linux": (LINUX, "x86_64", [tag.format("x86_64") for tag in MANY]),
    "linux-arm": (LINUX, "aarch64", [tag.format("aarch64") for tag in MANY]),
    "mac": (MAC, "arm64", ["macosx_14_0_arm64"]),
    "windows": (WINDOWS, "AMD64", ["win_amd64"]),
}
PYTHONS = ("3.11", "3.12", "3.13")
SERIES, COMMON, OWN = 60, 60, {"linux": 270, "linux-arm": 250, "mac": 170, "windows": 180}  # MB; OWN for one Python
START_SH = """#!/bin/sh
# Sets up .venv from wheels/, without a network, and opens JupyterLab.
cd "$(dirname "$0")" || exit 1
for python in NAMES python3; do
    if "$python" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] not in 'PYTHONS'.split())" 2>/dev/null; then
        exec "$python" utils/start.py lab "$@"
    fi
done
echo "start: this box is for Python PYTHONS, and none is here; install one from the stick" >&2
exit 1
"""
START_BAT = """@echo off
rem Sets up .venv from wheels, without a network, and opens JupyterLab.
cd /d "%~dp0"
for %%v in (PYTHONS) do (
    py -%%v -c "" >nul 2>&1 && (
        py -%%v utils\\start.py lab %*
        exit /b
    )
)
python utils\\start.py lab %*
if errorlevel 1 pause
"""


def own_computer():
    """-> the name that this computer has in COMPUTERS"""
    system, machine = platform.system(), platform.machine()
    names = [name for name, (kind, own, _) in COMPUTERS.items() if (kind[1], own.lower()) == (system, machine.lower())]
    if not names:
        raise LessonError(f"there is no box for {system} on {machine}; name the computers: make box BOX='linux mac windows'")
    return names[0]


def wanted():
    """-> the computers and the Pythons that the environment names"""
    computers = os.environ.get("BOX", "").split() or [own_computer()]
    pythons = os.environ.get("PYTHONS", "").split() or PYTHONS
    if unknown := set(computers) - set(COMPUTERS):
        raise LessonError(f"BOX names {', '.join(sorted(unknown))}; it can name {', '.join(COMPUTERS)}")
    if unknown := set(pythons) - set(PYTHONS):
        raise LessonError(f"PYTHONS names {', '.join(sorted(unknown))}; it can name {', '.join(PYTHONS)}")
    return computers, pythons


def conditions(computer, python):
    """What a computer answers to a requirement's conditions, such as `sys_platform == "win32"`."""
    (sys_platform, system, os_name), machine, _ = COMPUTERS[computer]
    answers = {"sys_platform": sys_platform, "platform_system": system, "os_name": os_name, "platform_machine": machine}
    return {**answers, "python_version": python, "python_full_version": f"{python}.9", "platform_release": ""}


def packages(lines, computer, python):
    """Requirements, and all that they require on that computer -> what pip is to fetch, in the versions installed here.

    pip itself would answer the conditions for the computer that it runs on, and fetch nothing that only Windows needs.
    """
    found, seen, todo = {}, set(), [Requirement(line) for line in lines]
    answers = conditions(computer, python)
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if (name, *sorted(requirement.extras)) in seen:
            continue
        seen.add((name, *sorted(requirement.extras)))
        try:
            there = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:  # not needed here: pip chooses the version; these require nothing more
            found.setdefault(name, f"{name}{requirement.specifier}")
            continue
        found[name] = f"{name}=={there.version.split('+')[0]}"
        for child in map(Requirement, there.requires or []):
            extras = requirement.extras or {""}
            if child.marker is None or any(child.marker.evaluate({**answers, "extra": extra}) for extra in extras):
                todo.append(child)
    if computer.startswith("linux"):
        found["torch"] += "+cpu"  # without CUDA, which is several GB
    return sorted(found.values())


def pip_command(computer, python, names):
    """-> what fetches these packages' wheels for that computer; those that are there already are not fetched again"""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    # A ninth release: packages refuse the first ones, which a bare 3.11 would be taken for.
    command += [
        "--implementation",
        "cp",
        "--only-binary=:all:",
        "--dest",
        str(FOLDER / "wheels"),
        "--python-version",
        f"{python}.9",
    ]
    command += [part for tag in COMPUTERS[computer][2] for part in ("--platform", tag)]
    index = ["--extra-index-url", TORCH_INDEX] if computer.startswith("linux") and TORCH_INDEX else []
    return [*command, *index, *names]


def fetch(computers, pythons):
    lines = [line for line in read(REQUIREMENTS).splitlines() if "==" in line]
    for computer in computers:
        for python in pythons:
            print(f"box: packages for {computer}, Python {python}", flush=True)
            if subprocess.call(pip_command(computer, python, packages(lines, computer, python))):
                reason = "its reason stands above; TROUBLESHOOTING.md#pip"
                raise LessonError(f"pip could not fetch all packages for {computer} ({reason}); run this again: it goes on")


def megabytes(computers, pythons):
    """About how large the box will be."""
    return SERIES + COMMON + len(pythons) * sum(OWN[name] for name in computers)


def fill(pythons):
    """Put into the box what is not a wheel: the series, its pages where they are built, and what starts it."""
    newest_first = sorted(pythons, reverse=True)  # all are 3.1x
    names = " ".join(f"python{python}" for python in newest_first)
    shell, batch = (text.replace("NAMES", names).replace("PYTHONS", " ".join(newest_first)) for text in (START_SH, START_BAT))
    copy_series(FOLDER, [])
    if (BUILD / "site").exists():
        shutil.copytree(BUILD / "site", FOLDER / "pages")
    (FOLDER / "start.sh").write_text(shell, encoding="utf-8", newline="\n")
    (FOLDER / "start.sh").chmod(0o755)
    (FOLDER / "start.bat").write_text(batch, encoding="utf-8", newline="\r\n")


def size_of(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6


def main():
    try:
        computers, pythons = wanted()
        size = megabytes(computers, pythons)
        print(f"box: for {', '.join(computers)}, Python {', '.join(pythons)}: about {size:,} MB, and the zip as much again")
        BUILD.mkdir(exist_ok=True)
        if shutil.disk_usage(BUILD).free < 2.5e6 * size:
            raise LessonError(f"{2.5 * size / 1000:.1f} GB of disk are needed; make room")
        fill(pythons)
        fetch(computers, pythons)
        shutil.make_archive(str(FOLDER), "zip", FOLDER.parent, FOLDER.name)
    except (LessonError, OSError) as error:
        raise SystemExit(f"box: {error}") from None
    print(f"box: {FOLDER.relative_to(ROOT)} and its zip, {size_of(FOLDER):,.0f} MB; start it with start.sh or start.bat")


if __name__ == "__main__":
    main()
