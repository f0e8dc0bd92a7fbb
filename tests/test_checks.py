"""The checks are checked: each known mistake is planted and must be caught, and called by its own name."""

import dataclasses
from pathlib import Path

from utils import checks, mistakes
from utils.answers import Judge
from utils.checks import CheckError, check_exercise, compare, show_mistakes
from utils.errors import LessonError
from utils.mistakes import CATALOGUE, PREPROCESSING, WITH_TORCH, explain
from utils.pictures import sample_drawings, wide_file
from utils.reference import load_reference
from utils.siglip import preprocess, read_image

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import SiglipImageProcessorPil

ROOT = Path(__file__).parents[1]
SIZE = 224
FEW = dict(list(sample_drawings().items())[::3])


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


@pytest.mark.parametrize("mistake", WITH_TORCH, ids=lambda mistake: mistake.name)
def test_a_mistake_with_torch_is_caught_and_named(mistake):
    blocks = 255 * torch.randint(2, (5, 7, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    inputs = Image.fromarray(blocks.numpy()).resize((56, 40), Image.Resampling.NEAREST), 16
    with pytest.raises(CheckError) as caught:
        compare("pixels", mistake.wrong(*inputs), preprocess(*inputs), 5 / 255, mistake.stage, inputs)
    assert [m.sentence for m in WITH_TORCH if f"when {m.sentence}" in str(caught.value)][-1] == mistake.sentence


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


def standing(capsys, answer, **options):
    """What check_exercise prints of an answer to: add one."""
    check_exercise("plus one", answer, lambda x: x + 1, [(torch.zeros(2),), (torch.ones(3),)], **options)
    return capsys.readouterr().out


def fails(x):
    x = x + 1
    return x[7]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda x: None, "plus one: not attempted yet\n"),
        (lambda x: x + 1, "plus one: Right. It adds.\n"),
        (lambda x: x.add_(1), "plus one: Right. It adds.\n"),
        (lambda x: x + 2, "plus one: Not yet. up to 1 away from the reference"),
        (lambda x: torch.ones(2), "plus one: Not yet. It is right above, but not for another input: the shape is (2)"),
        (fails, "plus one: Not yet. IndexError in line 3 of fails: "),
        (lambda x, y: x, "plus one: Not yet. TypeError when <lambda> was called: "),
        (lambda x: "one", "plus one: Not yet. it returns 'one', which is not what is asked for\n"),
    ],
    ids=["untouched", "right", "right, in place", "wrong", "parroted", "raises", "wrong signature", "no tensor"],
)
def test_an_exercise_is_one_line_that_says_how_it_stands(capsys, answer, says):
    said = standing(capsys, answer, shows="It adds.")
    assert said.startswith(says) and said.count("\n") == 1


def test_a_whole_number_may_come_as_a_float_and_a_wrong_one_says_how_far_off_it_is(capsys):
    for answer, says in ((3.0, "Right. "), (3, "Right. "), (5, "Not yet. 5, not 3: 2 too many"), (2.5, "Not yet. ")):
        check_exercise("count", lambda x, answer=answer: answer, lambda x: 3, [(torch.ones(1),)])
        assert f"count: {says}" in capsys.readouterr().out


def test_a_state_dict_that_does_not_fit_is_told_in_one_line(capsys):
    def loads(x):
        nn.Linear(2, 2).load_state_dict({f"a name of a weight {number}": x for number in range(99)})

    said = standing(capsys, loads)
    assert "Unexpected key(s)" in said and said.endswith(" …\n") and len(said) < 300


# The table of mistakes


@pytest.fixture
def table(monkeypatch):
    """What `show_mistakes` displays, as it stands in the notebook: a function of its arguments -> Markdown"""
    shown = []
    monkeypatch.setattr(checks, "display", lambda markdown: shown.append(markdown.data))

    def of(*arguments, **options):
        show_mistakes(*arguments, **options)
        return shown.pop()

    return of


LOGIT = torch.tensor([[2.0, -1.0], [-3.0, 0.5]])


def test_the_table_says_of_each_mistake_how_far_it_moves_the_result_smallest_first(table):
    lines = table("probabilities", (LOGIT,), LOGIT.sigmoid()).splitlines()
    known = {mistake.sentence for mistake in CATALOGUE if mistake.stage == "probabilities"}
    moves, sentences = zip(*(map(str.strip, line.strip("|").split("|")) for line in lines[2:]))
    moves = [float(number.replace(",", "")) for number in moves]
    assert set(sentences) == known and moves == sorted(moves)


@pytest.mark.parametrize(
    "moved, printed",
    [(0.0123, "0.012"), (0.00123, "0.0012"), (6.05e-4, "0.0006"), (5e-6, "< 1e-05"), (99.6, "100"), (2215.0, "2,200")],
)
def test_how_far_a_mistake_moves_has_no_digit_that_hangs_on_rounding(monkeypatch, moved, printed):
    right = torch.tensor([-1.0, 0.0, 1.0])
    mistake = dataclasses.replace(CATALOGUE[0], stage="of a test", wrong=lambda: right + torch.tensor([0.0, moved, 0.0]))
    monkeypatch.setattr(mistakes, "CATALOGUE", [mistake])
    assert checks.move(mistake, (), right) == printed


def test_mistakes_that_are_not_named_first_are_folded_and_none_is_lost(table):
    text = table("probabilities", (LOGIT,), LOGIT.sigmoid(), first=["softmax"])
    shown, folded = text.split("<details><summary>5 more</summary>")
    assert "over the captions" in shown and "over the images" in folded and "sign of the logits" in folded


def test_the_judge_takes_other_pictures_of_the_same_things():
    judge = Judge(load_reference(), {name: wide_file(drawing) for name, drawing in FEW.items()})
    [black] = [mistake for mistake in PREPROCESSING if mistake.name == "transparency ignored"]
    assert wide_file(sample_drawings()["frog"]).getpixel((0, 0)) == (0, 0, 0, 0)
    assert 9 < judge.count_right(black) < judge.count_right()
    assert judge.says(black) is judge.says(black)  # asked once


def test_an_unknown_name_is_one_clear_line():
    with pytest.raises(LessonError, match="no mistake of the stage probabilities is called hardmax"):
        show_mistakes("probabilities", (LOGIT,), LOGIT.sigmoid(), first=["hardmax"])


def test_the_judge_runs_the_whole_model_with_the_mistake_in_every_block_of_its_kind(table):
    reference = load_reference()
    judge = Judge(reference, FEW)
    known = {(mistake.stage, mistake.name): mistake for mistake in CATALOGUE}
    right = judge.count_right()
    assert right > 9
    assert (
        judge.count_right(known["preprocessing", "bilinear"]) > 9 > judge.count_right(known["preprocessing", "rescaled twice"])
    )
    assert judge.count_right(known["MLP", "exact GELU"]) == right > judge.count_right(known["MLP", "no activation"])
    assert (
        judge.count_right(known["attention head", "not scaled"]) == judge.count_right(known["attention", "not scaled"]) < right
    )
    assert judge.count_right(known["text vector", "head skipped"]) < 5
    assert judge.count_right(known["embeddings", "class token"]) is not None  # attention takes any number of tokens
    assert judge.count_right(known["preprocessing", "channels last"]) is None
    assert judge.count_right() == right  # nothing of a mistake stays
    tower = judge.model.vision_model
    with torch.no_grad():
        text = table("pooled vector", (tower, judge.pixels[:1]), tower(judge.pixels[:1])[1], judge=judge)
    assert text.startswith(f"*named right*: of {judge.total}; without mistakes {right}.\n\n| moves | named right | mistake |")
