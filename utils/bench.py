"""How fast and how large the hand-built tower is next to transformers' own, and how long notebooks take: `make bench`."""

import itertools
import platform
import statistics
import time

import torch
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm
from transformers import SiglipVisionModel

from utils import notebooks
from utils.measure import peak_megabytes, seconds_in_turns
from utils.parity import random_model, shape_of
from utils.siglip import VisionTransformer


def matmul_speed(dtype, size=4096, rounds=5):
    """The most floating-point operations a second that this machine reaches on a product of large square matrices."""
    a = torch.rand(size, size).to(dtype)
    [seconds] = seconds_in_turns({"product": a.mm}, a, rounds).values()
    return 2 * size**3 / min(seconds)


def measure(side, images, dtype, rounds=3):
    """The base-size tower on `images` pictures of `side` pixels, random weights. -> a row of the record

    `ratio`: our time over transformers' in the same round: smallest, median, largest; `operations`: additions and
    multiplications in matrix products.
    """
    theirs = random_model(SiglipVisionModel, shape_of(f"google/siglip-base-patch16-{side}").vision_config).to(dtype)
    ours = VisionTransformer(theirs.config).eval()
    ours.load_state_dict(theirs.state_dict(), assign=True)

    def theirs_with(attention):
        def run(pixel_values):
            theirs.set_attn_implementation(attention)
            return theirs(pixel_values)

        return run

    models = {"ours": ours, "eager": theirs_with("eager"), "sdpa": theirs_with("sdpa")}
    pixels = torch.rand(images, 3, side, side).to(dtype)
    with FlopCounterMode(display=False) as operations, torch.no_grad():
        ours(pixels)
    seconds = seconds_in_turns(models, pixels, rounds)
    ratios = {name: sorted(mine / other for mine, other in zip(seconds["ours"], seconds[name])) for name in ("eager", "sdpa")}
    median = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "patches": (side // theirs.config.patch_size) ** 2,
        "images": images,
        "dtype": str(dtype).removeprefix("torch."),
        "seconds": {name: round(value, 4) for name, value in median.items()},
        "ratio": {name: [round(r, 2) for r in (s[0], statistics.median(s), s[-1])] for name, s in ratios.items()},
        "megabytes": {name: round(peak_megabytes(model, pixels)) for name, model in models.items()},
        "operations": operations.get_total_flops(),
    }


def tower_table(record):
    """-> the measurements as lines of Markdown"""
    yield f"On {record['machine']}. Ratios: smallest, **median**, largest of the rounds.\n"
    yield "| patches | images | type | seconds | / eager | / SDPA | MB: ours, eager, SDPA | of the peak |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in record["towers"]:
        ratios = [f"{low:.2f} **{median:.2f}** {high:.2f}" for low, median, high in row["ratio"].values()]
        memory = ", ".join(str(megabytes) for megabytes in row["megabytes"].values())
        share = row["operations"] / row["seconds"]["ours"] / record["peak"][row["dtype"]]
        start = f"| {row['patches']} | {row['images']} | {row['dtype']} | {row['seconds']['ours']:.2f}"
        yield f"{start} | {' | '.join(ratios)} | {memory} | {share:.0%} |"


def notebook_table(record):
    """-> the notebooks' times as lines of Markdown"""
    yield "\n| notebook, from a fresh kernel to its last cell | seconds |\n|---|---|"
    for name, seconds in record["notebooks"].items():
        yield f"| {name} | {seconds} |"


def seconds_to_run(path):
    start = time.perf_counter()
    notebooks.execute(path)
    return round(time.perf_counter() - start)


def main():
    types = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    record = {"machine": f"{torch.get_num_threads()} cores ({platform.machine()}), torch {torch.__version__}"}
    record["peak"] = {name: matmul_speed(dtype) for name, dtype in types.items()}
    shapes = list(itertools.product(types.values(), (1, 8), (224, 384, 512)))
    record["towers"] = [measure(side, images, dtype) for dtype, images, side in tqdm(shapes, unit=" shapes")]
    print(*tower_table(record), sep="\n", flush=True)
    record["notebooks"] = {path.stem: seconds_to_run(path) for path in notebooks.PATHS}
    print(*notebook_table(record), sep="\n")


if __name__ == "__main__":
    main()
