"""`make bench`: what it measures is what it says, and the README shows the numbers of its last run."""

import json
from pathlib import Path

import torch

from utils import bench
from utils.notebooks import PATHS

README = (Path(__file__).parents[1] / "README.md").read_text()
RECORD = json.loads(bench.RECORD.read_text())


def test_a_row_counts_the_operations_of_the_whole_tower():
    row = bench.measure(224, 1, torch.float32, rounds=2)
    width, mlp, patches, patch = 768, 3072, 196, 16 * 16 * 3
    layer = 4 * patches * width * width + 2 * patches * patches * width + 2 * patches * width * mlp
    head = 2 * width * width + 2 * patches * width * width + 2 * patches * width + 2 * width * mlp  # one query, its MLP
    assert row["operations"] == 2 * (patches * patch * width + 12 * layer + head)
    assert row["patches"] == patches and set(row["seconds"]) == set(row["megabytes"]) == {"ours", "eager", "sdpa"}
    assert all(low <= median <= high for low, median, high in row["ratio"].values())


def test_the_readme_shows_the_last_measurement(capsys):
    bench.print_towers(RECORD)
    bench.print_notebooks(RECORD)
    lines = [line for line in capsys.readouterr().out.splitlines() if line]
    assert len(lines) == 3 + 12 + 2 + len(PATHS)
    assert [line for line in lines if line not in README] == []
