from __future__ import annotations

import json
import re
from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.benchmark.compare import compare, load_reference, verdict
from bloodcell_edge.errors import DataError, MissingFile


def run(*cases, **machine):
    """A run of (file, threads, invoke p50, end to end p50)."""
    return {
        "machine": {"cpu": "x", "architecture": "y", **machine},
        "pictures": {"n": 3, "size": [480, 640]},
        "results": [
            {
                "file": file,
                "threads": threads,
                "model_sha256": "ab",
                "interpreter": "litert 1",
                "invoke_ms": {"p50": invoke},
                "end_to_end_ms": {"p50": whole},
                "valid": True,
                "why": "",
            }
            for file, threads, invoke, whole in cases
        ],
    }


REFERENCE = run(("a.tflite", 1, 1.0, 4.0), ("a.tflite", 2, 0.5, 3.0))


def test_the_same_run_passes():
    """A run compared with itself has ratio 1 everywhere and nothing to note."""
    found = compare(REFERENCE, REFERENCE, name="r.json")

    assert found.passed
    assert [(row.threads, row.what, row.ratio) for row in found.rows] == [
        (1, "invoke p50", 1.0),
        (1, "end to end p50", 1.0),
        (2, "invoke p50", 1.0),
        (2, "end to end p50", 1.0),
    ]
    assert found.notes == ()


@pytest.mark.parametrize(
    ("invoke", "whole", "verdicts"),
    [
        (1.31, 4.0, ["slower", "same"]),
        (1.29, 4.0, ["same", "same"]),
        (1.0, 5.3, ["same", "slower"]),
        (0.76, 3.0, ["faster", "faster"]),
        (0.78, 4.0, ["same", "same"]),
    ],
)
def test_slower_and_suspiciously_faster_do_not_pass(invoke, whole, verdicts):
    """With 30 %: 1.31 times is slower, 1 / 1.31 is suspiciously fast; either alone fails the whole."""
    found = compare(run(("a.tflite", 1, invoke, whole)), REFERENCE, name="r.json", tolerance=30)

    assert [row.verdict for row in found.rows] == verdicts
    assert found.passed == (set(verdicts) == {"same"})


@given(st.floats(0.01, 100), st.floats(0.1, 500))
def test_a_verdict_turns_round_with_the_runs(ratio, tolerance):
    """What is slower one way round is faster the other way round, for any ratio and tolerance."""
    turned = {"slower": "faster", "faster": "slower", "same": "same"}
    most = 1 + tolerance / 100
    if min(abs(ratio - most), abs(ratio - 1 / most)) > 1e-6:
        assert verdict(1 / ratio, tolerance) == turned[verdict(ratio, tolerance)]


def test_files_are_known_by_their_name_where_the_path_differs():
    """runs/b/a.tflite is compared with a.tflite; where two have that name, neither is taken."""
    moved = run(("runs/b/a.tflite", 1, 1.0, 4.0))
    two = run(("x/a.tflite", 1, 1.0, 4.0), ("y/a.tflite", 1, 1.0, 4.0))

    assert len(compare(moved, REFERENCE, name="r.json").rows) == 2
    with pytest.raises(DataError, match=r"r\.json: none of the files"):
        compare(moved, two, name="r.json")


def test_what_only_one_of_both_has_is_noted():
    """A case that is new and one that was not measured again are named."""
    found = compare(run(("a.tflite", 1, 1.0, 4.0), ("b.tflite", 1, 1.0, 4.0)), REFERENCE, name="r.json")

    assert found.notes == ("b.tflite, 1 threads: not in r.json", "a.tflite, 2 threads: in r.json only")


def test_two_files_of_one_name_now_are_not_both_that_of_the_reference():
    """runs/a/x.tflite and runs/b/x.tflite: neither is x.tflite of the reference, a third file is compared."""
    now = run(("runs/a/x.tflite", 1, 1.0, 4.0), ("runs/b/x.tflite", 1, 9.0, 9.0), ("y.tflite", 1, 1.0, 4.0))
    found = compare(now, run(("x.tflite", 1, 1.0, 4.0), ("y.tflite", 1, 1.0, 4.0)), name="r.json")

    assert {row.file for row in found.rows} == {"y.tflite"}
    assert found.passed


def test_other_pictures_of_the_same_size_are_noted():
    """The hash of the pictures differs: told, not refused; where one has none, nothing is said."""
    one, other = ({**REFERENCE, "pictures": {**REFERENCE["pictures"], "sha256": sha}} for sha in ("ab", "cd"))

    assert any("other pictures" in note for note in compare(one, other, name="r.json").notes)
    assert compare(one, REFERENCE, name="r.json").notes == ()


def test_doubts_are_noted_and_the_figures_judged_all_the_same():
    """Another model, another interpreter and a disturbed run are each told; a slow one still fails."""
    now = run(("a.tflite", 1, 9.0, 9.0))
    now["results"][0] |= {"model_sha256": "cd", "interpreter": "litert 2", "valid": False, "why": "busy"}
    found = compare(now, run(("a.tflite", 1, 1.0, 4.0)), name="r.json")

    assert not found.passed
    assert [bool(re.search(word, " ".join(found.notes))) for word in ("another model", "litert 2 now", "busy")] == [
        True
    ] * 3


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"machine": {"cpu": "other"}}, "another machine .cpu other, here x."),
        ({"pictures": {"n": 3, "size": [100, 200]}}, r"pictures of \[100, 200\], now of \[480, 640\]"),
    ],
)
def test_runs_under_other_circumstances_are_not_compared(change, said):
    """A reference of another processor or other pictures is refused; what it does not tell is not held against it."""
    with pytest.raises(DataError, match=said):
        compare(REFERENCE, {**REFERENCE, **change}, name="r.json")
    assert compare(REFERENCE, {**REFERENCE, "machine": {}}, name="r.json").passed


def test_a_reference_is_what_json_printed(tmp_path):
    """A file of an earlier run is read; a missing one, no JSON, other JSON and a time of 0 are errors that say so."""
    path = tmp_path / "r.json"
    with pytest.raises(MissingFile, match="no such reference; make one"):
        load_reference(path)
    path.write_text(json.dumps(REFERENCE))
    assert load_reference(path) == REFERENCE
    zero = deepcopy(REFERENCE)
    zero["results"][0]["invoke_ms"]["p50"] = 0
    for text in (
        "no json",
        "[]",
        '{"results": [{}], "machine": {}}',
        '{"results": [], "machine": 1}',
        '{"results": [], "machine": {}, "pictures": []}',
        json.dumps(zero),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=r"r\.json: expected what bce benchmark --json prints"):
            load_reference(path)


def test_the_comparison_is_json():
    """as_json has each row with its ratio, and whether it passed."""
    answer = json.loads(json.dumps(compare(REFERENCE, REFERENCE, name="r.json", tolerance=5).as_json()))

    assert (answer["reference"], answer["tolerance"], answer["passed"]) == ("r.json", 5, True)
    assert answer["rows"][0] == {
        "file": "a.tflite",
        "threads": 1,
        "what": "invoke p50",
        "reference_ms": 1.0,
        "now_ms": 1.0,
        "verdict": "same",
        "ratio": 1.0,
    }
