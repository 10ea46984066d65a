import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from bloodcell_edge.errors import NoPictures
from bloodcell_edge.statistics import metrics

LABELS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")

answers = st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), min_size=1, max_size=60)


def softmax_scores(rng, n, k=4):
    return rng.dirichlet(np.full(k, 0.5), n)


# Confusion


@given(answers)
def test_confusion_counts_every_picture_once(answers):
    """Each picture stands in the row of its truth and the column of its prediction, no cell in the last."""
    truth, predicted = np.array(answers).T
    confusion = metrics.confusion_matrix(truth, predicted, 4)
    assert confusion.shape == (4, 5)
    assert confusion.dtype == np.int64
    assert confusion.sum() == len(answers)
    for i in range(4):
        assert [confusion[i, j] for j in (0, 1, 2, 3, 4)] == [answers.count((i, j)) for j in (0, 1, 2, 3, -1)]


@given(answers)
def test_class_figures_are_the_textbook_ones(answers):
    """Precision, recall, F1 and specificity agree with counting, and are None just where there is nothing to count."""
    truth, predicted = np.array(answers).T
    figures = metrics.per_class(metrics.confusion_matrix(truth, predicted, 4), LABELS)
    for i, label in enumerate(LABELS):
        hits, n, called = ((truth == i) & (predicted == i)).sum(), (truth == i).sum(), (predicted == i).sum()
        found = figures[label]
        assert found.n == n
        assert found.precision == (hits / called if called else None)
        assert found.recall == (hits / n if n else None)
        assert found.specificity == ((predicted[truth != i] != i).mean() if n < len(truth) else None)
        assert (found.f1 is None) == (n == 0)
        if hits:
            harmonic = stats.hmean([found.precision, found.recall])
            assert found.f1 == pytest.approx(harmonic)
        elif n:
            assert found.f1 == 0.0


