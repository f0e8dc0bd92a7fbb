"""From a bare machine to a running notebook: utils/start.py, that `make lab` and `make test` run, and a notebook's first cells.

The environments are real ones, made offline: two small wheels stand for all packages.
"""

import ast
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import utils
from utils import start
from utils.notebooks import PATHS, read

import pytest
from nbformat.sign import NotebookNotary

ROOT = Path(__file__).parents[1]
START = ROOT / "utils" / "start.py"


def write_wheel(folder, name, version):
    """The smallest wheel that pip installs: one module, which knows its version."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"]))


class Project:
    """A copy of start.py with two small requirements, in a folder whose name has a space and letters of other alphabets."""

    def __init__(self, folder):
        self.folder, self.wheels = folder / "näher an 模型", folder / "wheels"
        (self.folder / "utils").mkdir(parents=True)
        shutil.copy(START, self.folder / "utils")
        for version in ("1.0", "2.0"):
            write_wheel(self.wheels, "lesson", version)
        write_wheel(self.wheels, "torch", "2.0")
        self.require("lesson==1.0", "torch==2.0")
        self.python = self.folder / start.PYTHON.removeprefix(start.ROOT + os.sep)

    def require(self, *lines):
        (self.folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def set_up(self, **environment):
        """-> exit status, the lines that start.py itself printed"""
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), "TORCH_INDEX": "", "PIP_CONFIG_FILE": os.devnull}
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        command = [sys.executable, str(self.folder / "utils" / "start.py"), "setup"]
        done = subprocess.run(command, env=clean | offline | environment, capture_output=True, text=True)
        return done.returncode, [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("start: ")]

    def installed(self, name="lesson"):
        program = f"import {name}; print({name}.version)"
        return subprocess.run([self.python, "-c", program], capture_output=True, text=True).stdout.strip()


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


# The machine


@pytest.mark.parametrize(("version", "says"), [((3, 10, 13), "is 3.10"), ((3, 15, 0), "is 3.15")])
def test_another_python_is_refused_in_a_line_that_names_the_right_ones(monkeypatch, version, says):
    monkeypatch.setattr(sys, "version_info", version)
    with pytest.raises(start.Refusal, match=f"Python 3.11 to 3.14, and .* {says}; get one (.*), then: make lab PYTHON="):
        start.check_machine()


def test_an_old_python_can_read_the_program_that_refuses_it():
    ast.parse(START.read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize(
    ("system", "machine", "release", "says"),
    [
        ("Darwin", "x86_64", "14.5", "Macs with an Intel processor"),
        ("Darwin", "arm64", "13.6", "macOS before 14"),
        ("Windows", "ARM64", "", "Windows on Arm"),
        ("Linux", "x86_64", "", "Linux without glibc"),
    ],
)
def test_a_machine_that_torch_has_no_build_for_is_refused_before_anything_is_installed(
    monkeypatch, system, machine, release, says
):
    monkeypatch.setattr(start.platform, "system", lambda: system)
    monkeypatch.setattr(start.platform, "machine", lambda: machine)
    monkeypatch.setattr(start.platform, "mac_ver", lambda: (release, ("", "", ""), machine))
    monkeypatch.setattr(start.platform, "libc_ver", lambda: ("", ""))
    with pytest.raises(start.Refusal, match=f"PyTorch has no build for {says}.*; use another computer"):
        start.check_machine()


def test_the_machine_of_these_tests_is_not_refused():
    start.check_machine()


def test_a_python_without_venv_is_told_which_package_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(start.Refusal, match=r"lacks venv; .* sudo apt install python3\.\d+-venv"):
        start.check_machine()


TEXT, NO_TEXT = {"read_text", "write_text", "open"}, {"Image.open", "tarfile.open", "os.open"}


def opens_text_without_an_encoding(call):
    """Whether a call in the syntax tree opens a text file in the machine's own encoding, which is another one on Windows."""
    if getattr(call.func, "attr", getattr(call.func, "id", "")) not in TEXT or ast.unparse(call.func) in NO_TEXT:
        return False
    binary = any(isinstance(part, ast.Constant) and part.value in ("rb", "wb") for part in call.args)
    return not binary and "encoding" not in [keyword.arg for keyword in call.keywords]


