"""A run's report: every number of the JSON files, nothing unescaped, nothing to fetch."""

from __future__ import annotations

import base64
import json

import pytest
from html_page import Page

from bloodcell_edge.errors import DataError, MissingFile
from bloodcell_edge.files import sha256_file
from bloodcell_edge.model.file import pack
from bloodcell_edge.model.spec import INTENDED_USE, ModelSpec, save_spec
from bloodcell_edge.reports.training import DRAWN, run_report
from bloodcell_edge.runs import RunFolder

LABELS = ("EOSINOPHIL", "LYMPHOCYTE")
HOSTILE = 'a"><script>alert(1)</script>&amp;$title.png'
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

HELD_BACK = {
    "model": "runs/one/model.keras", "n": 417, "loss": 0.4321, "accuracy": 0.8731,
    "accuracy_interval": [0.8112, 0.9187], "interval_method": "korn-graubard by photograph", "n_groups": 93,
    "balanced_accuracy": 0.8644, "labels": list(LABELS),
    "per_class": {
        "EOSINOPHIL": {"n": 211, "precision": 0.8811, "recall": 0.8722, "f1": 0.8766, "specificity": 0.8833},
        "LYMPHOCYTE": {"n": 206, "precision": None, "recall": 0.8566, "f1": None, "specificity": 0.9044},
    },
    "recall_intervals": {"EOSINOPHIL": [0.7911, 0.9311], "LYMPHOCYTE": None},
    "confusion": [[184, 27, 0], [26, 180, 0]], "ece": 0.0613, "ece_bins": 15, "coverage": 0.9716,
    "accuracy_covered": 0.8877, "no_cell": 0,
}  # fmt: skip
LEAKY = {"validation_accuracy": 0.9653, "validation_loss": 0.1234, "n": 1991}
COUNTS = {"train": {"EOSINOPHIL": 801, "LYMPHOCYTE": 802}, "heldback": {"EOSINOPHIL": 211, "LYMPHOCYTE": 206}}
PHOTOGRAPHS = {"train": {"EOSINOPHIL": 171, "LYMPHOCYTE": 172}, "heldback": {"EOSINOPHIL": 47, "LYMPHOCYTE": 46}}
METRICS = {
    "heldback": HELD_BACK, "pictures": COUNTS, "photographs": PHOTOGRAPHS, "weights": "imagenet", "seconds": 90.0,
    "unreadable": [],
}  # fmt: skip
RECIPE = {"name": "field", "backbone": "mobilenet_v2", "alpha": 0.35, "seed": 7, "fine_tune": -1,
          "augmentation": {"zoom": 0.15, "flip": True}, "patience": None}  # fmt: skip
PARITY = {
    "passed": False, "n": 417, "n_groups": 93, "reference": {"file": "runs/one/model.keras", "accuracy": 87.31},
    "candidates": [
        {"file": "runs/one/bloodcell-int8.tflite", "target": "int8", "bytes": 9, "accuracy": 86.57,
         "accuracy_drop": 0.74, "worst_recall_drop": 1.37, "agreement": 97.64, "max_abs_diff": 0.2134,
         "mean_abs_diff": 0.0071, "mcnemar_p": 0.6291, "flipped": [HOSTILE], "passed": False,
         "why": "agreement 97.6 % is below 98.0 %"},
    ],
}  # fmt: skip
BENCHMARK = {
    "machine": {"model": "Raspberry Pi 4", "cpus": 4},
    "results": [
        {"file": "bloodcell-int8.tflite", "threads": 2,
         "stages_ms": {"decode": 3.11, "locate": None, "resize": 0.82, "invoke": 21.23},
         "end_to_end_ms": {"p50": 25.31, "p95": 27.42, "p99": 31.53},
         "invoke_ms": {"p50": 21.24, "p95": 22.35, "p99": 24.46},
         "images_per_s": 39.57, "rss_mb": 112.4, "valid": False, "why": "throttled"},
    ],
}  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A finished run folder without parity, benchmark, small files and plots."""
    return make_run(tmp_path / "one")


def make_run(path, *, drawn=False, **metrics):
    path.mkdir()
    run = RunFolder(path)
    put(run.metrics, {**METRICS, **metrics})
    put(run.config, {"recipe": RECIPE, "labels": LABELS, "data": "/pictures"})
    save_spec(run.spec, spec(drawn=drawn))
    return run


def spec(*, drawn=False, **values):
    return ModelSpec("one", LABELS, "frame", (96, 128), "keras", 1, training={"drawn": drawn}).with_(**values)


def put(path, value):
    path.write_text(json.dumps(value))


def test_held_back_figures_stand_with_n_interval_and_method(run):
    """Accuracy comes with n by picture and by photograph, its interval and how that was made."""
    rows = Page(run_report(run)).table("On pictures of photographs not trained on")

    assert rows["Pictures (n)"] == ["417"]
    assert rows["Photographs"] == ["93"]
    assert rows["Accuracy"] == ["87.3 %"]
    assert rows["95 % interval"] == ["81.1–91.9 %"]
    assert rows["Method of the interval"] == ["korn-graubard by photograph"]
    assert rows["Loss (cross-entropy)"] == ["0.432"]
    assert rows["Calibration error (15 bins)"] == ["6.1 %"]


def test_figures_of_each_class_have_n_and_what_is_undefined_is_a_dash(run):
    """A class's row is n, recall, interval, precision, F1, specificity; None is shown as a dash, not as a number."""
    rows = Page(run_report(run)).table("By class")

    assert rows["EOSINOPHIL"] == ["211", "87.2 %", "79.1–93.1 %", "88.1 %", "87.7 %", "88.3 %"]
    assert rows["LYMPHOCYTE"] == ["206", "85.7 %", "–", "–", "–", "90.4 %"]


