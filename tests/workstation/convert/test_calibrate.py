"""Temperature and reject threshold: fitted on the int8 file, in all files made with it, reported on other pictures."""

from __future__ import annotations

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.pictures import LABELS, Picture
from bloodcell_edge.dataset.reading import read_each
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, Member, load_split, save_split
from bloodcell_edge.errors import ConversionError
from bloodcell_edge.imaging.image import prepare
from bloodcell_edge.model.calibration import (
    LEAST_COVERAGE,
    NONE,
    TARGET_RISK,
    above_zero,
    choose_threshold,
    fit_temperature,
    rejection,
)
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.file import read_model_file
from bloodcell_edge.model.spec import load_spec, save_spec
from bloodcell_edge.progress import SILENT, Silent
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.statistics.intervals import accuracy_interval
from bloodcell_edge.statistics.metrics import ECE_BINS, log_loss, softened
from bloodcell_edge.training.backbone import build_model
from bloodcell_edge.training.kerasmodel import open_keras
from bloodcell_edge.training.recipes import choose_recipe
from convert.calibrate import calibrate, calibration_pictures, first_half, fold_temperature
from convert.files import convert_files
from convert.parity import GateLimits
from convert.proof import prove
from convert.targets import Target

INT8_AND_16 = [Target.INT8, Target.FLOAT16]


class Notes(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def drawn_answers(n, *, temperature, labels=4, seed=0):
    """Probabilities that are true chances only at `temperature`, and labels drawn by these chances."""
    rng = np.random.default_rng(seed)
    powers = np.exp(rng.normal(0, 3, (n, labels)))
    scores = powers / powers.sum(axis=1, keepdims=True)
    truth = (rng.random(n)[:, None] > softened(scores, temperature).cumsum(axis=1)).sum(axis=1)
    return scores, truth


def sure(tops, right, labels=4):
    """Probabilities with these top scores; the truth is label 0, the top is label 0 where right, else 1."""
    scores = np.repeat(((1 - np.array(tops)) / (labels - 1))[:, None], labels, axis=1)
    scores[np.arange(len(tops)), np.where(right, 0, 1)] = tops
    return scores, np.zeros(len(tops), np.int64)


@pytest.mark.parametrize(("temperature", "labels"), [(0.5, 4), (1.0, 2), (2.5, 5)])
def test_the_temperature_that_made_the_labels_is_found(temperature, labels):
    """20,000 labels drawn at a temperature: the fit finds it within 3 %, however many labels there are."""
    scores, truth = drawn_answers(20_000, temperature=temperature, labels=labels)
    assert fit_temperature(scores, truth) == pytest.approx(temperature, rel=0.03)


def test_no_other_temperature_has_less_loss():
    """The log loss at the fitted temperature is the least of 200 tried, but for what one imaginary mistake moves."""
    scores, truth = drawn_answers(2_000, temperature=1.7)
    losses = [log_loss(truth, softened(scores, temperature)) for temperature in np.geomspace(0.2, 5, 200)]
    assert log_loss(truth, softened(scores, fit_temperature(scores, truth))) <= min(losses) + 1e-4


def test_a_model_without_a_mistake_gets_no_certainty():
    """All right: the temperature falls, the fewer pictures the less, and stays so that a mistake is still expected."""
    found = []
    for n in (20, 2_000):
        scores, truth = sure(np.full(n, 0.9), np.ones(n, bool))
        found.append(fit_temperature(scores, truth))
        expected_mistakes = n * (1 - softened(scores, found[-1])[0].max())
        assert expected_mistakes == pytest.approx(1, abs=0.2)
    assert 1 / 10 < found[1] < found[0] < 1


@pytest.mark.parametrize(("right", "limit"), [(True, 0.1), (False, 10.0)])
def test_the_temperature_has_limits(right, limit):
    """Answers that differ by next to nothing and are all right, or sure and all wrong, give a limit, no infinity."""
    scores, truth = sure(np.full(50, 0.2501 if right else 0.999), np.full(50, right))
    assert fit_temperature(scores, truth) == pytest.approx(limit)


def test_nothing_to_fit_on_changes_nothing():
    """Without pictures, or with one label, the temperature is 1."""
    assert fit_temperature(np.zeros((0, 4)), np.zeros(0, int)) == 1.0
    assert fit_temperature(np.ones((3, 1)), np.zeros(3, int)) == 1.0


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=9), st.floats(0.01, 100))
def test_softened_scores_are_probabilities_in_the_same_order(rows, temperature):
    """At any temperature rows sum to 1, nothing overtakes, and 0 stays 0; at 1 they are what they were."""
    scores = np.array(rows) + np.array([1e-3, 0, 0])
    scores /= scores.sum(axis=1, keepdims=True)
    changed = softened(scores, temperature)
    assert changed.sum(axis=1) == pytest.approx(1)
    assert np.take_along_axis(changed, scores.argmax(axis=1)[:, None], 1)[:, 0] == pytest.approx(changed.max(axis=1))
    assert (changed[scores == 0] == 0).all()
    assert softened(scores, 1.0) == pytest.approx(scores)


