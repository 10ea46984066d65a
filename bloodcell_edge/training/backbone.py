"""Backbones of keras.applications, each with its own input scaling inside the graph, and the head on top.

Every model takes raw RGB 0..255 and gives probabilities. MobileNetV2 is tuned and supported; the
others build, train and convert.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DataError, DownloadError, MissingFile
from ..files import beside
from ..model.choose import SHIPPED
from .frameworks import keras
from .recipes import Recipe

SHORT_TRAINING_MOMENTUM = 0.9
"""BatchNorm momentum without pretrained weights: MobileNetV2's own 0.999 needs thousands of steps to settle."""

_IMAGENET_BGR_MEAN = (103.939, 116.779, 123.68)  # of the Caffe models that keras.applications.ResNet50 comes from


@dataclass(frozen=True)
class Backbone:
    """One family of keras.applications.

    Attributes:
        build: makes it without its top; takes keras.applications' arguments.
        scaling: "-1..1", "caffe", or "inside" where the family scales by itself.
        widths: alphas that exist with ImageNet weights; empty where the width is fixed.
        blocks: what the names of a block's layers begin with.
        smallest: input side in pixels that keras.applications takes.
    """

    build: Callable[..., Any]
    scaling: str
    widths: tuple[float, ...]
    blocks: str
    smallest: int = 32


_apps = keras.applications
BACKBONES = {
    "mobilenet_v2": Backbone(
        _apps.MobileNetV2, "-1..1", (0.35, 0.5, 0.75, 1.0, 1.3, 1.4), r"(block_\d+|expanded_conv)_"
    ),
    "mobilenet_v3_small": Backbone(_apps.MobileNetV3Small, "inside", (0.75, 1.0), r"(expanded_conv(_\d+)?)_[a-z]"),
    "mobilenet_v3_large": Backbone(_apps.MobileNetV3Large, "inside", (0.75, 1.0), r"(expanded_conv(_\d+)?)_[a-z]"),
    "efficientnet_v2_b0": Backbone(_apps.EfficientNetV2B0, "inside", (), r"(block\d+[a-z])_"),
    "xception": Backbone(_apps.Xception, "-1..1", (), r"(block\d+)_", smallest=71),
    "resnet50": Backbone(_apps.ResNet50, "caffe", (), r"(conv\d_block\d+)_"),
}


BLOOD_WEIGHTS = SHIPPED / "backbone.npz"
"""Weights of the shipped model's backbone."""


def choose_backbone(name: str) -> Backbone:
    """Look a backbone up; hyphens and capitals are forgiven.

    Raises:
        DataError: there is none of that name.
    """
    key = name.lower().replace("-", "_")
    if key not in BACKBONES:
        message = f"no backbone {name!r}; there are {', '.join(BACKBONES)}"
        raise DataError(message)
    return BACKBONES[key]


def build_model(recipe: Recipe, labels: int) -> tuple[keras.Model, keras.Model, keras.Model]:
    """Build backbone, head, and both joined to one flat model.

    Args:
        recipe: says which.
        labels: number of classes.

    Returns:
        (model, features, head): `model` takes float32 (n, size, size, 3) of RGB 0..255 and gives (n, labels)
        probabilities; `features` is its part up to the pooling, `head` the rest; all three share their weights.

    Raises:
        DataError: no such backbone, width or size.
        DownloadError: the ImageNet weights cannot be fetched or read.
        MissingFile, DataError: a weights file is not there or does not fit.
    """
    family = choose_backbone(recipe.backbone)
    entry = keras.Input((recipe.size, recipe.size, 3), name="image")
    base = _build_base(family, recipe, _scaled(entry, family))
    pool = keras.layers.GlobalMaxPooling2D if recipe.pooling == "max" else keras.layers.GlobalAveragePooling2D
    features = keras.Model(entry, pool(name="pool")(base.output), name="features")
    head = build_head(recipe, int(features.output.shape[-1]), labels)
    model = keras.Model(entry, _apply(head, features.output), name="bloodcell")
    if recipe.weights == "none":
        _use_short_momentum(model)
    return model, features, head


