from __future__ import annotations

import numpy as np
import pytest

from bloodcell_edge.dataset.reading import read_each
from bloodcell_edge.dataset.split import HELD_BACK, load_split
from bloodcell_edge.imaging.image import prepare
from bloodcell_edge.training.kerasmodel import open_keras
from convert.layers import LOSSY, advice, agreement_afresh, worst_layers
from convert.reports import LayerError

ROUNDING = 12**-0.5  # of a uniform error of one step


def held_back(run):
    """A run's model and 40 of its held-back pictures, prepared."""
    model = open_keras(run.model)
    pictures = [row.picture for row in load_split(run.split) if row.split == HELD_BACK]
    some = pictures[:: len(pictures) // 40][:40]
    done, _ = read_each(some, lambda image: prepare(image, model.spec.input_size))
    return model.net, np.stack([prepared for _, prepared in done])


@pytest.fixture(scope="module")
def spoiled():
    """A network whose layer "spoiled" has one channel a thousand times as strong as the others, and noise to see."""
    import keras

    keras.utils.set_random_seed(3)
    layers = [
        keras.Input((16, 16, 3)),
        keras.layers.Rescaling(1 / 255, name="scale"),
        keras.layers.Conv2D(8, 3, activation="relu", name="sound"),
        keras.layers.Conv2D(8, 3, name="spoiled"),
        keras.layers.GlobalAveragePooling2D(name="pool"),
        keras.layers.Dense(4, name="logits"),
        keras.layers.Softmax(name="probability"),
    ]
    net = keras.Sequential(layers)
    kernel, bias = net.get_layer("spoiled").get_weights()
    kernel[..., 0] *= 1000
    net.get_layer("spoiled").set_weights([kernel, bias])
    return net, np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), dtype=np.uint8)


def test_layers_are_named_as_in_the_keras_model(tiny_run):
    """Of a real MobileNetV2, at most eight layers come back, worst first, each under its Keras name."""
    net, pixels = held_back(tiny_run)

    found = worst_layers(net, pixels)

    assert len(found) == 8
    assert [one.error for one in found] == sorted((one.error for one in found), reverse=True)
    assert {one.layer for one in found} <= {layer.name for layer in net.layers}
    assert all(one.operator.isupper() for one in found)


def test_sound_layers_lose_rounding_only(tiny_run):
    """A network that was trained as a whole loses about 0.29 steps a layer, what rounding alone costs."""
    net, pixels = held_back(tiny_run)

    errors = [one.error for one in worst_layers(net, pixels, most=100)]

    assert np.median(errors) == pytest.approx(ROUNDING, rel=0.15)
    assert max(errors) < LOSSY


def test_every_layer_of_a_small_network_is_named(spoiled):
    """Layers whose output is the graph's own are named too."""
    net, pixels = spoiled

    assert {one.layer for one in worst_layers(net, pixels)} <= {layer.name for layer in net.layers}


def test_asking_for_fewer_layers(spoiled):
    """`most` cuts the list, and leaves the worst."""
    net, pixels = spoiled

    assert worst_layers(net, pixels, most=2) == worst_layers(net, pixels)[:2]


def test_a_sure_model_keeps_its_answers(colours):
    """Quantized afresh, the network that tells flat colours apart keeps all its answers."""
    assert agreement_afresh(*held_back(colours)) == 100.0


def test_a_spoiled_model_does_not_keep_its_answers():
    """A network in which small differences ride on a huge constant loses most of its answers however calibrated."""
    import keras

    net = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.layers.Conv2D(3, 1, name="lifted"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    mean_of_all = np.full((3, 3), 1 / 3, np.float32)
    net.get_layer("lifted").set_weights([(np.eye(3) + 100 * mean_of_all)[None, None].astype(np.float32), np.zeros(3)])
    net.layers[-1].set_weights([3 * (np.eye(3) - mean_of_all), np.zeros(3)])
    pixels = np.random.default_rng(1).integers(100, 140, (60, 1, 1, 3)).repeat(8, 1).repeat(8, 2).astype(np.uint8)

    assert agreement_afresh(net, pixels) < 80


def test_advice_blames_the_calibration_where_a_fresh_one_holds():
    """Where the model keeps its answers quantized afresh, the file's representative dataset is to blame."""
    text = advice([LayerError("hues", "CONV_2D", 1.5)], afresh=99.5, min_agreement=98)

    assert "99.5 %" in text
    assert "representative dataset is to blame: convert again" in text
    assert "hues" not in text


def test_advice_names_lossy_layers():
    """Where it does not, layers above one step are named, the worst three, and what to do about them."""
    layers = [LayerError(name, "CONV_2D", error) for name, error in zip("abcde", (9, 4, 2, 1.1, 0.3), strict=True)]

    text = advice(layers, afresh=45, min_agreement=98)

    assert "the ranges of a, b, c are too wide for 256 steps" in text
    assert "--fine-tune -1" in text


def test_advice_for_an_unsure_model():
    """Where no layer is lossy either, the model itself is unsure."""
    text = advice([LayerError("a", "CONV_2D", 0.3)], afresh=95, min_agreement=98)

    assert "unsure" in text
    assert "float16" in text
    assert "too wide" not in text
