from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from bloodcell_edge.dataset.reading import read_each
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, load_split
from bloodcell_edge.errors import BceError, MissingFile, SpecError
from bloodcell_edge.imaging.image import prepare
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.file import pack, read_model_file
from bloodcell_edge.progress import SILENT, Silent
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.kerasmodel import open_keras
from convert.parity import Limits
from convert.proof import prove
from convert.representative import with_full_range
from convert.targets import Target
from convert.tflite import make_converter, to_tflite

WIDE = Limits(max_drop=5, max_recall_drop=100, min_agreement=90)
"""For the tiny run, on pictures that it is so unsure of that rounding turns a few of its answers."""


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def training_pixels(run, model, label=None):
    """Prepared training pictures of a run, of one class or of all."""
    rows = [row.picture for row in load_split(run.split) if row.split == TRAIN and label in (None, row.picture.label)]
    some = rows if label else rows[::4]
    done, _ = read_each(some, lambda image: prepare(image, model.spec.input_size))
    return np.stack([prepared for _, prepared in done])


def write_poisoned(run, path, representative):
    """An int8 file made from a run's model with the converter alone, so that nothing refuses its calibration."""
    model = open_keras(run.model)
    flatbuffer = bytes(make_converter(model.net, Target.INT8, representative).convert())
    path.write_bytes(pack(flatbuffer, model.spec.with_(target="int8")))
    return path


def test_good_files_pass(own_colours):
    """float16 and int8 of a sure model: every limit of the default gate holds on its 200 held-back pictures."""
    found = prove(own_colours.model, (), None, limits=Limits(), report=SILENT)

    assert found.passed
    assert (found.n, found.n_groups) == (200, 50)
    assert [one.target for one in found.candidates] == ["float16", "int8"]
    assert [one.why for one in found.candidates] == [(), ()]


def close_calls(run, model):
    """Pictures on the way from a class to another, where Keras's two best answers are 0.005 to 0.03 apart.

    float16 moves scores by far less, int8 by more. Of each: pixels, and what Keras says second.
    """
    firsts = [training_pixels(run, model, label)[0].astype(np.float32) for label in model.spec.labels]
    ways = [(a, b) for a in range(4) for b in range(4) if a != b]
    ends = np.stack([[firsts[a], firsts[b]] for a, b in ways])
    low, high, found = np.zeros(12), np.ones(12), {}
    for _ in range(40):
        share = ((low + high) / 2)[:, None, None, None]
        pixels = ((1 - share) * ends[:, 0] + share * ends[:, 1]).round().astype(np.uint8)
        scores = model.scores(pixels)
        for way, (own, _) in enumerate(ways):
            second, best = np.argsort(scores[way])[-2:]
            apart = scores[way][best] - scores[way][second]
            if best == own and 0.005 < apart < 0.03:
                found.setdefault(way, (pixels[way], model.spec.labels[second]))
            if best == own and apart > 0.005:
                low[way] = share[way, 0, 0, 0]
            else:
                high[way] = share[way, 0, 0, 0]
    assert len(found) >= 9  # a way may jump over the place
    return list(found.values())


def held_back_table(run, path, more=()):
    """DATA that lists the held-back pictures of a run, and more; nothing is written into the shared run for DATA."""
    rows = [(row.picture.path, row.picture.label) for row in load_split(run.split) if row.split == HELD_BACK]
    path.write_text("file,label\n" + "".join(f"{file},{label}\n" for file, label in [*rows, *more]))
    return path


def test_good_files_of_a_trained_network_pass(tiny_run, tmp_path):
    """A trained MobileNetV2: float16 says what Keras says, int8 nearly so where the question is close.

    The close calls are labelled with Keras's second answer, so that an answer that turns costs no accuracy.
    """
    calls = []
    for number, (pixels, label) in enumerate(close_calls(tiny_run, open_keras(tiny_run.model))):
        calls.append((tmp_path / f"close-{number}.png", label))
        Image.fromarray(pixels).save(calls[-1][0])
    data = held_back_table(tiny_run, tmp_path / "held.csv", calls)

    found = prove(tiny_run.model, (), data, limits=WIDE, report=SILENT)

    float16, int8 = found.candidates
    assert found.passed
    assert found.n == 128 + len(calls)
    assert (float16.agreement, float16.accuracy_drop) == (100, 0)
    assert int8.agreement < 100


