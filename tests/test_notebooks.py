"""What nbval does not see: the form of the stored notebooks, their code against utils/siglip.py, and the exercises."""

import ast
import base64
import builtins
import contextlib
import functools
import io
import json
import re
import symtable
import warnings
from pathlib import Path

from utils.notebooks import LESSONS, PATHS, normalise, read
from utils.pictures import four_drawings
from utils.reference import load_reference

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch

ROOT = Path(__file__).parents[1]
MACHINE_PATH = re.compile(r"/home/|/root/|/tmp/|/Users/|site-packages|ipykernel_")

# The learner, played: for each exercise, answers that are wrong and what the check must say about them.
WRONG_ANSWERS = {
    "how_many_patches": [
        ("def how_many_patches(size, patch): return size // patch", "14, not 196: 182 too few"),
        ("def how_many_patches(size, patch): return (size / patch) ** 2", "another input"),
        ("def how_many_patches(size, patch): return 196", "another input"),
    ],
    "to_bytes": [
        ("def to_bytes(p): return ((p[0] * 0.5 + 0.5) * 255).round().to(torch.uint8)", "the channels still come first"),
        (
            "def to_bytes(p): return (p[0].permute(1, 2, 0) * 255).round().clamp(0, 255).to(torch.uint8)",
            "away from the reference",
        ),
        ("def to_bytes(p): return (p[0].permute(1, 2, 0) * 0.5 + 0.5) * 255", "should be torch.uint8"),
        ("def to_bytes(p): return ((p[0].permute(1, 2, 0) * 0.5 + 0.5) * 255).to(torch.uint8)", "the digits are cut off"),
        ("def to_bytes(p): return torch.from_numpy(np.array(square))", "It is right above, but not for another input"),
    ],
    "mended": [
        ("def mended(image, size): return broken(image, size)", "rows and columns are exchanged"),
        ("def mended(image, size): return preprocess(image, size).flip(1)", "red and blue are exchanged"),
        (
            "def mended(image, size): return preprocess(image.convert('RGB'), size)",
            "It is right above, but not for another input: this is what you get when transparent pixels",
        ),
        ("def mended(i, s): return preprocess(i, s).permute(0, 2, 3, 1).reshape(1, 3, s, s)", "the axes are reshaped"),
        ("def mended(image, size): return preprocess(image, 224)", "It is right above, but not for another input: the shape"),
    ],
    "preprocess_with_torch": [
        (
            "def preprocess_with_torch(image, size):\n"
            "    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255\n"
            "    return (torch.nn.functional.interpolate(x, (size, size), mode='bicubic').clamp(0, 1) - 0.5) / 0.5",
            "without antialias=True",
        ),
        (
            "def preprocess_with_torch(image, size):\n"
            "    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255\n"
            "    return (torch.nn.functional.interpolate(x, (size, size), mode='bicubic', antialias=True) - 0.5) / 0.5",
            "It is right above, but not for another input: this is what you get when bicubic's numbers",
        ),
        (
            "def preprocess_with_torch(image, size):\n"
            "    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255\n"
            "    return (torch.nn.functional.interpolate(x, (size, size), mode='bilinear', antialias=True) - 0.5) / 0.5",
            "the mode is bilinear",
        ),
        (
            "def preprocess_with_torch(image, size):\n"
            "    x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None] / 255\n"
            "    return torch.nn.functional.interpolate(x, (size, size), mode='bicubic', antialias=True).clamp(0, 1)",
            "stay in [0, 1]",
        ),
        (
            "def preprocess_with_torch(image, size):\n"
            "    x = torch.from_numpy(np.array(image)).permute(2, 1, 0)[None] / 255\n"
            "    x = torch.nn.functional.interpolate(x, (size, size), mode='bicubic', antialias=True)\n"
            "    return (x.clamp(0, 1) - 0.5) / 0.5",
            "rows and columns are exchanged",
        ),
        ("def preprocess_with_torch(image, size): return preprocess(image, size) * 0.5 + 0.5", "away from the reference"),
    ],
    "without_convolution": [
        (
            "def without_convolution(block, x):\n"
            "    patches = F.conv2d(x, block.patch_embedding.weight, stride=block.patch_embedding.stride)\n"
            "    return patches.flatten(2).mT + block.position_embedding.weight",
            "the patch embedding's bias is not added",
        ),
        ("def without_convolution(block, x): return block.patch_embedding(x).flatten(2).mT", "vectors are not added"),
        (
            "def without_convolution(block, x):\n"
            "    lists = F.unfold(x, 16, stride=16).reshape(len(x), -1, 768)\n"
            "    vectors = lists @ block.patch_embedding.weight.flatten(1).T + block.patch_embedding.bias\n"
            "    return vectors + block.position_embedding.weight",
            "the matrix of unfold is reshaped",
        ),
        (
            "def without_convolution(block, x):\n"
            "    size = block.patch_embedding.kernel_size[0]\n"
            "    lists = F.unfold(x, size, stride=size).mT.unflatten(2, (3, -1)).mT.flatten(2)\n"
            "    vectors = lists @ block.patch_embedding.weight.flatten(1).T + block.patch_embedding.bias\n"
            "    return vectors + block.position_embedding.weight",
            "each patch is flattened as (row, column, colour)",
        ),
        (
            "def without_convolution(block, x): return reference_embeddings",
            "It is right above, but not for another input",
        ),
        (
            "def without_convolution(block, x):\n"
            "    size = block.patch_embedding.kernel_size[0]\n"
            "    vectors = F.unfold(x, size, stride=size).mT @ block.patch_embedding.weight.flatten(1).T\n"
            "    return vectors + block.position_embedding.weight",
            "the patch embedding's bias is not added",
        ),
        ("def without_convolution(block, x): return block(pixel_values)", "It is right above, but not for another input"),
    ],
    "mended_embeddings": [
        ("def mended_embeddings(block, x): return broken(block, x)", "read column after column"),
        (
            "def mended_embeddings(block, x):\n"
            "    patches = block.patch_embedding(x)\n"
            "    patches = patches.reshape(len(x), -1, patches.shape[1])\n"
            "    return patches + block.position_embedding.weight",
            "that cuts the vectors to pieces",
        ),
        ("def mended_embeddings(block, x): return reference_embeddings", "It is right above, but not for another input"),
        ("def mended_embeddings(block, x): return block.patch_embedding(x).flatten(2).transpose(1, 2)", "are not added"),
    ],
    "put_together": [
        (
            "def put_together(patches):\n"
            "    side, size = round(len(patches) ** 0.5), patches.shape[-1]\n"
            "    return patches.reshape(1, 3, side * size, side * size)",
            "permute is missing",
        ),
        (
            "def put_together(patches):\n"
            "    side, size = round(len(patches) ** 0.5), patches.shape[-1]\n"
            "    grid = patches.view(side, side, 3, size, size)\n"
            "    return grid.permute(2, 1, 3, 0, 4).reshape(1, 3, side * size, side * size)",
            "rows and columns of the grid are exchanged",
        ),
        (
            "def put_together(patches):\n"
            "    side, size = round(len(patches) ** 0.5), patches.shape[-1]\n"
            "    grid = patches.view(side, side, 3, size, size)\n"
            "    return grid.permute(2, 0, 4, 1, 3).reshape(1, 3, side * size, side * size)",
            "rows and columns inside each patch are exchanged",
        ),
        (
            "def put_together(patches):\n"
            "    side, size = round(len(patches) ** 0.5), patches.shape[-1]\n"
            "    grid = patches.view(side, side, 3, size, size)\n"
            "    return grid.permute(2, 3, 0, 4, 1).reshape(1, 3, side * size, side * size)",
            "the place in the patch comes before the place in the grid",
        ),
        (
            "def put_together(patches):\n"
            "    return F.fold(patches.flatten(1).T[None], side * patch_size, patch_size, stride=patch_size)",
            "It is right above, but not for another input",
        ),
    ],
    "from_memory": [
        ("def from_memory(q, k, v): return (q @ k.transpose(-1, -2)).softmax(-1) @ v", "not divided by sqrt(head width)"),
        (
            "def from_memory(q, k, v): return (q @ k.transpose(-1, -2) / config.hidden_size**0.5).softmax(-1) @ v",
            "divided by sqrt(width) instead of sqrt(head width)",
        ),
        (
            "def from_memory(q, k, v): return (q @ k.transpose(-1, -2) / q.shape[-1]**0.5).softmax(-2) @ v",
            "each query's weights must sum to one",
        ),
        (
            "def from_memory(q, k, v): return (q @ k.transpose(-1, -2) * q.shape[-1]**0.5).softmax(-1) @ v",
            "multiplied by sqrt(head width)",
        ),
        (
            "def from_memory(q, k, v): return (q @ k.transpose(-1, -2) / 8).softmax(-1) @ v",
            "It is right above, but not for another input",
        ),
    ],
    "mended_head": [
        (
            "def mended_head(head, x): return ((head.k_proj(x) @ head.q_proj(x).transpose(-1, -2) / 8).softmax(-1)"
            " @ head.v_proj(x))",
            "queries and keys are exchanged",
        ),
        (
            "def mended_head(head, x): return ((head.q_proj(x) @ head.v_proj(x).transpose(-1, -2) / 8).softmax(-1)"
            " @ head.k_proj(x))",
            "keys and values are exchanged",
        ),
        (  # softmax along the other axis of the exchanged scores: the right weights, transposed
            "def mended_head(head, x): return ((head.k_proj(x) @ head.q_proj(x).transpose(-1, -2) / 8).softmax(-2)"
            " @ head.v_proj(x))",
            "the weights are right but transposed",
        ),
        (
            "def mended_head(head, x): return ((head.q_proj(x) @ head.k_proj(x).transpose(-1, -2) / 8).softmax(-1)"
            " @ head.v_proj(x))",
            "It is right above, but not for another input",
        ),
    ],
    "mean_distance": [
        ("def mean_distance(w): return measure.mean_distance(w).mean()", "each patch keeps a distance of its own"),
        ("def mean_distance(w): return measure.mean_distance(w.T)", "the sum runs over the patches that look"),
        (
            "def mean_distance(w):\n"
            "    places = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()\n"
            "    return (w * torch.cdist(places, places)).sum(-1)",
            "It is right above, but not for another input",
        ),
        (
            "def mean_distance(w):\n"
            "    line = torch.arange(len(w) ** 0.5)\n"
            "    places = torch.cartesian_prod(line, line)\n"
            "    return (w * torch.cdist(places, places, p=1)).sum(-1)",
            "in steps along rows and columns",
        ),
    ],
    "join_heads": [
        ("def join_heads(x): return x.reshape(len(x), x.shape[2], -1)", "merged without transposing them back"),
        ("def join_heads(x): return x.transpose(1, 2)", "not yet joined with the head width"),
        ("def join_heads(x): return x.permute(0, 2, 3, 1).flatten(2)", "so that their numbers alternate"),
        (
            "def join_heads(x): return x.transpose(1, 2).reshape(1, -1, 192)",
            "It is right above, but not for another input",
        ),
    ],
    "mended_attention": [
        (  # the broken function itself
            "def mended_attention(block, x):\n"
            "    q, k, v = (split_heads(f(x), block.heads) for f in (block.q_proj, block.k_proj, block.v_proj))\n"
            "    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(1)\n"
            "    return block.out_proj(merge_heads(weights @ v))",
            "the softmax runs over the heads",
        ),
        (
            "def mended_attention(block, x):\n"
            "    q, k, v = (split_heads(f(x), block.heads) for f in (block.q_proj, block.k_proj, block.v_proj))\n"
            "    weights = (q @ k.transpose(-1, -2) * x.shape[-1] ** -0.5).softmax(-1)\n"
            "    return block.out_proj(merge_heads(weights @ v))",
            "divided by sqrt(width) instead of sqrt(head width)",
        ),
        (
            "def mended_attention(block, x):\n"
            "    q, k, v = (split_heads(f(x), block.heads) for f in (block.q_proj, block.k_proj, block.v_proj))\n"
            "    weights = (q @ k.transpose(-1, -2) * (block.out_proj.in_features // block.heads)**-0.5).softmax(-1)\n"
            "    return block.out_proj((weights @ v).reshape(x.shape))",
            "merged without transposing them back",
        ),
        (
            "def mended_attention(block, x):\n"
            "    q, k, v = (split_heads(f(x), block.heads) for f in (block.q_proj, block.k_proj, block.v_proj))\n"
            "    weights = (q @ k.transpose(-1, -2) / 8).softmax(-1)\n"
            "    return block.out_proj((weights @ v).transpose(1, 2).reshape(x.shape))",
            "It is right above, but not for another input",
        ),
    ],
    "without_head": [
        ("def without_head(block, x, head): return block(x)", "no head is silent"),
        (
            "def without_head(block, x, head):\n"
            "    k = merged.clone()\n"
            "    k[..., head::block.heads] = 0\n"
            "    return block.out_proj(k)",
            "from all over the width",
        ),
        (
            "def without_head(block, x, head):\n"
            "    quiet = merged.clone()\n"
            "    quiet[..., head * 64 : head * 64 + 64] = 0\n"
            "    return block.out_proj(quiet)",
            "It is right above, but not for another input",
        ),
        (
            "def without_head(block, x, head):\n"
            "    block.v_proj.weight[: (block.out_proj.in_features // block.heads)] = 0\n"
            "    block.v_proj.bias[: (block.out_proj.in_features // block.heads)] = 0\n"
            "    return block(x)",
            "It is right above, but not for another input",
        ),
        (
            "def without_head(block, x, head):\n"
            "    size = block.out_proj.in_features // block.heads\n"
            "    block.v_proj.weight[size * head : size * (head + 1)] = 0\n"
            "    return block(x)",
            "keep their bias",
        ),
    ],
    "layer_norm": [
        (
            "def layer_norm(x, weight, bias, eps):\n"
            "    return (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + eps).sqrt() * weight + bias",
            "averaged over width - 1",
        ),
        (
            "def layer_norm(x, weight, bias, eps):\n"
            "    return (x - x.mean(-1, True)) / (x.var(-1, correction=0, keepdim=True).sqrt() + eps) * weight + bias",
            "it belongs to the variance, inside the root",
        ),
        ("def layer_norm(x, weight, bias, eps): return F.layer_norm(x, x.shape[-1:], weight, bias)", "usual 1e-5"),
        (
            "def layer_norm(x, weight, bias, eps):\n"
            "    x -= x.mean(-1, True)\n"
            "    return x / x.square().mean(-1, True).sqrt() * weight + bias",
            "eps is forgotten",
        ),
        ("def layer_norm(x, weight, bias, eps): return F.layer_norm(x, x.shape[-1:], weight, eps=eps)", "bias is not added"),
        (
            "def layer_norm(x, weight, bias, eps):\n"
            "    return (x - x.mean(-1, True)) / (x.std(-1, keepdim=True) + eps) * weight + bias",
            "eps is added to torch's std",
        ),
        (
            "def layer_norm(x, weight, bias, eps): return F.layer_norm(x, weight.shape, weight, bias, 1e-6)",
            "It is right above, but not for another input",
        ),
    ],
    "mended_layer": [
        ("def mended_layer(layer, x): return broken(layer, x)", "what attention added is lost"),
        (
            "def mended_layer(layer, x):\n"
            "    attended = layer.self_attn(layer.layer_norm1(x))\n"
            "    return attended + layer.mlp(layer.layer_norm2(attended))",
            "the input is not added back after attention",
        ),
        (
            "def mended_layer(layer, x):\n"
            "    x += layer.self_attn(layer.layer_norm1(x))\n"
            "    return layer.mlp(layer.layer_norm2(x))",
            "the input is not added back after the MLP",
        ),
        (
            "def mended_layer(layer, x):\n"
            "    x += layer.mlp(layer.layer_norm2(x))\n"
            "    return x + layer.self_attn(layer.layer_norm1(x))",
            "the MLP comes before attention",
        ),
        (
            "def mended_layer(layer, x):\n"
            "    attended = layer.self_attn(layer.layer_norm1(x))\n"
            "    return attended + layer.mlp(layer.layer_norm2(x + attended))",
            "but not to the layer's input",
        ),
        (
            "def mended_layer(layer, x):\n"
            "    attended = x + layer.self_attn(layer.layer_norm1(x))\n"
            "    return x + attended + layer.mlp(layer.layer_norm2(attended))",
            "the layer's input is in the result twice",
        ),
        (
            "def mended_layer(layer, x):\n"
            "    attended = layer.self_attn(layer.layer_norm1(x))\n"
            "    return x + attended + layer.mlp(layer.layer_norm2(attended))",
            "the MLP reads only attention's result",
        ),
        (
            "def mended_layer(layer, x): return encoder.layers[0](x)",
            "It is right above, but not for another input",
        ),
    ],
    "with_neighbours_swapped": [
        ("def with_neighbours_swapped(layers, x): return torch.ones(len(layers) - 1)", "away from the reference"),
        (  # exchanged, and never put back
            "def with_neighbours_swapped(layers, x):\n"
            "    right, similarities = nn.Sequential(*layers)(x), []\n"
            "    for i in range(len(layers) - 1):\n"
            "        layers[i], layers[i + 1] = layers[i + 1], layers[i]\n"
            "        similarities.append(F.cosine_similarity(nn.Sequential(*layers)(x), right, dim=-1).mean())\n"
            "    return torch.stack(similarities)",
            "a pair is not put back",
        ),
        (
            "def with_neighbours_swapped(layers, x):\n"
            "    right, similarities = nn.Sequential(*layers)(x), []\n"
            "    for i in range(len(layers) - 1):\n"
            "        order = [*layers[:i], layers[i + 1], layers[i], *layers[i + 2 :]]\n"
            "        similarities.append(F.cosine_similarity(nn.Sequential(*order)(x), right, dim=-1))\n"
            "    return torch.stack(similarities)",
            "the shape is (11, 1, 196), it should be (11)",
        ),
        (
            "def with_neighbours_swapped(layers, x):\n"
            "    return measure.with_neighbours_swapped(encoder.layers[: len(layers)], x)",
            "It is right above, but not for another input",
        ),
    ],
    "count_from": [
        ("def count_from(config): return 12 * config.hidden_size**2 * config.num_hidden_layers", "too few"),
        (
            "def count_from(config): return sum(parameter.numel() for parameter in ours.parameters())",
            "not for another input: 5,968,704, not 92,884,224",
        ),
        (  # the probe is forgotten
            "def count_from(config):\n"
            "    whole = sum(parameter.numel() for parameter in VisionTransformer(config).parameters())\n"
            "    return whole - config.hidden_size",
            "one vector is not counted: the head's probe",
        ),
    ],
    "mended_pooling": [
        ("def mended_pooling(head, x): return broken(head, x)", "it is packed as q, k, v"),
        ("def mended_pooling(head, x): return head(x) - head.mlp(head.layernorm(x.mean(1)))", "away from the reference"),
        ("def mended_pooling(head, x): return x.mean(1)", "the patches' mean is taken instead of the head"),
        (  # half mended: the weights alone, the biases alone
            "def mended_pooling(head, x):\n"
            "    q, k, v = head.attention.in_proj_bias.data.chunk(3)\n"
            "    head.attention.in_proj_bias.data = torch.cat([q, v, k])\n"
            "    return head(x)",
            "in_proj's biases are split as q, v, k, but its weights as q, k, v",
        ),
        (
            "def mended_pooling(head, x):\n"
            "    q, k, v = head.attention.in_proj_weight.data.chunk(3)\n"
            "    head.attention.in_proj_weight.data = torch.cat([q, v, k])\n"
            "    return head(x)",
            "in_proj's weights are split as q, v, k, but its biases as q, k, v",
        ),
        (
            "def mended_pooling(head, x):\n    head.attention.num_heads = 3\n    return head(x)",
            "It is right above, but not for another input",
        ),
    ],
    "pool_without": [
        ("def pool_without(head, x, hidden): return head(x)", "the probe sees all patches, the hidden ones too"),
        ("def pool_without(head, x, hidden): return head(x[:, hidden])", "the probe sees the hidden patches and no others"),
        (
            "def pool_without(head, x, hidden):\n    x[:, hidden] = 0\n    return head(x)",
            "the hidden patches' vectors are set to zero; their keys are not",
        ),
        (
            "def pool_without(head, x, hidden):\n"
            "    _, shares = head.attention(head.probe, x, x, average_attn_weights=False)\n"
            "    (_, _, wv), (_, _, bv) = head.attention.in_proj_weight.chunk(3), head.attention.in_proj_bias.chunk(3)\n"
            "    values = split_heads(F.linear(x, wv, bv), head.attention.num_heads)\n"
            "    pooled = head.attention.out_proj(merge_heads(shares.masked_fill(hidden, 0) @ values)[:, 0])\n"
            "    return pooled + head.mlp(head.layernorm(pooled))",
            "the others no longer add up to 1",
        ),
        ("def pool_without(head, x, hidden): return head(x[:, ~paper])", "It is right above, but not for another input"),
        ("def pool_without(head, x, hidden): return head(x[~hidden])", "IndexError in line 1 of pool_without"),
    ],
    "clip_loss": [
        (
            "def clip_loss(logits): return F.cross_entropy(logits, torch.arange(len(logits)))",
            "each image picks its caption, but no caption its image",
        ),
        (
            "def clip_loss(logits): return F.cross_entropy(logits.T, torch.arange(len(logits)))",
            "each caption picks its image, but no image its caption",
        ),
        ("def clip_loss(logits): return sigmoid_loss(logits)", "that is SigLIP's loss"),
        ("def clip_loss(logits): return 2 * measure.clip_loss(logits)", "both halves are added up"),
        ("def clip_loss(logits): return len(logits) * measure.clip_loss(logits)", "the choices' losses are added up"),
        (
            "def clip_loss(logits):\n"
            "    target = torch.arange(len(logits))\n"
            "    return F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target) / 2",
            "only the second half is divided by 2",
        ),
        ("def clip_loss(logits): return logits.softmax(dim=1).diagonal().mean()", "away from the reference"),
        (
            "def clip_loss(logits):\n"
            "    target = torch.arange(6)\n"
            "    return (F.cross_entropy(rough, target) + F.cross_entropy(rough.T, target)) / 2",
            "It is right above, but not for another input",
        ),
    ],
    "dealt": [
        ("def dealt(pictures, order): return pictures", "every patch lies where it lay"),
        ("def dealt(pictures, order): return measure.dealt(pictures, order.argsort())", "place i should get patch order[i]"),
        (
            "def dealt(pictures, order):\n"
            "    strips = pictures.view(len(pictures), 3, len(order), -1)\n"
            "    return strips[:, :, order].view(pictures.shape)",
            "that cuts them into strips, not into squares",
        ),
        (
            "def dealt(pictures, order):\n"
            "    patches = pictures.unfold(3, 8, 8).unfold(2, 8, 8).flatten(2, 3)[:, :, order]\n"
            "    grid = patches.unflatten(2, (-1, pictures.shape[-1] // 8))\n"
            "    return grid.transpose(3, 4).reshape(pictures.shape)",
            "rows and columns inside each patch are exchanged",
        ),
        (
            "def dealt(pictures, order):\n"
            "    columns = F.unfold(pictures.mT, 8, stride=8)[:, :, order]\n"
            "    return F.fold(columns, pictures.shape[-2:], 8, stride=8).mT",
            "counted column after column",
        ),
        ("def dealt(pictures, order): return pictures[:, :, order]", "the shape is (42, 3, 36, 48)"),
        (
            "def dealt(pictures, order): return F.fold(F.unfold(pictures, 8, stride=8)[:, :, order], 48, 8, stride=8)",
            "It is right above, but not for another input: RuntimeError",
        ),
        ("def dealt(pictures, order): return measure.dealt(unseen, cards)", "It is right above, but not for another input"),
    ],
    "gradient": [
        ("def gradient(logits): return logits.sigmoid_().sub_(torch.eye(len(logits)))", "not divided by the number of images"),
        ("def gradient(logits): return -(logits.sigmoid() - torch.eye(len(logits))) / len(logits)", "the sign is turned round"),
        (
            "def gradient(logits):\n"
            "    labels = 2 * torch.eye(len(logits)) - 1\n"
            "    return -(-labels * logits).sigmoid() / len(logits)",
            "the label in front is missing",
        ),
        (
            "def gradient(logits):\n"
            "    labels = 2 * torch.eye(len(logits)) - 1\n"
            "    return -labels * (-logits).sigmoid() / len(logits)",
            "the label inside the sigmoid is missing",
        ),
        ("def gradient(logits): return -(-logits).sigmoid() / len(logits)", "both labels are missing"),
        (
            "def gradient(logits): return (logits.sigmoid() - torch.eye(len(logits))).abs() / len(logits)",
            "the label and the minus in front are both missing",
        ),
        (
            "def gradient(logits):\n"
            "    labels = 2 * torch.eye(len(logits)) - 1\n"
            "    return -labels * logits.sigmoid() * (1 - logits.sigmoid()) / len(logits)",
            "that is the derivative of the sigmoid",
        ),
        ("def gradient(logits): return (logits.sigmoid() - torch.eye(len(logits))) / 6", "but not for another input"),
    ],
    "probabilities": [
        ("def probabilities(logits): return logits.softmax(dim=1)", "it forces them to share one whole"),
        ("def probabilities(logits): return 1 / (1 + logits.exp())", "the sign of the logits is turned round"),
        ("def probabilities(logits): return logits.softmax(dim=0)", "softmax is taken over the images"),
        ("def probabilities(logits): return (logits / 2).tanh() / 2", "away from the reference"),
        ("def probabilities(logits): return 1 / 1 + (-logits).exp()", "brackets are missing"),
        ("def probabilities(logits): return logits.exp()", "how much likelier a yes is than a no"),
        ("def probabilities(logits): return logits.exp() / logits.exp().sum()", "over all pairs at once"),
    ],
    "mended_logits": [
        (
            "def mended_logits(model, pixels, ids):\n"
            "    images, texts = model.encode(pixels, ids)\n"
            "    return (images @ texts.T + model.logit_bias) * model.logit_scale.exp()",
            "it comes after",
        ),
        (
            "def mended_logits(model, pixels, ids):\n"
            "    images, texts = model.encode(pixels, ids)\n"
            "    return images @ texts.T * model.logit_scale.exp() - model.logit_bias",
            "logit_bias is subtracted",
        ),
        ("def mended_logits(model, pixels, ids): return model(pixels, ids).sigmoid()", "these are probabilities"),
        ("def mended_logits(model, pixels, ids): return model(pixels, ids).T", "these are logits_per_text"),
        (
            "def mended_logits(model, pixels, ids):\n"
            "    images, texts = model.encode(pixels, ids)\n"
            "    return images @ texts.T * model.logit_scale + model.logit_bias",
            "it is the logarithm of the scale",
        ),
        (
            "def mended_logits(model, pixels, ids):\n"
            "    images, texts = model.encode(pixels, ids)\n"
            "    return images @ texts.T * scale + bias",
            "It is right above, but not for another input",
        ),
    ],
    "at_every_place": [
        (
            "def at_every_place(text_model, ids): return text_model.head(text_model(ids)[0]).transpose(0, 1)",
            "not brought to length 1",
        ),
        (
            "def at_every_place(text_model, ids): return F.normalize(text_model.head(text_model(ids)[0]), dim=-1)",
            "the texts come first, then the places",
        ),
        (
            "def at_every_place(text_model, ids): return F.normalize(text_model(ids)[0].transpose(0, 1), dim=-1)",
            "the last linear layer, head, is missing",
        ),
        (
            "def at_every_place(text_model, ids):\n"
            "    return F.normalize(text_model.head(text_model(ids)[0]).transpose(0, 1), dim=0)",
            "normalised along the places",
        ),
        (
            "def at_every_place(text_model, ids): return F.normalize(text_model.head(text_model(ids)[0]).transpose(0, 1))",
            "normalised along the texts",
        ),
        (
            "def at_every_place(text_model, ids):\n"
            "    return text_model.head(F.normalize(text_model(ids)[0], dim=-1)).transpose(0, 1)",
            "then go through the head",
        ),
        (
            "def at_every_place(text_model, ids):\n"
            "    ways = [text_model(ids[:, :end])[1] for end in range(1, ids.shape[1] + 1)]\n"
            "    return F.normalize(torch.stack(ways), dim=-1)",
            "cut off behind each place",
        ),
        (
            "def at_every_place(text_model, ids):\n"
            "    every = F.normalize(text_model.head(text_model(ids)[0]), dim=-1)\n"
            "    return every.reshape(ids.shape[1], len(ids), -1)",
            "reshape only renumbers",
        ),
        (
            "def at_every_place(text_model, ids): return F.normalize(text_model(ids)[1], dim=-1)",
            "the shape is (4, 192), it should be (16, 4, 192)",
        ),
        (  # the ids of all are read, whatever is given
            "def at_every_place(text_model, given):\n"
            "    return F.normalize(text_model.head(text_model(ids)[0]), dim=-1).transpose(0, 1)",
            "It is right above, but not for another input",
        ),
    ],
    "rms_norm": [
        (
            "def rms_norm(x, weight, eps): return x / (x.square().mean(-1, True) + eps).sqrt() * weight",
            "Gemma stores how far it is from 1",
        ),
        (
            "def rms_norm(x, weight, eps): return x / (x.square().mean(-1, True).sqrt() + eps) * (1 + weight)",
            "it belongs to the mean square, inside the root",
        ),
        ("def rms_norm(x, weight, eps): return x / x.square().mean(-1, True).sqrt() * (1 + weight)", "eps is forgotten"),
        (
            "def rms_norm(x, weight, eps):\n"
            "    x = x - x.mean(-1, True)\n"
            "    return x / (x.square().mean(-1, True) + eps).sqrt() * (1 + weight)",
            "the mean is subtracted first, as in LayerNorm",
        ),
        (
            "def rms_norm(x, weight, eps): return x / (x.square().sum(-1, True) + eps).sqrt() * (1 + weight)",
            "of the sum of squares",
        ),
        ("def rms_norm(x, weight, eps): return x / (x.square().mean(-1, True) + eps) * (1 + weight)", "not by the root of it"),
        ("def rms_norm(x, weight, eps): return x / (x.square().mean(-1, True) + eps).sqrt()", "the weight is forgotten"),
        ("def rms_norm(x, weight, eps): return F.normalize(x, dim=-1) * (1 + weight)", "the vector is brought to length 1"),
        (
            "def rms_norm(x, weight, eps): return x / (x.square().mean() + eps).sqrt() * (1 + weight)",
            "each token has a size of its own",
        ),
        (
            "def rms_norm(x, weight, eps):\n"
            "    return (x - x.mean(-1, True)) / (x.var(-1, keepdim=True) + eps).sqrt() * (1 + weight)",
            "var() divides by width - 1",
        ),
        (
            "def rms_norm(x, weight, eps):\n    return (x - x.mean(-1, True)) / (x.std(-1, keepdim=True) + eps) * (1 + weight)",
            "std() divides",
        ),
        (
            "def rms_norm(x, weight, eps):\n"
            "    return (x - x.mean(-1, True)) / (x.square().mean(-1, True) + eps).sqrt() * (1 + weight)",
            "the size is right, but the mean is subtracted",
        ),
        (
            "def rms_norm(x, weight, eps): return F.rms_norm(x, weight.shape, 1 + weight, 1e-6)",
            "It is right above, but not for another input",
        ),
    ],
    "mended_groups": [
        (
            "def mended_groups(attention, x, mask, positions):\n"
            "    queries = split_heads(attention.q_proj(x), attention.heads)\n"
            "    keys, values = (split_heads(part(x), attention.shared) for part in (attention.k_proj, attention.v_proj))\n"
            "    angles = rope_angles(positions, queries.shape[-1], attention.theta)\n"
            "    times = attention.heads // attention.shared\n"
            "    keys, values = (turn(part, angles).repeat_interleave(times, dim=1) for part in (keys, values))\n"
            "    return attention.o_proj(merge_heads(attend_masked(turn(queries, angles), keys, values, mask)))",
            "the values are turned, too",
        ),
        (
            "def mended_groups(attention, x, mask, positions):\n"
            "    queries = split_heads(attention.q_proj(x), attention.heads)\n"
            "    keys, values = (split_heads(part(x), attention.shared) for part in (attention.k_proj, attention.v_proj))\n"
            "    angles = rope_angles(positions, queries.shape[-1], attention.theta)\n"
            "    times = attention.heads // attention.shared\n"
            "    keys, values = (part.repeat(1, times, 1, 1) for part in (turn(keys, angles), values))\n"
            "    return attention.o_proj(merge_heads(attend_masked(turn(queries, angles), keys, values, mask)))",
            "keys and values are repeated as a whole",
        ),
        (
            "def mended_groups(attention, x, mask, positions):\n"
            "    queries = split_heads(attention.q_proj(x), attention.heads)\n"
            "    keys, values = (split_heads(part(x), attention.shared) for part in (attention.k_proj, attention.v_proj))\n"
            "    keys, values = (part.repeat_interleave(2, dim=1) for part in (keys, values))\n"
            "    return attention.o_proj(merge_heads(attend_masked(queries, keys, values, mask)))",
            "neither queries nor keys are turned",
        ),
        (
            "def mended_groups(attention, x, mask, positions):\n"
            "    queries = split_heads(attention.q_proj(x), attention.heads)\n"
            "    keys, values = (split_heads(part(x), attention.shared) for part in (attention.k_proj, attention.v_proj))\n"
            "    angles = rope_angles(positions, queries.shape[-1], attention.theta)\n"
            "    keys, values = (part.repeat_interleave(2, dim=1) for part in (turn(keys, angles), values))\n"
            "    return attention.o_proj(merge_heads(attend_masked(turn(queries, angles), keys, values, mask)))",
            "It is right above, but not for another input",
        ),
    ],
    "grid_angles": [
        (
            "def grid_angles(side, width, theta):\n"
            "    one = rope_angles(torch.ones(1), width // 2, theta).repeat(1, 2)\n"
            "    return right_grid_angles(side, width, theta) + one",
            "counted from 1",
        ),
        (
            "def grid_angles(side, width, theta): return right_grid_angles(side, width, theta).roll(width // 4, dims=1)",
            "are exchanged",
        ),
        (
            "def grid_angles(side, width, theta): return rope_angles(torch.arange(side**2), width, theta)",
            "number is used as its place",
        ),
        (
            "def grid_angles(side, width, theta):\n"
            "    n = torch.arange(side**2)\n"
            "    return torch.cat([rope_angles(n // side, width, theta)[:, : width // 4],\n"
            "                      rope_angles(n % side, width, theta)[:, width // 4 :]], dim=1)",
            "each half needs all speeds",
        ),
        (
            "def grid_angles(side, width, theta):\n"
            "    rows = rope_angles(torch.arange(side**2) // side, width // 2, theta)\n"
            "    return torch.cat([rows, rows], dim=1)",
            "the column is lost",
        ),
        (
            "def grid_angles(side, width, theta):\n"
            "    columns = rope_angles(torch.arange(side**2) % side, width // 2, theta)\n"
            "    return torch.cat([columns, columns], dim=1)",
            "the row is lost",
        ),
        (
            "def grid_angles(side, width, theta):\n"
            "    n = torch.arange(side**2)\n"
            "    halves = [rope_angles(n // side, width // 2, theta), rope_angles(n % side, width // 2, theta)]\n"
            "    return torch.stack(halves, dim=-1).flatten(1)",
            "take turns from pair to pair",
        ),
        (
            "def grid_angles(side, width, theta): return right_grid_angles(14, 64, theta)",
            "It is right above, but not for another",
        ),
    ],
    "cache_bytes": [
        (
            "def cache_bytes(c, n): return c.num_hidden_layers * c.num_key_value_heads * c.head_dim * n * 4",
            "keys or values are counted",
        ),
        ("def cache_bytes(c, n): return measure.cache_bytes(c, n) // 4", "the numbers are counted, not their bytes"),
        ("def cache_bytes(c, n): return measure.cache_bytes(c, n) // c.num_hidden_layers", "one layer is counted"),
        ("def cache_bytes(c, n): return measure.cache_bytes(c, n) // c.num_key_value_heads", "one head is counted"),
        (
            "def cache_bytes(c, n): return 2 * c.num_hidden_layers * c.num_attention_heads * c.head_dim * n * 4",
            "query heads are",
        ),
        ("def cache_bytes(c, n): return measure.cache_bytes(c, 9)", "It is right above, but not for another input"),
    ],
    "mended_merge": [
        (
            "def mended_merge(model, seen, ids):\n"
            "    picture = model.projector(seen) / model.projector.out_features**0.5\n"
            "    return torch.cat([picture, model.language_model.embed_tokens(ids)], dim=1)",
            "it should be used as it is",
        ),
        (
            "def mended_merge(model, seen, ids):\n"
            "    picture = model.projector(seen) * model.projector.out_features**0.5\n"
            "    return torch.cat([picture, model.language_model.embed_tokens(ids)], dim=1)",
            "what the projector gives is multiplied by sqrt(width)",
        ),
        (
            "def mended_merge(model, seen, ids):\n"
            "    words = F.embedding(ids, model.language_model.embed_tokens.weight)\n"
            "    return torch.cat([model.projector(seen), words], dim=1)",
            "the tokens' vectors are not multiplied by sqrt(width)",
        ),
        (
            "def mended_merge(model, seen, ids):\n"
            "    words = model.language_model.embed_tokens(ids) * model.projector.out_features**0.5\n"
            "    return torch.cat([model.projector(seen), words], dim=1)",
            "multiplied by sqrt(width) twice",
        ),
        (
            "def mended_merge(model, seen, ids):\n"
            "    return torch.cat([model.language_model.embed_tokens(ids), model.projector(seen)], dim=1)",
            "the tokens come first, then the picture",
        ),
        (
            "def mended_merge(model, seen, ids): return ours.merge(seen, ids) / model.projector.out_features**0.5",
            "picture and words are both divided",
        ),
        (
            "def mended_merge(model, seen, ids):\n"
            "    picture = model.projector(seen) / model.projector.out_features**0.5\n"
            "    words = model.language_model.embed_tokens(ids) * model.projector.out_features**0.5\n"
            "    return torch.cat([picture, words], dim=1)",
            "the words are multiplied by it once more",
        ),
        ("def mended_merge(model, seen, ids): return model.projector(seen)", "the shape is"),
        ("def mended_merge(model, seen, ids): return ours.merge(seen, ids)", "It is right above, but not for another input"),
    ],
    "log_probability": [
        (
            "def log_probability(logits, ids, n): return -answer_loss(logits, ids, n, padding)",
            "the mean over the tokens is taken",
        ),
        (
            "def log_probability(logits, ids, n):\n    return answer_loss(logits, ids, n, padding) * (ids.shape[1] - n)",
            "the sign is turned round",
        ),
        (
            "def log_probability(logits, ids, n):\n"
            "    rows = logits[:, -ids.shape[1] + n - 1 : -2].log_softmax(-1)\n"
            "    return rows.gather(2, ids[:, n:-1, None]).sum()",
            "the end token is not counted",
        ),
        (
            "def log_probability(logits, ids, n):\n"
            "    return logits[:, -ids.shape[1] + n :].log_softmax(-1).gather(2, ids[:, n:, None]).sum()",
            "each row is asked for its own token",
        ),
        (
            "def log_probability(logits, ids, n):\n"
            "    return logits[:, -ids.shape[1] : -1].log_softmax(-1).gather(2, ids[:, 1:, None]).sum()",
            "the prompt's tokens are counted, too",
        ),
        (
            "def log_probability(logits, ids, n):\n"
            "    return logits[:, -ids.shape[1] + n : -1].log_softmax(-1).gather(2, ids[:, n + 1 :, None]).sum()",
            "the answer's first token is not counted",
        ),
        (
            "def log_probability(logits, ids, n):\n"
            "    return logits[:, patches + 2 : -1].log_softmax(-1).gather(2, ids[:, 3:, None]).sum()",
            "It is right above, but not for another input",
        ),
        (
            "def log_probability(logits, ids, n):\n"
            "    return logits[:, -ids.shape[1] + n - 1 : -1].gather(2, ids[:, n:, None]).sum()",
            "the logits are summed as they are",
        ),
        (
            "def log_probability(logits, ids, n):\n"
            "    return logits[:, -ids.shape[1] + n - 1 : -1].softmax(-1).gather(2, ids[:, n:, None]).prod()",
            "this is the probability; its logarithm is asked for",
        ),
        (
            "def log_probability(logits, ids, n):\n"
            "    return logits[:, n - 1 : ids.shape[1] - 1].log_softmax(-1).gather(2, ids[:, n:, None]).sum()",
            "the patches come before it",
        ),
        ("def log_probability(logits, ids, n): return answer_loss(logits, ids, n, padding)", "the mean loss is returned"),
        (
            "def log_probability(logits, ids, n):\n"
            "    return logits[:, -ids.shape[1] + n - 1 : -1].softmax(-1).gather(2, ids[:, n:, None]).sum()",
            "the probabilities are added",
        ),
        (
            "def log_probability(logits, ids, n):\n"
            "    return logits[:, -ids.shape[1] + n - 1 : -1].log_softmax(1).gather(2, ids[:, n:, None]).sum()",
            "the softmax runs over the tokens",
        ),
        ("def log_probability(logits, ids, n): return torch.tensor([-1.0])", "the shape is (1), it should be ()"),
    ],
    "pixel_shuffle": [
        ("def pixel_shuffle(sequence): return sequence", "the shape is (1, 16, 2), it should be (1, 4, 8)"),
        (
            "def pixel_shuffle(sequence): return sequence.reshape(len(sequence), -1, 4 * sequence.shape[-1])",
            "four patches in a row are joined; they should form a square of 2 x 2",
        ),
        (
            "def pixel_shuffle(sequence):\n"
            "    half = round(sequence.shape[1] ** 0.5) // 2\n"
            "    squares = sequence.view(len(sequence), half, 2, half, 2, -1)\n"
            "    return squares.permute(0, 1, 3, 4, 2, 5).reshape(len(sequence), half * half, -1)",
            "top left, bottom left, top right, bottom right",
        ),
        (
            "def pixel_shuffle(sequence):\n"
            "    grid = sequence.mT.reshape(len(sequence), -1, 4, 4)\n"
            "    return F.pixel_unshuffle(grid, 2).flatten(2).mT",
            "the four patches' numbers take turns in the token",
        ),
        (
            "def pixel_shuffle(sequence):\n"
            "    half = round(sequence.shape[1] ** 0.5) // 2\n"
            "    squares = sequence.view(len(sequence), half, 2, half, 2, -1)\n"
            "    return squares.permute(0, 3, 1, 2, 4, 5).reshape(len(sequence), half * half, -1)",
            "the new tokens come column after column",
        ),
        (
            "def pixel_shuffle(sequence):\n"
            "    squares = sequence.view(len(sequence), 2, 2, 2, 2, -1)\n"
            "    return squares.transpose(2, 3).reshape(len(sequence), 4, -1)",
            "It is right above, but not for another input",
        ),
    ],
    "first_layers": [
        ("def first_layers(config, weights, layers): return tower", "layers held: 12, not 3: 9 too many"),
        ("def first_layers(config, weights, layers): return tower(pixels)", "which is not what is asked for"),
        (
            "def first_layers(config, weights, layers):\n"
            "    shorter = copy.deepcopy(config)\n"
            "    shorter.num_hidden_layers = layers\n"
            "    return TrimmedTower(shorter)",
            "tensors filled with the given weights: 0, not",
        ),
        (
            "def first_layers(config, weights, layers):\n"
            "    tower = TrimmedTower(config)\n"
            "    tower.load_state_dict({name: weights[name] for name in tower.state_dict()})\n"
            "    tower.forward = lambda x: nn.Sequential(*tower.encoder.layers[:layers])(tower.embeddings(x))\n"
            "    return tower",
            "too many",
        ),
        (
            "def first_layers(config, weights, layers):\n"
            "    config.num_hidden_layers = layers\n"
            "    tower = TrimmedTower(config)\n"
            "    tower.load_state_dict({name: weights[name] for name in tower.state_dict()})\n"
            "    return tower",
            "layers in the given config",
        ),
        (
            "def first_layers(config, weights, layers):\n"
            "    shorter = copy.deepcopy(config)\n"
            "    shorter.num_hidden_layers = layers\n"
            "    tower = TrimmedTower(shorter)\n"
            "    tower.load_state_dict(weights, strict=False)\n"
            "    return tower",
            "misspelt names that raise no error: 1, not 0",
        ),
    ],
    "mended_tower": [
        ("def mended_tower(vision, x): return broken(vision, x)", "the last layer norm is applied after each layer"),
        (
            "def mended_tower(vision, x): return vision(x, output_hidden_states=True).hidden_states[-1]",
            "the last layer norm is missing",
        ),
        (
            "def mended_tower(vision, x): return vision.post_layernorm(vision(x).last_hidden_state)",
            "the last layer norm is applied twice",
        ),
        (
            "def mended_tower(vision, x): return reference.model.vision_model(x).last_hidden_state",
            "not for another input",
        ),
        (
            "def mended_tower(vision, x): return vision.post_layernorm(broken(vision, x))",
            "after each layer, and once more at the end",
        ),
        (
            "def mended_tower(vision, x):\n"
            "    x = vision.embeddings(x)\n"
            "    for layer in vision.encoder.layers[:-1]:\n"
            "        x = layer(x, None)\n"
            "    return vision.post_layernorm(x)",
            "the last layer is missing",
        ),
    ],
    "mean_of_real": [
        ("def mean_of_real(x, mask): return x.mean(dim=1)", "padding is in the mean"),
        ("def mean_of_real(x, mask): return (x * mask[..., None]).mean(dim=1)", "the sum is divided by `most`"),
        ("def mean_of_real(x, mask): return x[mask].mean(dim=0)", "go into one mean"),
        ("def mean_of_real(x, mask): return x[mask]", "the shape is (770, 192), it should be (4, 192)"),
        (
            "def mean_of_real(x, mask):\n"
            "    return torch.stack([tokens[: rows * columns].mean(0) for tokens, (rows, columns) in zip(x, grids.tolist())])",
            "It is right above, but not for another input",
        ),
    ],
    "mended_mask": [
        ("def mended_mask(grids, most): return broken(grids, most)", "lets one too many in"),
        ("def mended_mask(grids, most): return torch.arange(most) < grids.sum(dim=1, keepdim=True)", "rows times columns"),
        ("def mended_mask(grids, most): return mask", "It is right above, but not for another input"),
        (
            "def mended_mask(grids, most): return torch.arange(196) < grids.prod(dim=1, keepdim=True)",
            "It is right above, but not for another input",
        ),
    ],
    "packed_mask": [
        ("def packed_mask(lengths): return torch.ones(sum(lengths), sum(lengths)).bool()", "nothing keeps the pictures apart"),
        ("def packed_mask(lengths): return torch.ones(sum(lengths), sum(lengths)).bool().tril()", "this is a causal mask over"),
        (
            "def packed_mask(lengths):\n"
            "    picture = torch.arange(3).repeat_interleave(torch.tensor(lengths[:3]))\n"
            "    return picture[:, None] == picture",
            "It is right above, but not for another input",
        ),
    ],
    "mean_directions": [
        (
            "def mean_directions(vectors, labels):\n"
            "    return F.normalize(torch.stack([vectors[labels == t].mean(0) for t in labels.unique()]), dim=-1)",
            "are not brought to length 1 before their mean is taken",
        ),
        (
            "def mean_directions(vectors, labels):\n"
            "    unit = F.normalize(vectors, dim=-1)\n"
            "    return torch.stack([unit[labels == t].mean(0) for t in labels.unique()])",
            "the mean is not brought to length 1",
        ),
        (
            "def mean_directions(vectors, labels):\n"
            "    unit = F.normalize(vectors, dim=-1)\n"
            "    return F.normalize(torch.stack([unit[labels == t].mean(0) for t in range(3)]), dim=-1)",
            "It is right above, but not for another input",
        ),
    ],
    "mended_merge_of_lora": [
        ("def mended_merge_of_lora(lora): return broken(lora)", "both mistakes are still there"),
        (
            "def mended_merge_of_lora(lora): return lora.linear.weight + (lora.b @ lora.a).T * lora.scale",
            "the product is transposed",
        ),
        (
            "def mended_merge_of_lora(lora): return lora.linear.weight + lora.b @ lora.a * lora.scale**2",
            "multiplied by alpha / rank twice",
        ),
        (
            "def mended_merge_of_lora(lora): return lora.linear.weight + 3 * lora.b @ lora.a",
            "It is right above, but not for another input",
        ),
    ],
}


