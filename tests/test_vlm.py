"""The bundled vision-language model: what a user of `models/paligemma-mini-224` may rely on, and how it was trained."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from utils import answers, measure, speech
from utils.errors import LessonError
from utils.gemma import Gemma
from utils.pictures import captioned_scenes
from utils.pretrain import vlm
from utils.pretrain.concepts import is_held_out
from utils.pretrain.scenes import SceneMaker
from utils.pretrain.vlm_export import export_model, missed_floors, score_table
from utils.reference import load_vlm
from utils.vlm import VisionLanguageModel, generate, load_parts

import pytest
import torch
from pretrain_worker import made_up_drawings
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration, SiglipModel

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "models" / "paligemma-mini-224"
TINY = vlm.Recipe((vlm.Stage(2, vlm.EASY, warm_up=1), vlm.Stage(2, vlm.HARD, peak=0.5, warm_up=1)), width=64, layers=1, batch=2)


@pytest.fixture(scope="module")
def reference():
    return load_vlm()


# The bundle


def test_it_loads_in_a_fresh_process_that_cannot_reach_a_network():
    program = f"""
import socket
def refuse(*args, **kwargs): raise SystemExit("tried to reach the network")
socket.socket.connect = socket.getaddrinfo = refuse
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration
print(*(type(c.from_pretrained({str(FOLDER)!r})).__name__ for c in (PaliGemmaForConditionalGeneration, AutoProcessor)))
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_"))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["PaliGemmaForConditionalGeneration", "PaliGemmaProcessor"], done.stderr


def test_it_fits():
    """The model, without the scenes beside it."""
    assert sum(path.stat().st_size for path in FOLDER.glob("*") if path.is_file()) < 20e6


def test_its_tower_is_the_bundled_siglips_own(reference):
    siglip = SiglipModel.from_pretrained(ROOT / "models" / "siglip-mini-patch16-224").vision_model.state_dict()
    tower = reference.model.model.vision_tower.state_dict()
    assert len(tower) == 197 and all(torch.equal(weight, siglip[name]) for name, weight in tower.items())


def test_ids_by_hand_are_those_of_the_processor(reference):
    image, caption = captioned_scenes()[0][0]
    inputs = reference.processor(images=image, text="<image>describe", suffix=caption, return_tensors="pt")
    ids, prompt = reference.tokenize("describe", caption)
    assert torch.equal(inputs.input_ids[:, 196:], ids)
    assert inputs.token_type_ids[0].tolist() == [0] * (196 + prompt) + [1] * (ids.shape[1] - prompt)
    assert torch.equal(inputs.pixel_values, reference.preprocess(image))


def test_the_hand_built_model_describes_scenes_as_transformers_does(reference):
    ours = load_parts(VisionLanguageModel(reference.config, reference.model.model.language_model), reference.model).eval()
    images = [image for image, _ in captioned_scenes()[1][:6]]
    start, _ = reference.tokenize("describe")
    with torch.no_grad():
        seen = ours.see(reference.preprocess(*images))
    said = [reference.decode(generate(ours, one[None], start, reference.tokenizer.eos_token_id)) for one in seen]
    assert said == vlm.generate(reference.model, reference.processor, images)


def test_the_judge_of_test_scenes_knows_the_captions_that_the_model_says(reference, monkeypatch):
    theirs, scenes = reference.model.model.language_model, captioned_scenes()[1][:2]
    monkeypatch.setattr(answers, "captioned_scenes", lambda: ([], scenes))
    gemma = Gemma(reference.config.text_config).eval()
    gemma.load_state_dict(theirs.state_dict())
    ours = load_parts(VisionLanguageModel(reference.config, theirs), reference.model).eval()
    judge = answers.judge_of_test_scenes(gemma, ours, reference, "describe")
    assert judge.said() == judge.total == 2
    assert judge.said(positions=judge.positions.clamp(min=196)) == 0  # all patches in one place


# Scores


def test_every_floor_is_met():
    assert missed_floors(json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))) == []


