"""Every block equals transformers' own; every known mistake in a block is caught, and called by its own name."""

import copy
import os
import platform
import subprocess
import sys

from utils import mistakes
from utils.answers import CaptionJudge
from utils.checks import CheckError, compare
from utils.gemma import Gemma, GroupedQueryAttention, RMSNorm
from utils.measure import (
    at_every_place,
    clip_loss,
    count_numbers,
    dealt,
    mean_distance,
    pool_by_mask,
    pool_in_torchs_order,
    with_neighbours_swapped,
)
from utils.mistakes import CATALOGUE, EQUIVALENT, Edit, explain, put_together
from utils.parity import random_model
from utils.siglip import AttentionHead, SigLIP, TrimmedTower, VisionTransformer, merge_heads, sigmoid_loss
from utils.vlm import VisionLanguageModel, added_mask, answer_loss, generate, load_parts, prefix_mask

import pytest
import torch
from transformers import (
    GemmaConfig,
    GemmaModel,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

TINY = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, image_size=64)


def random_pair(attention="eager", **sizes):
    """transformers' vision tower and the hand-built one with the same random weights."""
    theirs = random_model(SiglipVisionModel, SiglipVisionConfig(**sizes, attn_implementation=attention))
    ours = VisionTransformer(theirs.config).eval()
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


@pytest.fixture(scope="module")
def pair():
    return random_pair(**TINY)


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def head_of(attention, config, index=1):
    """One head of our multi-head attention, alone."""
    head = AttentionHead(config)
    head_width = head.q_proj.out_features
    rows = slice(index * head_width, (index + 1) * head_width)
    head.load_state_dict({name: p[rows] for name, p in attention.state_dict().items() if "out_proj" not in name})
    return head


@pytest.fixture(scope="module")
@torch.no_grad()
def two_towers(pixels):
    """A whole random SigLIP, ours, with three sentences that end in padding (id 1), and what transformers makes of them."""
    text = dict(hidden_size=64, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4, vocab_size=50)
    text |= dict(max_position_embeddings=10, projection_size=64, pad_token_id=1, bos_token_id=1, eos_token_id=1)
    theirs = random_model(SiglipModel, SiglipConfig(text_config=text, vision_config=TINY))
    theirs.set_attn_implementation("eager")
    theirs.logit_scale.data.fill_(2.0)
    theirs.logit_bias.data.fill_(-3.0)
    ours = SigLIP(theirs.config).eval()
    ours.load_state_dict(theirs.state_dict())
    ids = torch.ones(3, 10, dtype=torch.long)
    for row, length in enumerate((3, 5, 7)):
        ids[row, :length] = torch.arange(2, 2 + length) * (row + 1)
    square = theirs(pixel_values=pixels, input_ids=ids[1:], return_loss=True)
    return ours, ids, theirs(pixel_values=pixels, input_ids=ids), square


def cut(pixels, size):
    """(1, 3, height, width) -> (patches, 3, size, size)"""
    return torch.nn.functional.unfold(pixels, size, stride=size)[0].T.reshape(-1, 3, size, size)


HEADS = GemmaConfig(num_hidden_layers=3, num_key_value_heads=8, num_attention_heads=16, head_dim=16, hidden_size=48)
IMAGE, PROMPT = 49, 4  # the id that stands for a patch; bos, two words and a newline


@pytest.fixture(scope="module")
@torch.no_grad()
def tiny_vlm(pixels):
    """A random PaliGemma, ours and theirs, token ids with answers of two lengths, and what transformers makes of them."""
    text = GemmaConfig(
        vocab_size=50,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=24,
    )
    sizes = dict(image_token_index=IMAGE, vocab_size=50, projection_dim=48, hidden_size=48)
    config = PaliGemmaConfig(vision_config=SiglipVisionConfig(**TINY, vision_use_head=False), text_config=text, **sizes)
    theirs = random_model(PaliGemmaForConditionalGeneration, config)
    theirs.set_attn_implementation("eager")
    ours = load_parts(VisionLanguageModel(config, theirs.model.language_model), theirs).eval()
    ids = torch.tensor([[2, 7, 8, 5, 11, 12, 13, 1], [2, 7, 8, 5, 14, 1, 0, 0]])
    patches = (TINY["image_size"] // 16) ** 2
    whole = torch.cat([torch.full((2, patches), IMAGE), ids], dim=1)
    answer = torch.arange(whole.shape[1]) >= patches + PROMPT
    labels = whole.masked_fill(~answer | (whole == 0), -100)
    right = theirs(input_ids=whole, pixel_values=pixels, token_type_ids=answer.long().expand(2, -1), labels=labels)
    return ours, ids, right, theirs, whole[:, : patches + PROMPT]


def random_gemma(**sizes):
    """transformers' Gemma and the hand-built one with the same random weights, and inputs: vectors, a prefix mask, places."""
    theirs = random_model(GemmaModel, GemmaConfig(**GEMMA | sizes))
    theirs.set_attn_implementation("eager")
    for parameter in theirs.layers.parameters():
        parameter.data.mul_(5 if parameter.ndim == 2 else 1)  # as large as trained ones: else an activation is nearly a line
    ours = Gemma(theirs.config).eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 9, theirs.config.hidden_size, generator=torch.Generator().manual_seed(2))
    return theirs, ours, (x, added_mask(prefix_mask(5, 9)), torch.arange(1, 10))


