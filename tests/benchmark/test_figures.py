from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.benchmark.figures import (
    BenchmarkedFile,
    Memory,
    Percentiles,
    Rates,
    Result,
    Start,
    disturbances,
    images_per_second,
    percentiles,
    quantiles,
    work_allowed,
)

STEADY = np.linspace(0.9, 1.3, 200)
QUIET = {"cores": 4, "other_work": 0.1, "faults": ()}


# Arithmetic


def test_percentiles_of_known_numbers():
    """Of 1..101 in any order the p-th percentile is p + 1."""
    values = np.random.default_rng(1).permutation(np.arange(1.0, 102.0))

    assert percentiles(values) == Percentiles(n=101, min=1.0, p50=51.0, p95=96.0, p99=100.0)


def test_percentiles_between_two_measurements_are_interpolated():
    """Of 10 and 20 the p-th percentile lies p percent of the way."""
    assert vars(percentiles(np.array([20.0, 10.0]))) == pytest.approx(
        {"n": 2, "min": 10.0, "p50": 15.0, "p95": 19.5, "p99": 19.9}
    )


@given(st.lists(st.floats(1e-3, 1e4), min_size=1, max_size=50))
def test_percentiles_are_ordered_and_within_the_measurements(values):
    """min <= p50 <= p95 <= p99 <= max, for any measurements (to rounding)."""
    found = percentiles(np.array(values))
    ordered = [min(values), found.min, found.p50, found.p95, found.p99, max(values)]

    assert all(a <= b * (1 + 1e-12) for a, b in pairwise(ordered))


def test_images_per_second_counts_slow_pictures_by_their_time():
    """Three pictures in 10, 10 and 30 ms are 60 a second: n over the sum, not one over the median."""
    assert images_per_second(np.array([10.0, 10.0, 30.0])) == pytest.approx(60.0)


def test_quantiles_go_from_the_fastest_to_the_slowest():
    """Of 0..200 the 101 quantiles are every second number."""
    assert quantiles(np.arange(201.0)) == [float(value) for value in range(0, 201, 2)]


def test_a_result_follows_from_its_times():
    """Stages are medians, end to end is the sum of a picture's stages, throughput comes from all of them."""
    times = np.array([[1.0, 0.0, 2.0, 3.0], [2.0, 0.0, 1.0, 5.0], [9.0, 0.0, 3.0, 4.0]])
    result = Result(
        BenchmarkedFile("a.tflite", "int8", "ab", 1000, None, None), 2, "litert 1", "XNNPACK",
        times, np.array([7.0, 5.0]),
        Rates(200.0, 150.0), Start(300.0, 60.0, 3), Memory(80.0, 70.0), ("busy", "hot"),
    ).as_json()  # fmt: skip

    assert result["stages_ms"] == {"decode": 2.0, "locate": 0.0, "resize": 2.0, "invoke": 4.0}
    assert (result["end_to_end_ms"]["min"], result["end_to_end_ms"]["p50"]) == (6.0, 8.0)
    assert (result["invoke_ms"]["min"], result["invoke_ms"]["p50"]) == (3.0, 4.0)
    assert result["images_per_s_one_by_one"] == pytest.approx(100.0)
    assert (result["images_per_s"], result["images_per_s_stored"]) == (200.0, 150.0)
    assert (result["rss_mb"], result["steady_mb"]) == (80.0, 70.0)
    assert (result["cold_start_ms"], result["load_ms"], result["starts"]) == (300.0, 60.0, 3)
    assert result["warm_up"] == {"n": 2, "first_ms": 7.0}
    assert (result["valid"], result["why"]) == (False, "busy; hot")
    assert result["quantiles_ms"]["end_to_end"][50] == 8.0


# Validity


def test_a_quiet_run_is_valid():
    """Nothing speaks against a steady run on a machine with cores to spare."""
    assert disturbances(STEADY, 1.0, 1, **QUIET) == ()


@pytest.mark.parametrize(
    ("invoke", "seconds", "threads", "circumstances", "reason"),
    [
        (STEADY, 1.0, 1, {"faults": ("throttled", "under-voltage")}, "slowed down: throttled, under-voltage"),
        (STEADY, 1.0, 8, {}, "8 threads on 4 cores"),
        (
            STEADY,
            1.0,
            1,
            {"other_work": 2.5},
            r"other programs kept 2.50 of 4 cores busy \(limit 1.00 with 1 threads\)",
        ),
        (STEADY, 1.0, 4, {"other_work": 0.5}, r"kept 0.50 of 4 cores busy \(limit 0.40"),
        (STEADY, 1.0, 1, {"clocks_mhz": (1800.0, 1500.0)}, r"fell from 1800 to 1500 MHz \(limit 90 %\)"),
        (np.array([1.0] * 180 + [1.6] * 20), 1.0, 1, {}, "invoke p95 is 1.60 times p50"),
        (STEADY[:199], 9.9, 1, {}, "199 runs in 9.9 s, expected at least 200 or 10 s"),
    ],
)
def test_each_disturbance_alone_is_told(invoke, seconds, threads, circumstances, reason):
    """Throttling, too many threads, other work, a wide spread and too few runs each give their one reason."""
    why = disturbances(invoke, seconds, threads, **{**QUIET, **circumstances})

    assert len(why) == 1
    assert re.search(reason, why[0])


def test_ten_seconds_are_enough_where_a_picture_takes_long():
    """20 runs that took 10 s are valid, and a clock that nobody knows or that rose is no fault."""
    assert disturbances(STEADY[::10], 10.0, 1, **QUIET) == ()
    assert disturbances(STEADY, 1.0, 1, **QUIET, clocks_mhz=(600.0, 1800.0)) == ()
    assert disturbances(STEADY, 1.0, 1, **QUIET, clocks_mhz=(1800.0, None)) == ()


def test_unknown_other_work_is_not_judged():
    """Where nobody knows what others did, the spread alone judges."""
    assert disturbances(STEADY, 1.0, 1, **{**QUIET, "other_work": None}) == ()


@pytest.mark.parametrize(
    ("threads", "cores", "expected"), [(1, 4, 1.0), (3, 4, 1.0), (4, 4, 0.4), (9, 4, 0.4), (1, 1, 0.1), (1, 2, 0.5)]
)
def test_other_work_may_take_what_the_threads_leave(threads, cores, expected):
    """Free cores and a tenth of all, at most a quarter of all."""
    assert work_allowed(threads, cores) == pytest.approx(expected)


def test_pictures_with_more_cells_are_no_disturbance():
    """Invoke of one, two and no cells in turns is steady by cell; without any cell nothing was measured."""
    cells = np.tile([1, 2, 0], len(STEADY) // 3 + 1)[: len(STEADY)]

    assert disturbances(STEADY * cells, 1.0, 1, **QUIET, cells=cells) == ()
    assert "p95" in disturbances(STEADY * np.maximum(cells, 1), 1.0, 1, **QUIET)[0]
    (why,) = disturbances(STEADY * 0, 1.0, 1, **QUIET, cells=cells * 0)
    assert "give others with --data" in why
