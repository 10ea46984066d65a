"""Opening what a command was given, Keras or TFLite."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
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

    index, one_at_a_time = PhotographIndex.load(index_file), Lock()

    def is_copy(image: Image) -> bool:
        with one_at_a_time:  # pictures are read on several threads, the index is for one
            return index.find(image) is not None

    return is_copy
