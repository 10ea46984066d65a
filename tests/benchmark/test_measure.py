from __future__ import annotations

import json
import warnings
from collections import Counter
from contextlib import nullcontext
from itertools import count, pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.benchmark import measure as module
from bloodcell_edge.benchmark.apart import live
from bloodcell_edge.benchmark.figures import STAGES
from bloodcell_edge.benchmark.measure import benchmark, default_pictures, passes, rate, schedule, spread
from bloodcell_edge.errors import BceError, DataError, MissingFile, NoPictures, SpecError
from bloodcell_edge.imaging.drawn import LABELS
from bloodcell_edge.imaging.image import IMAGE_VERSION, read_image
from bloodcell_edge.model.file import pack
from bloodcell_edge.model.spec import ModelSpec
from bloodcell_edge.progress import Silent


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.said, self.progress = [], []

    def say(self, text):
        self.said.append(text)

    def bar(self, title):  # noqa: ARG002
        return nullcontext(lambda done, total: self.progress.append((done, total)))


@pytest.fixture(scope="module")
def flatbuffer():
    """A real float32 TFLite of a few kB: 64 x 48 RGB in, four probabilities out."""
    tensorflow = pytest.importorskip("tensorflow")
    keras = pytest.importorskip("keras")
    net = keras.Sequential([
        keras.Input((64, 48, 3)),
        keras.layers.Rescaling(1 / 127.5, -1),
        keras.layers.Conv2D(8, 3, strides=2, activation="relu"),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(len(LABELS), activation="softmax"),
    ])  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tensorflow.lite.TFLiteConverter.from_keras_model(net).convert()


@pytest.fixture
def write(flatbuffer, tmp_path):
    """Write the model under a name, with changes of its spec."""

    def write(name, **changes):
        spec = ModelSpec("tiny", LABELS, "frame", (64, 48), "float32", IMAGE_VERSION)
        path = tmp_path / name
        path.write_bytes(pack(flatbuffer, spec.with_(**changes)))
        return path

    return write


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return default_pictures(tmp_path_factory.mktemp("drawn"), 3)


# Time


def test_times_are_milliseconds_of_the_clock(write, pictures, monkeypatch):
    """With a clock that goes on by a second at each look, every stage takes 1000 ms and a picture 3 s."""
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=count(0.0, 1.0).__next__))
    result = benchmark([write("a.tflite")], pictures, runs=3).results[0]

    assert result.times_ms.tolist() == [[1000.0, 0.0, 1000.0, 1000.0]] * 3
    assert result.as_json()["images_per_s_one_by_one"] == pytest.approx(1 / 3)
    assert (result.rates.folder, result.rates.stored) == (3.0, 3.0)


# Order


@given(cases=st.integers(1, 6), pictures=st.integers(1, 7), runs=st.integers(1, 20), warm_up=st.integers(0, 5))
def test_every_case_takes_the_same_picture_once_a_round(cases, pictures, runs, warm_up):
    """A round has one picture and each case once; rounds are numbered, and go through the pictures in turn."""
    rounds = list(schedule(cases, pictures, runs, warm_up=warm_up))

    assert [one.number for one in rounds] == list(range(-warm_up, runs))
    assert all(sorted(one.cases) == list(range(cases)) for one in rounds)
    assert [one.picture for one in rounds if one.number >= 0] == [number % pictures for number in range(runs)]


def test_no_case_keeps_its_place_or_its_neighbour():
    """Over 200 rounds of 4 cases each is first about as often, and each pair follows one another about as often."""
    rounds = list(schedule(4, 16, 200))
    first = Counter(one.cases[0] for one in rounds)
    follows = Counter(pair for one in rounds for pair in pairwise(one.cases))

    assert all(30 <= first[case] <= 80 for case in range(4))
    assert len(follows) == 12
    assert all(30 <= count <= 80 for count in follows.values())


def test_the_order_is_the_same_every_time():
    """Two runs of the same cases take turns alike, so that they can be compared."""
    assert list(schedule(3, 5, 50)) == list(schedule(3, 5, 50))


