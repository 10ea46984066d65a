from __future__ import annotations

import io
import logging
import warnings
import zipfile
from itertools import pairwise

import flatbuffers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensor_types import tensor_types

from bloodcell_edge.errors import ConversionError, SpecError
from convert import compat

SIZE = 16  # pixels


@pytest.fixture(scope="module")
def files():
    """A tiny classifier as every target, and "dynamic-dense": dynamic with weights of Dense per channel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own
        import keras
        import tensorflow as tf

        keras.utils.set_random_seed(1)
        layers = [
            keras.Input((SIZE, SIZE, 3)),
            keras.layers.Rescaling(1 / 127.5, -1),
            keras.layers.Conv2D(16, 3, activation="relu6"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(128, activation="relu"),  # large enough for the dynamic target to quantize
            keras.layers.Dense(4, activation="softmax"),
        ]
        graph = tf.function(keras.Sequential(layers), autograph=False)
        graph = graph.get_concrete_function(tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32))
        ends = [[np.full((1, SIZE, SIZE, 3), value, np.float32)] for value in (0, 255)]

        def convert(target):
            converter = tf.lite.TFLiteConverter.from_concrete_functions([graph])
            converter._experimental_disable_per_channel_quantization_for_dense_layers = target != "dynamic-dense"
            if target != "float32":
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if target == "float16":
                converter.target_spec.supported_types = [tf.float16]
            if target == "int8":
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.inference_input_type = tf.uint8
                converter.representative_dataset = lambda: ends
            return bytes(converter.convert())

        return {target: convert(target) for target in ("float32", "float16", "dynamic", "dynamic-dense", "int8")}


def changed(flatbuffer, change):
    """The file after `change(model)` on its unpacked form."""
    model = compat.schema().ModelT.InitFromObj(compat.read_model(flatbuffer))
    change(model)
    builder = flatbuffers.Builder(len(flatbuffer))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def numbers(release):
    """A release as numbers, so that 2.14 comes after 2.4."""
    return tuple(int(number) for number in release.split("."))


def with_unknown_version(model):
    """Raise the first operator's version beyond any table."""
    model.operatorCodes[0].version = 99


def without_claim(model):
    """Remove what the converter wrote of the file's needs."""
    model.metadata = []


def test_operators_of_an_int8_file(files):
    """An int8 file's operators are listed by name with version, count and first release."""
    found = compat.operators(files["int8"])
    assert found == tuple(sorted(found, key=lambda operator: operator.name))
    assert compat.Operator("CONV_2D", 3, 1, "1.14.0") in found
    assert compat.Operator("FULLY_CONNECTED", 4, 2, "1.14.0") in found
    assert compat.Operator("QUANTIZE", 1, 1, "1.14.0") in found


@pytest.mark.parametrize("target", ["float32", "float16", "dynamic", "dynamic-dense", "int8"])
def test_min_runtime_is_what_the_converter_says(files, target):
    """The table gives what TensorFlow's own converter wrote into the file as min_runtime_version."""
    flatbuffer = files[target]
    claim = flatbuffer[_claim_position(flatbuffer) :][:16].rstrip(b"\0").decode()
    assert compat.min_runtime(flatbuffer) == claim
    assert all(operator.min_runtime for operator in compat.operators(flatbuffer))


def _claim_position(flatbuffer):
    """Where the text of min_runtime_version begins."""
    model = compat.read_model(flatbuffer)
    entries = [model.Metadata(index) for index in range(model.MetadataLength())]
    (entry,) = [entry for entry in entries if entry.Name() == b"min_runtime_version"]
    content = bytes(model.Buffers(entry.Buffer()).DataAsNumpy())
    return flatbuffer.index(content)


def test_dense_per_channel_does_not_load_on_tflite_runtime(files):
    """Of a dynamic file with Dense per channel, FULLY_CONNECTED v12 does not load on 2.14.0; per tensor, all does."""
    (refused,) = [one for one in compat.operators(files["dynamic-dense"]) if numbers(one.min_runtime) > (2, 14, 0)]
    assert (refused.name, refused.version, refused.min_runtime) == ("FULLY_CONNECTED", 12, "2.17.0")
    assert compat.min_runtime(files["dynamic-dense"]) == "2.17.0"
    assert numbers(compat.min_runtime(files["dynamic"])) <= (2, 14, 0)


