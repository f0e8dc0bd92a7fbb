"""How the bundled model was made and measured: the chunked loss, interrupted training, the styles, and bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

from utils.pretrain import concepts, drawings, train
from utils.pretrain.drawings import HELD_OUT_STYLE, STYLES, TEST_PACKAGE, TEST_STYLE, PretrainError
from utils.pretrain.evaluate import TESTS, name_drawings, position_gap
from utils.pretrain.export import MODEL, make_card
from utils.pretrain.scenes import SceneMaker
from utils.pretrain.train import RECIPE, make_model, sigmoid_loss

import pytest
import torch
from pretrain_worker import PAIRS, TINY, fixed_batch, loss_of_share, made_up_drawings, run
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
WORKER = str(ROOT / "tests" / "pretrain_worker.py")
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
SCORES = json.loads((ROOT / MODEL / "scores.json").read_text(encoding="utf-8"))


def start(*arguments):
    """Python in another process, until it ends. -> its exit status, what it wrote to stderr"""
    command = [sys.executable, *map(str, arguments)]
    ended = subprocess.run(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")
    return ended.returncode, ended.stderr


def work_folder(path):
    """An empty folder for a run, with the bundled vocabulary in it so that the run need not learn one."""
    path.mkdir()
    shutil.copy(ROOT / MODEL / "spiece.model", path)
    return path


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return run(work_folder(tmp_path_factory.mktemp("runs") / "uninterrupted"))


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes returns that torchrun starts together."""
    folder = work_folder(tmp_path_factory.mktemp("runs") / "two")
    status, errors = start("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, WORKER, folder)
    assert status == 0, errors
    return [torch.load(folder / f"result-{rank}.pt") for rank in (0, 1)]


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


@pytest.mark.slow
def test_two_processes_compute_the_loss_and_gradients_of_one(two_processes):
    loss, images, texts, scale, bias = loss_of_share()
    halves = [result["loss"] for result in two_processes]
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


@pytest.mark.slow
def test_training_under_torchrun_follows_the_single_process(two_processes, uninterrupted):
    # The encoders run in bfloat16, so the two runs round differently; a wrong gradient would differ in the first digit.
    two = two_processes[0]["history"]["loss"]
    for (step, one_loss), (_, two_loss) in zip(uninterrupted["history"]["loss"], two, strict=True):
        assert two_loss == pytest.approx(one_loss, abs=0.02), f"step {step}"


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_weights(tmp_path, monkeypatch, uninterrupted):
    folder = work_folder(tmp_path / "killed")
    start(WORKER, folder, TINY.steps - 3)
    assert (folder / "checkpoint.pt.partial").exists()
    assert torch.load(folder / "checkpoint.pt")["step"] == TINY.steps - 4
    taken, take = [], train.training_step
    monkeypatch.setattr(train, "training_step", lambda *arguments: taken.append(arguments[-1]) or take(*arguments))
    result = run(folder)
    assert taken == [*range(TINY.steps - 4, TINY.steps)]
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


# Measuring: a style that training never saw, and one that no choice was made by


@pytest.fixture
def packages(monkeypatch):
    """In place of npm: sets that draw two concepts, each in one colour. -> the names of the packages fetched so far"""
    fetched = []
    monkeypatch.setattr(drawings, "CONCEPTS", {"apple": "red apple", "bee": "honeybee"})

    def fetch(package, folder):
        fetched.append(package.name)
        return package

    def read_json(package, member):
        if package is drawings.LABELS:
            return [{"label": label} for label in drawings.CONCEPTS.values()]
        square = {"body": f'<path fill="{"red" if package is TEST_PACKAGE else "blue"}" d="M0 0h8v8h-8z"/>'}
        return {"width": 8, "height": 8, "icons": {"red-apple": square, "honeybee": square}}

    monkeypatch.setattr(drawings, "fetch", fetch)
    monkeypatch.setattr(drawings, "read_json", read_json)
    return fetched


def test_training_gets_no_drawing_of_the_test_style(tmp_path, packages):
    trained, measured = drawings.prepare(tmp_path), drawings.prepare_test(tmp_path)
    assert set(trained["style"]) == set(STYLES) and TEST_STYLE not in STYLES
    assert trained["pixels"][:, 0].max() == 0  # not a red one among them
    assert measured["style"] == [TEST_STYLE] * 2 and measured["name"] == ["apple", "bee"]
    assert measured["pixels"][:, 0].min() == 255


def test_drawings_are_rendered_once_and_the_test_style_leaves_them_alone(tmp_path, packages):
    first = drawings.prepare(tmp_path)
    kept = (tmp_path / "drawings.pt").read_bytes()
    packages.clear()
    drawings.prepare_test(tmp_path)
    assert packages == [drawings.LABELS.name, TEST_PACKAGE.name]
    assert torch.equal(drawings.prepare(tmp_path)["pixels"], first["pixels"])
    assert packages == [drawings.LABELS.name, TEST_PACKAGE.name]
    assert (tmp_path / "drawings.pt").read_bytes() == kept


def test_nothing_is_tuned_by_the_test_style(uninterrupted):
    assert TEST_STYLE != HELD_OUT_STYLE
    assert {floor for name, (_, floor) in TESTS.items() if name.startswith("test style")} == {None}
    looked_at = {name for scores in uninterrupted["history"]["scores"] for name in scores}
    assert "unseen style top-1" in looked_at and not any(name.startswith("test style") for name in looked_at)


def test_the_test_style_draws_at_least_sixty_concepts():
    assert SCORES["by style"][TEST_STYLE]["drawings"] >= 60


def test_naming_counts_the_first_and_the_first_five():
    number, third = len(concepts.NAMES), len(concepts.NAMES) // 3
    places = [0] * third + [4] * third + [5] * (number - 2 * third)

    class Judge:
        """Ranks the right name of a third of the drawings first, of the next third fifth, and of the others sixth."""

        def rank_names(self, images):
            wrong = [[name for name in range(number) if name != right] for right in range(number)]
            return torch.tensor([names[:at] + [right] + names[at:] for right, (names, at) in enumerate(zip(wrong, places))])

    made_up = {key: value if key == "tags" else value[:number] for key, value in made_up_drawings().items()}
    score, mistakes = name_drawings(Judge(), SceneMaker(made_up), made_up, "noto")
    assert score == pytest.approx({"drawings": number, "top-1": third / number, "top-5": 2 * third / number})
    assert mistakes[0] == [concepts.NAMES[third], concepts.NAMES[0]] and len(mistakes) == number - third


def test_the_card_is_what_the_code_writes_from_the_scores_and_the_history():
    card = (ROOT / MODEL / "README.md").read_text(encoding="utf-8")
    history = json.loads((ROOT / MODEL / "history.json").read_text(encoding="utf-8"))
    cores = int(re.search(r"on (\d+) cores", card)[1])  # the card alone knows
    assert make_card(history, RECIPE, SCORES, cores) == card


# Bad input: one line, and nothing half-written


def test_a_package_with_a_wrong_hash_is_refused_and_removed(tmp_path):
    package = drawings.LABELS
    path = tmp_path / f"{package.name}-{package.version}.tgz"
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(PretrainError, match="does not match its pinned hash and was deleted; run again"):
        drawings.fetch(package, tmp_path)
    assert not path.exists()


@pytest.mark.skipif(os.name == "nt", reason="a shell script plays npm")
@pytest.mark.parametrize("program", ["no npm at all", "npm that fails"])
def test_npm_trouble_is_one_clear_line(tmp_path, monkeypatch, program):
    (tmp_path / "bin").mkdir()
    if program == "npm that fails":
        (tmp_path / "bin" / "npm").write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
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
    resource = pytest.importorskip("resource", reason="a limit on file sizes plays the full disk, and Windows has none")
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
