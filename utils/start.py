"""Set up .venv, then start: what `make lab`, `make mine`, `make test` and `make test-all` run. -> python3 utils/start.py lab

Needs no package, and runs on old Pythons too, so that it can say what they are too old for.
"""

import hashlib
import itertools
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
NOTEBOOKS = os.path.join(ROOT, "notebooks")
MINE = os.path.join(ROOT, "my-notebooks")  # a learner's own copies; git ignores them
COPIED = ".copied.json"  # in there: {name: hash of the newest version of the series that this file is, or was offered}
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
LAB = ["jupyterlab", "--custom-css", "--LabApp.default_url=/lab/tree/{}/00_start_here.ipynb"]
# On a wide screen, lines of text are no longer than the figures; what follows a fold isn't taken for a part of it.
CSS = ".jp-MarkdownOutput, .jp-OutputArea-output.jp-RenderedMarkdown { max-width: 900px; }\n"
CSS += ".jp-RenderedHTMLCommon details { margin-bottom: 1em; }\n"
# Tables, figures and their sentences begin where the text begins.
CSS += ".jp-RenderedHTMLCommon table, .jp-MarkdownOutput.jp-RenderedHTMLCommon table { margin-left: 0; }\n"
CSS += ".jp-OutputArea-output:is(.jp-RenderedImage, .jp-RenderedMarkdown), .clickable-look { padding-left: 6px; }\n"
# A number with an exponent isn't cut in two; a title of two lines has room between them.
CSS += ".jp-OutputArea-output.jp-RenderedHTMLCommon td:first-child { white-space: nowrap; }\n"
CSS += ".jp-MarkdownOutput.jp-RenderedHTMLCommon h1 { line-height: 1.2; }\n"
# A link is seen to be one, also where it is code.
CSS += ".jp-RenderedHTMLCommon a code { color: inherit; }\n.jp-MarkdownOutput p a { text-decoration: underline; }\n"
# Comments say why: JupyterLab's own colour for them is too pale to read, on white and on black; that of numbers is, on white.
CSS += "body { --jp-mirror-editor-comment-color: #2f6f6f; --jp-mirror-editor-number-color: #006b00; }\n"
CSS += 'body[data-jp-theme-light="false"] { --jp-mirror-editor-comment-color: #8ab4b4; '
CSS += "--jp-mirror-editor-number-color: #66bb6a; }\n"
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
        raise cannot_write(error) from None


def cannot_write(error):
    way_out = "copy the folder to where you may write (TROUBLESHOOTING.md#a-folder-that-cannot-be-written)"
    return Refusal(f"cannot write {error.filename} ({error.strerror}); {way_out}")


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


def lab(arguments, folder="notebooks"):
    profile = os.path.join(environment()["IPYTHONDIR"], "profile_default", "startup")
    write(os.path.join(VENV, "share", "jupyter", "lab", "settings", "overrides.json"), json.dumps(SETTINGS))
    write(os.path.join(profile, "constant.py"), STARTUP)
    write(os.path.join(environment()["JUPYTER_CONFIG_DIR"], "custom", "custom.css"), CSS)
    # A picture that can be clicked runs in a trusted notebook only. It is the content that is trusted, wherever a copy of it
    # lies: again after each pull.
    own = [os.path.join(NOTEBOOKS, name) for name in sorted(os.listdir(NOTEBOOKS)) if name.endswith(".ipynb")]
    say("trusts this repository's notebooks, so that their pictures can be clicked before anything is run")
    subprocess.call([PYTHON, "-m", "nbformat.sign", *own], env=environment(), stdout=subprocess.DEVNULL)
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # in a container everyone is root
    return run([*[word.format(folder) for word in LAB], *root, *arguments])


def committed():
    """The names in notebooks/ that are as git has them. None without git: what a learner has changed is then not known."""
    git = [["git", *command, "-z", "--", "."] for command in (["ls-files"], ["diff", "--name-only", "--relative", "HEAD"])]
    try:
        tracked, changed = (subprocess.check_output(command, cwd=NOTEBOOKS, stderr=subprocess.DEVNULL) for command in git)
    except (OSError, subprocess.CalledProcessError):
        return set()
    return set(os.fsdecode(tracked).split("\0")) - set(os.fsdecode(changed).split("\0"))


