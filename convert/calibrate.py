"""``bce convert``: temperature and reject threshold of a run's files, fitted on the int8 file.

The temperature is folded into the last Dense of what is converted, so that no device has to know of it; the run's Keras
model stays as it was trained. Both are fitted on the run's held-back pictures: what was trained on knows nothing of
mistakes. Those of none of the classes, where the run learnt of some, count for the threshold: to name one is a mistake.
Nothing is reported on what it was fitted on: the held-back photographs are cut in two, each half is judged by
temperature and threshold of the other, and the figures are of both halves together. What stands in the file is then
fitted on all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell_edge.dataset.asking import Answers, Questions, read_questions
from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.dataset.split import group_names, held_back
from bloodcell_edge.errors import ConversionError
from bloodcell_edge.model.calibration import (
    LEAST_COVERAGE,
    NONE,
    TARGET_RISK,
    above_zero,
    choose_threshold,
    fit_temperature,
    rejection,
)
from bloodcell_edge.model.interpreter import Interpreter, interpreter_of
from bloodcell_edge.model.spec import ModelSpec
from bloodcell_edge.progress import Reporter
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.statistics.metrics import ECE_BINS, expected_calibration_error, log_loss, softened
from bloodcell_edge.text import percent
from bloodcell_edge.training.frameworks import keras

from .targets import Target
from .tflite import to_tflite

if TYPE_CHECKING:
    from numpy.typing import NDArray


FITTED_ON = "held back; reported on each half of the photographs as fitted on the other"

FEWEST, FEWEST_PHOTOGRAPHS = 50, 10
"""Pictures, and photographs, below which neither is fitted: one mistake more or less would decide."""

_ROUNDS = 6  # of fitting: rounded to 0 and 1, the scores of a network that is too sure do not show by how much
_NEAR = 0.05  # a temperature that differs from 1 by less is none


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


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A calibrated copy of a Keras model, and the int8 file made of it on the way.

    Attributes:
        net: the Keras model with the temperature folded in.
        spec: with temperature, reject threshold, and figures["calibration"] and ["rejection"].
        int8: its flatbuffer, without metadata.
    """

    net: Any
    spec: ModelSpec
    int8: bytes


def calibration_pictures(model: Path, targets: Sequence[Target], report: Reporter) -> list[Picture]:
    """What the run that a model stands in held back, to calibrate on; none, which is told, where that cannot be done.

    Args:
        model: the .keras file.
        targets: what it is converted to; temperature and threshold are the int8 file's, the others take them over.
        report: told why not.
    """
    run = RunFolder(model.parent)
    if not run.split.is_file():
        report.say(f"not calibrated: no {run.split.name} beside the model that names pictures it was not trained on")
        return []
    if Target.INT8 not in targets:
        report.say("not calibrated: temperature and reject threshold come from the int8 file; convert --int8 with it")
        return []
    found = held_back(run.split)
    photographs = len(set(group_names(found)))
    if len(found) < FEWEST or photographs < FEWEST_PHOTOGRAPHS:
        report.say(
            f"not calibrated: expected {FEWEST} held-back pictures of {FEWEST_PHOTOGRAPHS} photographs or more, found "
            f"{len(found)} of {photographs}"
        )
        return []
    return [*found, *(held_back(run.unknown) if run.unknown.is_file() else [])]


def calibrate(
    net: Any, spec: ModelSpec, samples: NDArray[np.uint8], pictures: Sequence[Picture], report: Reporter
) -> Calibrated:
    """Fit temperature and threshold on int8 files made of a Keras model.

    Args:
        net: the Keras model, left as it is.
        spec: its spec.
        samples: the representative dataset, see `to_tflite`.
        pictures: to fit on; labelled, not from training. Those of other labels are none of the classes.
        report: told how far it is.

    Raises:
        ConversionError: no cell is found in any; see `to_tflite` and `fold_temperature`.
        NoPictures: none can be read.
    """
    questions = read_questions(pictures, [spec.shown_as])
    report.say("calibrating: converting to int8 as trained")
    int8 = to_tflite(net, target=Target.INT8, representative=samples)
    before = said = _Said.by(questions, int8, spec)
    if not said.measured.any():
        message = f"{spec.name}: expected cells to calibrate on, found none in {len(pictures)} held-back pictures"
        raise ConversionError(message)
    folded, temperature = net, 1.0
    for _ in range(_ROUNDS):
        further = said.temperature()
        if abs(math.log(further)) < _NEAR:
            break
        temperature *= further
        report.say(f"calibrating: converting to int8 at temperature {temperature:.3f}")
        folded = fold_temperature(net, temperature)
        int8 = to_tflite(folded, target=Target.INT8, representative=samples)
        said = _Said.by(questions, int8, spec)
    at_least = spec.reject_threshold or 0.0
    threshold = said.threshold(at_least)
    judged, covered = _cross_fitted(said, at_least)
    found = rejection(threshold, said.truth, covered, said.right, said.answers.groups)
    calibration = {
        "target": Target.INT8.value,
        "fitted_on": FITTED_ON,
        "temperature": temperature,
        "n": int(said.measured.sum()),
        "n_groups": found.n_groups,
        "ece_bins": ECE_BINS,
        **{f"{name}_before": value for name, value in before.quality().items()},
        **judged.quality(),
    }
    aims = {"fitted_on": FITTED_ON, "target_risk": TARGET_RISK, "least_coverage": LEAST_COVERAGE}
    errors = percent(before.quality()["ece"]), percent(judged.quality()["ece"])
    report.say(
        f"calibrated on {found.n} pictures ({FITTED_ON}): ECE {errors[0]} before, {errors[1]} now; below "
        f"{threshold:.3f} UNIDENTIFIED: coverage {percent(found.coverage)}, risk {percent(found.risk or 0)}"
    )
    changed = spec.with_(
        temperature=spec.temperature * temperature,
        reject_threshold=threshold,
        figures={**spec.figures, "calibration": calibration, "rejection": {**asdict(found), **aims}},
    )
    return Calibrated(folded, changed, int8)


