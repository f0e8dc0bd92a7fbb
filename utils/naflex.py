"""SigLIP 2's NaFlex tower, as notebook 12 builds it: a picture keeps its shape and gets up to a given number of patches.

Parameter names equal those of transformers' `Siglip2VisionModel`; sizes come from its `Siglip2VisionConfig`.
Tschannen et al. 2025, "SigLIP 2", arXiv 2502.14786, section 2.4; Dehghani et al. 2023, "Patch n' Pack", arXiv 2307.06304.
"""

import math

from utils.gemma import attend_masked
from utils.siglip import AttentionPoolingHead, EncoderLayer, MultiHeadAttention, merge_heads, split_heads, to_rgb

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn


def patch_grid(height, width, most, patch):
    """The largest grid of at most `most` patches, both sides at one scale. -> rows, columns"""

    def grid(scale):
        return [max(1, math.ceil(side * scale / patch)) for side in (height, width)]

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        scale = (low + high) / 2
        if math.prod(grid(scale)) <= most:
            low = scale
        else:
            high = scale
    return grid(low)


def cut(pixels, patch):
    """Cut a picture into patches, each a row of numbers: rows, columns, the colours of each place.

    (3, height, width) -> (patches, patch * patch * 3)
    """
    grid = pixels.unfold(1, patch, patch).unfold(2, patch, patch)  # 3, rows, columns, patch, patch
    return grid.permute(1, 2, 3, 4, 0).flatten(0, 1).flatten(1)


def preprocess_any(images, most, patch):
    """PIL images of any shape
    -> patches (images, most, patch * patch * 3), grids (images, 2), mask (images, most).

    Where a picture has fewer than `most` patches, zeros fill up its rows, and the mask is False.
    """
    patches, grids = torch.zeros(len(images), most, patch * patch * 3), []
    for row, image in zip(patches, images):
        rows, columns = patch_grid(image.height, image.width, most, patch)
        resized = to_rgb(image).resize((columns * patch, rows * patch), Image.Resampling.BILINEAR)
        values = ((np.asarray(resized) / 255).astype(np.float32) - 0.5) / 0.5  # in [-1, 1]
        row[: rows * columns] = cut(torch.from_numpy(values).permute(2, 0, 1), patch)
        grids.append((rows, columns))
    grids = torch.tensor(grids)
    return patches, grids, torch.arange(most) < grids.prod(dim=1, keepdim=True)


def resize_table(table, rows, columns):
    """The position table for another grid. (side * side, width) -> (rows * columns, width)"""
    side = math.isqrt(len(table))
    square = table.T.unflatten(1, (side, side))[None]  # (1, width, side, side)
    resized = F.interpolate(square, (rows, columns), mode="bilinear", antialias=True)
    return resized[0].flatten(1).T


class AnyPatchEmbedding(nn.Module):
    """Project each patch to `width` numbers, add the vector of its place in its own picture's grid.

    patches (batch, most, patch * patch * 3), grids (batch, 2) -> (batch, most, width)
    """

    def __init__(self, config):
        super().__init__()
        numbers = config.num_channels * config.patch_size**2
        self.patch_embedding = nn.Linear(numbers, config.hidden_size)
        self.position_embedding = nn.Embedding(config.num_patches, config.hidden_size)

    def forward(self, patches, grids):
        x = self.patch_embedding(patches)
        places = torch.zeros_like(x)  # what padding gets does not matter: nobody looks at it
        for place, (rows, columns) in zip(places, grids.tolist()):
            place[: rows * columns] = resize_table(self.position_embedding.weight, rows, columns)
        return x + places


class MaskedAttention(MultiHeadAttention):
    """As in notebook 04, but nobody looks at padding.

    x (batch, tokens, width), mask (batch, 1, 1, tokens): 0 at real patches, very low at padding
    """

    def forward(self, x, mask):
        queries = split_heads(self.q_proj(x), self.heads)
        keys = split_heads(self.k_proj(x), self.heads)
        values = split_heads(self.v_proj(x), self.heads)
        return self.out_proj(merge_heads(attend_masked(queries, keys, values, mask)))


class MaskedLayer(EncoderLayer):
    """As in notebook 05, with the mask for its attention."""

    def __init__(self, config):
        super().__init__(config)
        self.self_attn = MaskedAttention(config)

    def forward(self, x, mask):
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class MaskedPoolingHead(AttentionPoolingHead):
    """As in notebook 06, but the probe does not look at padding.

    x (batch, tokens, width), mask as in MaskedAttention -> (batch, width)
    """

    def forward(self, x, mask):
        heads = self.attention.num_heads
        wq, wk, wv = self.attention.in_proj_weight.chunk(3)
        bq, bk, bv = self.attention.in_proj_bias.chunk(3)
        queries = split_heads(F.linear(self.probe.expand(len(x), -1, -1), wq, bq), heads)
        keys = split_heads(F.linear(x, wk, bk), heads)
        values = split_heads(F.linear(x, wv, bv), heads)
        pooled = merge_heads(attend_masked(queries, keys, values, mask))[:, 0]  # (batch, width)
        pooled = self.attention.out_proj(pooled)
        return pooled + self.mlp(self.layernorm(pooled))


class AnyShapeTower(nn.Module):
    """SigLIP 2's NaFlex vision tower.

    patches (batch, most, patch * patch * 3), grids (batch, 2), mask (batch, most)
    -> last hidden state (batch, most, width), pooled vector (batch, width)
    """

    def __init__(self, config):
        super().__init__()
        self.embeddings = AnyPatchEmbedding(config)
        layers = [MaskedLayer(config) for _ in range(config.num_hidden_layers)]
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(layers)})
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = MaskedPoolingHead(config)

    def forward(self, patches, grids, mask):
        added = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
        added = added[:, None, None]  # (batch, 1, 1, most): for every head and query
        x = self.embeddings(patches, grids)
        for layer in self.encoder["layers"]:
            x = layer(x, added)
        x = self.post_layernorm(x)
        return x, self.head(x, added)


def flex_weights(weights):
    """A SigLIP's weights as a NaFlex model takes them: the convolution's (width, 3, patch, patch) become a linear layer's."""
    [name] = [name for name in weights if name.endswith("patch_embedding.weight")]
    return dict(weights) | {name: weights[name].permute(0, 2, 3, 1).flatten(1)}  # (width, patch * patch * 3)
