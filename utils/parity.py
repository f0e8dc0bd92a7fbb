"""The hand-built model against transformers, stage by stage, on any checkpoint. -> python -m utils.parity [NAME] [--shape-only]

`--shape-only`: a model of the checkpoint's exact shape with random weights, which need not be downloaded.
"""

import argparse
import hashlib
import os
from pathlib import Path
from unittest.mock import patch

from utils import siglip
from utils.errors import LessonError
from utils.hub import sha256
from utils.naflex import AnyShapeTower, preprocess_any
from utils.pictures import four_drawings, sample_drawings
from utils.reference import load_any_shape, load_reference, takes_any_shape
from utils.siglip import SigLIP

import requests
import torch
import torch.nn.functional as F
from huggingface_hub import constants
from PIL import Image, ImageDraw
from transformers import Siglip2Config, Siglip2Model, SiglipConfig, SiglipModel

BASE, LARGE = (768, 12, 12, 3072), (1024, 24, 16, 4096)  # width, layers, heads, width of the MLP
REORDERED = "pooled vector", "logits"  # torch's own attention, which pools there, has keys and values in one product
SO400M, GIANT = (1152, 27, 16, 4304), (1536, 40, 16, 6144)
# name: size, side of the image, of a patch, vocabulary, text tokens, parameters of the vision tower, of both towers
CHECKPOINTS = {
    "google/siglip-base-patch16-224": (BASE, 224, 16, 32000, 64, 92_884_224, 203_155_970),
    "google/siglip-base-patch16-256": (BASE, 256, 16, 32000, 64, 92_930_304, 203_202_050),
    "google/siglip-base-patch16-384": (BASE, 384, 16, 32000, 64, 93_176_064, 203_447_810),
    "google/siglip-base-patch16-512": (BASE, 512, 16, 32000, 64, 93_520_128, 203_791_874),
    "google/siglip-base-patch16-256-multilingual": (BASE, 256, 16, 250000, 64, 92_930_304, 370_626_050),
    "google/siglip-large-patch16-256": (LARGE, 256, 16, 32000, 64, 315_956_224, 652_150_786),
    "google/siglip-large-patch16-384": (LARGE, 384, 16, 32000, 64, 316_283_904, 652_478_466),
    "google/siglip-so400m-patch14-224": (SO400M, 224, 14, 32000, 16, 427_680_704, 877_360_306),
    "google/siglip-so400m-patch14-384": (SO400M, 384, 14, 32000, 64, 428_225_600, 877_960_498),
    "google/siglip-so400m-patch16-256-i18n": (SO400M, 256, 16, 250000, 64, 427_888_064, 1_128_758_962),
    "google/siglip2-base-patch32-256": (BASE, 256, 32, 256000, 64, 94_552_320, 376_856_066),
    "google/siglip2-base-patch16-224": (BASE, 224, 16, 256000, 64, 92_884_224, 375_187_970),
    "google/siglip2-base-patch16-256": (BASE, 256, 16, 256000, 64, 92_930_304, 375_234_050),
    "google/siglip2-base-patch16-384": (BASE, 384, 16, 256000, 64, 93_176_064, 375_479_810),
    "google/siglip2-base-patch16-512": (BASE, 512, 16, 256000, 64, 93_520_128, 375_823_874),
    "google/siglip2-large-patch16-256": (LARGE, 256, 16, 256000, 64, 315_956_224, 881_526_786),
    "google/siglip2-large-patch16-384": (LARGE, 384, 16, 256000, 64, 316_283_904, 881_854_466),
    "google/siglip2-large-patch16-512": (LARGE, 512, 16, 256000, 64, 316_742_656, 882_313_218),
    "google/siglip2-so400m-patch14-224": (SO400M, 224, 14, 256000, 64, 427_680_704, 1_135_463_602),
    "google/siglip2-so400m-patch14-384": (SO400M, 384, 14, 256000, 64, 428_225_600, 1_136_008_498),
    "google/siglip2-so400m-patch16-256": (SO400M, 256, 16, 256000, 64, 427_888_064, 1_135_670_962),
    "google/siglip2-so400m-patch16-384": (SO400M, 384, 16, 256000, 64, 428_256_704, 1_136_039_602),
    "google/siglip2-so400m-patch16-512": (SO400M, 512, 16, 256000, 64, 428_772_800, 1_136_555_698),
    "google/siglip2-giant-opt-patch16-256": (GIANT, 256, 16, 256000, 64, 1_163_168_256, 1_871_393_906),
    "google/siglip2-giant-opt-patch16-384": (GIANT, 384, 16, 256000, 64, 1_163_659_776, 1_871_885_426),
}
NAFLEX = {"google/siglip2-base-patch16-naflex": BASE, "google/siglip2-so400m-patch16-naflex": SO400M}
# google/siglip2-base-patch16-naflex: sentence: its logits for the three pictures of `discs` (transformers' own test, 1e-3)
DISCS = {
    "circle": (1.0195, -0.0280, -1.4468),
    "ellipsoid": (-4.5395, -6.2269, -1.5667),
    "blue circle on red background": (4.1757, 5.0358, 3.5159),
    "blue circle with green border on red background": (9.4264, 10.1879, 6.3353),
    "green circle on red background": (2.4409, 3.1058, 4.5491),
    "a dog": (-12.3230, -13.7355, -13.4632),
    "a blue dog with a green border on a red background": (1.1520, 1.1687, -1.9647),
}
PHOTOGRAPH = "http://images.cocodataset.org/val2017/000000039769.jpg"
PHOTOGRAPH_SHA256 = "dea9e7ef97386345f7cff32f9055da4982da5471c48d575146c796ab4563b04e"
# name: sentences, what transformers' own tests and tutorials publish for the photograph of two cats, tolerance
PUBLISHED = {
    "google/siglip-base-patch16-224": [
        (["a photo of 2 cats", "a photo of 2 dogs"], "logits", (-0.7567, -10.3354), 1e-3),
        (["This is a photo of 2 cats."], "probability", (0.198,), 1e-3),
    ],
    "google/siglip-so400m-patch14-384": [(["a photo of 2 cats"], "probability", (0.405,), 1e-3)],
    "google/siglip2-base-patch16-224": [(["This is a photo of 2 cats."], "probability", (0.150,), 1e-3)],
}


