"""The pretrained models: loaded right, from where the reader meant, or one clear line that names what is wrong."""

import json
import random
import re
import shutil
import sys
from pathlib import Path

from utils import parity, reference
from utils.errors import LessonError
from utils.pictures import sample_drawings
from utils.reference import load_history, load_reference, load_training_record, load_vlm

import pytest
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[1]
SIGLIP, VLM = ROOT / "models" / "siglip-mini-patch16-224", ROOT / "models" / "paligemma-mini-224"
LOADERS = {SIGLIP: ("SIGLIP_CHECKPOINT", load_reference), VLM: ("VLM_CHECKPOINT", load_vlm)}


@pytest.fixture(autouse=True)
def no_choice(monkeypatch):
    monkeypatch.delenv("SIGLIP_CHECKPOINT", raising=False)
    monkeypatch.delenv("VLM_CHECKPOINT", raising=False)


def checkpoint_files(bundled):
    """What a checkpoint consists of; not the model card, the scores and the history."""
    kept = (path for path in bundled.iterdir() if path.suffix in (".json", ".model", ".safetensors"))
    return sorted(path for path in kept if path.stem not in ("history", "scores"))


@pytest.fixture
def copy_of(tmp_path, monkeypatch):
    """-> a function: a bundled model -> a folder with links to its files, for tests to replace; the loader of that folder"""

    def make(bundled):
        folder = tmp_path / "copy"
        folder.mkdir()
        for path in checkpoint_files(bundled):
            (folder / path.name).symlink_to(path)
        variable, loader = LOADERS[bundled]
        monkeypatch.setenv(variable, str(folder))
        return folder, loader

    return make


def replace(path, content):
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    (folder / "model.safetensors").unlink()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def change_config(folder, change):
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    change(config)
    replace(folder / "config.json", json.dumps(config).encode())


def refusal(loader):
    with pytest.raises(LessonError) as caught:
        loader()
    line = str(caught.value)
    assert "\n" not in line
    return line


# What is loaded


def test_the_bundled_model_is_the_default_and_is_announced(capsys):
    siglip = load_reference()
    printed = capsys.readouterr()
    assert "Reference: siglip-mini-patch16-224 from models/siglip-mini-patch16-224:\n  224 px" in printed.out
    assert not printed.err
    assert not siglip.model.training
    assert siglip.config._attn_implementation == "eager"


@pytest.mark.parametrize("empty", ["", " "])
@pytest.mark.parametrize("bundled", LOADERS, ids=lambda bundled: bundled.name)
def test_an_empty_variable_is_no_choice(monkeypatch, bundled, empty):
    variable, loader = LOADERS[bundled]
    monkeypatch.setenv(variable, empty)
    assert loader().name == bundled.name


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_checkpoint_in_16_bits_is_loaded_in_32(copy_of, kind):
    folder, loader = copy_of(SIGLIP)
    change_weights(folder, lambda weights: weights.update({n: w.to(getattr(torch, kind)) for n, w in weights.items()}))
    change_config(folder, lambda config: config.update(dtype=kind))
    loaded, rounded = loader().model.state_dict(), load_file(folder / "model.safetensors")
    assert all(loaded[name].equal(tensor.float()) for name, tensor in rounded.items())


@pytest.mark.parametrize("loader", [load_reference, load_vlm])
def test_another_default_type_of_torch_is_refused_because_the_hand_built_blocks_would_not_fit(loader):
    torch.set_default_dtype(torch.float64)
    try:
        line = refusal(loader)
    finally:
        torch.set_default_dtype(torch.float32)
    assert "torch's default type is torch.float64" in line and "torch.set_default_dtype(torch.float32), and run" in line


