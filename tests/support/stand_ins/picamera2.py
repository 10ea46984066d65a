"""A stand-in for the picamera2 package: the calls that the capture process makes, as its manual and source have them.

Kept faithfully: format names are the other way round than the arrays; rows are padded to 64 bytes and `make_array`
takes the padding away; requests come from the camera's own clock, must be released, and only four exist; `wait` raises
TimeoutError; SensorTimestamp counts on CLOCK_BOOTTIME; exposure and white balance drift until they are locked.
What no stand-in can be faithful to is the sensor, the kernel, and the way the real calls hang.

The environment variable STAND_IN_CAMERA tells what goes wrong: none, hang (from frame 12 on, whatever `wait` says, the
first time), silent (no frame ever), xrgb (another format than asked for). STAND_IN_STATE names a file with a line
for each camera opened. The scene is red 200, green 100, blue 50.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

_FAULT = os.environ.get("STAND_IN_CAMERA", "")
_BUFFERS = 4


class CompletedRequest:
    def __init__(self, camera: Picamera2, number: int) -> None:
        self._camera = camera
        self._number = number
        self._stamp = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - 20_000_000  # exposed 20 ms ago
        self._held = True
        camera.held += 1

    def make_array(self, name: str) -> np.ndarray:
        config = self._camera.config[name]
        width, height = config["size"]
        rgb = np.empty((height, width, 3), np.uint8)
        rgb[:] = self._camera.scene()
        rgb[0, 0, 0] = self._number % 256
        ordered = rgb if config["format"] == "BGR888" else rgb[..., ::-1]
        stride = -(-width * 3 // 64) * 64
        padded = np.full((height, stride), 7, np.uint8)
        padded[:, : width * 3] = ordered.reshape(height, -1)
        return np.asarray(padded[:, : width * 3], order="C").reshape(height, width, 3)

    def get_metadata(self) -> dict[str, Any]:
        return {**self._camera.found(), "SensorTimestamp": self._stamp}

    def release(self) -> None:
        if not self._held:
            message = "released twice"
            raise RuntimeError(message)
        self._held = False
        self._camera.held -= 1


class Picamera2:
    @staticmethod
    def global_camera_info() -> list[dict[str, Any]]:
        return [{"Model": "imx477", "Num": 0}]

    def __init__(self, camera_num: int = 0) -> None:
        if camera_num >= len(self.global_camera_info()):
            raise IndexError
        state = Path(os.environ["STAND_IN_STATE"])
        self._openings = len(state.read_text().splitlines()) if state.exists() else 0
        with state.open("a") as stream:
            stream.write(f"{os.getpid()}\n")
        self.held = 0
        self._frames = 0
        self._started = 0.0
        self._controls: dict[str, Any] = {}

    def create_video_configuration(self, main: dict[str, Any], controls: dict[str, Any]) -> dict[str, Any]:
        return {"main": main, "controls": controls}

    def configure(self, config: dict[str, Any]) -> None:
        main = dict(config["main"])
        if _FAULT == "xrgb":
            main["format"] = "XRGB8888"
        self.config = {"main": main}
        self.set_controls(config["controls"])

    def camera_configuration(self) -> dict[str, Any]:
        return self.config

    def set_controls(self, controls: dict[str, Any]) -> None:
        known = {"AeEnable", "AwbEnable", "ExposureTime", "AnalogueGain", "ColourGains", "FrameDurationLimits"}
        if unknown := set(controls) - known:
            message = f"Control {unknown} is not advertised by libcamera"
            raise RuntimeError(message)
        self._controls.update(controls)

    def start(self) -> None:
        self._started = time.monotonic()

    def capture_request(self, wait: float) -> CompletedRequest:
        if self.held >= _BUFFERS:
            time.sleep(3600)  # no buffer is left for the camera to write to
        if _FAULT == "silent":
            time.sleep(wait)
            raise TimeoutError
        self._frames += 1
        if _FAULT == "hang" and self._frames >= 12 and self._openings == 0:
            time.sleep(3600)
        time.sleep(self._controls["FrameDurationLimits"][0] / 1e6)
        return CompletedRequest(self, self._frames)

    def found(self) -> dict[str, Any]:
        """Exposure and white balance as they are now; the automatics never come quite to rest."""
        drift = 1 + 0.1 * np.sin(7 * (time.monotonic() - self._started))
        automatic = {
            "ExposureTime": int(8000 * drift),
            "AnalogueGain": 2.0 * drift,
            "ColourGains": (1.8 * drift, 1.5),
        }
        ae_off, awb_off = self._controls.get("AeEnable") is False, self._controls.get("AwbEnable") is False
        for name, off in (("ExposureTime", ae_off), ("AnalogueGain", ae_off), ("ColourGains", awb_off)):
            if off or name in self._controls:
                automatic[name] = self._controls.get(name, automatic[name])
        return automatic

    def scene(self) -> tuple[int, int, int]:
        """Red, green, blue of what the camera sees, brighter with exposure and redder with its gain."""
        found = self.found()
        bright = found["ExposureTime"] / 8000 * found["AnalogueGain"] / 2
        return int(min(200 * bright * found["ColourGains"][0] / 1.8, 255)), int(100 * bright), int(50 * bright)