def files_of_series():
    """-> the names in notebooks/ that a learner needs: notebooks and images"""
    for start in ("", "images/"):
        for name in sorted(os.listdir(os.path.join(NOTEBOOKS, start))):
            path = os.path.join(NOTEBOOKS, start + name)
            if os.path.isfile(path) and (name.endswith(".ipynb") or start) and not name.startswith("."):
                yield start + name


def content(path):
    """-> the bytes of a file and their hash, or None twice if there is no such file"""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None, None
    return data, hashlib.sha256(data).hexdigest()


def write_whole(path, data):
    """Write a file at once: stopped at any moment, it leaves what was there before."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".part", "wb") as file:
        file.write(data)
    os.replace(path + ".part", path)


def beside(name):
    """The name itself, then those for a newer version beside it: x.ipynb, x.new.ipynb, x.new2.ipynb, ..."""
    stem, ending = os.path.splitext(name)
    yield name
    for number in itertools.count(1):
        yield f"{stem}.new{number if number > 1 else ''}{ending}"


def copy_mine(name, copied, known):
    """Copy one file to my-notebooks/, never over what a learner has changed. -> the name of what was written, or None

    Only a file that equals the version it was copied from is written over. `copied` remembers that version, but only if git
    has it (`known`): what a learner changed in notebooks/ itself is their work, too.
    """
    data, new = content(os.path.join(NOTEBOOKS, name))
    for place in beside(name):
        old = content(os.path.join(MINE, place))[1]
        if old in (None, new, copied.get(place)):
            break
        if copied.get(name) == new:  # the learner's has changed; the series has not since it was copied or put beside
            return None
    if old != new:
        write_whole(os.path.join(MINE, place), data)
    if known:
        copied[name] = copied[place] = new
    return place if old != new else None


def update_mine():
    """Bring my-notebooks/ up to date and say what was done. Raises a Refusal."""
    if os.path.lexists(MINE) and not os.path.isdir(MINE):
        raise Refusal("my-notebooks is a file where the folder of your notebooks belongs; rename it, then run this again")
    try:
        copied = json.loads(read(os.path.join(MINE, COPIED)))
    except (OSError, ValueError):
        copied = {}  # all that is there then counts as changed, and stays
    same, written = committed(), 0
    try:
        for name in files_of_series():
            place = copy_mine(name, copied, name in same)
            written += place is not None
            if place not in (name, None):
                say(f"your my-notebooks/{name} stays as it is; the newer version is beside it, {os.path.basename(place)}")
        write_whole(os.path.join(MINE, COPIED), json.dumps(copied, indent=1).encode())
    except OSError as error:
        raise cannot_write(error) from None
    if written:
        say(f"files copied to my-notebooks/: {written}")


def mine(arguments):
    update_mine()
    return lab(arguments, os.path.basename(MINE))


def tests(which, *places, distribution="loadfile"):
    """Run tests, one thread each: on a worker more than there are cores, since some wait; at most four. -> exit status"""
    workers = ["-n", str(min(4, 1 + (os.cpu_count() or 1))), "--dist", distribution]
    return run(["pytest", *workers, *NBVAL, "-m", which, *places], OMP_NUM_THREADS=os.environ.get("OMP_NUM_THREADS", "1"))


def test(_):
    say("style, unit tests, and every output of every notebook: about 8 minutes on two cores")
    for command in STYLE:
        if run(command):
            return 1
    return tests("not slow and not training and not browser and not export", "tests", "notebooks")


def test_all(_):
    status = test(_)
    if status:
        return status
    say("now what takes longer: other checkpoints, all shapes, a hub that stalls, two processes: about 10 minutes more")
    return tests("slow", "tests", distribution="worksteal")


def colab(_):
    """Install what Colab lacks, or has in another version, for the Python that runs this; its own torch stays."""
    pins = [line for line in read(REQUIREMENTS).splitlines() if line.startswith(("transformers==", "sentencepiece=="))]
    return subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", *pins])


COMMANDS = {"setup": lambda _: 0, "lab": lab, "mine": mine, "test": test, "test-all": test_all, "colab": colab}


def main():
    command, arguments = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if command not in COMMANDS:
        raise SystemExit("start: say which: python3 utils/start.py " + " | ".join(COMMANDS))
    try:
        if command != "colab":  # a notebook's first cell asks for it there, where no .venv is
            set_up()
        status = COMMANDS[command](arguments)
    except Refusal as refusal:
        raise SystemExit(f"start: {refusal}") from None
    except KeyboardInterrupt:
        raise SystemExit("start: stopped; run it again to go on") from None
    raise SystemExit(status)


if __name__ == "__main__":
    main()
