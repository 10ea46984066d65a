"""Folders: natural order, whole files only, content known again, and goings-on in a watched one."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from bloodcell_edge.capture import open_source
from bloodcell_edge.errors import NoPictures, SourceError
from bloodcell_edge.files import sha256_file
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.records import Frame, Notice


def picture(level: int, suffix: str = ".png", size: tuple[int, int] = (40, 60)) -> bytes:
    """The bytes of a picture: its first 16 rows are `level`, the rest is noise."""
    image = np.random.default_rng(level).integers(0, 255, (*size, 3), np.uint8)
    image[:16] = level
    return cv2.imencode(suffix, image)[1].tobytes()


def level(frame: Frame) -> int:
    return round(float(frame.image[:8].mean()))


@pytest.fixture
def old() -> float:
    """A time long before now: a file of it is not taken for one that is still being written."""
    return time.time() - 3600


@pytest.fixture
def fill(tmp_path, old) -> Callable[..., Path]:
    def write(name: str, data: bytes, *, young: bool = False) -> Path:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        if not young:
            os.utime(path, (old, old))
        return path

    return write


def test_pictures_come_in_natural_order_then_it_is_done(fill, tmp_path, old):
    """2 comes before 10; hidden and other files do not come; a frame has its path, hash and the file's time."""
    for number, name in enumerate(["field_10.png", "field_2.jpg", "field_1.TIF", "Field_3.bmp"]):
        fill(name, picture(20 * number + 20, name[-4:].lower()))
    fill(".hidden.png", picture(1))
    fill("notes.txt", b"notes")
    fill("deeper/field_0.png", picture(2))

    with open_source(f"folder:{tmp_path}") as source:
        assert not source.live
        assert not source.endless
        frames = list(source)

    assert [frame.path.name for frame in frames] == ["field_1.TIF", "field_2.jpg", "Field_3.bmp", "field_10.png"]
    assert [level(frame) for frame in frames] == pytest.approx([60, 40, 80, 20], abs=2)
    assert [frame.number for frame in frames] == [1, 2, 3, 4]
    assert frames[0].sha256 == sha256_file(tmp_path / "field_1.TIF")
    assert frames[0].taken_at.timestamp() == pytest.approx(old, abs=0.001)
    assert frames[0].dropped == 0


def test_folders_in_it_come_when_asked_for(fill, tmp_path):
    """recursive=1 goes down, still in natural order of the whole path, and not into hidden folders."""
    for name in ("b/2.png", "b/10.png", "a.png", ".trash/x.png"):
        fill(name, picture(50))

    with open_source(f"folder:{tmp_path}?recursive=1") as source:
        assert [frame.path.relative_to(tmp_path).as_posix() for frame in source] == ["a.png", "b/2.png", "b/10.png"]


def test_the_order_holds_though_pictures_are_decoded_side_by_side(fill, tmp_path):
    """Large and small pictures in turn come in order, and at most five are read before they are asked for."""
    for number in range(30):
        fill(f"{number}.png", picture(number + 1, size=(900, 900) if number % 3 == 0 else (20, 20)))
    read: list[Path] = []
    with open_source(f"folder:{tmp_path}") as source:
        reader = source._read
        source._read = lambda path, **how: read.append(path) or reader(path, **how)
        for frame in source:
            assert len(read) <= frame.number + 4
            assert level(frame) == frame.number


def test_what_is_no_picture_is_a_notice_and_the_rest_goes_on(fill, tmp_path):
    """Text, an empty file and a cut JPEG are told with path, hash and reason; the pictures about them come."""
    for name in ("1.png", "5.png"):
        fill(name, picture(100))
    fill("2.png", b"not a picture")
    fill("3.png", b"")
    fill("4.jpg", picture(100, ".jpg")[:-300])
    notices: list[Notice] = []
    start = time.monotonic()
    with open_source(f"folder:{tmp_path}", notice=notices.append) as source:
        assert [frame.path.name for frame in source] == ["1.png", "5.png"]

    assert time.monotonic() - start < 2  # old files are not waited for
    assert [(notice.kind, notice.path.name) for notice in notices] == [("unreadable", f"{n}") for n in
                                                                       ("2.png", "3.png", "4.jpg")]  # fmt: skip
    assert notices[0].sha256 == sha256_file(tmp_path / "2.png")
    assert "ends too early" in notices[2].text


