"""Light brought to one level."""

from __future__ import annotations

import numpy as np
import pytest

from bloodcell_edge.imaging.drawn import LABELS, draw_field
from bloodcell_edge.imaging.image import resize
from bloodcell_edge.imaging.light import (
    Halves,
    Illumination,
    decades,
    empty_field,
    lit,
    meets_unlit,
    share_lit,
    two_bands,
)
from bloodcell_edge.imaging.locate import locate
from bloodcell_edge.imaging.views import View, crop

WHOLE = (0, 0, 640, 480)


def field(seed=1, labels=("NEUTROPHIL",)):
    return draw_field(seed, labels, size=(480, 640)).image


def lamp(image, gains):
    """The same field under a lamp of another colour."""
    return np.clip(image * np.array(gains), 0, 255).round().astype(np.uint8)


def whole(image):
    """All of a picture under white light, at half its size."""
    return Illumination.of(Halves(image)).whiten(resize(image, (240, 320)), WHOLE)


@pytest.mark.parametrize("gains", [(1, 1, 1), (1, 0.9, 0.6), (0.7, 0.8, 1.0), (0.5, 0.5, 0.5)])
def test_the_empty_field_becomes_white(gains):
    """Whatever the lamp, the brightest tenth of a whitened field is nearly white in each colour."""
    levels = np.percentile(whole(lamp(field(), gains)).reshape(-1, 3), 92, axis=0)
    assert (levels > 243).all()


def test_the_lamp_is_taken_out():
    """A yellow, darker lamp gives nearly the same white picture; the raw pictures differ far more."""
    image = field(3, ("LYMPHOCYTE", "MONOCYTE"))
    other = lamp(image, (0.95, 0.85, 0.6))
    apart = np.abs(whole(image).astype(int) - whole(other)).mean()
    assert apart < 4
    assert np.abs(image.astype(int) - other).mean() > 5 * apart


def test_light_that_falls_off_is_evened():
    """Under vignetting the empty field near the corner is as white as in the middle."""
    image = field(2)
    rows, columns = (np.linspace(-1, 1, length) for length in image.shape[:2])
    fall = 1 - 0.5 * ((rows * rows)[:, None] + (columns * columns)[None]) / 2
    white = whole((image * fall[..., None]).round().astype(np.uint8))
    corner, middle = white[:60, :80].reshape(-1, 3), white[90:150, 120:200].reshape(-1, 3)
    assert np.abs(np.percentile(corner, 95, axis=0) - np.percentile(middle, 95, axis=0)).max() < 8


def test_absorbance_of_what_lies_there_stays():
    """Whitening adds the same absorbance to neighbouring pixels: dark and bright keep their distance in decades."""
    image = field(4)
    white = Illumination.of(Halves(image)).whiten(image, WHOLE)
    cell = locate(image).cells[0]
    rows, columns = slice(cell.y, cell.y + cell.height), slice(cell.x, cell.x + cell.width)
    before, after = (decades()[picture[rows, columns]].astype(int) for picture in (image, white))
    for channel in range(3):
        inside = (after[..., channel] > 20) & (after[..., channel] < 450)  # beyond, levels are clipped or too coarse
        moved = (before - after)[..., channel][inside]
        assert moved.size
        assert np.percentile(moved, 95) - np.percentile(moved, 5) <= 16


@pytest.mark.parametrize("label", LABELS)
def test_a_tightly_cut_cell_is_not_taken_for_light(label):
    """Cut tightly around its cell, a picture is whitened as the whole field was: within 8 levels over the cell."""
    image = field(6, (label,))
    cell = locate(image).cells[0]
    window = (cell.x, cell.y, cell.width, cell.height)
    own = crop(image, window)
    tight = Illumination.of(Halves(own)).whiten(own, (0, 0, cell.width, cell.height))
    assert np.abs(tight.astype(int) - Illumination.of(Halves(image)).whiten(own, window)).mean() < 8


def test_a_picture_that_is_lit_is_itself():
    """Where no edge is black nothing is changed, and nothing is copied."""
    image = field()
    assert lit(image) is image


