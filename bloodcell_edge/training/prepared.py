"""Labelled pictures read once, split by photograph, and ready for the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np

from ..dataset.audit import with_photographs
from ..dataset.photograph import PictureFeatures, picture_features
from ..dataset.pictures import Dataset, Picture, Unreadable, count_by_label
from ..dataset.pooled import locate_pictures
from ..dataset.reading import Opened, read_opened
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
from ..errors import DataError, NoPictures
from ..files import write_json
from ..imaging.hashes import all_hashes
from ..imaging.views import EDGE
from ..progress import Progress, Reporter
from ..runs import RunFolder
from .recipes import Recipe
from .runfolder import run_config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image
    from ..imaging.located import Located
    from ..imaging.views import View


@dataclass(frozen=True)
class Prepared:
    """Decoded and resized pictures, ready for the network.

    Attributes:
        pictures: one each, with label.
        pixels: uint8 RGB, shape (n, size, size, 3): what the view shows of each; black where no cell was found.
        aspects: width through height of what each shows, shape (n,).
        sha256: of each file, hexadecimal.
        hashes: `all_hashes` of each whole picture, uint8, shape (n, 8, 16).
        found: bool, shape (n,): False where the view is of cells and the picture shows none.
        marked: bool, shape (n,): cells that are not named whatever the scores, see `views.Shown`.
        cut: bool, shape (n,): those of them of which too little is seen.
        wide: uint8 RGB, shape (n, wider, wider, 3): the same at the same scale with a margin around, for augmentation;
            `pixels` itself where the recipe asks for none.
        features: local features of each, to know its photograph by; empty where they were not asked for.
        unreadable: what could not be decoded.
    """

    pictures: tuple[Picture, ...]
    pixels: NDArray[np.uint8]
    aspects: NDArray[np.float64]
    sha256: tuple[str, ...]
    hashes: NDArray[np.uint8]
    found: NDArray[np.bool_]
    marked: NDArray[np.bool_]
    cut: NDArray[np.bool_]
    wide: NDArray[np.uint8]
    features: tuple[PictureFeatures, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    def targets(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """The position of each picture's label in `labels`, shape (n,)."""
        return np.array([labels.index(picture.label or "") for picture in self.pictures], np.int64)

    def rows(self, rows: NDArray[np.int64]) -> Prepared:
        """Some of them, in that order."""
        pixels = self.pixels[rows]
        return Prepared(
            tuple(self.pictures[row] for row in rows),
            pixels,
            self.aspects[rows],
            tuple(self.sha256[row] for row in rows),
            self.hashes[rows],
            self.found[rows],
            self.marked[rows],
            self.cut[rows],
            pixels if self.wide is self.pixels else self.wide[rows],
            tuple(self.features[row] for row in rows) if self.features else (),
        )


def prepare_pictures(
    pictures: Sequence[Picture],
    view: View,
    *,
    margin: float = 1.0,
    features: bool = False,
    progress: Progress | None = None,
) -> Prepared:
    """Open pictures once, the way the device does, and take all that training needs of them.

    Args:
        pictures: labelled.
        view: how the model is shown them.
        margin: keep crops so many times as wide for augmentation, see `View.show_labelled`.
        features: take local features, too; they cost more than all the rest.
        progress: called as pictures are done.

    Raises:
        NoPictures: none can be read.
    """
    pooled = locate_pictures(pictures, progress=progress) if view.needs_cells else None

    def prepare(opened: Opened) -> _Row:
        return _prepared(opened, view, None if pooled is None else pooled.located(opened.picture), margin, features)

    done, bad = read_opened(pictures, prepare, progress=progress)
    rows = [row for _, row in done]
    pixels = np.stack([row.pixels for row in rows])
    return Prepared(
        tuple(picture for picture, _ in done),
        pixels,
        np.array([row.aspect for row in rows]),
        tuple(row.sha256 for row in rows),
        np.stack([row.hashes for row in rows]),
        np.array([row.found for row in rows], np.bool_),
        np.array([bool(row.mark) for row in rows], np.bool_),
        np.array([row.mark == EDGE for row in rows], np.bool_),
        pixels if margin == 1.0 else np.stack([row.wide for row in rows]),
        tuple(row.features for row in rows if row.features is not None),
        tuple(bad),
    )


