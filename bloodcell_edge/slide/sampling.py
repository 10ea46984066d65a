"""How a slide's fields were chosen, and what each counted cell stands for by that.

Where fields are taken without aiming, the edge cuts large cells more often than small ones, and too little is seen of
them to be counted. What was counted is set right by weighing each cell with the inverse of the chance that one of its
size is counted (Miles 1974, On the elimination of edge effects in planar sampling, in Stochastic Geometry; Lantuejoul
1980, On the estimation of mean values in individual analysis of particles, Microscopica Acta Suppl. 4). A field that
was aimed at a cell, so that it lies in the middle, shows it whole however large it is: nothing is weighed there. Nor is
it where fields overlap, since the next field shows whole what an edge cuts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from ..imaging.located import Rectangle, disc_of, share_seen, sides_cut
from ..imaging.views import LEAST_SEEN

_MIDDLE = 3  # the middle of a field is one part in so many of its width and of its height
_DEVIATIONS = 3.0  # by which more fields have a cell there than chance has
_MET_AGAIN = 0.05  # share of the cells that were met before, from which fields overlap
_HALVINGS = 40

AIMED = "the fields were aimed at cells"
OVERLAPPING = "fields overlap, and one shows whole what another one cuts"
AS_LARGE = "a cell is as large as its field"
OLD_RULE = "cut cells are counted"
UNPLACED = "it is not known where the cells lie"


@dataclass(frozen=True)
class Sighting:
    """A cell in a field.

    Attributes:
        field: its number.
        box: (x, y, width, height) in pixels of the field.
        size: (width, height) of the field.
        label: by which it is weighed; None for one that is not.
        again: it was counted in an earlier field.
    """

    field: int
    box: Rectangle
    size: tuple[int, int]
    label: str | None
    again: bool = False


@dataclass(frozen=True)
class Weighed:
    """Counted cells by the chance that one of their size is counted.

    Attributes:
        sums: label -> sum of its cells' weights.
        n: so many cells of one weight would be as sure: (sum of weights)² / sum of their squares (Kish 1965, Survey
            Sampling).
    """

    sums: Mapping[str, float]
    n: float


def weigh(cells: Sequence[Sighting]) -> Weighed | str:
    """Weigh the labelled cells of a slide; or why they all weigh the same.

    Args:
        cells: all that were found, also those that are not counted.
    """
    if are_aimed(cells):
        return AIMED
    if sum(cell.again for cell in cells) > _MET_AGAIN * len(cells):
        return OVERLAPPING
    sums: dict[str, float] = defaultdict(float)
    squares = 0.0
    for cell in cells:
        if cell.label is not None:
            (width, height), sides = cell.size, sides_cut(cell.box, cell.size[::-1])
            area = counted_area(disc_of(*cell.box[2:], *sides)[2], width, height)
            if not area:
                return AS_LARGE
            weight = width * height / area
            sums[cell.label] += weight
            squares += weight * weight
    return Weighed(sums, sum(sums.values()) ** 2 / squares if squares else 0.0)


def counted_area(diameter: float, width: float, height: float, least_seen: float = LEAST_SEEN) -> float:
    """Area of the positions of its middle at which a disc is counted; 0 where it is as large as the field.

    At a corner none is: of two sides cut, `share_seen` never makes more than 0.561 of what it does not know.

    Args:
        diameter: of the disc, in one unit with the field.
        width: of the field.
        height: likewise.
        least_seen: share of a disc that must be seen, above 0.561.
    """
    if diameter >= min(width, height):
        return 0.0
    beyond = (1 - least_depth(least_seen)) * diameter  # so far past the edge a disc may reach
    across, down = width - diameter, height - diameter
    return across * down + 2 * beyond * (across + down)


@cache
def least_depth(least_seen: float) -> float:
    """How much of its diameter must be seen of a disc that is cut at one side, 1/2..1; by halving."""
    low, high = 0.5, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if share_seen(middle, 1.0, 1, 0) >= least_seen else (middle, high)
    return high


def are_aimed(cells: Sequence[Sighting]) -> bool:
    """True where cells lie in the middle of most fields, or fewer are cut than where fields fall on them by chance.

    The first is what pictures of single cells look like, the second photographs that were framed to hold one: of 280
    BCCD photographs 71 % of the 279 cells with their middle in the field are whole, by chance 43 % would be.
    """
    return _lie_in_the_middle(cells) or _are_spared(cells)


def _lie_in_the_middle(cells: Sequence[Sighting]) -> bool:
    """In most fields a cell lies in the middle ninth, and in more of them than by chance: each cell does once in nine.

    A field without any cell says nothing, and one with many of them little.
    """
    fields: dict[int, list[bool]] = defaultdict(list)
    for cell in cells:
        middle = (
            abs(2 * start + side - length) * _MIDDLE < length
            for start, side, length in zip(cell.box[:2], cell.box[2:], cell.size, strict=True)
        )
        fields[cell.field].append(all(middle))
    central = sum(any(one) for one in fields.values())
    chances = [1 - (1 - 1 / _MIDDLE**2) ** len(one) for one in fields.values()]
    return 2 * central > len(fields) and _more_than_by_chance(central, chances)


def _are_spared(cells: Sequence[Sighting]) -> bool:
    """Of the cells whose middle lies in the field, more are whole than by chance.

    That a disc of diameter d is whole in a field of W x H has the chance (W - d)(H - d) / WH, where its middle lies
    anywhere in it. The middle of a cut cell is the one that `disc_of` gives it.
    """
    whole, chances = 0, []
    for cell in cells:
        sides = sides_cut(cell.box, cell.size[::-1])
        x, y, diameter = disc_of(*cell.box[2:], *sides)
        if x >= 0 and y >= 0:
            whole += sides == (0, 0)
            across, down = (max(length - diameter, 0) / length for length in cell.size)
            chances.append(across * down)
    return _more_than_by_chance(whole, chances)


def _more_than_by_chance(number: int, chances: Sequence[float]) -> bool:
    """By three standard deviations more than as many throws with these chances give."""
    variance = sum(chance * (1 - chance) for chance in chances)
    return number > sum(chances) + _DEVIATIONS * math.sqrt(variance)
