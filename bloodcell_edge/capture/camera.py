"""Local cameras, RTSP streams and recordings, by OpenCV in a process of their own.

A capture call can hang for ever in a driver, and a decoder can crash: neither takes the program with it. From cameras
that send JPEGs we take the JPEGs, and refuse those that are not whole; what an RTSP stream loses, its decoder hides.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import MissingFile, SourceError
from ..records import Frame
from .base import BaseSource
from .children import ChildConnection, Ended, Replaceable
from .latest import LatestFrameOptions, LatestFrameSource, Shot
from .url import SourceUrl, option

_START_TIMEOUT_MS = 10_000.0  # Python and OpenCV take seconds to load on a small machine, some cameras more to open
_MICROSECOND = timedelta(microseconds=1)
_QUIET = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}


@dataclass(frozen=True)
class CameraOptions(LatestFrameOptions):
    """Settings of a local camera; None leaves the camera's own.

    Attributes:
        width, height: pixels; a camera takes both or neither.
        fps: frames a second.
        fourcc: how it sends them, such as MJPG or YUYV.
        exposure_us: fixed exposure time; V4L2 counts in steps of 100 µs.
        white_balance_k: fixed colour temperature, kelvin.
        gain: in the camera's own units.
        open_timeout_ms: the start of the capture process is part of it.
    """

    width: int | None = option(None, least=16, most=20_000)
    height: int | None = option(None, least=16, most=20_000)
    fps: float | None = option(None, least=0.1, most=1000)
    fourcc: str | None = option(None)
    exposure_us: int | None = option(None, least=100, most=10_000_000)
    white_balance_k: int | None = option(None, least=1000, most=20_000)
    gain: float | None = option(None, least=0, most=100_000)
    open_timeout_ms: float = option(_START_TIMEOUT_MS, least=10, most=600_000)


@dataclass(frozen=True)
class RtspOptions(LatestFrameOptions):
    """Settings of an RTSP stream.

    Attributes:
        transport: tcp is the default, since a packet lost by udp smears the picture.
    """

    transport: str = option("tcp", among=("tcp", "udp"))


@dataclass(frozen=True)
class VideoOptions:
    """Settings of a recording.

    Attributes:
        read_timeout_ms: until a decoder that says nothing is given up.
    """

    read_timeout_ms: float = option(10_000.0, least=10, most=600_000)


def from_url(url: SourceUrl, **callbacks: Any) -> BaseSource:
    """The source of a camera, RTSP or video URL; `callbacks` are `notice` and `idle` of `open_source`."""
    if url.scheme == "video":
        return VideoSource(url.name, Path(url.place), url.options(VideoOptions), **callbacks)
    if url.scheme == "rtsp":
        stream = url.options(RtspOptions)
        return LatestFrameSource(url.name, rtsp_connections(url.name, url.place, stream), stream, **callbacks)
    device = int(url.place) if url.place.isdecimal() else url.place
    if isinstance(device, str) and not device.startswith("/dev/"):
        message = f"source {url.name!r}: expected camera:NUMBER or camera:/dev/videoN, found {url.place!r}"
        raise SourceError(message)
    options = url.options(CameraOptions)
    if (options.width is None) != (options.height is None) or len(options.fourcc or "MJPG") != 4:
        message = f"source {url.name!r}: expected width and height together, and a fourcc of four letters"
        raise SourceError(message)
    return LatestFrameSource(url.name, device_connections(url.name, device, options), options, **callbacks)


def device_connections(
    name: str, device: int | str, options: CameraOptions, *, capture: str = "cv2:VideoCapture"
) -> Replaceable:
    """What opens a local camera.

    Args:
        name: the URL, for messages.
        device: its number or path.
        options: settings.
        capture: "module:class" to be imported in the capture process in place of OpenCV's.
    """
    settings: dict[str, Any] = {
        "capture": capture,
        "place": device,
        "backend": "CAP_V4L2",
        "parameters": [],
        "recording": False,
    }
    return _opencv(name, {**settings, "wishes": _wishes(options)}, options)


def rtsp_connections(name: str, url: str, options: RtspOptions) -> Replaceable:
    """What opens an RTSP stream; OpenCV's own timeouts are set as well."""
    parameters = [
        ["CAP_PROP_OPEN_TIMEOUT_MSEC", int(options.open_timeout_ms)],
        ["CAP_PROP_READ_TIMEOUT_MSEC", int(options.read_timeout_ms)],
    ]
    settings: dict[str, Any] = {
        "capture": "cv2:VideoCapture",
        "place": url,
        "backend": "CAP_FFMPEG",
        "parameters": parameters,
    }
    environment = {"OPENCV_FFMPEG_CAPTURE_OPTIONS": f"rtsp_transport;{options.transport}"}
    return _opencv(name, {**settings, "wishes": [], "recording": False}, options, environment)


