"""Labelled pictures read once, split by photograph, and ready for the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..dataset.audit import with_photographs
from ..dataset.pictures import Dataset, Picture, Unreadable, count_by_label
from ..dataset.reading import read_with
from ..dataset.split import (
    HELD_BACK,
    TRAIN,
    VALIDATION,
    Member,
    group_names,
    load_split,
    members,
    photographs_by_label,
    save_split,
)
from ..dataset.taught import never_held_back
from ..errors import DataError
from ..files import sha256_file, write_json
from ..imaging.hashes import perceptual_hash
from ..imaging.locate import locate
from ..progress import Progress, Reporter
from ..runs import RunFolder
from .recipes import Recipe
from .runfolder import run_config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image
    from ..imaging.views import View


UNREADABLE = "unreadable.json"  # beside the split: a run that goes on reads only what could be read


@dataclass(frozen=True)
class Prepared:
    """Decoded and resized pictures, ready for the network.

    Attributes:
        pictures: one each, with label.
        pixels: uint8 RGB, shape (n, size, size, 3): what the view shows of each; black where no cell was found.
        aspects: width through height of what each shows, shape (n,).
        hashes: `hashes.perceptual_hash` of each whole picture, shape (n, 16).
        found: bool, shape (n,): False where the view is of cells and the picture shows none.
        marked: bool, shape (n,): cells that are not named whatever the scores, see `views.Shown`.
        wide: uint8 RGB, shape (n, wider, wider, 3): the same at the same scale with a margin around, for augmentation;
            `pixels` itself where the recipe asks for none.
        unreadable: what could not be decoded.
    """

    pictures: tuple[Picture, ...]
    pixels: NDArray[np.uint8]
    aspects: NDArray[np.float64]
    hashes: NDArray[np.uint8]
    found: NDArray[np.bool_]
    marked: NDArray[np.bool_]
    wide: NDArray[np.uint8]
    unreadable: tuple[Unreadable, ...]

    def targets(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """The position of each picture's label in `labels`, shape (n,)."""
        return np.array([labels.index(picture.label or "") for picture in self.pictures], np.int64)

    def rows(self, rows: NDArray[np.int64]) -> Prepared:
        """Some of them, in that order."""
        pictures = tuple(self.pictures[row] for row in rows)
        pixels, aspects, hashes = self.pixels[rows], self.aspects[rows], self.hashes[rows]
        wide = pixels if self.wide is self.pixels else self.wide[rows]
        return Prepared(pictures, pixels, aspects, hashes, self.found[rows], self.marked[rows], wide, ())


def prepare_pictures(
    pictures: Sequence[Picture], view: View, *, margin: float = 1.0, progress: Progress | None = None
) -> Prepared:
    """Read pictures once, the way the device does.

    Args:
        pictures: labelled.
        view: how the model is shown them.
        margin: keep crops so many times as wide for augmentation, see `View.show_labelled`.
        progress: called as pictures are done.

    Raises:
        NoPictures: none can be read.
    """
    done, bad = read_with(pictures, lambda picture, image: _prepared(picture, image, view, margin), progress=progress)
    read, rows = tuple(picture for picture, _ in done), [row for _, row in done]
    pixels = np.stack([row.pixels for row in rows])
    return Prepared(
        read,
        pixels,
        np.array([row.aspect for row in rows]),
        np.stack([row.known_by for row in rows]),
        np.array([row.found for row in rows], np.bool_),
        np.array([row.marked for row in rows], np.bool_),
        pixels if margin == 1.0 else np.stack([row.wide for row in rows]),
        tuple(bad),
    )


class _Row(NamedTuple):
    """One row of `Prepared`, but the picture."""

    pixels: Image
    wide: Image
    aspect: float
    known_by: NDArray[np.uint8]
    found: bool
    marked: bool


def _prepared(picture: Picture, image: Image, view: View, margin: float) -> _Row:
    known_by = perceptual_hash(image)
    if view.name == "frame":
        pixels = view.show(image)[0].pixels
        return _Row(pixels, pixels, image.shape[1] / image.shape[0], known_by, found=True, marked=False)
    located = locate(image, um_per_px=picture.um_per_px)
    shown = view.show_prominent(image, located)
    if shown is None:
        black = [np.zeros((round(side), round(side), 3), np.uint8) for side in (view.size[0], view.size[0] * margin)]
        return _Row(black[0], black[1], 1.0, known_by, found=False, marked=False)
    wide = shown if margin == 1.0 else view.show_prominent(image, located, margin=margin) or shown
    return _Row(shown.pixels, wide.pixels, 1.0, known_by, found=True, marked=bool(shown.mark))


