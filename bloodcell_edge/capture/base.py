"""What all sources share: stopping, closing, waits that a stop ends, and telling what happened."""

from __future__ import annotations

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..closing import Closing
from ..errors import SourceError
from ..records import Frame, Notice
from ..text import now

if TYPE_CHECKING:
    from ..imaging.image import Image
    from ..records import PreparedField

TICK_S = 0.1
"""How long a source waits at most before it looks whether it was stopped, and calls `idle`."""


class BaseSource(Closing, ABC):
    """A source whose frames come from `_frames`: iterate it once, inside ``with``. Its ``repr`` tells its state.

    Args:
        name: the URL, for messages.
        notice, idle: as for `open_source`.

    Attributes:
        name: the URL.
        live: see `Source`.
        endless: it never ends by itself.
    """

    live = False
    endless = False

    def __init__(
        self,
        name: str,
        *,
        notice: Callable[[Notice], None] | None = None,
        idle: Callable[[], bool | None] | None = None,
    ) -> None:
        self.name = name
        self._notice = [notice] if notice is not None else []
        self._idle = [idle] if idle is not None else []
        self._taken_before: Callable[[str], bool] = lambda sha256: False  # noqa: ARG005
        self._ahead: Callable[[Image], PreparedField | None] = lambda image: None  # noqa: ARG005
        self._notices: queue.SimpleQueue[Notice] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._state: Literal["ready", "open", "closed"] = "ready"
        self._frames_given = 0
        self._dropped = 0

    @abstractmethod
    def _frames(self) -> Iterator[Frame]:
        """The frames; looks at `_stopped` at least every `TICK_S`."""

    def _release(self) -> None:
        """Let go of what `_frames` took."""

    def __iter__(self) -> Iterator[Frame]:
        if self._state != "ready":
            message = f"{self.name}: a source is iterated once, this one is {self._state}; open it again"
            raise SourceError(message)
        self._state = "open"
        return self._checked()

    def _checked(self) -> Iterator[Frame]:
        for frame in self._frames():
            self._tell_all()
            yield frame
            if self._stopped.is_set():
                return
        self._tell_all()

    def listen(
        self,
        *,
        notice: Callable[[Notice], None] | None = None,
        idle: Callable[[], bool | None] | None = None,
        taken_before: Callable[[str], bool] | None = None,
        ahead: Callable[[Image], PreparedField] | None = None,
    ) -> None:
        """Tell these, too; to be called before the source is iterated.

        Args:
            notice: as for `open_source`.
            idle: as for `open_source`.
            taken_before: says of a file's hash whether its picture is known: a folder does not decode it, and tells of
                it by a notice "again". Called from any thread.
            ahead: makes of a picture what can be made before its turn comes: a folder calls it on the threads that
                decode, several at once, and gives the answer as `Frame.ahead`. What it raises ends the iteration.
        """
        self._notice += [] if notice is None else [notice]
        self._idle += [] if idle is None else [idle]
        self._taken_before = taken_before or self._taken_before
        self._ahead = ahead or self._ahead

    def stop(self) -> None:
        """Let the iteration end soon; may be called from another thread, not from a signal handler: it takes a lock."""
        self._stopped.set()

    def close(self) -> None:
        """Stop, and let go of threads, processes and devices. Twice is fine."""
        self.stop()
        if self._state != "closed":
            self._state = "closed"
            self._release()

    def __repr__(self) -> str:
        dropped = f", {self._dropped} dropped" if self._dropped else ""
        return f"<{type(self).__name__} {self.name}: {self._state}, {self._frames_given} frames{dropped}>"

    def _next_number(self) -> int:
        self._frames_given += 1
        return self._frames_given

    def _note(
        self,
        kind: Literal["lost", "back", "stale", "setting", "unreadable", "again", "ended", "left out"],
        text: str,
        path: Path | None = None,
        sha256: str | None = None,
    ) -> None:
        """Keep a notice until the thread that iterates can be told; may be called from any thread."""
        self._notices.put(Notice(kind, text, now(), path, sha256))

    def _tell_all(self) -> None:
        while not self._notices.empty():
            told = self._notices.get()
            for listener in self._notice:
                listener(told)

    def _tick(self) -> None:
        """Nothing came for a while: tell what happened, and let the listener do something else or end this."""
        self._tell_all()
        for listener in self._idle:
            if listener() is True:
                self.stop()

    def _pause(self, seconds: float) -> None:
        """Wait up to `TICK_S` of `seconds`, after a tick; ends at once when stopped."""
        self._tick()
        self._stopped.wait(min(seconds, TICK_S))
