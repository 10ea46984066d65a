"""Cells found in a picture, and what finds them."""

from __future__ import annotations

from dataclasses import dataclass, field

from .light import Halves

RED_CELL_UM = 7.5
"""Diameter of a red cell on a smear, µm (as in `drawn`: Bain, Blood Cells: A Practical Guide)."""


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


@dataclass(frozen=True)
class Located:
    """What was found in a field.

    Attributes:
        cells: white cells from top to bottom, then left to right.
        red_cell_px: diameter of a red cell, pixels: given by `um_per_px`, else measured; None where none are seen.
        halves: of the picture, for others who look at it; None where `locate` did not make this.
    """

    cells: tuple[Box, ...]
    red_cell_px: float | None
    halves: Halves | None = field(default=None, repr=False, compare=False)
