"""Raspberry Pi cameras by picamera2, which lives in the system's Python: a child of that takes the pictures.

`capture_request` can hang for ever after seconds or days, and apt's picamera2 wants another numpy than the one here;
a process of its own answers both. Exposure and white balance are left to the camera while it settles, then locked.

No camera was at hand: this is tested against a stand-in for the picamera2 module that keeps to its documented calls,
names its pixel formats the same way round, and pads its rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import SourceError
from .children import Replaceable
from .latest import LatestFrameOptions, LatestFrameSource
from .url import SourceUrl, option


@dataclass(frozen=True)
class PicameraOptions(LatestFrameOptions):
    """Settings of a Raspberry Pi camera; None lets it find the value while it settles, and holds that.

    Attributes:
        width, height: pixels.
        fps: frames a second.
        exposure_us: exposure time.
        gain: analogue gain.
        red_gain, blue_gain: white balance, both or neither.
        settle: seconds for exposure and white balance to find their values before they are locked.
        wait: seconds until a frame that does not come counts as a loss.
        open_timeout_ms: besides `settle`; the start of Python and the camera's own are part of it.
        python: the interpreter that has picamera2.
    """

    width: int = option(1280, least=64, most=10_000)
    height: int = option(960, least=64, most=10_000)
    fps: float = option(10.0, least=0.1, most=240)
    exposure_us: int | None = option(None, least=1, most=100_000_000)
    gain: float | None = option(None, least=1, most=64)
    red_gain: float | None = option(None, least=0, most=32)
    blue_gain: float | None = option(None, least=0, most=32)
    settle: float = option(2.0, least=0, most=60)
    wait: float = option(2.0, least=0.01, most=600)
    open_timeout_ms: float = option(15_000.0, least=10, most=600_000)
    python: str = option("/usr/bin/python3")


def from_url(url: SourceUrl, **callbacks: Any) -> LatestFrameSource:
    """The source of a ``picamera:`` URL; `callbacks` are `notice` and `idle` of `open_source`."""
    options = url.options(PicameraOptions)
    if not url.place.isdecimal():
        message = f"source {url.name!r}: expected picamera:NUMBER, found {url.place!r}"
        raise SourceError(message)
    if (options.red_gain is None) != (options.blue_gain is None):
        message = f"source {url.name!r}: expected red_gain and blue_gain together"
        raise SourceError(message)
    if not Path(options.python).is_file():
        message = f"source {url.name!r}: {options.python} is not there; give python=, an interpreter that has picamera2"
        raise SourceError(message)
    connections = Replaceable(
        url.name,
        [options.python],
        "picamera",
        {**asdict(options), "number": int(url.place), "settle_s": options.settle, "wait_s": options.wait},
        open_timeout_s=options.open_timeout_ms / 1000 + options.settle,
        # picamera2's own wait comes first; this is for the call that hangs all the same.
        read_timeout_s=max(options.read_timeout_ms / 1000, options.wait + 1),
    )
    return LatestFrameSource(url.name, connections, options, **callbacks)
