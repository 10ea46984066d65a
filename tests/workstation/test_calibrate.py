from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.classifier import Classifier
from bloodcell_edge.data import read_each
from bloodcell_edge.errors import ConversionError
from bloodcell_edge.image import prepare
from bloodcell_edge.intervals import accuracy_interval
from bloodcell_edge.metrics import log_loss
from bloodcell_edge.reporting import SILENT, Silent
from bloodcell_edge.spec import load_spec
from bloodcell_edge.training.dataset import HELD_BACK, TRAIN, VALIDATION, load_split, save_split
from bloodcell_edge.training.kerasmodel import open_keras
from convert.calibrate import (
    FOLDS,
    LEAST_COVERAGE,
    TARGET_RISK,
    CalibrationPictures,
    _folds,
    calibration_pictures,
    choose_threshold,
    fit_temperature,
    fold_temperature,
    judge_threshold,
    logits_of,
    softened,
)
from convert.export import convert_files
from convert.targets import Target

LABELS = 4
INT8_AND_16 = [Target.INT8, Target.FLOAT16]


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def drawn_answers(n, *, temperature, seed=0):
    """Logits whose softmax at `temperature` is the true chance of each label, and labels drawn by that chance."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, LABELS))
    chances = np.exp(logits / temperature)
    chances /= chances.sum(axis=1, keepdims=True)
    truth = (rng.random(n)[:, None] > chances.cumsum(axis=1)).sum(axis=1)
    return logits, truth


def sure(tops, right):
    """Probabilities with these top scores; the truth is label 0, the top is label 0 where right, else 1."""
    scores = np.repeat(((1 - np.array(tops)) / (LABELS - 1))[:, None], LABELS, axis=1)
    scores[np.arange(len(tops)), np.where(right, 0, 1)] = tops
    return scores, np.zeros(len(tops), np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    """20,000 labels drawn at a temperature: the fit finds it within 3 %."""
    logits, truth = drawn_answers(20_000, temperature=temperature)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_has_less_loss():
    """The log loss at the fitted temperature is the least of 200 tried, but for what one imaginary mistake moves."""
    logits, truth = drawn_answers(2_000, temperature=1.7)

    def loss(temperature):
        powers = np.exp(logits / temperature)
        return log_loss(truth, powers / powers.sum(axis=1, keepdims=True))

    assert loss(fit_temperature(logits, truth)) <= min(map(loss, np.geomspace(0.2, 5, 200))) + 1e-4


def test_a_model_without_a_mistake_gets_no_certainty():
    """All right: the temperature falls, the fewer pictures the less, and stays so that a mistake is still expected."""
    found = []
    for n in (20, 2_000):
        scores, truth = sure(np.full(n, 0.9), np.ones(n, bool))
        found.append(fit_temperature(logits_of(scores), truth))
        expected_mistakes = n * (1 - softened(scores, found[-1])[0].max())
        assert expected_mistakes == pytest.approx(1, abs=0.2)
    assert 1 / 10 < found[1] < found[0] < 1


@pytest.mark.parametrize(("right", "limit"), [(True, 0.1), (False, 10.0)])
def test_the_temperature_has_limits(right, limit):
    """Answers that differ by next to nothing and are all right, or sure and all wrong, give a limit, no infinity."""
    scores, truth = sure(np.full(50, 0.2501 if right else 0.999), np.full(50, right))
    assert fit_temperature(logits_of(scores), truth) == pytest.approx(limit)


def test_nothing_to_fit_on_changes_nothing():
    """Without pictures, or with one label, the temperature is 1."""
    assert fit_temperature(np.zeros((0, 4)), np.zeros(0, int)) == 1.0
    assert fit_temperature(np.zeros((3, 1)), np.zeros(3, int)) == 1.0


@given(st.lists(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), min_size=1, max_size=9), st.floats(0.2, 5))
def test_softened_scores_are_probabilities_in_the_same_order(rows, temperature):
    """At any temperature rows sum to 1 and the top label stays; at 1 they are what they were."""
    scores = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    changed = softened(scores, temperature)
    assert changed.sum(axis=1) == pytest.approx(1)
    assert np.take_along_axis(changed, scores.argmax(axis=1)[:, None], 1)[:, 0] == pytest.approx(changed.max(axis=1))
    assert softened(scores, 1.0) == pytest.approx(scores)


def test_a_folded_temperature_divides_the_logits(tiny_run):
    """The folded network says what the softened scores of the other are; the given one is as it was."""
    net = open_keras(tiny_run.model).net
    pixels = np.random.default_rng(1).uniform(0, 255, (4, *net.input_shape[1:])).astype(np.float32)
    before = net.predict_on_batch(pixels)

    folded = fold_temperature(net, 1.6)

    powers = before.astype(np.float64) ** (1 / 1.6)
    assert folded.predict_on_batch(pixels) == pytest.approx(powers / powers.sum(axis=1, keepdims=True), abs=1e-5)
    assert np.array_equal(net.predict_on_batch(pixels), before)


def test_a_network_that_ends_otherwise_is_refused():
    """A temperature cannot go into a network whose last layer with weights is no Dense."""
    net = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1), keras.layers.GlobalAveragePooling2D()])
    with pytest.raises(ConversionError, match="expected a Dense, found Conv2D"):
        fold_temperature(net, 2.0)


def test_the_threshold_is_the_lowest_that_keeps_mistakes_rare():
    """100 pictures, the 4 least sure of them wrong: 4 are turned away, no more, and the risk is nothing."""
    tops = np.linspace(0.5, 0.99, 100)
    scores, truth = sure(tops, np.arange(100) >= 4)

    found = choose_threshold(scores, truth)

    assert tops[3] < found.threshold < tops[4]
    assert (found.coverage, found.risk, found.n) == (0.96, 0.0, 100)


def test_a_model_that_is_right_is_not_rejected():
    """Where the risk is low enough as it is, the threshold is 0 and everything is named."""
    scores, truth = sure(np.linspace(0.5, 0.99, 200), np.arange(200) != 150)
    found = choose_threshold(scores, truth)
    assert (found.threshold, found.coverage, found.risk) == (0.0, 1.0, 0.005)


def test_the_threshold_leaves_the_least_coverage():
    """Where mistakes are everywhere the threshold stops at the least coverage, of the cells that may be named."""
    tops = np.linspace(0.5, 0.99, 100)
    scores, truth = sure(tops, np.arange(100) % 2 == 0)
    found = choose_threshold(scores, truth)
    assert found.coverage == LEAST_COVERAGE
    assert found.risk > TARGET_RISK

    few = choose_threshold(scores, truth, named=np.arange(100) < 80)
    assert few.coverage == 0.8 * LEAST_COVERAGE
    assert few.n == 100


def test_strangers_count_as_mistakes():
    """Four unknown pictures, named, are more than 1 % mistakes beside 300 right ones, three are not: one goes."""
    scores, truth = sure(np.linspace(0.5, 0.99, 300), np.ones(300, bool))
    unknown, _ = sure(np.array([0.40, 0.41, 0.42, 0.6]), np.ones(4, bool))

    found = choose_threshold(scores, truth, unknown_scores=unknown)

    assert found.threshold == pytest.approx(0.405)
    assert (found.unknown, found.unknown_rejected, found.coverage) == (4, 0.25, 1.0)
    assert choose_threshold(scores, truth).threshold == 0.0


@given(
    st.lists(st.tuples(st.integers(64, 256), st.booleans()), min_size=2, max_size=60),
    st.floats(0, 0.3),
    st.floats(0.2, 1.0),
)
def test_a_chosen_threshold_does_what_it_says(pictures, target_risk, least_coverage):
    """In the steps of an int8 file: coverage holds, and where the risk does not, no further step was allowed."""
    scores, truth = sure(np.array([top for top, _ in pictures]) / 256, np.array([right for _, right in pictures]))
    found = choose_threshold(scores, truth, target_risk=target_risk, least_coverage=least_coverage)

    assert found.coverage >= least_coverage
    assert found == judge_threshold(scores, truth, found.threshold)
    if found.risk > target_risk:
        tops = scores.max(axis=1)
        next_step = min(tops[tops >= found.threshold], default=1.0)
        assert (tops > next_step).mean() < least_coverage


def test_intervals_are_by_photograph():
    """Coverage and risk have the intervals of the shares they are, with the photographs behind them."""
    scores, truth = sure(np.linspace(0.5, 0.99, 60), np.arange(60) % 9 > 0)
    groups = [str(number // 3) for number in range(60)]

    found = judge_threshold(scores, truth, 0.7, groups=groups)

    covered = scores.max(axis=1) >= 0.7
    whole = accuracy_interval(covered, groups)
    part = accuracy_interval((np.arange(60) % 9 == 0)[covered], [groups[row] for row in np.flatnonzero(covered)])
    assert found.coverage_interval == (whole.low, whole.high)
    assert found.risk_interval == (part.low, part.high)
    assert found.n_groups == 20


def test_folds_keep_photographs_whole():
    """Every picture is in one fold, every photograph too, and no fold is empty."""
    groups = [f"photo {number % 13}" for number in range(100)]
    folds = np.array(list(_folds(groups)))
    assert folds.shape == (FOLDS, 100)
    assert (folds.sum(axis=0) == 1).all()
    for photograph in set(groups):
        own = folds[:, [group == photograph for group in groups]]
        assert (own == own[:, :1]).all()


def held_back_scores(run, file, side=HELD_BACK):
    """Scores and truth of one side of a run, as a file gives them."""
    model = Classifier.open(file)
    rows = [row.picture for row in load_split(run.split) if row.split == side]
    done, _ = read_each(rows, lambda image: prepare(image, model.spec.input_size))
    truth = np.array([model.spec.labels.index(picture.label) for picture, _ in done])
    return model.scores(np.stack([pixels for _, pixels in done])), truth


@pytest.fixture
def calibrated(own_run):
    """The tiny run, converted anew with calibration on its held-back pictures; and what was said."""
    for path in own_run.tflite_files():
        path.unlink()
    return convert(own_run)


def convert(run):
    """Convert a run as the command does."""
    model, notes = open_keras(run.model), Notes()
    pictures = calibration_pictures(run.model, model.spec, INT8_AND_16, notes)
    chosen = [row.picture for row in load_split(run.split) if row.split == TRAIN][::2]
    convert_files(model, INT8_AND_16, run.path, representative=chosen, calibration=pictures, force=True, report=notes)
    return run, notes.said


def test_all_files_of_a_run_agree_on_temperature_and_threshold(tiny_run, calibrated):
    """Keras, int8 and float16 give the same softened scores, and their specs the same temperature and threshold."""
    run, said = calibrated
    spec, files = load_spec(run.spec), [run.path / target.file_name for target in INT8_AND_16]
    before, _ = held_back_scores(run, tiny_run.path / Target.FLOAT16.file_name)
    keras_model = open_keras(run.model)

    assert spec.temperature != 1.0
    for file in files:
        packed = Classifier.open(file).spec
        assert (packed.temperature, packed.reject_threshold) == (spec.temperature, spec.reject_threshold)
        assert packed.figures == json.loads(json.dumps(spec.figures))
    float16, _ = held_back_scores(run, files[1])
    assert float16 == pytest.approx(softened(before, spec.temperature), abs=0.02)
    assert keras_model.spec == spec
    assert any("calibrated on 128 pictures (held back; reported by 5-fold cross-fitting" in line for line in said)


def test_the_int8_file_is_what_was_fitted(calibrated):
    """On the int8 file's answers no better temperature is left, and the threshold is the one chosen from them."""
    run, _ = calibrated
    scores, truth = held_back_scores(run, run.path / Target.INT8.file_name)
    assert fit_temperature(logits_of(scores), truth) == pytest.approx(1.0, abs=0.1)
    assert load_spec(run.spec).reject_threshold == choose_threshold(scores, truth).threshold


