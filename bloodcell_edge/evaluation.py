"""How good a model is on labelled picture files, of which it has seen none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .data import Dataset, Picture, Unreadable, read_each
from .errors import DataError, NoPictures
from .files import sha256_file
from .image import prepare
from .metrics import Evaluation, evaluate
from .reporting import SILENT, Reporter
from .seen import all_hashes, from_json
from .spec import ModelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .image import Image


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
        scores: float32, shape (n, labels).
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
        model: with view "frame".
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
    known = None if allow_seen else from_json(model.spec.seen)

    def use(image: Image) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None, bool]:
        copy = is_copy is not None and not allow_seen and is_copy(image)
        return prepare(image, model.spec.input_size), None if known is None else all_hashes(image), copy

    with report.bar("read") as progress:
        done, unreadable = read_each([*dataset.pictures, *dataset.unknown], use, progress=progress)
    fresh, seen = [], []
    for picture, (pixels, hashes, copy) in done:
        holds = known is not None and hashes is not None and known.holds(sha256_file(picture.path), hashes)
        if holds or copy:
            seen.append(picture.file)
        else:
            fresh.append((picture, pixels))
    labelled = [row for row in fresh if row[0].label in labels]
    if not labelled:
        if seen:
            message = f"{dataset.root}: the model was trained on all {len(seen)} pictures; use others, or --allow-seen"
            raise DataError(message)
        message = f"{dataset.root}: no readable picture of {', '.join(labels)}"
        raise NoPictures(message)
    pictures = tuple(picture for picture, _ in labelled)
    scores = model.scores(np.stack([pixels for _, pixels in labelled]))
    others = [row for row in fresh if row[0].label not in labels]
    unknown = _unknown(model, [pixels for _, pixels in others])
    found = figures(pictures, scores, model.spec)
    return Answers(pictures, scores, found, unknown, tuple(seen), (*dataset.unreadable, *unreadable))


def figures(pictures: Sequence[Picture], scores: NDArray[np.float32], spec: ModelSpec) -> Evaluation:
    """`metrics.evaluate` on pictures; by photograph where every picture's group is known."""
    groups = [picture.group for picture in pictures]
    truth = np.array([spec.labels.index(picture.label or "") for picture in pictures])
    return evaluate(
        truth,
        scores,
        spec.labels,
        groups=None if None in groups else groups,
        reject_threshold=spec.reject_threshold,
    )


def _unknown(model: Predictor, pixels: list[NDArray[np.uint8]]) -> dict[str, int]:
    """How many pictures of none of the classes were turned away."""
    threshold = model.spec.reject_threshold or 0.0
    top = model.scores(np.stack(pixels)).max(axis=1) if pixels else np.empty(0)
    unidentified = int((top < threshold).sum())
    return {"n": len(pixels), "rejected": unidentified, "unidentified": unidentified, "no_cell": 0}


def count_by_label(pictures: Sequence[Picture]) -> dict[str, int]:
    """Pictures of each label."""
    return dict(sorted(Counter(picture.label or "" for picture in pictures).items()))
