"""What a long job says while it works; who listens decides how it looks (terminal, log, nothing)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

Progress = Callable[[int, int], None]
"""Called with (done, total); drawing it is the caller's business."""


class Reporter(Protocol):
    """Is told how far a job is."""

    def say(self, text: str) -> None:
        """One line that is worth keeping."""

    def bar(self, title: str) -> AbstractContextManager[Progress]:
        """A progress bar for one part of the job."""

    def log_to(self, path: Path) -> None:
        """Keep what is said in a file, too; it is added to."""


class Silent:
    """Listens and says nothing."""

    def say(self, text: str) -> None:
        """Drop it."""

    def log_to(self, path: Path) -> None:
        """Keep nothing."""

    def bar(self, title: str) -> AbstractContextManager[Progress]:  # noqa: ARG002
        """A progress that is not drawn."""
        return nullcontext(lambda done, total: None)  # noqa: ARG005


SILENT = Silent()
