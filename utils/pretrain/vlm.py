"""Train a small PaliGemma on captioned scenes: the bundled SigLIP's tower, frozen, a linear projector, a small Gemma."""

import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

from utils.pretrain.concepts import NAMES
from utils.pretrain.evaluate import to_images
from utils.pretrain.scenes import NUMBER_WORDS, SceneMaker, english, phrase
from utils.pretrain.train import CHECKPOINT_SECONDS, Staged, learning_rate_factor, restore, save_checkpoint, take_step

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from tqdm import tqdm
from transformers import (
    GemmaConfig,
    GemmaTokenizer,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
)

TOWER = Path("models/siglip-mini-patch16-224")
FOLDER = Path("build/pretrain-vlm")
BATCH = 32  # scenes captioned at once
VOCABULARY = 600


@dataclass(frozen=True)
class Stage:
    """So many steps. `mix`: how often a scene has so many (kinds, things); `peak`: of the recipe's learning rate."""

    steps: int
    mix: dict
    peak: float = 1.0
    warm_up: int = 150


@dataclass(frozen=True)
class Recipe(Staged):
    stages: tuple[Stage, ...]
    width: int = 256
    layers: int = 4
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    seed: int = 0


EASY = {(1, 1): 5, (1, 2): 2, (1, 3): 2, (2, 2): 6, (2, 3): 3, (3, 3): 2}
HARD = {(1, 1): 2, (1, 2): 1, (1, 3): 1, (2, 2): 8, (2, 3): 5, (3, 3): 3}
RECIPE = Recipe((Stage(2400, EASY), Stage(1700, HARD, peak=0.4)))
NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3}
SINGULAR = {form: name for name in NAMES for form in (name, english.plural(name))}


def answers(scene):
    """{prompt: the right answer} for a scene. The names stand in alphabetical order, so that one caption is the right one."""
    return {
        "describe": f"{phrase(dict(sorted(scene.counts.items())))} on {english.a(scene.background)} background",
        "count": NUMBER_WORDS[len(scene.things)],
        "background": scene.background,
    }


def random_scene(scenes, rng, mix=EASY):
    """A scene of one to three things; most have several."""
    return scenes.random(rng, *rng.choices(list(mix), mix.values())[0])