def test_every_text_file_is_opened_with_its_encoding():
    sources = [*ROOT.glob("utils/**/*.py"), *ROOT.glob("tests/*.py")]
    found = [
        f"{path.name}:{node.lineno}"
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and opens_text_without_an_encoding(node)
    ]
    assert found == []


def test_no_module_that_windows_lacks_is_imported_before_it_is_needed():
    for path in [*ROOT.glob("utils/**/*.py"), *ROOT.glob("tests/*.py")]:
        top = [
            node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.Import | ast.ImportFrom)
        ]
        names = {alias.name for node in top for alias in node.names} | {getattr(node, "module", None) for node in top}
        assert not names & {"resource", "fcntl", "pwd", "grp", "termios", "pty"}, path.name


# The environment


@pytest.mark.slow
def test_it_is_set_up_once_whatever_the_user_has_configured_for_pip(project):
    hostile = {"PIP_USER": "1", "PIP_TARGET": "elsewhere", "PYTHONPATH": "elsewhere", "HOME": "/nonexistent"}
    status, said = project.set_up(**hostile)
    assert status == 0 and len(said) == 1 and "to download, once" in said[0]
    assert project.installed() == "1.0"
    assert project.set_up() == (0, []), "nothing to do"


@pytest.mark.slow
def test_changed_requirements_are_installed_into_the_same_environment(project):
    project.set_up()
    (project.folder / ".venv" / "mine").write_text("kept", encoding="utf-8")
    project.require("lesson==2.0", "torch==2.0")
    assert project.set_up()[0] == 0
    assert project.installed() == "2.0" and (project.folder / ".venv" / "mine").exists()


def half_made(venv):
    (venv / "bin").mkdir(parents=True)


def without_its_python(venv):
    half_made(venv)
    (venv / "bin" / "python").symlink_to(venv / "gone")
    (venv / "ready").touch()


def interrupted(venv):
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    (venv / "unfinished").touch()
    (venv / "ready").touch()


def test_an_interruption_at_any_moment_is_seen_the_next_time(monkeypatch, tmp_path):
    """The mark stands before the first file of the environment is written."""
    monkeypatch.setattr(start, "VENV", str(tmp_path / ".venv"))
    monkeypatch.setattr(start, "UNFINISHED", str(tmp_path / ".venv" / "unfinished"))
    seen = []
    monkeypatch.setattr(subprocess, "call", lambda *_, **__: seen.append(os.listdir(tmp_path / ".venv")) or 0)
    start.make_venv()
    assert seen == [["unfinished"]]


@pytest.mark.slow
@pytest.mark.parametrize("damage", [half_made, without_its_python, interrupted])
def test_a_damaged_environment_is_made_again(project, damage):
    damage(project.folder / ".venv")
    status, said = project.set_up()
    assert status == 0 and said[0] == "start: .venv is unfinished, broken, or of another Python: it is made again"
    assert project.installed() == "1.0"


@pytest.mark.slow
def test_what_pip_cannot_install_is_one_line_and_the_next_try_works(project):
    project.set_up()
    project.require("lesson==3.0", "torch==2.0")
    for _ in range(2):
        status, said = project.set_up()
        assert status == 1 and "pip could not install everything (its reason stands above" in said[-1]
        assert project.installed() == "1.0", "what was there before is kept"
    project.require("lesson==2.0", "torch==2.0")
    assert project.set_up()[0] == 0 and project.installed() == "2.0"


# Where torch comes from


@contextmanager
def index(folder):
    """A package index of torch at an address, as PyTorch's own is."""
    write_wheel(folder / "torch", "torch", "2.0+cpu")
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


linux = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the usual index has no CUDA in it")


@pytest.mark.slow
@linux
def test_on_linux_torch_comes_without_cuda_from_pytorchs_index(project, tmp_path):
    with index(tmp_path / "index") as address:
        # The page of an index: pip must not be told that there is none.
        status, said = project.set_up(TORCH_INDEX=address, PIP_NO_INDEX="0", PIP_INDEX_URL=address, NO_PROXY="127.0.0.1")
    assert status == 0 and "about 0.3 GB to download, once; for a build that uses NVIDIA's GPUs, 3 GB" in said[0]
    assert project.installed("torch") == "2.0+cpu"


