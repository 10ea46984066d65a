"""How fields were chosen, and what a counted cell stands for: checked by simulation."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bloodcell_edge.imaging.located import share_inside, share_seen, sides_cut
from bloodcell_edge.imaging.views import LEAST_SEEN
from bloodcell_edge.slide.differential import differential
from bloodcell_edge.slide.sampling import (
    AIMED,
    AS_LARGE,
    OVERLAPPING,
    Sighting,
    Weighed,
    are_aimed,
    counted_area,
    least_depth,
    weigh,
)

SIZE = (640, 480)
DIAMETERS = {"SMALL": 90.0, "LARGE": 240.0}


def visible(x, y, diameter, size=SIZE):
    """The box of what a field shows of a disc, as (x, y, width, height); None where it is too little to be found."""
    half = diameter / 2
    if share_inside(x, y, diameter, *size) < 0.2:
        return None
    # where its middle lies beyond one edge, the widest that is seen of it is its chord there
    over, under = max(-y, y - size[1], 0), max(-x, x - size[0], 0)
    wide, high = math.sqrt(max(half**2 - over**2, 0)), math.sqrt(max(half**2 - under**2, 0))
    left, right, top, bottom = max(x - wide, 0), min(x + wide, size[0]), max(y - high, 0), min(y + high, size[1])
    return left, top, right - left, bottom - top


def drawn(rng, share_small, fields, a_field=3, size=SIZE):
    """Fields on which discs of two sizes fall at random: what is found, and counted by the rule."""
    cells = []
    margin = max(DIAMETERS.values())
    area = (size[0] + 2 * margin) * (size[1] + 2 * margin)
    for field in range(fields):
        for _ in range(rng.poisson(a_field * area / (size[0] * size[1]))):
            label = "SMALL" if rng.random() < share_small else "LARGE"
            x, y = (rng.uniform(-margin, length + margin) for length in size)
            box = visible(x, y, DIAMETERS[label], size)
            if box is not None:
                enough = share_seen(*box[2:], *sides_cut(box, size[::-1])) >= LEAST_SEEN
                cells.append(Sighting(field, box, size, label if enough else None))
    return cells


def test_weighed_shares_are_true_where_plain_ones_are_not():
    """Of discs of two sizes, 60 % small, that fall on 2,000 fields, the edge cuts large ones more often.

    The share of the small ones among the counted is far too high; weighed it lies in the binomial interval of the
    truth for as many cells as `Weighed.n` says.
    """
    cells = drawn(np.random.default_rng(1), 0.6, 2000)
    weighed = weigh(cells)
    labels = [cell.label for cell in cells if cell.label is not None]

    assert isinstance(weighed, Weighed)
    assert weighed.n < len(labels)
    low, high = (one / weighed.n for one in stats.binom.interval(0.95, round(weighed.n), 0.6))
    assert low <= weighed.sums["SMALL"] / sum(weighed.sums.values()) <= high
    assert labels.count("SMALL") / len(labels) > high + 0.05


def test_the_corrected_shares_are_the_weighed_ones():
    """Over 60 slides of 150 fields the 95 % interval of the corrected share holds the truth in 90 % or more of them.

    The counts stay as they are, and the correction says what it did.
    """
    rng, held = np.random.default_rng(2), 0
    confusion = {"confusion": [[2000, 0, 0], [0, 2000, 0]]}
    for _ in range(60):
        cells = drawn(rng, 0.6, 150)
        labels = [cell.label for cell in cells]
        counts = {label: labels.count(label) for label in DIAMETERS}
        found = differential(counts, labels=tuple(DIAMETERS), figures=confusion, weighed=weigh(cells))
        share = found.correction.shares["SMALL"]
        held += share.low <= 60 <= share.high
    assert held >= 54
    assert found.shares["SMALL"].low > 60
    assert found.counts == counts
    assert found.correction.n == sum(counts.values())
    assert found.as_json()["correction"]["weighed_by_size"] is True
    assert "weighed by its size" in found.correction.weighing


def test_cells_of_one_size_weigh_the_same():
    """Then the weights change nothing: n is the number of cells, and the sums are in the proportion of the counts."""
    cells = drawn(np.random.default_rng(8), 1.0, 200)
    named = [replace(cell, label=cell.label and "AB"[k % 3 == 0]) for k, cell in enumerate(cells)]
    weighed = weigh(named)
    a, b = ([cell.label for cell in named].count(label) for label in "AB")

    assert isinstance(weighed, Weighed)
    assert weighed.n == pytest.approx(a + b)
    assert weighed.sums["B"] / weighed.sums["A"] == pytest.approx(b / a)


@given(st.floats(10, 400), st.floats(0.6, 0.99))
def test_the_area_is_that_of_the_positions_that_are_counted(diameter, least_seen):
    """Against a grid of positions: each is asked what the field would show there."""
    xs, ys = (np.linspace(-200, length + 200, 60) for length in SIZE)
    counted = 0
    for x in xs:
        for y in ys:
            box = visible(x, y, diameter)
            counted += box is not None and share_seen(*box[2:], *sides_cut(box, SIZE[::-1])) >= least_seen
    each = (xs[1] - xs[0]) * (ys[1] - ys[0])
    around = 2 * (SIZE[0] + SIZE[1]) * 18  # what a grid of this width cannot tell

    assert counted_area(diameter, *SIZE, least_seen) == pytest.approx(counted * each, abs=around)


def test_a_corner_never_counts():
    """As `counted_area` takes it: what a corner leaves is never taken for as much as must be seen."""
    assert share_seen(1, 1, 1, 1) < LEAST_SEEN
    assert share_seen(least_depth(LEAST_SEEN), 1, 1, 0) == pytest.approx(LEAST_SEEN, abs=1e-5)
    assert counted_area(200, 200, 400) == 0


# Aimed or not


@pytest.mark.parametrize("a_field", [0.3, 3, 12])
def test_fields_taken_by_chance_are_not_aimed(a_field):
    """Few cells a field or many: of 20 slides none is taken for aimed, as it would be by chance once in 300."""
    rng = np.random.default_rng(3)
    slides = [drawn(rng, 0.6, 100, a_field) for _ in range(20)]
    assert [are_aimed(cells) for cells in slides] == [False] * 20


def test_pictures_of_a_cell_each_are_aimed():
    """One cell in the middle of most fields, whatever else is in them: nothing is weighed, and the reason is told."""
    rng = np.random.default_rng(4)
    centred = [Sighting(k, (290 + k % 40, 210 + k % 30, 60, 60), SIZE, "SMALL") for k in range(20)]
    others = [Sighting(k, (0, rng.uniform(0, 400), 30, 60), SIZE, None) for k in range(20)]

    assert are_aimed(centred)
    assert weigh([*centred, *others]) == AIMED
    assert not are_aimed(centred[:1])


def test_photographs_framed_around_a_cell_are_aimed():
    """Anywhere in the field, but never cut, though by chance two of three cells of that size would be."""
    rng = np.random.default_rng(5)
    framed = [Sighting(k, (rng.uniform(1, 440), rng.uniform(1, 280), 199, 199), SIZE, "LARGE") for k in range(60)]
    assert are_aimed(framed)


def test_overlapping_fields_are_not_weighed():
    """Where cells were met again the neighbouring field shows whole what an edge cuts."""
    cells = drawn(np.random.default_rng(6), 0.6, 100)
    again = [Sighting(cell.field, cell.box, SIZE, None, again=True) for cell in cells[::10]]
    assert weigh([*cells, *again]) == OVERLAPPING


def test_a_cell_as_large_as_its_field_has_no_weight():
    """No position shows it, so there is nothing to weigh by."""
    rng = np.random.default_rng(7)
    cells = drawn(rng, 0.6, 100)
    assert weigh([*cells, Sighting(999, (0, 0, 600, 480), SIZE, "LARGE")]) == AS_LARGE
    assert isinstance(weigh([]), Weighed)
