"""Counts, exact intervals, and shares corrected for the model's own mistakes: checked by simulation."""

from __future__ import annotations

import json
import re
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from bloodcell_edge.slide import differential as module
from bloodcell_edge.slide.differential import LOINC, Differential, corrected_shares, differential, most_likely_shares
from bloodcell_edge.slide.sampling import Weighed

LABELS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")

# Rows true, columns called: right on 81 % of the cells of a normal smear, mostly by calling neutrophils eosinophils.
CHANCES = np.array(
    [[0.82, 0.04, 0.04, 0.10], [0.025, 0.86, 0.085, 0.03], [0.03, 0.13, 0.76, 0.08], [0.085, 0.04, 0.075, 0.80]]
)
NORMAL = np.array([0.03, 0.30, 0.07, 0.60])


def confusion(tests):
    """A whole confusion matrix with the last column, no cell, empty."""
    return np.hstack([tests, np.zeros((len(tests), 1), tests.dtype)]).tolist()


def simulate(rng, shares, cells, tests):
    """Calls of so many cells by label, and the calls of a test with so many cells of each class."""
    called = rng.multinomial(cells, shares @ CHANCES)
    return called, np.stack([rng.multinomial(tests, row) for row in CHANCES])


def counted(called, tests=None, **options) -> Differential:
    figures = None if tests is None else {"confusion": confusion(tests)}
    counts = dict(zip(LABELS, map(int, called), strict=True))
    return differential(counts, labels=LABELS, figures=figures, **options)


# Counts and exact intervals


def test_shares_are_of_identified_cells_with_exact_intervals():
    """Percentages are of identified cells alone, with scipy's Clopper-Pearson interval; UNIDENTIFIED has its own."""
    found = counted([6, 60, 14, 120], unidentified=25)

    assert (found.identified, found.unidentified) == (200, 25)
    for label, k, n, share in (
        ("EOSINOPHIL", 6, 200, found.shares["EOSINOPHIL"]),
        ("NEUTROPHIL", 120, 200, found.shares["NEUTROPHIL"]),
        ("UNIDENTIFIED", 25, 225, found.unidentified_share),
    ):
        exact = stats.binomtest(k, n).proportion_ci(0.95, method="exact")
        assert (share.percent, share.low, share.high) == pytest.approx(
            (100 * k / n, 100 * exact.low, 100 * exact.high)
        ), label


@pytest.mark.parametrize(("cells", "sufficient"), [(100, True), (199, True), (200, True), (201, False), (400, False)])
def test_too_few_cells_give_no_percentage(cells, sufficient):
    """Below the number asked for, JSON has null and says "insufficient cells" with both numbers; counts stay."""
    found = counted([6, 60, 14, 120], cells=cells).as_json()

    assert found["sufficient"] is sufficient
    assert (found["shares"]["MONOCYTE"]["percent"] is not None) is sufficient
    assert found["shares"]["MONOCYTE"]["n"] == 14
    assert found["status"] == ("ok" if sufficient else f"insufficient cells: 200 identified, {cells} asked for")


def test_200_cells_are_asked_for_unless_said_otherwise():
    """The default minimum is 200."""
    assert not counted([50, 50, 50, 49]).sufficient
    assert counted([50, 50, 50, 50]).sufficient


def test_nothing_counted_is_no_share():
    """Without a cell there is no percentage and no interval, and JSON is valid."""
    found = json.loads(json.dumps(counted([0, 0, 0, 0], np.eye(4)).as_json(), allow_nan=False))

    assert found["identified"] == 0
    assert found["shares"]["EOSINOPHIL"] == {
        "n": 0,
        "percent": None,
        "interval": None,
        "corrected": None,
        "related_code": found["shares"]["EOSINOPHIL"]["related_code"],
    }
    assert found["unidentified"]["interval"] is None
    assert found["correction"] == {"applied": False, "why": "nothing counted"}