def trained_net():
    """A network as bce train builds it; the untrained backbone says next to nothing, so that biases decide."""
    net = build_model(choose_recipe("drawn", size=32), 4)[0]
    kernel, bias = net.get_layer("logits").get_weights()
    net.get_layer("logits").set_weights([kernel, bias + np.arange(4)])
    return net


@pytest.mark.parametrize("kind", ["softmax in a layer of its own", "softmax in the Dense"])
def test_a_folded_temperature_divides_the_logits(colours, kind):
    """The folded network says what the softened scores of the other are; the given one is as it was."""
    net = trained_net() if kind.endswith("own") else open_keras(colours.model).net
    pixels = np.random.default_rng(1).uniform(0, 255, (4, *net.input_shape[1:])).astype(np.float32)
    before = net.predict_on_batch(pixels)

    folded = fold_temperature(net, 1.6)

    assert before.max() > 0.3
    assert folded.predict_on_batch(pixels) == pytest.approx(softened(before, 1.6), abs=1e-5)
    assert np.array_equal(net.predict_on_batch(pixels), before)


def test_a_network_that_ends_otherwise_is_refused():
    """A temperature cannot go into a network whose last layer with weights is no Dense."""
    net = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 1), keras.layers.GlobalAveragePooling2D()])
    with pytest.raises(ConversionError, match="expected a Dense, found Conv2D"):
        fold_temperature(net, 2.0)


def test_the_threshold_is_the_lowest_that_keeps_mistakes_rare():
    """200 pictures, the 4 least sure of them wrong: 3 are turned away, no more, since one in 197 is rare enough."""
    tops = np.linspace(0.5, 0.99, 200)
    scores, truth = sure(tops, np.arange(200) >= 4)
    assert tops[2] < choose_threshold(scores, truth) < tops[3]


def test_a_model_that_is_right_is_not_rejected():
    """Where the risk is low enough as it is, the threshold is 0."""
    scores, truth = sure(np.linspace(0.5, 0.99, 200), np.arange(200) != 150)
    assert choose_threshold(scores, truth) == 0.0


def test_the_threshold_leaves_the_least_coverage():
    """Where mistakes are everywhere the threshold stops at the least coverage, of the cells that may be named."""
    scores, truth = sure(np.linspace(0.5, 0.99, 200), np.arange(200) % 2 == 0)
    assert (scores.max(axis=1) >= choose_threshold(scores, truth)).mean() == LEAST_COVERAGE

    named = np.arange(200) < 120
    threshold = choose_threshold(scores, truth, named=named)
    assert (named & (scores.max(axis=1) >= threshold)).sum() == 120 * LEAST_COVERAGE


def test_strangers_count_as_mistakes():
    """Four pictures of none of the classes, named, are more than 1 % mistakes beside 300 right ones, three are not."""
    scores, truth = sure(np.append(np.linspace(0.5, 0.99, 300), [0.40, 0.41, 0.42, 0.6]), np.ones(304, bool))
    truth[300:] = NONE
    threshold = choose_threshold(scores, truth)
    assert threshold == pytest.approx(0.405)
    assert choose_threshold(scores[:300], truth[:300]) == 0.0

    found = rejection(threshold, truth, scores.max(axis=1) >= threshold, truth == 0, [str(row) for row in range(304)])
    assert (found.n, found.coverage, found.risk) == (300, 1.0, 0.0)
    assert (found.unknown, found.unknown_rejected) == (4, 0.25)


def test_what_a_model_rejects_as_trained_stays_rejected():
    """The threshold does not fall below the one that is given, whatever that costs in coverage."""
    scores, truth = sure(np.linspace(0.5, 0.99, 100), np.ones(100, bool))
    assert choose_threshold(scores, truth, at_least=0.7) == 0.7


