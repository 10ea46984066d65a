"""What a model is shown of a picture: the whole of it (view "frame"), or a crop around each white cell (view "cell").

A crop is a square of fixed size on the smear, so that a large cell looks large: the relative size of cells tells types
apart. The picture's red cells are its ruler; where none are seen, the cell itself must do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import SpecError
from .image import prepare, resize
from .light import Halves, Illumination
from .located import RED_CELL_UM
from .ranks import ranked

if TYPE_CHECKING:
    from .image import Image
    from .located import Box, Located, Rectangle

VIEWS = ("frame", "cell")
"""What one picture gives: "frame" the whole picture, squeezed; "cell" a crop for each located cell."""

CROP_UM = 20.0
"""Usual side of a crop, µm on the smear: 95 % of white cells on smears are smaller than 18 µm (BCCD), the rest is
context."""

WHITE_CELL_UM = 15.0
"""Longer side of a located white cell, µm: the median of BCCD and PBC pictures, by their red cells."""

LIGHTS = ("camera", "white")
"""How bright a crop is: "camera" as it was taken, "white" with the empty field brought to white (`light`)."""

EDGE, TOUCHING = "edge", "touching"
"""Marks of cells that no label is given to: too little is seen of it (not of a portrait); touching another one."""

LEAST_SEEN = 0.75
"""Share of a cell, cut by the picture's edge or the rim of the light, that must be seen to name it: the least at which
accuracy among named cells is still inside the interval of whole ones. Of 750 held-back cells cut at each side the
shipped int8 file names 99.5 % right of those it names whole (98.6 to 99.9 %), 99.0 % of those that it takes for seen by
80 %, 97.1 % by 70 %, 90.8 % by 60 %, 86.1 % by half (benchmarks/cut_cells.py)."""

NONE_CUT = math.inf
"""In place of `LEAST_SEEN`: a cell cut at all is marked, as was the rule before version 2 of the store."""

_PORTRAIT = 2  # a cell whose box is one part in so many of the picture is what it was taken of
_EMPTY_RANK = 95  # per cent of a picture's pixels are darker than its empty field


@dataclass(frozen=True, eq=False)
class Shown:
    """What a model is shown at once.

    Attributes:
        pixels: uint8 RGB, shape (*size, 3).
        box: (x, y, width, height) of the cell in pixels of the picture; None where it is the whole picture.
        mark: EDGE or TOUCHING; empty where the cell may be named.
    """

    pixels: Image
    box: Rectangle | None
    mark: str = ""


@dataclass(frozen=True)
class View:
    """How pictures are shown to one model.

    Attributes:
        name: one of `VIEWS`.
        size: the model's input (height, width), pixels.
        crop_um: side of a crop on the smear, µm; None for view "frame".
        light: one of `LIGHTS`; "camera" for view "frame".

    Raises:
        SpecError: not a view, or a crop without a side.
    """

    name: str
    size: tuple[int, int]
    crop_um: float | None = None
    light: str = "camera"

    def __post_init__(self) -> None:
        """Refuse what cannot be shown."""
        if self.name not in VIEWS:
            message = f"view must be one of {', '.join(VIEWS)}, found {self.name!r}"
            raise SpecError(message)
        if self.name == "cell" and not (self.crop_um and self.crop_um > 0):
            message = f"view 'cell' needs the side of a crop in µm, such as {CROP_UM}, found {self.crop_um}"
            raise SpecError(message)
        if self.light not in (LIGHTS if self.name == "cell" else LIGHTS[:1]):
            message = f"light must be one of {', '.join(LIGHTS)}, and camera for view 'frame', found {self.light!r}"
            raise SpecError(message)

    @property
    def needs_cells(self) -> bool:
        """True where `show` must be given what was located."""
        return self.name == "cell"

    def show(self, image: Image, located: Located | None, *, least_seen: float = LEAST_SEEN) -> tuple[Shown, ...]:
        """Everything of a picture that the model is asked about.

        Args:
            image: uint8 RGB, shape (height, width, 3).
            located: its cells; view "frame" needs none.
            least_seen: share of a cell below which it is marked `EDGE`.

        Raises:
            ValueError: view "cell" without `located`: the caller has a bug.
        """
        if not self.needs_cells:
            return (Shown(prepare(image, self.size), None),)
        found = self._given(located)
        lamp = self._lamp(image, found) if found.cells else None
        return tuple(self._cell(image, box, found.red_cell_px, lamp, least_seen=least_seen) for box in found.cells)

    def show_labelled(self, image: Image, located: Located | None, *, margin: float = 1.0) -> Shown | None:
        """What a labelled picture stands for: its most prominent cell, or all of it; None where it has no cell.

        That is the largest cell not cut by the edge, or half the picture large; where all are cut, the largest of
        which enough is seen, or the largest, which keeps its mark.

        Args:
            image: uint8 RGB, shape (height, width, 3).
            located: its cells; view "frame" needs none.
            margin: of view "cell", crop and size times this, for training, which turns and shifts crops and must see
                what comes in.

        Raises:
            ValueError: view "cell" without `located`: the caller has a bug.
        """
        if not self.needs_cells:
            return self.show(image, None)[0]
        found = self._given(located)
        if not found.cells:
            return None
        prominent = max(
            found.cells,
            key=lambda box: (
                not is_cut(box, image.shape, NONE_CUT),
                not is_cut(box, image.shape),
                box.width * box.height,
            ),
        )
        return self._cell(image, prominent, found.red_cell_px, self._lamp(image, found), margin)

    def _given(self, located: Located | None) -> Located:
        if located is None:
            message = f"view {self.name!r} shows located cells, and was given none: locate them first"
            raise ValueError(message)
        return located

    def _lamp(self, image: Image, located: Located) -> Illumination | None:
        if self.light != "white":
            return None
        made = located.halves
        return Illumination.of(made if made is not None and made.image is image else Halves(image))

    def _cell(
        self,
        image: Image,
        box: Box,
        red_cell_px: float | None,
        lamp: Illumination | None,
        margin: float = 1.0,
        least_seen: float = LEAST_SEEN,
    ) -> Shown:
        square = window(box, image.shape[:2], red_cell_px, self.crop_um or CROP_UM)
        square = square if margin == 1.0 else _widened(square, margin)
        pixels = resize(crop(image, square), (round(self.size[0] * margin), round(self.size[1] * margin)))
        mark = EDGE if is_cut(box, image.shape, least_seen) else TOUCHING if box.touching else ""
        white = pixels if lamp is None else lamp.whiten(pixels, square)
        return Shown(white, box.rectangle, mark)


def is_cut(box: Box, size: tuple[int, ...], least_seen: float = LEAST_SEEN) -> bool:
    """Too little is seen of a cell to name it; a portrait is cut tightly around its cell, which loses little.

    Args:
        box: the cell.
        size: (height, width) of the picture.
        least_seen: share of it that is enough.
    """
    portrait = box.width * box.height * _PORTRAIT >= size[0] * size[1]
    return not box.whole and not portrait and box.seen < least_seen


def window(box: Box, size: tuple[int, ...], red_cell_px: float | None, crop_um: float = CROP_UM) -> Rectangle:
    """The square around a cell; moved into the picture where it would reach over an edge.

    Only in a picture that is smaller than the square does it reach over the edges, on both sides alike.

    Args:
        box: the cell.
        size: (height, width) of the picture.
        red_cell_px: the picture's ruler; None takes the cell itself for one of usual size.
        crop_um: side of the square on the smear, µm.
    """
    px_per_um = max(box.width, box.height) / WHITE_CELL_UM if red_cell_px is None else red_cell_px / RED_CELL_UM
    side = max(round(crop_um * px_per_um), 2)
    return (
        _inside(2 * box.x + box.width, side, size[1]),
        _inside(2 * box.y + box.height, side, size[0]),
        side,
        side,
    )


def _inside(twice_middle: int, side: int, length: int) -> int:
    """Where a window begins on one axis."""
    if side >= length:
        return (length - side) // 2
    return min(max((twice_middle - side) // 2, 0), length - side)


def _widened(square: Rectangle, margin: float) -> Rectangle:
    """The same middle, a longer side."""
    x, y, side, _ = square
    more = round(side * (margin - 1) / 2)
    return x - more, y - more, side + 2 * more, side + 2 * more


def crop(image: Image, square: Rectangle) -> Image:
    """Cut out a window; what lies beyond the picture's edge has the colour of its empty field.

    Args:
        image: uint8 RGB, shape (height, width, 3).
        square: (x, y, width, height), overlapping the picture.

    Returns:
        uint8 RGB, shape (height, width, 3) of the window, C-contiguous.
    """
    x, y, width, height = square
    top, left = max(y, 0), max(x, 0)
    seen = image[top : min(y + height, image.shape[0]), left : min(x + width, image.shape[1])]
    if seen.shape[:2] == (height, width):
        return np.ascontiguousarray(seen)
    empty = [ranked(image[..., channel], _EMPTY_RANK, 100) for channel in range(3)]
    whole = np.full((height, width, 3), empty, np.uint8)
    whole[top - y : top - y + seen.shape[0], left - x : left - x + seen.shape[1]] = seen
    return whole


def clipped(square: Rectangle, size: tuple[int, ...]) -> Rectangle:
    """The part of a window that lies in a picture of (height, width)."""
    x, y = max(square[0], 0), max(square[1], 0)
    return x, y, min(square[0] + square[2], size[1]) - x, min(square[1] + square[3], size[0]) - y
