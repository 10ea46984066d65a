"""White cells in a field by stain and shape, and the picture's own ruler: the diameter of its red cells.

What is used is physics rather than colour, so that no stain, lamp or white balance is built in. By the Beer-Lambert law
absorbances (optical densities) add up, and haemoglobin absorbs red, green and blue in one fixed proportion wherever it
lies. That proportion is measured in each picture, and what haemoglobin cannot explain is left: the blue dyes bound to
chromatin, which absorb red and green (methylene blue and azures, 600 to 670 nm; Ruifrok and Johnston 2001, Anal Quant
Cytol Histol 23:291 separate stains in the same way). Uneven light is the lower envelope of absorbance, taken channel
by channel.

All arithmetic that decides is in integers, or in OpenCV functions that are exact (``INTER_LINEAR_EXACT``, fixed-point
blur, ``DIST_L1``), so that x86 and arm64 find the same cells.

Lengths below are in red-cell diameters (7.5 µm) and areas in red-cell areas (44 µm²) unless they say pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PictureError
from .light import STEPS, Halves, find_unlit, halvings_until, meets_unlit, pieces_of, share_lit, square, with_light
from .located import RED_CELL_UM, Box, Located, share_seen, sides_cut
from .ranks import by_level, ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .image import Image

    Plane = NDArray[np.int16]
    Mask = NDArray[np.uint8]
    Outline = NDArray[np.int32]


# Sizes: small lymphocytes have the smallest nuclei, about as large as a red cell; platelets are 2 to 3 µm, giant ones
# as large as a red cell. Values chosen on the odd-numbered photographs, PBC pictures and drawn fields of
# benchmarks/locate_truth.py.
_SMALLEST_NUCLEUS = 0.38  # area
_SMALLEST_NUCLEUS_AT_EDGE = 0.35  # area of what is seen of it
_SMALLEST_LOBE = 0.04  # area; smaller is dust, granules and rims
_SMALLEST_SEED = 0.18  # area of the largest lobe of a nucleus
_LOBE_GAP = 0.35  # length between lobes of one nucleus
_SPECK_GAP = 0.2  # the same for pieces that no nucleus begins with
_WIDEST_NUCLEUS = 3.2  # length that lobes may have together where there is no gap between them
_GAP_COST = 1.0  # by how much of each gap that is less
_LARGEST_LOBE = 0.8  # area of a second lobe, from which it may be the nucleus of a second cell, and is marked
_WIDEST_LOBES = 2.6  # length, beyond which lobes may be those of two cells, and are marked
_WIDEST_PIECE = 3.5  # the same of one piece: nuclei of monocytes are wide, and their cytoplasm is as dark
_SOLIDITY = 0.4  # least share of its convex hull that a nucleus fills; specks of debris fill less
_LYMPHOID_CORE = 0.68  # radius of the largest disc in a nucleus that is one round piece; lobes are thinner
_PARTED_CORE = 0.5  # the same of two that are one piece with a neck between them
_LARGEST_CLUMP = 50  # area, beyond which nothing is parted: it is no clump of cells, but a smear or noise
_NECK = 0.45  # thickness of that neck, share of the smaller one
_USUAL_NUCLEUS = 1.8  # area
_LARGEST_CORE = 1.0  # least diameter of a red cell over the radius of the largest disc of chromatin (7.5 µm)
_CYTOPLASM = 0.3  # length by which a cell reaches past its nucleus
_RED_CELL_GUESS = 0.18  # of the picture's shorter side, where neither red cells nor nuclei are seen

_PALLOR_SOLIDITY = 0.85  # least share of its convex hull that a red cell's pale centre fills
_MOST_HOLES = 1000  # in red cells; more are noise
_MOST_POINTS = 500  # of an outline, where distances are taken
_MOST_LOBES = 200  # the largest are kept: more are noise, and joining them would take long

_LEAST_CHROMATIN = 17  # of 128 steps a decade: what noise and the coloured rims of red cells reach
_LEAST_STAIN = 6  # of 128 steps a decade, over all channels: noise is less
_OTSU_SHARE = 0.75  # chromatin begins below Otsu's threshold, since nuclei differ in density
_HUE_UNIT = 16
_HUE_RANGE = (12, 45)  # of haemoglobin's red and green over its blue absorbance, in 1/16; about 1.2 to 2.8 was seen
_SMALLEST_SIDE = 16  # pixels
_STAINED_SHARE = 6  # a row or column belongs to a cell where one in so many of its pixels is stained
_WORKING_SIDE = 240  # pixels; the longer side is halved until it is shorter than this
_WORKING_RED_CELL = 12  # pixels that a red cell's diameter should have while working
_TOO_SMALL_RED_CELL = 8  # pixels; where red cells turn out smaller, a finer look is taken
_LARGEST_RADIUS = 256  # pixels, of the distance map
_LEVELS = np.arange(256)  # grey ones
_FEWEST_DISCS = 0.25  # of the picture, in squared radii, below which what is smaller than nuclei is not red cells
_FEWEST_PEAKS = 12  # of the distance map, below which there are no red cells to measure
_LARGE_NUCLEUS = 16  # one part in so many of the picture, from which a nucleus leaves room for few red cells
_LIKELY_NUCLEUS = (0.9, 6.0)  # area of such a nucleus, where it was red cells that were measured
_MOST_FILLED = 0.9  # the same times its share of the picture: the more it fills, the smaller it must be
# These three were chosen on the odd-numbered pictures of benchmarks/locate_unseen.py.


@dataclass(frozen=True)
class _Lobe:
    """A piece of nucleus, working pixels: area, radius of the largest disc in it, outline (n, 2), edges of its box."""

    area: int
    core: int
    outline: Outline
    bounds: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class _Edges:
    """Where a picture ends, working pixels: its (height, width), and 1 where it has no light; None: lit everywhere."""

    size: tuple[int, ...]
    unlit: Mask | None

    def cut(self, box: tuple[int, int, int, int]) -> bool:
        """At the picture's edge, or where its light ends: there the corners of a box do not count, cells are round."""
        left, top, right, bottom = box
        if left == 0 or top == 0 or right == self.size[1] or bottom == self.size[0]:
            return True
        return self.unlit is not None and meets_unlit(self.unlit, box)

    def seen(self, box: tuple[int, int, int, int]) -> float:
        """Share of a cell at an edge that is seen."""
        left, top, right, bottom = box
        share = share_seen(right - left, bottom - top, *sides_cut((left, top, right - left, bottom - top), self.size))
        return share if self.unlit is None else min(share, share_lit(self.unlit[top:bottom, left:right]))


