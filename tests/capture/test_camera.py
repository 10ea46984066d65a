"""Local cameras and recordings: capture processes that hang, crash or lie, and are replaced.

No camera is at hand: the processes are real, the capture class in them is one of stand_ins/captures.py. Recordings and
a camera that is not there are OpenCV's own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from bloodcell_edge.capture import open_source
from bloodcell_edge.capture.camera import CameraOptions, RtspOptions, device_connections, rtsp_connections
from bloodcell_edge.capture.children import Replaceable
from bloodcell_edge.capture.latest import LatestFrameSource
from bloodcell_edge.errors import SourceError
from bloodcell_edge.records import Frame, Notice

STAND_INS = Path(__file__).parents[1] / "support" / "stand_ins"


@pytest.fixture
def state(tmp_path, monkeypatch) -> Path:
    """Where the stand-ins write the number of each process that opens a camera."""
    monkeypatch.setenv("PYTHONPATH", str(STAND_INS))
    monkeypatch.setenv("STAND_IN_STATE", str(tmp_path / "pids"))
    return tmp_path / "pids"


def camera(capture: str, notices: list[Notice] | None = None, **options) -> LatestFrameSource:
    """A camera whose process loads that class. Processes start slowly on a busy machine: 20 s to open."""
    options = CameraOptions(**{"open_timeout_ms": 20_000, "read_timeout_ms": 1000, "max_age_ms": 2000} | options)
    connections = device_connections("camera:0", 0, options, capture=f"captures:{capture}")
    return LatestFrameSource("camera:0", connections, options, notice=None if notices is None else notices.append)


def take(source: LatestFrameSource, count: int) -> list[Frame]:
    """That many frames; bounded in time by the camera's give_up_after or the test's own timeout."""
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == count:
            break
    return frames


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0]
    except FileNotFoundError:
        return False


def test_frames_cross_the_process_as_rgb(state):
    """BGR of the capture comes out as RGB, with the time it was grabbed."""
    with camera("Camera") as source:
        frames = take(source, 3)

    assert frames[0].image.shape == (48, 64, 3)
    assert frames[0].image[0, 0, 1:].tolist() == [100, 200]
    reds = [int(frame.image[0, 0, 0]) for frame in frames]
    assert reds == sorted(set(reds))
    assert frames[0].monotonic_ns < frames[1].monotonic_ns < time.monotonic_ns()
    assert abs(frames[0].taken_at.timestamp() - time.time()) < 5


@pytest.mark.parametrize(
    ("capture", "starts", "reason"),
    [("HangsAtFrame4", 3, "gave no frame"), ("HangsAtOpen", 2, "could not be opened"), ("Crashes", 2, "signal 11")],
)
def test_a_process_that_hangs_or_crashes_is_replaced(state, capture, starts, reason):
    """The program goes on with the next process; the loss and the return are told; the old process is gone."""
    notices: list[Notice] = []
    patience = {"open_timeout_ms": 4000} if capture == "HangsAtOpen" else {}
    with camera(capture, notices, **patience) as source:
        frames = take(source, 12)
    pids = [int(line) for line in state.read_text().split()]

    assert len(frames) == 12
    assert len(pids) == starts
    assert not any(alive(pid) for pid in pids)
    assert reason in next(notice.text for notice in notices if notice.kind == "lost")
    losses = [notice.kind for notice in notices]
    assert losses == ["lost", "back"] * (len(losses) // 2)


def test_a_cut_jpeg_is_no_frame(state):
    """Of a camera that cuts every second JPEG only whole ones come, none with remains of the frame before."""
    with camera("SendsHalves") as source:
        frames = take(source, 4)

    for frame in frames:
        level = int(frame.image[40, 32, 0])
        assert level / 20 == pytest.approx(round(level / 20), abs=0.2)  # even frames alone
    assert frames[-1].dropped >= 3


def test_grey_becomes_rgb(state):
    """A camera without colour gives three equal channels."""
    with camera("Grey") as source:
        assert (take(source, 1)[0].image == 77).all()


def test_a_setting_the_camera_does_not_take_is_told(state):
    """What is asked for and not done is a notice; what is done is none."""
    notices: list[Notice] = []
    with camera("Camera", notices, width=1920, height=1080, exposure_us=5000, gain=2.0) as source:
        take(source, 1)

    assert [notice.text for notice in notices if notice.kind == "setting"] == [
        "camera:0: frame width 1920 was asked for, the camera does 1280",
        "camera:0: gain cannot be set",
    ]


@pytest.mark.parametrize(
    ("capture", "reason"),
    [("Absent", "cannot be opened"), ("Fails", "OSError: no driver for 0"), ("Missing", "Missing")],
)
def test_a_camera_that_cannot_be_opened_is_tried_until_patience_ends(state, capture, reason):
    """The error after give_up_after names what the process said last."""
    with camera(capture, give_up_after=0.5) as source, pytest.raises(SourceError, match=reason):
        take(source, 1)


def test_opencv_itself_says_that_there_is_no_camera():
    """camera:99 by OpenCV's V4L2: not opened, and given up after the time that was given."""
    with (
        open_source("camera:99", give_up_after_s=0.3) as source,
        pytest.raises(SourceError, match=r"camera:99: no frame .*cannot be opened"),
    ):
        list(source)


