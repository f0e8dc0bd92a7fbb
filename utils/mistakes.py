"""The catalogue of mistakes that people really make, each as a small variant of the right code.

Used three times: `checks.compare` names the mistake that produces a wrong tensor, the notebooks run some of them on purpose,
and the tests plant every one and watch it being caught. A stage's mistakes take the same inputs as its right code.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from utils.siglip import to_rgb

BICUBIC = Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Mistake:
    """`wrong(*inputs)` gives what the mistake gives; `sentence` completes "you get this when ..."; `source`: who makes it."""

    stage: str
    name: str
    sentence: str
    source: str
    wrong: Callable


def squash(image, size, resample=BICUBIC):
    """PIL image -> (size, size, 3) array in [0, 255]"""
    return np.asarray(to_rgb(image).resize((size, size), resample)).astype(np.float64)


def to_pixel_values(array, mean=0.5, std=0.5):
    """(height, width, 3) array in [0, 1] -> normalised (1, 3, height, width) tensor"""
    return torch.from_numpy((array - mean) / std).permute(2, 0, 1)[None].float()


def crop_centre(image, size):
    """Shortest edge to `size`, then a square from the middle: what CLIP does. -> (size, size, 3) array"""
    scale = size / min(image.size)
    wide = to_rgb(image).resize([max(size, round(side * scale)) for side in image.size], BICUBIC)
    left, top = (wide.width - size) // 2, (wide.height - size) // 2
    return np.asarray(wide.crop((left, top, left + size, top + size))).astype(np.float64)


def without_antialias(image, size):
    """torch's bicubic reads 16 pixels around each point however far it shrinks: it skips the pixels between."""
    whole = torch.from_numpy(np.asarray(to_rgb(image)) / 255.0).permute(2, 0, 1)[None].float()
    small = F.interpolate(whole, (size, size), mode="bicubic", align_corners=False).clamp(0, 1)
    return (small - 0.5) / 0.5


def without_transparency(image, size):
    """Each pixel's colour as it is stored, however transparent it is."""
    return to_pixel_values(np.asarray(image.convert("RGB").resize((size, size), BICUBIC)) / 255)


IMAGENET = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CLIP = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])

# stage "preprocessing": (PIL image, size) -> pixel values (1, 3, size, size)
PREPROCESSING = [
    Mistake(
        "preprocessing", "ImageNet mean and std", "the pixels are normalised with ImageNet's mean and std, not 0.5 and 0.5",
        "the notes that this series corrects; AviSoori1x/seemore", lambda i, s: to_pixel_values(squash(i, s) / 255, *IMAGENET),
    ),
    Mistake(
        "preprocessing", "CLIP mean and std", "the pixels are normalised with CLIP's mean and std, not 0.5 and 0.5",
        "habit from CLIP", lambda i, s: to_pixel_values(squash(i, s) / 255, *CLIP),
    ),
    Mistake(
        "preprocessing", "bilinear", "the image is resized with bilinear instead of bicubic interpolation",
        "transformers#27601, big_vision#91", lambda i, s: to_pixel_values(squash(i, s, Image.Resampling.BILINEAR) / 255),
    ),
    Mistake(
        "preprocessing", "Lanczos", "the image is resized with Lanczos instead of bicubic interpolation",
        "Pillow's usual choice for thumbnails", lambda i, s: to_pixel_values(squash(i, s, Image.Resampling.LANCZOS) / 255),
    ),
    Mistake(
        "preprocessing", "nearest", "the image is resized with the nearest pixel instead of bicubic interpolation",
        "generic", lambda i, s: to_pixel_values(squash(i, s, Image.Resampling.NEAREST) / 255),
    ),
    Mistake(
        "preprocessing", "no antialias", "the image is resized with torch's bicubic interpolation without antialias=True",
        "pytorch/vision#2950", without_antialias,
    ),
    Mistake(
        "preprocessing", "centre crop", "a square is cut from the middle; SigLIP squashes the whole image",
        "big_vision#91, habit from CLIP", lambda i, s: to_pixel_values(crop_centre(i, s) / 255),
    ),
    Mistake(
        "preprocessing", "not normalised", "the pixels stay in [0, 1]; SigLIP expects [-1, 1]",
        "huggingface/nanoVLM", lambda i, s: to_pixel_values(squash(i, s) / 255, 0.0, 1.0),
    ),
    Mistake(
        "preprocessing", "rescaled twice", "the pixels are divided by 255 twice, so that all are about -1",
        "feeding [0, 1] numbers to transformers' processor", lambda i, s: to_pixel_values(squash(i, s) / 255 / 255),
    ),
    Mistake(
        "preprocessing", "blue first", "red and blue are exchanged (BGR instead of RGB)",
        "habit from OpenCV", lambda i, s: to_pixel_values(squash(i, s)[..., ::-1] / 255),
    ),
    Mistake(
        "preprocessing", "transparency ignored", "transparent pixels show the colour stored under them; they should be white",
        "transformers before 5; convert('RGB') alone", without_transparency,
    ),
    Mistake(
        "preprocessing", "channels last", "the colour channels come last; torch wants (batch, 3, height, width)",
        "generic", lambda i, s: to_pixel_values(squash(i, s) / 255).permute(0, 2, 3, 1),
    ),
    Mistake(
        "preprocessing", "height and width exchanged", "rows and columns are exchanged, as in a mirror along the diagonal",
        "generic", lambda i, s: to_pixel_values(squash(i, s) / 255).transpose(2, 3),
    ),
    Mistake(
        "preprocessing", "no batch dimension", "the batch dimension is missing: add it with [None]",
        "generic", lambda i, s: to_pixel_values(squash(i, s) / 255)[0],
    ),
]  # fmt: skip

CATALOGUE = PREPROCESSING


def explain(stage, ours, inputs):
    """The sentence of the mistake that gives exactly `ours`, or None."""
    for mistake in CATALOGUE:
        if mistake.stage == stage:
            wrong = mistake.wrong(*inputs)
            if wrong.shape == ours.shape and (wrong - ours).abs().max() < 1e-5:
                return f"this is what you get when {mistake.sentence}"
    return None