@pytest.mark.parametrize("counts", [{"BASOPHIL": 3}, {"MONOCYTE": -1}])
def test_counts_of_what_is_no_label_are_refused(counts):
    """A class that the model does not have, or a count below 0, is an error, not a silent loss."""
    with pytest.raises(ValueError, match="expected numbers from 0 of EOSINOPHIL"):
        differential(counts, labels=LABELS)


def test_a_model_of_whole_pictures_counts_pictures():
    """The denominator is named, and says pictures where the model does not look at cells."""
    assert counted([1, 1, 1, 1]).denominator == (
        "identified cells of the labels EOSINOPHIL, LYMPHOCYTE, MONOCYTE, NEUTROPHIL; "
        "UNIDENTIFIED and other cells are not in it"
    )
    assert counted([1, 1, 1, 1], unit="pictures").denominator.startswith("identified pictures of the labels")


def test_what_is_not_evaluated_stands_beside_the_count():
    """It is in no share; its number, and an earlier rule where the slide has one, are told."""
    found = counted([6, 60, 14, 120], unidentified=25, not_evaluated=30, earlier_rule="as it was")
    assert found.as_json()["not_evaluated"] == {"n": 30, "reason": "edge", "earlier_rule": "as it was"}
    assert found.unidentified_share.percent == pytest.approx(100 * 25 / 225)


def test_without_places_cells_weigh_the_same():
    """A correction of counts alone says that nothing is weighed, and why; weights of one size change no share."""
    plain = counted([6, 60, 14, 120], 50 * np.eye(4, dtype=int))
    even = Weighed(dict(zip(LABELS, (12.0, 120.0, 28.0, 240.0), strict=True)), 200.0)
    weighed = counted([6, 60, 14, 120], 50 * np.eye(4, dtype=int), weighed=even)

    assert plain.as_json()["correction"]["why_unweighed"] == "it is not known where the cells lie"
    assert plain.correction.weighing.endswith("all cells weigh the same, since it is not known where the cells lie")
    assert weighed.correction.shares == plain.correction.shares
    assert weighed.as_json()["correction"]["weighed_by_size"] is True


# Codes


def test_codes_are_of_the_manual_differential_and_valid():
    """Each code has LOINC's check digit (modulo 10, as in credit cards) and a name that says manual count in blood."""
    for label, related in LOINC.items():
        number, check = re.fullmatch(r"(\d+)-(\d)", related.code).groups()
        doubled = int("".join(str(2 * int(digit)) if k % 2 == 0 else digit for k, digit in enumerate(reversed(number))))
        assert (sum(map(int, str(doubled))) + int(check)) % 10 == 0, related
        assert related.display.endswith("/Leukocytes in Blood by Manual count")
        assert related.display.upper().startswith(label)
    assert {LOINC[label].code for label in LABELS} == {"714-6", "737-7", "744-3", "23761-0"}


# Correction


def test_an_81_percent_classifier_is_seen_through(monkeypatch):
    """3 % eosinophils are reported as 8.8 %: the plain interval almost never holds the truth, the corrected one does.

    400 simulated slides of 400 cells, each with its own test of 100 cells a class.
    """
    monkeypatch.setattr(module, "DRAWS", 1000)
    rng = np.random.default_rng(5)
    plain, corrected, estimates, reported = [], [], [], []
    for _ in range(400):
        found = counted(*simulate(rng, NORMAL, 400, 100))
        share, true = found.shares["EOSINOPHIL"], found.correction.shares["EOSINOPHIL"]
        plain.append(share.low <= 3.0 <= share.high)
        corrected.append(true.low <= 3.0 <= true.high)
        estimates.append(true.percent)
        reported.append(share.percent)

    assert np.trace(CHANCES * NORMAL[:, None]) == pytest.approx(0.816, abs=0.005)
    assert np.mean(reported) == pytest.approx(8.8, abs=0.2)
    assert np.mean(plain) < 0.10
    assert np.mean(corrected) > 0.92
    assert np.mean(estimates) == pytest.approx(3.2, abs=0.6)


