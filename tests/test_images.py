"""From a file to pixel values: a file gives the picture that is in it, or one clear line; never a wrong picture in silence."""

import io
import logging
import os
import random
import struct
import warnings
from pathlib import Path

from utils.errors import LessonError
from utils.siglip import preprocess, read_image

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from transformers import SiglipImageProcessorPil

ROOT = Path(__file__).parents[1]
SIZE = 224

Image.init()  # now Image.SAVE has every format that Pillow can write; of these four it only knows the names
FORMATS = sorted(Image.SAVE.keys() - {"BUFR", "GRIB", "HDF5", "WMF"})
COMPRESSIONS = ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits", "lzma", "zstd")


@pytest.fixture(scope="module")
def photograph():
    return read_image(ROOT / "notebooks" / "images" / "cat.png")


@pytest.fixture(scope="module")
def small(photograph):
    return photograph.resize((48, 32))


@pytest.fixture(scope="module")
def transparent(photograph):
    """The photograph, fading to the right."""
    faded = photograph.copy()
    faded.putalpha(Image.linear_gradient("L").rotate(90).resize(photograph.size))
    return faded


@pytest.fixture
def silent(capfd, recwarn):
    """Nothing may be printed or warned of, by Python or by the libraries under it."""
    yield
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


def save(image, path, **options):
    image.save(path, **options)
    return path


def saved(image, kind, **options):
    """The bytes of a file of this format, in the first mode that the format takes."""
    for mode in ("RGB", "L", "P", "1"):
        file = io.BytesIO()
        try:
            with warnings.catch_warnings(action="ignore"):
                image.convert(mode).save(file, kind, **options)
            return file.getvalue()
        except (OSError, ValueError):
            continue
    raise AssertionError(f"no mode fits {kind}")


def retagged(path, changes):
    """Exchange the first value of some tags of a little-endian TIFF file."""
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * entries, 12):
        tag, kind = struct.unpack_from("<HH", data, entry)
        if tag in changes:
            struct.pack_into("<H" if kind == 3 else "<I", data, entry + 8, changes[tag])
    path.write_bytes(data)
    return path


def sixteen_bits(grey):
    return Image.fromarray(np.asarray(grey, dtype=np.uint16) * 257)


def mode(path):
    with Image.open(path) as image:
        return image.mode


def pixels_by_reference(path):
    with Image.open(path) as image:
        return SiglipImageProcessorPil()(image, return_tensors="pt").pixel_values


def one_line(path):
    """What `read_image` says of a file in which it finds no image."""
    with pytest.raises(LessonError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message
    assert message.isprintable()
    return message


# Modes


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [(kind, "png") for kind in ("L", "RGBA", "P", "RGB", "1", "LA")]
    + [(kind, "tif") for kind in ("L", "RGBA", "P", "RGB", "1", "LA", "PA", "CMYK", "YCbCr", "LAB")]
    + [("CMYK", "jpg")],
)
def test_every_mode_is_read_as_the_reference_reads_it(kind, suffix, photograph, tmp_path, silent):
    image = photograph.convert("P").convert("PA") if kind == "PA" else photograph.convert(kind)
    path = save(image, tmp_path / f"x.{suffix}")
    assert mode(path) == kind
    assert torch.equal(preprocess(read_image(path), SIZE), pixels_by_reference(path))


def test_what_is_transparent_becomes_white_as_in_the_reference(transparent, tmp_path):
    for image in (transparent, transparent.convert("P"), transparent.convert("LA"), Image.new("RGBA", (9, 9), (255, 0, 0, 0))):
        path = save(image, tmp_path / "x.png")
        assert torch.equal(preprocess(read_image(path), SIZE), pixels_by_reference(path))


@pytest.mark.parametrize(("kind", "colour"), [("1", 0), ("L", 0), ("P", 0), ("RGB", (0, 0, 0))])
def test_a_colour_that_stands_for_transparent_becomes_white(kind, colour, tmp_path):
    path = save(Image.new(kind, (9, 9)), tmp_path / "x.png", transparency=colour)
    assert read_image(path).getpixel((0, 0)) == (255, 255, 255)
    assert torch.equal(preprocess(read_image(path), SIZE), pixels_by_reference(path))


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm", "jp2"])
def test_grey_of_16_bits_is_the_same_picture_as_grey_of_8(suffix, photograph, tmp_path, silent):
    grey = photograph.convert("L")
    path = save(sixteen_bits(grey), tmp_path / f"x.{suffix}")
    assert mode(path) in ("I;16", "I")
    assert np.array_equal(read_image(path), grey.convert("RGB"))


