"""Image files: opened whatever is in them, or refused in one line that says why."""

import logging
import os
import re
import warnings
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import shorten

from utils.errors import LessonError

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

# Image generators write more text into a PNG than the 1 MB that Pillow reads of one entry; all of them together may have 64 MB.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
logging.getLogger("PIL").addHandler(logging.NullHandler())  # what Pillow logs of a damaged TIFF would go to stderr

# How files begin that often stand where an image should, what they are, and the way out. The first that fits counts.
NOT_IMAGES = {
    rb"\Z": "is empty; copy or download it again",
    rb"version https://git-lfs": "is only a Git LFS pointer to the image; run `git lfs pull`",
    rb"%PDF": "is a PDF, not an image; export the page that you need as PNG",
    rb".{4}ftyp(hei|hev|mif1|msf1)": "is HEIC, which Pillow does not know; export it as JPEG "
    "(an iPhone takes JPEGs after Settings > Camera > Formats > Most Compatible)",
    rb"\W*(<.*)?<(!doctype html|html)\b": "is a web page (HTML), not an image; download the image itself",
    rb"\W*(<.*)?<svg\b": "is an SVG drawing, which Pillow does not know; export it as PNG",
    rb"": "is not an image that Pillow knows; choose a PNG or JPEG file",
}


def must_be_image(image):
    """Raise a LessonError for anything but a PIL image."""
    if not isinstance(image, Image.Image):
        way = "read_image(path) or Image.fromarray(array) makes one"
        raise LessonError(f"a {type(image).__name__} is not a PIL image; {way}")


def convertible(image):
    """An opened image file -> a PIL image of a mode that `to_rgb` gets right. A LessonError if none can be right."""
    if image.mode == "La":
        return image.convert("LA")
    if image.mode == "P" and image.palette is None:  # an ICNS icon: Pillow has its palette, but not where `to_rgb` looks
        return image.convert("RGBA")
    # A PPM file states what is white, and Pillow scales that to 65535. No other file says so of 32-bit numbers. To stretch them
    # from black to white would be a guess, and would show the model another contrast in each image.
    if image.mode == "F" or image.mode == "I" and image.format != "PPM":
        raise LessonError(
            "has 32-bit pixels and does not say which number is white; scale them to 0 ... 255 in NumPy, "
            "then save Image.fromarray(pixels.astype('uint8')) as PNG"
        )
    if image.mode != "I" and not image.mode.startswith("I;16"):
        return image
    pixels, tags = np.asarray(image), getattr(image, "tag_v2", {})
    # The high byte, which is what Pillow takes of 16-bit colour. A TIFF may have 12 bits instead, and 0 for white.
    grey = pixels >> tags.get(ExifTags.Base.BitsPerSample, (16,))[0] - 8
    if grey.min() == grey.max() and pixels.min() != pixels.max():
        raise LessonError(
            f"has 16-bit pixels, all so close together ({pixels.min()} to {pixels.max()}) that 8 bits show one grey; "
            "spread them over 0 ... 65535"
        )
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:
        grey = 255 - grey
    return Image.fromarray(np.where(pixels == image.info.get("transparency"), 255, grey).astype(np.uint8))


def why_no_image(path, error):
    """Why `open_image` got `error` and no image out of a file, and the way out."""
    if isinstance(error, PermissionError):
        return f"{path} may not be read; change its permissions, or ask its owner for a copy"
    if os.path.isdir(path):
        return f"{path} is a folder; name an image file in it"
    if not os.path.isfile(path):
        return f"there is no file {path.name} in {path.parent}; check the name"
    if isinstance(error, LessonError):
        return f"{path.name} {error}"
    if isinstance(error, MemoryError):
        return f"{path.name} does not fit into memory; save a smaller copy of it"
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * Image.MAX_IMAGE_PIXELS // 10**6
        return f"{path.name} says that it has more than {limit} million pixels; save a smaller copy of it"
    if isinstance(error, UnidentifiedImageError):
        with path.open("rb") as file:
            start = file.read(1000)
        return f"{path.name} " + next(says for begins, says in NOT_IMAGES.items() if re.match(begins, start, re.S | re.I))
    reason = shorten(str(error) or type(error).__name__, 100)
    return f"Pillow cannot decode {path.name} ({reason}); it may be damaged or cut short: copy it again, or save it as PNG"


@contextmanager
def silent_stderr():
    """Drop what goes to file descriptor 2: libtiff, inside Pillow, complains there, and Python has no say in it."""
    with open(os.devnull, "wb") as nowhere:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def open_image(path, convert):
    """The first frame of an image file, upright, after `convert`. A LessonError if it holds no image, or a damaged one."""
    path = Path(path)
    try:
        if not path.is_file():  # to open a named pipe would wait for ever
            raise FileNotFoundError
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            with silent_stderr():
                image.load()
            with suppress(Exception):  # the picture is whole when only its EXIF data is damaged
                ImageOps.exif_transpose(image, in_place=True)
            return convert(convertible(image))
    except Exception as error:  # a damaged file makes Pillow's decoders raise any kind
        message = why_no_image(path, error)  # a name may hold a line break
        raise LessonError("".join(char if char.isprintable() else "?" for char in message)) from None
