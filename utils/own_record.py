"""`python -m utils.own_record` (`make own`): measure notebook 13's curves, half an hour on two cores, into own_record.json."""

import copy
import json
import platform
import time
from pathlib import Path

from utils import own
from utils.measure import CountMemory, count_numbers, fit_linear_probe
from utils.pictures import sample_drawings
from utils.pretrain.concepts import NAMES
from utils.reference import load_reference
from utils.siglip import VisionTransformer

import torch
import torch.nn.functional as F
from torch import nn
from transformers import SiglipVisionConfig

RECORD = Path(__file__).with_suffix(".json")
SHOTS, SEEDS = (1, 2, 5, 10), (0, 1, 2)
# What each way trains besides the names' vectors: (steps, rate). In the controls, steps or rate differ.
TRAINED = {"names": (100, 3e-3), "head": (100, 1e-3), "LoRA": (20, 3e-3), "full": (20, 3e-4)}
CONTROLS = {
    "full, rate 2e-3": (20, 2e-3),
    "head, 20 steps": (20, 1e-3),
    "names, 20 steps": (20, 3e-3),
    "full, 60 steps": (60, 3e-4),
    "LoRA, 60 steps": (60, 3e-3),
    "names, 60 steps": (60, 3e-3),
    "head, 60 steps": (60, 1e-3),
}


def prepare(kind, tower):
    """A copy of the tower in which only what this way trains is not frozen."""
    tower = copy.deepcopy(tower).requires_grad_(kind == "full")
    if kind == "head":
        tower.head.requires_grad_(True)
    if kind == "LoRA":
        torch.manual_seed(0)
        own.add_lora(tower)
    return tower


class Bench:
    """The pictures, what the frozen tower sees in them, and how well it names the old things."""

    def __init__(self, reference, folder):
        self.names, paths, self.labels = own.read_folder(folder)
        self.tower = VisionTransformer(reference.config.vision_config).eval()
        self.tower.load_state_dict(reference.model.vision_model.state_dict())
        self.states, self.vectors = own.see(self.tower, paths, reference.preprocess)
        self.thumbnails = own.thumbnails(paths, reference.preprocess)
        self.pixels = torch.cat([reference.preprocess(own.read_image(path)) for path in paths])
        self.scale = reference.model.logit_scale.exp().item()
        drawings = sample_drawings()
        self.old_pixels = reference.preprocess(*drawings.values())
        self.old = torch.tensor([NAMES.index(name) for name in drawings])
        self.captions = own.caption_vectors(reference, NAMES)

    @torch.no_grad()
    def share_old(self, tower):
        vectors = torch.cat([tower(pixels)[1] for pixels in self.old_pixels.split(21)])
        return round(((vectors @ self.captions.T).argmax(dim=1) == self.old).float().mean().item(), 4)

    @torch.no_grad()
    def share(self, scores, test):
        return round((scores.argmax(dim=1) == self.labels[test]).float().mean().item(), 4)

    def frozen(self, shots, seed):
        """The two ways that train nothing in the tower, and the same without a tower. -> a run of each"""
        (learn, test), scores = own.split(self.labels, shots, seed), {}
        targets = F.one_hot(self.labels[learn]).float()
        for of_what, seen in {"": self.vectors, ", thumbnails": self.thumbnails}.items():
            scores["class means" + of_what] = seen[test] @ own.class_means(seen[learn], self.labels[learn]).T
            scores["linear probe" + of_what] = fit_linear_probe(seen[learn], targets)(seen[test])
        return [dict(way=way, shots=shots, seed=seed, new=self.share(score, test)) for way, score in scores.items()]

    def trained(self, way, how, shots, seed):
        """-> shares named right of new and of old things, and seconds of training"""
        kind = way.split(",")[0]
        learn, test = own.split(self.labels, shots, seed)
        tower = prepare(kind, self.tower)
        seen = {"names": (nn.Identity(), self.vectors), "head": (tower.head, self.states)}  # computed once
        eye, inputs = seen.get(kind, (tower, self.pixels))
        means = own.class_means(self.vectors[learn], self.labels[learn])
        namer, start = own.Namer(eye, means, self.scale), time.perf_counter()
        loss = own.train_namer(namer, inputs[learn], self.labels[learn], *how)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            scores = torch.cat([namer(some) for some in inputs[test].split(20)])
        run = dict(way=way, shots=shots, seed=seed, new=self.share(scores, test), old=self.share_old(tower))
        return run | dict(loss=round(loss, 3), seconds=round(seconds, 1))


def jobs():
    """All trainings, one draw after the other, so that a stopped record is of use. -> (way, how, shots, seed)"""
    for seed in SEEDS:
        yield from ((way, how, shots, seed) for shots in SHOTS for way, how in TRAINED.items())
    yield from ((way, how, 10, seed) for way, how in CONTROLS.items() for seed in SEEDS)


def measure_base(pictures=8):
    """What training needs at Google's base size, on random weights: {way: {"numbers", "megabytes", "seconds"}}.

    Seconds: of one pass a picture, backwards, too, where something is trained.
    Megabytes: weights, gradients and AdamW's two numbers for each trained one, and what a batch keeps for the way back.
    """
    found, pixels = {}, torch.randn(pictures, 3, 224, 224)
    for way in ("frozen", "LoRA", "full"):
        tower = prepare(way, VisionTransformer(SiglipVisionConfig()))
        weights, trained = count_numbers(tower), count_numbers(tower, trained=True)
        start = time.perf_counter()
        with torch.set_grad_enabled(trained > 0), CountMemory() as memory:
            vectors = tower(pixels)[1]
            if trained:
                vectors.square().mean().backward()
        seconds = (time.perf_counter() - start) / pictures
        megabytes = (4 * (weights + 2 * trained) + memory.peak) / 1e6  # the gradients are in the peak
        found[way] = dict(numbers=trained, megabytes=round(megabytes), seconds=round(seconds, 2))
    return {"pictures": pictures} | found


def load():
    return json.loads(RECORD.read_text(encoding="utf-8"))


def of(record, way, what="new", shots=SHOTS):
    """What the record says of a way. -> {shots: a number for each draw}"""
    return {n: [run[what] for run in record["runs"] if (run["way"], run["shots"]) == (way, n)] for n in shots}


def percents(record, ways, what="new", shots=10):
    """What percent of the new or of the old things is named right in each draw. {title: way} -> {title: [percents]}"""
    return {title: [100 * share for share in of(record, way, what)[shots]] for title, way in ways.items()}


def main():
    bench = Bench(load_reference(), own.ROOT / "pictures")
    record = {"machine": f"{torch.get_num_threads()} cores ({platform.machine()}), torch {torch.__version__}"}
    record |= {"old before": bench.share_old(bench.tower), "base": {}, "runs": []}
    if RECORD.exists():  # it goes on where it was stopped; delete the file to measure all anew
        record |= load()
    done = {(run["way"], run["shots"], run["seed"]) for run in record["runs"]}
    if not of(record, "class means")[1]:
        record["runs"] += [run for seed in SEEDS for shots in SHOTS for run in bench.frozen(shots, seed)]
    for way, how, shots, seed in jobs():
        if (way, shots, seed) not in done:
            record["runs"].append(bench.trained(way, how, shots, seed))
            print(record["runs"][-1], flush=True)
            RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    record["base"] = record["base"] or measure_base()
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
