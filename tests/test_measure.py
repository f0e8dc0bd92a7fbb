"""What the notebooks measure, on inputs whose answer is known."""

import copy

from utils.gemma import GroupedQueryAttention
from utils.measure import (
    best_named,
    count_numbers,
    count_patches,
    in_common,
    is_paper,
    judged,
    kept_inside,
    kinds_of_pairs,
    like_our_patch,
    like_paper,
    look,
    look_inside,
    losses_by_stage,
    losses_of_linear_namer,
    losses_of_small_namer,
    made_up_attention,
    neighbours_alike,
    percent_matched,
    pixel_shuffle,
    places_read,
    quarter_means,
    quarters_of_states,
    relative_gradients,
    right_tower,
    share_by_quarter,
    share_in_top,
    shuffled,
    stays,
    strength_of_colour,
    trials_of_towers,
    tried_tower,
    unit_vectors,
    wins,
    without_margin,
)
from utils.pictures import captioned_scenes, copies, covered, paint, shrunk, strip, stripes, three_questions, turn_hue, varied
from utils.reference import load_vlm
from utils.siglip import TrimmedTower, VisionTransformer
from utils.speech import describe, things_named
from utils.vlm import VisionLanguageModel, load_parts

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import SiglipVisionConfig, SiglipVisionModel


def test_patches_that_are_not_whole_are_not_counted():
    assert [count_patches(224, 16), count_patches(384, 14), count_patches(5, 6)] == [196, 27 * 27, 0]


def test_strong_colours_are_those_far_from_grey_and_paper_does_not_count():
    red, grey = torch.tensor([1.0, -1, -1]), torch.zeros(3)
    drawings = torch.ones(3, 3, 20, 20)  # white paper
    drawings[0, :, 5:15, 5:15] = drawings[1, :, 8:12, 8:12] = red[:, None, None]
    drawings[2, :, 5:15, 5:15] = grey[:, None, None]
    assert strength_of_colour(drawings).tolist() == [2, 2, 0]


def test_the_pairs_of_a_scene_are_sorted_by_their_drawings_and_paper():
    pixels = torch.ones(1, 3, 8, 8)  # 4 x 4 patches of 2 pixels, four to a drawing
    pixels[0, 1, 0, 0] = pixels[0, :, 3, 3] = -1  # patches 0 and 5, in the first drawing
    pixels[0, 2, 7, 7] = 0.8  # patch 15, in the last
    paper = is_paper(pixels, 2)[0]
    assert (~paper).nonzero().flatten().tolist() == [0, 5, 15]
    pairs = kinds_of_pairs(pixels, 2)
    assert pairs["same drawing"].nonzero().tolist() == [[0, 5], [5, 0]]
    assert pairs["different drawings"].nonzero().tolist() == [[0, 15], [5, 15], [15, 0], [15, 5]]
    assert pairs["a drawing and paper"].sum() == 3 * 13 and not pairs["a drawing and paper"][paper].any()


def test_likeness_with_paper_asks_for_the_direction_alone():
    state = torch.tensor([[[1.0, 0], [5, 0], [0, 2], [-3, 0]]])  # the first two patches are paper
    alike = like_paper(state, torch.tensor([True, True, False, False]))
    assert alike.tolist() == pytest.approx([1, 1, 0, -1])


def test_a_copy_on_its_own_paper_has_no_edge():
    drawing = Image.new("RGB", (40, 40), (250, 250, 250))
    assert len(copies(drawing, 2).getcolors()) == 2 and len(copies(drawing, 2, paper=(250, 250, 250)).getcolors()) == 1


def test_a_strip_is_paper_with_copies_at_equal_distances():
    drawing = Image.new("RGB", (60, 60), "black")
    drawing.putpixel((0, 0), (250, 250, 250))  # the paper's white
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


def test_a_made_up_attention_takes_its_inputs_and_is_the_same_each_time():
    (attention, x, mask, places), again = (made_up_attention(GroupedQueryAttention, 6, 3, tokens=9) for _ in range(2))
    assert (attention.heads, attention.shared) == (6, 3)
    assert attention(x, mask, places).shape == x.shape == (2, 9, 24)
    assert torch.equal(x, again[1]) and torch.equal(attention.q_proj.weight, again[0].q_proj.weight)


def test_heads_have_in_common_what_both_look_at():
    """Layer 0: heads 0 and 1 look at the same, head 2 at other tokens. Layer 1: all three share half."""
    same, other = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 0, 1.0, 0])
    halves = [torch.tensor(shares) for shares in ([0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0], [0.5, 0, 0, 0.5])]
    looks = torch.stack([torch.stack([same, same, other]), torch.stack(halves)])  # (layers, heads, tokens)
    looks = looks[:, :, None].expand(-1, -1, 4, -1)
    assert in_common(looks).tolist() == pytest.approx([100 / 3, 50])
    around = torch.tensor([2, 1, 0, 3])  # the second of two looks, moved from token 0 to 2 and back
    assert in_common(looks, around)[0].item() == pytest.approx(200 / 3)


