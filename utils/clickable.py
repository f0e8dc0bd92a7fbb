"""A scene that can be clicked: choose a patch, or a word, and see where each head looks from there.

It needs no kernel. JupyterLab runs it in a notebook that is trusted (`make lab` trusts those of the repository), and so does
every web page that the notebook is made into; GitHub leaves it out. So a still picture stands before it.
"""

import base64
import io
import json
from pathlib import Path

from utils.plots import COLOURS, DIM, PALE

import numpy as np
from IPython.display import HTML, display

PROGRAM = Path(__file__).with_suffix(".js")


def to_levels(weights):
    """Shares of attention -> bytes: the root of each in steps of 1/255, finer where it is small."""
    return np.round(255 * np.sqrt(np.asarray(weights))).astype(np.uint8).tobytes()


def show_clickable(picture, looks, chosen, words=None):
    """The picture beside itself, lit by where each head looks from the patch that is chosen.

    `looks`: {title: weights (rows, patches)}, a panel each, of a square grid of patches. A row is a patch, or one of `words`,
    before which the model looks; `chosen`: the row at the start.
    """
    shown = io.BytesIO()
    picture.convert("RGB").resize((448, 448)).save(shown, "WEBP", quality=85)
    patches = next(iter(looks.values())).shape[-1]
    data = {
        "picture": "data:image/webp;base64," + base64.b64encode(shown.getvalue()).decode(),
        "columns": round(patches**0.5),
        "panels": list(looks),
        "words": words,
        "chosen": chosen,
        "largest": [np.round(100 * np.asarray(weights).max(axis=-1)).astype(int).tolist() for weights in looks.values()],
        "levels": base64.b64encode(b"".join(map(to_levels, looks.values()))).decode(),
        "colours": {"strongest": COLOURS["key"], "chosen": COLOURS["query"]},
        "dim": DIM,
        "pale": PALE,
    }
    program = PROGRAM.read_text(encoding="utf-8")
    display(HTML(f"<script>\n{program.strip()}({json.dumps(data)});\n</script>"))
