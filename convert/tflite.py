"""From a Keras model to the bytes of a TFLite model, checked after they are made."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell_edge.errors import ConversionError
from bloodcell_edge.quiet import quiet_stderr
from bloodcell_edge.training.frameworks import tf

from .compat import float_tensors, input_quantization
from .equalize import prepare_for_int8
from .targets import Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

ConverterError: type[Exception] = importlib.import_module("tensorflow.lite.python.convert_phase").ConverterError
"""What the converter raises; TensorFlow exports it under no public name."""


def to_tflite(
    model: Any, *, target: Target, representative: NDArray[np.uint8] | None = None, planes: bool = False
) -> bytes:
    """Convert a Keras model.

    Args:
        model: takes float32 RGB 0..255 of shape (n, height, width, 3) with scaling inside, gives probabilities.
        target: what to make.
        representative: uint8 RGB, shape (n, height, width, 3); black and white included (`with_full_range`).
        planes: it is a locator, whose outputs are planes: int8 ones stay as they are.

    Returns:
        The flatbuffer, without metadata, labels or spec.

    Raises:
        ConversionError: int8 without samples, a layer that TFLite does not have, or a result that is not what `target`
            promises.
    """
    if target.needs_samples and (representative is None or not len(representative)):
        message = f"{target.value}: needs a representative dataset, found none"
        raise ConversionError(message)
    try:
        with quiet_stderr():
            flatbuffer = bytes(make_converter(model, target, representative, planes=planes).convert())
    except ConverterError as error:
        first = next(iter(str(error).splitlines()), "no reason given")
        message = f"{target.value}: TensorFlow cannot convert this model ({first}); expected layers that TFLite has"
        raise ConversionError(message) from error
    _check(flatbuffer, target, planes=planes)
    return flatbuffer


def make_converter(
    model: Any, target: Target, representative: NDArray[np.uint8] | None, *, planes: bool = False
) -> Any:
    """A configured ``tf.lite.TFLiteConverter``, for one picture at a time."""
    if target is Target.INT8 and representative is not None and not planes:
        model = prepare_for_int8(model, representative)
    height, width = model.input_shape[1:3]
    signature = tf.TensorSpec((1, height, width, 3), tf.float32, name="image")
    traced = tf.function(lambda image: model(image, training=False), autograph=False)
    concrete = traced.get_concrete_function(signature)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])  # naming the model too leaves variables out
    converter.kept = model, concrete.graph.variables  # the graph alone holds them weakly
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True  # see targets.py
    if target is Target.FLOAT32:
        return converter
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if target is Target.FLOAT16:
        converter.target_spec.supported_types = [tf.float16]
    if target is Target.INT8 and representative is not None:
        samples = representative
        converter.representative_dataset = lambda: ([picture[np.newaxis].astype(np.float32)] for picture in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.int8 if planes else tf.float32
    return converter


def _check(flatbuffer: bytes, target: Target, *, planes: bool) -> None:
    """Re-open what was made: an int8 file takes raw bytes and computes with integers from end to end."""
    if target is not Target.INT8:
        return
    floats = float_tensors(flatbuffer)
    if len(floats) != (0 if planes else 1):
        expected = "no float tensor" if planes else "one float tensor, the probabilities"
        message = f"int8: expected {expected}, found {len(floats)}: {', '.join(floats[:5])}"
        raise ConversionError(message)
    found = input_quantization(flatbuffer)
    if found != (1.0, 0):
        message = (
            f"int8: expected an input of raw bytes (scale 1.0, zero point 0), found {found}; the representative "
            "dataset must hold RGB 0..255 with one black and one white picture, and the model must scale inside"
        )
        raise ConversionError(message)
