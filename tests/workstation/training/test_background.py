"""The output for none of the classes: it takes from all labels alike, and turns away what is none of them."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest
from trained import convert_run, head_recipe, made_once, train_head

from bloodcell_edge.dataset.evaluation import evaluate_files
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.pooled import locate_pictures
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, load_split
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.model.choose import DEVICE_FILE
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.file import LABELS_FILE, read_model_file
from bloodcell_edge.records import UNIDENTIFIED
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.background import PRIOR, fit_background
from bloodcell_edge.training.kerasmodel import open_keras
from bloodcell_edge.training.stages import BACKGROUND_THRESHOLD
from convert.targets import Target

KNOWN = ("EOSINOPHIL", "LYMPHOCYTE", "NEUTROPHIL")


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def loss(weights, bias, inside, inside_logits, outside, outside_logits):
    """What `fit_background` makes least, but the penalty, written as the softmax that it says it is."""

    def chance(x, z):
        return softmax(np.column_stack([z, x @ weights + bias]))[:, -1]

    none = -np.log(chance(outside, outside_logits)).mean()
    return PRIOR * none - (1 - PRIOR) * np.log(1 - chance(inside, inside_logits)).mean()


@pytest.fixture
def clouds():
    """Embeddings of two classes and of others between them, with the logits of a head that knows the two."""
    rng = np.random.default_rng(3)
    inside = np.concatenate([rng.normal([2, 0, 0], 0.5, (80, 3)), rng.normal([-2, 0, 0], 0.5, (80, 3))])
    outside = rng.normal([0, 2, 0], 0.5, (20, 3))
    head = np.array([[3.0, -3.0], [0.0, 0.0], [0.0, 0.0]])
    return inside, inside @ head, outside, outside @ head


def test_tells_others_from_the_classes(clouds):
    """What lies beside the classes goes to the background, what lies in them does not."""
    inside, inside_logits, outside, outside_logits = clouds
    weights, bias = fit_background(*clouds)
    for x, z, expected in ((inside, inside_logits, 0.0), (outside, outside_logits, 1.0)):
        background = softmax(np.column_stack([z, x @ weights + bias]))[:, -1]
        assert np.mean((background > 0.5) == expected) > 0.97


def test_far_apart_is_fitted_too():
    """Where a full step of Newton's method goes much too far, what is found still tells the two sides apart."""
    rng = np.random.default_rng(4)
    inside, outside = rng.normal(0, 1, (300, 40)), rng.normal(0, 1, (60, 40)) + 3 * np.eye(40)[0]
    logits = [rng.normal((8.0, 0.0), 1, (n, 2)) for n in (300, 60)]
    weights, bias = fit_background(inside, logits[0], outside, logits[1])
    for x, z, background in ((inside, logits[0], False), (outside, logits[1], True)):
        taken = softmax(np.column_stack([z, x @ weights + bias]))[:, -1]
        assert np.mean((taken > 0.3) == background) > 0.9


def test_is_the_optimum(clouds):
    """No small step from what is found makes the loss less by more than the penalty's share."""
    weights, bias = fit_background(*clouds)
    least = loss(weights, bias, *clouds)
    rng = np.random.default_rng(5)
    for _ in range(50):
        away = rng.normal(0, 0.3, 4)
        assert loss(weights * 0.5 + away[:3], bias + away[3], *clouds) > least


def test_numbers_do_not_count(clouds):
    """The same few others ten times over change nothing: the sides are weighed by what is usual."""
    inside, inside_logits, outside, outside_logits = clouds
    once = fit_background(*clouds)
    often = fit_background(inside, inside_logits, np.tile(outside, (10, 1)), np.tile(outside_logits, (10, 1)))
    np.testing.assert_allclose(np.append(*often), np.append(*once), rtol=1e-5)


@pytest.fixture(scope="module")
def three(drawn_cells, drawn_backbone, tmp_path_factory):
    """A run on three drawn classes that learnt from the fourth what is none of them; converted.

    Its backbone knows all four apart, so that the features have an answer to find.
    """

    def make(folder):
        run = RunFolder(folder / "runs" / "three")
        recipe = head_recipe(drawn_backbone, view="cell", background=True)
        train_head(drawn_cells, run, recipe, labels=KNOWN, brief=True)
        convert_run(run, Target.INT8, allow_small=True)

    return RunFolder(made_once(tmp_path_factory, "background", make) / "runs" / "three")


def test_file_names_it_unidentified(three):
    """Other TFLite clients find a label for every output; our labels are the classes alone."""
    file = read_model_file(three.path / DEVICE_FILE)
    assert file.spec.background
    assert file.spec.labels == KNOWN
    assert file.spec.outputs == (*KNOWN, UNIDENTIFIED)
    with zipfile.ZipFile(file.path) as archive:
        assert archive.read(LABELS_FILE).decode().split() == [*KNOWN, UNIDENTIFIED]


def test_turns_others_away(three, drawn_cells):
    """Held-back drawings of the fourth class are rejected, of the three they are named; Keras and int8 alike."""
    held_back = {row.picture.file for row in load_split(three.unknown) if row.split == HELD_BACK}
    assert held_back
    data = load_data(drawn_cells, labels=KNOWN)
    for model in (open_keras(three.model), Classifier.open(three.path / DEVICE_FILE)):
        found = evaluate_files(model, data)  # leaves out what was trained on
        assert found.unknown["n"] == len(held_back)
        assert found.unknown["rejected"] >= 0.7 * len(held_back)
        assert found.evaluation.as_json()["coverage"] >= 0.7


def test_scores_lack_what_the_background_takes(three, drawn_cells):
    """Scores are of the labels alone and sum to less than 1, by much for a cell of none of them."""
    classifier = Classifier.open(three.path / DEVICE_FILE)
    data, others = load_data(drawn_cells, labels=KNOWN), load_split(three.unknown)
    view = classifier.spec.shown_as

    def sums(pictures):
        pooled = locate_pictures(pictures)
        shown = [view.show_labelled(read_image(one.path), pooled.located(one)) for one in pictures]
        return classifier.scores(np.stack([one.pixels for one in shown if one is not None])).sum(axis=1)

    known, strange = sums(data.pictures[::10]), sums([row.picture for row in others][::5])
    assert max(known.max(), strange.max()) <= 1.01
    assert np.median(known) > 0.8
    assert strange.mean() < known.mean() - 0.3


def test_metrics_say_how_many_were_rejected(three):
    """metrics.json has the held-back others, by what became of them."""
    unknown = json.loads(three.metrics.read_text())["heldback"]["unknown"]
    rows = [row for row in load_split(three.unknown) if row.split == HELD_BACK]
    assert unknown["n"] == len(rows)
    assert unknown["rejected"] == unknown["unidentified"] + unknown["no_cell"]
    assert open_keras(three.model).spec.reject_threshold == BACKGROUND_THRESHOLD


def test_training_others_count_as_seen(three, drawn_cells):
    """Pictures that taught the background are training pictures: evaluation leaves them out."""
    trained = [row.picture.file for row in load_split(three.unknown) if row.split == TRAIN]
    found = evaluate_files(open_keras(three.model), load_data(drawn_cells, labels=KNOWN))
    assert set(trained) <= set(found.seen)
