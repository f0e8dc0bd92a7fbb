"""Draw scenes: a picture of one to three objects on a coloured background, and a sentence that says so."""

import random
from dataclasses import dataclass

from utils.pretrain.concepts import BACKGROUNDS, NAMES, is_held_out
from utils.pretrain.drawings import HELD_OUT_STYLE, MONOTONE_STYLES, SIZE

import inflect
import torch
import torch.nn.functional as F

english = inflect.engine()
NUMBER_WORDS = ("no", "one", "two", "three")
LUMINANCE = torch.tensor([0.299, 0.587, 0.114])


@dataclass
class Thing:
    """One drawing in a scene. Place and size are fractions of the canvas' side, the tilt is in degrees."""

    drawing: int
    x: float = 0.5
    y: float = 0.5
    size: float = 0.9
    tilt: float = 0.0
    stretch: float = 1.0
    mirrored: bool = False


@dataclass
class Scene:
    background: str
    things: list[Thing]
    counts: dict[str, int]
    caption: str
    noise: float = 0.0
    varied_colours: bool = False
    seed: int = 0


def phrase(counts):
    """{"cat": 2, "apple": 1} -> "two cats and an apple"."""
    parts = [english.a(name) if n == 1 else f"{NUMBER_WORDS[n]} {english.plural(name)}" for name, n in counts.items()]
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