def test_a_look_stays_as_far_as_it_falls_into_its_own_part():
    """Patches 0 and 1 lie in one part, 2 and 3 in another; 3 is blank, so nobody asks where it looks."""
    pixels = torch.ones(1, 3, 2, 8)
    pixels[..., :6] = -1
    part = torch.tensor([0, 0, 1, 1])
    looks = torch.tensor([[1.0, 0, 0, 0], [0, 0.5, 0.5, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    assert stays(looks, pixels, part, 2) == pytest.approx(50)


def test_what_is_kept_inside_is_the_mean_of_the_patches_asked():
    looks = torch.tensor([[1.0, 0, 0, 0], [0, 0.5, 0.5, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
    drawing = torch.tensor([0, 0, 1, 1])
    assert kept_inside(looks[None], drawing, [0, 1]).tolist() == [0.75]
    assert kept_inside(looks, drawing, [2, 3]).item() == 0.5


def test_a_right_answer_wins_where_it_fits_better_than_a_wrong_one():
    fit = torch.tensor([[3.0, 2, 1], [3, 2, 1], [0, 0, 0]])
    assert wins(fit, torch.tensor([0, 1, 2])) == pytest.approx(100 * (2 + 1 + 0) / 6)


def test_the_best_numbers_come_largest_first_with_their_names():
    assert best_named(torch.tensor([0.25, -1.0, 0.75]), ["a", "b", "c"], 2) == {"c": 0.75, "a": 0.25}


def test_many_inputs_get_vectors_of_length_1_in_their_order():
    inputs = torch.arange(1.0, 41)[:, None] * torch.tensor([3.0, 4.0])
    inputs[17] *= -1
    vectors = unit_vectors(lambda few: (None, few), inputs)
    assert torch.allclose(vectors[:17], torch.tensor([0.6, 0.8])) and torch.allclose(vectors[17], torch.tensor([-0.6, -0.8]))


def test_a_yes_to_a_wrong_caption_is_a_yes_and_no_refusal():
    """Named right, yes; named wrong, yes to another's caption; named wrong, no to all, since a logit of 0 is no yes."""
    assert judged(torch.tensor([[2.0, -1, -1], [1, -3, -1], [0, -1, -2]])) == (1, 1, 2)


def test_a_white_square_is_laid_on_each_place_in_turn():
    whole, *views = covered(torch.zeros(1, 3, 6, 6), 3)
    assert len(views) == 4 and not whole.any()
    for view, (top, left) in zip(views, [(0, 0), (0, 3), (3, 0), (3, 3)]):
        assert (view[:, top : top + 3, left : left + 3] == 1).all() and view.sum() == 27


def test_shares_by_quarter_leave_out_what_is_negative_and_add_up_to_1():
    grid = torch.zeros(2, 4, 4)
    grid[0, 0, 1], grid[0, 3, 3], grid[0, 2, 0] = 3, 1, -9
    grid[1, 0, 2] = 1
    assert share_by_quarter(grid).tolist() == [[0.75, 0, 0, 0.25], [0, 1, 0, 0]]
    assert share_by_quarter(torch.ones(1, 7, 7)).tolist() == [4 * [0.25]]


@pytest.mark.parametrize("side", [4, 5])
def test_quarters_are_means_of_their_own_patches_without_an_odd_last_row(side):
    grid = torch.full((1, side, side, 2), 99.0)
    grid[:, :2, :2], grid[:, :2, 2:4], grid[:, 2:4, :2], grid[:, 2:4, 2:4] = 1, 2, 3, 4
    assert quarter_means(grid.flatten(1, 2)).tolist() == [[[1, 1], [2, 2], [3, 3], [4, 4]]]


@pytest.fixture
def small_vision():
    sizes = dict(hidden_size=16, intermediate_size=32, num_attention_heads=2, num_hidden_layers=3)
    return SiglipVisionModel(SiglipVisionConfig(image_size=64, patch_size=16, **sizes)).eval()


def test_each_states_quarters_belong_to_it(small_vision):
    pixels = torch.randn(15, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = quarters_of_states(small_vision, pixels)
    assert list(found) == [0, 1, 2, 3, "normed"] and all(means.shape == (60, 16) for means in found.values())
    with torch.no_grad():
        run = small_vision(pixels[14:], output_hidden_states=True)
    assert torch.allclose(found[2][56:], quarter_means(run.hidden_states[2])[0], atol=1e-5)
    assert torch.allclose(found["normed"][56:], quarter_means(run.last_hidden_state)[0], atol=1e-5)


def test_pixel_shuffle_joins_squares_row_after_row():
    numbered = torch.arange(16.0).view(1, 16, 1)
    assert pixel_shuffle(numbered).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]


def test_a_tower_that_ends_earlier_is_tried_with_a_misspelt_name_too(small_vision):
    config, weights, pixels = small_vision.config, small_vision.state_dict(), torch.zeros(1, 3, 64, 64)

    def build(config, weights, layers, strict=True):
        tower = TrimmedTower(SiglipVisionConfig(**config.to_dict() | {"num_hidden_layers": layers}))
        if strict:
            weights = {name: weights[name] for name in tower.state_dict()}
        tower.load_state_dict(weights, strict=strict)
        return tower

    with torch.no_grad():
        tried, right = tried_tower(build, config, weights, 2, pixels), right_tower(config, weights, 2, pixels)
        careless = tried_tower(lambda *inputs: build(*inputs, strict=False), config, weights, 2, pixels)
    assert torch.allclose(tried.pop("what it sees"), right.pop("what it sees"), atol=1e-5) and tried == right
    assert careless["misspelt names that raise no error"] == 1
    assert tried_tower(lambda *inputs: None, config, weights, 2, pixels) is None
    trial, what_is_right = trials_of_towers(build, pixels)
    assert trial.__wrapped__ is build
    with torch.no_grad():
        assert trial(config, weights, 2)["parameters held"] == what_is_right(config, weights, 2)["parameters held"]


def test_a_look_at_many_pictures_is_that_at_each_of_them(small_vision):
    pixels = torch.randn(15, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pooled, sequences = look(small_vision, pixels)
    with torch.no_grad():
        run = small_vision(pixels[14:])
    assert torch.allclose(pooled[14:], run.pooler_output, atol=1e-5)
    assert torch.allclose(sequences[14:], run.last_hidden_state, atol=1e-5)


def test_shuffled_patches_are_the_same_in_an_order_of_their_own():
    sequences = torch.arange(18.0).view(2, 9, 1)
    mixed = shuffled(sequences, seed=0)
    assert not mixed.equal(sequences) and mixed.sort(dim=1).values.equal(sequences)
    assert not (mixed[1] - 9).equal(mixed[0])


@pytest.fixture
def tower():
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    return VisionTransformer(SiglipVisionConfig(image_size=24, patch_size=8, **sizes))


def test_a_gradient_is_measured_in_lengths_of_its_own_weights(tower):
    for weight in tower.parameters():
        weight.grad = -2 * nn.init.normal_(weight).detach()
    assert list(relative_gradients(tower)) == ["filters", "positions", "q", "k", "v", "out", "MLP", "probe"]
    assert list(relative_gradients(tower).values()) == pytest.approx([2] * 8)


def test_inside_a_tower_lie_what_was_added_its_table_and_looks_that_add_up_to_one(tower):
    fresh = copy.deepcopy(tower)
    tower.embeddings.patch_embedding.weight.data += 3
    inside = look_inside(tower, fresh, torch.randn(2, 3, 24, 24))
    assert inside["filters"].shape == (16, 3, 8, 8) and inside["filters"].numpy() == pytest.approx(3, abs=1e-5)
    assert inside["positions"].equal(tower.embeddings.position_embedding.weight)
    assert inside["looks"].shape == (9, 9) and inside["looks"].sum(dim=-1).numpy() == pytest.approx(1)


def test_losses_are_averaged_within_a_stage_and_never_across_two():
    stages = [{"canvas": 64, "batch": 8, "steps": 30}, {"canvas": 128, "batch": 4, "steps": 20}]
    record = {"stages": stages, "loss": [(10, 6.0), (20, 4.0), (30, 2.0), (40, 10.0), (50, 20.0)]}
    first, second = losses_by_stage(record, mean_of=2).items()
    assert first == ("64 px, batch of 8", first[1]) and first[1][0] == (20, 30) and first[1][1].tolist() == [5, 3]
    assert second == ("128 px, batch of 4", second[1]) and second[1][0] == (50,) and second[1][1].tolist() == [15]


def test_varied_drawings_differ_and_the_same_seed_gives_the_same_ones():
    drawing = torch.ones(3, 48, 48)
    drawing[:, 16:32, 16:32] = 0.0
    images = varied(drawing.expand(4, -1, -1, -1), torch.Generator().manual_seed(0))
    assert images.shape == (4, 3, 48, 48) and images.abs().max() <= 1
    assert len({image.sum().item() for image in images}) == 4
    assert images.equal(varied(drawing.expand(4, -1, -1, -1), torch.Generator().manual_seed(0)))
    corners = images[:, :, :4, :4].flatten(2)
    assert (corners.amax(dim=-1) - corners.amin(dim=-1)).max() < 1e-5, "one colour"


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


def test_a_linear_layer_learns_sooner_with_zero_in_the_middle():
    drawings = torch.rand(4, 3, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1
    [middle], [above] = (losses_of_linear_namer(given, (0.1,), steps=20) for given in (drawings, drawings + 5))
    assert middle < np.log(4) < above


def test_stripes_are_eight_pixels_wide():
    picture = np.array(stripes(224))
    assert picture.shape == (300, 448, 3) and picture.dtype == np.uint8
    assert (picture == np.array(224 * [0] + 224 * [248]).reshape(2, 28, 8).transpose(1, 0, 2).reshape(1, 448, 1)).all()


def test_a_place_is_most_like_itself_and_a_vector_that_holds_its_place_tells_it():
    places, patches = torch.eye(16), torch.randn(6, 16, 16, generator=torch.Generator().manual_seed(0))
    likeness = like_our_patch(places)
    assert likeness.shape == (4, 4) and likeness.flatten().argmax() == 5 and likeness.sum() == 1
    assert places_read(10 * places + patches) == 1 and places_read(patches) < 0.3
    half = torch.arange(16) < 8  # only these tell their place
    vectors, among = patches + 10 * places * half[:, None], half.expand(6, 16)
    assert places_read(vectors, among) == 1 and places_read(vectors, ~among) < 1


def test_neighbours_are_counted_apart_from_the_rest():
    assert neighbours_alike(torch.eye(16)) == [0, 0] and neighbours_alike(torch.ones(16, 3)) == [1, 1]
    checkered = torch.tensor([[1.0, 0.0], [0.0, 1.0]])[(torch.arange(16) // 4 + torch.arange(16)) % 2]
    assert neighbours_alike(checkered) == [0, round(56 / 96, 2)]  # of 16 * 15 / 2 - 24 pairs, 2 * (8 * 7 / 2) are alike


def test_a_turned_hue_goes_round_the_circle_and_leaves_white_alone():
    drawing = Image.new("RGB", (2, 1), "white")
    drawing.putpixel((0, 0), (255, 0, 0))
    green = turn_hue(drawing, 120)
    red, channel, blue = green.getpixel((0, 0))
    assert channel == 255 and red < 10 and blue < 10 and green.getpixel((1, 0)) == (255, 255, 255)
    assert turn_hue(drawing, 360).tobytes() == drawing.tobytes()


def test_the_three_questions_have_a_picture_for_each_caption():
    drawings = {name: Image.new("RGB", (40, 40), "white") for name in ("key", "ox")}
    questions = three_questions(drawings, {"red": (255, 0, 0), "blue": (0, 0, 255)})
    assert list(questions) == ["which thing, of 2?", "which colour, of 2?", "one or two?"]
    for pictures, captions in questions.values():
        assert [*map(len, pictures)] == [*map(len, captions)]
    pictures, captions = questions["which colour, of 2?"]
    assert captions[1] == ["a drawing of a ox on a red background", "a drawing of a ox on a blue background"]
    assert pictures[1][1].getpixel((20, 20)) == (0, 0, 255)
    assert questions["one or two?"][1][0] == ["a drawing of a key", "a drawing of two keys"]


def test_a_picture_is_matched_within_its_group_alone():
    right, turned = torch.eye(3), torch.eye(3)[[1, 0, 2]]
    assert percent_matched([right], [right]) == 100
    assert percent_matched([right, right[:1]], [turned, right[:1]]) == 50


def test_share_in_top_takes_as_many_scores_as_there_are_right_names():
    scores = torch.tensor([[3.0, 1, 2, 0], [0, 1, 2, 3]])
    assert share_in_top(scores, torch.tensor([[0, 1], [2, 3]])) == 0.75
    assert share_in_top(scores, torch.tensor([[0], [2]])) == 0.5


def test_paint_gives_a_drawing_one_hue_and_leaves_what_has_none():
    drawing = Image.new("RGB", (3, 1), "white")
    drawing.putpixel((0, 0), (255, 0, 0))
    drawing.putpixel((1, 0), (0, 0, 128))
    first, second, white = paint(drawing, 85).get_flattened_data()
    assert first[1] == 255 and second[1] == 128 and max(first[0], first[2], second[0], second[2]) < 3
    assert white == (255, 255, 255)


def test_a_margin_loses_only_patches_that_lie_wholly_in_it():
    grids, mask = torch.tensor([[4, 3], [2, 4]]), torch.arange(14) < torch.tensor([[12], [8]])
    assert without_margin(grids, mask).equal(mask)
    tall, wide = without_margin(grids, mask, down=(1, 3), across=(1, 3))
    assert tall.nonzero().flatten().tolist() == [4, 7]
    assert wide.nonzero().flatten().tolist() == [1, 2, 5, 6]
