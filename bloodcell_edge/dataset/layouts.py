"""Readers of DATA: folders and CSV files that say which picture shows which cell.

Four layouts are known, tried in this order:

1. a CSV file with the columns ``file,label`` and optionally ``group``;
2. a folder that holds such a CSV as ``labels.csv``;
3. a folder with one folder per class, in any case;
4. a folder with ``train/``, ``val/`` (or ``valid/``, ``validation/``) and ``test/``, or some of them, in any case, also
   a few levels down (the Kaggle set as it unpacks); what stands beside them is not looked at.

Links to files and to class folders are followed, links to folders further down are not.

Nothing is decoded here; `reading` does that and collects what cannot be read.
"""

from __future__ import annotations

import math
import os
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..errors import DataError, MissingFile, NoPictures
from ..imaging.folder import list_folder
from ..imaging.image import SUFFIXES
from .pictures import LABELS, Dataset, Picture, Unreadable
from .tables import read_rows, read_table

_SUBSETS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""Names of folders, in lower case, and the side that each is."""

_NESTING = 5  # levels looked at; dataset2-master/dataset2-master/images holds TRAIN in the archive that Kaggle gives


def load_data(path: str | Path, *, labels: Sequence[str] = LABELS, group_by: str | Path | None = None) -> Dataset:
    """Find the labelled pictures that DATA means.

    Args:
        path: a folder or CSV file in one of the layouts of this module.
        labels: the classes to look for; other class folders become `Dataset.unknown`.
        group_by: a CSV with the columns ``file,group``; file relative to DATA or to the CSV.

    Raises:
        MissingFile: the path does not exist.
        DataError: a layout, class name or CSV that cannot be understood.
        NoPictures: nothing that looks like a picture of the labels.
    """
    path = Path(path)
    labels = tuple(label.upper() for label in labels)
    if not path.exists():
        message = f"{path}: no such folder or file; expected pictures in one folder per class ({', '.join(labels)})"
        raise MissingFile(message)
    dataset = _read_layout(path, labels)
    if not dataset.pictures and not dataset.unknown:
        why = [one.error for one in dataset.unreadable[:1]] or [f"{dataset.skipped} other files skipped"]
        message = f"{path}: no picture found ({why[0]}); expected {_suffix_list()} files"
        raise NoPictures(message)
    return dataset if group_by is None else _with_groups(dataset, Path(group_by))


def load_all(
    paths: Sequence[str | Path], *, labels: Sequence[str] = LABELS, group_by: str | Path | None = None, subset: str
) -> Dataset:
    """`load_data` on several DATA at once, keeping the pictures of one subset of each.

    Files of the second DATA on are called by its path too, and so are groups that it names itself, so that they stay
    apart from the first's. Groups of `group_by` stay as they are: it speaks of all DATA.

    Raises:
        MissingFile, DataError, NoPictures: see `load_data`.
        DataError: DATA marks its pictures as another subset: TEST is not trained on by accident.
    """
    datasets = [load_data(path, labels=labels, group_by=group_by).only(subset) for path in paths]
    for path, dataset in zip(paths, datasets, strict=True):
        if any(picture.subset not in (None, subset) for picture in dataset.pictures):
            message = f"{path}: no {subset.upper()} folder in it, only another one; name the folder that you mean"
            raise DataError(message)
    first, *others = datasets
    for other in others:
        pictures = tuple(_from(other.root, picture, own_groups=group_by is None) for picture in other.pictures)
        unknown = tuple(_from(other.root, picture, own_groups=group_by is None) for picture in other.unknown)
        first = replace(
            first,
            root=Path(os.path.commonpath([first.root.resolve(), other.root.resolve()])),
            pictures=first.pictures + pictures,
            unknown=first.unknown + unknown,
            unreadable=first.unreadable + other.unreadable,
            skipped=first.skipped + other.skipped,
            notes=first.notes + other.notes,
        )
    return first


def _from(root: Path, picture: Picture, *, own_groups: bool) -> Picture:
    group = f"{root.as_posix()}:{picture.group}" if own_groups and picture.group is not None else picture.group
    return replace(picture, file=f"{root.as_posix()}/{picture.file}", group=group, source=root.as_posix())


def _read_layout(path: Path, labels: tuple[str, ...]) -> Dataset:
    if path.is_file():
        return _read_csv(path, labels)
    listed, subsets = path / "labels.csv", _subset_folders(path, labels)
    if listed.is_file() and not (subsets and _is_another_table(listed)):
        return _read_csv(listed, labels)
    pictures: list[Picture] = []
    skipped = 0
    for folder, subset in subsets or [(path, None)]:
        more, other = _read_classes(folder, path, labels, subset)
        pictures, skipped = pictures + more, skipped + other
    return _dataset(path, labels, pictures, skipped=skipped)


def _is_another_table(path: Path) -> bool:
    """True where a labels.csv is not ours: the Kaggle set has one beside its images, with other columns."""
    try:
        read_rows(path, ("file", "label"))
    except DataError:
        return True
    return False


def _folders(folder: Path) -> list[Path]:
    """The folders inside, in order, without hidden ones."""
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _subset_folders(folder: Path, labels: tuple[str, ...]) -> list[tuple[Path, str | None]]:
    """The folders of sides nearest below, with the side that each is; empty where there are none.

    Class folders are not looked into: what is called "test" there is something else.

    Raises:
        DataError: they stand in several places that are equally near.
    """
    level = [folder]
    for _ in range(_NESTING):
        found = {one: [child for child in _folders(one) if child.name.lower() in _SUBSETS] for one in level}
        roots = [one for one, subsets in found.items() if subsets]
        if len(roots) > 1:
            message = (
                f"{folder}: train, val or test are in several places ({', '.join(map(str, roots))}); give one of them"
            )
            raise DataError(message)
        if roots:
            return [(child, _SUBSETS[child.name.lower()]) for child in found[roots[0]]]
        below = [_folders(one) for one in level]
        level = [child for each in below if not any(one.name.upper() in labels for one in each) for child in each]
    return []


def _read_classes(folder: Path, root: Path, labels: tuple[str, ...], subset: str | None) -> tuple[list[Picture], int]:
    pictures: list[Picture] = []
    classes = _folders(folder)
    names = {child: _class_name(child, labels) for child in classes}
    if not set(names.values()) & set(labels):
        found = ", ".join(child.name for child in classes) or "no folder at all"
        message = f"{folder}: expected one folder per class ({', '.join(labels)}), found {found}; or give --labels"
        raise (DataError if classes else NoPictures)(message)
    skipped = sum(child.is_file() for child in folder.iterdir())
    for child in classes:
        inside = list_folder(child)
        skipped += inside.skipped
        pictures += [
            Picture(file, file.relative_to(root).as_posix(), names[child], None, subset) for file in inside.files
        ]
    return pictures, skipped


def _class_name(folder: Path, labels: tuple[str, ...]) -> str:
    """The label that a folder name means; its own name in capitals where it means another class."""
    name = folder.name.upper()
    if name in labels:
        return name
    near = _near_miss(name, labels)
    if near is not None:
        message = f"{folder}: not a class name; did you mean {near}? Rename the folder, or give --labels"
        raise DataError(message)
    return name


def _near_miss(name: str, labels: tuple[str, ...]) -> str | None:
    """The label that a name was likely meant to be: one edit away for each four letters of the label, at most two."""
    return next((label for label in labels if name != label and _edits(name, label) <= min(2, len(label) // 4)), None)


def _edits(a: str, b: str) -> int:
    """Levenshtein distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def _read_csv(path: Path, labels: tuple[str, ...]) -> Dataset:
    pictures, missing = [], []
    table = read_table(path, ("file", "label"))
    for number, row in enumerate(table.rows, 1):
        file, label = _as_it_lies(path.parent, row["file"]), row["label"].strip().upper()
        if not row["file"] or not label:
            message = f"{path}: picture {number}: expected a file and a label, found {row['file']!r}, {label!r}"
            raise DataError(message)
        near = None if label in labels else _near_miss(label, labels)
        if near is not None:
            message = f"{path}: {file} has the label {row['label']!r}; did you mean {near}?"
            raise DataError(message)
        if (path.parent / file).is_file():
            group, scale = row.get("group", "").strip() or None, _scale(row.get("um_per_px", ""), path, file)
            pictures.append(Picture(path.parent / file, file, label, group, None, scale, row.get("note", "").strip()))
        else:
            missing.append(Unreadable(file, f"{path.parent / file}: no such file, but {path.name} names it"))
    understood = (f"{path}: read with {table.understood}",) if table.understood else ()
    return _dataset(path.parent, labels, pictures, unreadable=tuple(missing), notes=understood)


