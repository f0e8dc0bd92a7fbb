"""`make slides`: the decks hold a notebook's headings, bets and pictures, and fetch nothing."""

import re

from utils import slides
from utils.errors import LessonError
from utils.notebooks import LESSONS, read

import nbformat
import pytest


def code_cell(alt):
    output = nbformat.v4.new_output("display_data", {"image/png": "AAAA"}, metadata={"image/png": {"alt": alt}})
    return nbformat.v4.new_code_cell("plot()", outputs=[output])


def test_a_heading_a_bet_and_each_picture_are_a_slide_and_exercises_are_not():
    text = "# 03 Title\n\nText.\n\n## The bet\n\nMore. **Not this?**\n\n**Will it?** Some text."
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_markdown_cell(text),
        code_cell('a "quoted" word'),
        code_cell("two"),
        nbformat.v4.new_markdown_cell("## Exercises\n\n## Later"),
    ]
    found = [cell.source for cell in slides.slides(notebook).cells]
    assert found[:2] == ["# 03 Title", "## The bet\n\n**Will it?**"]
    assert [re.sub("<img .*>", "IMG", text) for text in found[2:]] == [
        '## The bet\n\nIMG\n\n*a "quoted" word*',
        "## The bet\n\nIMG\n\n*two*",
    ]
    assert 'alt="a &quot;quoted&quot; word"' in found[2]


def test_every_notebook_makes_a_deck_that_needs_no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(slides, "copy_reveal", lambda folder: None)  # only `make slides` installs it
    slides.write_decks(tmp_path)
    for path in LESSONS:
        page = (tmp_path / f"{path.stem}.html").read_text(encoding="utf-8")
        parts = re.findall(r"""<(?:script|link|img)\b[^>]*?(?:src|href)=["']([^"']{1,60})""", page)
        assert parts and all(part.startswith(("reveal.js/", "data:image/")) for part in parts), parts
        assert page.count("<section") > 5 and 'alt=""' not in page and "import mermaid" not in page
        assert "Solution of exercise" not in page and read(path).cells[0].source.splitlines()[0][5:30] in page


def test_without_reveal_the_way_out_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(slides, "find_spec", lambda _: None)
    with pytest.raises(LessonError, match="is missing; `make slides` installs it"):
        slides.copy_reveal(tmp_path)
