"""Raspberry Pi cameras: a real child process, in which stand_ins/picamera2.py takes the package's place.

No such camera was at hand. The stand-in is the documented part of picamera2; the sensor, libcamera and the system's
Python of a Raspberry Pi are not tested here.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bloodcell_edge.capture import open_source
from bloodcell_edge.errors import SourceError
from bloodcell_edge.records import Frame, Notice

STAND_INS = Path(__file__).parents[1] / "support" / "stand_ins"
URL = f"picamera:0?python={sys.executable}&width=100&height=80&fps=50&settle=0.2&max_age_ms=2000&open_timeout_ms=20000"


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
    monkeypatch.setenv("STAND_IN_STATE", str(tmp_path / "pids"))
    return tmp_path / "pids"


def take(url: str, count: int, notices: list[Notice] | None = None) -> list[Frame]:
    frames = []
    with open_source(url, notice=None if notices is None else notices.append, give_up_after_s=20) as source:
        for frame in source:
            frames.append(frame)
            if len(frames) == count:
                break
    return frames


def test_frames_are_rgb_and_bear_the_time_of_exposure():
    """Red is red though picamera2 names its formats the other way round, padding is gone, the time is the sensor's."""
    frames = take(URL, 3)

    red, green, blue = frames[0].image[40, 50].tolist()
    assert red > green > blue > 0
    assert frames[0].image.shape == (80, 100, 3)
    assert (frames[0].image[1:] == frames[0].image[40, 50]).all()
    assert abs(frames[-1].taken_at.timestamp() - time.time()) < 5
    assert frames[0].monotonic_ns < frames[1].monotonic_ns < time.monotonic_ns() - 10_000_000


def test_exposure_and_white_balance_are_held_after_settling():
    """The stand-in's automatics drift by 10 %; all frames that come have one and the same colour."""
    frames = take(URL, 20)

    assert len({frame.image[40, 50].tobytes() for frame in frames}) == 1
    assert frames[-1].monotonic_ns - frames[0].monotonic_ns > 0.3e9


def test_what_is_asked_for_is_not_found_by_the_automatics():
    """Exposure, gain and white balance of the URL are the camera's."""
    frame = take(f"{URL}&exposure_us=4000&gain=2&red_gain=0.9&blue_gain=1", 1)[0]

    assert np.abs(frame.image[40, 50].astype(int) - [50, 50, 25]).max() <= 1


def test_a_capture_that_hangs_is_replaced(state, monkeypatch):
    """capture_request that never returns, whatever its wait says: another process goes on, and it is told."""
    monkeypatch.setenv("STAND_IN_CAMERA", "hang")
    notices: list[Notice] = []
    frames = take(f"{URL}&settle=0&wait=0.1&read_timeout_ms=500".replace("settle=0.2&", ""), 20, notices)

    assert len(frames) == 20
    assert [notice.kind for notice in notices] == ["lost", "back"]
    assert "hangs and is replaced" in notices[0].text
    assert len(state.read_text().split()) == 2


@pytest.mark.parametrize(
    ("fault", "reason"), [("silent", "TimeoutError"), ("xrgb", "gives pixels as XRGB8888, expected BGR888")]
)
def test_a_camera_that_does_not_deliver_is_said(monkeypatch, fault, reason):
    """No frame within wait=, or pixels in another format: the reason is in the error."""
    monkeypatch.setenv("STAND_IN_CAMERA", fault)
    with open_source(f"{URL}&wait=0.1", give_up_after_s=0.3) as source, pytest.raises(SourceError, match=reason):
        list(source)


def test_a_camera_that_is_not_there_is_said():
    """Camera 1 of one: how many were found, and what to check."""
    url = URL.replace("picamera:0", "picamera:1")
    with open_source(url, give_up_after_s=0.1) as source, pytest.raises(SourceError, match="no such camera, 1 found"):
        list(source)


def test_a_python_without_picamera2_is_said(monkeypatch):
    """The import error of the other Python comes through, with what to install."""
    monkeypatch.delenv("PYTHONPATH")
    with (
        open_source(URL, give_up_after_s=0.1) as source,
        pytest.raises(
            SourceError, match=r"has no picamera2 \(No module named 'picamera2'\); apt install python3-picamera2"
        ),
    ):
        list(source)
