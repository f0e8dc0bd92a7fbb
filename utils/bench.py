"""How fast and how large the hand-built tower is next to transformers' own, measured side by side: `make bench`."""

import statistics
import time
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from utils.reference import load_reference
from utils.siglip import SigLIP


@torch.no_grad()
def time_in_turns(ours, theirs, pixel_values, rounds=9):
    """Median seconds of a pass through each, run in turns so that both meet the same machine. -> (ours, theirs)"""
    seconds = {ours: [], theirs: []}
    for _ in range(rounds + 1):
        for model, times in seconds.items():
            start = time.perf_counter()
            model(pixel_values)
            times.append(time.perf_counter() - start)
    return [statistics.median(times[1:]) for times in seconds.values()]  # the first round warms up


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


def main():
    reference = load_reference()
    whole, config = SigLIP(reference.config).eval(), reference.config.vision_config
    whole.load_state_dict(reference.model.state_dict())
    ours, theirs = whole.vision_model, reference.model.vision_model
    for images in (1, 8):
        pixels = torch.zeros(images, 3, config.image_size, config.image_size)
        for attention in ("eager", "sdpa"):
            reference.model.set_attn_implementation(attention)
            mine, other = time_in_turns(ours, theirs, pixels)
            memory = peak_megabytes(ours, pixels) / peak_megabytes(theirs, pixels)
            print(f"{images} image(s), against {attention:5}: {mine / other:.2f} times the time, {memory:.2f} times the memory")


if __name__ == "__main__":
    main()
