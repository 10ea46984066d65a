"""Pictures in a folder: those that are there in natural order, and where it is watched those that arrive later.

A file is handed out when it is whole. A JPEG or PNG proves that by its end; a TIFF or BMP must have kept its size and
time for a moment; one that does not decode is tried again as long as it is young or still changes. What is in the
folder is told by listing it: watchdog, where it is installed, only says when to look, since its inotify does not reach
network shares. Content that was handed out before under another name, or written anew, is a notice and no frame.
"""

from __future__ import annotations

import hashlib
import stat
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MissingFile, NoPictures, PictureError
from ..imaging.folder import list_folder
from ..imaging.hashes import perceptual_hash
from ..imaging.image import SUFFIXES, decode_picture, read_image
from ..records import Frame
from ..text import now
from .base import TICK_S, BaseSource
from .url import SourceUrl, option

if TYPE_CHECKING:
    from ..imaging.image import Image
    from ..records import PreparedField

_AHEAD = 4  # pictures read before they are asked for: two a core of a small machine, 15 MB each at 5 megapixels
_THREADS = 2
_LOOK_S = 0.05
_LONGEST_WAIT_S = 60.0  # for one file that never stops changing
_YOUNG_S = 5.0
_TELLING = ("created", "modified", "moved", "closed")  # reading a file tells "opened", and must not wake the reader
_ALIKE_BITS = 8  # of 128, by which one field in two formats may differ; different photographs do by 40 and more
_PROVEN = (b"\xff\xd8\xff", b"\x89PNG")  # kinds that `decode` knows to be whole

State = tuple[int, int, int]
"""What tells that a file has changed: size, time of change in ns, inode."""


@dataclass(frozen=True)
class FolderOptions:
    """Settings of a folder.

    Attributes:
        recursive: also the folders in it.
        watch: go on with the files that arrive.
        settle_ms: how long a TIFF or BMP must have kept its size and time.
        patience_ms: how long a file that does not decode must have been left alone until it counts as unreadable.
        poll_ms: how often a watched folder is listed.
    """

    recursive: bool = option(False)
    watch: bool = option(False)
    settle_ms: float = option(500.0, least=0, most=60_000)
    patience_ms: float = option(3000.0, least=0, most=60_000)
    poll_ms: float = option(1000.0, least=10, most=3_600_000)


@dataclass(frozen=True, eq=False)
class _Read:
    """What became of one file: a picture, or an error; no state where it is gone.

    `left_out`: what else is in the file, in words. `proven`: whole by its own format. `again`: its content was taken in
    before, so it was not decoded. `ahead`: what the listener made of the picture.
    """

    path: Path
    state: State | None
    read_ns: int
    sha256: str | None = None
    image: Image | None = None
    error: str = ""
    left_out: str = ""
    proven: bool = False
    again: bool = False
    ahead: PreparedField | None = None


def from_url(url: SourceUrl, **callbacks: Any) -> FolderSource:
    """The source of a ``folder:`` URL; `callbacks` are `notice` and `idle` of `open_source`."""
    return FolderSource(url.name, Path(url.place), url.options(FolderOptions), **callbacks)


