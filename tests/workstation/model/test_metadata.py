from __future__ import annotations

import io
import warnings
import zipfile

import flatbuffers
import numpy as np
import pytest
from flatbuffers.table import Table
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.errors import ConversionError, SpecError
from bloodcell_edge.model.metadata import METADATA_NAME, add_metadata
from convert import compat

SIZE = 16  # pixels


@pytest.fixture(scope="module")
def files():
    """A tiny classifier: "int8" with uint8 input, "float32", and two that are refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own
        import keras
        import tensorflow as tf

        keras.utils.set_random_seed(1)
        entry = keras.Input((SIZE, SIZE, 3))
        inner = keras.layers.Conv2D(8, 3, activation="relu6")(keras.layers.Rescaling(1 / 127.5, -1)(entry))
        inner = keras.layers.GlobalAveragePooling2D()(inner)
        scores = keras.layers.Dense(4, activation="softmax")(inner)
        signature = tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32)
        ends = [[np.full((1, SIZE, SIZE, 3), value, np.float32)] for value in (0, 255)]

        def convert(outputs, input_type):
            model = tf.function(keras.Model(entry, outputs), autograph=False).get_concrete_function(signature)
            converter = tf.lite.TFLiteConverter.from_concrete_functions([model])
            if input_type != tf.float32:
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.inference_input_type = input_type
                converter.representative_dataset = lambda: ends
            return bytes(converter.convert())

        return {
            "int8": convert(scores, tf.uint8),
            "float32": convert(scores, tf.float32),
            "int8 input": convert(scores, tf.int8),
            "two outputs": convert([scores, inner], tf.float32),
        }


def described(flatbuffer, **changes):
    """`add_metadata` with everything given, but for `changes`."""
    return add_metadata(flatbuffer, **({"name": "cells", "description": "four cells", "version": "2"} | changes))


def entries(flatbuffer):
    """The model's metadata: name -> bytes."""
    model = compat.read_model(flatbuffer)
    listed = [model.Metadata(index) for index in range(model.MetadataLength())]
    return {entry.Name(): bytes(model.Buffers(entry.Buffer()).DataAsNumpy()) for entry in listed}


def answers(flatbuffer):
    """What LiteRT says of eight random pictures."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=flatbuffer)
    interpreter.allocate_tensors()
    entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    rng = np.random.default_rng(3)
    found = []
    for _ in range(8):
        interpreter.set_tensor(entry["index"], rng.integers(0, 256, entry["shape"]).astype(entry["dtype"]))
        interpreter.invoke()
        found.append(interpreter.get_tensor(exit_["index"]))
    return np.stack(found)


class Reader:
    """A table of the metadata, read by field number as metadata_schema.fbs counts them."""

    def __init__(self, content, place):
        self.table = Table(content, place)

    @classmethod
    def root(cls, content):
        return cls(content, int.from_bytes(content[:4], "little"))

    def _place(self, field):
        return self.table.Offset(4 + 2 * field)

    def text(self, field):
        place = self._place(field)
        return self.table.String(place + self.table.Pos).decode() if place else None

    def number(self, field):
        return self.table.GetSlot(4 + 2 * field, 0, flatbuffers.number_types.Uint8Flags)

    def child(self, field):
        return Reader(self.table.Bytes, self.table.Indirect(self._place(field) + self.table.Pos))

    def children(self, field):
        start, count = self.table.Vector(self._place(field)), self.table.VectorLen(self._place(field))
        return [Reader(self.table.Bytes, self.table.Indirect(start + 4 * index)) for index in range(count)]

    def floats(self, field):
        return self.table.GetVectorAsNumpy(flatbuffers.number_types.Float32Flags, self._place(field)).tolist()


@pytest.mark.parametrize("target", ["int8", "float32"])
def test_the_model_answers_as_before(files, target):
    """LiteRT gives equal bits for the file with and without metadata."""
    before = answers(files[target])
    np.testing.assert_array_equal(answers(described(files[target])), before)
    assert np.ptp(before, axis=0).max() > 0, "the test model answers the same for every picture"


@pytest.mark.parametrize("target", ["int8", "float32"])
def test_the_input_is_raw_rgb_and_the_labels_are_named(files, target):
    """Readers find: RGB, mean 0, standard deviation 1, 0..255, and the file that names the output's labels."""
    content = entries(described(files[target], labels_file="names.txt"))[METADATA_NAME]
    assert content[4:8] == b"M001"
    root = Reader.root(content)
    assert (root.text(0), root.text(1), root.text(2), root.text(7)) == ("cells", "four cells", "2", "1.0.0")
    (graph,) = root.children(3)
    (entry,), (exit_,) = graph.children(2), graph.children(3)
    image = entry.child(3)
    assert (image.number(0), image.child(1).number(0)) == (2, 1)  # ImageProperties, RGB
    (process,) = entry.children(4)
    assert (process.number(0), process.child(1).floats(0), process.child(1).floats(1)) == (1, [0.0], [1.0])
    assert (entry.child(5).floats(0), entry.child(5).floats(1)) == ([255.0], [0.0])
    (labels,) = exit_.children(6)
    assert (labels.text(0), labels.number(2)) == ("names.txt", 2)  # TENSOR_AXIS_LABELS


