"""Compare a tensor with the reference, and explain a difference."""

import os

from utils.errors import LessonError
from utils.mistakes import CATALOGUE, explain

import torch

# Processors add in different orders, which changes the last digits of a float32: allowed outside CI, and said.
ROUNDING = 2e-6


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
    label = f"{name:24} {shape_of(ours):18}"
    if difference <= tolerance:
        # How far apart within a tolerance is another matter on another processor: it is not printed.
        print(f"{label} {f'within {tolerance:.0e}' if tolerance else 'identical'}")
    elif why := explain(stage, ours, inputs, difference):
        raise CheckError(f"{name}: {why} (largest difference {difference:.2g})")
    elif difference <= ROUNDING * reference.abs().max().item() and "CI" not in os.environ:
        print(f"{label} right; this processor rounds the last digit differently ({difference:.0e})")
    else:
        whole = reference.ndim == 0 and not reference.is_floating_point()
        ours, reference = ours[where].item(), reference[where].item()
        if whole:
            apart = f"{reference - ours:,} too few" if ours < reference else f"{ours - reference:,} too many"
            raise CheckError(f"{name}: {ours:,}, not {reference:,}: {apart}")
        raise CheckError(
            f"{name}: up to {difference:.2g} away from the reference, most at {where}: {ours:.4g}, not {reference:.4g}"
        )


def check_exercise(name, answer, reference, tolerance=0.0, stage=None, inputs=()):
    """Say how an exercise stands: not attempted (the answer is still None), wrong and why, or right."""
    if answer is None:
        print(f"{name}: not attempted yet")
        return
    try:
        compare(name, answer, reference, tolerance, stage, inputs)
    except CheckError as error:
        print(f"Not yet. {error}")


def show_mistakes(stage, inputs, right):
    """Run all known mistakes of a stage on `inputs`; print, smallest first, how far each moves the result from `right`.

    "moves" is the largest difference in multiples of the result's standard deviation (of a single number: of itself). Raises an
    AssertionError if `compare` lets one pass or calls it by another's name.
    """
    lines = []
    for mistake in (mistake for mistake in CATALOGUE if mistake.stage == stage):
        wrong = mistake.wrong(*inputs)
        try:
            compare(mistake.name, wrong, right, stage=stage, inputs=inputs)
        except CheckError as error:
            assert mistake.sentence in str(error), f"{mistake.name} was called something else: {error}"
        else:
            raise AssertionError(f"the check let a mistake pass: {mistake.name}")
        same_shape = wrong.shape == right.shape
        size = right.std().item() if right.numel() > 1 else right.abs().item()
        moves = largest_difference(wrong, right)[0] / size if same_shape else torch.inf
        digits = 2 if moves > 1e-4 else 1  # the second one of a tiny number is rounding
        printed = f"{moves:.{digits}g}"
        # By what is printed: which of two rows that print the same is larger hangs on the processor's rounding.
        lines.append((float(printed), mistake.sentence, printed if same_shape else "shape"))
    print("    moves  when")
    print(*(f"{printed:>9}  {sentence}" for _, sentence, printed in sorted(lines)), sep="\n")
