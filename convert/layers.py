"""Where an int8 file loses what the Keras model knew: the layer-by-layer look when the gate fails."""

from __future__ import annotations

import csv
import io
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell_edge.model.interpreter import interpreter_of
from bloodcell_edge.quiet import quiet_stderr
from bloodcell_edge.text import percent
from bloodcell_edge.training.frameworks import tf

from .reports import LayerError
from .representative import with_full_range
from .targets import Target
from .tflite import make_converter, to_tflite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LOOKED_AT = 100
"""Pictures that a model is quantized afresh on, and asked about."""

_COMPARED = 20  # pictures that the layers are compared on: enough to rank them

LOSSY = 1.0
"""Errors above one quantization step are more than rounding: the layer's range is too wide for 256 steps."""

_MOST = 8


def worst_layers(model: Any, pixels: NDArray[np.uint8], *, most: int = _MOST) -> tuple[LayerError, ...]:
    """Quantize a model anew on some pictures and rank its layers by what they lose.

    TensorFlow's QuantizationDebugger runs each layer in float and in int8 on the same input. It looks at a fresh
    quantization, not at a finished file, and quantizes Dense per channel whatever the converter was told.

    Args:
        model: a Keras model that takes float32 RGB 0..255.
        pixels: uint8 RGB, shape (n, height, width, 3), to calibrate on; layers are compared on the first of them.
        most: how many layers to give.
    """
    converter = make_converter(model, Target.INT8, with_full_range(pixels))
    converter.inference_input_type = converter.inference_output_type = tf.float32

    def samples() -> Any:
        return ([picture[np.newaxis].astype(np.float32)] for picture in pixels[:_COMPARED])

    with quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=samples)
        debugger.run()
    table = io.StringIO()
    debugger.layer_statistics_dump(table)
    table.seek(0)
    found = [
        LayerError(_keras_name(row["tensor_name"], model), row["op_name"], _steps(row))
        for row in csv.DictReader(table)
        if float(row["scale"]) > 0
    ]
    return tuple(sorted(found, key=lambda one: one.error, reverse=True)[:most])


def _steps(row: dict[str, str]) -> float:
    return math.sqrt(float(row["mean_squared_error"])) / float(row["scale"])


def _keras_name(tensor: str, model: Any) -> str:
    """``bloodcell_1/block_1_expand_1/convolution;...`` is the layer block_1_expand, ``Identity`` the output's."""
    if tensor.startswith("Identity"):
        return str(model.layers[-1].name)
    parts = tensor.split(";")[0].split("/")
    name = parts[1] if len(parts) > 1 else parts[0]
    return name.removesuffix("_1")


def agreement_afresh(model: Any, pixels: NDArray[np.uint8]) -> float:
    """Percent of pictures on which a model and an int8 file calibrated on these very pictures agree.

    What such a file loses is the model's fault; what a file loses beyond that is its representative dataset's.

    Args:
        model: a Keras model that takes float32 RGB 0..255.
        pixels: uint8 RGB, shape (n, height, width, 3).
    """
    interpreter = interpreter_of(to_tflite(model, target=Target.INT8, representative=with_full_range(pixels)))
    said = [int(np.argmax(interpreter.scores(picture))) for picture in pixels]
    expected = np.argmax(model.predict_on_batch(pixels.astype(np.float32)), axis=1)
    return 100 * float(np.mean(expected == said))


def advice(layers: Sequence[LayerError], *, afresh: float, min_agreement: float) -> str:
    """What to try where an int8 file failed.

    Args:
        layers: of `worst_layers`.
        afresh: of `agreement_afresh`, in percent.
        min_agreement: the gate's, in percent.
    """
    found = f"quantized afresh on the compared pictures the model keeps {percent(afresh, whole=100)} of its answers"
    if afresh >= min_agreement:
        return (
            f"{found}, so the file's own representative dataset is to blame: "
            "convert again, calibrating on training pictures of every class"
        )
    lossy = [one.layer for one in layers if one.error > LOSSY]
    if lossy:
        return (
            f"{found}: the ranges of {', '.join(lossy[:3])} are too wide for 256 steps. Fine-tune all of the backbone "
            "(--fine-tune -1), since a frozen one was never trained on such pictures; or ship the float16 file"
        )
    return (
        f"{found}, though its layers lose little more than rounding: it is unsure of these pictures. "
        "Train it longer or on more; or ship the float16 file"
    )
