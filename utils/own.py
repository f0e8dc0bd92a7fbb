"""Your own pictures, as notebook 13 treats them: read, named by six ways, exported, searched.

What notebook 13 builds stands here exactly as it defines it.
"""

import copy
import os
import sys
from collections import Counter
from pathlib import Path

from utils.errors import LessonError
from utils.siglip import read_image

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

ROOT = Path(__file__).parents[1]
NO_PICTURES = "thumbs.db", "desktop.ini"  # what Windows puts into a folder


def find_folder():
    """Where the pictures are: the folder that OWN_PICTURES names, else my_pictures/ if there is one, else pictures/."""
    named = os.environ.get("OWN_PICTURES", "").strip()
    if not named:
        return ROOT / "my_pictures" if (ROOT / "my_pictures").is_dir() else ROOT / "pictures"
    path = Path(named).expanduser()
    folder = next((base / path for base in (Path.cwd(), ROOT) if (base / path).is_dir()), None)
    if folder is None:
        raise LessonError(f"OWN_PICTURES names {named}, and there is no such folder; give its whole path")
    return folder


def read_folder(folder):
    """<folder>/<name>/<picture>: -> names, paths of all pictures, which name each has (pictures). Prints how many there are.

    A LessonError if there is nothing to tell apart or to test with. `see` opens the files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LessonError(f"there is no folder {folder}; make one, and in it a folder of pictures for each thing")
    found = {}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        files = sorted(path for path in inner.iterdir() if path.is_file() and not path.name.startswith("."))
        found[inner.name] = [path for path in files if path.name.lower() not in NO_PICTURES]
    if not any(found.values()):
        raise LessonError(f"no pictures in {folder.name}: make a folder for each thing in it, and put its pictures there")
    twins = [name for name, times in Counter(name.casefold() for name in found).items() if times > 1]
    if twins:
        raise LessonError(f"two folders in {folder.name} are called {twins[0]} but for capitals; rename one, or join them")
    if len(found) < 2:
        raise LessonError(f"{folder.name} holds one thing only, {next(iter(found))}; two are the least to tell apart")
    for name, files in found.items():
        if len(files) < 2:
            raise LessonError(
                f"{name} has {len(files) or 'no'} picture; two are the least: one to learn from, one to test with"
            )
    paths = [path for files in found.values() for path in files]
    labels = torch.tensor([number for number, files in enumerate(found.values()) for _ in files])
    print(f"{len(paths)} pictures of {len(found)} things from {folder.name}/")
    return list(found), paths, labels


def examples(names, paths, labels, shown, each=1):
    """The first pictures of the things in `shown`, equally many of each, `each` at most. -> {title: PIL image}"""
    found, each = {}, min(each, int(labels.bincount().min()))
    for name in shown:
        first = int((labels == names.index(name)).nonzero()[0])
        for number, path in enumerate(paths[first : first + each], 1):
            found[f"{name} {number}" if each > 1 else name] = read_image(path)
    return found


def split(labels, shots, seed, most=10):
    """Draw `shots` pictures of each thing to learn from. -> two lists of numbers: to learn from, to test with

    The first `most` pictures of a thing's draw are never tested, so that all `shots` share one test; at least one is.
    """
    generator, learn, test = torch.Generator().manual_seed(seed), [], []
    for thing in range(int(labels.max()) + 1):
        own = (labels == thing).nonzero()[:, 0]
        own = own[torch.randperm(len(own), generator=generator)].tolist()
        kept = min(most, len(own) - 1)
        learn += own[: min(shots, kept)]
        test += own[kept:]
    return learn, test


@torch.no_grad()
def see(tower, paths, preprocess, batch=20, keep=True):
    """What the tower makes of picture files, a few at a time, on any device; the result is on the CPU.

    -> normed states (pictures, patches, width), vectors (pictures, width); `keep=False`: None for the states, which are large
    """
    device, states, vectors = next(tower.parameters()).device, [], []
    for start in range(0, len(paths), batch):
        pixels = preprocess(*[read_image(path) for path in paths[start : start + batch]])
        state, vector = tower(pixels.to(device))
        vectors.append(vector.cpu())
        if keep:
            states.append(state.cpu())
    return torch.cat(states) if keep else None, torch.cat(vectors)


def thumbnails(paths, preprocess, side=16):
    """The pictures, shrunk to side x side pixels: what can be named without a model. -> (pictures, 3 * side * side)"""
    small = [F.adaptive_avg_pool2d(preprocess(read_image(path)), side) for path in paths]
    return torch.cat(small).flatten(1)


@torch.no_grad()
def caption_vectors(reference, names):
    """A vector of length 1 for the caption "a drawing of a <name>" of each name. -> (names, width)"""
    ids = reference.tokenize(*[f"a drawing of a {name}" for name in names])
    return F.normalize(reference.model.get_text_features(ids).pooler_output, dim=-1)


def class_means(vectors, labels):
    """Each thing's mean direction. (pictures, width), (pictures) -> (things, width), length 1"""
    unit = F.normalize(vectors, dim=-1)
    means = [unit[labels == thing].mean(dim=0) for thing in labels.unique()]
    return F.normalize(torch.stack(means), dim=-1)


