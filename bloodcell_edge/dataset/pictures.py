"""Labelled pictures as found, before anything is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

LABELS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
"""The four classes of the mission, in the order of every model's output unless ``--labels`` says otherwise."""


@dataclass(frozen=True)
class Picture:
    """One labelled picture file.

    Attributes:
        path: where it is.
        file: its path below the DATA folder, with forward slashes; what reports call it.
        label: its class; None in a folder without labels; a name outside `Dataset.labels` for "none of these".
        group: what may not be split (a photograph, or a cell shown on several); None where it is not known.
        subset: "train", "val" or "test" where the folders say so.
        um_per_px: its scale, where it is given; else its red cells tell it.
        note: a note on it in a table, such as a doubtful label.
        source: which DATA it came from where there are several; "" for the only or the first one.
    """

    path: Path
    file: str
    label: str | None = None
    group: str | None = None
    subset: str | None = None
    um_per_px: float | None = None
    note: str = ""
    source: str = ""


@dataclass(frozen=True)
class Unreadable:
    """A file that should be a picture and is not: its name and why."""

    file: str
    error: str


@dataclass(frozen=True)
class Dataset:
    """Labelled pictures as found, before anything is decoded.

    Attributes:
        root: the folder that `Picture.file` is relative to.
        labels: the classes asked for, in output order.
        pictures: pictures of those classes, in natural order, or in the CSV's.
        unknown: pictures of other classes ("none of these").
        unreadable: files named by a CSV that are not there.
        skipped: hidden files and files without an image suffix.
        notes: what was understood of tables that are not the usual ones, a line each.
    """

    root: Path
    labels: tuple[str, ...]
    pictures: tuple[Picture, ...]
    unknown: tuple[Picture, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    skipped: int = 0
    notes: tuple[str, ...] = ()

    def only(self, subset: str) -> Dataset:
        """The pictures of one subset ("train", "val", "test"), or all where none are so marked."""

        def keep(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
            return tuple(picture for picture in pictures if picture.subset == subset)

        if not keep(self.pictures):
            return self
        return replace(self, pictures=keep(self.pictures), unknown=keep(self.unknown))

    def held_out(self) -> tuple[Dataset, str]:
        """What a model is measured on: the pictures of "test", else of "val", else all; and which of them, or ""."""
        sides = {picture.subset for picture in self.pictures}
        side = next((one for one in ("test", "val") if one in sides), "")
        return (self.only(side) if side else self), side

    def by_label(self) -> dict[str, int]:
        """Number of pictures of each class, classes without any included."""
        counts = Counter(picture.label for picture in self.pictures)
        return {label: counts[label] for label in self.labels}


def count_by_label(pictures: Sequence[Picture]) -> dict[str, int]:
    """Pictures of each label."""
    return dict(sorted(Counter(picture.label or "" for picture in pictures).items()))
