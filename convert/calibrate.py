"""Scores that mean what they say, and a threshold below which no answer is given: both fitted on the int8 file.

Temperature: one number divides the logits (Guo et al. 2017, On Calibration of Modern Neural Networks, ICML). It is
folded into the last Dense of the Keras model and everything is converted again, so that all files agree and no device
has to know of it. Threshold: the lowest top score that keeps mistakes among named cells rare (a selective classifier,
Geifman and El-Yaniv 2017, NeurIPS).

Nothing is reported on the pictures that it was fitted on. A run with validation pictures is fitted on those and
reported on the held-back ones. Any other is fitted on the held-back ones and reported by cross-fitting: the photographs
are cut into folds, and each fold is judged by temperature and threshold of the others.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell_edge.data import Picture, read_with
from bloodcell_edge.errors import ConversionError
from bloodcell_edge.interpreter import load_interpreter
from bloodcell_edge.intervals import accuracy_interval
from bloodcell_edge.metrics import expected_calibration_error, log_loss
from bloodcell_edge.reporting import Reporter
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.spec import ModelSpec
from bloodcell_edge.training.dataset import HELD_BACK, VALIDATION, group_names, load_split
from bloodcell_edge.training.frameworks import keras

from .targets import Target
from .tflite import to_tflite

if TYPE_CHECKING:
    from numpy.typing import NDArray

TARGET_RISK = 0.01
"""Share of mistakes among named cells that the threshold aims at."""

LEAST_COVERAGE = 0.95
"""Share of the cells that may be named which must still be, whatever the risk. Pictures without a cell, and cells cut
by the edge or touching, are not the threshold's doing: they count in the coverage that is reported, not in this."""

FOLDS = 5
FEWEST = 50
"""Below so many pictures neither is fitted: one mistake more or less would decide."""

_HALF_STEP = 1 / 512  # half of the 1/256 by which an int8 file's probabilities are rounded; its 0 is not impossible
_MOST = 10.0  # the temperature lies between this and its inverse
_HALVINGS = 60