def all_prose(notebook):
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tagged(cell, tag):
    return tag in cell.metadata.get("tags", [])


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return read(path)


def test_it_is_valid_and_small(path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nbformat.validate(read(path))
    assert path.stat().st_size < 1_500_000  # beyond that GitHub shows no preview


def test_all_together_are_small():
    assert (
        sum(
            path.stat().st_size
            for path in (ROOT / "notebooks").rglob("*")
            if path.is_file() and ".ipynb_checkpoints" not in path.parts
        )
        < 10_000_000
    )


def test_cell_ids_are_unique(notebook):
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)


def test_it_was_run_whole_and_in_order(notebook):
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))


def test_its_outputs_hold_no_error_no_warning_and_no_machine_path(notebook):
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.output_type != "error", cell.source
            assert output.get("name") != "stderr", output.text
            assert not MACHINE_PATH.search(str(output.get("text", output.get("data", {}).get("text/plain")))), cell.source


def test_what_it_prints_fits_into_100_columns(notebook):
    """As much as a laptop of 1366 px shows of a line."""
    printed = [line for cell in code_cells(notebook) for output in cell.outputs for line in output.get("text", "").splitlines()]
    assert [line for line in printed if len(line) > 100] == []


def test_it_is_stored_in_the_normal_form(path, notebook):
    normalise(notebook)
    assert nbformat.writes(notebook) + "\n" == path.read_text(encoding="utf-8")


