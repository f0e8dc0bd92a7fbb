"""The drawings and scenes that the notebooks look at. Most lie beside the bundled model that they are for."""

from pathlib import Path

from utils.siglip import read_image
from utils.speech import two_of

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "models" / "siglip-mini-patch16-224" / "sample"
IMAGES = ROOT / "notebooks" / "images"
SHEET = IMAGES / "drawings.png"
SCENES = ROOT / "models" / "paligemma-mini-224" / "sample" / "scenes.webp"
TEST_SCENES = 80  # the last ones: they show pairs of things that the bundled VLM was never trained on


def sample_drawings():
    """{name: PIL image}, one drawing on white each."""
    return {path.stem.replace("-", " "): read_image(path) for path in sorted(SAMPLE.glob("*.png"))}


def four_drawings():
    """A scene: a sunflower and a ship above, a frog and a peach below. -> PIL image, 448 x 448"""
    drawings = sample_drawings()
    return scene_of([drawings[name] for name in ("sunflower", "ship", "frog", "peach")])


def scene_of(drawings):
    """Up to four drawings, 224 x 224 each: two above, two below; the rest is paper. -> PIL image, 448 x 448"""
    scene = Image.new("RGB", (448, 448), drawings[0].getpixel((0, 0)))  # the paper's own white
    for drawing, corner in zip(drawings, [(0, 0), (224, 0), (0, 224), (224, 224)]):
        scene.paste(drawing, corner)
    return scene


def scenes_in_pairs(drawings, paper):
    """All drawings, two in a scene, and the same scenes with blank paper in the left one's place. drawings {name: picture}

    -> list of scenes, list of scenes, the names of the left ones
    """
    names = [*drawings]
    lefts, rights = names[::2], names[1::2]
    two_drawn = [scene_of([drawings[left], drawings[right]]) for left, right in zip(lefts, rights)]
    one_drawn = [scene_of([paper, drawings[right]]) for right in rights]
    return two_drawn, one_drawn, lefts


def shrunk(drawing, part):
    """The drawing made smaller, to `part` of its side, in the middle of a sheet of the old size. -> PIL image"""
    small, corner = round(part * drawing.width), round((1 - part) / 2 * drawing.width)
    sheet = Image.new("RGB", drawing.size, drawing.getpixel((0, 0)))  # the paper's own white
    sheet.paste(drawing.resize((small, small)), (corner, corner))
    return sheet


def wide_file(drawing):
    """A drawing on white as a file that one may find: wide, 672 x 448, the drawing at its left, transparent around it.

    Under what is transparent lies black, as in many PNG files.
    """
    drawing, sentinel = drawing.resize((448, 448), Image.Resampling.BICUBIC), (255, 0, 255)
    filled = drawing.copy()
    ImageDraw.floodfill(filled, (0, 0), sentinel, thresh=12)
    opaque = Image.fromarray((np.array(filled) != sentinel).any(axis=-1))
    file = Image.new("RGBA", (672, 448))
    file.paste(drawing, (0, 0), opaque)
    return file


def our_patch(side):
    """The patch that all notebooks follow, near the centre of the sunflower in `four_drawings`. -> its number"""
    return side // 4 * side + side // 4


def small_drawings():
    """The things of `sample_drawings` in several styles, small; the last style is the one that no model here is trained on.

    -> names, tensor (names, styles, 3, size, size) in [-1, 1], cut from the sheet that `utils.pretrain.export` has drawn
    """
    names = list(sample_drawings())
    sheet = torch.from_numpy(np.array(Image.open(SHEET).convert("RGB"))).permute(2, 0, 1)  # (3, names * size, styles * size)
    size = sheet.shape[1] // len(names)
    drawings = sheet.unfold(1, size, size).unfold(2, size, size).permute(1, 2, 0, 3, 4)
    return names, drawings.float() / 127.5 - 1


def varied(images, generator):
    """Images, each a little moved, turned, scaled, mirrored and recoloured, at random. (images, 3, size, size) in [-1, 1]"""
    number = len(images)
    angle = 0.15 * torch.randn(number, generator=generator)
    zoom = 0.95 + 0.4 * torch.rand(number, generator=generator)
    mirror = torch.randint(2, (number,), generator=generator) * 2.0 - 1
    turn = torch.stack([angle.cos() * mirror, -angle.sin(), angle.sin() * mirror, angle.cos()], 1)
    shift = 0.2 * torch.rand(number, 2, 1, generator=generator) - 0.1
    theta = torch.cat([turn.view(-1, 2, 2) * zoom[:, None, None], shift], dim=2)
    grid = F.affine_grid(theta, images.shape, align_corners=False)
    moved = F.grid_sample(images - 1, grid, align_corners=False) + 1  # white, 1, comes in
    mix = torch.eye(3) + 0.2 * torch.randn(number, 3, 3, generator=generator)
    return torch.einsum("nij,njhw->nihw", mix, moved).clamp(-1, 1)