@dataclass(frozen=True)
class Rejection:
    """What a threshold does to labelled pictures.

    Attributes:
        threshold: top score below which a cell is UNIDENTIFIED.
        coverage: share of the n pictures that are named; one without a cell, or of a marked one, is not.
        coverage_interval: 95 %, by photograph where known.
        risk: share of mistakes among those; None where none is named.
        risk_interval: likewise.
        n: pictures.
        n_groups: photographs, None where not known.
        unknown: pictures of none of the classes.
        unknown_rejected: share of these below the threshold; None without any.
    """

    threshold: float
    coverage: float
    coverage_interval: tuple[float, float]
    risk: float | None
    risk_interval: tuple[float, float] | None
    n: int
    n_groups: int | None
    unknown: int = 0
    unknown_rejected: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def logits_of(scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Logits, up to a constant for each row, of probabilities as an int8 file gives them, float64 (n, labels)."""
    logits: NDArray[np.float64] = np.log(np.maximum(scores, _HALF_STEP), dtype=np.float64)
    return logits


def softened(scores: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """Probabilities at another temperature, float64, shape (n, labels)."""
    powers = np.exp(logits_of(scores) / temperature)
    divided: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return divided


def fit_temperature(logits: NDArray[np.floating[Any]], truth: NDArray[np.integer[Any]]) -> float:
    """The temperature with the least log loss (Guo et al. 2017, section 4.2).

    The loss is convex in 1 / temperature, so halving an interval finds its minimum. One imaginary mistake is spread
    over the pictures, as in Platt 1999 (Probabilistic Outputs for Support Vector Machines, section 2.2): without it a
    model that makes none would be given the certainty of never making one.

    Args:
        logits: shape (n, labels); of probabilities: `logits_of`.
        truth: positions of the true labels, shape (n,).

    Returns:
        Above 1 where the model is too sure of itself; between 0.1 and 10.
    """
    n, labels = logits.shape
    if not n or labels < 2:
        return 1.0
    centred = np.asarray(logits, np.float64) - np.max(logits, axis=1, keepdims=True)
    wrong = 1.0 / (n + 2)
    targets = np.full((n, labels), wrong / (labels - 1))
    targets[np.arange(n), truth] = 1.0 - wrong
    aimed = float((targets * centred).sum())

    def slope(power: float) -> float:
        weights = np.exp(centred * power)
        return float((weights / weights.sum(axis=1, keepdims=True) * centred).sum()) - aimed

    low, high = -math.log(_MOST), math.log(_MOST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(math.exp(middle)) > 0 else (middle, high)
    return math.exp(-(low + high) / 2)


def fold_temperature(net: Any, temperature: float) -> Any:
    """A copy of a Keras model whose logits are divided by a temperature, in the weights of its last layer.

    Args:
        net: gives probabilities by a softmax over a Dense, or in it.
        temperature: above 0.

    Raises:
        ConversionError: the last layer with weights is no Dense.
    """
    copy = keras.models.clone_model(net)
    copy.set_weights(net.get_weights())
    last = next((layer for layer in reversed(copy.layers) if layer.weights), None)
    if not isinstance(last, keras.layers.Dense):
        found = "none at all" if last is None else type(last).__name__
        message = f"{net.name}: the temperature goes into the last layer with weights; expected a Dense, found {found}"
        raise ConversionError(message)
    last.set_weights([weight / temperature for weight in last.get_weights()])
    return copy


def choose_threshold(
    scores: NDArray[np.floating[Any]],
    truth: NDArray[np.integer[Any]],
    *,
    named: NDArray[np.bool_] | None = None,
    groups: Sequence[str] | None = None,
    unknown_scores: NDArray[np.floating[Any]] | None = None,
    target_risk: float = TARGET_RISK,
    least_coverage: float = LEAST_COVERAGE,
) -> Rejection:
    """The lowest threshold whose risk is at most `target_risk`, but none that leaves less than `least_coverage`.

    Args:
        scores: probabilities, shape (n, labels).
        truth: positions of the true labels, shape (n,).
        named: bool, shape (n,): False for pictures without a cell, or of a marked one, whatever the scores.
        groups: the photograph of each picture, None where not known.
        unknown_scores: of pictures of none of the classes, shape (m, labels); to name one is a mistake like any other.
        target_risk: mistakes among what is named, 0..1.
        least_coverage: named among those that may be, 0..1.

    Returns:
        What the threshold does to these very pictures: too good by a little, see the module.
    """
    there = np.ones(len(truth), np.bool_) if named is None else np.asarray(named, np.bool_)
    tops, right = scores[there].max(axis=1), scores[there].argmax(axis=1) == truth[there]
    others = np.zeros(0) if unknown_scores is None else unknown_scores.max(axis=1)
    steps = np.unique(np.concatenate([tops, others]))
    threshold = 0.0
    for place, step in enumerate(steps):
        kept = tops >= step
        if kept.sum() < least_coverage * len(tops):
            break
        # half-way to the next lower score, so that no rounding of another interpreter moves a cell over it
        threshold = 0.0 if place == 0 else float(step + steps[place - 1]) / 2
        strangers = int((others >= step).sum())
        if int((kept & ~right).sum()) + strangers <= target_risk * (int(kept.sum()) + strangers):
            break
    return judge_threshold(scores, truth, threshold, named=named, groups=groups, unknown_scores=unknown_scores)


def judge_threshold(
    scores: NDArray[np.floating[Any]],
    truth: NDArray[np.integer[Any]],
    threshold: float,
    *,
    named: NDArray[np.bool_] | None = None,
    groups: Sequence[str] | None = None,
    unknown_scores: NDArray[np.floating[Any]] | None = None,
) -> Rejection:
    """What a threshold does to labelled pictures; arguments as of `choose_threshold`."""
    there = np.ones(len(truth), np.bool_) if named is None else np.asarray(named, np.bool_)
    covered, right = np.zeros(len(truth), np.bool_), np.zeros(len(truth), np.bool_)
    covered[there] = scores[there].max(axis=1) >= threshold
    right[there] = scores[there].argmax(axis=1) == truth[there]
    away = None if unknown_scores is None or not len(unknown_scores) else unknown_scores.max(axis=1) < threshold
    return _rejection(threshold, covered, right, groups, away)


def _rejection(
    threshold: float,
    covered: NDArray[np.bool_],
    right: NDArray[np.bool_],
    groups: Sequence[str] | None,
    away: NDArray[np.bool_] | None = None,
) -> Rejection:
    whole = accuracy_interval(covered, groups)
    rows = np.flatnonzero(covered).tolist()
    part = accuracy_interval(~right[rows], None if groups is None else [groups[row] for row in rows]) if rows else None
    return Rejection(
        threshold=threshold,
        coverage=float(covered.mean()),
        coverage_interval=(whole.low, whole.high),
        risk=float((~right[rows]).mean()) if rows else None,
        risk_interval=(part.low, part.high) if part else None,
        n=len(covered),
        n_groups=whole.n_groups,
        unknown=0 if away is None else len(away),
        unknown_rejected=None if away is None else float(away.mean()),
    )


@dataclass(frozen=True)
class CalibrationPictures:
    """The pictures of a run that its int8 file is calibrated with.

    Attributes:
        run: the run; its model.keras and spec.json are what the temperature goes into.
        fitted: what temperature and threshold are fitted on.
        reported: what they are judged on; the same pictures where they must be cross-fitted.
    """

    run: RunFolder
    fitted: tuple[Picture, ...]
    reported: tuple[Picture, ...]


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A calibrated Keras model, and the int8 file made of it on the way.

    Attributes:
        net: the Keras model with the temperature folded in.
        spec: with temperature, reject threshold, and figures["calibration"] and ["rejection"].
        int8: its flatbuffer, without metadata.
    """

    net: Any
    spec: ModelSpec
    int8: bytes


def calibration_pictures(
    model: Path, spec: ModelSpec, targets: Sequence[Target], report: Reporter
) -> CalibrationPictures | None:
    """The pictures to calibrate a run with, None where it is not to be calibrated now.

    That is a run that was calibrated before, a conversion without int8, and, which is told, too few pictures or other
    files beside the model that would no longer agree with it.
    """
    run = RunFolder(model.parent)
    if Target.INT8 not in targets or "calibration" in spec.figures or run.model != model or not run.split.is_file():
        return None
    made = {target.file_name for target in targets}
    others = [file.name for file in run.tflite_files() if file.name not in made]
    if others:
        report.say(f"not calibrated: {', '.join(others)} would no longer agree; convert that too, with --force")
        return None
    rows = load_split(run.split)
    sides = {side: tuple(row.picture for row in rows if row.split == side) for side in (VALIDATION, HELD_BACK)}
    fitted = sides[VALIDATION] or sides[HELD_BACK]
    if len(fitted) < FEWEST or len(set(group_names(fitted))) < FOLDS:
        report.say(
            f"not calibrated: needs {FEWEST} pictures, of {FOLDS} photographs, not trained on; has {len(fitted)}"
        )
        return None
    return CalibrationPictures(run, fitted, sides[HELD_BACK])


def calibrate(
    net: Any, spec: ModelSpec, samples: NDArray[np.uint8], pictures: CalibrationPictures, report: Reporter
) -> Calibrated:
    """Fit temperature and threshold on int8 files made of a Keras model.

    Args:
        net: the Keras model.
        spec: its spec.
        samples: the representative dataset, see `to_tflite`.
        pictures: to fit and to report on.
        report: told how far it is.
    """
    crossed = pictures.fitted == pictures.reported
    fitted = _shown(pictures.fitted, spec)
    reported = fitted if crossed else _shown(pictures.reported, spec)
    report.say("calibrating: converting to int8 as trained")
    plain = to_tflite(net, target=Target.INT8, representative=samples)
    before = fitted.asked(plain)
    temperature = fit_temperature(logits_of(before.scores[before.found]), before.truth[before.found])
    net = fold_temperature(net, temperature)
    report.say(f"calibrating: converting to int8 at temperature {temperature:.3f}")
    int8 = to_tflite(net, target=Target.INT8, representative=samples)
    after = fitted.asked(int8)
    chosen = choose_threshold(after.scores, after.truth, named=after.named, groups=after.groups)
    if crossed:
        judged, rejection = _cross_fitted(after, chosen.threshold)
        how = f"held back; reported by {FOLDS}-fold cross-fitting by photograph"
    else:
        before, judged = reported.asked(plain), reported.asked(int8)
        rejection = judge_threshold(
            judged.scores, judged.truth, chosen.threshold, named=judged.named, groups=judged.groups
        )
        how = "validation; reported on the held-back pictures"
    calibration = {
        "target": Target.INT8.value,
        "fitted_on": how,
        "temperature": temperature,
        "n": int(judged.found.sum()),
        "n_groups": rejection.n_groups,
        **{f"{name}_before": value for name, value in before.quality().items()},
        **judged.quality(),
    }
    aims = {"fitted_on": how, "target_risk": TARGET_RISK, "least_coverage": LEAST_COVERAGE}
    figures = {**spec.figures, "calibration": calibration, "rejection": {**rejection.as_json(), **aims}}
    report.say(
        f"calibrated on {before.truth.size} pictures ({how}): ECE {before.quality()['ece']:.3f} to "
        f"{judged.quality()['ece']:.3f}; below {rejection.threshold:.3f} UNIDENTIFIED: "
        f"coverage {100 * rejection.coverage:.1f} %, risk {100 * (rejection.risk or 0):.1f} %"
    )
    changed = spec.with_(temperature=spec.temperature * temperature, reject_threshold=chosen.threshold, figures=figures)
    return Calibrated(net, changed, int8)


@dataclass(frozen=True, eq=False)
class _Answers:
    """What a file says to labelled pictures: scores (n, labels), zero where no cell was found; the rest shape (n,)."""

    truth: NDArray[np.int64]
    scores: NDArray[np.floating[Any]]
    found: NDArray[np.bool_]
    named: NDArray[np.bool_]
    groups: tuple[str, ...]

    def rows(self, chosen: NDArray[np.bool_]) -> _Answers:
        """Some of them."""
        groups = tuple(group for group, keep in zip(self.groups, chosen, strict=True) if keep)
        return _Answers(self.truth[chosen], self.scores[chosen], self.found[chosen], self.named[chosen], groups)

    def quality(self) -> dict[str, float]:
        """Log loss and expected calibration error where a cell was found."""
        truth, scores = self.truth[self.found], self.scores[self.found]
        return {"loss": log_loss(truth, scores), "ece": expected_calibration_error(truth, scores) or 0.0}


@dataclass(frozen=True, eq=False)
class _ShownPictures:
    """Labelled pictures, ready to ask about: pixels is None where no cell was found."""

    truth: NDArray[np.int64]
    pixels: tuple[NDArray[np.uint8] | None, ...]
    marked: NDArray[np.bool_]
    groups: tuple[str, ...]
    labels: int

    def asked(self, flatbuffer: bytes) -> _Answers:
        """What a TFLite model says to them."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "asked.tflite"
            path.write_bytes(flatbuffer)
            interpreter = load_interpreter(path)
            scores = np.zeros((len(self.pixels), self.labels), np.float32)
            for row, picture in enumerate(self.pixels):
                if picture is not None:
                    scores[row] = interpreter.scores(picture)
        found = np.array([picture is not None for picture in self.pixels], np.bool_)
        return _Answers(self.truth, scores, found, found & ~self.marked, self.groups)


def _shown(pictures: Sequence[Picture], spec: ModelSpec) -> _ShownPictures:
    done, _ = read_with(pictures, lambda one, image: spec.shown_as.show_labelled(image, one.um_per_px))
    read = [picture for picture, _ in done]
    return _ShownPictures(
        truth=np.array([spec.labels.index(picture.label or "") for picture in read], np.int64),
        pixels=tuple(None if shown is None else shown.pixels for _, shown in done),
        marked=np.array([shown is not None and bool(shown.mark) for _, shown in done], np.bool_),
        groups=tuple(group_names(read)),
        labels=len(spec.labels),
    )


def _cross_fitted(answers: _Answers, threshold: float) -> tuple[_Answers, Rejection]:
    """Answers at the temperature, and the coverage at the threshold, that the other folds give each fold.

    A temperature fitted on top of another finds the same minimum, so that these answers owe nothing to the first.
    """
    scores, covered = np.array(answers.scores, np.float64), np.zeros(len(answers.truth), np.bool_)
    for fold in _folds(answers.groups):
        rest, own = answers.rows(~fold), answers.rows(fold)
        temperature = fit_temperature(logits_of(rest.scores[rest.found]), rest.truth[rest.found])
        scores[fold] = softened(own.scores, temperature)
        chosen = choose_threshold(softened(rest.scores, temperature), rest.truth, named=rest.named)
        covered[fold] = (scores[fold].max(axis=1) >= chosen.threshold) & own.named
    right = (answers.scores.argmax(axis=1) == answers.truth) & answers.found
    judged = _Answers(answers.truth, scores, answers.found, answers.named, answers.groups)
    return judged, _rejection(threshold, covered, right, answers.groups)


def _folds(groups: Sequence[str], seed: int = 0) -> Iterator[NDArray[np.bool_]]:
    """Rows of each fold, bool, shape (n,); a photograph is in one of them alone."""
    names = sorted(set(groups))
    places = np.random.default_rng(seed).permutation(len(names)) % FOLDS
    fold_of = dict(zip(names, places.tolist(), strict=True))
    numbers = np.array([fold_of[group] for group in groups])
    for fold in range(FOLDS):
        yield numbers == fold
