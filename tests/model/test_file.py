import io
import json
import random
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.errors import MissingFile, SpecError
from bloodcell_edge.model.file import LABELS_FILE, LOCATOR_FILE, SPEC_FILE, model_sha256, pack, read_model_file, unpack
from bloodcell_edge.model.interpreter import load_interpreter
from bloodcell_edge.model.locator import told
from bloodcell_edge.model.spec import Golden, ModelSpec

SPEC = ModelSpec(
    "tiny",
    ("EOSINOPHIL", "LYMPHOCYTE"),
    "frame",
    (96, 128),
    "int8",
    1,
    figures={"accuracy": 0.9, "n": 12},
    golden=(Golden(3, "MONOCYTE", "ab", "LYMPHOCYTE", (0.25, 0.75)),),
)
FLATBUFFER = b"\x1c\0\0\0TFL3" + bytes(range(256)) * 3  # what is inside does not matter to the box around it
PACKED = pack(FLATBUFFER, SPEC)
HERE = Path("m.tflite")


def repacked(flatbuffer: bytes, labels: bytes, spec: bytes) -> bytes:
    """A file with these parts, whether they fit or not."""
    content = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(LABELS_FILE, labels)
        archive.writestr(SPEC_FILE, spec)
    return content.getvalue()


def parts() -> tuple[bytes, bytes, dict]:
    with zipfile.ZipFile(io.BytesIO(PACKED)) as archive:
        return FLATBUFFER, archive.read(LABELS_FILE), json.loads(archive.read(SPEC_FILE))


@given(st.binary(max_size=2000), st.text(max_size=20), st.integers(1, 500))
def test_what_is_packed_comes_out_again(weights, name, side):
    """Flatbuffer and spec survive, sealed by a hash over both."""
    spec = SPEC.with_(name=name, input_size=(side, side))
    found = unpack(pack(weights, spec), HERE)

    assert found.flatbuffer == weights
    assert found.spec == spec.with_(sha256=model_sha256(weights, spec))
    assert found.path == HERE


def test_the_same_content_gives_the_same_bytes():
    """No clock, no folder and no chance in the file, and an older hash in the spec makes no difference."""
    assert pack(FLATBUFFER, SPEC) == PACKED
    assert pack(FLATBUFFER, SPEC.with_(sha256="older")) == PACKED
    assert pack(FLATBUFFER, unpack(PACKED, HERE).spec) == PACKED


def test_other_readers_find_flatbuffer_and_labels():
    """The flatbuffer stands at the front as it was, labels.txt has a label a line, nothing is compressed."""
    with zipfile.ZipFile(io.BytesIO(PACKED)) as archive:
        assert PACKED.startswith(FLATBUFFER)
        assert archive.read("labels.txt") == b"EOSINOPHIL\nLYMPHOCYTE\n"
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert archive.testzip() is None


def test_every_changed_byte_is_noticed():
    """Whichever byte changes, in flatbuffer, labels, spec or between them: refused, or nothing of them was changed."""
    dice = random.Random(1)
    for place in range(len(PACKED)):
        data = bytearray(PACKED)
        data[place] ^= 1 << dice.randrange(8)
        try:
            found = unpack(bytes(data), HERE)
        except SpecError as error:
            assert str(error).startswith("m.tflite")  # noqa: PT017
        else:
            assert place >= len(FLATBUFFER)
            assert (found.flatbuffer, found.spec) == (FLATBUFFER, unpack(PACKED, HERE).spec)


def test_a_changed_flatbuffer_is_told_with_both_hashes():
    """The error says which hash was expected and which was found, and what to do."""
    data = bytearray(PACKED)
    data[100] ^= 1
    expected, found = model_sha256(FLATBUFFER, SPEC)[:12], model_sha256(bytes(data[: len(FLATBUFFER)]), SPEC)[:12]
    with pytest.raises(
        SpecError, match=rf"m\.tflite: .*hash expected {expected}\.\., found {found}\.\.\); copy it again"
    ):
        unpack(bytes(data), HERE)


@pytest.mark.parametrize("change", ["labels", "spec", "later key"])
def test_parts_put_together_by_hand_are_refused(change):
    """Labels or spec replaced by well-formed others, checksums of the zip included, do not pass; both hashes differ."""
    flatbuffer, labels, values = parts()
    if change == "labels":
        labels = b"LYMPHOCYTE\nEOSINOPHIL\n"
    elif change == "spec":
        values["figures"]["accuracy"] = 1.0
    else:
        values["approved"] = True
    with pytest.raises(
        SpecError, match=rf"hash expected {values['sha256'][:12]}\.\., found (?!{values['sha256'][:12]})"
    ):
        unpack(repacked(flatbuffer, labels, json.dumps(values).encode()), HERE)


def test_labels_must_be_those_of_the_spec():
    """Sealed labels that are not the spec's are refused with both."""
    from bloodcell_edge.model.archive import sha256_of
    from bloodcell_edge.model.spec import canonical_json

    flatbuffer, _, values = parts()
    labels = b"LYMPHOCYTE\nEOSINOPHIL\n"
    values["sha256"] = sha256_of(flatbuffer, labels, canonical_json(values))
    with pytest.raises(
        SpecError, match=r"labels\.txt must be \['EOSINOPHIL', 'LYMPHOCYTE'\] as in bce\.json, found b'LYM"
    ):
        unpack(repacked(flatbuffer, labels, json.dumps(values).encode()), HERE)


