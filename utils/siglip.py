"""SigLIP, block by block, as the notebooks build it.

Each function and class stands here exactly as the notebook that introduces it defines it. Sizes
come from transformers' `SiglipVisionConfig` and `SiglipTextConfig`; parameter names equal
transformers', so that a pretrained state dict loads with `strict=True`.
"""

from utils.images import must_be_image, open_image

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn


def to_rgb(image):
    """PIL image of any mode -> mode RGB. What is transparent becomes white."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def read_image(path):
    """An image file's first frame, upright, as an RGB image. A LessonError if it holds no image."""
    return open_image(path, to_rgb)


def preprocess(image, size, resample=Image.Resampling.BICUBIC):
    """PIL image -> pixel values (1, 3, size, size) in [-1, 1]: a squashed square, colours first."""
    must_be_image(image)
    squashed = to_rgb(image).resize((size, size), resample)
    values = (np.asarray(squashed) / 255).astype(np.float32)  # (size, size, 3) in [0, 1]
    values = (values - 0.5) / 0.5  # in [-1, 1]
    return torch.from_numpy(values).permute(2, 0, 1)[None]


class PatchEmbedding(nn.Module):
    """Cut an image into patches, project each to `width` numbers, add its place's position vector.

    (batch, 3, height, width) pixels -> (batch, patches, width)
    """

    def __init__(self, config):
        super().__init__()
        patch, width = config.patch_size, config.hidden_size
        patches = (config.image_size // patch) ** 2
        self.patch_embedding = nn.Conv2d(config.num_channels, width, patch, stride=patch)
        self.position_embedding = nn.Embedding(patches, width)

    def forward(self, pixel_values):
        patches = self.patch_embedding(pixel_values)  # (batch, width, rows, columns)
        patches = patches.flatten(2).transpose(1, 2)  # (batch, rows * columns, width)
        return patches + self.position_embedding.weight


def attention_weights(queries, keys):
    """How much each query looks at each key; each row adds up to 1.

    (..., queries, head_width), (..., keys, head_width) -> (..., queries, keys)
    """
    scores = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    return scores.softmax(dim=-1)


def attend(queries, keys, values):
    """Each query gathers a weighted mean of the values, as `F.scaled_dot_product_attention` does.

    (..., queries, head_width), twice (..., keys, head_width) -> (..., queries, head_width).
    Vaswani et al. 2017, "Attention is all you need", section 3.2.1.
    """
    return attention_weights(queries, keys) @ values


class AttentionHead(nn.Module):
    """One head: every token gathers a weighted mean of all tokens' values.

    (batch, tokens, width) -> (batch, tokens, head_width). Vaswani et al. 2017, section 3.2.1.
    """

    def __init__(self, config):
        super().__init__()
        head_width = config.hidden_size // config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, head_width)
        self.k_proj = nn.Linear(config.hidden_size, head_width)
        self.v_proj = nn.Linear(config.hidden_size, head_width)

    def forward(self, x):
        return attend(self.q_proj(x), self.k_proj(x), self.v_proj(x))


def split_heads(x, heads):
    """Cut the width into heads. (batch, tokens, width) -> (batch, heads, tokens, head_width)"""
    batch, tokens, width = x.shape
    return x.view(batch, tokens, heads, width // heads).transpose(1, 2)


def merge_heads(x):
    """The heads side by side again. (batch, heads, tokens, head_width) -> (batch, tokens, width)"""
    return x.transpose(1, 2).flatten(2)


class MultiHeadAttention(nn.Module):
    """Every token gathers a weighted mean of all tokens' values, once for each head.

    (batch, tokens, width) -> (batch, tokens, width). Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(self, config):
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x):
        queries = split_heads(self.q_proj(x), self.heads)  # (batch, heads, tokens, head_width)
        keys = split_heads(self.k_proj(x), self.heads)
        values = split_heads(self.v_proj(x), self.heads)
        mixed = attend(queries, keys, values)  # (batch, heads, tokens, head_width)
        return self.out_proj(merge_heads(mixed))


class MLP(nn.Module):
    """Two linear layers with the tanh form of GELU between them, applied to each token alone.

    (batch, tokens, width) -> (batch, tokens, width)
    """

    def __init__(self, config):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x):
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class EncoderLayer(nn.Module):
    """Attention, then MLP; each reads a normed copy of the stream and adds to it (pre-norm).

    (batch, tokens, width) -> (batch, tokens, width)
    """

    def __init__(self, config):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self_attn = MultiHeadAttention(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Encoder(nn.Module):
    """Encoder layers in series. (batch, tokens, width) -> (batch, tokens, width)"""

    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


class AttentionPoolingHead(nn.Module):
    """MAP head: one learned query, the probe, attends to all patches; an MLP follows.

    (batch, patches, width) -> (batch, width).
    Zhai et al. 2022, "Scaling Vision Transformers", arXiv 2106.04560, section 3.2.
    """

    def __init__(self, config):
        super().__init__()
        width = config.hidden_size
        self.probe = nn.Parameter(torch.empty(1, 1, width))
        # Only holds the parameters, by transformers' names; in_proj is q_proj, k_proj and v_proj.
        self.attention = nn.MultiheadAttention(width, config.num_attention_heads, batch_first=True)
        self.layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x):
        heads = self.attention.num_heads
        wq, wk, wv = self.attention.in_proj_weight.chunk(3)
        bq, bk, bv = self.attention.in_proj_bias.chunk(3)
        probe = self.probe.expand(len(x), -1, -1)  # the same for every picture
        queries = split_heads(F.linear(probe, wq, bq), heads)  # (batch, heads, 1, head_width)
        keys = split_heads(F.linear(x, wk, bk), heads)  # (batch, heads, patches, head_width)
        values = split_heads(F.linear(x, wv, bv), heads)
        pooled = merge_heads(attend(queries, keys, values))[:, 0]  # (batch, width)
        pooled = self.attention.out_proj(pooled)
        return pooled + self.mlp(self.layernorm(pooled))


class VisionTransformer(nn.Module):
    """SigLIP's vision tower.

    (batch, 3, height, width) pixels
    -> last hidden state (batch, patches, width), pooled vector (batch, width)
    """

    def __init__(self, config):
        super().__init__()
        self.embeddings = PatchEmbedding(config)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = AttentionPoolingHead(config)

    def forward(self, pixel_values):
        x = self.embeddings(pixel_values)
        x = self.post_layernorm(self.encoder(x))
        return x, self.head(x)


class TrimmedTower(nn.Module):
    """What a language model needs of the vision tower: one vector for each patch.

    (batch, 3, height, width) pixels -> (batch, patches, width)
    """

    def __init__(self, config):
        super().__init__()
        self.embeddings = PatchEmbedding(config)
        self.encoder = Encoder(config)

    def forward(self, pixel_values):
        return self.encoder(self.embeddings(pixel_values))


class TextEmbedding(nn.Module):
    """Each token's vector plus its position's. (batch, tokens) ids -> (batch, tokens, width)"""

    def __init__(self, config):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, input_ids):
        positions = self.position_embedding.weight[: input_ids.shape[1]]
        return self.token_embedding(input_ids) + positions


class TextTransformer(nn.Module):
    """SigLIP's text tower: the same encoder, no mask, padding included; the last token is pooled.

    (batch, tokens) ids
    -> last hidden state (batch, tokens, width), pooled vector (batch, projection_size)
    """

    def __init__(self, config):
        super().__init__()
        self.embeddings = TextEmbedding(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.head = nn.Linear(config.hidden_size, config.projection_size)

    def forward(self, input_ids):
        x = self.final_layer_norm(self.encoder(self.embeddings(input_ids)))
        return x, self.head(x[:, -1])


def sigmoid_loss(logits):
    """How wrong the answers for all pairs are: -log of the right answer's probability, per image.

    logits (images, texts), the fitting pairs on the diagonal -> scalar.
    Zhai et al. 2023, arXiv 2303.15343, algorithm 1.
    """
    labels = 2 * torch.eye(len(logits), device=logits.device) - 1  # diagonal +1, elsewhere -1
    return -F.logsigmoid(labels * logits).sum() / len(logits)


class SigLIP(nn.Module):
    """Both towers, and the two numbers that turn a cosine into a logit.

    Zhai et al. 2023, arXiv 2303.15343.
    pixels (images, 3, height, width), ids (texts, tokens) -> logits_per_image (images, texts)
    """

    def __init__(self, config):
        super().__init__()
        self.vision_model = VisionTransformer(config.vision_config)
        self.text_model = TextTransformer(config.text_config)
        self.logit_scale = nn.Parameter(torch.zeros(1))
        self.logit_bias = nn.Parameter(torch.zeros(1))

    def encode(self, pixel_values, input_ids):
        """Unit vectors of images (images, width) and of texts (texts, width)."""
        _, images = self.vision_model(pixel_values)
        _, texts = self.text_model(input_ids)
        return images / images.norm(dim=-1, keepdim=True), texts / texts.norm(dim=-1, keepdim=True)

    def forward(self, pixel_values, input_ids):
        images, texts = self.encode(pixel_values, input_ids)
        return (texts @ images.T * self.logit_scale.exp() + self.logit_bias).T
