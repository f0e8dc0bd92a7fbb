"""`make bench`: what it measures is what it says, and the README prints what it measured last."""

import json
from pathlib import Path

import torch

from utils import bench
from utils.notebooks import PATHS

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_a_row_counts_the_operations_of_the_whole_tower():
    row = bench.measure(224, 1, torch.float32, rounds=2)
    width, mlp, patches, patch = 768, 3072, 196, 16 * 16 * 3
    layer = 4 * patches * width * width + 2 * patches * patches * width + 2 * patches * width * mlp
    head = 2 * width * width + 2 * patches * width * width + 2 * patches * width + 2 * width * mlp  # one query, its MLP
    assert row["operations"] == 2 * (patches * patch * width + 12 * layer + head)
    assert row["patches"] == patches and set(row["seconds"]) == set(row["megabytes"]) == {"ours", "fused", "eager", "sdpa"}
    assert all(low <= median <= high for low, median, high in row["ratio"].values()) and 0 < row["share"] < 2


def test_the_readme_prints_the_last_measurement():
    record = json.loads(bench.RECORD.read_text())
    towers, times = "\n".join(bench.tower_table(record)), "\n".join(bench.notebook_table(record))
    assert towers in README and times in README and record["machine"] in README
    assert len(record["towers"]) == 12 and list(record["notebooks"]) == [path.stem for path in PATHS]