def _scaled(entry: Any, family: Backbone) -> Any:
    """RGB 0..255 as the backbone wants it, in layers that become part of the .tflite."""
    if family.scaling == "-1..1":
        return keras.layers.Rescaling(1.0 / 127.5, offset=-1.0, name="scale")(entry)
    if family.scaling == "caffe":
        swap = keras.layers.Conv2D(3, 1, name="to_bgr", trainable=False)
        scaled = swap(entry)
        swap.set_weights([np.eye(3, dtype=np.float32)[::-1][None, None], -np.array(_IMAGENET_BGR_MEAN, np.float32)])
        return scaled
    return entry


def _build_base(family: Backbone, recipe: Recipe, scaled: Any) -> Any:
    if recipe.size < family.smallest:
        message = f"{recipe.backbone}: expected --size {family.smallest} or more, found {recipe.size}"
        raise DataError(message)
    arguments: dict[str, Any] = {"include_top": False}
    if family.widths:
        arguments["alpha"] = recipe.alpha
    elif recipe.alpha != 1.0:
        message = f"{recipe.backbone}: has one width, expected --alpha 1.0, found {recipe.alpha}"
        raise DataError(message)
    base = family.build(weights=None, input_tensor=scaled, **arguments)
    if recipe.weights != "none":
        # weights files count layers, so they are read into a backbone without our scaling in front
        plain = _pretrained(family, recipe, {**arguments, "input_shape": (recipe.size, recipe.size, 3)})
        theirs = [layer for layer in plain.layers if layer.weights]
        ours = [layer for layer in base.layers if layer.weights and layer.name != "to_bgr"]
        for mine, pretrained in zip(ours, theirs, strict=True):
            mine.set_weights(pretrained.get_weights())
    return _cut(base, recipe)


def _cut(base: Any, recipe: Recipe) -> Any:
    """The backbone up to the layer that the recipe names."""
    if not recipe.ends_at:
        return base
    try:
        return keras.Model(base.input, base.get_layer(recipe.ends_at).output, name=base.name)
    except ValueError as error:
        message = f"{recipe.backbone}: no layer {recipe.ends_at!r} for the backbone to end at"
        raise DataError(message) from error


def _pretrained(family: Backbone, recipe: Recipe, arguments: dict[str, Any]) -> Any:
    if recipe.weights == "imagenet":
        return _imagenet(family, recipe, arguments)
    if recipe.weights == "blood":
        return _blood(family, recipe, arguments)
    path = Path(recipe.weights)
    if not path.is_file():
        message = f"{path}: no such weights file; expected a .weights.h5 of the backbone without its top"
        raise MissingFile(message)
    base = family.build(weights=None, **arguments)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Keras only warns of layers that it leaves as they are
            base.load_weights(path)
    except (ValueError, OSError, KeyError, UserWarning) as error:
        message = (
            f"{path}: does not fit {recipe.backbone} without its top ({_first_line(error)}); "
            "check --backbone and --alpha"
        )
        raise DataError(message) from error
    return base


def _blood(family: Backbone, recipe: Recipe, arguments: dict[str, Any]) -> Any:
    """The shipped backbone, trained on blood cells."""
    if not BLOOD_WEIGHTS.is_file():
        message = f"{BLOOD_WEIGHTS}: no weights are shipped with this bce; give --weights imagenet or a file"
        raise MissingFile(message)
    base = family.build(weights=None, **arguments)
    wanted = base.get_weights()
    with np.load(BLOOD_WEIGHTS) as stored:
        found = [stored[name].astype(np.float32) for name in sorted(stored.files)]
    if [array.shape for array in wanted] != [array.shape for array in found]:
        message = (
            f"--weights blood: the shipped backbone is MobileNetV2 with --alpha 1.0, not {recipe.backbone} with "
            f"{recipe.alpha}; give --weights imagenet"
        )
        raise DataError(message)
    base.set_weights(found)
    return base


