"""What a locator is trained on and judged by: pieces of each source, split as a classifier's pictures are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...dataset.audit import with_photographs
from ...dataset.layouts import load_all, load_data
from ...dataset.pictures import Picture
from ...dataset.split import HELD_BACK, TRAIN, SplitRule, split_pictures
from ...dataset.tables import read_rows
from ...model.choose import SHIPPED
from ...progress import SILENT, Reporter
from .pieces import Piece, by_source, drawn_pieces, pieces_of

Sources = dict[str, list[Piece]]

_PREDICTIONS = "predictions.csv"  # among the shipped models: what they say to each picture held back


@dataclass(frozen=True, eq=False)
class Material:
    """Pieces by source.

    Attributes:
        training: drawn ones among them.
        held_back: of photographs that nothing was learnt from.
        sides: path of each picture -> TRAIN or HELD_BACK.
    """

    training: Sources
    held_back: Sources
    sides: Mapping[Path, str]


def read_material(paths: Sequence[str | Path], rule: SplitRule, report: Reporter = SILENT) -> Material:
    """Read DATA and split it.

    A classifier trained on the same DATA in the same order, with the same rule, holds back the same photographs.

    Args:
        paths: one or several DATA; of each, TRAIN counts where it has one.
        rule: how to split.
        report: told how far it is.

    Raises:
        MissingFile, DataError, NoPictures: see `load_all` and `pieces_of`.
    """
    joined = load_all(paths, subset="train")
    sides = _sides(with_photographs(joined.pictures, report), rule)
    sides |= _sides(with_photographs(joined.unknown, report), rule) if joined.unknown else {}
    return material_of(paths, as_shipped(sides), report)


def as_shipped(sides: Mapping[Path, str]) -> dict[Path, str]:
    """The same, but of sources that the shipped classifier learnt from, what it held back is held back here, too.

    So the figures of a classifier stand on pictures that its locator has not seen either.
    """
    rows = read_rows(SHIPPED / _PREDICTIONS, ("source", "file"))
    held_back = {(row["source"], Path(row["file"]).name) for row in rows}
    known = {source for source, _ in held_back}
    changed = dict(sides)
    for path in sides:
        for source in known.intersection(path.parts):
            changed[path] = HELD_BACK if (source, path.name) in held_back else TRAIN
    return changed


def material_of(paths: Sequence[str | Path], sides: Mapping[Path, str], report: Reporter = SILENT) -> Material:
    """The pieces of DATA that is split already.

    Args:
        paths: as for `read_material`.
        sides: path of each picture -> TRAIN or HELD_BACK; pictures that are not in it are left out.
        report: told how far it is.
    """
    pieces = [piece for path in paths for piece in pieces_of(load_data(path).only("train"), report=report)]
    training = [piece for piece in pieces if piece.path is not None and sides.get(piece.path.resolve()) == TRAIN]
    held_back = [piece for piece in pieces if piece.path is not None and sides.get(piece.path.resolve()) == HELD_BACK]
    return Material(by_source([*training, *drawn_pieces()]), by_source(held_back), sides)


def _sides(pictures: Sequence[Picture], rule: SplitRule) -> dict[Path, str]:
    return dict(zip((picture.path.resolve() for picture in pictures), split_pictures(pictures, rule), strict=True))
