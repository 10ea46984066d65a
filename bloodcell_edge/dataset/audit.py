"""What is in a set of labelled pictures: photographs, copies, conflicting labels, and splits that leak."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..errors import BceError, NoPictures
from ..progress import Progress, Reporter
from .photograph import PictureFeatures
from .photographs import DisjointSets, PhotographIndex, in_order, read_features
from .pictures import Dataset, Picture, Unreadable


@dataclass(frozen=True)
class AuditReport:
    """What is to be known of labelled pictures before anything is trained on them. Files are named as in DATA.

    A group is what may not be split: pictures found to show one photograph, joined with the groups that the user gave.

    Attributes:
        n: readable pictures, "none of these" included.
        by_label: pictures of each label.
        photographs_by_label: groups of each label; a group with two labels counts for both.
        unreadable: files that are no pictures.
        duplicates: files with exactly the same pixels after decoding, so that names, EXIF data and format do not count.
        groups: files of each group of two or more.
        conflicts: groups with more than one label, as {"files", "labels"}.
        straddling: groups on more than one side of a split, as {"files", "sides"}.
        leaks: pictures outside the largest side whose group is on another side too: with two sides, the pictures of
            the smaller one (the test set) that have a copy on the other.
        group_of: number of the group of each readable file, in order of first appearance.
    """

    n: int
    by_label: dict[str, int]
    photographs_by_label: dict[str, int]
    unreadable: tuple[Unreadable, ...]
    duplicates: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[str, ...], ...]
    conflicts: tuple[dict[str, list[str]], ...]
    straddling: tuple[dict[str, list[str]], ...]
    leaks: int
    group_of: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """The document of `bce audit --json`."""
        document = asdict(self)
        del document["group_of"]
        return document


def audit(dataset: Dataset, *, sides: Mapping[str, str] | None = None, progress: Progress | None = None) -> AuditReport:
    """Look through a data set for copies, conflicting labels and leaks.

    Args:
        dataset: as `bloodcell_edge.dataset.layouts.load_data` gives it; pictures of "none of these" are looked at too.
        sides: side of each file in a split (`Picture.file` to a name); files it leaves out are on no side. Without it
            the subsets of the data (train, test) are the sides.
        progress: called with (done, total).

    Raises:
        NoPictures: none can be read.
    """
    pictures, digests, found, bad = _find(dataset, progress)
    groups = _join_given(pictures, found)
    side_of = {picture.file: picture.subset if sides is None else sides.get(picture.file) for picture in pictures}
    members = _listed(pictures, groups)
    straddling = [group for group in members if len(_values(group, side_of)) > 1]
    return AuditReport(
        n=len(pictures),
        by_label=_count_labels(dataset, [picture.label for picture in pictures]),
        photographs_by_label=_count_labels(dataset, [label for label, _ in _labels_of_groups(pictures, groups)]),
        unreadable=(*dataset.unreadable, *bad),
        duplicates=_copies(_listed(pictures, in_order(digests))),
        groups=_copies(members),
        conflicts=_conflicts(members, pictures),
        straddling=_disagreeing(members, side_of, "sides"),
        leaks=_leaks(straddling, side_of),
        group_of={picture.file: group for picture, group in zip(pictures, groups, strict=True)},
    )


def _find(
    dataset: Dataset, progress: Progress | None
) -> tuple[list[Picture], list[bytes], list[int], list[Unreadable]]:
    """(readable pictures, digest of each, group of each, unreadable files)."""
    pictures = (*dataset.pictures, *dataset.unknown)
    index = PhotographIndex()
    readable, digests, groups, bad = [], [], [], []
    found = read_features([picture.path for picture in pictures])
    for number, (picture, features) in enumerate(zip(pictures, found, strict=True), 1):
        if isinstance(features, BceError):
            bad.append(Unreadable(picture.file, str(features)))
        else:
            readable.append(picture)
            digests.append(features.digest)
            groups.append(index.add_features(features))
        if progress is not None:
            progress(number, len(pictures))
    if not readable:
        reason = f"; the first: {bad[0].error}" if bad else ""
        message = f"{dataset.root}: none of {len(pictures)} pictures can be read{reason}"
        raise NoPictures(message)
    return readable, digests, [index.current(group) for group in groups], bad


def _join_given(pictures: Sequence[Picture], found: Sequence[int]) -> list[int]:
    """Join found groups that the user says belong together (one cell on several photographs)."""
    sets = DisjointSets()
    number_of: dict[tuple[str, Hashable], int] = {}

    def number(kind: str, name: Hashable) -> int:
        if (kind, name) not in number_of:
            number_of[kind, name] = sets.new()
        return number_of[kind, name]

    own = [number("found", group) for group in found]
    for picture, group in zip(pictures, own, strict=True):
        if picture.group is not None:
            sets.join(group, number("given", picture.group))
    return in_order(sets.root(group) for group in own)


def _listed(pictures: Sequence[Picture], groups: Sequence[int]) -> list[tuple[str, ...]]:
    """The files of each group, in order."""
    files: dict[int, list[str]] = defaultdict(list)
    for picture, group in zip(pictures, groups, strict=True):
        files[group].append(picture.file)
    return [tuple(names) for _, names in sorted(files.items())]


def _copies(groups: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    return tuple(files for files in groups if len(files) > 1)


def _values(files: Iterable[str], value_of: Mapping[str, str | None]) -> list[str]:
    """The different values of some files, sorted; files without one left out."""
    return sorted({value for file in files if (value := value_of[file]) is not None})


def _disagreeing(
    groups: Iterable[tuple[str, ...]], value_of: Mapping[str, str | None], name: str
) -> tuple[dict[str, list[str]], ...]:
    """Groups whose files have more than one value, with the values under `name`."""
    described = ({"files": list(files), name: _values(files, value_of)} for files in groups)
    return tuple(group for group in described if len(group[name]) > 1)


def _conflicts(groups: Iterable[tuple[str, ...]], pictures: Sequence[Picture]) -> tuple[dict[str, list[str]], ...]:
    """Groups with more than one label; a table may name one file twice, each time with another."""
    labels: dict[str, set[str]] = defaultdict(set)
    for picture in pictures:
        labels[picture.file].add(picture.label or "")
    described = (
        {"files": sorted(set(files), key=files.index), "labels": sorted(set().union(*(labels[file] for file in files)))}
        for files in groups
    )
    return tuple(group for group in described if len(group["labels"]) > 1)


def _leaks(straddling: Iterable[tuple[str, ...]], side_of: Mapping[str, str | None]) -> int:
    """Files of straddling groups outside the largest side; of equal sides the first by name counts as the largest."""
    sizes = Counter(side for side in side_of.values() if side is not None)
    largest = min(sizes, key=lambda side: (-sizes[side], side), default=None)
    return sum(side_of[file] not in (None, largest) for files in straddling for file in files)


def _labels_of_groups(pictures: Sequence[Picture], groups: Sequence[int]) -> set[tuple[str | None, int]]:
    return {(picture.label, group) for picture, group in zip(pictures, groups, strict=True)}


def _count_labels(dataset: Dataset, labels: Iterable[str | None]) -> dict[str, int]:
    """How often each label occurs: those asked for first, zeros included, then the others by name."""
    counts = Counter(label for label in labels if label is not None)
    return {label: counts[label] for label in (*dataset.labels, *sorted(set(counts) - set(dataset.labels)))}


def with_photographs(
    pictures: Sequence[Picture], report: Reporter, features: Sequence[PictureFeatures] | None = None
) -> list[Picture]:
    """Fill in which photograph each picture shows, where it has no group; groups that are given hold.

    Args:
        pictures: readable ones.
        report: told how far it is.
        features: of each; None to open the pictures and take them.
    """
    if all(picture.group for picture in pictures):
        return list(pictures)
    with report.bar("find photographs") as progress:
        groups = _join_given(pictures, _grouped(pictures, features, progress))
    named: dict[int, str] = {}
    for picture, group in zip(pictures, groups, strict=True):
        named.setdefault(group, picture.file)  # a photograph is called by the first file that shows it
    return [replace(picture, group=named[group]) for picture, group in zip(pictures, groups, strict=True)]


def _grouped(pictures: Sequence[Picture], features: Sequence[PictureFeatures] | None, progress: Progress) -> list[int]:
    """The photograph of each picture, found."""
    index = PhotographIndex()
    if features is None:
        return index.add_all([picture.path for picture in pictures], progress=progress)
    found = []
    for number, one in enumerate(features, 1):
        found.append(index.add_features(one))
        progress(number, len(features))
    return [index.current(group) for group in found]
