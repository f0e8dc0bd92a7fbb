"""Compare a tensor with the reference, and explain a difference."""

import contextlib
import copy
import inspect
import io
import os
import textwrap
import traceback

from utils.errors import LessonError
from utils.mistakes import CATALOGUE, explain

import torch
from IPython.display import Markdown, display

# Processors add in different orders, which changes the last digits of a float32: allowed outside CI, and said.
ROUNDING = 2e-6


STANDING = {}  # how each exercise stood when it was checked last, in this kernel


class CheckError(LessonError):
    """A tensor is not what it should be."""


def shape_of(tensor):
    return f"({', '.join(map(str, tensor.shape))})"


def largest_difference(ours, reference):
    """-> how far apart two tensors of one shape are at most, and where that is."""
    # Whole numbers first become floats: unsigned bytes wrap around when they are subtracted.
    apart = (ours.double() - reference.double()).abs()
    return apart.max().item(), tuple(int(i) for i in torch.unravel_index(apart.argmax(), apart.shape))


def compare(name, ours, reference, tolerance=0.0, stage=None, inputs=()):
    """Print one line that says how close `ours` is to `reference`; raise a CheckError if it is too far.

    `tolerance`: the largest difference allowed; 0 where the arithmetic is the same. `stage` and `inputs`: what `ours` was
    computed by and from, as in `utils.mistakes`, so that a known mistake can be recognised and named.
    """
    if not isinstance(ours, torch.Tensor):
        raise CheckError(f"{name}: expected a tensor, got {type(ours).__name__}")
    # Shapes first: (1, 3) and (2, 3) can be subtracted, and nobody notices.
    if ours.shape != reference.shape:
        why = explain(stage, ours, inputs) or f"the shape is {shape_of(ours)}, it should be {shape_of(reference)}"
        raise CheckError(f"{name}: {why}")
    if ours.dtype != reference.dtype:
        raise CheckError(f"{name}: the numbers are {ours.dtype}, they should be {reference.dtype}")
    if ours.isnan().any():
        raise CheckError(f"{name}: {ours.isnan().sum().item()} numbers are NaN (not a number)")
    difference, where = largest_difference(ours, reference)
    label, far = f"{name:24} {shape_of(ours):18}", f"{difference:.0f}" if difference >= 100 else f"{difference:.2g}"
    if difference <= tolerance:
        # How far apart within a tolerance is another matter on another processor: it is not printed.
        print(f"{label} {f'within {tolerance:.0e}' if tolerance else 'identical'}")
    elif why := explain(stage, ours, inputs, difference):
        raise CheckError(f"{name}: {why} (largest difference {far})")
    elif difference <= ROUNDING * reference.double().abs().max().item() and "CI" not in os.environ:
        print(f"{label} right; this processor rounds the last digit differently ({difference:.0e})")
    else:
        whole = reference.ndim == 0 and not reference.is_floating_point()
        ours, reference = ours[where].item(), reference[where].item()
        if whole:
            apart = f"{reference - ours:,} too few" if ours < reference else f"{ours - reference:,} too many"
            raise CheckError(f"{name}: {ours:,}, not {reference:,}: {apart}")
        raise CheckError(f"{name}: up to {far} away from the reference, most at {where}: {ours:.4g}, not {reference:.4g}")


def raised(function, error):
    """One line: what an exception in a learner's function was, and where in it."""
    code = inspect.unwrap(function).__code__  # a check may wrap the learner's function
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == code.co_filename]
    where = f"in line {lines[-1] - code.co_firstlineno + 1} of {code.co_name}" if lines else f"when {code.co_name} was called"
    # A state dict that doesn't fit would list hundreds of names.
    return f"{type(error).__name__} {where}: {textwrap.shorten(str(error), 200, placeholder=' …')}"


def as_tensors(result):
    """What a function of an exercise returned, {part: it} or it alone -> {part: tensor}. A whole number may be a float."""
    parts = result if isinstance(result, dict) else {"": result}
    whole = {name for name, part in parts.items() if isinstance(part, float) and part.is_integer()}
    return {name: torch.as_tensor(int(part) if name in whole else part).detach() for name, part in parts.items()}


def verdict(name, answer, right, case, tolerance, stage, inputs):
    """-> None if the learner's function is untouched, "" if it is right in this case, or what is wrong."""
    try:
        given = answer(*copy.deepcopy(case))
    except Exception as error:  # a learner's function may raise anything
        return raised(answer, error)
    if given is None:
        return None
    expected = as_tensors(right(*copy.deepcopy(case)))
    try:
        parts = as_tensors(given)
        with contextlib.redirect_stdout(io.StringIO()):
            for part, reference in expected.items():
                compare(", ".join(filter(None, (name, part))), parts[part], reference, tolerance, stage, inputs)
    except CheckError as error:
        return str(error).removeprefix(f"{name}: ").removeprefix(f"{name}, ")
    except (TypeError, ValueError, RuntimeError, KeyError):
        what = f"a {type(given).__name__} of {len(given)}" if isinstance(given, (tuple, list)) else f"{given!r:.60}"
        return f"it returns {what}, which is not what is asked for"
    return ""


