"""Numbers that describe what a trained encoder does; defined in the notebooks' words, checked by their exercises."""

import torch
import torch.nn.functional as F


def spread(weights):
    """Over how many tokens each row of attention weights is spread: e to the power of its entropy. (..., tokens) -> (...)

    All tokens if the weights are equal, 1 if one token has all of it.
    """
    # clamp: 0 times the logarithm of 0 is to be 0, not NaN
    return (-(weights * weights.clamp(min=1e-12).log()).sum(dim=-1)).exp()


def mean_distance(weights):
    """How far each patch looks: distances in patches, weighted by its attention. (..., patches, patches) -> (..., patches)"""
    side = round(weights.shape[-1] ** 0.5)
    number = torch.arange(side * side)
    places = torch.stack([number // side, number % side], dim=1).float()  # (patches, 2)
    return (weights * torch.cdist(places, places)).sum(dim=-1)


@torch.no_grad()
def without_each_layer(encoder, x):
    """Cosine similarity of the encoder's result with and without each of its layers, averaged over tokens. -> (layers)"""
    similarities = []
    for left_out in range(len(encoder.layers)):
        stream = x
        for index, layer in enumerate(encoder.layers):
            stream = stream if index == left_out else layer(stream)
        similarities.append(F.cosine_similarity(stream, encoder(x), dim=-1).mean())
    return torch.stack(similarities)
