"""Where an int8 file loses what the Keras model knew: the layer-by-layer look when the gate fails."""

from __future__ import annotations

import csv
import io
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell_edge.quiet import quiet_stderr
from bloodcell_edge.records import LayerError
from bloodcell_edge.training.frameworks import tf

from .targets import Target
from .tflite import make_converter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LOOKED_AT = 20
"""Pictures that the layers are compared on; seconds are enough to rank them."""

LOSSY = 1.0
"""Errors above one quantization step are more than rounding: the layer's range is too wide for 256 steps."""

_MOST = 8


def worst_layers(model: Any, pixels: NDArray[np.uint8], *, most: int = _MOST) -> tuple[LayerError, ...]:
    """Quantize a model anew on some pictures and rank its layers by what they lose.

    TensorFlow's QuantizationDebugger runs each layer in float and in int8 on the same input. It looks at a fresh
    quantization, not at a finished file, and quantizes Dense per channel whatever the converter was told.

    Args:
        model: a Keras model that takes float32 RGB 0..255.
        pixels: uint8 RGB, shape (n, height, width, 3), to calibrate and compare on.
        most: how many layers to give.
    """
    converter = make_converter(model, Target.INT8, pixels)
    converter.inference_input_type = converter.inference_output_type = tf.float32

    def samples() -> Any:
        return ([picture[np.newaxis].astype(np.float32)] for picture in pixels)

    with quiet_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        debugger = tf.lite.experimental.QuantizationDebugger(converter=converter, debug_dataset=samples)
        debugger.run()
    table = io.StringIO()
    debugger.layer_statistics_dump(table)
    table.seek(0)
    found = [
        LayerError(_keras_name(row["tensor_name"]), row["op_name"], _steps(row))
        for row in csv.DictReader(table)
        if float(row["scale"]) > 0
    ]
    return tuple(sorted(found, key=lambda one: one.error, reverse=True)[:most])


def _steps(row: dict[str, str]) -> float:
    return math.sqrt(float(row["mean_squared_error"])) / float(row["scale"])


def _keras_name(tensor: str) -> str:
    """``bloodcell_1/block_1_expand_1/convolution;...`` is the layer block_1_expand."""
    parts = tensor.split(";")[0].split("/")
    name = parts[1] if len(parts) > 1 else parts[0]
    return name.removesuffix("_1")


def advice(layers: Sequence[LayerError]) -> str:
    """What to try, given the worst layers."""
    lossy = [one.layer for one in layers if one.error > LOSSY]
    if not lossy:
        return (
            "quantized afresh on these pictures the layers lose little more than rounding, so the file's own "
            "representative dataset is to blame: convert again, calibrating on training pictures of every class"
        )
    return (
        f"the ranges of {', '.join(lossy[:3])} are too wide for 256 steps: fine-tune the backbone (--fine-tune 12), "
        "since a frozen one was never trained on such pictures; or ship the float16 file"
    )
