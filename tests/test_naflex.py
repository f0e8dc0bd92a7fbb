"""The hand-built NaFlex tower against transformers': several shapes in one batch, Google's sizes, planted mistakes."""

import json
import math

from utils import naflex, parity
from utils.checks import CheckError, compare
from utils.errors import LessonError
from utils.mistakes import CATALOGUE, explain, islands, mask_of_real, mean_of_each
from utils.naflex import AnyShapeTower, patch_grid, preprocess_any
from utils.parity import random_model
from utils.pictures import four_drawings
from utils.reference import load_any_shape, load_reference
from utils.siglip import VisionTransformer

import pytest
import torch
from PIL import Image
from transformers import Siglip2ImageProcessorPil, Siglip2VisionConfig, Siglip2VisionModel
from transformers.models.siglip2.image_processing_pil_siglip2 import get_image_size_for_max_num_patches

STAGES = "any patches", "mask of real", "any shape", "mean of real", "packed mask"


@pytest.fixture(scope="module")
def pictures():
    scene = four_drawings()
    return [scene, scene.crop((0, 0, 448, 224)), scene.crop((0, 0, 150, 448)), scene.crop((200, 100, 203, 400))]


def pair(width, layers, heads, wide, patch, places):
    """transformers' tower with random weights, no bias zero, and the hand-built one with the same."""
    sizes = dict(hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=wide)
    config = Siglip2VisionConfig(**sizes, patch_size=patch, num_patches=places, attn_implementation="eager")
    theirs = random_model(Siglip2VisionModel, config)
    with torch.device("meta"):
        ours = AnyShapeTower(config)
    ours.load_state_dict(theirs.state_dict(), strict=True, assign=True)
    return theirs, ours.eval()


@pytest.mark.parametrize("most", [9, 196, 256, 1000])
@pytest.mark.parametrize("size", [(224, 224), (640, 480), (1, 9000), (5000, 7), (33, 32)])
def test_a_grid_is_the_one_of_transformers(size, most):
    rows, columns = patch_grid(*size, most, 16)
    assert (16 * rows, 16 * columns) == get_image_size_for_max_num_patches(*size, 16, most)
    assert rows * columns <= most


@pytest.mark.parametrize("most", [10, 196, 300])
def test_patches_grids_and_mask_are_those_of_transformers_processor(pictures, most):
    theirs = Siglip2ImageProcessorPil(patch_size=14, max_num_patches=most)(pictures, return_tensors="pt")
    patches, grids, mask = preprocess_any(pictures, most, 14)
    assert torch.equal(patches, theirs.pixel_values) and torch.equal(grids, theirs.spatial_shapes)
    assert torch.equal(mask.int(), theirs.pixel_attention_mask.int())


@torch.no_grad()
def check_tower(theirs, ours, pictures, most):
    """Every hidden state of real patches to the last bit, and what is pooled within rounding."""
    patches, grids, mask = preprocess_any(pictures, most, theirs.config.patch_size)
    run = theirs(patches, mask, grids, output_hidden_states=True)
    states = [ours.embeddings(patches, grids)]
    hooks = [layer.register_forward_hook(lambda _, __, output: states.append(output)) for layer in ours.encoder.layers]
    last, pooled = ours(patches, grids, mask)
    [hook.remove() for hook in hooks]
    for mine, right in zip([*states, last], [*run.hidden_states, run.last_hidden_state], strict=True):
        assert torch.equal(mine[mask], right[mask])
    compare("pooled", pooled, run.pooler_output, tolerance=1e-5 * max(1, run.pooler_output.abs().max().item()))


def test_it_equals_transformers_on_other_sizes(pictures):
    theirs, ours = pair(96, 3, 4, 150, 4, 49)
    check_tower(theirs, ours, pictures, 60)


def test_a_square_gives_what_the_tower_of_fixed_resolution_gives(pictures):
    """With the same pixels and the same weights, laid out otherwise."""
    reference, flexible = load_reference(), load_any_shape()
    ours = VisionTransformer(reference.config.vision_config).eval()
    ours.load_state_dict(reference.model.vision_model.state_dict())
    any_shape = AnyShapeTower(flexible.config.vision_config).eval()
    any_shape.load_state_dict(flexible.model.vision_model.state_dict())
    pixels, side = reference.preprocess(*pictures), reference.config.vision_config.image_size // 16
    patches = torch.stack([naflex.cut(picture, 16) for picture in pixels])
    with torch.no_grad():
        pooled = any_shape(patches, torch.tensor([[side, side]] * 4), torch.ones(4, side * side, dtype=torch.bool))[1]
        compare("pooled", pooled, ours(pixels)[1], tolerance=1e-4)


def test_a_picture_does_not_notice_who_is_beside_it_in_the_batch(pictures):
    _, ours = pair(96, 3, 4, 150, 4, 49)
    with torch.no_grad():
        together = ours(*preprocess_any(pictures, 60, 4))[1]
        alone = torch.cat([ours(*preprocess_any([picture], 60, 4))[1] for picture in pictures])
    assert (together - alone).abs().max() < 1e-5


