"""Does the small file still say what the big one said? The gate, from image files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell_edge.dataset.asking import Answers, Predictor, ask_while_reading
from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.errors import NoPictures, SpecError
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.progress import Reporter
from bloodcell_edge.statistics.intervals import mcnemar_exact
from bloodcell_edge.statistics.metrics import softened

from .reports import CandidateParity, ParityReport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell_edge.model.spec import ModelSpec

FEWEST_TO_PROVE = 100
"""With fewer pictures an agreement of 98 % cannot be told from one of 95 %: the gate does not pass."""

FEWEST_FOR_RECALL = 50
"""A class with fewer pictures moves by over 2 points for a single one: only the agreement of all pictures gates it."""


@dataclass(frozen=True)
class GateLimits:
    """What a candidate must hold, in points and percent.

    Attributes:
        max_drop: of accuracy.
        max_recall_drop: of any class's recall.
        min_agreement: of top labels.
        allow_small: pass also with fewer than `FEWEST_TO_PROVE` pictures.
    """

    max_drop: float = 1.0
    max_recall_drop: float = 2.0
    min_agreement: float = 98.0
    allow_small: bool = False


@dataclass(frozen=True)
class Candidate:
    """A converted file, opened.

    Attributes:
        path: of the file.
        model: it.
    """

    path: Path
    model: Predictor


def compare(
    reference: Predictor,
    reference_file: Path,
    candidates: Sequence[Candidate],
    pictures: Sequence[Picture],
    *,
    limits: GateLimits,
    report: Reporter,
) -> ParityReport:
    """Ask the reference and every candidate about the same picture files.

    Each model is shown the pictures in its own view, from the files on, so that a difference in decoding or resizing
    counts too. Pictures in which no cell is found are left out, and that is said. A candidate's temperature, which is
    its own, is given to the reference's answers too, so that scores compare; it changes no top label.

    Args:
        reference: the Keras model; not one of the candidates', which are asked at the same time.
        reference_file: what to call it.
        candidates: the small files; labels must be the reference's.
        pictures: labelled, not from training.
        limits: the gate.
        report: told how far it is.

    Raises:
        NoPictures: none can be read.
        SpecError: a candidate with other labels.
    """
    labels = reference.spec.labels
    for candidate in candidates:
        if candidate.model.spec.labels != labels:
            message = f"{candidate.path}: labels {candidate.model.spec.labels}, the reference has {labels}"
            raise SpecError(message)
        report.say(f"comparing {candidate.path.name}")
    expected, *answers = _comparable([reference, *(one.model for one in candidates)], pictures, report)
    if not len(expected):
        message = f"{reference_file}: no picture of {', '.join(labels)} to compare on"
        raise NoPictures(message)
    truth = expected.truth(labels)
    judged = []
    for candidate, said in zip(candidates, answers, strict=True):
        alike = _at_temperature_of(candidate.model.spec, expected.scores, reference.spec)
        judged.append(judge(candidate, expected.pictures, truth, alike, said.scores, limits))
    groups = {picture.group for picture in expected.pictures}
    return ParityReport(
        passed=bool(judged) and all(one.passed for one in judged),
        n=len(expected),
        n_groups=None if None in groups else len(groups),
        reference_file=str(reference_file),
        reference_accuracy=100 * float(np.mean(np.argmax(expected.scores, axis=1) == truth)),
        candidates=tuple(judged),
    )


def _comparable(models: Sequence[Predictor], pictures: Sequence[Picture], report: Reporter) -> list[Answers]:
    """What each model says to the pictures in which all of them find a cell; what is left out is said."""
    locate = next((model.locator for model in models if isinstance(model, Classifier)), None)
    answers, bad = ask_while_reading(models, pictures, report, locate=locate)
    for one in bad:
        report.say(f"left out: {one.error}")
    by_all = np.logical_and.reduce([one.found for one in answers])
    if not by_all.all():
        report.say(f"left out: {int((~by_all).sum())} pictures without a cell")
    return [one.rows(by_all) for one in answers]


def _at_temperature_of(spec: ModelSpec, scores: NDArray[np.float32], own: ModelSpec) -> NDArray[np.floating[Any]]:
    """What a model of another temperature would have said; what its labels lack is the background's."""
    temperature = spec.temperature / own.temperature
    if temperature == 1.0:
        return scores
    if own.background:
        rest = np.clip(1.0 - scores.sum(axis=1, keepdims=True), 0.0, 1.0)
        scores = np.concatenate([scores, rest], axis=1)
    return softened(scores, temperature)[:, : len(own.labels)]