@pytest.mark.slow
@linux
def test_an_index_that_cannot_be_reached_is_said_with_what_it_costs(project):
    status, said = project.set_up(TORCH_INDEX="http://127.0.0.1:9/cpu")
    assert status == 0 and "http://127.0.0.1:9/cpu cannot be reached" in said[0] and "about 3 GB to download" in said[0]
    assert project.installed("torch") == "2.0"


@pytest.mark.slow
@linux
def test_an_empty_index_asks_for_the_build_with_cuda(project):
    status, said = project.set_up(TORCH_INDEX="")
    assert status == 0 and said == ["start: setting up .venv: about 3 GB to download, once"]
    assert project.installed("torch") == "2.0"


@pytest.mark.slow
def test_a_box_is_set_up_from_its_own_wheels_and_from_nowhere_else(project):
    project.wheels.rename(project.folder / "wheels")
    nowhere = {
        "PIP_NO_INDEX": "0",
        "PIP_FIND_LINKS": "",
        "PIP_INDEX_URL": "http://127.0.0.1:9/",
        "TORCH_INDEX": "http://127.0.0.1:9/",
    }
    assert project.set_up(**nowhere) == (0, ["start: setting up .venv from wheels/, without a network"])
    assert project.installed() == "1.0" and project.installed("torch") == "2.0"


# What is started


@pytest.mark.parametrize(
    ("user", "options", "folder"), [(0, ["--allow-root"], "notebooks"), (1000, [], "notebooks"), (1000, [], "my-notebooks")]
)
def test_jupyterlab_starts_for_root_too_and_with_the_users_options(monkeypatch, tmp_path, user, options, folder):
    started = []
    monkeypatch.setattr(start, "VENV", str(tmp_path))
    monkeypatch.setattr(start, "PYTHON", sys.executable)
    monkeypatch.setattr(start, "run", lambda arguments, **_: started.append(arguments))
    monkeypatch.setattr(os, "geteuid", lambda: user, raising=False)
    start.lab(["--ip=0.0.0.0"], folder)
    page = f"--LabApp.default_url=/lab/tree/{folder}/00_start_here.ipynb"
    assert started == [["jupyterlab", "--custom-css", page, *options, "--ip=0.0.0.0"]]
    assert [path.read_text(encoding="utf-8") for path in tmp_path.rglob("custom/custom.css")] == [start.CSS]
    settings = tmp_path / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    assert json.loads(settings.read_text(encoding="utf-8")) == start.SETTINGS
    assert [path.read_text(encoding="utf-8") for path in tmp_path.rglob("profile_default/startup/*.py")] == [start.STARTUP]
    notary = NotebookNotary(data_dir=start.environment()["JUPYTER_DATA_DIR"])
    assert all(notary.check_signature(read(path)) for path in PATHS), "each notebook is trusted as it is, wherever a copy lies"
    changed = read(PATHS[0])
    changed.cells[0].source += "."
    assert not notary.check_signature(changed)


def test_a_users_own_configuration_is_not_read(monkeypatch):
    for name in start.OWN + start.DROPPED:
        monkeypatch.setenv(name, "/of/the/user")
    environment = start.environment()
    assert "/of/the/user" not in environment.values()
    assert all(environment[name].startswith(start.VENV) for name in start.OWN)