@pytest.mark.parametrize("poison", ["black", "scaled to 0..1"])
def test_weak_calibration_is_caught(tiny_run, tmp_path, poison):
    """A file that was calibrated on black or on 0..1 pictures, past the converter's own check, fails the gate."""
    model = open_keras(tiny_run.model)
    pixels = training_pixels(tiny_run, model)
    bad = np.zeros_like(pixels) if poison == "black" else with_full_range(pixels).astype(np.float32) / 255
    file = write_poisoned(tiny_run, tmp_path / "poisoned.tflite", bad)
    data = held_back_table(tiny_run, tmp_path / "held.csv")

    found = prove(tiny_run.model, [file], data, limits=WIDE, report=SILENT)

    assert not found.passed
    assert found.candidates[0].agreement < 50
    assert len(found.candidates[0].flipped) > 60
    assert len(found.candidates[0].layers) == 8
    assert "representative dataset is to blame" in found.candidates[0].advice


def test_calibration_on_one_class_is_caught(own_colours):
    """Calibrated on one class, black and white added, a file that looks sound inside fails the gate.

    The faint colour's range is too narrow for the others: two of four classes are lost, and the advice says why.
    """
    model = open_keras(own_colours.model)
    faint = with_full_range(training_pixels(own_colours, model, "EOSINOPHIL"))
    flatbuffer = to_tflite(model.net, target=Target.INT8, representative=faint)  # _check sees nothing wrong
    file = own_colours.path / "bloodcell-int8.tflite"
    file.write_bytes(pack(flatbuffer, model.spec.with_(target="int8")))

    found = prove(own_colours.model, [file], None, limits=Limits(), report=SILENT)

    one = found.candidates[0]
    assert not found.passed
    assert one.accuracy == pytest.approx(50)
    assert one.worst_recall_drop == pytest.approx(100)
    assert len(one.flipped) == 100
    assert {layer.layer for layer in one.layers} <= {layer.name for layer in model.net.layers}
    assert "keeps 100.0 % of its answers, so the file's own representative dataset is to blame" in one.advice
    assert read_model_file(file).spec.parity is None


def test_a_proof_travels_with_the_file(own_colours):
    """What passed on the held-back pictures is written into the file, with n and limits; all else stays as it was."""
    before = {path: read_model_file(path) for path in own_colours.tflite_files()}

    found = prove(own_colours.model, (), None, limits=Limits(), report=SILENT)

    for one, path in zip(found.candidates, own_colours.tflite_files(), strict=True):
        after = Classifier.open(path).spec  # its hash fits
        assert after.parity["n"] == 200
        assert after.parity["agreement"] == one.agreement
        assert after.parity["limits"] == {
            "max_drop": 1.0, "max_recall_drop": 2.0, "min_agreement": 98.0, "allow_small": False
        }  # fmt: skip
        assert read_model_file(path).flatbuffer == before[path].flatbuffer
        assert after.with_(parity=None, sha256="") == before[path].spec.with_(sha256="")
    assert json.loads(own_colours.parity.read_text()) == json.loads(json.dumps(found.as_json()))
    assert not [path for path in own_colours.path.iterdir() if path.name.startswith(".")]


def test_a_proof_is_written_once_more(own_colours):
    """Proving twice gives the same files."""
    prove(own_colours.model, (), None, limits=Limits(), report=SILENT)
    first = [path.read_bytes() for path in own_colours.tflite_files()]

    prove(own_colours.model, (), None, limits=Limits(), report=SILENT)

    assert [path.read_bytes() for path in own_colours.tflite_files()] == first


def test_a_failed_file_is_left_alone(own_colours):
    """A gate that does not hold is reported in the run folder; the file keeps saying that nothing is proven."""
    before = [path.read_bytes() for path in own_colours.tflite_files()]

    found = prove(own_colours.model, (), None, limits=Limits(max_drop=-1), report=SILENT)

    assert not found.passed
    assert [path.read_bytes() for path in own_colours.tflite_files()] == before
    assert json.loads(own_colours.parity.read_text())["passed"] is False