def test_grey_of_16_bits_with_the_high_byte_first_is_the_same_picture(photograph, tmp_path):
    grey = photograph.convert("L")
    path = save(Image.fromarray(np.asarray(sixteen_bits(grey)).astype(">u2")), tmp_path / "x.tif")
    assert path.read_bytes().startswith(b"MM")
    assert np.array_equal(read_image(path), grey.convert("RGB"))


def test_grey_of_16_bits_with_0_for_white_is_not_shown_as_a_negative(photograph, tmp_path):
    grey = photograph.convert("L")
    path = save(sixteen_bits(255 - np.asarray(grey)), tmp_path / "x.tif", tiffinfo={262: 0})
    assert np.array_equal(read_image(path), grey.convert("RGB"))


def test_a_number_of_16_bits_that_stands_for_transparent_becomes_white(photograph, tmp_path):
    grey = photograph.convert("L")
    path = save(sixteen_bits(grey), tmp_path / "x.png", transparency=257 * grey.getpixel((0, 0)))
    expected = grey.point(lambda value: 255 if value == grey.getpixel((0, 0)) else value)
    assert np.array_equal(read_image(path), expected.convert("RGB"))


def test_grey_of_12_bits_reaches_white(tmp_path):
    """Two pixels of 12 bits in three bytes: 0xFFF is white, 0x800 the middle."""
    path = save(Image.frombytes("L", (3, 1), b"\xff\xf8\x00"), tmp_path / "x.tif")
    image = read_image(retagged(path, {256: 2, 258: 12}))
    assert [image.getpixel((x, 0)) for x in range(2)] == [(255, 255, 255), (128, 128, 128)]


def test_grey_that_is_multiplied_by_its_opacity_is_put_on_white(tmp_path):
    """Grey 100 at opacity 128 is half of the grey 199 and half of white; 338 is the tag ExtraSamples."""
    path = retagged(save(Image.new("LA", (1, 1), (100, 128)), tmp_path / "x.tif"), {338: 1})
    assert mode(path) == "La"
    assert np.allclose(read_image(path).getpixel((0, 0)), 100 + 127, atol=1)


def test_numbers_of_32_bits_are_refused_because_nobody_says_which_is_white(photograph, tmp_path):
    for kind, suffix in (("I", "tif"), ("F", "tif"), ("F", "pfm")):
        path = save(photograph.convert(kind), tmp_path / f"x.{suffix}")
        assert f"x.{suffix} has 32-bit pixels and does not say which number is white; scale them" in one_line(path)


@pytest.mark.parametrize("lowest", [0, 65_000])
def test_16_bits_of_which_8_would_show_one_grey_are_refused(lowest, tmp_path):
    """Labels of a segmentation, for example, would be all black."""
    path = save(Image.fromarray((np.eye(9) + lowest).astype(np.uint16)), tmp_path / "x.png")
    assert f"all so close together ({lowest} to {lowest + 1}) that 8 bits show one grey; spread them" in one_line(path)


# Formats


