"""How fast and how large the hand-built tower is next to transformers', also on a crowded machine: `make bench`.

The numbers go into utils/bench.json, from which notebook 06 draws; a test says that the README prints them.
"""

import copy
import itertools
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

from utils import notebooks, siglip, usable_cores
from utils.measure import peak_megabytes, seconds_in_turns
from utils.parity import random_model, shape_of
from utils.siglip import VisionTransformer

import torch
import torch.nn.functional as F
from nbformat.v4 import new_code_cell
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm
from transformers import AutoConfig, SiglipVisionModel

RECORD = Path(__file__).with_suffix(".json")
MODEL = Path(__file__).parents[1] / "models" / "siglip-mini-patch16-224"
PAIRS = (("ours", "eager"), ("ours", "sdpa"), ("fused", "sdpa"))
MATRIX = 4096  # large enough that the machine reaches its full speed
# What a notebook's first cells do, and torch first: then its threads spin while they wait, as they do by default.
PROGRAMS = {"waiting": "", "spinning": "import torch; "}
PASSES = "from utils import bench; bench.time_passes()"
SECONDS = 10  # of passes in each crowd
# Not by resource.getrusage: its peak counts the memory of the process that started the kernel, too.
STATUS = "from pathlib import Path\nprint(Path('/proc/self/status').read_text(encoding='utf-8'))"


def with_sdpa(tower):
    """The same tower, in which one function of torch takes the place of `attend`: it never makes the tensor of weights."""

    def run(pixels):
        with patch.object(siglip, "attend", F.scaled_dot_product_attention):
            return tower(pixels)

    return run


def with_attention(theirs, kind):
    """A second model with the same weights, so that no time goes into switching."""
    twin = type(theirs)(copy.deepcopy(theirs.config)).eval()
    twin.load_state_dict(theirs.state_dict(), assign=True)
    twin.set_attn_implementation(kind)
    return twin


def measure(side, images, dtype, rounds):
    """The base-size tower on `images` pictures of `side` pixels, random weights. -> a row of the record

    `ratio`: smallest, median and largest over the rounds of the first model's time by the second one's; `share`: of the
    operations a second that a product of two large matrices reaches, in the median round.
    """
    theirs = random_model(SiglipVisionModel, shape_of(f"google/siglip-base-patch16-{side}").vision_config).to(dtype)
    ours = VisionTransformer(theirs.config).eval()
    ours.load_state_dict(theirs.state_dict(), assign=True)
    models = {
        "ours": ours,
        "fused": with_sdpa(ours),
        "eager": with_attention(theirs, "eager"),
        "sdpa": with_attention(theirs, "sdpa"),
    }
    matrix, pixels = torch.rand(MATRIX, MATRIX).to(dtype), torch.rand(images, 3, side, side).to(dtype)
    with FlopCounterMode(display=False) as operations, torch.no_grad():
        ours(pixels)
    seconds = seconds_in_turns(models | {"product": lambda _: matrix @ matrix}, pixels, rounds)

    def ratio(name, other):
        ratios = [mine / theirs for mine, theirs in zip(seconds[name], seconds[other])]
        return [round(value, 2) for value in (min(ratios), statistics.median(ratios), max(ratios))]

    speed = operations.get_total_flops() / (2 * MATRIX**3)  # in products of large matrices, and below in those a second
    return {
        "patches": (side // theirs.config.patch_size) ** 2,
        "images": images,
        "dtype": str(dtype).removeprefix("torch."),
        "seconds": {name: round(statistics.median(seconds[name]), 4) for name in models},
        "ratio": {f"{name} / {other}": ratio(name, other) for name, other in PAIRS},
        "megabytes": {name: round(peak_megabytes(model, pixels)) for name, model in models.items()},
        "operations": operations.get_total_flops(),
        "share": round(speed * statistics.median(p / o for p, o in zip(seconds["product"], seconds["ours"])), 2),
    }


def time_passes():
    """In a process of its own: passes of the bundled tower for some seconds, once all others are ready. Prints the median."""
    tower, pixels = VisionTransformer(AutoConfig.from_pretrained(MODEL).vision_config).eval(), torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        tower(pixels)
        print("ready", flush=True)
        sys.stdin.readline()
        began, seconds = time.perf_counter(), []
        while time.perf_counter() - began < SECONDS:
            start = time.perf_counter()
            tower(pixels)
            seconds.append(time.perf_counter() - start)
    print(statistics.median(seconds), flush=True)


def crowd(program, kernels=1, busy=0):
    """So many kernels at once, beside so many processes that only keep a core busy. -> median milliseconds of a pass"""
    idle = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": MODEL.parents[1]}
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "KMP_", "GOMP_"))}
    command = [sys.executable, "-c", PROGRAMS[program] + PASSES]
    started = [subprocess.Popen(command, env=environment, **pipes) for _ in range(kernels)]
    for process in started:
        process.stdout.readline()
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    milliseconds = [1000 * float(process.communicate()[0]) for process in started]
    for process in idle:
        process.kill()
        process.wait()
    return round(statistics.median(milliseconds), 1)