def _opencv(
    name: str, settings: dict[str, Any], options: LatestFrameOptions, environment: dict[str, str] | None = None
) -> Replaceable:
    slack_ms = _START_TIMEOUT_MS if settings["backend"] == "CAP_FFMPEG" else 0  # OpenCV's timeout comes first there
    return Replaceable(
        name,
        [sys.executable],
        "opencv",
        settings,
        open_timeout_s=(options.open_timeout_ms + slack_ms) / 1000,
        read_timeout_s=options.read_timeout_ms / 1000,
        environment={**_QUIET, **(environment or {})},
    )


def _wishes(options: CameraOptions) -> list[tuple[str, float]]:
    """OpenCV properties in the order drivers want them: the format before the size, automatics off before values."""
    wishes: list[tuple[str, float | None]] = [
        ("CAP_PROP_FOURCC", None if options.fourcc is None else int.from_bytes(options.fourcc.encode(), "little")),
        ("CAP_PROP_FRAME_WIDTH", options.width),
        ("CAP_PROP_FRAME_HEIGHT", options.height),
        ("CAP_PROP_FPS", options.fps),
        ("CAP_PROP_AUTO_EXPOSURE", None if options.exposure_us is None else 1),  # V4L2_EXPOSURE_MANUAL
        ("CAP_PROP_EXPOSURE", None if options.exposure_us is None else options.exposure_us / 100),
        ("CAP_PROP_AUTO_WB", None if options.white_balance_k is None else 0),
        ("CAP_PROP_WB_TEMPERATURE", options.white_balance_k),
        ("CAP_PROP_GAIN", options.gain),
    ]
    return [(prop, value) for prop, value in wishes if value is not None]


class VideoSource(BaseSource):
    """A recording: every frame, in order, none dropped, but the last one of a file that was cut short.

    Its clock is the video's: frames are as far apart in `monotonic_ns` and `taken_at` as they were when recorded, and
    the last one was taken when the file was written, so that "every N seconds" and "came to rest" mean the same as
    under the microscope, however fast the frames are read.

    Raises:
        MissingFile: there is no such file.
    """

    live = True

    def __init__(self, name: str, path: Path, options: VideoOptions, **callbacks: Any) -> None:
        super().__init__(name, **callbacks)
        if not path.is_file():
            message = f"{name}: no such file"
            raise MissingFile(message)
        self._path = path
        self._timeout_s = options.read_timeout_ms / 1000
        self._connection: ChildConnection | None = None

    def _frames(self) -> Iterator[Frame]:
        connection = self._connection = self._open()
        start_ns = time.monotonic_ns()
        written = datetime.fromtimestamp(self._path.stat().st_mtime, timezone.utc)
        began = written - timedelta(milliseconds=connection.length_ms)
        before: Callable[[], Frame] | None = None
        try:
            while not self._stopped.is_set():
                shot = connection.shoot()
                if before is not None:
                    yield before()
                self._dropped += shot.skipped
                since = timedelta(milliseconds=connection.position_ms or 0.0)
                before = partial(self._frame, shot, began + since, start_ns + since // _MICROSECOND * 1000)
        except Ended as end:
            read = self._frames_given + self._dropped + (before is not None)
            if before is not None and read >= end.expected:
                yield before()
            else:  # its decoder fills what is missing of the last one from the frame before it
                self._note("ended", f"{self.name}: ends early, after {read} of {end.expected} frames", self._path)

    def _frame(self, shot: Shot, taken_at: datetime, taken_ns: int) -> Frame:
        return Frame(shot.image, taken_at, taken_ns, self._next_number(), self._path, dropped=self._dropped)

    def _open(self) -> ChildConnection:
        settings = {
            "capture": "cv2:VideoCapture",
            "place": str(self._path),
            "backend": "CAP_ANY",
            "parameters": [],
            "wishes": [],
            "recording": True,
        }
        return ChildConnection(
            self.name,
            [sys.executable],
            "opencv",
            settings,
            open_timeout_s=max(self._timeout_s, _START_TIMEOUT_MS / 1000),
            read_timeout_s=self._timeout_s,
            environment=_QUIET,
        )

    def _release(self) -> None:
        if self._connection is not None:
            self._connection.close()
