"""`python -m utils.pretrain.own`: draw the pictures of notebook 13, 15 of each of 20 things that no model here has seen.

Each picture of a thing comes from another icon set. The models in models/ were neither trained on them nor measured with them.
"""

import shutil
from pathlib import Path

from utils.pretrain.drawings import Package, PretrainError, fetch, find_svgs, read_json, render
from utils.pretrain.train import FOLDER

from PIL import Image

PICTURES = Path(__file__).parents[2] / "pictures"
EACH, SIDE = 15, 112
THINGS = (
    "bed", "binoculars", "calculator", "compass", "egg", "eye", "flag", "gift", "globe", "hourglass", "keyboard", "laptop",
    "lock", "magnet", "microphone", "scissors", "shield", "skull", "stethoscope", "thermometer",
)  # fmt: skip
# How a set may call its drawing of a thing: the first of these names that it has.
ENDINGS = "", "-bold", "-filled", "-24-filled", "-fill", "-solid", "-flat", "-32-filled", "-1", "-01", "-2", "-outline"
# Those in colour first. A thing is drawn by the first 15 that have it.
SETS = [
    Package(
        "@iconify-json/icon-park", "1.2.4", "Apache-2.0", "ByteDance",
        "sha512-S8fVl49LG/M9hvwb7ruFGInK21AHMv3IJehOJRJgXPLE39OOCP3wbfTWjro/XzsjxRwdvX/lYdGetFOZI0TaJQ==",
    ),
    Package(
        "@iconify-json/flat-color-icons", "1.2.3", "MIT", "Icons8",
        "sha512-KcmJ7CY0TKFv5GuBjiS4/v++jEcNXna1jfY+yq014tnw/MN/jMI2oYpoMHGuIpYtUqDu7eove+WySnOYO8nS3w==",
    ),
    Package(
        "@iconify-json/fluent-color", "1.2.21", "MIT", "Microsoft Corporation",
        "sha512-VETjGx7BMpVsCR3HV5g5t6oBGZ92XKzIRClS5xUvDn1YHAkQTF9OyF/aFdtxYOC8JROoI1SNO/Ql6jZeK7mroA==",
    ),
    Package(
        "@iconify-json/streamline-plump-color", "1.2.2", "CC-BY-4.0", "Streamline",
        "sha512-nMLbsfwKt/IJCUDpndY7sW5aZsFUOhQGS2Jdeap+CAfbQMDIzsyEHqe8m3u65wM23q1jBlWoblE7oUXukcvTvw==",
    ),
    Package(
        "@iconify-json/streamline-ultimate-color", "1.2.2", "CC-BY-4.0", "Streamline",
        "sha512-NAbD3xLtg3069865B5CLUulp/eowPNCiDfJBxVAmA+LKLPpxU7EIEJ2+mSfWriPd+ahORWyqjRnoPVkTJopEgg==",
    ),
    Package(
        "@iconify-json/meteocons", "1.2.4", "MIT", "Bas Milius",
        "sha512-E7YV02ql5WmJgAOpXU/hoF9Mdshq73KjwR6fBxZ5SrqMJghMa3CIcRG6NQGwP4I1uBOhIjOFlAikYoPAKuT56A==",
    ),
    Package(
        "@iconify-json/fluent", "1.2.60", "MIT", "Microsoft Corporation",
        "sha512-+Tc4TcygQpzm2QNQ3v1/p5V+3OWczkJzKMqUw01pzGiIYLD85uhWPY4GaERkU0+J9J9ZqGQEWKSOk/qPL2ofsw==",
    ),
    Package(
        "@iconify-json/mdi", "1.2.3", "Apache-2.0", "Pictogrammers",
        "sha512-O3cLwbDOK7NNDf2ihaQOH5F9JglnulNDFV7WprU2dSoZu3h3cWH//h74uQAB87brHmvFVxIOkuBX2sZSzYhScg==",
    ),
    Package(
        "@iconify-json/ph", "1.2.2", "MIT", "Phosphor Icons",
        "sha512-PgkEZNtqa8hBGjHXQa4pMwZa93hmfu8FUSjs/nv4oUU6yLsgv+gh9nu28Kqi8Fz9CCVu4hj1MZs9/60J57IzFw==",
    ),
    Package(
        "@iconify-json/tabler", "1.2.41", "MIT", "Paweł Kuna",
        "sha512-GHg+H/cnr0anaCoV383JONiOMxZQOdojWYNLgL3x0fRE07YW7c+AHiYmIhXet//oq26T830qitdP7l43ojiCXw==",
    ),
    Package(
        "@iconify-json/bi", "1.2.7", "MIT", "The Bootstrap Authors",
        "sha512-IPz8WNxmLkH1I9msl+0Q4OnmjjvP4uU0Z61a4i4sqonB6vKSbMGUWuGn8/YuuszlReVj8rf+3gNv5JU8Xoljyg==",
    ),
    Package(
        "@iconify-json/boxicons", "1.2.0", "MIT", "Boxicons",
        "sha512-yAfCVaiZ5t2bC1xNVEdkWUI94e3u15IrytO2XFh8/7Y45M1i51adQpi42OhH2pUdsYM0/KY4Gklrb+XB+oZS/w==",
    ),
    Package(
        "@iconify-json/fa6-solid", "1.2.4", "CC-BY-4.0", "Dave Gandy",
        "sha512-LmDNNdJVyvF5mPm1yxWvL8KjCc/E8LzoqnF1LNTVpyY2ZJRUlGOWuPIThdbuFBF2IovgttkIyumhyqfmlHdwKg==",
    ),
    Package(
        "@iconify-json/carbon", "1.2.29", "Apache-2.0", "IBM",
        "sha512-whk3BOU2jXFtweigCrrrYXT7NzWXGUT1q268vEnySzhfdnwZhQhVlFjhkgZH86JRRx21/CziTmzpAJMe5V2yKQ==",
    ),
    Package(
        "@iconify-json/material-symbols", "1.2.98", "Apache-2.0", "Google",
        "sha512-ycgn080/EGstyYcJFu+HN0TYI+ts/KFPb+An0dzpwZit4M/BoFO9U54BwBmrS2Qo/3g9NYV4Y/g1BT425tNgEw==",
    ),
    Package(
        "@iconify-json/game-icons", "1.2.4", "CC-BY-3.0", "GameIcons",
        "sha512-/HDDZxowXgDJcOEwPspUCq5RuDdl25OyZKdtxqqiPJQNTrWIym7r4StLzIVs77DyNzOWWhH5wDqwYR3WHeDfkg==",
    ),
    Package(
        "@iconify-json/hugeicons", "1.2.35", "MIT", "Hugeicons",
        "sha512-c06tY90JZnKhOLBAKoQ1z2pqXMRdATuYXslTKwaaIAjLzKsTIsE+GGknY6+qo/SP0U/NG9xQjr4N+zfDqOeQiQ==",
    ),
    Package(
        "@iconify-json/solar", "1.2.13", "CC-BY-4.0", "480 Design",
        "sha512-/ZWb6xRib6pzxD/qTkKWYhuzSU2yu0bY+EN0spgtz1NM3d5f4eYueQZpL3PfCdsg5uVfm4Ldtt3cAyQL+YI8/Q==",
    ),
    Package(
        "@iconify-json/lucide", "1.2.137", "ISC", "Lucide Contributors",
        "sha512-uKz1+tFbv1RFX/mJQNksdnyKJijNfRGSNnxfiyKtr+dLNfA3ERph+IgpXClKGOlV/5GsZwLv2jgJXQ/bjF/JAg==",
    ),
    Package(
        "@iconify-json/mingcute", "1.2.8", "Apache-2.0", "MingCute Design",
        "sha512-J8VXpRwTpx5yzOzyhx3T4IXnfXIKTWFl3rZ9okcW4c+NMMuwkLvdmM4rkjB83tnYIhg5+kkeMpmw8tvSnxd4rQ==",
    ),
    Package(
        "@iconify-json/uil", "1.2.3", "Apache-2.0", "Iconscout",
        "sha512-if91+UBhDQc6glPsIaXecGIcXnbQZfEO4Gdv89TV2xQ+V5e9GWbY5rNl2fsKZd8COsRQ5lRQAKimVQVL0CZZVg==",
    ),
    Package(
        "@iconify-json/ion", "1.2.7", "MIT", "Ben Sperry",
        "sha512-ZJNG5kLCbTPr68mdP0jx6Q3lB9AMEQKO2+VvIjuJ2llGFICBLD+cvESn/qGDRIqSfk2D3PrFMf/Qg8WKIUV7cg==",
    ),
    Package(
        "@iconify-json/la", "1.2.1", "Apache-2.0", "Icons8",
        "sha512-7VUpZ+E7PfBpCXmAzLEGRR0LqCyFQRJiJTriO/vIZtQ1BLJ4xiDlIQ8gCCQvyTnKPG4IrvencwAxXpJGhk4pYg==",
    ),
    Package(
        "@iconify-json/iconoir", "1.2.11", "MIT", "Luca Burgio",
        "sha512-clBrCsZPkmdksYOkufVp7aoAU1j1hFQPrLUooWWmoYIMvKskUHQ+IDnwV7agTR+tGYHbud7OP2SRfYEpnqFDNw==",
    ),
    Package(
        "@iconify-json/majesticons", "1.2.5", "MIT", "Gerrit Halfmann",
        "sha512-tj0ZTiYOkz8HC365x7Pj8vXCsHCjVuFXcwoFG0iuMlvLrHslVlFhSTLjt/x/5r0ciCrtA5tLGpbV1uG0fdC56g==",
    ),
    Package(
        "@iconify-json/fontisto", "1.2.1", "MIT", "Kenan Gündoğan",
        "sha512-RoZA/Cqey08bGWB5MD8KPMQuic4ZA3iH3ruuFI85bi0svmEXO9npnTTkNwnRXLM/DLcUYJSEJ9wNrvSYgKs+Jg==",
    ),
    Package(
        "@iconify-json/temaki", "1.2.6", "CC0-1.0", "Bryan Housel",
        "sha512-WqLjY9XW3y3OO4OemOhDldloN6MCHPwM0psmlsSrLMDzsVgODr7LsktBwLfYlOwNoMaUNPOrqp66jaMBAQDaDg==",
    ),
]  # fmt: skip