def test_balanced_accuracy_weighs_classes_alike_and_skips_absent_ones():
    """Nine right of ten and none of one give 0.45; a class without pictures does not count; no pictures give None."""
    confusion = np.array([[9, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    assert metrics.balanced_accuracy(confusion) == pytest.approx(0.45)
    assert metrics.balanced_accuracy(np.zeros((3, 4), np.int64)) is None


@pytest.mark.parametrize(
    ("truth", "predicted", "match"),
    [
        ([0, 4], [0, 0], r"truth: expected shape \(n,\) of 0..3"),
        ([-1], [0], "truth"),
        ([0], [4], "predicted: expected"),
        ([0], [-2], "predicted: expected"),
        ([0, 1], [0], "as many predictions"),
    ],
)
def test_confusion_refuses_numbers_that_are_no_label(truth, predicted, match):
    """Labels out of range and lengths that differ raise."""
    with pytest.raises(ValueError, match=match):
        metrics.confusion_matrix(np.array(truth), np.array(predicted), 4)


# Scores


def test_log_loss_is_the_mean_of_minus_log():
    """Two pictures with 0.8 and 0.5 on the truth, worked out by hand; 0 and 1 are clipped by 1e-7, as in Keras."""
    scores = np.array([[0.8, 0.2], [0.5, 0.5]])
    assert metrics.log_loss(np.array([0, 1]), scores) == pytest.approx(-(math.log(0.8) + math.log(0.5)) / 2)
    assert metrics.log_loss(np.array([1]), np.array([[1.0, 0.0]], np.float32)) == pytest.approx(-math.log(1e-7))
    assert metrics.log_loss(np.array([0]), np.array([[1.0, 0.0]])) == pytest.approx(1e-7, rel=1e-6)


def test_log_loss_of_nothing_is_an_error():
    """The mean of no pictures is undefined."""
    with pytest.raises(ValueError, match="at least one picture"):
        metrics.log_loss(np.array([], np.int64), np.empty((0, 4)))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("figure", [metrics.log_loss, metrics.calibration, lambda t, s: metrics.evaluate(t, s, LABELS)])
def test_scores_that_are_not_finite_raise(bad, figure):
    """One NaN or infinity among the scores raises and names the row: a gate must fail on it."""
    scores = np.full((5, 4), 0.25)
    scores[3, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite in 1 of 5 pictures, first in row 3"):
        figure(np.zeros(5, np.int64), scores)


@pytest.mark.parametrize("value", [-0.5, 3.0])
def test_logits_are_refused(value):
    """Scores outside 0..1 are not probabilities."""
    with pytest.raises(ValueError, match="logits"):
        metrics.log_loss(np.array([0]), np.array([[value, 0.5]]))


def test_ece_by_hand():
    """Four pictures in two bins: |0.9 - 0.5| on two and |0.6 - 1| on two make 0.4."""
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    found = metrics.calibration(np.array([0, 1, 0, 0]), scores)
    assert found.ece == pytest.approx(0.4)
    filled = [(bar.low, bar.n, bar.confidence, bar.accuracy) for bar in found.bins if bar.n]
    assert filled == [pytest.approx((8 / 15, 2, 0.6, 1.0)), pytest.approx((13 / 15, 2, 0.9, 0.5))]
    assert metrics.expected_calibration_error(np.array([0, 1, 0, 0]), scores) == found.ece


def test_bins_are_closed_above():
    """With four bins a score of exactly 0.5 belongs to (0.25, 0.5], and 1.0 to the last."""
    found = metrics.calibration(np.array([0, 0]), np.array([[0.5, 0.5], [1.0, 0.0]]), bins=4)
    assert [bar.n for bar in found.bins] == [0, 1, 0, 1]


def test_ece_of_a_calibrated_classifier_is_small():
    """Truth drawn from the scores themselves: ECE below 0.01 on 50,000 pictures; sharpened scores are caught."""
    rng = np.random.default_rng(3)
    scores = softmax_scores(rng, 50_000)
    truth = (rng.random((50_000, 1)) > scores.cumsum(axis=1)).sum(axis=1).clip(0, 3)
    assert metrics.expected_calibration_error(truth, scores) < 0.01
    sharp = scores**4 / (scores**4).sum(axis=1, keepdims=True)
    assert metrics.expected_calibration_error(truth, sharp) > 0.1


# All together


def example(rng, n=200):
    truth, scores = rng.integers(0, 4, n), softmax_scores(rng, n)
    return truth, scores, rng.random(n) < 0.1, rng.integers(0, 40, n).tolist()


def test_evaluation_has_the_keys_of_the_command():
    """The JSON holds every figure that CLI.md lists for evaluate, is strict JSON and survives a round trip."""
    truth, scores, no_cell, groups = example(np.random.default_rng(5))
    document = metrics.evaluate(truth, scores, LABELS, no_cell=no_cell, groups=groups).as_json()
    assert set(document) == {
        *("n", "loss", "accuracy", "accuracy_interval", "interval_method", "n_groups", "balanced_accuracy", "labels"),
        *("per_class", "confusion", "ece", "ece_bins", "coverage", "accuracy_covered", "no_cell", "recall_intervals"),
        *("coverage_all", "cut"),
    }
    assert list(document["per_class"]) == list(document["recall_intervals"]) == list(LABELS)
    assert list(document["per_class"]["MONOCYTE"]) == ["n", "precision", "recall", "f1", "specificity"]
    assert json.loads(json.dumps(document, allow_nan=False)) == document


def test_a_cut_cell_is_in_accuracy_and_not_in_coverage():
    """Of four right pictures one is cut, one touches, one scores low: coverage is 1 of 3, of all 1 of 4."""
    scores = np.array([[0.9, 0.1], [0.9, 0.1], [0.9, 0.1], [0.6, 0.4]])
    cut, marked = np.array([True, False, False, False]), np.array([True, True, False, False])
    found = metrics.evaluate(np.zeros(4, int), scores, ("A", "B"), marked=marked, cut=cut, reject_threshold=0.8)

    assert (found.n, found.accuracy, found.cut) == (4, 1.0, 1)
    assert (found.coverage, found.coverage_all) == (pytest.approx(1 / 3), 0.25)
    every = metrics.evaluate(np.zeros(4, int), scores, ("A", "B"), cut=np.ones(4, bool))
    assert (every.coverage, every.coverage_all, every.accuracy_covered, every.cut) == (0.0, 0.0, None, 4)


@given(st.integers(0, 10_000))
@settings(max_examples=25)
def test_evaluation_agrees_with_itself_and_does_not_see_the_order(seed):
    """Confusion sums to n, accuracy is its diagonal, intervals hold their figures, and shuffling changes nothing."""
    rng = np.random.default_rng(seed)
    truth, scores, no_cell, groups = example(rng, int(rng.integers(1, 200)))
    options = {"reject_threshold": 0.6}
    found = metrics.evaluate(truth, scores, LABELS, no_cell=no_cell, groups=groups, **options).as_json()
    confusion = np.array(found["confusion"])
    assert confusion.sum() == found["n"] == len(truth)
    assert found["accuracy"] == pytest.approx(np.trace(confusion) / len(truth))
    assert found["no_cell"] == confusion[:, 4].sum() == no_cell.sum()
    assert found["accuracy_interval"][0] <= found["accuracy"] <= found["accuracy_interval"][1]
    for label, figures in found["per_class"].items():
        interval = found["recall_intervals"][label]
        assert (interval is None) == (figures["n"] == 0)
        assert interval is None or interval[0] <= figures["recall"] <= interval[1]

    order = rng.permutation(len(truth))
    moved = {"no_cell": no_cell[order], "groups": [groups[i] for i in order]}
    again = metrics.evaluate(truth[order], scores[order], LABELS, **moved, **options).as_json()
    assert again["confusion"] == found["confusion"]
    for key in ("loss", "ece", "accuracy_interval", "coverage", "accuracy_covered"):
        assert again[key] == (None if found[key] is None else pytest.approx(found[key], abs=1e-9))


def test_a_picture_without_a_cell_is_wrong_and_not_covered():
    """Three pictures, one without a cell: accuracy 2/3, coverage 2/3; loss and ECE are those of the other two."""
    truth, scores = np.array([0, 1, 2]), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [math.nan] * 3])
    found = metrics.evaluate(truth, scores, "abc", no_cell=np.array([False, False, True]))
    assert (found.accuracy, found.coverage, found.accuracy_covered) == (pytest.approx(2 / 3), pytest.approx(2 / 3), 1.0)
    assert found.confusion == ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1))
    assert found.per_class["c"] == metrics.ClassFigures(n=1, precision=None, recall=0.0, f1=0.0, specificity=1.0)
    assert found.loss == metrics.log_loss(truth[:2], scores[:2])
    assert found.calibration.ece == metrics.expected_calibration_error(truth[:2], scores[:2])


