"""Confusion, recall, calibration: what evaluate, parity and benchmark report, with `intervals`. numpy only.

Labels are numbers in the order of a model's label list; `NO_CELL` stands for a picture in which no cell was found,
which counts as wrong. Shares are fractions 0..1. What is undefined is None, never NaN; scores that are NaN raise.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import NoPictures
from .intervals import Interval, accuracy_interval

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]
    Numbers = NDArray[np.integer[Any]]
    Floats = NDArray[np.floating[Any]]

NO_CELL = -1
ECE_BINS = 15  # as in Guo et al. 2017
_SMALLEST_SCORE = 1e-7  # the epsilon of Keras' cross-entropy, so that losses compare
_LARGEST_SCORE = 1.001  # a float32 softmax may pass 1 by rounding; what is above is no probability


@dataclass(frozen=True)
class ClassFigures:
    """One class against the rest, None where undefined (none called so: precision; no pictures: recall, f1).

    f1 is 2 TP / (2 TP + FP + FN). specificity is the share of the other classes' pictures not called so; a picture
    with no cell found is not called so.
    """

    n: int
    precision: float | None
    recall: float | None
    f1: float | None
    specificity: float | None


def confusion_matrix(truth: Numbers, predicted: Numbers, n_labels: int) -> NDArray[np.int64]:
    """Count pictures: int64, shape (n_labels, n_labels + 1), rows true, columns predicted, last column no cell.

    Args:
        truth: labels, shape (n,).
        predicted: labels or `NO_CELL`, shape (n,).
        n_labels: number of labels.

    Raises:
        ValueError: lengths differ or a number is not a label.
    """
    truth, predicted = _labels("truth", truth, 0, n_labels), _labels("predicted", predicted, NO_CELL, n_labels)
    if truth.shape != predicted.shape:
        message = f"confusion: expected as many predictions as labels, found {predicted.shape} and {truth.shape}"
        raise ValueError(message)
    columns = np.where(predicted == NO_CELL, n_labels, predicted)
    counts = np.bincount(truth * (n_labels + 1) + columns, minlength=n_labels * (n_labels + 1))
    return counts.reshape(n_labels, n_labels + 1).astype(np.int64)


def _labels(name: str, numbers: Numbers, lowest: int, n_labels: int) -> NDArray[np.int64]:
    values: NDArray[np.int64] = np.asarray(numbers, np.int64)
    if values.ndim != 1 or (values.size and not lowest <= values.min() <= values.max() < n_labels):
        found = f"shape {values.shape} of {np.unique(values)[:9]}"
        message = f"{name}: expected shape (n,) of {lowest}..{n_labels - 1}, found {found}"
        raise ValueError(message)
    return values


def per_class(confusion: NDArray[np.int64], labels: Sequence[str]) -> dict[str, ClassFigures]:
    """Figures of each class from a `confusion_matrix`, in the order of the labels."""
    figures = {}
    for i, label in enumerate(labels):
        hits, n, called = int(confusion[i, i]), int(confusion[i].sum()), int(confusion[:, i].sum())
        others = int(confusion.sum()) - n
        figures[label] = ClassFigures(
            n=n,
            precision=_share(hits, called),
            recall=_share(hits, n),
            f1=_share(2 * hits, n + called) if n else None,
            specificity=_share(others - (called - hits), others),
        )
    return figures


def _share(part: float, whole: float) -> float | None:
    return float(part / whole) if whole else None


def balanced_accuracy(confusion: NDArray[np.int64]) -> float | None:
    """Mean recall over the classes that have pictures; None without any."""
    n = confusion.sum(axis=1)
    recalls = np.diagonal(confusion)[n > 0] / n[n > 0]
    return float(recalls.mean()) if recalls.size else None


def _checked(truth: Numbers, probabilities: Floats) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and probabilities as int64 (n,) and float64 (n, labels); ValueError where they are not."""
    scores: NDArray[np.float64] = np.asarray(probabilities, np.float64)
    if scores.ndim != 2 or len(scores) != len(truth):
        message = f"scores: expected shape ({len(truth)}, labels), found {scores.shape}"
        raise ValueError(message)
    bad = np.flatnonzero(~np.isfinite(scores).all(axis=1))
    if bad.size:
        message = f"scores: NaN or infinite in {bad.size} of {len(scores)} pictures, first in row {bad[0]}"
        raise ValueError(message)
    if scores.size and not 0.0 <= scores.min() <= scores.max() <= _LARGEST_SCORE:
        message = f"scores: expected probabilities 0..1, found {scores.min():g}..{scores.max():g} (logits?)"
        raise ValueError(message)
    return _labels("truth", truth, 0, scores.shape[1]), scores


