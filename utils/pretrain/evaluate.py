"""Measure the exported model through transformers, on drawings and combinations that training never showed."""

import json
import random
from pathlib import Path

from utils.pretrain.concepts import BACKGROUNDS, NAMES
from utils.pretrain.drawings import HELD_OUT_STYLE, MONOTONE_STYLES, STYLES, TEST_STYLE, write_whole
from utils.pretrain.scenes import SceneMaker, english, phrase

import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoProcessor, SiglipModel

SCENES = 300  # scenes in each of the drawn tests
# score: (what it asks, the least it must reach)
TESTS = {
    "unseen style, top-1": ("all drawings of a style never trained on, but tuned by, among all names", 0.45),
    "unseen style, top-5": ("the right name among the first five", 0.75),
    "test style, top-1": ("all drawings of a style neither trained on nor tuned by, among all names", None),
    "test style, top-5": ("the right name among the first five", None),
    "trained styles, top-1": ("all drawings of the styles trained on, among all names", 0.85),
    "six coloured trained styles, top-1": ("the same without the two black-only styles", None),
    "held-out pairs": ("two objects never trained on together, among 10 captions", 0.80),
    "held-out pairs, unseen style": ("the same, drawn in the unseen style", None),
    "background": ("the background's colour, among ten", 0.95),
    "count": ("one, two or three of the same", 0.80),
    "count, unseen style": ("the same, drawn in the unseen style", None),
    "sample, unseen style, top-1": ("the drawings in sample/, among all names", None),
    "position gap": ("cosine similarity of neighbouring position vectors, less that of those 7 or more apart", 0.3),
}


def name_prompts():
    """The caption that stands for each name when a drawing is named."""
    return [f"a drawing of {english.a(name)}" for name in NAMES]


def to_images(pixels):
    """(scenes, 3, canvas, canvas) in [0, 1] -> PIL images, as they would come from a file."""
    return [Image.fromarray(p) for p in pixels.mul(255).round().byte().permute(0, 2, 3, 1).numpy()]


class Judge:
    """The exported model as a user loads it: images and sentences in, logits out."""

    def __init__(self, folder):
        self.model = SiglipModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        self.processor = AutoProcessor.from_pretrained(folder, local_files_only=True)

    @torch.no_grad()
    def image_vectors(self, images):
        """PIL images -> unit vectors (images, width)"""
        parts = [images[start : start + 32] for start in range(0, len(images), 32)]
        vectors = [self.model.get_image_features(**self.processor(images=p, return_tensors="pt")).pooler_output for p in parts]
        return F.normalize(torch.cat(vectors), dim=-1)

    @torch.no_grad()
    def text_vectors(self, captions):
        """Sentences -> unit vectors (sentences, width)"""
        ids = self.processor(text=captions, padding="max_length", truncation=True, return_tensors="pt")
        return F.normalize(self.model.get_text_features(**ids).pooler_output, dim=-1)

    def rank_names(self, images):
        """The index of each image's most fitting names, best first. -> (images, names)"""
        return (self.image_vectors(images) @ self.text_vectors(name_prompts()).T).argsort(1, descending=True)

    def choices_right(self, images, choices):
        """For each image its own candidate captions, the right one first. -> share of images that pick the first."""
        texts = self.text_vectors([caption for captions in choices for caption in captions]).view(len(images), -1, self.width)
        scores = torch.einsum("iw,icw->ic", self.image_vectors(images), texts)
        return (scores.argmax(1) == 0).float().mean().item()

    @property
    def width(self):
        return self.model.config.vision_config.hidden_size


def plain_drawings(scenes, drawings, style, canvas=224):
    """Every drawing of a style, plain on white. -> PIL images, index of each one's name"""
    rows = [row for row, its_style in enumerate(drawings["style"]) if its_style == style]
    pixels = scenes.draw([scenes.plain(drawings["name"][row], row) for row in rows], canvas)
    return to_images(pixels), torch.tensor([NAMES.index(drawings["name"][row]) for row in rows])


