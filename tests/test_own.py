"""Your own pictures: reading folders, LoRA against peft, what is exported, what is drawn and measured."""

import contextlib
import copy
import io
from pathlib import Path
from unittest.mock import patch

from utils import own, own_record
from utils.checks import CheckError, compare
from utils.errors import LessonError
from utils.mistakes import CATALOGUE, explain
from utils.pretrain.concepts import NAMES
from utils.reference import load_reference
from utils.siglip import VisionTransformer

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from transformers import SiglipModel, SiglipVisionConfig

ROOT = Path(__file__).parents[1]


def tower_of(config):
    torch.manual_seed(0)
    tower = VisionTransformer(config)
    for parameter in tower.parameters():
        nn.init.normal_(parameter, std=0.05)
    return tower.eval()


@pytest.fixture
def small():
    size = dict(hidden_size=32, intermediate_size=64, num_attention_heads=2, num_hidden_layers=2)
    return tower_of(SiglipVisionConfig(image_size=32, patch_size=16, **size))


@pytest.fixture
def learned():
    """A LoRA whose b is no longer zero."""
    torch.manual_seed(0)
    block = own.LoRA(nn.Linear(12, 12), rank=3, alpha=15)
    nn.init.normal_(block.b)
    return block


def make(folder, **pictures):
    """Folders of so many pictures each."""
    for name, number in pictures.items():
        (folder / name).mkdir(parents=True)
        for index in range(number):
            Image.new("RGB", (8, 8), (index % 256, 0, 0)).save(folder / name / f"{index}.png")
    return folder


# Folders


def test_the_bundled_pictures_are_small_and_new(capsys):
    names, paths, labels = own.read_folder(ROOT / "pictures")
    assert len(names) == 20 and labels.bincount().tolist() == [15] * 20
    assert not set(names) & set(NAMES)
    assert sum(path.stat().st_size for path in (ROOT / "pictures").rglob("*") if path.is_file()) < 1_000_000
    card = (ROOT / "pictures" / "README.md").read_text(encoding="utf-8")
    assert all(f"| `{path.stem}` |" in card for path in paths), "each picture's licence is named"