@given(name=st.text(), description=st.text(), author=st.text())
def test_any_text_comes_back(files, name, description, author):
    """Names, descriptions and authors in any script are read back as given; an empty author is left out."""
    content = entries(described(files["float32"], name=name, description=description, author=author))[METADATA_NAME]
    root = Reader.root(content)
    assert (root.text(0), root.text(1), root.text(4)) == (name, description, author or None)


def test_other_entries_stay(files):
    """min_runtime_version and what else the converter wrote are there as before."""
    before, after = entries(files["int8"]), entries(described(files["int8"]))
    assert b"min_runtime_version" in before
    assert {name: content for name, content in after.items() if name != METADATA_NAME} == before
    assert compat.operators(described(files["int8"])) == compat.operators(files["int8"])


def test_older_metadata_is_replaced(files):
    """Describing a file again leaves one TFLITE_METADATA, the newer."""
    again = described(described(files["int8"]), name="newer")
    assert compat.read_model(again).MetadataLength() == len(entries(again)) == len(entries(files["int8"])) + 1
    assert Reader.root(entries(again)[METADATA_NAME]).text(0) == "newer"


def test_weights_begin_at_multiples_of_16_bytes(files):
    """Every buffer lies where schema.fbs asks, although the converter's own file does not keep to it."""
    content = described(files["int8"])
    model = compat.read_model(content)
    buffers = [model.Buffers(index) for index in range(model.BuffersLength())]
    places = [
        buffer.DataAsNumpy().__array_interface__["data"][0] - np.frombuffer(content, np.uint8).ctypes.data
        for buffer in buffers
        if buffer.DataLength()
    ]
    assert len(places) > 4
    assert {place % 16 for place in places} == {0}
    assert len(content) % 16 == 0


def test_the_same_arguments_give_the_same_bytes(files):
    """Nothing of the time or the machine gets into the file."""
    assert described(files["int8"]) == described(files["int8"])
    assert described(files["int8"]) != described(files["int8"], version="3")


def test_a_zip_may_follow(files):
    """With labels.txt appended, zipfile reads the labels and LiteRT the model."""
    content = io.BytesIO(described(files["int8"]))
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("labels.txt", "a\nb\n")
    assert zipfile.ZipFile(content).read("labels.txt") == b"a\nb\n"
    np.testing.assert_array_equal(answers(content.getvalue()), answers(files["int8"]))


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [("int8 input", "expected a uint8 or float32 input"), ("two outputs", "one output, found 1 and 2")],
)
def test_what_image_clients_cannot_read_is_refused(files, kind, complaint):
    """An int8 input or a second output is an error that says what was expected."""
    with pytest.raises(ConversionError, match=complaint):
        described(files[kind])


def test_what_is_not_tflite_is_refused():
    """Bytes that are no TFLite file are a SpecError."""
    with pytest.raises(SpecError, match="not a TFLite file"):
        described(b"PK\x03\x04 something else")
