"""Nothing in the notebooks is hard-coded to the bundled model: they run on a SigLIP of base size, too. Slow: some minutes."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import SiglipConfig, SiglipModel

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "models" / "siglip-mini-patch16-224"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="session")
def base_checkpoint(tmp_path_factory):
    """A folder with a SigLIP of base width and depth: random weights, biases and norms too; the bundled model's tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "siglip-base-random"
    torch.manual_seed(0)
    text = dict(vocab_size=900, max_position_embeddings=16, num_hidden_layers=2, pad_token_id=1, bos_token_id=1, eos_token_id=1)
    model = SiglipModel(SiglipConfig(text_config=text, vision_config={}))
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    for name in ("preprocessor_config.json", "tokenizer_config.json", "spiece.model"):
        shutil.copy(BUNDLED / name, folder)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_on_a_base_size_checkpoint(path, base_checkpoint):
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300", "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(path)],
        env=os.environ | {"SIGLIP_CHECKPOINT": str(base_checkpoint)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
