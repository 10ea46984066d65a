"""A trained Keras model with its spec, answering like a `Classifier`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MissingFile, SpecError
from ..imaging.image import IMAGE_VERSION
from ..imaging.views import CROP_UM
from ..model.spec import ModelSpec, load_spec
from .frameworks import keras

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BATCH = 64
_OFF = 1e-3  # by which a sum of probabilities may differ from 1


@dataclass(frozen=True)
class KerasModel:
    """A `keras.Model` and its spec.

    Attributes:
        net: takes float32 RGB 0..255, gives probabilities.
        spec: what it says of itself.
        path: of the .keras file.
    """

    net: Any
    spec: ModelSpec
    path: Path

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 (n, labels), of uint8 RGB pictures (n, height, width, 3)."""
        labels = len(self.spec.labels)
        answers = [
            self.net.predict_on_batch(pixels[start : start + _BATCH].astype(np.float32))[:, :labels]
            for start in range(0, len(pixels), _BATCH)
        ]
        return np.concatenate(answers) if answers else np.empty((0, labels), np.float32)


def open_keras(path: str | Path, *, labels: tuple[str, ...] | None = None, view: str | None = None) -> KerasModel:
    """Open a .keras file with the spec.json beside it.

    Args:
        path: the model.
        labels: classes in output order, for a bare .keras without spec.json.
        view: "frame" or "cell", likewise.

    Raises:
        MissingFile: no such file, or no spec.json and no labels and view.
        SpecError: not a Keras model, or one that does not fit its spec.
    """
    path = Path(path)
    if not path.is_file():
        message = f"{path}: no such model"
        raise MissingFile(message)
    try:
        net = keras.saving.load_model(path, compile=False)
    except (ValueError, OSError, TypeError, KeyError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        message = f"{path}: not a Keras model that can be opened ({reason})"
        raise SpecError(message) from error
    _refuse_shapeless(path, net)
    beside = path.with_name("spec.json")
    if labels is not None and view is not None and not beside.is_file():
        _refuse_foreign(path, net)
        spec = _bare_spec(path, net, labels, view)
    else:
        spec = load_spec(beside)
    expected, found = (*spec.input_size, 3, len(spec.outputs)), (*net.input_shape[1:], net.output_shape[-1])
    if expected != found:
        message = f"{path}: expected height, width, channels, outputs {expected} as its spec says, found {found}"
        raise SpecError(message)
    return KerasModel(net, spec, path)


def _refuse_shapeless(path: Path, net: Any) -> None:
    """Raise SpecError where a network does not take pictures of one size and give one row of numbers each."""
    mend = "give it keras.Input((height, width, 3)) with numbers, and save it again"
    try:
        shape = net.input_shape
    except AttributeError as error:
        message = f"{path}: not built yet, so that nobody knows the size of its pictures; {mend}"
        raise SpecError(message) from error
    if not isinstance(shape, tuple) or len(shape) != 4:
        message = f"{path}: expected an input of (None, height, width, 3), found {shape}"
        raise SpecError(message)
    if not isinstance(net.output_shape, tuple) or len(net.output_shape) != 2:
        message = f"{path}: expected one output of (None, classes), found {net.output_shape}"
        raise SpecError(message)
    if None in shape[1:]:
        message = f"{path}: takes pictures of any size, {shape[1:]}; {mend}"
        raise SpecError(message)


def _refuse_foreign(path: Path, net: Any) -> None:
    """Raise SpecError where a network of others is none that takes float levels and gives probabilities."""
    if net.inputs[0].dtype != "float32":
        message = (
            f"{path}: takes {net.inputs[0].dtype}, expected float32 levels of 0 to 255; give it keras.Input(shape) "
            "without a dtype, and save it again"
        )
        raise SpecError(message)
    half = [layer.name for layer in net.layers if getattr(layer, "compute_dtype", "") in ("float16", "bfloat16")]
    if half:
        message = (
            f"{path}: {len(half)} layers compute in half precision ({half[0]}, ...), which TFLite does not take; build "
            "it under keras.config.set_dtype_policy('float32'), give it the weights, and save it again"
        )
        raise SpecError(message)
    spoilt = [weight.path for weight in net.weights if not np.isfinite(np.asarray(weight)).all()]
    if spoilt:
        message = f"{path}: {len(spoilt)} of its weights hold what is no number ({spoilt[0]}, ...); train it again"
        raise SpecError(message)
    height, width = net.input_shape[1:3]
    asked = np.random.default_rng(0).integers(0, 256, (4, height, width, 3)).astype(np.float32)
    answers = np.asarray(net(asked, training=False))
    sums = answers.sum(axis=-1)
    if answers.min() < 0 or np.abs(sums - 1).max() > _OFF:
        message = (
            f"{path}: its outputs are no probabilities: they go from {answers.min():.3g} to {answers.max():.3g} and "
            f"sum to {sums.min():.3g} to {sums.max():.3g}; end it with a softmax, and save it again"
        )
        raise SpecError(message)


def _bare_spec(path: Path, net: Any, labels: tuple[str, ...], view: str) -> ModelSpec:
    size = (int(net.input_shape[1]), int(net.input_shape[2]))
    crop_um = CROP_UM if view == "cell" else None
    return ModelSpec(path.stem, labels, view, size, "keras", IMAGE_VERSION, crop_um=crop_um)
