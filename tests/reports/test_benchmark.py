from __future__ import annotations

import numpy as np
import pytest
from html_page import Page

from bloodcell_edge.benchmark.compare import compare
from bloodcell_edge.benchmark.figures import BenchmarkedFile, BenchmarkReport, Memory, Rates, Result, Start
from bloodcell_edge.benchmark.recommend import recommend
from bloodcell_edge.reports.benchmark import benchmark_page


def result(name, threads, ms, *, accuracy=None, why=()):
    """A case with 200 pictures around so many ms of invoke."""
    model = BenchmarkedFile(f"runs/<x>/{name}", name, "ab", 2_500_000, accuracy, accuracy and 780)
    times = np.tile([1.2, 2.2, 0.2, ms], (200, 1)) * np.linspace(0.9, 1.3, 200)[:, np.newaxis]
    memory = Memory(81.4, None)
    return Result(
        model, threads, "litert 2", "XNNPACK", times, times[:3, 0], Rates(229.4, 148.0), Start(259, 57, 3), memory, why
    )


@pytest.fixture
def report():
    results = (
        result("int8.tflite", 1, 1.0, accuracy=97.4),
        result("int8.tflite", 2, 0.7, accuracy=97.4, why=("busy & hot",)),
        result("float16.tflite", 1, 2.6),
    )
    machine = {"cpu": "Cortex-A76", "features": ["asimddp"], "governor": None, "after": {"temperature_c": 61.835}}
    return BenchmarkReport(machine, {"n": 64, "size": [480, 640]}, results)


def test_the_page_shows_every_figure_and_the_machine(report):
    """Figures of each case, rates, memory and the machine stand in tables; nothing is fetched, nothing is markup."""
    source = benchmark_page(report.as_json())
    page = Page(source)

    assert page.fetched() == []
    assert "<script" not in source
    assert "<x>" not in source
    rows = next(rows for caption, rows in page.tables.items() if caption.startswith("Milliseconds: start"))
    assert [row[:2] for row in rows[2:]] == [
        ["<x>/int8.tflite", "1"],
        ["<x>/int8.tflite", "2"],
        ["<x>/float16.tflite", "1"],
    ]
    assert page.table("Pictures a second")["<x>/float16.tflite"][1:3] == ["229.4", "148.0"]
    told = page.table("What it was measured on")
    assert told["cpu"] == ["Cortex-A76"]
    assert told["features"] == ["asimddp"]
    assert told["governor"] == ["not told here"]
    assert told["temperature c, after"] == ["61.84"]


def test_the_page_has_the_three_plots(report):
    """Distribution (a line a case), threads (two lines a file), and accuracy (a dot for each file that has one)."""
    page = Page(benchmark_page(report.as_json()))

    assert len(page.named("svg")) == 3
    assert len(page.named("polyline")) == 3 + 2 * 2
    assert len(page.named("circle")) == 2 * 3 + 2 * 2  # a mark of each point, and in the legend of those without lines
    assert "Accuracy not known before bce parity holds: <x>/float16.tflite" in page.text


def test_disturbed_results_are_named_first(report):
    """What disturbed a case stands in a section of its own; where nothing did, there is none."""
    assert "<x>/int8.tflite, 2 threads: busy & hot" in Page(benchmark_page(report.as_json())).text
    quiet = BenchmarkReport(report.machine, report.pictures, report.results[:1])
    assert "Do not quote" not in Page(benchmark_page(quiet.as_json())).text


def test_drawn_pictures_are_said_to_be_drawn(report):
    """The notice stands at the top where the pictures were drawn, and only there."""
    assert "that a program drew" in Page(benchmark_page(report.as_json(), drawn=True)).text
    assert "that a program drew" not in Page(benchmark_page(report.as_json())).text


def test_recommendation_and_comparison_are_shown(report):
    """With both, the page says what to use and what differs."""
    values = report.as_json()
    slow = report.as_json()
    for one in slow["results"]:
        one["invoke_ms"] = {"p50": 10 * one["invoke_ms"]["p50"]}
    values["recommendation"] = recommend(report.results).as_json()
    values["comparison"] = compare(values, slow, name="r.json").as_json()
    page = Page(benchmark_page(values))

    assert "runs/<x>/int8.tflite with --threads 1." in page.text
    assert "differs by more than 30 % from r.json" in page.text
    assert page.table("Against r.json")["<x>/float16.tflite"][-1] == "same"
