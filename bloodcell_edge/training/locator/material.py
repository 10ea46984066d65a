"""What a locator is trained on and judged by: pieces of each source, split as a classifier's pictures are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...dataset.audit import with_photographs
from ...dataset.layouts import load_all, load_data
from ...dataset.pictures import Picture
from ...dataset.split import HELD_BACK, TRAIN, SplitRule, split_pictures
from ...progress import SILENT, Reporter
from .pieces import Piece, by_source, drawn_pieces, pieces_of

Sources = dict[str, list[Piece]]


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
    sides: dict[Path, str]


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
    pieces = [piece for path in paths for piece in pieces_of(load_data(path).only("train"), report=report)]
    training = [piece for piece in pieces if piece.path is not None and sides[piece.path] == TRAIN]
    held_back = [piece for piece in pieces if piece.path is not None and sides[piece.path] == HELD_BACK]
    return Material(by_source([*training, *drawn_pieces()]), by_source(held_back), sides)


def _sides(pictures: Sequence[Picture], rule: SplitRule) -> dict[Path, str]:
    return dict(zip((picture.path for picture in pictures), split_pictures(pictures, rule), strict=True))
