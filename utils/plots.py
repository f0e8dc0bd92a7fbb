"""The pictures inside notebooks. Each is shown with a sentence that says in words what it shows, which is also its alt text.

The visual language, of these and of `utils.diagrams`:
- Twice as many pixels as are shown, for sharp screens; on a card of one warm white, for light and dark pages.
- A colour means one thing (COLOURS); what has no meaning of its own, as a bar, is slate.
- Panels that are compared share one scale and one colour bar. Yes and no need no bar.
- Between pictures, which keep their shape, there are no holes (the compressed layout).
- Axes carry names or small pictures where a reader would have to look numbers up; drawings carry no axes at all.
"""

import io
import logging
import textwrap
from itertools import cycle

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image as DisplayedImage
from IPython.display import Markdown, display
from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import LogLocator, MaxNLocator, PercentFormatter
from PIL import Image, ImageDraw

# Okabe and Ito's colours, told apart by colour-blind readers: the same thing has the same colour in every picture.
COLOURS = {
    "image": "#0072B2", "patch": "#E69F00", "position": "#009E73", "query": "#D55E00",
    "key": "#56B4E9", "value": "#CC79A7", "residual": "#7F7F7F",
}  # fmt: skip
# Of curves: no two share a colour, nor a line and a marker; the light colours are darker, for a contrast of 3 on the card.
DARKER = {"patch": "#BF8600", "key": "#3A97D0", "value": "#C96FA3"}
STYLES = list(zip((COLOURS | DARKER).values(), 2 * ("-", "--", "-.", ":"), "os^DvPX*"))
SLATE, PALE_SLATE, INK, CARD = "#52606D", "#868F98", "#111111", "#FAFAF7"
# How a picture is lit: where nothing falls, it is a pale shadow on grey, on dark paper as on white.
DIM, PALE = 0.5, 0.3
LAMP = LinearSegmentedColormap.from_list("lamp", [(0, 3 * (DIM,)), (1, (1, 1, 1))])
TINT = LinearSegmentedColormap.from_list("tint", [CARD, "#5E2390"])  # a colour that means nothing else
SIGNED = LinearSegmentedColormap.from_list("signed", [COLOURS["image"], CARD, COLOURS["query"]])  # 0 is in the middle
DPI = 80  # of a picture as it is shown; it holds twice as many pixels
CHANNELS = {"red": "#D55E00", "green": "#009E73", "blue": "#0072B2"}
logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns in the notebook if its cache cannot be written
matplotlib.rcdefaults()  # a matplotlibrc of the user's own would draw other pictures
matplotlib.rcParams.update(
    {
        "figure.dpi": 2 * DPI,
        "figure.facecolor": CARD,
        "axes.facecolor": CARD,
        "text.color": INK,
        "figure.constrained_layout.use": True,
        "font.size": 11,
        "axes.titlesize": 11,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "legend.fontsize": 10,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def encode(figure, form):
    """The figure as bytes of a JPEG or of a PNG of at most 256 colours, without software stamps. -> bytes, width as shown"""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", bbox_inches="tight")
    plt.close(figure)
    image, data = Image.open(drawn).convert("RGB"), io.BytesIO()
    if form == "jpeg":
        image.save(data, "JPEG", quality=60, optimize=True)
    else:
        image.quantize(256, dither=Image.Dither.NONE).save(data, "PNG", optimize=True)
    return data.getvalue(), image.width // 2


def show(figure, alt, photographs=False, place=None):
    """Display a figure and, under it, the sentence `alt`. Photographs as JPEG, drawings as PNG.

    Returns the place where it stands; given again as `place`, the new figure replaces the old one.
    """
    form = "jpeg" if photographs else "png"
    data, width = encode(figure, form)
    image, metadata = DisplayedImage(data, format=form), {f"image/{form}": {"alt": alt, "width": width}}
    if place:
        place.update(image, metadata=metadata)
        return place
    place = display(image, metadata=metadata, display_id=True)
    display(Markdown(f"*{alt}*"))
    return place


def show_images(images, alt, columns=4, height=2.6, pixels=False, wrap=99, edges=False, names=None):
    """Pictures side by side. `images`: {title: PIL image or array}; `pixels`: whether the axes count pixels.

    `wrap`: after how many letters a line of a title is broken. `edges`: whether a thin line runs round each picture.
    `names`: of the rows, where the pictures form a table; then `images` are {title of a column: list of pictures}.
    """
    shown = list(images.items())
    if names:
        columns = len(images)
        shown = [("" if row else title, column[row]) for row in range(len(names)) for title, column in images.items()]
    rows = -(-len(shown) // columns)
    sizes = [np.asarray(image).shape for _, image in shown[:columns]]
    widths = [wide / high for high, wide, *_ in sizes]
    shape = {"squeeze": False, "width_ratios": widths}
    figure, axes = plt.subplots(rows, len(widths), figsize=(11, height * rows), **shape, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.1)  # inches: pictures on white must not run into each other
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, image) in zip(axes.flat, shown):
        picture = np.asarray(image)
        axis.imshow(picture, interpolation="nearest", cmap="gray")
        axis.set_title("\n".join(textwrap.fill(line, wrap) for line in title.splitlines()))
        if pixels:
            axis.axis("on")
            axis.set(xlabel="column (pixels)", ylabel="row (pixels)" if axis is axes.flat[0] else "")
            axis.set_xticks([0, picture.shape[1] - 1], [0, picture.shape[1]])
            axis.set_yticks([0, picture.shape[0] - 1], [0, picture.shape[0]])
        if edges:
            axis.axis("on")
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(visible=True, color="#B8B8B8")
    for axis, name in zip(axes[:, 0], names or ()):
        axis.text(-0.06, 0.5, name, transform=axis.transAxes, ha="right", va="center")
    show(figure, alt, photographs=True)


def to_image(pixels):
    """(3, height, width) in [-1, 1] -> PIL image"""
    return Image.fromarray((to_picture(pixels[None]) * 255).round().astype(np.uint8))


def to_picture(pixel_values):
    """(1, 3, height, width) in [-1, 1] -> (height, width, 3) array in [0, 1] that can be shown; what is outside is cut off."""
    return ((pixel_values[0].permute(1, 2, 0) + 1) / 2).clamp(0, 1).numpy()


def show_channels(pixel_values, alt):
    """The three channels of (1, 3, height, width) pixel values as maps, one scale for all, -1 dark to 1 bright."""
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4))
    for axis, name, channel in zip(axes, CHANNELS, pixel_values[0]):
        drawn = axis.imshow(channel, cmap="gray", vmin=-1, vmax=1)
        axis.set_title(f"channel {list(CHANNELS).index(name)}: {name}")
        axis.set_xlabel("column (pixels)")
    axes[0].set_ylabel("row (pixels)")
    figure.colorbar(drawn, ax=axes, label="pixel value", shrink=0.8)
    show(figure, alt, photographs=True)


