"""The catalogue of mistakes that people really make, each as a small variant of the right code.

Used three times: `checks.compare` names the mistake that produces a wrong tensor, the notebooks run some of them on purpose,
and the tests plant every one and watch it being caught. A stage's mistakes take the same inputs as its right code.
"""

import copy
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

from utils import gemma, measure, naflex, own, siglip, vlm
from utils.siglip import to_rgb

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

BICUBIC = Image.Resampling.BICUBIC


ATTENTION_FUNCTIONS = siglip.attention_weights, siglip.attend, siglip.split_heads, siglip.merge_heads  # blocks call them


@dataclass(frozen=True)
class Mistake:
    """`wrong(*inputs)` gives what the mistake gives; `sentence` completes "you get this when ..."; `source`: who makes it."""

    stage: str
    name: str
    sentence: str
    source: str
    wrong: Callable


class Edit:
    """A block's own code, and that of attention, with pieces replaced: `changes` are (code, what stands there instead).

    Called with a block and its inputs, it gives what the block would give with that code and the same weights.
    """

    def __init__(self, block, *changes, output=None):
        """`output`: which one to take of a block that returns several."""
        self.block, self.changes, self.output = block, changes, output

    @functools.cached_property
    def wrong_block(self):
        source = "\n".join(map(inspect.getsource, (*ATTENTION_FUNCTIONS, self.block)))
        for code, instead in self.changes:
            if source.count(code) != 1:
                raise ValueError(f"{self.block.__name__} holds {code!r} {source.count(code)} times, not once")
            source = source.replace(code, instead)
        names = dict(vars(inspect.getmodule(self.block)))
        exec(source, names)
        return names[self.block.__name__]

    @torch.no_grad()
    def __call__(self, block, *inputs):
        wrong = copy.copy(block)
        wrong.__class__ = self.wrong_block
        result = wrong.forward(*inputs)
        return result if self.output is None else result[self.output]


class ModuleEdit(Edit):
    """As an Edit, but of all that a module holds: whatever block it is called with, the block's parts have the mistake, too."""

    def __init__(self, module, *changes, output=None):
        super().__init__(None, *changes, output=output)
        self.module = module

    @functools.cached_property
    def names(self):
        """What the module would define with the mistakes in it."""
        source = inspect.getsource(self.module)
        for code, instead in self.changes:
            if source.count(code) != 1:
                raise ValueError(f"{self.module.__name__} holds {code!r} {source.count(code)} times, not once")
            source = source.replace(code, instead)
        names = {}
        exec(source, names)
        return names

    def remade(self, block):
        """A copy of a block that shares its weights and has the wrong code, in all its parts."""
        wrong = copy.copy(block)
        wrong.__class__ = self.names.get(type(block).__name__, type(block))
        wrong._modules = {name: self.remade(part) for name, part in block._modules.items()}
        return wrong

    @torch.no_grad()
    def __call__(self, block, *inputs):
        result = self.remade(block).forward(*inputs)
        return result if self.output is None else result[self.output]


GemmaEdit = functools.partial(ModuleEdit, gemma)


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
        "krswamin/vit_siglip; AviSoori1x/seemore", lambda i, s: to_pixel_values(squash(i, s) / 255, *IMAGENET),
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
        "preprocessing", "reshaped", "the axes are reshaped: that mixes pixels; permute puts axes in another order",
        "generic", lambda i, s: to_pixel_values(squash(i, s) / 255).permute(0, 2, 3, 1).reshape(1, 3, s, s),
    ),
    Mistake(
        "preprocessing", "no batch dimension", "the batch dimension is missing: add it with [None]",
        "generic", lambda i, s: to_pixel_values(squash(i, s) / 255)[0],
    ),
]  # fmt: skip


# stage "bytes": (pixel values (1, 3, rows, columns),) -> (rows, columns, 3) of whole numbers
def as_bytes(pixels, order=(1, 2, 0)):
    return ((pixels[0].permute(order) * 0.5 + 0.5) * 255).round().to(torch.uint8)


BYTES = [
    Mistake("bytes", name, sentence, "generic", wrong)
    for name, sentence, wrong in [
        ("cut off", "the digits are cut off, so 55.99 becomes 55: round first",
         lambda x: ((x[0].permute(1, 2, 0) * 0.5 + 0.5) * 255).to(torch.uint8)),
        ("still normalised", "the normalisation isn't undone: [-1, 1] is multiplied by 255",
         lambda x: (x[0].permute(1, 2, 0) * 255).round().to(torch.uint8)),
        ("mean first", "the mean is added before the std is multiplied: undo the last step first",
         lambda x: ((x[0].permute(1, 2, 0) + 0.5) * 0.5 * 255).round().to(torch.uint8)),
        ("mean subtracted", "the mean is subtracted once more: undoing adds it",
         lambda x: ((x[0].permute(1, 2, 0) - 0.5) * 0.5 * 255).round().to(torch.uint8)),
        ("channels first", "the channels still come first: move them to the end",
         lambda x: as_bytes(x, (0, 1, 2))),
        ("batch kept", "the batch axis is still there: take picture 0",
         lambda x: as_bytes(x)[None]),
        ("both kept", "batch and channels stand where they were: take picture 0 and move its channels to the end",
         lambda x: as_bytes(x, (0, 1, 2))[None]),
        ("mirrored", "rows and columns are exchanged, as in a mirror along the diagonal",
         lambda x: as_bytes(x, (2, 1, 0))),
        ("reshaped", "the axes are reshaped: that mixes pixels; permute puts axes in another order",
         lambda x: as_bytes(x, (0, 1, 2)).reshape(*x.shape[2:], 3)),
    ]
]  # fmt: skip


# stage "preprocessing with torch": (PIL image, size) -> pixel values (1, 3, size, size)
def resized_by_torch(image, size, mode="bicubic", clamped=True, **options):
    """-> (1, 3, size, size) in [0, 1], or a little beyond"""
    values = torch.from_numpy(np.array(to_rgb(image))).permute(2, 0, 1)[None] / 255
    small = F.interpolate(values, (size, size), mode=mode, **options)
    return small.clamp(0, 1) if clamped else small


WITH_TORCH = [
    Mistake("preprocessing with torch", name, sentence, source, wrong)
    for name, sentence, source, wrong in [
        ("not clamped", "bicubic's numbers beyond black and white are not clamped",
         "generic", lambda i, s: 2 * resized_by_torch(i, s, clamped=False, antialias=True) - 1),
        ("no antialias", "the image is resized with torch's bicubic interpolation without antialias=True",
         "pytorch/vision#2950", lambda i, s: 2 * resized_by_torch(i, s) - 1),
        ("no antialias, not clamped", "antialias=True is missing, and nothing is clamped",
         "generic", lambda i, s: 2 * resized_by_torch(i, s, clamped=False) - 1),
        ("bilinear", "the mode is bilinear, not bicubic",
         "generic", lambda i, s: 2 * resized_by_torch(i, s, "bilinear", antialias=True) - 1),
        ("bilinear, no antialias", "the mode is bilinear, not bicubic, and antialias=True is missing",
         "generic", lambda i, s: 2 * resized_by_torch(i, s, "bilinear") - 1),
        ("nearest", "no mode is given: interpolate then takes the nearest pixel",
         "generic", lambda i, s: 2 * resized_by_torch(i, s, "nearest") - 1),
        ("area", "the mode is area: a plain mean, without bicubic's weights",
         "generic", lambda i, s: 2 * resized_by_torch(i, s, "area") - 1),
        ("align corners", "align_corners=True puts the outer pixels' centres on the edge; leave it out",
         "generic", lambda i, s: 2 * resized_by_torch(i, s, align_corners=True, antialias=True) - 1),
        ("not normalised", "the pixels stay in [0, 1]; SigLIP expects [-1, 1]",
         "generic", lambda i, s: resized_by_torch(i, s, antialias=True)),
        ("channels last", "the colour channels come last; torch wants (batch, 3, height, width)",
         "generic", lambda i, s: (2 * resized_by_torch(i, s, antialias=True) - 1).permute(0, 2, 3, 1)),
        ("mirrored", "rows and columns are exchanged, as in a mirror along the diagonal",
         "generic", lambda i, s: (2 * resized_by_torch(i, s, antialias=True) - 1).transpose(2, 3)),
        ("no batch dimension", "the batch dimension is missing: add it with [None]",
         "generic", lambda i, s: (2 * resized_by_torch(i, s, antialias=True) - 1)[0]),
    ]
]  # fmt: skip


# stage "embeddings": (PatchEmbedding, pixel values) -> (batch, patches, width)
CONVOLVED, CUT, ADDED = (
    "self.patch_embedding(pixel_values)",
    "patches.flatten(2).transpose(1, 2)",
    "patches + self.position_embedding.weight",
)
EMBEDDINGS = [
    Mistake("embeddings", name, sentence, source, Edit(siglip.PatchEmbedding, (code, instead)))
    for name, sentence, source, code, instead in [
        ("no bias", "the patch embedding's bias is not added",
         "generic", CONVOLVED, "F.conv2d(pixel_values, self.patch_embedding.weight, stride=self.patch_embedding.stride)"),
        ("colours last in a patch", "each patch is flattened as (row, column, colour); the weights expect (colour, row, column)",
         "flattening as lucidrains/vit-pytorch does, with the weights of a convolution", CONVOLVED,
         "F.conv2d(pixel_values, self.patch_embedding.weight.flatten(1).unflatten(1, (*self.patch_embedding.kernel_size, -1))"
         ".permute(0, 3, 1, 2), self.patch_embedding.bias, self.patch_embedding.stride)"),
        ("column after column", "the patches are read column after column; the position table counts row after row",
         "generic", CUT, "patches.transpose(2, 3).flatten(2).transpose(1, 2)"),
        ("reshape", "(width, patches) is reshaped to (patches, width): that cuts the vectors to pieces; transpose exchanges axes",
         "gupta-abhay/pytorch-vit#10", CUT, "patches.reshape(len(patches), -1, patches.shape[1])"),
        ("no positions", "the position vectors are not added",
         "generic", ADDED, "patches"),
        ("positions one further", "every patch gets its neighbour's position vector, as if a class token stood in front",
         "habit from models with a class token", ADDED, "patches + self.position_embedding.weight.roll(1, 0)"),
        ("positions transposed", "the position grid's rows and columns are exchanged",
         "generic", ADDED, "patches + self.position_embedding.weight.unflatten(0, [int(patches.shape[1] ** 0.5)] * 2).transpose(0, 1).flatten(0, 1)"),
        ("positions twice", "the position vectors are added twice",
         "old checkpoints of big_vision", ADDED, "patches + 2 * self.position_embedding.weight"),
        ("patches times 5", "the patch embeddings are scaled by 5 before the position vectors are added",
         "krswamin/vit_siglip", ADDED, "5 * patches + self.position_embedding.weight"),
        ("class token", "a class token stands before the patches; SigLIP has none",
         "habit from ViT and CLIP; AviSoori1x/seemore", ADDED, "F.pad(patches + self.position_embedding.weight, (0, 0, 1, 0))"),
    ]
]  # fmt: skip


# stage "put together": (patches (patches, 3, patch, patch),) -> the picture (1, 3, size, size)
def put_together(order):
    """A function that joins patches to a picture after `permute(*order)`; (2, 0, 3, 1, 4) is right."""

    def join(patches):
        side, size = round(len(patches) ** 0.5), patches.shape[-1]
        axes = patches.reshape(side, side, 3, size, size)  # (grid row, grid column, colour, row, column)
        return axes.permute(order).reshape(1, 3, side * size, side * size)

    return join


joined = put_together((2, 0, 3, 1, 4))  # the right one
PUT_TOGETHER = [
    Mistake("put together", name, sentence, "generic", put_together(order))
    for name, sentence, order in [
        ("no permute", "the axes are joined in the order in which they stand: permute is missing", (0, 1, 2, 3, 4)),
        ("only colours first", "only the colours are moved: a row of the picture takes its pixels from one patch alone", (2, 0, 1, 3, 4)),
        ("grid exchanged", "rows and columns of the grid are exchanged: the patches are right, their places are not", (2, 1, 3, 0, 4)),
        ("patches exchanged", "rows and columns inside each patch are exchanged: each patch is mirrored along its diagonal", (2, 0, 4, 1, 3)),
        ("all exchanged", "all rows and columns are exchanged: the whole picture is mirrored along its diagonal", (2, 1, 4, 0, 3)),
        ("colours between", "the colours stay between rows and columns: they belong in front", (0, 3, 2, 1, 4)),
        ("patch before grid", "the place in the patch comes before the place in the grid; the grid is the larger step", (2, 3, 0, 4, 1)),
    ]
]  # fmt: skip


# stage "embeddings by hand": as "embeddings", with what goes wrong when unfold or axes are handled in an exercise
def unfolded_and_reshaped(block, pixel_values):
    """A matrix of `unfold` with the patches as columns is reshaped to one with the patches as rows."""
    size, batch = block.patch_embedding.kernel_size[0], len(pixel_values)
    lists = F.unfold(pixel_values, size, stride=size).reshape(batch, -1, pixel_values.shape[1] * size * size)
    vectors = lists @ block.patch_embedding.weight.flatten(1).T + block.patch_embedding.bias
    return vectors + block.position_embedding.weight


WITHOUT_BIAS = EMBEDDINGS[0].wrong.changes[0]
EMBEDDINGS_BY_HAND = [replace(mistake, stage="embeddings by hand") for mistake in EMBEDDINGS] + [
    Mistake("embeddings by hand", name, sentence, "generic", wrong)
    for name, sentence, wrong in [
        ("bare product", "neither the bias nor the position vectors are added",
         Edit(siglip.PatchEmbedding, WITHOUT_BIAS, (ADDED, "patches"))),
        ("unfold reshaped", "the matrix of unfold is reshaped: that mixes the patches' lists; transpose exchanges axes",
         unfolded_and_reshaped),
        ("wrong axes exchanged", "width and rows are exchanged before the reshape; the width must come behind rows and columns",
         Edit(siglip.PatchEmbedding, (CUT, "patches.transpose(1, 2).reshape(len(patches), -1, patches.shape[1])"))),
    ]
]  # fmt: skip

