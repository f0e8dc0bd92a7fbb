"""Two editions of the series from one source: for learners without solutions, for instructors with open ones and notes.

-> python -m utils.editions students [--outputs] | instructors
Each is a whole copy of the series in build/, since a notebook needs utils/ and models/ beside its folder. The notes stand in
notebooks/notes/, a file for each notebook, and not in the notebooks: so no learner sees them, and a change of a note
is no conflict with a notebook that a learner has changed.
"""

import os
import re
import shutil
import sys

from utils.errors import LessonError
from utils.notebooks import FOLDER, PATHS, read

import nbformat

ROOT = FOLDER.parent
BUILD = ROOT / "build"
SOLUTION = re.compile(r"<details><summary>Solution</summary>\n.*?</details>", re.DOTALL)
WITHOUT = "*The solution comes later, from your instructor.*"
NOTE = re.compile(r"^<!-- before: (.+) -->\n", re.MULTILINE)
KEPT_BACK = {"students": ["tests", "notes", "INSTRUCTORS.md"], "instructors": []}


def notes_of(path, folder=FOLDER / "notes"):
    """A notebook's path -> {heading, or "" for the beginning: what the instructor reads before it}; empty if there are none"""
    file = folder / f"{path.stem[3:]}.md"  # by its name without the number, which may change
    if not file.exists():
        return {}
    first, *rest = NOTE.split(file.read_text(encoding="utf-8"))
    return {"": first.strip(), **{heading: text.strip() for heading, text in zip(rest[::2], rest[1::2])}}


def place_of(heading, notebook):
    """-> the number of the cell that holds a heading; for "", of the one after the title"""
    if not heading:
        return 1
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown" and re.search(rf"^#+ {re.escape(heading)}$", cell.source, re.MULTILINE):
            return number
    raise LessonError(f"a note in notebooks/notes/ stands before {heading!r}, a heading that its notebook has not; correct it")


def for_students(notebook, outputs):
    """Take the solutions out of a notebook, in place, and the outputs unless they are wanted."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub(WITHOUT, cell.source)
        elif not outputs:
            cell.outputs, cell.execution_count = [], None


def for_instructors(notebook, notes):
    """Open the solutions of a notebook, in place, and put the notes in front of the cells that they are about."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = cell.source.replace("<details><summary>Solution", "<details open><summary>Solution")
    places = {heading: place_of(heading, notebook) for heading in notes}
    for number, heading in sorted(enumerate(notes), key=lambda item: -places[item[1]]):  # from the end: places stay right
        text = f"**For the instructor**\n\n{notes[heading]}".replace("\n", "\n> ")
        cell = nbformat.v4.new_markdown_cell(f"> {text}", id=f"note{number}", metadata={"tags": ["instructor"]})
        notebook.cells.insert(places[heading], cell)


def copy_series(folder, without):
    """Everything that is in the series, but for what git ignores and what this edition keeps back; a box's wheels stay."""
    ignored = [name.rstrip("/") for name in (ROOT / ".gitignore").read_text(encoding="utf-8").split()]
    for path in folder.glob("*"):
        if path.name != "wheels":
            (shutil.rmtree if path.is_dir() else os.remove)(path)
    ignore = shutil.ignore_patterns(".git", "wheels", *ignored, *without)
    shutil.copytree(ROOT, folder, ignore=ignore, dirs_exist_ok=True)


def write_edition(which, outputs=False, build=BUILD):
    """-> the folder with the whole series, its notebooks in this edition"""
    folder = build / which
    copy_series(folder, KEPT_BACK[which])
    for path in PATHS:
        notebook = read(path)
        if which == "students":
            for_students(notebook, outputs)
        else:
            for_instructors(notebook, notes_of(path))
        nbformat.write(notebook, folder / "notebooks" / path.name)
    return folder


def main():
    which, options = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if which not in KEPT_BACK or options not in ([], ["--outputs"]):
        raise SystemExit("editions: say which: make students, make students OUTPUTS=--outputs, or make instructors")
    try:
        folder = write_edition(which, bool(options))
    except (LessonError, OSError) as error:
        raise SystemExit(f"editions: {error}") from None
    print(f"{folder.relative_to(ROOT)}: {len(PATHS)} notebooks, {which}' edition; start it there with make lab")


if __name__ == "__main__":
    main()