class Namer(nn.Module):
    """Score each name by the cosine of the picture's vector with the name's own.

    `eye`: a vision tower, or its head alone. `means` (names, width): where names' vectors start.
    What the eye takes, for a tower (batch, 3, height, width) -> (batch, names)
    """

    def __init__(self, eye, means, scale):
        super().__init__()
        self.eye, self.names, self.scale = eye, nn.Parameter(means.clone()), scale

    def forward(self, x):
        seen = self.eye(x)
        vectors = seen[1] if isinstance(seen, tuple) else seen  # a tower returns its states, too
        return self.scale * F.normalize(vectors, dim=-1) @ F.normalize(self.names, dim=-1).T


def draw_batches(number, steps, batch=20):
    """Which of `number` pictures each step learns from; all of them before one comes again."""
    generator, epochs = torch.Generator().manual_seed(0), -(-steps * batch // number)
    order = [torch.randperm(number, generator=generator) for _ in range(epochs)]
    return torch.cat(order).split(batch)[:steps]


def train_namer(namer, inputs, labels, steps, rate, names_rate=3e-3):
    """Train, in place, all that is not frozen: the eye at `rate`, the names' vectors at theirs.

    inputs (pictures, ...), labels (pictures) -> the last step's loss
    """
    device, eye = namer.names.device, [p for p in namer.eye.parameters() if p.requires_grad]
    groups = [{"params": eye, "lr": rate}, {"params": [namer.names], "lr": names_rate}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
    rates = [rate, names_rate]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, steps, pct_start=0.2)
    for chosen in tqdm(draw_batches(len(labels), steps), unit=" steps", file=sys.stdout):
        scores = namer(inputs[chosen].to(device))  # each batch is carried to where the namer is
        loss = F.cross_entropy(scores, labels[chosen].to(device))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(eye, 1.0)
        optimizer.step()
        schedule.step()
    return loss.item()


class LoRA(nn.Module):
    """A linear layer that stays as it is, plus a correction of low rank that is learned.

    (..., width in) -> (..., width out). Hu et al. 2021, arXiv 2106.09685, section 4.1.
    """

    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear, self.scale = linear.requires_grad_(False), alpha / rank
        self.a = nn.Parameter(torch.empty(rank, linear.in_features))
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)  # as nn.Linear starts

    def forward(self, x):
        return self.linear(x) + F.linear(F.linear(x, self.a), self.b) * self.scale

    @torch.no_grad()
    def merged(self):
        """One linear layer that does the same: the correction is added to the weights."""
        merged = copy.deepcopy(self.linear)
        merged.weight += self.b @ self.a * self.scale
        return merged


def add_lora(tower, rank=4, alpha=8):
    """Freeze the tower, in place, and put LoRA around the queries and values of each layer."""
    tower.requires_grad_(False)
    for layer in tower.encoder.layers:
        attention = layer.self_attn
        attention.q_proj = LoRA(attention.q_proj, rank, alpha)
        attention.v_proj = LoRA(attention.v_proj, rank, alpha)


def merge_lora(tower):
    """Turn each LoRA back into one linear layer, in place."""
    for layer in tower.encoder.layers:
        attention = layer.self_attn
        attention.q_proj = attention.q_proj.merged()
        attention.v_proj = attention.v_proj.merged()


def save(reference, tower, folder):
    """Write the model with this vision tower in it as Hugging Face does: SiglipModel.from_pretrained(folder) loads it."""
    model = copy.deepcopy(reference.model)
    model.vision_model.load_state_dict(tower.state_dict())
    for part in (model, reference.image_processor, reference.tokenizer):
        part.save_pretrained(folder)


class UnitVectors(nn.Module):
    """A tower that gives only the picture's vector, of length 1: what a search needs. (batch, ...) -> (batch, width)"""

    def __init__(self, tower):
        super().__init__()
        self.tower = tower

    def forward(self, pixel_values):
        return F.normalize(self.tower(pixel_values)[1], dim=-1)


def export_onnx(tower, path, size):
    """Write the tower as ONNX: input "pixel_values" (1, 3, size, size), output "vectors" (1, width), of length 1.

    Needs onnx and onnxscript: tests/requirements-export.txt.
    """
    names = dict(input_names=["pixel_values"], output_names=["vectors"])
    torch.onnx.export(UnitVectors(tower).eval(), (torch.zeros(1, 3, size, size),), path, dynamo=True, verbose=False, **names)