def test_black_corners_get_light():
    """A black corner becomes the empty field's colour; the rest stays; the picture given is not changed."""
    image = field()
    image[:120, :160] = 0
    before = image.copy()
    filled = lit(image)
    assert np.array_equal(image, before)
    assert (filled[:110, :150] > 150).all()
    assert np.array_equal(filled[140:, 180:], image[140:, 180:])


@pytest.mark.parametrize("label", LABELS)
def test_a_view_under_white_light_is_the_crop_whitened(label):
    """View light="white" shows each cell's crop through `Illumination`, of the same size, with the same boxes."""
    image = field(7, (label,))
    plain, white = View("cell", (64, 64), 20.0), View("cell", (64, 64), 20.0, "white")
    found = locate(image)
    for one, other in zip(plain.show(image, found), white.show(image, found), strict=True):
        assert one.box == other.box
        assert other.pixels.shape == (64, 64, 3)
        assert other.pixels.mean() > one.pixels.mean()


def test_a_wide_crop_holds_the_crop():
    """With a margin the middle of the wide crop is the crop, but for where pixels fall."""
    image = field(9, ("EOSINOPHIL",))
    view, found = View("cell", (64, 64), 20.0, "white"), locate(image)
    crop, wide = view.show_labelled(image, found), view.show_labelled(image, found, margin=1.5)
    assert wide.pixels.shape == (96, 96, 3)
    assert np.abs(wide.pixels[16:80, 16:80].astype(int) - crop.pixels).mean() < 12


@pytest.mark.parametrize("size", [(480, 640), (363, 360), (362, 360), (48, 65), (17, 19), (16, 16)])
def test_a_halved_picture_has_the_bytes_of_resize(size):
    """Each size is what `resize` makes of the whole picture, whichever was asked for first, and is made once."""
    image = np.random.default_rng(size[1]).integers(0, 256, (*size, 3), np.uint8)
    halves = Halves(image)
    for halvings in (2, 0, 1, 3):
        expected = resize(image, (-(-size[0] >> halvings), -(-size[1] >> halvings)))
        assert np.array_equal(halves.at(halvings), expected)
        assert halves.at(halvings) is halves.at(halvings)
    assert np.array_equal(halves.absorbed(0), two_bands(image) - empty_field(image))


def test_a_picture_is_lit_alike_whether_or_not_it_was_located():
    """What `locate` leaves of a picture serves its own light alone, not that of another with the same boxes."""
    image, other = field(1), field(2)
    view, located = View("cell", (128, 128), 20.0, "white"), locate(image)
    again = type(located)(located.cells, located.red_cell_px)
    assert located == again
    for shown in (image, other):
        left, right = view.show(shown, located), view.show(shown, again)
        assert all(np.array_equal(one.pixels, two.pixels) for one, two in zip(left, right, strict=True))


def test_the_lit_share_of_a_cell_at_a_rim():
    """Half a disc, cut straight, is a half; a round box in the light is whole; in the dark nothing is seen."""
    assert share_lit(np.zeros((80, 40), np.uint8)) == 0.5
    assert share_lit(np.zeros((60, 60), np.uint8)) == 1.0
    assert share_lit(np.ones((60, 60), np.uint8)) == 0.0
    slanting = (np.add.outer(np.arange(60), np.arange(60)) >= 60).astype(np.uint8)
    assert share_lit(slanting) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("bounds", "meets"),
    [
        ((20, 20, 40, 40), False),  # in the middle
        ((2, 20, 20, 40), False),  # two pixels from the dark
        ((1, 20, 20, 40), True),  # the dark begins where it ends
        ((0, 20, 20, 40), True),
        ((5, 5, 25, 25), False),  # its corner lies in the dark corner, the cell does not
        ((2, 2, 22, 22), True),
        ((0, 0, 5, 5), True),  # at the picture's own corner
        ((40, 40, 60, 60), False),
    ],
)
def test_a_cell_meets_the_dark_where_its_ellipse_does(bounds, meets):
    """A dark column at the left and a dark corner; the corners of a box are no cell."""
    unlit = np.zeros((60, 60), np.uint8)
    unlit[:, 0] = 1
    unlit[:7, :7] = 1
    assert meets_unlit(unlit, bounds) is meets


def test_nothing_is_met_where_all_is_lit():
    """Wherever it lies."""
    assert not meets_unlit(np.zeros((60, 60), np.uint8), (0, 0, 60, 60))