def test_pictures_are_spread_over_the_whole_list():
    """Of 12 pictures in class order 4 are taken from each third; fewer than asked for are all taken."""
    assert spread(list("aaabbbcccddd"), 4) == list("abcd")
    assert spread(list("ab"), 4) == list("ab")
    assert spread([], 4) == []


def test_a_folder_is_gone_through_until_there_are_runs_enough():
    """200 runs of 64 pictures are 4 passes; of few runs 2 passes are made all the same."""
    assert passes(64, 200) == 4
    assert passes(16, 20) == 2
    assert passes(64, 1) == 2


def test_a_rate_is_all_pictures_over_all_time():
    """Two passes of 30 pictures in 1 s and 2 s are 20 a second, not the mean of 30 and 15."""
    assert rate([1.0, 2.0], 30) == pytest.approx(20.0)


def test_without_a_number_of_runs_the_time_ends_it(write, pictures, monkeypatch):
    """With a clock that goes on by a second at each look, a case is not run 200 times but until 10 s are over."""
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=count(0.0, 1.0).__next__))
    monkeypatch.setattr(module, "STARTS", 1)
    result = benchmark([write("a.tflite")], pictures).results[0]

    assert len(result.times_ms) == 4  # of 3 s each
    assert not any("expected at least" in why for why in result.why)
    assert len(result.warm_up_ms) == module.WARM_UP_ROUNDS


