"""The checks are checked: each known mistake is planted and must be caught, and called by its own name."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import SiglipImageProcessorPil

from utils.checks import CheckError, check_exercise, compare
from utils.errors import LessonError
from utils.mistakes import CATALOGUE, PREPROCESSING, explain
from utils.reference import load_reference
from utils.siglip import preprocess, read_image

ROOT = Path(__file__).parents[1]
SIZE = 224


@pytest.fixture(scope="module")
def photograph():
    return read_image(ROOT / "notebooks" / "images" / "cat.png")


@pytest.fixture(scope="module")
def transparent(photograph):
    """The photograph, fading to the right: an image on which every mistake shows."""
    faded = photograph.copy()
    faded.putalpha(Image.linear_gradient("L").rotate(90).resize(photograph.size))
    return faded


@pytest.fixture(scope="module")
def right(transparent):
    processor = SiglipImageProcessorPil(size={"height": SIZE, "width": SIZE})
    return processor(transparent, return_tensors="pt").pixel_values


# Mistakes


@pytest.mark.parametrize("mistake", PREPROCESSING, ids=lambda mistake: mistake.name)
def test_a_planted_mistake_is_caught_and_named(mistake, transparent, right):
    with pytest.raises(CheckError) as caught:
        compare("pixels", mistake.wrong(transparent, SIZE), right, stage="preprocessing", inputs=(transparent, SIZE))
    assert mistake.sentence in str(caught.value)
    others = [other.sentence for other in CATALOGUE if other is not mistake and other.stage == mistake.stage]
    assert not [sentence for sentence in others if sentence in str(caught.value)]


def test_the_right_code_passes_and_is_no_mistake(transparent, right, capsys):
    ours = preprocess(transparent, SIZE)
    compare("pixels", ours, right, stage="preprocessing", inputs=(transparent, SIZE))
    assert "identical" in capsys.readouterr().out
    assert explain("preprocessing", ours, (transparent, SIZE)) is None


# compare


@pytest.mark.parametrize(
    ("ours", "says"),
    [
        (torch.zeros(1, 3), r"the shape is \(1, 3\), it should be \(2, 3\)"),
        (torch.zeros(2, 3, dtype=torch.float64), "torch.float64, they should be torch.float32"),
        (torch.full((2, 3), torch.nan), "6 numbers are NaN"),
        (torch.tensor([[0.1, 0, 0], [0, 0.5, 0]]), r"up to 0.5 away from the reference, most at \(1, 1\): 0.5, not 0"),
        (None, "expected a tensor, got NoneType"),
    ],
    ids=["broadcastable shape", "dtype", "NaN", "value", "nothing"],
)
def test_a_difference_is_explained(ours, says):
    with pytest.raises(CheckError, match=says):
        compare("x", ours, torch.zeros(2, 3))


def test_a_wrong_count_says_how_many_are_missing():
    with pytest.raises(CheckError, match="1,000, not 1,192: 192 too few"):
        compare("x", torch.tensor(1000), torch.tensor(1192))


def test_bytes_do_not_wrap_around():
    with pytest.raises(CheckError, match="up to 1 away"):
        compare("x", torch.tensor([50], dtype=torch.uint8), torch.tensor([51], dtype=torch.uint8))


def test_another_processors_last_digit_passes_with_a_word_but_not_in_ci(monkeypatch, capsys):
    reference = torch.ones(4)
    monkeypatch.delenv("CI", raising=False)
    compare("x", reference + 1e-6, reference)
    assert "rounds the last digit differently" in capsys.readouterr().out
    with pytest.raises(CheckError):
        compare("x", reference + 1e-5, reference)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(CheckError):
        compare("x", reference + 1e-6, reference)


def test_a_tolerance_is_a_limit():
    compare("x", torch.full((2,), 0.9e-5), torch.zeros(2), tolerance=1e-5)
    with pytest.raises(CheckError):
        compare("x", torch.full((2,), 1.1e-5), torch.zeros(2), tolerance=1e-5)


def test_an_exercise_is_not_attempted_wrong_or_right(capsys):
    for answer, verdict in ((None, "not attempted yet"), (torch.ones(2), "Not yet."), (torch.zeros(2), "identical")):
        check_exercise("x", answer, torch.zeros(2))
        assert verdict in capsys.readouterr().out


# Images


def save(image, path, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "RGB", "1", "LA"])
def test_every_mode_is_read_as_the_reference_reads_it(mode, photograph, tmp_path):
    path = save(photograph.convert(mode), tmp_path / ("x.jpg" if mode == "CMYK" else "x.png"))
    expected = SiglipImageProcessorPil()(Image.open(path), return_tensors="pt").pixel_values
    assert torch.equal(preprocess(read_image(path), SIZE), expected)


def test_what_is_transparent_becomes_white_as_in_the_reference(transparent, tmp_path):
    for image in (transparent, transparent.convert("P"), transparent.convert("LA"), Image.new("RGBA", (9, 9), (255, 0, 0, 0))):
        path = save(image, tmp_path / "x.png")
        expected = SiglipImageProcessorPil()(Image.open(path), return_tensors="pt").pixel_values
        assert torch.equal(preprocess(read_image(path), SIZE), expected)


@pytest.mark.parametrize("shape", [(1, 1), (10000, 10), (3, 500)])
def test_every_shape_is_squashed(shape, tmp_path):
    pixels = preprocess(read_image(save(Image.new("RGB", shape, "red"), tmp_path / "x.png")), SIZE)
    assert pixels.shape == (1, 3, SIZE, SIZE)
    assert pixels[0, :, 0, 0].tolist() == [1, -1, -1]


def test_a_turned_photograph_is_set_upright(photograph, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(save(photograph, tmp_path / "x.jpg", exif=exif)).size == photograph.size[::-1]


def test_an_animation_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    path = save(frames[0], tmp_path / "x.gif", save_all=True, append_images=frames[1:])
    assert read_image(path).getpixel((0, 0)) == (255, 0, 0)


def broken_files(photograph):
    whole = io.BytesIO()
    photograph.save(whole, "PNG")
    return {"text": b"not a picture", "cut short": whole.getvalue()[:5000], "empty": b""}


@pytest.mark.parametrize(
    ("kind", "says"), [("text", "is not an image"), ("cut short", "is damaged or cut short"), ("empty", "is empty")]
)
def test_a_broken_file_is_one_clear_line(kind, says, photograph, tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(broken_files(photograph)[kind])
    with pytest.raises(LessonError, match=f"x.png {says}") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_a_folder_is_one_clear_line(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("x.png", "folder"):
        with pytest.raises(LessonError, match=f"there is no file {name}"):
            read_image(tmp_path / name)


# The reference


@pytest.fixture
def copy_of_the_model(tmp_path):
    """A copy whose big files are links, for tests to damage."""
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in (ROOT / "models" / "siglip-mini-patch16-224").glob("*.*"):
        (folder / path.name).symlink_to(path)
    return folder


def replace(path, content):
    path.unlink()
    path.write_bytes(content)


def test_the_bundled_model_is_the_default_and_is_announced(monkeypatch, capsys):
    monkeypatch.delenv("SIGLIP_CHECKPOINT", raising=False)
    reference = load_reference()
    printed = capsys.readouterr()
    assert "Reference: siglip-mini-patch16-224 from models/siglip-mini-patch16-224: 224 px" in printed.out
    assert not printed.err
    assert not reference.model.training
    assert reference.config._attn_implementation == "eager"


def test_another_folder_can_be_chosen(monkeypatch, copy_of_the_model, capsys):
    monkeypatch.setenv("SIGLIP_CHECKPOINT", str(copy_of_the_model))
    assert load_reference().name == "copy"
    assert str(copy_of_the_model) in capsys.readouterr().out


def test_a_checkpoint_that_is_not_there_is_one_clear_line(monkeypatch):
    monkeypatch.setenv("SIGLIP_CHECKPOINT", "models/nowhere")
    with pytest.raises(LessonError, match="no model found: looked for .*models/nowhere; unset SIGLIP_CHECKPOINT"):
        load_reference()


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("model.safetensors", None, "the weights in .*copy are damaged"),
        ("config.json", b'{"model_type": "clip"}', "holds a model of type 'clip', not 'siglip'"),
        ("config.json", b"{", "has no readable config.json"),
    ],
    ids=["truncated weights", "another architecture", "broken config"],
)
def test_a_damaged_checkpoint_is_one_clear_line(monkeypatch, copy_of_the_model, file, content, says):
    path = copy_of_the_model / file
    replace(path, path.read_bytes()[:100_000] if content is None else content)
    monkeypatch.setenv("SIGLIP_CHECKPOINT", str(copy_of_the_model))
    with pytest.raises(LessonError, match=says) as caught:
        load_reference()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "called"),
    [
        ("model.safetensors", "model.safetensors"),
        ("preprocessor_config.json", "preprocessor_config.json or processor_config.json"),
        ("spiece.model", "tokenizer.json or spiece.model or tokenizer.model"),
    ],
)
def test_a_checkpoint_of_which_a_file_is_missing_is_one_clear_line(monkeypatch, copy_of_the_model, file, called):
    (copy_of_the_model / file).unlink()
    monkeypatch.setenv("SIGLIP_CHECKPOINT", str(copy_of_the_model))
    with pytest.raises(LessonError, match=f"copy lacks {called}; copy all files of the checkpoint there"):
        load_reference()


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_a_checkpoint_in_16_bits_is_loaded_in_32(monkeypatch, copy_of_the_model, kind):
    weights = load_file(copy_of_the_model / "model.safetensors")
    (copy_of_the_model / "model.safetensors").unlink()
    rounded = {name: tensor.to(getattr(torch, kind)) for name, tensor in weights.items()}
    save_file(rounded, copy_of_the_model / "model.safetensors", {"format": "pt"})
    config = copy_of_the_model / "config.json"
    replace(config, json.dumps(json.loads(config.read_text()) | {"dtype": kind}).encode())
    monkeypatch.setenv("SIGLIP_CHECKPOINT", str(copy_of_the_model))
    loaded = load_reference().model.state_dict()
    assert all(loaded[name].equal(tensor.float()) for name, tensor in rounded.items())