def name_drawings(judge, scenes, drawings, style):
    """Every drawing of a style named among all names. -> {"drawings", "top-1", "top-5"}, mistakes [[true, named], ...]"""
    images, truth = plain_drawings(scenes, drawings, style)
    ranked = judge.rank_names(images)
    right = ranked[:, :5] == truth[:, None]
    wrong = (~right[:, 0]).nonzero()[:, 0].tolist()
    top_1, top_5 = right[:, 0].float().mean().item(), right.any(1).float().mean().item()
    mistakes = [[NAMES[truth[i]], NAMES[ranked[i, 0]]] for i in wrong]
    return {"drawings": len(truth), "top-1": top_1, "top-5": top_5}, mistakes


def other_pairs(rng, names):
    """Nine wrong pairs: six keep one of the two objects, three keep none."""
    rest = rng.sample([name for name in NAMES if name not in names], 12)
    wrong = [(names[i % 2], rest[i]) if i % 4 < 2 else (rest[i], names[i % 2]) for i in range(6)]
    return wrong + [(rest[i], rest[i + 3]) for i in range(6, 9)]


def pair_score(judge, scenes, rng):
    """Two objects that training never showed together; the nine wrong captions keep at most one of them."""
    drawn, choices = [], []
    for _ in range(SCENES):
        scene = scenes.random(rng, 2, 2)
        drawn.append(scene)
        names = tuple(scene.counts)
        choices.append([phrase(dict.fromkeys(pair, 1)) for pair in [names, *other_pairs(rng, names)]])
    return judge.choices_right(to_images(scenes.draw(drawn, 224)), choices)


def background_score(judge, scenes, rng):
    """One object on a background; ten captions that differ in the colour alone."""
    drawn, choices = [], []
    for _ in range(SCENES):
        scene = scenes.random(rng, 1, 1)
        colours = sorted(BACKGROUNDS, key=lambda colour: colour != scene.background)
        drawn.append(scene)
        choices.append([f"{phrase(scene.counts)} on {english.a(colour)} background" for colour in colours])
    return judge.choices_right(to_images(scenes.draw(drawn, 224)), choices)


def count_score(judge, scenes, rng):
    """One, two or three of the same thing; three captions that differ in the number alone."""
    drawn, choices = [], []
    for _ in range(SCENES):
        scene = scenes.random(rng, 1, rng.choice([1, 2, 3]))
        (name, number), *_ = scene.counts.items()
        drawn.append(scene)
        choices.append([phrase({name: n}) for n in sorted((1, 2, 3), key=lambda n: n != number)])
    return judge.choices_right(to_images(scenes.draw(drawn, 224)), choices)


def position_gap(table):
    """(patches, width) -> mean cosine similarity of neighbouring patches' vectors, less that of patches 7 or more apart."""
    side = round(len(table) ** 0.5)
    unit = F.normalize(table.float(), dim=-1)
    row, column = torch.arange(len(table)) // side, torch.arange(len(table)) % side
    apart = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
    straight = (row[:, None] - row).abs() + (column[:, None] - column).abs()
    similarity = unit @ unit.T
    return (similarity[straight == 1].mean() - similarity[apart >= 7].mean()).item()


def sample_score(judge, folder):
    """Naming accuracy on the drawings of the unseen style that lie beside the model, each file named after what it shows."""
    paths = sorted((Path(folder) / "sample").glob("*.png"))
    ranked = judge.rank_names([Image.open(path) for path in paths])
    right = [NAMES[best] == path.stem.replace("-", " ") for best, path in zip(ranked[:, 0], paths)]
    return sum(right) / len(right)