def show_planes(pixel_values, alt):
    """A small picture (1, 3, rows, columns) in colour, and its three channels with their numbers written in, in tenths."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 11))
    axes[0, 0].imshow(to_picture(pixel_values))
    axes[0, 0].set_title("in colour")
    for axis, name, channel in zip(axes.flat[1:], CHANNELS, pixel_values[0]):
        axis.imshow(channel, cmap="gray", vmin=-1, vmax=1)
        axis.set_title(f"channel {list(CHANNELS).index(name)}: {name}")
        for (row, column), number in np.ndenumerate(channel):
            ink = "black" if number > 0 else "white"
            axis.text(column, row, f"{round(float(number), 1) + 0.0:.1f}", ha="center", va="center", color=ink, fontsize=8)
    for axis in axes.flat:
        axis.set(xlabel="column (pixels)", ylabel="row (pixels)")
    show(figure, alt)


def show_maps(
    maps,
    alt,
    columns=4,
    colour="value",
    xlabel="column (patches)",
    ylabel="row (patches)",
    limits=None,
    size=2.7,
    framed=None,
    seams=(),
    squares=False,
    signed=False,
):
    """Grids of numbers as colours, one scale for all. `maps`: {title: 2-D tensor}.

    `colour`: what the colours mean. `framed`: {title: (row, column) to frame}.
    `seams`: rows and columns before which a thin line runs, where one kind of token ends and the next begins.
    `squares`: each number is drawn as a square, in all maps of one row equally large.
    `signed`: 0 is the colour of the card, what is below it blue and what is above it orange.
    """
    rows, columns = -(-len(maps) // columns), min(columns, len(maps))
    shape = {"width_ratios": [numbers.shape[1] for numbers in maps.values()]} if squares else {}
    figure, axes = plt.subplots(rows, columns, figsize=(11, size * rows), squeeze=False, layout="compressed", **shape)
    figure.get_layout_engine().set(w_pad=0.1)  # inches
    lowest, highest = min(m.min() for m in maps.values()), max(m.max() for m in maps.values())
    low, high = limits or (lowest, highest)
    if signed:
        high = max(high, -low)
        low = -high
    for axis in axes.flat[len(maps) :]:
        axis.axis("off")
    for axis, (title, numbers) in zip(axes.flat, maps.items()):
        options = {"cmap": SIGNED if signed else "cividis", "vmin": low, "vmax": high}
        drawn = axis.imshow(numbers, **options, interpolation="nearest", aspect="auto")
        axis.set_title(title)
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel)
        if framed:
            row, column = framed[title]
            frame(axis, row - 0.5, column - 0.5)
        for seam in seams:
            axis.axhline(seam - 0.5, color="white", linewidth=0.8)
            axis.axvline(seam - 0.5, color="white", linewidth=0.8)
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(MaxNLocator(4, integer=True))
        if squares or numbers.shape[0] == numbers.shape[1]:
            axis.set_aspect("equal")
    figure.colorbar(drawn, ax=axes, label=colour, shrink=0.8, extend="max" if highest > high else "neither")
    show(figure, alt, photographs=max(numbers.shape.numel() for numbers in maps.values()) > 1000)  # noise is large as a PNG


def name_axis(axis, names, down, cell=0):
    """Put names or small PIL images where an axis's numbers stand; `down`: along the left side, else along the top.

    `cell`: how wide a cell is, in inches. Names along the top that don't fit are slanted.
    """
    places, side = range(len(names)), axis.yaxis if down else axis.xaxis
    pictures = not isinstance(names[0], str)
    side.set_ticks(places, len(names) * [""] if pictures else names)
    if not down:
        axis.xaxis.tick_top()
        slanted = not pictures and max(map(len, names)) * 0.085 > cell  # inches that a letter takes
        axis.tick_params(axis="x", rotation=25 if slanted else 0)
        for label in axis.get_xticklabels():
            label.set_ha("left" if slanted else "center")
    for place, picture in zip(places, names) if pictures else ():
        small = OffsetImage(np.asarray(picture.convert("RGB").resize((128, 128))), zoom=0.22)
        where, corner = ((-0.6, place), (1, 0.5)) if down else ((place, -0.6), (0.5, 0))
        axis.add_artist(AnnotationBbox(small, where, box_alignment=corner, frameon=False, pad=0, annotation_clip=False))


def written(number, decimals):
    """A number as text, with the minus that axes have; never −0."""
    return f"{round(float(number), decimals) + 0.0:.{decimals}f}".replace("-", "−")


def show_matrices(
    matrices,
    alt,
    size=2.2,
    one_scale=False,
    xlabel="column",
    ylabel="row",
    names=None,
    kinds=None,
    framed=None,
    sums=False,
):
    """Small matrices with their numbers written in. `matrices`: {title: 2-D tensor}; `one_scale`: the same colours for all.

    `names`: (of the rows, of the columns), words or PIL images, in place of numbers; or a list, a pair for each.
    `kinds`: a distinct colour for each number // kinds, in place of a scale. `framed` (rows, columns): True for a frame.
    `sums`: whether a line runs above the last row.
    """
    widths = [max(2, matrix.shape[1]) for matrix in matrices.values()]
    cell = (size - 1) / max(matrix.shape[0] for matrix in matrices.values())  # inches, where names want square cells
    wide = min(11, sum(cell * width + 1.6 for width in widths)) if names else 11
    figure, axes = plt.subplots(1, len(matrices), figsize=(wide, size), squeeze=False, width_ratios=widths)
    lowest, highest = min(matrix.min() for matrix in matrices.values()), max(matrix.max() for matrix in matrices.values())
    for axis, (title, matrix) in zip(axes[0], matrices.items()):
        low, high = (lowest, highest) if one_scale else (matrix.min(), matrix.max())
        colours = by_kind(matrix // kinds) if kinds else matrix
        axis.imshow(colours, cmap="cividis", aspect="equal" if names else "auto", vmin=low, vmax=high)
        light, decimals = low + 0.47 * (high - low), 0 if (matrix == matrix.round()).all() else 2
        for (row, column), number in np.ndenumerate(matrix):
            ink = "black" if kinds or number > light else "white"
            axis.text(column, row, written(number, decimals), ha="center", va="center", color=ink, fontsize=10)
        for row, column in np.argwhere(np.asarray(framed)) if framed is not None else ():
            frame(axis, row - 0.5, column - 0.5)
        axis.set_title(title)
        axis.tick_params(length=0)
        if sums:
            axis.axhline(len(matrix) - 1.5, color=INK, linewidth=3)
        if names:
            down, along = names[list(matrices).index(title)] if isinstance(names, list) else names
            name_axis(axis, down, down=True)
            name_axis(axis, along, down=False, cell=cell)
        else:
            axis.set(xticks=range(matrix.shape[1]), yticks=range(matrix.shape[0]), xlabel=xlabel)
    if names:
        figure.align_titles()
    else:
        axes[0, 0].set_ylabel(ylabel)
    show(figure, alt)


def show_filters(groups, alt):
    """Filters as small colour pictures, grey for zero, a row for each group. `groups`: {title: (filters, 3, patch, patch)}."""
    figure, axes = plt.subplots(len(groups), 1, figsize=(11, 1.15 * len(groups)), squeeze=False)
    for axis, (title, filters) in zip(axes[:, 0], groups.items()):
        number, _, side, _ = filters.shape
        sheet = np.ones((side, number * (side + 2) - 2, 3)) * to_rgb(CARD)
        for index, kernel in enumerate(filters / filters.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-9)):
            sheet[:, index * (side + 2) : index * (side + 2) + side] = (kernel.permute(1, 2, 0) * 0.5 + 0.5).clamp(0, 1)
        axis.imshow(sheet, interpolation="nearest")
        axis.set_title(title, loc="left")
        axis.axis("off")
    show(figure, alt, photographs=True)


def show_lines(
    panels,
    alt,
    xlabel,
    ylabel,
    log=False,
    height=3.0,
    level=None,
    joined=True,
    seams=(),
    ticks=None,
    bottom=0,
    legends=True,
    log_x=False,
    drawn_as=STYLES,
    ends=False,
):
    """Curves. `panels`: {title: {label: (x values, y values)}}, side by side with the same axes; styles differ too.

    A list of y values alone is drawn above 0, 1, 2 and so on.
    `level`: (label, y) of a horizontal line to compare with, (label, [y, y, ...]), or (label, y, line style).
    `joined`: False for points that do not belong together.
    `seams`: x of upright lines, where one part ends and the next begins.
    `ticks`: what stands under x = 0, 1, 2 and so on.
    `bottom`: where the axis of y begins if all is above it; `legends`: False for one legend, in the first panel.
    `log_x`: also the x axis in powers, with a mark at each of the x values, which all lines share.
    `drawn_as`: (colour, line, marker) of each curve.
    `ends`: each label at the right end of its line, in place of a legend.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(11, height), squeeze=False, sharey=True)
    for axis, (title, lines) in zip(axes[0], panels.items()):
        styles = drawn_as if len(lines) > 1 else [(SLATE, "-", "o")]
        for (label, values), (colour, line, shape) in zip(lines.items(), styles):
            x, y = values if isinstance(values, tuple) else (range(len(values)), values)
            marker = shape if len(x) < 20 or not joined else None
            axis.plot(
                x,
                y,
                linestyle=line if joined else "none",
                color=colour,
                linewidth=2,
                label=label,
                marker=marker,
                markersize=4 if joined else 6,
                clip_on=marker is None,
            )
        for index, y in enumerate(np.atleast_1d(level[1]) if level else ()):
            line = level[2] if len(level) > 2 else ":"
            axis.axhline(y, color=COLOURS["residual"], linestyle=line, label=None if index else level[0])
        for seam in seams:
            axis.axvline(seam, color=COLOURS["residual"])
        axis.set_title(title)
        axis.set_xlabel(xlabel)
        if ticks:
            axis.set_xticks(range(len(ticks)), ticks)
        if log_x:
            axis.set_xscale("log")
            axis.set_xticks(x, [f"{value:g}" for value in x])
            axis.minorticks_off()
        if log:
            axis.set_yscale("log")
            low, high = axis.get_ylim()
            if low > 0.01 and high < 1e5:  # else powers of ten are easier to read
                axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
                axis.yaxis.set_major_formatter("{x:g}")
                axis.yaxis.set_minor_formatter("")
        if ends:
            label_ends(axis)
        elif (len(lines) > 1 or level) and (legends or axis is axes[0, 0]):
            axis.legend()
    drawn = [line.get_ydata() for axis in axes[0] for line in axis.get_lines()]
    if not log and all(float(y).is_integer() for line in drawn for y in line):
        axes[0, 0].yaxis.set_major_locator(MaxNLocator(integer=True))
    if not log and axes[0, 0].get_ylim()[0] > bottom:  # after all panels: their axis is one
        axes[0, 0].set_ylim(bottom=bottom)
    axes[0, 0].set_ylabel(ylabel)
    show(figure, alt)


