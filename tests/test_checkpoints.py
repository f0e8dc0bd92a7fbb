"""Nothing in the notebooks is hard-coded to the bundled models: they run on a base-size SigLIP and an odd PaliGemma. Slow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration, SiglipConfig, SiglipModel

from utils.parity import random_model

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "models" / "siglip-mini-patch16-224"
BUNDLED_VLM = ROOT / "models" / "paligemma-mini-224"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="session")
def base_checkpoint(tmp_path_factory):
    """A folder with a SigLIP of base width and depth: random weights, biases and norms too; the bundled model's tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "siglip-base-random"
    text = dict(vocab_size=900, max_position_embeddings=16, num_hidden_layers=2, pad_token_id=1, bos_token_id=1, eos_token_id=1)
    random_model(SiglipModel, SiglipConfig(text_config=text, vision_config={})).save_pretrained(folder)
    for name in ("preprocessor_config.json", "tokenizer_config.json", "spiece.model"):
        shutil.copy(BUNDLED / name, folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def odd_vlm(tmp_path_factory):
    """A folder with a PaliGemma of other sizes: width 80, patches of 28 px, random weights; the bundled model's tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "paligemma-odd-random"
    shutil.copytree(BUNDLED_VLM, folder)
    config = PaliGemmaConfig.from_pretrained(folder)
    for name, size in dict(
        hidden_size=80, intermediate_size=160, num_attention_heads=5, patch_size=28, num_hidden_layers=2
    ).items():
        setattr(config.vision_config, name, size)
    config.text_config.hidden_size = config.projection_dim = config.hidden_size = config.vision_config.projection_dim = 48
    config.text_config.num_attention_heads, config.text_config.head_dim = 2, 24
    random_model(PaliGemmaForConditionalGeneration, config).save_pretrained(folder)
    processor = folder / "processor_config.json"
    processor.write_text(processor.read_text().replace('"image_seq_length": 196', '"image_seq_length": 64'))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_other_checkpoints(path, base_checkpoint, odd_vlm):
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(path)],
        env=os.environ | {"SIGLIP_CHECKPOINT": str(base_checkpoint), "VLM_CHECKPOINT": str(odd_vlm)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