def test_a_file_of_a_later_bce_is_read():
    """Keys that this version does not know are covered by the hash and left out of the spec."""
    from bloodcell_edge.model.archive import sha256_of
    from bloodcell_edge.model.spec import canonical_json

    flatbuffer, labels, values = parts()
    values["golden"][0]["light"] = "day"
    values["colour_of_the_box"] = {"r": 1}
    values["sha256"] = sha256_of(flatbuffer, labels, canonical_json(values))
    found = unpack(repacked(flatbuffer, labels, json.dumps(values).encode()), HERE)

    assert found.spec == SPEC.with_(sha256=values["sha256"])


def test_a_newer_layout_is_refused():
    """A file of another spec version says so, not that it is damaged."""
    flatbuffer, labels, values = parts()
    values["spec_version"] = 99
    with pytest.raises(SpecError, match=r"m\.tflite:bce\.json: spec version 99, this bce reads up to 2; upgrade bce"):
        unpack(repacked(flatbuffer, labels, json.dumps(values).encode()), HERE)


def test_a_truncated_file_is_refused():
    """Cut anywhere, a file is no model: what to do stands in the error."""
    for length in [*range(0, len(PACKED), 7), len(PACKED) - 1]:
        with pytest.raises(
            SpecError, match=r"m\.tflite: no bce\.json inside \(.*\); expected a \.tflite made by bce convert"
        ):
            unpack(PACKED[:length], HERE)


def test_bytes_before_are_refused_and_bytes_behind_do_not_matter():
    """Something put in front makes another file; a line break appended leaves flatbuffer and spec as they were."""
    with pytest.raises(SpecError):
        unpack(b"#!" + PACKED, HERE)
    assert unpack(PACKED + b"\n", HERE) == unpack(PACKED, HERE)


def test_other_files_are_refused(tmp_path):
    """A bare .tflite, a .keras (which is a zip too), text and nothing say what was expected, in one line."""
    keras = io.BytesIO()
    with zipfile.ZipFile(keras, "w") as archive:
        archive.writestr("config.json", "{}")
    for data in (FLATBUFFER, keras.getvalue(), b"text", b""):
        path = tmp_path / "m.tflite"
        path.write_bytes(data)
        with pytest.raises(SpecError) as caught:
            read_model_file(path)
        assert str(caught.value).startswith(f"{path}: no bce.json inside")
        assert "made by bce convert" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_absent_file_is_missing(tmp_path):
    """The error names it."""
    with pytest.raises(MissingFile, match=r"absent\.tflite: no such model file"):
        read_model_file(tmp_path / "absent.tflite")


def test_a_packed_file_is_not_packed_again():
    """Two specs in one file would be one too many."""
    with pytest.raises(SpecError, match="expected a TFLite model alone, found one with a zip behind it"):
        pack(PACKED, SPEC)


@pytest.mark.parametrize("target", ["float32", "int8"])
def test_an_interpreter_reads_the_packed_file(tiny_flatbuffers, tiny_model, tmp_path, target):
    """A real model runs with the spec behind it and says what it says without."""
    import numpy as np

    path = tiny_model(target)
    (tmp_path / "bare").write_bytes(tiny_flatbuffers[target])
    pixels = np.random.default_rng(1).integers(0, 256, (64, 48, 3), np.uint8)

    assert read_model_file(path).flatbuffer == tiny_flatbuffers[target]
    np.testing.assert_array_equal(
        load_interpreter(path).scores(pixels), load_interpreter(tmp_path / "bare").scores(pixels)
    )


# A model carries its locator.


@pytest.fixture(scope="module")
def carried(made_file):
    return SPEC.with_(view="cell", crop_um=20.0, locator=told(made_file)), made_file.content


def test_the_locator_comes_out_again(carried):
    """The whole file, whose hash stands in the spec, which the model's hash covers."""
    spec, locator = carried
    found = unpack(pack(FLATBUFFER, spec, locator), HERE)
    assert found.locator == locator
    assert found.spec.locator == spec.locator
    assert found.spec.sha256 != unpack(pack(FLATBUFFER, spec.with_(locator=None)), HERE).spec.sha256
    assert unpack(PACKED, HERE).locator == b""


def test_a_locator_that_is_not_the_spec_s_is_not_packed(carried):
    """Another one, none, or one that nothing tells of: with both hashes."""
    spec, locator = carried
    expected = spec.locator["file_sha256"][:12]
    with pytest.raises(SpecError, match=rf"the locator inside .* \(hash expected {expected}, found \w{{12}}\)"):
        pack(FLATBUFFER, spec, locator[:-1])
    with pytest.raises(SpecError, match=rf"hash expected {expected}, found none"):
        pack(FLATBUFFER, spec)
    with pytest.raises(SpecError, match=r"hash expected none, found \w{12}"):
        pack(FLATBUFFER, spec.with_(locator=None), locator)


def test_a_locator_that_was_exchanged_is_refused(carried):
    """Put there by hand, checksums of the zip included: refused with both hashes, and so is a file without it."""
    spec, locator = carried
    with zipfile.ZipFile(io.BytesIO(pack(FLATBUFFER, spec, locator))) as archive:
        labels, values = archive.read(LABELS_FILE), archive.read(SPEC_FILE)
    expected = spec.locator["file_sha256"][:12]
    for other, found in ((b"other", r"\w{12}"), (None, "none")):
        content = io.BytesIO(repacked(FLATBUFFER, labels, values))
        if other is not None:
            with zipfile.ZipFile(content, "a") as archive:
                archive.writestr(LOCATOR_FILE, other)
        with pytest.raises(SpecError, match=rf"^m\.tflite: the locator inside .*expected {expected}, found {found}\)"):
            unpack(content.getvalue(), HERE)