def test_data_is_counted_by_picture_and_by_photograph(run):
    """Each class has pictures and photographs of each side that has any, and sums below."""
    rows = Page(run_report(run)).table("Pictures and the photographs")

    assert rows[""] == ["Training", "Held back"]
    assert rows["EOSINOPHIL"] == ["801", "171", "211", "47"]
    assert rows["Sum"] == ["1603", "343", "417", "93"]


def test_no_cell_has_a_column_only_where_there_was_one(tmp_path):
    """The confusion table ends with the last class, or with "no cell" where a picture had none."""
    counts = [[184, 20, 7], [26, 180, 0]]
    without = Page(run_report(make_run(tmp_path / "without"))).table("What the model said")
    held = {**HELD_BACK, "confusion": counts, "no_cell": 7}
    with_one = Page(run_report(make_run(tmp_path / "with", heldback=held))).table("What the model said")

    assert (without["True"], without["EOSINOPHIL"]) == (list(LABELS), ["184", "27"])
    assert (with_one["True"], with_one["EOSINOPHIL"]) == ([*LABELS, "no cell"], ["184", "20", "7"])


def test_leaky_figure_stands_beside_the_grouped_one_and_is_called_leaky(tmp_path):
    """Its column and its headline say leaky, and a sentence says why it is worth nothing."""
    page = Page(run_report(make_run(tmp_path / "one", leaky=LEAKY)))
    rows = page.table("The same recipe, measured twice")

    assert rows[""] == ["Held back, by photograph", "Leaky validation"]
    assert rows["Pictures (n)"] == ["417", "1991"]
    assert rows["Accuracy"] == ["87.3 %", "96.5 %"]
    assert rows["Loss (cross-entropy)"] == ["0.432", "0.123"]
    assert "Leaky validation accuracy" in page.text
    assert "says nothing about new photographs" in page.text


def test_nothing_is_called_leaky_where_nothing_leaks(run):
    """A run without a leaky figure does not speak of one."""
    assert "leaky" not in Page(run_report(run)).text.replace(str(run.path), "RUN").lower()


def test_parity_table_holds_the_gate_s_figures(run):
    """Agreement, drops, differences, p and the reason of a failure are those of parity.json."""
    put(run.parity, PARITY)
    page = Page(run_report(run))
    row = page.table("Each small file")["bloodcell-int8.tflite"]

    assert row == ["✗ failed", "97.6 %", "86.6 %", "0.74", "1.37", "0.213", "0.0071", "0.629"]
    assert "417 held-back pictures of 93 photographs" in page.text
    assert "agreement 97.6 % is below 98.0 %" in page.text
    assert "did not hold for bloodcell-int8.tflite" in page.text


def test_too_few_pictures_are_not_reported_as_a_failed_file(run):
    """A gate that failed although each file passed says that the pictures were too few."""
    put(run.parity, {**PARITY, "candidates": [{**PARITY["candidates"][0], "passed": True}]})
    text = Page(run_report(run)).text

    assert "417 pictures are too few to prove it" in text
    assert "did not hold" not in text


def test_benchmark_table_holds_the_measured_times(run):
    """Threads, validity, stages, percentiles, throughput and memory are those of benchmark.json, reasons included."""
    put(run.path / "benchmark.json", BENCHMARK)
    page = Page(run_report(run))

    times = ["3.11", "–", "0.82", "21.23", "25.31", "27.42", "31.53", "21.24", "22.35", "24.46"]
    assert page.table("Milliseconds")["bloodcell-int8.tflite"] == ["2", "✗ no", *times, "39.6", "112"]
    assert page.table("What it was measured on")["model"] == ["Raspberry Pi 4"]
    assert "bloodcell-int8.tflite, 2 threads: throttled" in page.text


def test_files_have_size_target_runtime_and_hash(run):
    """Each small file is listed with what it says of itself, its bytes and the SHA-256 that sha256sum gives."""
    small = run.path / "bloodcell-int8.tflite"
    small.write_bytes(pack(b"x" * 2_500_000, spec(target="int8", min_runtime="tflite-runtime 2.14.0")))
    run.model.write_bytes(b"k" * 1_000_000)
    page = Page(run_report(run))

    n_bytes = small.stat().st_size
    assert page.table("Model files")[small.name] == ["int8", str(n_bytes), "2.50 MB", "tflite-runtime 2.14.0"]
    assert page.table("SHA-256")[small.name] == [sha256_file(small)]
    assert page.table("SHA-256")["model.keras"] == [sha256_file(run.model)]