# Where it is looked for


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Three folders, and nothing that leads to a network; only the third one is anywhere near the repository."""

    def no_network(*_):
        raise AssertionError("a folder is looked for before the hub is asked")

    monkeypatch.setattr(reference, "fetch", no_network)
    places = [tmp_path / name for name in ("kernel", "shell", "root")]
    for place in places:
        place.mkdir()
    monkeypatch.chdir(places[0])
    monkeypatch.setenv("PWD", str(places[1]))
    monkeypatch.setattr(reference, "ROOT", places[2])
    return places


@pytest.mark.parametrize("place", [0, 1, 2], ids=["the kernel's folder", "where Jupyter was started", "the repository"])
@pytest.mark.parametrize("typed", ["checkpoints/mine", "./checkpoints/mine", "checkpoints/mine/", " checkpoints/mine"])
def test_a_relative_folder_is_found_from(mine, monkeypatch, capsys, place, typed):
    (mine[place] / "checkpoints").mkdir()
    (mine[place] / "checkpoints" / "mine").symlink_to(SIGLIP, target_is_directory=True)
    monkeypatch.setenv("SIGLIP_CHECKPOINT", typed)
    assert load_reference().name == "mine"
    assert f"Reference: mine from {typed.strip()}:" in capsys.readouterr().out


def test_an_absolute_folder_and_one_below_home_are_found(copy_of, monkeypatch, capsys):
    folder, loader = copy_of(SIGLIP)
    assert loader().name == "copy"
    assert str(folder) in capsys.readouterr().out
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    monkeypatch.setenv("SIGLIP_CHECKPOINT", "~/copy")
    assert loader().name == "copy"


@pytest.mark.parametrize("name", ["models/nowhere", "/nowhere", "x" * 300, "~nobody-here/x"])
@pytest.mark.parametrize("bundled", LOADERS, ids=lambda bundled: bundled.name)
def test_a_checkpoint_that_is_not_there_is_one_clear_line(mine, monkeypatch, bundled, name):
    variable, loader = LOADERS[bundled]
    monkeypatch.setenv(variable, name)
    line = refusal(loader)
    assert "no model found: looked for the folders " in line and f"; unset {variable} to use the bundled model" in line
    assert name.startswith("/") or all(str(place / name) in line for place in mine)


# Files


# What transformers reads where it is there.
OTHERS = ["special_tokens_map.json", "added_tokens.json", "generation_config.json", "chat_template.json", "chat_template.jinja"]
OTHERS += ["preprocessor_config.json", "processor_config.json", "tokenizer.json", "model.safetensors.index.json"]
DAMAGES = {
    "missing": None,
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "random": lambda content: random.Random(0).randbytes(len(content)),
    "LFS": lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "list": lambda content: b"[]",
    "null": lambda content: b"null",
    "text": lambda content: b'"text"',
    "number": lambda content: b"7",
}
JSON_ONLY = ("list", "null", "text", "number")


def all_there_is(loaded):
    """-> weights, the tokens of a sentence, how images are resized"""
    tokens = loaded.tokenize("A drawing of two cats, 3 apples")
    processor = loaded.image_processor if hasattr(loaded, "image_processor") else loaded.processor.image_processor
    return loaded.model.state_dict(), tokens if torch.is_tensor(tokens) else tokens[0], processor.resample


@pytest.fixture(scope="module")
def right():
    return {bundled: all_there_is(loader()) for bundled, (_, loader) in LOADERS.items()}


FILES = [
    pytest.param(bundled, name, id=f"{bundled.name}-{name}")
    for bundled in LOADERS
    for name in sorted({path.name for path in checkpoint_files(bundled)} | set(OTHERS))
]


@pytest.mark.parametrize(("bundled", "name"), FILES)
def test_with_any_damage_to_a_file_the_model_is_loaded_right_or_one_line_names_that_file(copy_of, right, capsys, bundled, name):
    folder, loader = copy_of(bundled)
    content = (folder / name).read_bytes() if (folder / name).exists() else b'{"key": "value", "other": "value"}'
    for damage, change in DAMAGES.items():
        if damage in JSON_ONLY and not name.endswith(".json"):
            continue
        if change:
            replace(folder / name, change(content))
        else:
            (folder / name).unlink(missing_ok=True)
        try:
            weights, tokens, resample = all_there_is(loader())
        except LessonError as error:
            assert name in str(error) and "\n" not in str(error), (damage, str(error))
            assert str(folder) in str(error)
        else:
            assert all(weights[key].equal(tensor) for key, tensor in right[bundled][0].items()), damage
            assert tokens.equal(right[bundled][1]) and resample == right[bundled][2], damage
        assert not capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("model.safetensors", None, "the weights in .*copy are damaged .*; copy model.safetensors there again"),
        ("config.json", b'{"model_type": "clip"}', "holds a model of type 'clip', not 'siglip'"),
        ("config.json", b"{", "has no readable config.json"),
        ("config.json", b'{"model_type": "siglip", "vision_config": 7}', "config.json in .*copy cannot be used"),
        ("tokenizer_config.json", b"{}", "tokenizer_config.json in .*copy does not say which tokenizer it is for"),
        (
            "spiece.model",
            b"version https://git-lfs.github.com/spec/v1",
            "spiece.model in .* is only a Git LFS pointer; run `git",
        ),
    ],
    ids=["truncated weights", "another architecture", "broken config", "wrong config", "no tokenizer's name", "Git LFS"],
)
def test_a_damaged_checkpoint_is_one_clear_line(copy_of, file, content, says):
    folder, loader = copy_of(SIGLIP)
    replace(folder / file, (folder / file).read_bytes()[:100_000] if content is None else content)
    assert re.search(says, refusal(loader))


@pytest.mark.parametrize(
    ("file", "called"),
    [
        ("model.safetensors", "model.safetensors"),
        ("preprocessor_config.json", "preprocessor_config.json or processor_config.json"),
        ("spiece.model", "tokenizer.json or spiece.model or tokenizer.model"),
        ("tokenizer_config.json", "tokenizer_config.json"),
    ],
)
def test_a_checkpoint_of_which_a_file_is_missing_is_one_clear_line(copy_of, file, called):
    folder, loader = copy_of(SIGLIP)
    (folder / file).unlink()
    assert f"copy lacks {called}; copy all files of the checkpoint there" in refusal(loader)


def test_weights_in_several_files_are_loaded_right_and_a_damaged_one_is_named(copy_of, right):
    folder, loader = copy_of(SIGLIP)
    model = loader().model
    (folder / "model.safetensors").unlink()
    (folder / "config.json").unlink()
    model.save_pretrained(folder, max_shard_size="5MB")
    shards = sorted(path.name for path in folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert all(tensor.equal(right[SIGLIP][0][name]) for name, tensor in loader().model.state_dict().items())
    for name in (shards[1], "model.safetensors.index.json"):
        content = (folder / name).read_bytes()
        for damage in (b"", content[: len(content) // 2], b"[]", b"{}"):
            replace(folder / name, damage)
            assert name in refusal(loader)
        replace(folder / name, content)
    (folder / shards[1]).unlink()
    assert f"copy lacks {shards[1]}; copy all files" in refusal(loader)


def test_where_a_weight_begins_in_the_file_changes_not_one_bit(copy_of):
    """Weights in 32 bits are used where they lie, and in a file they rarely lie at multiples of 64 bytes."""
    folder, loader = copy_of(SIGLIP)
    path, before = folder / "model.safetensors", loader().model
    weights = {name: tensor.float() for name, tensor in load_file(path).items()}
    path.unlink()
    save_file(weights, path, metadata={"format": "pt"})
    assert any(tensor.data_ptr() % 64 for tensor in load_file(path).values())
    after, pixels = loader().model, torch.rand(1, 3, 224, 224)
    assert not any(parameter.data_ptr() % 64 for parameter in after.parameters())
    with torch.no_grad():
        assert torch.equal(*(model.vision_model(pixels).pooler_output for model in (before, after)))


def test_a_damaged_history_is_one_clear_line(tmp_path, monkeypatch):
    folder = tmp_path / "models" / SIGLIP.name
    shutil.copytree(SIGLIP, folder)
    monkeypatch.setattr(reference, "ROOT", tmp_path)
    assert len(load_history()) > 1
    replace(folder / "history.safetensors", b"")
    assert "history.safetensors cannot be read" in refusal(load_history)
    replace(folder / "history.json", b"{")
    assert "has no readable history.json" in refusal(load_training_record)


# Weights


def drop(pattern):
    def change(weights):
        for name in [name for name in weights if re.search(pattern, name)]:
            del weights[name]

    return change


def drop_layers(config):
    config["vision_config"]["num_hidden_layers"] = 6


# model, what becomes of its weights, of its config, what the line says
WRONG_WEIGHTS = {
    "no text tower": (
        SIGLIP,
        drop("^text_model|^logit"),
        None,
        r"56 \(logit_bias, logit_scale, text_model.embeddings.* are missing",
    ),
    "no pooling head": (
        SIGLIP,
        drop("vision_model.head"),
        None,
        r"11 \(vision_model.head.attention.in_proj_bias, .* are missing",
    ),
    "no bias": (SIGLIP, drop("logit_bias"), None, r"1 \(logit_bias\) are missing"),
    "one tensor": (
        SIGLIP,
        drop("layers.7.mlp.fc1.weight"),
        None,
        r"1 \(vision_model.encoder.layers.7.mlp.fc1.weight\) are missing",
    ),
    "other shape": (SIGLIP, lambda w: w.update(logit_scale=torch.zeros(2)), None, r"1 \(logit_scale\) have another shape"),
    "fewer layers": (SIGLIP, lambda w: None, drop_layers, r"96 \(vision_model.encoder.layers.10.* have no place in it"),
    "a classifier": (
        SIGLIP,
        lambda w: w.update({"classifier.weight": torch.ones(3)}),
        None,
        r"1 \(classifier.weight\) have no place",
    ),
    "no projector": (VLM, drop("projector"), None, r"2 \(model.multi_modal_projector.linear.bias, .* are missing"),
    "no words": (
        VLM,
        drop("embed_tokens"),
        None,
        r"2 \(lm_head.weight, model.language_model.embed_tokens.weight\) are missing",
    ),
}


@pytest.mark.parametrize(("bundled", "change", "configure", "says"), WRONG_WEIGHTS.values(), ids=WRONG_WEIGHTS)
def test_weights_that_are_not_all_there_are_refused_by_name(copy_of, bundled, change, configure, says):
    folder, loader = copy_of(bundled)
    change_weights(folder, change)
    if configure:
        change_config(folder, configure)
    line = refusal(loader)
    assert re.search(f"the weights in .*copy are not those of the model in its config.json: {says}", line), line
    assert len(line) < 400


def test_parity_refuses_weights_that_are_not_all_there(copy_of, monkeypatch):
    folder, _ = copy_of(SIGLIP)
    change_weights(folder, drop("^text_model"))
    monkeypatch.setattr(sys, "argv", ["parity", str(folder)])
    assert "(text_model.embeddings" in refusal(parity.main)


def test_weights_that_are_counted_or_shared_do_not_matter(copy_of, right):
    folder, loader = copy_of(SIGLIP)
    positions = {"vision_model.embeddings.position_ids": torch.arange(196)[None]}
    change_weights(folder, lambda weights: weights.update(positions))
    assert all(tensor.equal(right[SIGLIP][0][name]) for name, tensor in loader().model.state_dict().items())


def test_a_language_models_head_that_is_stored_although_it_is_shared_does_not_matter(copy_of, right):
    folder, loader = copy_of(VLM)
    assert not any("lm_head" in name for name in load_file(folder / "model.safetensors"))
    embedding = "language_model.model.embed_tokens.weight"
    change_weights(folder, lambda weights: weights.update({"language_model.lm_head.weight": weights[embedding].clone()}))
    assert all(tensor.equal(right[VLM][0][name]) for name, tensor in loader().model.state_dict().items())


def test_a_siglip_without_a_pooling_head_is_refused(copy_of):
    folder, loader = copy_of(SIGLIP)
    change_weights(folder, drop("vision_model.head"))
    change_config(folder, lambda config: config["vision_config"].update(vision_use_head=False))
    assert "copy has no pooling head" in refusal(loader)


# What it is given


@pytest.fixture(scope="module")
def siglip():
    return load_reference()


@pytest.fixture(scope="module")
def vlm():
    return load_vlm()


@pytest.mark.parametrize("given", [["a cat", "a dog"], ("a cat",), {"a cat"}, ["a cat"]])
def test_a_list_of_sentences_is_to_be_unpacked(siglip, vlm, given):
    for call in (lambda: siglip.tokenize(given), lambda: vlm.tokenize(given), lambda: vlm.tokenize("describe", given)):
        assert re.search(r"takes sentences one by one, not a \w+ of them; unpack it: tokenize\(\*sentences\)", refusal(call))


@pytest.mark.parametrize("given", [7, None, b"a cat", torch.ones(2, dtype=torch.long)], ids=lambda given: type(given).__name__)
def test_what_is_no_text_is_refused(siglip, vlm, given):
    for call in (lambda: siglip.tokenize("a cat", given), lambda: vlm.tokenize(given), lambda: vlm.tokenize("describe", given)):
        assert f"tokenize takes text, not a {type(given).__name__}" in refusal(call)


def test_nothing_at_all_is_refused(siglip, vlm):
    assert "tokenize got no sentences" in refusal(siglip.tokenize)
    for model in (siglip, vlm):
        assert "preprocess got no images" in refusal(model.preprocess)


@pytest.mark.parametrize(
    "given",
    ["cat.png", Path("cat.png"), torch.zeros(3, 8, 8), torch.zeros(3, 8, 8).numpy()],
    ids=["str", "Path", "tensor", "array"],
)
def test_what_is_no_image_is_refused_and_read_image_is_named(siglip, vlm, given):
    for model in (siglip, vlm):
        assert "read_image" in refusal(lambda model=model: model.preprocess(given))


def test_a_list_of_images_is_to_be_unpacked(siglip, vlm):
    drawings = list(sample_drawings().values())[:2]
    for model in (siglip, vlm):
        assert "takes images one by one, not a list of them; unpack it: preprocess(*images)" in refusal(
            lambda model=model: model.preprocess(drawings)
        )
        assert model.preprocess(*drawings).shape == (2, 3, 224, 224)
