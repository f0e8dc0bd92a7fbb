"""`python -m utils.own_record` (`make own`): measure notebook 13's curves, half an hour on two cores, into own_record.json."""

import copy
import json
import platform
import time
from pathlib import Path

from utils import own
from utils.measure import fit_linear_probe
from utils.pictures import sample_drawings
from utils.pretrain.concepts import NAMES
from utils.reference import load_reference
from utils.siglip import VisionTransformer

import torch
import torch.nn.functional as F

RECORD = Path(__file__).with_suffix(".json")
SHOTS, SEEDS = (1, 2, 5, 10), (0, 1, 2)
# What each way trains besides the names' vectors: (steps, rate). The controls: more steps; the rate of the pretraining.
TRAINED = {"head": (100, 1e-3), "LoRA": (20, 3e-3), "full": (20, 3e-4)}
CONTROLS = {"full, 60 steps": (60, 3e-4), "full, rate 2e-3": (20, 2e-3), "LoRA, rate 2e-3": (20, 2e-3)}


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
        self.pixels = torch.cat([reference.preprocess(own.read_image(path)) for path in paths])
        self.scale = reference.model.logit_scale.exp().item()
        drawings = sample_drawings()
        self.old_pixels = reference.preprocess(*drawings.values())
        self.old = torch.tensor([NAMES.index(name) for name in drawings])
        self.captions = self.caption_vectors(reference, NAMES)
        self.new_captions = self.caption_vectors(reference, self.names)

    @staticmethod
    @torch.no_grad()
    def caption_vectors(reference, names):
        ids = reference.tokenize(*[f"a drawing of a {name}" for name in names])
        return F.normalize(reference.model.get_text_features(ids).pooler_output, dim=-1)

    @torch.no_grad()
    def share_old(self, tower):
        vectors = torch.cat([tower(pixels)[1] for pixels in self.old_pixels.split(21)])
        return ((vectors @ self.captions.T).argmax(dim=1) == self.old).float().mean().item()

    @torch.no_grad()
    def share(self, scores, test):
        return (scores.argmax(dim=1) == self.labels[test]).float().mean().item()

    def frozen(self, shots, seed):
        """The three ways that train nothing in the tower. -> {way: share of the test pictures named right}"""
        learn, test = own.split(self.labels, shots, seed)
        vectors, targets = self.vectors[test], F.one_hot(self.labels[learn]).float()
        means = own.class_means(self.vectors[learn], self.labels[learn])
        return {
            "zero-shot": self.share(vectors @ self.new_captions.T, test),
            "class means": self.share(vectors @ means.T, test),
            "probe": self.share(fit_linear_probe(self.vectors[learn], targets)(vectors), test),
        }

    def trained(self, way, steps, rate, shots, seed):
        """-> shares named right of new and of old things, and seconds of training"""
        kind = way.split(",")[0]
        learn, test = own.split(self.labels, shots, seed)
        tower = prepare(kind, self.tower)
        eye, inputs = (tower.head, self.states) if kind == "head" else (tower, self.pixels)
        means = own.class_means(self.vectors[learn], self.labels[learn])
        namer, start = own.Namer(eye, means, self.scale), time.perf_counter()
        loss = own.train(namer, inputs[learn], self.labels[learn], steps, rate)
        seconds = time.perf_counter() - start
        with torch.no_grad():
            scores = torch.cat([namer(some) for some in inputs[test].split(20)])
        run = dict(way=way, shots=shots, seed=seed, new=self.share(scores, test), old=self.share_old(tower))
        return run | dict(loss=round(loss, 3), seconds=round(seconds, 1))


def main():
    bench = Bench(load_reference(), own.ROOT / "pictures")
    record = {"machine": f"{torch.get_num_threads()} cores ({platform.machine()}), torch {torch.__version__}"}
    record |= {"old before": bench.share_old(bench.tower), "runs": []}
    jobs = [(way, *how, shots, seed) for seed in SEEDS for shots in SHOTS for way, how in TRAINED.items()]
    jobs[len(TRAINED) * len(SHOTS) : 0] = []
    controls = [(way, *how, 10, seed) for seed in SEEDS for way, how in CONTROLS.items()]
    per_seed = len(jobs) // len(SEEDS)
    order = []
    for index in range(len(SEEDS)):
        order += jobs[index * per_seed : (index + 1) * per_seed] + controls[index * len(CONTROLS) : (index + 1) * len(CONTROLS)]
    for seed in range(20):
        for shots in SHOTS:
            record["runs"] += [dict(way=way, shots=shots, seed=seed, new=new) for way, new in bench.frozen(shots, seed).items()]
    for job in order:
        record["runs"].append(bench.trained(*job))
        print(record["runs"][-1], flush=True)
        RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
