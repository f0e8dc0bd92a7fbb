"""The pictures inside notebooks. Each is shown with a sentence that says in words what it shows, which is also its alt text."""

import io

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image as DisplayedImage
from IPython.display import Markdown, display

# Okabe and Ito's colours, told apart by colour-blind readers: the same thing has the same colour in every notebook.
COLOURS = {
    "image": "#0072B2", "patch": "#E69F00", "position": "#009E73", "query": "#D55E00",
    "key": "#56B4E9", "value": "#CC79A7", "residual": "#7F7F7F",
}  # fmt: skip
CHANNELS = {"red": "#D55E00", "green": "#009E73", "blue": "#0072B2"}
matplotlib.rcParams.update(
    {
        "figure.dpi": 80,
        "figure.constrained_layout.use": True,
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def show(figure, alt, photographs=False):
    """Display a figure and, under it, the sentence `alt`. Photographs as JPEG, drawings as PNG, without software stamps."""
    data, form = io.BytesIO(), "jpeg" if photographs else "png"
    stamp = {"pil_kwargs": {"quality": 85}} if photographs else {"metadata": {"Software": None}}
    figure.savefig(data, format=form, bbox_inches="tight", **stamp)
    plt.close(figure)
    display(DisplayedImage(data.getvalue(), format=form, alt=alt), metadata={f"image/{form}": {"alt": alt}})
    display(Markdown(f"*{alt}*"))


def show_images(images, alt, columns=4, height=2.6):
    """Pictures side by side. `images`: {title: PIL image or array}; axes count pixels."""
    rows = -(-len(images) // columns)
    widths = [np.asarray(image).shape[1] for image in images.values()][:columns]
    shape = {"squeeze": False, "width_ratios": widths}
    figure, axes = plt.subplots(rows, len(widths), figsize=(11, height * rows), **shape)
    for axis in axes.flat[len(images) :]:
        axis.axis("off")
    for axis, (title, image) in zip(axes.flat, images.items()):
        pixels = np.asarray(image)
        axis.imshow(pixels, interpolation="nearest")
        axis.set_title(title, fontsize=11)
        height_px, width_px = pixels.shape[:2]
        axis.set_xticks([0, width_px - 1], [0, width_px], fontsize=8)
        axis.set_yticks([0, height_px - 1], [0, height_px], fontsize=8)
        axis.set_xlabel("column (pixels)", fontsize=9)
    for axis in axes[:, 0]:
        axis.set_ylabel("row (pixels)", fontsize=9)
    show(figure, alt, photographs=True)


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


def show_value_histograms(groups, alt):
    """How often each pixel value occurs. `groups`: {title: (1, 3, height, width) tensor}, one panel each, same axes."""
    figure, axes = plt.subplots(1, len(groups), figsize=(11, 2.8), sharey=True, sharex=True)
    for axis, (title, pixels) in zip(axes, groups.items()):
        for (name, colour), channel, style in zip(CHANNELS.items(), pixels[0], ("-", "--", ":")):
            levels = np.unique(channel)  # whole grey levels: bins of four levels each, or the counts would jump up and down
            step = 4 * np.diff(levels).min()
            edges = np.arange(levels[0] - step / 8, levels[-1] + step, step)
            axis.hist(channel.flatten(), bins=edges, histtype="step", color=colour, linestyle=style, linewidth=1.6, label=name)
        axis.axvspan(-1, 1, color="#DDDDDD", alpha=0.5, zorder=0, label="−1 to 1")
        axis.set_title(title)
        axis.set_xlabel("pixel value")
    axes[0].set_ylabel("pixels")
    axes[0].legend(frameon=False, fontsize=9)
    show(figure, alt)
