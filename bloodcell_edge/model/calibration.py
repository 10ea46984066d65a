"""Scores that mean what they say, and a threshold below which no label is given: how both are chosen; numpy only.

Temperature: one number divides the logits (Guo et al. 2017, On Calibration of Modern Neural Networks, ICML). Threshold:
the lowest top score that keeps mistakes among named cells rare (a selective classifier, Geifman and El-Yaniv 2017,
NeurIPS). Error of calibration: Guo's equation 3 with 15 bins, see `metrics.calibration`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..statistics.intervals import accuracy_interval

if TYPE_CHECKING:
    from numpy.typing import NDArray


NONE = -1
"""Truth of a picture of none of the classes."""
TARGET_RISK = 0.01
"""Share of mistakes among named cells that the threshold aims at."""
LEAST_COVERAGE = 0.975
"""Share of the cells that may be named which must still be, whatever the risk. Pictures without a cell, and cells cut
by the edge or touching, are not the threshold's doing: they count in the coverage that is reported, not in this."""
_HALF_STEP = 1 / 512  # half of the 1/256 by which an int8 file's probabilities are rounded; its 0 is not impossible
_MOST = 10.0  # the temperature lies between this and its inverse
_HALVINGS = 60


@dataclass(frozen=True)
class Rejection:
    """What a threshold does to labelled pictures.

    Attributes:
        threshold: top score below which a cell is UNIDENTIFIED.
        coverage: share of the n pictures that are named; one without a cell, or of a marked one, is not.
        coverage_interval: 95 %, by photograph.
        risk: share of mistakes among those; None where none is named.
        risk_interval: likewise.
        n: pictures of the classes.
        n_groups: photographs of these.
        unknown: pictures of none of the classes.
        unknown_rejected: share of these that are not named; None without any.
    """

    threshold: float
    coverage: float
    coverage_interval: tuple[float, float]
    risk: float | None
    risk_interval: tuple[float, float] | None
    n: int
    n_groups: int | None
    unknown: int
    unknown_rejected: float | None


def above_zero(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """An int8 file's scores, with half of a step where they are rounded to 0: float64, same shape."""
    return np.maximum(np.asarray(scores, np.float64), _HALF_STEP)


def fit_temperature(scores: NDArray[np.floating[Any]], truth: NDArray[np.integer[Any]]) -> float:
    """The temperature with the least log loss (Guo et al. 2017, section 4.2).

    The loss is convex in 1 / temperature, so halving an interval finds its minimum. One imaginary mistake is spread
    over the pictures, as in Platt 1999 (Probabilistic Outputs for Support Vector Machines, section 2.2): without it a
    model that makes none would be given the certainty of never making one.

    Args:
        scores: probabilities, above 0, shape (n, labels).
        truth: positions of the true labels, shape (n,).

    Returns:
        Above 1 where the model is too sure of itself; between 0.1 and 10.
    """
    n, labels = scores.shape
    if not n or labels < 2:
        return 1.0
    logits = np.log(np.asarray(scores, np.float64) / np.max(scores, axis=1, keepdims=True))
    wrong = 1.0 / (n + 2)
    targets = np.full((n, labels), wrong / (labels - 1))
    targets[np.arange(n), truth] = 1.0 - wrong
    aimed = float((targets * logits).sum())

    def slope(power: float) -> float:
        weights = np.exp(logits * power)
        return float((weights / weights.sum(axis=1, keepdims=True) * logits).sum()) - aimed

    low, high = -math.log(_MOST), math.log(_MOST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(middle)) > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def choose_threshold(
    scores: NDArray[np.floating[Any]],
    truth: NDArray[np.integer[Any]],
    *,
    named: NDArray[np.bool_] | None = None,
    at_least: float = 0.0,
    target_risk: float = TARGET_RISK,
    least_coverage: float = LEAST_COVERAGE,
) -> float:
    """The lowest threshold whose risk is at most `target_risk`, but none that leaves less than `least_coverage`.

    Args:
        scores: probabilities of the labels, shape (n, labels).
        truth: positions of the true labels, shape (n,); `NONE` for pictures of none, which to name is a mistake.
        named: bool, shape (n,): False for what is not named whatever the scores, such as a picture without a cell.
        at_least: whatever the coverage: what the model rejects as trained.
        target_risk: mistakes among what is named, 0..1.
        least_coverage: named among those of the classes that may be, 0..1.
    """
    may_be = np.ones(len(truth), np.bool_) if named is None else np.asarray(named, np.bool_)
    tops, right = scores[may_be].max(axis=1), scores[may_be].argmax(axis=1) == truth[may_be]
    known = truth[may_be] != NONE
    steps = np.unique(tops)
    threshold = 0.0
    for place, step in enumerate(steps):
        kept = tops >= step
        if kept[known].sum() < least_coverage * known.sum():
            break
        # half-way to the next lower score, so that no rounding of another interpreter moves a cell over it
        threshold = 0.0 if place == 0 else float(step + steps[place - 1]) / 2
        if (kept & ~right).sum() <= target_risk * kept.sum():
            break
    return max(threshold, at_least)


def rejection(
    threshold: float,
    truth: NDArray[np.integer[Any]],
    covered: NDArray[np.bool_],
    right: NDArray[np.bool_],
    groups: Sequence[str],
) -> Rejection:
    """Coverage and risk, with 95 % intervals.

    Args:
        threshold: what to call it.
        truth: positions of the true labels, shape (n,); `NONE` for pictures of none.
        covered: which pictures are named, bool, shape (n,).
        right: which have the true label on top, bool, shape (n,).
        groups: the photograph of each picture.
    """
    known, others = np.flatnonzero(truth != NONE).tolist(), truth == NONE
    whole = accuracy_interval(covered[known], [groups[row] for row in known])
    rows = [row for row in known if covered[row]]
    part = accuracy_interval(~right[rows], [groups[row] for row in rows]) if rows else None
    return Rejection(
        threshold=threshold,
        coverage=float(covered[known].mean()),
        coverage_interval=(whole.low, whole.high),
        risk=float((~right[rows]).mean()) if rows else None,
        risk_interval=(part.low, part.high) if part else None,
        n=len(known),
        n_groups=whole.n_groups,
        unknown=int(others.sum()),
        unknown_rejected=float((~covered[others]).mean()) if others.any() else None,
    )