def test_figures_say_how_they_were_made(calibrated):
    """Calibration and rejection stand in the spec with n, photographs, intervals, and what they were fitted on."""
    figures = load_spec(calibrated[0].spec).figures
    calibration, rejection = figures["calibration"], figures["rejection"]
    assert calibration["n"] == rejection["n"] == 128
    assert calibration["n_groups"] == rejection["n_groups"] > FOLDS
    assert calibration["fitted_on"] == rejection["fitted_on"]
    assert "cross-fitting" in calibration["fitted_on"]
    assert calibration["loss"] <= calibration["loss_before"] + 0.01
    low, high = rejection["coverage_interval"]
    assert low <= rejection["coverage"] <= high
    assert (rejection["target_risk"], rejection["least_coverage"]) == (TARGET_RISK, LEAST_COVERAGE)


def test_a_run_is_calibrated_once(calibrated):
    """Converting a calibrated run again leaves its model and the files as they are, bit for bit."""
    run, _ = calibrated
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
    _, said = convert(run)
    assert not any("calibrat" in line for line in said)
    assert {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()} == before


def test_validation_pictures_are_fitted_on_where_there_are_some(own_colours):
    """With a validation side, that is fitted on and the held-back side judged, by the final file, without folds."""
    rows = load_split(own_colours.split)
    some = [row for row in rows if row.split == TRAIN][::2]
    moved = [type(row)(row.picture, VALIDATION, "", row.sha256) if row in some else row for row in rows]
    save_split(own_colours.split, moved)
    for path in own_colours.tflite_files():
        path.unlink()

    run, said = convert(own_colours)

    spec = load_spec(run.spec)
    assert spec.figures["rejection"]["n"] == 200
    assert spec.figures["calibration"]["fitted_on"].startswith("validation")
    assert any("validation" in line for line in said)
    scores, truth = held_back_scores(run, run.path / Target.INT8.file_name)
    found = judge_threshold(scores, truth, spec.reject_threshold)
    assert spec.figures["rejection"]["coverage"] == found.coverage
    assert spec.figures["calibration"]["loss"] == pytest.approx(log_loss(truth, scores))


