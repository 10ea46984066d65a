"""How temperature and reject threshold are chosen, and what they do to labelled pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.model.calibration import (
    LEAST_COVERAGE,
    NONE,
    choose_threshold,
    fit_temperature,
    rejection,
)
from bloodcell_edge.statistics.intervals import accuracy_interval
from bloodcell_edge.statistics.metrics import log_loss, softened


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
