"""Fetch the emoji sets from npm, check them, and render the chosen concepts."""

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from utils.pretrain.concepts import CONCEPTS

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from tqdm import tqdm

SIZE = 256  # pixels of a rendered drawing's side


class PretrainError(Exception):
    """Something outside this code went wrong; the message is one line that says what, and the way out."""


@dataclass(frozen=True)
class Package:
    name: str
    version: str
    licence: str
    author: str
    integrity: str


LABELS = Package(
    "emojibase-data", "17.0.0", "MIT", "Miles Johnson",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)  # fmt: skip
STYLES = {
    "noto": Package(
        "@iconify-json/noto", "1.2.9", "Apache-2.0", "Google",
        "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
    ),
    "noto-v1": Package(
        "@iconify-json/noto-v1", "1.2.5", "Apache-2.0", "Google",
        "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
    ),
    "twemoji": Package(
        "@iconify-json/twemoji", "1.2.5", "CC-BY-4.0", "Twitter",
        "sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
    ),
    "emojione": Package(
        "@iconify-json/emojione", "1.2.3", "CC-BY-4.0", "Emojione",
        "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
    ),
    "fluent-emoji": Package(
        "@iconify-json/fluent-emoji", "1.2.7", "MIT", "Microsoft",
        "sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
    ),
    "fluent-emoji-flat": Package(
        "@iconify-json/fluent-emoji-flat", "1.2.6", "MIT", "Microsoft",
        "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
    ),
    "fluent-emoji-high-contrast": Package(
        "@iconify-json/fluent-emoji-high-contrast", "1.2.6", "MIT", "Microsoft",
        "sha512-esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
    ),
    "emojione-monotone": Package(
        "@iconify-json/emojione-monotone", "1.2.1", "CC-BY-4.0", "Emojione",
        "sha512-cZSNcPsuiAD6HCzCh/2dYKGh3pNI0jJlxBxQWfC33cQsPtqYZqulGBvlkThXYNvDl8VxgVHT9u+izyX/yeEIkA==",
    ),
    "fxemoji": Package(
        "@iconify-json/fxemoji", "1.2.2", "Apache-2.0", "Mozilla",
        "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
    ),
}  # fmt: skip
HELD_OUT_STYLE = "fxemoji"  # never trained on, but looked at during training: the recipe was tuned by it
# fxemoji's plain names mean the faces of these animals; its "-side" drawings are the code points that the other sets draw.
FXEMOJI_ALIASES = {"cat": "catside", "dog": "dogside", "mouse": "mouseside", "pig": "pigside", "tiger": "tigerside"}
MONOTONE_STYLES = {"fluent-emoji-high-contrast", "emojione-monotone"}  # drawn in black only: scenes give them a colour
# Measured when all else is settled, and never to be tuned by: once a recipe, a concept or a floor is chosen by its score, that
# score says no more about new styles than HELD_OUT_STYLE's does. So it is not in STYLES, which training gets, and has no floor,
# since a floor is a target. It was chosen by coverage and licence before anything was measured: it draws all concepts, with
# outlines, and derives from no other set. All its drawings were looked at, also before: each shows what its name says, so there
# is no alias, and none is left out.
TEST_STYLE = "openmoji"
TEST_PACKAGE = Package(
    "@iconify-json/openmoji", "1.2.29", "CC-BY-SA-4.0", "OpenMoji, HfG Schwäbisch Gmünd",
    "sha512-vXdhkqcXVSO6suy+m9LbcUM3OdVyuNOtpV8/als/WqfkQIRxevL5Geb/g+6GH/Qwnq1OqksEmaDGTCmZ5nFKJQ==",
)  # fmt: skip