# stages "attention head": (AttentionHead, x) -> (batch, tokens, head_width), "attention": (MultiHeadAttention, x) -> shape of x
QK, SCALE, SOFTMAX = "queries @ keys.transpose(-1, -2)", "queries.shape[-1] ** -0.5", "scores.softmax(dim=-1)"
WEIGHTED = "attention_weights(queries, keys) @ values"
EITHER = [  # what goes wrong in one head goes wrong in many
    ("not scaled", "the scores are not divided by sqrt(head width)",
     "generic", (SCALE, "1")),
    ("scaled twice", "the scores are divided by sqrt(head width) twice",
     "scaling before F.scaled_dot_product_attention, which scales", (SCALE, "queries.shape[-1] ** -1")),
    ("softmax over queries", "the softmax runs over the queries (dim=-2); each query's weights must sum to one (dim=-1)",
     "nerminnuraydogan/vision-transformer#1", (SOFTMAX, "scores.softmax(dim=-2)")),
    ("no softmax", "the scores themselves are taken as weights: the softmax is missing",
     "generic", (SOFTMAX, "scores")),
    ("queries and keys exchanged", "queries and keys are exchanged",
     "generic", (QK, "keys @ queries.transpose(-1, -2)")),
    ("weights transposed", "the weights are right but transposed: a row must belong to the token that looks, not to the one looked at",
     "generic", (WEIGHTED, "attention_weights(queries, keys).transpose(-1, -2) @ values")),
    ("causal mask", "a causal mask hides the later patches; in an image every patch sees all",
     "habit from language models; AviSoori1x/seemore", (SOFTMAX, "(scores + torch.full_like(scores, -torch.inf).triu(1)).softmax(dim=-1)")),
]  # fmt: skip
ATTENTION_HEAD = [
    Mistake("attention head", name, sentence, source, Edit(siglip.AttentionHead, change))
    for name, sentence, source, change in [
        *EITHER,
        ("divided by sqrt(width)", "the scores are divided by sqrt(width) instead of sqrt(head width)",
         "generic", ("self.q_proj(x)", "(self.q_proj(x) * (self.q_proj.out_features / x.shape[-1]) ** 0.5)")),
        ("keys and values exchanged", "keys and values are exchanged",
         "transformers keeps them in the order k, v, q", ("self.k_proj(x), self.v_proj(x)", "self.v_proj(x), self.k_proj(x)")),
        ("no bias of the values", "the values are computed without their bias",
         "generic", ("self.v_proj(x)", "F.linear(x, self.v_proj.weight)")),
        ("no bias of the queries", "the queries are computed without their bias",
         "generic", ("self.q_proj(x)", "F.linear(x, self.q_proj.weight)")),
    ]
]  # fmt: skip
VIEW, MERGE = "x.view(batch, tokens, heads, width // heads).transpose(1, 2)", "x.transpose(1, 2).flatten(2)"
MIXED, PROJECTED = "mixed = attend(queries, keys, values)", "self.out_proj(merge_heads(mixed))"
ATTENTION = [
    Mistake("attention", name, sentence, source, Edit(siglip.MultiHeadAttention, *changes))
    for name, sentence, source, *changes in [
        *EITHER,
        ("divided by sqrt(width)", "the scores are divided by sqrt(width) instead of sqrt(head width)",
         "generic", (MIXED, f"queries = queries * self.heads**-0.5; {MIXED}")),
        ("divided by sqrt(heads)", "the scores are divided by sqrt(number of heads) instead of sqrt(head width)",
         "generic", (MIXED, f"queries = queries * (queries.shape[-1] / self.heads) ** 0.5; {MIXED}")),
        ("softmax over heads", "the softmax runs over the heads (dim=1); each query's weights must sum to one (dim=-1)",
         "nerminnuraydogan/vision-transformer#1", (SOFTMAX, "scores.softmax(dim=1)")),
        ("keys and values exchanged", "keys and values are exchanged",
         "transformers keeps them in the order k, v, q", ("values = split_heads(self.v_proj(x), self.heads)", "keys, values = split_heads(self.v_proj(x), self.heads), keys")),
        ("no bias of the values", "the values are computed without their bias",
         "generic", ("self.v_proj(x)", "F.linear(x, self.v_proj.weight)")),
        ("no bias of the queries", "the queries are computed without their bias",
         "generic", ("self.q_proj(x)", "F.linear(x, self.q_proj.weight)")),
        ("one wide head", "there is one head as wide as the model instead of several narrow ones",
         "generic", (VIEW, "x[:, None]"), (MERGE, "x[:, 0]")),
        ("wrong view", "(batch, tokens, width) is viewed as (batch, heads, tokens, head width) without a transpose: heads mix tokens",
         "reczoo/FuxiCTR#30", (VIEW, "x.view(batch, heads, tokens, width // heads)")),
        ("heads interleaved", "the width is split as (head width, heads): a head gets numbers from all over the width, not one block",
         "generic", (VIEW, "x.view(batch, tokens, width // heads, heads).permute(0, 3, 1, 2)")),
        ("merged without transpose", "the heads are merged without transposing them back: tokens and heads mix",
         "jsbaan/transformer-from-scratch#6", (MERGE, "x.reshape(len(x), x.shape[2], -1)")),
        ("no out_proj", "the last linear layer, out_proj, is missing",
         "generic", (PROJECTED, "merge_heads(mixed)")),
        ("no bias of out_proj", "out_proj is applied without its bias",
         "generic", (PROJECTED, "F.linear(merge_heads(mixed), self.out_proj.weight)")),
        ("out_proj transposed", "out_proj's weight is transposed: a Linear keeps (out, in), Flax keeps (in, out)",
         "loading a Flax kernel", (PROJECTED, "F.linear(merge_heads(mixed), self.out_proj.weight.T, self.out_proj.bias)")),
    ]
]  # fmt: skip


# stage "mean distance": (weights (patches, patches),) -> (patches)
def places_of(weights):
    line = torch.arange(round(len(weights) ** 0.5)).float()
    return torch.cartesian_prod(line, line)


def distances(weights, p=2):
    return torch.cdist(places_of(weights), places_of(weights), p=p)


MEAN_DISTANCE = [
    Mistake("mean distance", name, sentence, "generic", wrong)
    for name, sentence, wrong in [
        ("steps", "the distance is counted in steps along rows and columns; it is the straight line",
         lambda weights: (weights * distances(weights, 1)).sum(dim=-1)),
        ("squares", "the distances are squared", lambda weights: (weights * distances(weights) ** 2).sum(dim=-1)),
        ("not weighted", "the distances aren't weighted by the attention", lambda weights: distances(weights).mean(dim=-1)),
        ("divided again", "the products are averaged; the weights are shares already, so their sum is the mean",
         lambda weights: (weights * distances(weights)).mean(dim=-1)),
        ("over those that look", "the sum runs over the patches that look (dim=0); each row belongs to one that looks (dim=-1)",
         lambda weights: (weights * distances(weights)).sum(dim=0)),
        ("root of squares", "the squares of the distances are averaged before the root; average the distances themselves",
         lambda weights: (weights * distances(weights) ** 2).sum(dim=-1).sqrt()),
        ("to the mean place", "the distance is measured to the mean place of the look; average the distances themselves",
         lambda weights: (weights @ places_of(weights) - places_of(weights)).norm(dim=-1)),
        ("numbers subtracted", "the patches' numbers are subtracted; each patch needs its row and its column",
         lambda weights: (weights * (torch.arange(len(weights))[:, None] - torch.arange(len(weights))).abs()).sum(dim=-1)),
        ("one mean", "all patches are averaged, too; each patch keeps a distance of its own",
         lambda weights: (weights * distances(weights)).sum(dim=-1).mean()),
        ("one sum", "all patches are added up, too; each patch keeps a distance of its own",
         lambda weights: (weights * distances(weights)).sum()),
        ("matrices multiplied", "weights and distances are multiplied as matrices (@); each weight belongs to one distance (*)",
         lambda weights: weights @ distances(weights)),
    ]
]  # fmt: skip


# stage "without head": (MultiHeadAttention, x, head) -> shape of x
def silenced(block, x, part, *where):
    """The block's result with some of the parts "queries", "keys", "values" (batch, heads, tokens, head width) set to zero."""
    projections = block.q_proj, block.k_proj, block.v_proj
    parts = [siglip.split_heads(linear(x), block.heads).clone() for linear in projections]
    parts[("queries", "keys", "values").index(part)][where] = 0
    return block.out_proj(siglip.merge_heads(siglip.attend(*parts)))


def with_zeros(block, x, name, *where):
    """The block's result with some of its numbers set to zero."""
    wrong = copy.deepcopy(block).requires_grad_(False)
    wrong.get_parameter(name)[where] = 0
    return wrong(x)


def numbers_of(block, head):
    size = block.out_proj.in_features // block.heads
    return slice(head * size, (head + 1) * size)


ALL = slice(None)
WITHOUT_HEAD = [
    Mistake("without head", name, sentence, "generic", wrong)
    for name, sentence, wrong in [
        ("nothing silent", "no head is silent", lambda block, x, head: block(x)),
        ("queries silent", "the head's queries are zero; then it still hands over something, in equal shares",
         lambda block, x, head: silenced(block, x, "queries", ALL, head)),
        ("a token silent", "one token's values are zero in all heads; the heads are axis 1, the tokens axis 2",
         lambda block, x, head: silenced(block, x, "values", ALL, ALL, head)),
        ("others silent", "the other heads are silent, and this one isn't",
         lambda block, x, head: silenced(block, x, "values", ALL, [i for i in range(block.heads) if i != head])),
        ("value bias left", "the head's values keep their bias",
         lambda block, x, head: with_zeros(block, x, "v_proj.weight", numbers_of(block, head))),
        ("rows", "rows of out_proj's weight are zero; what a head hands over meets its columns",
         lambda block, x, head: with_zeros(block, x, "out_proj.weight", numbers_of(block, head))),
        ("heads interleaved", "the head's numbers are taken from all over the width, not from one block",
         lambda block, x, head: with_zeros(block, x, "out_proj.weight", ALL, slice(head, None, block.heads))),
        ("bias subtracted", "out_proj's bias is subtracted along with what the head contributes",
         lambda block, x, head: silenced(block, x, "values", ALL, head) - block.out_proj.bias),
        ("a place silent", "one place of every head's values is zero; the heads are axis 1, the places the last",
         lambda block, x, head: silenced(block, x, "values", ..., head)),
        ("a picture silent", "all values of one picture are zero; the heads are axis 1, axis 0 is the batch",
         lambda block, x, head: silenced(block, x, "values", head % len(x))),
        ("input cut", "some of the input's numbers are zero; every head reads the full vector",
         lambda block, x, head: block(x.index_fill(-1, torch.arange(x.shape[-1])[numbers_of(block, head)], 0))),
        ("output cut", "some of the block's own numbers are zero; behind out_proj every head has a say in all of them",
         lambda block, x, head: block(x).index_fill(-1, torch.arange(x.shape[-1])[numbers_of(block, head)], 0)),
        ("no out_proj", "the head is silent, but out_proj is missing",
         lambda block, x, head: siglip.merge_heads(mixed_heads(block, x).index_fill(1, torch.tensor(head), 0))),
        ("rows subtracted", "the head's result is multiplied with rows of out_proj's weight; it meets its columns",
         lambda block, x, head: block(x) - mixed_heads(block, x)[:, head] @ block.out_proj.weight[numbers_of(block, head)]),
    ]
]  # fmt: skip


# stages "mended head" and "mended attention": the same, with what goes wrong when a learner writes or mends them
EITHER_BY_HAND = [
    ("times the root", "the scores are multiplied by sqrt(head width) instead of divided by it", (SCALE, "queries.shape[-1] ** 0.5")),
    ("root of the tokens", "the scores are divided by sqrt(number of tokens) instead of sqrt(head width)",
     (SCALE, "queries.shape[-2] ** -0.5")),
    ("weights divided", "the weights are divided, not the scores: the division comes before the softmax",
     (SCALE, "1"), (WEIGHTED, f"{WEIGHTED} * queries.shape[-1] ** -0.5")),
    ("softmax over the batch", "the softmax runs over the first axis (dim=0), which is the batch; the keys are the last (dim=-1)",
     (SOFTMAX, "scores.softmax(dim=0)")),
    ("never summed", "the powers of e aren't divided by the sum of their row", (SOFTMAX, "scores.exp()")),
    ("one sum for all", "the powers of e are divided by the sum of them all; each row has a sum of its own (dim=-1)",
     (SOFTMAX, "scores.exp() / scores.exp().sum()")),
    ("keys mixed", "the keys are averaged; it is the values that a token hands over",
     (WEIGHTED, "attention_weights(queries, keys) @ keys")),
]  # fmt: skip
MENDED_HEAD = [replace(mistake, stage="mended head") for mistake in ATTENTION_HEAD] + [
    Mistake("mended head", name, sentence, "generic", Edit(siglip.AttentionHead, *changes))
    for name, sentence, *changes in [
        *EITHER_BY_HAND,
        ("only weights", "the weights are returned; the values are still to be averaged with them",
         (WEIGHTED, "attention_weights(queries, keys)")),
        ("number by number", "queries, keys and values are multiplied number by number (*); a score is a dot product (@)",
         (QK, "queries * keys"), (WEIGHTED, "attention_weights(queries, keys) * values")),
    ]
]  # fmt: skip
MENDED_ATTENTION = [replace(mistake, stage="mended attention") for mistake in ATTENTION] + [
    Mistake("mended attention", name, sentence, "generic", Edit(siglip.MultiHeadAttention, *changes))
    for name, sentence, *changes in [
        *EITHER_BY_HAND,
        ("divided by the width", "the scores are divided by the width; it is the square root of the head width",
         (MIXED, f"queries = queries * queries.shape[-1] ** -0.5 / self.heads; {MIXED}")),
    ]
]  # fmt: skip