@pytest.mark.parametrize(
    ("shares", "cells", "tests"),
    [
        (NORMAL, 200, 20),
        (NORMAL, 100, 5000),
        (np.array([0.0, 0.3, 0.05, 0.65]), 200, 50),
        (np.array([0.25, 0.25, 0.25, 0.25]), 1000, 200),
    ],
    ids="few-tests few-cells no-eosinophil even".split(),
)
def test_corrected_intervals_hold_the_truth(monkeypatch, shares, cells, tests):
    """In 400 simulated slides the 95 % intervals of every class hold its true share in at least 91 %."""
    monkeypatch.setattr(module, "DRAWS", 500)
    rng = np.random.default_rng(6)
    held = []
    for _ in range(400):
        called, tested = simulate(rng, shares, cells, tests)
        found = corrected_shares(called.astype(float), tested.astype(float))
        held.append([one.low - 1e-9 <= 100 * p <= one.high + 1e-9 for one, p in zip(found, shares, strict=True)])
    assert np.mean(held, axis=0).min() >= 0.91, np.mean(held, axis=0)


def test_the_corrected_interval_is_wider():
    """With mistakes to take out, and with few tests even more, the interval grows; many tests leave it wider still."""
    called = np.round(400 * NORMAL @ CHANCES).astype(int)

    def width(share):
        return share.high - share.low

    few, many = (counted(called, np.round(n * CHANCES).astype(int)) for n in (30, 5000))
    for label in LABELS:
        assert width(few.correction.shares[label]) > width(many.correction.shares[label]) > width(many.shares[label])


def test_a_perfect_classifier_is_not_corrected():
    """Where the tests had no mistake the corrected share is the share, and its interval is not narrower."""
    found = counted([6, 60, 14, 120], 50 * np.eye(4, dtype=int))
    for label in LABELS:
        share, corrected = found.shares[label], found.correction.shares[label]
        assert corrected.percent == pytest.approx(share.percent)
        assert corrected.low <= share.percent <= corrected.high
    assert found.correction.shares["LYMPHOCYTE"].high > found.shares["LYMPHOCYTE"].high


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 300), min_size=4, max_size=4).filter(any),
    st.lists(st.lists(st.integers(0, 50), min_size=4, max_size=4).filter(any), min_size=4, max_size=4),
)
def test_the_estimate_is_the_most_likely_one(called, tests):
    """Whatever was counted and tested, the estimate is a distribution, and none that scipy finds is likelier."""
    called, tests = np.array(called, float), np.array(tests, float)
    found = most_likely_shares(called, tests)
    assert found.sum() == pytest.approx(1.0)
    assert found.min() >= 0.0
    filled = tests + np.diag(np.where(tests.any(axis=0), 0.0, 0.5))
    chances = filled / filled.sum(axis=1, keepdims=True)

    def loss(shares):
        return -called @ np.log(np.maximum(shares @ chances, 1e-300)) / called.sum()

    best = min(
        (
            optimize.minimize(
                loss,
                start,
                bounds=[(0, 1)] * 4,
                constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
                method="SLSQP",
            )
            for start in (np.full(4, 0.25), found)
        ),
        key=lambda result: result.fun,
    )
    feasible = np.maximum(best.x, 0.0) / np.maximum(best.x, 0.0).sum()
    assert loss(found) <= loss(feasible) + 1e-4


def test_estimates_lie_in_their_intervals_and_sum_to_100():
    """However odd the counts, 0 <= low <= percent <= high <= 100, and the percentages sum to 100."""
    rng = np.random.default_rng(7)
    for _ in range(60):
        called = rng.integers(0, 40, 4) + np.array([0.0, 0.0, 0.0, 1.0])
        tests = rng.integers(0, 30, (4, 4)).astype(float) + np.eye(4)
        found = corrected_shares(called, tests)
        assert sum(share.percent for share in found) == pytest.approx(100.0)
        for share in found:
            assert 0.0 <= share.low <= share.percent <= share.high <= 100.0


def test_the_same_counts_give_the_same_numbers():
    """The simulation is seeded: a report can be repeated."""
    called, tests = simulate(np.random.default_rng(8), NORMAL, 200, 50)
    assert counted(called, tests).as_json() == counted(called, tests).as_json()