def test_releases_compare_as_numbers(files):
    """2.14 is newer than 2.3, with or without its last number, and the newest decides what a file needs."""
    assert compat.min_runtime(files["dynamic"]) == "2.3.0"
    newest = [one.name for one in compat.operators(files["dynamic"]) if one.min_runtime == "2.3.0"]
    assert newest == ["FULLY_CONNECTED"]
    assert compat.min_runtime(files["dynamic-dense"]) == "2.17.0"
    assert max("2.3", "2.14", "2.14.0", "2.9.1", key=compat._ordered) == "2.14"


def test_an_unknown_operator_goes_by_the_files_own_claim(files, caplog):
    """An operator version outside the table is judged by min_runtime_version, and a warning says so."""
    newer = changed(files["float16"], with_unknown_version)
    with caplog.at_level(logging.WARNING):
        assert compat.min_runtime(newer) == "1.15.0"
    assert "v99 not in the table: going by the file's own claim, 1.15.0" in caplog.text
    assert [operator.version for operator in compat.operators(newer) if not operator.min_runtime] == [99]


def test_an_unknown_operator_without_a_claim_is_an_error(files):
    """Without min_runtime_version nothing is known: min_runtime raises, and no release is said to run the operator."""
    mute = changed(changed(files["float32"], with_unknown_version), without_claim)
    with pytest.raises(ConversionError, match=r"no known release runs \w+ v99"):
        compat.min_runtime(mute)
    assert [operator.version for operator in compat.operators(mute) if not operator.min_runtime] == [99]


def test_a_zip_behind_the_flatbuffer_changes_nothing(files):
    """Every answer is the same with a zip appended, as finished model files have."""
    content = io.BytesIO(files["int8"])
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("labels.txt", "a\nb\n")
    for ask in (compat.operators, compat.min_runtime, compat.float_tensors, compat.input_quantization):
        assert ask(content.getvalue()) == ask(files["int8"])


def test_only_the_output_of_an_int8_file_is_floating_point(files):
    """float_tensors finds one tensor in a full-integer file, the graph's output, and all of them in a float file."""
    graph = compat.read_model(files["int8"]).Subgraphs(0)
    assert compat.float_tensors(files["int8"]) == (graph.Tensors(graph.Outputs(0)).Name().decode(),)
    types = tensor_types(files["int8"])
    assert (types["FLOAT32"], types["UINT8"]) == (1, 1)
    assert set(types) == {"FLOAT32", "UINT8", "INT8", "INT32"}
    assert "FLOAT16" in tensor_types(files["float16"])


def test_input_quantization(files):
    """With black and white among the samples the uint8 input takes raw pixels; a float input has no scale."""
    assert compat.input_quantization(files["int8"]) == (1.0, 0)
    assert compat.input_quantization(files["float32"]) is None


def test_what_is_not_tflite_is_refused():
    """Bytes without the TFLite identifier are a SpecError that says what was found."""
    with pytest.raises(SpecError, match="not a TFLite file: expected b'TFL3' at byte 4, found b'a pi'"):
        compat.operators(b"not a picture")


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_an_error_of_ours(files, share):
    """Cut anywhere, a file gives an answer or a SpecError, nothing else."""
    cut = files["int8"][: int(share * len(files["int8"]))]
    try:
        compat.operators(cut)
    except SpecError as error:
        assert "TFLite" in str(error)  # noqa: PT017 - both outcomes are right


def test_releases_never_go_back():
    """In each row of the table a later version never needs an older release."""
    for name, releases in compat.FIRST_RELEASE.items():
        numbers = [tuple(map(int, release.split("."))) for release in releases]
        assert all(len(number) == 3 for number in numbers), name
        assert all(earlier <= later for earlier, later in pairwise(numbers)), name


def test_litert_knows_every_row_of_the_table(files):
    """The LiteRT installed here opens a file with any operator version in the table, and refuses version 99."""
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    codes = compat.schema().BuiltinOperator

    def with_operator(name, version):
        code = getattr(codes, name)
        new = compat.schema().OperatorCodeT(min(code, 127), None, version, code)
        return changed(files["float32"], lambda model: model.operatorCodes.append(new))

    for name, releases in compat.FIRST_RELEASE.items():
        for version in range(1, len(releases) + 1):
            interpreter(model_content=with_operator(name, version))
    with pytest.raises(ValueError, match="Didn't find op"):
        interpreter(model_content=with_operator("ADD", 99))
