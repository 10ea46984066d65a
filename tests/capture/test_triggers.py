"""Which frames are taken, and that a cell seen again under a moving or a still stage is not counted again."""

from __future__ import annotations

import os
import pty
import termios
import time
from datetime import datetime, timezone

import numpy as np
import pytest

from bloodcell_edge.capture import open_source
from bloodcell_edge.capture.overlap import Overlap, SmallCopy, find_shift, likeness
from bloodcell_edge.capture.triggers import EveryFrame, EverySeconds, FieldChange, KeyPress
from bloodcell_edge.errors import SourceError
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.records import Frame

NOW = datetime.now(timezone.utc)


def frame(image: np.ndarray, seconds: float = 0, number: int = 1) -> Frame:
    return Frame(np.ascontiguousarray(image), NOW, round(seconds * 1e9), number)


def noisy(image: np.ndarray, seed: int, level: float = 3) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, level, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


SMEAR = draw_field(3, ("NEUTROPHIL",) * 4, size=(480, 640), um_per_px=0.2).image
"""One smear; windows of it are fields."""


def window(x: int, y: int, seed: int, size: tuple[int, int] = (240, 320)) -> np.ndarray:
    return noisy(SMEAR[y : y + size[0], x : x + size[1]], seed)


def test_every_frame_is_every_frame():
    """All are taken."""
    with EveryFrame() as wanted:
        assert all(wanted(frame(SMEAR)) for _ in range(3))


def test_every_n_seconds_by_the_frames_own_clock():
    """At 10 frames a second every 0.5 s is every fifth; a gap is not made up for; the beat is kept."""
    wanted = EverySeconds(0.5)

    taken = [second / 10 for second in [*range(20), *range(62, 80)] if wanted(frame(SMEAR, second / 10))]

    assert taken == [0, 0.5, 1, 1.5, 6.2, 6.5, 7, 7.5]


def test_a_period_is_more_than_nothing():
    """0 and NaN seconds are refused."""
    for seconds in (0, -1, float("nan")):
        with pytest.raises(SourceError, match="expected more than 0"):
            EverySeconds(seconds)


def test_a_field_is_taken_once_when_it_has_come_to_rest():
    """Rest, move, rest, a nudge of 3 pixels, back to an earlier field: taken at the first, second and fourth rest."""
    path = [*[(0, 0)] * 6, (40, 0), (100, 0), (180, 0), *[(220, 0)] * 6, *[(223, 0)] * 4, (150, 0), *[(0, 0)] * 6]
    wanted = FieldChange()

    taken = [k for k, (x, y) in enumerate(path) if wanted(frame(window(x, y, k), k / 10))]

    assert [path[k] for k in taken] == [(0, 0), (220, 0), (0, 0)]
    assert taken[0] == 3  # 0.3 s after the first frame


@pytest.mark.parametrize("change", ["lamp", "noise", "colour"])
def test_a_stage_that_stays_is_one_field(change):
    """A lamp that drifts by a third, strong noise, a slow colour cast: still the same field."""
    wanted, taken = FieldChange(), 0
    for k in range(60):
        image = window(0, 0, k) * {"lamp": 1 - k / 180}.get(change, 1.0)
        if change == "colour":
            image = image * np.array([1, 1 - k / 200, 1])
        if change == "noise":
            image = noisy(image, k, 12)
        taken += wanted(frame(image.astype(np.uint8), k / 10))

    assert taken == 1


def test_empty_fields_are_one_field():
    """Where there is nothing to see but noise, one field is taken, and the next with cells."""
    wanted, taken = FieldChange(), []
    for k in range(20):
        image = window(0, 0, k) if k > 10 else noisy(np.full((240, 320, 3), 220), k)
        taken.append(wanted(frame(image, k / 10)))

    assert taken.count(True) == 2
    assert any(taken[:11])


def test_a_stage_that_never_rests_gives_no_field():
    """Moving on by 10 pixels a frame nothing is taken."""
    wanted = FieldChange()

    assert not any(wanted(frame(window(10 * k, 0, k), k / 10)) for k in range(30))