def test_an_unknown_command_says_which_there_are():
    done = subprocess.run([sys.executable, START, "teach"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "start: say which: python3 utils/start.py setup | lab | mine | test | test-all | colab\n"


# A learner's own copies


class Series:
    """A small series under git, as a learner has cloned it, and their copies of it."""

    def __init__(self, folder, monkeypatch):
        self.notebooks, self.mine = folder / "notebooks", folder / "my-notebooks"
        (self.notebooks / "images").mkdir(parents=True)
        (self.notebooks / "notes").mkdir()
        monkeypatch.setattr(start, "NOTEBOOKS", str(self.notebooks))
        monkeypatch.setattr(start, "MINE", str(self.mine))
        self.git("init")
        for name in ("01_a.ipynb", "02_ü b.ipynb", "images/cat.png", "notes/a.md", ".ruff.toml"):
            (self.notebooks / name).write_text("first " + name, encoding="utf-8")
        self.commit()

    def git(self, *command):
        options = ["-c", "user.name=x", "-c", "user.email=x@y", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *options, *command], cwd=self.notebooks, check=True, capture_output=True)

    def commit(self, **texts):
        """The next version of the series: what `git pull` brings."""
        for stem, text in texts.items():
            (self.notebooks / f"{stem}.ipynb").write_text(text, encoding="utf-8")
        self.git("add", ".")
        self.git("commit", "--message", "next")

    def write(self, name, text):
        (self.mine / name).write_text(text, encoding="utf-8")

    def files(self):
        """{name: text} of all that the learner sees, by `make mine`."""
        start.update_mine()
        return self.there()

    def there(self):
        paths = [path for path in self.mine.rglob("*") if path.is_file() and path.name != start.COPIED]
        return {path.relative_to(self.mine).as_posix(): path.read_text(encoding="utf-8") for path in paths}


FIRST = {name: "first " + name for name in ("01_a.ipynb", "02_ü b.ipynb", "images/cat.png")}


@pytest.fixture
def series(tmp_path, monkeypatch):
    return Series(tmp_path / "näher an 模型", monkeypatch)


def test_notebooks_and_images_are_copied_once(series, capsys):
    assert series.files() == FIRST
    assert capsys.readouterr().out == "start: files copied to my-notebooks/: 3\n"
    times = {path: path.stat().st_mtime_ns for path in series.mine.rglob("*") if path.name in FIRST}
    assert series.files() == FIRST and capsys.readouterr().out == ""
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_notebook_that_nobody_changed_is_updated_and_a_deleted_one_comes_back(series):
    series.files()
    (series.mine / "02_ü b.ipynb").unlink()
    series.write("own.ipynb", "mine")
    series.commit(**{"01_a": "second"})
    assert series.files() == FIRST | {"01_a.ipynb": "second", "own.ipynb": "mine"}


def test_a_changed_notebook_stays_and_each_newer_version_stands_beside_it(series, capsys):
    series.files()
    series.write("01_a.ipynb", "mine")
    assert series.files() == FIRST | {"01_a.ipynb": "mine"}, "there is nothing newer"
    series.commit(**{"01_a": "second"})
    capsys.readouterr()
    assert series.files() == FIRST | {"01_a.ipynb": "mine", "01_a.new.ipynb": "second"}
    says = "start: your my-notebooks/01_a.ipynb stays as it is; the newer version is beside it, 01_a.new.ipynb\n"
    assert capsys.readouterr().out.startswith(says)
    series.commit(**{"01_a": "third"})
    assert series.files() == FIRST | {"01_a.ipynb": "mine", "01_a.new.ipynb": "third"}
    series.write("01_a.new.ipynb", "mine, too")
    series.commit(**{"01_a": "fourth"})
    later = {"01_a.ipynb": "mine", "01_a.new.ipynb": "mine, too", "01_a.new2.ipynb": "fourth"}
    assert series.files() == series.files() == FIRST | later


def test_a_newer_version_that_was_deleted_or_took_the_others_place_does_not_come_back(series):
    series.files()
    series.write("01_a.ipynb", "mine")
    series.commit(**{"01_a": "second"})
    series.files()
    (series.mine / "01_a.new.ipynb").unlink()
    assert series.files() == FIRST | {"01_a.ipynb": "mine"}
    series.write("01_a.ipynb", "second")
    series.commit(**{"01_a": "third"})
    assert series.files() == FIRST | {"01_a.ipynb": "third"}


def test_what_was_changed_in_notebooks_itself_is_a_learners_work_too(series):
    """As the README says: make mine, git checkout notebooks, git pull, make mine."""
    (series.notebooks / "01_a.ipynb").write_text("mine", encoding="utf-8")
    (series.notebooks / "own.ipynb").write_text("mine", encoding="utf-8")
    mine = FIRST | {"01_a.ipynb": "mine", "own.ipynb": "mine"}
    assert series.files() == series.files() == mine
    series.git("checkout", ".")
    series.commit(**{"01_a": "second"})
    assert series.files() == mine | {"01_a.new.ipynb": "second"}


@pytest.mark.parametrize("loss", ["git", "memory", "half of the memory"])
def test_where_it_is_not_known_what_was_changed_everything_stays(series, loss):
    if loss == "git":
        shutil.rmtree(series.notebooks / ".git")
    series.files()
    if loss != "git":
        series.write(start.COPIED, '{"01_a' if loss == "half of the memory" else "{}")
        series.commit(**{"01_a": "second"})
    (series.notebooks / "01_a.ipynb").write_text("second", encoding="utf-8")
    assert series.files() == series.files() == FIRST | {"01_a.new.ipynb": "second"}


@pytest.mark.parametrize("moment", range(4))
def test_an_interruption_leaves_whole_files_and_the_next_run_goes_on(series, monkeypatch, moment):
    series.files()
    series.write("02_ü b.ipynb", "mine")
    (series.mine / "images" / "cat.png").unlink()
    series.commit(**{"01_a": "second", "02_ü b": "second"})
    left, replace = iter(range(moment)), os.replace

    def stop_at_once(*paths):
        if next(left, None) is None:
            raise KeyboardInterrupt
        replace(*paths)

    monkeypatch.setattr(os, "replace", stop_at_once)
    with pytest.raises(KeyboardInterrupt):
        start.update_mine()
    whole = {*FIRST.values(), "mine", "second"}
    assert all(text in whole for name, text in series.there().items() if not name.endswith(".part"))
    monkeypatch.setattr(os, "replace", replace)
    assert series.files() == FIRST | {"01_a.ipynb": "second", "02_ü b.ipynb": "mine", "02_ü b.new.ipynb": "second"}


@pytest.mark.parametrize("name", ["my-notebooks", "my-notebooks/01_a.ipynb"])
def test_what_cannot_be_written_is_one_clear_line(series, name):
    if name == "my-notebooks":
        series.mine.write_text("a file", encoding="utf-8")
        says = "^my-notebooks is a file where the folder of your notebooks belongs; rename it, then run this again$"
    else:
        (series.mine / "01_a.ipynb").mkdir(parents=True)
        says = "^cannot write .*01_a.ipynb"
    with pytest.raises(start.Refusal, match=says):
        start.update_mine()


def test_jupyterlab_opens_the_copies_and_a_refusal_is_one_line(series, monkeypatch):
    started = []
    monkeypatch.setattr(start, "set_up", lambda: None)
    monkeypatch.setattr(start, "lab", lambda *given: started.append(given))
    monkeypatch.setattr(sys, "argv", ["start.py", "mine", "--no-browser"])
    with pytest.raises(SystemExit, match="^None$"):
        start.main()
    assert started == [(["--no-browser"], "my-notebooks")] and series.there() == FIRST
    shutil.rmtree(series.mine)
    series.mine.write_text("a file", encoding="utf-8")
    with pytest.raises(SystemExit, match="^start: my-notebooks is a file"):
        start.main()


def test_links_and_utils_are_found_from_the_copies(tmp_path, monkeypatch):
    monkeypatch.setattr(start, "MINE", str(tmp_path / "my-notebooks"))
    start.update_mine()
    for path in (tmp_path / "my-notebooks").glob("*.ipynb"):
        text = "".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
        links = set(re.findall(r"\]\(([\w./-]+\.\w+)", text))
        assert all((path.parent / link).exists() for link in links if not link.startswith("../")), path.name
        assert all((ROOT / link[3:]).exists() for link in links if link.startswith("../")), path.name
    (tmp_path / "utils").symlink_to(ROOT / "utils")
    assert "'OMP_WAIT_POLICY': 'PASSIVE'" in at_torchs_import(first_cells(PATHS[1]), tmp_path / "my-notebooks")[0]


# A notebook's first two cells: one finds the series, one imports from it


def first_cells(path):
    return "\n".join([cell.source for cell in read(path).cells if cell.cell_type == "code"][:2])


WATCH = """
import os, sys
class Watch:  # the environment at the moment at which torch is imported for the first time
    def find_spec(self, name, path=None, target=None):
        if name == "torch" and "importlib.util" not in str(sys._getframe(1).f_globals.get("__name__")):
            print({name: os.environ.get(name) for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS")}, flush=True)
            os._exit(0)
sys.meta_path.insert(0, Watch())
"""


def at_torchs_import(program, folder, **environment):
    """Run a program until it imports torch. -> what it printed, its last line of errors"""
    clean = {name: value for name, value in os.environ.items() if name not in (*utils.WAITING, "OMP_NUM_THREADS")}
    command = [sys.executable, "-c", WATCH + program]
    done = subprocess.run(command, cwd=folder, env=clean | environment, capture_output=True, text=True)
    return done.stdout.strip(), (done.stderr.strip().splitlines() or [""])[-1]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_torchs_threads_are_told_to_wait_before_torch_is_imported(path):
    for folder in (path.parent, ROOT):
        assert "'OMP_WAIT_POLICY': 'PASSIVE', 'GOMP_SPINCOUNT': '2000'" in at_torchs_import(first_cells(path), folder)[0]


def test_so_they_are_in_a_program_and_what_the_user_has_set_stays():
    program = "import utils.siglip"
    assert "'OMP_WAIT_POLICY': 'PASSIVE'" in at_torchs_import(program, ROOT)[0]
    assert "'OMP_WAIT_POLICY': 'ACTIVE'" in at_torchs_import(program, ROOT, OMP_WAIT_POLICY="ACTIVE")[0]
    assert "'OMP_WAIT_POLICY': None, 'GOMP_SPINCOUNT': None" in at_torchs_import(program, ROOT, KMP_BLOCKTIME="5")[0]


def test_a_notebook_alone_says_that_it_needs_its_repository(tmp_path):
    for path in PATHS:
        _, error = at_torchs_import(first_cells(path), tmp_path)
        assert error == "AssertionError: this notebook needs its whole repository: clone it, and open the notebook in there"


def test_a_python_without_the_packages_is_one_clear_line(monkeypatch):
    monkeypatch.setattr(utils, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(
        utils.LessonError, match="this Python lacks torch: start with `make lab`, or choose the Python in .venv"
    ):
        utils.check_python()


# How many threads


CGROUPS = {
    "version 2, in a container": ("0::/", {"cpu.max": "200000 100000"}, 2),
    "version 2, no limit": ("0::/", {"cpu.max": "max 100000"}, float("inf")),
    "version 2, the limit of a parent": ("0::/a/b", {"a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, 1.5),
    "version 1": ("4:cpu,cpuacct:/", {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 0.5),
    "version 1, the host's path": ("1:cpu:/docker/x", {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
    "version 1, no limit": ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, float("inf")),
    "other controllers": ("7:memory:/", {"memory/cpu.max": "100000 100000"}, float("inf")),
    "none": ("", {}, float("inf")),
}


@pytest.mark.parametrize(("mine", "files", "cores"), CGROUPS.values(), ids=CGROUPS)
def test_a_containers_quota_is_read(tmp_path, mine, files, cores):
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text + "\n", encoding="utf-8")
    (tmp_path / "mine").write_text(mine, encoding="utf-8")
    assert utils.cpu_quota(tmp_path / "cgroup", tmp_path / "mine") == cores


@pytest.mark.parametrize(("quota", "threads"), [(0.5, "1"), (1.5, "1"), (float("inf"), None)])
def test_torch_starts_no_more_threads_than_the_quota_allows(monkeypatch, quota, threads):
    monkeypatch.setattr(utils, "cpu_quota", lambda: quota)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    environment = {}
    utils.set_threads(environment)
    assert environment.get("OMP_NUM_THREADS") == threads
    utils.set_threads(given := {"OMP_NUM_THREADS": "7"})
    assert given["OMP_NUM_THREADS"] == "7"


def test_torch_starts_no_more_threads_than_the_cores_it_is_bound_to(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2}, raising=False)
    utils.set_threads(environment := {})
    assert environment["OMP_NUM_THREADS"] == "1"
