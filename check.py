"""Is this computer ready for the workshop "SigLIP by hand"? Run it the day before, in the folder that you will work in:

    python3 check.py          (on Windows: py check.py)

One file, Python 3.8 or newer, nothing to install. It prints a line for each thing that a computer needs, and what to do
where something is missing. It makes a folder to try things in, and removes it. Exit status: 0 if all is well, else 1.
`--json` prints the same for a helper who collects the answers of a class.
"""

import argparse
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import webbrowser

OLDEST, NEWEST = (3, 11), (3, 14)  # as in utils/start.py; a test says that they agree
MEMORY, DISK = 3.0, 3.0  # GB: for the largest notebook; for the download, what is made of it, and saved work
LONGEST = 200  # characters of the longest path inside the series' folder, which Windows adds to the folder's own
SECONDS = 120  # no step takes longer: it then counts as failed
PACKAGE = "requests"  # a small one of those that the series needs
TEXT_BROWSERS = ("www-browser", "links", "elinks", "lynx", "w3m")
SYNCED = ("onedrive", "dropbox", "google drive", "googledrive", "icloud", "mobile documents", "nextcloud")
FINE, NOTE, WRONG = "OK", "NOTE", "WRONG"  # a NOTE is worth knowing, and no reason not to come


class Finding:
    """What one check found: a line, and the way out if there is something to do."""

    def __init__(self, name, status, found, cure=""):
        self.name, self.status, self.found, self.cure = name, status, found, cure

    def __str__(self):
        return f"{self.status:5} {self.found}" + (f": {self.cure}" if self.cure else "")


def check_python():
    found = "Python {}.{}".format(*sys.version_info[:2])
    if OLDEST <= sys.version_info[:2] <= NEWEST:
        return Finding("python", FINE, found)
    needed = "the workshop needs Python {}.{} to {}.{}".format(*(OLDEST + NEWEST))
    return Finding("python", WRONG, found, needed + "; install one, and run this file with it (python3.13 check.py)")


def check_machine():
    """torch has no build for some computers: say so before a download fails."""
    system, machine = platform.system(), platform.machine().lower()
    other = "bring another computer, or ask for a place on a JupyterHub"
    found = f"{system} on {machine}"
    if sys.maxsize < 2**32:
        return Finding("machine", WRONG, "a 32-bit Python", "install a 64-bit Python")
    if system == "Darwin" and machine == "x86_64":
        cure = "on a Mac with an Intel processor: " + other + "; on a newer one: install Python's build for Apple's processors"
        return Finding("machine", WRONG, "a Python for Macs with an Intel processor", cure)
    if system == "Darwin" and int(platform.mac_ver()[0].split(".")[0]) < 14:
        return Finding("machine", WRONG, "macOS " + platform.mac_ver()[0], "update to macOS 14 or newer, or " + other)
    if system == "Windows" and machine.startswith("arm"):
        return Finding("machine", WRONG, "Windows on Arm", other)
    if system == "Linux" and platform.libc_ver()[0] != "glibc":
        return Finding("machine", WRONG, "Linux without glibc, such as Alpine", other)
    return Finding("machine", FINE, found)


def check_disk(folder):
    free = shutil.disk_usage(folder).free / 1e9
    found = f"{free:.1f} GB of disk free"
    return Finding("disk", FINE, found) if free > DISK else Finding("disk", WRONG, found, f"{DISK:.0f} GB are needed")


def free_memory():
    """-> GB that programs may still take, or None where Python alone cannot tell"""
    if platform.system() == "Linux":
        with open("/proc/meminfo", encoding="utf-8") as file:
            numbers = dict(line.split(":") for line in file)
        return int(numbers["MemAvailable"].split()[0]) * 1024 / 1e9
    if platform.system() == "Windows":
        return free_memory_on_windows()
    return None


def free_memory_on_windows():
    import ctypes

    class Status(ctypes.Structure):  # MEMORYSTATUSEX, as Windows documents it
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong)]
        _fields_ += [(name, ctypes.c_ulonglong) for name in ("total", "free", "a", "b", "c", "d", "e")]

    status = Status(length=ctypes.sizeof(Status))
    return status.free / 1e9 if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def check_memory():
    try:
        free = free_memory()
    except (OSError, KeyError, ValueError):
        free = None
    if free is None:
        return Finding("memory", NOTE, "free memory is not known", f"{MEMORY:.0f} GB are needed: close other programs")
    found = f"{free:.1f} GB of memory free"
    if free > MEMORY:
        return Finding("memory", FINE, found)
    return Finding("memory", WRONG, found, f"{MEMORY:.0f} GB are needed; close other programs, and run this again")


def on_network(folder):
    """Whether a folder lies on a drive of another computer, as far as its path or Linux tells."""
    if folder.startswith(("\\\\", "//")):
        return True
    if platform.system() == "Windows":
        import ctypes

        return ctypes.windll.kernel32.GetDriveTypeW(os.path.splitdrive(folder)[0] + "\\") == 4  # DRIVE_REMOTE
    try:
        with open("/proc/mounts", encoding="utf-8") as file:
            mounts = [line.split()[1:3] for line in file]
    except OSError:
        return False
    inside = [(len(place), kind) for place, kind in mounts if (folder + "/").startswith(place.rstrip("/") + "/")]
    return bool(inside) and max(inside)[1].startswith(("nfs", "cifs", "smb", "fuse.sshfs", "afs"))