PAIR = ({"color": SLATE}, {"color": PALE_SLATE})
RUNS = tuple({"color": colour} for colour, *_ in STYLES[:2])  # as `show_lines` draws two curves
HIDDEN = ({"color": SLATE}, {"color": CARD, "edgecolor": SLATE, "hatch": "///"})  # striped, as what `cover` hides


def show_bars(
    panels, alt, ylabel, xlabel="", height=2.6, level=None, stacked=False, paired=False, guessing=None, colours=(), pair=PAIR
):
    """Bars. `panels`: {title: {label: number}}, side by side with the same axis, or one above the other if `stacked`.

    `level`: (label, y) of a horizontal line to compare with. `paired`: two panels in one, bar beside bar, drawn as `pair` says;
    words are its title. `guessing`: (label, [y for each bar]) where the bars stand for different questions, or
    (label, {title: y}) where the panels do. `colours`: {label: name in COLOURS} of the bars that mean one of these things.
    """
    rows, columns = (1, 1) if paired else (len(panels), 1) if stacked else (1, len(panels))
    figure, axes = plt.subplots(rows, columns, figsize=(11, rows * height), squeeze=False, sharey=True)
    if columns > 1:
        figure.get_layout_engine().set(w_pad=0.1)  # inches: panels must not touch
    values = [abs(float(number)) for bars in panels.values() for number in bars.values()]
    # Whole numbers as they are, others with one decimal, or as many as the largest needs for two digits; all alike.
    decimals = 0 if all(number.is_integer() for number in values) else max(1, 1 - int(np.floor(np.log10(max(values)))))
    for index, (title, bars) in enumerate(panels.items()):
        axis, places = axes[0, 0] if paired else axes.flat[index], np.arange(len(bars))
        style = {"color": [COLOURS.get(dict(colours).get(label), SLATE) for label in bars]}
        if paired:
            places, style = places + 0.4 * (index - 0.5), {"width": 0.4, "label": title} | pair[index]
        drawn = axis.bar(places, list(bars.values()), **style)
        axis.set_xticks(range(len(bars)), [str(label) for label in bars])
        numbers = axis.bar_label(drawn, fmt=lambda number: written(number, decimals), fontsize=10, padding=1)
        axis.margins(y=0.12)  # room for the numbers
        axis.set_title(paired if isinstance(paired, str) else "" if paired else title)
        axis.set_xlabel(xlabel)
        if level:
            once = level[0] if index == 0 or not paired else None
            axis.axhline(level[1], color=COLOURS["query"], linestyle=":", linewidth=2, label=once)
            for number, bar in zip(numbers, drawn):  # no line runs through it
                if 0 <= level[1] - bar.get_height() < 0.08 * max(values):
                    dark = sum(bar.get_facecolor()[:3]) < 1.5
                    number.set(va="top", color="white" if dark else INK, position=(0, -3))
            axis.legend()
        if guessing:
            label, heights = guessing
            heights = len(bars) * [heights[title]] if isinstance(heights, dict) else heights
            axis.hlines(heights, places - 0.48, places + 0.48, COLOURS["query"], ":", label, linewidth=2)
            axis.legend()
        if paired:  # above the bars, and the title above it
            axis.legend(loc="lower center", bbox_to_anchor=(0.5, 0.98), ncols=3)
            axis.set_title(axis.get_title(), pad=26)
    for axis in axes[:, 0]:
        axis.set_ylabel(ylabel)
    show(figure, alt)


def beyond_equal(shares, full):
    """How brightly a look lights each patch: not at all up to an equal share, fully from `full` on. Shares -> in [0, 1]"""
    shares = np.asarray(shares)
    return np.sqrt(np.clip((shares - 1 / shares.size) / (full - 1 / shares.size), 0, 1))


def light(picture, brightness):
    """The picture, each patch lit by its brightness in [0, 1]. brightness (rows, columns) -> array in [0, 1]"""
    lamp = np.kron(np.asarray(brightness), np.ones((16, 16)))[..., None]
    lit = np.asarray(picture.convert("RGB").resize(lamp.shape[1::-1])) / 255
    grey = lit.mean(axis=-1, keepdims=True)
    unlit = np.clip(DIM + PALE * (lit - grey.mean()), 0, 1)
    return unlit + lamp * (lit - unlit)