def save_backbone(model: keras.Model, path: Path) -> None:
    """Keep the backbone of a trained model for `--weights blood`: kernels as float16, which rounds by 0.05 % at most.

    Args:
        model: as `build_model` gives it.
        path: an .npz; arrays in the order of the layers.
    """
    layers = [layer for layer in model.layers if layer.weights and layer.name not in ("hidden", "logits", "to_bgr")]
    arrays = [array for layer in layers for array in layer.get_weights()]
    small = [array.astype(np.float16) if array.ndim > 1 else array for array in arrays]
    with beside(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **{f"{place:04d}": array for place, array in enumerate(small)})


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _imagenet(family: Backbone, recipe: Recipe, arguments: dict[str, Any]) -> Any:
    if family.widths and recipe.alpha not in family.widths:
        message = f"{recipe.backbone}: ImageNet weights exist for --alpha {family.widths}, found {recipe.alpha}"
        raise DataError(message)
    models = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
    try:
        with redirect_stdout(sys.stderr):  # Keras draws the download's progress on stdout, which is for answers
            return family.build(weights="imagenet", **arguments)
    except Exception as error:  # Keras raises a bare one where a download fails, and names the address
        url = next((word.rstrip(":") for word in str(error).split() if word.startswith("http")), None)
        if url is None:
            message = (
                f"ImageNet weights of {recipe.backbone} cannot be read ({_first_line(error)}). Delete what is left of "
                f"them in {models} and try again; or give --weights FILE, or --weights none"
            )
        else:
            message = (
                f"ImageNet weights of {recipe.backbone} cannot be downloaded from {url}. Fetch that file where there "
                f"is a network and put it at {models / url.rsplit('/', 1)[-1]}; or give --weights FILE, or --weights "
                "none"
            )
        raise DownloadError(message) from error


def build_head(recipe: Recipe, width: int, labels: int) -> keras.Model:
    """What stands on pooled features: float32 (n, width) in, probabilities (n, labels) out."""
    entry = keras.Input((width,), name="features")
    x: Any = entry
    if recipe.hidden:
        x = keras.layers.Dense(recipe.hidden, activation="relu", name="hidden")(x)
    if recipe.dropout:
        x = keras.layers.Dropout(recipe.dropout, seed=recipe.seed, name="dropout")(x)
    logits = keras.layers.Dense(labels, name="logits")(x)
    return keras.Model(entry, keras.layers.Softmax(name="probability")(logits), name="head")


def _apply(head: keras.Model, x: Any) -> Any:
    """Lay a model's layers on a tensor, so that the joined model is flat and a block is found by its name."""
    for layer in head.layers[1:]:
        x = layer(x)
    return x


def _use_short_momentum(model: keras.Model) -> None:
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = SHORT_TRAINING_MOMENTUM


def blocks(model: keras.Model, backbone: str) -> list[list[keras.layers.Layer]]:
    """The backbone's layers with weights, cut into blocks from first to last; stem and top are blocks too.

    Args:
        model: of `build_model`.
        backbone: a key of `BACKBONES`.
    """
    pattern = re.compile(choose_backbone(backbone).blocks)
    layers = [layer for layer in model.layers if layer.weights and layer.name not in ("hidden", "logits", "to_bgr")]
    names = [match and match[1] for match in map(pattern.match, (layer.name for layer in layers))]
    last = max(place for place, name in enumerate(names) if name)
    found: dict[str, list[keras.layers.Layer]] = {}
    block = "stem"
    for place, (layer, name) in enumerate(zip(layers, names, strict=True)):
        # Xception's shortcuts have no block in their names; they stand behind the layers they bridge
        block = "top" if place > last else name or block
        found.setdefault(block, []).append(layer)
    return list(found.values())


def set_trainable(model: keras.Model, backbone: str, count: int, *, norm: bool) -> int:
    """Let the last `count` blocks of the backbone train, and the head always.

    Args:
        model: of `build_model`.
        backbone: a key of `BACKBONES`.
        count: blocks from the last; -1 for all.
        norm: whether BatchNorm trains too; frozen, it also keeps its moving averages (Keras runs it in inference).

    Returns:
        How many blocks train.
    """
    all_blocks = blocks(model, backbone)
    training = len(all_blocks) if count < 0 else min(count, len(all_blocks))
    for number, block in enumerate(all_blocks):
        for layer in block:
            is_norm = isinstance(layer, keras.layers.BatchNormalization)
            layer.trainable = number >= len(all_blocks) - training and (norm or not is_norm)
    return training