def locate(image: Image, *, um_per_px: float | None = None) -> Located:
    """Find the white cells of a field.

    Args:
        image: uint8 RGB, shape (height, width, 3), at least 16 pixels each way.
        um_per_px: scale, µm per pixel, where it is known; else the picture's red cells give it.

    Returns:
        The cells and the picture's scale.

    Raises:
        PictureError: not such a picture; a scale that is not positive.
    """
    _check(image, um_per_px)
    shorter, longer = sorted(image.shape[:2])
    most = halvings_until(shorter, 2 * _SMALLEST_SIDE)  # of a strip, so that it keeps its height
    halves = Halves(image)
    if um_per_px is not None:
        red_cell_px = RED_CELL_UM / um_per_px
        return _look(halves, min(halvings_until(red_cell_px, 2 * _WORKING_RED_CELL), most), red_cell_px)
    halvings = min(halvings_until(longer, _WORKING_SIDE), most)
    located = _look(halves, halvings, None)
    while halvings and located.red_cell_px and located.red_cell_px < _TOO_SMALL_RED_CELL << halvings:
        halvings -= 1
        located = _look(halves, halvings, None)
    return located


def _check(image: Image, um_per_px: float | None) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < _SMALLEST_SIDE:
        found, least = f"{image.dtype} of shape {image.shape}", f"at least {_SMALLEST_SIDE} pixels each way"
        message = f"cannot look for cells in {found}; expected uint8 RGB, (height, width, 3), {least}"
        raise PictureError(message)
    if um_per_px is not None and not 0 < um_per_px < math.inf:
        message = f"cannot look for cells at {um_per_px} µm per pixel; expected a positive number, such as 0.1"
        raise PictureError(message)