def show_looks(
    picture,
    looks,
    alt,
    full=10,
    label="share of attention",
    largest=True,
    digits=0,
    edged=False,
    own=None,
    columns=4,
):
    """Where attention goes, over a picture. `looks`: {title: (weights (rows, columns), patch that looks or None)}.

    `picture`: one for all panels, or a list of one for each. `largest`: whether titles say the largest share, with `digits`.
    A patch is lit by what it gets beyond an equal share, fully from `full` equal shares on: one lamp for all panels.
    What has half of a panel's largest share or more, and three equal ones, is outlined; the patch that looks is framed.
    `edged`: whether outlines have a dark edge, on a picture in which they would not be seen.
    `own`: for each panel, the patches (rows, columns) round which a thin line runs.
    """
    rows, columns = -(-len(looks) // columns), min(columns, len(looks))
    high = rows * (10.6 / max(columns, 3) + 0.5) + 0.8  # inches; the last ones for the bar
    figure, axes = plt.subplots(rows, columns, figsize=(11, high), squeeze=False, layout="compressed")
    for axis in axes.flat:
        axis.axis("off")
    pictures = picture if isinstance(picture, list) else len(looks) * [picture]
    for axis, shown, (title, (weights, index)), mine in zip(axes.flat, pictures, looks.items(), own or len(looks) * [None]):
        grid = np.asarray(weights)
        high, wide = grid.shape
        axis.imshow(light(shown, beyond_equal(grid, full / grid.size)), extent=(0, wide, high, 0))
        # A frame of zeros around it, so that an outline closes at the picture's edge.
        strong = np.pad(np.kron(grid >= max(grid.max() / 2, 3 / grid.size), np.ones((16, 16))), 1)
        for colour, width in ((INK, 5), (COLOURS["key"], 2))[not edged :]:
            axis.contour(strong, [0.5], extent=(0, wide, 0, high), colors=[colour], linewidths=width)
        if mine is not None:
            mine = np.pad(np.kron(mine, np.ones((16, 16))), 1)
            axis.contour(mine, [0.5], extent=(0, wide, 0, high), colors="white", linewidths=0.8)
        if index is not None:
            frame(axis, *divmod(index, wide))
        axis.set_title(f"{title}\nlargest: {grid.max():.{digits}%}" if largest else title)
    lamp = plt.cm.ScalarMappable(PowerNorm(0.5, 1, full), LAMP)  # in equal shares
    place = {"location": "bottom", "shrink": 0.5, "aspect": 40}
    bar = figure.colorbar(lamp, ax=axes, label=f"{label} (× an equal share)", extend="max", **place)
    shares = 1, full // 2, full
    bar.set_ticks(shares, labels=[f"{times / grid.size:.1%} ({times}×)" for times in shares])
    show(figure, alt, photographs=True)


def framed(picture, index, side):
    """A copy of the picture with a frame round one of its side x side patches."""
    picture, step = picture.convert("RGB"), picture.width / side
    left, top = index % side * step, index // side * step
    for gap, width, colour in ((6, 8, "white"), (4, 4, COLOURS["query"])):
        box = (left - gap, top - gap, left + step + gap, top + step + gap)
        ImageDraw.Draw(picture).rectangle(box, outline=colour, width=width)
    return picture


def around(picture, index, side):
    """One of a picture's side x side patches, framed, and the patches around it, enlarged. -> PIL image"""
    step, (row, column) = 96, divmod(index, side)
    large = framed(picture.resize((step * side, step * side)), index, side)
    return large.crop((step * (column - 1), step * (row - 1), step * (column + 2), step * (row + 2)))


def show_patch(picture, index, side, patch, alt):
    """A picture with one of its side x side patches framed, and beside it that patch alone, as the model sees it."""
    alone = patch_of(picture, index, side)
    alone = alone.resize((patch, patch), Image.Resampling.BICUBIC).resize(picture.size, Image.Resampling.NEAREST)
    show_images({"the scene": framed(picture, index, side), f"our patch: {patch} × {patch} pixels": alone}, alt, height=3.2)


def show_toy(corners, groups, alt, title, hollow=None):
    """Named points in the plane of yellow and round. `corners`: {name: (x, y)} of a shaded polygon; `groups`: {label: such}.

    `hollow`: {name: (x, y)} of points like the first group's, drawn as rings.
    """
    figure, axis = plt.subplots(figsize=(6.4, 4))
    axis.fill(*zip(*corners.values()), color=COLOURS["value"], alpha=0.15)
    styles = zip(("o", "s", "^"), ("value", "query", "key"))
    for (label, points), (marker, colour) in zip(groups.items(), styles):
        axis.scatter(*zip(*points.values()), marker=marker, color=COLOURS[colour], s=80, label=label, zorder=3)
        for name, point in points.items():
            axis.annotate(name, point, xytext=(8, 6), textcoords="offset points")
    for name, point in (hollow or {}).items():
        axis.scatter(*point, s=170, facecolors="none", edgecolors=COLOURS["value"], linewidths=2, zorder=3)
        axis.annotate(name, point, xytext=(9, -16), textcoords="offset points")
    axis.set(title=title, xlabel="yellow", ylabel="round")
    axis.margins(x=0.22, y=0.15)  # room for the names
    axis.legend(loc="upper right")
    show(figure, alt)


def show_turned(panels, alt):
    """Arrows of length 1, turned by `speed` radians a place. `panels`: {title: (speed, {label: place})}, side by side.

    Between two arrows, an arc marks the angle.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 11 / len(panels) + 0.3), squeeze=False)
    for axis, (title, (speed, arrows)) in zip(axes[0], panels.items()):
        axis.add_patch(plt.Circle((0, 0), 1, fill=False, edgecolor=COLOURS["residual"], linewidth=0.8, linestyle=":"))
        for label, place in arrows.items():
            x, y = np.cos(speed * place), np.sin(speed * place)
            style = {"arrowstyle": "-|>", "color": COLOURS.get(label, COLOURS["patch"]), "lw": 2, "shrinkA": 0, "shrinkB": 0}
            axis.annotate("", (x, y), (0, 0), arrowprops=style)
            side = "left" if x > 0.2 else "right" if x < -0.2 else "center"
            axis.text(1.08 * x, 1.14 * y, label, ha=side, va="center", fontsize=11)
        if len(arrows) == 2:
            turned = speed * np.linspace(*arrows.values())
            axis.plot(0.45 * np.cos(turned), 0.45 * np.sin(turned), color=INK, linewidth=1.5)
        axis.set(xlim=(-1.5, 1.5), ylim=(-1.3, 1.3), aspect="equal", xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        axis.set_title(title)
    axes[0, 0].set(xlabel="first number", ylabel="second number")
    show(figure, alt)


def show_steps(steps, alt, colour):
    """How much heads look at each step away: (heads, rows, columns). The patch that looks is framed in the middle."""
    figure, axes = plt.subplots(
        1, len(steps), figsize=(11, 9 / len(steps) + 0.5), layout="compressed", sharex=True, sharey=True
    )
    for head, (axis, shares) in enumerate(zip(axes, steps)):
        reach = len(shares) // 2
        box = (-reach - 0.5, reach + 0.5, reach + 0.5, -reach - 0.5)
        drawn = axis.imshow(shares, cmap="cividis", vmin=0, vmax=steps.max(), extent=box, interpolation="nearest")
        frame(axis, -0.5, -0.5)
        axis.set_title(f"head {head}")
        axis.set_xlabel("columns to the right")
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_locator(MaxNLocator(4, integer=True))
    axes[0].set_ylabel("rows further down")
    figure.colorbar(drawn, ax=axes, label=colour, shrink=0.8)
    show(figure, alt)


def show_weights(matrices, part, alt):
    """Whole matrices of attention weights, bright from ten equal shares on, the tokens sorted by the part that they lie in.

    `matrices`: {title: ((tokens, tokens), names of the parts)}, `part` (tokens): which part each token lies in, from 0 on.
    """
    order, edges = np.argsort(part, kind="stable"), np.searchsorted(np.sort(part), range(len(np.unique(part)) + 1))
    figure, axes = plt.subplots(1, len(matrices), figsize=(11, 4.9), squeeze=False, layout="compressed")
    figure.get_layout_engine().set(w_pad=0.1)  # inches
    for axis, (title, (weights, names)) in zip(axes[0], matrices.items()):
        weights = np.asarray(weights)[order][:, order]
        drawn = axis.imshow(weights, cmap="cividis", vmin=0, vmax=10 / len(weights), interpolation="nearest")
        for edge in edges[1:-1] - 0.5:
            axis.axhline(edge, color="white", linewidth=1.5)
            axis.axvline(edge, color="white", linewidth=1.5)
        middles = (edges[1:] + edges[:-1] - 1) / 2
        axis.set_xticks(middles, names)
        axis.set_yticks(middles, names, rotation=90, va="center")
        axis.tick_params(length=0)
        axis.set(title=title, xlabel="is looked at", ylabel="looks")
    figure.colorbar(drawn, ax=axes, label="attention weight", shrink=0.8, extend="max")
    show(figure, alt, photographs=True)


def show_sizes(groups, alt, xlabel, ylabel, title):
    """How often sizes from tiny to large occur, on a logarithmic axis. `groups`: {label: tensor of positive numbers}."""
    figure, axis = plt.subplots(figsize=(8, 3.2))
    edges = np.logspace(-12, 0, 49)
    for (label, sizes), colour, line in zip(groups.items(), ("query", "image"), ("-", "--")):
        sizes = np.asarray(sizes).ravel().clip(edges[0], 1)
        shares = np.histogram(sizes, edges)[0] / len(sizes)
        axis.stairs(shares, edges, color=COLOURS[colour], linestyle=line, linewidth=1.5, fill=False, label=label)
        axis.stairs(shares, edges, color=COLOURS[colour], alpha=0.2, fill=True)
    axis.set_xscale("log")
    axis.set_xticks([1e-12, 1e-9, 1e-6, 1e-3, 1], ["$10^{-12}$\nand less", "$10^{-9}$", "$10^{-6}$", "$10^{-3}$", "1"])
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.legend(loc="upper center")
    show(figure, alt)


def show_guesses(guesses, alt, columns=3, labels=("probability",), right=()):
    """Pictures, each with bars for its captions. `guesses`: {title: (picture, {caption: number})}, best caption first.

    The bars of right captions are orange: of a picture's own title, and of those in `right`. `labels`: what the bars are,
    in turns.
    """
    rows = -(-len(guesses) // columns)
    figure, axes = plt.subplots(rows, 2 * columns, figsize=(11, 2.1 * rows), squeeze=False, width_ratios=columns * [1, 1.3])
    for axis in axes.flat[2 * len(guesses) :]:
        axis.axis("off")
    cells = zip(guesses.items(), axes.flat[::2], axes.flat[1::2], cycle(labels))
    for (title, (picture, numbers)), shown, bars, label in cells:
        shown.imshow(picture)
        shown.set_title(title)
        shown.axis("off")
        colours = [COLOURS["patch"] if caption in (title, *right) else SLATE for caption in numbers]
        drawn = bars.barh(list(numbers), list(numbers.values()), color=colours)
        bars.bar_label(drawn, fmt=lambda number: written(number, 2), fontsize=10, padding=2)
        bars.invert_yaxis()
        bars.set(xlim=(0, 1.25), xticks=(0, 0.5, 1))  # room for the numbers
        bars.spines["bottom"].set_bounds(0, 1)
        bars.set_xlabel(label)
    show(figure, alt)


def show_training(record, steps, things, place=None):
    """How a training goes; drawn again in the same place if `place`, what an earlier call returned, is given.

    `record`: "loss" and "score" as lists of (step, number); "filters" (filters, 3, patch, patch); "positions" (patches, width);
    "looks" (patches, patches). The dotted level is the loss of a model that says yes to every pair with probability 1 / things.
    """
    layout = [["loss"] * 3 + ["score"] * 3, ["filters"] * 2 + ["positions"] * 2 + ["looks"] * 2]
    figure, axes = plt.subplot_mosaic(layout, figsize=(11, 5.6))
    done, level = record["loss"][-1][0], np.log(things) + (things - 1) * np.log(things / (things - 1))
    axes["loss"].plot(*zip(*record["loss"]), color=SLATE, linewidth=1)
    axes["loss"].axhline(level, color=COLOURS["residual"], linestyle=":", label=f"yes to all with 1 / {things}: {level:.2f}")
    axes["loss"].legend()
    axes["loss"].set(title=f"loss: step {done} of {steps}", xlabel="step", xlim=(0, steps), ylim=(0, None))
    axes["score"].plot(*zip(*record["score"]), color=SLATE, marker="o", clip_on=False)
    axes["score"].set(title=f"unseen drawings named right, of {things}", xlabel="step", xlim=(0, steps), ylim=(0, things))
    filters = record["filters"][record["filters"].flatten(1).norm(dim=1).argsort(descending=True)[:16]]
    filters = filters / filters.abs().amax((1, 2, 3), keepdim=True) * 0.5 + 0.5
    patch = filters.shape[-1]
    tiles = filters.new_ones(4, 4, 3, patch + 1, patch + 1)  # with a white gap between two of them
    tiles[..., :patch, :patch] = filters.view(4, 4, 3, patch, patch)
    tiles = tiles.permute(0, 3, 1, 4, 2).reshape(4 * patch + 4, 4 * patch + 4, 3)[:-1, :-1]
    axes["filters"].imshow(tiles, interpolation="nearest")
    axes["filters"].set(title="added to 16 filters", xticks=[], yticks=[])
    unit = record["positions"] / record["positions"].norm(dim=-1, keepdim=True).clamp(min=1e-12)
    side = round(len(unit) ** 0.5)
    for axis, numbers, title, label in (
        (axes["positions"], unit @ unit[len(unit) // 2 + side // 2], "positions like the middle one", "cosine"),
        (axes["looks"], record["looks"].mean(dim=0), "attention, first layer's head 0", "share that a patch gets"),
    ):
        axis.set(title=title, xlabel="column (patches)", ylabel="row (patches)")
        if numbers.any():
            drawn = axis.imshow(numbers.view(side, side), cmap="cividis", interpolation="nearest")
            figure.colorbar(drawn, ax=axis, shrink=0.8, label=label)
        else:  # a model without positions
            axis.set(xticks=[], yticks=[], xlabel="", ylabel="", aspect="equal")
            axis.text(0.5, 0.5, "none", ha="center", va="center", transform=axis.transAxes)
    alt = "Loss, score, filters, position vectors and attention of the small model, as far as its training has come."
    return show(figure, alt, place=place)


def show_pair_losses(logits, alt):
    """What each pair adds to the sigmoid loss. logits (images, texts), those of fitting pairs on the diagonal."""
    figure, axis = plt.subplots(figsize=(11, 3.2))
    fits = np.eye(len(logits), dtype=bool)
    signed = np.where(fits, logits, -np.asarray(logits))
    x = np.linspace(-3, signed.max() + 1, 200)  # further left, the dots that matter lie on one level
    axis.plot(x, np.logaddexp(0, -x), color=COLOURS["residual"], label="−log sigmoid(z · logit)")
    for name, which, colour, marker in (("fits", fits, "patch", "o"), ("does not fit", ~fits, "image", "x")):
        axis.plot(signed[which], np.logaddexp(0, -signed[which]), marker, color=COLOURS[colour], label=f"a pair that {name}")
    axis.set(title="what each pair adds to the loss", xlabel="z · logit", ylabel="added to the loss")
    axis.legend()
    show(figure, alt)


def tinted(picture, weights):
    """The picture, pale, each patch tinted by its weight in [0, 1]. weights (rows, columns) -> array in [0, 1]"""
    grid = np.kron(np.asarray(weights), np.ones((16, 16)))
    drawn = np.asarray(picture.convert("RGB").resize(grid.shape[1::-1])) / 255
    grey = drawn.mean(axis=-1, keepdims=True)
    colour = 0.25 * (drawn - grey) * (1 - grid[..., None])  # a little, where there is no tint
    shade = 0.45 + 0.55 * grey  # what is drawn is still seen under a full tint
    return np.clip(TINT(grid)[..., :3] * (shade + colour), 0, 1)


def show_tinted(pictures, alt, label, full=1.0, columns=4, line=2.5):
    """Pictures, each tinted patch by patch. `pictures`: {title: (picture, weights (rows, columns), patch(es) to frame)}.

    The tint grows evenly with the weight: none at zero and below, full from `full` on, one scale for all panels.
    `line`: how wide the frame's line is. All but the first of a list of frames are dashed.
    """
    rows, columns = -(-len(pictures) // columns), min(columns, len(pictures))
    figure, axes = plt.subplots(rows, columns, figsize=(11, rows * (9.1 / columns + 0.5)), squeeze=False, layout="compressed")
    for axis in axes.flat:
        axis.axis("off")
    for axis, (title, (picture, weights, framed)) in zip(axes.flat, pictures.items()):
        grid = np.clip(np.asarray(weights) / full, 0, 1)
        axis.imshow(tinted(picture, grid), extent=(0, grid.shape[1], grid.shape[0], 0))
        frames = framed if isinstance(framed, list) else [framed] if framed is not None else []
        for index, dash in zip(frames, ["-"] + [(0, (1.5, 1))] * len(frames)):
            row, column = divmod(index, grid.shape[1])
            for colour, width, style in (("white", 2 * line, "-"), (COLOURS["query"], line, dash)):
                stroke = {"edgecolor": colour, "linewidth": width, "linestyle": style}
                axis.add_patch(plt.Rectangle((column, row), 1, 1, fill=False, zorder=3, **stroke))
        axis.set_title(title)
    figure.colorbar(plt.cm.ScalarMappable(plt.Normalize(0, full), TINT), ax=axes, label=label, shrink=0.9, aspect=25)
    show(figure, alt, photographs=True)


def show_piles(piles, alt, title, xlabel):
    """Pictures piled up in columns, as a histogram. `piles`: {name of the column: [PIL images]}."""
    highest = max(1, *map(len, piles.values()))
    figure, axis = plt.subplots(figsize=(11, 11 * highest / len(piles) + 0.9))
    for place, pictures in enumerate(piles.values()):
        for height, picture in enumerate(pictures):
            small = np.asarray(picture.convert("RGB").resize((96, 96)))
            axis.imshow(small, extent=(place - 0.46, place + 0.46, height + 0.04, height + 0.96), zorder=2)
    axis.set(title=title, xlabel=xlabel, xlim=(-0.5, len(piles) - 0.5), ylim=(0, highest), aspect="equal", yticks=[])
    axis.set_xticks(range(len(piles)), list(piles))
    axis.tick_params(axis="x", length=0)
    axis.spines["left"].set_visible(False)
    show(figure, alt, photographs=True)


def thumbnails(axis, pictures, places, zoom):
    """Small PIL images on cards under an axis's foot."""
    for place, picture in zip(places, pictures):
        small = OffsetImage(np.asarray(picture.convert("RGB").resize((128, 128))), zoom=zoom)
        edge = {"bboxprops": {"edgecolor": "#B8B8B8", "linewidth": 0.8}, "pad": 0}
        foot = {"xycoords": axis.get_xaxis_transform(), "box_alignment": (0.5, 1.1)}
        axis.add_artist(AnnotationBbox(small, (place, 0), **foot, **edge))


def show_pictured_lines(panels, alt, xlabel, ylabel, limits, ticks, mark=None):
    """Curves over a row of pictures. `panels`: {title: (one PIL image for each x, {label: one number for each x})}.

    A label looks the same in all panels. `ticks`: what stands under each picture. `mark`: (label, x) of a vertical line.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 3.9), squeeze=False, sharey=True)
    labels = dict.fromkeys(label for _, lines in panels.values() for label in lines)
    styles = dict(zip(labels, STYLES[:4] + STYLES[5:] + STYLES[4:5]))  # the second blue last
    for axis, (title, (pictures, lines)) in zip(axes[0], panels.items()):
        for label, numbers in lines.items():
            colour, line, marker = styles[label]
            style = {"color": colour, "linewidth": 2, "marker": marker, "markersize": 5}
            axis.plot(np.asarray(numbers), line, label=label, clip_on=False, **style)
        if mark:
            axis.axvline(mark[1], color=COLOURS["residual"], linestyle=":", label=mark[0], zorder=1)
        zoom = min(0.3, 4.6 / len(pictures) / len(panels))
        thumbnails(axis, pictures, range(len(pictures)), zoom)
        axis.set(ylim=limits, xlim=(-0.5, len(pictures) - 0.5), xlabel=xlabel)
        axis.set_xticks(range(len(ticks)), ticks)
        axis.tick_params(axis="x", length=0, pad=145 * zoom + 4)  # points: below the pictures
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4, columnspacing=1.4)
        axis.set_title(title, pad=26)  # above the legend
    axes[0, 0].set_ylabel(ylabel)
    show(figure, alt, photographs=True)  # a palette of 256 colours would change the pictures' own


def show_swarm(places, alt, title, xlabel):
    """Pictures along an axis, piled up where they meet. `places`: [(PIL image, x, whether to mark it)]."""
    step, piles = 0.042, {}
    for picture, x, marked in sorted(places, key=lambda place: place[1]):
        piles.setdefault(round(x / step), []).append((picture, marked))
    highest = max(map(len, piles.values()))
    wide = (max(piles) - min(piles) + 2) * step
    figure, axis = plt.subplots(figsize=(11, 11 * highest * step / wide + 1.1))
    half = 0.47 * step
    for column, pile in piles.items():
        for row, (picture, marked) in enumerate(pile):
            box = column * step - half, column * step + half, row * step + 0.03 * step, row * step + 0.97 * step
            axis.imshow(np.asarray(picture.convert("RGB").resize((112, 112))), extent=box, zorder=2)
            if marked:
                axis.add_patch(
                    plt.Rectangle(box[::2], 2 * half, 2 * half, fill=False, edgecolor=COLOURS["query"], linewidth=2.5, zorder=3)
                )
    left = (min(piles) - 1) * step
    axis.set(xlabel=xlabel, yticks=[], xlim=(left, left + wide), ylim=(0, highest * step), aspect="equal")
    axis.set_title(title, pad=12)
    axis.spines["left"].set_visible(False)
    show(figure, alt, photographs=True)


def cover(picture, hidden):
    """The picture with its hidden patches painted over. hidden (rows, columns), True and False -> array in [0, 1]"""
    curtain = np.kron(np.asarray(hidden), np.ones((16, 16)))[..., None]
    bright = np.asarray(picture.convert("RGB").resize(curtain.shape[1::-1])) / 255
    stripes = 0.45 + 0.12 * (np.add.outer(*map(np.arange, curtain.shape[:2])) % 16 < 8)[..., None]
    return bright * (1 - curtain) + stripes * curtain


def show_film(pictures, right, said, alt):
    """What is said about pictures, moment after moment. right [sentences], said {moment: [a sentence for each picture]}

    Under each picture stands what is right.
    """
    rows, columns = len(pictures), 1 + len(said)
    shape = {"squeeze": False, "width_ratios": [1, *len(said) * [1.35]]}
    figure, axes = plt.subplots(rows, columns, figsize=(11, 2.3 * rows), **shape)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[], xlim=(0, 1), ylim=(0, 1))
        axis.spines[:].set_visible(False)
    for row, picture, truth, sentences in zip(axes, pictures, right, zip(*said.values())):
        row[0].imshow(np.asarray(picture.convert("RGB")), extent=(0, 1, 0, 1))
        row[0].set_xlabel(textwrap.fill(truth, 20), fontsize=10)
        for axis, sentence in zip(row[1:], sentences):
            mark = "✓" if sentence == truth else "✗"
            axis.text(0.5, 0.5, f"{textwrap.fill(sentence, 17)}\n{mark}", ha="center", va="center")
    for axis, moment in zip(axes[0, 1:], said):
        axis.set_title(moment)
    show(figure, alt, photographs=True)


def frame(axis, row, column):
    """A frame round one patch of a picture whose axes count patches."""
    for colour, width in (("white", 5), (COLOURS["query"], 2.5)):
        axis.add_patch(plt.Rectangle((column, row), 1, 1, fill=False, edgecolor=colour, linewidth=width, zorder=3))


def show_grids(picture, grids, alt):
    """A picture under grids. `grids`: {title: (patches along one side, patch that is framed or None)}, one panel each."""
    figure, axes = plt.subplots(1, len(grids), figsize=(11, 3.9), squeeze=False, layout="compressed")
    for axis, (title, (side, index)) in zip(axes[0], grids.items()):
        axis.imshow(picture, extent=(0, side, side, 0))
        width = min(0.6, 20 / side)  # else many lines hide the picture
        for line in range(side + 1):
            axis.plot((0, side), (line, line), color=COLOURS["residual"], linewidth=width)
            axis.plot((line, line), (0, side), color=COLOURS["residual"], linewidth=width)
        if index is not None:
            frame(axis, *divmod(index, side))
        axis.set_title(title)
        axis.axis("off")
    show(figure, alt)


def show_likeness(picture, maps, index, alt):
    """A picture with one patch framed, and maps of how alike all patches' vectors are to that one's.

    `maps`: {title: cosines (rows, columns)}, all drawn on one scale.
    """
    figure, axes = plt.subplots(1, 1 + len(maps), figsize=(11, 9.6 / (1 + len(maps)) + 0.6), layout="compressed")
    side, low = len(next(iter(maps.values()))), min(cosines.min() for cosines in maps.values())
    axes[0].imshow(picture, extent=(0, side, side, 0))
    axes[0].set_title("the scene")
    for axis, (title, cosines) in zip(axes[1:], maps.items()):
        drawn = axis.imshow(cosines, cmap="cividis", vmin=low, vmax=1, extent=(0, side, side, 0), interpolation="nearest")
        axis.set_title(title)
    for axis in axes:
        frame(axis, *divmod(index, side))
        axis.axis("off")
    figure.colorbar(drawn, ax=axes, label="cosine similarity to the framed patch", shrink=0.85, aspect=25)
    show(figure, alt, photographs=True)


def show_shares(panels, alt, total, xlabel, height=3.4, above=1.3, levels=None, marked=None):
    """Counts out of `total`, as bars under an example. `panels`: {title: (picture, {label: count})}, the same labels in all.

    `height`, `above`: how high the bars and the examples are, in inches. `levels`: {title: x} of vertical lines.
    `marked`: the label of bars in orange.
    """
    figure, axes = plt.subplots(
        2, len(panels), figsize=(11, height + above), squeeze=False, sharey="row", height_ratios=[above, height]
    )
    for (example, below), (title, (picture, counts)) in zip(axes.T, panels.items()):
        example.imshow(picture)
        example.set_title(title)
        example.axis("off")
        below.barh(list(counts), total, color="#E6E6E0", height=0.66)
        colours = [COLOURS["query"] if label == marked else SLATE for label in counts]
        drawn = below.barh(list(counts), list(counts.values()), color=colours, height=0.66)
        below.bar_label(drawn, padding=4, fontsize=10)
        if levels:
            below.axvline(levels[title], color=COLOURS["residual"], linestyle=":", linewidth=2)
        below.set(xlim=(0, total), xlabel=xlabel)
        below.tick_params(axis="y", length=0)
    axes[1, 0].invert_yaxis()
    show(figure, alt)


def show_clouds(panels, alt, xlabel, level, columns=1):
    """Numbers as dots, a row for each group, scattered a little. `panels`: {title: {group: numbers}}, the same groups in all.

    `level`: (label, x) of a vertical line to compare with.
    """
    lines, rows = max(title.count("\n") for title in panels), -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(11, (1.1 + 0.4 * lines) * rows + 0.8), squeeze=False, sharex=True)
    for axis, (title, groups) in zip(axes.flat, panels.items()):
        for row, (numbers, marker, colour) in enumerate(zip(groups.values(), "os^", ("image", "query", "query"))):
            heights = row + 0.25 * np.sin(2.4 * np.arange(len(numbers)))  # so that few dots hide others
            axis.scatter(numbers, heights, marker=marker, color=COLOURS[colour], s=22, alpha=0.75)
        line = axis.axvline(level[1], color=COLOURS["residual"], linestyle=":", linewidth=2, label=level[0])
        axis.set_yticks(range(len(groups)), list(groups) if axis in axes[:, 0] else [""] * len(groups))
        axis.set_ylim(len(groups) - 0.5, -0.5)
        axis.set_title(title)
    for axis in axes[-1]:
        axis.set_xlabel(xlabel)
    figure.legend(handles=[line], loc="outside upper right")  # above the titles
    show(figure, alt)


def show_attempt(function, given, right, alt):
    """What an exercise's function makes of a tensor, a picture like `right`, beside what it should be; at first nothing."""
    try:
        made = function(given.clone())
    except Exception:  # the check says what went wrong
        return
    if getattr(made, "shape", None) == right.shape:
        pictures = {"what it should be": to_picture(right), "what you put together": to_picture(made)}
        show_images(pictures, alt, columns=2)


def show_spreads(panels, alt, xlabel, ylabel):
    """Curves with the spread of several draws: a dot is their mean, a bar goes from the lowest to the highest.

    `panels`: {title: {label: {x: [numbers]}}}, the same x in all, drawn at equal distances; side by side with the same axis.
    """
    styles = STYLES[:4] + STYLES[5:]  # without the second blue
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 3.6), squeeze=False, sharey=True)
    for axis, (title, curves) in zip(axes[0], panels.items()):
        ticks = list(next(iter(curves.values())))
        for index, ((label, numbers), (colour, line, shape)) in enumerate(zip(curves.items(), styles)):
            places = np.array([ticks.index(x) for x in numbers]) + 0.05 * (index - (len(curves) - 1) / 2)
            mean = np.array([np.mean(drawn) for drawn in numbers.values()])
            ends = np.abs([[min(drawn), max(drawn)] for drawn in numbers.values()] - mean[:, None]).T
            options = dict(linestyle=line, color=colour, marker=shape, markersize=5, linewidth=2, elinewidth=1.2)
            axis.errorbar(places, mean, ends, label=label, **options)
        axis.set(title=title, xlabel=xlabel, xticks=range(len(ticks)), xticklabels=ticks)
        handles, labels = axis.get_legend_handles_labels()
        last = [-np.mean(numbers[ticks[-1]]) for numbers in curves.values()]  # names stand in the order of the curves' ends
        order = np.argsort(last, kind="stable")
        places = dict(loc="center left", bbox_to_anchor=(1, 0.5))
        axis.legend([handles[i] for i in order], [labels[i] for i in order], **places)
    axes[0, 0].set_ylabel(ylabel)
    axes[0, 0].set_ylim(bottom=0)
    show(figure, alt)


