"""A process of its own for capture calls that may hang or crash: it can be killed and replaced, the program goes on.

Started by `children.ChildConnection` as a script, so that it also runs under a Python that knows nothing of this
package (picamera2 lives in the system's): nothing but the standard library at the top, and Python 3.9 will do.

    python child.py KIND SOCKET MEMORY

SOCKET and MEMORY are inherited file descriptors: a message socket, and memory that both processes see. The first
message is the parent's and has the settings (a password in them must not show in a list of processes). The child says
``{"open": notes}``, then ``{"size", "shape", "monotonic_ns", "utc_ns"}`` for each frame it has put into the memory
(where shape is null, the bytes are a JPEG's), and waits until the parent answers that it has taken it. One that could
not be had is ``{"skip": true}``; ``{"error": text}`` or ``{"end": true}`` is its last word. It ends when the parent
does, also when a capture call hangs just then.
"""

from __future__ import annotations

import importlib
import json
import mmap
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

_MJPG = int.from_bytes(b"MJPG", "little")


class Line:
    """The child's end of the line to its parent."""

    def __init__(self, socket_fd: int, memory_fd: int) -> None:
        self._socket = socket.socket(fileno=socket_fd)
        self._memory_fd = memory_fd
        self._memory: Any = None
        self._taken = threading.Semaphore(0)
        self.settings: dict[str, Any] = json.loads(self._socket.recv(65_536))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        """Pass on that a frame was taken; end the process when the parent is gone, whatever the main thread does."""
        try:
            while self._socket.recv(1):
                self._taken.release()
        finally:
            os._exit(0)

    def say(self, **message: Any) -> None:
        """Send one message, cut to what a message can hold."""
        if "error" in message:
            message["error"] = message["error"][:2000]
        self._socket.send(json.dumps(message).encode())

    def hand_over(self, frame: Any, monotonic_ns: int, **more: Any) -> None:
        """Give the parent one frame and wait until it has it.

        Args:
            frame: uint8 RGB, shape (height, width, 3), C-contiguous; or the bytes of a JPEG.
            monotonic_ns: when it was taken, on the clock that both processes share.
            more: further entries of the message.
        """
        data = memoryview(frame).cast("B")
        if self._memory is None or len(self._memory) < len(data):
            os.ftruncate(self._memory_fd, len(data))
            self._memory = mmap.mmap(self._memory_fd, len(data))
        self._memory[: len(data)] = data
        utc_ns = time.time_ns() - (time.monotonic_ns() - monotonic_ns)
        shape = getattr(frame, "shape", None)
        self.say(size=len(data), shape=shape, monotonic_ns=monotonic_ns, utc_ns=utc_ns, **more)
        self._taken.acquire()


def opencv(line: Line, settings: dict[str, Any]) -> None:
    """Frames of an OpenCV capture until it has no more.

    A camera that sends MJPG is asked for the JPEGs themselves: OpenCV's V4L2 code decodes into the memory of the frame
    before, so that a JPEG cut short comes back as a good frame with the old one's lower half.

    Settings: `capture` ("module:class", cv2:VideoCapture but in tests), `place` (number, path or URL), `backend` (a
    name such as CAP_V4L2), `parameters` (a list of [property name, value] for opening), `wishes` (the same, set after
    it), `recording` (a file: its end is an end, not a loss).
    """
    cv2 = importlib.import_module("cv2")
    module, _, name = settings["capture"].partition(":")
    parameters = [int(n) for prop, value in settings["parameters"] for n in (getattr(cv2, prop), value)]
    capture = getattr(importlib.import_module(module), name)(
        settings["place"], getattr(cv2, settings["backend"]), parameters
    )
    if not capture.isOpened():
        line.say(error="cannot be opened")
        return
    notes = [note for prop, value in settings["wishes"] if (note := _wish(cv2, capture, prop, value))]
    line.say(open=notes, length_ms=_length_ms(cv2, capture) if settings["recording"] else 0.0)
    if not settings["recording"] and capture.get(cv2.CAP_PROP_FOURCC) == _MJPG:
        capture.set(cv2.CAP_PROP_CONVERT_RGB, 0)
    while capture.grab():
        taken_ns = time.monotonic_ns()
        position_ms = capture.get(cv2.CAP_PROP_POS_MSEC) if settings["recording"] else None
        whole, image = capture.retrieve()
        if not whole or image is None:
            line.say(skip=True)
        else:
            line.hand_over(_rgb_or_jpeg(cv2, image), taken_ns, position_ms=position_ms)
    if settings["recording"]:
        line.say(end=True, expected=capture.get(cv2.CAP_PROP_FRAME_COUNT))
    else:
        line.say(error="gives no more frames")


def _length_ms(cv2: Any, capture: Any) -> float:
    """From the first frame of a recording to its last, milliseconds; 0 where its file does not say."""
    frames, fps = capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)
    return (frames - 1) / fps * 1000 if 1 <= frames < 1e9 and 0.01 <= fps < 1e6 else 0.0


