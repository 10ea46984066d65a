"""The latest frame of a camera: a thread reads into a slot of one, and opens again a camera that was lost.

The newest frame wins; those it overtakes are counted. A frame is handed out at most once, and only while it is younger
than `max_age_ms`. A camera that is lost is re-opened, after 0.05 s at first, then twice as long each time up to 1 s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import SourceError
from ..records import Frame
from .base import TICK_S, BaseSource
from .url import option

if TYPE_CHECKING:
    from ..imaging.image import Image

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_JOIN_S = 2.0  # a thread in a call that cannot be broken off (a name look-up) is left behind; it ends with the process
_STALE_S = 5.0


@dataclass(frozen=True)
class LatestFrameOptions:
    """What every camera can be told.

    Attributes:
        max_age_ms: frames older than this are not used.
        give_up_after: seconds without a frame until it is an error; None: re-open for ever.
        open_timeout_ms: until a camera that is being opened counts as lost.
        read_timeout_ms: the same for one that says nothing any more.
    """

    max_age_ms: float = option(500.0, least=1, most=60_000)
    give_up_after: float | None = option(None, least=0.1, most=1e9)
    open_timeout_ms: float = option(3000.0, least=10, most=600_000)
    read_timeout_ms: float = option(2000.0, least=10, most=600_000)


@dataclass(frozen=True, eq=False)
class Shot:
    """What a connection gives: pixels uint8 RGB (height, width, 3), when they were taken, and how many it skipped."""

    image: Image
    monotonic_ns: int
    taken_at: datetime
    skipped: int = 0


class Connection(Protocol):
    """One open camera. Used by one thread, but for `abort`."""

    notes: tuple[str, ...]

    def shoot(self) -> Shot:
        """The next frame; SourceError where there is none within the read timeout, or never again."""

    def abort(self) -> None:
        """Make a `shoot` that waits on another thread fail soon."""

    def close(self) -> None:
        """Let go of it."""


class LatestFrameSource(BaseSource):
    """A camera that a thread reads, and whose latest frame is given.

    Args:
        name: the URL.
        connect: opens the camera; SourceError where it cannot, within the open timeout.
        options: ages and patience.
        callbacks: `notice` and `idle` of `open_source`.
    """

    live = True
    endless = True

    def __init__(
        self, name: str, connect: Callable[[], Connection], options: LatestFrameOptions, **callbacks: Any
    ) -> None:
        super().__init__(name, **callbacks)
        self._connect = connect
        self._options = options
        self._changed = threading.Condition()
        self._slot: Shot | None = None
        self._failure: Exception | None = None
        self._connection: Connection | None = None
        self._last_ns = time.monotonic_ns()  # of the last frame that came, however old
        self._lost = False
        self._thread = threading.Thread(target=self._read, name=f"reads {name}", daemon=True)

    def _frames(self) -> Iterator[Frame]:
        self._last_ns = time.monotonic_ns()
        self._thread.start()
        fresh_ns = time.monotonic_ns()
        while not self._stopped.is_set():
            shot = self._take()
            if shot is None:
                continue
            age_ms = (time.monotonic_ns() - shot.monotonic_ns) / 1e6
            if age_ms <= self._options.max_age_ms:
                fresh_ns = time.monotonic_ns()
                yield Frame(shot.image, shot.taken_at, shot.monotonic_ns, self._next_number(), dropped=self._dropped)
                continue
            self._dropped += 1
            if time.monotonic_ns() - fresh_ns > _STALE_S * 1e9:
                fresh_ns = time.monotonic_ns()
                limit = self._options.max_age_ms
                self._note("stale", f"{self.name}: frames are {age_ms:.0f} ms old on arrival, max_age_ms is {limit:g}")

    def _take(self) -> Shot | None:
        """What lies in the slot within `TICK_S`; it is empty afterwards."""
        self._tick()
        with self._changed:
            if self._slot is None and self._failure is None:
                self._changed.wait(TICK_S)
            shot, self._slot = self._slot, None
            if shot is None and self._failure is not None:
                self._tell_all()
                raise self._failure
            return shot

    def _read(self) -> None:
        """The reader thread."""
        try:
            self._read_until_stopped()
        except Exception as error:  # noqa: BLE001 - raised again where the frames are iterated, which would wait for ever
            with self._changed:
                self._failure = error
                self._changed.notify()

    def _read_until_stopped(self) -> None:
        pause = _FIRST_PAUSE_S
        while not self._stopped.is_set():
            frames = 0
            try:
                connection = self._opened()
                try:
                    while not self._stopped.is_set():
                        self._put(connection.shoot())
                        frames += 1
                finally:
                    self._connection = None
                    connection.close()
            except SourceError as error:
                self._lose(error)
            pause = _FIRST_PAUSE_S if frames else pause
            self._stopped.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _opened(self) -> Connection:
        connection = self._connection = self._connect()
        if self._stopped.is_set():  # closed while it opened: `_release` had none to abort
            connection.abort()
        for note in connection.notes:
            self._note("setting", f"{self.name}: {note}")
        return connection

    def _put(self, shot: Shot) -> None:
        now = time.monotonic_ns()
        if self._lost:
            self._note("back", f"{self.name}: back after {(now - self._last_ns) / 1e9:.1f} s")
        self._lost, self._last_ns = False, now
        with self._changed:
            self._dropped += shot.skipped + (self._slot is not None)
            self._slot = shot
            self._changed.notify()

    def _lose(self, error: SourceError) -> None:
        """Tell of the loss once, and fail where patience is over."""
        if self._stopped.is_set():
            return
        if not self._lost:
            self._note("lost", str(error))
        self._lost = True
        patience, gone_s = self._options.give_up_after, (time.monotonic_ns() - self._last_ns) / 1e9
        if patience is not None and gone_s >= patience:
            message = f"{self.name}: no frame for {gone_s:.1f} s (patience: {patience:g} s), given up; at last: {error}"
            raise SourceError(message) from error

    def _release(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.abort()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