def log_loss(truth: Numbers, scores: Floats) -> float:
    """Mean cross-entropy in nats: -log of the true label's score, clipped to 1e-7..1-1e-7 as Keras does.

    Args:
        truth: labels, shape (n,), n > 0.
        scores: probabilities, shape (n, labels); not normalised again.

    Raises:
        ValueError: no pictures; scores NaN, infinite or no probabilities; not labels.
    """
    truth, scores = _checked(truth, scores)
    if not truth.size:
        message = "log loss: expected at least one picture, found none"
        raise ValueError(message)
    of_truth = np.clip(scores[np.arange(len(truth)), truth], _SMALLEST_SCORE, 1.0 - _SMALLEST_SCORE)
    return float(-np.log(of_truth).mean())


def softened(scores: Floats, temperature: float) -> NDArray[np.float64]:
    """Probabilities with their logits divided by a temperature: float64, the shape of `scores`, (n, labels)."""
    chances = np.asarray(scores, np.float64)
    powers = (chances / chances.max(axis=1, keepdims=True)) ** (1.0 / temperature)
    divided: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return divided


@dataclass(frozen=True)
class CalibrationBin:
    """n pictures with a top score in (low, low + 1 / bins], its mean and the share that is right (None where n = 0)."""

    low: float
    n: int
    confidence: float | None
    accuracy: float | None


@dataclass(frozen=True)
class Calibration:
    """The bars of a reliability diagram and the expected calibration error (None without pictures)."""

    bins: tuple[CalibrationBin, ...]
    ece: float | None


def calibration(truth: Numbers, scores: Floats, bins: int = ECE_BINS) -> Calibration:
    """Is a top score of 0.9 right nine times in ten? Guo et al. 2017 (ICML, arXiv:1706.04599), eq. 3, equal widths.

    Args and errors as in `log_loss`, but n may be 0.
    """
    truth, scores = _checked(truth, scores)
    top, right = scores.max(axis=1, initial=0.0), scores.argmax(axis=1) == truth
    edges = np.linspace(0.0, 1.0, bins + 1)
    where = np.digitize(top, edges[1:-1], right=True)
    n = np.bincount(where, minlength=bins).tolist()
    sums = [np.bincount(where, weights=values, minlength=bins) for values in (top, right)]
    bars = zip(edges[:-1].tolist(), n, *sums, strict=True)
    return Calibration(
        bins=tuple(CalibrationBin(low, m, _share(tops, m), _share(rights, m)) for low, m, tops, rights in bars),
        ece=_share(np.abs(sums[0] - sums[1]).sum(), len(truth)),
    )


def expected_calibration_error(truth: Numbers, scores: Floats, bins: int = ECE_BINS) -> float | None:
    """The error of `calibration` alone."""
    return calibration(truth, scores, bins).ece


@dataclass(frozen=True)
class Evaluation:
    """Everything a labelled set says about a model, None where undefined.

    Pictures without a cell are in n, wrong and not covered; loss and calibration leave them out, as they have no
    scores. Accuracy ignores rejection.

    A cell that the edge cuts so that it is not evaluated is in n and in accuracy; `coverage` is the share named of the
    other pictures, `coverage_all` of all, `cut` their number.
    """

    n: int
    loss: float | None
    accuracy: float
    interval: Interval
    balanced_accuracy: float | None
    labels: tuple[str, ...]
    per_class: dict[str, ClassFigures]
    recall_intervals: dict[str, Interval | None]
    confusion: tuple[tuple[int, ...], ...]
    calibration: Calibration
    coverage: float
    accuracy_covered: float | None
    no_cell: int
    coverage_all: float
    cut: int

    def as_json(self) -> dict[str, Any]:
        """What `bce evaluate --json` says of the figures; the caller adds the model, what was seen and unknowns."""
        recalls = self.recall_intervals.items()
        return {
            "n": self.n,
            "loss": self.loss,
            "accuracy": self.accuracy,
            "accuracy_interval": [self.interval.low, self.interval.high],
            "interval_method": self.interval.method,
            "n_groups": self.interval.n_groups,
            "balanced_accuracy": self.balanced_accuracy,
            "labels": list(self.labels),
            "per_class": {label: asdict(figures) for label, figures in self.per_class.items()},
            "recall_intervals": {label: [found.low, found.high] if found else None for label, found in recalls},
            "confusion": [list(row) for row in self.confusion],
            "ece": self.calibration.ece,
            "ece_bins": len(self.calibration.bins),
            "coverage": self.coverage,
            "accuracy_covered": self.accuracy_covered,
            "no_cell": self.no_cell,
            "coverage_all": self.coverage_all,
            "cut": self.cut,
        }