GEMMA = dict(vocab_size=50, hidden_size=48, intermediate_size=80, num_hidden_layers=2)
GEMMA |= dict(num_attention_heads=4, num_key_value_heads=2, head_dim=16, pad_token_id=0)


@pytest.fixture(scope="module")
@torch.no_grad()
def gemma_stages():
    theirs, ours, (x, mask, places) = random_gemma()
    layer, their_layer, turned = ours.layers[1], theirs.layers[1], theirs.rotary_emb(x, places[None])
    given = dict(attention_mask=mask, position_embeddings=turned)
    return {
        "RMS norm": ((layer.input_layernorm, x / 1000), their_layer.input_layernorm(x / 1000)),
        "grouped queries": ((layer.self_attn, x, mask, places), their_layer.self_attn(x, **given)[0]),
        "Gemma layer": ((layer, x, mask, places), their_layer(x, **given)),
        "grid angles": ((3, 8, 100.0), two_numbers(3, 8, 100.0)),
    }


def two_numbers(side, head_width, theta):
    """RoPE's angles of a grid, one by one."""
    speeds = [theta ** (-4 * pair / head_width) for pair in range(head_width // 4)]
    places = [(row, column) for row in range(side) for column in range(side)]
    return torch.tensor([[along * speed for along in place for speed in speeds] for place in places])


def pixel_shuffle(sequence):
    """Each square of 2 x 2 patches as one token, by torch's own function, which keeps the width together, not the patch."""
    side = round(sequence.shape[1] ** 0.5)
    squares = torch.nn.functional.pixel_unshuffle(
        sequence.mT.unflatten(2, (side, side)), 2
    )  # (batch, width * 4, rows, columns)
    return squares.unflatten(1, (-1, 4)).transpose(1, 2).flatten(1, 2).flatten(2).mT


def hidden_patches(theirs, ours, x):
    """Inputs of a pooling head that must not see every third patch, and what torch's own attention makes of them."""
    hidden = torch.arange(x.shape[1]) % 3 == 0
    return (ours, x, hidden), pool_by_mask(theirs, x, hidden)


def every_place(head, theirs):
    """What the head makes of transformers' last hidden state, place after place, each vector divided by its length."""
    read = [head(theirs.last_hidden_state[:, place]) for place in range(theirs.last_hidden_state.shape[1])]
    return torch.stack([vectors / vectors.norm(dim=-1, keepdim=True) for vectors in read])


def dealt_by_hand():
    """Two pictures of 3 x 2 patches and an order, and the pictures dealt in that order, patch after patch."""
    pictures, order = torch.rand(2, 3, 24, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([4, 2, 5, 1, 0, 3])
    squares = [(slice(8 * (i // 2), 8 * (i // 2) + 8), slice(8 * (i % 2), 8 * (i % 2) + 8)) for i in range(6)]
    dealt = torch.zeros_like(pictures)
    for place, patch in enumerate(order):
        dealt[:, :, *squares[place]] = pictures[:, :, *squares[patch]]
    return (pictures, order), dealt


def log_probability(ids, theirs):
    """The logarithm of the first answer's probability: what each row before a token of it says of that token, summed."""
    rows = theirs.logits[0, -len(ids[0]) + PROMPT - 1 : -1].log_softmax(dim=-1)
    return sum(row[token] for row, token in zip(rows, ids[0, PROMPT:]))


@pytest.fixture(scope="module")
def stages(pair, pixels, two_towers, tiny_vlm, gemma_stages):
    """For each stage: the right inputs of the hand-built block, and what transformers makes of them."""
    theirs, ours = pair
    siglip, ids, both, square = two_towers
    with torch.no_grad():
        whole = theirs(pixels, output_hidden_states=True)
        x, layer, their_layer = whole.hidden_states[1], ours.encoder.layers[1], theirs.encoder.layers[1]
        attended, _ = their_layer.self_attn(x)
        # One head of transformers' layer: its slice of the projections, through torch's own attention.
        projections = [getattr(their_layer.self_attn, name)(x)[..., 16:32] for name in ("q_proj", "k_proj", "v_proj")]
        head = torch.nn.functional.scaled_dot_product_attention(*projections)
        # Fewer tokens than a head is wide: the root of the one must not pass for that of the other.
        few = torch.nn.functional.scaled_dot_product_attention(*(part[:, :9] for part in projections))
        silent = copy.deepcopy(their_layer.self_attn)
        silent.out_proj.weight[:, 16:32] = 0  # nobody hears head 1
        looks, places = torch.rand(9, 9).softmax(dim=-1), [complex(i // 3, i % 3) for i in range(9)]
        far = torch.tensor([sum(looks[i, j] * abs(places[i] - places[j]) for j in range(9)) for i in range(9)])
        trimmed = TrimmedTower(theirs.config)
        trimmed.load_state_dict({name: ours.state_dict()[name] for name in trimmed.state_dict()})
        small = x / 1000  # shows where eps stands
        shades = torch.arange(108.0).view(1, 3, 6, 6) / 107  # from 0 to 1
        choices = 3 * torch.randn(3, 3, generator=torch.Generator().manual_seed(0))  # of 2 x 2, the sum would be twice the mean
        return gemma_stages | {
            "embeddings": ((ours.embeddings, pixels), whole.hidden_states[0]),
            "embeddings by hand": ((ours.embeddings, pixels), whole.hidden_states[0]),
            "bytes": ((2 * shades - 1,), (255 * shades[0].movedim(0, -1)).round().byte()),
            "put together": ((cut(pixels[:1], theirs.config.patch_size),), pixels[:1]),
            "attention head": ((head_of(layer.self_attn, theirs.config), x), head),
            "mended head": ((head_of(layer.self_attn, theirs.config), x[:, :9]), few),
            "mended attention": ((layer.self_attn, x[:, :9]), their_layer.self_attn(x[:, :9])[0]),
            "merge heads": ((x.unflatten(2, (4, -1)).transpose(1, 2),), x),
            "mean distance": ((looks,), far),
            "attention": ((layer.self_attn, x), attended),
            "without head": ((layer.self_attn, x, 1), silent(x)[0]),
            "MLP": ((layer.mlp, x), their_layer.mlp(x)),
            "layer norm": ((layer.layer_norm1, small), their_layer.layer_norm1(small)),
            "encoder layer": ((layer, x), their_layer(x, None)),
            "encoder": ((ours.encoder, whole.hidden_states[0]), whole.hidden_states[-1]),
            "neighbours swapped": ((ours.encoder.layers, x), with_neighbours_swapped(ours.encoder.layers, x)),
            "parameters": ((theirs.config,), torch.tensor(count_numbers(theirs))),
            "pooling head": ((ours.head, whole.last_hidden_state), whole.pooler_output),
            "hidden patches": hidden_patches(theirs.head, ours.head, whole.last_hidden_state),
            "last hidden state": ((ours, pixels), whole.last_hidden_state),
            "normed state": ((ours, pixels), whole.last_hidden_state),
            "pooled vector": ((ours, pixels), whole.pooler_output),
            "trimmed tower": ((trimmed, pixels), whole.hidden_states[-1]),
            "pixel shuffle": ((torch.arange(32.0).view(1, 16, 2),), pixel_shuffle(torch.arange(32.0).view(1, 16, 2))),
            "text vector": ((siglip.text_model, ids), both.text_model_output.pooler_output),
            "every place": ((siglip.text_model, ids), every_place(siglip.text_model.head, both.text_model_output)),
            "logits": ((siglip, pixels, ids), both.logits_per_image),
            "probabilities": ((both.logits_per_image,), both.logits_per_image.sigmoid()),
            "loss": ((square.logits_per_image,), square.loss),
            "CLIP's loss": ((choices,), clip_loss(choices)),
            "loss gradient": ((square.logits_per_image,), torch.func.grad(sigmoid_loss)(square.logits_per_image)),
            "dealt": dealt_by_hand(),
            "VLM logits": ((tiny_vlm[0], pixels, tiny_vlm[1], PROMPT), tiny_vlm[2].logits),
            "VLM loss": ((tiny_vlm[2].logits, tiny_vlm[1], PROMPT, 0), tiny_vlm[2].loss),
            "KV cache": ((HEADS, 9), torch.tensor(2 * 3 * 8 * 16 * 9 * 4)),
            "VLM log probability": ((tiny_vlm[2].logits[:1], tiny_vlm[1][:1], PROMPT), log_probability(*tiny_vlm[1:3])),
        }


ELSEWHERE = ["preprocessing", "preprocessing with torch"]  # test_checks.py
ELSEWHERE += ["any patches", "mask of real", "any shape", "mean of real", "packed mask"]  # test_naflex.py
ELSEWHERE += ["LoRA", "merged weights", "class means"]  # test_own.py
PLANTED = [mistake for mistake in CATALOGUE if mistake.stage not in ELSEWHERE]


@pytest.mark.parametrize("mistake", PLANTED, ids=lambda mistake: f"{mistake.stage}: {mistake.name}")
def test_a_planted_mistake_is_caught_and_named(mistake, stages):
    inputs, right = stages[mistake.stage]
    with pytest.raises(CheckError) as caught:
        compare("x", mistake.wrong(*inputs), right, 1e-6, mistake.stage, inputs)
    named = [m.sentence for m in CATALOGUE if m.stage == mistake.stage and f"when {m.sentence}" in str(caught.value)]
    assert named == [mistake.sentence]


@pytest.mark.parametrize("stage", dict.fromkeys(mistake.stage for mistake in PLANTED))
def test_the_right_block_passes_and_is_no_mistake(stage, stages, capsys):
    (block, *inputs), right = stages[stage]
    with torch.no_grad():
        functions = {
            "probabilities": torch.sigmoid,
            "every place": at_every_place,
            "pixel shuffle": pixel_shuffle,
            "loss": sigmoid_loss,
            "CLIP's loss": clip_loss,
            "loss gradient": torch.func.grad(sigmoid_loss),
            "dealt": dealt,
            "VLM loss": answer_loss,
            "VLM log probability": mistakes.summed,
            "KV cache": mistakes.cache_bytes,
        }
        functions["mean distance"] = mean_distance
        functions["merge heads"] = merge_heads
        functions["without head"] = lambda block, x, head: mistakes.silenced(block, x, "values", slice(None), head)
        functions["hidden patches"] = lambda head, x, hidden: head(x[:, ~hidden])
        functions["neighbours swapped"] = with_neighbours_swapped
        functions["parameters"] = lambda config: torch.tensor(count_numbers(VisionTransformer(config)))
        functions["grid angles"] = mistakes.grid_angles
        functions["bytes"] = mistakes.as_bytes
        functions["put together"] = put_together((2, 0, 3, 1, 4))
        ours = functions[stage](block, *inputs) if stage in functions else block(*inputs)
    if isinstance(ours, tuple):
        ours = ours[stage in ("pooled vector", "text vector")]
    # One head is a slice of a wider matrix product there, and SDPA adds in another order; the loss is a mean over other rows;
    # torch's own attention, which pools there, multiplies keys and values with one matrix.
    reordered = stage in (
        "attention head",
        "mended head",
        "mean distance",
        "without head",
        "VLM loss",
        "VLM log probability",
        "pooling head",
        "hidden patches",
        "pooled vector",
        "logits",
        "grid angles",
        "every place",
    )
    compare(stage, ours, right, 1e-6 if reordered else 0, stage, (block, *inputs))
    difference = (ours - right).abs().max().item()
    assert explain(stage, ours + 1e-7, (block, *inputs), difference + 1e-7) is None


@pytest.mark.parametrize("mistake", EQUIVALENT, ids=lambda mistake: mistake.name)
def test_what_no_output_can_show_is_said_to_be_so(mistake, stages):
    inputs, right = stages[mistake.stage]
    assert (mistake.wrong(*inputs) - right).abs().max() < 1e-5


def test_every_mistake_says_who_makes_it():
    assert all(mistake.sentence and mistake.source for mistake in CATALOGUE + EQUIVALENT)
    sentences = [(mistake.stage, mistake.sentence) for mistake in CATALOGUE]
    assert len(set(sentences)) == len(sentences)


def test_an_edit_that_no_longer_fits_its_block_is_an_error(pair):
    with pytest.raises(ValueError, match="holds 'no such code' 0 times"):
        Edit(AttentionHead, ("no such code", "x")).wrong_block  # noqa: B018


def test_the_original_block_is_left_alone(stages):
    blocks = [mistake for mistake in PLANTED if isinstance(stages[mistake.stage][0][0], torch.nn.Module)]
    for mistake in blocks:
        inputs, _ = stages[mistake.stage]
        before = type(inputs[0]), {name: weight.clone() for name, weight in inputs[0].state_dict().items()}
        mistake.wrong(*inputs)
        assert type(inputs[0]) is before[0]
        assert all(torch.equal(weight, before[1][name]) for name, weight in inputs[0].state_dict().items())


# Gemma

SHAPES = {
    "one head of keys": dict(num_key_value_heads=1),
    "two heads of keys": dict(),
    "as many keys as queries": dict(num_key_value_heads=4),
    "heads wider than width / heads": dict(head_dim=40),
    "narrow heads": dict(head_dim=6),
    "large theta": dict(rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
    "another eps": dict(rms_norm_eps=1e-3),
    "with biases": dict(attention_bias=True),
    "one layer": dict(num_hidden_layers=1),
}


@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
@torch.no_grad()
def test_gemma_by_hand_equals_transformers(sizes, capsys):
    theirs, ours, (x, mask, places) = random_gemma(**sizes)
    run = theirs(inputs_embeds=x, attention_mask=mask, position_ids=places[None])
    # The operations are the same, but with a repeated head of keys torch may take another product of matrices.
    compare("hidden state", ours(x, mask, places), run.last_hidden_state, 1e-5)
    ids = torch.tensor([[2, 7, 49, 1]])
    compare("tokens", ours.embed(ids), theirs.embed_tokens(ids))
    theirs.set_attn_implementation("sdpa")
    fused = theirs(inputs_embeds=x, attention_mask=mask, position_ids=places[None]).last_hidden_state
    compare("fused attention", ours(x, mask, places), fused, 1e-5)


@torch.no_grad()
def test_the_norm_computes_in_32_bits_whatever_the_model_computes_in():
    theirs, ours, (x, *_) = random_gemma()
    norm, their_norm = ours.norm.bfloat16(), theirs.norm.bfloat16()
    assert norm(x.bfloat16()).dtype == torch.bfloat16
    assert torch.equal(norm(x.bfloat16()), their_norm(x.bfloat16()))


def test_repeating_keys_as_a_whole_matters_only_where_there_are_several():
    mistake = next(mistake for mistake in mistakes.GROUPED_QUERIES if mistake.name == "keys and values repeated as a whole")
    for heads, matters in ((1, False), (2, True), (4, False)):
        _, ours, inputs = random_gemma(num_key_value_heads=heads)
        attention = ours.layers[0].self_attn
        assert isinstance(attention, GroupedQueryAttention) and isinstance(ours.norm, RMSNorm)
        with torch.no_grad():
            assert torch.allclose(mistake.wrong(attention, *inputs), attention(*inputs), atol=1e-5) != matters


def test_the_judge_of_captions_counts_those_that_are_said_to_the_letter():
    _, ours, (x, mask, places) = random_gemma()
    with torch.no_grad():
        said = ours.logits(ours(x, mask, places))[:, 4:-1].argmax(dim=-1)  # what it says after the prefix of 5
    wrong = said.clone()
    wrong[1, 2] += 1
    padded = wrong.clone()
    padded[1, 2:] = 0
    for ids, right in ((said, 2), (wrong, 1), (padded, 2)):
        judge = CaptionJudge(ours, x, ids, 0, mask, places)
        assert judge.count_right() == right
    judge = CaptionJudge(ours, x, said, 0, mask, places)
    assert min(map(judge.count_right, mistakes.GEMMA_LAYER)) < 2
    assert judge.said(positions=places + 7) == 2
    assert judge.said(lambda layer, x, mask, positions: 0 * x) < 2
    assert judge.first(1).total == judge.first(1).count_right() == 1


def test_the_judge_of_captions_fools_the_tokens_and_the_layers_that_it_is_told_to():
    _, ours, (x, mask, places) = random_gemma()
    with torch.no_grad():
        said = ours.logits(ours(x, mask, places))[:, 4:-1].argmax(dim=-1)
    judge, false, everyone = (
        CaptionJudge(ours, x, said, 0, mask, places),
        places.flip(0),
        torch.ones(len(places), dtype=torch.bool),
    )
    assert judge.fooled(~everyone, false) == judge.total
    assert judge.fooled(everyone, false) == judge.said(positions=false)
    assert judge.fooled(everyone, places + 7) == judge.total
    before = places < 5  # the answer begins at 5: what the last layer makes of those before, nobody reads
    assert judge.fooled(before, false, only=len(ours.layers) - 1) == judge.total


# Generation


def test_greedy_decoding_with_a_cache_says_what_transformers_says_and_what_decoding_without_one_says(tiny_vlm, pixels):
    ours, ids, _, theirs, prefix = tiny_vlm
    for row in (0, 1):
        with torch.no_grad():
            seen = ours.see(pixels[row : row + 1])
            without_cache = ids[row : row + 1, :PROMPT]
            for _ in range(9):
                best = ours.read(seen, without_cache, PROMPT)[:, -1:].argmax(dim=-1)
                without_cache = torch.cat([without_cache, best], dim=1)
        said = without_cache[0, PROMPT:].tolist()
        assert generate(ours, seen, ids[row : row + 1, :PROMPT], end=-1, limit=9) == said
        picture = dict(pixel_values=pixels[row : row + 1], token_type_ids=torch.zeros_like(prefix[:1]))
        options = dict(max_new_tokens=9, min_new_tokens=9, do_sample=False, eos_token_id=-1)
        assert theirs.generate(input_ids=prefix[row : row + 1], **picture, **options)[0, prefix.shape[1] :].tolist() == said


def test_generation_ends_at_the_end_token(tiny_vlm, pixels):
    ours, ids, *_ = tiny_vlm
    with torch.no_grad():
        seen = ours.see(pixels[:1])
    said = generate(ours, seen, ids[:1, :PROMPT], end=-1, limit=9)
    end = said[4]
    assert generate(ours, seen, ids[:1, :PROMPT], end=end, limit=9) == said[: said.index(end)]


# Sizes


@pytest.mark.parametrize(("width", "heads"), [(72, 3), (144, 2), (200, 5)], ids=["heads of 24", "heads of 72", "heads of 40"])
def test_widths_and_head_widths_that_are_no_powers_of_two_equal_transformers(width, heads, pixels, capsys):
    theirs, ours = random_pair(**TINY | dict(hidden_size=width, num_attention_heads=heads, intermediate_size=3 * width))
    with torch.no_grad():
        right, (hidden, pooled) = theirs(pixels), ours(pixels)
    compare("last hidden state", hidden, right.last_hidden_state)
    compare("pooled vector", pooled, right.pooler_output, 1e-5)


@pytest.mark.parametrize(("width", "heads"), [(72, 1), (72, 2), (72, 3), (72, 4), (160, 5)])
def test_the_pooling_head_differs_from_transformers_in_the_order_of_its_additions_alone(width, heads):
    """In torch's own order (measure.pool_in_torchs_order) not a bit differs, for one picture and for several."""
    theirs, ours = random_pair(**TINY | dict(hidden_size=width, num_attention_heads=heads))
    for pictures in (1, 3):
        x = torch.randn(pictures, 196, width)
        with torch.no_grad():
            assert torch.equal(pool_in_torchs_order(ours.head, x), theirs.head(x))


# Base size


@pytest.mark.parametrize(("attention", "tolerance"), [("eager", 0.0), ("sdpa", 1e-5)])
def test_at_base_size_it_equals_transformers(attention, tolerance, capsys):
    theirs, ours = random_pair(attention)
    assert sum(p.numel() for p in ours.parameters()) == 92_884_224
    pixels = torch.rand(4, 3, 224, 224, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        right, (hidden, pooled) = theirs(pixels), ours(pixels)
    compare("last hidden state", hidden, right.last_hidden_state, tolerance)
    compare("pooled vector", pooled, right.pooler_output, 1e-5)


@pytest.mark.slow
@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="the instructions that it leaves out are those of x86"
)
def test_it_equals_transformers_with_the_instructions_of_an_older_processor():
    test = f"{__file__}::test_at_base_size_it_equals_transformers[eager-0.0]"
    # Read when torch is imported: a process of its own.
    older = os.environ | {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "CI": "1"}
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", test], env=older, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
