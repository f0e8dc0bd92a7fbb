"""A deck for the projector from each notebook's headings, bets and pictures: `make slides` -> build/slides, read offline.

nbconvert's reveal.js slides; reveal.js itself is copied beside them, from the package sphinx-revealjs, which holds it whole.
"""

import base64
import mimetypes
import re
import shutil
from html import escape
from importlib.util import find_spec
from pathlib import Path

from utils.errors import LessonError
from utils.notebooks import FOLDER, LESSONS, read

import nbformat
from nbconvert import SlidesExporter

DECKS = FOLDER.parent / "build" / "slides"
PICTURE = re.compile(r"!\[(.*?)\]\((.+?)\)")
# What a room sees of a section: its heading, its pictures, and a question in bold, which is a bet.
PIECES = re.compile(r"^(#{1,2} .+|!\[.*?\]\(.+?\)|\*\*[^*]+\?\*\*)", re.MULTILINE)
LAST = "## Exercises"  # what follows is done, not shown
# nbconvert's own template fetches five scripts from elsewhere; without a network the deck would stay empty.
TEMPLATE = """{%- extends 'index.html.j2' -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_css -%}<style>.reveal img { max-height: 480px; max-width: 100%; }</style>{%- endblock -%}
{%- block footer_js -%}
<script src="{{ resources.reveal.url_prefix }}/dist/reveal.js"></script>
<script>Reveal.initialize({ hash: true, slideNumber: "c/t", width: 1200, height: 750 });</script>
{%- endblock -%}
"""


def embedded(alt, kind, data):
    """A picture's bytes as Markdown that needs no file."""
    return f'<img alt="{escape(alt)}" src="data:{kind};base64,{base64.b64encode(data).decode()}">'


def picture(alt, name):
    """A picture that a notebook's text shows -> the same, embedded"""
    return embedded(alt, mimetypes.guess_type(name)[0], (FOLDER / name).read_bytes())


def pieces(notebook):
    """-> headings, bets and pictures of a notebook, in their order, as Markdown"""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for piece in PIECES.findall(cell.source):
                if piece == LAST:
                    return
                yield PICTURE.sub(lambda found: picture(*found.groups()), piece)
        for output in cell.get("outputs", []):
            for kind, data in output.get("data", {}).items():
                if kind.startswith("image/"):
                    alt = output.metadata.get(kind, {}).get("alt", "")
                    raw = data.encode() if kind == "image/svg+xml" else base64.b64decode(data)
                    yield embedded(alt, kind, raw) + f"\n\n*{alt}*"


def slides(notebook):
    """-> a notebook of slides: one for each picture, under its section's heading; a bet stands under its heading"""
    deck, heading, bare = nbformat.v4.new_notebook(), "", False
    for piece in pieces(notebook):
        if piece.startswith("#"):
            heading, bare = piece, True
            texts = [heading]
        else:
            texts = [heading, piece]
            if bare:  # the heading's own slide is this one
                deck.cells.pop()
            bare = False
        metadata = {"slideshow": {"slide_type": "slide"}}
        deck.cells.append(nbformat.v4.new_markdown_cell("\n\n".join(texts), metadata=metadata))
    return deck


def copy_reveal(folder):
    """reveal.js, beside the decks"""
    package = find_spec("sphinx_revealjs")
    if package is None:
        raise LessonError("sphinx-revealjs, which holds reveal.js, is missing; `make slides` installs it")
    source = Path(package.submodule_search_locations[0]) / "_static" / "revealjs"
    shutil.copytree(source, folder / "reveal.js", dirs_exist_ok=True)


def write_decks(folder):
    """A deck for each notebook into a folder."""
    copy_reveal(folder)
    exporter = SlidesExporter(raw_template=TEMPLATE, reveal_url_prefix="reveal.js")
    for path in LESSONS:
        page, _ = exporter.from_notebook_node(slides(read(path)), {"metadata": {"name": path.stem}})
        (folder / f"{path.stem}.html").write_text(page, encoding="utf-8", newline="\n")


def main():
    DECKS.mkdir(parents=True, exist_ok=True)
    try:
        write_decks(DECKS)
    except (LessonError, OSError) as error:
        raise SystemExit(f"slides: {error}") from None
    print(f"{len(LESSONS)} decks in build/slides; open one in a browser")


if __name__ == "__main__":
    main()
