"""Write the trained VLM into models/ as transformers reads it, measure it there, and describe it in a card."""

import json
import os
import random
import tempfile
import textwrap
from pathlib import Path

from utils.pictures import TEST_SCENES
from utils.pretrain.concepts import NAMES
from utils.pretrain.drawings import HELD_OUT_STYLE, write_whole
from utils.pretrain.evaluate import to_images
from utils.pretrain.scenes import SceneMaker
from utils.pretrain.vlm import BATCH, VOCABULARY, answers, caption_scores, generate

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from transformers import PaliGemmaForConditionalGeneration, PaliGemmaProcessor

MODEL = Path("models/paligemma-mini-224")
SCENES = MODEL / "sample"
LEARN, COLUMNS = 320, 20  # scenes for notebook 11 to learn from, and how many stand side by side on the sheet
# The least share of scenes with pairs never trained on.
FLOORS = {"objects": 0.6, "count": 0.8, "background": 0.9}


def question_score(model, processor, scenes, prompt, number=300):
    """Share of scenes of one to three things of one kind for which a short question is answered right."""
    rng, hits = random.Random(1), 0
    for start in range(0, number, BATCH):
        drawn = [scenes.random(rng, 1, rng.choice((1, 2, 3))) for _ in range(min(BATCH, number - start))]
        said = generate(model, processor, to_images(scenes.draw(drawn, 224)), prompt)
        hits += sum(answer == answers(scene)[prompt] for scene, answer in zip(drawn, said))
    return round(hits / number, 3)


def measure(drawings, folder=MODEL):
    """Load what lies in `folder` through transformers, measure it, keep scores.json there. -> scores, mistakes"""
    model = PaliGemmaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()
    processor = PaliGemmaProcessor.from_pretrained(folder, local_files_only=True)
    held_out, mistakes = SceneMaker(drawings, pairs="held out"), []
    unseen = SceneMaker(drawings, {HELD_OUT_STYLE}, "held out")
    seen = SceneMaker(drawings)
    scores = {
        "captions": {
            "pairs never trained on": caption_scores(model, processor, held_out, mistakes=mistakes),
            "the same in the style never trained on": caption_scores(model, processor, unseen),
            "pairs trained on": caption_scores(model, processor, seen),
            "one kind, one to three of it": caption_scores(model, processor, seen, kinds_and_numbers=((1, 1), (1, 2), (1, 3))),
            "three kinds": caption_scores(model, processor, seen, kinds_and_numbers=((3, 3),)),
        },
        "questions": {prompt: question_score(model, processor, seen, prompt) for prompt in ("count", "background")},
    }
    text = json.dumps(scores, indent=1) + "\n"
    write_whole(Path(folder) / "scores.json", lambda path: path.write_text(text, encoding="utf-8"))
    print(score_table(scores))
    return scores, mistakes


def score_table(scores):
    """The captions' scores as a table in Markdown."""
    rows = ["| scenes | objects | count | background | whole caption |", "|---|---|---|---|---|"]
    for name, right in scores["captions"].items():
        rows.append(f"| {name} | {' | '.join(f'{share:.3f}' for share in right.values())} |")
    return "\n".join(rows)


def missed_floors(scores):
    """The floors that the captions of scenes with pairs never trained on do not reach, each as a sentence."""
    reached = scores["captions"]["pairs never trained on"]
    return [f"{name} {reached[name]} of {floor}" for name, floor in FLOORS.items() if reached[name] < floor]


