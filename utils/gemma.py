"""A layer of Gemma, piece by piece, and the stack of them, as notebook 10 builds them.

Sizes come from transformers' `GemmaConfig`; parameter names equal transformers', so that a state
dict of `GemmaModel` loads with `strict=True`.
"""

from utils.siglip import merge_heads, split_heads

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    """Brings each token's vector to size 1, then scales each number by 1 + its weight.

    (..., width) -> (..., width). Zhang and Sennrich 2019, arXiv 1910.07467.
    """

    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.eps = eps

    def forward(self, x):
        wide = x.float()  # also where the rest of the model computes in 16 bits
        mean_square = wide.square().mean(dim=-1, keepdim=True)
        normed = wide * torch.rsqrt(mean_square + self.eps)
        return (normed * (1 + self.weight.float())).type_as(x)


def rope_angles(positions, head_width, theta):
    """The angle each pair is turned by at each place. The first pair turns fast, the last slowly.

    (tokens) -> (tokens, head_width / 2), in radians. Su et al. 2021, arXiv 2104.09864.
    """
    speeds = 1 / theta ** (torch.arange(0, head_width, 2) / head_width)  # from 1 to about 1 / theta
    return positions[:, None] * speeds


def turn(x, angles):
    """Turn each pair of numbers: number i goes with the one half a head further on.

    (..., tokens, head_width), (tokens, head_width / 2) -> (..., tokens, head_width)
    """
    first, second = x.chunk(2, dim=-1)
    cos, sin = angles.cos(), angles.sin()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def attend_masked(queries, keys, values, mask):
    """As `attend`, but the mask is added to the scores: 0 where a query may look, else very low.

    (..., queries, head_width), twice (..., keys, head_width), (..., queries, keys)
    -> (..., queries, head_width)
    """
    scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    return (scores + mask).softmax(dim=-1) @ values


class GroupedQueryAttention(nn.Module):
    """Attention that turns queries and keys; several heads of queries share one of keys and values.

    (batch, tokens, width), mask (..., tokens, tokens), positions (tokens) -> (batch, tokens, width)
    Ainslie et al. 2023, arXiv 2305.13245.
    """

    def __init__(self, config):
        super().__init__()
        width, head_width, bias = config.hidden_size, config.head_dim, config.attention_bias
        self.heads, self.shared = config.num_attention_heads, config.num_key_value_heads
        self.theta = config.rope_parameters["rope_theta"]
        self.q_proj = nn.Linear(width, self.heads * head_width, bias=bias)
        self.k_proj = nn.Linear(width, self.shared * head_width, bias=bias)
        self.v_proj = nn.Linear(width, self.shared * head_width, bias=bias)
        self.o_proj = nn.Linear(self.heads * head_width, width, bias=bias)

    def forward(self, x, mask, positions):
        queries = split_heads(self.q_proj(x), self.heads)  # (batch, heads, tokens, head_width)
        keys = split_heads(self.k_proj(x), self.shared)  # (batch, shared, tokens, head_width)
        values = split_heads(self.v_proj(x), self.shared)
        angles = rope_angles(positions, queries.shape[-1], self.theta)
        queries, keys = turn(queries, angles), turn(keys, angles)
        times = self.heads // self.shared
        keys = keys.repeat_interleave(times, dim=1)  # (batch, heads, tokens, head_width)
        values = values.repeat_interleave(times, dim=1)
        mixed = attend_masked(queries, keys, values, mask)
        return self.o_proj(merge_heads(mixed))


class GatedMLP(nn.Module):
    """An MLP whose hidden numbers are multiplied by those of a gate. (..., width) -> (..., width)

    Shazeer 2020, arXiv 2002.05202: GEGLU, with the tanh form of GELU.
    """

    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        gate = F.gelu(self.gate_proj(x), approximate="tanh")
        return self.down_proj(gate * self.up_proj(x))


class GemmaLayer(nn.Module):
    """Attention, then MLP; each reads a normed copy of the stream and adds to it (pre-norm).

    (batch, tokens, width), mask (..., tokens, tokens), positions (tokens) -> (batch, tokens, width)
    """

    def __init__(self, config):
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = GroupedQueryAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = GatedMLP(config)

    def forward(self, x, mask, positions):
        x = x + self.self_attn(self.input_layernorm(x), mask, positions)
        return x + self.mlp(self.post_attention_layernorm(x))


class Gemma(nn.Module):
    """A language model: layers in series, one more norm, and one table for both ends.

    (batch, tokens, width), mask (..., tokens, tokens), positions (tokens) -> (batch, tokens, width)
    Gemma Team 2024, arXiv 2403.08295.
    """

    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(GemmaLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def embed(self, token_ids):
        """(batch, tokens) -> (batch, tokens, width)"""
        return self.embed_tokens(token_ids) * self.embed_tokens.embedding_dim**0.5

    def forward(self, x, mask, positions):
        for layer in self.layers:
            x = layer(x, mask, positions)
        return self.norm(x)

    def logits(self, hidden):
        """How well each token of the vocabulary fits as the next one. -> (..., vocabulary)"""
        return hidden @ self.embed_tokens.weight.T
