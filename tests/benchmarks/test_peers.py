from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from environments import AbsentError, environment
from hypothesis import given
from hypothesis import strategies as st
from ratios import Measured, Target, agreement, as_json, losses, rows, text

from bloodcell_edge.imaging.drawn import LABELS, draw_folder
from bloodcell_edge.imaging.image import IMAGE_VERSION, read_image
from bloodcell_edge.model.spec import ModelSpec

PEERS = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"
OURS = {"crops": "ours"}
SAME = tuple("abcd" * 25)


def target(least, peer="theirs"):
    return Target(peer, "crops", "ours", "crops", least, f"{peer}, crops")


def measured(peer, *ms, labels=SAME):
    return Measured(peer, "crops", tuple(float(one) for one in ms), labels)


def row(theirs, *, least=1.0, labels=SAME):
    """Ours takes 1, 2 and 4 ms in three rounds."""
    pair = [measured("ours", 1, 2, 4), measured("theirs", *theirs, labels=labels)]
    return rows(pair, [target(least)], reference=OURS)[0]


# Arithmetic


def test_a_ratio_is_of_times_in_the_same_round():
    """Where a busy machine made both slow in the same round, the ratio is still 3; low and high span the rounds."""
    found = row((3, 6, 12))
    assert (found.ratio, found.low, found.high) == (3.0, 3.0, 3.0)

    found = row((2, 6, 16))
    assert found.ratio == 3.0
    assert (found.low, found.high) == pytest.approx((2.1, 3.9))
    assert (found.peer_ms, found.our_ms) == (6.0, 2.0)


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=20), st.floats(0.1, 10))
def test_a_ratio_does_not_depend_on_how_fast_the_machine_is(times, factor):
    """With all times multiplied by the same factor the ratio stays, and it lies between low and high."""

    def of(scale):
        pair = [measured("ours", *(a * scale for a, _ in times)), measured("theirs", *(b * scale for _, b in times))]
        return rows(pair, [target(1.0)], reference=OURS)[0]

    assert of(factor).ratio == pytest.approx(of(1.0).ratio, rel=1e-9)
    assert of(1.0).low <= of(1.0).ratio * (1 + 1e-12)
    assert of(1.0).ratio <= of(1.0).high * (1 + 1e-12)


@pytest.mark.parametrize(
    ("theirs", "least", "verdict"),
    [
        ((3, 6, 12), 2.0, "holds"),
        ((3, 6, 12), 4.0, "below the target"),
        ((0.5, 1, 2), 2.0, "we lose"),
        ((0.97, 1.94, 3.88), 1 / 1.05, "holds"),
        ((0.9, 1.8, 3.6), 1 / 1.05, "we lose"),
    ],
)
def test_verdicts(theirs, least, verdict):
    """A target is held or not; below 1 we lose, but where the target itself is a limit that nobody beats."""
    assert row(theirs, least=least).verdict == verdict


def test_labels_must_agree_before_a_time_counts():
    """At 98 of 100 equal labels a time counts, at 97 it does not, however fast."""
    assert row((9, 18, 36), labels=("x", "x", *SAME[2:])).verdict == "holds"
    found = row((9, 18, 36), labels=("x", "x", "x", *SAME[3:]))
    assert not found.counts
    assert found.verdict == "does not count: labels agree on 97.0 % only"


def test_agreement_of_a_peer_that_did_fewer_items():
    """Only the items that both did are compared; none at all is no agreement."""
    assert agreement("abcd", "ab") == 100.0
    assert agreement("abcd", "ax") == 50.0
    assert agreement("abcd", "") == 0.0


def test_what_was_not_measured_gives_no_row():
    """Without the peer there is nothing to compare; rounds that do not belong together are an error."""
    assert rows([measured("ours", 1)], [target(1.0)], reference=OURS) == []
    with pytest.raises(ValueError, match="theirs has 1 rounds, ours 2"):
        rows([measured("ours", 1, 2), measured("theirs", 1)], [target(1.0)], reference=OURS)


def test_the_report_says_where_we_lose_and_who_was_absent():
    """Rows that hold are in the table alone; the others, and absent peers with the reason, are listed below."""
    good, bad = row((3, 6, 12)), row((0.5, 1, 2))
    said = losses([good, bad], {"MediaPipe": "no wheel for this machine"})

    assert said == [
        "theirs, crops: 0.50 times, wanted at least 1.00: we lose",
        "MediaPipe: absent, no wheel for this machine",
    ]
    report = text([good, bad], {"MediaPipe": "no wheel for this machine"}, doubts=["busy"])
    assert report.count("| theirs, crops |") == 2
    assert "- MediaPipe: absent, no wheel" in report
    assert report.endswith("Do not quote these figures:\n- busy")
    assert "nowhere, this time" in text([good], {})


