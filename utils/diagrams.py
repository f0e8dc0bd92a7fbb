"""The pictures in readme_imgs/, drawn anew by `make figures`, to the same bytes. -> python -m utils.diagrams"""

from pathlib import Path

from utils.pictures import captioned_scenes, four_drawings, sample_drawings, scene_of
from utils.plots import CARD, COLOURS, INK, beyond_equal, light
from utils.reference import load_vlm
from utils.vlm import VisionLanguageModel, added_mask, generate, load_parts, prefix_mask

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "readme_imgs"
SERIES = {
    "01": "pixels",
    "02": "patches +\npositions",
    "03": "one head",
    "04": "many\nheads",
    "05": "encoder\nlayers",
    "06": "whole\ntower",
    "07": "text,\nzero-shot",
    "08": "learning",
    "09": "trimmed\ntower",
    "10": "language\nmodel",
    "11": "vision +\nlanguage",
    "12": "any\nshape",
    "13": "own\npictures",
}
# Colours are for what flows through a model; what works on it is neutral. The dictionary of colours stands in utils.plots.
FAINT, MODULE = "#DADAD4", "#D5E0EA"
matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "siglip"})  # text stays text; the same bytes each time


def contrast(ink, face):
    """How much an ink stands out from what it is written on, from 1 to 21. WCAG 2.1, relative luminance."""
    linear = [np.array(to_rgb(colour)) for colour in (ink, face)]
    linear = [np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4) for part in linear]
    dark, bright = sorted(np.array([0.2126, 0.7152, 0.0722]) @ part for part in linear)
    return (bright + 0.05) / (dark + 0.05)


def box(axis, x, y, width, height, text, colour=FAINT, size=12):
    """A rounded box round the point (x, y), with its text; `colour`: a name in COLOURS, or a colour."""
    face = COLOURS.get(colour, colour)
    ink = max((INK, "white"), key=lambda ink: contrast(ink, face))
    corner = (x - width / 2, y - height / 2)
    axis.add_patch(FancyBboxPatch(corner, width, height, boxstyle="round,pad=0,rounding_size=0.08", fc=face, ec=INK, lw=1))
    axis.text(x, y, text, ha="center", va="center", color=ink, fontsize=size)


def label(axis, x, y, text, size=11, **options):
    axis.text(x, y, text, **({"ha": "center", "va": "center", "color": INK, "fontsize": size} | options))


def arrow(axis, *points, colour="residual"):
    """A line through the points, with a head at its end."""
    colour = COLOURS[colour] if colour != "residual" else INK
    for start, end in zip(points, points[1:-1]):
        axis.plot(*zip(start, end), color=colour, lw=1.6, solid_capstyle="round")
    options = {"arrowstyle": "-|>", "color": colour, "lw": 1.6, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 13}
    axis.annotate("", points[-1], points[-2], arrowprops=options)


def plus(axis, x, y):
    axis.add_patch(plt.Circle((x, y), 0.16, fc="white", ec=INK, lw=1.4, zorder=3))
    axis.text(x, y, "+", ha="center", va="center_baseline", fontsize=14, color=INK, zorder=4)


def vectors(axis, x, y, number, colour, height=0.9, gap=0.2):
    """`number` upright vectors side by side, the first at x."""
    for index in range(number):
        axis.add_patch(Rectangle((x + index * gap, y - height / 2), 0.14, height, fc=COLOURS[colour], ec=INK, lw=0.8))


def new_figure(width, height):
    figure, axis = plt.subplots(figsize=(width, height), facecolor=CARD, layout="none")
    axis.set(xlim=(0, width), ylim=(0, height), aspect="equal")
    axis.axis("off")
    figure.subplots_adjust(0, 0, 1, 1)
    return figure, axis


