"""Which frames of a source are taken in: every one, one every N seconds, each new field at rest, or on a key press.

>>> from bloodcell_edge.capture import open_source
>>> from bloodcell_edge.capture.triggers import FieldChange
>>> with open_source("fake:smear?stage=scan&columns=3&rows=1&pace=0") as source, FieldChange() as wanted:
...     sum(wanted(frame) for frame in source)
3
"""

from __future__ import annotations

import select
import sys
import termios
import tty
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from ..closing import Closing
from ..errors import SourceError
from ..records import Frame
from .overlap import SmallCopy, likeness

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

_MOVED = 0.6  # two copies of one place correlate by more than this, however they are lit
_FIRST_PAUSE_NS, _LONGEST_PAUSE_NS = 10**9, 64 * 10**9
_LONGEST_PERIOD_S = 366 * 86_400
_EMPTY = 1.5  # grey levels: less structure than this is noise, and nothing to tell places by


class Trigger(Protocol):
    """Says of each frame, in order, whether it is to be taken in."""

    def __call__(self, frame: Frame) -> bool:
        """True: take it."""

    def refused(self) -> None:
        """The frame taken last was no good: its place may be taken once more."""

    def close(self) -> None:
        """Let go of what it listens to. Twice is fine."""

    def __enter__(self) -> Self:
        """The trigger itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


class EveryFrame(Closing):
    """Takes every frame."""

    def __call__(self, frame: Frame) -> bool:  # noqa: ARG002 - others look at it
        """True."""
        return True

    def refused(self) -> None:
        """Nothing: the next frame comes when it comes."""


class EverySeconds(EveryFrame):
    """Takes the first frame, then the first one of each further period, by the frames' own clock.

    Args:
        seconds: the period; more than 0, at most a year.

    Raises:
        SourceError: another period.
    """

    def __init__(self, seconds: float) -> None:
        if not 0 < seconds <= _LONGEST_PERIOD_S:
            message = f"every {seconds:g} seconds: expected more than 0, at most {_LONGEST_PERIOD_S:g}"
            raise SourceError(message)
        self._period_ns = round(seconds * 1e9)
        self._due_ns: int | None = None

    def __call__(self, frame: Frame) -> bool:
        """True where the period is over; periods that passed without a frame are not made up for."""
        if self._due_ns is not None and frame.monotonic_ns < self._due_ns:
            return False
        missed = 0 if self._due_ns is None else (frame.monotonic_ns - self._due_ns) // self._period_ns
        start_ns = frame.monotonic_ns if self._due_ns is None else self._due_ns + missed * self._period_ns
        self._due_ns = start_ns + self._period_ns
        return True


class FieldChange(EveryFrame):
    """Takes a field once, when the stage has moved and come to rest.

    One that was refused may only wait to be focused: it is taken again after 1 s, then 2, 4, ... up to 64.

    Args:
        rest_s: how long the picture must have stood still.
    """

    def __init__(self, rest_s: float = 0.25) -> None:
        self._rest_ns = round(rest_s * 1e9)
        self._before: SmallCopy | None = None
        self._taken: SmallCopy | None = None
        self._taken_ns = 0
        self._still_since_ns = 0
        self._pause_ns = _FIRST_PAUSE_NS
        self._again_ns: int | None = None

    def __call__(self, frame: Frame) -> bool:
        """True for the first frame of a field at rest that is not the field taken last."""
        small, before = SmallCopy.of(frame.image), self._before
        self._before = small
        if before is None or not _at_rest(before, small):
            self._still_since_ns = frame.monotonic_ns
            return False
        if frame.monotonic_ns - self._still_since_ns < self._rest_ns:
            return False
        if self._taken is None or not _same_place(self._taken, small):
            self._pause_ns = _FIRST_PAUSE_NS
        elif self._again_ns is None or frame.monotonic_ns < self._again_ns:
            return False
        self._taken, self._taken_ns, self._again_ns = small, frame.monotonic_ns, None
        return True

    def refused(self) -> None:
        """Take this place again after a while."""
        self._again_ns = self._taken_ns + self._pause_ns
        self._pause_ns = min(2 * self._pause_ns, _LONGEST_PAUSE_NS)


class KeyPress(EveryFrame):
    """Takes the next frame after a key was pressed on a terminal; keys pressed meanwhile count once.

    Args:
        terminal: default standard input. It echoes nothing and does not wait for Enter until this is closed;
            Ctrl-C goes on interrupting.

    Raises:
        SourceError: it is not a terminal.
    """

    def __init__(self, terminal: TextIO | None = None) -> None:
        self._terminal = terminal or sys.stdin
        if not self._terminal.isatty():
            message = "a key press was to take each field, but standard input is no terminal; start it on one"
            raise SourceError(message)
        self._before: list[Any] | None = termios.tcgetattr(self._terminal)
        tty.setcbreak(self._terminal)

    def __call__(self, frame: Frame) -> bool:  # noqa: ARG002 - the key decides
        """True where a key was pressed since the last time."""
        if self._before is None or not select.select([self._terminal], [], [], 0)[0]:
            return False
        termios.tcflush(self._terminal, termios.TCIFLUSH)
        return True

    def close(self) -> None:
        """Give the terminal back as it was. Twice is fine."""
        if self._before is not None:
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)
            self._before = None


def _at_rest(before: SmallCopy, small: SmallCopy) -> bool:
    """True where the picture did not move between two frames: they fit best unshifted, however noisy they are."""
    if before.pixels.shape != small.pixels.shape:
        return False
    if max(float(before.pixels.std()), float(small.pixels.std())) < _EMPTY:
        return True
    unmoved = likeness(before, small)
    around = ((x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y)
    return unmoved >= _MOVED and all(likeness(before, small, x, y) < unmoved for x, y in around)


def _same_place(a: SmallCopy, b: SmallCopy) -> bool:
    """True where two fields, both at rest, show the same place; two empty ones are taken to."""
    if a.pixels.shape != b.pixels.shape:
        return False
    empty = [float(small.pixels.std()) < _EMPTY for small in (a, b)]
    return all(empty) if any(empty) else likeness(a, b) >= _MOVED
