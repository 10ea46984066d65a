"""Cells found in a picture, and the form of what finds them."""

from __future__ import annotations

import math
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
        seen: share of the cell's area that the picture shows, 0..1, see `share_seen`; 1 where it is whole.
    """

    x: int
    y: int
    width: int
    height: int
    whole: bool
    touching: bool
    seen: float = 1.0

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


def sides_cut(rectangle: Rectangle, size: tuple[int, ...]) -> tuple[int, int]:
    """At how many of its sides, left or right and top or bottom, a picture of (height, width) ends with a box."""
    x, y, width, height = rectangle
    return (x <= 0) + (x + width >= size[1]), (y <= 0) + (y + height >= size[0])


def disc_of(width: float, height: float, across: int, down: int) -> tuple[float, float, float]:
    """The disc that a cell is taken for, by the box of what is seen of it.

    - Cut at one side, with depth w and extent h along it: where w >= h/2 its diameter is h, since its middle is seen;
      else h is a chord, and the diameter is w + h²/(4w) (sagitta of a circle).
    - Cut by a corner: any diameter from the longer side to twice the shorter one fits. Taken is the geometric mean of
      the two, the median if sizes are spread evenly in their logarithm. Where the longer side is more than twice the
      shorter one it is a chord, as above; both are equal where they meet.
    - Cut at opposite sides, the extent between the others; at three or four sides, as by a corner.

    Args:
        width: of the box, above 0.
        height: likewise.
        across: how many of its left and right side cut it, 0..2.
        down: how many of its upper and lower side do.

    Returns:
        x and y of the middle, from those sides that cut, or from either where none or both do, and the diameter.
    """
    if across and down and max(width, height) > 2 * min(width, height):
        across, down = (0, 1) if width > height else (1, 0)
    if across and down:
        diameter = math.sqrt(2 * width * height)
    elif across or down:
        depth, extent, cuts = (width, height, across) if across else (height, width, down)
        diameter = extent if cuts == 2 or 2 * depth >= extent else depth + extent * extent / (4 * depth)
    else:
        diameter = (width + height) / 2
    x, y = (side - diameter / 2 if cuts == 1 else side / 2 for side, cuts in ((width, across), (height, down)))
    return x, y, diameter


def share_seen(width: float, height: float, across: int, down: int) -> float:
    """Share of a cell's area that is seen, 0..1: of the disc that `disc_of` takes it for, with the same arguments.

    Rounded to six places, by far more than `math` may differ on another machine.
    """
    if not across and not down:
        return 1.0
    return round(share_inside(*disc_of(width, height, across, down), width, height), 6)


def share_inside(x: float, y: float, diameter: float, width: float, height: float) -> float:
    """Share of a disc that lies in a picture, 0..1: what a locator that knows a cell's middle and size gives as `seen`.

    Args:
        x: of its middle, from the left edge.
        y: from the upper edge.
        diameter: above 0.
        width: of the picture, in the same unit.
        height: likewise.
    """
    left, right, top, bottom = (2 * side / diameter for side in (-x, width - x, -y, height - y))
    area = _quarter(right, bottom) - _quarter(left, bottom) - _quarter(right, top) + _quarter(left, top)
    return min(max(area / math.pi, 0.0), 1.0)


def _quarter(x: float, y: float) -> float:
    """Area of the unit disc to the left of x and above y."""
    x, y = min(max(x, -1.0), 1.0), min(max(y, -1.0), 1.0)
    left, above = (math.pi / 2 + side * math.sqrt(1 - side * side) + math.asin(side) for side in (x, y))
    if x * x + y * y < 1:  # the corner lies in the disc
        return (left + above) / 2 + x * y - math.pi / 4
    if x < 0 or y < 0:
        return 0.0 if x < 0 and y < 0 else left if x < 0 else above
    return left + above - math.pi


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