def test_the_threshold_itself_is_covered():
    """A score equal to the threshold is kept, one below is not; accuracy still counts both."""
    scores = np.array([[0.75, 0.25], [0.7, 0.3]])
    found = metrics.evaluate(np.array([0, 1]), scores, "ab", reject_threshold=0.75)
    assert (found.coverage, found.accuracy_covered, found.accuracy) == (0.5, 1.0, 0.5)
    assert metrics.evaluate(np.array([0, 1]), scores, "ab").coverage == 1.0


def test_nothing_found_anywhere_gives_none_not_nan():
    """Without a single cell the loss, ECE and covered accuracy are null, accuracy and coverage 0."""
    found = metrics.evaluate(np.array([0, 1]), np.zeros((2, 2)), "ab", no_cell=np.ones(2, np.bool_)).as_json()
    assert (found["loss"], found["ece"], found["accuracy_covered"]) == (None, None, None)
    assert (found["accuracy"], found["coverage"], found["no_cell"]) == (0.0, 0.0, 2)


def test_evaluation_of_no_pictures_is_an_expected_error():
    """An empty set is an error of ours, and a ValueError."""
    with pytest.raises(NoPictures, match="at least one labelled picture"):
        metrics.evaluate(np.array([], np.int64), np.empty((0, 4)), LABELS)


def test_evaluation_refuses_scores_of_other_labels():
    """Three columns for four labels raise."""
    with pytest.raises(ValueError, match="expected 2 pictures x 4 labels"):
        metrics.evaluate(np.array([0, 1]), np.full((2, 3), 0.3), LABELS)
