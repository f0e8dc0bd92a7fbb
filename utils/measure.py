"""What the notebooks measure, and compare exercises with."""

import statistics
import time
import weakref

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


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


def neighbours_alike(table):
    """Mean cosine of the vectors of two places side by side, and of two that are half a picture or more apart.

    (patches, width) -> two numbers
    """
    side = round(len(table) ** 0.5)
    number, unit = torch.arange(side * side), F.normalize(table, dim=-1)
    steps = sum((along[:, None] - along).abs() for along in (number // side, number % side))
    cosines = unit @ unit.T
    return cosines[steps == 1].mean().item(), cosines[steps >= side // 2].mean().item()


def smoothness(filters):
    """The correlation of pixels side by side, in filters whose own mean colour is taken away: about 0 for noise, at most 1."""
    waves = filters - filters.mean((-2, -1), keepdim=True)
    left, right = waves[..., :-1], waves[..., 1:]
    return ((left * right).sum() / (left.square().sum() * right.square().sum()).sqrt()).item()


def copies(drawing, number):
    """A white picture with one or two small copies of a drawing on it."""
    size = drawing.width
    picture, small = Image.new("RGB", drawing.size, "white"), drawing.resize((3 * size // 8, 3 * size // 8))
    for x, y in ((0.09, 0.09), (0.54, 0.49))[:number]:
        picture.paste(small, (round(x * size), round(y * size)))
    return picture


def two_of(name):
    """ "key" -> "two keys"."""
    if name.endswith("y") and name[-2] not in "aeiou":
        return f"two {name[:-1]}ies"
    return f"two {name}" + ("" if name == "fish" else "es" if name.endswith(("s", "sh", "ch", "x")) else "s")


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


@torch.no_grad()
def mean_text_vectors(reference, text_model, names, templates):
    """For each name, the mean of the unit vectors of all templates, of length 1 again. -> (names, width)"""
    vectors = [text_model(reference.tokenize(*[template.format(name) for name in names]))[1] for template in templates]
    return F.normalize(sum(F.normalize(vector, dim=-1) for vector in vectors), dim=-1)


def clip_loss(logits):
    """CLIP's loss: each image picks its text by softmax, each text its image. Radford et al. 2021. (pairs, pairs) -> scalar"""
    picked = logits.log_softmax(dim=1).diagonal() + logits.log_softmax(dim=0).diagonal()
    return -picked.mean() / 2


def fit_linear_probe(vectors, targets, ridge=100.0):
    """What can one matrix read from vectors? It is fitted by least squares, with a penalty on large weights.

    vectors (examples, width), targets (examples, labels) -> a function from vectors (..., width) to scores (..., labels)
    """
    mean, size, share = vectors.mean(dim=0), vectors.std(dim=0), targets.mean(dim=0)
    inputs = ((vectors - mean) / size).double()
    gram = inputs.T @ inputs + ridge * torch.eye(inputs.shape[1], dtype=torch.double)
    weights = torch.linalg.solve(gram, inputs.T @ (targets - share).double()).float()
    return lambda new: (new - mean) / size @ weights + share


@torch.no_grad()
def seconds_in_turns(models, pixel_values, rounds=9):
    """Seconds of `rounds` passes through each of the models, run in turns so that all meet the same machine.

    {name: model} -> {name: [seconds]}
    """
    seconds = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            start = time.perf_counter()
            model(pixel_values)
            seconds[name].append(time.perf_counter() - start)
    return {name: times[1:] for name, times in seconds.items()}  # the first round warms up


def time_in_turns(ours, theirs, pixel_values):
    """Median seconds of a pass through each. -> (ours, theirs)"""
    return [statistics.median(times) for times in seconds_in_turns({"ours": ours, "theirs": theirs}, pixel_values).values()]


class CountMemory(TorchDispatchMode):
    """While it is on, adds up the bytes of all tensors that operations have made and that still live; keeps the peak."""

    def __init__(self):
        super().__init__()
        self.live, self.outside, self.peak = {}, set(), 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        self.outside |= given - self.live.keys()  # weights and inputs were there before
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self.live.keys() | self.outside:
                self.live[storage._cdata] = storage.nbytes()
                weakref.finalize(storage, self.live.pop, storage._cdata)
        self.peak = max(self.peak, sum(self.live.values()))
        return result


def peak_megabytes(model, pixel_values):
    """The most memory that a pass needs at once, beyond the weights and the input."""
    with torch.no_grad(), CountMemory() as memory:
        model(pixel_values)
    return memory.peak / 1e6
