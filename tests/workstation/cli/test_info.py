from __future__ import annotations

import json
import shutil

import pytest

from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.image import encode_jpeg
from bloodcell_edge.model.file import pack, read_model_file
from bloodcell_edge.model.locator import shipped_locator, told
from bloodcell_edge.model.spec import load_spec


def test_a_file_s_card(bce, own_run):
    """Of a .tflite: name, labels, input, runtime, data, figures, parity, golden samples, hash; a line each."""
    spec = read_model_file(own_run.path / "bloodcell-int8.tflite").spec

    result = bce("info", own_run.path / "bloodcell-int8.tflite")

    card = {line[:16].strip(): line[17:] for line in result.stdout.splitlines()}
    assert (result.returncode, result.stderr) == (0, f"model: {own_run.path}/bloodcell-int8.tflite (given)\n")
    assert card["name"] == "tiny, int8"
    assert card["labels"] == ", ".join(spec.labels)
    assert card["input"] == "64 x 64 RGB 0..255, view frame"
    assert card["oldest runtime"] == f"TFLite {spec.min_runtime}"
    assert card["trained on"] == "drawn pictures; its figures say nothing about blood"
    assert f"n = {spec.figures['n']}, before conversion" in card["held back"]
    assert card["parity"] == "not proven; run bce parity"
    assert card["golden samples"].startswith(str(len(spec.golden)))
    assert card["sha256"] == spec.sha256
    assert "not for diagnosis" in card["intended use"]


@pytest.mark.parametrize(
    ("argument", "file", "why"),
    [
        (("runs/latest",), "runs/latest/bloodcell-int8.tflite", "of the run folder runs/latest"),
        (("runs/tiny",), "runs/tiny/bloodcell-int8.tflite", "of the run folder runs/tiny"),
        (("runs/tiny/model.keras",), "runs/tiny/model.keras", "given"),
    ],
    ids=["latest", "run folder", "keras"],
)
def test_which_model(bce, own_run, argument, file, why):
    """Of a run folder its int8 file, also by the link to the latest; a .keras by its spec.json."""
    result = bce("info", *argument, "--json")

    values = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (0, f"model: {file} ({why})\n")
    assert values["model"] == file
    assert values["bytes"] == (own_run.path.parents[1] / file).stat().st_size
    assert values["labels"] == list(load_spec(own_run.spec).labels)
    assert values["target"] == ("keras" if file.endswith("keras") else "int8")


def test_a_proof_is_shown(bce, bce_here, own_colours):
    """After `bce parity` the card says on how many pictures it holds."""
    assert bce_here("parity").returncode == 0

    card = bce("info", "runs/latest").stdout

    assert "parity           holds on 200 pictures: accuracy 100.00 % (drop +0.00), agreement 100.00 %" in card


def test_a_changed_file_is_refused(bce, own_run):
    """A single byte changed in the weights is found by the hash."""
    path = own_run.path / "bloodcell-int8.tflite"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    result = bce("info", path)

    assert (result.returncode, result.stdout) == (1, "")
    assert "damaged or changed since it was made" in result.stderr


def test_a_foreign_tflite_is_refused(bce, tmp_path):
    """A .tflite that was not made here says nothing of itself: an error that says what was expected."""
    (tmp_path / "foreign.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(1000))

    result = bce("info", "foreign.tflite")

    assert result.returncode == 1
    assert "expected a .tflite made by bce convert" in result.stderr


def test_a_keras_file_alone_says_nothing(bce, own_run, tmp_path):
    """A .keras without spec.json beside it is an error."""
    shutil.copy(own_run.model, tmp_path / "bare.keras")

    result = bce("info", "bare.keras")

    assert result.returncode == 1
    assert "spec.json: no such file" in result.stderr


def test_the_locator_s_card(bce, tiny_cell_model, tiny_flatbuffers, tmp_path):
    """Of a model of cells: name, size, input, threshold, figures and hash of its locator, or of the shipped one."""
    shipped = shipped_locator()
    spec = read_model_file(tiny_cell_model()).spec.with_locator(told(shipped.file))
    path = tmp_path / "carries.tflite"
    path.write_bytes(pack(tiny_flatbuffers["int8"], spec, shipped.file.content))

    cards = []
    for model in (path, tiny_cell_model()):
        lines = bce("info", model).stdout.splitlines()
        cards.append({line[:16].strip(): line[17:] for line in lines[[k[:7] for k in lines].index("locator") :]})
    own, none = cards
    assert own["locator"].startswith(f"{shipped.spec.name}, int8, {len(shipped.file.content):,} bytes")
    assert own["input"].startswith("144 x 192 RGB 0..255; a cell from 0.")
    assert " cells found, " in own["held back"]
    assert own["sha256"] == shipped.spec.sha256
    assert none["locator"] == f"none inside, made by an older bce; the one that comes with bce: {own['locator']}"
    values = json.loads(bce("info", path, "--json").stdout)["locator"]
    assert values == told(shipped.file)


def test_an_older_model_is_said_to_be_one(bce, tiny_cell_model, tmp_path):
    """Once, on stderr, by what uses it; a newer one is not."""
    (tmp_path / "field.jpg").write_bytes(encode_jpeg(draw_field(1).image))
    for version, notes in ((1, 1), (2, 0)):
        model = tiny_cell_model(spec_version=version)
        for command in (("classify", "field.jpg", "--json"), ("run", "--source", "folder:.", "--slide", str(version))):
            found = bce(*command, "--model", model)
            assert found.returncode == 0
            assert found.stderr.count("note: tiny was made before models carried a locator: ") == notes
