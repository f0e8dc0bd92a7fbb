"""The drawings that the notebooks look at. They lie beside the bundled model, which was never trained on their style."""

from pathlib import Path

from PIL import Image

from utils.siglip import read_image

SAMPLE = Path(__file__).parents[1] / "models" / "siglip-mini-patch16-224" / "sample"


def sample_drawings():
    """{name: PIL image}, one drawing on white each."""
    return {path.stem.replace("-", " "): read_image(path) for path in sorted(SAMPLE.glob("*.png"))}


def four_drawings():
    """A scene: a sunflower and a ship above, a frog and a peach below. -> PIL image, 448 x 448"""
    drawings, scene = sample_drawings(), Image.new("RGB", (448, 448), "white")
    for name, corner in {"sunflower": (0, 0), "ship": (224, 0), "frog": (0, 224), "peach": (224, 224)}.items():
        scene.paste(drawings[name], corner)
    return scene
