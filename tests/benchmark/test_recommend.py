from __future__ import annotations

import numpy as np

from bloodcell_edge.benchmark.figures import BenchmarkedFile, Memory, Rates, Result, Start
from bloodcell_edge.benchmark.recommend import recommend


def result(name, ms, threads=1, *, size=1000, proven=True, why=()):
    """A case whose pictures all take so long."""
    model = BenchmarkedFile(name, "int8", "ab", size, 97.0 if proven else None, 780 if proven else None)
    times = np.tile([ms, 0.0, 0.0, 0.0], (5, 1))
    return Result(
        model, threads, "litert", "XNNPACK", times, times[:1, 0], Rates(1, 1), Start(1, 1, 1), Memory(1, 1), why
    )


def chosen(*results):
    found = recommend(results)
    return found.result.model.path, found.result.threads


def test_the_fastest_file_is_recommended_whatever_it_is_called():
    """Where float16 takes half the time of int8, it is float16, although the file is larger."""
    assert chosen(result("int8", 10.0), result("float16", 5.0, size=2000)) == ("float16", 1)


def test_more_threads_must_pay():
    """Two threads are used where they take 0.8 of the time, not where they take 0.95."""
    assert chosen(result("a", 10.0), result("a", 8.0, 2)) == ("a", 2)
    assert chosen(result("a", 10.0), result("a", 9.5, 2)) == ("a", 1)


def test_a_larger_file_must_pay():
    """Of two files that are about as fast the smaller is used, in whatever order they come."""
    assert chosen(result("large", 9.5, size=2000), result("small", 10.0)) == ("small", 1)


def test_what_parity_did_not_prove_is_not_recommended():
    """A file that is ten times as fast is not used before bce parity holds for it; the reason says so."""
    found = recommend([result("proven", 10.0), result("fast", 1.0, proven=False)])

    assert found.result.model.path == "proven"
    assert any("has not proven fast" in why for why in found.why)


def test_a_disturbed_measurement_is_not_believed():
    """A disturbed result is left out where there is another."""
    found = recommend([result("a", 10.0), result("a", 1.0, 2, why=("busy",))])

    assert found.result.threads == 1
    assert any("disturbed the measurement of a with 2 threads" in why for why in found.why)


def test_where_nothing_is_good_the_answer_says_careful():
    """With unproven, disturbed results only, one is recommended all the same, with both warnings."""
    answer = recommend([result("a", 10.0, proven=False, why=("busy",))]).as_json()

    assert (answer["file"], answer["threads"], answer["valid"]) == ("a", 1, False)
    assert answer["why"].count("careful") == 2
