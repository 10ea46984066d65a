"""Ctrl-C and SIGTERM ask a long command to finish; a second one ends it at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def asked_to_finish() -> Iterator[Callable[[], bool]]:
    """Inside it, the function that is given says whether a signal has come.

    The handler only notes it: what the command is doing just then may hold any lock. The second signal is a
    KeyboardInterrupt.
    """
    came: list[int] = []

    def note(number: int, _: FrameType | None) -> None:
        came.append(number)
        for each in _SIGNALS:
            signal.signal(each, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
