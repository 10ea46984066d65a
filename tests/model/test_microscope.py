from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.located import Box, Located
from bloodcell_edge.model.microscope import (
    HELD_BYTES,
    POOL,
    REMEMBERED,
    FirstLook,
    Microscope,
    Thing,
    asked_of,
    block_of,
)

SIZE = (240, 320)
LAMP = (230, 225, 235)


def look(red_cell_px, *things, size=SIZE, white=LAMP):
    return FirstLook(size, red_cell_px, white, things)


def wandering(count=20, middle=50.0, seed=0):
    """Single rulers as fields give them: most within a tenth, one in ten far off."""
    rng = random.Random(seed)
    return [look(middle * (rng.choice((0.6, 1.7)) if k % 10 == 9 else rng.uniform(0.9, 1.1))) for k in range(count)]


def thing(x, grey=100, side=20):
    return Thing((x, 40, side, side), bytes([grey] * 64))


def test_the_ruler_is_the_median_of_single_ones():
    """It is far closer than they are, whatever a few of them say, and their order says nothing."""
    looks = wandering()
    ruler = Microscope.of(looks).rulers[SIZE]

    assert ruler.red_cell_px == pytest.approx(50, rel=0.04)
    assert ruler.fields == 20
    assert ruler.spread > 1.1
    assert Microscope.of(looks[::-1]) == Microscope.of(looks)


def test_fields_that_tell_nothing_get_the_slides_scale():
    """And those that tell it badly, too; one of another magnification keeps its own, and says so with numbers."""
    microscope = Microscope.of(wandering())
    pooled = microscope.rulers[SIZE].red_cell_px

    assert microscope.red_cell_px(look(None)) == pooled
    assert microscope.red_cell_px(look(56.0)) == pooled
    assert microscope.red_cell_px(look(110.0)) == 110.0
    assert microscope.contradiction(look(56.0)) == ""
    assert "red cells of 110 px where 20 fields have" in microscope.contradiction(look(110.0))


def test_another_lamp_is_noticed():
    """A white point far from the slide's is told; a little darker is not."""
    microscope = Microscope.of(wandering())
    assert microscope.white == LAMP
    assert microscope.contradiction(look(50.0, white=(210, 210, 215))) == ""
    assert "another lamp?" in microscope.contradiction(look(50.0, white=(230, 180, 120)))


@pytest.mark.parametrize(
    "looks",
    [
        [],
        [look(50.0), look(None), look(51.0)],
        [look(20.0 * 1.7**k) for k in range(8)],
    ],
    ids=["none", "two that tell it", "all magnifications"],
)
def test_fields_that_do_not_agree_are_not_pooled(looks):
    """Too few that tell their scale, or of many magnifications: each keeps its own."""
    microscope = Microscope.of(looks)
    assert microscope.rulers == {}
    assert microscope.red_cell_px(look(33.0)) == 33.0


def test_pictures_of_each_size_have_a_scale_of_their_own():
    """The same microscope gives smaller pictures smaller red cells."""
    small = (120, 160)
    microscope = Microscope.of([*wandering(10), *(replace(one, size=small, red_cell_px=25.0) for one in wandering(10))])
    assert microscope.red_cell_px(look(None, size=small)) == 25.0
    assert microscope.red_cell_px(look(None)) == pytest.approx(50, rel=0.1)
    assert microscope.red_cell_px(look(None, size=(10, 10))) is None


def test_what_stands_still_is_no_cell():
    """The same look at the same place in most fields is taken away; the same place with other looks is not."""
    pointer = thing(200, grey=40)
    looks = [look(50.0, pointer, thing(30, grey=60 + 15 * k)) for k in range(9)]
    microscope = Microscope.of(looks)
    boxes = (Box(200, 40, 20, 20, whole=True, touching=False), Box(30, 40, 20, 20, whole=True, touching=False))
    left = microscope.applied(looks[3], Located(boxes, 48.0)).cells

    assert [one.box for one in microscope.still[SIZE]] == [pointer.box]
    assert [box.x for box in left] == [30]
    assert Microscope.of(looks[:4]).still == {}


def test_a_look_is_what_a_picture_shows():
    """Size, white point and a thumbnail of each box; it comes back from text as it was."""
    image = draw_field(1, ("NEUTROPHIL",)).image
    seen = FirstLook.of(image, Located((Box(10, 20, 40, 30, whole=True, touching=False),), 50.5))

    assert (seen.size, seen.red_cell_px) == (SIZE, 50.5)
    assert all(abs(level - np.percentile(image[..., k], 95)) <= 3 for k, level in enumerate(seen.white))
    assert [(one.box, len(one.look)) for one in seen.things] == [((10, 20, 40, 30), 64)]
    assert FirstLook.from_text(seen.as_text()) == seen


@pytest.mark.parametrize(
    ("number", "block", "asked"),
    [
        (1, POOL, (0, 20)),
        (20, POOL, (0, 20)),
        (40, POOL, (0, 20)),
        (41, POOL, (0, 40)),
        (1000, POOL, (780, 980)),
        (1, 1, (0, 1)),
        (20, 1, (0, 19)),
        (21, 1, (0, 20)),
        (40, 1, (0, 20)),
        (15, 7, (0, 14)),
        (29, 7, (0, 28)),
    ],
)
def test_estimates_are_made_a_block_at_a_time(number, block, asked):
    """The first fields know each other; later ones know the whole blocks before them, the last 200 fields of these."""
    assert REMEMBERED == 200
    assert asked_of(number, block) == range(*asked)


def test_what_stands_still_is_told_of_many_fields_at_once():
    """As pair by pair: what 60 % of the fields show at one place with one look, and nothing else."""
    rng = random.Random(5)
    looks = []
    for number in range(40):
        things = [Thing((rng.randrange(300), rng.randrange(200), 20, 20), rng.randbytes(64)) for _ in range(3)]
        looks.append(look(50.0, *things, *([thing(200, 40 + number % 3)] if number % 5 else []), thing(30, 5 * number)))
    everything = [one for each in looks for one in each.things]
    slowly = [
        one for one in everything if sum(any(one.is_same(other) for other in each.things) for each in looks) >= 24
    ]
    still = Microscope.of(looks).still[SIZE]

    assert [one.box for one in still] == [(200, 40, 20, 20)]
    assert {one.box for one in slowly} == {(200, 40, 20, 20)}


def test_large_pictures_wait_in_smaller_groups():
    """No more is held than the limit says, and one picture at least."""
    assert block_of((480, 640)) == POOL
    assert block_of((3000, 4000)) == HELD_BYTES // 36_000_000 == 7
    assert block_of((30_000, 40_000)) == 1
    assert block_of((480, 640), 1) == 1
