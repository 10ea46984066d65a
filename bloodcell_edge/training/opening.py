"""Opening a model of either kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..dataset.asking import Predictor


def open_model(path: Path) -> Predictor:
    """A `Classifier` for a .tflite, a `KerasModel` for a .keras; TensorFlow is loaded for the latter alone.

    Raises:
        MissingFile, SpecError, RuntimeMissing: see `open_keras` and `Classifier.open`.
    """
    if path.suffix == ".keras":
        from .kerasmodel import open_keras

        return open_keras(path)
    from ..model.classifier import Classifier

    return Classifier.open(path)