def write_whole(path, write):
    """Call `write(temporary path)`, then rename: `path` holds either all of the new file or what it held before."""
    path = Path(path)
    temporary = path.with_name(path.name + ".partial")
    try:
        write(temporary)
        temporary.chmod(0o644)  # safetensors writes for the owner's eyes only
        os.replace(temporary, path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors do not raise OSError on a full disk
        reason = str(error).splitlines()[0]
        raise PretrainError(f"cannot write {path} ({reason}): make room on the disk and run again") from None
    finally:
        temporary.unlink(missing_ok=True)


def fetch(package, folder):
    """Download one npm package into `folder` unless it is there; return its path. Its hash is checked either way."""
    path = Path(folder) / f"{package.name.replace('@', '').replace('/', '-')}-{package.version}.tgz"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        command = ["npm", "pack", f"{package.name}@{package.version}", "--silent", "--pack-destination", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
        except FileNotFoundError:
            raise PretrainError("npm is not installed; it fetches the drawings: install Node.js") from None
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            raise PretrainError(f"npm could not fetch {package.name}@{package.version}; check the network") from None
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if f"sha512-{digest}" != package.integrity:
        path.unlink()
        raise PretrainError(f"{path.name} does not match its pinned hash and was deleted; run again to fetch it anew")
    return path


def read_json(archive, member):
    """One JSON file out of a fetched npm package."""
    with tarfile.open(archive) as package:
        return json.load(package.extractfile(f"package/{member}"))


def letters(name):
    """The key by which sets are joined: 'Christmas tree', 'christmas-tree' and 'christmastree' are one."""
    return re.sub("[^a-z0-9]", "", name.lower())


def find_svgs(icons, labels, aliases):
    """The SVG of each label that an Iconify set draws, centred in a square. -> {label: svg}"""
    parents = {letters(alias): value["parent"] for alias, value in icons.get("aliases", {}).items()}
    names = parents | {letters(name): name for name in icons["icons"]}
    found = {}
    for label in labels:
        icon = icons["icons"].get(names.get(aliases.get(label, letters(label))))
        if icon:
            width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
            side = max(width, height)
            square = f"{(width - side) / 2} {(height - side) / 2} {side} {side}"
            found[label] = (
                f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
                f'viewBox="{square}">{icon["body"]}</svg>'
            )
    return found


def render(svg, size=SIZE):
    """SVG text -> premultiplied RGBA, uint8 tensor (4, size, size)."""
    import resvg_py

    try:
        png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))
    except ValueError as error:
        raise PretrainError(f"a drawing does not render: {error}") from None
    rgba = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA").convert("RGBa"))
    if not rgba[..., 3].any():
        raise PretrainError("a drawing does not render: its picture is empty")
    return torch.from_numpy(rgba.copy()).permute(2, 0, 1)


def render_styles(styles, folder):
    """Fetch every package of {style: package} and render each concept.

    -> {"pixels": uint8 (drawings, 4, SIZE, SIZE), "name": [...], "style": [...], "tags": {name: [...]}}
    """
    tags = {entry["label"]: entry.get("tags", []) for entry in read_json(fetch(LABELS, folder), "en/data.json")}
    drawings = {"pixels": [], "name": [], "style": [], "tags": {name: tags[label] for name, label in CONCEPTS.items()}}
    for style, package in styles.items():
        aliases = FXEMOJI_ALIASES if style == "fxemoji" else {}
        svgs = find_svgs(read_json(fetch(package, folder), "icons.json"), CONCEPTS.values(), aliases)
        for name, label in tqdm(CONCEPTS.items(), desc=f"render {style}", unit=" drawings"):
            if label not in svgs:
                raise PretrainError(f"{package.name}@{package.version} has no drawing of {label!r}; choose another concept")
            drawings["pixels"].append(render(svgs[label]))
            drawings["name"].append(name)
            drawings["style"].append(style)
    drawings["pixels"] = torch.stack(drawings["pixels"])
    return drawings


def prepare(folder):
    """The drawings of STYLES, as `render_styles` gives them; rendered once and kept in `folder`."""
    path = Path(folder) / "drawings.pt"
    if path.exists():
        return torch.load(path)
    drawings = render_styles(STYLES, folder)
    write_whole(path, lambda temporary: torch.save(drawings, temporary))
    return drawings


def prepare_test(folder):
    """The drawings of TEST_STYLE, for the scores alone; rendered anew each time: that takes seconds, and no copy can be old."""
    return render_styles({TEST_STYLE: TEST_PACKAGE}, folder)