def save(figure, name):
    """As an SVG, sharp at any size, in which text is text."""
    FOLDER.mkdir(exist_ok=True)
    figure.savefig(FOLDER / f"{name}.svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def you_are_here(number):
    """The notebooks in a row, one of them lit."""
    figure, axis = new_figure(12.4, 1.5)
    for index, (title, text) in enumerate(SERIES.items()):
        step = 11.16 / (len(SERIES) - 1)
        here, x = title == number, 0.62 + index * step
        box(axis, x, 0.6, 0.84 * step, 0.8, text, "image" if here else FAINT, 10)
        label(axis, x, 1.22, title, 12, weight="bold" if here else None)
        if index:
            arrow(axis, (x - 0.56 * step, 0.6), (x - 0.43 * step, 0.6))
    save(figure, f"you_are_here_{number}")


def high_level_tower():
    """From an image to one vector, in five steps."""
    figure, axis = new_figure(12.4, 2.6)
    steps = [
        ("preprocess", "image", "pixels\n(3, size, size)"),
        ("cut into patches,\nadd positions", "patch", "sequence\n(patches, width)"),
        ("encoder:\nlayer after layer", MODULE, "hidden states\n(patches, width)"),
        ("layer norm", MODULE, "last hidden state\n(patches, width)"),
        ("pooling head\n(MAP)", MODULE, "one vector\n(width)"),
    ]
    scene = four_drawings().resize((150, 150), Image.Resampling.LANCZOS)
    axis.imshow(scene, extent=(0.3, 1.6, 0.95, 2.25))
    axis.add_patch(Rectangle((0.3, 0.95), 1.3, 1.3, fc="none", ec=INK))
    label(axis, 0.95, 0.6, "image")
    for index, (text, colour, result) in enumerate(steps):
        x = 2.85 + index * 2.15
        box(axis, x, 1.6, 1.65, 0.9, text, colour)
        arrow(axis, (x - 1.25 if index == 0 else x - 1.32, 1.6), (x - 0.825, 1.6))
        label(axis, x, 0.6, result)
        arrow(axis, (x, 1.15), (x, 0.9))
    axis.set(xlim=(0, 12.4), ylim=(0, 2.6))
    save(figure, "high_level_tower")


def patches_to_sequence():
    """A picture cut into a grid, each patch turned into a vector, read row after row."""
    figure, axis = new_figure(12.4, 3.6)
    scene = np.asarray(four_drawings().resize((320, 320), Image.Resampling.LANCZOS))
    for index in range(16):
        row, column = divmod(index, 4)
        patch = scene[row * 80 : row * 80 + 80, column * 80 : column * 80 + 80]
        edge, wide = (COLOURS["query"], 2.6) if index == 0 else (COLOURS["image"], 1.2)
        x, y = 0.4 + column * 0.62, 2.5 - row * 0.62
        axis.imshow(patch, extent=(x, x + 0.55, y, y + 0.55))
        axis.add_patch(Rectangle((x, y), 0.55, 0.55, fc="none", ec=edge, lw=wide))
        x = 4.05 + index * 0.51
        axis.imshow(patch, extent=(x, x + 0.42, 2.5, 2.92))
        axis.add_patch(Rectangle((x, 2.5), 0.42, 0.42, fc="none", ec=edge, lw=wide))
        arrow(axis, (x + 0.21, 2.42), (x + 0.21, 2.12))
        vectors(axis, x + 0.14, 1.77, 1, "patch", height=0.62)
        axis.text(x + 0.21, 1.28, "+", ha="center", va="center", fontsize=13, color=INK)
        vectors(axis, x + 0.14, 0.79, 1, "position", height=0.62)
        label(axis, x + 0.21, 0.28, str(index), 10)
    arrow(axis, (3.1, 1.85), (3.85, 1.85))
    label(axis, 1.64, 0.35, "image, cut into patches")
    label(axis, 8.1, 3.3, "row after row: a sequence of patches, each turned into a vector, plus the vector of its place")
    axis.set(xlim=(0, 12.4), ylim=(0, 3.6))
    save(figure, "patches_to_sequence")


def attention_head():
    """Query, key and value; scores; softmax; weighted mean."""
    figure, axis = new_figure(12.4, 3.9)
    box(axis, 1.0, 1.95, 1.3, 0.9, "tokens x\n(tokens, width)", "patch", 11)
    for y, name, colour in ((3.2, "queries", "query"), (1.95, "keys", "key"), (0.7, "values", "value")):
        arrow(axis, (1.65, 1.95), (1.95, 1.95), (1.95, y), (2.3, y))
        box(axis, 3.15, y, 1.7, 0.8, f"Linear\n→ {name}", colour)
        label(axis, 3.15, y - 0.55, "(tokens, head width)", 10)
    box(axis, 5.6, 2.58, 1.5, 0.8, "every query ·\nevery key")
    arrow(axis, (4.0, 3.2), (4.45, 3.2), (4.45, 2.7), (4.85, 2.7), colour="query")
    arrow(axis, (4.0, 1.95), (4.45, 1.95), (4.45, 2.45), (4.85, 2.45), colour="key")
    box(axis, 7.6, 2.58, 1.5, 0.8, "divide by\nsqrt(head width)")
    box(axis, 9.4, 2.58, 1.3, 0.8, "softmax,\neach row")
    arrow(axis, (6.35, 2.58), (6.85, 2.58))
    arrow(axis, (8.35, 2.58), (8.75, 2.58))
    label(axis, 5.6, 3.2, "scores (tokens, tokens)", 10)
    label(axis, 9.4, 3.2, "weights: each row sums to 1", 10)
    box(axis, 11.3, 1.3, 1.7, 0.9, "weighted mean\nof the values", "value")
    arrow(axis, (10.05, 2.58), (11.3, 2.58), (11.3, 1.75))
    arrow(axis, (4.0, 0.7), (9.9, 0.7), (9.9, 1.3), (10.45, 1.3), colour="value")
    label(axis, 11.3, 0.55, "(tokens, head width)", 10)
    save(figure, "attention_head")


def multi_head():
    """The width divided among heads, and mixed again."""
    figure, axis = new_figure(12.4, 3.6)
    box(axis, 1.1, 1.8, 1.5, 0.9, "tokens x\n(tokens, width)", "patch", 11)
    for y, name in ((3.0, "head 0"), (1.8, "head 1"), (0.6, "head 2")):
        arrow(axis, (1.85, 1.8), (2.2, 1.8), (2.2, y), (2.6, y))
        for x, text, colour in ((2.95, "Q", "query"), (3.65, "K", "key"), (4.35, "V", "value")):
            box(axis, x, y, 0.62, 0.62, text, colour)
        box(axis, 5.75, y, 1.7, 0.62, f"attention, {name}")
        arrow(axis, (4.66, y), (4.9, y))
        arrow(axis, (6.6, y), (7.3, y), (7.3, 1.8), (7.75, 1.8), colour="value")
    box(axis, 8.6, 1.8, 1.7, 0.9, "side by side\n(tokens, width)", "value", 11)
    box(axis, 11.0, 1.8, 1.7, 0.9, "out_proj\nmixes the heads", MODULE)
    arrow(axis, (9.45, 1.8), (10.15, 1.8))
    label(axis, 8.6, 1.05, "heads × head width = width", 10)
    label(axis, 11.0, 1.05, "(tokens, width)", 10)
    label(axis, 5.75, 2.4, "its own weights, its own look", 10)
    save(figure, "multi_head_attention")


def residual_blocks(axis, stream, norm, attention, mlp):
    """Two blocks beside a residual stream at that height: each reads a normed copy and adds to it."""
    for x, block in ((2.0, attention), (6.8, mlp)):
        box(axis, x + 0.75, 2.2, 1.2, 0.8, norm, MODULE)
        box(axis, x + 2.5, 2.2, 1.5, 0.8, block, MODULE)
        arrow(axis, (x, stream), (x, 2.2), (x + 0.15, 2.2))
        arrow(axis, (x + 1.35, 2.2), (x + 1.75, 2.2))
        arrow(axis, (x + 3.25, 2.2), (x + 3.75, 2.2), (x + 3.75, stream + 0.16))
        plus(axis, x + 3.75, stream)


def encoder_layer():
    """The residual stream runs straight through; attention and MLP read normed copies and add to it."""
    figure, axis = new_figure(12.4, 3.2)
    stream = 0.7
    label(axis, 0.75, stream, "x\n(tokens,\nwidth)")
    arrow(axis, (1.3, stream), (11.4, stream))
    label(axis, 11.9, stream, "x\n(tokens,\nwidth)")
    residual_blocks(axis, stream, "layer norm", "multi-head\nattention", "MLP")
    label(axis, 4.5, 2.9, "tokens look at each other", 10)
    label(axis, 9.3, 2.9, "each token on its own", 10)
    label(axis, 6.2, 0.25, "residual stream: nothing is replaced, only added", 11)
    save(figure, "encoder_layer")


def gemma_layer():
    """A layer of Gemma: the residual stream is SigLIP's, its boxes are not."""
    figure, axis = new_figure(12.4, 3.9)
    stream = 1.0
    arrow(axis, (0.9, stream), (11.4, stream))
    label(axis, 0.5, stream, "x\n(tokens,\nwidth)")
    label(axis, 11.9, stream, "x\n(tokens,\nwidth)")
    residual_blocks(axis, stream, "RMSNorm", "grouped-query\nattention", "gated MLP")
    box(axis, 3.2, 3.4, 2.0, 0.6, "places: RoPE turns\nqueries and keys", "position", 10)
    box(axis, 5.55, 3.4, 1.9, 0.6, "mask: who may\nlook at whom", "position", 10)
    arrow(axis, (4.15, 3.1), (4.15, 2.6))
    arrow(axis, (4.85, 3.1), (4.85, 2.6))
    label(axis, 6.2, 0.25, "the residual stream is as in SigLIP; everything in a box is not", 11)
    save(figure, "gemma_layer")


def map_head():
    """One learned query, the probe, asks all patches; an MLP follows."""
    figure, axis = new_figure(12.4, 3.2)
    box(axis, 1.3, 2.4, 1.6, 0.8, "probe: one\nlearned vector", "query")
    box(axis, 1.3, 0.8, 1.6, 0.8, "last hidden state\n(patches, width)", "patch", 11)
    box(axis, 4.4, 1.6, 1.9, 1.2, "multi-head\nattention:\n1 query, all patches", MODULE)
    arrow(axis, (2.1, 2.4), (2.8, 2.4), (2.8, 1.9), (3.45, 1.9), colour="query")
    arrow(axis, (2.1, 0.8), (2.8, 0.8), (2.8, 1.3), (3.45, 1.3), colour="key")
    label(axis, 2.7, 0.5, "keys, values", 10)
    label(axis, 2.55, 2.65, "query", 10)
    arrow(axis, (5.35, 1.6), (11.0, 1.6))
    label(axis, 5.95, 1.3, "one vector", 10)
    box(axis, 7.6, 2.6, 1.2, 0.7, "layer norm", MODULE)
    box(axis, 9.2, 2.6, 1.1, 0.7, "MLP", MODULE)
    arrow(axis, (6.6, 1.6), (6.6, 2.6), (7.0, 2.6))
    arrow(axis, (8.2, 2.6), (8.65, 2.6))
    arrow(axis, (9.75, 2.6), (10.2, 2.6), (10.2, 1.76))
    plus(axis, 10.2, 1.6)
    label(axis, 11.7, 1.6, "pooled\nvector\n(width)")
    label(axis, 4.4, 0.75, "no residual around the attention", 10)
    save(figure, "map_head")


def architecture():
    """The whole vision tower, one encoder layer unfolded, every tensor's shape."""
    figure, axis = new_figure(12.4, 9.2)
    x = 2.6
    column = [
        ("image file", "image", "any size, any mode"),
        ("preprocess: squash, to [−1, 1]", "image", "(batch, 3, size, size)"),
        ("patch embedding: Conv2d,\nkernel = stride = patch", "patch", "(batch, patches, width)"),
        ("+ position embedding\n(a table, one row a place)", "position", "(batch, patches, width)"),
        ("encoder: layer after layer", MODULE, "(batch, patches, width)"),
        ("post layer norm", MODULE, "last hidden state (batch, patches, width)"),
        ("MAP head: a probe asks all patches", MODULE, "pooled vector (batch, width)"),
        ("compare with a sentence's vector", FAINT, ""),
    ]
    step, encoder = 8 / (len(column) - 1), 8.6 - 4 * 8 / (len(column) - 1)
    for index, (text, colour, shape) in enumerate(column):
        y = 8.6 - index * step
        box(axis, x, y, 3.4, 0.7, text, colour)
        if shape:
            arrow(axis, (x, y - 0.35), (x, y + 0.35 - step))
            label(axis, x + 0.15, y - step / 2, shape, 10, ha="left")
    axis.add_patch(Rectangle((7.0, 1.9), 5.1, 6.6, fc="none", ec=INK, lw=1.5, ls="--"))
    label(axis, 9.55, 8.75, "one encoder layer", 13)
    for start, end in ((encoder + 0.35, 8.5), (encoder - 0.35, 1.9)):
        axis.plot((4.3, 7.0), (start, end), color=COLOURS["residual"], lw=1, ls="--")
    stream = 7.7
    arrow(axis, (stream, 8.35), (stream, 2.05))
    attention, mlp = "multi-head attention:\nq, k, v, softmax, out_proj", "MLP: Linear, GELU (tanh),\nLinear"
    for y, block in ((8.1, attention), (5.2, mlp)):
        arrow(axis, (stream, y), (9.9, y), (9.9, y - 0.3))
        box(axis, 9.9, y - 0.6, 2.6, 0.55, "layer norm", MODULE)
        arrow(axis, (9.9, y - 0.88), (9.9, y - 1.2))
        box(axis, 9.9, y - 1.6, 3.2, 0.8, block, MODULE)
        arrow(axis, (9.9, y - 2.0), (9.9, y - 2.4), (stream + 0.16, y - 2.4))
        plus(axis, stream, y - 2.4)
    label(axis, 7.35, 5.45, "residual stream", 11, rotation=90)
    save(figure, "architecture")


def two_towers():
    """An image and a sentence, each through its tower, meet as two vectors of length 1."""
    figure, axis = new_figure(12.4, 3.4)
    photograph = Image.open(ROOT / "notebooks" / "images" / "cat.png").convert("RGB").resize((150, 100))
    axis.imshow(photograph, extent=(0.3, 1.5, 2.2, 3.0))
    box(axis, 0.95, 0.8, 1.5, 0.7, "“a picture\nof a cat”")
    for y, tower, colour, pool in (
        (2.6, "patches,\nencoder", "patch", "MAP head"),
        (0.8, "tokens,\nencoder", "position", "last position,\nLinear"),
    ):
        axis.add_patch(Rectangle((2.1, y - 0.55), 4.15, 1.1, fc="none", ec=INK, lw=1, ls="--"))
        label(axis, 4.2, y + 0.68, f"{'vision' if y > 1 else 'text'} tower", 11)
        box(axis, 3.1, y, 1.7, 0.8, tower, colour)
        box(axis, 5.3, y, 1.6, 0.8, pool, MODULE)
        box(axis, 7.4, y, 1.5, 0.8, "to length 1", MODULE)
        for start, end in ((1.7, 2.25), (3.95, 4.5), (6.1, 6.65)):
            arrow(axis, (start, y), (end, y))
        arrow(axis, (8.15, y), (8.6, y), (8.6, 1.7 + (y - 1.7) / 4), (9.0, 1.7 + (y - 1.7) / 4))
    box(axis, 9.75, 1.7, 1.5, 0.9, "cosine × scale\n+ bias", MODULE)
    arrow(axis, (10.5, 1.7), (10.9, 1.7))
    label(axis, 11.55, 1.7, "logit:\nfits or not")
    axis.set(xlim=(0, 12.4), ylim=(0, 3.4))
    save(figure, "two_towers")


def trimmed_tower():
    """SigLIP's parts; those that a language model does not need are faint."""
    figure, axis = new_figure(12.4, 3.6)
    scene = four_drawings().resize((180, 180), Image.Resampling.LANCZOS)
    axis.imshow(scene, extent=(0.25, 1.45, 1.9, 3.1))
    axis.add_patch(Rectangle((0.25, 1.9), 1.2, 1.2, fill=False, ec=INK))
    label(axis, 0.85, 0.7, "“a drawing\nof a ship”", color="#888882")
    kept = [("patches +\npositions", "patch"), ("encoder:\nlayer after layer", MODULE)]
    dropped = ["layer norm", "pooling head", "to length 1"]
    for index, (text, colour) in enumerate(kept + [(text, None) for text in dropped]):
        x = 2.75 + index * 2.0
        box(axis, x, 2.5, 1.55, 0.8, text, colour or FAINT)
        if index:
            arrow(axis, (x - 1.22, 2.5), (x - 0.78, 2.5))
    axis.add_patch(Rectangle((1.75, 1.8), 4.1, 1.4, fc="none", ec=INK, lw=1.6, ls="--"))
    label(axis, 3.8, 3.38, "the trimmed tower", weight="bold")
    label(axis, 6.75, 3.2, "some VLMs\nadd it again", 10)
    label(axis, 9.75, 3.2, "only for one vector\nof the whole picture", 10)
    arrow(axis, (1.45, 2.5), (1.97, 2.5))
    arrow(axis, (4.75, 2.1), (4.75, 1.55))
    vectors(axis, 4.02, 1.05, 8, "patch", height=0.8)
    label(axis, 5.75, 1.05, "one vector for each patch:\nfor the language model", ha="left")
    box(axis, 2.75, 0.7, 1.55, 0.8, "text tower", FAINT)
    arrow(axis, (1.55, 0.7), (1.97, 0.7))
    save(figure, "trimmed_tower")


def vlm():
    """A picture and a prompt become one sequence; the language model continues it, word by word."""
    figure, axis = new_figure(12.4, 4.4)
    drawings = sample_drawings()
    scene = scene_of([drawings["sunflower"], drawings["ship"]]).resize((150, 150))
    axis.imshow(scene, extent=(0.3, 1.7, 0.15, 1.55))
    axis.add_patch(Rectangle((0.3, 0.15), 1.4, 1.4, fill=False, ec=INK))
    box(axis, 2.95, 0.85, 1.5, 0.8, "trimmed tower\nand layer norm", "patch")
    arrow(axis, (1.7, 0.85), (2.2, 0.85))
    arrow(axis, (3.7, 0.85), (4.2, 0.85))
    box(axis, 4.9, 0.85, 1.4, 0.8, "projector\n(Linear)", MODULE)
    arrow(axis, (4.9, 1.25), (4.9, 1.62))
    box(axis, 7.25, 0.85, 2.4, 0.8, "tokens, looked up:\n<bos> describe \\n", "position")
    arrow(axis, (7.0, 1.25), (7.0, 1.62))
    vectors(axis, 4.1, 2.05, 13, "patch", height=0.7)
    vectors(axis, 6.73, 2.05, 3, "position", height=0.7)
    vectors(axis, 7.4, 2.05, 4, "residual", height=0.7)
    label(axis, 3.0, 2.05, "one sequence")
    label(axis, 8.4, 1.7, "what it has said so far", ha="left")
    box(axis, 6.15, 3.05, 4.5, 0.7, "language model (Gemma)", MODULE)
    arrow(axis, (6.15, 2.42), (6.15, 2.7))
    arrow(axis, (8.07, 3.4), (8.07, 3.85))  # from the last vector to the next word, which comes back as the next vector
    label(axis, 8.07, 4.08, "the next word")
    arrow(axis, (8.75, 4.08), (10.2, 4.08), (10.2, 2.05), (8.3, 2.05))
    label(axis, 10.4, 3.0, "looked up,\nappended", ha="left")
    save(figure, "vlm")


@torch.no_grad()
def what_comes_out():
    """The end of the series: a scene, the sentence that the hand-built model says of it, and where it looks before a word."""
    reference = load_vlm()
    model = load_parts(VisionLanguageModel(reference.config, reference.model.model.language_model), reference.model)
    (scene, _), prompt = captioned_scenes()[1][3], reference.tokenize("describe")[0]
    seen, end = model.see(reference.preprocess(scene)), reference.tokenizer.eos_token_id
    said = generate(model, seen, prompt, end)
    sequence = model.merge(seen, torch.cat([prompt, torch.tensor([said])], dim=1))
    prefix, total, side = seen.shape[1] + prompt.shape[1], sequence.shape[1], round(seen.shape[1] ** 0.5)
    options = {"attention_mask": added_mask(prefix_mask(prefix, total)), "position_ids": torch.arange(1, total + 1)[None]}
    attentions = model.language_model(inputs_embeds=sequence, output_attentions=True, **options).attentions
    looks = torch.cat(attentions).mean(dim=(0, 1))[prefix - 1 : -1, : seen.shape[1]]  # (tokens said, patches)
    figure, axis = new_figure(12.4, 4.4)  # letters so large that a phone, where it is 350 pixels wide, can show them
    axis.imshow(scene, extent=(0.3, 3.1, 0.3, 3.1))
    label(axis, 6.2, 4.0, f"“{reference.decode(said)}”", 25, weight="bold")
    pieces = [reference.decode([token]).strip() for token in said]
    for index, word in enumerate(("briefcases", "tornado", "green")):
        first = next(number for number, piece in enumerate(pieces) if len(piece) > 3 and word.startswith(piece))
        x, look = 3.4 + index * 3.0, looks[first].view(side, side)
        axis.imshow(light(scene, beyond_equal(look, 5 / look.numel())), extent=(x, x + 2.8, 0.3, 3.1))
        label(axis, x + 1.4, 3.34, f"… {word}", 25)
    label(axis, 1.7, 3.34, "the scene", 25)
    axis.set(xlim=(0, 12.4), ylim=(0, 4.4))
    save(figure, "what_comes_out")


def main():
    for number in SERIES:
        you_are_here(number)
    for draw in (
        high_level_tower,
        patches_to_sequence,
        attention_head,
        multi_head,
        encoder_layer,
        gemma_layer,
        map_head,
        architecture,
        two_towers,
        trimmed_tower,
        vlm,
        what_comes_out,
    ):
        draw()


if __name__ == "__main__":
    main()