def test_an_rtsp_address_where_nobody_listens():
    """OpenCV's FFMPEG, in its process, says so."""
    connect = rtsp_connections("rtsp://127.0.0.1:9/x", "rtsp://127.0.0.1:9/x", RtspOptions())

    with pytest.raises(SourceError, match="cannot be opened"):
        connect()


def test_a_password_is_not_in_the_list_of_processes(state):
    """What is to be opened goes to the process by its socket, not by its command line."""
    connection = device_connections("a", "/dev/secret", CameraOptions(), capture="captures:Camera")()
    try:
        command = Path(f"/proc/{connection.process.pid}/cmdline").read_text()
    finally:
        connection.close()

    assert "child.py" in command
    assert "secret" not in command


def test_the_child_ends_with_its_parent(state, tmp_path):
    """A parent killed by SIGKILL leaves no capture process behind, though its capture call hangs."""
    script = tmp_path / "parent.py"
    script.write_text(
        "from bloodcell_edge.capture.camera import *\n"
        "options = CameraOptions(open_timeout_ms=60000, read_timeout_ms=60000)\n"
        "connection = device_connections('c', 0, options, capture='captures:HangsAtFrame4')()\n"
        "[connection.shoot() for _ in range(3)]\n"
        "print('hangs', flush=True)\n"
        "connection.shoot()\n"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(STAND_INS), str(root)])}
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"hangs\n"
        child = int(state.read_text())
        assert alive(child)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert not alive(child)


def test_a_process_that_cannot_be_ended_is_not_joined_by_more(state):
    """While the process before still lives, as in a driver's grip, no further one is started."""
    options = CameraOptions(open_timeout_ms=20_000, read_timeout_ms=1000)
    connect = device_connections("camera:0", 0, options, capture="captures:Camera")
    first = connect()
    try:
        with pytest.raises(SourceError, match=rf"process {first.process.pid} cannot be ended"):
            connect()
    finally:
        first.close()
    connect().close()
    assert len(state.read_text().split()) == 2


def test_a_process_that_never_opened_and_cannot_be_ended_is_not_joined_by_more(monkeypatch):
    """The same where the driver's grip came before the camera was open."""
    silent = ["/bin/sh", "-c", "exec sleep 60"]
    connect = Replaceable("camera:0", silent, "opencv", {}, open_timeout_s=0.3, read_timeout_s=1)
    started: list[subprocess.Popen[bytes]] = []
    with monkeypatch.context() as patch:  # as in the kernel, where no signal reaches it
        patch.setattr(subprocess.Popen, "kill", lambda process: started.append(process))
        with pytest.raises(SourceError, match="could not be opened"):
            connect()
        with pytest.raises(SourceError, match=rf"process {started[0].pid} cannot be ended"):
            connect()
    started[0].kill()
    started[0].wait(5)


def test_nothing_leaks_when_processes_are_replaced(state):
    """Five processes started and closed leave no more open files than before."""
    options = CameraOptions(open_timeout_ms=20_000)
    connect = device_connections("camera:0", 0, options, capture="captures:Absent")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(SourceError):
            connect()

    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.fixture
def video(tmp_path) -> Path:
    """Ten frames at 5 a second; frame n has the level 20 n."""
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (64, 48))
    for number in range(10):
        writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    writer.release()
    return path


def test_a_video_gives_every_frame_on_its_own_clock_and_ends(video):
    """Ten frames, none dropped, 0.2 s apart however fast they are read; then the iteration ends."""
    with open_source(f"video:{video}") as source:
        frames = list(source)

    assert [round(frame.image.mean() / 20) for frame in frames] == list(range(10))
    assert [(b.monotonic_ns - a.monotonic_ns) / 1e9 for a, b in pairwise(frames)] == pytest.approx([0.2] * 9)
    assert frames[1].taken_at > frames[0].taken_at
    assert frames[-1].taken_at.timestamp() == pytest.approx(video.stat().st_mtime, abs=1e-3)
    assert frames[-1].dropped == 0
    assert frames[0].path == video


def test_a_video_cut_short_ends_with_a_notice(video):
    """Of a recording whose rest is missing the frames that are there come, and how many are missing is told."""
    dice = np.random.default_rng(0)
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 5, (320, 240))
    for _ in range(10):
        writer.write(dice.integers(0, 255, (240, 320, 3), np.uint8))
    writer.release()
    data = video.read_bytes()
    video.write_bytes(data[: len(data) * 6 // 10])
    notices: list[Notice] = []
    with open_source(f"video:{video}", notice=notices.append) as source:
        frames = list(source)

    assert 5 <= len(frames) <= 6
    assert [notice.text for notice in notices] == [f"video:{video}: ends early, after {len(frames) + 1} of 10 frames"]
    assert all(frame.image[-8:].std() > 20 for frame in frames)  # the last one is whole


def test_what_is_no_video_is_an_error(tmp_path):
    """A text file named .avi cannot be opened, and the error names it."""
    (tmp_path / "a.avi").write_text("no video")

    with (
        open_source(f"video:{tmp_path}/a.avi") as source,
        pytest.raises(SourceError, match=r"a\.avi: cannot be opened"),
    ):
        list(source)
