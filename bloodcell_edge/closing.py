"""What is to be closed closes itself at the end of a ``with``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Closing:
    """A context manager that gives itself, and whose end is `close`, whatever ended the block."""

    def close(self) -> None:
        """Let go of what is held. Twice is fine."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