def patch_of(picture, index, side):
    """One of a picture's side x side patches, counted row after row. -> PIL image"""
    step = picture.width / side
    left, top = index % side * step, index // side * step
    return picture.crop((round(left), round(top), round(left + step), round(top + step)))


def show_masks(masks, names, groups, alt):
    """Who may look at whom, coloured by what is looked at. `masks`: {title: (tokens, tokens), True where row sees column}.

    `names`: of the tokens; `groups`: {label: (colour of COLOURS, how many tokens)}, in the tokens' order.
    """
    figure, axes = plt.subplots(1, len(masks), figsize=(11, 11.6 / len(masks) + 0.9), sharey=True, layout="compressed")
    colours = [to_rgb(COLOURS[colour]) for colour, number in groups.values() for _ in range(number)]
    for axis, (title, mask) in zip(axes, masks.items()):
        axis.imshow(np.where(np.asarray(mask)[..., None], np.array(colours)[None], to_rgb(CARD)))
        axis.set_xticks(np.arange(len(names)), names, rotation=90)
        axis.set_yticks(np.arange(len(names)), names)
        axis.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axis.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axis.grid(which="minor", color=CARD, linewidth=1.5)
        axis.tick_params(which="both", length=0)
        axis.spines[["top", "right"]].set_visible(True)
        axis.set_title(title)
        axis.set_xlabel("token that is looked at")
    axes[0].set_ylabel("token that looks")
    boxes = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[colour]) for colour, _ in groups.values()]
    figure.legend(boxes, groups, loc="outside upper center", ncols=len(groups))
    figure.get_layout_engine().set(w_pad=0.1)  # inches
    show(figure, alt)


