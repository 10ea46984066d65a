"""What a long job says while it works; who listens decides how it looks (terminal, log, nothing)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Progress = Callable[[int, int], None]
"""Called with (done, total); drawing it is the caller's business."""


class Reporter(Protocol):
    """Someone who is told how far a job is."""

    def say(self, text: str) -> None:
        """One line that is worth keeping."""

    def bar(self, title: str) -> AbstractContextManager[Progress]:
        """A progress bar for one part of the job."""


class Silent:
    """Listens and says nothing."""

    def say(self, text: str) -> None:
        """Drop it."""

    def bar(self, title: str) -> AbstractContextManager[Progress]:  # noqa: ARG002
        """A progress that nobody draws."""
        return nullcontext(lambda done, total: None)  # noqa: ARG005


SILENT = Silent()