def make_processor(scenes):
    """PaliGemma's processor; its vocabulary is learned from captions, by byte pair encoding as Gemma's own."""
    rng = random.Random(0)
    texts = [text for _ in range(20_000) for pair in answers(random_scene(scenes, rng)).items() for text in pair]
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizers.Replace(" ", "▁")
    learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")  # no piece goes over a space
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\n"]
    learner.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=special, show_progress=False))
    learned = json.loads(learner.to_str())["model"]
    tokenizer = GemmaTokenizer(vocab=learned["vocab"], merges=[tuple(merge) for merge in learned["merges"]])
    image_processor = SiglipImageProcessorPil.from_pretrained(TOWER)
    vision = SiglipConfig.from_pretrained(TOWER).vision_config
    image_processor.image_seq_length = (vision.image_size // vision.patch_size) ** 2
    return PaliGemmaProcessor(image_processor, tokenizer)


def make_model(recipe, processor):
    """PaliGemma with random weights, but for the tower: that of the bundled SigLIP, which does not learn any more."""
    torch.manual_seed(recipe.seed)
    siglip = SiglipModel.from_pretrained(TOWER, dtype=torch.float32)
    tokenizer = processor.tokenizer
    text = GemmaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=2 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.width // 64,
        num_key_value_heads=1,
        head_dim=64,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    vision = siglip.config.vision_config
    vision.vision_use_head = False
    config = PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=processor.image_token_id,
        vocab_size=len(tokenizer),
        projection_dim=recipe.width,
        hidden_size=recipe.width,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = PaliGemmaForConditionalGeneration(config)
    model.model.language_model.set_attn_implementation("eager")  # a quarter faster on a CPU, backwards
    weights = {name: weight for name, weight in siglip.vision_model.state_dict().items() if not name.startswith("head.")}
    model.model.vision_tower.load_state_dict(weights)
    model.model.vision_tower.requires_grad_(False)
    return model


def make_optimizers(model, recipe):
    """Muon for the language model's matrices, AdamW for the projector, the embeddings and the norms."""
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    matrices = [p for name, p in learning.items() if p.ndim == 2 and ".layers." in name]
    others = [p for name, p in learning.items() if not (p.ndim == 2 and ".layers." in name)]
    muon = torch.optim.Muon(matrices, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
    return [torch.optim.AdamW(others, lr=recipe.learning_rate / 2, weight_decay=0.0, betas=(0.9, 0.98), fused=True), muon]


def make_batch(processor, texts):
    """[(prompt, answer)] -> ids: image tokens, bos, prompt, newline, answer, eos, padding; what belongs to what; labels."""
    tokenizer = processor.tokenizer
    prefixes = [f"{processor.image_token * processor.image_seq_length}<bos>{prompt}\n" for prompt, _ in texts]
    ids = tokenizer(
        prefixes,
        [f"{answer}<eos>" for _, answer in texts],
        padding=True,
        padding_side="right",
        return_token_type_ids=True,
        return_tensors="pt",
    )
    return ids, ids.input_ids.masked_fill((ids.token_type_ids == 0) | (ids.attention_mask == 0), -100)


def training_step(model, optimizers, recipe, scenes, processor, step):
    """Draw a batch, take one optimizer step; return the loss."""
    stage, since = recipe.stage_at(step)
    rng = random.Random(f"{recipe.seed} {step}")
    batch = [random_scene(scenes, rng, stage.mix) for _ in range(recipe.batch)]
    # Mostly the caption; the short questions teach that the prompt matters.
    prompts = rng.choices(["describe", "count", "background"], [8, 1, 1], k=recipe.batch)
    ids, labels = make_batch(processor, [(prompt, answers(scene)[prompt]) for prompt, scene in zip(prompts, batch)])
    pixels = scenes.draw(batch, 224) * 2 - 1
    last = int((labels != -100).any(0).sum())  # only the answers' columns matter
    with torch.autocast(pixels.device.type, dtype=torch.bfloat16):
        logits = model(**ids, pixel_values=pixels, logits_to_keep=last + 1).logits[:, :-1]
    loss = F.cross_entropy(logits.float().flatten(0, 1), labels[:, -last:].flatten())
    loss.backward()
    take_step(model, optimizers, stage.peak * learning_rate_factor(since, stage), step)
    return loss.item()


def train(recipe, drawings, folder=FOLDER, checkpoint_seconds=CHECKPOINT_SECONDS):
    """Train from the last checkpoint in `folder`, or from the start; return the model, its processor and the history.

    What a step sees depends on the seed and the step's number alone: a run that was killed and started again ends the same.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scenes, held_out = SceneMaker(drawings), SceneMaker(drawings, pairs="held out")
    processor = make_processor(scenes)
    model = make_model(recipe, processor)
    optimizers = make_optimizers(model, recipe)
    step, path, history = 0, folder / "checkpoint.pt", {"loss": [], "scores": [], "seconds": 0.0}
    if path.exists():
        step, history = restore(torch.load(path), model, optimizers)
    saved = time.monotonic()
    with tqdm(total=recipe.steps, initial=step, unit=" steps", mininterval=1) as bar:
        while step < recipe.steps:
            started = time.monotonic()
            loss = training_step(model, optimizers, recipe, scenes, processor, step)
            step += 1
            bar.update()
            if step % 10 == 0:
                history["loss"].append([step, round(loss, 4)])
                bar.set_postfix_str(f"loss {loss:.3f}, {recipe.batch * (bar.format_dict['rate'] or 0):.0f} images/s")
            if step % 200 == 0 or step == recipe.steps:
                scores = caption_scores(model, processor, held_out, number=64)
                history["scores"].append({"step": step} | scores)
                bar.write(f"step {step}: {scores}")
            history["seconds"] += time.monotonic() - started
            if time.monotonic() - saved > checkpoint_seconds or step == recipe.steps:
                save_checkpoint(path, model, optimizers, step, history)
                saved = time.monotonic()
    return model, processor, history


@torch.no_grad()
def generate(model, processor, images, prompt="describe"):
    """Greedy answers of transformers' PaliGemma to one prompt about PIL images."""
    texts = [f"{processor.image_token}{prompt}"] * len(images)
    inputs = processor(images=images, text=texts, return_tensors="pt")
    del inputs["labels"]
    ids = model.generate(**inputs, max_new_tokens=24, do_sample=False)
    return processor.batch_decode(ids[:, inputs.input_ids.shape[1] :], skip_special_tokens=True)


def read_caption(caption):
    """ "two cats and an apple on a blue background" -> {"cat": 2, "apple": 1}, "blue"."""
    counts = {}
    for part in caption.partition(" on a")[0].replace(" and ", ", ").split(", "):
        number, _, form = part.partition(" ")
        counts[SINGULAR.get(form, form)] = NUMBERS.get(number, 0)
    return counts, caption.removesuffix(" background").split(" ")[-1]


def caption_scores(model, processor, scenes, number=300, kinds_and_numbers=((2, 2), (2, 2), (2, 3)), mistakes=None):
    """Greedy captions of `number` scenes -> shares right: objects, their numbers, background, and the caption to the letter.

    `mistakes`: a list that takes (picture, caption, right caption) of what was not right.
    """
    rng, right = random.Random(1), {"objects": 0, "count": 0, "background": 0, "whole caption": 0}
    for start in range(0, number, BATCH):
        drawn = [scenes.random(rng, *rng.choice(kinds_and_numbers)) for _ in range(min(BATCH, number - start))]
        images = to_images(scenes.draw(drawn, 224))
        for scene, image, caption in zip(drawn, images, generate(model, processor, images)):
            counts, background = read_caption(caption)
            answer = answers(scene)["describe"]
            right["objects"] += set(counts) == set(scene.counts)
            right["count"] += sorted(counts.values()) == sorted(scene.counts.values())
            right["background"] += background == scene.background
            right["whole caption"] += caption == answer
            if mistakes is not None and caption != answer:
                mistakes.append((image, caption, answer))
    return {name: round(hits / number, 3) for name, hits in right.items()}
