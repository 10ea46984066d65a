"""From the planes that a locator's network gives to white cells and the diameter of a red cell.

The network gives, for every 4 pixels of its input, a point of three planes of bytes. What a byte stands for is looked
up in tables of whole numbers, and all that decides is reckoned in whole numbers, so that equal planes give equal cells
on every machine.

========  =========================================================================================================
white     how surely the middle of a white cell lies here, 0 to 255
shape     of that cell's visible box: its middle from here, to the right and down (grid steps); base-2 logarithms of
          its width and height over 32 pixels; and the share of the cell that is seen
ruler     how surely the scale is told here (base-4 logarithm of a weight); base-2 logarithm of a red cell's diameter
          over 16 pixels
========  =========================================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

STRIDE = 4
"""Pixels of the input between two points."""

WHITE_CELL_UNIT, RED_CELL_UNIT = 32.0, 16.0
"""Pixels: what widths and heights of white cells, and diameters of red cells, are given over."""

CHANNELS = {"white": 1, "shape": 5, "ruler": 2}
"""Of each plane."""

FINE = 64
"""Parts of a pixel that places and sizes are reckoned in."""

_ONE = 256  # weight
_SURE = (-1.0, 1.5)  # range of the ruler's certainty
_SAME = 0.45  # intersection over union, or 0.6 of the smaller box, from which two peaks are one cell
_INSIDE = 0.75


@dataclass(frozen=True, eq=False)
class Scale:
    """What the bytes of one plane stand for: ``scale * (byte - zero_point)``, bytes 0 to 255."""

    scale: float
    zero_point: int

    def values(self) -> list[float]:
        """Of each byte."""
        return [self.scale * (byte - self.zero_point) for byte in range(256)]


@dataclass(frozen=True, eq=False)
class Planes:
    """What the network gave of one input.

    Attributes:
        white: uint8, shape (rows, columns): probability times 256.
        shape: uint8, shape (rows, columns, 5).
        ruler: uint8, shape (rows, columns, 2).
    """

    white: Bytes
    shape: Bytes
    ruler: Bytes


@dataclass(frozen=True)
class Peak:
    """A white cell of an input: its box in parts of a pixel (`FINE`), heat 0..255, and the share seen, percent."""

    left: int
    top: int
    right: int
    bottom: int
    heat: int
    seen: int

    def overlaps(self, other: Peak) -> bool:
        """Whether both are one cell."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        if width <= 0 or height <= 0:
            return False
        shared, one, two = width * height, self.area, other.area
        return shared > _SAME * (one + two - shared) or shared > _INSIDE * min(one, two)

    @property
    def rectangle(self) -> tuple[float, float, float, float]:
        """(x, y, width, height) of the box, pixels."""
        return self.left / FINE, self.top / FINE, (self.right - self.left) / FINE, (self.bottom - self.top) / FINE

    @property
    def area(self) -> int:
        """Of the box."""
        return (self.right - self.left) * (self.bottom - self.top)


class Decoder:
    """Reads the planes of one network, whose bytes stand for values by fixed scales."""

    def __init__(self, shape: Scale, ruler: Scale) -> None:
        """Make the tables."""
        values = shape.values()
        self._steps = [round(FINE * STRIDE * value) for value in values]
        self._halves = [round(FINE * WHITE_CELL_UNIT / 2 * 2.0**value) for value in values]
        self._seen = [min(max(round(100 * value), 0), 100) for value in values]
        low, high = _SURE
        self._weights = np.array([round(_ONE * 4.0 ** min(max(value, low), high)) for value in ruler.values()])
        self._diameters = [round(FINE * RED_CELL_UNIT * 2.0**value) for value in ruler.values()]

    def peaks(self, planes: Planes, threshold: int, size: tuple[int, int]) -> list[Peak]:
        """White cells, surest first.

        Args:
            planes: of one input.
            threshold: least heat, 1..255.
            size: (height, width) of the part of the input that is picture, from its upper left corner; pixels.
        """
        import cv2

        white = planes.white
        highest: Any = cv2.dilate(white, np.ones((3, 3), np.uint8))
        places = np.flatnonzero((white == highest) & (white >= threshold))
        columns = white.shape[1]
        found = [
            self._peak(divmod(place, columns), planes, size)
            for place in sorted(places.tolist(), key=lambda place: -int(white.flat[place]))
        ]
        return list(different(peak for peak in found if peak.area > 0))

    def _peak(self, place: tuple[int, int], planes: Planes, size: tuple[int, int]) -> Peak:
        row, column = place
        right, down, width, height, seen = planes.shape[row, column].tolist()
        middle_x = FINE * (STRIDE * column + STRIDE // 2) + self._steps[right]
        middle_y = FINE * (STRIDE * row + STRIDE // 2) + self._steps[down]
        half_width, half_height = self._halves[width], self._halves[height]
        return Peak(
            max(middle_x - half_width, 0),
            max(middle_y - half_height, 0),
            min(middle_x + half_width, FINE * size[1]),
            min(middle_y + half_height, FINE * size[0]),
            int(planes.white[row, column]),
            self._seen[seen],
        )

    def red_cell(self, planes: Planes, size: tuple[int, int]) -> float:
        """Diameter of a red cell, pixels of the input: the weighted median of what all points say."""
        rows, columns = (-(-side // STRIDE) for side in size)
        ruler = planes.ruler[:rows, :columns].reshape(-1, 2)
        counts = np.bincount(ruler[:, 1], weights=self._weights[ruler[:, 0]], minlength=256)
        below = np.cumsum(counts)  # whole numbers, which float64 holds exactly
        half = float(below[-1]) / 2
        place = int(np.searchsorted(below, half))
        inside = float((half - (below[place - 1] if place else 0.0)) / counts[place])  # of the byte's step
        low, high = self._edge(place), self._edge(place + 1)
        return (low + inside * (high - low)) / FINE

    def sureness(self, planes: Planes, size: tuple[int, int]) -> float:
        """How well the picture tells its scale: the mean weight of its points.

        A point of weight w takes itself to be a quarter of an octave over w off, on average.
        """
        rows, columns = (-(-side // STRIDE) for side in size)
        weights = self._weights[planes.ruler[:rows, :columns, 0]]
        return int(weights.sum()) / (_ONE * weights.size)

    def _edge(self, byte: int) -> float:
        """Diameter between a byte and the one before it."""
        before, after = max(byte - 1, 0), min(byte, 255)
        middle: float = (self._diameters[before] + self._diameters[after]) / 2
        return middle


def different(peaks: Iterable[Peak]) -> Iterator[Peak]:
    """Each cell once: the surer peak of two that overlap."""
    kept: list[Peak] = []
    for peak in peaks:
        if not any(peak.overlaps(other) for other in kept):
            kept.append(peak)
            yield peak


def as_bytes(plane: NDArray[Any], scale: Scale) -> Bytes:
    """Float values as an int8 file would give them."""
    levels: Bytes = np.clip(np.rint(plane / scale.scale) + scale.zero_point, 0, 255).astype(np.uint8)
    return levels


FLOAT_SCALES: Sequence[Scale] = (Scale(1 / 256, 0), Scale(1 / 40, 128), Scale(1 / 64, 128))
"""Of white, shape and ruler where a network gives floats: finer than what values come to."""
