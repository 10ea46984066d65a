"""Backbones: scaled inside the graph, from the right weights, unfrozen from the end, BatchNorm as it must be."""

from __future__ import annotations

import os
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bloodcell_edge.errors import DataError, DownloadError, MissingFile
from bloodcell_edge.training.backbone import BACKBONES, blocks, build_model, choose_backbone, set_trainable
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.recipes import Recipe

apps = keras.applications
PREPROCESS = {
    "mobilenet_v2": apps.mobilenet_v2.preprocess_input,
    "mobilenet_v3_small": apps.mobilenet_v3.preprocess_input,
    "mobilenet_v3_large": apps.mobilenet_v3.preprocess_input,
    "efficientnet_v2_b0": apps.efficientnet_v2.preprocess_input,
    "xception": apps.xception.preprocess_input,
    "resnet50": apps.resnet50.preprocess_input,
}
WEIGHTS = "weights/mobilenet_v2_1.0_imagenet_notop.weights.h5"


def small(backbone="mobilenet_v2", **changes):
    """A recipe of the smallest kind for a backbone."""
    values = {"weights": "none", "size": BACKBONES[backbone].smallest, "pooling": "avg", "dropout": 0.0, **changes}
    return replace(Recipe("test"), backbone=backbone, **values)


def tiny(**changes):
    """A recipe of the narrow MobileNetV2."""
    return small(**{"alpha": 0.35, **changes})


def plain(recipe):
    """The backbone as keras.applications builds it, random, with the BatchNorm averages of 16 pictures."""
    width = {"alpha": recipe.alpha} if BACKBONES[recipe.backbone].widths else {}
    shape = (recipe.size, recipe.size, 3)
    model = BACKBONES[recipe.backbone].build(
        include_top=False, weights=None, pooling=recipe.pooling, input_shape=shape, **width
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(PREPROCESS[recipe.backbone](pictures(recipe.size, 16, seed=4)), training=True)
    return model


def pictures(size, n=2, seed=3):
    """n pictures of random pixels, float32 0..255."""
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3)).astype(np.float32)


def answers(model, x):
    """What a model says of x, without the cost of tracing a graph."""
    return np.asarray(model(x, training=False))


def labels(n=2):
    """Targets of n pictures, the classes in turn."""
    return np.eye(4, dtype=np.float32)[np.arange(n) % 4]


def train_a_step(model, x):
    """One step of plain gradient descent, without the cost of tracing a graph."""
    model.compile(optimizer=keras.optimizers.SGD(0.01), loss="categorical_crossentropy", run_eagerly=True)
    return float(model.train_on_batch(x, labels(len(x))))


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_backbone_from_file_to_file(backbone, tmp_path):
    """Each family scales raw RGB as its preprocess_input does, trains a step, and is the same after save and load."""
    recipe = small(backbone, pooling="max")
    theirs = plain(recipe)
    theirs.save_weights(tmp_path / "x.weights.h5")
    x = pictures(recipe.size)
    expected = answers(theirs, PREPROCESS[backbone](x.copy()))
    model, features, head = build_model(replace(recipe, weights=str(tmp_path / "x.weights.h5")), 4)
    found = answers(features, x)
    scale = np.abs(expected).max()
    assert scale > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-3 * scale)
    if BACKBONES[backbone].scaling != "inside":
        assert np.abs(answers(theirs, x) - expected).max() > 0.05 * scale, "this test would not notice"

    np.testing.assert_allclose(answers(model, x), answers(head, found), atol=1e-5)
    assert set_trainable(model, backbone, 2, norm=False) == 2
    assert np.isfinite(train_a_step(model, x))
    scores = answers(model, x)
    assert scores.shape == (2, 4)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(answers(again, x), scores, atol=1e-6)


