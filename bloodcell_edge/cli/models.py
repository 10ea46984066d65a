"""Opening what a command was given, Keras or TFLite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..evaluation import Predictor
    from ..image import Image


def open_model(path: Path) -> Predictor:
    """A `Classifier` for a .tflite, a `KerasModel` for a .keras; TensorFlow is loaded for the latter alone."""
    if path.suffix == ".keras":
        from ..training.kerasmodel import open_keras

        return open_keras(path)
    from ..classifier import Classifier

    return Classifier.open(path)


def copy_test(path: Path) -> Callable[[Image], bool] | None:
    """The test for turned copies of training photographs, where the model stands in the run folder that has them."""
    from ..runs import RunFolder

    index_file = RunFolder(path.parent).index
    if not index_file.is_file():
        return None
    from ..training.audit import PhotographIndex

    index = PhotographIndex.load(index_file)
    return lambda image: index.find(image) is not None