def test_headings_start_with_one_title_and_skip_no_level(notebook):
    text = re.sub(r"```.*?```", "", all_prose(notebook), flags=re.S)  # code may hold lines that begin with #
    levels = [len(marks) for marks in re.findall(r"^(#+) ", text, flags=re.M)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in zip(levels, levels[1:]))


def test_every_picture_has_words(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert all(alt for alt, _ in re.findall(r"!\[(.*?)\]\((.*?)\)", cell.source)), cell.source
        else:
            for output in cell.outputs:
                for form in output.get("data", {}):
                    if form.startswith("image/"):
                        alt = output.metadata.get(form, {}).get("alt")
                        below = [o.data.get("text/markdown") for o in cell.outputs if "data" in o]
                        assert alt and f"*{alt}*" in below, cell.source


def test_every_link_to_a_file_leads_somewhere(path, notebook):
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#]+?)\)", cell.source):
                assert "://" in target or (path.parent / target).exists(), target


def test_cells_are_short(notebook):
    """But for the imports, and the finished block: it is shown whole, its parts were built above."""
    for cell in code_cells(notebook)[2:]:
        if not re.match(r"class \w+\(nn.Module\)|@torch.no_grad\(\)\ndef generate\(", cell.source):
            assert len([line for line in cell.source.splitlines() if line.strip()]) <= 18, cell.source


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_its_blocks_are_the_ones_in_utils(notebook):
    sources = [
        (ROOT / "utils" / name).read_text(encoding="utf-8")
        for name in ("siglip.py", "gemma.py", "vlm.py", "naflex.py", "own.py")
    ]
    parsed = [node for source in sources for node in ast.parse(source).body]
    finished = {node.name: ast.dump(node) for node in parsed if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    blocks = [node for cell in code_cells(notebook) for node in ast.parse(cell.source).body if hasattr(node, "name")]
    shared = [node for node in blocks if node.name in finished]
    assert shared, "a notebook builds at least one block of utils"
    for node in shared:
        assert ast.dump(node) == finished[node.name], node.name


def test_the_readme_and_the_first_notebook_list_the_series_in_the_same_words():
    row = re.compile(r"^\| \[\d\d [^\]]+\]\((?:notebooks/)?(\d\d\w+\.ipynb)\)<br>(.*)$", re.M)
    in_readme = row.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [name for name, _ in in_readme] == [path.name for path in PATHS]
    assert row.findall(all_prose(read(PATHS[0]))) == in_readme[1:]


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_its_minutes_add_up_and_stand_in_the_readme(path, notebook):
    """The exercises' minutes are the sum of their own, to the nearest five."""
    text = all_prose(notebook)
    reading, exercises = map(int, re.search(r"takes about (\d+) minutes, the exercises (\d+) more", text).groups())
    assert exercises == 5 * round(sum(map(int, re.findall(r"^\*\w+, (\d+) minutes\.\*", text, re.M))) / 5)
    row = next(line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if path.name in line)
    assert f"<br>{reading} + {exercises} |" in row


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_it_ends_with_quick_questions_whose_answers_are_folded_and_complete(path, notebook):
    """The right answer first, then a line for each wrong one."""
    text = all_prose(notebook)
    assert text.count("## Quick questions\n") == 1
    section = re.search(r"## Quick questions\n(.+?)\n\n## What you now know\n", text, re.S).group(1)
    _, *questions = re.split(r"^\*\*(?=\d\. )", section, flags=re.M)
    assert 2 <= len(questions) <= 3
    for number, question in enumerate(questions, 1):
        assert re.match(rf"{number}\. .+\?\*\*\n\n- \*\*A\*\* ", question)
        offered, folded = re.fullmatch(
            r"(.+)\n\n<details><summary>Answers</summary>\n\n(.+)\n\n</details>\s*", question, re.S
        ).groups()
        assert "details>" not in folded
        letters = re.findall(r"^- \*\*([A-D])\*\* ", offered, re.M)
        right, *wrong = re.findall(r"^(?:- )?\*\*([A-D])\.?\*\* ", folded, re.M)
        assert letters == list("ABCD"[: len(letters)]) and len(letters) >= 3
        assert folded.startswith(f"**{right}.** ") and sorted([right, *wrong]) == letters


# The exercises


def exercises(notebook):
    """(name of the stub, stub cell, check cell, source of the solution) of each exercise."""
    for index, cell in enumerate(notebook.cells):
        if tagged(cell, "exercise"):
            check, hint = notebook.cells[index + 1 : index + 3]
            assert tagged(check, "check") and hint.cell_type == "markdown"
            [solution] = re.findall(
                r"<summary>Solution</summary>\n\n```python\n(# Solution of exercise \d\n.+?)```", hint.source, re.S
            )
            yield ast.parse(cell.source).body[0].name, cell, check, solution


def run(source, names):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(source, "<cell>", "exec"), names)
    return printed.getvalue()


def symbols(source):
    """-> {name: what Python knows of it} of the names that code sets or reads outside its functions' own"""
    tables, found = [symtable.symtable(source, "<cell>", "exec")], {}
    for table in tables:
        tables += table.get_children()
        found |= {s.get_name(): s for s in table.get_symbols() if (table.get_type() == "module" or s.is_global())} | found
    return found


CHANGING = re.compile("_$|^(append|eval|load_state_dict)$")


def start_of(node):
    """`name` of `name.part[0].method()`, or None."""
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Call)):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def changed_in(statement):
    """The names of what a statement changes: by `name[0] = ...`, `name.part = ...`, `name.change()` alone, or some method.

    `nn.init.zeros_(name.weight)` changes what it is given.
    """
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return  # it changes something when it is called
    for node in ast.walk(statement):
        if isinstance(node, ast.Expr):
            yield start_of(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and CHANGING.search(node.func.attr):
            yield from map(start_of, (node.func, *node.args))
        elif isinstance(getattr(node, "ctx", None), ast.Store):
            yield start_of(node)


def needed_for(answers, story):
    """Of the story's statements, in their order, those that the answers hang on: what sets or changes the names they read."""
    found = symbols(story)
    modules = {name for name, symbol in found.items() if symbol.is_imported()}
    own = set(found) - modules - set(dir(builtins))
    names, kept = set(symbols(answers)), []
    for statement in reversed(ast.parse(story).body):
        source = ast.unparse(statement)
        found = symbols(source)
        new = {name for name, symbol in found.items() if symbol.is_assigned() or symbol.is_imported()}
        # A call whose result nobody keeps is there for an effect, of whatever kind.
        called = re.findall(r"^ *(\w+)\(", source, re.M) if isinstance(statement, (ast.With, ast.Expr)) else []
        if own.intersection(called) or names & (new | set(changed_in(statement)) - modules):
            if isinstance(statement, (ast.AugAssign, ast.For, ast.If, ast.Try)):
                new = set()  # these may need what was there before
            names = names - new | {name for name, symbol in found.items() if symbol.is_referenced() or name not in new}
            kept.insert(0, source)
    return "\n".join(kept)


STORY = """
import torch
from torch import nn
heard, block, table, slow = [], nn.Linear(2, 2), {}, sum(range(9))
hook = block.register_forward_hook(lambda _, __, output: heard.append(output))
block(torch.ones(1, 2))
nn.init.ones_(block.weight)
table["row"] = slow
print(slow)
count = 1
count += 1
for name in "ab":
    name = name.upper()
def unasked(row):
    block = row
"""


@pytest.mark.parametrize(
    ("answers", "kept", "left_out"),
    [
        ("heard[0]", ["heard, block", "hook = ", "block(torch.ones", "import torch"], ["table[", "count", "for name"]),
        ("block", ["nn.init.ones_"], ["table[", "print", "unasked"]),
        ("table", ["table['row'] = slow", "slow = ("], ["count", "print"]),
        ("count", ["count = 1", "count += 1"], ["table[", "for name"]),
    ],
)
def test_only_what_an_answer_hangs_on_is_run(answers, kept, left_out):
    """What sets its names, what changes them in place or through a hook, and what all of this reads."""
    source = needed_for(answers, STORY)
    assert all(code in source for code in kept) and not any(code in source for code in left_out)


@functools.cache
def defined_in(path):
    """What the notebook defines outside its exercises and its training, as far as the exercises or a clickable scene need it.

    nbval runs every cell; here nothing is drawn.
    """
    notebook, names = read(path), {}
    aside = "nbval-ignore-output", "exercise", "check"
    story = [cell.source for cell in code_cells(notebook) if not any(tagged(cell, tag) for tag in aside)]
    answers = ["looks"]
    for name, stub, check, solution in exercises(notebook):
        answers += [stub.source, check.source, solution, *(wrong for wrong, _ in WRONG_ANSWERS[name])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("utils.plots.show", lambda figure, *_, **__: plt.close(figure))
        run(needed_for("\n".join(answers), "\n".join(story)), names)
    return names


@pytest.fixture
def names(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    return dict(defined_in(path))


def test_exercises_have_headings_and_stubs_that_say_where_to_write(notebook):
    headings = re.findall(r"^### Exercise (\d): .+\n\n\*(easy|medium|hard), \d+ minutes\.\*", all_prose(notebook), re.M)
    stubs = [cell.source for cell in notebook.cells if tagged(cell, "exercise")]
    assert [int(number) for number, _ in headings] == list(range(1, len(stubs) + 1))
    assert all(stub.endswith("return None  # your code takes the place of this line") for stub in stubs)


def test_exercises_answer_the_learner(notebook, names):
    found = list(exercises(notebook))
    assert 1 <= len(found) <= 4
    for name, stub, check, solution in found:
        assert "not attempted yet" in run(stub.source + "\n" + check.source, dict(names))
        right = run(solution + "\n" + check.source, dict(names))
        assert re.search(r": Right\. \w.+\.\n$", right), right
        assert len(WRONG_ANSWERS[name]) >= 2
        for answer, verdict in [
            *WRONG_ANSWERS[name],
            (f"def {name}(*inputs): raise IndexError('7')", f"IndexError in line 1 of {name}: 7"),
        ]:
            said = run(answer + "\n" + check.source, dict(names))
            assert "Not yet" in said and verdict in said, said


def test_an_answer_made_of_numbers_seen_in_the_notebook_is_not_right(notebook, names):
    """An answer that returns what is right for the first input, whatever it is given."""
    for name, _, check, solution in exercises(notebook):
        parrot = f"""
{solution}
parroted = {name}
def {name}(*inputs, heard=[]):
    heard.append(heard[0] if heard else parroted(*inputs))
    return heard[0]
"""
        said = run(parrot + check.source, dict(names))
        assert "Not yet. It is right above, but not for another input" in said, said


def test_an_answer_that_changes_its_inputs_spoils_nothing(notebook, names):
    """The right answer, after which every tensor that it was given is zero: right, and so is the next one."""
    for name, _, check, solution in exercises(notebook):
        vandal = f"""
import torch
{solution}
honest = {name}
def {name}(*inputs):
    result = honest(*inputs)
    for given in inputs:
        if isinstance(given, torch.nn.Module):
            [parameter.data.zero_() for parameter in given.parameters()]
        elif isinstance(given, torch.Tensor):
            given.zero_()
    return result
"""
        for answer in (vandal, solution):
            assert ": Right. " in run(answer + "\n" + check.source, names)


def shown_by_clickable_scenes(path):
    """-> what each clickable picture of a notebook holds"""
    for cell in code_cells(read(path)):
        for output in cell.outputs:
            for stored in re.findall(r"^\}\)\((\{.*\})\);$", output.get("data", {}).get("text/html", ""), flags=re.M):
                yield json.loads(stored)


def looks_of(panel):
    """What a head's panel, such as "layer 7, head 2", should show of the scene: (patches, patches)"""
    layer, head = map(int, re.fullmatch(r"layer (\d+), head (\d+)", panel).groups())
    reference = load_reference()
    with torch.no_grad():
        run = reference.model.vision_model(reference.preprocess(four_drawings()), output_attentions=True)
    return run.attentions[layer][0, head]


@pytest.mark.parametrize("path", [path for path in LESSONS if any(shown_by_clickable_scenes(path))], ids=lambda path: path.stem)
def test_what_a_clickable_scene_shows_is_what_the_model_does(path):
    """Within one of the 255 levels: rounding may turn one."""
    for stored in shown_by_clickable_scenes(path):
        levels = torch.frombuffer(bytearray(base64.b64decode(stored["levels"])), dtype=torch.uint8).int()
        if words := stored["words"]:
            right = defined_in(path)["looks"][: len(words)]
        else:
            right = torch.cat([looks_of(panel) for panel in stored["panels"]])
        right = 255 * right.flatten().sqrt()
        assert levels.shape == right.shape and (levels - right).abs().max() <= 1


def test_three_notebooks_have_a_scene_to_click():
    found = {path.stem[3:] for path in LESSONS if any(shown_by_clickable_scenes(path))}
    assert found == {"one_head", "many_heads", "vlm"}