def export_model(model, processor, folder=MODEL):
    """All that transformers loads, 16 bits a weight on disk; written elsewhere first, so that no file is ever half-written."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        weights = {name: weight.half() for name, weight in model.state_dict().items() if name != "lm_head.weight"}
        model.save_pretrained(temporary, state_dict=weights)
        processor.save_pretrained(temporary)
        for path in Path(temporary).iterdir():
            path.chmod(0o644)
            os.replace(path, folder / path.name)


def export_scenes(drawings, folder=SCENES):
    """Scenes with their captions for notebook 11: to learn from, and with pairs that training never shows to test on.

    Of every fifth thing only: so that a few hundred scenes show each one often enough to learn it from them.
    """
    rng, scenes = random.Random(2), []
    for pairs, number in (("seen", LEARN), ("held out", TEST_SCENES)):
        maker = SceneMaker(drawings, pairs=pairs)
        kinds_and_numbers = [(1, 1), (1, 2), (2, 2), (2, 2), (2, 3)] if pairs == "seen" else [(2, 2), (2, 2), (2, 3)]
        drawn = [maker.random(rng, *rng.choice(kinds_and_numbers), among=NAMES[::5]) for _ in range(number)]
        for scene in drawn:
            scene.noise = 0  # noise does not compress
        scenes += zip(to_images(maker.draw(drawn, 224)), drawn)
    side = 224 * COLUMNS
    sheet = Image.new("RGB", (side, 224 * -(-len(scenes) // COLUMNS)))
    for index, (image, _) in enumerate(scenes):
        sheet.paste(image, (index % COLUMNS * 224, index // COLUMNS * 224))
    write_whole(folder / "scenes.webp", lambda path: sheet.save(path, format="WEBP", lossless=True))
    captions = [answers(scene)["describe"] for _, scene in scenes]
    write_whole(folder / "scenes.txt", lambda path: path.write_text("\n".join(captions) + "\n", encoding="utf-8"))


def draw_failures(mistakes, path):
    """The first eight wrong captions, each with its picture and what would have been right."""
    figure, axes = plt.subplots(2, 4, figsize=(12, 8), dpi=80, layout="constrained")
    for axis, (image, caption, answer) in zip(axes.flat, mistakes):
        axis.imshow(image)
        axis.set_title(textwrap.fill(f"said: {caption}", 38) + "\n" + textwrap.fill(f"right: {answer}", 38), fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    figure.canvas.draw()
    pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3])
    plt.close(figure)
    pixels.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def write_card(model, history, recipe, scores, mistakes, folder=MODEL):
    """README.md of the model, every number in it from the run and from scores.json."""
    draw_failures(mistakes, folder / "failures.png")
    cores = torch.get_num_threads()
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    card = CARD.format(
        scores=score_table(scores),
        questions=", ".join(f"“{prompt}” {share:.3f}" for prompt, share in scores["questions"].items()),
        parameters=f"{sum(p.numel() for p in model.parameters()):,}",
        learned=f"{learned:,}",
        vocabulary=VOCABULARY,
        width=recipe.width,
        layers=recipe.layers,
        cores=cores,
        hours=f"{cores * history['seconds'] / 3600:.1f}",
        steps=" and ".join(f"{stage.steps:,}" for stage in recipe.stages),
        batch=recipe.batch,
        images=f"{recipe.steps * recipe.batch:,}",
    )
    write_whole(folder / "README.md", lambda path: path.write_text(card, encoding="utf-8"))
    record = {"seconds": round(history["seconds"]), "scores": history["scores"], "loss": history["loss"]}
    write_whole(folder / "history.json", lambda path: path.write_text(json.dumps(record), encoding="utf-8"))


CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# paligemma-mini-224

A small vision-language model, trained by this project, so that notebook 11 has a *trained* one to build by hand and
to compare with, and needs no network. It has PaliGemma's architecture; it is **not** Google's PaliGemma and knows
nothing of photographs.

**What it is.** {parameters} parameters: the vision tower of
[siglip-mini-patch16-224](../siglip-mini-patch16-224/README.md), unchanged, without its pooling head; one linear
projector; a Gemma of {layers} layers and width {width} (Google's: 18 and 2048) with a vocabulary of {vocabulary}
pieces learned from the captions, and of PaliGemma's tokens for the image, places and shapes. The weights are stored in
16 bits and loaded as float32.

**What it can do.** Describe scenes of one to three drawings, of the things and on the backgrounds that the tower's
card names. Three prompts: `describe`, `count`, `background`. Captions name the things in alphabetical order.

**What it cannot do.** Anything else. It knows no other words, no other prompts, no photographs, and it always says
something: for a picture that is not one of these scenes, it makes a caption up.

## Use

```python
from transformers import AutoProcessor, PaliGemmaForConditionalGeneration

model = PaliGemmaForConditionalGeneration.from_pretrained("models/paligemma-mini-224")
processor = AutoProcessor.from_pretrained("models/paligemma-mini-224")
inputs = processor(images=image, text="<image>describe", return_tensors="pt")
del inputs["labels"]  # only for training
ids = model.generate(**inputs, max_new_tokens=24, do_sample=False)
processor.decode(ids[0, inputs.input_ids.shape[1] :], skip_special_tokens=True)
```

## Scores

Greedy captions of 300 scenes each, measured by `make pretrain-eval` on these files, through transformers. *Objects*:
exactly the right names. *Count*: the right numbers. *Whole caption*: to the letter. First line: scenes of two kinds
of things that training never showed together.

{scores}

Short questions, one to three things of one kind: {questions}.

## Known failures

The first eight wrong captions among the 300 scenes of the first line:

![Eight scenes with the wrong captions that the model gave and the right ones](failures.png)

## How it was made

`make pretrain-vlm` (code in `utils/pretrain/vlm.py`): {steps} steps of {batch} scenes, {images} in all, each drawn
anew; at most {hours} CPU hours on {cores} cores, bf16 autocast. The second stage has more scenes with several things.
The tower's weights do not move; {learned} parameters learn: Muon on the language model's matrices, AdamW on the
projector, the embeddings and the norms. The loss is on the answer's tokens alone. Every tenth pair of things is never
shown together. `history.json` keeps the loss and the scores over time.

## Data and licences

The drawings are those of the tower, with the licences that [its card](../siglip-mini-patch16-224/README.md) lists:
Noto and Fx emoji (Apache-2.0), Twemoji and EmojiOne (CC-BY-4.0; recoloured, tilted, placed on backgrounds), Fluent
Emoji (MIT), names from emojibase-data (MIT). The weights are released under Apache-2.0 like this repository. The
architecture's code is transformers'; no weights of Google's Gemma or PaliGemma were used."""