def test_a_damaged_small_file_is_reported_and_stops_nothing(run):
    """A .tflite whose hash does not fit is named as damaged, and the rest of the report is there."""
    (run.path / "bloodcell-int8.tflite").write_bytes(b"nothing of the kind")
    page = Page(run_report(run))

    assert page.table("Model files")["bloodcell-int8.tflite"][0] == "unknown"
    assert "expected a .tflite made by bce convert" in page.text
    assert "87.3 %" in page.text


def test_what_is_missing_is_said_with_the_command_that_makes_it(run):
    """Without small files, parity, benchmark and plots the page names the three commands."""
    text = Page(run_report(run)).text

    assert f"bce convert {run.path} && bce parity {run.path}" in text
    assert f"bce benchmark {run.path} --json > {run.path}/benchmark.json" in text
    assert "This run has no plots." in text


def test_plots_are_embedded_with_alternative_texts(run):
    """Each PNG of the folder is in the page byte for byte, the well-known ones first, each with a text."""
    run.plots.mkdir()
    for number, name in enumerate(("zoom.png", "mistakes.png", "curves.png", "a_plot.png")):
        (run.plots / name).write_bytes(PNG + bytes([number]))
    images = Page(run_report(run)).named("img")

    contents = [base64.b64decode(image["src"].removeprefix("data:image/png;base64,")) for image in images]
    assert contents == [PNG + bytes([number]) for number in (2, 1, 3, 0)]
    assert all(image["alt"] for image in images)


def test_a_hostile_file_name_stays_text(tmp_path):
    """Markup, entities and template signs in names are shown as they are and make no tag."""
    run = make_run(
        tmp_path / "<b>x & $y",
        unreadable=[{"file": HOSTILE, "error": "<img src=x>"}],
        weights="<i>w.h5 \udcff",
    )
    put(run.parity, PARITY)
    page = Page(run_report(run))

    assert not page.named("script") + page.named("img") + page.named("i") + page.named("b")
    assert f"{HOSTILE}: <img src=x>" in page.text
    assert "Training run <b>x & $y" in page.text
    assert page.table("The model, and")["Starting weights"] == ["<i>w.h5 ?"]


def test_page_needs_no_other_file(run):
    """No link, script, import or address: the page says the same on a machine without a network."""
    run.plots.mkdir()
    (run.plots / "curves.png").write_bytes(PNG)
    source = run_report(run)
    page = Page(source)

    assert not {"a", "link", "script", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    fetched = page.fetched()
    assert fetched
    assert all(address.startswith("data:") for address in fetched)
    assert not any(word in source for word in ("http://", "https://", "@import", "url("))


def test_tables_have_headers_that_a_screen_reader_announces(run):
    """Every header cell has a scope, every row a header, and every table a caption."""
    put(run.parity, PARITY)
    put(run.path / "benchmark.json", BENCHMARK)
    page = Page(run_report(run))

    assert {attributes.get("scope") for attributes in page.named("th")} == {"row", "col", "colgroup"}
    assert len(page.named("caption")) == len(page.named("table")) == len(page.tables)
    assert page.named("html") == [{"lang": "en"}]


def test_drawn_pictures_are_called_drawn_before_any_figure(tmp_path):
    """The sentence stands above the first number of a run on drawn pictures, and in no other report."""
    drawn = Page(run_report(make_run(tmp_path / "drawn", drawn=True))).text
    real = Page(run_report(make_run(tmp_path / "real"))).text

    assert 0 < drawn.index(DRAWN) < drawn.index("87.3 %")
    assert DRAWN not in real
    assert INTENDED_USE in drawn
    assert INTENDED_USE in real


def test_recipe_is_shown_whole(run):
    """Each setting of recipe.json is a row, special values in words."""
    rows = Page(run_report(run)).table("Every setting")

    assert rows["Recipe"] == ["field"]
    assert rows["Width of the backbone (alpha)"] == ["0.35"]
    assert rows["Backbone blocks fine-tuned"] == ["all"]
    assert rows["Augmentation"] == ["zoom 0.15, flip yes"]
    assert rows["Patience of early stopping, in epochs"] == ["–"]
    assert len(rows) == len(RECIPE) + 1  # the header


@pytest.mark.parametrize("name", ["metrics.json", "recipe.json", "spec.json"])
def test_an_unfinished_run_is_refused(run, name):
    """A folder without one of the files that training writes says which, and what to do."""
    (run.path / name).unlink()

    with pytest.raises(MissingFile, match=rf"no {name} here, expected a finished run folder; run bce train DATA"):
        run_report(run)


@pytest.mark.parametrize(
    ("content", "said"), [("{", r"parity\.json: not JSON"), ('{"passed": true}', r"lacks 'candidates'")]
)
def test_a_broken_file_is_named(run, content, said):
    """JSON that cannot be parsed or lacks a key is an expected error that names it, not a crash."""
    run.parity.write_text(content)

    with pytest.raises(DataError, match=said):
        run_report(run)