@dataclass(frozen=True, eq=False)
class _Said:
    """What an int8 file says to labelled pictures, of the labels and of a background after them where there is one.

    Attributes:
        answers: with the scores of all outputs.
        labels: of the model.
        outputs: the same scores, above 0, shape (n, outputs); all alike where no cell was found.
    """

    answers: Answers
    labels: tuple[str, ...]
    outputs: NDArray[np.float64]

    @classmethod
    def by(cls, questions: Questions, flatbuffer: bytes, spec: ModelSpec) -> _Said:
        """Ask a TFLite model, as LiteRT runs it here."""
        answers = questions.ask(_AllOutputs(interpreter_of(flatbuffer), spec))
        return cls(answers, spec.labels, above_zero(np.nan_to_num(answers.scores)))

    @property
    def truth(self) -> NDArray[np.int64]:
        """Positions of the true labels, or `NONE`, shape (n,)."""
        return self.answers.truth(self.labels)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Of the labels, shape (n, labels)."""
        return self.outputs[:, : len(self.labels)]

    @property
    def named(self) -> NDArray[np.bool_]:
        """Where there is a cell that may be named, shape (n,)."""
        return self.answers.named(None)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Where the true label is on top, shape (n,)."""
        return np.asarray(self.answers.found & (self.scores.argmax(axis=1) == self.truth), np.bool_)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Cells of the classes: what temperature and calibration are of, shape (n,)."""
        return np.asarray(self.answers.found & (self.truth != NONE), np.bool_)

    def rows(self, chosen: NDArray[np.bool_]) -> _Said:
        """Some of them."""
        return _Said(self.answers.rows(chosen), self.labels, self.outputs[chosen])

    def temperature(self) -> float:
        """Fitted on them."""
        return fit_temperature(self.outputs[self.measured], self.truth[self.measured])

    def at(self, temperature: float) -> _Said:
        """What they would be with the logits divided further."""
        return replace(self, outputs=softened(self.outputs, temperature))

    def threshold(self, at_least: float) -> float:
        """Chosen on them."""
        return choose_threshold(self.scores, self.truth, named=self.named, at_least=at_least)

    def quality(self) -> dict[str, float]:
        """Log loss and expected calibration error of cells of the classes."""
        truth, scores = self.truth[self.measured], self.scores[self.measured]
        return {"loss": log_loss(truth, scores), "ece": expected_calibration_error(truth, scores) or 0.0}


@dataclass(frozen=True, eq=False)
class _AllOutputs:
    """A file that is not packed yet, answering with a background's score too."""

    interpreter: Interpreter
    spec: ModelSpec
    path: None = None

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Float32, shape (n, outputs), of uint8 RGB pictures (n, height, width, 3)."""
        return np.stack([self.interpreter.scores(picture) for picture in pixels])


def _cross_fitted(said: _Said, at_least: float) -> tuple[_Said, NDArray[np.bool_]]:
    """Answers at the temperature, and what is named at the threshold, that the other half of the photographs gives.

    A temperature fitted on top of another finds the same minimum, so that these answers owe nothing to the first.
    """
    outputs, covered = np.empty_like(said.outputs), np.zeros(len(said.truth), np.bool_)
    half = first_half(said.answers.groups)
    for own, rest in ((half, ~half), (~half, half)):
        softer = said.at(said.rows(rest).temperature())
        outputs[own] = softer.outputs[own]
        covered |= own & softer.named & (softer.scores.max(axis=1) >= softer.rows(rest).threshold(at_least))
    return replace(said, outputs=outputs), covered


def first_half(groups: Sequence[str], seed: int = 0) -> NDArray[np.bool_]:
    """Rows of half of the photographs, drawn: bool, shape (n,)."""
    names = sorted(set(groups))
    drawn = np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]
    chosen = {names[place] for place in drawn}
    return np.array([group in chosen for group in groups], np.bool_)
