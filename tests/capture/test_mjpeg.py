"""MJPEG over HTTP against a real server on loopback that stalls, drops, restarts, lies and sends garbage."""

from __future__ import annotations

import base64
import gc
import re
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mjpeg_server import MjpegServer, draw_moment, jpeg, part, read_moment

from bloodcell_edge.capture import latest, open_source
from bloodcell_edge.capture.base import BaseSource
from bloodcell_edge.capture.mjpeg import Parts
from bloodcell_edge.errors import SourceError
from bloodcell_edge.records import Frame, Notice

MAX_AGE_MS = 500
SLACK_MS = 200  # between the age check and a test that looks at the clock, on a busy machine


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    with MjpegServer() as running:
        yield running


class Watcher:
    """Takes frames on a thread of its own and measures how old each really is when it is handed out."""

    def __init__(self, url: str, **options) -> None:
        self.notices: list[Notice] = []
        self.frames: deque[Frame] = deque(maxlen=1)
        self.ages_ms: list[float] = []
        self.moments: list[int] = []
        self.shapes: list[tuple[int, ...]] = []
        self.error: BaseException | None = None
        self.pause_s = 0.0
        self.source: BaseSource = open_source(url, notice=self.notices.append, **options)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            for frame in self.source:
                now_ns = time.monotonic_ns()
                self.ages_ms.append((now_ns - read_moment(frame.image)) / 1e6)
                self.shapes.append(frame.image.shape)
                self.frames.append(frame)
                self.moments.append(read_moment(frame.image))
                time.sleep(self.pause_s)
        except Exception as error:  # noqa: BLE001 - for the thread of the test
            self.error = error

    def take(self, count: int = 1, *, within_s: float = 8.0) -> Frame:
        """The last of `count` more frames."""
        goal, deadline = len(self.moments) + count, time.monotonic() + within_s
        while len(self.moments) < goal:
            assert time.monotonic() < deadline, f"{goal - len(self.moments)} frames missing, {self.notices}"
            assert self.error is None, self.error
            time.sleep(0.005)
        return self.frames[-1]

    def fail(self, *, within_s: float = 8.0) -> str:
        """The message of the SourceError that the iteration ends with."""
        self.thread.join(within_s)
        assert isinstance(self.error, SourceError)
        return str(self.error)

    def seen(self, kind: str) -> list[str]:
        return [notice.text for notice in self.notices if notice.kind == kind]


@pytest.fixture
def watch() -> Iterator[Callable[..., Watcher]]:
    made: list[Watcher] = []

    def make(url: str, **options) -> Watcher:
        made.append(Watcher(url, **options))
        return made[-1]

    yield make
    for watcher in made:
        watcher.source.close()
        watcher.thread.join(5)
        assert not watcher.thread.is_alive()
        # No test of this module may have seen an old frame, or one twice.
        assert all(-1 < age < MAX_AGE_MS + SLACK_MS for age in watcher.ages_ms), watcher.ages_ms
        assert watcher.moments == sorted(set(watcher.moments))


def test_frames_come_with_their_time(server, watch):
    """Frames are RGB of the server's size, numbered, and their own time is the server's to within 0.3 s."""
    watcher = watch(server.url)

    frame = watcher.take(5)

    assert frame.number == 5
    assert frame.image.shape == (240, 320, 3)
    assert frame.path is None
    assert 0 <= (frame.monotonic_ns - watcher.moments[-1]) / 1e6 < 300
    assert abs(frame.taken_at.timestamp() - time.time()) < 1
    assert len(frame.sha256) == 64


def test_a_slow_reader_gets_the_newest_frame(server, watch):
    """One who takes 0.3 s a frame at 25 a second sees none that waited: those between are dropped and counted."""
    watcher = watch(server.url)
    watcher.pause_s = 0.3

    frame = watcher.take(5)

    assert max(watcher.ages_ms) < 250
    assert frame.dropped >= 10
    assert f"{frame.number} frames, " in repr(watcher.source)


