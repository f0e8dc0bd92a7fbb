"""INSTRUCTORS.md: run sheets that add up from the notebooks' own minutes, and links that lead to what they name."""

import re
from pathlib import Path

from utils import sheets
from utils.errors import LessonError
from utils.notebooks import read

import pytest

ROOT = Path(__file__).parents[1]
TEXT = sheets.GUIDE.read_text(encoding="utf-8")
ROW = re.compile(r"^\| (\d+):(\d\d) \| (\d*) ?\| (.*?) \| (\d*) ?\|$", re.MULTILINE)


def headings(path):
    text = (
        "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown") if path.suffix == ".ipynb" else ""
    )
    return re.findall(r"^#+ (.+)$", text or path.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_run_sheets_are_those_of_the_notebooks_minutes():
    assert sheets.filled(TEXT) == TEXT, "a notebook's minutes have changed: python -m utils.sheets"


@pytest.mark.parametrize("title", sheets.SHEETS)
def test_a_run_sheets_minutes_add_up_to_its_end(title):
    rows = ROW.findall(sheets.sheet(title))
    clock = 0
    for hours, minutes, takes, _, _ in rows:
        assert 60 * int(hours) + int(minutes) == clock
        clock += int(takes or 0)
    assert clock == sheets.SHEETS[title][0] and rows[-1][3] == "the end"


def test_two_days_are_the_whole_series_up_to_the_vlm():
    both = sheets.sheet("two days, the first") + sheets.sheet("two days, the second")
    last = sheets.LESSONS.index(sheets.notebook_of("vlm"))
    for path in sheets.LESSONS[: last + 1]:
        assert [says for *_, says, _ in ROW.findall(both) if path.stem in says] == [
            f"[{path.stem}](notebooks/{path.name}): {part}" for part in ("read and run", "its exercises")
        ]


def test_a_sheet_that_is_too_long_or_names_no_notebook_is_one_line(monkeypatch):
    monkeypatch.setitem(sheets.SHEETS, "short", (20, [("one_head", "read")]))
    with pytest.raises(LessonError, match="the run sheet for short is 5 minutes too long; take a step out"):
        sheets.sheet("short")
    monkeypatch.setitem(sheets.SHEETS, "wrong", (20, [("two_heads", 1)]))
    with pytest.raises(LessonError, match="no notebook in notebooks/ is called two_heads"):
        sheets.sheet("wrong")


def test_a_place_that_is_missing_is_one_line():
    with pytest.raises(LessonError, match="INSTRUCTORS.md has no place for the run sheet of 90 minutes"):
        sheets.filled("nothing")


def test_each_link_leads_to_a_file_and_each_section_named_beside_it_is_there():
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)(?:, \*([^*|]+)\*)?", TEXT)
    assert links
    for name, anchor, section in links:
        path = ROOT / name if name else sheets.GUIDE
        assert path.exists(), name
        found = headings(path)
        assert not section or section in found, f"{name} has no section {section}"
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found], anchor


def test_every_make_target_that_it_names_is_there():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)", TEXT)) <= set(targets)