def mixed_heads(block, x):
    """(batch, heads, tokens, head width): each head's result, before the heads are merged."""
    return siglip.attend(*(siglip.split_heads(linear(x), block.heads) for linear in (block.q_proj, block.k_proj, block.v_proj)))


# stage "merge heads": (x (batch, heads, tokens, head width),) -> (batch, tokens, width)
MERGE_HEADS = [
    Mistake("merge heads", name, sentence, "generic", wrong)
    for name, sentence, wrong in [
        ("merged without transpose", "the heads are merged without transposing them back: tokens and heads mix",
         lambda x: x.reshape(len(x), x.shape[2], -1)),
        ("only transposed", "the heads axis is in its place, behind the tokens, but not yet joined with the head width",
         lambda x: x.transpose(1, 2)),
        ("only joined", "the last two axes are joined without a transpose: they are tokens and head width, not heads and head width",
         lambda x: x.flatten(2)),
        ("heads and tokens joined", "heads and tokens are joined; it is heads and head width that belong together",
         lambda x: x.flatten(1, 2)),
        ("heads interleaved", "the heads come last, so that their numbers alternate; each head's block must stay together",
         lambda x: x.permute(0, 2, 3, 1).flatten(2)),
        ("wrong transpose", "tokens and head width are exchanged; it is heads and tokens that change places",
         lambda x: x.transpose(-1, -2).reshape(len(x), x.shape[2], -1)),
        ("joined too far", "the tokens are joined, too: flatten from axis 2 on, behind the tokens",
         lambda x: x.transpose(1, 2).flatten(1)),
        ("summed", "the heads are added up; they must lie side by side", lambda x: x.sum(dim=1)),
        ("averaged", "the heads are averaged; they must lie side by side", lambda x: x.mean(dim=1)),
        ("batch lost", "the batch axis is lost; the result is (batch, tokens, width)",
         lambda x: x.transpose(1, 2).reshape(len(x) * x.shape[2], -1)),
    ]
]  # fmt: skip


# stage "MLP": (MLP, x) -> shape of x
GELU = 'F.gelu(self.fc1(x), approximate="tanh")'
MLP = [
    Mistake("MLP", name, sentence, source, Edit(siglip.MLP, (code, instead)))
    for name, sentence, source, code, instead in [
        ("exact GELU", "the activation is the exact GELU; SigLIP was trained with its tanh form",
         "timm#2105", GELU, "F.gelu(self.fc1(x))"),
        ("QuickGELU", "the activation is CLIP's QuickGELU, x * sigmoid(1.702 x)",
         "timm#1754", GELU, "self.fc1(x) * (1.702 * self.fc1(x)).sigmoid()"),
        ("x squared in GELU", "the tanh form has x**2 where x**3 belongs",
         "generic", GELU, "0.5 * self.fc1(x) * (1 + ((2 / torch.pi) ** 0.5 * (self.fc1(x) + 0.044715 * self.fc1(x) ** 2)).tanh())"),
        ("ReLU", "the activation is ReLU instead of GELU",
         "the first Transformer", GELU, "F.relu(self.fc1(x))"),
        ("SiLU", "the activation is SiLU instead of GELU",
         "habit from Llama", GELU, "F.silu(self.fc1(x))"),
        ("no activation", "there is no activation between the linear layers, so that both together are only one",
         "generic", GELU, "self.fc1(x)"),
        ("no bias of fc1", "fc1 is applied without its bias",
         "generic", "self.fc1(x)", "F.linear(x, self.fc1.weight)"),
        ("no bias of fc2", "fc2 is applied without its bias",
         "generic", f"self.fc2({GELU})", f"F.linear({GELU}, self.fc2.weight)"),
    ]
]  # fmt: skip

# stage "layer norm": (nn.LayerNorm, x) -> shape of x
LAYER_NORM = [
    Mistake(
        "layer norm", "unbiased variance", "the squares are averaged over width - 1; LayerNorm divides by width",
        "torch's var and std do so by default",
        lambda n, x: (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + n.eps) ** 0.5 * n.weight + n.bias,
    ),
    Mistake(
        "layer norm", "eps outside the root", "eps is added to the standard deviation; it belongs to the variance, inside the root",
        "generic",
        lambda n, x: (x - x.mean(-1, True)) / (x.var(-1, correction=0, keepdim=True) ** 0.5 + n.eps) * n.weight + n.bias,
    ),
    Mistake(
        "layer norm", "torch's std plus eps", "eps is added to torch's std, which divides by width - 1; "
        "add it to the variance, which divides by width",
        "(x - x.mean()) / (x.std() + eps), the Annotated Transformer",
        lambda n, x: (x - x.mean(-1, True)) / (x.std(-1, keepdim=True) + n.eps) * n.weight + n.bias,
    ),
    Mistake(
        "layer norm", "no eps", "eps is forgotten; it counts where a token's numbers are nearly equal",
        "generic", lambda n, x: F.layer_norm(x, x.shape[-1:], n.weight, n.bias, 0.0),
    ),
    Mistake(
        "layer norm", "torch's eps", "eps is torch's usual 1e-5; SigLIP's config says 1e-6",
        "kornia#2786, candle#271", lambda n, x: F.layer_norm(x, x.shape[-1:], n.weight, n.bias, 1e-5),
    ),
    Mistake(
        "layer norm", "over the tokens", "mean and variance are taken over the tokens; LayerNorm takes each token's own",
        "habit from BatchNorm",
        lambda n, x: (x - x.mean(1, True)) / (x.var(1, correction=0, keepdim=True) + n.eps) ** 0.5 * n.weight + n.bias,
    ),
    Mistake(
        "layer norm", "no root", "the root is forgotten: the variance divides, not the size",
        "generic", lambda n, x: (x - x.mean(-1, True)) / (x.var(-1, correction=0, keepdim=True) + n.eps) * n.weight + n.bias,
    ),
    Mistake(
        "layer norm", "over everything", "mean and variance are those of the whole tensor (no dim=-1); LayerNorm takes each token's own",
        "generic", lambda n, x: (x - x.mean()) / (x.var(correction=0) + n.eps) ** 0.5 * n.weight + n.bias,
    ),
    Mistake(
        "layer norm", "no weight", "the learned weight is not applied",
        "generic", lambda n, x: F.layer_norm(x, x.shape[-1:], None, None, n.eps) + n.bias,
    ),
    Mistake(
        "layer norm", "no weight and bias", "the learned weight and bias are not applied",
        "generic", lambda n, x: F.layer_norm(x, x.shape[-1:], eps=n.eps),
    ),
    Mistake(
        "layer norm", "no bias", "the learned bias is not added",
        "generic", lambda n, x: F.layer_norm(x, x.shape[-1:], n.weight, eps=n.eps),
    ),
    Mistake(
        "layer norm", "mean not subtracted", "the mean is not subtracted: that is RMSNorm",
        "habit from Llama", lambda n, x: x / (x.square().mean(-1, True) + n.eps) ** 0.5 * n.weight + n.bias,
    ),
]  # fmt: skip

# stage "encoder layer": (EncoderLayer, x) -> shape of x
ATTEND, THINK = "x = x + self.self_attn(self.layer_norm1(x))", "return x + self.mlp(self.layer_norm2(x))"
ENCODER_LAYER = [
    Mistake("encoder layer", name, sentence, source, Edit(siglip.EncoderLayer, *changes))
    for name, sentence, source, *changes in [
        ("post-norm", "the norms stand after the additions (post-norm); SigLIP norms what each block reads (pre-norm)",
         "the first Transformer", (ATTEND, "x = self.layer_norm1(x + self.self_attn(x))"), (THINK, "return self.layer_norm2(x + self.mlp(x))")),
        ("no norm before attention", "layer_norm1 is missing",
         "generic", (ATTEND, "x = x + self.self_attn(x)")),
        ("no norm before the MLP", "layer_norm2 is missing",
         "generic", (THINK, "return x + self.mlp(x)")),
        ("layer_norm1 twice", "layer_norm1 is used before the MLP too, in place of layer_norm2",
         "generic", (THINK, "return x + self.mlp(self.layer_norm1(x))")),
        ("torch's eps", "eps is torch's usual 1e-5; SigLIP's config says 1e-6",
         "kornia#2786, candle#271", ("self.layer_norm1(x)", "F.layer_norm(x, x.shape[-1:], self.layer_norm1.weight, self.layer_norm1.bias)"),
         ("self.layer_norm2(x)", "F.layer_norm(x, x.shape[-1:], self.layer_norm2.weight, self.layer_norm2.bias)")),
        ("no residual round attention", "the input is not added back after attention",
         "generic", (ATTEND, "x = self.self_attn(self.layer_norm1(x))")),
        ("no residual round the MLP", "the input is not added back after the MLP",
         "generic", (THINK, "return self.mlp(self.layer_norm2(x))")),
        ("first input added twice", "the MLP's result is added to the layer's input, so that what attention added is lost",
         "generic", (ATTEND, "first, x = x, x + self.self_attn(self.layer_norm1(x))"), (THINK, "return first + self.mlp(self.layer_norm2(x))")),
        ("input lost", "the results of attention and MLP are added to each other, but not to the layer's input",
         "generic", (ATTEND, "first, x = x, x + self.self_attn(self.layer_norm1(x))"), (THINK, "return x - first + self.mlp(self.layer_norm2(x))")),
        ("input twice", "the layer's input is in the result twice: what attention left holds it already",
         "generic", (ATTEND, "first, x = x, x + self.self_attn(self.layer_norm1(x))"), (THINK, "return first + x + self.mlp(self.layer_norm2(x))")),
        ("MLP without the stream", "the MLP reads only attention's result, not the stream to which it was added",
         "generic", (ATTEND, "y = self.self_attn(self.layer_norm1(x))"), (THINK, "return x + y + self.mlp(self.layer_norm2(y))")),
        ("MLP first", "the MLP comes before attention",
         "generic", (ATTEND, "x = x + self.mlp(self.layer_norm2(x))"), (THINK, "return x + self.self_attn(self.layer_norm1(x))")),
        ("side by side", "attention and MLP both read the layer's input, side by side; SigLIP's MLP reads what attention left",
         "habit from GPT-J and ViT-22B", (ATTEND, "y = self.mlp(self.layer_norm2(x)); " + ATTEND), (THINK, "return x + y")),
    ]
]  # fmt: skip

# stage "encoder": (Encoder, x) -> shape of x
LOOP = "in self.layers:"
ENCODER = [
    Mistake("encoder", name, sentence, source, Edit(siglip.Encoder, (LOOP, instead)))
    for name, sentence, source, instead in [
        ("one layer too few", "the last layer is missing", "taking LLaVA's feature layer -2", "in self.layers[:-1]:"),
        ("one layer repeated", "the first layer is run again and again instead of all layers once",
         "[layer] * 12 makes one layer, not twelve", "in [self.layers[0]] * len(self.layers):"),
        ("backwards", "the layers are run in the opposite order", "generic", "in reversed(self.layers):"),
    ]
]  # fmt: skip


@torch.no_grad()
def swapped_and_kept(layers, x):
    right, order, similarities = nn.Sequential(*layers)(x), [*layers], []
    for i in range(len(layers) - 1):
        order[i], order[i + 1] = order[i + 1], order[i]
        similarities.append(F.cosine_similarity(nn.Sequential(*order)(x), right, dim=-1).mean())
    return torch.stack(similarities)


@torch.no_grad()
def swapped_beside_input(layers, x):
    similarities = []
    for i in range(len(layers) - 1):
        order = [*layers]
        order[i], order[i + 1] = order[i + 1], order[i]
        similarities.append(F.cosine_similarity(nn.Sequential(*order)(x), x, dim=-1).mean())
    return torch.stack(similarities)


@torch.no_grad()
def swapped_along_the_tokens(layers, x):
    right, similarities = nn.Sequential(*layers)(x), []
    for i in range(len(layers) - 1):
        order = [*layers]
        order[i], order[i + 1] = order[i + 1], order[i]
        similarities.append(F.cosine_similarity(nn.Sequential(*order)(x), right).mean())
    return torch.stack(similarities)


# stage "neighbours swapped": (layers, x) -> (layers - 1)
NEIGHBOURS_SWAPPED = [
    Mistake("neighbours swapped", "not put back", "a pair is not put back before the next one is exchanged",
            "one list for all pairs", swapped_and_kept),
    Mistake("neighbours swapped", "beside the input", "the result is compared with the layers' input x, not with the right result",
            "generic", swapped_beside_input),
    Mistake("neighbours swapped", "along the tokens", "the cosines run along the tokens; with dim=-1 they run along the width",
            "F.cosine_similarity takes dim 1 unless told", swapped_along_the_tokens),
]  # fmt: skip


@torch.no_grad()
def pool(head, x):
    return head.forward(x)