@torch.no_grad()
def check_exercise(name, answer, right, cases, tolerance=0.0, stage=None, inputs=None, shows=""):
    """Print how an exercise stands: not attempted yet, not yet right and why, or right and what that `shows`.

    `answer`: the learner's function; `right`: one that gives the right result; `cases`: the inputs to try, a tuple each.
    Both get copies, so that an answer that changes what it is given spoils nothing. `stage`: whose mistakes to recognise;
    a mistake is made from the case or, where it takes other inputs, from `inputs`, which belong to the first case.
    """
    how, why = "Right", f". {shows}"
    for number, case in enumerate(cases):
        known = (stage, inputs or case) if number == 0 or inputs is None else (None, ())
        says = verdict(name, answer, right, case, tolerance, *known)
        if says is None and number == 0:
            how, why = "not attempted yet", ""
        elif says != "":
            other = "It is right above, but not for another input: " if number else ""
            how, why = "Not yet", f". {other}{says or 'it returns nothing'}"
        if how != "Right":
            break
    STANDING[name] = how
    print(f"{name}: {how}{why}")


def show_solved():
    """Print how many of the exercises that were checked in this kernel are solved, and how the others stand."""
    solved = [name for name, how in STANDING.items() if how == "Right"]
    rest = [f"{name} ({how.lower()})" for name, how in STANDING.items() if how != "Right"]
    still = "; still to do:\n  " + "\n  ".join(rest) if rest else ": all of them."
    print(f"{len(solved)} of {len(STANDING)} exercises solved{still}")


def move(mistake, inputs, right):
    """How far a mistake moves the result, as it is printed: in standard deviations of the right one; one number: of itself.

    Raises an AssertionError if `compare` lets the mistake pass or calls it by another's name.
    """
    wrong = mistake.wrong(*inputs)
    try:
        compare(mistake.name, wrong, right, stage=mistake.stage, inputs=inputs)
    except CheckError as error:
        assert mistake.sentence in str(error), f"{mistake.name} was called something else: {error}"
    else:
        raise AssertionError(f"the check let a mistake pass: {mistake.name}")
    if wrong.shape != right.shape:
        return "shape"
    moves = largest_difference(wrong, right)[0] / (right.std() if right.numel() > 1 else right.abs()).item()
    # The second digit of a tiny number hangs on rounding, and of a tinier one the first.
    if moves < 1e-3:
        return "< 1e-05" if moves < 1e-5 else f"{moves:.1g}"
    two_digits = f"{moves:#.2g}"
    return two_digits.rstrip(".") if moves < 99.5 else f"{float(two_digits):,.0f}"


def show_mistakes(stage, inputs, right, judge=None, first=None):
    """Run all known mistakes of a stage on `inputs`; show, smallest first, how far each moves the result from `right`.

    `judge`: one of `utils.answers`; then each row also says how many drawings the whole model names right with the mistake.
    `first`: the names of those that are shown; the others are folded (all are shown without it).
    """
    rows = []
    for mistake in (mistake for mistake in CATALOGUE if mistake.stage == stage):
        printed = move(mistake, inputs, right)
        # By what is printed: which of two rows that print the same is larger hangs on the processor's rounding.
        order = float("inf") if printed == "shape" else float(printed.lstrip("< ").replace(",", "")), mistake.sentence
        cells = [printed, *([judge.count_right(mistake)] if judge else []), mistake.sentence.replace("*", r"\*")]
        rows.append((order, mistake.name, ["error" if cell is None else cell for cell in cells]))
    unknown = set(first or ()) - {name for _, name, _ in rows}
    if unknown:
        raise LessonError(f"no mistake of the stage {stage} is called {', '.join(sorted(unknown))}")
    answer = [judge.column] if judge else []
    above = f"*{judge.column}*: of {judge.total}; without mistakes {judge.count_right()}.\n\n" if judge else ""
    head = "".join(f"| {title} " for title in ("moves", *answer, "mistake")) + "|\n" + "|---:" * (1 + len(answer)) + "|:---|\n"

    def table(shown):
        return head + "".join(f"| {' | '.join(map(str, cells))} |\n" for _, name, cells in sorted(rows) if shown(name))

    folded = [name for _, name, _ in rows if first and name not in first]
    text = above + table(lambda name: name not in folded)
    if folded:
        text += f"\n<details><summary>{len(folded)} more</summary>\n\n{table(lambda name: name in folded)}\n</details>"
    display(Markdown(text))
