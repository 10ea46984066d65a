"""What a model is shown of a picture."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.errors import SpecError
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.image import prepare, resize
from bloodcell_edge.imaging.locate import locate
from bloodcell_edge.imaging.located import Box, Located
from bloodcell_edge.imaging.views import EDGE, LEAST_SEEN, NONE_CUT, TOUCHING, View, clipped, crop, window

FRAME, CELL = View("frame", (64, 48)), View("cell", (64, 64), 20.0)


def box(x, y, width, height, *, whole=True, touching=False, seen=None):
    return Box(x, y, width, height, whole, touching, (1.0 if whole else 0.5) if seen is None else seen)


def test_a_frame_is_the_whole_picture_squeezed():
    """View "frame" shows image.prepare of the picture, without box and mark, labelled or not."""
    image = draw_field(1).image
    (shown,) = FRAME.show(image, None)

    assert np.array_equal(shown.pixels, prepare(image, (64, 48)))
    assert (shown.box, shown.mark) == (None, "")
    assert np.array_equal(FRAME.show_labelled(image, None).pixels, shown.pixels)


def test_every_cell_is_shown_in_its_place():
    """View "cell" shows each located cell in the locator's order, from the picture's own pixels."""
    image = draw_field(3, ("NEUTROPHIL", "LYMPHOCYTE", "MONOCYTE"), size=(480, 640)).image
    found = locate(image)
    shown = CELL.show(image, found)

    assert [one.box for one in shown] == [(cell.x, cell.y, cell.width, cell.height) for cell in found.cells]
    assert len(shown) == 3
    for one, cell in zip(shown, found.cells, strict=True):
        x, y, width, height = window(cell, image.shape, found.red_cell_px, 20.0)
        assert np.array_equal(one.pixels, resize(image[y : y + height, x : x + width], (64, 64)))
        assert one.pixels.dtype == np.uint8


def test_who_has_looked_already_is_believed():
    """Cells that are given are shown; the picture is not looked at again."""
    empty = np.full((100, 100, 3), 230, np.uint8)
    shown = CELL.show(empty, Located((box(40, 40, 20, 20),), 20.0))
    assert [one.box for one in shown] == [(40, 40, 20, 20)]
    assert CELL.show(empty, locate(empty)) == ()
    assert CELL.show_labelled(empty, locate(empty)) is None


@pytest.mark.parametrize("show", [CELL.show, CELL.show_labelled])
def test_cells_that_nobody_located_are_a_bug(show):
    """View "cell" does not look for itself: without what was located it says so, in one line."""
    with pytest.raises(ValueError, match=r"^view 'cell' shows located cells, and was given none: locate them first$"):
        show(np.full((100, 100, 3), 230, np.uint8), None)


@pytest.mark.parametrize(
    ("cell", "mark"),
    [
        (box(40, 40, 20, 20), ""),
        (box(0, 40, 20, 20, whole=False), EDGE),
        (box(40, 40, 20, 20, touching=True), TOUCHING),
        (box(0, 40, 20, 20, whole=False, touching=True), EDGE),
        (box(0, 40, 20, 20, whole=False, seen=LEAST_SEEN), ""),
        (box(0, 40, 20, 20, whole=False, seen=LEAST_SEEN - 1e-6), EDGE),
        (box(0, 40, 20, 20, whole=False, touching=True, seen=0.9), TOUCHING),
    ],
)
def test_cut_and_touching_cells_are_marked(cell, mark):
    """A cell of which too little is seen is marked so, a touching one likewise, and cut counts more."""
    image = np.full((100, 100, 3), 230, np.uint8)
    assert CELL.show(image, Located((cell,), 20.0))[0].mark == mark


def test_by_the_earlier_rule_every_cut_cell_is_marked():
    """However much is seen of it, but for a portrait; a whole one is not."""
    image = np.full((100, 100, 3), 230, np.uint8)
    cells = box(0, 40, 20, 20, whole=False, seen=1.0), box(0, 10, 80, 80, whole=False), box(40, 40, 20, 20)
    shown = CELL.show(image, Located(cells, 20.0), least_seen=NONE_CUT)
    assert [one.mark for one in shown] == [EDGE, "", ""]


@pytest.mark.parametrize(("side", "mark"), [(70, EDGE), (71, "")])
def test_a_portrait_is_not_refused_for_being_tight(side, mark):
    """A cell whose box is half the picture may touch the edge: it is shown before smaller whole ones, and is named."""
    image = np.full((100, 100, 3), 230, np.uint8)
    large, small = box(0, 10, side, side, whole=False), box(75, 80, 15, 15)
    assert CELL.show(image, Located((large,), None))[0].mark == mark
    prominent = CELL.show_labelled(image, Located((large, small), None))
    assert prominent is not None
    assert prominent.box == ((0, 10, 71, 71) if side == 71 else (75, 80, 15, 15))


def test_a_labelled_picture_stands_for_its_largest_whole_cell():
    """A larger cut cell is passed over; where all are cut the largest stands, with its mark."""
    image = np.full((100, 100, 3), 230, np.uint8)
    small, large, cut = box(5, 5, 10, 10), box(40, 40, 20, 20), box(0, 60, 40, 40, whole=False)

    def stands_for(*cells):
        return CELL.show_labelled(image, Located(cells, 20.0))

    assert stands_for(small, large, cut).box == (40, 40, 20, 20)
    assert stands_for(box(0, 5, 9, 9, whole=False), cut).box == (0, 60, 40, 40)
    assert stands_for(cut).mark == EDGE
    seen = box(60, 0, 15, 15, whole=False, seen=0.9)
    assert (stands_for(cut, seen).box, stands_for(cut, seen).mark) == ((60, 0, 15, 15), "")
    assert stands_for(seen, small).box == (5, 5, 10, 10)


def test_a_crop_has_the_same_size_on_the_smear_at_any_magnification():
    """The same field at twice the scale gives windows twice as large, and nearly the same pixels."""
    fine = draw_field(5, ("MONOCYTE",), size=(480, 640), um_per_px=0.075).image
    coarse = resize(fine, (240, 320))
    one, other = CELL.show(fine, locate(fine))[0], CELL.show(coarse, locate(coarse))[0]
    sides = [window(locate(image).cells[0], image.shape, locate(image).red_cell_px)[2] for image in (fine, coarse)]

    assert sides[0] / sides[1] == pytest.approx(2, rel=0.05)
    assert np.abs(one.pixels.astype(int) - other.pixels).mean() < 12


def test_without_red_cells_the_cell_is_the_ruler():
    """A cell of usual size, 15 µm, is taken for the ruler: 20 µm are four thirds of it."""
    assert window(box(100, 100, 60, 50), (400, 400), None, 20.0) == (90, 85, 80, 80)


sides = st.integers(1, 300)


@given(sides, sides, st.integers(0, 299), st.integers(0, 299), st.floats(1, 200))
def test_windows_are_square_and_hold_as_much_picture_as_there_is(width, height, x, y, red_cell_px):
    """A window is a square that holds its cell's middle, and lies in the picture on each axis that is long enough."""
    cell = box(min(x, width - 1), min(y, height - 1), 1, 1)
    square = window(cell, (height, width), red_cell_px, 20.0)
    left, top, side, _ = square

    assert square[2] == square[3] == max(round(20 * red_cell_px / 7.5), 2)
    for start, length, middle in ((left, width, cell.x), (top, height, cell.y)):
        assert start <= middle < start + side
        assert (0 <= start <= length - side) if side <= length else (start <= 0 and start + side >= length)
    part = clipped(square, (height, width))
    assert part[:2] == (max(left, 0), max(top, 0))
    assert part[0] + part[2] <= width
    assert part[1] + part[3] <= height


def test_beyond_the_picture_lies_empty_field():
    """Where a window is larger than the picture, the rest has its bright colour and the middle is the picture."""
    image = np.full((10, 10, 3), (200, 210, 220), np.uint8)
    image[5, 5] = 0
    cut = crop(image, (-5, -5, 20, 20))
    assert np.array_equal(cut[5:15, 5:15], image)
    assert (cut[:5] == (200, 210, 220)).all()
    assert cut.flags.c_contiguous


@pytest.mark.parametrize(
    ("name", "crop_um", "says"),
    [("cells", None, "one of frame, cell, found 'cells'"), ("cell", None, "side of a crop"), ("cell", -1, "found -1")],
)
def test_what_cannot_be_shown_is_refused(name, crop_um, says):
    """An unknown view, or crops without a side, with what was expected and found."""
    with pytest.raises(SpecError, match=says):
        View(name, (8, 8), crop_um)
