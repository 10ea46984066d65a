"""Capture classes that a capture process loads in place of OpenCV's: cameras that hang, crash or send half pictures.

They keep to what cv2.VideoCapture does under its V4L2 backend (OpenCV 4.11, cap_v4l.cpp): with CONVERT_RGB off a MJPG
camera gives each JPEG as one row of bytes; with it on, a cut JPEG is decoded into the memory of the frame before.
The state that must outlive a process is in the file named by the environment variable STAND_IN_STATE.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import cv2
import numpy as np

_MJPG = int.from_bytes(b"MJPG", "little")


def times_started() -> int:
    """How many processes have opened a camera of this module before this one, this one not counted."""
    state = Path(os.environ["STAND_IN_STATE"])
    count = len(state.read_text().splitlines()) if state.exists() else 0
    with state.open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    return count


class Camera:
    """A well-behaved one: frame n is red n, green 100, blue 200; 20 frames a second."""

    fourcc = 0

    def __init__(self, place: int | str, backend: int, parameters: list[int]) -> None:
        self.opened_with = place, backend, parameters
        self.starts = times_started()
        self.count = 0
        self.settings: dict[int, float] = {cv2.CAP_PROP_CONVERT_RGB: 1, cv2.CAP_PROP_FOURCC: self.fourcc}

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def set(self, prop: int, value: float) -> bool:
        if prop == cv2.CAP_PROP_GAIN:
            return False
        self.settings[prop] = min(value, 1280) if prop == cv2.CAP_PROP_FRAME_WIDTH else value
        return True

    def get(self, prop: int) -> float:
        return self.settings.get(prop, 0.0)

    def grab(self) -> bool:
        time.sleep(0.05)
        self.count += 1
        return True

    def bgr(self) -> np.ndarray:
        return np.full((48, 64, 3), (200, 100, self.count), np.uint8)

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return True, self.bgr()


class HangsAtFrame4(Camera):
    """Hangs for an hour at the fourth frame, the first two times it is opened."""

    def grab(self) -> bool:
        if self.count == 3 and self.starts < 2:
            time.sleep(3600)
        return super().grab()


class HangsAtOpen(Camera):
    """Hangs when it is opened for the first time."""

    def __init__(self, place: int | str, backend: int, parameters: list[int]) -> None:
        super().__init__(place, backend, parameters)
        if self.starts == 0:
            time.sleep(3600)


class Crashes(Camera):
    """The whole process dies at the fourth frame, the first time."""

    def grab(self) -> bool:
        if self.count == 3 and self.starts == 0:
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().grab()


class Absent(Camera):
    """No such device."""

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return False


class Fails(Camera):
    """Raises when it is made."""

    def __init__(self, place: int | str, backend: int, parameters: list[int]) -> None:
        message = f"no driver for {place}, {backend}, {parameters}"
        raise OSError(message)


class SendsHalves(Camera):
    """Every second JPEG is cut in half. Lower rows of frame n are n, so that remains of the frame before show."""

    fourcc = _MJPG

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        image = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
        image[24:] = 10 * self.count
        data = cv2.imencode(".jpg", image)[1].tobytes()
        if self.count % 2:
            data = data[: len(data) // 2]
        if not self.settings[cv2.CAP_PROP_CONVERT_RGB]:
            return True, np.frombuffer(data, np.uint8)[None]
        return True, image if self.count % 2 == 0 else np.concatenate([image[:24], image[24:] - 10])


class Grey(Camera):
    """A camera without colour."""

    def retrieve(self) -> tuple[bool, np.ndarray | None]:
        return True, np.full((48, 64), 77, np.uint8)
