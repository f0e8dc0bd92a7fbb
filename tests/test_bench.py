"""`make bench`: what it measures is what it says."""

import torch

from utils import bench


def test_a_row_counts_the_operations_of_the_whole_tower():
    row = bench.measure(224, 1, torch.float32, rounds=2)
    width, mlp, patches, patch = 768, 3072, 196, 16 * 16 * 3
    layer = 4 * patches * width * width + 2 * patches * patches * width + 2 * patches * width * mlp
    head = 2 * width * width + 2 * patches * width * width + 2 * patches * width + 2 * width * mlp  # one query, its MLP
    assert row["operations"] == 2 * (patches * patch * width + 12 * layer + head)
    assert row["patches"] == patches and set(row["seconds"]) == set(row["megabytes"]) == {"ours", "eager", "sdpa"}
    assert all(low <= median <= high for low, median, high in row["ratio"].values())


def test_the_table_shows_the_median_and_the_share_of_the_peak():
    row = {"patches": 196, "images": 1, "dtype": "float32", "seconds": {"ours": 0.5}, "operations": 40}
    row |= {"ratio": {"eager": [0.9, 1.0, 1.1], "sdpa": [1.0, 1.2, 1.3]}, "megabytes": {"ours": 9, "eager": 9, "sdpa": 7}}
    *_, line = bench.tower_table({"machine": "this one", "peak": {"float32": 100}, "towers": [row]})
    assert line == "| 196 | 1 | float32 | 0.50 | 0.90 **1.00** 1.10 | 1.00 **1.20** 1.30 | 9, 9, 7 | 80% |"