def test_rows_are_json():
    """as_json holds the figures, the target and the verdict in plain values."""
    (values,) = json.loads(json.dumps(as_json([row((3, 6, 12))])))
    assert (values["ratio"], values["verdict"], values["target"]["least"]) == (3.0, "holds", 1.0)


# Processes


FAKE = """
import sys
sys.path.insert(0, {peers!r})
from protocol import serve

def load(setup):
    print("a library that talks")
    if setup["model"] == "bad":
        raise ValueError("cannot read it")
    def crops(items):
        print("and talks")
        if setup["model"] == "dies":
            raise RuntimeError("no memory")
        return [setup["labels"][item % 2] for item in items]
    return {{"crops": crops}}

serve(load)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a peer that was written here."""
    import run

    monkeypatch.setattr(run, "HERE", tmp_path)
    (tmp_path / "fake.py").write_text(FAKE.format(peers=str(PEERS)))
    (tmp_path / "items.json").write_text("[0, 1, 2, 3]")
    setup = {
        "labels": ["even", "odd"],
        "cores": sorted(os.sched_getaffinity(0))[:1],
        "threads": 1,
        "size": [1, 1],
        "tasks": {"crops": str(tmp_path / "items.json")},
    }
    started = []

    def start(name, model="good", limit=100):
        started.append(run.start(run.Peer(name, "fake.py", limit=limit), Path(model), setup, tmp_path))
        return started[-1]

    yield start
    with run.ended(started):
        pass
    assert all(one.process.returncode == 0 for one in started)


def test_peers_take_turns_and_answer(start):
    """Two peers do every round but the first, one of them fewer items; what their libraries print does not disturb."""
    import run

    both = [start("ours"), start("theirs", limit=3)]
    failed = run.measure(both, 5)
    found = {one.peer: one for one in run.collected(both, failed)}

    assert failed == {}
    assert [len(one.ms) for one in found.values()] == [5, 5]
    assert found["ours"].labels == ("even", "odd", "even", "odd")
    assert found["theirs"].labels == found["ours"].labels
    assert {answer["items"] for answer in both[1].measured["crops"]} == {3}
    assert all(ms > 0 for one in found.values() for ms in one.ms)


def test_a_peer_that_fails_is_taken_out_with_the_reason(start):
    """One that does not open the model is absent from the start; one that fails amid a task, from then on."""
    import run

    with pytest.raises(AbsentError, match="ValueError: cannot read it"):
        start("unable", "bad")
    both = [start("ours"), start("theirs", "dies")]
    failed = run.measure(both, 3)

    assert failed == {"theirs": "crops: RuntimeError: no memory"}
    assert [one.peer for one in run.collected(both, failed)] == ["ours"]


def test_an_environment_that_cannot_be_made_says_why(tmp_path):
    """No such Python, and no such release of a package: AbsentError with what was said, nothing kept as done."""
    with pytest.raises(AbsentError, match="no-such-python"):
        environment(tmp_path, "x", ["numpy"], base=str(tmp_path / "no-such-python"))
    assert not list(tmp_path.rglob("done"))
    assert environment(tmp_path, "own", []) == Path(sys.executable)


# Inputs


def test_everybody_is_given_the_same(tmp_path):
    """Crops, crop files and fields show the same cells in the same order, all of them within their pictures."""
    import run

    pictures = draw_folder(tmp_path / "drawn", per_class=3, seed=5, size=(240, 320))
    spec = ModelSpec("x", LABELS, "cell", (64, 64), "int8", IMAGE_VERSION, crop_um=20.0)
    tasks = run.prepare(spec, pictures, tmp_path / "inputs")
    crops = np.load(tasks["crops"])
    files = json.loads(Path(tasks["crop files"]).read_text())
    fields = json.loads(Path(tasks["fields"]).read_text())

    windows = [(item["file"], window) for item in fields for window in item["windows"]]
    assert len(crops) == len(files) == len(windows) >= len(fields) > 0
    for (field, (x, y, width, height)), file in zip(windows, files, strict=True):
        np.testing.assert_array_equal(read_image(field)[y : y + height, x : x + width], read_image(file))