def test_the_card_and_the_readme_print_the_measured_scores():
    scores = json.loads((FOLDER / "scores.json").read_text(encoding="utf-8"))
    assert score_table(scores) in (FOLDER / "README.md").read_text(encoding="utf-8")
    reached = scores["captions"]["pairs never trained on"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "{objects:.0%}, {count:.0%}, {background:.0%}".format(**reached).replace("%", " %") in readme
    assert f"to the letter, in {reached['whole caption']:.0%}".replace("%", " %") in readme


@pytest.mark.parametrize(
    ("caption", "counts", "background"),
    [
        ("two cats and an apple on a blue background", {"cat": 2, "apple": 1}, "blue"),
        ("a bus, an ice cream and a palm tree on an orange background", {"bus": 1, "ice cream": 1, "palm tree": 1}, "orange"),
        ("three fish on a white background", {"fish": 3}, "white"),
        ("nonsense", {"": 0}, "nonsense"),
    ],
)
def test_captions_are_read_as_they_are_meant(caption, counts, background):
    assert vlm.read_caption(caption) == (counts, background)


# The scenes of notebooks 10 and 11


def test_scenes_to_test_on_show_pairs_that_are_never_trained_on_and_scenes_to_learn_from_do_not():
    learn, test = captioned_scenes()
    assert (len(learn), len(test)) == (320, 80)
    for scenes, held_out in ((learn, False), (test, True)):
        for image, caption in scenes:
            names = sorted(vlm.read_caption(caption)[0])
            assert image.size == (224, 224)
            assert len(names) == 1 and not held_out or is_held_out(*names) == held_out, caption


# Training


def test_a_batch_is_what_paligemma_is_trained_on(reference):
    ids, labels = vlm.make_batch(reference.processor, [("describe", "two cats on a red background"), ("count", "two")])
    texts = [reference.tokenizer.decode(row[196:]) for row in ids.input_ids]
    assert texts == ["<bos>describe\ntwo cats on a red background<eos>", "<bos>count\ntwo<eos>" + "<pad>" * 5]
    assert [reference.tokenizer.decode(row[row != -100]) for row in labels] == ["two cats on a red background<eos>", "two<eos>"]
    assert (ids.token_type_ids[:, :199] == 0).all()


def test_each_stage_has_its_scenes_and_its_learning_rate(monkeypatch):
    scenes, rates, mixes = SceneMaker(made_up_drawings()), [], []
    processor = vlm.make_processor(scenes)
    model = vlm.make_model(TINY, processor)
    monkeypatch.setattr(vlm, "take_step", lambda model, optimizers, factor, step: rates.append(factor))
    drawn = vlm.random_scene
    monkeypatch.setattr(vlm, "random_scene", lambda scenes, rng, mix: mixes.append(mix) or drawn(scenes, rng, mix))
    for step in range(TINY.steps):
        vlm.training_step(model, [], TINY, scenes, processor, step)
    assert rates == [1, 1, 0.5, 0.5]
    assert mixes == [vlm.EASY] * 4 + [vlm.HARD] * 4


@pytest.mark.slow
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(vlm, "caption_scores", lambda *_, **__: {})
    drawings = made_up_drawings()
    whole, processor, history = vlm.train(TINY, drawings, tmp_path / "whole", checkpoint_seconds=0)
    step_of, killed = vlm.training_step, []

    def killed_at_step_two(*arguments):
        if arguments[-1] == 2 and not killed:
            killed.append(True)
            raise KeyboardInterrupt
        return step_of(*arguments)

    monkeypatch.setattr(vlm, "training_step", killed_at_step_two)
    with pytest.raises(KeyboardInterrupt):
        vlm.train(TINY, drawings, tmp_path / "killed", checkpoint_seconds=0)
    again, *_ = vlm.train(TINY, drawings, tmp_path / "killed", checkpoint_seconds=0)
    assert all(torch.equal(weight, again.state_dict()[name]) for name, weight in whole.state_dict().items())
    start = vlm.make_model(TINY, processor).state_dict()
    moved = {name for name, weight in whole.state_dict().items() if not torch.equal(weight, start[name])}
    assert moved and not any("vision_tower" in name for name in moved)


def test_what_is_exported_is_what_was_trained(tmp_path):
    scenes = SceneMaker(made_up_drawings())
    processor = vlm.make_processor(scenes)
    model = vlm.make_model(TINY, processor).eval()
    export_model(model, processor, tmp_path / "vlm")
    loaded = PaliGemmaForConditionalGeneration.from_pretrained(tmp_path / "vlm").eval()
    assert loaded.dtype == torch.float32
    pixels = scenes.draw([scenes.plain("cat", 0)], 224) * 2 - 1
    ids, _ = vlm.make_batch(AutoProcessor.from_pretrained(tmp_path / "vlm"), [("describe", "a cat on a white background")])
    with torch.no_grad():
        assert torch.allclose(model(**ids, pixel_values=pixels).logits, loaded(**ids, pixel_values=pixels).logits, atol=1e-2)


# Loading


def test_another_kind_of_model_is_refused_in_one_clear_line(monkeypatch):
    monkeypatch.setenv("VLM_CHECKPOINT", "siglip-mini-patch16-224")
    with pytest.raises(LessonError, match=re.escape("holds a model of type 'siglip', not 'paligemma'; choose a PaliGemma")):
        load_vlm()


def test_a_vlm_that_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("VLM_CHECKPOINT", "models/nowhere")
    with pytest.raises(LessonError, match="no model found: looked for .*models/nowhere; unset VLM_CHECKPOINT"):
        load_vlm()


# What notebook 11 measures on it


def test_rows_read_the_same_as_in_the_model(reference):
    ours = load_parts(VisionLanguageModel(reference.config, reference.model.model.language_model), reference.model).eval()
    image, caption = captioned_scenes()[1][3]
    ids, prompt = reference.tokenize("describe", caption)
    with torch.no_grad():
        seen = ours.see(reference.preprocess(image))
        whole = ours.read(seen, ids, prompt)
    logits, looks = speech.read_and_look(ours, seen, ids, prompt)
    assert torch.allclose(logits, whole[0, seen.shape[1] + prompt - 1 : -1], atol=1e-4)
    assert looks.shape == (ids.shape[1] - prompt, seen.shape[1]) and looks.min() > 0


def test_a_caption_is_right_to_the_letter_or_not_at_all():
    assert speech.share_right(["a cat", "a dog", "two cat"], [(None, "a cat"), (None, "a  dog"), (None, "two cats")]) == 1 / 3


def test_a_merge_that_makes_nothing_is_not_read_and_its_errors_are_its_own():
    def merge(model, seen, token_ids):
        return None

    read = speech.reader_of(merge, None, 3)
    assert read(None, None, None) is None and read.__wrapped__ is merge


def test_likeliest_tokens_are_read_with_their_shares():
    tokenizer = load_vlm().tokenizer
    logits = torch.zeros(len(tokenizer))
    logits[5] = 30.0
    assert speech.likeliest(logits, tokenizer, number=1).endswith(" 100%")


def test_captions_of_two_things_are_counted_and_so_are_those_that_name_theirs():
    captions = ["a cat and a dog on a red background", "two dogs on a red background", "a dog on a red background"]
    assert speech.two_and_named(captions, ["cat", "cat", "dog"]) == (2, 2)


def test_mean_lengths():
    assert measure.mean_lengths({"one": torch.tensor([[3.0, 4.0], [0.0, 1.0]])}) == {"one": 3.0}


def test_the_judge_of_tokens_knows_a_right_caption_from_a_false_one(reference):
    model = load_parts(VisionLanguageModel(reference.config, reference.model.model.language_model), reference.model)
    picture, _ = captioned_scenes()[1][0]
    pixels = reference.preprocess(picture)
    (line,) = speech.describe(model, reference, model.see(pixels).detach())
    right, false = (reference.tokenize("describe", caption) for caption in (line, line.replace("two", "three")))
    judge = answers.TokenJudge(model, pixels, *right)
    assert judge.count_right() == judge.total
    assert answers.TokenJudge(model, pixels, *false).count_right() < judge.total


def test_a_caption_tells_of_the_same_things_in_whichever_words():
    line = "a lollipop, a lemon and a lollipop on a gray background"
    assert speech.things_told(line) == speech.things_told("two lollipops and a lemon on a red background")
    assert not speech.things_told("sun") and not speech.things_told("")  # a model may write anything
    assert all(speech.things_told(caption) == vlm.read_caption(caption)[0] for _, caption in captioned_scenes()[1])
    assert speech.names_told(line) == {"lemon", "lollipop"}
    assert speech.background_told(line) == "a gray background"
    assert speech.share_right([line, line], [(None, line), (None, "a cat on a gray background")], speech.background_told) == 1


def test_captions_are_marked_and_so_are_the_moments_of_a_film():
    scenes = [("first", "a cat on a red background"), ("second", "two cats on a red background")]
    captions = ["a cat on a red background", "a cat on a red background"]
    titles = speech.marked(captions, scenes, (1, 0))
    assert titles == {
        "✗ a cat on a red background\nright: two cats": "second",
        "✓ a cat on a red background": "first",
    }
    assert speech.in_one_line(titles) == "✗ a cat on a red background, right: two cats; ✓ a cat on a red background."
    assert speech.film_title(12, captions, scenes) == "step 12\n50% of the test right,\nbackground: 100%"
    pictures, truths, frames = speech.film_of({0: ["", ""], 12: captions}, scenes, also=1)
    assert pictures == ("first", "second") and truths == tuple(truth for _, truth in scenes)
    assert [*frames.values()] == [["", ""], captions]


def test_likeliest_tokens_of_several_rows_stand_in_lines():
    tokenizer = load_vlm().tokenizer
    assert len(speech.likeliest(torch.zeros(2, len(tokenizer)), tokenizer).splitlines()) == 2


@pytest.mark.parametrize(("attention", "open_prefix"), [("eager", 0), ("sdpa", None)])
def test_without_token_types_transformers_mask_is_causal_or_lets_all_see_all(attention, open_prefix):
    reference = load_vlm()
    theirs, (image, caption) = reference.model, captioned_scenes()[1][3]
    ours = load_parts(VisionLanguageModel(reference.config, theirs.model.language_model), theirs).eval()
    ids, _ = reference.tokenize("describe", caption)
    theirs.set_attn_implementation(attention)
    with torch.no_grad():
        pixels = reference.preprocess(image)
        seen = ours.see(pixels)
        whole = torch.nn.functional.pad(ids, (seen.shape[1], 0), value=reference.config.image_token_id)
        forgotten = theirs(input_ids=whole, pixel_values=pixels).logits
        prefix = ids.shape[1] if open_prefix is None else open_prefix - seen.shape[1]  # `read` adds the patches
        assert torch.allclose(ours.read(seen, ids, prefix), forgotten, atol=1e-3)


def test_the_cache_is_measured():
    assert (
        measure.cache_bytes(load_vlm().config.text_config, 2) == 2 * measure.cache_bytes(load_vlm().config.text_config, 1) > 0
    )