@pytest.mark.shared
def test_shared_weights_give_the_features_of_keras(shared):
    """The local ImageNet file gives the features that keras.applications has with that file."""
    recipe = replace(Recipe("test"), size=96, pooling="max", weights=str(shared / WEIGHTS))
    theirs = apps.MobileNetV2(include_top=False, weights=None, pooling="max", input_shape=(96, 96, 3))
    theirs.load_weights(shared / WEIGHTS)
    x = pictures(96)
    expected = answers(theirs, apps.mobilenet_v2.preprocess_input(x.copy()))
    found = answers(build_model(recipe, 4)[1], x)
    assert expected.shape == (2, 1280)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "content"), [("text.weights.h5", b"hello"), ("empty.weights.h5", b""), ("a.bin", b"1")]
)
def test_file_that_holds_no_weights(tmp_path, name, content):
    """A file of another kind is an error of one line that names it and what to check."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: does not fit mobilenet_v2 .*--backbone and --alpha$") as caught:
        build_model(tiny(weights=str(path)), 4)
    assert "\n" not in str(caught.value)


def test_weights_of_another_width(tmp_path):
    """Weights of alpha 0.5 do not pass for those of alpha 0.35."""
    plain(tiny(alpha=0.5)).save_weights(tmp_path / "half.weights.h5")
    with pytest.raises(DataError, match=r"half.weights.h5: does not fit mobilenet_v2"):
        build_model(tiny(weights=str(tmp_path / "half.weights.h5")), 4)


def test_missing_weights_file():
    """A weights file that is not there is named."""
    with pytest.raises(MissingFile, match=r"^nowhere/x.weights.h5: no such weights file"):
        build_model(tiny(weights="nowhere/x.weights.h5"), 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "vgg16"}, "no backbone 'vgg16'; there are mobilenet_v2, "),
        ({"backbone": "resnet50", "alpha": 0.5}, "has one width, expected --alpha 1.0, found 0.5"),
        ({"backbone": "xception", "size": 64}, "xception: expected --size 71 or more, found 64"),
        ({"weights": "imagenet", "alpha": 0.6}, r"ImageNet weights exist for --alpha \(0.35, .*\), found 0.6"),
    ],
)
def test_what_cannot_be_built(changes, message):
    """An unknown backbone, a width or a size that does not exist is an error that says what there is."""
    with pytest.raises(DataError, match=message):
        build_model(replace(Recipe("test", weights="none", size=96), **changes), 4)


def test_names_are_forgiving():
    """Hyphens and capitals do not matter."""
    assert choose_backbone("MobileNet-V2") is BACKBONES["mobilenet_v2"]


@pytest.fixture
def no_network(monkeypatch):
    """Every request goes to a port where nobody listens, on any machine."""
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)
    yield
    urllib.request._opener = None


def test_failed_download_says_where_the_file_belongs(no_network, capsys):
    """Without a network `imagenet` fails with one line, stdout stays clean, and a file put there is then used."""
    recipe = tiny(weights="imagenet", size=96)
    with pytest.raises(DownloadError, match=r"^ImageNet weights of mobilenet_v2 cannot be downloaded") as caught:
        build_model(recipe, 4)
    message = str(caught.value)
    assert capsys.readouterr().out == ""
    assert "\n" not in message
    assert "--weights none" in message
    target = Path(message.split("put it at ")[1].split(";")[0])
    assert target.parent == Path(os.environ["KERAS_HOME"], "models")
    assert target.name in message.split("from ")[1].split(". ")[0], "it is called as in the address"
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        theirs = plain(recipe)
        theirs.save(target)  # weights in the layout of Keras 2, as in the downloads
        x = pictures(96)
        expected = answers(theirs, PREPROCESS["mobilenet_v2"](x.copy()))
        for weights in ("imagenet", str(target)):
            found = answers(build_model(replace(recipe, weights=weights), 4)[1], x)
            np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
        target.write_bytes(target.read_bytes()[:1000])
        with pytest.raises(DownloadError, match=r"cannot be read \(.*Delete what is left of them in .*models"):
            build_model(recipe, 4)
    finally:
        target.unlink()


@pytest.mark.parametrize(
    ("backbone", "count", "first", "last"),
    [
        ("mobilenet_v2", 19, {"Conv1", "bn_Conv1"}, {"Conv_1", "Conv_1_bn"}),
        ("mobilenet_v3_small", 13, {"conv", "conv_bn"}, {"conv_1", "conv_1_bn"}),
        ("xception", 14, {f"block1_conv{i}{bn}" for i in (1, 2) for bn in ("", "_bn")},
         {f"block14_sepconv{i}{bn}" for i in (1, 2) for bn in ("", "_bn")}),
        ("resnet50", 17, {"conv1_conv", "conv1_bn"},
         {f"conv5_block3_{i}_{kind}" for i in (1, 2, 3) for kind in ("conv", "bn")}),
    ],
)  # fmt: skip
def test_blocks_stand_from_first_to_last(backbone, count, first, last):
    """Stem first, top last, every layer with weights in just one block: Xception's unnamed shortcuts too."""
    model, features, _ = build_model(small(backbone), 4)
    found = blocks(model, backbone)
    assert len(found) == count
    assert {layer.name for layer in found[0]} == first
    assert {layer.name for layer in found[-1]} == last
    named = [layer for layer in features.layers if layer.weights and layer.name != "to_bgr"]
    assert sorted(layer.name for block in found for layer in block) == sorted(layer.name for layer in named)
    if backbone == "xception":
        assert [len(block) for block in found] == [4, 6, 6, 6, *[6] * 8, 6, 4]


