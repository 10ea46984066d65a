"""Scenes: what a microscope could show, laid from pieces whose white cells and scale are known.

A scene is one picture as the locator is shown it. Magnification is drawn evenly over three octaves. A scene is either
one piece as it is, or a field laid from several pieces of one source, most of whose white cells are blended away so
that fields are as empty as fields of blood are, with now and then a second cell laid against the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from ...imaging.ranks import ranked
from .pieces import Piece, Target, is_cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ...imaging.image import Image
    from ...imaging.located import Rectangle

    Floats = NDArray[np.float32]

RED_CELL_RANGE = (4.5, 58.0)
"""Diameter of a red cell in scenes, pixels."""

_WHOLE_SHARE = 0.25  # of scenes that are one piece as it is
_TIGHT = 0.4  # of scenes that are one piece are cut tightly around a cell, as single cells are filed
_TIGHTEST, _WIDEST = 1.05, 2.2  # times the longer side of the cell
_PAIRED_WHOLE = 0.4  # of scenes that are one piece, with a second cell laid against a first
_MOST_PAIRS = 3  # times that a second cell is laid against a first
_EMPTY_FIELD = 235.0
_SEAM = 0.07  # of a piece's shorter side, over which it fades into the next
_KEPT = (0.05, 0.15, 0.3, 0.6, 1.0)  # share of pieces that keep their white cells, drawn for each scene
_KEPT_LARGE = (0.3, 0.7, 1.0, 1.0, 1.0)  # the same where few cells fit into a scene
_LARGE = 22.0  # pixels of a red cell
LEAST_SEEN = 0.25
"""Share of a cell's box that must be visible for the cell to be asked for."""

SMALLEST = 2.0
"""Pixels; what is thinner is not seen."""

_ONE_LOOK = 0.5  # of the scenes laid from pictures of one cell show one kind of cell
_FADED = 0.12  # of a cell's size, by which it is blended away beyond its box
_VARIETY = 24  # pieces that one scene is laid from


@dataclass(frozen=True)
class SceneCell:
    """A white cell of a scene.

    Attributes:
        x, y, width, height: the visible part of its box, pixels.
        certain: doubtful ones are not asked for.
        seen: share of the cell that is visible, 0..1; NaN where its piece cut it already.
        whole: (x, y, width, height) of its box, were nothing of it cut; None where its piece cut it already.
    """

    x: float
    y: float
    width: float
    height: float
    certain: bool
    seen: float
    whole: tuple[float, float, float, float] | None

    @property
    def rectangle(self) -> tuple[float, float, float, float]:
        """(x, y, width, height) of what is visible, pixels."""
        return self.x, self.y, self.width, self.height

    def moved(self, x: float, y: float) -> SceneCell:
        """The same further right and down."""
        whole = None if self.whole is None else (self.whole[0] + x, self.whole[1] + y, *self.whole[2:])
        return replace(self, x=self.x + x, y=self.y + y, whole=whole)

    def cut(self, left: float, top: float, right: float, bottom: float) -> SceneCell | None:
        """What of it lies between these edges; doubtful where that is little, None where it is next to nothing."""
        x, y = max(self.x, left), max(self.y, top)
        width, height = min(self.x + self.width, right) - x, min(self.y + self.height, bottom) - y
        if width < SMALLEST or height < SMALLEST:
            return None
        certain = self.certain and width * height > LEAST_SEEN * self.width * self.height
        cell = replace(self, x=x, y=y, width=width, height=height, certain=certain)
        if self.whole is None or (width, height) == (self.width, self.height):
            return cell
        before, after = self.inside(), cell.inside()
        return replace(cell, seen=self.seen * float(after.sum() / max(before.sum(), 1)))

    def inside(self) -> NDArray[np.bool_]:
        """Which of its points lie in the visible box."""
        across, down = self.points()
        inside: NDArray[np.bool_] = (across >= self.x) & (across <= self.x + self.width)
        return inside & (down >= self.y) & (down <= self.y + self.height)

    def points(self) -> tuple[Floats, Floats]:
        """Places spread evenly over the whole cell, taken for an ellipse; over what is visible where that is all."""
        x, y, width, height = self.whole or (self.x, self.y, self.width, self.height)
        return x + width * _DISC[0], y + height * _DISC[1]


def _disc(steps: int = 25) -> tuple[Floats, Floats]:
    """Places spread evenly over a disc of diameter 1 in the square from 0 to 1."""
    middles = (np.arange(steps, dtype=np.float32) + 0.5) / steps
    across, down = np.meshgrid(middles, middles)
    inside = (across - 0.5) ** 2 + (down - 0.5) ** 2 <= 0.25
    return across[inside].astype(np.float32), down[inside].astype(np.float32)


