"""The drawn camera: repeatable, with known truth, on a clock of its own."""

from __future__ import annotations

import time
from datetime import datetime, timezone

import numpy as np
import pytest

from bloodcell_edge.capture import open_source
from bloodcell_edge.errors import PictureError, SourceError
from bloodcell_edge.imaging.drawn import LABELS
from bloodcell_edge.records import Frame


def test_every_frame_is_another_field_with_as_many_cells_as_asked_for():
    """Fields differ, their truth lies in them, and number and size are as the URL says."""
    with open_source("fake:smear?cells=3&fps=0&seed=1&count=5&width=160&height=120&um_per_px=0.3") as source:
        frames = list(source)

    assert [frame.number for frame in frames] == [1, 2, 3, 4, 5]
    assert {frame.image.shape for frame in frames} == {(120, 160, 3)}
    assert len({frame.sha256 for frame in frames}) == 5
    for frame in frames:
        cells = source.truth(frame.number)
        assert len(cells) == 3
        assert {cell.label for cell in cells} <= set(LABELS)
        for cell in cells:
            inside = frame.image[cell.y : cell.y + cell.height, cell.x : cell.x + cell.width]
            assert inside[..., 1].min() < np.percentile(frame.image[..., 1], 50) - 30  # a nucleus is in it


def test_runs_without_a_pace_are_alike_to_the_last_digit():
    """Same seed: same pixels, same times, which begin at a fixed moment; another seed gives others."""

    def run(seed: int) -> list[tuple[str, datetime, int]]:
        with open_source(f"fake:smear?fps=0&count=3&width=64&height=48&seed={seed}") as source:
            return [(frame.sha256, frame.taken_at, frame.monotonic_ns) for frame in source]

    assert run(1) == run(1)
    assert run(1)[2][1:] == (datetime(2024, 1, 1, 0, 0, 0, 200_000, tzinfo=timezone.utc), 200_000_000)
    assert {frame[0] for frame in run(1)}.isdisjoint(frame[0] for frame in run(2))


def test_frames_come_at_their_pace():
    """Ten frames at 20 a second take half a second, and none is dropped however slow the reader is."""
    idle = []
    with open_source("fake:smear?fps=20&count=10&width=64&height=48", idle=lambda: idle.append(1)) as source:
        start = time.monotonic()
        frames = list(source)

    assert 0.45 <= time.monotonic() - start < 3
    assert [round((frame.monotonic_ns - frames[0].monotonic_ns) / 1e6) for frame in frames[:3]] == [0, 50, 100]
    assert idle


def test_a_scan_goes_over_the_whole_smear_and_rests_on_each_field():
    """Six fields, each for four frames that differ by noise alone, three frames between; then it ends."""
    with open_source("fake:smear?stage=scan&columns=3&rows=2&pace=0&um_per_px=0.28&cells=2") as source:
        frames = list(source)

        assert len(frames) == 6 * 4 + 5 * 3
        difference = np.abs(frames[0].image.astype(int) - frames[3].image)
        assert 0 < difference.max() <= 6
        assert source.live
        assert not source.endless
        assert source.world.image.shape == (240 + 168, 320 + 2 * 224, 3)
        assert source.true_cells() <= len(source.world.cells)


def test_a_still_stage_never_ends_by_itself():
    """It is live and endless, and its truth is the same in every frame."""
    with open_source("fake:smear?stage=still&pace=0") as source:
        assert source.live
        assert source.endless
        numbers = []
        for frame in source:
            numbers.append(frame.number)
            if frame.number == 5:
                source.stop()

        assert numbers == [1, 2, 3, 4, 5]
        assert source.truth(1) == source.truth(5) != ()


def test_without_a_stage_there_is_no_world():
    """Asking for it says what to give."""
    with pytest.raises(SourceError, match="there is no stage; expected stage=scan"):
        _ = open_source("fake:smear").world


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 3), np.uint8)[:, ::-1],
    ],
)
def test_a_frame_is_rgb_and_contiguous(image):
    """Grey, RGBA, float and flipped views are refused when a frame is made of them."""
    with pytest.raises(PictureError, match=r"expected uint8 RGB \(height, width, 3\)"):
        Frame(image, datetime.now(timezone.utc), 0, 1)


def test_a_frame_has_a_time_with_its_zone():
    """A naive time is refused."""
    with pytest.raises(PictureError, match="expected a time with its zone"):
        Frame(np.zeros((4, 4, 3), np.uint8), datetime(2024, 1, 1), 0, 1)


def test_frames_leave_nothing_behind():
    """2,000 frames after 500: what Python has allocated grows by less than 200 kB."""
    import tracemalloc

    with open_source("fake:smear?stage=still&pace=0&width=64&height=48&count=2500&um_per_px=0.5&cells=1") as source:
        tracemalloc.start()
        try:
            for frame in source:
                if frame.number == 500:
                    before = tracemalloc.get_traced_memory()[0]
            assert tracemalloc.get_traced_memory()[0] - before < 200_000
        finally:
            tracemalloc.stop()
