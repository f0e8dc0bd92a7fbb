"""Set up .venv, then start: what `make lab`, `make test` and `make test-all` run. -> python3 utils/start.py lab

Needs no package, and runs on old Pythons too, so that it can say what they are too old for.
"""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from urllib.request import urlopen

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "Scripts", "python.exe") if os.name == "nt" else os.path.join(VENV, "bin", "python")
REQUIREMENTS = os.path.join(ROOT, "requirements.txt")
WHEELS = os.path.join(ROOT, "wheels")  # `make box` puts it there: all packages, for a room without a network
READY = os.path.join(VENV, "ready")  # holds the hash of the requirements that are all installed
UNFINISHED = os.path.join(VENV, "unfinished")
OLDEST, NEWEST = (3, 11), (3, 14)  # torch and all other pinned packages have wheels for these
# PyPI's torch for Linux brings CUDA along, which no notebook uses. With TORCH_INDEX= (empty) that one is taken.
TORCH_INDEX = os.environ.get("TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
# A user's own configuration of pip, Jupyter, IPython and matplotlib stays out; indexes, certificates and proxies stay in.
DROPPED = (
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PYTHONPATH",
    "PYTHONHOME",
    "JUPYTER_CONFIG_PATH",
    "JUPYTER_PATH",
    "MPLBACKEND",
)
OWN = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "MPLCONFIGDIR")
LAB = ["jupyterlab", "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"]
# No question about news, no look for updates, and room for the notebooks' whole names; a user may change all of it in the menu.
SETTINGS = {
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/filebrowser-extension:browser": {"showLastModifiedColumn": False},
}
# No limit that a slow machine can meet: nbval waits this long only for a kernel that died.
NBVAL = ["--nbval", "--nbval-current-env", "--nbval-cell-timeout=3600", "--nbval-kernel-startup-timeout=3600"]
NBVAL += ["--nbval-sanitize-with=tests/sanitize.cfg"]
STYLE = [["ruff", "check", "."], ["ruff", "format", "--check", "."]]
# A kernel tells its Python's version, JupyterLab writes that into the notebook, and asks to save what nobody has changed.
STARTUP = """kernel = get_ipython().kernel
kernel.language_info = {name: value for name, value in kernel.language_info.items() if name != "version"}
"""


class Refusal(Exception):
    """One line: what is missing on this machine, and how to get it."""


def say(text):
    print("start: " + text, flush=True)


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def without_wheels():
    """The kind of this machine if PyTorch has no build for it, or None."""
    system, machine = platform.system(), platform.machine().lower()
    if sys.maxsize < 2**32:
        return "a 32-bit Python"
    if system == "Darwin" and machine == "x86_64":
        return "Macs with an Intel processor, nor for a Python that was built for one"
    if system == "Darwin" and int(platform.mac_ver()[0].split(".")[0]) < 14:
        return "macOS before 14"
    if system == "Windows" and machine.startswith("arm"):
        return "Windows on Arm"
    if system == "Linux" and platform.libc_ver()[0] != "glibc":
        return "Linux without glibc, such as Alpine"
    return None


def check_machine():
    """Raise a Refusal if the packages cannot be installed on this machine with this Python."""
    version, needed = "{}.{}".format(*sys.version_info), "Python {}.{} to {}.{}".format(*OLDEST, *NEWEST)
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        get = "get one (TROUBLESHOOTING.md#python), then: make lab PYTHON=python3.13"
        raise Refusal(f"this needs {needed}, and {sys.executable} is {version}; {get}")
    machine = without_wheels()
    if machine:
        raise Refusal(f"PyTorch has no build for {machine}; use another computer (TROUBLESHOOTING.md#no-build-of-pytorch)")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError:
        raise Refusal(f"{sys.executable} lacks venv; on Debian and Ubuntu: sudo apt install python{version}-venv") from None


def version_of_venv():
    """The version of the Python in .venv, or None if it is not there or does not run (it is gone, or half-made)."""
    program = "import sys, pip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run([PYTHON, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment())
    except OSError:
        return None
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None