@pytest.mark.parametrize("count", [0, 2, -1, 99])
def test_last_blocks_train_and_batchnorm_does_not_move(count, tmp_path):
    """With pretrained weights the last N blocks and the head change; earlier ones and all BatchNorm stay to the bit."""
    plain(tiny()).save_weights(tmp_path / "x.weights.h5")
    model, _, head = build_model(tiny(weights=str(tmp_path / "x.weights.h5")), 4)
    found = blocks(model, "mobilenet_v2")
    expected = len(found) if count in (-1, 99) else count
    assert set_trainable(model, "mobilenet_v2", count, norm=False) == expected
    before = {layer.name: layer.get_weights() for layer in model.layers}
    train_a_step(model, pictures(32, 4))

    def changed(layer):
        return any((old != new).any() for old, new in zip(before[layer.name], layer.get_weights(), strict=True))

    norms = {layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)}
    assert len(norms) == 52
    assert not any(changed(layer) for layer in norms)
    training = [any(changed(layer) for layer in block) for block in found]
    assert training == [False] * (len(found) - expected) + [True] * expected
    assert changed(head.get_layer("logits"))


def test_batchnorm_learns_fast_without_pretrained_weights():
    """From nothing BatchNorm trains, and its moving mean goes a tenth of the way to the batch's in one step."""
    model, _, _ = build_model(tiny(), 4)
    set_trainable(model, "mobilenet_v2", -1, norm=True)
    norm = model.get_layer("bn_Conv1")
    x = pictures(32, 8)
    inner = keras.Model(model.input, model.get_layer("Conv1").output)
    batch_mean = answers(inner, x).mean(axis=(0, 1, 2))
    gamma = norm.gamma.numpy()
    train_a_step(model, x)
    np.testing.assert_allclose(norm.moving_mean.numpy(), 0.1 * batch_mean, rtol=1e-3, atol=1e-6)
    assert (norm.gamma.numpy() != gamma).any()


def test_unfreezing_is_not_for_ever():
    """Fewer blocks asked for later freezes the others again."""
    model, _, _ = build_model(tiny(), 4)
    everything = set_trainable(model, "mobilenet_v2", -1, norm=True)
    assert set_trainable(model, "mobilenet_v2", 1, norm=False) == 1
    training = {layer.name for layer in model.layers if layer.trainable and layer.weights}
    assert everything == 19
    assert training == {"Conv_1", "logits"}


@pytest.mark.parametrize(
    ("hidden", "dropout", "names"),
    [(256, 0.0, ["hidden", "logits", "probability"]), (0, 0.2, ["dropout", "logits", "probability"])],
)
def test_head_is_the_recipe_s(hidden, dropout, names):
    """The head has the recipe's layers; softmax is a layer of its own, so that a temperature fits before it."""
    model, features, head = build_model(tiny(hidden=hidden, dropout=dropout, pooling="max"), 3)
    assert [layer.name for layer in head.layers[1:]] == names
    assert isinstance(features.layers[-1], keras.layers.GlobalMaxPooling2D)
    assert model.get_layer("logits").activation is keras.activations.linear
    assert head.get_layer("logits") is model.get_layer("logits"), "the weights are shared"
    assert model.output_shape == (None, 3)