@pytest.mark.parametrize(
    "kind", ["AVIF", "BMP", "GIF", "ICNS", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM", "QOI", "TGA", "TIFF", "WEBP"]
)
def test_every_common_format_gives_its_picture(kind, photograph, tmp_path, silent):
    square = photograph.resize((256, 256))  # an icon is one
    path = tmp_path / "x"
    path.write_bytes(saved(square, kind))
    image = read_image(path).resize(square.size)
    assert np.abs(np.asarray(image, dtype=float) - np.asarray(square)).mean() < 8


def test_an_icon_with_a_palette_gives_its_picture(photograph, tmp_path):
    image = read_image(save(photograph.convert("P"), tmp_path / "x.icns"))
    assert len(image.getcolors(256)) > 9


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif", "avif"])
def test_an_animation_gives_its_first_frame(suffix, tmp_path, silent):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    path = save(frames[0], tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    with Image.open(path) as image:
        assert image.n_frames == 2
    assert np.allclose(read_image(path).getpixel((0, 0)), (255, 0, 0), atol=2)


def test_a_png_with_2_mb_of_text_is_read_as_image_generators_write_it(photograph, tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 2_000_000, zip=True)
    assert np.array_equal(read_image(save(photograph, tmp_path / "x.png", pnginfo=text)), photograph)


def test_a_large_photograph_is_read_without_a_warning_and_a_larger_one_is_one_line(photograph, tmp_path, monkeypatch, silent):
    """Pillow warns at its limit and stops at twice the limit; the limits are lowered here, since real ones take long."""
    path = save(photograph, tmp_path / "x.png")
    million = save(Image.new("1", (1000, 1001)), tmp_path / "million.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", photograph.width * photograph.height - 1)
    assert read_image(path).size == photograph.size
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500_000)
    assert one_line(million) == "million.png says that it has more than 1 million pixels; save a smaller copy of it"


# EXIF


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "avif"])
def test_a_turned_photograph_is_set_upright(suffix, photograph, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = read_image(save(photograph, tmp_path / f"x.{suffix}", exif=exif))
    difference = np.asarray(image, dtype=float) - np.asarray(photograph.transpose(Image.Transpose.ROTATE_270))
    assert np.abs(difference).mean() < 8


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_means_nothing_turns_nothing(orientation, photograph, tmp_path, silent):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert read_image(save(photograph, tmp_path / "x.jpg", exif=exif)).size == photograph.size


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_damaged_exif_data_do_not_keep_the_picture_from_being_read(suffix, small, tmp_path, silent):
    exif, flips = Image.Exif(), random.Random(suffix)
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", 72.0
    exif.get_ifd(0x8769)[0x829A] = 0.01
    for _ in range(50):
        data = bytearray(exif.tobytes())
        for place in flips.choices(range(6, len(data)), k=3):
            data[place] ^= 1 << flips.randrange(8)
        path = save(small, tmp_path / f"x.{suffix}", exif=bytes(data))
        assert read_image(path).size in (small.size, small.size[::-1])


# Names and places


@pytest.mark.parametrize("name", ["my photograph.png", "Katze, 猫, кот.png", "no suffix", "wrong.jpg"])
def test_a_path_is_a_string_or_a_path_of_any_name(name, photograph, tmp_path):
    path = tmp_path / name
    path.write_bytes(saved(photograph, "PNG"))
    for written in (path, str(path)):
        assert np.array_equal(read_image(written), photograph)


@pytest.mark.parametrize("name", ["x.png", "two\nlines.png", "x" * 300, "null\0.png"])
def test_a_missing_file_is_one_clear_line(name, tmp_path):
    message = one_line(tmp_path / name)
    assert message.startswith("there is no file ")
    assert message.endswith("; check the name")


def test_a_file_in_place_of_a_folder_is_one_clear_line(tmp_path):
    (tmp_path / "x.png").touch()
    assert one_line(tmp_path / "x.png" / "y.png").startswith("there is no file y.png in")


def test_a_folder_is_one_clear_line(tmp_path):
    assert one_line(tmp_path) == f"{tmp_path} is a folder; name an image file in it"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_is_one_clear_line_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.png")
    assert "there is no file x.png" in one_line(tmp_path / "x.png")


def test_a_file_that_may_not_be_read_is_one_clear_line(photograph, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    path = save(photograph, tmp_path / "x.png")
    monkeypatch.setattr(Image, "open", refuse)  # root, who runs the tests in a container, may read every file
    assert one_line(path) == f"{path} may not be read; change its permissions, or ask its owner for a copy"


# No images, and damaged ones


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty; copy or download it again"),
        (b"not a picture", "is not an image that Pillow knows; choose a PNG or JPEG file"),
        (bytes(5000), "is not an image that Pillow knows; choose a PNG or JPEG file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 9\n", "Git LFS .*; run `git lfs pull`"),
        (b"%PDF-1.7\n%\xe2\xe3", "is a PDF, not an image; export the page that you need as PNG"),
        (b"\0\0\0\x24ftypheic\0\0\0\0mif1heic" + bytes(99), "is HEIC, which Pillow does not know; export it as JPEG"),
        (b"\0\0\0\x24ftypmif1\0\0\0\0mif1heic" + bytes(99), "is HEIC, which Pillow does not know; export it as JPEG"),
        (b"<!DOCTYPE html>\n<title>404</title><svg/>", "is a web page .*; download the image itself"),
        (b"\xef\xbb\xbf\n<!-- old -->\n<HTML lang=en>", "is a web page .*; download the image itself"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "is an SVG drawing, .*; export it as PNG"),
        (b'<svg width="9" height="9"></svg>', "is an SVG drawing, .*; export it as PNG"),
    ],
    ids=["empty", "text", "zeros", "LFS", "PDF", "HEIC", "HEIC of another brand", "HTML", "old HTML", "XML and SVG", "SVG"],
)
def test_a_file_that_is_no_image_is_called_what_it_is(content, says, tmp_path, silent):
    path = tmp_path / "x.png"
    path.write_bytes(content)
    message = one_line(path)
    assert message.startswith("x.png is ")
    with pytest.raises(LessonError, match=says):
        read_image(path)


