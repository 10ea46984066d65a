from __future__ import annotations

import numpy as np
import pytest
from tensor_types import tensor_types

from bloodcell_edge.dataset.reading import read_each
from bloodcell_edge.dataset.split import TRAIN, load_split
from bloodcell_edge.errors import ConversionError
from bloodcell_edge.imaging.image import prepare
from bloodcell_edge.model.flatbuffer import read_model, schema
from convert.compat import float_tensors, input_quantization, min_runtime, operators
from convert.representative import choose_pictures, with_full_range
from convert.targets import Target
from convert.tflite import to_tflite

OLDEST = (2, 14, 0)  # the last tflite-runtime, which many devices have


@pytest.fixture(scope="module")
def net(tiny_run):
    """The tiny run's Keras model."""
    from bloodcell_edge.training.kerasmodel import open_keras

    return open_keras(tiny_run.model)


@pytest.fixture(scope="module")
def samples(net, tiny_run):
    """Its training pictures by class, prepared: label -> uint8 (50, 64, 64, 3)."""
    rows = [row.picture for row in load_split(tiny_run.split) if row.split == TRAIN]
    chosen = choose_pictures(rows, net.spec.labels, seed=0)
    done, _ = read_each(chosen, lambda image: prepare(image, net.spec.input_size))
    return {label: np.stack([made for one, made in done if one.label == label]) for label in net.spec.labels}


@pytest.fixture(scope="module")
def small(colours):
    """A network of few layers, which is converted in a moment: what is refused does not hang on what it has learnt."""
    from bloodcell_edge.training.kerasmodel import open_keras

    return open_keras(colours.model).net


@pytest.fixture(scope="module")
def small_samples():
    """Pictures for it: uint8 (60, 32, 32, 3)."""
    return np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def files(net, samples):
    """The model as every target, without metadata."""
    good = with_full_range(np.concatenate(list(samples.values())))
    return {target: to_tflite(net.net, target=target, representative=good) for target in Target}


def ends(flatbuffer: bytes) -> list[tuple[str, tuple[int, ...]]]:
    """Type and shape of the only input and the only output."""
    graph = read_model(flatbuffer).Subgraphs(0)
    assert (graph.InputsLength(), graph.OutputsLength()) == (1, 1)
    names = {number: name for name, number in vars(schema().TensorType).items() if isinstance(number, int)}
    tensors = [graph.Tensors(graph.Inputs(0)), graph.Tensors(graph.Outputs(0))]
    return [(names[tensor.Type()], tuple(tensor.ShapeAsNumpy().tolist())) for tensor in tensors]


@pytest.mark.parametrize("target", Target)
def test_a_file_takes_one_picture_and_gives_probabilities(files, target):
    """Input: uint8 for int8, float32 for the others, 1 x 64 x 64 x 3. Output: float32, one for each label."""
    entry = "UINT8" if target is Target.INT8 else "FLOAT32"

    assert ends(files[target]) == [(entry, (1, 64, 64, 3)), ("FLOAT32", (1, 4))]


def test_an_int8_file_takes_raw_bytes(files):
    """The uint8 input has scale 1.0 and zero point 0: the bytes of a picture are its values."""
    assert input_quantization(files[Target.INT8]) == (1.0, 0)


def test_an_int8_file_computes_with_integers(files):
    """The only float tensor of an int8 file is its output, given by the last of its DEQUANTIZE."""
    flatbuffer = files[Target.INT8]
    graph = read_model(flatbuffer).Subgraphs(0)

    assert float_tensors(flatbuffer) == (graph.Tensors(graph.Outputs(0)).Name().decode(),)
    assert [one.count for one in operators(flatbuffer) if one.name == "DEQUANTIZE"] == [1]
    assert tensor_types(flatbuffer)["INT8"] > 100


@pytest.mark.parametrize("target", [Target.INT8, Target.FLOAT16])
def test_the_default_files_run_on_old_devices(files, target):
    """Every operator of the int8 and the float16 file is known to tflite-runtime 2.14.0."""
    assert tuple(int(number) for number in min_runtime(files[target]).split(".")) <= OLDEST


