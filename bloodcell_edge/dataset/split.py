"""Which picture is on which side of a split, with photographs kept whole; and the table that says so."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError
from ..files import sha256_file, write_csv
from .pictures import Picture
from .tables import read_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


TRAIN, VALIDATION, HELD_BACK = "train", "validation", "heldback"
_FEWEST_OF_SOURCE = 5  # photographs of a class, of which a fifth can be taken
_COLUMNS = ("file", "label", "group", "split", "leaky_split", "sha256", "um_per_px", "note", "source", "path")


@dataclass(frozen=True)
class SplitRule:
    """How pictures are split.

    Attributes:
        held_back: share of photographs kept for figures only.
        validation: share of the remaining photographs that early stopping looks at; 0 for none.
        seed: of the draw.
        leaky_too: also split by file, as the original project did.
    """

    held_back: float = 0.2
    validation: float = 0.0
    seed: int = 0
    leaky_too: bool = False


@dataclass(frozen=True)
class Member:
    """One picture of a run: which side it is on, and what it is known by.

    Attributes:
        picture: with its group filled in.
        split: TRAIN, VALIDATION or HELD_BACK; photographs are never cut apart.
        leaky_split: TRAIN or VALIDATION as the original project cut them, by file; empty for other recipes.
        sha256: of the file.
    """

    picture: Picture
    split: str
    leaky_split: str
    sha256: str


def take_out(labels: Sequence[str], groups: Sequence[str], share: float, *, seed: int) -> NDArray[np.bool_]:
    """Choose whole groups, the same share of every class's groups, at least one and never all.

    Args:
        labels: class of each picture, shape (n,).
        groups: photograph of each picture; a group with two labels counts for the commoner one.
        share: of the groups of each class, 0..1.
        seed: of the draw; the same pictures in another order give the same groups.

    Returns:
        bool, shape (n,): True for pictures of the chosen groups.

    Raises:
        DataError: a class has fewer than two groups of its own.
    """
    by_label = _groups_by_label(labels, groups)
    _refuse_few(by_label, needed=2, why="to hold one back")
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for candidates in by_label.values():
        count = min(max(round(share * len(candidates)), 1), len(candidates) - 1)
        chosen.update(candidates[place] for place in rng.permutation(len(candidates))[:count])
    return np.array([group in chosen for group in groups])


def _groups_by_label(labels: Sequence[str], groups: Sequence[str]) -> dict[str, list[str]]:
    """Every label's groups, both sorted; a group with two labels is the commoner one's, at equal counts the first's."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        votes[group][label] += 1
    by_label: dict[str, list[str]] = {label: [] for label in sorted(set(labels))}
    for group in sorted(votes):
        by_label[max(sorted(votes[group]), key=votes[group].__getitem__)].append(group)
    return by_label


def _refuse_few(by_label: dict[str, list[str]], *, needed: int, why: str) -> None:
    """DataError where a class has too few photographs to be on every side."""
    for label, groups in by_label.items():
        if len(groups) < needed:
            message = (
                f"{label}: expected at least {needed} photographs, {why}, found {len(groups)} (however many pictures "
                "show it); add pictures of others, or leave the class out with --labels"
            )
            raise DataError(message)


def group_names(pictures: Sequence[Picture]) -> list[str]:
    """What may not be split, one name a picture; a picture without a group stands for itself alone."""
    return [picture.group or f"\0{picture.file}" for picture in pictures]


def split_pictures(pictures: Sequence[Picture], rule: SplitRule) -> list[str]:
    """The side of each picture: held back for figures, validation for early stopping, the rest for training.

    Raises:
        DataError: a class has too few photographs to be on every side.
    """
    labels, groups = _strata(pictures), group_names(pictures)
    if rule.validation:
        why = "to train on one, stop by one and hold one back"
        _refuse_few(_groups_by_label(labels, groups), needed=3, why=why)
    held_back = take_out(labels, groups, rule.held_back, seed=rule.seed)
    sides = np.where(held_back, HELD_BACK, TRAIN).astype(object)
    rest = np.flatnonzero(~held_back)
    if rule.validation:
        of_rest = [labels[i] for i in rest], [groups[i] for i in rest]
        inner = take_out(*of_rest, rule.validation, seed=rule.seed + 1)
        sides[rest[inner]] = VALIDATION
    return [str(side) for side in sides]


