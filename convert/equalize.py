"""Make a trained network easy to quantize, without changing what it says.

MobileNetV2's ImageNet weights hold channels that 8 bits cannot: the first ReLU6 uses a quarter of its range, a
depthwise channel is amplified 1,900 times, and sums of large weights cancel. Training that leaves early blocks frozen
leaves them so. Three data-driven steps of Nagel et al. 2019 (Data-Free Quantization through Weight Equalization and
Bias Correction, ICCV, sections 4.1 and 4.2) mend most of it after training:

* `absorb_means`: channels of a linear bottleneck are brought to mean 0, the constant goes into the BatchNorm behind the
  next convolution; then all of them are scaled to one range.
* `equalize_ranges`: a channel in front of a depthwise convolution is scaled up until it uses its ReLU6, and the kernel
  behind it is scaled down. Below the cap ReLU6 is linear, so the network says the same.
* `correct_biases`: rounding a kernel shifts the mean of its output by (rounded - exact) x mean input. That shift is
  taken out of the BatchNorm behind it. Only for the int8 file: in float there is nothing to correct.

Measured as agreement of int8 with Keras at 224 px: a network with six frozen blocks, 581 held-back pictures, 95.2 %
without any of them, 98.1 % without the first; one that was fine-tuned whole, 606 pictures, 97.9 % without the first,
98.7 % with all. All work on a copy; layers that are not built this way are left as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell_edge.training.frameworks import keras

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEASURED_ON = 60
"""Representative pictures that ranges and means are taken from; they settle long before."""

_RELU6_USED = 4.0  # of 6: pictures other than the measured ones may reach half as far again before the cap cuts
_DEAD = 1e-6  # a channel that never fires has no range to scale
_MOST = 1e4
_BATCH = 20


def prepare_for_int8(model: Any, pixels: NDArray[np.uint8]) -> Any:
    """A copy of a model whose int8 conversion loses less.

    Args:
        model: a Keras model that takes float32 RGB 0..255.
        pixels: representative pictures, uint8 RGB, shape (n, height, width, 3). Those of one colour all over (the black
            and the white one) set the input's range, but no cell looks so: they are not measured here.

    Returns:
        A new Keras model. As float it answers as the given one but for the biases, which are right after rounding.
    """
    varied = [picture for picture in pixels if picture.min() != picture.max()][:MEASURED_ON]
    if not varied:
        return model
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    some = np.stack(varied).astype(np.float32)
    absorb_means(copy, some)
    equalize_ranges(copy, some)
    correct_biases(copy, some)
    return copy


def absorb_means(model: Any, pictures: NDArray[np.float32]) -> None:
    """Bring the channels between a BatchNorm and a 1 x 1 convolution, nothing else between, to mean 0 and one range.

    Args:
        model: changed in place; answers as before.
        pictures: float32 RGB 0..255, shape (n, height, width, 3).
    """
    triples = [found for layer in model.layers if (found := _linear_pair(layer)) is not None]
    outputs = [norm.output for norm, _, _ in triples]
    means = _over_pictures(model, outputs, pictures, np.mean)
    highest, lowest = (_over_pictures(model, outputs, pictures, reduce) for reduce in (np.max, np.min))
    for (norm, convolution, behind), mean, high, low in zip(triples, means, highest, lowest, strict=True):
        reach = np.maximum(high - mean, mean - low)
        scale = np.maximum(reach / reach.max(), 1 / _MOST)
        gamma, beta, *moments = norm.get_weights()
        norm.set_weights([gamma / scale, (beta - mean) / scale, *moments])
        kernel, *bias = convolution.get_weights()
        convolution.set_weights([kernel * scale[None, None, :, None], *bias])
        gain, offset, moving_mean, variance = behind.get_weights()
        behind.set_weights([gain, offset, moving_mean - mean @ kernel[0, 0], variance])


def _linear_pair(layer: Any) -> tuple[Any, Any, Any] | None:
    """(BatchNorm, 1 x 1 convolution, BatchNorm) that follow each other with nothing beside them."""
    if not isinstance(layer, keras.layers.Conv2D) or layer.kernel_size != (1, 1):
        return None
    norm, behind = _producer(layer), _consumers(layer)
    norms = keras.layers.BatchNormalization
    if not isinstance(norm, norms) or len(_consumers(norm)) != 1 or not isinstance(behind[0], norms):
        return None
    return norm, layer, behind[0]


def equalize_ranges(model: Any, pictures: NDArray[np.float32]) -> None:
    """Scale each channel between a BatchNorm, a ReLU6 and a depthwise convolution so that it uses the ReLU6.

    Args:
        model: changed in place.
        pictures: float32 RGB 0..255, shape (n, height, width, 3).
    """
    triples = [found for layer in model.layers if (found := _before_depthwise(layer)) is not None]
    largest = _over_pictures(model, [relu.output for _, relu, _ in triples], pictures, np.max)
    for (norm, _, depthwise), reached in zip(triples, largest, strict=True):
        scale = np.where(reached > _DEAD, np.clip(_RELU6_USED / np.maximum(reached, _DEAD), 1.0, _MOST), 1.0)
        gamma, beta, *moments = norm.get_weights()
        norm.set_weights([gamma * scale, beta * scale, *moments])
        kernel, *bias = depthwise.get_weights()
        depthwise.set_weights([kernel / scale[None, None, :, None], *bias])


def correct_biases(model: Any, pictures: NDArray[np.float32]) -> None:
    """Take the mean error of int8 kernels out of the BatchNorm, or the bias, behind them.

    Args:
        model: changed in place.
        pictures: float32 RGB 0..255, shape (n, height, width, 3).
    """
    kinds = (keras.layers.Conv2D, keras.layers.Dense)  # a depthwise convolution is a Conv2D to neither
    layers = [layer for layer in model.layers if isinstance(layer, (*kinds, keras.layers.DepthwiseConv2D))]
    means = _over_pictures(model, [layer.input for layer in layers], pictures, np.mean)
    for layer, mean in zip(layers, means, strict=True):
        error = _rounded(layer) - layer.get_weights()[0]
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            shift = error[..., 0].sum(axis=(0, 1)) * mean
        else:
            shift = mean @ error.reshape(-1, *error.shape[-2:]).sum(axis=0)
        _take_out(layer, shift)


def _before_depthwise(layer: Any) -> tuple[Any, Any, Any] | None:
    """(BatchNorm, ReLU6, depthwise) where a depthwise convolution follows them, padding between or not."""
    if not isinstance(layer, keras.layers.DepthwiseConv2D):
        return None
    relu = _producer(layer)
    if isinstance(relu, keras.layers.ZeroPadding2D):
        relu = _producer(relu)
    if not isinstance(relu, keras.layers.ReLU) or relu.max_value != 6.0 or len(_consumers(relu)) != 1:
        return None
    norm = _producer(relu)
    return (norm, relu, layer) if isinstance(norm, keras.layers.BatchNormalization) else None


def _producer(layer: Any) -> Any:
    """The layer whose output a layer takes."""
    return layer.input._keras_history.operation


def _consumers(layer: Any) -> list[Any]:
    """The layers that take a layer's output."""
    return [node.operation for node in layer._outbound_nodes]


