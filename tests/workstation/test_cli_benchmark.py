from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

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
    assert "cores; milliseconds" in lines[0]
    assert lines[1].split()[:2] == ["file", "threads"]
    assert lines[2].split()[:2] == ["runs/latest/bloodcell-int8.tflite", "1"]


def test_pictures_of_the_user(bce, own_colours, colours):
    """--data times with the pictures given; a folder without one is an error."""
    pictures = colours.path.parents[1] / "pictures" / "MONOCYTE"

    given = bce("benchmark", "runs/latest", "--data", pictures, "--runs", "20", "--json")
    empty = bce("benchmark", "runs/latest", "--data", own_colours.path / "no", "--runs", "20")

    assert json.loads(given.stdout)["pictures"]["size"] == [32, 32]
    assert empty.returncode == 1
    assert "no such file or folder" in empty.stderr


def test_an_interrupt_ends_it(own_colours, tmp_path):
    """SIGINT amid a long benchmark: exit 130 within seconds, no traceback."""
    script = Path(sys.executable).parent / "bce"
    with subprocess.Popen(
        [script, "benchmark", "runs/latest", "--runs", "10000000"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr.readline().strip() == MODEL  # its signals are set up, and it works
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130
    assert stderr.split()[-2:] == ["bce:", "interrupted"]
    assert "Traceback" not in stderr