class FolderSource(BaseSource):
    """The pictures of a folder.

    Args:
        name: the URL, for messages.
        folder: where they are.
        options: settings.
        callbacks: `notice` and `idle` of `open_source`.

    Raises:
        MissingFile: there is no such folder.
        NoPictures: when iterated, there is no picture file in it, and it is not watched.
    """

    def __init__(self, name: str, folder: Path, options: FolderOptions, **callbacks: Any) -> None:
        super().__init__(name, **callbacks)
        if not folder.is_dir():
            message = f"{name}: no such folder; expected one with pictures in it"
            raise MissingFile(message)
        self.endless = options.watch
        self._folder = folder
        self._options = options
        self._known: dict[Path, State] = {}
        self._given: dict[str, Path] = {}
        self._wake = threading.Event()
        self._told_left_out = False
        self._same_name: Counter[Path] = Counter()  # files by their names without the endings
        self._given_as: defaultdict[Path, list[Path]] = defaultdict(list)

    def stop(self) -> None:
        """Let the iteration end soon; may be called from another thread, not from a signal handler: it takes a lock."""
        super().stop()
        self._wake.set()

    def _frames(self) -> Iterator[Frame]:
        with ExitStack() as stack:
            pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="reads folder")
            stack.callback(pool.shutdown, wait=True, cancel_futures=True)
            stack.callback(self._stopped.set)  # done before: no reader waits on for a file
            if self._options.watch:
                stack.enter_context(self._told_by_inotify())
            there = self._listing()
            if not there and not self._options.watch:
                deeper = "" if self._options.recursive else "; to look into its folders too, add ?recursive=1"
                message = f"{self.name}: no picture in it; expected {', '.join(sorted(SUFFIXES))}{deeper}"
                raise NoPictures(message)
            yield from self._frames_of(pool, there, arrived=False)
            while self._options.watch and not self._stopped.is_set():
                yield from self._frames_of(pool, self._arrived(), arrived=True)
                self._wait_for_more()

    def _frames_of(self, pool: ThreadPoolExecutor, paths: list[Path], *, arrived: bool) -> Iterator[Frame]:
        """What the files give, in their order; each is read, decoded and looked at on another thread, a few ahead."""
        ahead = iter(paths)
        waiting: deque[Future[_Read]] = deque()
        while not self._stopped.is_set():
            while len(waiting) < _AHEAD and (path := next(ahead, None)) is not None:
                waiting.append(pool.submit(self._read, path, arrived=arrived))
            if not waiting:
                return
            while not _ended(waiting[0]) and not self._stopped.is_set():
                self._pause(0)
            if not self._stopped.is_set() and (frame := self._judged(waiting.popleft().result(), arrived=arrived)):
                yield frame

    def _listing(self) -> list[Path]:
        """Picture files in natural order; OSError where the folder cannot be listed. What is left out is told once."""
        self._folder.stat()  # a folder that is gone would be an empty one
        listing = list_folder(self._folder, recursive=self._options.recursive)
        self._same_name = Counter(path.with_suffix("") for path in listing.files)
        if listing.left_out and not self._told_left_out:
            deeper = " (?recursive=1 looks into folders)" if listing.folders else ""
            self._note("left out", f"{self.name}: {listing.left_out}{deeper}")
            self._told_left_out = True
        return list(listing.files)

    def _arrived(self) -> list[Path]:
        """What is new or has changed since it was read; waits for a folder that is gone, as a share may be."""
        lost_at = None
        while not self._stopped.is_set():
            try:
                found = self._listing()
            except OSError as error:
                if lost_at is None:
                    lost_at = time.monotonic()
                    self._note("lost", f"{self.name}: cannot be listed ({error.strerror})")
                self._pause(TICK_S)
            else:
                if lost_at is not None:
                    self._note("back", f"{self.name}: back after {time.monotonic() - lost_at:.1f} s")
                return [path for path in found if self._known.get(path) != _state(path)]
        return []

    @contextmanager
    def _told_by_inotify(self) -> Iterator[None]:
        """Set `_wake` when something happens in the folder, where watchdog is installed and can tell."""
        try:
            events, observers = import_module("watchdog.events"), import_module("watchdog.observers")
            handler, observer = events.FileSystemEventHandler(), observers.Observer()
            handler.on_any_event = lambda event: self._wake.set() if event.event_type in _TELLING else None
            observer.schedule(handler, str(self._folder), recursive=self._options.recursive)
            observer.start()
        except (ImportError, OSError) as error:  # not installed; or no more watches to be had
            missing = isinstance(error, ImportError)
            why = 'watchdog is not installed (pip install "bloodcell-edge[watch]")' if missing else f"inotify: {error}"
            every_s = self._options.poll_ms / 1000
            self._note("setting", f"{self.name}: {why}; new files are looked for every {every_s:g} s")
            yield
            return
        try:
            yield
        finally:
            observer.stop()
            observer.join(1)

    def _wait_for_more(self) -> None:
        """Until inotify has something, or the folder is to be listed again anyway."""
        end = time.monotonic() + self._options.poll_ms / 1000
        while not self._stopped.is_set() and not self._wake.is_set() and (left := end - time.monotonic()) > 0:
            self._pause(min(left, _LOOK_S))
        self._wake.clear()

    def _read(self, path: Path, *, arrived: bool) -> _Read:
        """Read one file when it is whole, or say why it cannot be. Runs in the pool."""
        read, first = self._attempt(path), time.monotonic()
        since = first
        while not self._stopped.is_set() and time.monotonic() - first < _LONGEST_WAIT_S:
            state = _state(path)
            if state != read.state:
                read, since = self._attempt(path), time.monotonic()
            elif time.monotonic() - since >= self._must_rest_s(read, arrived=arrived):
                break
            self._stopped.wait(_LOOK_S)
        return read if read.image is None or self._stopped.is_set() else replace(read, ahead=self._ahead(read.image))

    def _must_rest_s(self, read: _Read, *, arrived: bool) -> float:
        """How long the file must have been left alone for what was read to count."""
        if read.state is None or read.again or not (arrived or abs(time.time() - read.state[1] / 1e9) < _YOUNG_S):
            return 0.0
        if read.image is None:
            return self._options.patience_ms / 1000
        return 0.0 if read.proven else self._options.settle_ms / 1000

    def _attempt(self, path: Path) -> _Read:
        """Read and decode a file as it is now."""
        state, read_ns = _state(path), time.monotonic_ns()
        if state is None:
            return _Read(path, None, read_ns)
        try:
            data = path.read_bytes()
        except OSError as error:
            return _Read(path, _state(path), read_ns, error=f"{path}: cannot be read ({error.strerror})")
        sha256 = hashlib.sha256(data).hexdigest()
        if self._taken_before(sha256):
            return _Read(path, state, read_ns, sha256, again=True)
        try:
            image, left_out = decode_picture(data, name=str(path))
        except PictureError as error:
            return _Read(path, state, read_ns, sha256, error=str(error))
        return _Read(path, state, read_ns, sha256, image, left_out=left_out, proven=data.startswith(_PROVEN))

    def _judged(self, read: _Read, *, arrived: bool) -> Frame | None:
        """The frame that a file gives; None, and perhaps a notice, where it gives none."""
        if read.state is None and read.path.is_symlink() and not self._stopped.is_set():
            self._note(
                "unreadable", f"{read.path}: a link to a file that is not there; copy the file itself", read.path
            )
        if read.state is None or self._stopped.is_set():
            return None
        self._known[read.path] = read.state
        if read.again and read.sha256 is not None:
            self._given_as[read.path.with_suffix("")].append(read.path)
            self._given.setdefault(read.sha256, read.path)
            self._note("again", f"{read.path}: this picture was taken in before", read.path, read.sha256)
            return None
        if read.image is None or read.sha256 is None:
            self._note("unreadable", read.error, read.path, read.sha256)
            return None
        other = self._other_format(read.path, read.image)
        if other is not None:
            self._note("left out", f"{read.path}: the same field as {other.name}, counted once", read.path, read.sha256)
            return None
        earlier = self._given.get(read.sha256)
        if arrived and earlier is not None:
            self._note("again", f"{read.path}: the same picture as {earlier}", read.path, read.sha256)
            return None
        self._given.setdefault(read.sha256, read.path)
        if read.left_out:
            self._note("left out", f"{read.path}: {read.left_out}", read.path, read.sha256)
        taken_at = self._taken_at(read.path, read.state)
        number = self._next_number()
        return Frame(read.image, taken_at, read.read_ns, number, read.path, read.sha256, ahead=read.ahead)

    def _other_format(self, path: Path, image: Image) -> Path | None:
        """An earlier file of this name but for its ending, that looks the same; None where there is none."""
        stem = path.with_suffix("")
        if self._same_name[stem] < 2:
            return None
        earlier = [other for other in self._given_as[stem] if other != path and _looks_like(other, image)]
        if not earlier:
            self._given_as[stem].append(path)
        return earlier[0] if earlier else None

    def _taken_at(self, path: Path, state: State) -> datetime:
        """The time of a file; now where no calendar has it."""
        try:
            return datetime.fromtimestamp(state[1] / 1e9, timezone.utc)
        except (OverflowError, ValueError, OSError):
            self._note(
                "left out", f"{path}: its time is in no calendar; the time at which it is read stands for it", path
            )
            return now()


def _looks_like(file: Path, image: Image) -> bool:
    """Whether a picture file shows what a picture shows."""
    try:
        other = read_image(file)
    except (MissingFile, PictureError):
        return False
    differing = np.unpackbits(np.bitwise_xor(perceptual_hash(image), perceptual_hash(other)))
    return int(differing.sum()) <= _ALIKE_BITS


def _ended(read: Future[_Read]) -> bool:
    """Whether it ends within a tick."""
    try:
        read.exception(TICK_S)
    except NotYet:  # the builtin TimeoutError only since Python 3.11
        return False
    return True


def _state(path: Path) -> State | None:
    """What a file is known to have changed by; None where it is gone, or is none: reading a pipe never ends."""
    try:
        found = path.stat()
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino
