"""A script gets what the commands give: the same files byte by byte, the same figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import bloodcell_edge
from bloodcell_edge.files import write_bytes
from bloodcell_edge.model.file import read_model_file
from bloodcell_edge.model.spec import load_spec
from bloodcell_edge.runs import RunFolder

RUN = "runs/colours"


@pytest.fixture
def two_places(own_colours, tmp_path):
    """Two folders, each with the same trained run in it, not converted yet."""
    for file in own_colours.tflite_files():
        file.unlink()
    for name in ("by command", "by script"):
        shutil.copytree(tmp_path / "runs", tmp_path / name / "runs", symlinks=True)
    return tmp_path / "by command", tmp_path / "by script"


def made(place: Path) -> dict[str, bytes]:
    """What converting and proving wrote, by name."""
    files = [*RunFolder(place / RUN).tflite_files(), RunFolder(place / RUN).parity]
    return {file.name: file.read_bytes() for file in files}


def test_a_script_makes_the_files_of_the_commands(two_places, bce_here, monkeypatch):
    """convert and prove write the very bytes of `bce convert` and `bce parity`: calibrated, proven, report and all."""
    commanded, scripted = two_places
    for command in ("convert", "parity"):
        result = bce_here(command, RUN, cwd=commanded)
        assert result.returncode == 0, result.stderr
    monkeypatch.chdir(scripted)
    files = bloodcell_edge.convert(RUN)
    found = bloodcell_edge.prove(RUN)

    assert [one.file.name for one in files] == ["bloodcell-int8.tflite", "bloodcell-float16.tflite"]
    assert found.passed
    assert made(scripted) == made(commanded)
    spec = read_model_file(files[0].file).spec
    assert spec.reject_threshold is not None
    assert spec.figures["calibration"]["temperature"] == spec.temperature
    assert spec.parity["n"] == found.n == 200


def test_a_script_s_figures_are_those_of_the_command(own_run, drawn, bce_here, monkeypatch, tmp_path):
    """evaluate leaves out what the run has seen, turned copies included, as `bce evaluate` does."""
    result = bce_here("evaluate", "runs/tiny", drawn, "--json")
    monkeypatch.chdir(tmp_path)

    found = bloodcell_edge.evaluate(drawn, "runs/tiny")

    assert found.as_json("runs/tiny/bloodcell-int8.tflite") == json.loads(result.stdout)
    assert found.seen


def test_a_keras_model_is_judged_too(own_colours, colours):
    """A .keras path opens with TensorFlow, a .tflite without, and both say the same of clear pictures."""
    data = colours.path.parents[1] / "pictures"
    both = [bloodcell_edge.evaluate(data, own_colours.path / name) for name in ("model.keras", "bloodcell-int8.tflite")]

    assert [one.evaluation.accuracy for one in both] == [1.0, 1.0]


def test_train_fills_the_folder_that_is_named(own_colours, colours, tmp_path, monkeypatch):
    """With `out` a script trains wherever it likes, and runs/latest stays; test_fit.py has the folder in runs/."""
    monkeypatch.chdir(tmp_path)
    latest = (tmp_path / "runs" / "latest").resolve()
    for path in (colours.path.parents[1] / "pictures").glob("*/[0-9].png"):
        write_bytes(tmp_path / "few" / path.parent.name / path.name, path.read_bytes())

    run = bloodcell_edge.train(
        "few", "field", out="anywhere", weights="none", fine_tune=0, alpha=0.35, size=32, epochs=1
    )

    assert run == Path("anywhere")
    assert load_spec(RunFolder(run).spec).figures["n"] == 8
    assert (tmp_path / "runs" / "latest").resolve() == latest
