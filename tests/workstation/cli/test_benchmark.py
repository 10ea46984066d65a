from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

from html_page import Page

MODEL = "model: runs/latest/bloodcell-int8.tflite (of the run folder runs/latest)"


def test_json_has_the_documented_keys(bce, own_colours):
    """--json: machine and a result for each file and thread count, with exactly the documented keys at least."""
    files = ("runs/latest/bloodcell-int8.tflite", "runs/latest/bloodcell-float16.tflite")

    result = bce("benchmark", *files, "--threads", "1,2", "--runs", "20", "--json")

    values = json.loads(result.stdout)
    assert result.returncode == 0, result.stderr
    assert set(values) >= {"machine", "results"}
    assert [(one["file"], one["threads"]) for one in values["results"]] == [(f, n) for f in files for n in (1, 2)]
    for one in values["results"]:
        assert set(one) >= set("file threads stages_ms end_to_end_ms invoke_ms images_per_s rss_mb valid why".split())
        assert set(one["stages_ms"]) == {"decode", "locate", "resize", "invoke"}
        for key in ("end_to_end_ms", "invoke_ms"):
            assert 0 < one[key]["p50"] <= one[key]["p95"] <= one[key]["p99"]
        assert one["valid"] is (one["why"] == "")


def test_a_table_and_which_model(bce, own_colours):
    """Without a model the int8 file of runs/latest is timed; a line each, below the machine."""
    result = bce("benchmark", "runs/latest", "--runs", "20")

    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert result.stderr.splitlines()[0] == MODEL
    assert " cores, " in lines[0]
    assert lines[0].endswith("(XNNPACK); milliseconds")
    assert lines[1].split()[:2] == ["file", "threads"]
    assert lines[2].split()[:2] == ["runs/latest/bloodcell-int8.tflite", "1"]


def test_compared_with_a_run_of_earlier(bce, own_colours, tmp_path):
    """--compare: exit 0 within the tolerance; exit 4 and a line where the reference was far faster, or slower."""
    measured = bce("benchmark", "runs/latest", "--runs", "20", "--json")
    values = json.loads(measured.stdout)
    verdicts = {}
    for name, factor in (("same", 1), ("slower", 1e-3), ("faster", 1e3)):
        scaled = json.loads(measured.stdout)
        for one in scaled["results"]:
            for part in ("invoke_ms", "end_to_end_ms"):
                one[part]["p50"] *= factor
        (tmp_path / f"{name}.json").write_text(json.dumps(scaled))
        tolerance = ("--tolerance", "100000") if name == "same" else ()
        done = bce("benchmark", "runs/latest", "--runs", "20", "--json", "--compare", f"{name}.json", *tolerance)
        verdicts[name] = done.returncode, json.loads(done.stdout)["comparison"]
        assert set(json.loads(done.stdout)) == {*values, "comparison"}
        if name != "same":
            assert done.stderr.splitlines()[-1].startswith("bce: gate: times differ by more than 30 %")

    assert [code for code, _ in verdicts.values()] == [0, 4, 4]
    assert [found["passed"] for _, found in verdicts.values()] == [True, False, False]
    assert {row["verdict"] for name, (_, found) in verdicts.items() for row in found["rows"] if name == "slower"} == {
        "slower"
    }


def test_a_bad_reference_is_told_before_anything_is_measured(bce, own_colours, tmp_path):
    """A reference that is missing, no benchmark, or of another machine: exit 1, one line, no model opened."""
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "elsewhere.json").write_text('{"machine": {"python_bits": 16}, "results": []}')

    for name in ("absent.json", "other.json", "elsewhere.json"):
        done = bce("benchmark", "runs/latest", "--compare", name)
        assert done.returncode == 1
        assert done.stderr.startswith(f"bce: error: {name}: ")
        assert len(done.stderr.splitlines()) == 1


def test_a_page_with_plots(bce, own_colours, tmp_path):
    """--html writes one page that fetches nothing; an existing file is replaced with --force only."""
    first = bce("benchmark", "runs/latest", "--runs", "20", "--html", "b.html")
    again = bce("benchmark", "runs/latest", "--runs", "20", "--html", "b.html")
    forced = bce("benchmark", "runs/latest", "--runs", "20", "--html", "b.html", "--force")
    page = Page((tmp_path / "b.html").read_text())

    assert [done.returncode for done in (first, again, forced)] == [0, 1, 0]
    assert first.stdout.splitlines()[-1] == "b.html"
    assert "b.html: exists already" in again.stderr
    assert len(page.named("svg")) >= 2
    assert page.fetched() == []


def test_what_to_use_here(bce, own_colours):
    """--recommend tries every file of the run folder with 1, 2 and 4 threads, and names one of those it measured."""
    done = bce("benchmark", "runs/latest", "--recommend", "--runs", "20", "--json")
    values = json.loads(done.stdout)
    cases = {(Path(one["file"]).name, one["threads"]) for one in values["results"]}
    told = values["recommendation"]
    counts = [count for count in (1, 2, 4) if count <= values["machine"]["cores_usable"]]

    assert done.returncode == 0
    assert cases == {(f"bloodcell-{name}.tflite", count) for name in ("int8", "float16") for count in counts}
    assert (Path(told["file"]).name, told["threads"]) in cases
    assert told["why"]


def test_pictures_of_the_user(bce, own_colours, colours):
    """--data times with the pictures given, a folder or a CSV that names them; a folder without one is an error."""
    pictures = colours.path.parents[1] / "pictures" / "MONOCYTE"
    table = own_colours.path / "some.csv"
    table.write_text("file,label\n" + "".join(f"{pictures / f'{number}.png'},MONOCYTE\n" for number in range(5)))

    named = bce("benchmark", "runs/latest", "--data", table, "--runs", "20", "--json")
    given = bce("benchmark", "runs/latest", "--data", pictures, "--runs", "20", "--json")
    empty = bce("benchmark", "runs/latest", "--data", own_colours.path / "no", "--runs", "20")

    assert json.loads(given.stdout)["pictures"]["size"] == [32, 32]
    assert json.loads(named.stdout)["pictures"]["n"] == 5
    assert empty.returncode == 1
    assert "no such file or folder" in empty.stderr


def test_an_interrupt_ends_it(own_colours, tmp_path):
    """SIGINT amid a long benchmark: exit 130 within seconds, no traceback."""
    script = Path(sys.executable).parent / "bce"
    with subprocess.Popen(
        [script, "benchmark", "runs/latest", "--runs", "10000000"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr.readline().strip() == MODEL  # its signals are set up, and it works
            process.send_signal(signal.SIGINT)
            _, stderr = process.communicate(timeout=60)
        finally:
            process.kill()

    assert process.returncode == 130
    assert stderr.split()[-2:] == ["bce:", "interrupted"]
    assert "Traceback" not in stderr
