"""What the notebooks measure, on inputs whose answer is known."""

from utils.measure import (
    colour_and_edges,
    count_numbers,
    describe,
    is_paper,
    kinds_of_pairs,
    losses_of_small_namer,
    rank_correlation,
    strip,
    things_named,
)
from utils.pictures import captioned_scenes, shrunk
from utils.reference import load_vlm
from utils.vlm import VisionLanguageModel, load_parts

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn


def test_a_rank_correlation_asks_for_the_order_alone():
    numbers = torch.tensor([1.0, 2, 3, 10])
    assert rank_correlation(numbers, numbers**3) == pytest.approx(1)
    assert rank_correlation(numbers, -numbers.log()) == pytest.approx(-1)
    assert rank_correlation(numbers, torch.tensor([2.0, 4, 1, 3])) == pytest.approx(0)


def test_strong_colours_are_those_far_from_grey_and_paper_does_not_count():
    red, grey = torch.tensor([1.0, -1, -1]), torch.zeros(3)
    drawings = torch.ones(3, 3, 20, 20)  # white paper
    drawings[0, :, 5:15, 5:15] = drawings[1, :, 8:12, 8:12] = red[:, None, None]
    drawings[2, :, 5:15, 5:15] = grey[:, None, None]
    assert colour_and_edges(drawings)["strong colours"].tolist() == [2, 2, 0]


def test_a_larger_square_has_no_more_edge_for_its_size_and_a_striped_one_has():
    drawings = torch.ones(3, 3, 40, 40)
    drawings[0, :, 10:30, 10:30] = drawings[1, :, 15:25, 15:25] = drawings[2, :, 10:30, 10:30] = -1
    drawings[2, :, 10:30:4, 10:30] = 0.5
    large, small, striped = colour_and_edges(drawings)["edges for the size"].tolist()
    assert large == pytest.approx(small, rel=0.1) and striped > 2 * large


def test_the_pairs_of_a_scene_are_sorted_by_their_drawings_and_paper():
    pixels = torch.ones(1, 3, 8, 8)  # 4 x 4 patches of 2 pixels, four to a drawing
    pixels[0, 1, 0, 0] = pixels[0, :, 3, 3] = -1  # patches 0 and 5, in the first drawing
    pixels[0, 2, 7, 7] = 0.8  # patch 15, in the last
    paper = is_paper(pixels, 2)[0]
    assert (~paper).nonzero().flatten().tolist() == [0, 5, 15]
    pairs = kinds_of_pairs(paper)
    assert pairs["same drawing"].nonzero().tolist() == [[0, 5], [5, 0]]
    assert pairs["different drawings"].nonzero().tolist() == [[0, 15], [5, 15], [15, 0], [15, 5]]
    assert pairs["a drawing and paper"].sum() == 3 * 13 and not pairs["a drawing and paper"][paper].any()


def test_a_strip_is_paper_with_copies_at_equal_distances():
    drawing = Image.new("RGB", (60, 60), "black")
    row = np.asarray(strip(drawing, 2))[30, :, 0]  # 180 pixels, copies of 40 pixels round 45 and 135
    assert row.shape == (180,) and (row == 0).nonzero()[0].tolist() == [*range(25, 65), *range(115, 155)]


def test_a_small_namer_learns_and_its_losses_are_means_of_four_steps():
    """Pre-norm as in utils.siglip; the same numbers each time."""
    drawings = torch.randn(3, 2, 3, 24, 24, generator=torch.Generator().manual_seed(0))

    def run(layers, x):
        return [layers[0](x)]

    steps, losses = losses_of_small_namer(run, 1, drawings, steps=16)
    assert list(steps) == [4, 8, 12, 16] and len(losses) == 4 and losses[-1] < losses[0] / 2
    assert torch.equal(losses, losses_of_small_namer(run, 1, drawings, steps=16)[1])


def test_a_patch_with_one_dark_pixel_is_no_paper():
    pixels = torch.ones(2, 3, 4, 6)
    pixels[1, 2, 3, 5] = 0  # in one colour alone
    assert is_paper(pixels, patch=2).tolist() == [6 * [True], 5 * [True] + [False]]


def test_a_shrunk_drawing_lies_in_the_middle_of_its_own_paper():
    drawing = Image.new("RGB", (40, 40), (254, 254, 254))
    drawing.paste("red", (10, 10, 30, 30))
    small = shrunk(drawing, 1 / 2)
    assert small.size == (40, 40) and small.getpixel((2, 2)) == (254, 254, 254)
    reds = [x for x in range(40) if small.getpixel((x, 20)) == (255, 0, 0)]
    assert 6 <= len(reds) <= 10 and reds[0] + reds[-1] == 39  # from 15 to 25, but for blurred edges


def test_frozen_numbers_are_counted_only_among_all():
    layers = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1).requires_grad_(False))
    assert count_numbers(layers) == 8 + 3 and count_numbers(layers, trained=True) == 8


def test_the_things_of_a_caption_are_counted_and_its_background_is_not_one():
    assert things_named("a cat and two suns on a red background") == 3
    assert things_named("an ice cream, a bus and a bus on an orange background") == 3
    assert things_named("three fish on a white background") == 3


def test_patches_are_hidden_in_the_pictures_for_which_one_asks_and_in_no_others():
    reference = load_vlm()
    model = load_parts(VisionLanguageModel(reference.config, reference.model.model.language_model), reference.model).eval()
    with torch.no_grad():
        seen = model.see(reference.preprocess(*(picture for picture, _ in captioned_scenes()[1][:3])))
    nothing = torch.zeros(seen.shape[1], dtype=torch.bool)
    assert describe(model, reference, seen, hidden=nothing) == describe(model, reference, seen)
    first_alone = torch.stack([~nothing, nothing, nothing])
    lines = describe(model, reference, seen, hidden=first_alone)
    assert lines[1:] == describe(model, reference, seen)[1:] and lines[0] != describe(model, reference, seen)[0]
