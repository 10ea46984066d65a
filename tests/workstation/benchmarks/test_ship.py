"""What is shipped, made again: the card's figures from the saved predictions, the README from the files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ship import (
    PREDICTIONS,
    SMALL_FILE,
    as_csv,
    by_source,
    elsewhere,
    ingredients,
    latency,
    load_predictions,
    own_figures,
    readme,
    source_of,
    unseen_unknown,
    worst_mistakes,
)

from bloodcell_edge.dataset.asking import Answers
from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.errors import DataError
from bloodcell_edge.model.choose import DEVICE_FILE, SHIPPED
from bloodcell_edge.model.file import read_model_file


def test_the_figures_of_the_card_come_out_again():
    """From the answers in predictions.csv every figure of the int8 file's held-back table is worked out again."""
    spec = read_model_file(SHIPPED / DEVICE_FILE).spec
    found = load_predictions(SHIPPED / PREDICTIONS, spec.labels)

    again = json.loads(json.dumps({**own_figures(found, spec), "by_source": by_source(found, spec)}))

    assert again["n"] >= 500
    assert {"accuracy", "coverage", "per_class", "by_source"} <= again.keys() & spec.figures.keys()
    for key in again.keys() & spec.figures.keys():  # the file that is shipped may know fewer
        value = again[key]
        assert spec.figures[key] == pytest.approx(value) if isinstance(value, float) else spec.figures[key] == value, (
            key
        )


def test_the_readme_is_made_of_the_files():
    """models/README.md says what the files say, nothing else."""
    text = (SHIPPED / "README.md").read_text(encoding="utf-8")
    assert text == readme([SHIPPED / DEVICE_FILE, SHIPPED / SMALL_FILE])


def test_predictions_come_back_from_their_table(tmp_path):
    """Written and read again they are the same, a picture without a cell included."""
    pictures = (
        Picture(tmp_path / "photos" / "a.jpg", "a.jpg", "NEUTROPHIL", "g1", note="doubtful, they say"),
        Picture(tmp_path / "pbc" / "b.jpg", "b.jpg", "BASOPHIL", "g2"),
    )
    scores = np.array([[0.25, 0.75], [np.nan, np.nan]], np.float32)
    labels = ("LYMPHOCYTE", "NEUTROPHIL")
    given = Answers(pictures, scores, np.array([True, False]), np.array([True, False]), np.array([True, False]))
    (tmp_path / "table.csv").write_text(as_csv(given, labels))

    found = load_predictions(tmp_path / "table.csv", labels)

    np.testing.assert_array_equal(found.scores, scores)
    assert found.found.tolist() == [True, False]
    assert found.marked.tolist() == found.cut.tolist() == [True, False]
    assert [(one.file, one.label, one.group, one.note) for one in found.pictures] == [
        (one.file, one.label, one.group, one.note) for one in pictures
    ]
    assert [source_of(one).folder for one in found.pictures] == ["photos", "pbc"]


def test_a_picture_of_unknown_licence_is_not_shipped(tmp_path):
    """What stands under none of the sources has no licence to name."""
    with pytest.raises(DataError, match="of no source that may be shipped"):
        source_of(Picture(tmp_path / "mine" / "a.jpg", "a.jpg", "NEUTROPHIL"))


def answer(seen, unseen, labels, balanced, what="all of it", seed=0):
    """A line of the leave-one-source-out benchmark."""
    return {
        "what": what, "seed": seed, "epochs": 8, "trained_on": [seen], "tested_on": unseen, "labels": labels, "n": 10,
        "balanced_accuracy": balanced, "accuracy": balanced, "accuracy_interval": [0.1, 0.9],
    }  # fmt: skip


def test_another_microscope_is_a_row_a_direction():
    """Barcelona has no noted labels, so it is not told twice."""
    lines = [
        answer(*pair, labels, 0.5)
        for pair in (("photos", "pbc"), ("pbc", "photos"))
        for labels in ("all", "without notes")
    ]
    found = [(one["trained_on"], one["tested_on"], one["labels"]) for one in elsewhere(lines)]
    assert found == [
        ("BCCD", "Barcelona", "all"),
        ("Barcelona", "BCCD", "all"),
        ("Barcelona", "BCCD", "without notes"),
    ]


def test_an_ingredient_is_the_mean_of_its_seeds():
    """A row a variant, by direction, of the pictures whose label nobody doubts."""
    lines = [
        answer("photos", "pbc", "without notes", 0.6, seed=0),
        answer("photos", "pbc", "without notes", 0.8, seed=1),
        answer("photos", "pbc", "all", 0.1),
        answer("pbc", "photos", "without notes", 0.9),
    ]
    (found,) = ingredients(lines)
    assert found == {
        "what": "all of it",
        "BCCD to Barcelona": pytest.approx(0.7),
        "Barcelona to BCCD": pytest.approx(0.9),
        "seeds": 2,
    }


def test_only_the_unseen_class_counts_and_only_valid_times():
    """Of the benchmarks' output the rows that the card needs."""
    row = {"score": "background, class unseen", "cells": {"share": 0.8}, "by_class": {"IG": 0.7}}
    assert unseen_unknown({"scores": [{"score": "energy"}, row]}) == {
        "kept": 0.95,
        "mean": 0.8,
        "by_class": {"IG": 0.7},
    }
    time = {"file": "x/a.tflite", "threads": 1, "invoke_ms": {"p50": 1.0}, "end_to_end_ms": {"p50": 2.0}}
    results = [{**time, "valid": True}, {**time, "valid": False, "threads": 2}]
    (found,) = latency({"machine": {"cpu": "made"}, "results": results})
    assert found["file"] == "a.tflite"
    assert found["rows"] == [{"machine": "made", "threads": 1, "invoke_ms": 1.0, "end_to_end_ms": 2.0}]


def test_the_commonest_mistake_is_told_of_each_direction():
    """In a sentence with both numbers, of the pictures whose label nobody doubts."""
    confusion = [[9, 1, 0, 0, 0], [0, 10, 0, 0, 0], [5, 0, 4, 0, 1], [0, 0, 2, 8, 0]]
    lines = [{**answer("photos", "pbc", labels, 0.5), "confusion": confusion} for labels in ("all", "without notes")]
    assert worst_mistakes(lines) == ["Trained on BCCD alone, 5 of 10 monocytes of Barcelona are called eosinophil."]