def test_nothing_that_may_be_named_is_no_error():
    """Without a cell that may be named nothing is turned away for its score."""
    scores, truth = sure(np.linspace(0.5, 0.99, 9), np.ones(9, bool))
    assert choose_threshold(scores, truth, named=np.zeros(9, bool)) == 0.0


@given(
    st.lists(st.tuples(st.integers(129, 256), st.booleans()), min_size=2, max_size=60),
    st.integers(2, 6),
    st.floats(0, 0.3),
    st.floats(0.2, 1.0),
)
def test_a_chosen_threshold_does_what_it_says(pictures, labels, target_risk, least_coverage):
    """In the steps of an int8 file: coverage holds, and where the risk does not, no further step was allowed."""
    tops, right = np.array([top for top, _ in pictures]) / 256, np.array([right for _, right in pictures])
    threshold = choose_threshold(*sure(tops, right, labels), target_risk=target_risk, least_coverage=least_coverage)

    covered = tops >= threshold
    assert covered.mean() >= least_coverage
    if (~right[covered]).mean() > target_risk:
        assert (tops > tops[covered].min()).mean() < least_coverage


def test_intervals_are_by_photograph():
    """Coverage and risk have the intervals of the shares they are, with the photographs behind them."""
    covered, right = np.arange(60) > 20, np.arange(60) % 9 > 0
    groups = [str(number // 3) for number in range(60)]

    found = rejection(0.7, np.zeros(60, int), covered, right, groups)

    whole = accuracy_interval(covered, groups)
    part = accuracy_interval(~right[covered], [groups[row] for row in np.flatnonzero(covered)])
    assert (found.coverage, found.risk) == (covered.mean(), (~right[covered]).mean())
    assert found.coverage_interval == (whole.low, whole.high)
    assert found.risk_interval == (part.low, part.high)
    assert found.n_groups == 20
    assert (found.unknown, found.unknown_rejected) == (0, None)
    assert rejection(1.0, np.zeros(3, int), np.zeros(3, bool), right[:3], groups[:3]).risk is None


def test_halves_keep_photographs_whole():
    """Half of the photographs, rounded down, with all of their pictures."""
    groups = [f"photo {number % 13}" for number in range(100)]
    half = first_half(groups)
    sides = {
        photograph: {chosen for name, chosen in zip(groups, half, strict=True) if name == photograph}
        for photograph in groups
    }
    assert all(len(chosen) == 1 for chosen in sides.values())
    assert sum(chosen == {True} for chosen in sides.values()) == 6


def held_back_scores(run, model):
    """Scores and truth of what a run held back, as a file or a Keras model gives them."""
    rows = [row.picture for row in load_split(run.split) if row.split == HELD_BACK]
    done, _ = read_each(rows, lambda image: prepare(image, model.spec.input_size))
    truth = np.array([model.spec.labels.index(picture.label) for picture, _ in done])
    return model.scores(np.stack([pixels for _, pixels in done])), truth


def convert(run, targets=INT8_AND_16, report=SILENT):
    """Convert a run as the command does."""
    pictures = calibration_pictures(run.model, targets, report)
    chosen = [row.picture for row in load_split(run.split) if row.split == TRAIN][::2]
    convert_files(
        open_keras(run.model), targets, run.path, representative=chosen, calibration=pictures, force=True, report=report
    )


@pytest.fixture(scope="module")
def doubtful(colours, tmp_path_factory):
    """The quick run, alike sure of all colours, and too sure: logits 12 apart, 31 of 200 labels held back wrong.

    Six of these stand on pictures between two colours, of which it is not sure.
    """
    folder = tmp_path_factory.mktemp("doubtful") / "runs" / "colours"
    shutil.copytree(colours.path, folder)
    run = RunFolder(folder)
    rows, net = load_split(run.split), open_keras(run.model).net
    one_of_each = [next(row.picture for row in rows if row.picture.label == label) for label in LABELS]
    pixels = np.stack([image for _, image in read_each(one_of_each, np.float32)[0]])
    hues = keras.Model(net.inputs, net.get_layer("pool").output).predict_on_batch(pixels)
    net.get_layer("probability").set_weights([12 * np.linalg.inv(hues), np.zeros(4)])
    net.save(run.model)
    held = [number for number, row in enumerate(rows) if row.split == HELD_BACK]
    for number in held[::8]:
        label = "MONOCYTE" if rows[number].picture.label != "MONOCYTE" else "NEUTROPHIL"
        rows[number] = replace(rows[number], picture=replace(rows[number].picture, label=label))
    for number, row in enumerate(held[1:48:8]):
        path = folder / f"between-{number}.png"
        Image.fromarray(np.full((32, 32, 3), (60, 179 + number, 180), np.uint8)).save(path)
        rows[row] = replace(rows[row], picture=replace(rows[row].picture, path=path, label="EOSINOPHIL"))
    save_split(run.split, rows)
    return run


@pytest.fixture(scope="module")
def calibrated(doubtful):
    """That run converted, and what was said; the model and its spec are what they were."""
    before, notes = (doubtful.model.read_bytes(), doubtful.spec.read_bytes()), Notes()
    convert(doubtful, report=notes)
    assert (doubtful.model.read_bytes(), doubtful.spec.read_bytes()) == before
    return doubtful, notes.said


def test_all_files_of_a_run_agree(calibrated):
    """int8 and float16 say what Keras says at the temperature in their specs, which have the same threshold."""
    run, said = calibrated
    keras_model, files = open_keras(run.model), [Classifier.open(run.path / one.file_name) for one in INT8_AND_16]
    spec = files[0].spec
    assert spec.temperature > 2
    assert 0 < spec.reject_threshold < 1
    assert (keras_model.spec.temperature, keras_model.spec.reject_threshold) == (1.0, None)
    expected = softened(held_back_scores(run, keras_model)[0], spec.temperature)
    for file, tolerance in zip(files, (0.06, 0.01), strict=True):
        assert (file.spec.temperature, file.spec.reject_threshold) == (spec.temperature, spec.reject_threshold)
        assert file.spec.figures == spec.figures
        assert held_back_scores(run, file)[0] == pytest.approx(expected, abs=tolerance)
    assert any(line.startswith("calibrated on 200 pictures (held back; reported on each half") for line in said)


def test_the_int8_file_is_what_was_fitted(calibrated):
    """On the int8 file's answers no better temperature is left, and the threshold is the one chosen from them."""
    run, _ = calibrated
    model = Classifier.open(run.path / Target.INT8.file_name)
    scores, truth = held_back_scores(run, model)
    assert fit_temperature(above_zero(scores), truth) == pytest.approx(1.0, abs=0.06)
    assert model.spec.reject_threshold == choose_threshold(above_zero(scores), truth)


def test_figures_say_how_they_were_made(calibrated):
    """Calibration and rejection stand in the spec with n, photographs, intervals, and what they were fitted on."""
    figures = read_model_file(calibrated[0].path / Target.INT8.file_name).spec.figures
    found, other = figures["calibration"], figures["rejection"]
    assert found["n"] == other["n"] == 200
    assert found["n_groups"] == other["n_groups"] == 50
    assert found["fitted_on"] == other["fitted_on"]
    assert "each half of the photographs as fitted on the other" in found["fitted_on"]
    assert found["ece_bins"] == ECE_BINS == 15
    assert found["loss"] < found["loss_before"]
    assert found["ece"] < 0.06 < 0.1 < found["ece_before"]
    assert other["coverage_interval"][0] <= other["coverage"] <= other["coverage_interval"][1]
    assert other["risk_interval"][0] <= other["risk"] <= other["risk_interval"][1]
    assert (other["target_risk"], other["least_coverage"]) == (TARGET_RISK, LEAST_COVERAGE)


def test_parity_compares_at_one_temperature(calibrated):
    """The gate holds the files against what Keras would say at their temperature: scores differ by rounding alone."""
    run, _ = calibrated
    found = prove(run.model, [], None, limits=GateLimits(), report=SILENT)
    assert found.passed
    assert {one.target: one.max_abs_diff < 0.06 for one in found.candidates} == {"int8": True, "float16": True}


def test_converting_again_gives_the_same_files(calibrated):
    """Nothing depends on what was converted before, bit for bit; nor does int8 on what is made beside it."""
    run, _ = calibrated
    for targets in (INT8_AND_16, [Target.INT8]):
        convert(run)
        before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}
        convert(run, targets)
        assert {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()} == before


def test_a_picture_without_a_cell_is_not_covered(colours, drawn_cells):
    """It counts in n and against coverage; temperature and calibration are of the others, threshold too."""
    model = open_keras(colours.model)
    spec = model.spec.with_(view="cell", crop_um=20.0)
    cells = load_data(drawn_cells).pictures[::10]
    empty = [row.picture for row in load_split(colours.split) if row.split == HELD_BACK][::50]
    samples = np.random.default_rng(2).integers(0, 256, (60, 32, 32, 3), np.uint8)

    found = calibrate(model.net, spec, samples, [*cells, *empty], SILENT).spec.figures

    assert (len(cells), len(empty)) == (20, 4)
    assert found["rejection"]["n"] == 24
    assert found["calibration"]["n"] == 20
    assert found["rejection"]["coverage"] <= 20 / 24


def test_a_background_is_an_output_and_no_label(calibrated, tmp_path):
    """With one output more, other pictures count for the threshold, not for calibration, and parity still holds."""
    run, _ = calibrated
    folder = RunFolder(shutil.copytree(run.path, tmp_path / "wider", ignore=shutil.ignore_patterns("*.tflite")))
    net = open_keras(run.model).net
    wider = keras.Sequential([*net.layers[:-1], keras.layers.Dense(5, activation="softmax", name="wider")])
    wider.build((None, 32, 32, 3))
    kernel, bias = net.layers[-1].get_weights()
    wider.layers[-1].set_weights([np.column_stack([kernel, np.zeros(4)]), np.append(bias, 8.0)])
    wider.save(folder.model)
    save_spec(folder.spec, load_spec(run.spec).with_(background=True, reject_threshold=0.5))
    others = []
    for number in range(8):  # six that say nothing, two that look like a class
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((32, 32, 3), (200, 200, 60) if number > 5 else 128, np.uint8)).save(path)
        others.append(Member(Picture(path, path.name, "PLATELET", path.name), HELD_BACK, "", ""))
    save_split(folder.unknown, others)

    convert(folder)

    spec = Classifier.open(folder.path / Target.INT8.file_name).spec
    found, other = spec.figures["calibration"], spec.figures["rejection"]
    assert spec.temperature > 1.5
    assert spec.reject_threshold >= 0.5
    assert (found["n"], other["n"], other["unknown"], other["unknown_rejected"]) == (200, 200, 8, 0.75)
    proof = prove(folder.model, [], None, limits=GateLimits(), report=SILENT)
    assert proof.passed
    assert max(one.max_abs_diff for one in proof.candidates) < 0.06


