"""Fields of one slide that wait to be named together, so that each is shown by the slide's scale and not by its own.

The estimate for a field is made of the fields before it, a block at a time, so that it does not hang on where a run was
stopped, nor on who decodes what first: the first block is looked at as a whole before any of it is named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..model.microscope import FirstLook, Microscope, block_of, known_before

if TYPE_CHECKING:
    from ..records import FieldLook, Frame


@dataclass(frozen=True, eq=False)
class Waiting:
    """A field that was looked at and is not named yet.

    Attributes:
        frame: the picture.
        look: what it shows, by its own scale.
        first: what it says of the microscope; None of a refused field.
        took_ms: to look.
    """

    frame: Frame
    look: FieldLook
    first: FirstLook | None
    took_ms: float


class Together:
    """The first looks of a slide's used fields, in order, and the fields that wait."""

    def __init__(self, known: Sequence[FirstLook], block: int, given: Microscope | None = None) -> None:
        """Go on with what is known of a slide.

        Args:
            known: of the used fields that were named before.
            block: fields that are looked at together.
            given: what is known of the microscope; None to tell it from the fields.
        """
        self._looks = list(known)
        self._named = len(known)
        self._block = block_of(known[0].size, block) if known else block
        self._asked, self._given = block, given
        self._waiting: list[Waiting] = []
        self._estimate: tuple[int, Microscope] | None = None

    def add(self, field: Waiting) -> None:
        """Let one more field wait."""
        if field.first is not None:
            if not self._looks:
                self._block = block_of(field.first.size, self._asked)
            self._looks.append(field.first)
        self._waiting.append(field)

    @property
    def complete(self) -> bool:
        """Whether those that wait can be named: the first block is there."""
        return self._given is not None or len(self._looks) >= self._block

    def waits(self, sha256: str) -> bool:
        """Whether this picture is among those that wait."""
        return any(one.frame.sha256 == sha256 for one in self._waiting)

    def take(self) -> list[tuple[Waiting, Microscope]]:
        """Those that wait, each with what is known of its microscope; they wait no longer."""
        taken = []
        for one in self._waiting:
            self._named += one.first is not None
            taken.append((one, self.microscope(max(self._named, 1))))
        self._waiting = []
        return taken

    def microscope(self, number: int) -> Microscope:
        """The estimate for the used field of that number, from 1."""
        if self._given is not None:
            return self._given
        count = min(known_before(number, self._block), len(self._looks))
        if self._estimate is None or self._estimate[0] != count:
            self._estimate = count, Microscope.of(self._looks[:count])
        return self._estimate[1]
