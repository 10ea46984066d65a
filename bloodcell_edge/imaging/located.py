"""Cells found in a picture, and the form of what finds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from .light import Halves

if TYPE_CHECKING:
    from .image import Image

SAME_CELL = 0.4
"""Intersection over union from which two boxes are taken for the same cell where they are compared."""

RED_CELL_UM = 7.5
"""Diameter of a red cell on a smear, µm (Bain, Blood Cells: A Practical Guide)."""

Rectangle = tuple[int, int, int, int]
"""(x, y, width, height) in pixels of the picture."""


@dataclass(frozen=True)
class Box:
    """One white cell, or what looks like one.

    Attributes:
        x: left edge, pixels of the picture.
        y: upper edge.
        width: at least 1.
        height: at least 1.
        whole: not cut by the picture's edge.
        touching: touches another white cell, or is too wide to be one cell: not to be counted as one without a look.
    """

    x: int
    y: int
    width: int
    height: int
    whole: bool
    touching: bool

    @property
    def rectangle(self) -> Rectangle:
        """Where it is."""
        return self.x, self.y, self.width, self.height


@dataclass(frozen=True)
class Located:
    """What was found in a field.

    Attributes:
        cells: white cells from top to bottom, then left to right.
        red_cell_px: diameter of a red cell, pixels: given by `um_per_px`, else measured; None where none are seen.
        halves: of the picture, so that they need not be made again; None where `locate` did not make this.
    """

    cells: tuple[Box, ...]
    red_cell_px: float | None
    halves: Halves | None = field(default=None, repr=False, compare=False)


class Locator(Protocol):
    """Finds the white cells of a picture, such as `locate.locate`; called from several threads at once."""

    def __call__(self, image: Image, *, um_per_px: float | None = None) -> Located:
        """The cells and the picture's scale.

        Args:
            image: uint8 RGB, shape (height, width, 3).
            um_per_px: scale, µm per pixel, where it is known; else the picture tells it.

        Raises:
            PictureError: a picture in which it cannot look; a scale that is not positive.
        """


def overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (x, y, width, height)."""
    width = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    height = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def matches(
    found: Sequence[Sequence[float]], true: Sequence[Sequence[float]], least: float = SAME_CELL
) -> list[tuple[float, int, int]]:
    """(overlap, place in `found`, place in `true`) of boxes that fit, best first, each box used once."""
    ranked = sorted(((overlap(a, b), i, j) for i, a in enumerate(found) for j, b in enumerate(true)), reverse=True)
    pairs: list[tuple[float, int, int]] = []
    for fit, i, j in ranked:
        if fit >= least and all(i != a and j != b for _, a, b in pairs):
            pairs.append((fit, i, j))
    return pairs