_DISC = _disc()


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture as the locator is shown it.

    Attributes:
        pixels: float32 RGB, 0..255, shape (height, width, 3).
        cells: its white cells.
        red_cell_px: diameter of a red cell, pixels.
    """

    pixels: Floats
    cells: tuple[SceneCell, ...]
    red_cell_px: float


@dataclass(frozen=True, eq=False)
class _Tile:
    """A piece at the scale of a scene."""

    pixels: Image
    cells: tuple[SceneCell, ...]


def lay_scene(
    sources: Mapping[str, Sequence[Piece]], shares: Mapping[str, float], size: tuple[int, int], rng: np.random.Generator
) -> Scene:
    """A scene, drawn by chance.

    Args:
        sources: pieces of each source.
        shares: how often each is drawn; sums to 1.
        size: (height, width) of the scene.
        rng: where chance comes from.
    """
    names = sorted(sources)
    source = sources[names[int(rng.choice(len(names), p=[shares[name] for name in names]))]]
    if rng.random() < _WHOLE_SHARE:
        return _whole(source, size, rng)
    return _field(source, size, rng)


def _whole(source: Sequence[Piece], size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """One piece as large as fits, or up to half as large again; what it leaves has the colour of its empty field."""
    some = [source[int(k)] for k in rng.integers(len(source), size=_VARIETY)]
    piece = _tight(some[0], rng) if rng.random() < _TIGHT else some[0]
    fit = min(size[0] / piece.size[0], size[1] / piece.size[1])
    zoom = 1.0 if rng.random() < 0.5 else rng.uniform(0.45, 1.5)
    tile = _turned(_tile(piece, fit * zoom, keep=True, rng=rng), int(rng.integers(4)))
    height, width = tile.pixels.shape[:2]
    left, top = _offset(width, size[1], rng), _offset(height, size[0], rng)
    empty = [ranked(tile.pixels[..., channel], 95, 100) for channel in range(3)]
    pixels = np.full((*size, 3), empty, np.float32)
    _, cells = _lay(tile, left, top, size)
    x, y = max(left, 0), max(top, 0)
    seen = tile.pixels[y - top : size[0] - top, x - left : size[1] - left]
    pixels[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
    red = piece.red_cell_px * fit * zoom
    if rng.random() < _PAIRED_WHOLE:
        pixels, cells = _with_pair(pixels, cells, some, red, rng)
    return Scene(pixels, tuple(cells), red)


def _tight(piece: Piece, rng: np.random.Generator) -> Piece:
    """The square around a certain cell, moved into the picture; the piece itself where it has none."""
    certain = [cell for cell in piece.cells if cell.certain and not is_cut(cell.box, piece.size)]
    if not certain:
        return piece
    x, y, width, height = certain[int(rng.integers(len(certain)))].box
    side = min(round(rng.uniform(_TIGHTEST, _WIDEST) * max(width, height)), *piece.size)
    left = min(max(round(x + width / 2 - side * rng.uniform(0.45, 0.55)), 0), piece.size[1] - side)
    top = min(max(round(y + height / 2 - side * rng.uniform(0.45, 0.55)), 0), piece.size[0] - side)
    across, down = piece.levels[0].shape[1] / piece.size[1], piece.levels[0].shape[0] / piece.size[0]
    rows = slice(int(top * down), max(int((top + side) * down), int(top * down) + 1))
    columns = slice(int(left * across), max(int((left + side) * across), int(left * across) + 1))
    cells = tuple(
        Target((a - left, b - top, wide, high), target.certain)
        for target in piece.cells
        for a, b, wide, high in (target.box,)
        if a < left + side and b < top + side and a + wide > left and b + high > top
    )
    cut = tuple(Target(_clipped(target.box, side), target.certain) for target in cells)
    level = np.ascontiguousarray(piece.levels[0][rows, columns])
    return replace(piece, levels=(level,), size=(side, side), cells=cut)


def _clipped(box: Rectangle, side: int) -> Rectangle:
    """The part of a box that lies in a square."""
    x, y = max(box[0], 0), max(box[1], 0)
    return x, y, min(box[0] + box[2], side) - x, min(box[1] + box[3], side) - y


def _offset(length: int, room: int, rng: np.random.Generator) -> int:
    """Where a length begins on an axis: it fills the room, or lies in it."""
    low, high = sorted((0, room - length))
    return int(rng.integers(low, high + 1))


def _field(source: Sequence[Piece], size: tuple[int, int], rng: np.random.Generator) -> Scene:
    """Rows of pieces, each fading into the next."""
    red = math.exp(rng.uniform(math.log(RED_CELL_RANGE[0]), math.log(RED_CELL_RANGE[1])))
    some = [source[int(k)] for k in rng.integers(len(source), size=_VARIETY)]
    if some[0].aimed and rng.random() < _ONE_LOOK:
        some = [piece for piece in some if piece.kind == some[0].kind]
    keep = rng.choice(_KEPT if red < _LARGE else _KEPT_LARGE)
    height, width = size
    total, weight = np.zeros((*size, 3), np.float32), np.full((*size, 1), 1e-3, np.float32)
    cells: list[SceneCell] = []
    scale = red / some[0].red_cell_px
    y = -rng.uniform(0, 0.9) * some[0].size[0] * scale
    while y < height:
        x, tall = -rng.uniform(0, 0.9) * some[0].size[1] * scale, 0
        while x < width:
            piece = some[int(rng.integers(len(some)))]
            tile = _turned(
                _tile(piece, red / piece.red_cell_px, keep=bool(rng.random() < keep), rng=rng), int(rng.integers(8))
            )
            tall = tall or tile.pixels.shape[0]
            if tile.pixels.shape[0] < tall - 2:
                tile = _turned(tile, 4)
            place, more = _lay(tile, int(x), int(y), size)
            if place is not None:
                _fade_in(total, weight, tile.pixels, int(x), int(y))
                cells += more
            seam = _seam(tile.pixels)
            x += max(6, tile.pixels.shape[1] - seam)
        y += max(6, tall - seam)
    pixels = np.where(weight > 0.01, total / weight, np.float32(_EMPTY_FIELD))
    for _ in range(rng.integers(_MOST_PAIRS + 1)):
        pixels, cells = _with_pair(pixels, cells, some, red, rng)
    return Scene(pixels, tuple(cells), red)


def _tile(piece: Piece, scale: float, *, keep: bool, rng: np.random.Generator) -> _Tile:
    """A piece at a scale, with its white cells or without."""
    height, width = (max(8, round(side * scale)) for side in piece.size)
    level = next((one for one in reversed(piece.levels) if one.shape[1] >= width), piece.levels[0])
    how = cv2.INTER_AREA if width < level.shape[1] else cv2.INTER_LINEAR
    pixels: Any = cv2.resize(level, (width, height), interpolation=how)
    cells = tuple(_scaled(cell, piece.size, scale) for cell in piece.cells)
    if keep or not cells:
        return _Tile(pixels, cells)
    return _emptied(_Tile(pixels, cells), rng)


def _scaled(cell: Target, size: tuple[int, int], scale: float) -> SceneCell:
    x, y, width, height = (side * scale for side in cell.box)
    if is_cut(cell.box, size):
        return SceneCell(x, y, width, height, cell.certain, math.nan, None)
    return SceneCell(x, y, width, height, cell.certain, 1.0, (x, y, width, height))


def _emptied(tile: _Tile, rng: np.random.Generator) -> _Tile:
    """White cells blended away by what lies half a piece further; or painted over; where neither goes, they stay."""
    height, width = tile.pixels.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    for cell in tile.cells:
        more = _FADED * max(cell.width, cell.height) + 1
        middle = (int(cell.x + cell.width / 2), int(cell.y + cell.height / 2))
        cv2.ellipse(mask, middle, (int(cell.width / 2 + more), int(cell.height / 2 + more)), 0, 0, 360, 255, -1)
    half = (height // 2, width // 2)
    if not (mask & np.roll(mask, half, (0, 1))).any():
        blur = max(1, int(0.04 * width)) | 1
        soft = cv2.blur(mask, (blur, blur)).astype(np.float32)[..., None] / 255
        other = np.roll(tile.pixels, half, (0, 1))
        return _Tile((tile.pixels * (1 - soft) + other * soft).astype(np.uint8), ())
    if min(height, width) > 12 and height * width < 12_000 and rng.random() < 0.6:
        painted: Any = cv2.inpaint(tile.pixels, mask, 3, cv2.INPAINT_TELEA)
        return _Tile(painted, ())
    return tile


def _turned(tile: _Tile, turn: int) -> _Tile:
    """One of the eight ways to lay a rectangle."""
    pixels, cells = tile.pixels, tile.cells
    height, width = pixels.shape[:2]
    if turn & 1:
        pixels = pixels[:, ::-1]
        cells = tuple(_transposed(_upside_down(_transposed(cell), width)) for cell in cells)
    if turn & 2:
        pixels = pixels[::-1]
        cells = tuple(_upside_down(cell, height) for cell in cells)
    if turn & 4:
        pixels = pixels.transpose(1, 0, 2)
        cells = tuple(_transposed(cell) for cell in cells)
    return _Tile(np.ascontiguousarray(pixels), cells)


def _upside_down(cell: SceneCell, height: float) -> SceneCell:
    whole = cell.whole and (cell.whole[0], height - cell.whole[1] - cell.whole[3], *cell.whole[2:])
    return replace(cell, y=height - cell.y - cell.height, whole=whole)


def _transposed(cell: SceneCell) -> SceneCell:
    whole = cell.whole and (cell.whole[1], cell.whole[0], cell.whole[3], cell.whole[2])
    return replace(cell, x=cell.y, y=cell.x, width=cell.height, height=cell.width, whole=whole)


def _seam(pixels: Image) -> int:
    return max(1, int(_SEAM * min(pixels.shape[:2])))


def _fade_in(total: Floats, weight: Floats, pixels: Image, x: int, y: int) -> None:
    height, width = pixels.shape[:2]
    seam = _seam(pixels)
    across, down = (
        np.clip(np.minimum(np.arange(side) + 1, side - np.arange(side)) / seam, 0, 1).astype(np.float32)
        for side in (width, height)
    )
    left, top = max(x, 0), max(y, 0)
    right, bottom = min(x + width, total.shape[1]), min(y + height, total.shape[0])
    inside = np.s_[top - y : bottom - y, left - x : right - x]
    share = (down[:, None] * across)[inside][..., None]
    total[top:bottom, left:right] += pixels[inside] * share
    weight[top:bottom, left:right] += share


def _lay(tile: _Tile, x: int, y: int, size: tuple[int, int]) -> tuple[tuple[int, int] | None, list[SceneCell]]:
    """Where a tile lies, None beside the scene; and its cells as far as they are in it."""
    height, width = tile.pixels.shape[:2]
    if x + width <= 0 or y + height <= 0 or x >= size[1] or y >= size[0]:
        return None, []
    seam = _seam(tile.pixels) / 2
    shown = [cell.cut(seam, seam, width - seam, height - seam) for cell in tile.cells]
    laid = [cell.moved(x, y).cut(0, 0, size[1], size[0]) for cell in shown if cell is not None]
    return (x, y), [cell for cell in laid if cell is not None]


def _with_pair(
    pixels: Floats, cells: list[SceneCell], some: Sequence[Piece], red: float, rng: np.random.Generator
) -> tuple[Floats, list[SceneCell]]:
    """A second cell laid against a certain one, so that their outlines meet."""
    size = (pixels.shape[0], pixels.shape[1])
    hosts = [cell for cell in cells if cell.certain]
    guests = [(piece, cell) for piece in some for cell in piece.cells if cell.certain]
    if not hosts or not guests:
        return pixels, cells
    host = hosts[int(rng.integers(len(hosts)))]
    piece, target = guests[int(rng.integers(len(guests)))]
    cut = _cut_out(piece, target.box, red / piece.red_cell_px)
    if cut is None:
        return pixels, cells
    height, width = cut.shape[:2]
    angle, near = rng.uniform(0, 2 * math.pi), rng.uniform(0.82, 1.12)
    middle_x = host.x + host.width / 2 + near * (host.width + width) / 2 * math.cos(angle)
    middle_y = host.y + host.height / 2 + near * (host.height + height) / 2 * math.sin(angle)
    x, y = int(middle_x - width / 2), int(middle_y - height / 2)
    if x < 0 or y < 0 or x + width > size[1] or y + height > size[0]:
        return pixels, cells
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (max(width // 2 - 1, 1), max(height // 2 - 1, 1)), 0, 0, 360, 255, -1)
    soft = cv2.blur(mask, (3, 3)).astype(np.float32)[..., None] / 255
    laid = pixels.copy()
    laid[y : y + height, x : x + width] = laid[y : y + height, x : x + width] * (1 - soft) + cut * soft
    box = (float(x), float(y), float(width), float(height))
    new = SceneCell(*box, certain=True, seen=1.0, whole=box)
    kept = [cell for cell in cells if cell is host or not _is_covered(cell, new)]
    return laid, [*kept, new]


def _cut_out(piece: Piece, box: tuple[int, int, int, int], scale: float) -> Floats | None:
    """A white cell at a scale, float32; None where its piece cuts it."""
    if is_cut(box, piece.size):
        return None
    x, y, width, height = box
    level = piece.levels[0]
    across, down = level.shape[1] / piece.size[1], level.shape[0] / piece.size[0]
    part = level[int(y * down) : int((y + height) * down), int(x * across) : int((x + width) * across)]
    size = (max(round(width * scale), 3), max(round(height * scale), 3))
    how = cv2.INTER_AREA if size[0] < part.shape[1] else cv2.INTER_LINEAR
    return cv2.resize(part, size, interpolation=how).astype(np.float32)


def _is_covered(cell: SceneCell, by: SceneCell) -> bool:
    """More than half of its box."""
    width = min(cell.x + cell.width, by.x + by.width) - max(cell.x, by.x)
    height = min(cell.y + cell.height, by.y + by.height) - max(cell.y, by.y)
    return max(width, 0) * max(height, 0) > 0.5 * cell.width * cell.height
