import math

import numpy as np
import pytest

from bloodcell_edge.training.locator.scenes import Scene, SceneCell
from bloodcell_edge.training.locator.targets import targets


def cell(x, y, width, height, *, certain=True, seen=1.0):
    return SceneCell(x, y, width, height, certain, seen, None if math.isnan(seen) else (x, y, width, height))


def planes(*cells):
    return targets(Scene(np.zeros((144, 192, 3), np.float32), cells, 16.0))


def test_a_cell_is_a_peak_that_knows_its_box():
    """The point nearest its middle is 1, and says how far the middle is, how large the box is, how much is seen."""
    white, shape, ruler = planes(cell(40, 60, 32, 64, seen=0.5))
    row, column = np.unravel_index(white[..., 0].argmax(), white.shape[:2])

    assert white[row, column, 0] == 1
    assert 4 * (column + 0.5 + shape[row, column, 0]) == pytest.approx(56)
    assert 4 * (row + 0.5 + shape[row, column, 1]) == pytest.approx(92)
    assert shape[row, column, 2:5].tolist() == pytest.approx([0, 1, 0.5])
    assert shape[row, column, 6] > 0
    assert np.all(ruler == 0)
    assert np.all(white[..., 1] == 1)


def test_doubtful_cells_weigh_nothing():
    """Where one lies nothing is learnt; of a cell that its piece had cut the share seen is not known."""
    white, shape, _ = planes(cell(40, 60, 32, 32, certain=False), cell(120, 60, 32, 32, seen=math.nan))

    assert white[15:23, 10:18, 1].max() == 0
    assert white[..., 0].argmax() % 48 == 34 - 1 or white[..., 0].argmax() % 48 == 34
    assert shape[..., 5].max() == 1
    assert shape[..., 6].max() == 0


def test_touching_cells_are_two_peaks():
    """Between the middles of two cells that touch the heat falls."""
    white, _, _ = planes(cell(40, 60, 32, 32), cell(72, 60, 32, 32))
    line = white[18, :, 0]
    assert line[14:22].min() < 0.1
    assert sorted(np.flatnonzero(white[..., 0] == 1) % 48) in ([13, 21], [14, 22])
