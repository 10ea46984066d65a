"""convert/equalize.py: the same network, easier to quantize."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bloodcell_edge.training.backbone import build_model
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.recipes import choose_recipe
from convert.equalize import _rounded, absorb_means, correct_biases, equalize_ranges, prepare_for_int8

SIZE = 48


@pytest.fixture
def pictures() -> NDArray[np.uint8]:
    """Pictures with structure, no two alike."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (12, 6, 6, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


@pytest.fixture
def model() -> Any:
    """A MobileNetV2 0.35 whose first depthwise kernel amplifies channels that hardly fire, as ImageNet weights do."""
    keras.utils.set_random_seed(5)
    net, _, _ = build_model(choose_recipe("drawn", size=SIZE), 4)
    quiet = np.where(np.arange(16) % 2, 1.0, 1e-3).astype(np.float32)
    norm, depthwise = net.get_layer("bn_Conv1"), net.get_layer("expanded_conv_depthwise")
    gamma, beta, *moments = norm.get_weights()
    norm.set_weights([gamma * quiet, beta * quiet, *moments])
    depthwise.set_weights([depthwise.get_weights()[0] / quiet[None, None, :, None]])
    copy = keras.models.clone_model(net)  # as loaded from a file: each layer called once, not in a head of its own too
    copy.set_weights(net.get_weights())
    return copy


def test_equalizing_keeps_the_answers_and_fills_the_range(model: Any, pictures: NDArray[np.uint8]) -> None:
    """Scores stay as they are to rounding, and every channel in front of the depthwise layer fires up to 4 of 6."""
    some = pictures.astype(np.float32)
    before = model.predict_on_batch(some)
    equalize_ranges(model, some)
    assert np.abs(model.predict_on_batch(some) - before).max() < 1e-3
    probe = keras.Model(model.inputs, model.get_layer("Conv1_relu").output)
    reached = probe.predict_on_batch(some).max(axis=(0, 1, 2))
    fires = reached > 1e-3
    assert fires.sum() >= 8
    assert reached[fires].min() == pytest.approx(4.0, rel=0.05) or reached[fires].min() > 4.0


def test_absorbing_means_keeps_the_answers_and_evens_the_channels(model: Any, pictures: NDArray[np.uint8]) -> None:
    """A large constant in one bottleneck channel is gone from the map, all channels reach equally far, scores stay."""
    norm = model.get_layer("expanded_conv_project_BN")
    gamma, beta, *moments = norm.get_weights()
    norm.set_weights([gamma, beta + np.where(np.arange(len(beta)) == 2, 50.0, 0.0), *moments])
    some = pictures.astype(np.float32)
    before = model.predict_on_batch(some)
    absorb_means(model, some)
    assert np.abs(model.predict_on_batch(some) - before).max() < 1e-3
    reached = np.abs(keras.Model(model.inputs, norm.output).predict_on_batch(some)).max(axis=(0, 1, 2))
    assert reached.max() < 25
    assert reached.max() == pytest.approx(reached.min(), rel=0.05)


def test_the_mean_shift_of_rounding_is_taken_out(model: Any, pictures: NDArray[np.uint8]) -> None:
    """With rounded kernels the mean of the first BatchNorm's output is nearer to the exact one after the correction."""
    some = pictures.astype(np.float32)
    layer = model.get_layer("Conv1")
    probe = keras.Model(model.inputs, model.get_layer("bn_Conv1").output)
    exact = probe.predict_on_batch(some).mean(axis=(0, 1, 2))
    kernel = layer.get_weights()

    def shift_when_rounded() -> float:
        layer.set_weights([_rounded(layer), *kernel[1:]])
        shift = np.abs(probe.predict_on_batch(some).mean(axis=(0, 1, 2)) - exact).max()
        layer.set_weights(kernel)
        return float(shift)

    without = shift_when_rounded()
    correct_biases(model, some)
    assert shift_when_rounded() < 0.3 * without


def test_it_works_on_a_copy(model: Any, pictures: NDArray[np.uint8]) -> None:
    """The model that was given is not changed."""
    before = [weight.copy() for weight in model.get_weights()]
    prepared = prepare_for_int8(model, pictures)
    assert prepared is not model
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_pictures_of_one_colour_measure_nothing(model: Any) -> None:
    """Black and white pictures alone leave the model as it is: there is no cell to measure on."""
    flat = np.concatenate([np.zeros((2, SIZE, SIZE, 3), np.uint8), np.full((1, SIZE, SIZE, 3), 255, np.uint8)])
    assert prepare_for_int8(model, flat) is model


def test_other_activations_are_left_alone(pictures: NDArray[np.uint8]) -> None:
    """MobileNetV3's hard swish is not linear below a cap: no range is scaled there, answers stay."""
    net, _, _ = build_model(choose_recipe("field", weights="none", backbone="mobilenet_v3_small", size=SIZE), 4)
    some = pictures.astype(np.float32)
    before = net.predict_on_batch(some)
    equalize_ranges(net, some)
    assert np.abs(net.predict_on_batch(some) - before).max() < 1e-5