def _look(halves: Halves, halvings: int, red_cell_px: float | None) -> Located:
    """Look once, at a size halved so often; a red cell's diameter is in pixels of the whole picture."""
    unlit = find_unlit(halves.at(halvings))
    if unlit is None:
        dark, chromatin = _absorbance(halves.absorbed(halvings))
    else:
        dark, chromatin = _absorbance(Halves(with_light(halves.at(halvings), unlit)).absorbed(0))
    nuclei = _above(chromatin, max(_LEAST_CHROMATIN, int(_otsu(chromatin) * _OTSU_SHARE)))
    faint, red = _stained(dark, nuclei)
    if red_cell_px is None:
        measured = _red_cell_diameter(red, nuclei)
        red_cell_px = None if measured is None else measured * 2**halvings
    ruler = _guess(nuclei) if red_cell_px is None else red_cell_px / 2**halvings
    edges = _Edges(nuclei.shape, unlit)
    groups = [group for group in _join(_lobes(nuclei, ruler), ruler) if _is_nucleus(group, edges, ruler)]
    stained = faint | nuclei
    boxes = [_grow(_bounds(group), stained, round(_CYTOPLASM * ruler)) for group in groups]
    crowded = [
        _may_be_two(group, ruler) or any(_meet(box, other) for other in boxes if other is not box)
        for group, box in zip(groups, boxes, strict=True)
    ]
    cells = [
        _whole_size(box, touching, edges, 2**halvings, halves.image)
        for box, touching in zip(boxes, crowded, strict=True)
    ]
    return Located(tuple(sorted(cells, key=lambda cell: (cell.y, cell.x))), red_cell_px, halves)


