"""Write the trained model into models/ as transformers reads it, with its history, and describe it in a card."""

import json
from pathlib import Path

from utils.pretrain.concepts import BACKGROUNDS, NAMES
from utils.pretrain.drawings import HELD_OUT_STYLE, LABELS, STYLES, TEST_PACKAGE, TEST_STYLE, write_whole
from utils.pretrain.evaluate import plain_drawings, score_table, style_table
from utils.pretrain.scenes import SceneMaker
from utils.pretrain.tokenizer import load_tokenizer
from utils.pretrain.train import make_config

import matplotlib.pyplot as plt
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import SiglipImageProcessorPil

MODEL = Path("models/siglip-mini-patch16-224")
SHEET = Path("notebooks/images/drawings.png")
SHEET_SIZE = 48  # pixels of a drawing's side on the sheet


def export_model(model, recipe, work_folder, folder=MODEL):
    """All that transformers loads. A weight takes 16 bits on disk and is loaded as float32, which the config names."""
    folder.mkdir(parents=True, exist_ok=True)
    config = make_config(recipe)
    config.vision_config.image_size = recipe.stages[-1].canvas
    config.architectures, config.dtype = ["SiglipModel"], torch.float32
    config.save_pretrained(folder)
    weights = {name: weight.detach().half().contiguous() for name, weight in model.state_dict().items()}
    write_whole(folder / "model.safetensors", lambda path: save_file(weights, path, metadata={"format": "pt"}))
    load_tokenizer(work_folder).save_pretrained(folder)
    size = {"height": recipe.stages[-1].canvas, "width": recipe.stages[-1].canvas}
    SiglipImageProcessorPil(size=size).save_pretrained(folder)


def export_history(history, recipe, folder=MODEL):
    """history.json: loss, scores, scalars over time; history.safetensors: filters and position table of each snapshot."""
    tensors, snapshots = {}, []
    for index, shot in enumerate(history["snapshots"]):
        for name in ("filters", "filter_scale", "positions"):
            tensors[f"{index}.{name}"] = shot[name].contiguous()
        snapshots.append({name: shot[name] for name in ("step", "logit_scale", "logit_bias")})
    write_whole(folder / "history.safetensors", lambda path: save_file(tensors, path))
    stages = [{"canvas": stage.canvas, "batch": stage.batch, "steps": stage.steps} for stage in recipe.stages]
    record = {"stages": stages, "seconds": round(history["seconds"]), "snapshots": snapshots}
    record |= {"scores": history["scores"], "loss": history["loss"]}
    write_whole(folder / "history.json", lambda path: path.write_text(json.dumps(record), encoding="utf-8"))


def file_name(name):
    return f"{name.replace(' ', '-')}.png"


def export_sample(drawings, folder=MODEL):
    """Every third drawing of the unseen style as a file a user could have: plain, on white."""
    (folder / "sample").mkdir(exist_ok=True)
    images, truth = plain_drawings(SceneMaker(drawings), drawings, HELD_OUT_STYLE)
    for image, name in list(zip(images, truth.tolist()))[::3]:
        path = folder / "sample" / file_name(NAMES[name])
        write_whole(path, lambda temporary, image=image: image.save(temporary, format="PNG", optimize=True))


def export_sheet(drawings, path=SHEET):
    """The sample's concepts small, in every style, for notebook 08 to train on: a row each, the unseen style last."""
    rows, styles = sorted(NAMES[::3], key=file_name), sorted(STYLES, key=lambda style: style == HELD_OUT_STYLE)
    sheet = Image.new("RGB", (SHEET_SIZE * len(styles), SHEET_SIZE * len(rows)))
    for column, style in enumerate(styles):
        images, truth = plain_drawings(SceneMaker(drawings), drawings, style, canvas=SHEET_SIZE)
        for image, name in zip(images, truth.tolist()):
            if NAMES[name] in rows:
                sheet.paste(image, (SHEET_SIZE * column, SHEET_SIZE * rows.index(NAMES[name])))
    sheet = sheet.quantize(256, dither=Image.Dither.NONE)
    write_whole(path, lambda temporary: sheet.save(temporary, format="PNG", optimize=True))


def draw_failures(mistakes, drawings, path):
    """Up to ten drawings of the unseen style that the model names wrongly, each with both names."""
    images, truth = plain_drawings(SceneMaker(drawings), drawings, HELD_OUT_STYLE, canvas=112)
    position = {NAMES[name]: index for index, name in enumerate(truth.tolist())}
    figure, axes = plt.subplots(2, 5, figsize=(9, 4.4))
    for axis, (true, named) in zip(axes.flat, mistakes):
        axis.imshow(images[position[true]])
        axis.set_title(f"{true}:\nnamed “{named}”", fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=80, metadata={"Software": None})
    plt.close(figure)


def percent(share):
    return f"{share:.0%}".replace("%", " %")


def write_card(history, recipe, results, drawings, folder=MODEL):
    """README.md of the model with its picture of failures."""
    draw_failures(results["mistakes"], drawings, folder / "failures.png")
    card = make_card(history, recipe, results, torch.get_num_threads())
    write_whole(folder / "README.md", lambda path: path.write_text(card, encoding="utf-8"))