def test_another_seed_moves_the_ends_little(monkeypatch):
    """Another seed moves the ends of an interval by a few percent of its width: 0.08 at most over 10 seeds."""
    called, tests = simulate(np.random.default_rng(9), NORMAL, 200, 50)
    found = []
    for seed in range(10):
        monkeypatch.setattr(module, "SEED", seed)
        found.append([(share.low, share.high) for share in corrected_shares(called.astype(float), tests.astype(float))])
    ends = np.array(found)
    widths = (ends[..., 1] - ends[..., 0]).mean(axis=0)
    assert (np.ptp(ends, axis=0).max(axis=1) / widths).max() < 0.08


def test_several_test_pictures_of_a_photograph_count_as_one():
    """Where 4,000 test pictures show 80 photographs, the interval is that of 80 test cells."""
    called, tests = np.array([35, 110, 45, 210]), np.round(1000 * CHANCES).astype(int)
    counts = dict(zip(LABELS, called.tolist(), strict=True))
    grouped = differential(counts, labels=LABELS, figures={"confusion": confusion(tests), "n_groups": 80})
    alone = counted(called, tests)
    few = corrected_shares(called.astype(float), tests * 80 / tests.sum())

    assert astuple(grouped.correction.shares["EOSINOPHIL"]) == pytest.approx(astuple(few[0]))
    assert few[0].high > alone.correction.shares["EOSINOPHIL"].high
    assert grouped.correction.test_groups == 80
    assert alone.correction.test_groups is None
    assert dict(grouped.correction.test_cells) == dict(zip(LABELS, tests.sum(axis=1).tolist(), strict=True))


def test_pictures_without_a_cell_are_no_mistake_of_a_class():
    """Tests in which no cell was found are left out: shares are of found cells."""
    tests = np.round(200 * CHANCES).astype(int)
    lost = np.hstack([tests, [[50], [0], [20], [0]]]).tolist()
    called = [35, 110, 45, 210]
    counts = dict(zip(LABELS, called, strict=True))

    found = differential(counts, labels=LABELS, figures={"confusion": lost})
    assert found.correction == counted(called, tests).correction


@pytest.mark.parametrize(
    ("figures", "why"),
    [
        (None, "the model brings no confusion matrix"),
        ({}, "the model brings no confusion matrix"),
        ({"confusion": [[1, 0, 0], [0, 1, 0]]}, r"has shape \(2, 3\) for 4 labels"),
        ({"confusion": confusion(np.diag([5, 0, 5, 0]))}, "was not tested on LYMPHOCYTE, NEUTROPHIL"),
    ],
    ids="none empty shape untested".split(),
)
def test_no_correction_says_why(figures, why):
    """Without a usable confusion matrix the plain shares stand alone, and JSON says why."""
    found = differential({"NEUTROPHIL": 300}, labels=LABELS, figures=figures)

    assert found.correction is None
    assert re.search(why, found.as_json()["correction"]["why"])
    assert found.as_json()["shares"]["NEUTROPHIL"]["corrected"] is None
    assert found.as_json()["shares"]["NEUTROPHIL"]["percent"] == 100.0


def test_json_names_denominators_methods_and_codes():
    """JSON says what every share is of, how its interval was made, and the related code; it has no NaN."""
    called, tests = simulate(np.random.default_rng(1), NORMAL, 300, 100)
    found = json.loads(json.dumps(counted(called, tests, unidentified=4).as_json(), allow_nan=False))

    assert found["interval_method"] == "clopper-pearson"
    assert found["level"] == 0.95
    assert found["correction"]["applied"]
    assert "top label" in found["correction"]["denominator"]
    assert found["unidentified"]["denominator"] == "all counted cells"
    share = found["shares"]["MONOCYTE"]
    assert share["related_code"]["system"] == "http://loinc.org"
    assert share["corrected"]["interval"][0] <= share["corrected"]["percent"] <= share["corrected"]["interval"][1]