def test_the_same_content_twice_comes_twice(fill, tmp_path):
    """Folders drop nothing: that two files are the same picture is seen by their hash."""
    for name in ("1.png", "2.png"):
        fill(name, picture(100))

    with open_source(f"folder:{tmp_path}") as source:
        frames = list(source)

    assert len(frames) == 2
    assert frames[0].sha256 == frames[1].sha256


def test_pipes_and_folders_named_like_pictures_are_passed_over(fill, tmp_path):
    """Reading a pipe would never end; neither is a frame, nor an unreadable file."""
    fill("1.png", picture(10))
    os.mkfifo(tmp_path / "0.png")
    (tmp_path / "2.png").mkdir()
    notices: list[Notice] = []
    with open_source(f"folder:{tmp_path}", notice=notices.append) as source:
        assert [level(frame) for frame in source] == [10]
    assert [notice.kind for notice in notices] == ["left out"]  # the folder, of which nothing else is said


def test_a_folder_without_pictures_is_an_error(tmp_path):
    """NoPictures, unless it is watched."""
    (tmp_path / "a.txt").touch()

    with open_source(f"folder:{tmp_path}") as source, pytest.raises(NoPictures, match="no picture in it; expected"):
        list(source)


def test_a_file_that_is_still_written_is_waited_for(tmp_path):
    """Also without --watch: a picture that grows in steps of 0.15 s comes whole, once, and in its place."""
    data = picture(70)
    (tmp_path / "2.png").write_bytes(picture(80))
    writer = threading.Thread(target=write_slowly, args=(tmp_path / "1.png", data))
    writer.start()
    time.sleep(0.1)
    with open_source(f"folder:{tmp_path}") as source:
        frames = list(source)
    writer.join()

    assert [level(frame) for frame in frames] == [70, 80]