def _absorbance(absorbed: Plane) -> tuple[Plane, Mask]:
    """Absorbance above the empty field, and the part of it that haemoglobin does not explain.

    Args:
        absorbed: as `Halves.absorbed` gives it.

    Returns:
        The sum of the three channels, int16 (height, width), 1/256 decade; and chromatin, uint8, 1/128 decade of red
        and green, smoothed.
    """
    import cv2

    bands: Any = cv2.split(absorbed)
    warm, blue = bands
    left = (warm - ((_haemoglobin_hue(warm, blue) * blue) // _HUE_UNIT)) >> 1
    chromatin: Any = cv2.GaussianBlur(np.clip(left, 0, 255).astype(np.uint8), (3, 3), 0)
    return warm + blue, chromatin


def _haemoglobin_hue(warm: Plane, blue: Plane) -> int:
    """Red and green over blue absorbance of this picture's red cells, in 1/16; a usual value where there are few.

    Nuclei have a far higher ratio, so a rank below the median keeps them out where they are many.
    """
    warm, blue = warm[::2, ::2], blue[::2, ::2]  # enough for a ratio
    strong = max(3 * ranked(blue, 49, 50) // 8, STEPS // 32)
    cells = blue > strong
    if np.count_nonzero(cells) * 64 < blue.size:
        return 2 * _HUE_UNIT
    ratio = (warm[cells] * _HUE_UNIT) // blue[cells]
    return min(max(ranked(ratio, 2, 5), _HUE_RANGE[0]), _HUE_RANGE[1])


def _above(plane: Mask, threshold: int) -> Mask:
    """1 where a plane is above a threshold, else 0."""
    return (plane > threshold).view(np.uint8)


def _otsu(plane: Mask) -> int:
    """The grey level that best parts a plane in two (Otsu 1979, IEEE Trans Syst Man Cybern 9:62)."""
    counts = by_level(plane)
    below, mass = np.cumsum(counts), np.cumsum(counts * _LEVELS)
    total = below[-1]
    apart = (total * mass - below * mass[-1]).astype(np.float64)
    between = apart * apart / np.maximum(below * (total - below), 1)
    return int(np.argmax(between))


def _stained(dark: Plane, nuclei: Mask) -> tuple[Mask, Mask]:
    """1 where anything lies, as pale as cytoplasm; and 1 where red cells or nuclei lie, pale centres filled."""
    import cv2

    near: Any = cv2.dilate(nuclei, square(5))
    depth = np.clip(dark >> 1, 0, 255).astype(np.uint8)
    threshold = max(_otsu(depth * (1 - near)), _LEAST_STAIN)
    faint, mask = _above(depth, threshold // 2), _above(depth, threshold) | near
    outlines, levels = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for hole in np.flatnonzero(levels[0, :, 3] >= 0)[:_MOST_HOLES].tolist() if outlines else ():
        if _is_pallor(outlines[hole]):
            cv2.drawContours(mask, [outlines[hole]], -1, 1, cv2.FILLED)
    return faint, mask


def _is_pallor(outline: Any) -> bool:
    """A hole that is round: not a gap between cells, which is long or bends inward."""
    import cv2

    _, _, width, height = cv2.boundingRect(outline)
    if max(width, height) > 1.6 * min(width, height) + 1:
        return False
    return min(width, height) <= 4 or cv2.contourArea(outline) >= _PALLOR_SOLIDITY * _hull_area(outline)


@cache
def _weights() -> list[int]:
    """Of each radius up to that of the distance map: 16 r √r, between counting discs and weighing them by area."""
    return [radius * math.isqrt(256 * radius) for radius in range(_LARGEST_RADIUS)]


@cache
def _around(radius: int) -> slice:
    """The radii within 25 % of one."""
    return slice(-(-4 * radius // 5), 5 * radius // 4 + 1)


def _red_cell_diameter(mask: Mask, nuclei: Mask) -> float | None:
    """Diameter of the commonest round thing without a nucleus, pixels; None where there are too few to tell.

    Peaks of the distance map are the radii of discs, also where discs overlap in rows. The commonest radius within
    25 % either way, weighted so that neither rims nor clumps win, is the red cells'; where two are nearly as common it
    is the smaller one, since clumps look like larger discs.
    """
    import cv2

    distance: Any = cv2.distanceTransform(mask, cv2.DIST_L1, 3, dstType=cv2.CV_8U)
    peaks = distance[(distance == cv2.dilate(distance, square(5))) & (distance > 2) & (nuclei == 0)]
    if peaks.size < _FEWEST_PEAKS:
        return None
    counts = np.bincount(peaks).tolist()  # few numbers, which plain ones are quicker with
    weighted = [count * weight for count, weight in zip(counts, _weights(), strict=False)]
    totals = [sum(weighted[_around(radius)]) for radius in range(len(weighted))]
    common = 4 * max(totals)
    best = next(r for r, total in enumerate(totals) if total * 5 >= common and total == max(totals[_around(r)]))
    near = list(enumerate(weighted))[_around(best)]
    diameter = 2 * sum(radius * weight for radius, weight in near) / sum(weight for _, weight in near)
    discs = sum(counts[radius] * radius * radius for radius, _ in near)  # overlapping: peaks may be wide
    if discs < _FEWEST_DISCS * mask.size and diameter < _LARGEST_CORE * _depth(nuclei).max():
        return None  # rims and specks
    return float(diameter) if _is_likely(diameter, nuclei) else None


def _is_likely(red_cell: float, nuclei: Mask) -> bool:
    """False where a nucleus fills the picture and is none by this diameter: of grains, or of red cells cut short."""
    if np.count_nonzero(nuclei) * _LARGE_NUCLEUS < nuclei.size:
        return True
    area = _largest(nuclei)
    nucleus = area / _area(red_cell)
    least, most = _LIKELY_NUCLEUS
    fits = least <= nucleus <= most and nucleus * area <= _MOST_FILLED * nuclei.size
    return fits or area * _LARGE_NUCLEUS < nuclei.size


def _largest(nuclei: Mask) -> int:
    """Area of the largest piece, pixels; 0 where there is none."""
    import cv2

    return int(pieces_of(nuclei)[1][1:, cv2.CC_STAT_AREA].max(initial=0))


def _guess(nuclei: Mask) -> float:
    """A red cell's diameter where no red cells are seen, pixels: from the largest nucleus, or a usual share."""
    nucleus = math.sqrt(4 / math.pi * _largest(nuclei) / _USUAL_NUCLEUS)
    return float(max(_RED_CELL_GUESS * min(nuclei.shape), nucleus))


def _lobes(nuclei: Mask, ruler: float) -> list[_Lobe]:
    """Pieces of nucleus, the largest first; round nuclei that touch are parted."""
    import cv2

    labels, boxes = pieces_of(nuclei)
    areas = boxes[1:, cv2.CC_STAT_AREA]
    largest = np.argsort(-areas, kind="stable")[:_MOST_LOBES] + 1
    lobes = []
    for label in largest[boxes[largest, cv2.CC_STAT_AREA] >= _SMALLEST_LOBE * _area(ruler)]:
        x, y, width, height = (int(value) for value in boxes[label, :4])
        piece = (labels[y : y + height, x : x + width] == label).view(np.uint8)
        lobes += [_lobe(part, x, y) for part in _parted(piece, ruler)]
    return sorted(lobes, key=lambda lobe: -lobe.area)


def _area(diameter: float) -> float:
    return math.pi / 4 * diameter * diameter


def _lobe(piece: Mask, x: int, y: int) -> _Lobe:
    import cv2

    outlines, _ = cv2.findContours(piece, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE, offset=(x, y))
    outline: Any = outlines[0] if len(outlines) == 1 else np.concatenate(outlines)
    left, top, width, height = cv2.boundingRect(outline)
    bounds = (left, top, left + width, top + height)
    return _Lobe(int(np.count_nonzero(piece)), int(_depth(piece).max()), outline.reshape(-1, 2), bounds)


def _depth(piece: Mask) -> Mask:
    """Distance to the outside, pixels, counted along rows and columns."""
    import cv2

    framed = cv2.copyMakeBorder(piece, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distance: Any = cv2.distanceTransform(framed, cv2.DIST_L1, 3, dstType=cv2.CV_8U)
    depth: Mask = distance[1:-1, 1:-1]
    return depth


def _parted(piece: Mask, ruler: float) -> list[Mask]:
    """A piece, parted where two or more discs as large as round nuclei meet in a neck."""
    import cv2

    large = _PARTED_CORE * ruler
    if max(piece.shape) < 3 * large or np.count_nonzero(piece) > _LARGEST_CLUMP * _area(ruler):
        return [piece]
    depth = _depth(piece)
    if depth.max() < large:
        return [piece]
    for level in range(int(large * _NECK), int(depth.max() * _NECK) + 1):
        count, cores = cv2.connectedComponents(_above(depth, level))
        peaks = [int(depth[cores == core].max()) for core in range(1, count)]
        seeds = [core for core, peak in enumerate(peaks, 1) if peak >= large and level <= _NECK * peak]
        if len(seeds) > 1:
            return _nearest(piece, [np.argwhere(cores == seed).mean(axis=0) for seed in seeds])
    return [piece]


def _nearest(piece: Mask, seeds: list[NDArray[np.float64]]) -> list[Mask]:
    """The part of a piece that is nearest to each seed (row, column)."""
    rows, columns = np.indices(piece.shape)
    distances = [(rows - row) * (rows - row) + (columns - column) * (columns - column) for row, column in seeds]
    nearest = np.argmin(distances, axis=0)
    return [piece * (nearest == number) for number in range(len(seeds))]


def _join(lobes: list[_Lobe], ruler: float) -> list[list[_Lobe]]:
    """Lobes of one nucleus, largest first: near each other, not too wide together, and not both round nuclei."""
    groups: list[list[_Lobe]] = []
    for lobe in lobes:
        near = sorted((_gap(lobe, group, _LOBE_GAP * ruler), number) for number, group in enumerate(groups))
        fits = [number for gap, number in near if _belongs(lobe, groups[number], gap, ruler)]
        if fits:
            groups[fits[0]].append(lobe)
        elif lobe.area >= _SMALLEST_SEED * _area(ruler):
            groups.append([lobe])
    return groups


def _gap(lobe: _Lobe, group: list[_Lobe], limit: float) -> float:
    """Shortest distance between outlines, pixels; infinite where it is surely beyond the limit."""
    one, other = lobe.bounds, _bounds(group)
    if max(one[0] - other[2], other[0] - one[2], one[1] - other[3], other[1] - one[3]) >= limit:
        return math.inf
    return math.sqrt(int(_apart(_thinned(lobe.outline), _thinned(_outline(group))).min()))


def _apart(points: Outline, others: Outline) -> NDArray[np.int32]:
    """Squared distance of each point (n, 2) to each other one (m, 2), shape (n, m)."""
    across = points[:, :1] - others[:, 0]
    down = points[:, 1:] - others[:, 1]
    squares: NDArray[np.int32] = across * across + down * down
    return squares


def _thinned(outline: Outline) -> Outline:
    """At most some hundred of its points, evenly; all of them for any real nucleus."""
    return outline[:: 1 + len(outline) // _MOST_POINTS]


def _belongs(lobe: _Lobe, group: list[_Lobe], gap: float, ruler: float) -> bool:
    """One nucleus: the farther apart the lobes, the less wide they may be together."""
    reach = _LOBE_GAP if lobe.area >= _SMALLEST_SEED * _area(ruler) else _SPECK_GAP
    if gap > reach * ruler or lobe.core >= _LYMPHOID_CORE * ruler:  # where its group has one as large
        return False
    return _span(_outline([*group, lobe])) <= _WIDEST_NUCLEUS * ruler - _GAP_COST * gap


def _outline(group: list[_Lobe]) -> Outline:
    return group[0].outline if len(group) == 1 else np.concatenate([lobe.outline for lobe in group])


def _may_be_two(group: list[_Lobe], ruler: float) -> bool:
    """Too wide for the nucleus of one cell, or two lobes that are each large enough for one."""
    lobes = [group[0], *(lobe for lobe in group[1:] if lobe.area >= _SMALLEST_SEED * _area(ruler))]
    if len(lobes) == 1:
        return _span(lobes[0].outline) > _WIDEST_PIECE * ruler
    return _span(_outline(lobes)) > _WIDEST_LOBES * ruler or lobes[1].area >= _LARGEST_LOBE * _area(ruler)


def _hull_area(outline: Outline) -> float:
    """Area of the convex hull, pixels."""
    import cv2

    return float(cv2.contourArea(cv2.convexHull(outline)))


def _span(outline: Outline) -> float:
    """Distance of the two points farthest apart, pixels."""
    import cv2

    hull: Any = cv2.convexHull(outline).reshape(-1, 2)
    return math.sqrt(int(_apart(hull, hull).max()))


def _bounds(group: list[_Lobe]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels of a nucleus; right and bottom are outside."""
    lefts, tops, rights, bottoms = zip(*(lobe.bounds for lobe in group), strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _is_nucleus(group: list[_Lobe], edges: _Edges, ruler: float) -> bool:
    """Large enough, for a nucleus that is seen whole or one that the picture cuts, and not scattered."""
    least = _SMALLEST_NUCLEUS_AT_EDGE if edges.cut(_bounds(group)) else _SMALLEST_NUCLEUS
    area = sum(lobe.area for lobe in group)
    return area >= least * _area(ruler) and area >= _SOLIDITY * _hull_area(_outline(group))


def _grow(bounds: tuple[int, int, int, int], stained: Mask, reach: int) -> tuple[int, int, int, int]:
    """Move each side outward through what is stained, at most `reach` pixels."""
    left, top, right, bottom = bounds
    columns = stained[top:bottom].sum(axis=0) * _STAINED_SHARE >= bottom - top
    rows = stained[:, left:right].sum(axis=1) * _STAINED_SHARE >= right - left
    return (
        left - _run(columns[max(left - reach, 0) : left][::-1]),
        top - _run(rows[max(top - reach, 0) : top][::-1]),
        right + _run(columns[right : right + reach]),
        bottom + _run(rows[bottom : bottom + reach]),
    )


def _run(flags: NDArray[np.bool_]) -> int:
    """How many are true before the first that is not."""
    return len(flags) if flags.all() else int(np.argmin(flags))


def _meet(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _whole_size(box: tuple[int, int, int, int], touching: bool, edges: _Edges, factor: int, image: Image) -> Box:
    """A box of the small picture in pixels of the whole one."""
    left, top, right, bottom = (factor * side for side in box)
    height, width, whole = min(bottom, image.shape[0]) - top, min(right, image.shape[1]) - left, not edges.cut(box)
    return Box(left, top, width, height, whole, touching, 1.0 if whole else edges.seen(box))
