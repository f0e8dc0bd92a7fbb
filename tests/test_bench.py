"""`make bench`: what it measures is what it says, and the README prints what it measured last."""

import json
import sys
from pathlib import Path

from utils import bench
from utils.notebooks import LESSONS
from utils.parity import random_model
from utils.siglip import VisionTransformer

import nbformat
import pytest
import torch
from transformers import SiglipVisionConfig, SiglipVisionModel

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_row_counts_the_operations_of_the_whole_tower():
    row = bench.measure(224, 1, torch.float32, rounds=2)
    width, mlp, patches, patch = 768, 3072, 196, 16 * 16 * 3
    layer = 4 * patches * width * width + 2 * patches * patches * width + 2 * patches * width * mlp
    head = 2 * width * width + 2 * patches * width * width + 2 * patches * width + 2 * width * mlp  # one query, its MLP
    assert row["operations"] == 2 * (patches * patch * width + 12 * layer + head)
    assert row["patches"] == patches and set(row["seconds"]) == set(row["megabytes"]) == {"ours", "fused", "eager", "sdpa"}
    assert all(low <= median <= high for low, median, high in row["ratio"].values())


def test_ratios_and_the_share_of_the_peak_are_taken_round_by_round(monkeypatch):
    rounds = {"ours": [1.0, 2.0, 4.0], "fused": [1.0] * 3, "eager": [2.0] * 3, "sdpa": [1.0, 4.0, 4.0], "product": [10.0] * 3}
    speed = 2 * bench.MATRIX**3 / 10.0
    monkeypatch.setattr(bench, "seconds_in_turns", lambda models, pixels, _: rounds)
    row = bench.measure(224, 1, torch.float32, rounds=3)
    assert row["ratio"] == {"ours / eager": [0.5, 1, 2], "ours / sdpa": [0.5, 1, 1], "fused / sdpa": [0.25, 0.25, 1]}
    assert row["share"] == round(row["operations"] / 2.0 / speed, 2) > 1


def test_the_tower_with_torchs_attention_is_transformers_sdpa_to_the_last_bit():
    config = SiglipVisionConfig(num_hidden_layers=2, image_size=64, attn_implementation="sdpa")
    theirs, ours, pixels = random_model(SiglipVisionModel, config), VisionTransformer(config).eval(), torch.rand(2, 3, 64, 64)
    ours.load_state_dict(theirs.state_dict())
    with torch.no_grad():
        assert torch.equal(bench.with_sdpa(ours)(pixels)[0], theirs(pixels).last_hidden_state)


def test_the_readme_prints_the_last_measurement():
    record = json.loads(bench.RECORD.read_text(encoding="utf-8"))
    for table in (bench.crowd_table, bench.tower_table, bench.memory_table, bench.notebook_table):
        assert "\n".join(table(record)) in README
    assert record["machine"] in README
    assert len(record["towers"]) == 12 and list(record["notebooks"]) == [path.stem for path in LESSONS]


def test_a_kernel_stays_under_the_memory_that_a_free_host_gives_it():
    """As measured last: Binder has 2 GB, of which JupyterLab wants some. The VLM's notebooks may need more."""
    memory = json.loads(bench.RECORD.read_text(encoding="utf-8")).get("memory", {})  # not there before the next `make bench`
    assert {name: megabytes for name, megabytes in memory.items() if name < "10" and megabytes >= 1500} == {}


def test_the_notebooks_table_has_a_column_for_memory_once_it_is_measured():
    record = {"notebooks": {"01_a": 8, "02_b": 21}}
    assert list(bench.notebook_table(record))[1:] == ["|---|---|", "| 01_a | 8 |", "| 02_b | 21 |"]
    lines = list(bench.notebook_table(record | {"memory": {"01_a": 612, "02_b": 1204}}))
    assert lines[0].endswith(" | seconds | MB at the peak |")
    assert lines[1:] == ["|---|---|---|", "| 01_a | 8 | 612 |", "| 02_b | 21 | 1,204 |"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell a process's peak this way")
def test_a_kernels_peak_is_its_own_and_counts_what_it_has_given_back(tmp_path):
    ours = b"x" * 400_000_000  # what this process holds is not the kernel's
    peaks = []
    for source in ("pass", "len(b'x' * 300_000_000)"):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
        nbformat.write(notebook, tmp_path / "a.ipynb")
        peaks.append(bench.run_notebook(tmp_path / "a.ipynb")[1])
    assert peaks[0] < len(ours) / 1e6 and 290 < peaks[1] - peaks[0] < 330


def test_a_crowded_machine_slows_a_notebook_down_by_no_more_than_its_share():
    """As measured last. Alone, it may be a little slower than with torch's default, which is many times as slow in a crowd."""
    record = json.loads(bench.RECORD.read_text(encoding="utf-8"))
    cores = int(record["machine"].split()[0])
    alone, beside, *crowds = (times["waiting"] for times in record["crowds"].values())
    assert beside <= 2.5 * alone and len(crowds) == 2
    for each, crowd in zip((2, 5), crowds):
        assert f"{each * cores} notebooks at once" in record["crowds"] and crowd <= 3.5 * each * alone
    assert alone <= 1.15 * record["crowds"]["nothing"]["spinning"]


def test_a_crowd_is_all_started_before_any_of_it_is_timed(monkeypatch):
    monkeypatch.setattr(bench, "PASSES", "print('ready', flush=True); input(); print(0.002)")
    assert bench.crowd("waiting", kernels=3, busy=1) == 2.0