def show_answers(panels, right, alt):
    """What a model calls pictures. `panels`: {title: [(picture, name)]}, a column each; `right`: each row's true name."""
    figure, axes = plt.subplots(len(right), len(panels), figsize=(11, 2.1 * len(right)), squeeze=False, layout="compressed")
    for column, (title, answers) in zip(axes.T, panels.items()):
        column[0].set_title(title)
        for axis, truth, (picture, name) in zip(column, right, answers):
            axis.imshow(picture)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set(visible=True, color="#B8B8B8")
            mark, colour = ("✓", COLOURS["image"]) if name == truth else ("✗", COLOURS["query"])
            axis.set_xlabel(f"{mark} {name}", color=colour, weight="bold")
    show(figure, alt, photographs=True)


def show_ways(pictures, counts, alt, total, title):
    """Counts out of `total`, as bars beside what was shown. `pictures`: {way: PIL image}, `counts`: {way: number}."""
    rows = len(pictures)
    figure = plt.figure(figsize=(11, 1.15 * rows + 0.7))
    grid = figure.add_gridspec(rows, 2, width_ratios=[1, 1.4])
    for row, (way, picture) in enumerate(pictures.items()):
        axis = figure.add_subplot(grid[row, 0])
        axis.imshow(np.asarray(picture))
        axis.set(xticks=[], yticks=[])
        axis.set_ylabel(textwrap.fill(way, 12), rotation=0, ha="right", va="center", fontsize=11)
        axis.spines[:].set(visible=True, color="#B8B8B8")
    axis = figure.add_subplot(grid[:, 1])
    axis.barh(range(rows), total, color="#E6E6E0", height=0.6)
    drawn = axis.barh(range(rows), [counts[way] for way in pictures], color=SLATE, height=0.6)
    axis.bar_label(drawn, padding=4, fontsize=12)
    axis.set(xlim=(0, total), xlabel=f"named right, of {total}", ylim=(rows - 0.5, -0.5), yticks=[])
    axis.set_title(title)
    show(figure, alt, photographs=True)  # a palette of 256 colours would change the pictures' own


