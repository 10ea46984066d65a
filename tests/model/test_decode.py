"""From planes to cells and ruler."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.model.decode import FINE, FLOAT_SCALES, Decoder, Peak, Planes, Scale, as_bytes, different

GRID, SIZE = (36, 48), (144, 192)
SHAPE, RULER = Scale(1 / 32, 128), Scale(1 / 32, 128)
DECODER = Decoder(SHAPE, RULER)


def levels(scale, *values):
    return [round(value / scale.scale) + scale.zero_point for value in values]


def planes(*cells, sure=0.0, red_cell=0.0):
    """Planes with a heat at (row, column), and there a shape: ``(row, column, heat, dx, dy, width, height, seen)``."""
    white, shape = np.zeros(GRID, np.uint8), np.zeros((*GRID, 5), np.uint8)
    for row, column, heat, *values in cells:
        white[row, column] = heat
        shape[row, column] = levels(SHAPE, *values)
    ruler = np.empty((*GRID, 2), np.uint8)
    ruler[:] = levels(RULER, sure, red_cell)
    return Planes(white, shape, ruler)


def cell(row, column, heat=200, dx=0.0, dy=0.0, width=0.0, height=0.0, seen=1.0):
    return row, column, heat, dx, dy, width, height, seen


def found(*cells, threshold=100, size=SIZE):
    return [peak.rectangle for peak in DECODER.peaks(planes(*cells), threshold, size)]


def test_a_peak_is_a_cell():
    """In the middle of its point, 32 pixels wide and high where the logarithms are 0, with its heat and share seen."""
    (peak,) = DECODER.peaks(planes(cell(10, 20, 180, seen=0.5)), 100, SIZE)
    assert peak.rectangle == (4 * 20 + 2 - 16, 4 * 10 + 2 - 16, 32, 32)
    assert (peak.heat, peak.seen) == (180, 50)


def test_a_cell_is_shifted_and_sized_by_its_shape():
    """Offsets are in steps of 4 pixels, sizes in octaves of 32 pixels."""
    assert found(cell(10, 20, dx=0.5, dy=-1.0, width=-1.0, height=0.5)) == [
        (82 + 2 - 8, pytest.approx(42 - 4 - 16 * math.sqrt(2), abs=1 / FINE), 16, pytest.approx(45.25, abs=2 / FINE))
    ]


def test_only_heats_from_the_threshold_on_count():
    """The threshold itself does."""
    cells = cell(5, 5, 99), cell(5, 20, 100), cell(5, 40, 101)
    assert len(found(*cells)) == 2
    assert len(found(*cells, threshold=101)) == 1
    assert found() == []


def test_beside_a_peak_there_is_none():
    """Of neighbours, corners too, the hottest is taken; of equal ones that mean the same cell, one."""
    assert found(cell(10, 20, 200), cell(11, 21, 199)) == found(cell(10, 20, 200))
    assert len(found(cell(10, 20, 200), cell(10, 21, 200))) == 1


def test_of_boxes_on_one_cell_the_surest_stays():
    """Where two overlap much, or one lies in the other; cells side by side are two."""
    assert found(cell(10, 20, 150), cell(10, 22, 190)) == found(cell(10, 22, 190))
    assert found(cell(10, 20, 190, width=1, height=1), cell(10, 22, 150, width=-1, height=-1)) == found(
        cell(10, 20, 190, width=1, height=1)
    )
    assert len(found(cell(10, 20), cell(10, 27))) == 2


def test_surest_first():
    """The order is that of the heats."""
    peaks = DECODER.peaks(planes(cell(5, 5, 120), cell(5, 20, 220), cell(5, 40, 170)), 100, SIZE)
    assert [peak.heat for peak in peaks] == [220, 170, 120]


def test_boxes_end_with_the_picture():
    """At all four sides; what lies in the padding is no cell."""
    size = (60, 100)
    assert found(cell(1, 1), size=size) == [(0, 0, 22, 22)]
    assert found(cell(13, 23), size=size) == [(78, 38, 22, 22)]
    assert found(cell(30, 40), size=size) == []


@given(st.integers(0, 2**32 - 1), st.integers(1, 255), st.tuples(st.integers(1, 144), st.integers(1, 192)))
def test_any_planes_give_boxes_inside_the_picture_and_apart(seed, threshold, size):
    """Whatever the bytes: sorted by heat, with an area, inside, and no two on one cell."""
    dice = np.random.default_rng(seed)
    white, shape = (dice.integers(0, 256, side, np.uint8) for side in (GRID, (*GRID, 5)))
    peaks = DECODER.peaks(Planes(white, shape, np.zeros((*GRID, 2), np.uint8)), threshold, size)
    heats = [peak.heat for peak in peaks]
    assert heats == sorted(heats, reverse=True)
    for number, peak in enumerate(peaks):
        assert 0 <= peak.left < peak.right <= FINE * size[1]
        assert 0 <= peak.top < peak.bottom <= FINE * size[0]
        assert threshold <= peak.heat
        assert 0 <= peak.seen <= 100
        assert not any(peak.overlaps(other) for other in peaks[:number])


def test_overlap_is_by_union_or_by_the_smaller():
    """Boxes that only touch are two cells."""
    one = Peak(0, 0, 100, 100, 1, 100)
    assert not one.overlaps(Peak(100, 0, 200, 100, 1, 100))
    assert not one.overlaps(Peak(60, 0, 160, 100, 1, 100))
    assert one.overlaps(Peak(30, 0, 130, 100, 1, 100))
    assert one.overlaps(Peak(10, 10, 40, 40, 1, 100))
    assert list(different([one, Peak(30, 0, 130, 100, 1, 100), Peak(300, 0, 400, 9, 1, 100)])) == [
        one,
        Peak(300, 0, 400, 9, 1, 100),
    ]


@pytest.mark.parametrize("octaves", [-1.5, -1.0, 0.0, 0.75, 1.0])
def test_where_all_points_agree_the_ruler_is_theirs(octaves):
    """To within half a step of the bytes."""
    assert DECODER.red_cell(planes(red_cell=octaves), SIZE) == pytest.approx(16 * 2**octaves, rel=1 / 64)


def test_the_ruler_is_the_median_by_weight():
    """A third of the points that are four times as sure win over the rest; those in the padding are not asked."""
    given_planes = planes(sure=-0.5, red_cell=0.0)
    given_planes.ruler[:12] = levels(RULER, 0.5, 1.0)
    assert DECODER.red_cell(given_planes, SIZE) == pytest.approx(32, rel=0.05)
    assert DECODER.red_cell(given_planes, (48, 192)) == pytest.approx(32, rel=0.02)
    given_planes.ruler[:12] = levels(RULER, -0.5, 1.0)
    assert DECODER.red_cell(given_planes, SIZE) == pytest.approx(16, rel=0.05)


def test_a_few_wild_points_do_not_move_the_ruler():
    """A tenth of them, as sure as the others."""
    given_planes = planes(red_cell=0.0)
    given_planes.ruler[::10, :, 1] = 255
    assert DECODER.red_cell(given_planes, SIZE) == pytest.approx(16, rel=0.02)


@given(st.integers(0, 2**32 - 1), st.tuples(st.integers(1, 144), st.integers(1, 192)))
def test_any_planes_give_a_ruler(seed, size):
    """Finite and positive, between the least and the largest that a byte can say."""
    ruler = np.random.default_rng(seed).integers(0, 256, (*GRID, 2), np.uint8)
    given_planes = Planes(np.zeros(GRID, np.uint8), np.zeros((*GRID, 5), np.uint8), ruler)
    low, high = (16 * 2 ** (value / 32) for value in (-129, 128))
    assert low <= DECODER.red_cell(given_planes, size) <= high
    assert 0.25 <= DECODER.sureness(given_planes, size) <= 8


@pytest.mark.parametrize(("sure", "weight"), [(0.0, 1.0), (1.0, 4.0), (-0.5, 0.5), (-3.0, 0.25), (3.0, 8.0)])
def test_sureness_is_the_mean_weight(sure, weight):
    """Four to the power of what the points say, within its range."""
    assert DECODER.sureness(planes(sure=sure), SIZE) == pytest.approx(weight, abs=0.01)


def test_floats_become_bytes():
    """Rounded, and held within what a byte can say."""
    made = as_bytes(np.array([-9.0, 0.0, 0.5, 0.996, 1.0]), FLOAT_SCALES[0])
    assert made.dtype == np.uint8
    assert made.tolist() == [0, 0, 128, 255, 255]
