"""Nothing is hard-coded to the bundled models: notebooks run on other SigLIPs and another PaliGemma, each cell twice."""

import copy
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from utils.notebooks import PATHS, execute, read
from utils.parity import random_model
from utils.reference import load_reference

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import (
    GemmaTokenizer,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    Siglip2Config,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

ROOT = Path(__file__).parents[1]
BUNDLED = ROOT / "models" / "siglip-mini-patch16-224"
BUNDLED_VLM = ROOT / "models" / "paligemma-mini-224"


@pytest.fixture(scope="session")
def other_checkpoint(tmp_path_factory):
    """A folder with a SigLIP of other sizes, the picture's too: random weights, biases too; the bundled one's tokenizer.

    Small, since notebooks ask the whole model dozens of times: 8 x 8 patches. `test_parity.py` has the shapes of Google's.
    """
    folder = tmp_path_factory.mktemp("models") / "siglip-other-random"
    size = dict(hidden_size=160, num_attention_heads=5, intermediate_size=600)
    ends = dict(pad_token_id=1, bos_token_id=1, eos_token_id=1)
    text = size | ends | dict(vocab_size=900, max_position_embeddings=16, num_hidden_layers=2, projection_size=160)
    config = SiglipConfig(text_config=text, vision_config=size | dict(num_hidden_layers=5, image_size=128))
    random_model(SiglipModel, config).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 128, "width": 128}).save_pretrained(folder)
    for name in ("tokenizer_config.json", "spiece.model"):
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
    smaller = processor.read_text(encoding="utf-8").replace('"image_seq_length": 196', '"image_seq_length": 64')
    processor.write_text(smaller, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def siglip2_checkpoint(tmp_path_factory):
    """A folder with files like those of SigLIP 2 So400m/14, but narrow and with random weights.

    160 px, of which 11 x 11 patches leave 6 px over, as many as 27 x 27 leave of 384; heads of width 72; bilinear resizing;
    Gemma's tokenizer, which keeps capitals and knows no length.
    """
    folder = tmp_path_factory.mktemp("models") / "siglip2-random"
    learner = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    captions = (BUNDLED_VLM / "sample" / "scenes.txt").read_text(encoding="utf-8").splitlines()
    learner.train_from_iterator(captions, trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    GemmaTokenizer(learned["vocab"], merges, add_bos_token=False, add_eos_token=True).save_pretrained(folder)
    SiglipImageProcessorPil(size={"height": 160, "width": 160}, resample=2).save_pretrained(folder)
    size = dict(hidden_size=144, num_attention_heads=2, intermediate_size=300, num_hidden_layers=4)
    ends = dict(pad_token_id=0, eos_token_id=1, bos_token_id=2)
    text = size | ends | dict(vocab_size=len(learned["vocab"]), max_position_embeddings=64, projection_size=144)
    vision = size | dict(image_size=160, patch_size=14)
    random_model(SiglipModel, SiglipConfig(text_config=text, vision_config=vision)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def naflex_checkpoint(tmp_path_factory):
    """A folder like Google's NaFlex checkpoints: a table of 8 x 8 places, random weights; the bundled model's tokenizer."""
    folder = tmp_path_factory.mktemp("models") / "siglip2-random-naflex"
    size = dict(hidden_size=160, num_attention_heads=5, intermediate_size=600, num_hidden_layers=3)
    text = size | dict(vocab_size=900, max_position_embeddings=16, projection_size=160)
    config = Siglip2Config(text_config=text, vision_config=size | dict(patch_size=14, num_patches=64))
    random_model(Siglip2Model, config).save_pretrained(folder)
    Siglip2ImageProcessorPil(patch_size=14, max_num_patches=64).save_pretrained(folder)
    for name in ("tokenizer_config.json", "spiece.model"):
        shutil.copy(BUNDLED / name, folder)
    return folder


def run_notebook(path, **environment):
    """Every cell must run; outputs are not compared."""
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=3600", "-p", "no:cacheprovider", "-q"]
    command = [sys.executable, "-m", "pytest", *options, str(path)]
    done = subprocess.run(command, env=os.environ | environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def test_sentences_reach_a_siglip_2_as_it_was_trained(siglip2_checkpoint, monkeypatch):
    monkeypatch.setenv("SIGLIP_CHECKPOINT", str(siglip2_checkpoint))
    reference = load_reference()
    shouted, plain = reference.tokenize("Two CATS on a White background", "two cats on a white background")
    words = (plain > 1).sum()
    assert shouted.equal(plain), "lower-cased"
    assert len(plain) == 64 and plain[words] == 1 and (plain[words + 1 :] == 0).all(), "no bos, the end, padding on the right"
    assert reference.tokenizer.decode(plain[:words]) == "two cats on a white background"
    [long] = reference.tokenize("two cats and " * 40)
    assert len(long) == 64 and long[-1] == 1, "cut off, with its end"


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PATHS if path.name[:2] in ("01", "02", "07")], ids=lambda path: path.stem)
def test_a_notebook_on_preprocessing_patches_or_sentences_runs_on_files_like_siglip_2s(path, siglip2_checkpoint):
    run_notebook(path, SIGLIP_CHECKPOINT=str(siglip2_checkpoint))


def tagged(cell, tag):
    return tag in cell.metadata.get("tags", [])


def trains_long(cell):
    """Of these, `make test-training` runs each three times in a kernel."""
    return tagged(cell, "nbval-ignore-output") and "STEPS" in cell.source


def what_it_says(cell):
    """A cell's outputs, pictures included, without their numbers, and without warnings: Python shows each only once."""
    outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return [{name: output.get(name) for name in ("name", "text", "data", "evalue")} for output in outputs]


def run_each_cell_twice(path):
    """Each cell twice in a row; and after all of them, in the same order, those that check an exercise once more."""
    notebook = read(path)
    once = [cell for cell in notebook.cells if cell.cell_type == "code"]
    again = {cell.id: copy.deepcopy(cell) for cell in once if not trains_long(cell)}
    last = {cell.id: copy.deepcopy(cell) for cell in once if tagged(cell, "check")}
    notebook.cells = [twin for cell in once for twin in (cell, again.get(cell.id)) if twin] + list(last.values())
    execute(notebook)
    for cell in once:
        for twin in (again.get(cell.id), last.get(cell.id)):
            assert not twin or tagged(cell, "nbval-ignore-output") or what_it_says(cell) == what_it_says(twin), cell.source


@pytest.fixture
def other_models(other_checkpoint, odd_vlm, monkeypatch):
    monkeypatch.setenv("SIGLIP_CHECKPOINT", str(other_checkpoint))
    monkeypatch.setenv("VLM_CHECKPOINT", str(odd_vlm))


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_cell_runs_on_other_checkpoints_and_when_run_twice_says_the_same(path, other_models):
    run_each_cell_twice(path)


@pytest.mark.training
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_cell_says_the_same_when_run_twice_on_the_bundled_models(path):
    run_each_cell_twice(path)


@pytest.mark.slow
def test_the_notebook_on_any_shape_runs_on_a_naflex_checkpoint(naflex_checkpoint):
    run_notebook(ROOT / "notebooks" / "12_any_shape.ipynb", SIGLIP_CHECKPOINT=str(naflex_checkpoint))