def show_draws(panels, alt, xlabel, levels=None, control=None):
    """A dot for each draw, from the first above to the last below, and a stroke at their mean, whose number stands beside it.

    `panels`: {title: {label: [percents]}}, the same labels in all, side by side with the same axes.
    `levels`: {title: (label, x)} of a vertical line to compare with. `control`: the label of a row to compare with.
    """
    labels = list(next(iter(panels.values())))
    figure, axes = plt.subplots(1, len(panels), figsize=(11, 0.44 * len(labels) + 1.1), squeeze=False, sharex=True, sharey=True)
    for axis, (title, groups) in zip(axes[0], panels.items()):
        for row, (name, percents) in enumerate(groups.items()):
            colour = COLOURS["query" if name == control else "image"]
            axis.axhline(row, color="#E6E6E0", linewidth=14, zorder=0)
            heights = row + 0.24 * (np.arange(len(percents)) / max(1, len(percents) - 1) - 0.5)
            axis.plot(percents, heights, "o", color=colour, markersize=6, alpha=0.8)
            axis.plot(2 * [np.mean(percents)], [row - 0.36, row + 0.36], color=INK, linewidth=2)
            number = written(np.mean(percents), 0)
            axis.text(1.02, row, number, transform=axis.get_yaxis_transform(), va="center", fontsize=10)
        if title in (levels or {}):
            label, x = levels[title]
            axis.axvline(x, color=COLOURS["query"], linestyle=":", linewidth=2, label=label, zorder=1)
            axis.legend(loc="lower center", bbox_to_anchor=(0.5, -0.02))
        axis.set(xlabel=xlabel, ylim=(len(labels) + (0.4 if levels else -0.4), -0.6))
        axis.set_title(title)
        axis.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(labels)), labels)
    show(figure, alt)