# stage "pooling head": (AttentionPoolingHead, normed x) -> (batch, width)
COUNTED, ADD_MLP = "heads = self.attention.num_heads", "pooled + self.mlp(self.layernorm(pooled))"
POOLING_HEAD = [
    Mistake("pooling head", name, sentence, source, Edit(siglip.AttentionPoolingHead, *changes))
    for name, sentence, source, *changes in [
        ("q, v, k", "in_proj is split as q, v, k; it is packed as q, k, v",
         "generic", ("wq, wk, wv", "wq, wv, wk"), ("bq, bk, bv", "bq, bv, bk")),
        ("weights as q, v, k", "in_proj's weights are split as q, v, k, but its biases as q, k, v; both are packed as q, k, v",
         "half-mended packing", ("wq, wk, wv", "wq, wv, wk")),
        ("biases as q, v, k", "in_proj's biases are split as q, v, k, but its weights as q, k, v; both are packed as q, k, v",
         "half-mended packing", ("bq, bk, bv", "bq, bv, bk")),
        ("patches as queries", "the patches ask instead of the probe, and what the first patch gathers is kept",
         "reading hidden_state[:, 0] as the first patch", ("F.linear(probe, wq, bq)", "F.linear(x, wq, bq)")),
        ("equal shares", "every patch gets an equal share; the probe gives more to some than to others",
         "global average pooling", ("merge_heads(attend(queries, keys, values))", "merge_heads(values.mean(dim=2, keepdim=True))")),
        ("one head", "the probe attends with one head as wide as the model",
         "generic", (COUNTED, "heads = 1")),
        ("norm on the patches", "layernorm is applied to the patches; it belongs before the MLP",
         "generic", (COUNTED, f"{COUNTED}; x = self.layernorm(x)"), (ADD_MLP, "pooled + self.mlp(pooled)")),
        ("probe added", "the probe is added to what it gathered; there is no residual round this attention",
         "generic", ("pooled = self.attention.out_proj(pooled)", "pooled = self.attention.out_proj(pooled) + self.probe[0]")),
        ("no norm", "layernorm is missing before the MLP",
         "generic", (ADD_MLP, "pooled + self.mlp(pooled)")),
        ("no residual round the MLP", "the gathered vector is not added back after the MLP",
         "generic", (ADD_MLP, "self.mlp(self.layernorm(pooled))")),
        ("no MLP", "the MLP is missing",
         "generic", (ADD_MLP, "pooled")),
        ("first token", "the first patch's vector is taken; SigLIP has no class token, its head asks all patches",
         "habit from ViT and CLIP", (COUNTED, f"return x[:, 0]; {COUNTED}")),
        ("mean", "the patches' mean is taken instead of the head",
         "transformers' SiglipForImageClassification", (COUNTED, f"return x.mean(1); {COUNTED}")),
    ]
]  # fmt: skip


def count_without(missing):
    """What a count of a vision tower's parameters gives that forgets as many as missing(config) says."""

    def count(config):
        with torch.device("meta"):
            return torch.tensor(measure.count_numbers(siglip.VisionTransformer(config)) - missing(config), device="cpu")

    return count


