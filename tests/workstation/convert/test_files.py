from __future__ import annotations

import zipfile
from dataclasses import replace

import pytest

from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.dataset.split import TRAIN, load_split
from bloodcell_edge.errors import ConversionError, NoPictures, OutputExists
from bloodcell_edge.files import sha256_file
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.file import read_model_file
from bloodcell_edge.model.flatbuffer import read_model
from bloodcell_edge.model.locator import shipped_locator
from bloodcell_edge.model.metadata import METADATA_NAME
from bloodcell_edge.model.spec import RULES_RULER, SPEC_VERSION, load_spec
from bloodcell_edge.progress import SILENT, Silent
from bloodcell_edge.training.kerasmodel import open_keras
from convert.compat import min_runtime
from convert.files import convert_files
from convert.representative import SAMPLES
from convert.targets import Target


class StopsAt(Silent):
    """Is interrupted when it is told a word."""

    def __init__(self, word):
        self.word = word

    def say(self, text):
        if self.word in text:
            raise KeyboardInterrupt


class Says(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    def say(self, text):
        self.told.append(text)


@pytest.fixture(scope="module")
def model(colours):
    """The quick model."""
    return open_keras(colours.model)


@pytest.fixture(scope="module")
def training(colours):
    """Its training pictures."""
    return [row.picture for row in load_split(colours.split) if row.split == TRAIN]


def inside(folder):
    """Everything in a folder, hidden files too: name -> bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("target", [Target.INT8, Target.FLOAT16])
def test_a_file_says_what_it_is(tiny_run, target):
    """The spec inside keeps all that the Keras model's said, and adds target, oldest runtime and hash."""
    file = read_model_file(tiny_run.path / target.file_name)
    keras = load_spec(tiny_run.spec)

    added = {"target", "representative", "kernel_tolerance", "min_runtime", "golden", "parity", "sha256"}
    before, after = keras.as_json(), file.spec.as_json()
    assert {key for key in before if before[key] != after[key]} <= added
    assert file.spec.target == target.value
    assert file.spec.min_runtime == min_runtime(file.flatbuffer)
    assert file.spec.parity is None
    assert len(file.spec.sha256) == 64
    assert file.spec.seen["content"]


def test_an_int8_file_lists_its_representative_pictures(tiny_run):
    """200 training pictures by name and hash stand in the int8 file, none in the float16 file."""
    rows = {row.picture.file: row for row in load_split(tiny_run.split)}
    int8, float16 = (read_model_file(tiny_run.path / target.file_name) for target in (Target.INT8, Target.FLOAT16))

    assert len(int8.spec.representative) == SAMPLES
    for one in int8.spec.representative:
        assert rows[one["file"]].split == TRAIN
        assert one["sha256"] == rows[one["file"]].sha256 == sha256_file(rows[one["file"]].picture.path)
    assert float16.spec.representative == ()


@pytest.mark.parametrize("target", [Target.INT8, Target.FLOAT16])
def test_other_clients_find_metadata_and_labels(tiny_run, target):
    """The file holds standard TFLite metadata, and labels.txt as a zip member, a label a line."""
    path = tiny_run.path / target.file_name
    flat = read_model(path.read_bytes())

    assert METADATA_NAME in [flat.Metadata(index).Name() for index in range(flat.MetadataLength())]
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().split() == list(load_spec(tiny_run.spec).labels)


@pytest.mark.long
def test_the_same_model_gives_the_same_bytes(model, training, tmp_path):
    """Converting twice gives the same file, bit for bit."""
    for name in ("one", "two"):
        convert_files(model, list(Target), tmp_path / name, representative=training, report=SILENT)

    assert inside(tmp_path / "one") == inside(tmp_path / "two")


def test_what_was_made_is_told(model, training, tmp_path):
    """Each target's file, size and oldest runtime come back, and each file opens and answers."""
    made = convert_files(model, list(Target), tmp_path / "new" / "folder", representative=training, report=SILENT)

    assert [one.target for one in made] == list(Target)
    for one in made:
        assert one.file == tmp_path / "new" / "folder" / one.target.file_name
        assert one.bytes == one.file.stat().st_size
        assert one.min_runtime == Classifier.open(one.file).spec.min_runtime


@pytest.mark.parametrize("existing", [Target.INT8, Target.FLOAT16])
def test_existing_files_are_not_replaced(model, training, tmp_path, existing):
    """Where one of the files is there already, an error says so before anything is converted; force replaces it."""
    (tmp_path / existing.file_name).write_bytes(b"precious")
    targets = [Target.INT8, Target.FLOAT16]

    with pytest.raises(OutputExists, match=r"exists already; give --force"):
        convert_files(model, targets, tmp_path, representative=training, report=StopsAt("converting"))
    assert inside(tmp_path) == {existing.file_name: b"precious"}

    convert_files(model, targets, tmp_path, representative=training, force=True, report=SILENT)
    assert read_model_file(tmp_path / existing.file_name).spec.target == existing.value


def test_a_conversion_that_stops_midway_leaves_everything_as_it_was(model, training, tmp_path):
    """Interrupted at the second of two targets, neither file is changed and nothing is left behind."""
    before = {target.file_name: b"of yesterday" for target in (Target.INT8, Target.FLOAT16)}
    for name, data in before.items():
        (tmp_path / name).write_bytes(data)

    with pytest.raises(KeyboardInterrupt):
        convert_files(
            model,
            [Target.INT8, Target.FLOAT16],
            tmp_path,
            representative=training,
            force=True,
            report=StopsAt("float16"),
        )

    assert inside(tmp_path) == before


def test_int8_without_pictures_is_refused(model, tmp_path):
    """Without a representative picture int8 is an error, and no folder is made."""
    with pytest.raises(ConversionError, match="colours: int8 needs a representative dataset, found no picture"):
        convert_files(model, [Target.INT8], tmp_path / "new", report=SILENT)
    assert not (tmp_path / "new").exists()


def test_pictures_that_cannot_be_read_are_refused(model, tmp_path):
    """Representative pictures of which none decodes are an error that names one."""
    (tmp_path / "bad.png").write_bytes(b"no picture")

    with pytest.raises(NoPictures, match=r"none of 1 pictures can be read.*bad.png"):
        convert_files(
            model, [Target.INT8], tmp_path, representative=[Picture(tmp_path / "bad.png", "bad.png")], report=SILENT
        )


def test_a_model_of_cells_needs_pictures_of_cells(model, training, tmp_path):
    """With view "cell", a representative dataset without a cell in it is an error that says so; nothing is written."""
    cells = replace(model, spec=model.spec.with_(view="cell", crop_um=20.0))
    with pytest.raises(ConversionError, match=r"found no cell in \d+ pictures"):
        convert_files(cells, [Target.INT8], tmp_path, representative=training, report=SILENT)
    assert not list(tmp_path.glob("*.tflite"))


@pytest.fixture(scope="module")
def older(model):
    """The quick model as if it had been trained on cells that rules had located."""
    return replace(model, spec=model.spec.with_(view="cell", crop_um=20.0, spec_version=1))


def test_a_run_of_version_1_gives_files_of_this_version(older, tmp_path):
    """With a locator inside, crops as large as they were in training, and no golden sample of the rules."""
    (made,) = convert_files(older, [Target.FLOAT32], tmp_path, report=SILENT)
    file = read_model_file(made.file)
    assert (file.spec.spec_version, file.spec.crop_um) == (SPEC_VERSION, pytest.approx(20 * RULES_RULER))
    assert file.spec.shown_as == older.spec.shown_as
    assert file.locator == shipped_locator().file.content
    assert Classifier.open(made.file).spec.note == ""


def test_a_file_of_whole_pictures_carries_no_locator(tiny_run):
    """It needs none."""
    file = read_model_file(tiny_run.path / Target.INT8.file_name)
    assert (file.locator, file.spec.locator) == (b"", None)


def test_another_locator_than_that_of_the_training_is_told(older, tmp_path):
    """In one line with both hashes; nothing is said where it is the same, or not known."""
    said = Says()
    for known in ("a" * 64, shipped_locator().spec.sha256, None):
        spec = older.spec.with_(training={"locator": known} if known else {})
        convert_files(replace(older, spec=spec), [Target.FLOAT32], tmp_path, force=True, report=said)
    told = [text for text in said.told if "locator" in text]
    assert told == [f"trained on crops of locator {'a' * 12}, the files carry {shipped_locator().spec.sha256[:12]}"]
