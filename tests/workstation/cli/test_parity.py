from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from bloodcell_edge.dataset.split import HELD_BACK, load_split
from bloodcell_edge.model.file import pack, read_model_file
from bloodcell_edge.training.kerasmodel import open_keras
from convert.targets import Target
from convert.tflite import make_converter

CANDIDATE = set(
    "file target bytes accuracy accuracy_drop worst_recall_drop agreement max_abs_diff mean_abs_diff mcnemar_p "
    "passed why".split()
)
MODEL = "model: runs/latest/model.keras (the latest run)\n"


@pytest.fixture
def poisoned(own_colours):
    """The run's int8 file, calibrated on pictures scaled to 0..1, made with the converter alone."""
    model = open_keras(own_colours.model)
    scaled = np.random.default_rng(0).random((60, 32, 32, 3)).astype(np.float32)
    flatbuffer = bytes(make_converter(model.net, Target.INT8, scaled).convert())
    path = own_colours.path / "bloodcell-int8.tflite"
    path.write_bytes(pack(flatbuffer, model.spec.with_(target="int8")))
    return path


def test_good_files_hold(bce, own_colours):
    """Through the installed script: exit 0, the documented keys, and the proof in the files."""
    result = bce("parity", "--json", timeout=300)

    values = json.loads(result.stdout)
    assert result.returncode == 0, result.stderr
    assert result.stderr == MODEL + "comparing bloodcell-float16.tflite\ncomparing bloodcell-int8.tflite\n"
    assert set(values) == {"passed", "n", "n_groups", "reference", "candidates"}
    assert values["reference"] == {"file": "runs/latest/model.keras", "accuracy": 100.0}
    assert (values["passed"], values["n"]) == (True, 200)
    for one in values["candidates"]:
        assert set(one) >= CANDIDATE
        assert one["passed"] is True
        assert read_model_file(own_colours.path.parents[1] / one["file"]).spec.parity["n"] == 200


def test_a_poisoned_file_exits_4(bce_here, own_colours, poisoned):
    """A file calibrated on 0..1 pictures: exit 4, the layers, the flipped pictures and what to do, in words."""
    result = bce_here("parity")

    assert result.returncode == 4
    assert result.stderr.endswith("bce: gate: parity does not hold for bloodcell-int8.tflite\n")
    assert "FAILS" in result.stdout
    assert "holds" in result.stdout  # the float16 file
    assert "layers that lose most" in result.stdout
    assert "representative dataset is to blame: convert again" in result.stdout
    assert "changed answers: " in result.stdout
    assert read_model_file(poisoned).spec.parity is None
    assert read_model_file(own_colours.path / "bloodcell-float16.tflite").spec.parity["n"] == 200


def test_a_poisoned_file_in_json(bce_here, own_colours, poisoned):
    """--json of a gate that fails: one document, every flipped picture by name, layers and advice; exit 4."""
    result = bce_here("parity", "runs/latest", poisoned, "--json")

    values = json.loads(result.stdout)
    one = values["candidates"][0]
    assert (result.returncode, values["passed"], len(values["candidates"])) == (4, False, 1)
    assert one["agreement"] < 90
    assert len(one["flipped"]) == round((100 - one["agreement"]) * 2)
    assert "agreement" in one["why"]
    assert one["layers"]
    assert one["advice"]


@pytest.mark.parametrize(
    ("option", "value"), [("--max-drop", "-0.1"), ("--max-recall-drop", "-0.1"), ("--min-agreement", "100.1")]
)
def test_each_limit_gates(bce_here, own_colours, option, value):
    """Each of the three limits alone, set beyond what is possible, makes equal files fail."""
    result = bce_here("parity", "--json", option, value)

    assert result.returncode == 4
    assert not json.loads(result.stdout)["passed"]


def test_few_pictures_need_insisting(bce_here, own_colours, colours, tmp_path):
    """With 40 pictures equal answers prove nothing: exit 4, unless --allow-small is given."""
    for label in read_model_file(own_colours.path / "bloodcell-int8.tflite").spec.labels:
        for number in range(10):
            target = tmp_path / "few" / label / f"{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(colours.path.parents[1] / "pictures" / label / target.name, target)

    few, insisted = bce_here("parity", "--data", "few"), bce_here("parity", "--data", "few", "--allow-small")

    assert (few.returncode, insisted.returncode) == (4, 0)
    assert "40 pictures cannot prove anything, expected at least 100 (--allow-small)" in few.stdout
    assert "layers that lose most" not in few.stdout
    assert "fewer than 50 pictures, gated on agreement, not on recall" in insisted.stdout


def test_a_trained_network(bce_here, own_run):
    """A trained MobileNetV2: float16 holds by the default gate, and says that classes of 32 are not gated on recall."""
    result = bce_here("parity", "runs/latest", own_run.path / "bloodcell-float16.tflite", "--json")

    values = json.loads(result.stdout)
    assert result.returncode == 0, result.stderr
    assert values["candidates"][0]["agreement"] == 100
    assert values["reference"]["accuracy"] >= 85  # files of a network that says nothing agree as well
    assert "gated on agreement, not on recall" in values["candidates"][0]["why"]
    assert values["n"] == sum(row.split == HELD_BACK for row in load_split(own_run.split))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("bloodcell-int8.tflite",), "bloodcell-int8.tflite: not a Keras model that can be opened"),
        (("model.keras", "nowhere.tflite"), "nowhere.tflite: no such model file"),
        (("model.keras", "spec.json"), "no bce.json inside"),
        (("model.keras", "--data", "nowhere"), "nowhere: no such folder or file"),
    ],
    ids=["reference", "candidate missing", "no candidate", "data missing"],
)
def test_what_cannot_be_compared(bce_here, own_colours, arguments, says):
    """A wrong reference, candidate or DATA is an error of one line, exit 1: never a gate that holds."""
    result = bce_here("parity", *arguments, cwd=own_colours.path)

    assert (result.returncode, result.stdout) == (1, "")
    assert says in result.stderr.splitlines()[-1]
