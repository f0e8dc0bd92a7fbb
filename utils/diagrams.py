"""The pictures in readme_imgs/, drawn anew by `make figures`, to the same bytes. -> python -m utils.diagrams"""

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch

from utils.plots import COLOURS

FOLDER = Path(__file__).parents[1] / "readme_imgs"
SERIES = [
    ("01", "pixels", "image"),
    ("02", "patches +\npositions", "patch"),
    ("03", "one head", "query"),
    ("04", "many\nheads", "key"),
    ("05", "encoder\nlayers", "residual"),
    ("06", "whole\ntower", "value"),
    ("07", "text,\nzero-shot", "position"),
    ("08", "learning", "query"),
    ("09", "trimmed\ntower", "residual"),
    ("10", "language\nmodel", "key"),
]
# Drawn on a card of its own, so that it reads in GitHub's light and dark theme.
CARD, INK = "#FAFAF7", "#222222"


def box(axis, x, y, width, height, text, colour, strong=True):
    """A rounded box with its text; a faint one is drawn in outline only."""
    face = colour if strong else CARD
    axis.add_patch(
        FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0.02,rounding_size=0.08", fc=face, ec=colour, lw=2)
    )
    ink = "white" if strong else INK
    axis.text(x + width / 2, y + height / 2, text, ha="center", va="center", color=ink, fontsize=12)


def new_figure(width, height):
    figure, axis = plt.subplots(figsize=(width, height), facecolor=CARD, layout="none")
    axis.set(xlim=(0, width), ylim=(0, height))
    axis.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return figure, axis


def save(figure, name):
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.png", dpi=100, facecolor=CARD, metadata={"Software": None})
    plt.close(figure)


def you_are_here(number):
    """The ten notebooks in a row, one of them lit."""
    figure, axis = new_figure(12.4, 1.5)
    for index, (label, text, colour) in enumerate(SERIES):
        here = label == number
        box(axis, 0.2 + index * 1.22, 0.2, 1.02, 0.8, text, COLOURS[colour] if here else "#B8B8B8", strong=here)
        axis.text(
            0.71 + index * 1.22, 1.22, label, ha="center", va="center", color=INK, fontsize=12, weight="bold" if here else None
        )
        if index:
            axis.annotate(
                "", (0.16 + index * 1.22, 0.6), (0.06 + index * 1.22, 0.6), arrowprops={"arrowstyle": "->", "color": INK}
            )
    save(figure, f"you_are_here_{number}")


def main():
    for number, _, _ in SERIES[:1]:
        you_are_here(number)


if __name__ == "__main__":
    main()
