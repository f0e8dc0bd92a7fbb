"""The bundled model: what a user of `models/siglip-mini-patch16-224` may rely on."""

import json
import os
import subprocess
import sys
from pathlib import Path

from utils.pretrain.concepts import NAMES
from utils.pretrain.evaluate import Judge, missed_floors, position_gap, sample_score, score_table
from utils.siglip import SigLIP

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoProcessor, SiglipModel

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "models" / "siglip-mini-patch16-224"
SCORES = json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model():
    return SiglipModel.from_pretrained(FOLDER, attn_implementation="eager").eval()


@pytest.fixture(scope="module")
def processor():
    return AutoProcessor.from_pretrained(FOLDER)


@pytest.fixture(scope="module")
def inputs(processor):
    """Three drawings of the unseen style and four captions."""
    images = [Image.open(path) for path in sorted((FOLDER / "sample").glob("*.png"))[:3]]
    captions = ["a drawing of a cat", "two apples on a blue background", "ship", "a bee and three pears"]
    return processor(images=images, text=captions, padding="max_length", return_tensors="pt")


# Loading


def test_it_loads_in_a_fresh_process_that_cannot_reach_a_network():
    program = f"""
import socket
def refuse(*args, **kwargs): raise SystemExit("tried to reach the network")
socket.socket.connect = socket.getaddrinfo = refuse
from transformers import AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer, SiglipModel
print(*(type(c.from_pretrained({str(FOLDER)!r})).__name__
        for c in (SiglipModel, AutoModel, AutoImageProcessor, AutoProcessor, AutoTokenizer)))
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == [
        "SiglipModel",
        "SiglipModel",
        "SiglipImageProcessorPil",
        "SiglipProcessor",
        "SiglipTokenizer",
    ], done.stderr


def test_it_fits():
    def size(*patterns):
        return sum(path.stat().st_size for pattern in patterns for path in FOLDER.rglob(pattern) if path.is_file())

    assert size("*") < 20e6
    assert size("history.*") < 3e6


def test_its_architecture_is_siglips(model):
    vision, text = model.config.vision_config, model.config.text_config
    assert (vision.image_size, vision.patch_size, vision.hidden_size, vision.num_hidden_layers) == (224, 16, 192, 12)
    for tower in (vision, text):
        assert tower.hidden_size // tower.num_attention_heads == 64
        assert tower.intermediate_size == 4 * tower.hidden_size
        assert (tower.hidden_act, tower.layer_norm_eps) == ("gelu_pytorch_tanh", 1e-6)
    assert model.vision_model.embeddings.position_embedding.weight.shape == (196, 192)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


# Tokenizer and image processor


def test_the_tokenizer_lower_cases_and_drops_punctuation(processor):
    assert processor.tokenizer("A Drawing, of TWO Cats!").input_ids == processor.tokenizer("a drawing of two cats").input_ids


def test_the_tokenizer_pads_with_the_end_token_and_gives_no_mask(processor):
    encoded = processor.tokenizer(["a cat", "a drawing of two cats"], padding="max_length", return_tensors="pt")
    assert set(encoded) == {"input_ids"}
    assert encoded.input_ids.shape == (2, 16)
    end = processor.tokenizer.eos_token_id
    assert processor.tokenizer.pad_token_id == end == 1
    assert (encoded.input_ids[0, 3:] == end).all()


def test_every_caption_word_is_known(processor):
    unknown = processor.tokenizer.unk_token_id
    assert not [name for name in NAMES if unknown in processor.tokenizer(name).input_ids]


def test_images_are_squashed_with_bicubic_to_the_range_from_minus_one_to_one(processor):
    noise = np.random.default_rng(0).integers(0, 256, (90, 300, 3), dtype=np.uint8)
    pixels = processor.image_processor(Image.fromarray(noise), return_tensors="pt").pixel_values
    squashed = np.asarray(Image.fromarray(noise).resize((224, 224), Image.Resampling.BICUBIC))
    expected = torch.from_numpy(((squashed / 255).astype(np.float32) - 0.5) / 0.5).permute(2, 0, 1)[None]
    assert torch.equal(pixels, expected)


# The hand-built model with these weights


@torch.no_grad()
def test_the_hand_built_model_gives_transformers_outputs_to_the_last_bit(model, inputs):
    ours = SigLIP(model.config)
    ours.load_state_dict(model.state_dict(), strict=True)
    reference = model(**inputs)
    hidden, pooled = ours.vision_model(inputs.pixel_values)
    assert torch.equal(hidden, reference.vision_model_output.last_hidden_state)
    torch.testing.assert_close(pooled, reference.vision_model_output.pooler_output, rtol=0, atol=1e-5)
    assert torch.equal(ours.text_model(inputs.input_ids)[1], reference.text_model_output.pooler_output)
    torch.testing.assert_close(ours(inputs.pixel_values, inputs.input_ids), reference.logits_per_image, rtol=0, atol=1e-4)


# Scores


def test_every_floor_is_met():
    assert not missed_floors(SCORES["scores"])


def test_the_sample_gives_the_score_that_the_card_prints():
    assert round(sample_score(Judge(FOLDER), FOLDER), 3) == SCORES["scores"]["sample, unseen style, top-1"]


def test_the_position_table_gives_the_score_that_the_card_prints(model):
    table = model.vision_model.embeddings.position_embedding.weight.detach()
    assert round(position_gap(table), 3) == SCORES["scores"]["position gap"]


def test_the_card_prints_the_measured_scores():
    assert score_table(SCORES["scores"]) in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_the_readme_prints_the_measured_scores_too():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("trained styles, top-1", "unseen style, top-1", "test style, top-1", "test style, top-5"):
        assert f"{SCORES['scores'][name]:.0%}".replace("%", " %") in readme
    assert f"{len(NAMES)} everyday things" in readme


# History


def test_the_history_goes_from_the_random_start_to_the_bundled_weights(model):
    record = json.loads((FOLDER / "history.json").read_text(encoding="utf-8"))
    tensors = load_file(FOLDER / "history.safetensors")
    last = len(record["snapshots"]) - 1
    assert last + 1 == 10
    assert record["snapshots"][0]["step"] == 0
    assert record["snapshots"][0]["logit_bias"] == -10
    embeddings = model.vision_model.embeddings
    assert torch.equal(tensors[f"{last}.positions"].float(), embeddings.position_embedding.weight)
    filters = tensors[f"{last}.filters"] * tensors[f"{last}.filter_scale"]
    assert (filters - embeddings.patch_embedding.weight).abs().max() <= tensors[f"{last}.filter_scale"].max()
    assert record["loss"][0][1] > record["loss"][-1][1]
