"""A model file and an interpreter, from picture to `Prediction`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .errors import SpecError
from .image import prepare
from .interpreter import Interpreter, load_interpreter
from .modelfile import read_model_file
from .records import UNIDENTIFIED, Prediction
from .spec import ModelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .image import Image


class Classifier:
    """Answers for whole pictures (view "frame").

    Attributes:
        spec: what the file says of itself.
        interpreter: what runs it.
    """

    def __init__(self, spec: ModelSpec, interpreter: Interpreter) -> None:
        """Join a spec and an interpreter; use `open` instead."""
        self.spec, self.interpreter = spec, interpreter

    @classmethod
    def open(cls, path: str | Path, *, threads: int = 1) -> Classifier:
        """Open a .tflite made by ``bce convert``.

        Raises:
            MissingFile: no such file.
            SpecError: damaged, without a spec, not what its spec says, or with another view than "frame".
            RuntimeMissing: no interpreter opens it.
        """
        model = read_model_file(path)
        if model.spec.view != "frame":
            message = f"{path}: this bce runs models with view 'frame', found {model.spec.view!r}; upgrade bce"
            raise SpecError(message)
        interpreter = load_interpreter(path, threads=threads)
        expected = (model.spec.input_size, len(model.spec.labels))
        found = (interpreter.input_size, interpreter.outputs)
        if expected != found:
            message = f"{path}: expected input size and number of labels {expected} as its spec says, found {found}"
            raise SpecError(message)
        return cls(model.spec, interpreter)

    def __repr__(self) -> str:
        """Name, target and interpreter."""
        return f"Classifier({self.spec.name}, {self.spec.target}, {self.interpreter!r})"

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of prepared pictures.

        Args:
            pixels: uint8 RGB, shape (n, *input_size, 3).

        Returns:
            float32, shape (n, labels).
        """
        answers = np.empty((len(pixels), len(self.spec.labels)), np.float32)
        for row, picture in enumerate(pixels):
            answers[row] = self.interpreter.scores(picture)
        return answers

    def classify(self, image: Image) -> Prediction:
        """Name the cell of one picture.

        Args:
            image: uint8 RGB, shape (height, width, 3), any size.
        """
        start = time.perf_counter()
        scores = self.interpreter.scores(prepare(image, self.spec.input_size))
        return predict(scores, self.spec, latency_ms=(time.perf_counter() - start) * 1e3)


def predict(scores: NDArray[np.float32] | Sequence[float], spec: ModelSpec, *, latency_ms: float) -> Prediction:
    """Turn probabilities into a `Prediction`; below the reject threshold it is UNIDENTIFIED."""
    top = int(np.argmax(scores))
    score = float(scores[top])
    rejected = spec.reject_threshold is not None and score < spec.reject_threshold
    by_label = {label: float(value) for label, value in zip(spec.labels, scores, strict=True)}
    return Prediction(UNIDENTIFIED if rejected else spec.labels[top], score, by_label, None, latency_ms)