def judge(
    candidate: Candidate,
    pictures: Sequence[Picture],
    truth: NDArray[np.int64],
    expected: NDArray[np.floating[Any]],
    scores: NDArray[np.float32],
    limits: GateLimits,
) -> CandidateParity:
    """The figures of one candidate, and whether the gate holds.

    Args:
        candidate: names it.
        pictures: that were asked about.
        truth: position of each label, shape (n,).
        expected: the reference's probabilities at the candidate's temperature, shape (n, labels).
        scores: the candidate's, of the same shape.
        limits: the gate.
    """
    labels = candidate.model.spec.labels
    right, still_right = np.argmax(expected, 1) == truth, np.argmax(scores, 1) == truth
    same = np.argmax(expected, 1) == np.argmax(scores, 1)
    drops = {label: _points(right, still_right, truth == i) for i, label in enumerate(labels) if np.any(truth == i)}
    large = {label for i, label in enumerate(labels) if np.sum(truth == i) >= FEWEST_FOR_RECALL}
    finite = bool(np.isfinite(scores).all() and np.isfinite(expected).all())
    # scores that are not numbers are as far off as scores can be
    difference = np.abs(np.asarray(expected, np.float64) - scores) if finite else np.ones(1)
    worst = max((drops[label] for label in large), default=0.0)
    drop, agreement = _points(right, still_right, np.ones(len(truth), bool)), 100 * float(np.mean(same))
    failures = [] if finite else ["scores that are not numbers (NaN or infinite)"]
    failures += _too_few(limits, len(truth)) + _losses(limits, drop, worst, agreement)
    small = ", ".join(label for label in drops if label not in large)
    absent = ", ".join(label for label in labels if label not in drops)
    notes = [f"{small}: fewer than {FEWEST_FOR_RECALL} pictures, gated on agreement, not on recall"] if small else []
    notes += [f"{absent}: no picture, nothing is proven"] if absent else []
    return CandidateParity(
        file=str(candidate.path),
        target=candidate.model.spec.target,
        bytes=candidate.path.stat().st_size,
        accuracy=100 * float(np.mean(still_right)),
        accuracy_drop=drop,
        worst_recall_drop=worst,
        recall_drops=drops,
        agreement=agreement,
        max_abs_diff=float(np.max(difference)),
        mean_abs_diff=float(np.mean(difference)),
        mcnemar_p=mcnemar_exact(right, still_right),
        flipped=tuple(picture.file for picture, equal in zip(pictures, same, strict=True) if not equal),
        passed=not failures,
        why=(*failures, *notes),
    )


def _points(before: NDArray[np.bool_], after: NDArray[np.bool_], rows: NDArray[np.bool_]) -> float:
    """How many points of a share of right answers are lost."""
    return 100 * (float(np.mean(before[rows])) - float(np.mean(after[rows])))


def answers_differ(one: CandidateParity, limits: GateLimits) -> bool:
    """True where the answers are beyond the limits; False where only the pictures are too few."""
    return bool(_losses(limits, one.accuracy_drop, one.worst_recall_drop, one.agreement))


def _too_few(limits: GateLimits, n: int) -> list[str]:
    if n >= FEWEST_TO_PROVE or limits.allow_small:
        return []
    return [f"{n} pictures cannot prove anything, expected at least {FEWEST_TO_PROVE} (--allow-small)"]


def _losses(limits: GateLimits, drop: float, worst: float, agreement: float) -> list[str]:
    rounding = 1e-9  # 1.0 point of 200 pictures is not exactly 1.0
    failures = []
    if drop > limits.max_drop + rounding:
        failures.append(f"accuracy drops by {drop:.2f} points, limit {limits.max_drop:g}")
    if worst > limits.max_recall_drop + rounding:
        failures.append(f"a class's recall drops by {worst:.2f} points, limit {limits.max_recall_drop:g}")
    if agreement < limits.min_agreement - rounding:
        failures.append(f"agreement {agreement:.2f} %, limit {limits.min_agreement:g} %")
    return failures