class SceneMaker:
    """Draws scenes from a set of drawings, the same ones for the same seed."""

    def __init__(self, drawings, styles=None, pairs="seen", device="cpu"):
        """`styles`: use only these, by default all but the held-out one. `pairs`: "seen" or "held out" combinations."""
        self.pairs, self.device = pairs, device
        self.style, self.tags = drawings["style"], drawings["tags"]
        styles = styles or {style for style in self.style if style != HELD_OUT_STYLE}
        self.choices = {name: [] for name in NAMES}
        for index, (name, style) in enumerate(zip(drawings["name"], drawings["style"])):
            if style in styles:
                self.choices[name].append(index)
        # Halved copies: a drawing is sampled from the copy next above its size on the canvas, so that nothing aliases.
        self.copies = {SIZE: drawings["pixels"].to(device)}
        for size in (SIZE // 2, SIZE // 4, SIZE // 8):
            self.copies[size] = F.avg_pool2d(self.copies[2 * size].float(), 2).round().to(torch.uint8)

    def choose_names(self, rng, kinds, among):
        while True:
            names = rng.sample(among, kinds)
            held_out = any(is_held_out(a, b) for a in names for b in names if a < b)
            if kinds == 1 or held_out == (self.pairs == "held out"):
                return names

    def place(self, rng, number, smallest):
        """Centres and sizes of `number` drawings that hardly overlap. -> [(x, y, size)]"""
        low, high = ((smallest, 1.0), (0.3, 0.52), (0.26, 0.42))[number - 1]
        while True:
            placed = []
            for _ in range(number):
                size = rng.uniform(low, high)
                x, y = (rng.uniform(0.46 * size, 1 - 0.46 * size) for _ in range(2))
                placed.append((x, y, size))
            apart = all(
                max(abs(a[0] - b[0]), abs(a[1] - b[1])) > 0.42 * (a[2] + b[2]) for i, a in enumerate(placed) for b in placed[:i]
            )
            if apart:
                return placed

    def caption(self, rng, counts, background):
        """One of several ways to say what is there; most of them name the background."""
        what = phrase(counts)
        kinds, (name, *_) = len(counts), counts
        start = rng.choice(["", "", "a drawing of ", "a picture of "]) if kinds < 3 else ""
        if kinds == 1 and counts[name] == 1 and rng.random() < 0.15:
            what = rng.choice([name, name, f"{what}, {rng.choice(self.tags[name])}"])
        return start + what + (f" on {english.a(background)} background" if rng.random() < 0.6 else "")

    def plain(self, name, drawing, background="white", size=0.9):
        """The plain picture with the plain name, as the evaluation shows it."""
        return Scene(background, [Thing(drawing, size=size)], {name: 1}, f"a drawing of {english.a(name)}")

    def random(self, rng, kinds, number, smallest=0.3, among=NAMES):
        """A scene of `number` drawings of `kinds` different concepts."""
        names = self.choose_names(rng, kinds, among)
        counts = dict.fromkeys(names, 1)
        for _ in range(number - kinds):
            counts[rng.choice(names)] += 1
        background = rng.choice(list(BACKGROUNDS))
        shown = [name for name, n in counts.items() for _ in range(n)]
        things = [
            Thing(rng.choice(self.choices[name]), x, y, size, rng.gauss(0, 12), rng.uniform(0.85, 1.18), rng.random() < 0.5)
            for name, (x, y, size) in zip(shown, self.place(rng, number, smallest))
        ]
        caption = self.caption(rng, counts, background)
        return Scene(background, things, counts, caption, rng.uniform(0, 0.06), True, rng.getrandbits(32))

    def training_batch(self, seed, size, canvas):
        """`size` scenes with `size` different captions (an equal caption would be a pair wrongly called negative).

        Scenes of several concepts share a few names: a caption that is right but for one of two objects teaches most.
        """
        rng, scenes = random.Random(seed), {}
        few = rng.sample(NAMES, min(max(12, size // 4), len(NAMES)))
        while len(scenes) < size:
            kind = rng.random()
            if kind < 0.2:
                name = rng.choice(NAMES)
                scene = self.plain(name, rng.choice(self.choices[name]), size=rng.uniform(0.8, 1))
                scene.caption = rng.choice([name, english.a(name), scene.caption, f"a picture of {english.a(name)}"])
            elif kind < 0.45:
                scene = self.random(rng, 1, 1, smallest=max(0.3, 40 / canvas))
            elif kind < 0.62:
                scene = self.random(rng, 1, rng.choice([2, 3]))
            else:
                scene = self.random(rng, *rng.choice([(2, 2)] * 4 + [(2, 3), (3, 3)]), among=few)
            scenes.setdefault(scene.caption, scene)
        return list(scenes.values())

    def draw(self, scenes, canvas):
        """-> pixels (scenes, 3, canvas, canvas) in [0, 1]"""
        colours = torch.tensor([BACKGROUNDS[scene.background] for scene in scenes], device=self.device) / 255
        pictures = colours[:, :, None, None].repeat(1, 1, canvas, canvas)
        for layer in range(3):
            rows = [row for row, scene in enumerate(scenes) if layer < len(scene.things)]
            if rows:
                rgba = self.draw_things([scenes[row].things[layer] for row in rows], [scenes[row] for row in rows], canvas)
                pictures[rows] = pictures[rows] * (1 - rgba[:, 3:]) + rgba[:, :3]
        for picture, scene in zip(pictures, scenes):
            if scene.noise:
                generator = torch.Generator().manual_seed(scene.seed)
                picture += (torch.randn(picture.shape, generator=generator) * scene.noise).to(self.device)
        return pictures.clamp_(0, 1)

    def draw_things(self, things, scenes, canvas):
        """Each drawing alone, in its place in its scene. -> premultiplied RGBA (things, 4, canvas, canvas) in [0, 1]"""
        rgba = torch.empty(len(things), 4, canvas, canvas, device=self.device)
        pixels = torch.tensor([thing.size * canvas for thing in things])
        place = torch.tensor([[1 - 2 * thing.x, 1 - 2 * thing.y] for thing in things])
        tilt = torch.tensor([thing.tilt for thing in things]).deg2rad()
        mirror = torch.tensor([-1.0 if thing.mirrored else 1.0 for thing in things])
        stretch = torch.tensor([[thing.stretch**0.5, thing.stretch**-0.5] for thing in things])
        size = torch.tensor([thing.size for thing in things])
        turn = torch.stack([tilt.cos(), tilt.sin(), -tilt.sin(), tilt.cos()], 1).view(-1, 2, 2)
        turn = turn / (size[:, None] * stretch)[:, :, None]
        turn[:, 0] *= mirror[:, None]
        theta = torch.cat([turn, turn @ place[:, :, None]], 2).to(self.device)
        matrix, tint = self.choose_colours(things, scenes)
        upper = 10**9
        for copy_size in sorted(self.copies, reverse=True):
            lower = 0 if copy_size == min(self.copies) else copy_size // 2
            rows = ((pixels > lower) & (pixels <= upper)).nonzero()[:, 0]
            upper = lower
            if len(rows):
                drawings = self.copies[copy_size][[things[row].drawing for row in rows]].float() / 255
                drawings = recolour(drawings, matrix[rows].to(self.device), tint[rows].to(self.device))
                grid = F.affine_grid(theta[rows], (len(rows), 4, canvas, canvas), align_corners=False)
                rgba[rows] = F.grid_sample(drawings, grid, align_corners=False)
        return rgba

    def choose_colours(self, things, scenes):
        """How each drawing's colours change: saturation, contrast and tint. Black-only ones get a colour that is seen.

        -> matrix (things, 3, 3), tint (things, 3)
        """
        matrix, tint = torch.eye(3).repeat(len(things), 1, 1), torch.zeros(len(things), 3)
        for index, (thing, scene) in enumerate(zip(things, scenes)):
            if not scene.varied_colours:
                continue
            rng = random.Random(f"{scene.seed} {thing.x}")
            if self.style[thing.drawing] in MONOTONE_STYLES:
                colour = [0.0] * 3 if rng.random() < 0.3 else [rng.random() for _ in range(3)]
                background = [c / 255 for c in BACKGROUNDS[scene.background]]
                seen = sum(abs(c - b) for c, b in zip(colour, background)) > 0.8
                matrix[index] = 0
                tint[index] = torch.tensor(colour if seen else [float(b < 0.5) for b in background])
            else:
                saturation = rng.uniform(0.3, 1.3)
                mix = saturation * torch.eye(3) + (1 - saturation) * LUMINANCE
                matrix[index] = mix + torch.tensor([rng.gauss(0, 0.06) for _ in range(9)]).view(3, 3)
                tint[index] = torch.tensor([rng.gauss(0, 0.06) for _ in range(3)])
        return matrix, tint


def recolour(rgba, matrix, tint):
    """Premultiplied (things, 4, height, width), matrix (things, 3, 3), tint (things, 3) -> the same, in new colours."""
    rgb, alpha = rgba[:, :3], rgba[:, 3:]
    rgb = torch.einsum("nij,njhw->nihw", matrix, rgb) + tint[:, :, None, None] * alpha
    return torch.cat([torch.minimum(rgb.clamp(min=0), alpha), alpha], 1)