@pytest.mark.parametrize(
    ("held", "targets", "said"),
    [
        (50, [Target.FLOAT16], "not calibrated: temperature and reject threshold come from the int8 file"),
        (30, INT8_AND_16, "expected 50 held-back pictures of 10 photographs or more, found 30 of 30"),
        (None, INT8_AND_16, "not calibrated: no split.csv beside the model"),
    ],
)
def test_what_is_not_calibrated_is_told(own_colours, held, targets, said):
    """Without int8, with few pictures, or without a split nothing is fitted, in one line that says why."""
    rows = load_split(own_colours.split)
    save_split(own_colours.split, [row for row in rows if row.split == HELD_BACK][:held])
    if held is None:
        own_colours.split.unlink()
    notes = Notes()
    assert calibration_pictures(own_colours.model, targets, notes) == []
    assert len(notes.said) == 1
    assert said in notes.said[0]


def test_the_commands_tell_of_it(bce_here, own_colours):
    """bce convert says what it fitted, on what; bce info says it of the file, and nothing of the Keras model."""
    converted = bce_here("convert", "--force")
    assert converted.returncode == 0, converted.stderr
    assert "calibrated on 200 pictures (held back; reported on each half" in converted.stderr
    of_file = bce_here("info", "runs/latest").stdout.splitlines()
    how = "held back; reported on each half of the photographs as fitted on the other"
    calibration, rejected = (of_file[of_file.index(title) + 1] for title in ("Calibration", "Rejection"))
    assert calibration.startswith("expected calibration error 0.0")
    assert "fitted on the int8 file, n = 200" in calibration
    assert rejected.startswith("top score below 0.")
    assert "mistakes among what is named 0.0 %, n = 200" in rejected
    assert calibration.endswith(how)
    assert rejected.endswith(how)
    assert "Rejection" not in bce_here("info", "runs/latest/model.keras").stdout