def measure_crowds(rounds=3):
    """-> {what else runs: {"waiting": milliseconds of a pass, "spinning": the same with torch's default}}, in turns"""
    crowds = {"nothing": {}, "one busy process": {"busy": 1}}
    for each in (2, 5):  # as many for each core as where forty learners share eight
        crowds[f"{each * usable_cores()} notebooks at once"] = {"kernels": each * usable_cores()}
    times = {name: {program: [] for program in PROGRAMS} for name in crowds}
    for _ in range(rounds):
        for name, program in itertools.product(crowds, PROGRAMS):
            times[name][program].append(crowd(program, **crowds[name]))
    return {name: {program: statistics.median(found) for program, found in by.items()} for name, by in times.items()}


def crowd_table(record):
    """-> the crowds as lines of Markdown"""
    yield "| what else runs | this series | torch's default |\n|---|---|---|"
    for name, times in record["crowds"].items():
        yield f"| {name} | {times['waiting']:,.0f} ms | {times['spinning']:,.0f} ms |"


def shape_of_row(row):
    """-> what a row was measured with: the first column of both tables of the towers"""
    return f"| {row['patches']} × {row['images']}, {row['dtype']}"


def tower_table(record):
    """-> the times as lines of Markdown, narrow enough for a phone"""
    yield f"| patches × images, type, seconds | {' | '.join(f'{name} / {other}' for name, other in PAIRS)} |\n|{'---|' * 4}"
    for row in record["towers"]:
        ratios = [f"**{median:.2f}** ({low:.2f} to {high:.2f})" for low, median, high in row["ratio"].values()]
        yield f"{shape_of_row(row)}<br>{row['seconds']['ours']:.2f} s | {' | '.join(ratios)} |"


def memory_table(record):
    """-> the megabytes, and the share of the peak, as lines of Markdown"""
    yield "| patches × images, type | MB: ours, fused, eager, sdpa | of the peak |\n|---|---|---|"
    for row in record["towers"]:
        yield f"{shape_of_row(row)} | {', '.join(map(str, row['megabytes'].values()))} | {row['share']:.0%} |"


def notebook_table(record):
    """-> the notebooks' times, and their kernels' memory where it was measured, as lines of Markdown"""
    memory = record.get("memory")
    yield f"| notebook, from a fresh kernel to its last cell | seconds |{' MB at the peak |' if memory else ''}"
    yield f"|---|---|{'---|' if memory else ''}"
    for name, seconds in record["notebooks"].items():
        yield f"| {name} | {seconds} |{f' {memory[name]:,} |' if memory else ''}"


def run_notebook(path):
    """-> seconds, and the most megabytes that its kernel ever held: on Linux, elsewhere None"""
    notebook, start = notebooks.read(path), time.perf_counter()
    if sys.platform == "linux":
        notebook.cells.append(new_code_cell(STATUS))
    notebooks.execute(notebook)
    seconds = round(time.perf_counter() - start)
    if sys.platform != "linux":
        return seconds, None
    kilobytes = re.search(r"^VmHWM:\s+(\d+) kB$", notebook.cells[-1].outputs[0].text, re.MULTILINE)[1]
    return seconds, round(int(kilobytes) * 1024 / 1e6)


def main():
    shapes = list(itertools.product((torch.float32, torch.bfloat16), (1, 8), (224, 384, 512)))
    record = {"crowds": measure_crowds()}
    print(*crowd_table(record), sep="\n", flush=True)
    record |= {"machine": f"{torch.get_num_threads()} cores ({platform.machine()}), torch {torch.__version__}"}
    record["towers"] = [measure(side, n, dtype, rounds=15 if n == 1 else 5) for dtype, n, side in tqdm(shapes, unit=" shapes")]
    print(record["machine"], *tower_table(record), *memory_table(record), sep="\n", flush=True)
    measured = {path.stem: run_notebook(path) for path in tqdm(notebooks.LESSONS, unit=" notebooks")}
    record["notebooks"] = {name: seconds for name, (seconds, _) in measured.items()}
    if sys.platform == "linux":
        record["memory"] = {name: megabytes for name, (_, megabytes) in measured.items()}
    print(*notebook_table(record), sep="\n")
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
