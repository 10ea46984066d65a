"""Readers of DATA: folders and CSV files that say which picture shows which cell.

Four layouts are known, tried in this order:

1. a CSV file with the columns ``file,label`` and optionally ``group``;
2. a folder that holds such a CSV as ``labels.csv``;
3. a folder with ``TRAIN/`` and/or ``TEST/`` inside, also a few levels down (the Kaggle set as it unpacks);
4. a folder with one folder per class, in any case.

Nothing is decoded here; `read_each` does that and collects what cannot be read.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from .errors import DataError, MissingFile, NoPictures, PictureError
from .image import SUFFIXES, read_image

if TYPE_CHECKING:
    from .image import Image

T = TypeVar("T")
Progress = Callable[[int, int], None]
"""Called with (done, total); drawing it is the caller's business."""

LABELS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
"""The four classes of the mission, in the order of every model's output unless ``--labels`` says otherwise."""

_SUBSETS = {"train": "train", "test": "test"}
_NESTING = 4  # dataset2-master/dataset2-master/images/TRAIN is three levels below the unpacked archive


@dataclass(frozen=True)
class Picture:
    """One labelled picture file.

    Attributes:
        path: where it is.
        file: its path below the DATA folder, with forward slashes; what reports call it.
        label: its class; None in a folder without labels; a name outside `Dataset.labels` for "none of these".
        group: what may not be split (a photograph, or a cell shown on several); None where nobody said.
        subset: "train" or "test" where the folders say so.
    """

    path: Path
    file: str
    label: str | None = None
    group: str | None = None
    subset: str | None = None


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
        pictures: pictures of those classes, in natural order.
        unknown: pictures of other classes ("none of these").
        unreadable: files named by a CSV that are not there.
        skipped: hidden files and files without an image suffix.
    """

    root: Path
    labels: tuple[str, ...]
    pictures: tuple[Picture, ...]
    unknown: tuple[Picture, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    skipped: int = 0

    def only(self, subset: str) -> Dataset:
        """The pictures of one subset ("train", "test"), or all where none are so marked."""

        def keep(pictures: tuple[Picture, ...]) -> tuple[Picture, ...]:
            return tuple(picture for picture in pictures if picture.subset == subset)

        if not keep(self.pictures):
            return self
        return replace(self, pictures=keep(self.pictures), unknown=keep(self.unknown))

    def by_label(self) -> dict[str, int]:
        """Number of pictures of each class, classes without any included."""
        counts = Counter(picture.label for picture in self.pictures)
        return {label: counts[label] for label in self.labels}


def natural_key(name: str | Path) -> list[tuple[int, int, str]]:
    """Sort key that puts ``field_2`` before ``field_10``."""
    parts = re.split(r"(\d+)", str(name))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts]


def walk(folder: Path) -> tuple[list[Path], int]:
    """All picture files below a folder in natural order, and how many other files were skipped."""
    found, skipped = [], 0
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith(".") or Path(name).suffix.lower() not in SUFFIXES:
                skipped += 1
            else:
                found.append(Path(parent) / name)
    return sorted(found, key=lambda path: natural_key(path.relative_to(folder).as_posix())), skipped


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
        message = f"{path}: no picture found ({dataset.skipped} other files skipped); expected {_suffix_list()} files"
        raise NoPictures(message)
    return dataset if group_by is None else _with_groups(dataset, Path(group_by))


def load_all(
    paths: Sequence[str | Path], *, labels: Sequence[str] = LABELS, group_by: str | Path | None = None, subset: str
) -> Dataset:
    """`load_data` on several DATA at once, keeping the pictures of one subset of each.

    Files and groups of the second DATA on are called by its path too, so that they stay apart from the first's.

    Raises:
        MissingFile, DataError, NoPictures: see `load_data`.
    """
    datasets = [load_data(path, labels=labels, group_by=group_by).only(subset) for path in paths]
    first, *others = datasets
    for other in others:
        pictures = tuple(_from(other.root, picture) for picture in other.pictures)
        unknown = tuple(_from(other.root, picture) for picture in other.unknown)
        first = replace(
            first,
            root=Path(os.path.commonpath([first.root.resolve(), other.root.resolve()])),
            pictures=first.pictures + pictures,
            unknown=first.unknown + unknown,
            unreadable=first.unreadable + other.unreadable,
            skipped=first.skipped + other.skipped,
        )
    return first


def _from(root: Path, picture: Picture) -> Picture:
    group = None if picture.group is None else f"{root.as_posix()}:{picture.group}"
    return replace(picture, file=f"{root.as_posix()}/{picture.file}", group=group)


def _read_layout(path: Path, labels: tuple[str, ...]) -> Dataset:
    if path.is_file():
        return _read_csv(path, labels)
    if (path / "labels.csv").is_file():
        return _read_csv(path / "labels.csv", labels)
    split_root = next(_subset_roots(path), None)
    if split_root is None:
        pictures, skipped = _read_classes(path, path, labels, None)
    else:
        pictures, skipped = [], 0
        for folder in sorted(split_root.iterdir()):
            if folder.is_dir() and folder.name.lower() in _SUBSETS:
                more, other = _read_classes(folder, path, labels, _SUBSETS[folder.name.lower()])
                pictures, skipped = pictures + more, skipped + other
    return _dataset(path, labels, pictures, skipped=skipped)


def _subset_roots(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Folders that hold a TRAIN or TEST folder, nearest first."""
    children = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    if any(child.name.lower() in _SUBSETS for child in children):
        yield folder
    elif depth < _NESTING:
        for child in children:
            yield from _subset_roots(child, depth + 1)


