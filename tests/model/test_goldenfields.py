"""Golden fields found again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_locator import SIZE, THRESHOLD, field, locator_file

from bloodcell_edge.errors import SpecError
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.model.golden import digest
from bloodcell_edge.model.goldenfields import drawn_field, golden_fields, heat_tolerance, replay_fields
from bloodcell_edge.model.locator import LearnedLocator, shipped_locator
from bloodcell_edge.model.locatorspec import GoldenField

MIDDLES = ((50, 62), (130, 90))
PICTURE = field(*SIZE, *MIDDLES)
FOUND = GoldenField(1, ("NEUTROPHIL",) * 2, digest(PICTURE), ((34, 46, 32, 32, 255), (114, 74, 32, 32, 255)), 15.785)


def replayed(flatbuffer, golden, *, picture=PICTURE, plain=False, **spec):
    """Look at a painted picture in place of a drawn field."""
    locator = LearnedLocator(locator_file(flatbuffer, golden=(golden,), **spec), plain=plain)
    replay_fields(locator, name="m", runtime="r", draw=lambda *_: picture)


def changed(box=0, **changes):
    """What was found, but one box otherwise: ``x``, ``heat``, or ``gone``."""
    boxes = [list(one) for one in FOUND.boxes]
    if changes.pop("gone", False):
        del boxes[box]
    for key, value in changes.items():
        boxes[box][("x", "y", "width", "height", "heat").index(key)] = value
    return replace(FOUND, boxes=tuple(map(tuple, boxes)))


@pytest.fixture(scope="module")
def int8(made_flatbuffers):
    return made_flatbuffers["int8"]


@pytest.mark.parametrize("plain", [False, True])
def test_what_is_found_again_passes(int8, plain):
    """With the same kernels and with the built-in ones."""
    replayed(int8, FOUND, plain=plain)


def test_boxes_and_ruler_may_move_a_little(int8):
    """As other kernels move them: by pixels and three per cent, not by half a cell or a tenth."""
    replayed(int8, replace(changed(x=36, width=30), red_cell_px=16.1))
    with pytest.raises(SpecError, match="in golden field 1 its locator found 32x32 at"):
        replayed(int8, changed(x=60))
    with pytest.raises(SpecError, match=r"red cells of 17\.4 px when it was made"):
        replayed(int8, replace(FOUND, red_cell_px=17.4))


def test_a_cell_more_or_less_is_refused(int8):
    """With what was found then and what is found here, the runtime and what to do."""
    with pytest.raises(
        SpecError, match=r"^m: in golden field 1 .* found 32x32 at \(114, 74\), red .* with r; do not use"
    ):
        replayed(int8, changed(gone=True))
    with pytest.raises(SpecError, match="golden field 1"):
        replayed(int8, replace(FOUND, boxes=(*FOUND.boxes, (10, 100, 30, 30, 255))))


def test_a_cell_near_the_threshold_may_be_lost(int8):
    """Only where its heat was within the tolerance of it."""
    near = (10, 100, 30, 30, THRESHOLD + 9)
    replayed(int8, replace(FOUND, boxes=(*FOUND.boxes, near)), kernel_tolerance=10)
    with pytest.raises(SpecError, match="golden field 1"):
        replayed(int8, replace(FOUND, boxes=(*FOUND.boxes, near)), kernel_tolerance=9)


def test_another_drawing_is_refused(int8):
    """Where numpy or OpenCV draw otherwise, nothing is compared."""
    with pytest.raises(SpecError, match="draws golden field 1 otherwise than the one its locator was made on"):
        replayed(int8, replace(FOUND, pixels_sha256="0" * 64))


def test_a_locator_without_fields_passes(made_file):
    """There is nothing to look at."""
    replay_fields(LearnedLocator(made_file), name="m", runtime="r")


def test_fields_are_drawn_from_their_seed():
    """The built-in generator, at the size of golden fields."""
    assert (drawn_field(5, ("MONOCYTE",)) == draw_field(5, ("MONOCYTE",), size=(240, 320)).image).all()


def test_the_shipped_locator_finds_its_fields_again():
    """To the bit under the kernels that it was made with, and within its tolerance under the built-in ones."""
    shipped = shipped_locator()
    assert golden_fields(shipped) == shipped.spec.golden
    for one in shipped.spec.golden:
        assert len(one.boxes) == len(one.drawn)
        assert min(heat for *_, heat in one.boxes) >= shipped.spec.threshold + 2 * shipped.spec.kernel_tolerance
    replay_fields(LearnedLocator(shipped.file, plain=True), name="m", runtime="built-in kernels")


def test_the_tolerance_is_what_other_kernels_move(made_flatbuffers):
    """Ten at least: a network of one layer gives equal heats."""
    samples = np.random.default_rng(0).integers(0, 256, (3, *SIZE, 3), np.uint8)
    assert heat_tolerance(made_flatbuffers["int8"], samples) == 10
