"""Labelled pictures as models are shown them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.dataset.shown import shown_in_each, shown_labelled
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.views import View
from bloodcell_edge.model.locator import shipped_locator

FRAME, CELL, WHITE = View("frame", (48, 48)), View("cell", (64, 64), 20.0), View("cell", (32, 32), 20.0, "white")
PICTURE = Picture(Path("one.png"), "one.png", "MONOCYTE", None, um_per_px=0.1)


class Counting:
    """Locates as the shipped locator does, and keeps the scales it was given."""

    def __init__(self):
        self.scales = []

    def __call__(self, image, *, um_per_px=None):
        self.scales.append(um_per_px)
        return shipped_locator()(image, um_per_px=um_per_px)


def test_several_views_locate_once_and_frames_never():
    """Two cell views share one look at the picture's scale, with the pixels each has alone; a frame costs no look."""
    image, counting = draw_field(3, ("MONOCYTE",)).image, Counting()
    shown = shown_in_each(PICTURE, image, [FRAME, CELL, WHITE], counting)
    assert counting.scales == [0.1]
    for view, one in shown.items():
        assert np.array_equal(one.pixels, shown_labelled(PICTURE, image, view).pixels)
        fresh = view.show_labelled(image.copy(), shipped_locator()(image.copy(), um_per_px=0.1))
        assert np.array_equal(one.pixels, fresh.pixels)

    assert shown_labelled(PICTURE, image, FRAME, counting).box is None
    assert counting.scales == [0.1]


def test_a_picture_without_a_cell_shows_nothing():
    """None for view "cell", the picture for view "frame"."""
    shown = shown_in_each(PICTURE, np.full((200, 200, 3), 230, np.uint8), [CELL, FRAME])
    assert shown[CELL] is None
    assert shown[FRAME] is not None