def _read_classes(folder: Path, root: Path, labels: tuple[str, ...], subset: str | None) -> tuple[list[Picture], int]:
    pictures: list[Picture] = []
    classes = sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))
    names = {child: _class_name(child, labels) for child in classes}
    if not set(names.values()) & set(labels):
        found = ", ".join(child.name for child in classes) or "no folder at all"
        message = f"{folder}: expected one folder per class ({', '.join(labels)}), found {found}; or give --labels"
        raise (DataError if classes else NoPictures)(message)
    skipped = sum(child.is_file() for child in folder.iterdir())
    for child in classes:
        files, other = walk(child)
        skipped += other
        pictures += [Picture(file, file.relative_to(root).as_posix(), names[child], None, subset) for file in files]
    return pictures, skipped


def _class_name(folder: Path, labels: tuple[str, ...]) -> str:
    """The label that a folder name means; its own name in capitals where it means another class."""
    name = folder.name.upper()
    if name in labels:
        return name
    near = [label for label in labels if _edits(name, label) <= 2]
    if near:
        message = f"{folder}: not a class name; did you mean {near[0]}? Rename the folder, or give --labels"
        raise DataError(message)
    return name


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
    for row in read_rows(path, ("file", "label")):
        file, label = row["file"], row["label"].strip().upper()
        if not (path.parent / file).is_file():
            missing.append(Unreadable(file, f"{path.parent / file}: no such file, but {path.name} names it"))
            continue
        near = [known for known in labels if label != known and _edits(label, known) <= 2]
        if near and label not in labels:
            message = f"{path}: {file} has the label {row['label']!r}; did you mean {near[0]}?"
            raise DataError(message)
        pictures.append(Picture(path.parent / file, file, label, (row.get("group") or "").strip() or None))
    return _dataset(path.parent, labels, pictures, unreadable=tuple(missing))


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file that must have certain columns.

    Raises:
        DataError: it is not text, or a column is missing.
        MissingFile: it does not exist.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            found = tuple(reader.fieldnames or ())
            rows = [{key: value or "" for key, value in row.items() if key is not None} for row in reader]
    except FileNotFoundError as error:
        message = f"{path}: no such file; expected a CSV with the columns {','.join(columns)}"
        raise MissingFile(message) from error
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{path}: not a CSV text file ({error})"
        raise DataError(message) from error
    if not set(columns) <= set(found):
        message = f"{path}: expected the columns {','.join(columns)}, found {','.join(found) or 'none'}"
        raise DataError(message)
    return rows


def _dataset(
    root: Path,
    labels: tuple[str, ...],
    pictures: list[Picture],
    *,
    unreadable: tuple[Unreadable, ...] = (),
    skipped: int = 0,
) -> Dataset:
    known = tuple(picture for picture in pictures if picture.label in labels)
    unknown = tuple(picture for picture in pictures if picture.label not in labels)
    return Dataset(root, labels, known, unknown, unreadable, skipped)


def _with_groups(dataset: Dataset, path: Path) -> Dataset:
    groups = {Path(row["file"]).as_posix(): row["group"] for row in read_rows(path, ("file", "group"))}
    beside = path.parent.resolve()

    def group_of(picture: Picture) -> str | None:
        if picture.file in groups:
            return groups[picture.file]
        try:
            return groups.get(picture.path.resolve().relative_to(beside).as_posix())
        except ValueError:
            return None

    grouped = tuple(replace(picture, group=group_of(picture)) for picture in dataset.pictures)
    lost = [picture.file for picture in grouped if picture.group is None]
    if lost:
        message = (
            f"{path}: no group for {len(lost)} of {len(grouped)} pictures (the first: {lost[0]}); "
            f"its column file must name paths below {dataset.root}"
        )
        raise DataError(message)
    return replace(dataset, pictures=grouped)


def _suffix_list() -> str:
    return ", ".join(sorted(SUFFIXES))


def read_each(
    pictures: Sequence[Picture], use: Callable[[Image], T], *, progress: Progress | None = None
) -> tuple[list[tuple[Picture, T]], list[Unreadable]]:
    """Decode pictures on all cores and keep what `use` makes of each.

    Args:
        pictures: what to read, order kept.
        use: called with uint8 RGB (height, width, 3) on a worker thread.
        progress: called as pictures are done.

    Returns:
        (picture, result) of every readable picture, and the unreadable ones by name.

    Raises:
        NoPictures: pictures were given and none can be read.
    """

    def one(picture: Picture) -> T | Unreadable:
        try:
            return use(read_image(picture.path))
        except (PictureError, MissingFile) as error:
            return Unreadable(picture.file, str(error))

    done: list[tuple[Picture, T]] = []
    bad: list[Unreadable] = []
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for number, (picture, result) in enumerate(zip(pictures, pool.map(one, pictures), strict=True), 1):
            if isinstance(result, Unreadable):
                bad.append(result)
            else:
                done.append((picture, result))
            if progress is not None:
                progress(number, len(pictures))
    if bad and not done:
        message = f"none of {len(bad)} pictures can be read; the first: {bad[0].error}"
        raise NoPictures(message)
    return done, bad
