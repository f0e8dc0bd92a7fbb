"""TROUBLESHOOTING.md: each message that points there finds its section, and each section belongs to a message of the code."""

import ast
import re
from pathlib import Path

from utils.notebooks import PATHS, read

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "TROUBLESHOOTING.md").read_text(encoding="utf-8")
SECTIONS = {title: text for title, text in re.findall(r"^## (.+)\n((?:(?!^## ).*\n)*)", PAGE, re.MULTILINE)}


def strings(source):
    """All pieces of text in a program, also those between an f-string's braces; docstrings are no messages."""
    tree = ast.parse(source)
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


def messages():
    """All text that the project's programs and notebooks can print."""
    programs = [path.read_text(encoding="utf-8") for path in ROOT.glob("utils/**/*.py")]
    programs += [cell.source for path in PATHS for cell in read(path).cells if cell.cell_type == "code"]
    return [text for program in programs for text in strings(program)]


def anchor(title):
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def test_each_message_that_points_there_finds_its_section():
    pointers = {name for text in messages() for name in re.findall(r"TROUBLESHOOTING\.md#([\w-]+)", text)}
    assert len(pointers) > 3 and pointers <= {anchor(title) for title in SECTIONS}


def test_each_section_belongs_to_a_message():
    said = messages()
    for title, text in SECTIONS.items():
        quoted = re.match(r"\n`(.+)`\n\n", text.replace("``", "`"))
        assert quoted, f"{title} does not begin with a piece of its message"
        assert any(quoted[1] in message for message in said), f"nothing prints {quoted[1]!r}"


def test_its_own_links_lead_somewhere():
    inside = re.findall(r"\]\(#([\w-]+)\)", PAGE)
    assert inside and set(inside) <= {anchor(title) for title in SECTIONS}
    assert all((ROOT / name).exists() for name in re.findall(r"`(notebooks/[\w.]+|check\.py|utils/[\w.]+)`", PAGE))