def evaluate(
    truth: Numbers,
    scores: Floats,
    labels: Sequence[str],
    *,
    no_cell: Bools | None = None,
    marked: Bools | None = None,
    cut: Bools | None = None,
    groups: Sequence[Hashable] | None = None,
    reject_threshold: float | None = None,
) -> Evaluation:
    """Work out every figure of one model on one labelled set.

    Args:
        truth: labels, shape (n,).
        scores: probabilities, shape (n, labels); the prediction is the first highest. Rows without a cell are not read.
        labels: the model's labels.
        no_cell: bool, shape (n,), True where no cell was found; None where there was one in every picture.
        marked: bool, shape (n,), True for cells that are UNIDENTIFIED whatever their score, so not covered (cut by the
            edge, touching); None where there are none.
        cut: bool, shape (n,), True for those of them that are not evaluated; None where there are none.
        groups: the photograph of each picture, or None where that is not known.
        reject_threshold: a top score below it is UNIDENTIFIED, so not covered; None covers every cell.

    Raises:
        NoPictures: n is 0.
        ValueError: scores NaN, infinite or no probabilities; not labels; lengths that do not fit.
    """
    truth, scores, n = np.asarray(truth), np.asarray(scores), len(truth)
    if not n:
        message = "evaluate: expected at least one labelled picture, found none"
        raise NoPictures(message)
    found = np.ones(n, np.bool_) if no_cell is None else ~np.asarray(no_cell, np.bool_)
    if scores.shape != (n, len(labels)) or found.shape != (n,):
        message = f"evaluate: expected {n} pictures x {len(labels)} labels, found scores {scores.shape}, {found.shape}"
        raise ValueError(message)
    cell_truth, cell_scores = _checked(truth[found], scores[found])
    predicted, top = np.full(n, NO_CELL), np.full(n, -math.inf)
    predicted[found], top[found] = cell_scores.argmax(axis=1), cell_scores.max(axis=1)
    confusion = confusion_matrix(truth, predicted, len(labels))
    correct, covered = predicted == truth, top >= (reject_threshold or 0.0)
    not_evaluated = np.zeros(n, np.bool_) if cut is None else np.asarray(cut, np.bool_)
    covered &= ~not_evaluated
    if marked is not None:
        covered &= ~np.asarray(marked, np.bool_)
    return Evaluation(
        n=n,
        loss=log_loss(cell_truth, cell_scores) if found.any() else None,
        accuracy=float(correct.mean()),
        interval=accuracy_interval(correct, groups),
        balanced_accuracy=balanced_accuracy(confusion),
        labels=tuple(labels),
        per_class=per_class(confusion, labels),
        recall_intervals={label: _recall_interval(correct, groups, truth == i) for i, label in enumerate(labels)},
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        calibration=calibration(cell_truth, cell_scores),
        coverage=_share(int(covered.sum()), int((~not_evaluated).sum())) or 0.0,
        accuracy_covered=_share(int(correct[covered].sum()), int(covered.sum())),
        no_cell=int(n - found.sum()),
        coverage_all=float(covered.mean()),
        cut=int(not_evaluated.sum()),
    )


def _recall_interval(correct: Bools, groups: Sequence[Hashable] | None, of_class: Bools) -> Interval | None:
    rows = np.flatnonzero(of_class).tolist()
    chosen = None if groups is None else [groups[i] for i in rows]
    return accuracy_interval(correct[rows], chosen) if rows else None