def check_path(folder):
    windows = platform.system() == "Windows"
    cure = "use another folder, such as " + ("C:\\siglip" if windows else "one of its own in your home folder")
    if any(word in folder.lower() for word in SYNCED):
        return Finding("path", WRONG, folder + " is kept in step with a cloud", cure)
    if on_network(folder):
        return Finding("path", WRONG, folder + " is on a network drive", cure)
    if windows and len(folder) + LONGEST > 259:
        return Finding("path", WRONG, folder + " is too long for Windows", cure)
    if os.pathsep in folder:
        return Finding("path", WRONG, f"{folder} has a {os.pathsep!r} in it", cure)
    if " " in folder:
        return Finding("path", NOTE, folder + " has a space in it", "the workshop copes, other tools may not")
    return Finding("path", FINE, folder)


def check_port():
    """JupyterLab talks to the browser through a port of this computer's own."""
    try:
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen(1)
            socket.create_connection(server.getsockname(), timeout=5).close()
    except OSError as error:
        cure = "JupyterLab needs a port of 127.0.0.1; a firewall or VPN may be in the way: allow Python there"
        return Finding("port", WRONG, f"no program can be reached on this computer ({error})", cure)
    return Finding("port", FINE, "a port for JupyterLab")


def check_browser():
    try:
        name = getattr(webbrowser.get(), "name", "")
    except webbrowser.Error:
        name = TEXT_BROWSERS[0]
    if "microsoft" in platform.release().lower():  # Linux inside Windows
        return Finding("browser", NOTE, "Windows' browser", "open there the address that JupyterLab prints")
    if os.path.basename(str(name)) in TEXT_BROWSERS:
        return Finding("browser", WRONG, "no browser with windows", "install Firefox or Chrome")
    return Finding("browser", FINE, "a browser")


def run(command):
    """-> (exit status, the last line that it printed); a program that hangs or cannot start has failed"""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return 1, f"no answer in {SECONDS} seconds"
    except OSError as error:
        return 1, str(error)
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    errors = [line for line in lines if line.startswith("ERROR")]
    return done.returncode, (errors or lines or [""])[-1].strip()[:200]


def check_venv(trial):
    """Really makes an environment: Debian's Python has the module venv, and still cannot."""
    status, said = run([sys.executable, "-m", "venv", trial])
    if not status:
        return Finding("venv", FINE, "venv and pip")
    if platform.system() == "Linux":
        cure = "on Debian and Ubuntu: sudo apt install python{}.{}-venv".format(*sys.version_info[:2])
    else:
        cure = "install Python again, with pip"
    return Finding("venv", WRONG, f"no environment can be made ({said})", cure)


def pip_of(trial):
    windows = os.path.join(trial, "Scripts", "python.exe")
    return [windows if os.path.exists(windows) else os.path.join(trial, "bin", "python"), "-m", "pip"]


def check_packages(trial, wheels):
    """Whether packages come from the box's wheels, or else from the network. pip itself is asked: it knows the proxy."""
    command, options = pip_of(trial), ["--quiet", "--disable-pip-version-check", "--only-binary=:all:"]
    if os.path.isdir(wheels):
        needed = os.path.join(os.path.dirname(wheels), "requirements.txt")
        status, said = run(command + ["install", "--dry-run", "--no-index", "--find-links", wheels, "-r", needed] + options)
        cure = "ask for a box that was made for this computer and this Python, or take the newest release of this Python"
        good, bad = "the box's packages fit", f"the box has no packages for this Python ({said})"
    else:
        options += ["--no-deps", "--no-cache-dir", "--timeout", "10", "--retries", "1"]
        status, said = run(command + ["download", "--dest", trial, PACKAGE] + options)
        cure = "try another network, set its proxy, or ask for the workshop's box, which needs no network"
        good, bad = "packages can be fetched", f"pip cannot fetch a package ({said})"
    return Finding("packages", WRONG, bad, cure) if status else Finding("packages", FINE, good)


def check_folder(folder, wheels):
    """What needs a folder that can be written. -> findings"""
    try:
        trial = tempfile.mkdtemp(prefix="check-", dir=folder)
    except OSError as error:
        cure = "use a folder of your own"
        return [Finding("folder", WRONG, f"{folder} cannot be written ({error.strerror})", cure)]
    findings = [Finding("folder", FINE, "the folder can be written")]
    try:
        findings.append(check_venv(trial))
        if findings[-1].status != FINE:
            return findings  # without pip nothing more can be tried
        return findings + [check_packages(trial, wheels)]
    finally:
        shutil.rmtree(trial, ignore_errors=True)


def check_all(folder, wheels):
    """-> all findings"""
    findings = [check_python(), check_machine(), check_disk(folder), check_memory(), check_path(folder)]
    return findings + [check_port(), check_browser()] + check_folder(folder, wheels)


def as_json(findings, good):
    about = {"ready": good, "computer": platform.node(), "system": platform.platform(), "python": platform.python_version()}
    return json.dumps(dict(about, findings=[vars(finding) for finding in findings]), indent=1)


def main():
    parser = argparse.ArgumentParser(description="Is this computer ready for the workshop?")
    parser.add_argument("--json", action="store_true", help="print JSON, for a helper who collects it")
    parser.add_argument("--folder", default=os.getcwd(), help="the folder that you will work in; without: this one")
    options = parser.parse_args()
    folder = os.path.abspath(options.folder)
    if not os.path.isdir(folder):
        raise SystemExit(f"check: there is no folder {folder}; make it, or name another one")
    findings = check_all(folder, os.path.join(os.path.dirname(os.path.abspath(__file__)), "wheels"))
    wrong = sum(finding.status == WRONG for finding in findings)
    if options.json:
        print(as_json(findings, not wrong))
    else:
        print("\n".join(map(str, findings)))
        print("ready for the workshop" if not wrong else "not ready: mend what is WRONG, and run this again")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
