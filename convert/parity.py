"""Does the small file still say what the big one said? The gate, from image files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bloodcell_edge.dataset.evaluation import Predictor
from bloodcell_edge.dataset.pictures import Picture, Unreadable
from bloodcell_edge.dataset.reading import read_one_by_one
from bloodcell_edge.dataset.shown import shown_in_each
from bloodcell_edge.errors import NoPictures, SpecError
from bloodcell_edge.progress import Reporter
from bloodcell_edge.statistics.intervals import mcnemar_exact
from bloodcell_edge.statistics.metrics import softened

from .reports import CandidateParity, ParityReport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from bloodcell_edge.imaging.image import Image
    from bloodcell_edge.imaging.views import View
    from bloodcell_edge.model.spec import ModelSpec

T = TypeVar("T")

FEWEST_TO_PROVE = 100
"""With fewer pictures an agreement of 98 % cannot be told from one of 95 %: the gate does not pass."""

FEWEST_FOR_RECALL = 50
"""A class with fewer pictures moves by over 2 points for a single one: only the agreement of all pictures gates it."""

_TOGETHER = 64  # pictures that are asked about at once, as many as a Keras model takes in one batch


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
    read, scores_of_all = _asked([reference, *(one.model for one in candidates)], pictures, report)
    if not read:
        message = f"{reference_file}: no picture of {', '.join(labels)} to compare on"
        raise NoPictures(message)
    expected, *answers = scores_of_all
    truth = np.array([labels.index(picture.label or "") for picture in read])
    judged = []
    for candidate, scores in zip(candidates, answers, strict=True):
        alike = _at_temperature_of(candidate.model.spec, expected, reference.spec)
        judged.append(judge(candidate, read, truth, alike, scores, limits))
    groups = {picture.group for picture in read}
    return ParityReport(
        passed=bool(judged) and all(one.passed for one in judged),
        n=len(read),
        n_groups=None if None in groups else len(groups),
        reference_file=str(reference_file),
        reference_accuracy=100 * float(np.mean(np.argmax(expected, axis=1) == truth)),
        candidates=tuple(judged),
    )


def _asked(
    models: Sequence[Predictor], pictures: Sequence[Picture], report: Reporter
) -> tuple[list[Picture], list[NDArray[np.float32]]]:
    """The pictures that every model's view shows, and each model's scores of them, shape (n, labels).

    The first pictures are asked about while others are read. The first model, TensorFlow's, leaves some of its cores
    idle, and the others run on one: together they take less than in turns.
    """
    views = {model.spec.shown_as for model in models}
    bad: list[Unreadable] = []
    read: list[Picture] = []
    answers: list[list[Future[NDArray[np.float32]]]] = [[] for _ in models]
    count = 0
    with _threads("asks the reference", "asks candidates") as (first, rest):
        with report.bar("read") as progress:
            rows = read_one_by_one(pictures, lambda one, image: _shown(one, image, views), bad, progress=progress)
            for batch in _batches(rows):
                count += len(batch)
                complete = [(picture, shown) for picture, shown in batch if len(shown) == len(views)]
                read += [picture for picture, _ in complete]
                for place, model in enumerate(models if complete else ()):
                    pixels = np.stack([shown[model.spec.shown_as] for _, shown in complete])
                    answers[place].append((rest if place else first).submit(model.scores, pixels))
        scores = [np.concatenate([one.result() for one in parts]) for parts in answers if parts]
    for one in bad:
        report.say(f"left out: {one.error}")
    if len(read) < count:
        report.say(f"left out: {count - len(read)} pictures without a cell")
    return read, scores


@contextmanager
def _threads(*names: str) -> Iterator[list[ThreadPoolExecutor]]:
    """Pools of a thread each; an error or an interrupt waits for what they are at, not for all they were given."""
    pools = [ThreadPoolExecutor(1, thread_name_prefix=name) for name in names]
    try:
        yield pools
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown()


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    left = iter(rows)
    while batch := list(islice(left, _TOGETHER)):
        yield batch


def _shown(picture: Picture, image: Image, views: Iterable[View]) -> dict[View, Image]:
    """A labelled picture as each view shows it; the views in which a cell is found."""
    shown = shown_in_each(picture, image, views)
    return {view: one.pixels for view, one in shown.items() if one is not None}


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