@pytest.mark.parametrize("mode", ["halves", "garbage", "lying", "nolength"])
def test_only_whole_pictures_come_through(server, watch, mode):
    """Half JPEGs, random bytes between parts, wrong or no lengths: every frame that comes is a whole one."""
    server.mode = mode
    watcher = watch(server.url)

    frame = watcher.take(6)

    assert (frame.image[200:, 0, 0] > 60).all()  # the texture goes down to the last row
    assert len(server.requests) == 1  # found its way again in the same stream
    if mode == "halves":
        assert frame.dropped >= 4


def test_a_new_resolution_is_taken_as_it_is(server, watch):
    """When the camera changes its size, frames have the new size, not the old one squeezed."""
    watcher = watch(server.url)
    watcher.take(2)
    server.size = (480, 640)
    watcher.take(10)

    assert watcher.shapes[-1] == (480, 640, 3)
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["stall", "only garbage", "restart", "hang", "404"])
def test_a_lost_stream_is_back_within_five_seconds(server, watch, fault):
    """After silence, garbage, a restart or refusals: one notice of the loss, no frame meanwhile, frames within 5 s."""
    watcher = watch(f"{server.url}#read_timeout_ms=400&open_timeout_ms=400")
    watcher.take(3)
    if fault in ("restart", "hang", "404"):
        server.stop()
    server.mode = "ok" if fault == "restart" else fault
    if fault in ("hang", "404"):
        server.start()
    time.sleep(1.5)
    before = watcher.moments[-1]
    assert len(watcher.seen("lost")) == 1
    assert watcher.seen("back") == []

    server.mode = "ok"
    if fault == "restart":
        server.start()
    returned_ns = time.monotonic_ns()
    watcher.take()

    assert returned_ns > before
    assert min(moment for moment in watcher.moments if moment > before) - returned_ns < 5e9
    assert len(watcher.seen("lost")) == 1
    assert len(watcher.seen("back")) == 1


def test_giving_up_is_an_error_that_names_the_reason(watch):
    """Without a frame for give_up_after seconds the iteration fails, says so, and told of the loss before."""
    watcher = watch("http://127.0.0.1:9/x.mjpg", give_up_after_s=0.5)

    start = time.monotonic()

    assert re.search(r"no frame for \d\.\d s \(patience: 0\.5 s\), given up; .*Connection refused", watcher.fail())
    assert time.monotonic() - start < 4
    assert len(watcher.seen("lost")) == 1


def test_attempts_are_at_most_a_second_apart(server, watch):
    """Backoff is capped: in 3 s of refusals there are between 4 and 10 attempts."""
    server.mode = "404"
    watcher = watch(server.url)
    time.sleep(3)

    assert watcher.moments == []
    assert 4 <= len(server.requests) <= 10


def test_what_is_no_stream_is_said(server, watch):
    """A page instead of a stream is named with what was expected."""
    server.content_type = "text/html"
    watcher = watch(server.url, give_up_after_s=0.1)

    assert re.search("expected multipart/x-mixed-replace.*found text/html", watcher.fail())


def test_a_name_and_password_are_sent_and_not_told(server, watch):
    """They go to the server as Basic authorization, the query too, and into no message."""
    server.mode = "404"
    url = server.url.replace("http://", "http://me:s%40fe@") + "?user=1"
    watcher = watch(url, give_up_after_s=0.1)

    said = watcher.fail()
    gc.collect()  # a socket left open would be a warning here, and so a failure

    assert "404" in said
    assert server.requests[0] == "/stream.mjpg?user=1"
    assert base64.b64decode(server.headers[0]["Authorization"].removeprefix("Basic ")) == b"me:s@fe"
    assert "s%40fe" not in said
    assert "s%40fe" not in repr(watcher.source)
    assert not any("s%40fe" in notice.text for notice in watcher.notices)


def test_frames_too_old_are_not_used(server, monkeypatch):
    """With max_age_ms=1 nothing comes, all is counted as dropped, and a notice says why."""
    monkeypatch.setattr(latest, "_STALE_S", 1.0)
    notices: list[Notice] = []
    with open_source(f"{server.url}#max_age_ms=1", notice=notices.append) as source:
        source._put = slowly(source._put)
        threading.Timer(1.9, source.stop).start()
        assert [frame.number for frame in source] == []
        assert source._dropped > 10

    assert {notice.kind for notice in notices} == {"stale"}
    assert "max_age_ms is 1" in notices[0].text