def _rgb_or_jpeg(cv2: Any, image: Any) -> Any:
    """RGB of OpenCV's BGR or grey; a JPEG's bytes, which OpenCV gives as one row, as they are."""
    if 1 in image.shape[:2]:
        return image.tobytes()
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)


def _wish(cv2: Any, capture: Any, prop: str, value: float) -> str:
    """Set a property of a camera; what it does instead, in words, or nothing."""
    name = prop.replace("CAP_PROP_", "").replace("_", " ").lower()
    if not capture.set(getattr(cv2, prop), value):
        return f"{name} cannot be set"
    now = capture.get(getattr(cv2, prop))
    return "" if abs(now - value) < 0.5 else f"{name} {value:g} was asked for, the camera does {now:g}"


def picamera(line: Line, settings: dict[str, Any]) -> None:
    """Frames of a Raspberry Pi camera by picamera2.

    Settings: `number`, `width`, `height`, `fps`, `exposure_us`, `gain`, `red_gain`, `blue_gain` (None: as the camera
    finds it within `settle_s`, then locked), `wait_s` for one frame.
    """
    try:
        picamera2 = importlib.import_module("picamera2")
    except ImportError as error:
        line.say(error=f"{sys.executable} has no picamera2 ({error}); apt install python3-picamera2, or give python=")
        return
    cameras = len(picamera2.Picamera2.global_camera_info())
    if settings["number"] >= cameras:
        line.say(error=f"there is no such camera, {cameras} found; check the cable and `rpicam-hello --list-cameras`")
        return
    camera = picamera2.Picamera2(settings["number"])
    # picamera2 names formats as the kernel's DRM does, by the bytes from last to first: "BGR888" gives arrays in the
    # order red, green, blue, and "RGB888" the other way round.
    main = {"size": (settings["width"], settings["height"]), "format": "BGR888"}
    frame_us = round(1e6 / settings["fps"])
    camera.configure(
        camera.create_video_configuration(main=main, controls={"FrameDurationLimits": (frame_us, frame_us)})
    )
    found = camera.camera_configuration()["main"]["format"]
    if found != "BGR888":
        line.say(error=f"gives pixels as {found}, expected BGR888")
        return
    wanted = _picamera_controls(settings)
    camera.set_controls(wanted)
    camera.start()
    _settle(camera, settings, wanted)
    line.say(open=[])
    while True:
        request = camera.capture_request(wait=settings["wait_s"])
        try:
            image, metadata = request.make_array("main"), request.get_metadata()
        finally:
            request.release()
        line.hand_over(image, _exposed_ns(metadata), position_ms=None)


def _picamera_controls(settings: dict[str, Any]) -> dict[str, Any]:
    """What was asked for; naming a value takes it from the automatics."""
    controls: dict[str, Any] = {}
    if settings["exposure_us"] is not None:
        controls["ExposureTime"] = settings["exposure_us"]
    if settings["gain"] is not None:
        controls["AnalogueGain"] = settings["gain"]
    if settings["red_gain"] is not None:
        controls["ColourGains"] = (settings["red_gain"], settings["blue_gain"])
    return controls


def _settle(camera: Any, settings: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Let exposure and white balance find their values, then hold them: a stain must not change colour by field."""
    end = time.monotonic() + settings["settle_s"]
    while True:
        request = camera.capture_request(wait=settings["wait_s"])
        metadata = request.get_metadata()
        request.release()
        if time.monotonic() >= end:
            break
    held = {name: metadata[name] for name in ("ExposureTime", "AnalogueGain", "ColourGains")}
    camera.set_controls({"AeEnable": False, "AwbEnable": False, **held, **wanted})


def _exposed_ns(metadata: dict[str, Any]) -> int:
    """When the sensor began to expose, on `time.monotonic_ns`; now, where the camera's stamp makes no sense.

    libcamera stamps by CLOCK_BOOTTIME, which also counts the time asleep.
    """
    now_ns = time.monotonic_ns()
    age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - metadata.get("SensorTimestamp", 0)
    return now_ns - age_ns if 0 <= age_ns < 60e9 else now_ns


def main(kind: str, socket_fd: str, memory_fd: str) -> None:
    """Capture until the end; whatever goes wrong is said to the parent."""
    line = Line(int(socket_fd), int(memory_fd))
    try:
        {"opencv": opencv, "picamera": picamera}[kind](line, line.settings)
    except BaseException as error:  # noqa: BLE001 - it is the parent's business, and this process ends here
        line.say(error=f"{type(error).__name__}: {error}")
    os._exit(0)  # a driver's clean-up may hang as well


if __name__ == "__main__":
    here = str(Path(__file__).parent)
    sys.path[:] = [place for place in sys.path if place != here]  # its modules are not for import by their bare names
    main(*sys.argv[1:])