def by_kind(kinds):
    """A colour for each whole number, the same for equal ones. (rows, columns) -> (rows, columns, 3)"""
    palette = np.array([to_rgb(colour) for colour in COLOURS.values()])
    return palette[np.asarray(kinds) % len(palette)]


def label_ends(axis):
    """Write each line's label at its right end, in its colour; labels that would touch are moved upwards."""
    to_axes = axis.transScale + axis.transLimits
    ends = [(*to_axes.transform((line.get_xdata()[-1], line.get_ydata()[-1])), line) for line in axis.get_lines()]
    lowest = -1
    for right, height, line in sorted(ends, key=lambda end: end[1]):
        lowest = max(height, lowest + 0.1)
        style = {"color": line.get_color(), "weight": "bold", "va": "center", "transform": axis.transAxes}
        axis.text(right + 0.01, lowest, line.get_label(), **style)


def show_stages(curves, alt, title, ylabel, seams, records=None):
    """Curves over the steps of a training, with dotted upright lines at its `seams`. `curves`: {label: (steps, numbers)}.

    `records`: {label: (steps, numbers)}, what each curve is the mean of, drawn thinly behind it. Without, each point is marked.
    """
    figure, axis = plt.subplots(figsize=(11, 3))
    for (label, (steps, numbers)), (colour, line, shape) in zip(curves.items(), STYLES):
        if records:
            axis.plot(*records[label], color=colour, linewidth=0.8, alpha=0.5)
        marker = None if records else shape
        axis.plot(steps, numbers, color=colour, linestyle=line, linewidth=2, marker=marker, markersize=4, label=label)
    for seam in seams:
        axis.axvline(seam, color=COLOURS["residual"], linestyle=":")
    axis.set(title=title, xlabel="step", ylabel=ylabel, ylim=(0, None))
    axis.legend()
    show(figure, alt)