def test_other_data_proves_nothing_of_the_run(own_colours, colours):
    """On DATA that somebody gave, nothing is written anywhere."""
    before = {path: path.read_bytes() for path in own_colours.path.iterdir()}

    found = prove(own_colours.model, (), colours.path.parents[1] / "pictures", limits=Limits(), report=SILENT)

    assert found.passed
    assert found.n == 320
    assert {path: path.read_bytes() for path in own_colours.path.iterdir()} == before


def test_a_file_elsewhere_is_compared_and_not_touched(own_colours, tmp_path):
    """A candidate outside the run folder gets its verdict, and keeps its bytes."""
    elsewhere = tmp_path / "device" / "bloodcell-int8.tflite"
    elsewhere.parent.mkdir()
    shutil.copy(own_colours.path / "bloodcell-int8.tflite", elsewhere)
    before = elsewhere.read_bytes()

    assert prove(own_colours.model, [elsewhere], None, limits=Limits(), report=SILENT).passed
    assert elsewhere.read_bytes() == before


def test_a_file_of_the_run_by_another_path(own_colours, tmp_path):
    """Through runs/latest, a link, the file in the run's own folder gets its proof as well."""
    latest = RunFolder(tmp_path / "runs" / "latest")

    prove(latest.model, [own_colours.path / "bloodcell-int8.tflite"], None, limits=Limits(), report=SILENT)

    assert read_model_file(own_colours.path / "bloodcell-int8.tflite").spec.parity


def test_a_folder_that_cannot_be_written_is_survived(own_colours):
    """Where the report cannot be written the verdict is given all the same, and one line says what was not kept."""
    own_colours.parity.mkdir()  # refuses a file of that name, to root as well
    before = {path: path.read_bytes() for path in own_colours.tflite_files()}
    listener = Listener()

    found = prove(own_colours.model, (), None, limits=Limits(), report=listener)

    assert found.passed
    assert listener.said[-1] == f"{own_colours.path}: the report cannot be kept there (Is a directory)"
    assert {path: path.read_bytes() for path in own_colours.tflite_files()} == before
    assert not [path for path in own_colours.path.iterdir() if path.name.startswith(".")]


def test_too_few_pictures_blame_no_layer(own_colours):
    """Where only the number of pictures fails the gate, no layer is looked at and nothing advised."""
    lines = own_colours.split.read_text().splitlines(keepends=True)
    own_colours.split.write_text("".join(line for line in lines if "heldback" not in line or "/3" in line))
    listener = Listener()

    found = prove(own_colours.model, (), None, limits=Limits(), report=listener)

    assert not found.passed
    assert found.n == 40
    assert all("40 pictures cannot prove anything" in one.why[0] for one in found.candidates)
    assert all((one.layers, one.advice) == ((), "") for one in found.candidates)
    assert not any("looking for" in line for line in listener.said)
    assert prove(own_colours.model, (), None, limits=Limits(allow_small=True), report=SILENT).passed


def broken(run, name):
    """Remove one file of a run."""
    (run.path / name).unlink()


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda run: [broken(run, path.name) for path in run.tflite_files()], MissingFile, "no .tflite .*bce convert"),
        (lambda run: broken(run, "split.csv"), MissingFile, "split.csv: not there.*give --data"),
        (lambda run: broken(run, "spec.json"), MissingFile, "spec.json: no such file"),
        (lambda run: broken(run, "model.keras"), MissingFile, "model.keras: no such model"),
        (lambda run: (run.path / "bloodcell-int8.tflite").write_bytes(b"TFL3"), SpecError, "no bce.json inside"),
    ],
    ids=["no candidate", "no split", "no spec", "no model", "damaged candidate"],
)
def test_what_is_missing_is_said(own_colours, change, error, text):
    """A run that lacks something is an expected error that says what is missing and what to do."""
    change(own_colours)

    with pytest.raises(error, match=text) as caught:
        prove(own_colours.model, (), None, limits=Limits(), report=SILENT)
    assert isinstance(caught.value, BceError)