def test_a_throttled_machine_makes_every_result_invalid(write, pictures, tmp_path, monkeypatch):
    """A vcgencmd that reports throttling is believed: machine and results say so."""
    program = tmp_path / "vcgencmd"
    program.write_text("#!/bin/sh\necho throttled=0x40004\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = benchmark([write("a.tflite")], pictures, runs=2).as_json()

    assert answer["machine"]["throttled"] == ["throttled now", "throttled since start"]
    assert answer["machine"]["throttled_during"] == ["throttled"]
    assert answer["results"][0]["valid"] is False
    assert answer["results"][0]["why"].startswith("the processor was slowed down: throttled; ")


# The whole


def test_a_report_holds_what_was_measured(write, pictures):
    """Two files with two thread counts give four results, every stage measured, with the keys of the command's JSON."""
    models = [write("a.tflite"), write("b.tflite", target="float16")]
    report = benchmark(models, pictures, threads=(1, 2), runs=5)
    answer = json.loads(json.dumps(report.as_json(), allow_nan=False))

    assert set(answer) >= {"machine", "results"}
    assert {key: answer["pictures"][key] for key in ("n", "size")} == {"n": 3, "size": [480, 640]}
    assert len(answer["pictures"]["sha256"]) == 64
    assert answer["machine"]["cores"] >= 1
    assert "other_work_cores" in answer["machine"]
    assert set(answer["machine"]["after"]) == {"clock_mhz", "temperature_c", "throttled", "load"}
    assert [(result["file"], result["threads"], result["target"]) for result in answer["results"]] == [
        (str(models[0]), 1, "float32"),
        (str(models[0]), 2, "float32"),
        (str(models[1]), 1, "float16"),
        (str(models[1]), 2, "float16"),
    ]
    for result in answer["results"]:
        assert set(result) >= set(
            "file threads stages_ms end_to_end_ms invoke_ms images_per_s rss_mb valid why interpreter n".split()
        )
        assert tuple(result["stages_ms"]) == STAGES
        assert result["stages_ms"].pop("locate") == 0.0
        assert min(result["stages_ms"].values()) > 0
        assert set(result["end_to_end_ms"]) == set(result["invoke_ms"]) == {"n", "min", "p50", "p95", "p99"}
        assert result["end_to_end_ms"]["min"] > result["invoke_ms"]["min"] > 0
        assert result["images_per_s"] > 0
        assert result["images_per_s_stored"] > 0
        assert result["cold_start_ms"] > result["load_ms"] > 0
        assert result["rss_mb"] >= result["steady_mb"] > 0
        assert result["delegate"] == "XNNPACK"
        assert result["warm_up"]["n"] == 10
        assert set(result["stages"]) == set(STAGES)
        assert result["n"] == 5
        assert result["valid"] is False
        assert "5 runs" in result["why"]


def test_memory_is_that_of_a_small_process_of_its_own(write, pictures):
    """Neither TensorFlow nor 500 MB held by the one who measures are in a file's memory; numpy and OpenCV are."""
    ballast = np.ones(500_000_000, np.uint8)
    result = benchmark([write("a.tflite")], pictures, runs=1).results[0]

    assert 20 < result.memory.steady <= result.memory.peak < ballast.nbytes / 1e6


def test_the_same_case_is_measured_once(write, pictures):
    """A file or a thread count given twice gives one result."""
    path = write("a.tflite")

    assert len(benchmark([path, path], pictures, threads=(1, 1), runs=1).results) == 1


def test_progress_is_told_a_round_at_a_time(write, pictures):
    """The bar moves from 1 to runs, not within a round."""
    listener = Listener()
    benchmark([write("a.tflite"), write("b.tflite")], pictures, runs=3, report=listener)

    assert listener.progress == [(1, 3), (2, 3), (3, 3)]


def test_drawn_pictures_are_camera_sized_and_of_every_cell(tmp_path):
    """default_pictures(6) writes 6 different readable 640 x 480 JPEGs, all four cells among them, alike each time."""
    once, again = default_pictures(tmp_path / "a", 6), default_pictures(tmp_path / "b", 6)

    assert len({path.read_bytes() for path in once}) == 6
    assert {path.parent.name for path in once} == set(LABELS)
    assert {read_image(path).shape for path in once} == {(480, 640, 3)}
    assert [path.read_bytes() for path in once] == [path.read_bytes() for path in again]


# What cannot be measured


def test_a_damaged_picture_is_left_out_and_told(write, pictures, tmp_path):
    """One unreadable picture is named to the reporter; the others are measured."""
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8 no picture")
    listener = Listener()
    report = benchmark([write("a.tflite")], [bad, *pictures], runs=4, report=listener)

    assert report.pictures["n"] == 3
    assert len(listener.said) == 1
    assert str(bad) in listener.said[0]


def test_no_readable_picture_is_an_error(write, tmp_path):
    """Without any picture, or with none that can be read, nothing is measured."""
    model = write("a.tflite")
    with pytest.raises(NoPictures, match="no pictures"):
        benchmark([model], [])
    with pytest.raises(NoPictures, match="none of 1 pictures"):
        benchmark([model], [tmp_path / "absent.jpg"])


def test_models_must_be_given_and_be_there(pictures, tmp_path):
    """No model, a file that is not there and a file that is no model are told apart."""
    with pytest.raises(MissingFile, match="no model to measure"):
        benchmark([], pictures)
    with pytest.raises(MissingFile, match=r"absent\.tflite"):
        benchmark([tmp_path / "absent.tflite"], pictures)
    with pytest.raises(SpecError, match=r"\.jpg"):
        benchmark(pictures[:1], pictures)


def test_a_model_of_single_cells_is_measured_with_the_locator(write, pictures):
    """With view "cell" looking for cells is a stage of its own, of every picture."""
    result = benchmark([write("cell.tflite", view="cell", crop_um=20.0)], pictures, runs=20).results[0]
    assert (result.times_ms > 0).all()
    assert result.times_ms.shape == (20, len(STAGES))


@pytest.mark.parametrize("asked", [{"runs": 0}, {"threads": ()}, {"threads": (1, 0)}])
def test_at_least_one_run_and_one_thread(asked, pictures, tmp_path):
    """Zero runs or threads are refused before any file is opened."""
    with pytest.raises(DataError, match="at least 1 run"):
        benchmark([tmp_path / "absent.tflite"], pictures, **asked)


def test_a_model_that_only_fails_alone_is_an_error_with_its_message(pictures, tmp_path):
    """When the process that runs a model ends badly, its last line is in the error."""
    with pytest.raises(BceError, match=r"ended with 1 .*no such model file"):
        live(tmp_path / "absent.tflite", 1, pictures)