def slowly(put):
    """A shot that lies around for 5 ms before it comes into the slot."""

    def later(shot):
        time.sleep(0.005)
        put(shot)

    return later


def test_stop_and_close_are_quick_and_may_be_repeated(server):
    """stop() from another thread ends a wait, close() twice is fine, no thread is left, and the state is told."""
    server.mode = "stall"
    source = open_source(server.url)
    assert "ready" in repr(source)
    threading.Timer(0.5, source.stop).start()
    start = time.monotonic()
    assert list(source) == []
    source.close()
    source.close()

    assert time.monotonic() - start < 2
    assert "closed" in repr(source)
    assert not [thread for thread in threading.enumerate() if thread.name == f"reads {server.url}"]
    with pytest.raises(SourceError, match="closed; open it again"):
        iter(source)


@pytest.mark.parametrize("seconds", [6, pytest.param(600, marks=pytest.mark.soak)])
def test_memory_stays_flat(seconds):
    """Through frames, halves, garbage, other sizes and restarts a process grows by less than 8 MB after a third."""
    with MjpegServer(fps=100) as server, watcher_process(server.url) as ask:
        answers = []
        for step in range(9):
            server.mode = ("ok", "halves", "garbage")[step % 3]
            server.size = ((240, 320), (480, 640))[step % 2]
            if step % 3 == 2:
                server.stop()
                time.sleep(0.1)
                server.start()
            time.sleep(seconds / 9)
            answers.append(ask())

    sizes, (_, frames, lost, back) = [answer[0] for answer in answers], answers[-1]
    assert frames > 10 * seconds
    assert max(sizes[6:]) - max(sizes[:3]) < 8e6
    assert lost == back == 3


@contextmanager
def watcher_process(url):
    """Watch in a process of its own; what is given asks it: resident bytes, frames, losses, recoveries."""
    command = [sys.executable, Path(__file__).parents[1] / "support" / "mjpeg_watcher.py", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:

        def ask():
            process.stdin.write("?\n")
            return tuple(map(int, process.stdout.readline().split()))

        while not ask()[1]:  # until it sees the stream
            time.sleep(0.1)
        yield ask


def test_what_is_kept_between_parts_is_bounded():
    """A thousand times garbage and a cut part, fed in odd pieces, leave less than 1 MB behind."""
    parts, whole = Parts("frame"), part(jpeg(draw_moment(1)))
    stream = (b"\x00--fram" * 1000 + whole[: len(whole) // 2] + whole) * 20
    tracemalloc.start()
    try:
        for _ in range(50):
            for place in range(0, len(stream), 9973):
                parts.feed(stream[place : place + 9973])
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()


def test_an_endless_part_is_refused():
    """More than 32 MiB of one part without an end is an error, not a full memory."""
    parts = Parts("frame")
    parts.feed(b"--frame\r\n\r\n" + bytes(32 * 2**20))

    with pytest.raises(SourceError, match="a part of more than"):
        parts.feed(bytes(2**20))


BODIES = st.lists(st.binary(min_size=1, max_size=60).filter(lambda body: b"--f" not in body), max_size=5)


@given(BODIES, st.binary(max_size=40).filter(lambda data: b"-" not in data), st.integers(1, 50))
def test_parts_are_found_however_the_bytes_arrive(bodies, garbage, step):
    """With lengths given, all bodies come out whole and in order, whatever lies between and however it is cut."""
    stream = b"".join(garbage + part(body) for body in bodies)
    parts, found = Parts('"--frame"'.strip('"')), []
    for place in range(0, len(stream), step):
        found += parts.feed(stream[place : place + step])

    assert found == bodies


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_no_bytes_are_a_bug(chunks):
    """Anything may be fed; what comes out was put in."""
    parts = Parts("f")
    for chunk in chunks:
        for body in parts.feed(b"--f\r\n" + chunk):
            assert body
