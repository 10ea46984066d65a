"""Pieces of smear with known white cells and a known scale, from which scenes are laid.

Three kinds of DATA give them:

- photographs with a ``boxes.csv`` (file, kind, x, y, width, height in pixels; kinds WBC, RBC, Platelets): their boxes;
- pictures of one cell each: the box of the cell in the middle, by stain and shape (`rules`);
- drawn fields: exact.

A box that is doubtful (a second cell beside the one in the middle, a box that only one of list and rules has) is kept
as such: what lies there teaches neither that there is a cell nor that there is none.

All pictures of one DATA come from one microscope, so that one diameter of a red cell holds for all of them: the median
over the boxes of red cells, or over what the rules measure. A single picture's own diameter is not used: it wanders.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...dataset.pictures import Dataset, Picture
from ...dataset.reading import Opened, read_opened
from ...dataset.tables import read_rows
from ...errors import DataError
from ...imaging.drawn import LABELS as DRAWN_LABELS
from ...imaging.drawn import UM_PER_PX, draw_field
from ...imaging.image import resize
from ...imaging.locate import locate
from ...imaging.located import RED_CELL_UM, overlap
from ...progress import SILENT, Reporter

if TYPE_CHECKING:
    from ...imaging.image import Image
    from ...imaging.located import Located, Rectangle

BOXES_FILE = "boxes.csv"
"""Beside the pictures of a DATA folder."""

_KEPT_SHARE = 0.75  # of a picture's pixels each way; scenes show cells smaller than that
_SMALLEST_LEVEL = 60  # pixels, of a pyramid
_CENTRAL = 0.17  # of the sides: how far the middle of a box may be from that of a picture of one cell
_CELL_RED_CELLS = (1.0, 4.0)  # longer side of a white cell's box, in red cells
_THIN_RED_CELLS = 0.8  # least shorter side
_LEAST_LISTED = 0.6  # red cells: a listed box that is smaller is no white cell
_SAME = 0.3  # intersection over union from which two boxes mean the same
_EDGE = 2  # pixels: boxes are drawn by hand
_FEW_RED_CELLS = 20  # boxes below which a source has no scale
_DRAWN_FIELDS = 160
_DRAWN_SEED = 4_000_000  # far from those of golden samples, demos and tests
_DRAWN_SIZE = (360, 480)


@dataclass(frozen=True)
class Target:
    """A white cell of a piece: its box in pixels of the picture, and whether it is surely one."""

    box: Rectangle
    certain: bool = True


@dataclass(frozen=True, eq=False)
class Piece:
    """A picture that scenes are laid from.

    Attributes:
        levels: the picture at falling sizes, uint8 RGB.
        size: (height, width) of the whole picture, pixels.
        red_cell_px: diameter of a red cell, pixels of the whole picture.
        cells: its white cells.
        source: DATA that it came from.
        kind: its label; scenes of one look are laid from one kind.
        aimed: a picture of one cell, not a field.
        path: of the picture's file; None where it is drawn.
    """

    levels: tuple[Image, ...]
    size: tuple[int, int]
    red_cell_px: float
    cells: tuple[Target, ...]
    source: str
    kind: str
    aimed: bool
    path: Path | None = None


@dataclass(frozen=True, eq=False)
class _Looked:
    """A picture that was read, and what the rules found in it."""

    picture: Picture
    levels: tuple[Image, ...]
    size: tuple[int, int]
    located: Located


def pieces_of(dataset: Dataset, *, empty: Sequence[str] = ("PLATELET",), report: Reporter = SILENT) -> list[Piece]:
    """The pieces of one DATA.

    Args:
        dataset: its pictures; those of none of the labels count too, since white cells of other kinds are to be found.
        empty: names of class folders whose pictures show no white cell in the middle.
        report: told how far it is.

    Raises:
        DataError: no scale: neither boxes of red cells nor pictures in which red cells are seen.
    """
    looked = _look(dataset, report)
    listed = _listed(dataset.root / BOXES_FILE)
    if listed:
        return _of_fields(looked, listed, str(dataset.root))
    return _of_single_cells(looked, str(dataset.root), empty)


def drawn_pieces(count: int = _DRAWN_FIELDS) -> list[Piece]:
    """Drawn fields of none to three cells."""
    pieces = []
    for seed in range(_DRAWN_SEED, _DRAWN_SEED + count):
        field = draw_field(seed, [DRAWN_LABELS[(seed + k) % 4] for k in range(seed % 4)], size=_DRAWN_SIZE)
        cells = tuple(Target((cell.x, cell.y, cell.width, cell.height)) for cell in field.cells)
        levels = _levels(field.image)
        pieces.append(Piece(levels, _DRAWN_SIZE, RED_CELL_UM / UM_PER_PX, cells, "drawn", "", aimed=False))
    return pieces


def _look(dataset: Dataset, report: Reporter) -> list[_Looked]:
    def look(opened: Opened) -> _Looked:
        image = opened.image
        located = locate(image)
        found = type(located)(located.cells, located.red_cell_px)  # without the picture's halves: memory
        return _Looked(opened.picture, _levels(image), (image.shape[0], image.shape[1]), found)

    with report.bar("looking for cells to learn from") as progress:
        return [found for _, found in read_opened((*dataset.pictures, *dataset.unknown), look, progress=progress)[0]]


def _levels(image: Image) -> tuple[Image, ...]:
    height, width = (max(round(side * _KEPT_SHARE), 1) for side in image.shape[:2])
    levels = [resize(image, (height, width))]
    while min(levels[-1].shape[:2]) > _SMALLEST_LEVEL:
        levels.append(resize(levels[-1], (-(-levels[-1].shape[0] // 2), -(-levels[-1].shape[1] // 2))))
    return tuple(levels)


def _listed(path: Path) -> dict[str, list[tuple[str, Rectangle]]]:
    """The boxes of each file by kind; empty where there is no such table."""
    if not path.is_file():
        return {}
    boxes: dict[str, list[tuple[str, Rectangle]]] = defaultdict(list)
    for row in read_rows(path, ("file", "kind", "x", "y", "width", "height")):
        x, y, width, height = (round(float(row[side])) for side in ("x", "y", "width", "height"))
        boxes[row["file"]].append((row["kind"], (x, y, width, height)))
    return boxes


def _of_fields(looked: Sequence[_Looked], listed: dict[str, list[tuple[str, Rectangle]]], source: str) -> list[Piece]:
    """Photographs with boxes; what only the rules found is doubtful."""
    sides = [
        (box[2] + box[3]) / 2
        for one in looked
        for kind, box in listed.get(one.picture.file, ())
        if kind == "RBC" and not is_cut(box, one.size)
    ]
    if len(sides) < _FEW_RED_CELLS:
        message = f"{source}/{BOXES_FILE}: expected {_FEW_RED_CELLS} boxes of kind RBC or more, found {len(sides)}"
        raise DataError(message)
    red = float(np.median(sides))
    pieces = []
    for one in looked:
        white = [box for kind, box in listed.get(one.picture.file, ()) if kind == "WBC"]
        known = [Target(box, certain=max(box[2:]) >= _LEAST_LISTED * red) for box in white]
        found = [cell.rectangle for cell in one.located.cells]
        more = [Target(box, certain=False) for box in found if all(overlap(box, other) < _SAME for other in white)]
        pieces.append(_piece(one, red, (*known, *more), source, aimed=False))
    return pieces


def _of_single_cells(looked: Sequence[_Looked], source: str, empty: Sequence[str]) -> list[Piece]:
    """Pictures of one cell each: the one in the middle is certain, others are not."""
    measured = [one.located.red_cell_px for one in looked if one.located.red_cell_px]
    if not measured:
        message = f"{source}: no red cells are seen in any picture, so that the scale is not known; add a {BOXES_FILE}"
        raise DataError(message)
    red = float(np.median(measured))
    pieces = []
    for one in looked:
        kind = one.picture.label or ""
        boxes = [cell.rectangle for cell in one.located.cells]
        central = [box for box in boxes if _is_central(box, one.size) and _is_cell(box, red)]
        wanted = () if kind in empty else central if len(central) == 1 else None
        if wanted is None or (kind not in empty and not wanted):
            continue  # no way to know where its cell is
        cells = tuple(Target(box, certain=box in wanted) for box in boxes)
        pieces.append(_piece(one, red, cells, source, aimed=True))
    return pieces


def _piece(one: _Looked, red: float, cells: tuple[Target, ...], source: str, *, aimed: bool) -> Piece:
    kind = one.picture.label or "" if aimed else ""
    return Piece(one.levels, one.size, red, cells, source, kind, aimed, one.picture.path)


def _is_central(box: Rectangle, size: tuple[int, int]) -> bool:
    x, y, width, height = box
    away_x, away_y = abs(x + width / 2 - size[1] / 2), abs(y + height / 2 - size[0] / 2)
    return away_x < _CENTRAL * size[1] and away_y < _CENTRAL * size[0]


def _is_cell(box: Rectangle, red: float) -> bool:
    longer, shorter = max(box[2:]), min(box[2:])
    return _CELL_RED_CELLS[0] * red < longer < _CELL_RED_CELLS[1] * red and shorter > _THIN_RED_CELLS * red


def is_cut(box: Rectangle, size: tuple[int, int]) -> bool:
    """Cut by the edge of a picture of (height, width), to two pixels."""
    x, y, width, height = box
    return min(x, y) <= _EDGE or x + width >= size[1] - _EDGE or y + height >= size[0] - _EDGE


def by_source(pieces: Iterable[Piece]) -> dict[str, list[Piece]]:
    """Pieces of each source."""
    found: dict[str, list[Piece]] = defaultdict(list)
    for piece in pieces:
        found[piece.source].append(piece)
    return found