def _strata(pictures: Sequence[Picture]) -> list[str]:
    """What the same share is taken of: each class of each source, where a source has photographs enough of it."""
    groups = list(zip([p.label for p in pictures], [p.source for p in pictures], group_names(pictures), strict=True))
    photographs = Counter((label, source) for label, source, _ in set(groups))
    large = {(label, source) for (label, source), count in photographs.items() if source and count >= _FEWEST_OF_SOURCE}
    return [f"{label} of {source}" if (label, source) in large else label or "" for label, source, _ in groups]


def leaky_split(pictures: Sequence[Picture], share: float = 0.2) -> list[str]:
    """The original project's split: the first fifth of each class's sorted files validates, the rest trains.

    The fifth is rounded down, as Keras's ImageDataGenerator does, but is one file at least. Photographs are cut apart:
    a figure from this split may only stand under a name that says leaky.
    """
    places: dict[str | None, list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        places[picture.label].append(place)
    sides = [TRAIN] * len(pictures)
    for own in places.values():
        for place in sorted(own, key=lambda place: pictures[place].file)[: max(int(share * len(own)), 1)]:
            sides[place] = VALIDATION
    return sides


def members(pictures: Sequence[Picture], rule: SplitRule, sha256: Sequence[str] | None = None) -> list[Member]:
    """Split readable pictures with known groups.

    Args:
        pictures: labelled.
        rule: how.
        sha256: of each file; None to read the files for it.

    Raises:
        DataError: a class is too small to hold something back.
    """
    leaky = leaky_split(pictures) if rule.leaky_too else [""] * len(pictures)
    hashes = [sha256_file(picture.path) for picture in pictures] if sha256 is None else sha256
    rows = zip(pictures, split_pictures(pictures, rule), leaky, hashes, strict=True)
    return [Member(*row) for row in rows]


def save_split(path: Path, rows: Sequence[Member]) -> None:
    """Write the split down, a row a picture."""
    pairs = ((row, row.picture) for row in rows)
    values = (
        (one.file, one.label, one.group, row.split, row.leaky_split, row.sha256,
         one.um_per_px, one.note, one.source, one.path.resolve())
        for row, one in pairs
    )  # fmt: skip
    write_csv(path, _COLUMNS, values)


def load_split(path: Path) -> list[Member]:
    """Read what `save_split` wrote.

    Raises:
        DataError: a column is missing.
        MissingFile: there is no such file.
    """
    return [
        Member(
            Picture(
                Path(row["path"]),
                row["file"],
                row["label"],
                row["group"] or None,
                um_per_px=float(row["um_per_px"]) if row["um_per_px"] else None,
                note=row["note"],
                source=row["source"],
            ),
            row["split"],
            row["leaky_split"],
            row["sha256"],
        )
        for row in read_rows(path, _COLUMNS)
    ]


def held_back(split: Path) -> list[Picture]:
    """The held-back pictures of a run, as its split tells them: those that figures are measured on.

    Raises:
        DataError: a column is missing.
        MissingFile: there is no such file.
    """
    return [row.picture for row in load_split(split) if row.split == HELD_BACK]


def photographs_by_label(pictures: Sequence[Picture]) -> dict[str, int]:
    """How many photographs, not only how many pictures, each class has."""
    pairs = {(picture.label or "", group) for picture, group in zip(pictures, group_names(pictures), strict=True)}
    return dict(sorted(Counter(label for label, _ in pairs).items()))
