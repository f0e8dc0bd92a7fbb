"""`make progress`: what learners' saved notebooks say of their exercises."""

import copy
import subprocess
import sys
from pathlib import Path

from utils.checks import check_exercise, show_solved
from utils.notebooks import LESSONS, PATHS, read

import nbformat
import pytest
import torch

ROOT = Path(__file__).parents[1]
ANSWERS = {
    "solved": ": Right. It shows something.",
    "shape": ": Not yet. the shape is (2, 3), it should be (3)",
    "other shape": ": Not yet. the shape is (7, 3), it should be (3)",
    "value": ": Not yet. up to 0.5 away from the reference, most at (1, 1): 0.5, not 0",
}


def checks_of(notebook):
    return [cell for cell in notebook.cells if "check" in cell.metadata.get("tags", [])]


def learner(folder, *answers):
    """The second notebook as a learner saved it: answers to its first exercises, the others untouched."""
    folder.mkdir()
    notebook = copy.deepcopy(read(LESSONS[1]))
    for cell, answer in zip(checks_of(notebook), answers):
        name = cell.outputs[0].text.split(":")[0]
        cell.outputs[0].text = name + ANSWERS[answer] + "\n"
    nbformat.write(notebook, folder / LESSONS[1].name)
    return folder


def progress(*folders):
    command = [sys.executable, "-m", "utils.progress", *map(str, folders)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout.splitlines(), done.stderr.strip()


def test_the_notebooks_as_they_come_have_no_exercise_solved():
    status, lines, _ = progress()
    exercises = sum(len(checks_of(read(path))) for path in PATHS)
    assert status == 0 and len(lines) == len(PATHS) + 1 and lines[-1].split() == ["all", "0", "of", str(exercises)]
    assert all("not attempted yet" in line for line in lines[:-1])


def test_one_learner_sees_each_exercise(tmp_path):
    _, [notebook, _], _ = progress(learner(tmp_path / "a", "solved", "shape"))
    assert "1 of 3" in notebook and notebook.count(": right") == 1 and notebook.count(": not yet") == 1


def test_a_class_is_a_table_and_the_mistakes_most_frequent_first(tmp_path):
    folders = [
        learner(tmp_path / "ada", "solved", "value"),
        learner(tmp_path / "bo", "shape"),
        learner(tmp_path / "chen", "other shape"),
    ]
    _, lines, _ = progress(*folders)
    assert [line.split() for line in lines[1:4]] == [
        ["ada", "+", "-", ".", "1", "of", "3"],
        ["bo", "-", ".", ".", "0", "of", "3"],
        ["chen", "-", ".", ".", "0", "of", "3"],
    ]
    assert lines[4].startswith("  2 x  02 ") and "the shape is" in lines[4], "another number is the same mistake"
    assert lines[5].startswith("  1 x  02 ") and "away from the reference" in lines[5]


def test_an_exercise_solved_in_a_notebook_or_in_its_newer_version_is_solved(tmp_path):
    """`make mine` puts a newer version beside a notebook that the learner has changed."""
    folder, newer = learner(tmp_path / "mine", "solved", "shape"), learner(tmp_path / "newer", "value", "solved")
    (newer / LESSONS[1].name).rename(folder / f"{LESSONS[1].stem}.new.ipynb")
    _, [notebook, total], _ = progress(folder)
    assert notebook.startswith(LESSONS[1].stem + " ") and "2 of 3" in notebook and "2 of 3" in total


@pytest.mark.parametrize(("content", "says"), [(None, "no saved exercise in"), ("{", "is no notebook that can be read")])
def test_a_folder_without_readable_notebooks_is_one_clear_line(tmp_path, content, says):
    if content:
        (tmp_path / "02_x.ipynb").write_text(content, encoding="utf-8")
    status, _, error = progress(tmp_path)
    assert status == 1 and error.startswith("progress: ") and says in error and "\n" not in error


def test_a_notebooks_last_cell_counts_what_was_solved_in_it(capsys, monkeypatch):
    monkeypatch.setattr("utils.checks.STANDING", {})
    right = torch.ones_like
    for name, answer in {"one": right, "two": lambda x: None, "three": lambda x: x}.items():
        check_exercise(name, answer, right, [(torch.zeros(2),)], shows="It is one.")
    show_solved()
    last = capsys.readouterr().out.splitlines()[-3:]
    assert last == ["1 of 3 exercises solved; still to do:", "  two (not attempted yet)", "  three (not yet)"]