def make_card(history, recipe, results, cores):
    """The card's text, every number in it from the run and from scores.json. `cores`: how many the training ran on."""
    stages = "\n".join(f"| {s.canvas} px | {s.steps} | {s.batch} | {s.steps * s.batch:,} |" for s in recipe.stages)
    sources = "\n".join(
        f"| {p.name} {p.version} | {p.author} | {p.licence} | {use} |"
        for p, use in [
            *((p, "tuning, scores" if s == HELD_OUT_STYLE else "training") for s, p in STYLES.items()),
            (TEST_PACKAGE, "scores only"),
            (LABELS, "names and keywords"),
        ]
    )
    return CARD.format(
        concepts=len(NAMES),
        names=", ".join(NAMES),
        colours=", ".join(BACKGROUNDS),
        cores=cores,
        hours=f"{cores * history['seconds'] / 3600:.1f}",
        images=f"{sum(s.steps * s.batch for s in recipe.stages):,}",
        scores=score_table(results["scores"]),
        unseen=percent(results["by style"][HELD_OUT_STYLE]["top-1"]),
        test=percent(results["by style"][TEST_STYLE]["top-1"]),
        test_5=percent(results["by style"][TEST_STYLE]["top-5"]),
        test_drawings=results["by style"][TEST_STYLE]["drawings"],
        styles=style_table(results["by style"]),
        mistakes=len(results["mistakes"]),
        **{"width": recipe.width, "stages": stages, "sources": sources},
    )


CARD = """---
license: apache-2.0
library_name: transformers
pipeline_tag: zero-shot-image-classification
---
# siglip-mini-patch16-224

A small SigLIP, pretrained by this project on drawings, so that the notebooks have a *pretrained* model to compare
with and need no network. It is **not** Google's SigLIP and knows nothing of photographs.

**What it is.** SigLIP's architecture: 224 px, patch 16, 196 patches, 12 layers, heads of width 64, MLP x 4,
GELU tanh, LayerNorm eps 1e-6, MAP head, a text tower without a mask that pools the last position, sigmoid loss.
Smaller than base: width {width} (base: 768), 3 text layers (12), 16 text tokens (64), 900 word pieces (32,000).
The weights are stored in 16 bits; the config asks for 32, so `from_pretrained` loads float32.

**What it knows.** {concepts} concepts as pictograms, one to three of them on a plain background, in English captions
such as "two cats and an apple on a blue background".

- Concepts: {names}.
- Backgrounds: {colours}.

**What it is not.** Any other word is unknown to it (the tokenizer spells it out, the model never learned it), and so are
photographs, textures, scenes with more than three things, and where a thing is. Its logits are calibrated on batches of
drawings: as a probability, do not carry them to other pictures.

## Use

```python
from transformers import AutoProcessor, SiglipModel

model = SiglipModel.from_pretrained("models/siglip-mini-patch16-224")
processor = AutoProcessor.from_pretrained("models/siglip-mini-patch16-224")
inputs = processor(images=image, text=["a drawing of a cat"], padding="max_length", return_tensors="pt")
model(**inputs).logits_per_image.sigmoid()
```

## Scores

Measured by `make pretrain-eval` on these files, through transformers.

{scores}

**What to expect of a new style.** The *unseen style* is fxemoji. Training never showed it, but the recipe was tuned by
looking at its score: {unseen} flatters. The *test style* is openmoji, drawn with outlines. It was chosen by its licence and its
coverage alone, its drawings were checked by eye, and no choice was made by its score: of its {test_drawings} drawings the model
names {test} right, and has the right name among its first five for {test_5}. It is one style; another may be easier or harder.

Naming, by style (plain drawing on white, all {concepts} names):

{styles}

## Known failures

{mistakes} of the {concepts} drawings of the unseen style are named wrongly. The first ten, with the name that it gave:

![Ten drawings of the unseen style with their true names and the wrong names that the model gave them](failures.png)

`sample/` holds every third drawing of that style as a picture file.

## How it was made

`make pretrain` (code in `utils/pretrain/`): {images} scenes, each drawn anew, {hours} CPU hours on {cores} cores,
bf16 autocast, by the hand-built model of `utils/siglip.py`. Sigmoid loss as in the paper (arXiv 2303.15343): scale 10, bias -10
at the start, all pairs of a batch, divided by the number of images. Muon on the encoders' matrices, AdamW on the rest, linear
warm-up, then linearly to zero.

| canvas | steps | batch | images |
|---|---|---|---|
{stages}

From one canvas to the next the position table is interpolated bicubically, as SigLIP itself moves between resolutions. So
part of the smoothness of the final table (the position gap above) comes from interpolation, not from learning:
`history.safetensors` holds tables of every size. Not trained on: the styles fxemoji and openmoji, whole, and every tenth pair
of concepts.

`history.json` and `history.safetensors` keep the loss, the scores and snapshots of patch filters, position table, scale
and bias, from the random start to the end.

## Data and licences

Drawings and names, fetched from npm and checked by hash; the model's weights are released under Apache-2.0 like this
repository.

| package | by | licence | used for |
|---|---|---|---|
{sources}

Noto and Fx emoji: Apache License 2.0. Twemoji and EmojiOne graphics: Creative Commons Attribution 4.0
(https://creativecommons.org/licenses/by/4.0/); they were recoloured, tilted and placed on backgrounds for training.
Fluent Emoji: MIT, copyright Microsoft Corporation. emojibase-data: MIT, copyright Miles Johnson. OpenMoji: Creative Commons
Attribution-ShareAlike 4.0 (https://creativecommons.org/licenses/by-sa/4.0/); the model was only measured on it, and none of
its drawings is in this repository.
"""
