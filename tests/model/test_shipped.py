"""The shipped models: whole, within their size, answering as they did, described by what can be checked."""

from __future__ import annotations

import json

import numpy as np
import pytest

import bloodcell_edge
from bloodcell_edge.dataset.pictures import LABELS
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.model.card import sections
from bloodcell_edge.model.choose import DEVICE_FILE, SHIPPED, choose_model
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.file import read_model_file
from bloodcell_edge.model.golden import replay

FILES = (DEVICE_FILE, "bloodcell-float16.tflite", "bloodcell-small-int8.tflite")
"""Their content is known by the hash inside, which `read_model_file` checks against what is there."""

MOST_BYTES = {DEVICE_FILE: 3_100_000, "bloodcell-small-int8.tflite": 1_000_000}
MOST_IN_ALL = 16_000_000


@pytest.mark.parametrize("name", FILES)
def test_each_is_whole_and_answers_as_it_did(name):
    """Its hash fits, its golden samples give the same answers here, and there is one of every label that has one."""
    classifier = Classifier.open(SHIPPED / name)
    assert classifier.spec.golden
    difference = replay(classifier.interpreter, classifier.spec, name=name, runtime=classifier.interpreter.runtime)
    assert difference <= classifier.spec.kernel_tolerance


@pytest.mark.parametrize(("name", "most"), MOST_BYTES.items())
def test_each_is_small(name, most):
    """A device's storage and start-up are what they were made for."""
    assert (SHIPPED / name).stat().st_size <= most


def test_all_of_them_are_light_to_install():
    """What `pip install bloodcell-edge` brings of models, weights and tables."""
    assert sum(file.stat().st_size for file in SHIPPED.iterdir()) <= MOST_IN_ALL


@pytest.mark.parametrize("name", FILES)
def test_each_says_where_it_comes_from(name):
    """Use, data with licences, sources to be named, figures with n and interval, calibration, parity: all inside."""
    spec = read_model_file(SHIPPED / name).spec
    assert spec.labels == LABELS
    assert spec.view == "cell"
    assert "not for diagnosis" in spec.intended_use
    assert any("10.17632/snkd93bnjr.1" in line and "CC BY 4.0" in line for line in spec.attribution)
    assert any("BCCD" in line and "MIT" in line for line in spec.attribution)
    assert spec.parity is not None
    assert spec.reject_threshold is not None
    titles = [section.title for section in sections(spec)]
    for part in ("Data", "Held-back", "Calibration", "Rejection", "Known failures", "Labels"):
        assert any(title.startswith(part) for title in titles), titles


def test_parity_of_the_int8_file_is_what_was_asked_for():
    """Against Keras: at most half a point of accuracy, at least 98.5 % agreement, as the proof inside says."""
    parity = read_model_file(SHIPPED / DEVICE_FILE).spec.parity
    assert parity is not None
    assert parity["accuracy_drop"] <= 0.5
    assert parity["agreement"] >= 98.5


def test_it_is_what_comes_without_a_name():
    """`bce run`, `bce classify` and `load_model()` take it."""
    assert choose_model(None).path == SHIPPED / DEVICE_FILE
    assert bloodcell_edge.load_model().spec.name == read_model_file(SHIPPED / DEVICE_FILE).spec.name


def test_it_finds_and_scores_drawn_cells():
    """On drawn fields every score is a share; drawings are not blood, so what they are called is not asked."""
    classifier = bloodcell_edge.load_model()
    for seed, label in enumerate(LABELS):
        answers = classifier.classify(draw_field(900 + seed, (label,)).image)
        assert answers
        for one in answers:
            assert 0.0 <= sum(one.scores.values()) <= 1.0 + 4 / 256
            assert one.box is not None


def test_the_readme_gives_the_hash_of_each_file():
    """model/shipped/README.md is of these files: it has the hash inside of each that it describes."""
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    for name in MOST_BYTES:
        assert read_model_file(SHIPPED / name).spec.sha256 in text


def test_backbone_weights_are_numbers():
    """backbone.npz has finite arrays, as float16 where they are kernels."""
    with np.load(SHIPPED / "backbone.npz") as stored:
        arrays = [stored[name] for name in stored.files]
    assert all(np.isfinite(array).all() for array in arrays)
    assert any(array.dtype == np.float16 for array in arrays)


def test_info_shows_the_card(bce):
    """`bce info` without a name prints the shipped model's card; with --json the whole spec."""
    text = bce("info").stdout
    assert "Rejection" in text
    assert "not for diagnosis" in text
    assert json.loads(bce("info", "--json").stdout)["card"]["sources"]
