"""What is located in labelled pictures, by the scale of all that share their microscope."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.dataset.pooled import locate_pictures
from bloodcell_edge.errors import NoPictures, PictureError
from bloodcell_edge.imaging.located import Box, Located

WHOLE = Box(10, 10, 30, 30, whole=True, touching=False)


def says(image, *, um_per_px=None):
    """A locator that reads its ruler off the first pixel: 10 red-cell pixels a grey level; 0 tells none."""
    level = float(image[0, 0, 0])
    return Located((WHOLE,), 7.5 / um_per_px if um_per_px else level or None)


@pytest.fixture
def pictures(tmp_path):
    """``pictures(40, 42, ...)`` saves one for each red cell, each in a group of its own."""

    def make(*levels, source="", **given):
        made = []
        for number, level in enumerate(levels):
            path = tmp_path / f"{source}{number}-{level}.png"
            assert cv2.imwrite(str(path), np.full((60, 80, 3), level, np.uint8))
            made.append(Picture(path, path.name, "NEUTROPHIL", **{"group": f"{path}", "source": source, **given}))
        return made

    return make


def rulers(pictures):
    pooled = locate_pictures(pictures, says)
    return [pooled.located(one).red_cell_px for one in pictures]


def test_pictures_of_one_data_share_a_scale(pictures):
    """Each gets the median of all, whether it tells a scale or not; one of another magnification keeps its own."""
    assert rulers(pictures(40, 42, 41, 0, 44, 90)) == [42, 42, 42, 42, 42, 90]


def test_each_source_has_its_own(pictures):
    """Pictures of two DATA are not of one microscope, though asked about together."""
    both = [*pictures(40, 41, 42), *pictures(50, 51, 52, source="other")]
    assert rulers(both) == [41, 41, 41, 51, 51, 51]


def test_a_group_with_pictures_enough_is_a_microscope(pictures):
    """Smears of one table; a group of two is too small to tell, and is told by the whole DATA."""
    first, second = pictures(40, 41, 42, group="A"), pictures(50, 51, 52, group="B", source="")
    few = [replace(one, group="C") for one in pictures(44, 48)]
    assert rulers([*first, *second]) == [41, 41, 41, 51, 51, 51]
    assert rulers([*first, *few]) == [41, 41, 41, 42, 42]


def test_a_given_scale_holds_and_says_nothing_of_others(pictures):
    """As that of an exported crop."""
    given = [replace(one, um_per_px=0.1) for one in pictures(9, 9, 9)]
    assert rulers([*given, *pictures(40, 41, 42)]) == [75, 75, 75, 41, 41, 41]


def test_all_magnifications_are_not_pooled(pictures):
    """Pictures that do not agree keep their own."""
    assert rulers(pictures(20, 30, 45, 68, 100)) == [20, 30, 45, 68, 100]


def test_what_cannot_be_looked_at_says_why(pictures, tmp_path):
    """The reason of the first look is given again; where nothing can be read, that is said at once."""

    def picky(image, *, um_per_px=None):
        if image[0, 0, 0] == 7:
            message = "too small to look at"
            raise PictureError(message)
        return says(image, um_per_px=um_per_px)

    some = pictures(40, 7)
    pooled = locate_pictures(some, picky)
    with pytest.raises(PictureError, match="too small to look at"):
        pooled.located(some[1])
    (tmp_path / "none.png").write_bytes(b"none")
    with pytest.raises(NoPictures, match="none of 1 pictures"):
        locate_pictures([Picture(tmp_path / "none.png", "none.png", "NEUTROPHIL")], says)