@pytest.mark.parametrize(
    "pictures, says",
    [
        ({}, "no pictures in own"),
        ({"cat": 0, "dog": 0}, "no pictures in own"),
        ({"cat": 3}, "one thing only, cat"),
        ({"cat": 3, "dog": 1}, "dog has 1 picture"),
        ({"cat": 3, "dog": 0}, "dog has no picture"),
        ({"cat": 2, "Cat": 2}, "are called cat but for capitals"),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_one_line(pictures, says, tmp_path):
    (tmp_path / "own").mkdir()
    with pytest.raises(LessonError, match=says) as caught:
        own.read_folder(make(tmp_path / "own", **pictures))
    assert "\n" not in str(caught.value)


def test_no_folder_and_a_wrong_variable_are_refused_in_one_line(tmp_path, monkeypatch):
    with pytest.raises(LessonError, match="there is no folder"):
        own.read_folder(tmp_path / "nowhere")
    monkeypatch.setenv("OWN_PICTURES", str(tmp_path / "nowhere"))
    with pytest.raises(LessonError, match="OWN_PICTURES names"):
        own.find_folder()
    monkeypatch.setenv("OWN_PICTURES", str(make(tmp_path / "mine", cat=2, dog=2)))
    assert own.find_folder() == tmp_path / "mine"


def test_a_file_that_is_no_picture_is_named(tmp_path, small):
    folder = make(tmp_path, cat=2, dog=2)
    (folder / "cat" / "notes.png").write_text("not a picture", encoding="utf-8")
    (folder / "cat" / ".DS_Store").write_text("hidden", encoding="utf-8")
    (folder / "cat" / "Thumbs.db").write_text("hidden", encoding="utf-8")
    _, paths, _ = own.read_folder(folder)
    with pytest.raises(LessonError, match="notes.png is not an image"):
        own.see(small, paths, lambda *images: torch.zeros(len(images), 3, 32, 32))


def test_a_thousand_pictures_work_and_their_states_need_not_be_kept(tmp_path, small):
    _, paths, labels = own.read_folder(make(tmp_path, cat=700, dog=300))
    states, vectors = own.see(small, paths, lambda *images: torch.zeros(len(images), 3, 32, 32), batch=100, keep=False)
    assert states is None and vectors.shape == (1000, 32)
    learn, test = own.split(labels, shots=10, seed=0)
    assert len(learn) == 20 and len(test) == 980


@pytest.mark.parametrize("counts, learned, tested", [((15, 15), 20, 10), ((2, 15), 11, 6), ((2, 2), 2, 2), ((11, 3), 12, 2)])
def test_no_picture_is_both_learned_from_and_tested(counts, learned, tested):
    labels = torch.tensor([0] * counts[0] + [1] * counts[1])
    learn, test = own.split(labels, shots=10, seed=0)
    assert (len(learn), len(test)) == (learned, tested) and not set(learn) & set(test)
    assert own.split(labels, shots=1, seed=0)[1] == test, "the same test however many are learned from"


def test_equally_many_examples_of_each_thing_are_shown_however_many_there_are(tmp_path):
    names, paths, labels = own.read_folder(make(tmp_path, cat=5, dog=3))
    assert list(own.examples(names, paths, labels, names)) == ["cat", "dog"]
    shown = own.examples(names, paths, labels, ["dog", "cat"], each=10)
    assert list(shown) == [f"{name} {number}" for name in ("dog", "cat") for number in (1, 2, 3)]
    assert shown["cat 2"].tobytes() == own.read_image(tmp_path / "cat" / "1.png").tobytes()


# LoRA


def test_lora_starts_as_the_frozen_layer_and_trains_only_its_own_two_matrices(small):
    pixels = torch.randn(2, 3, 32, 32)
    before, weights = small(pixels)[1], {name: weight.clone() for name, weight in small.named_parameters()}
    own.add_lora(small)
    assert torch.equal(small(pixels)[1], before)
    trained = {name for name, weight in small.named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * 2 * 2 and all(name.endswith(("proj.a", "proj.b")) for name in trained)
    with contextlib.redirect_stdout(io.StringIO()):
        own.train_namer(own.Namer(small, torch.eye(2, 32), 10.0), pixels, torch.tensor([0, 1]), steps=3, rate=1e-2)
    assert not torch.equal(small(pixels)[1], before)
    after = {name.replace(".linear.", "."): weight for name, weight in small.named_parameters()}
    assert all(torch.equal(after[name], weight) for name, weight in weights.items())


def test_merged_weights_do_the_same_and_have_the_old_names(small):
    names, pixels = list(small.state_dict()), torch.randn(2, 3, 32, 32)
    own.add_lora(small)
    for name, weight in small.named_parameters():
        if name.endswith(".b"):
            nn.init.normal_(weight, std=0.3)
    before = small(pixels)
    own.merge_lora(small)
    assert list(small.state_dict()) == names
    for ours, theirs in zip(small(pixels), before):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stage", ["LoRA", "merged weights", "class means"])
def test_each_mistake_is_caught_and_called_by_its_name(stage, learned):
    torch.manual_seed(1)
    x, labels = torch.randn(6, 12), torch.tensor([2, 0, 0, 1, 1, 0])
    inputs = {"LoRA": (learned, x), "merged weights": (learned,), "class means": (x, labels)}[stage]
    with torch.no_grad():
        right = {
            "LoRA": lambda: learned(x),
            "merged weights": lambda: learned.merged().weight,
            "class means": lambda: own.class_means(x, labels),
        }[stage]()
        assert explain(stage, right, inputs) is None
        for mistake in (mistake for mistake in CATALOGUE if mistake.stage == stage):
            with pytest.raises(CheckError) as caught:
                compare(stage, mistake.wrong(*inputs), right, stage=stage, inputs=inputs)
            assert mistake.sentence in str(caught.value)


# The device


def test_everything_that_trains_is_carried_to_the_namers_device(small):
    """On the meta device nothing is computed; what lies on the wrong device raises an error."""
    own.add_lora(small)
    namer = own.Namer(small.to("meta"), torch.zeros(2, 32, device="meta"), 10.0)
    assert {parameter.device.type for parameter in namer.parameters()} == {"meta"}
    scores = namer(torch.zeros(4, 3, 32, 32).to(namer.names.device))
    loss = F.cross_entropy(scores, torch.tensor([0, 1, 0, 1]).to(scores.device))
    loss.backward()
    assert all(p.grad.device.type == "meta" for p in namer.parameters() if p.requires_grad)
    assert small.encoder.layers[0].self_attn.q_proj.merged().weight.device.type == "meta"


# Export


def test_a_saved_model_loads_in_transformers_with_the_tuned_tower_in_it(tmp_path):
    with contextlib.redirect_stdout(io.StringIO()):
        reference = load_reference()
    tower = VisionTransformer(reference.config.vision_config).eval()
    tower.load_state_dict(reference.model.vision_model.state_dict())
    nn.init.normal_(tower.head.probe)
    own.save(reference, tower, tmp_path)
    loaded, report = SiglipModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    with torch.no_grad():
        assert torch.allclose(loaded.get_image_features(pixels).pooler_output, tower(pixels)[1], rtol=0, atol=1e-5)


@pytest.mark.export
def test_lora_equals_pefts(small):
    from peft import LoraConfig, get_peft_model

    theirs = copy.deepcopy(small)
    torch.manual_seed(3)
    for attention in (layer.self_attn for layer in small.encoder.layers):
        for name in ("q_proj", "v_proj"):
            _ = nn.Linear(32, 4, bias=False), nn.Linear(4, 32, bias=False)  # peft draws these numbers, and draws a again
            setattr(attention, name, own.LoRA(getattr(attention, name), rank=4, alpha=8))
    torch.manual_seed(3)
    theirs = get_peft_model(theirs, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], lora_dropout=0.0))
    ours = {n: p for n, p in small.named_parameters() if n.endswith((".a", ".b"))}
    others = {n: p for n, p in theirs.named_parameters() if "lora_" in n}
    assert len(ours) == len(others)
    generator = torch.Generator().manual_seed(5)
    for (_, mine), (name, other) in zip(ours.items(), others.items()):
        assert torch.equal(mine, other), f"{name} starts with the same numbers"
        mine.data = other.data = torch.randn(mine.shape, generator=generator)
    pixels, labels = torch.randn(2, 3, 32, 32, generator=generator), torch.tensor([0, 1])
    for vectors in (small(pixels)[1], theirs(pixels)[1]):
        F.cross_entropy(vectors[:, :2], labels).backward()
    assert torch.equal(small(pixels)[1], theirs(pixels)[1])
    for mine, other in zip(ours.values(), others.values()):
        assert torch.allclose(mine.grad, other.grad, rtol=0, atol=1e-5), "autograd adds up in another order"
    own.merge_lora(small)
    assert torch.equal(small(pixels)[1], theirs.merge_and_unload()(pixels)[1])


@pytest.mark.export
def test_the_merged_tower_gives_the_same_in_onnxruntime(small, tmp_path):
    import onnxruntime

    own.add_lora(small)
    own.merge_lora(small)
    own.export_onnx(small, tmp_path / "tower.onnx", 32)
    session = onnxruntime.InferenceSession(tmp_path / "tower.onnx", providers=["CPUExecutionProvider"])
    pixels = torch.randn(1, 3, 32, 32)
    [vectors] = session.run(["vectors"], {"pixel_values": pixels.numpy()})
    assert (torch.from_numpy(vectors) - own.UnitVectors(small)(pixels)).abs().max() < 1e-4


# The record


def test_a_thumbnail_is_the_means_of_squares():
    pictures = {"left": torch.tensor([0.0, 1.0]), "right": torch.tensor([1.0, 0.0])}  # of grey stripes, 32 pixels wide each

    def preprocess(name):
        return pictures[name].repeat_interleave(32).expand(1, 3, 64, 64)

    with patch.object(own, "read_image", lambda path: path):
        small = own.thumbnails(["left", "right"], preprocess, side=2)
    assert small.tolist() == [6 * [0, 1], 6 * [1, 0]]


def test_the_record_has_every_way_and_beats_chance():
    record = own_record.load()
    ways = {run["way"] for run in record["runs"]}
    frozen = {way + of_what for way in ("class means", "linear probe") for of_what in ("", ", thumbnails")}
    assert ways == {*frozen, *own_record.TRAINED, *own_record.CONTROLS}
    for way in (*frozen, *own_record.TRAINED):
        found = [run["new"] for run in record["runs"] if run["way"] == way and run["shots"] == 10]
        assert len(found) == len(own_record.SEEDS) and min(found) > 0.3, way


def test_percents_of_the_record_are_those_of_one_way():
    runs = [dict(way=way, shots=10, new=new) for way, new in [("head", 0.5), ("full", 0.1), ("head", 0.7)]]
    record = {"runs": [*runs, dict(way="head", shots=5, new=0.3)]}
    found = own_record.percents(record, {"a": "head", "b": "full"})
    assert found == {"a": pytest.approx([50, 70]), "b": pytest.approx([10])}
