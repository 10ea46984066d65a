from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bloodcell_edge.model.file import read_model_file

MODEL = "model: runs/latest/model.keras (the latest run)\n"


def inside(folder):
    """Everything in a folder, hidden files too: name -> bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_int8_and_float16_of_the_latest_run(bce, own_colours):
    """Through the installed script: two files beside the model, JSON alone on stdout, lines of progress on stderr."""
    for path in own_colours.tflite_files():
        path.unlink()

    result = bce("convert", "--json", timeout=300)

    values = json.loads(result.stdout)
    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith(f"{MODEL}calibrating: ")
    assert result.stderr.endswith("converting to int8\nconverting to float16\n")
    assert values["model"] == "runs/latest/model.keras"
    assert [one["target"] for one in values["files"]] == ["int8", "float16"]
    for one in values["files"]:
        path = own_colours.path / f"bloodcell-{one['target']}.tflite"
        assert one["file"] == f"runs/latest/{path.name}"
        assert set(one) == {"file", "target", "bytes", "min_runtime"}
        assert one["bytes"] == path.stat().st_size
        assert one["min_runtime"] == read_model_file(path).spec.min_runtime


def test_targets_by_flag(bce_here, own_colours, tmp_path):
    """Flags choose the targets, --out the folder; a table says what was made."""
    result = bce_here("convert", "runs/latest", "--float32", "--dynamic", "--out", tmp_path / "device")

    assert result.returncode == 0, result.stderr
    assert sorted(inside(tmp_path / "device")) == ["bloodcell-dynamic.tflite", "bloodcell-float32.tflite"]
    rows = [line.split() for line in result.stdout.splitlines()]
    assert rows[0] == ["file", "target", "bytes", "oldest", "runtime"]
    assert [row[1] for row in rows[1:]] == ["float32", "dynamic"]


def test_existing_files_need_force(bce_here, own_colours):
    """Converting again is refused and changes nothing; with --force the file asked for is made anew, no other."""
    before = inside(own_colours.path)

    again = bce_here("convert", "--int8")
    assert again.returncode == 1
    assert "bloodcell-int8.tflite: exists already; give --force to replace it, or another place" in again.stderr
    assert inside(own_colours.path) == before

    assert bce_here("convert", "--int8", "--force").returncode == 0
    changed = {name for name, data in inside(own_colours.path).items() if data != before[name]}
    assert changed == {"bloodcell-int8.tflite"}


def bare_model(run, folder):
    """The Keras file alone, in a folder without a spec or a split."""
    folder.mkdir()
    return shutil.copy(run.model, folder / "mine.keras")


def test_a_bare_keras_file(bce_here, own_colours, colours, tmp_path):
    """A .keras alone needs --labels and --view, and --representative for int8; then the labels are in the file."""
    bare = bare_model(own_colours, tmp_path / "bare")
    labels = ("--labels", "eosinophil,lymphocyte,monocyte,neutrophil", "--view", "frame")
    data = colours.path.parents[1] / "pictures"

    without = bce_here("convert", bare)
    unknown = bce_here("convert", bare, *labels)
    whole = bce_here("convert", bare, *labels, "--representative", data)

    assert (without.returncode, unknown.returncode, whole.returncode) == (1, 1, 0)
    assert "a bare .keras needs --labels and --view" in without.stderr
    assert "give --representative" in unknown.stderr
    spec = read_model_file(tmp_path / "bare" / "bloodcell-int8.tflite").spec
    assert spec.labels == ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
    assert len(spec.representative) == 200


def test_a_float_file_of_a_bare_keras_needs_no_pictures(bce_here, own_colours, tmp_path):
    """float16 alone needs neither a split nor --representative."""
    bare = bare_model(own_colours, tmp_path / "bare")

    result = bce_here("convert", bare, "--float16", "--labels", "A,B,C,D", "--view", "frame")

    assert result.returncode == 0, result.stderr


def test_labels_that_contradict_the_spec(bce_here, own_colours, tmp_path):
    """--labels beside a spec.json that says otherwise is an error, not silently ignored; so is a wrong number."""
    other = bce_here("convert", "--labels", "A,B,C,D", "--float16", "--force")
    few = bce_here("convert", bare_model(own_colours, tmp_path / "bare"), "--labels", "A,B", "--view", "frame")

    assert (other.returncode, few.returncode) == (1, 1)
    assert "--labels A,B,C,D, but its spec.json says EOSINOPHIL,LYMPHOCYTE,MONOCYTE,NEUTROPHIL" in other.stderr
    assert "expected height, width, channels, outputs" in few.stderr


def test_too_few_pictures_need_insisting(bce_here, own_colours, colours, tmp_path):
    """One class alone is refused, with what to do; --allow-small insists."""
    source = colours.path.parents[1] / "pictures" / "MONOCYTE"
    shutil.copytree(source, tmp_path / "few" / "MONOCYTE")
    command = ("convert", "--int8", "--representative", tmp_path / "few", "--out", tmp_path / "out")

    refused, insisted = bce_here(*command), bce_here(*command, "--allow-small")

    assert (refused.returncode, insisted.returncode) == (1, 0)
    assert "found no picture of EOSINOPHIL, LYMPHOCYTE, NEUTROPHIL; give more pictures with --repr" in refused.stderr
    assert not (tmp_path / "few" / "out").exists()
    assert "left out of the representative dataset: 50 held-back pictures" in insisted.stderr
    assert len(read_model_file(tmp_path / "out" / "bloodcell-int8.tflite").spec.representative) == 30


@pytest.mark.parametrize("name", ["bloodcell-int8.tflite", "spec.json"])
def test_what_is_no_keras_model(bce_here, own_colours, name):
    """A .tflite or another file in place of a .keras is an error of one line."""
    result = bce_here("convert", own_colours.path / name, "--out", own_colours.path / "out")

    assert (result.returncode, result.stdout) == (1, "")
    assert f"{name}: not a Keras model that can be opened" in result.stderr
    assert result.stderr.count("\n") == 2


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)], ids=["SIGINT", "SIGKILL"])
def test_stopped_midway_nothing_changes(own_colours, tmp_path, number, code):
    """Stopped while it converts, by a key or without mercy, the old files stand and no half-written one is there."""
    before = inside(own_colours.path)
    script = Path(sys.executable).parent / "bce"
    with subprocess.Popen(
        [script, "convert", "--force"], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while "converting to int8" not in (line := process.stderr.readline()):
            assert line, "it ended too early"
        process.send_signal(number)
        _, stderr = process.communicate(timeout=120)

    assert process.returncode == code
    assert inside(own_colours.path) == before
    if number is signal.SIGINT:
        assert stderr.split()[-2:] == ["bce:", "interrupted"]