@pytest.fixture(scope="module")
def stages(pictures):
    """For each stage: the right code, its inputs, and what transformers makes of them."""
    theirs, ours = pair(96, 3, 4, 150, 4, 49)
    wide = pictures[1]
    most = math.prod(patch_grid(wide.height, wide.width, 196, 16))  # a grid that it fills
    processor = Siglip2ImageProcessorPil(patch_size=16, max_num_patches=most)
    inputs = preprocess_any(pictures, 49, 4)
    with torch.no_grad():
        hidden, pooled = theirs(inputs[0], inputs[2], inputs[1]).to_tuple()[:2]
    real, owner = inputs[2][..., None], torch.arange(4).repeat_interleave(torch.tensor([2, 3, 1, 2]))
    return {
        "any patches": (
            lambda *given: preprocess_any([given[0]], *given[1:])[0][0],
            (wide, most, 16),
            processor(wide, return_tensors="pt").pixel_values[0],
        ),
        "mask of real": (mask_of_real, (inputs[1], 49), inputs[2]),
        "mean of real": (mean_of_each, (hidden, inputs[2]), (hidden * real).sum(dim=1) / real.sum(dim=1)),
        "packed mask": (islands, ([2, 3, 1, 2],), owner[:, None] == owner),
        "any shape": (lambda tower, *given: tower(*given)[1], (ours, *inputs), pooled),
    }


PLANTED = [mistake for mistake in CATALOGUE if mistake.stage in STAGES]


@pytest.mark.parametrize("mistake", PLANTED, ids=lambda mistake: f"{mistake.stage}: {mistake.name}")
def test_a_planted_mistake_is_caught_and_named(mistake, stages):
    _, inputs, right = stages[mistake.stage]
    with pytest.raises(CheckError) as caught:
        compare("x", mistake.wrong(*inputs), right, 1e-5, mistake.stage, inputs)
    named = [m.sentence for m in PLANTED if m.stage == mistake.stage and f"when {m.sentence}" in str(caught.value)]
    assert named == [mistake.sentence]


@pytest.mark.parametrize("stage", STAGES)
def test_the_right_code_passes_and_is_no_mistake(stage, stages):
    function, inputs, right = stages[stage]
    with torch.no_grad():
        result = function(*inputs)
    compare(stage, result, right, tolerance=1e-5)
    assert explain(stage, result, inputs, (result.float() - right.float()).abs().max().item()) is None


@pytest.fixture
def naflex_folder(tmp_path, monkeypatch):
    """A small NaFlex checkpoint as Google's are laid out, which SIGLIP_CHECKPOINT names."""
    small = load_any_shape()
    folder = tmp_path / "siglip2-small-naflex"
    small.model.save_pretrained(folder)
    small.image_processor.save_pretrained(folder)
    small.tokenizer.save_pretrained(folder)
    monkeypatch.setenv("SIGLIP_CHECKPOINT", str(folder))
    return folder


def test_a_naflex_checkpoint_loads_for_notebook_12_and_the_others_refuse_it_in_one_line(naflex_folder, pictures, capsys):
    assert json.loads((naflex_folder / "config.json").read_text(encoding="utf-8"))["model_type"] == "siglip2"
    reference = load_any_shape()
    assert "NaFlex: siglip2-small-naflex" in capsys.readouterr().out
    inputs = reference.preprocess(*pictures)
    assert inputs[0].shape == (4, 196, 768) and len(reference.tokenize("a frog")[0]) == 16
    with pytest.raises(LessonError, match="model of type 'siglip2', not 'siglip'; choose a fixed-resolution SigLIP"):
        load_reference()


def test_make_parity_knows_a_naflex_checkpoint_by_its_folder(naflex_folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["parity", str(naflex_folder)])
    parity.main()
    said = capsys.readouterr().out
    assert said.count("identical") == 4 and "patches and grids" in said and "WRONG" not in said


def test_make_parity_calls_a_wrong_naflex_tower_wrong(naflex_folder, monkeypatch):
    monkeypatch.setattr(naflex, "resize_table", lambda table, rows, columns: table[: rows * columns])
    monkeypatch.setattr("sys.argv", ["parity", str(naflex_folder)])
    with pytest.raises(LessonError, match="not as it should be: embeddings, all 12 hidden states, last hidden state, pooled"):
        parity.main()


def test_other_logits_than_the_published_ones_are_called_wrong(capsys):
    assert len(parity.print_published_discs(load_any_shape())) == capsys.readouterr().out.count("WRONG") == 7
    assert [picture.size for picture in parity.discs()] == [(224, 224), (1024, 1024), (1024, 224)]


@pytest.mark.slow
@pytest.mark.parametrize("name", parity.NAFLEX)
def test_make_parity_measures_a_naflex_checkpoints_shape_without_fetching_it(name, monkeypatch, capsys):
    """The published shape, random weights: every stage to the last bit, the pooled vector but for rounding."""
    monkeypatch.setattr("sys.argv", ["parity", name, "--shape-only"])
    parity.main()
    said = capsys.readouterr().out
    assert said.count("right") == 4 and said.count("identical") >= 3


def test_a_picture_of_another_mode_is_read_as_the_others_are():
    grey = Image.new("LA", (30, 10), (0, 0))  # transparent: white paper
    assert preprocess_any([grey], 9, 4)[0].max() == 1
