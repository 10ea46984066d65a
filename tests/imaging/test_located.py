"""How much is seen of a cell that an edge cuts: geometry of discs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.imaging.located import disc_of, matches, overlap, share_inside, share_seen, sides_cut

LENGTHS = st.floats(1, 300)


@given(st.floats(-80, 280), st.floats(-80, 230), st.floats(5, 200))
def test_the_share_of_a_disc_is_its_area_in_the_picture(x, y, diameter):
    """Against a sum of 2,000 strips: what of each lies in a picture of 200 x 150."""
    middles = (np.arange(2000) + 0.5) / 2000 * diameter - diameter / 2
    half = np.sqrt((diameter / 2) ** 2 - middles**2)
    across = np.clip(x + half, 0, 200) - np.clip(x - half, 0, 200)
    rows = (y + middles > 0) & (y + middles < 150)
    area = (across * rows).sum() * diameter / 2000

    assert share_inside(x, y, diameter, 200, 150) == pytest.approx(area / (math.pi * diameter**2 / 4), abs=2e-3)


@given(st.floats(0.02, 1.0))
def test_a_disc_cut_at_one_side_is_known_exactly(left):
    """Whatever is left of its diameter, its size and its share come out of the box of what is seen, at any side."""
    depth = 100 * left
    extent = 100.0 if left >= 0.5 else 2 * math.sqrt(depth * (100 - depth))
    true = share_inside(depth - 50, 500, 100, 1000, 1000)

    for width, height, across, down in ((depth, extent, 1, 0), (extent, depth, 0, 1)):
        assert disc_of(width, height, across, down)[2] == pytest.approx(100)
        assert share_seen(width, height, across, down) == pytest.approx(true, abs=1e-6)


def test_a_whole_cell_is_seen_whole():
    """It has no cut side, however long it is; one that is as deep as it is wide is taken for whole at an edge too."""
    assert share_seen(30, 90, 0, 0) == share_seen(90, 90, 1, 0) == share_seen(120, 90, 1, 0) == 1.0


@given(LENGTHS, LENGTHS, st.integers(0, 2), st.integers(0, 2))
def test_a_share_is_a_share_at_any_size(width, height, across, down):
    """It lies in 0..1, is the same with width and height exchanged, and does not know the unit of length."""
    share = share_seen(width, height, across, down)

    assert 0 <= share <= 1
    assert share_seen(height, width, down, across) == pytest.approx(share, abs=2e-6)
    assert share_seen(3 * width, 3 * height, across, down) == pytest.approx(share, abs=2e-6)


def test_a_corner_says_little_and_is_taken_to_cut_much():
    """Of a square that is seen a corner leaves 56 %, the most of all; twice as long as high, it is half a disc."""
    shares = [share_seen(side, 100, 1, 1) for side in range(10, 200, 5)]

    assert max(shares) == share_seen(100, 100, 1, 1) == pytest.approx(0.560562)
    assert share_seen(50, 100, 1, 1) == share_seen(50, 100, 1, 0) == 0.5
    assert share_seen(40, 100, 1, 1) == share_seen(40, 100, 1, 0)


def test_a_cell_between_two_edges_is_as_high_as_it_is_seen():
    """Cut left and right, 50 wide and 100 high: a disc of 100 between two lines, that lie 25 from its middle."""
    assert disc_of(50, 100, 2, 0) == (25, 50, 100)
    assert share_seen(50, 100, 2, 0) == pytest.approx(0.609, abs=1e-3)


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((10, 10, 20, 20), (0, 0)),
        ((0, 10, 20, 20), (1, 0)),
        ((80, 10, 20, 20), (1, 0)),
        ((0, 60, 20, 20), (1, 1)),
        ((0, 0, 100, 20), (2, 1)),
    ],
)
def test_sides_at_which_the_picture_ends(box, cut):
    """Of a picture 100 wide and 80 high."""
    assert sides_cut(box, (80, 100)) == cut


@pytest.mark.parametrize(
    ("other", "share"),
    [
        ((0, 0, 10, 10), 1.0),
        ((5, 0, 10, 10), 1 / 3),
        ((0, 0, 5, 5), 0.25),
        ((10, 0, 10, 10), 0.0),
        ((50, 50, 1, 1), 0.0),
    ],
)
def test_overlap_is_intersection_over_union(other, share):
    """Either way round."""
    assert overlap((0, 0, 10, 10), other) == overlap(other, (0, 0, 10, 10)) == pytest.approx(share)


def test_each_box_is_matched_once_and_the_best_first():
    """A second box on the same cell finds nothing; what overlaps too little is none."""
    true = [(0, 0, 10, 10), (100, 0, 10, 10)]
    found = [(2, 0, 10, 10), (0, 0, 10, 10), (106, 0, 10, 10)]
    assert matches(found, true) == [(1.0, 1, 0)]
    assert matches(found, true, least=0.2) == [(1.0, 1, 0), (pytest.approx(0.25), 2, 1)]
    assert matches([], true) == []