def test_what_would_no_longer_agree_stops_it(own_colours):
    """With a float16 file beside the model that is not made anew, nothing is calibrated, which is told with why."""
    notes, spec = Notes(), load_spec(own_colours.spec)
    assert calibration_pictures(own_colours.model, spec, [Target.INT8], notes) is None
    assert notes.said == [
        "not calibrated: bloodcell-float16.tflite would no longer agree; convert that too, with --force"
    ]
    assert isinstance(calibration_pictures(own_colours.model, spec, INT8_AND_16, notes), CalibrationPictures)
    assert calibration_pictures(own_colours.model, spec, [Target.FLOAT16], SILENT) is None


def test_too_few_pictures_are_not_fitted_on(own_colours):
    """Below 50 pictures nothing is fitted, which is told with the number."""
    rows = load_split(own_colours.split)
    held = [row for row in rows if row.split == HELD_BACK]
    save_split(own_colours.split, [row for row in rows if row.split == TRAIN] + held[:30])
    notes = Notes()
    assert calibration_pictures(own_colours.model, load_spec(own_colours.spec), INT8_AND_16, notes) is None
    assert notes.said == ["not calibrated: needs 50 pictures, of 5 photographs, not trained on; has 30"]


def test_convert_calibrates_a_run(bce_here, own_colours):
    """The command calibrates a run and says so; the second time it leaves the model as it is."""
    for path in own_colours.tflite_files():
        path.unlink()
    first = bce_here("convert")
    assert first.returncode == 0, first.stderr
    assert "calibrated on 200 pictures" in first.stderr
    spec = load_spec(own_colours.spec)
    assert not math.isclose(spec.temperature, 1.0, abs_tol=1e-6)
    assert "calibrated on" not in bce_here("convert", "--force").stderr
    assert load_spec(own_colours.spec) == spec
