"""The network of the locator and what it is trained by.

Fully convolutional: an input of any size, a point of output for every 4 pixels. A depthwise-separable pyramid down to
1/16 and up again, so that a point sees its cell and the field around it. About 106,000 parameters.
"""

from __future__ import annotations

from typing import Any

from ..frameworks import keras, tf

INPUT_SIZE = (144, 192)
"""(height, width) of the network's input, pixels."""

OUTPUTS = ("white", "shape", "ruler")
"""Names of its outputs, in order."""

LOSS_WEIGHTS = {"white": 1.0, "shape": 0.5, "ruler": 0.5}

_FEW = 1e-4
_EXPECTED_PEAKS = 8.0  # added to their number, so that a batch with few of them does not shout
_RARE_HEAT = -3.5  # logit that the heat map starts from: few points are cells


def build_network(size: tuple[int, int] = INPUT_SIZE) -> Any:
    """A new network: uint8 levels 0..255 as float32 in; heat 0..1, shape and ruler out."""
    layers = keras.layers
    entry = layers.Input((*size, 3), name="picture")
    x = layers.Rescaling(1 / 127.5, -1.0)(entry)
    x = _normal(layers.Conv2D(16, 3, 2, "same", use_bias=False)(x))
    x = _normal(layers.Conv2D(32, 3, 2, "same", use_bias=False)(x))
    quarter = _separable(x, 32)
    eighth = _separable(_separable(_separable(quarter, 64, stride=2), 64), 64)
    x = _separable(eighth, 112, stride=2)
    for _ in range(3):
        x = _separable(x, 112, kernel=5)
    whole = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.ReLU(6.0)(layers.Add()([x, layers.Conv2D(112, 1)(layers.Conv2D(32, 1, activation="relu")(whole))]))
    x = _separable(_joined(x, eighth, 64), 64)
    x = _separable(_separable(_joined(x, quarter, 32), 48), 48)
    rare = keras.initializers.Constant(_RARE_HEAT)
    heat = layers.Conv2D(1, 1, activation="sigmoid", bias_initializer=rare, name="white")(x)
    shape = layers.Conv2D(5, 1, name="shape")(x)
    ruler = layers.Conv2D(2, 1, name="ruler")(x)
    return keras.Model(entry, [heat, shape, ruler], name="locator")


def _normal(x: Any, *, active: bool = True) -> Any:
    x = keras.layers.BatchNormalization(momentum=0.97)(x)
    return keras.layers.ReLU(6.0)(x) if active else x


def _separable(x: Any, channels: int, *, stride: int = 1, kernel: int = 3) -> Any:
    layers = keras.layers
    y = _normal(layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False)(x))
    y = _normal(layers.Conv2D(channels, 1, use_bias=False)(y), active=False)
    if stride == 1 and x.shape[-1] == channels:
        y = layers.Add()([x, y])
    return layers.ReLU(6.0)(y)


def _joined(small: Any, large: Any, channels: int) -> Any:
    """A coarse level brought to the size of a finer one, and added to it."""
    layers = keras.layers
    up = layers.UpSampling2D(2, interpolation="nearest")(_normal(layers.Conv2D(channels, 1, use_bias=False)(small)))
    return layers.ReLU(6.0)(layers.Add()([up, large]))


def white_loss(target: Any, heat: Any) -> Any:
    """Focal loss on a heat map of centres (Law and Deng 2018, CornerNet, eq. 1), weighted by point."""
    heat = tf.clip_by_value(heat[..., 0], _FEW, 1 - _FEW)
    wanted, weight = target[..., 0], target[..., 1]
    peak = tf.cast(wanted >= 0.999, tf.float32)
    hit = -peak * (1 - heat) ** 2 * tf.math.log(heat)
    miss = -(1 - peak) * (1 - wanted) ** 4 * heat**2 * tf.math.log(1 - heat) * weight
    return tf.reduce_sum(hit + miss) / (tf.reduce_sum(peak) + _EXPECTED_PEAKS)


def shape_loss(target: Any, shape: Any) -> Any:
    """Mean absolute error of the box, and of the share of the cell that is seen, where a cell lies."""
    box, seen = target[..., 5], target[..., 6]
    missed = tf.abs(shape - target[..., :5])
    boxes = tf.reduce_sum(box * tf.reduce_sum(missed[..., :4], -1)) / (2 * tf.reduce_sum(box) + 1)
    return boxes + tf.reduce_sum(seen * missed[..., 4]) / (tf.reduce_sum(seen) + 1)


def ruler_loss(target: Any, ruler: Any) -> Any:
    """Each point says the scale and how sure it is, and the picture's weighted mean must be right.

    The first is the negative log-likelihood of a Laplace distribution.
    """
    sure = tf.clip_by_value(ruler[..., 0], -1.0, 1.5)
    missed = tf.abs(ruler[..., 1] - target[..., 0])
    narrow = 2.0 ** (2.0 * sure + 2.0)  # one over the scale of the distribution
    each = tf.reduce_mean(missed * narrow - tf.math.log(narrow))
    weight = 4.0**sure
    mean = tf.reduce_sum(weight * ruler[..., 1], (1, 2)) / tf.reduce_sum(weight, (1, 2))
    return each + 3.0 * tf.reduce_mean(tf.abs(mean - target[:, 0, 0, 0]))


LOSSES = {"white": white_loss, "shape": shape_loss, "ruler": ruler_loss}