def quartets(drawings, number, size, seed):
    """Scenes of four different things, two above, two below, each in a random style.

    drawings (names, styles, 3, side, side) -> pixel values (number, 3, size, size), which name is in each quarter (number, 4)
    """
    generator = torch.Generator().manual_seed(seed)
    names, styles = drawings.shape[:2]
    shown = torch.stack([torch.randperm(names, generator=generator)[:4] for _ in range(number)])
    chosen = drawings[shown, torch.randint(styles, shown.shape, generator=generator)]
    quarters = F.interpolate(chosen.flatten(0, 1), size=size // 2, mode="bicubic", antialias=True).clamp(-1, 1)
    rows = quarters.view(number, 2, 2, 3, size // 2, size // 2).permute(0, 3, 1, 4, 2, 5)
    return rows.reshape(number, 3, size, size), shown


def captioned_scenes():
    """Scenes of one to three things, drawn by `utils.pretrain.vlm_export`.

    -> two lists of (PIL image, caption): to learn from, and to test
    """
    captions, sheet = SCENES.with_suffix(".txt").read_text(encoding="utf-8").splitlines(), Image.open(SCENES).convert("RGB")
    side = 224
    columns = sheet.width // side
    corners = [(index % columns * side, index // columns * side) for index in range(len(captions))]
    scenes = [(sheet.crop((x, y, x + side, y + side)), caption) for (x, y), caption in zip(corners, captions)]
    return scenes[:-TEST_SCENES], scenes[-TEST_SCENES:]


def copies(drawing, number, side=3 / 8, paper="white", first=0):
    """A picture with one or two small copies of a drawing on it, each so much of its side wide.

    `paper`: its colour. On that of the drawing's own paper, no edge shows where a copy ends.
    `first`: with 1, a single copy stands lower right, in the second one's place.
    """
    size, small = drawing.width, int(side * drawing.width)
    picture = Image.new("RGB", drawing.size, paper)
    for x, y in ((0.09, 0.09), (0.54, 0.49))[first:][:number]:
        picture.paste(drawing.resize((small, small)), (round(x * size), round(y * size)))
    return picture


def strip(drawing, number, length=3):
    """Paper of the drawing's own white, `length` times as wide as high, with so many copies of it in a row."""
    high, side = drawing.height, 2 * drawing.height // 3
    paper, small = Image.new("RGB", (length * high, high), drawing.getpixel((0, 0))), drawing.resize((side, side))
    for index in range(number):
        centre = (2 * index + 1) * length * high // (2 * number)
        paper.paste(small, (centre - side // 2, (high - side) // 2))
    return paper


def on_paper(picture, colour):
    """The picture with its white paper in another colour; white inside the drawings stays. -> PIL image"""
    picture = picture.copy()
    ImageDraw.floodfill(picture, (0, 0), colour, thresh=60)
    return picture


def stripes(size):
    """Black and white vertical stripes, each eight pixels wide, on a sheet 2 * size wide and 300 high. -> PIL image"""
    pair = np.repeat([0, 248], 8)  # multiples of 8 stay whole numbers when two pixels become one
    row = np.tile(pair, size // 8).astype(np.uint8)
    return Image.fromarray(np.repeat(row[None, :, None], 300, axis=0).repeat(3, axis=2))


def turn_hue(drawing, degrees):
    """The drawing with all its hues turned round the colour circle, and nothing else changed. -> PIL image"""
    hue, vividness, brightness = drawing.convert("HSV").split()
    hue = hue.point(lambda level: (level + round(degrees * 256 / 360)) % 256)
    return Image.merge("HSV", (hue, vividness, brightness)).convert("RGB")


def paint(drawing, hue):
    """The drawing in one hue, from 0 to 255; white, grey and black stay as they are. -> PIL image"""
    _, vividness, brightness = drawing.convert("HSV").split()
    return Image.merge("HSV", (Image.new("L", drawing.size, hue), vividness, brightness)).convert("RGB")


def three_questions(drawings, colours):
    """Groups of pictures whose captions differ in one thing: the name, the colour of the paper, or the number of copies.

    {name: PIL image}, {colour: (red, green, blue)} -> {question: (groups of pictures, groups of captions, one for each)}
    """
    one, few = {name: f"a drawing of a {name}" for name in drawings}, list(drawings)[:12]
    on_colours = [[on_paper(drawings[name], paper) for paper in colours.values()] for name in few]
    one_and_two = [[copies(drawing, number) for number in (1, 2)] for drawing in drawings.values()]
    return {
        f"which thing, of {len(drawings)}?": ([[*drawings.values()]], [[*one.values()]]),
        f"which colour, of {len(colours)}?": (
            on_colours,
            [[f"{one[name]} on a {colour} background" for colour in colours] for name in few],
        ),
        "one or two?": (one_and_two, [[one[name], f"a drawing of {two_of(name)}"] for name in drawings]),
    }


def covered(pixels, step):
    """A picture whole, and with a white square of `step` pixels at each place in turn, row after row.

    (1, 3, size, size) -> (1 + places * places, 3, size, size)
    """
    places = pixels.shape[-1] // step
    views = pixels.repeat(1 + places**2, 1, 1, 1)
    for index in range(places**2):
        top, left = (step * number for number in divmod(index, places))
        views[1 + index, :, top : top + step, left : left + step] = 1
    return views
