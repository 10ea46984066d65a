"""Networks that others made: each that cannot be taken is one line with the mend."""

from __future__ import annotations

import numpy as np
import pytest

from bloodcell_edge.dataset.pictures import LABELS
from bloodcell_edge.errors import SpecError
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.kerasmodel import open_keras


def net(shape=(32, 32, 3), activation="softmax", **options):
    layers = keras.layers
    entry = keras.Input(shape, **options)
    x = layers.Conv2D(4, 3, strides=2, activation="relu")(layers.Rescaling(1 / 255)(entry))
    return keras.Model(entry, layers.Dense(4, activation=activation)(layers.GlobalAveragePooling2D()(x)))


def spoilt():
    model = net()
    model.layers[-1].set_weights([np.full_like(one, np.nan) for one in model.layers[-1].get_weights()])
    return model


def half():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return net()
    finally:
        keras.config.set_dtype_policy(policy)


def two_outputs():
    model = net()
    return keras.Model(model.input, [model.output, model.output])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (two_outputs, "expected one output"),
        (lambda: net(activation=None), "outputs are no probabilities.*softmax"),
        (lambda: net(activation="sigmoid"), "outputs are no probabilities.*softmax"),
        (lambda: net((None, None, 3)), r"pictures of any size.*keras\.Input"),
        (lambda: net(dtype="uint8"), "takes uint8, expected float32"),
        (spoilt, "no number.*train it again"),
        (half, "half precision.*set_dtype_policy"),
    ],
)
def test_what_cannot_be_taken_is_one_line(tmp_path, make, says):
    """With the cause and the mend."""
    path = tmp_path / "m.keras"
    make().save(path)
    with pytest.raises(SpecError, match=says) as raised:
        open_keras(path, labels=LABELS, view="frame")
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.filterwarnings("ignore:You are saving a model that has not yet been built")
def test_an_unbuilt_network_is_one_line(tmp_path):
    """Also without labels and view."""
    path = tmp_path / "m.keras"
    keras.Sequential([keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4, activation="softmax")]).save(path)
    with pytest.raises(SpecError, match=r"not built yet.*keras\.Input"):
        open_keras(path)


def test_a_good_one_is_taken(tmp_path):
    """Probabilities of fixed pictures."""
    path = tmp_path / "m.keras"
    net().save(path)
    model = open_keras(path, labels=LABELS, view="frame")
    assert model.scores(np.zeros((2, 32, 32, 3), np.uint8)).sum() == pytest.approx(2)