def test_a_key_press_takes_the_next_frame():
    """On a terminal: no key, no frame; a key, one; three keys at once, one; it is given back as it was."""
    ours, theirs = pty.openpty()
    with os.fdopen(theirs) as terminal:
        before = termios.tcgetattr(terminal)
        with KeyPress(terminal) as wanted:
            assert not wanted(frame(SMEAR))
            os.write(ours, b" ")
            time.sleep(0.05)
            assert wanted(frame(SMEAR))
            assert not wanted(frame(SMEAR))
            os.write(ours, b"abc")
            time.sleep(0.05)
            assert [wanted(frame(SMEAR)) for _ in range(3)] == [True, False, False]
        wanted.close()
        assert termios.tcgetattr(terminal) == before
        os.write(ours, b" ")
        time.sleep(0.05)
        assert not wanted(frame(SMEAR))
    os.close(ours)


def test_keys_need_a_terminal(tmp_path):
    """Standard input that is a file is refused with what to do."""
    with (tmp_path / "in").open("w+") as stream, pytest.raises(SourceError, match="is no terminal"):
        KeyPress(stream)


@pytest.mark.parametrize(("x", "y"), [(224, 0), (0, 168), (60, 40), (3, 2), (0, 0), (130, 90)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_shift_is_found(x, y, sign):
    """From 0 to 70 % of a side, either way, to within a small pixel, with noise and another lamp."""
    here, there = SmallCopy.of(window(0, 0, 1)), SmallCopy.of((window(x, y, 2) * 0.8).astype(np.uint8))
    first, second = (here, there) if sign == 1 else (there, here)
    shift = find_shift(first, second)

    assert shift is not None
    assert shift.right / here.scale == pytest.approx(sign * x, abs=1.5 / here.scale)
    assert shift.down / here.scale == pytest.approx(sign * y, abs=1.5 / here.scale)


def test_other_smears_have_nothing_in_common():
    """Of 300 pairs of drawn fields that show different places none is laid on the other."""
    copies = [SmallCopy.of(draw_field(seed, ("NEUTROPHIL",)).image) for seed in range(25)]

    assert [find_shift(a, b) for k, a in enumerate(copies) for b in copies[:k]] == [None] * 300
    assert likeness(copies[0], copies[0]) == pytest.approx(1)


@pytest.mark.shared
def test_shifts_are_found_on_real_photographs(shared):
    """Crops that share 30 % are laid right on 95 % or more of 40 photographs; of 200 pairs of others none is."""
    photos = [read_image(path) for path in sorted((shared / "data" / "photos").glob("*.jpg"))[:280:7]]
    right, copies = 0, []
    for number, photo in enumerate(photos):
        a, b = noisy(photo[100:382, :376], number), noisy(photo[100:382, 263:639], -number % 1000)
        shift = find_shift(SmallCopy.of(a), SmallCopy.of(b))
        right += shift is not None and abs(shift.right - 263 * 128 / 376) < 3 and abs(shift.down) < 3
        copies.append(SmallCopy.of(a))

    assert len(photos) == 40
    assert right >= 38
    # Neighbours may be two photographs of one cell: farther ones are laid on each other.
    assert (
        sum(find_shift(a, copies[(k + step) % 40]) is not None for k, a in enumerate(copies) for step in range(10, 15))
        == 0
    )


def scanned(url: str) -> tuple[int, int]:
    """Cells counted by field change and overlap, and how many truly lie in the fields."""
    with open_source(url) as source, FieldChange() as wanted:
        overlap, counted = Overlap(), 0
        for seen in source:
            if wanted(seen):
                boxes = [(cell.x, cell.y, cell.width, cell.height) for cell in source.truth(seen.number)]
                counted += len(overlap.new_cells(seen, boxes))
        return counted, source.true_cells()


def test_a_field_that_was_refused_is_taken_again_after_a_while():
    """At rest on a place that is refused each time: again after 1 s, then 2, then 4; a new place begins anew."""
    wanted, taken = FieldChange(), []
    for step in range(130):
        place = (0, 0) if step < 100 else (300, 200)
        if wanted(frame(window(*place, seed=step), step / 10)):
            taken.append(step / 10)
            wanted.refused()

    assert taken == [0.3, 1.3, 3.3, 7.3, 10.3, 11.3]


def test_a_field_that_was_not_refused_is_not_taken_again():
    """One that was refused, then used at its second look, is done with."""
    wanted, taken = FieldChange(), []
    for step in range(100):
        if wanted(frame(window(0, 0, seed=step), step / 10)):
            taken.append(step / 10)
            if len(taken) == 1:
                wanted.refused()

    assert taken == [0.3, 1.3]


def test_a_stage_that_moves_with_30_percent_overlap_counts_its_true_cells():
    """Three smears of 30 fields, 2 cells to a field's area: within 2 % of the cells that are there."""
    results = [
        scanned(f"fake:smear?stage=scan&columns=6&rows=5&cells=2&um_per_px=0.28&pace=0&seed={n}") for n in (1, 2, 3)
    ]
    counted, true = map(sum, zip(*results, strict=True))

    assert true >= 90
    assert abs(counted - true) <= 0.02 * true


def counted_once(url, every_s):
    """Fields that a still stage gives on change, cells counted in every so many seconds, and the cells there are."""
    with open_source(url) as source:
        on_change, every, overlap, counted, taken = FieldChange(), EverySeconds(every_s), Overlap(), 0, 0
        boxes = [(cell.x, cell.y, cell.width, cell.height) for cell in source.truth(1)]
        for seen in source:
            taken += on_change(seen)
            if every(seen):
                counted += len(overlap.new_cells(seen, boxes))
    assert repr(overlap) == "<Overlap: 1 fields>"
    return taken, counted, len(boxes)


def test_a_still_stage_adds_nothing():
    """An hour at one frame a second: one field is taken on change, and its cells are counted once."""
    url = "fake:smear?stage=still&fps=1&count=3600&pace=0&width=160&height=120&um_per_px=0.3"
    taken, counted, there = counted_once(url, 60)
    assert taken == 1
    assert counted == there > 0


@pytest.mark.soak
def test_a_still_stage_adds_nothing_at_ten_frames_a_second():
    """The same with all 36,000 frames of the hour looked at, every tenth laid on the fields before."""
    taken, counted, there = counted_once("fake:smear?stage=still&count=36000&pace=0&um_per_px=0.28", 1)
    assert taken == 1
    assert counted == there > 0


def test_going_back_to_an_earlier_field_adds_nothing():
    """Out over ten fields and back again, boxes moved by a pixel or two as detectors do."""
    source = open_source("fake:smear?stage=scan&columns=10&rows=1&cells=2&um_per_px=0.28&pace=0&rest=1")
    dice = np.random.default_rng(0)
    seen = list(source)
    overlap, counted = Overlap(), []
    for here in [*seen, *reversed(seen)]:
        boxes = [
            (c.x + int(dice.integers(-2, 3)), c.y + int(dice.integers(-2, 3)), c.width, c.height)
            for c in source.truth(here.number)
        ]
        counted.append(len(overlap.new_cells(here, boxes)))

    assert sum(counted[: len(seen)]) > 10
    assert sum(counted[len(seen) :]) == 0


def test_a_cell_cut_by_the_edge_is_the_same_cell():
    """Half of a cell counted at the edge of one field is known when the next shows it whole."""
    overlap = Overlap()

    assert overlap.new_cells(frame(window(0, 0, 1)), [(280, 100, 40, 80)]) == [(280, 100, 40, 80)]
    assert overlap.new_cells(frame(window(100, 0, 2)), [(180, 100, 80, 80), (20, 20, 60, 60)]) == [(20, 20, 60, 60)]


def test_the_same_place_in_another_field_is_another_cell():
    """Boxes at the same pixels of fields that have nothing in common are all new."""
    overlap = Overlap()
    for seed in range(5):
        assert len(overlap.new_cells(frame(draw_field(seed).image), [(100, 100, 80, 80)])) == 1


def test_memory_is_bounded():
    """Beyond its capacity the oldest fields are forgotten, and their cells count again."""
    overlap, fields = Overlap(capacity=3), [frame(draw_field(seed).image) for seed in range(5)]
    for field in fields:
        overlap.new_cells(field, [(100, 100, 80, 80)])

    assert repr(overlap) == "<Overlap: 3 fields>"
    assert overlap.new_cells(fields[4], [(100, 100, 80, 80)]) == []
    assert len(overlap.new_cells(fields[0], [(100, 100, 80, 80)])) == 1