# stage "parameters": (config,) -> how many a vision tower has
PARAMETERS = [
    Mistake("parameters", name, sentence, "generic", count_without(missing))
    for name, sentence, missing in [
        ("no probe", "one vector is not counted: the head's probe, or the biases of the patch embedding", lambda c: c.hidden_size),
        ("one norm too few", "one norm is not counted: the one after the layers, or the one in the head", lambda c: 2 * c.hidden_size),
        ("no positions", "the position table is not counted", lambda c: (c.image_size // c.patch_size) ** 2 * c.hidden_size),
        ("no MLP in the head", "the MLP in the head is not counted",
         lambda c: (2 * c.hidden_size + 1) * c.intermediate_size + c.hidden_size),
    ]
]  # fmt: skip

# stage "hidden patches": (AttentionPoolingHead, x, which patches the probe may not see (patches)) -> (batch, width)
HIDDEN_PATCHES = [
    Mistake(
        "hidden patches", "vectors of zeros", "the hidden patches' vectors are set to zero; their keys are not, and still get a share",
        "generic", lambda head, x, hidden: pool(head, x.masked_fill(hidden[:, None], 0)),
    ),
    Mistake(
        "hidden patches", "shares too small", "the hidden patches' shares are set to zero, so that the others no longer add up to 1",
        "masking after the softmax", Edit(siglip.AttentionPoolingHead, ("def forward(self, x)", "def forward(self, x, hidden)"), (
            "merge_heads(attend(queries, keys, values))",
            "merge_heads(attention_weights(queries, keys).masked_fill(hidden, 0) @ values)")),
    ),
    Mistake(
        "hidden patches", "nothing hidden", "the probe sees all patches, the hidden ones too",
        "generic", lambda head, x, hidden: pool(head, x),
    ),
    Mistake(
        "hidden patches", "mask inverted", "the probe sees the hidden patches and no others",
        "True means hidden here, visible there", lambda head, x, hidden: pool(head, x[:, hidden]),
    ),
]  # fmt: skip


# stage "last hidden state": (VisionTransformer, pixel values) -> (batch, patches, width); "pooled vector": -> (batch, width)
NORMED = "self.post_layernorm(self.encoder(x))"
LAST_HIDDEN_STATE = [
    Mistake("last hidden state", name, sentence, source, Edit(siglip.VisionTransformer, (NORMED, instead), output=0))
    for name, sentence, source, instead in [
        ("no post layer norm", "the last layer norm is missing: these are the encoder's hidden states",
         "transformers#26142", "self.encoder(x)"),
        ("post layer norm twice", "the last layer norm is applied twice", "generic", "self.post_layernorm(self.post_layernorm(self.encoder(x)))"),
        ("norm after each layer", "the last layer norm is applied after each layer; it comes once, after the last", "a loop that norms",
         "nn.Sequential(*[part for layer in self.encoder.layers for part in (layer, self.post_layernorm)])(x)"),
        ("norm before each layer", "the last layer norm is applied before each layer; it comes once, after the last", "a loop that norms",
         "nn.Sequential(*[part for layer in self.encoder.layers for part in (self.post_layernorm, layer)])(x)"),
        ("norm on the embeddings", "the last layer norm is applied to the embeddings; it comes after the last layer",
         "its place confused", "self.encoder(self.post_layernorm(x))"),
        ("another norm's weights", "the last layer norm has the pooling head's weights", "a wrong key when loading", "self.head.layernorm(self.encoder(x))"),
    ]
]  # fmt: skip
# stage "normed state": the same, of a loop that the learner writes
NORMS_EVERYWHERE = "*[part for layer in self.encoder.layers for part in (layer, self.post_layernorm)], self.post_layernorm"
NORMED_STATE = [
    *[replace(mistake, stage="normed state") for mistake in LAST_HIDDEN_STATE],
    *[Mistake("normed state", name, sentence, source, Edit(siglip.VisionTransformer, (NORMED, instead), output=0))
      for name, sentence, source, instead in [
        ("norm after each layer and at the end", "the last layer norm is applied after each layer, and once more at the end; only the one at the end is right",
         "the old line left in the loop", f"nn.Sequential({NORMS_EVERYWHERE})(x)"),
        ("a layer short", "the last layer is missing; the norm itself stands where it should",
         "hidden_states[-2]", "self.post_layernorm(nn.Sequential(*self.encoder.layers[:-1])(x))"),
        ("return in the loop", "only the first layer is run: the return stands inside the loop",
         "generic", "self.post_layernorm(self.encoder.layers[0](x))"),
    ]],
]  # fmt: skip
POOLED_VECTOR = [
    Mistake(
        "pooled vector", "head without post layer norm", "the pooling head reads the encoder's hidden states; they must be normed first",
        "generic", Edit(siglip.VisionTransformer, (NORMED, "self.encoder(x)"), output=1),
    )
]  # fmt: skip

# stage "trimmed tower": (TrimmedTower, pixel values) -> (batch, patches, width)
PATCH_VECTORS = "self.encoder(self.embeddings(pixel_values))"
TRIMMED_TOWER = [
    Mistake("trimmed tower", name, sentence, source, Edit(siglip.TrimmedTower, (PATCH_VECTORS, instead)))
    for name, sentence, source, instead in [
        ("a layer short", "the last layer is missing: this is the last hidden state but one",
         "LLaVA takes that one on purpose", "nn.Sequential(*self.encoder.layers[:-1])(self.embeddings(pixel_values))"),
        ("embeddings only", "the encoder is missing: these are the embeddings, hidden state 0",
         "hidden_states[0] taken for the last one", "self.embeddings(pixel_values)"),
        ("first image only", "[0] is taken of a layer's output: it is a tensor, not a tuple, so this keeps the first image alone",
         "code written for transformers 4.52, where a layer returned a tuple", "self.encoder(self.embeddings(pixel_values))[0]"),
        ("mean", "the mean over the patches is taken; a language model wants all of them",
         "SiglipForImageClassification", "self.encoder(self.embeddings(pixel_values)).mean(dim=1)"),
        ("patches and width swapped", "patches and width change places: (batch, width, patches)",
         "generic", "self.encoder(self.embeddings(pixel_values)).transpose(1, 2)"),
    ]
]  # fmt: skip


# stage "pixel shuffle": (sequence (batch, patches, width)) -> (batch, patches / 4, 4 * width)
def squares_of(sequence, order):
    """Squares of 2 x 2 patches as tokens; `order`: how (batch, rows, 2, columns, 2, width) is permuted."""
    half = round(sequence.shape[1] ** 0.5) // 2
    return sequence.unflatten(1, (half, 2, half, 2)).permute(order).flatten(3).flatten(1, 2)


PIXEL_SHUFFLE = [
    Mistake(
        "pixel shuffle", "four in a row", "four patches in a row are joined; they should form a square of 2 x 2",
        "reshape alone", lambda sequence: sequence.unflatten(1, (-1, 4)).flatten(2),
    ),
    Mistake(
        "pixel shuffle", "column after column", "a square is read as top left, bottom left, top right, bottom right; read it row after row",
        "generic", lambda sequence: squares_of(sequence, (0, 1, 3, 4, 2, 5)),
    ),
    Mistake(
        "pixel shuffle", "numbers interleaved", "the four patches' numbers take turns in the token; one patch should follow the other",
        "F.pixel_unshuffle", lambda sequence: squares_of(sequence, (0, 1, 3, 5, 2, 4)),
    ),
    Mistake(
        "pixel shuffle", "tokens column after column", "the new tokens come column after column; they should stay in reading order",
        "generic", lambda sequence: squares_of(sequence, (0, 3, 1, 2, 4, 5)),
    ),
    Mistake(
        "pixel shuffle", "half a picture apart", "patches half a picture apart are joined; they should be neighbours",
        "view(2, half) in place of view(half, 2)", lambda sequence: (
            sequence.unflatten(1, 2 * (2, round(sequence.shape[1] ** 0.5) // 2)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)),
    ),
    Mistake(
        "pixel shuffle", "a quarter of the sequence apart", "patches a quarter of the sequence apart are joined; they should form a square of 2 x 2",
        "chunk(4, dim=1)", lambda sequence: torch.cat(sequence.chunk(4, dim=1), dim=-1),
    ),
]  # fmt: skip

# stage "text vector": (TextTransformer, ids) -> (texts, width). The last column of ids is padding.
ATTENDED = {  # MultiHeadAttention as other language models have it
    "padding hidden": Edit(
        siglip.MultiHeadAttention, (MIXED, "mixed = F.scaled_dot_product_attention(queries, keys, values, self.mask)")
    ),
    "causal mask": Edit(siglip.MultiHeadAttention, dict((name, change) for name, _, _, change in EITHER)["causal mask"]),
}


@torch.no_grad()
def with_attention(kind, text_model, ids):
    """The text vector with each layer's attention replaced by another kind."""
    changed = copy.deepcopy(text_model)
    padding = (ids == ids[:, -1:])[:, None, None]  # (texts, 1, 1, tokens)
    for layer in changed.encoder.layers:
        layer.self_attn.__class__ = ATTENDED[kind].wrong_block
        layer.self_attn.mask = torch.zeros(padding.shape).masked_fill(padding, -torch.inf)
    return changed.forward(ids)[1]


def words_and_end(ids):
    """How many tokens there are up to and including the one that ends the sentence, id 1 with both SigLIPs. -> (texts)"""
    return (ids == 1).int().argmax(dim=1) + 1


@torch.no_grad()
def with_hidden(text_model, ids):
    return text_model.forward(ids)[0]


@torch.no_grad()
def with_ids(text_model, ids):
    return text_model.forward(ids)[1]


POOLED = "self.head(x[:, -1])"
TEXT_VECTOR = [
    Mistake(
        "text vector", "padding forgotten", 'the sentences are not padded to the full length: padding="max_length" is missing',
        "mteb#1424, transformers#28578", lambda model, ids: with_ids(model, ids[:, : words_and_end(ids).max()]),
    ),
    Mistake(
        "text vector", "wrong padding", "the sentences are padded with another id, not with the tokenizer's own",
        "mtbui2010's ONNX card; CLIP's constants", lambda model, ids: with_ids(
            model, torch.where(torch.arange(ids.shape[1]) < words_and_end(ids)[:, None], ids, (ids[:, -1:] == 0).int())),
    ),
    Mistake(
        "text vector", "padding hidden", "an attention mask hides the padding; SigLIP was trained to see it",
        "open_clip#984; a SiglipTokenizer returns a mask by default", functools.partial(with_attention, "padding hidden"),
    ),
    Mistake(
        "text vector", "causal mask", "a causal mask hides the later words; SigLIP's text tower sees the whole sentence",
        "CLIP's text tower has one", functools.partial(with_attention, "causal mask"),
    ),
    Mistake(
        "text vector", "head skipped", "the last linear layer, head, is missing",
        "generic", Edit(siglip.TextTransformer, (POOLED, "x[:, -1]"), output=1),
    ),
    Mistake(
        "text vector", "first position", "the first position is pooled; SigLIP pools the last one",
        "BERT's class token", Edit(siglip.TextTransformer, (POOLED, "self.head(x[:, 0])"), output=1),
    ),
    Mistake(
        "text vector", "end of the sentence", "the position where the sentence ends is pooled; SigLIP pools the last one, padding or not",
        "CLIP pools there", Edit(siglip.TextTransformer, (POOLED, "self.head(x[range(len(x)), (input_ids != input_ids[:, -1:]).sum(dim=1)])"), output=1),
    ),
    Mistake(
        "text vector", "mean", "the mean over all positions is pooled; SigLIP pools the last one",
        "sentence embedding models", Edit(siglip.TextTransformer, (POOLED, "self.head(x.mean(dim=1))"), output=1),
    ),
]  # fmt: skip

# stage "every place": (TextTransformer, ids) -> (tokens, texts, width), vectors of length 1
EVERY_PLACE = [
    Mistake(
        "every place", "head skipped", "the last linear layer, head, is missing",
        "generic", lambda model, ids: F.normalize(with_hidden(model, ids), dim=-1).transpose(0, 1),
    ),
    Mistake(
        "every place", "not normalised", "the vectors are not brought to length 1",
        "generic", lambda model, ids: model.head(with_hidden(model, ids)).transpose(0, 1),
    ),
    Mistake(
        "every place", "texts first", "the texts come first, then the places; here it is the other way round",
        "generic", lambda model, ids: F.normalize(model.head(with_hidden(model, ids)), dim=-1),
    ),
    Mistake(
        "every place", "normalised over the places", "the vectors are normalised along the places; each is to have length 1 by itself",
        "generic", lambda model, ids: F.normalize(model.head(with_hidden(model, ids)), dim=1).transpose(0, 1),
    ),
    Mistake(
        "every place", "normalised over the texts", "the vectors are normalised along the texts; F.normalize takes the second axis unless you say dim=-1",
        "F.normalize's default is dim=1", lambda model, ids: F.normalize(model.head(with_hidden(model, ids)).transpose(0, 1)),
    ),
    Mistake(
        "every place", "normalised before the head", "the hidden states are brought to length 1, and then go through the head; it should be the other way round",
        "generic", lambda model, ids: model.head(F.normalize(with_hidden(model, ids), dim=-1)).transpose(0, 1),
    ),
    Mistake(
        "every place", "sentences cut", "the sentences are cut off behind each place; each place should see the whole sentence",
        "generic", lambda model, ids: torch.stack([
            F.normalize(with_ids(model, ids[:, : place + 1]), dim=-1) for place in range(ids.shape[1])]),
    ),
    Mistake(
        "every place", "reshaped", "reshape only renumbers what is there, text after text; transpose exchanges the axes",
        "generic", lambda model, ids: F.normalize(model.head(with_hidden(model, ids)), dim=-1).reshape(
            ids.shape[1], ids.shape[0], -1),
    ),
]  # fmt: skip

# stage "logits": (SigLIP, pixel values, ids) -> logits_per_image (images, texts)
LOGITS_LINE, UNIT = (
    "(texts @ images.T * self.logit_scale.exp() + self.logit_bias).T",
    "images / images.norm(dim=-1, keepdim=True), texts / texts.norm(dim=-1, keepdim=True)",
)
LOGITS = [
    Mistake("logits", name, sentence, source, Edit(siglip.SigLIP, (code, instead)))
    for name, sentence, source, code, instead in [
        ("scale not exponentiated", "logit_scale is used as it is stored; it is the logarithm of the scale",
         "transformers stores the logarithm", LOGITS_LINE, "(texts @ images.T * self.logit_scale + self.logit_bias).T"),
        ("no bias", "logit_bias is not added",
         "habit from CLIP, which has none", LOGITS_LINE, "(texts @ images.T * self.logit_scale.exp()).T"),
        ("bias before scale", "logit_bias is added before scaling; it comes after",
         "generic", LOGITS_LINE, "((texts @ images.T + self.logit_bias) * self.logit_scale.exp()).T"),
        ("bias subtracted", "logit_bias is subtracted; it is added",
         "the formula in the paper prints the bias with the other sign", LOGITS_LINE,
         "(texts @ images.T * self.logit_scale.exp() - self.logit_bias).T"),
        ("probabilities", "these are probabilities; the logits come before the sigmoid",
         "generic", LOGITS_LINE, "(texts @ images.T * self.logit_scale.exp() + self.logit_bias).T.sigmoid()"),
        ("not normalised", "the vectors are not brought to length 1",
         "generic", UNIT, "images, texts"),
        ("normalised over the batch", "the vectors are normalised along the batch (dim=0); each is to have length 1 by itself",
         "generic", UNIT, "images / images.norm(dim=0), texts / texts.norm(dim=0)"),
        ("transposed", "these are logits_per_text, (texts, images): transpose them",
         "generic", LOGITS_LINE, "texts @ images.T * self.logit_scale.exp() + self.logit_bias"),
    ]
]  # fmt: skip

# stage "probabilities": (logits (images, texts)) -> the same shape
PROBABILITIES = [
    Mistake(
        "probabilities", "softmax", "softmax is taken over the captions: it forces them to share one whole; SigLIP judges each pair alone, by sigmoid",
        "transformers#26522; habit from CLIP", lambda logits: logits.softmax(dim=1),
    ),
    Mistake(
        "probabilities", "softmax over images", "softmax is taken over the images; SigLIP judges each pair alone, by sigmoid",
        "habit from CLIP", lambda logits: logits.softmax(dim=0),
    ),
    Mistake(
        "probabilities", "sign of the logits", "the sign of the logits is turned round: these are the probabilities that a pair does not fit",
        "e to the power of the logit, not of minus the logit", lambda logits: (-logits).sigmoid(),
    ),
    Mistake(
        "probabilities", "softmax over all", "softmax is taken over all pairs at once; SigLIP judges each pair alone, by sigmoid",
        "habit from CLIP", lambda logits: logits.flatten().softmax(dim=0).view(logits.shape),
    ),
    Mistake(
        "probabilities", "missing brackets", "brackets are missing: 1 / 1 + x is 1 + x, and what is asked for is 1 / (1 + x)",
        "generic", lambda logits: 1 / 1 + (-logits).exp(),
    ),
    Mistake(
        "probabilities", "exponential alone", "e to the power of the logit alone says how much likelier a yes is than a no; it can be larger than 1",
        "generic", lambda logits: logits.exp(),
    ),
]  # fmt: skip

# stage "loss": (logits (images, texts), fitting pairs on the diagonal) -> scalar
LOSS = [
    Mistake(
        "loss", "mean over all pairs", "the mean over all pairs is taken; their sum is divided by the number of images",
        "generic", lambda logits: siglip.sigmoid_loss(logits) / len(logits),
    ),
    Mistake(
        "loss", "not divided", "the sum over all pairs is not divided by the number of images",
        "generic", lambda logits: siglip.sigmoid_loss(logits) * len(logits),
    ),
    Mistake(
        "loss", "labels 0 and 1", "the labels are 0 and 1; they must be -1 and 1, or pairs that do not fit are not judged",
        "generic", lambda logits: -F.logsigmoid(torch.eye(len(logits)) * logits).sum() / len(logits),
    ),
    Mistake(
        "loss", "fitting pairs only", "only the diagonal is judged; a model that says yes to everything would be perfect",
        "generic", lambda logits: -F.logsigmoid(logits.diagonal()).mean(),
    ),
    Mistake(
        "loss", "softmax", "each image picks its caption by softmax: that is half of CLIP's loss",
        "habit from CLIP", lambda logits: F.cross_entropy(logits, torch.arange(len(logits))),
    ),
    Mistake(
        "loss", "sign of the logits", "the sign of the labels is turned round: the model would learn to separate what fits",
        "the formula in the paper prints the bias with the other sign", lambda logits: siglip.sigmoid_loss(-logits),
    ),
    Mistake(
        "loss", "no minus", "the minus before the logarithm is missing: a smaller loss would mean worse answers",
        "generic", lambda logits: -siglip.sigmoid_loss(logits),
    ),
    Mistake(
        "loss", "labels 0 and 1, mean", "the labels are 0 and 1 instead of -1 and 1, and the mean over all pairs is taken",
        "two of the others at once", lambda logits: -F.logsigmoid(torch.eye(len(logits)) * logits).mean(),
    ),
]  # fmt: skip

# stage "CLIP's loss": (logits (images, texts), fitting pairs on the diagonal) -> scalar
CLIP_LOSS = [
    Mistake(
        "CLIP's loss", "images only", "each image picks its caption, but no caption its image: that is one half",
        "generic", lambda logits: F.cross_entropy(logits, torch.arange(len(logits))),
    ),
    Mistake(
        "CLIP's loss", "captions only", "each caption picks its image, but no image its caption: that is one half",
        "generic", lambda logits: F.cross_entropy(logits.T, torch.arange(len(logits))),
    ),
    Mistake(
        "CLIP's loss", "sum of both", "both halves are added up; the loss is their mean",
        "generic", lambda logits: 2 * measure.clip_loss(logits),
    ),
    Mistake(
        "CLIP's loss", "half of one", "only the second half is divided by 2: a + b / 2 is not (a + b) / 2",
        "forgetting the brackets", lambda logits: measure.clip_loss(logits)
        + F.cross_entropy(logits, torch.arange(len(logits))) / 2,
    ),
    Mistake(
        "CLIP's loss", "sum over rows", "the choices' losses are added up; cross_entropy takes their mean unless you ask for the sum",
        "reduction='sum'", lambda logits: len(logits) * measure.clip_loss(logits),
    ),
    Mistake(
        "CLIP's loss", "sigmoid", "each pair is judged alone, by sigmoid: that is SigLIP's loss",
        "generic", siglip.sigmoid_loss,
    ),
    Mistake(
        "CLIP's loss", "softmax twice", "the logits go through softmax first; cross_entropy takes them as they are",
        "habit from losses that take probabilities", lambda logits: (
            F.cross_entropy(logits.softmax(dim=1), torch.arange(len(logits)))
            + F.cross_entropy(logits.T.softmax(dim=1), torch.arange(len(logits)))
        ) / 2,
    ),
]  # fmt: skip

# stage "loss gradient": (logits (images, texts)) -> the same shape
LOSS_GRADIENT = [
    Mistake(
        "loss gradient", "not divided", "the sum is not divided by the number of images",
        "generic", lambda logits: len(logits) * torch.func.grad(siglip.sigmoid_loss)(logits),
    ),
    Mistake(
        "loss gradient", "mean over all pairs", "the sum is divided by the number of pairs; it should be that of images",
        "generic", lambda logits: torch.func.grad(siglip.sigmoid_loss)(logits) / len(logits),
    ),
    Mistake(
        "loss gradient", "no label in front", "the label in front is missing: all logits would be pushed the same way",
        "forgetting the inner derivative", lambda logits: -torch.func.grad(siglip.sigmoid_loss)(logits).abs(),
    ),
    Mistake(
        "loss gradient", "sign", "the sign is turned round: a step against it would make the loss larger",
        "forgetting the minus before the logarithm", lambda logits: -torch.func.grad(siglip.sigmoid_loss)(logits),
    ),
    Mistake(
        "loss gradient", "right answers", "each logit is pushed by the probability of the right answer, not of the wrong one",
        "taking sigmoid(x) for the derivative of its logarithm", lambda logits: -(2 * torch.eye(len(logits)) - 1) * (
            (2 * torch.eye(len(logits)) - 1) * logits).sigmoid() / len(logits),
    ),
    Mistake(
        "loss gradient", "no label inside", "the label inside the sigmoid is missing: it is sigmoid(-z * logit), not sigmoid(-logit)",
        "generic", lambda logits: -(2 * torch.eye(len(logits)) - 1) * (-logits).sigmoid() / len(logits),
    ),
    Mistake(
        "loss gradient", "no label", "both labels are missing, the one in front and the one inside the sigmoid",
        "generic", lambda logits: -(-logits).sigmoid() / len(logits),
    ),
    Mistake(
        "loss gradient", "no label and no minus in front", "the label and the minus in front are both missing",
        "generic", lambda logits: torch.func.grad(siglip.sigmoid_loss)(logits).abs(),
    ),
    Mistake(
        "loss gradient", "derivative of sigmoid", "that is the derivative of the sigmoid, not of its logarithm",
        "forgetting the logarithm", lambda logits: -(2 * torch.eye(len(logits)) - 1) * logits.sigmoid() * (-logits).sigmoid()
        / len(logits),
    ),
    Mistake(
        "loss gradient", "labels as targets", "probabilities are compared with the labels -1 and 1; their targets are 0 and 1",
        "taking the labels for targets", lambda logits: (logits.sigmoid() - (2 * torch.eye(len(logits)) - 1)) / len(logits),
    ),
    Mistake(
        "loss gradient", "softmax", "each image picks its caption by softmax: that is the gradient of half of CLIP's loss",
        "habit from classifiers", lambda logits: (logits.softmax(dim=1) - torch.eye(len(logits))) / len(logits),
    ),
    Mistake(
        "loss gradient", "bare logits", "the sigmoid takes the logits as they are; it should take -z * logit",
        "generic", lambda logits: -(2 * torch.eye(len(logits)) - 1) * logits.sigmoid() / len(logits),
    ),
]  # fmt: skip

# stage "dealt": (pictures (pictures, 3, height, width), order (patches)) -> the same shape
DEALT = [
    Mistake("dealt", name, sentence, "generic", wrong)
    for name, sentence, wrong in [
        ("the other way", "patch i goes to place order[i]; place i should get patch order[i]",
         lambda pictures, order: measure.dealt(pictures, order.argsort())),
        ("untouched", "every patch lies where it lay", lambda pictures, order: pictures),
        ("column after column", "the patches are counted column after column; they count row after row",
         lambda pictures, order: measure.dealt(pictures.mT, order).mT),
        ("patches mirrored", "rows and columns inside each patch are exchanged",
         lambda pictures, order: measure.dealt(pictures, order).unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 5)
         .reshape(pictures.shape)),
        ("reshaped", "the pictures are reshaped: that cuts them into strips, not into squares",
         lambda pictures, order: pictures.reshape(len(pictures), 3, len(order), -1)[:, :, order].reshape(pictures.shape)),
    ]
]  # fmt: skip


# stage "VLM logits": (VisionLanguageModel, pixel values, token ids, how many are prompt) -> (batch, patches + tokens, vocabulary)
SEEN, TOKENS, MERGED, PREFIX = (
    "self.post_layernorm(self.tower(pixel_values))",
    "self.language_model.embed_tokens(token_ids)",
    "[self.projector(seen), tokens]",
    "prefix_mask(seen.shape[1] + prompt, total)",
)
VLM_LOGITS = [
    Mistake("VLM logits", name, sentence, source, Edit(vlm.VisionLanguageModel, (code, instead)))
    for name, sentence, source, code, instead in [
        ("picture scaled down", "what the projector gives is divided by sqrt(width); it should be used as it is",
         "older transformers, where Gemma multiplied it again: #37117, #44432", MERGED, "[self.projector(seen) / tokens.shape[-1] ** 0.5, tokens]"),
        ("tokens not scaled", "the tokens' vectors are not multiplied by sqrt(width), as Gemma's table does",
         "reading the weights out of embed_tokens", TOKENS, "F.embedding(token_ids, self.language_model.embed_tokens.weight)"),
        ("picture scaled up", "what the projector gives is multiplied by sqrt(width), as the tokens are; it should be used as it is",
         "older transformers, where Gemma scaled all that it was given: #37117", MERGED, "[self.projector(seen) * tokens.shape[-1] ** 0.5, tokens]"),
        ("both scaled down", "picture and words are both divided by sqrt(width); both should be used as they come",
         "taking the division for a habit", MERGED, "[part / tokens.shape[-1] ** 0.5 for part in (self.projector(seen), tokens)]"),
        ("division and multiplication", "the picture is still divided by sqrt(width), and the words are multiplied by it once more",
         "mending the wrong line", MERGED, "[self.projector(seen) / tokens.shape[-1] ** 0.5, tokens * tokens.shape[-1] ** 0.5]"),
        ("tokens scaled twice", "the tokens' vectors are multiplied by sqrt(width) twice; Gemma's table does it already",
         "scaling by hand what embed_tokens has scaled", TOKENS, f"{TOKENS} * self.projector.out_features ** 0.5"),
        ("picture after the text", "the tokens come first, then the picture",
         "generic", MERGED, "[tokens, self.projector(seen)]"),
        ("causal prefix", "the mask is causal everywhere; it should let everyone in the prefix see everyone there",
         "habit from language models", PREFIX, "prefix_mask(0, total)"),
        ("prompt is causal", "only the picture is seen by everyone; the prompt should be, too",
         "generic", PREFIX, "prefix_mask(seen.shape[1], total)"),
        ("no mask", "everyone sees everything, the answer included, which is to be guessed",
         "SDPA without token_type_ids: transformers#30918", PREFIX, "prefix_mask(total, total)"),
        ("newline is causal", "the prefix ends one token early; it should end with the newline",
         "generic", PREFIX, "prefix_mask(seen.shape[1] + prompt - 1, total)"),
        ("first answer token is seen", "the prefix ends one token late: the answer's first token is seen by all",
         "generic", PREFIX, "prefix_mask(seen.shape[1] + prompt + 1, total)"),
        ("no post layer norm", "the norm after the tower is missing",
         "hidden_states[-1] taken for last_hidden_state", SEEN, "self.tower(pixel_values)"),
        ("last layer but one", "the tower's last layer is missing",
         "LLaVA's recipe", SEEN, "self.post_layernorm(nn.Sequential(*self.tower.encoder.layers[:-1])(self.tower.embeddings(pixel_values)))"),
        ("no bias in the projector", "the projector's bias is missing",
         "generic", MERGED, "[F.linear(seen, self.projector.weight), tokens]"),
        ("one vector", "the picture is one vector, the mean of the patches",
         "taking the pooled vector", MERGED, "[self.projector(seen.mean(dim=1, keepdim=True)), tokens]"),
    ]
]  # fmt: skip


@torch.no_grad()
def without_newline(model, pixel_values, token_ids, prompt):
    """The logits of a prompt without its last token."""
    return model(pixel_values, torch.cat([token_ids[:, : prompt - 1], token_ids[:, prompt:]], dim=1), prompt - 1)


VLM_LOGITS.append(
    Mistake("VLM logits", "newline dropped", "the newline that ends the prompt is missing", "generic", without_newline)
)


# stage "VLM loss": (logits, token ids, how many are prompt, id of the padding) -> scalar
VLM_LOSS = [
    Mistake(
        "VLM loss", "shifted twice", "the answer is shifted twice: each row is asked for the token after the next",
        "labels shifted by hand for a model that shifts them itself", lambda logits, ids, prompt, padding: vlm.answer_loss(
            logits[:, :-1], ids, prompt + 1, padding),
    ),
    Mistake(
        "VLM loss", "not shifted", "each row is asked for its own token, which it has been given",
        "generic", lambda logits, ids, prompt, padding: vlm.answer_loss(
            torch.cat([logits, logits[:, -1:]], dim=1), ids, prompt, padding),
    ),
    Mistake(
        "VLM loss", "prompt judged", "the prompt's tokens are judged, too; only the answer is to be learned",
        "labels = input_ids", lambda logits, ids, prompt, padding: vlm.answer_loss(logits, ids, 1, padding),
    ),
    Mistake(
        "VLM loss", "padding judged", "padding is judged, too; it must be ignored",
        "labels without -100", lambda logits, ids, prompt, padding: vlm.answer_loss(logits, ids, prompt, -100),
    ),
]  # fmt: skip


def summed(logits, ids, prompt):
    """The logarithm of an answer's probability. There is no padding: nothing is ignored."""
    return -vlm.answer_loss(logits, ids, prompt, -100) * (ids.shape[1] - prompt)


def picked(numbers, ids, prompt):
    """What the rows say of the answer's tokens, added. numbers (1, rows from the newline on, vocabulary) -> scalar"""
    return numbers.gather(2, ids[:, prompt:, None]).sum()


def answering(logits, ids, prompt):
    """The rows that predict the answer's tokens."""
    return logits[:, prompt - ids.shape[1] - 1 : -1]


# stage "VLM log probability": (logits (1, patches + tokens, vocabulary), token ids (1, tokens), how many are prompt) -> scalar
VLM_LOG_PROBABILITY = [
    Mistake(
        "VLM log probability", "end forgotten", "the end token is not counted; where the sentence stops is part of it",
        "generic", lambda logits, ids, prompt: summed(logits[:, :-1], ids[:, :-1], prompt),
    ),
    Mistake(
        "VLM log probability", "mean", "the mean over the tokens is taken; the probability of them all is a product, so logarithms are summed",
        "cross_entropy averages unless told not to", lambda logits, ids, prompt: summed(logits, ids, prompt) / (ids.shape[1] - prompt),
    ),
    Mistake(
        "VLM log probability", "first token forgotten", "the answer's first token is not counted; the row of the newline predicts it",
        "generic", lambda logits, ids, prompt: summed(logits, ids, prompt + 1),
    ),
    Mistake(
        "VLM log probability", "prompt counted", "the prompt's tokens are counted, too; they are given, not said",
        "generic", lambda logits, ids, prompt: summed(logits, ids, 1),
    ),
    Mistake(
        "VLM log probability", "not shifted", "each row is asked for its own token, which it has been given",
        "generic", lambda logits, ids, prompt: summed(torch.cat([logits, logits[:, -1:]], dim=1), ids, prompt),
    ),
    Mistake(
        "VLM log probability", "sign", "the sign is turned round: a logarithm of a probability is never above 0",
        "taking the loss", lambda logits, ids, prompt: -summed(logits, ids, prompt),
    ),
    Mistake(
        "VLM log probability", "no softmax", "the logits are summed as they are; a softmax over the vocabulary makes probabilities of them",
        "generic", lambda logits, ids, prompt: picked(answering(logits, ids, prompt), ids, prompt),
    ),
    Mistake(
        "VLM log probability", "no logarithm", "this is the probability; its logarithm is asked for",
        "generic", lambda logits, ids, prompt: summed(logits, ids, prompt).exp(),
    ),
    Mistake(
        "VLM log probability", "patches forgotten", "the rows are counted from the text's beginning; the patches come before it",
        "generic", lambda logits, ids, prompt: picked(logits[:, prompt - 1 : ids.shape[1] - 1].log_softmax(dim=-1), ids, prompt),
    ),
    Mistake(
        "VLM log probability", "mean loss", "the mean loss is returned; the sum of the logarithms is asked for, which is never above 0",
        "taking answer_loss as it is", lambda logits, ids, prompt: vlm.answer_loss(logits, ids, prompt, -100),
    ),
    Mistake(
        "VLM log probability", "sum of probabilities", "the probabilities are added; they are to be multiplied, so add their logarithms",
        "softmax for log_softmax", lambda logits, ids, prompt: picked(answering(logits, ids, prompt).softmax(dim=-1), ids, prompt),
    ),
    Mistake(
        "VLM log probability", "softmax over tokens", "the softmax runs over the tokens; a probability is a share of the vocabulary",
        "dim=1", lambda logits, ids, prompt: picked(answering(logits, ids, prompt).log_softmax(dim=1), ids, prompt),
    ),
]  # fmt: skip

# stage "KV cache": (a Gemma's config, tokens) -> the bytes of its cache
KV_CACHE = [
    Mistake("KV cache", name, sentence, "generic", lambda config, tokens, share=share: share(config, cache_bytes(config, tokens)))
    for name, sentence, share in [
        ("keys alone", "keys or values are counted, not both; both are kept", lambda config, right: right // 2),
        ("numbers", "the numbers are counted, not their bytes: float32 takes four for each", lambda config, right: right // 4),
        ("one layer", "one layer is counted; each layer keeps keys and values of its own",
         lambda config, right: right // config.num_hidden_layers),
        ("one head", "one head is counted; each of the key/value heads keeps its own",
         lambda config, right: right // config.num_key_value_heads),
        ("query heads", "the query heads are counted; only the key/value heads keep something",
         lambda config, right: right * config.num_attention_heads // config.num_key_value_heads),
        ("whole width", "the text width is taken for the head's width",
         lambda config, right: right * config.hidden_size // config.head_dim),
    ]
]  # fmt: skip


def cache_bytes(config, tokens):
    """The bytes of the keys and values that a Gemma keeps of so many tokens, in float32. -> whole number, as a tensor"""
    return torch.tensor(2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * tokens * 4)


# stage "RMS norm": (RMSNorm, x) -> shape of x
def rms_norm(x, weight, eps):
    """The right one."""
    return F.rms_norm(x, weight.shape, 1 + weight, eps)


ROOT_MEAN_SQUARE, ONE_MORE = "torch.rsqrt(mean_square + self.eps)", "normed * (1 + self.weight.float())"
NORM = [  # what goes wrong in a norm goes wrong in a layer
    ("weight alone", "the numbers are multiplied by the weight; Gemma stores how far it is from 1: multiply by 1 + weight",
     "habit from Llama: transformers#29402", (ONE_MORE, "normed * self.weight.float()")),
    ("mean subtracted", "the mean is subtracted first, as in LayerNorm; RMSNorm only divides",
     "habit from LayerNorm", ("wide = x.float()", "wide = x.float() - x.float().mean(dim=-1, keepdim=True)")),
    ("root forgotten", "the vector is divided by its mean square, not by the root of it",
     "generic", (ROOT_MEAN_SQUARE, "(mean_square + self.eps).reciprocal()")),
    ("sum of squares", "the vector is divided by its length, the root of the sum of squares; the root of their mean is right",
     "F.normalize does it", ("wide.square().mean(", "wide.square().sum(")),
]  # fmt: skip
RMS_NORM = [
    Mistake("RMS norm", name, sentence, source, GemmaEdit(change))
    for name, sentence, source, change in [
        *NORM,
        ("variance of width - 1", "this is LayerNorm, and its var() divides by width - 1; RMSNorm subtracts no mean",
         "habit from LayerNorm", ("normed = wide", "mean_square = wide.var(dim=-1, keepdim=True); normed = (wide - wide.mean(dim=-1, keepdim=True))")),
        ("standard deviation", "this is LayerNorm: the mean is subtracted and std() divides; RMSNorm subtracts no mean",
         "habit from LayerNorm", (f"wide * {ROOT_MEAN_SQUARE}", "(wide - wide.mean(dim=-1, keepdim=True)) / (wide.std(dim=-1, keepdim=True) + self.eps)")),
        ("only the numerator centred", "the size is right, but the mean is subtracted before the division; RMSNorm only divides",
         "habit from LayerNorm", ("normed = wide", "normed = (wide - wide.mean(dim=-1, keepdim=True))")),
        ("eps outside the root", "eps is added to the root; it belongs to the mean square, inside the root",
         "generic", (ROOT_MEAN_SQUARE, "(mean_square.sqrt() + self.eps).reciprocal()")),
        ("no eps", "eps is forgotten",
         "generic", (ROOT_MEAN_SQUARE, "torch.rsqrt(mean_square)")),
        ("one size for all", "one mean is taken over all tokens; each token has a size of its own",
         "mean() without dim=-1", ("mean(dim=-1, keepdim=True)", "mean()")),
        ("no weight", "the weight is forgotten",
         "generic", (ONE_MORE, "normed")),
        ("weight added", "1 + weight is added; it is to be multiplied",
         "generic", (ONE_MORE, "normed + (1 + self.weight.float())")),
        ("length 1", "the vector is brought to length 1; the mean of its squares should be 1, not their sum",
         "F.normalize", (f"wide * {ROOT_MEAN_SQUARE}", "wide / wide.norm(dim=-1, keepdim=True)")),
        ("multiplied by its size", "the vector is multiplied by its size; it is to be divided by it",
         "sqrt in place of rsqrt", (ROOT_MEAN_SQUARE, "torch.sqrt(mean_square + self.eps)")),
        ("mean over the tokens", "the mean is taken over the tokens; it runs over the numbers of one token",
         "dim=1", ("mean(dim=-1, keepdim=True)", "mean(dim=-2, keepdim=True)")),
        ("square of the mean", "the mean is squared; the squares are to be averaged",
         "generic", ("wide.square().mean(dim=-1, keepdim=True)", "wide.mean(dim=-1, keepdim=True).square()")),
    ]
]  # fmt: skip

# stages "grouped queries": (GroupedQueryAttention, x, mask, positions), "Gemma layer": (GemmaLayer, x, mask, positions) -> shape of x
TURNED, LOOKED, ROTATION = (
    "turn(queries, angles), turn(keys, angles)",
    "mixed = attend_masked(queries, keys, values, mask)",
    "torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)",
)
MASKED = "(scores + mask).softmax(dim=-1)"
GROUPED = [
    ("no RoPE", "neither queries nor keys are turned: no token knows where it stands",
     "generic", (TURNED, "queries, keys")),
    ("keys not turned", "the queries are turned and the keys are not; only if both are, their distance counts",
     "generic", (TURNED, "turn(queries, angles), keys")),
    ("values turned", "the values are turned, too; only queries and keys are",
     "generic", (LOOKED, LOOKED.replace("values", "turn(values, angles)"))),
    ("turned the other way", "the sign of the sine is turned round: distances count backwards",
     "generic", (ROTATION, "torch.cat([first * cos + second * sin, second * cos - first * sin], dim=-1)")),
    ("neighbouring pairs", "neighbouring numbers are turned as a pair; the weights expect each number's pair half a head further on",
     "Llama's own weights before conversion; the order of Su et al. 2021", ("first, second = x.chunk(2, dim=-1)", "first, second = x[..., ::2], x[..., 1::2]"),
     (ROTATION, "torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)")),
    ("other theta", "theta is 1,000,000, as in Gemma 3; the config says otherwise",
     "generic", ("1 / theta **", "1 / 1e6 **")),
    ("speeds half as far", "the speeds' exponents run from 0 to 1/2; they should run to 1",
     "forgetting the step of 2", ("torch.arange(0, head_width, 2) / head_width", "torch.arange(head_width // 2) / head_width")),
    ("not scaled", "the scores are not divided by sqrt(head width)",
     "generic", ("* queries.shape[-1] ** -0.5", "")),
    ("divided by sqrt(width)", "the scores are divided by sqrt(width) instead of sqrt(head width)",
     "generic", (LOOKED, f"queries = queries * (queries.shape[-1] / x.shape[-1]) ** 0.5; {LOOKED}")),
    ("causal picture", "the mask is causal everywhere; picture and prompt should all see each other",
     "habit from language models", (LOOKED, LOOKED.replace("mask)", "torch.full(mask.shape[-2:], torch.finfo(x.dtype).min).triu(1))"))),
    ("masked after softmax", "what may not be seen is set to 0 after the softmax: the others no longer add up to 1",
     "generic", (MASKED, "scores.softmax(dim=-1) * (mask == 0)")),
]  # fmt: skip
GROUPED_QUERIES = [
    Mistake("grouped queries", name, sentence, source, GemmaEdit(*changes))
    for name, sentence, source, *changes in [
        *GROUPED,
        ("keys and values repeated as a whole", "keys and values are repeated as a whole (1, 2, 1, 2); heads side by side share them (1, 1, 2, 2)",
         "repeat in place of repeat_interleave", ("keys.repeat_interleave(times, dim=1)", "keys.repeat(1, times, 1, 1)"),
         ("values.repeat_interleave(times, dim=1)", "values.repeat(1, times, 1, 1)")),
        ("queries out of order", "the queries' heads are put in another order, to meet the repeated keys, and never put back",
         "mending the order of the keys at the other end", ("keys.repeat_interleave(times, dim=1)", "keys.repeat(1, times, 1, 1)"),
         ("values.repeat_interleave(times, dim=1)", "values.repeat(1, times, 1, 1)"),
         (LOOKED, f"queries = queries.unflatten(1, (-1, times)).transpose(1, 2).flatten(1, 2); {LOOKED}")),
        ("keys repeated as a whole", "the keys are repeated as a whole (1, 2, 1, 2), the values head by head (1, 1, 2, 2)",
         "repeat in place of repeat_interleave", ("keys.repeat_interleave(times, dim=1)", "keys.repeat(1, times, 1, 1)")),
        ("values repeated as a whole", "the values are repeated as a whole (1, 2, 1, 2), the keys head by head (1, 1, 2, 2)",
         "repeat in place of repeat_interleave", ("values.repeat_interleave(times, dim=1)", "values.repeat(1, times, 1, 1)")),
    ]
]  # fmt: skip
GATED = "gate * self.up_proj(x)"
GEMMA_LAYER = [
    Mistake("Gemma layer", name, sentence, source, GemmaEdit(*changes))
    for name, sentence, source, *changes in [
        *NORM,
        *GROUPED,
        ("SiLU", "the gate's activation is SiLU; Gemma's is the tanh form of GELU",
         "habit from Llama", ('F.gelu(self.gate_proj(x), approximate="tanh")', "F.silu(self.gate_proj(x))")),
        ("exact GELU", "the gate's activation is the exact GELU; Gemma's is its tanh form",
         "Gemma's first config said gelu: transformers#29402", (', approximate="tanh"', "")),
        ("gate and up exchanged", "gate_proj and up_proj are exchanged: the activation is put on the wrong one",
         "generic", ("F.gelu(self.gate_proj(x)", "F.gelu(self.up_proj(x)"), (GATED, "gate * self.gate_proj(x)")),
        ("no gate", "the MLP has no gate: up_proj alone, with the activation on it",
         "habit from SigLIP's MLP", (GATED, 'F.gelu(self.up_proj(x), approximate="tanh")')),
        ("gate added", "the gate is added; it is to be multiplied",
         "generic", (GATED, "gate + self.up_proj(x)")),
        ("norm behind attention", "post_attention_layernorm norms what attention returns; it belongs before the MLP",
         "its name, and Gemma 2, where a norm of this name stands there", ("x = x + self.self_attn(self.input_layernorm(x), mask, positions)",
         "x = x + self.post_attention_layernorm(self.self_attn(self.input_layernorm(x), mask, positions))"),
         ("self.mlp(self.post_attention_layernorm(x))", "self.mlp(x)")),
        ("side by side", "the MLP reads what came in; it should read what attention has added to",
         "GPT-J and PaLM do it", ("x = x + self.self_attn(self.input_layernorm(x), mask, positions)",
         "came_in = x; x = x + self.self_attn(self.input_layernorm(x), mask, positions)"),
         ("self.mlp(self.post_attention_layernorm(x))", "self.mlp(self.post_attention_layernorm(came_in))")),
    ]
]  # fmt: skip


# stage "grid angles": (patches along one side, head width, theta) -> (patches, head width / 2)
def grid_angles(side, head_width, theta):
    """RoPE with two numbers for a place: half of the pairs are turned by the row, half by the column."""
    place = torch.arange(side * side)
    halves = [gemma.rope_angles(along, head_width // 2, theta) for along in (place // side, place % side)]
    return torch.cat(halves, dim=1)


GRID_ANGLES = [
    Mistake(
        "grid angles", "columns first", "rows and columns are exchanged: the first half of the pairs belongs to the row",
        "generic", lambda side, head_width, theta: grid_angles(side, head_width, theta).roll(head_width // 4, dims=1),
    ),
    Mistake(
        "grid angles", "one number", "each patch's number is used as its place, as Gemma does; a row and a column are asked for",
        "generic", lambda side, head_width, theta: gemma.rope_angles(torch.arange(side * side), head_width, theta),
    ),
    Mistake(
        "grid angles", "speeds of the whole head", "the column's pairs go on where the row's speeds end; each half needs all speeds, from 1 on",
        "cutting rope_angles of the whole head width in two", lambda side, head_width, theta: torch.where(
            torch.arange(head_width // 2) < head_width // 4, (torch.arange(side * side) // side)[:, None],
            (torch.arange(side * side) % side)[:, None]) * gemma.rope_angles(torch.ones(1), head_width, theta),
    ),
    Mistake(
        "grid angles", "counted from 1", "rows and columns are counted from 1; here they start at 0",
        "PaliGemma counts its places from 1", lambda side, head_width, theta: (
            grid_angles(side, head_width, theta) + gemma.rope_angles(torch.ones(1), head_width // 2, theta).repeat(1, 2)),
    ),
    Mistake(
        "grid angles", "rows only", "both halves are turned by the row: the column is lost",
        "generic", lambda side, head_width, theta: grid_angles(side, head_width, theta)[:, : head_width // 4].repeat(1, 2),
    ),
    Mistake(
        "grid angles", "columns only", "both halves are turned by the column: the row is lost",
        "generic", lambda side, head_width, theta: grid_angles(side, head_width, theta)[:, head_width // 4 :].repeat(1, 2),
    ),
    Mistake(
        "grid angles", "pair by pair", "row and column take turns from pair to pair; the first half of the pairs belongs to the row",
        "stack in place of cat", lambda side, head_width, theta: (
            grid_angles(side, head_width, theta).unflatten(1, (2, -1)).transpose(1, 2).flatten(1)),
    ),
    Mistake(
        "grid angles", "fast speeds only", "both halves take the fast speeds of the whole head; each half needs slow ones, too",
        "cutting rope_angles of the whole head width in two", lambda side, head_width, theta: torch.cat(
            [gemma.rope_angles(along, head_width, theta)[:, : head_width // 4]
             for along in (torch.arange(side * side) // side, torch.arange(side * side) % side)], dim=1),
    ),
    Mistake(
        "grid angles", "numbered from 1", "the patches are numbered from 1, so that each row begins a patch too late; number them from 0",
        "PaliGemma counts its places from 1", lambda side, head_width, theta: torch.cat(
            [gemma.rope_angles(along, head_width // 2, theta)
             for along in (torch.arange(1, side * side + 1) // side, torch.arange(1, side * side + 1) % side)], dim=1),
    ),
    Mistake(
        "grid angles", "fractions of rows", "the row is a fraction: / divides, // drops the rest",
        "generic", lambda side, head_width, theta: torch.cat(
            [gemma.rope_angles(along, head_width // 2, theta)
             for along in (torch.arange(side * side) / side, torch.arange(side * side) % side)], dim=1),
    ),
]  # fmt: skip

# stage "any patches": (PIL image, most, patch) -> patches (most, patch * patch * 3)
CUT_ORDER, LARGEST = "permute(1, 2, 3, 4, 0)", "if math.prod(grid(scale)) <= most:"


def wrong_patches(change):
    edit = ModuleEdit(naflex, change)
    return lambda image, most, patch: edit.names["preprocess_any"]([image], most, patch)[0][0]


ANY_PATCHES = [
    Mistake("any patches", name, sentence, source, wrong_patches((code, instead)))
    for name, sentence, source, code, instead in [
        ("bicubic", "the picture is resized with bicubic instead of bilinear interpolation", "habit from SigLIP", "BILINEAR", "BICUBIC"),
        ("stopped early", "the search for the scale is off by one: it never fills all of the patches that it may use",
         "generic", LARGEST, LARGEST.replace("<=", "<")),
        ("width first", "height and width are exchanged: PIL's size is (width, height)", "generic",
         "patch_grid(image.height, image.width", "patch_grid(image.width, image.height"),
        ("column after column", "the patches are read column after column; they are read row after row", "generic",
         CUT_ORDER, "permute(2, 1, 3, 4, 0)"),
        ("patch turned", "height and width of each patch are exchanged", "generic", CUT_ORDER, "permute(1, 2, 4, 3, 0)"),
        ("colours first", "each patch is flattened as (colour, row, column), as a convolution has it; NaFlex puts the colours last",
         "weights of a convolution", CUT_ORDER, "permute(1, 2, 0, 3, 4)"),
        ("not normalised", "the pixels stay in [0, 1]", "generic", ".astype(np.float32) - 0.5) / 0.5", ".astype(np.float32))"),
    ]
]  # fmt: skip

# What both position tables are resized with
RESIZED = '(rows, columns), mode="bilinear", antialias=True'


# stage "mask of real": (grids (pictures, 2), most) -> (pictures, most), True at real patches
def mask_of_real(grids, most):
    return torch.arange(most) < grids.prod(dim=1, keepdim=True)


MASK_OF_REAL = [
    Mistake("mask of real", name, sentence, "generic", wrong)
    for name, sentence, wrong in [
        ("one too many", "one patch of padding is called real: places are numbered from 0, so <= lets one too many in",
         lambda grids, most: torch.arange(most) <= grids.prod(dim=1, keepdim=True)),
        ("one too few", "the last real patch is called padding", lambda grids, most: torch.arange(most) < grids.prod(dim=1, keepdim=True) - 1),
        ("sum", "rows and columns are added; a grid has rows times columns patches",
         lambda grids, most: torch.arange(most) < grids.sum(dim=1, keepdim=True)),
        ("turned round", "the mask is turned round: True is padding", lambda grids, most: ~mask_of_real(grids, most)),
        ("one mask", "all pictures get the mask of the fullest; each has its own",
         lambda grids, most: mask_of_real(grids, most).any(dim=0).expand(len(grids), -1)),
    ]
]  # fmt: skip


# stage "mean of real": (x (batch, most, width), mask (batch, most)) -> (batch, width)
def mean_of_each(x, mask):
    return torch.stack([tokens[real].mean(dim=0) for tokens, real in zip(x, mask)])


MEAN_OF_REAL = [
    Mistake("mean of real", name, sentence, "generic", wrong)
    for name, sentence, wrong in [
        ("mean of all", "the mask isn't used: padding is in the mean", lambda x, mask: x.mean(dim=1)),
        ("divided by most", "the sum is divided by `most`; it must be divided by the number of real patches",
         lambda x, mask: (x * mask[..., None]).mean(dim=1)),
        ("all in the sum", "padding is out of the count, but still in the sum",
         lambda x, mask: x.sum(dim=1) / mask.sum(dim=1, keepdim=True)),
        ("sum", "the sum isn't divided by the number of real patches", lambda x, mask: (x * mask[..., None]).sum(dim=1)),
        ("one mean", "all real patches of the batch go into one mean; each picture has its own",
         lambda x, mask: x[mask].mean(dim=0)),
        ("divided by all real", "the sum is divided by the real patches of the whole batch; each picture counts its own",
         lambda x, mask: (x * mask[..., None]).sum(dim=1) / mask.sum()),
        ("mean of padding", "the mask is turned round: this is the mean of what is not real, or nothing",
         lambda x, mask: (x * ~mask[..., None]).sum(dim=1) / (~mask).sum(dim=1, keepdim=True).clamp(min=1)),
    ]
]  # fmt: skip


# stage "packed mask": (lengths) -> (total, total), True where the row's token may look at the column's
def islands(lengths):
    return torch.block_diag(*(torch.ones(length, length) for length in lengths)).bool()


PACKED_MASK = [
    Mistake("packed mask", name, sentence, "generic", wrong)
    for name, sentence, wrong in [
        ("all", "every token may look at every other: nothing keeps the pictures apart", lambda lengths: torch.ones_like(islands(lengths))),
        ("causal", "this is a causal mask over the whole sequence: it doesn't keep the pictures apart",
         lambda lengths: torch.ones_like(islands(lengths)).tril()),
        ("causal inside", "a token looks at none after it; in its own picture it may look at all", lambda lengths: islands(lengths).tril()),
        ("from the first place", "every picture's block starts at column 0; it must start where its picture does",
         lambda lengths: torch.cat([(torch.arange(sum(lengths)) < length).expand(length, -1) for length in lengths])),
        ("turned round", "the mask is turned round: True at the other pictures' tokens", lambda lengths: ~islands(lengths)),
    ]
]  # fmt: skip

# stage "any shape": (AnyShapeTower, patches, grids, mask) -> pooled vector (batch, width)
HIDES, RESIZES = "masked_fill(~mask, ", "resize_table(self.position_embedding.weight, rows, columns)"
FILLED = f"place[: rows * columns] = {RESIZES}"
ANY_SHAPE = [
    Mistake("any shape", name, sentence, source, ModuleEdit(naflex, *changes, output=1))
    for name, sentence, source, *changes in [
        ("mask dropped", "the mask is dropped: padding is looked at like any patch", "mlx-vlm 2266", (HIDES, "masked_fill(mask & ~mask, ")),
        ("head sees padding", "the mask is forgotten in the pooling head: the probe looks at padding", "generic", ("self.head(x, added)", "self.head(x, 0 * added)")),
        ("layers see padding", "the mask is forgotten in the encoder layers; only the pooling head has it", "generic", ("layer(x, added)", "layer(x, 0 * added)")),
        ("mask turned round", "the mask is turned round: only padding is looked at", "masks that are True where one may NOT look", (HIDES, "masked_fill(mask, ")),
        ("padding in place 0", "padding is given the vector of place 0 and looked at like any patch", "transformers' filling, without its mask",
         (HIDES, "masked_fill(mask & ~mask, "), (FILLED, f"place[:] = {RESIZES}[0]; {FILLED}")),
        ("bicubic", "the position table is resized with bicubic interpolation; NaFlex takes bilinear", "ports of ViT code", (RESIZED, RESIZED.replace("bilinear", "bicubic"))),
        ("no antialias", "the position table is resized without antialias=True", "mlx-vlm 2266", (RESIZED, '(rows, columns), mode="bilinear"')),
        ("rows and columns exchanged", "rows and columns are exchanged when the position table is resized", "generic", (RESIZED, RESIZED.replace("rows, columns", "columns, rows"))),
        ("first entries", "the first entries of the position table are taken as they are; the table must be resized",
         "generic", ("return resized[0].flatten(1).T", "return table[: rows * columns]")),
        ("corners aligned", "the position table is resized with its corners aligned: align_corners=True", "generic", (RESIZED, '(rows, columns), mode="bilinear", align_corners=True')),
        ("table turned", "rows and columns of the old position table are exchanged", "generic",
         ("table.T.unflatten(1, (side, side))[None]", "table.T.unflatten(1, (side, side)).mT[None]")),
    ]
]  # fmt: skip

# stage "LoRA": (LoRA, x (..., width in)) -> (..., width out). `b` is not zero in the cases: else no mistake would show
ADDED_TO, CORRECTION = "self.linear(x) + F.linear", "F.linear(F.linear(x, self.a), self.b) * self.scale"


def with_random_b(block, x):
    torch.manual_seed(0)
    return block.linear(x) + F.linear(F.linear(x, block.a), torch.randn_like(block.b)) * block.scale


def with_dropout(block, x):
    torch.manual_seed(0)
    return block.linear(x) + F.linear(F.linear(F.dropout(x, 0.5), block.a), block.b) * block.scale


LORA = [
    Mistake("LoRA", name, sentence, source, Edit(own.LoRA, (code, instead)))
    for name, sentence, source, code, instead in [
        ("not scaled", "the correction isn't multiplied by alpha / rank",
         "generic", CORRECTION, "F.linear(F.linear(x, self.a), self.b)"),
        ("scaled twice", "the correction is multiplied by alpha / rank twice",
         "scaling the matrices before handing them to code that scales", CORRECTION, f"{CORRECTION} * self.scale"),
        ("scaled by alpha", "the correction is multiplied by alpha; it must be divided by the rank, too",
         "generic", CORRECTION, f"{CORRECTION} * len(self.a)"),
        ("correction added twice", "the correction is added twice: merged into the weights, and still running beside them",
         "merging in place and leaving the adapter on", CORRECTION, f"2 * ({CORRECTION})"),
        ("only the correction", "only the correction is returned; it must be added to what the frozen layer gives",
         "generic", ADDED_TO, "F.linear"),
        ("subtracted", "the correction is subtracted; it must be added",
         "unmerging where merging is meant", ADDED_TO, "self.linear(x) - F.linear"),
        ("no bias", "the frozen layer's bias is lost",
         "rebuilding the layer from its weight alone", "self.linear(x)", "F.linear(x, self.linear.weight)"),
        ("no correction", "the correction is not added: this is the frozen layer",
         "an adapter that was never put in, or that is switched off", f" + {CORRECTION}", ""),
        ("exchanged", "a and b are exchanged: b must come last, it is the one that starts at zero",
         "generic", CORRECTION, "F.linear(F.linear(x, self.b.T), self.a.T) * self.scale"),
    ]
] + [
    Mistake("LoRA", "random b", "b starts out random; it must start at zero, so that the first step starts from the pretrained model",
            "initialising both matrices alike", with_random_b),
    Mistake("LoRA", "dropout left on", "the dropout in front of the correction still runs: eval() is forgotten",
            "peft's lora_dropout without model.eval()", with_dropout),
]  # fmt: skip

# stage "merged weights": (LoRA,) -> the one matrix that does the same (width out, width in)
MERGED_WEIGHTS = [
    Mistake("merged weights", name, sentence, "generic", wrong)
    for name, sentence, wrong in [
        ("not scaled", "b @ a is added without alpha / rank", lambda block: block.linear.weight + block.b @ block.a),
        ("scaled twice", "b @ a is multiplied by alpha / rank twice",
         lambda block: block.linear.weight + block.b @ block.a * block.scale**2),
        ("transposed", "the product is transposed: torch keeps weights as (width out, width in)",
         lambda block: block.linear.weight + (block.b @ block.a).T * block.scale),
        ("both mistakes", "both mistakes are still there: the product is transposed, and scaled twice",
         lambda block: block.linear.weight + (block.b @ block.a).T * block.scale**2),
        ("merged twice", "the correction is added twice: this was merged before",
         lambda block: block.linear.weight + 2 * block.b @ block.a * block.scale),
        ("only the correction", "the frozen weights are missing: this is the correction alone",
         lambda block: block.b @ block.a * block.scale),
        ("no correction", "these are the frozen weights: the correction is not added", lambda block: block.linear.weight.clone()),
        ("subtracted", "the correction is subtracted; it must be added",
         lambda block: block.linear.weight - block.b @ block.a * block.scale),
    ]
]  # fmt: skip


# stage "class means": (vectors (pictures, width), labels (pictures)) -> (things, width), each of length 1
def means_of(vectors, labels, take=lambda own: own.mean(dim=0)):
    return torch.stack([take(vectors[labels == thing]) for thing in labels.unique()])


CLASS_MEANS = [
    Mistake("class means", name, sentence, "generic", wrong)
    for name, sentence, wrong in [
        ("lengths count", "the vectors are not brought to length 1 before their mean is taken: long ones count more",
         lambda vectors, labels: F.normalize(means_of(vectors, labels), dim=-1)),
        ("mean not normed", "the mean is not brought to length 1: things whose pictures agree get higher scores",
         lambda vectors, labels: means_of(F.normalize(vectors, dim=-1), labels)),
        ("nothing normed", "nothing is brought to length 1", means_of),
        ("first picture", "only the first picture of each thing is taken",
         lambda vectors, labels: F.normalize(means_of(vectors, labels, lambda own: own[0]), dim=-1)),
        ("sum", "the sum is taken and not brought to length 1: things with more pictures get higher scores",
         lambda vectors, labels: means_of(F.normalize(vectors, dim=-1), labels, lambda own: own.sum(dim=0))),
        ("normed over pictures", "the vectors are normed over the pictures (dim=0), not over the width (dim=-1)",
         lambda vectors, labels: F.normalize(means_of(F.normalize(vectors, dim=0), labels), dim=-1)),
        ("mean normed over things", "the means are normed over the things (dim=0), not over the width (dim=-1)",
         lambda vectors, labels: F.normalize(means_of(F.normalize(vectors, dim=-1), labels), dim=0)),
        ("all normed over dim 0", "vectors and means are both normed over dim=0, not over the width (dim=-1)",
         lambda vectors, labels: F.normalize(means_of(F.normalize(vectors, dim=0), labels), dim=0)),
        ("first met first", "the things stand in the order in which they first appear; row 0 must be that of label 0",
         lambda vectors, labels: own.class_means(vectors, labels)[list(dict.fromkeys(labels.tolist()))]),
    ]
]  # fmt: skip

CATALOGUE = [
    *PREPROCESSING, *BYTES, *WITH_TORCH, *EMBEDDINGS, *EMBEDDINGS_BY_HAND, *PUT_TOGETHER, *ATTENTION_HEAD, *MENDED_HEAD, *MEAN_DISTANCE, *ATTENTION, *MERGE_HEADS, *MENDED_ATTENTION, *WITHOUT_HEAD, *MLP, *LAYER_NORM, *ENCODER_LAYER, *ENCODER,
    *NEIGHBOURS_SWAPPED, *PARAMETERS,
    *POOLING_HEAD, *HIDDEN_PATCHES, *LAST_HIDDEN_STATE, *NORMED_STATE, *POOLED_VECTOR, *TRIMMED_TOWER, *PIXEL_SHUFFLE, *TEXT_VECTOR, *EVERY_PLACE,
    *LOGITS, *PROBABILITIES, *LOSS, *CLIP_LOSS, *LOSS_GRADIENT, *DEALT, *RMS_NORM, *GROUPED_QUERIES, *GEMMA_LAYER, *GRID_ANGLES,
    *ANY_PATCHES, *MASK_OF_REAL, *ANY_SHAPE, *MEAN_OF_REAL, *PACKED_MASK,
    *VLM_LOGITS, *VLM_LOSS, *VLM_LOG_PROBABILITY, *KV_CACHE,
    *LORA, *MERGED_WEIGHTS, *CLASS_MEANS,
]  # fmt: skip

# What no output can show: the numbers stay the same but for rounding. The sentence says why.
EQUIVALENT = [
    Mistake(
        "attention", "no bias of the keys", "the keys' bias adds the same number to all of a query's scores, and softmax ignores that",
        "generic", Edit(siglip.MultiHeadAttention, ("self.k_proj(x)", "F.linear(x, self.k_proj.weight)")),
    ),
    Mistake(
        "attention", "queries scaled", "dividing the queries by sqrt(head width) divides the scores by it",
        "generic", Edit(siglip.MultiHeadAttention, (f"{QK} * {SCALE}", f"(queries * {SCALE}) @ keys.transpose(-1, -2)")),
    ),
    Mistake(
        "pooling head", "no bias of the keys", "the keys' bias adds the same number to all of a head's scores, and softmax ignores that",
        "generic", Edit(siglip.AttentionPoolingHead, ("F.linear(x, wk, bk)", "F.linear(x, wk)")),
    ),
    Mistake(
        "Gemma layer", "all places further on", "only the distance of two places counts",
        "PaliGemma counts from 1", lambda layer, x, mask, positions: GemmaEdit()(layer, x, mask, positions + 9),
    ),
    Mistake(
        "VLM logits", "positions from 0", "Gemma turns queries and keys by their positions; only the distance of two positions counts",
        "PaliGemma counts from 1", Edit(vlm.VisionLanguageModel, ("torch.arange(1, total + 1)", "torch.arange(total)")),
    ),
    Mistake(
        "attention", "left in training mode", "SigLIP has no dropout, so training and evaluation mode compute the same",
        "forgetting .eval()", lambda block, x: copy.deepcopy(block).train()(x),
    ),
]  # fmt: skip


def explain(stage, ours, inputs, difference=torch.inf):
    """The sentence of the mistake that gives `ours`, which is `difference` away from what is right; or None."""
    whole = torch.bool, torch.uint8  # of which one can't be subtracted, and the other wraps around
    ours = ours.int() if ours.dtype in whole else ours
    for mistake in CATALOGUE:
        if mistake.stage == stage:
            wrong = mistake.wrong(*inputs)
            wrong = wrong.int() if wrong.dtype in whole else wrong
            # Much nearer to the mistake than to what is right: a right answer is never taken for a small mistake.
            # Large numbers may be added in another order: rounding grows with them.
            near = min(1e-5 * max(1, wrong.abs().max()), difference / 10)
            if wrong.shape == ours.shape and (wrong - ours).abs().max() <= near:
                return f"this is what you get when {mistake.sentence}"
    return None