def flexible_shape_of(name):
    """The config of a NaFlex checkpoint: 16 x 16 places in its table, Gemma's vocabulary, 64 tokens of text."""
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    size = dict(zip(keys, NAFLEX[name]))
    text = size | dict(vocab_size=256000, max_position_embeddings=64, projection_size=size["hidden_size"])
    return Siglip2Config(vision_config=size | dict(patch_size=16, num_patches=256), text_config=text)


def discs():
    """The three pictures that transformers' own test of NaFlex draws: a blue disc with a green rim on red, in three shapes."""
    for height, width in ((224, 224), (1024, 1024), (224, 1024)):
        picture, (x, y) = Image.new("RGB", (width, height), "red"), (width // 2, height // 2)
        radius = min(x, y) // 8 * 7
        box = x - radius, y - radius, x + radius, y + radius
        ImageDraw.Draw(picture).ellipse(box, fill="blue", outline="green", width=width // 20)
        yield picture


def shape_of(name):
    """The config of a checkpoint in the table; a LessonError for any other name."""
    if name not in CHECKPOINTS:
        raise LessonError(f"{name} is not in the table of utils/parity.py; known: {', '.join(sorted(CHECKPOINTS | NAFLEX))}")
    size, side, patch, vocabulary, tokens, *_ = CHECKPOINTS[name]
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    text_size = SO400M if size is GIANT else size  # the giant has So400m's text tower, and a head to its own width
    vision = dict(zip(keys, size), image_size=side, patch_size=patch)
    text = dict(zip(keys, text_size), vocab_size=vocabulary, max_position_embeddings=tokens, projection_size=size[0])
    ends = dict(pad_token_id=1, bos_token_id=1, eos_token_id=1)
    return SiglipConfig(vision_config=vision, text_config=text | ends)


def random_model(kind, config):
    """A model of this class with random weights, in which no bias is zero and no norm idle: they would hide mistakes."""
    torch.manual_seed(0)
    model = kind(config).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def run(model, pixels, ids):
    """What leaves each stage in one pass through a hand-built model or transformers': their parts have the same names."""
    vision, text, left = model.vision_model, model.text_model, {}
    layers = list(vision.encoder.layers)
    hooks = [
        part.register_forward_hook(lambda part, _, output: left.update({part: output}))
        for part in (vision, text, vision.embeddings, *layers)
    ]
    result = model(pixel_values=pixels, input_ids=ids)
    for hook in hooks:
        hook.remove()
    return {
        "embeddings": left[vision.embeddings],
        f"all {len(layers)} hidden states": torch.stack([left[layer] for layer in layers]),
        "last hidden state": left[vision][0],
        "pooled vector": left[vision][1],
        "text vector": left[text][1],
        "logits": result if isinstance(result, torch.Tensor) else result.logits_per_image,
    }


def compare_stages(model, pixels, ids):
    """-> {attention: {stage: largest difference of the hand-built output from transformers', of the largest number}}

    Each kind of attention is compared with its own: eager with `attend`, SDPA with torch's function in its place.
    """
    with torch.device("meta"):
        ours = SigLIP(model.config)
    ours.load_state_dict(model.state_dict(), assign=True)  # the same tensors: no second copy in memory
    differences = {}
    for attention, attend in {"eager": siglip.attend, "sdpa": F.scaled_dot_product_attention}.items():
        model.set_attn_implementation(attention)
        with patch.object(siglip, "attend", attend):
            mine, theirs = run(ours, pixels, ids), run(model, pixels, ids)
        differences[attention] = {stage: ((mine[stage] - b).abs().max() / b.abs().max()).item() for stage, b in theirs.items()}
    return differences


@torch.no_grad()
def compare_flexible(model, patches, grids, mask):
    """As `compare_stages`, for the tower of a NaFlex model, with eager attention; of real patches only."""
    with torch.device("meta"):
        ours = AnyShapeTower(model.config.vision_config)
    ours.load_state_dict(model.vision_model.state_dict(), assign=True)
    model.set_attn_implementation("eager")
    run, states = model.vision_model(patches, mask, grids, output_hidden_states=True), [ours.embeddings(patches, grids)]
    hooks = [layer.register_forward_hook(lambda _, __, output: states.append(output)) for layer in ours.encoder.layers]
    last, pooled = ours(patches, grids, mask)
    for hook in hooks:
        hook.remove()
    pairs = {
        "embeddings": (states[0][mask], run.hidden_states[0][mask]),
        f"all {len(hooks)} hidden states": [torch.stack([state[mask] for state in all]) for all in (states, run.hidden_states)],
        "last hidden state": (last[mask], run.last_hidden_state[mask]),
        "pooled vector": (pooled, run.pooler_output),
    }
    return {"eager": {stage: ((a - b).abs().max() / b.abs().max()).item() for stage, (a, b) in pairs.items()}}


def print_table(differences):
    """One line a stage. -> the stages that are not equal or, behind the pooling head, further away than rounding takes them"""
    print(f"{'stage':24} {' '.join(f'{attention:>12}' for attention in differences)}  verdict")
    bad = []
    for stage in differences["eager"]:
        apart = [by_stage[stage] for by_stage in differences.values()]
        right = max(apart) <= (1e-5 if stage in REORDERED else 0)
        bad += [] if right else [stage]
        columns = " ".join(f"{'identical' if difference == 0 else f'{difference:.0e}':>12}" for difference in apart)
        print(f"{stage:24} {columns}  {'right' if right else 'WRONG'}")
    return bad


def print_counts(name, model):
    """The number of parameters next to the published one. -> the parts of which it is another one"""
    counts = [sum(p.numel() for p in part.parameters()) for part in (model.vision_model, model)]
    known, bad = CHECKPOINTS[name][-2:] if name in CHECKPOINTS else (None, None), []
    for part, count, expected in zip(("vision tower", "both towers"), counts, known):
        verdict = "" if expected is None else "right" if count == expected else f"WRONG, {expected:,} expected"
        print(f"{part:24} {count:>25,}  {verdict}")
        bad += [part] if verdict.startswith("WRONG") else []
    return bad


def photograph():
    """The two cats of COCO's 000000039769.jpg, cached. -> PIL image; a LessonError if it is not to be had"""
    path = Path(constants.HF_HOME) / "siglip-by-hand" / "000000039769.jpg"
    if not path.exists() or sha256(path) != PHOTOGRAPH_SHA256:
        try:
            answer = requests.get(PHOTOGRAPH, timeout=5)
            answer.raise_for_status()
        except requests.RequestException:
            raise LessonError(f"the photograph could not be fetched from {PHOTOGRAPH}; not measured") from None
        if hashlib.sha256(answer.content).hexdigest() != PHOTOGRAPH_SHA256:
            raise LessonError(f"what {PHOTOGRAPH} sends is not the photograph; not measured")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial")
            partial.write_bytes(answer.content)
            os.replace(partial, path)
        except OSError as error:
            raise LessonError(f"the photograph cannot be stored in {path.parent} ({error.strerror}); not measured") from None
    return Image.open(path)


def print_published(name, reference):
    """What others have published for this checkpoint, next to what is measured here. -> what differs"""
    bad = []
    for sentences, kind, published, tolerance in PUBLISHED.get(name, []):
        try:
            image = photograph()
        except LessonError as error:
            print(f"published {kind:14} {error}")
            continue
        pixels = reference.preprocess(image)
        with torch.no_grad():
            logits = reference.model(pixel_values=pixels, input_ids=reference.tokenize(*sentences)).logits_per_image[0]
        measured = logits if kind == "logits" else logits.sigmoid()
        near = all(abs(m - p) <= tolerance for m, p in zip(measured.tolist(), published))
        numbers = ", ".join(f"{m:.4f}" for m in measured.tolist())
        print(f"published {kind:14} {', '.join(map(str, published))}; here {numbers}: {'right' if near else 'WRONG'}")
        bad += [] if near else [f"published {kind}"]
    return bad


@torch.no_grad()
def print_published_discs(reference):
    """The published logits next to those measured here. -> what differs"""
    patches, grids, mask = reference.preprocess(*discs())
    inputs = dict(pixel_values=patches, spatial_shapes=grids, pixel_attention_mask=mask)
    logits, bad = reference.model(**inputs, input_ids=reference.tokenize(*DISCS)).logits_per_text.tolist(), []
    for sentence, published, measured in zip(DISCS, DISCS.values(), logits):
        near = all(abs(m - p) <= 1e-3 * (1 + abs(p)) for m, p in zip(measured, published))
        print(f"published: {sentence}: {published}; here {[round(m, 4) for m in measured]}: {'right' if near else 'WRONG'}")
        bad += [] if near else [f"published logits of {sentence!r}"]
    return bad


def measure_flexible(checkpoint, shape_only):
    """The table for a NaFlex checkpoint: a square and a picture twice as wide as high in one batch. -> what is wrong"""
    scene, bad = four_drawings(), []
    pictures = [scene, scene.crop((0, 0, scene.width, scene.height // 2))]
    if shape_only:
        model = random_model(Siglip2Model, flexible_shape_of(checkpoint))
        inputs = preprocess_any(pictures, model.config.vision_config.num_patches, model.config.vision_config.patch_size)
        print(f"{checkpoint}: its shape, random weights")
    else:
        reference = load_any_shape()
        model, inputs = reference.model, reference.preprocess(*pictures)
        theirs = reference.image_processor(pictures, return_tensors="pt")
        same = torch.equal(inputs[0], theirs.pixel_values) and torch.equal(inputs[1], theirs.spatial_shapes)
        print(f"{'patches and grids':24} {'identical' if same else 'WRONG':>12}")
        bad += [] if same else ["patches and grids"]
        if Path(reference.name).name == "siglip2-base-patch16-naflex":
            bad += print_published_discs(reference)
    return bad + print_table(compare_flexible(model, *inputs))


def measure_fixed(chosen):
    """The tables for a checkpoint of fixed resolution. -> what is wrong"""
    bad = []
    if chosen.shape_only:
        model = random_model(SiglipModel, shape_of(chosen.checkpoint))
        vision, text = model.config.vision_config, model.config.text_config
        generator = torch.Generator().manual_seed(1)
        pixels = torch.rand(2, 3, vision.image_size, vision.image_size, generator=generator) * 2 - 1
        ids = torch.randint(2, text.vocab_size, (2, text.max_position_embeddings), generator=generator)
        print(f"{chosen.checkpoint}: its shape, random weights")
    else:
        reference = load_reference()
        model, drawings = reference.model, list(sample_drawings().values())[:2]
        pixels, ids = reference.preprocess(*drawings), reference.tokenize("a drawing of a cat", "two apples")
        same = torch.equal(pixels, reference.image_processor(drawings, return_tensors="pt").pixel_values)
        print(f"{'pixel values':24} {'identical' if same else 'WRONG':>12}")
        bad += [] if same else ["pixel values"]
    bad += print_table(compare_stages(model, pixels, ids))
    name = next((name for name in CHECKPOINTS if Path(name).name == Path(chosen.checkpoint or "").name), None)
    bad += print_counts(name, model)
    if not chosen.shape_only:
        bad += print_published(name, reference)
    return bad


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", help="a folder, or a name on the hub; the bundled model without it")
    parser.add_argument("--shape-only", action="store_true", help="random weights of that shape; nothing is downloaded")
    chosen = parser.parse_args()
    if chosen.checkpoint and not chosen.shape_only:
        os.environ["SIGLIP_CHECKPOINT"] = chosen.checkpoint
    if chosen.checkpoint in NAFLEX if chosen.shape_only else takes_any_shape():
        bad = measure_flexible(chosen.checkpoint, chosen.shape_only)
    else:
        bad = measure_fixed(chosen)
    if bad:
        raise LessonError(f"not as it should be: {', '.join(bad)}")


if __name__ == "__main__":
    try:
        main()
    except LessonError as error:
        raise SystemExit(f"parity: {error}") from None