class _Row(NamedTuple):
    """One row of `Prepared`, but the picture."""

    pixels: Image
    wide: Image
    aspect: float
    found: bool
    mark: str
    sha256: str
    hashes: NDArray[np.uint8]
    features: PictureFeatures | None


def _prepared(opened: Opened, view: View, located: Located | None, margin: float, features: bool) -> _Row:
    image = opened.image
    known_by = opened.sha256, all_hashes(image), picture_features(image) if features else None
    if not view.needs_cells:
        pixels = view.show(image, None)[0].pixels
        return _Row(pixels, pixels, image.shape[1] / image.shape[0], True, "", *known_by)
    shown = view.show_labelled(image, located)
    if shown is None:
        black = [np.zeros((round(side), round(side), 3), np.uint8) for side in (view.size[0], view.size[0] * margin)]
        return _Row(black[0], black[1], 1.0, False, "", *known_by)
    wide = shown if margin == 1.0 else view.show_labelled(image, located, margin=margin) or shown
    return _Row(shown.pixels, wide.pixels, 1.0, True, shown.mark, *known_by)


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
    dataset: Dataset, recipe: Recipe, run: RunFolder, report: Reporter, *, remember: bool = True
) -> tuple[list[Member], Prepared]:
    """Open each picture once, group them by photograph and split them, or read the split of the run that goes on.

    Nothing is written before all of that is done, so that a command that failed can be given again, changed.

    Args:
        dataset: labelled pictures.
        recipe: how they are shown and split.
        run: the folder of the run.
        report: told how far it is.
        remember: keep local features, which the run's index of photographs is made of.
    """
    if run.config.is_file() and run.split.is_file():
        return _resume(run, recipe, report, remember=remember)
    if dataset.unknown and not recipe.background:
        report.say(f"left out as none of these: {counts_in_words(count_by_label(dataset.unknown))}")
    for note in dataset.notes:
        report.say(note)
    if dataset.skipped:
        report.say(f"skipped: {dataset.skipped} hidden files or files that are no pictures")
    features = remember or not all(picture.group for picture in dataset.pictures)
    with report.bar("read") as progress:
        prepared = prepare_pictures(
            dataset.pictures, recipe.shown_as, margin=recipe.margin, features=features, progress=progress
        )
    bad = (*dataset.unreadable, *prepared.unreadable)
    for one in bad:
        report.say(f"left out: {one.error}")
    with_cell = tuple(picture for picture, found in zip(prepared.pictures, prepared.found, strict=True) if found)
    if len(with_cell) < len(prepared.pictures):
        missed = len(prepared.pictures) - len(with_cell)
        of = len(prepared.pictures)
        report.say(f"no white cell found in {missed} of {of} pictures: not trained on, and wrong where held back")
    refuse_empty(dataset.root, replace(dataset, pictures=with_cell).by_label())
    pictures = with_photographs(prepared.pictures, report, prepared.features)
    rows = members(pictures, recipe.split, prepared.sha256)
    if recipe.weights == "blood":
        rows = never_held_back(rows, prepared.hashes, report)
    write_json(run.config, run_config(recipe, dataset))
    write_json(run.unreadable, [vars(one) for one in bad])
    save_split(run.split, rows)
    return rows, replace(prepared, pictures=tuple(pictures))


def _resume(run: RunFolder, recipe: Recipe, report: Reporter, *, remember: bool) -> tuple[list[Member], Prepared]:
    """The split of a run that goes on, with its pictures, which must be what they were."""
    rows = load_split(run.split)
    report.say(f"{run.path}: going on with the split of {len(rows)} pictures that is there")
    pictures = [row.picture for row in rows]
    try:
        with report.bar("read") as progress:
            prepared = prepare_pictures(
                pictures, recipe.shown_as, margin=recipe.margin, features=remember, progress=progress
            )
    except NoPictures:
        _refuse_changed(run, pictures)
    now = {picture.file: sha256 for picture, sha256 in zip(prepared.pictures, prepared.sha256, strict=True)}
    changed = [row.picture for row in rows if now.get(row.picture.file) != row.sha256]
    if changed:
        _refuse_changed(run, changed)
    return rows, prepared


def _refuse_changed(run: RunFolder, changed: Sequence[Picture]) -> NoReturn:
    message = (
        f"{run.path}: {len(changed)} pictures are gone or have changed since this run began (the first: "
        f"{changed[0].file}); put them back, or give another --name, or --force to begin again"
    )
    raise DataError(message)


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
