"""`make parity`: each checkpoint's shape loads into the hand-built model and gives the right outputs; what is wrong is said."""

import hashlib
import io
import os
import subprocess
import sys
from pathlib import Path

from utils import parity, siglip
from utils.errors import LessonError
from utils.pictures import sample_drawings
from utils.reference import load_reference
from utils.siglip import SigLIP

import pytest
import torch
from hub_server import serve
from transformers import SiglipConfig, SiglipModel

ROOT = Path(__file__).parents[1]
NO_NETWORK = {"HF_HOME": "/nonexistent", "http_proxy": "http://127.0.0.1:9", "HF_ENDPOINT": "http://127.0.0.1:9"}
# The larger ones have a billion weights to draw: `python -m utils.parity NAME --shape-only` measures these on request.
UP_TO_LARGE = [name for name, (size, *_) in parity.CHECKPOINTS.items() if size in (parity.BASE, parity.LARGE)]


@pytest.mark.parametrize("name", parity.CHECKPOINTS)
def test_a_checkpoints_shape_has_its_published_number_of_parameters(name):
    with torch.device("meta"):
        theirs, ours = SiglipModel(parity.shape_of(name)), SigLIP(parity.shape_of(name))
    for model in (theirs, ours):
        counts = tuple(sum(p.numel() for p in part.parameters()) for part in (model.vision_model, model))
        assert counts == parity.CHECKPOINTS[name][-2:]


@pytest.mark.slow
@pytest.mark.parametrize("name", UP_TO_LARGE)
def test_the_hand_built_model_gives_transformers_outputs_in_every_checkpoints_shape(name, capsys):
    model = parity.random_model(SiglipModel, parity.shape_of(name))
    side, text = model.config.vision_config.image_size, model.config.text_config
    pixels = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    ids = torch.randint(2, text.vocab_size, (2, text.max_position_embeddings), generator=torch.Generator().manual_seed(1))
    assert parity.print_table(parity.compare_stages(model, pixels, ids)) == []
    exact = [line.split("identical") for line in capsys.readouterr().out.splitlines() if "identical" in line]
    assert [len(parts) - 1 for parts in exact[:3]] == [2, 2, 2]  # all stages up to the pooling head, eager and SDPA


def test_a_wrong_model_is_called_wrong(monkeypatch, capsys):
    sizes = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
    text = dict(vocab_size=50, max_position_embeddings=8, projection_size=64, pad_token_id=1, bos_token_id=1, eos_token_id=1)
    model = parity.random_model(SiglipModel, SiglipConfig(vision_config=sizes | {"image_size": 32}, text_config=sizes | text))
    monkeypatch.setattr(siglip.MLP, "forward", lambda mlp, x: mlp.fc2(torch.nn.functional.gelu(mlp.fc1(x))))
    differences = parity.compare_stages(model, torch.rand(1, 3, 32, 32), torch.randint(2, 50, (1, 8)))
    wrong = ["all 2 hidden states", "last hidden state", "pooled vector", "text vector", "logits"]
    assert parity.print_table(differences) == wrong
    assert "WRONG" in capsys.readouterr().out


def test_without_a_network_it_measures_the_bundled_model():
    done = subprocess.run(
        [sys.executable, "-m", "utils.parity"], cwd=ROOT, env=os.environ | NO_NETWORK, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("identical") >= 9 and "WRONG" not in done.stdout


def test_a_photograph_that_cannot_be_fetched_is_said_and_the_table_goes_on(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(parity, "PHOTOGRAPH", "http://127.0.0.1:9/cats.jpg")
    monkeypatch.setattr(parity.constants, "HF_HOME", str(tmp_path))
    parity.print_published("google/siglip-base-patch16-224", None)
    assert capsys.readouterr().out.count("could not be fetched from http://127.0.0.1:9/cats.jpg; not measured") == 2


def test_the_photograph_is_fetched_once_checked_by_its_hash_and_kept(monkeypatch, tmp_path):
    picture = io.BytesIO()
    next(iter(sample_drawings().values())).save(picture, "PNG")
    monkeypatch.setattr(parity.constants, "HF_HOME", str(tmp_path))
    monkeypatch.setattr(parity, "PHOTOGRAPH_SHA256", hashlib.sha256(picture.getvalue()).hexdigest())
    with serve({"cats.jpg": picture.getvalue()}) as server:
        monkeypatch.setattr(parity, "PHOTOGRAPH", f"{server.url}/store/cats.jpg")
        size = parity.photograph().size
        assert parity.photograph().size == size and len(server.requests) == 1
        [kept] = (path for path in tmp_path.rglob("*") if path.is_file())
        kept.write_bytes(b"damaged")
        assert parity.photograph().size == size and len(server.requests) == 2


def test_a_photograph_that_cannot_be_stored_is_one_clear_line(monkeypatch, tmp_path):
    (tmp_path / "home").write_text("a file where the folder should be: root may write into any folder", encoding="utf-8")
    monkeypatch.setattr(parity.constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(parity, "PHOTOGRAPH_SHA256", hashlib.sha256(b"cats").hexdigest())
    with serve({"cats.jpg": b"cats"}) as server:
        monkeypatch.setattr(parity, "PHOTOGRAPH", f"{server.url}/store/cats.jpg")
        with pytest.raises(LessonError, match="the photograph cannot be stored in .*; not measured"):
            parity.photograph()


def test_what_is_not_the_photograph_is_neither_measured_nor_kept(monkeypatch, tmp_path):
    monkeypatch.setattr(parity.constants, "HF_HOME", str(tmp_path))
    with serve({"cats.jpg": b"<html>Welcome to the hotel</html>"}) as server:
        monkeypatch.setattr(parity, "PHOTOGRAPH", f"{server.url}/store/cats.jpg")
        with pytest.raises(LessonError, match="cats.jpg sends is not the photograph; not measured"):
            parity.photograph()
    assert not list(tmp_path.iterdir())


def test_another_number_of_parameters_is_called_wrong(capsys):
    assert parity.print_counts(
        "google/siglip-base-patch16-224", torch.nn.ModuleDict({"vision_model": torch.nn.Linear(2, 2)})
    ) == [
        "vision tower",
        "both towers",
    ]
    assert "WRONG, 92,884,224 expected" in capsys.readouterr().out


def test_another_logit_than_the_published_one_is_called_wrong(monkeypatch, capsys):
    monkeypatch.setattr(parity, "photograph", lambda: next(iter(sample_drawings().values())))
    assert parity.print_published("google/siglip-base-patch16-224", load_reference()) == [
        "published logits",
        "published probability",
    ]
    assert capsys.readouterr().out.count("WRONG") == 2


def test_an_unknown_shape_is_one_clear_line():
    done = subprocess.run(
        [sys.executable, "-m", "utils.parity", "google/nothing", "--shape-only"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("parity: google/nothing is not in the table of utils/parity.py; known: google/siglip-base")