def svgs_of(package, folder):
    """What one set draws of THINGS. -> {thing: svg}"""
    icons, found = {"width": 16, "height": 16} | read_json(fetch(package, folder), "icons.json"), {}  # Iconify's usual size
    for ending in reversed(ENDINGS):
        svgs = find_svgs(icons, [thing + ending for thing in THINGS], {})
        found |= {name.removesuffix(ending): svg for name, svg in svgs.items()}
    return found


def on_white(svg):
    """SVG text -> PIL image of SIDE pixels, on white, of few colours so that its file is small."""
    rgba = render(svg, SIDE).int()
    pixels = (rgba[:3] + 255 - rgba[3]).clamp(max=255).byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy()).quantize(16, dither=Image.Dither.NONE)


def draw(folder=FOLDER):
    """Write pictures/<thing>/<set>.png, and the licences beside them."""
    sets = {package.name.split("/")[1]: (package, svgs_of(package, folder)) for package in SETS}
    shutil.rmtree(PICTURES, ignore_errors=True)
    used = {}
    for thing in THINGS:
        drawn = {name: svgs[thing] for name, (_, svgs) in sets.items() if thing in svgs}
        if len(drawn) < EACH:
            raise PretrainError(f"only {len(drawn)} of the sets draw a {thing}; choose another thing")
        (PICTURES / thing).mkdir(parents=True)
        for name in list(drawn)[:EACH]:
            on_white(drawn[name]).save(PICTURES / thing / f"{name}.png", optimize=True)
            used[name] = sets[name][0]
    rows = [f"| `{name}` | {p.name} {p.version} | {p.author} | {p.licence} |" for name, p in used.items()]
    (PICTURES / "README.md").write_text(CARD + "\n".join(rows) + "\n", encoding="utf-8")


CARD = f"""# The pictures of notebook 13

{EACH} drawings of each of {len(THINGS)} things, {SIDE} pixels a side, one folder for each thing.
No model in `models/` was trained on them or chosen by them.
None of the things is among the 126 names that the bundled SigLIP learned.

Each file is named after the icon set that it was drawn from. The sets come from npm, where [Iconify](https://iconify.design)
publishes them; versions and hashes stand in [`utils/pretrain/own.py`](../utils/pretrain/own.py), and `make pictures` draws
all of them again. Changed: rendered on white, reduced to 16 colours.

| file | package | author | licence |
|---|---|---|---|
"""


if __name__ == "__main__":
    try:
        draw()
    except PretrainError as error:
        raise SystemExit(f"pretrain: {error}") from None
