"""How good a model is on labelled picture files, of which it has seen none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import DataError, NoPictures
from ..files import sha256_file
from ..imaging.hashes import all_hashes
from ..model.seen import from_json
from ..model.spec import ModelSpec
from ..progress import SILENT, Reporter
from ..statistics.metrics import Evaluation, evaluate
from .pictures import Dataset, Picture, Unreadable
from .reading import read_with
from .shown import shown_labelled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image
    from ..imaging.views import Shown


class Predictor(Protocol):
    """A Keras model or a .tflite: both answer prepared pictures."""

    @property
    def spec(self) -> ModelSpec:
        """What the model says of itself."""

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 (n, labels), of uint8 RGB pictures (n, height, width, 3)."""


@dataclass(frozen=True)
class Answers:
    """A model's answers to labelled pictures.

    Attributes:
        pictures: that were asked about; their labels are the model's.
        scores: float32, shape (n, labels); NaN where no cell was found.
        evaluation: the figures on them.
        unknown: pictures of other classes: how many were asked about ("n"), and of those how many were "rejected",
            which is "unidentified" plus "no_cell".
        seen: pictures left out, of other classes too, since the model was trained on them or on a near copy.
        unreadable: what could not be decoded.
    """

    pictures: tuple[Picture, ...]
    scores: NDArray[np.float32]
    evaluation: Evaluation
    unknown: dict[str, Any]
    seen: tuple[str, ...]
    unreadable: tuple[Unreadable, ...]

    def with_cell(self) -> tuple[list[Picture], NDArray[np.float32]]:
        """The pictures in which a cell was found, and their scores."""
        rows = np.flatnonzero(~np.isnan(self.scores).any(axis=1))
        return [self.pictures[row] for row in rows], self.scores[rows]

    def as_json(self, model: str) -> dict[str, Any]:
        """The keys of `bce evaluate --json`."""
        return {
            "model": model,
            **self.evaluation.as_json(),
            "seen_in_training": len(self.seen),
            "unknown": self.unknown,
            "unreadable": [vars(one) for one in self.unreadable],
        }


def evaluate_files(
    model: Predictor,
    dataset: Dataset,
    *,
    allow_seen: bool = False,
    is_copy: Callable[[Image], bool] | None = None,
    report: Reporter = SILENT,
) -> Answers:
    """Ask a model about every labelled picture and work out the figures.

    Args:
        model: asked about each picture's most prominent cell, or with view "frame" about the whole.
        dataset: pictures of the model's labels; those of other classes count as unknowns.
        allow_seen: keep pictures that the model was trained on.
        is_copy: a further test, whether a picture is a turned or sheared copy of a training photograph.
        report: told how far it is.

    Raises:
        DataError: labels that are not the model's, or every picture was seen.
        NoPictures: no labelled picture can be read.
    """
    labels = model.spec.labels
    if dataset.labels != labels:
        message = f"{dataset.root}: read with labels {list(dataset.labels)}, the model has {list(labels)}"
        raise DataError(message)
    known, view = None if allow_seen else from_json(model.spec.seen), model.spec.shown_as

    def use(picture: Picture, image: Image) -> tuple[Shown | None, NDArray[np.uint8] | None, bool]:
        copy = is_copy is not None and not allow_seen and is_copy(image)
        shown = shown_labelled(picture, image, view)
        return shown, None if known is None else all_hashes(image), copy

    with report.bar("read") as progress:
        done, unreadable = read_with([*dataset.pictures, *dataset.unknown], use, progress=progress)
    fresh, seen = [], []
    for picture, (one, hashes, copy) in done:
        holds = known is not None and hashes is not None and known.holds(sha256_file(picture.path), hashes)
        if holds or copy:
            seen.append(picture.file)
        else:
            fresh.append((picture, one))
    labelled = [row for row in fresh if row[0].label in labels]
    if not labelled:
        if seen:
            message = f"{dataset.root}: the model was trained on all {len(seen)} pictures; use others, or --allow-seen"
            raise DataError(message)
        message = f"{dataset.root}: no readable picture of {', '.join(labels)}"
        raise NoPictures(message)
    pictures = tuple(picture for picture, _ in labelled)
    shown = [cell for _, cell in labelled]
    scores = _scores(model, shown)
    unknown = _unknown(model, [other for picture, other in fresh if picture.label not in labels])
    no_cell = np.array([cell is None for cell in shown])
    marked = np.array([cell is not None and bool(cell.mark) for cell in shown])
    found = figures(pictures, scores, model.spec, no_cell=no_cell, marked=marked)
    return Answers(pictures, scores, found, unknown, tuple(seen), (*dataset.unreadable, *unreadable))


def _scores(model: Predictor, shown: Sequence[Shown | None]) -> NDArray[np.float32]:
    """Probabilities, shape (n, labels); NaN where nothing is shown."""
    there = np.array([one is not None for one in shown], np.bool_)
    scores = np.full((len(shown), len(model.spec.labels)), np.nan, np.float32)
    if there.any():
        scores[there] = model.scores(np.stack([one.pixels for one in shown if one is not None]))
    return scores


def figures(
    pictures: Sequence[Picture],
    scores: NDArray[np.float32],
    spec: ModelSpec,
    *,
    no_cell: NDArray[np.bool_] | None = None,
    marked: NDArray[np.bool_] | None = None,
) -> Evaluation:
    """`metrics.evaluate` on pictures; by photograph where every picture's group is known.

    Args:
        pictures: labelled.
        scores: shape (n, labels).
        spec: of the model.
        no_cell: see `metrics.evaluate`.
        marked: likewise.
    """
    groups = [picture.group for picture in pictures]
    truth = np.array([spec.labels.index(picture.label or "") for picture in pictures])
    return evaluate(
        truth,
        scores,
        spec.labels,
        no_cell=no_cell,
        marked=marked,
        groups=None if None in groups else groups,
        reject_threshold=spec.reject_threshold,
    )


def _unknown(model: Predictor, shown: Sequence[Shown | None]) -> dict[str, int]:
    """How many pictures of none of the classes were turned away."""
    cells = [one for one in shown if one is not None]
    top, marked = _scores(model, cells).max(axis=1, initial=0.0), np.array([bool(one.mark) for one in cells], np.bool_)
    unidentified = int(((top < (model.spec.reject_threshold or 0.0)) | marked).sum())
    no_cell = len(shown) - len(cells)
    return {"n": len(shown), "rejected": unidentified + no_cell, "unidentified": unidentified, "no_cell": no_cell}


def copy_test(path: Path) -> Callable[[Image], bool] | None:
    """The test for turned copies of training photographs, where the model stands in the run folder that has them."""
    from ..runs import RunFolder

    index_file = RunFolder(path.parent).index
    if not index_file.is_file():
        return None
    from .photographs import PhotographIndex

    index, one_at_a_time = PhotographIndex.load(index_file), Lock()

    def is_copy(image: Image) -> bool:
        with one_at_a_time:  # pictures are read on several threads, the index is for one
            return index.find(image) is not None

    return is_copy