def test_an_image_that_is_cut_short_says_so(photograph, tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(saved(photograph, "PNG")[:5000])
    assert "x.png (image file is truncated); it may be damaged or cut short: copy it again" in one_line(path)


def test_more_text_than_pillow_allows_is_one_clear_line(photograph, tmp_path, monkeypatch):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 2000, zip=True)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_CHUNK", 1999)
    path = save(photograph, tmp_path / "x.png", pnginfo=text)
    assert "Pillow cannot decode x.png (Decompressed data too large" in one_line(path)


def test_what_libtiff_prints_of_a_damaged_file_is_not_shown(small, tmp_path, silent):
    one_line(retagged(save(small, tmp_path / "x.tif", compression="tiff_lzw"), {273: 9}))  # StripOffsets


def test_what_pillow_logs_of_a_damaged_file_is_not_shown(small, tmp_path, monkeypatch, silent):
    path = retagged(save(small, tmp_path / "x.tif"), {277: 99})  # SamplesPerPixel
    with monkeypatch.context() as without_pytest:
        without_pytest.setattr(logging.getLogger(), "handlers", [])  # pytest's keep from stderr what is logged
        one_line(path)


def damages(data, seed):
    """The file as it is, cut short, and with flipped bits: half of them in its first 200 bytes, where headers are."""
    flips = random.Random(seed)
    yield data
    for share in range(1, 10):
        yield data[: len(data) * share // 10]
    for turn in range(60):
        damaged = bytearray(data)
        for place in flips.choices(range(min(len(data), 200) if turn % 2 else len(data)), k=flips.choice((1, 1, 2, 8))):
            damaged[place] ^= 1 << flips.randrange(8)
        yield bytes(damaged)


@pytest.mark.parametrize("kind", [*FORMATS, *COMPRESSIONS])
def test_a_damaged_file_gives_an_image_or_one_clear_line_and_no_warning(kind, small, tmp_path, silent):
    path = tmp_path / "x"
    whole = saved(small, "TIFF", compression=kind) if kind in COMPRESSIONS else saved(small, kind)
    for content in damages(whole, kind):
        path.write_bytes(content)
        try:
            assert read_image(path).mode == "RGB"
        except LessonError as error:
            assert str(error).isprintable()


# Pixel values


@pytest.mark.parametrize("shape", [(1, 1), (10000, 10), (3, 500)])
def test_every_shape_is_squashed(shape, tmp_path):
    pixels = preprocess(read_image(save(Image.new("RGB", shape, "red"), tmp_path / "x.png")), SIZE)
    assert pixels.shape == (1, 3, SIZE, SIZE)
    assert pixels[0, :, 0, 0].tolist() == [1, -1, -1]


@pytest.mark.parametrize("thing", ["cat.png", Path("cat.png"), np.zeros((9, 9, 3)), torch.zeros(3, 9, 9), None], ids=type)
def test_what_is_not_a_pil_image_is_refused_with_the_way_to_one(thing):
    way = r"is not a PIL image; read_image\(path\) or Image.fromarray\(array\) makes one"
    with pytest.raises(LessonError, match=f"a {type(thing).__name__} {way}"):
        preprocess(thing, SIZE)


def test_pixel_values_are_float32_whatever_torchs_default_is(photograph):
    expected = preprocess(photograph, SIZE)
    torch.set_default_dtype(torch.float64)
    try:
        assert preprocess(photograph, SIZE).dtype == torch.float32
        assert preprocess(photograph, SIZE).equal(expected)
    finally:
        torch.set_default_dtype(torch.float32)
