"""How the bundled model was made: the chunked loss, interrupted training, and bad input."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import torch
from pretrain_worker import PAIRS, TINY, fixed_batch
from safetensors.torch import save_file

from utils.pretrain import concepts, drawings
from utils.pretrain.drawings import PretrainError
from utils.pretrain.evaluate import position_gap
from utils.pretrain.export import MODEL
from utils.pretrain.train import make_model, sigmoid_loss

ROOT = Path(__file__).parents[1]
WORKER = [str(ROOT / "tests" / "pretrain_worker.py")]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def start(task, folder, processes=1):
    """The worker in processes of its own, by torchrun if there are several."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] if processes > 1 else []
    command = [sys.executable, *torchrun, *WORKER, task, str(folder)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors


def work_folder(path):
    """An empty folder for a run, with the bundled vocabulary in it so that the run need not learn one."""
    path.mkdir()
    shutil.copy(ROOT / MODEL / "spiece.model", path)
    return path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = work_folder(tmp_path_factory.mktemp("runs") / "uninterrupted")
    finish(start("train", folder))
    return torch.load(folder / "result.pt")


# The loss


def test_the_loss_is_the_papers():
    """Algorithm 1 of arXiv 2303.15343, pair by pair, in words that share nothing with the implementation."""
    images, texts, scale, bias = fixed_batch()
    total = 0.0
    for i in range(PAIRS):
        for j in range(PAIRS):
            logit = (images[i] @ texts[j] * scale.exp() + bias).item()
            probability = 1 / (1 + torch.tensor(-logit, dtype=torch.float64).exp())
            total -= (probability if i == j else 1 - probability).log().item()
    assert sigmoid_loss(images, texts, scale, bias).item() == pytest.approx(total / PAIRS, abs=1e-5)


def test_two_processes_compute_the_loss_and_gradients_of_one(tmp_path):
    finish(start("loss", tmp_path))
    finish(start("loss", tmp_path, processes=2))
    loss, images, texts, scale, bias = torch.load(tmp_path / "loss-0-of-1.pt")
    halves = [torch.load(tmp_path / f"loss-{rank}-of-2.pt") for rank in (0, 1)]
    close = dict(rtol=0, atol=1e-6)
    torch.testing.assert_close(sum(half[0] for half in halves) / 2, loss, **close)
    # A process divides by its own images, half of all: the mean over processes is the whole batch's gradient.
    torch.testing.assert_close(torch.cat([half[1] for half in halves]) / 2, images, **close)
    torch.testing.assert_close(torch.cat([half[2] for half in halves]) / 2, texts, **close)
    torch.testing.assert_close(sum(half[3] for half in halves) / 2, scale, **close)
    torch.testing.assert_close(sum(half[4] for half in halves) / 2, bias, **close)


def test_scale_and_bias_start_as_in_the_paper():
    model = make_model(TINY)
    assert model.logit_scale.exp().item() == pytest.approx(10)
    assert model.logit_bias.item() == -10


# Training


def test_training_under_torchrun_follows_the_single_process(tmp_path, uninterrupted):
    folder = work_folder(tmp_path / "two")
    finish(start("train", folder, processes=2))
    two = torch.load(folder / "result.pt")
    # The encoders run in bfloat16, so the two runs round differently; a wrong gradient would differ in the first digit.
    for (step, one_loss), (_, two_loss) in zip(uninterrupted["history"]["loss"], two["history"]["loss"], strict=True):
        assert two_loss == pytest.approx(one_loss, abs=0.02), f"step {step}"


def test_a_killed_run_goes_on_and_ends_with_the_same_weights(tmp_path, uninterrupted):
    folder = work_folder(tmp_path / "killed")
    process = start("train", folder)
    while not (folder / "checkpoint.pt").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    stopped_at = torch.load(folder / "checkpoint.pt")["step"]
    assert 0 < stopped_at < TINY.steps
    (folder / "checkpoint.pt.partial").write_bytes(b"half a checkpoint")
    finish(start("train", folder))
    result = torch.load(folder / "result.pt")
    for name, weight in uninterrupted["model"].items():
        assert torch.equal(result["model"][name], weight), name
    for kept in ("loss", "scores"):
        assert result["history"][kept] == uninterrupted["history"][kept]
    steps = [shot["step"] for shot in result["history"]["snapshots"]]
    assert steps == [shot["step"] for shot in uninterrupted["history"]["snapshots"]]


def test_changing_the_canvas_interpolates_the_position_table(uninterrupted):
    tables = [shot["positions"].shape[0] for shot in uninterrupted["history"]["snapshots"]]
    assert tables[0] == (64 // 16) ** 2 and tables[-1] == (96 // 16) ** 2


# Data


def test_a_tenth_of_the_pairs_is_held_out_whatever_their_order():
    pairs = [(a, b) for a in concepts.NAMES for b in concepts.NAMES if a < b]
    assert all(concepts.is_held_out(a, b) == concepts.is_held_out(b, a) for a, b in pairs)
    assert 0.08 < sum(concepts.is_held_out(a, b) for a, b in pairs) / len(pairs) < 0.12


def test_the_position_score_tells_smooth_from_random():
    rows, columns = torch.meshgrid(torch.linspace(0, 3, 14), torch.linspace(0, 3, 14), indexing="ij")
    smooth = torch.stack([rows.sin(), rows.cos(), columns.sin(), columns.cos()], -1).view(196, 4)
    assert position_gap(smooth) > 0.3
    assert abs(position_gap(torch.randn(196, 192, generator=torch.Generator().manual_seed(0)))) < 0.05


# Bad input: one line, and nothing half-written


def test_a_package_with_a_wrong_hash_is_refused_and_removed(tmp_path):
    package = drawings.LABELS
    path = tmp_path / f"{package.name}-{package.version}.tgz"
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(PretrainError, match="does not match its pinned hash and was deleted; run again"):
        drawings.fetch(package, tmp_path)
    assert not path.exists()


@pytest.mark.parametrize("program", ["no npm at all", "npm that fails"])
def test_npm_trouble_is_one_clear_line(tmp_path, monkeypatch, program):
    (tmp_path / "bin").mkdir()
    if program == "npm that fails":
        (tmp_path / "bin" / "npm").write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / "bin" / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    expected = "npm is not installed" if program == "no npm at all" else "check the network"
    with pytest.raises(PretrainError, match=expected):
        drawings.fetch(drawings.LABELS, tmp_path)


@pytest.mark.parametrize("svg", ["<svg", '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"></svg>'])
def test_a_drawing_that_does_not_render_is_named(svg):
    with pytest.raises(PretrainError, match="does not render"):
        drawings.render(svg)


@pytest.mark.parametrize("save", [torch.save, save_file], ids=["torch", "safetensors"])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path, save):
    path = tmp_path / "weights"
    path.write_bytes(b"the old file")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(PretrainError, match="cannot write .*weights"):
            drawings.write_whole(path, lambda temporary: save({"w": torch.zeros(100_000)}, temporary))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == b"the old file"
    assert list(tmp_path.iterdir()) == [path]