def test_dense_weights_are_quantized_per_tensor(files):
    """In the int8 file a Dense layer's weights have one scale, a convolution's one for each channel."""
    model = read_model(files[Target.INT8])
    graph = model.Subgraphs(0)
    codes = {number: name for name, number in vars(schema().BuiltinOperator).items() if isinstance(number, int)}
    scales: dict[str, set[int]] = {}
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        name = codes[model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()]
        if name in ("FULLY_CONNECTED", "CONV_2D"):
            weights = graph.Tensors(operator.Inputs(1))
            scales.setdefault(name, set()).add(weights.Quantization().ScaleLength())

    assert scales["FULLY_CONNECTED"] == {1}
    assert min(scales["CONV_2D"]) > 1


def test_weights_are_stored_as_the_target_says(files):
    """float16 halves and int8 quarters the weights; the float32 file has neither type."""
    types = {target: tensor_types(flatbuffer) for target, flatbuffer in files.items()}
    sizes = {target: len(flatbuffer) for target, flatbuffer in files.items()}

    assert types[Target.FLOAT16]["FLOAT16"] > 50
    assert types[Target.DYNAMIC]["INT8"] > 20
    assert not types[Target.FLOAT32]["INT8"]
    assert not types[Target.FLOAT32]["FLOAT16"]
    assert sizes[Target.INT8] < sizes[Target.FLOAT16] < 0.6 * sizes[Target.FLOAT32]


@pytest.mark.parametrize("target", [Target.FLOAT32, Target.FLOAT16, Target.DYNAMIC])
def test_other_targets_need_no_pictures(net, files, target):
    """Without a representative dataset the others give the same file as with one, and int8 refuses."""
    assert to_tflite(net.net, target=target) == files[target]


@pytest.mark.parametrize("nothing", [None, np.empty((0, 64, 64, 3), np.uint8)], ids=["none", "empty"])
def test_int8_needs_pictures(net, nothing):
    """int8 without representative pictures is an error before anything is converted."""
    with pytest.raises(ConversionError, match="int8: needs a representative dataset, found none"):
        to_tflite(net.net, target=Target.INT8, representative=nothing)


def test_black_pictures_alone_are_refused(small):
    """Calibrated on black pictures, the input's scale is no longer 1: refused, with what the dataset must hold."""
    with pytest.raises(ConversionError, match=r"scale 1.0, zero point 0\), found .*one black and one white picture"):
        to_tflite(small, target=Target.INT8, representative=np.zeros((60, 32, 32, 3), np.uint8))


def test_pictures_scaled_to_one_are_refused(small, small_samples):
    """Calibrated on pictures scaled to 0..1, black and white among them, the input's scale is 1/255: refused."""
    scaled = with_full_range(small_samples).astype(np.float32) / 255

    with pytest.raises(ConversionError, match=r"found \(0.0039\d+, 0\)"):
        to_tflite(small, target=Target.INT8, representative=scaled)


def test_pictures_without_black_and_white_are_refused(small, small_samples):
    """Pictures without a black and a white among them do not span 0..255: refused."""
    with pytest.raises(ConversionError, match="black and one white"):
        to_tflite(small, target=Target.INT8, representative=small_samples // 2 + 20)


def test_a_layer_that_tflite_does_not_have_is_an_error_of_ours():
    """A model that TensorFlow cannot convert is a ConversionError that names the target, not a crash."""
    import keras
    import tensorflow as tf

    class Odd(keras.layers.Layer):
        def call(self, x):
            return tf.raw_ops.Betainc(a=x + 1.0, b=x + 1.0, x=x)  # no TFLite operator does this

    entry = keras.Input((8, 8, 3))
    model = keras.Model(entry, keras.layers.GlobalAveragePooling2D()(Odd()(entry)))

    with pytest.raises(ConversionError, match="float32: TensorFlow cannot convert this model"):
        to_tflite(model, target=Target.FLOAT32)


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v3_small",
        pytest.param("resnet50", marks=pytest.mark.long),
        pytest.param("efficientnet_v2_b0", marks=pytest.mark.long),
    ],
)
def test_other_backbones_convert(name):
    """A backbone of another family, 32 px and without pretrained weights, becomes an int8 file with integers inside."""
    from bloodcell_edge.training.backbone import build_model
    from bloodcell_edge.training.recipes import choose_recipe

    recipe = choose_recipe("field", backbone=name, weights="none", size=32)
    model, _, _ = build_model(recipe, 4)
    noise = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)

    flatbuffer = to_tflite(model, target=Target.INT8, representative=with_full_range(noise))

    assert ends(flatbuffer) == [("UINT8", (1, 32, 32, 3)), ("FLOAT32", (1, 4))]
    assert len(float_tensors(flatbuffer)) == 1