def evaluate(folder, drawings, test_drawings):
    """Every score of the model card. -> {"scores": {...}, "by style": {...}, "mistakes": [[true, named], ...]}

    `by style` has the test style, too; `mistakes` are those in the held-out style.
    """
    judge, scenes = Judge(folder), SceneMaker(drawings)
    named = {style: name_drawings(judge, scenes, drawings, style) for style in STYLES}
    named[TEST_STYLE] = name_drawings(judge, SceneMaker(test_drawings), test_drawings, TEST_STYLE)
    by_style = {style: score for style, (score, _) in named.items()}
    trained = [by_style[style]["top-1"] for style in STYLES if style != HELD_OUT_STYLE]
    coloured = [by_style[s]["top-1"] for s in STYLES if s != HELD_OUT_STYLE and s not in MONOTONE_STYLES]
    seen_pairs, new_pairs = scenes, SceneMaker(drawings, pairs="held out")
    unseen = SceneMaker(drawings, styles={HELD_OUT_STYLE}, pairs="held out")
    scores = {
        "unseen style, top-1": by_style[HELD_OUT_STYLE]["top-1"],
        "unseen style, top-5": by_style[HELD_OUT_STYLE]["top-5"],
        "test style, top-1": by_style[TEST_STYLE]["top-1"],
        "test style, top-5": by_style[TEST_STYLE]["top-5"],
        "trained styles, top-1": sum(trained) / len(trained),
        "six coloured trained styles, top-1": sum(coloured) / len(coloured),
        "held-out pairs": pair_score(judge, new_pairs, random.Random("pairs")),
        "held-out pairs, unseen style": pair_score(judge, unseen, random.Random("pairs, unseen style")),
        "background": background_score(judge, seen_pairs, random.Random("background")),
        "count": count_score(judge, seen_pairs, random.Random("count")),
        "count, unseen style": count_score(judge, unseen, random.Random("count, unseen style")),
        "sample, unseen style, top-1": sample_score(judge, folder),
        "position gap": position_gap(judge.model.vision_model.embeddings.position_embedding.weight.detach()),
    }
    rounded = {name: round(value, 3) for name, value in scores.items()}
    by_style = {style: {k: round(v, 3) for k, v in values.items()} for style, values in by_style.items()}
    return {"scores": rounded, "by style": by_style, "mistakes": named[HELD_OUT_STYLE][1]}


def missed_floors(scores):
    """The names of the scores that are below what they must reach."""
    return [name for name, (_, floor) in TESTS.items() if floor is not None and scores[name] < floor]


def score_table(scores):
    """The scores as a Markdown table, each with its floor and whether it is met."""
    missed = missed_floors(scores)
    lines = ["| test | what it asks | score | floor |", "|---|---|---|---|"]
    for name, value in scores.items():
        what, floor = TESTS[name]
        verdict = "" if floor is None else f"{floor} **missed**" if name in missed else f"{floor} met"
        lines.append(f"| {name} | {what} | {value:.3f} | {verdict} |")
    return "\n".join(lines)


def style_table(by_style):
    """How many drawings of each style are named right, as a Markdown table."""
    note = {HELD_OUT_STYLE: " (unseen style)", TEST_STYLE: " (test style)"}
    lines = ["| style | drawings | top-1 | top-5 |", "|---|---|---|---|"]
    for style, score in by_style.items():
        lines.append(f"| {style}{note.get(style, '')} | {score['drawings']} | {score['top-1']:.3f} | {score['top-5']:.3f} |")
    return "\n".join(lines)


def measure(folder, drawings, test_drawings):
    """Evaluate, print the table, keep everything as scores.json in the model's folder; return it."""
    results = evaluate(folder, drawings, test_drawings)
    text = json.dumps(results, indent=1)
    write_whole(Path(folder) / "scores.json", lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))
    print(score_table(results["scores"]))
    return results


@torch.no_grad()
def naming_accuracy(model, scenes, tokenizer, drawings, canvas):
    """A quick look during training, on the hand-built model: plain drawings named among all names, at any canvas size."""
    device = model.logit_scale.device
    ids = tokenizer(name_prompts(), padding="max_length", return_tensors="pt").input_ids
    texts = F.normalize(model.text_model(ids.to(device))[1], dim=-1)
    scores = {}
    for label, style in (("unseen style", HELD_OUT_STYLE), ("trained style", "noto")):
        rows = [row for row, its_style in enumerate(drawings["style"]) if its_style == style]
        pixels = scenes.draw([scenes.plain(drawings["name"][row], row) for row in rows], canvas) * 2 - 1
        images = torch.cat([model.vision_model(part)[1] for part in pixels.split(32)])
        truth = torch.tensor([NAMES.index(drawings["name"][row]) for row in rows], device=device)
        best = (images @ texts.T).topk(5).indices == truth[:, None]
        scores[f"{label} top-1"] = round(best[:, 0].float().mean().item(), 3)
        scores[f"{label} top-5"] = round(best.any(1).float().mean().item(), 3)
    return scores
