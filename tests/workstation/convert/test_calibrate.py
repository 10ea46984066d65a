"""Temperature and reject threshold: fitted on the int8 file, in all files made with it, reported on other pictures."""

from __future__ import annotations

import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.pictures import LABELS, Picture
from bloodcell_edge.dataset.reading import read_each
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, Member, load_split, save_split
from bloodcell_edge.errors import ConversionError
from bloodcell_edge.imaging.image import prepare
from bloodcell_edge.model.calibration import (
    LEAST_COVERAGE,
    TARGET_RISK,
    above_zero,
    choose_threshold,
    fit_temperature,
)
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.file import read_model_file
from bloodcell_edge.model.spec import load_spec, save_spec
from bloodcell_edge.progress import SILENT, Silent
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.statistics.metrics import ECE_BINS, softened
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


@pytest.mark.long
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