def _rounded(layer: Any) -> NDArray[np.float32]:
    """A kernel as int8 holds it: symmetric, per output channel, Dense per tensor (see targets.py)."""
    kernel = layer.get_weights()[0]
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        axes: tuple[int, ...] | None = (0, 1, 3)
    else:
        axes = (0, 1, 2) if kernel.ndim == 4 else None
    step = np.abs(kernel).max(axis=axes, keepdims=True) / 127
    step = np.where(step == 0, 1, step)
    rounded: NDArray[np.float32] = np.round(kernel / step) * step
    return rounded


def _take_out(layer: Any, shift: NDArray[np.float32]) -> None:
    followers = _consumers(layer)
    if len(followers) == 1 and isinstance(followers[0], keras.layers.BatchNormalization):
        gamma, beta, mean, variance = followers[0].get_weights()
        followers[0].set_weights([gamma, beta, mean + shift, variance])
    elif len(layer.get_weights()) == 2:
        kernel, bias = layer.get_weights()
        layer.set_weights([kernel, bias - shift])


def _over_pictures(
    model: Any, outputs: list[Any], pictures: NDArray[np.float32], reduce: Any
) -> list[NDArray[np.float32]]:
    """`np.max` or `np.mean` of each channel of some tensors over all pictures and places."""
    if not outputs:
        return []
    probe = keras.Model(model.inputs, outputs)
    parts: list[list[NDArray[np.float32]]] = [[] for _ in outputs]
    for start in range(0, len(pictures), _BATCH):
        answers = probe.predict_on_batch(pictures[start : start + _BATCH])
        for part, answer in zip(parts, answers if isinstance(answers, list) else [answers], strict=True):
            part.append(reduce(answer.reshape(len(answer), -1, answer.shape[-1]), axis=(0, 1)))
    return [np.asarray(reduce(np.stack(part), axis=0), np.float32) for part in parts]
