"""What a device can do before any model is on it: no TensorFlow, no Pillow, nothing but the base install and pytest."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from pkgutil import iter_modules

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bloodcell_edge
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.reading import read_each
from bloodcell_edge.errors import MissingFile, PictureError, RuntimeMissing, SpecError
from bloodcell_edge.imaging.drawn import LABELS, draw_field, draw_folder
from bloodcell_edge.imaging.folder import picture_files
from bloodcell_edge.imaging.hashes import perceptual_hash
from bloodcell_edge.imaging.image import decode, prepare, read_image
from bloodcell_edge.model.file import pack, read_model_file
from bloodcell_edge.model.interpreter import RUNTIME_VARIABLE, load_interpreter
from bloodcell_edge.model.seen import collect
from bloodcell_edge.model.spec import ModelSpec

DEVICE_MODULES = [module.name for module in iter_modules(bloodcell_edge.__path__) if module.name != "training"]
FIELD = draw_field(1, size=(241, 321)).image


def test_everything_imports_without_a_training_package():
    """Each device module loads where tensorflow, keras, matplotlib, PIL and scipy cannot be imported."""
    program = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'matplotlib', 'PIL', 'scipy'): sys.modules[name] = None\n"
        f"for name in {DEVICE_MODULES}: __import__('bloodcell_edge.' + name)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)

    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((96, 96), "14a382b47ac96545"),
        ((128, 128), "f491a9cc2c27dc69"),
        ((224, 224), "0a96ed053146e8dc"),
        ((500, 333), "aaa4c95b9ee77649"),
    ],
)
def test_pixels_are_those_of_every_other_machine(size, expected):
    """A drawn field, prepared, has the bytes that it had where models are trained."""
    assert hashlib.sha256(prepare(FIELD, size).tobytes()).hexdigest()[:16] == expected


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_lossless_pictures_come_back(tmp_path, suffix):
    """What is written without loss is read as it was, RGB."""
    path = tmp_path / f"field{suffix}"
    cv2.imwrite(str(path), FIELD[..., ::-1])

    np.testing.assert_array_equal(read_image(path), FIELD)


def test_sixteen_bit_pictures_come_back(tmp_path):
    """A 12-bit camera's 16-bit PNG and TIFF are read as the 8-bit picture."""
    field = FIELD.copy()
    field[0, 0] = 255
    for suffix in (".png", ".tif"):
        path = tmp_path / f"deep{suffix}"
        cv2.imwrite(str(path), (field.astype(np.uint16) * 16 + field // 16)[..., ::-1])
        np.testing.assert_array_equal(read_image(path), field)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp"])
def test_truncated_pictures_are_errors(suffix):
    """Cut at every tenth of its length no file gives a picture."""
    data = cv2.imencode(suffix, FIELD)[1].tobytes()
    for tenth in range(10):
        with pytest.raises(PictureError):
            decode(data[: len(data) * tenth // 10])


@given(st.binary(max_size=200))
def test_noise_is_an_error(data):
    """Any bytes raise PictureError and nothing else."""
    with pytest.raises(PictureError):
        decode(data)


def test_a_folder_of_drawn_pictures_is_read(tmp_path):
    """Drawn, found again by class, decoded, prepared; a bad file between them is named."""
    draw_folder(tmp_path, per_class=2, seed=1, size=(120, 160))
    (tmp_path / "MONOCYTE" / "bad.jpg").write_bytes(b"\xff\xd8\xff cut")
    dataset = load_data(tmp_path)
    done, bad = read_each(dataset.pictures, lambda image: prepare(image, (96, 96)))

    assert dataset.by_label() == dict(zip(LABELS, (2, 2, 3, 2), strict=True))
    assert [pixels.shape for _, pixels in done] == [(96, 96, 3)] * 8
    assert [one.file for one in bad] == ["MONOCYTE/bad.jpg"]
    assert len(picture_files([tmp_path])) == 9


def test_a_model_file_says_what_it_is(tmp_path):
    """Spec, labels and hashes are read with the standard library alone; a changed byte is refused."""
    seen = collect([("ab" * 32, perceptual_hash(FIELD))])
    spec = ModelSpec("tiny", LABELS, "frame", (96, 96), "int8", 1, seen=seen.as_json(), figures={"n": 3})
    data = pack(b"\x1c\0\0\0TFL3" + bytes(1000), spec)
    path = tmp_path / "m.tflite"
    path.write_bytes(data)

    assert read_model_file(path).spec.with_(sha256="") == spec
    path.write_bytes(data[:500] + b"\1" + data[501:])
    with pytest.raises(SpecError, match="damaged or changed"):
        read_model_file(path)


def test_an_interpreter_is_there_and_refuses_what_is_no_model(tmp_path, monkeypatch):
    """The base install brings a runtime: it is tried, not missing, and says why it opens nothing here."""
    monkeypatch.setenv(RUNTIME_VARIABLE, "")
    path = tmp_path / "m.tflite"
    path.write_bytes(b"no model " * 100)
    with pytest.raises(RuntimeMissing) as caught:
        load_interpreter(path)
    answers = dict.fromkeys(("ai-edge-litert", "tflite-runtime"), "")
    for answer in str(caught.value).partition("tried ")[2].split("; "):
        name, _, said = answer.partition(": ")
        answers[name] = said

    assert any(said and not said.startswith("not installed") for said in answers.values())


def test_the_command_answers(bce, tmp_path):
    """bce classify without a model takes the one that is shipped, and says so; a line of JSON for each cell."""
    cv2.imwrite(str(tmp_path / "field.png"), FIELD)
    result = bce("classify", "field.png", "--json")

    assert result.returncode == 0, result.stderr
    assert result.stderr.startswith("model: ")
    assert result.stderr.endswith("bloodcell-int8.tflite (shipped with bce)\n")
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert answers
    assert {answer["file"] for answer in answers} == {"field.png"}


def test_what_is_not_there_is_said(tmp_path):
    """Absent pictures, folders and models are MissingFile each."""
    for use in (read_image, load_data, read_model_file, load_interpreter, lambda path: picture_files([path])):
        with pytest.raises(MissingFile, match="absent"):
            use(tmp_path / "absent")


def test_json_of_a_spec_is_plain():
    """A device without bce can read the spec as JSON: no NaN, no Python."""
    values = ModelSpec("tiny", LABELS, "frame", (96, 96), "int8", 1).as_json()

    assert json.load(io.StringIO(json.dumps(values, allow_nan=False)))["labels"] == list(LABELS)