def as_tensor_dataset(batches: Any, steps: int, size: int) -> Any:
    """A tf.data pipeline that makes batches on a thread of its own while the network trains.

    Args:
        batches: ``batches(step) -> (uint8 pixels (n, size, size, 3), targets (n, labels))``.
        steps: number of batches.
        size: input side in pixels.
    """
    from .frameworks import tf

    def make(step: Any) -> Any:
        return tf.numpy_function(lambda number: batches(int(number)), [step], (tf.uint8, tf.float32))

    def shaped(pixels: Any, targets: Any) -> Any:
        return tf.ensure_shape(pixels, (None, size, size, 3)), tf.ensure_shape(targets, (None, None))

    source = tf.data.Dataset.range(steps).map(make, num_parallel_calls=2, deterministic=True)
    return source.map(shaped).prefetch(4)


def refuse_empty(root: Path, counts: Mapping[str, int]) -> None:
    """Raise DataError where a label has no picture."""
    empty = [label for label, count in counts.items() if not count]
    if empty:
        message = (
            f"{root}: no readable picture of {', '.join(empty)}; add some, or name the classes that are there with "
            "--labels"
        )
        raise DataError(message)


def split_and_prepare(
    dataset: Dataset, recipe: Recipe, run: RunFolder, report: Reporter
) -> tuple[list[Member], Prepared]:
    """Decode everything, group it by photograph and split it, or read the split of the run that goes on.

    Nothing is written before all of that is done, so that a command that failed can be given again, changed.
    """
    if run.config.is_file() and run.split.is_file():
        return _resume(run, recipe, report)
    if dataset.unknown and not recipe.background:
        report.say(f"left out as none of these: {counts_in_words(count_by_label(dataset.unknown))}")
    if dataset.skipped:
        report.say(f"skipped: {dataset.skipped} hidden files or files that are no pictures")
    with report.bar("read") as progress:
        prepared = prepare_pictures(dataset.pictures, recipe.shown_as, margin=recipe.margin, progress=progress)
    bad = (*dataset.unreadable, *prepared.unreadable)
    for one in bad:
        report.say(f"left out: {one.error}")
    with_cell = tuple(picture for picture, found in zip(prepared.pictures, prepared.found, strict=True) if found)
    if len(with_cell) < len(prepared.pictures):
        missed = len(prepared.pictures) - len(with_cell)
        of = len(prepared.pictures)
        report.say(f"no white cell found in {missed} of {of} pictures: not trained on, and wrong where held back")
    refuse_empty(dataset.root, replace(dataset, pictures=with_cell).by_label())
    pictures = with_photographs(prepared.pictures, report)
    rows = members(pictures, recipe.split)
    if recipe.weights == "blood":
        rows = never_held_back(rows, report)
    write_json(run.config, run_config(recipe, dataset))
    write_json(run.path / UNREADABLE, [vars(one) for one in bad])
    save_split(run.split, rows)
    return rows, replace(prepared, pictures=tuple(pictures))


def _resume(run: RunFolder, recipe: Recipe, report: Reporter) -> tuple[list[Member], Prepared]:
    """The split of a run that goes on, with its pictures, which must be what they were."""
    rows = load_split(run.split)
    report.say(f"{run.path}: going on with the split of {len(rows)} pictures that is there")
    changed = [
        row.picture.file
        for row in rows
        if not row.picture.path.is_file() or sha256_file(row.picture.path) != row.sha256
    ]
    if changed:
        message = (
            f"{run.path}: {len(changed)} pictures are gone or have changed since this run began (the first: "
            f"{changed[0]}); put them back, or give another --name, or --force to begin again"
        )
        raise DataError(message)
    with report.bar("read") as progress:
        pictures = [row.picture for row in rows]
        return rows, prepare_pictures(pictures, recipe.shown_as, margin=recipe.margin, progress=progress)


def say_counts(rows: Sequence[Member], report: Reporter) -> None:
    """Say how many pictures, and of how many photographs, are on each side."""
    for side in (TRAIN, VALIDATION, HELD_BACK):
        pictures = [row.picture for row in rows if row.split == side]
        if pictures:
            photographs = photographs_by_label(pictures)
            counts = count_by_label(pictures)
            listed = ", ".join(f"{label} {counts[label]} of {photographs[label]}" for label in counts)
            total = len(set(group_names(pictures)))  # a photograph whose pictures have two labels is still one
            report.say(f"{side}: {len(pictures)} pictures of {total} photographs ({listed})")


def counts_in_words(counts: Mapping[str, int]) -> str:
    """Such as "3 MONOCYTE, 5 NEUTROPHIL"."""
    return ", ".join(f"{count} {label}" for label, count in counts.items())