def environment(**more):
    """What the programs in .venv are started with: whatever the user configured for others cannot change what they do."""
    own = {name: os.path.join(VENV, "settings", name.lower()) for name in OWN}
    own.update(PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1", PYTHONNOUSERSITE="1", JUPYTER_PREFER_ENV_PATH="1")
    return {**{name: value for name, value in os.environ.items() if name not in DROPPED}, **own, **more}


def run(arguments, **more):
    """Run a module of .venv from the repository's root, until it ends by itself. -> its exit status"""
    process = subprocess.Popen([PYTHON, "-m", *arguments], cwd=ROOT, env=environment(**more))
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # Ctrl-C reaches the program, too: JupyterLab asks whether it is meant
            pass


def torch_options():
    """Say how much pip is going to download. -> its options for where to find torch, or everything"""
    if os.path.isdir(WHEELS):
        say("setting up .venv from wheels/, without a network")
        return ["--no-index", "--find-links", WHEELS]
    linux, small, large = platform.system() == "Linux", "about 0.3 GB to download, once", "about 3 GB to download, once"
    if not linux or not TORCH_INDEX:
        say(f"setting up .venv: {large if linux else small}")
        return []
    try:
        urlopen(TORCH_INDEX.rstrip("/") + "/torch/", timeout=20).close()
    except (OSError, ValueError) as error:
        say(f"{TORCH_INDEX} cannot be reached ({error}): torch comes from pip's own index, on most machines with CUDA, {large}")
        return []
    say(f"setting up .venv: {small}; for a build that uses NVIDIA's GPUs, 3 GB, set TORCH_INDEX= (empty)")
    return ["--extra-index-url", TORCH_INDEX]


def set_up():
    """Make .venv and install the requirements, unless all of that was done. Raises a Refusal."""
    wanted = hashlib.sha256(read(REQUIREMENTS).encode()).hexdigest()
    version = version_of_venv()
    whole = version is not None and OLDEST <= version <= NEWEST and not os.path.exists(UNFINISHED)
    if whole and os.path.exists(READY) and read(READY) == wanted:
        return
    check_machine()
    try:
        if not whole:
            make_venv()
        install()
        write(READY, wanted)
        os.remove(UNFINISHED)
    except OSError as error:
        way_out = "copy the folder to where you may write (TROUBLESHOOTING.md#a-folder-that-cannot-be-written)"
        raise Refusal(f"cannot write {error.filename} ({error.strerror}); {way_out}") from None


def make_venv():
    if os.path.lexists(VENV):
        say(".venv is unfinished, broken, or of another Python: it is made again")
        (os.remove if os.path.islink(VENV) or os.path.isfile(VENV) else shutil.rmtree)(VENV)
    write(UNFINISHED, "")  # before anything else: a venv that was interrupted may look whole
    if subprocess.call([sys.executable, "-m", "venv", VENV], env=environment()):
        raise Refusal(f"{sys.executable} could not make .venv (its reason stands above); try another Python: PYTHON=python3.13")


def install():
    write(UNFINISHED, "")
    # Not by `run`: when Ctrl-C stops pip, the mark stays.
    if subprocess.call([PYTHON, "-m", "pip", "install", "-r", REQUIREMENTS, *torch_options()], env=environment()):
        os.remove(UNFINISHED)  # pip has left what was there before, which may be all that there is without a network
        raise Refusal(
            "pip could not install everything (its reason stands above; TROUBLESHOOTING.md#pip); mend that, then run this again"
        )
    pins = [line.split("==")[0] for line in read(REQUIREMENTS).splitlines() if "==" in line]
    there = f"import importlib.metadata as m; [m.version(name) for name in {pins}]"
    if subprocess.call([PYTHON, "-c", there], env=environment(), stderr=subprocess.DEVNULL):
        raise Refusal(
            "pip installed the packages outside .venv: its configuration (pip config list) names a target; remove that"
        )


def lab(arguments):
    profile = os.path.join(environment()["IPYTHONDIR"], "profile_default", "startup")
    write(os.path.join(VENV, "share", "jupyter", "lab", "settings", "overrides.json"), json.dumps(SETTINGS))
    write(os.path.join(profile, "constant.py"), STARTUP)
    notebooks = os.path.join(ROOT, "notebooks")
    # A picture that can be clicked runs in a trusted notebook only. It is the bytes that are trusted: again after each pull.
    own = [os.path.join(notebooks, name) for name in sorted(os.listdir(notebooks)) if name.endswith(".ipynb")]
    say("trusts this repository's notebooks, so that their pictures can be clicked before anything is run")
    subprocess.call([PYTHON, "-m", "nbformat.sign", *own], env=environment(), stdout=subprocess.DEVNULL)
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # in a container everyone is root
    return run([*LAB, *root, *arguments])


def tests(which, *places, distribution="loadfile"):
    """Run tests on as many cores as there are, up to four, one thread each. -> exit status"""
    workers = ["-n", str(min(4, os.cpu_count() or 1)), "--dist", distribution]
    return run(["pytest", *workers, *NBVAL, "-m", which, *places], OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"))


def test(_):
    say("style, unit tests, and every output of every notebook: 4 to 8 minutes on two quiet cores")
    for command in STYLE:
        if run(command):
            return 1
    return tests("not slow and not training and not browser", "tests", "notebooks")


def test_all(_):
    status = test(_)
    if status:
        return status
    say("now what takes longer: other checkpoints, all shapes, a hub that stalls, two processes: 10 minutes more")
    return tests("slow", "tests", distribution="worksteal")


COMMANDS = {"setup": lambda _: 0, "lab": lab, "test": test, "test-all": test_all}


def main():
    command, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if command not in COMMANDS:
        raise SystemExit("start: say which: python3 utils/start.py " + " | ".join(COMMANDS))
    try:
        set_up()
    except Refusal as refusal:
        raise SystemExit(f"start: {refusal}") from None
    except KeyboardInterrupt:
        raise SystemExit("start: stopped; run it again to go on") from None
    raise SystemExit(COMMANDS[command](arguments))


if __name__ == "__main__":
    main()
