"""Pictures of one microscope that wait to be named together, so that each is shown by the scale of all.

The estimate for a picture is made of those before it, a block at a time, so that it does not hang on where a run was
stopped, nor on who decodes what first: the first block is looked at as a whole before any of it is named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from .microscope import POOL, REMEMBERED, FirstLook, Microscope, asked_of, block_of

T = TypeVar("T")


@dataclass(frozen=True)
class Before:
    """Pictures that were named before: those of a slide that goes on.

    Attributes:
        count: how many.
        size: (height, width) of the first one; None where there is none.
        last: what the last ones say, at most `REMEMBERED` and a block of them.
    """

    count: int = 0
    size: tuple[int, int] | None = None
    last: tuple[FirstLook, ...] = ()


class Together(Generic[T]):
    """Pictures that wait, and what those before them say of the microscope."""

    def __init__(self, together: int = POOL, *, before: Before | None = None, given: Microscope | None = None) -> None:
        """Begin, or go on.

        Args:
            together: pictures that are looked at together.
            before: those that were named already.
            given: what is known of the microscope; None to tell it from the pictures.
        """
        before = before or Before()
        self._together, self._given = together, given
        self._count = self._named = before.count
        self._block = together if before.size is None else block_of(before.size, together)
        self._looks: deque[FirstLook] = deque(before.last, maxlen=REMEMBERED + 2 * max(together, POOL))
        self._waiting: list[tuple[T, FirstLook | None]] = []
        self._estimate: tuple[range, Microscope] = range(0), Microscope()

    def add(self, item: T, first: FirstLook | None) -> None:
        """Let one more wait; `first` is None where the picture says nothing, as a refused one."""
        if first is not None:
            if not self._count:
                self._block = block_of(first.size, self._together)
            self._count += 1
            self._looks.append(first)
        self._waiting.append((item, first))

    @property
    def complete(self) -> bool:
        """Whether those that wait can be named: the first block is there."""
        return self._given is not None or self._count >= self._block

    @property
    def count(self) -> int:
        """How many have said something so far, those before among them."""
        return self._count

    def said(self) -> Microscope:
        """What all of them say, or the last of many."""
        return Microscope.of(list(self._looks)) if self._given is None else self._given

    @property
    def waiting(self) -> Sequence[T]:
        """Those that wait."""
        return [item for item, _ in self._waiting]

    def take(self) -> list[tuple[T, FirstLook | None, Microscope]]:
        """Those that wait, each with what it says, and with what is known of its microscope; they wait no longer."""
        taken = []
        for item, first in self._waiting:
            self._named += first is not None
            taken.append((item, first, self._microscope(max(self._named, 1))))
        self._waiting = []
        return taken

    def _microscope(self, number: int) -> Microscope:
        """The estimate for the picture of that number, from 1."""
        if self._given is not None:
            return self._given
        asked = asked_of(number, self._block)
        asked = range(min(asked.start, self._count), min(asked.stop, self._count))
        if self._estimate[0] != asked:
            dropped = self._count - len(self._looks)
            known = [self._looks[place - dropped] for place in asked if place >= dropped]
            self._estimate = asked, Microscope.of(known)
        return self._estimate[1]
