"""`make students` and `make instructors`: what each edition holds and lacks, and that its notebooks run."""

import re
import subprocess
import sys

from tests.test_notebooks import WRONG_ANSWERS
from tests.test_troubleshooting import messages
from utils import editions
from utils.errors import LessonError
from utils.notebooks import FOLDER, PATHS, read

import nbformat
import pytest
from nbclient import NotebookClient

# The quickest that stand for all. An instructor's code is the plain notebooks', cell for cell: a test below says so.
ONE_HEAD = next(path for path in PATHS if path.stem.endswith("one_head"))
RUN = [("students", PATHS[0]), ("students", ONE_HEAD), ("instructors", PATHS[0])]


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """-> a folder with both editions"""
    folder = tmp_path_factory.mktemp("build")
    for which in editions.KEPT_BACK:
        editions.write_edition(which, build=folder)
    return folder


def prose(notebook):
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def all_of(folder):
    return [read(folder / "notebooks" / path.name) for path in PATHS]


def test_students_have_exercises_and_hints_but_no_solution_and_no_output(build):
    for plain, notebook in zip(map(read, PATHS), all_of(build / "students")):
        nbformat.validate(notebook)
        text = prose(notebook)
        assert "# Solution of exercise" not in text and "For the instructor" not in text
        assert text.count(editions.WITHOUT) == prose(plain).count("# Solution of exercise") > 0
        assert text.count("<summary>Hint</summary>") == prose(plain).count("<summary>Hint</summary>")
        assert text.count("<details>") == text.count("</details>")
        assert not any(cell.outputs or cell.execution_count for cell in notebook.cells if cell.cell_type == "code")


def test_students_get_outputs_where_they_are_wanted():
    notebook = read(PATHS[1])
    editions.for_students(notebook, outputs=True)
    assert any(cell.get("outputs") for cell in notebook.cells)


def test_instructors_have_open_solutions_and_notes(build):
    for path, plain, notebook in zip(PATHS, map(read, PATHS), all_of(build / "instructors")):
        nbformat.validate(notebook)
        notes = [cell for cell in notebook.cells if "instructor" in cell.metadata.get("tags", [])]
        assert len(notes) == len(editions.notes_of(path))
        assert "<details><summary>Solution" not in prose(notebook)
        assert [cell.source for cell in notebook.cells if cell.cell_type == "code"] == [
            cell.source for cell in plain.cells if cell.cell_type == "code"
        ]
        for cell in notes:
            assert cell.source.startswith("> **For the instructor**")


def test_neither_the_plain_notebooks_nor_the_students_copy_hold_a_note(build):
    assert not any("instructor" in cell.metadata.get("tags", []) for path in PATHS for cell in read(path).cells)
    students = build / "students"
    assert not [path for name in ("tests", "INSTRUCTORS.md", "notebooks/notes") if (path := students / name).exists()]
    assert (students / "utils" / "siglip.py").exists() and (build / "instructors" / "INSTRUCTORS.md").exists()


@pytest.mark.parametrize("path", sorted((FOLDER / "notes").iterdir()), ids=lambda path: path.stem)
def test_a_note_belongs_to_a_notebook_and_says_what_an_instructor_needs(path):
    (notebook,) = [own for own in PATHS if own.stem[3:] == path.stem]
    notes = editions.notes_of(notebook)
    for heading in notes:
        assert editions.place_of(heading, read(notebook)) > 0
    text = "\n".join(notes.values())
    assert all(f"**{part}**" in text for part in ("Say.", "Where people get stuck.", "Ask the room.", "Skip when late."))
    known = [*messages(), *(says for answers in WRONG_ANSWERS.values() for _, says in answers)]
    quoted = re.findall(r"^- `(.+?)`: ", text, re.MULTILINE)
    assert quoted and not [says for says in quoted if not any(says in message for message in known)]


def test_a_note_before_a_heading_that_is_gone_is_one_line():
    with pytest.raises(LessonError, match="stands before 'Nowhere', a heading that its notebook has not"):
        editions.place_of("Nowhere", read(PATHS[1]))


def test_an_unknown_edition_says_which_there_are():
    done = subprocess.run(
        [sys.executable, "-m", "utils.editions", "teachers"], cwd=editions.ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (
        1,
        "editions: say which: make students, make students OUTPUTS=--outputs, or make instructors\n",
    )


@pytest.mark.slow
@pytest.mark.parametrize(("which", "path"), RUN, ids=[f"{which}-{path.stem}" for which, path in RUN])
def test_an_edition_runs_from_its_own_folder(build, which, path):
    folder = build / which / "notebooks"
    NotebookClient(read(folder / path.name), timeout=None, resources={"metadata": {"path": folder}}).execute()