def _as_it_lies(folder: Path, name: str) -> str:
    """A file's name in a table as the file is called: with slashes, and in the Unicode form of this file system."""
    for slashed in (name, name.replace("\\", "/")):
        for one in (slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))):
            if (folder / one).is_file():
                return Path(one).as_posix()
    return Path(name).as_posix()


def _scale(text: str, path: Path, file: str) -> float | None:
    """µm per pixel; None where the column says nothing."""
    if not text.strip():
        return None
    try:
        scale = float(text.replace(",", "."))
    except ValueError:
        scale = math.nan
    if not 0 < scale < math.inf:
        message = f"{path}: {file} has um_per_px {text!r}; expected a positive number, such as 0.1, or nothing"
        raise DataError(message)
    return scale


def _dataset(
    root: Path,
    labels: tuple[str, ...],
    pictures: list[Picture],
    *,
    unreadable: tuple[Unreadable, ...] = (),
    skipped: int = 0,
    notes: tuple[str, ...] = (),
) -> Dataset:
    known = tuple(picture for picture in pictures if picture.label in labels)
    unknown = tuple(picture for picture in pictures if picture.label not in labels)
    return Dataset(root, labels, known, unknown, unreadable, skipped, notes)


def _with_groups(dataset: Dataset, path: Path) -> Dataset:
    rows = read_rows(path, ("file", "group"))
    groups = {_known_by(row["file"]): row["group"].strip() or None for row in rows}
    beside = path.parent.resolve()

    def group_of(picture: Picture) -> str | None:
        if _known_by(picture.file) in groups:
            return groups[_known_by(picture.file)]
        whole = picture.path.resolve()
        return groups.get(_known_by(whole.relative_to(beside).as_posix())) if whole.is_relative_to(beside) else None

    grouped = tuple(replace(picture, group=group_of(picture)) for picture in dataset.pictures)
    lost = [picture.file for picture in grouped if picture.group is None]
    if lost:
        message = (
            f"{path}: no group for {len(lost)} of {len(grouped)} pictures (the first: {lost[0]}); "
            f"its column file must name paths below {dataset.root}"
        )
        raise DataError(message)
    return replace(dataset, pictures=grouped)


def _known_by(name: str) -> str:
    """A file's name for comparing: with slashes, and in one Unicode form."""
    return unicodedata.normalize("NFC", Path(name.replace("\\", "/")).as_posix())


def _suffix_list() -> str:
    return ", ".join(sorted(SUFFIXES))
