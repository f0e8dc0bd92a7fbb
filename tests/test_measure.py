"""What the notebooks measure, on inputs whose answer is known."""

from utils.measure import colour_and_edges, rank_correlation

import pytest
import torch


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