def write_slowly(path: Path, data: bytes, steps: int = 5) -> None:
    with path.open("wb", buffering=0) as stream:
        for step in range(steps):
            stream.write(data[len(data) * step // steps : len(data) * (step + 1) // steps])
            time.sleep(0.15)


def test_what_was_taken_in_before_is_not_decoded(fill, tmp_path):
    """A file whose hash is known is a notice "again" and no frame, whatever is in it; the others come."""
    for number in (1, 3):
        fill(f"{number}.png", picture(number))
    fill("2.png", b"no picture: decoding it would say so", young=True)
    known, notices, ticks = sha256_file(tmp_path / "2.png"), [], []
    with open_source(f"folder:{tmp_path}") as source:
        source.listen(notice=notices.append, idle=lambda: ticks.append(1), taken_before=lambda sha256: sha256 == known)
        names = [frame.path.name for frame in source]

    assert names == ["1.png", "3.png"]
    assert [(notice.kind, notice.path.name, notice.sha256) for notice in notices] == [("again", "2.png", known)]


def test_what_is_made_of_a_picture_comes_with_its_own_frame(fill, tmp_path):
    """Asked on the threads that decode; frames keep their order, and each has the answer about its own pixels."""
    for number in range(12):
        fill(f"{number}.png", picture(number))
    threads = set()

    def ahead(image):
        threads.add(threading.current_thread())
        time.sleep(0.01 * (int(image[0, 0, 0]) % 3))  # the later ones are done first
        return image.tobytes()

    with open_source(f"folder:{tmp_path}") as source:
        source.listen(ahead=ahead)
        frames = list(source)

    assert [frame.path.name for frame in frames] == [f"{number}.png" for number in range(12)]
    assert all(frame.ahead == frame.image.tobytes() for frame in frames)
    assert threading.current_thread() not in threads


def test_what_fails_ahead_ends_the_iteration(fill, tmp_path):
    """As if it had failed when the picture's turn came: what it raised is raised, after the frames before."""
    for number in range(3):
        fill(f"{number}.png", picture(number))

    def ahead(image):
        if image[0, 0, 0] == 1:
            raise ZeroDivisionError

    names = []
    with open_source(f"folder:{tmp_path}") as source:
        source.listen(ahead=ahead)
        with pytest.raises(ZeroDivisionError):
            names.extend(frame.path.name for frame in source)

    assert names == ["0.png"]


class Watching:
    """A watched folder, read on a thread of its own."""

    def __init__(self, folder: Path, settings: str) -> None:
        self.notices: list[Notice] = []
        self.frames: list[Frame] = []
        self.source = open_source(f"folder:{folder}?{settings}", watch=True, notice=self._note)
        self.thread = threading.Thread(target=self._collect)
        self.thread.start()

    def _collect(self) -> None:
        for frame in self.source:
            self.frames.append(frame)

    def _note(self, notice: Notice) -> None:
        if notice.kind != "setting":  # whether watchdog is installed
            self.notices.append(notice)

    def until(self, true: Callable[[], bool], within_s: float = 8) -> None:
        deadline = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < deadline, (self.frames, self.notices)
            time.sleep(0.01)

    def names(self) -> list[str]:
        return [frame.path.name for frame in self.frames]


@pytest.fixture
def watching(tmp_path) -> Iterator[Callable[..., Watching]]:
    made: list[Watching] = []

    def start(settings: str = "poll_ms=100") -> Watching:
        made.append(Watching(tmp_path, settings))
        return made[-1]

    yield start
    for watcher in made:
        watcher.source.stop()
        watcher.thread.join(5)
        watcher.source.close()
        assert not watcher.thread.is_alive()


def test_a_watched_folder_goes_on_with_what_arrives(fill, watching):
    """What is there first, then new files, also in an empty folder; nothing twice."""
    watcher = watching()
    time.sleep(0.3)
    fill("b.png", picture(10), young=True)
    watcher.until(lambda: watcher.names() == ["b.png"])
    fill("a.png", picture(20))  # with an old time, as a copy has
    watcher.until(lambda: watcher.names() == ["b.png", "a.png"])
    time.sleep(0.4)

    assert watcher.names() == ["b.png", "a.png"]
    assert watcher.source.endless


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp"])
def test_a_file_that_arrives_slowly_comes_whole(tmp_path, watching, suffix):
    """No half of it is read, in any format; it comes once."""
    watcher = watching()
    data = picture(90, suffix)
    write_slowly(tmp_path / f"a{suffix}", data)
    watcher.until(lambda: len(watcher.frames) == 1)
    time.sleep(0.5)

    assert len(watcher.frames) == 1
    assert watcher.frames[0].sha256 == sha256_file(tmp_path / f"a{suffix}")
    assert watcher.notices == []


def test_a_picture_is_known_by_its_content(fill, tmp_path, watching):
    """Renamed, copied, touched or rewritten: told, and no frame; the same name with other content is a new one."""
    first = fill("a.png", picture(10))
    watcher = watching()
    watcher.until(lambda: watcher.names() == ["a.png"])
    first.rename(tmp_path / "b.png")
    watcher.until(lambda: len(watcher.notices) == 1)
    fill("b.png", picture(10), young=True)
    watcher.until(lambda: len(watcher.notices) == 2)
    fill("b.png", picture(30), young=True)
    watcher.until(lambda: len(watcher.frames) == 2)

    assert watcher.names() == ["a.png", "b.png"]
    assert [notice.kind for notice in watcher.notices] == ["again", "again"]
    assert watcher.notices[0].text == f"{tmp_path}/b.png: the same picture as {tmp_path}/a.png"
    assert watcher.notices[0].sha256 == watcher.frames[0].sha256


def test_what_is_left_half_written_is_told_and_taken_when_it_is_finished(tmp_path, watching):
    """After patience_ms it counts as unreadable; when its rest arrives it comes."""
    data = picture(90)
    watcher = watching("poll_ms=100&patience_ms=300")
    (tmp_path / "a.png").write_bytes(data[:-50])
    watcher.until(lambda: len(watcher.notices) == 1)
    (tmp_path / "a.png").write_bytes(data)
    watcher.until(lambda: len(watcher.frames) == 1)

    assert watcher.notices[0].kind == "unreadable"


def test_a_folder_that_goes_away_is_waited_for(tmp_path, fill, watching):
    """As a network share does: one notice when it is lost, one when it is back, then its new files."""
    fill("a.png", picture(10))
    watcher = watching()
    watcher.until(lambda: len(watcher.frames) == 1)
    away = tmp_path.with_name(f"{tmp_path.name}-away")
    tmp_path.rename(away)
    watcher.until(lambda: len(watcher.notices) == 1)
    away.rename(tmp_path)
    fill("b.png", picture(20))
    watcher.until(lambda: len(watcher.frames) == 2)

    assert [notice.kind for notice in watcher.notices] == ["lost", "back"]
    assert watcher.names() == ["a.png", "b.png"]


@pytest.mark.may_skip
def test_inotify_tells_at_once(fill, watching):
    """With watchdog a new file comes long before the folder would be listed again."""
    pytest.importorskip("watchdog", reason="watchdog is not installed: folders are polled")
    watcher = watching("recursive=0&poll_ms=60000")
    time.sleep(1)
    fill("a.png", picture(10), young=True)
    watcher.until(lambda: len(watcher.frames) == 1, within_s=3)


def test_a_source_is_iterated_once_and_closed_twice(fill, tmp_path):
    """Breaking off leaves no thread; a second iteration is an error; repr tells the state."""
    for number in range(20):
        fill(f"{number}.png", picture(number + 1))
    with open_source(f"folder:{tmp_path}") as source:
        assert "ready" in repr(source)
        for frame in source:
            if frame.number == 3:
                break
        assert repr(source) == f"<FolderSource folder:{tmp_path}: open, 3 frames>"
        with pytest.raises(SourceError, match="iterated once"):
            iter(source)
    source.close()

    assert "closed" in repr(source)
    assert not [thread for thread in threading.enumerate() if "reads folder" in thread.name]


def test_what_is_left_out_is_told(fill, tmp_path):
    """Other files, folders below, further pages of a TIFF, and a link to nothing."""
    pages = io.BytesIO()
    with tifffile.TiffWriter(pages) as writer:
        for level_of_page in (20, 30):
            writer.write(np.full((40, 60, 3), level_of_page, np.uint8), photometric="rgb", metadata=None)
    fill("1.png", picture(10))
    (tmp_path / "2.tif").write_bytes(pages.getvalue())
    (tmp_path / "notes.txt").write_text("3")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "4.png").symlink_to(tmp_path / "nothing.png")
    notices: list[Notice] = []
    with open_source(f"folder:{tmp_path}", notice=notices.append) as source:
        assert [level(frame) for frame in source] == [10, 20]
    told = [(notice.kind, notice.text.rpartition(": ")[2]) for notice in notices]
    assert ("left out", "1 .txt; 1 folder not looked into (?recursive=1 looks into folders)") in told
    assert ("left out", "1 further page left out") in told
    assert any(kind == "unreadable" and "a link to a file that is not there" in text for kind, text in told)


def test_a_time_of_no_calendar_is_told(fill, tmp_path):
    """A file of the year 11476, as some file systems can keep it, is taken in at the time of reading."""
    path = fill("1.png", picture(10))
    notices: list[Notice] = []
    with open_source(f"folder:{tmp_path}", notice=notices.append) as source:
        taken_at = source._taken_at(path, (100, 3 * 10**20, 1))
        assert abs((taken_at - datetime.now(timezone.utc)).total_seconds()) < 60
        assert len(list(source)) == 1
    assert [notice.text for notice in notices] == [
        f"{path}: its time is in no calendar; the time at which it is read stands for it"
    ]


def test_a_field_in_three_formats_comes_once(fill, tmp_path):
    """The first of them comes; the others are told. Another picture of that name comes too."""
    field = draw_field(4, ["NEUTROPHIL"], size=(120, 160)).image[..., ::-1]
    for suffix in (".jpg", ".png", ".tif"):
        fill(f"1{suffix}", cv2.imencode(suffix, field)[1].tobytes())
    fill("1.bmp", picture(10, ".bmp"))
    notices: list[Notice] = []
    with open_source(f"folder:{tmp_path}", notice=notices.append) as source:
        assert [frame.path.name for frame in source] == ["1.bmp", "1.jpg"]
    told = [notice.text.rpartition("/")[2] for notice in notices]
    assert told == ["1.png: the same field as 1.jpg, counted once", "1.tif: the same field as 1.jpg, counted once"]
