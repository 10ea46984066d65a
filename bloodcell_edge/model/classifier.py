"""A model file and an interpreter, from picture to `Prediction`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import SpecError
from ..imaging.image import read_image
from ..imaging.views import EDGE
from ..records import LOW_SCORE, OTHER_CELL, UNIDENTIFIED, Prediction
from .file import ModelFile, read_model_file
from .golden import kept_field, replay
from .goldenfields import replay_fields
from .interpreter import Interpreter, load_interpreter
from .locator import LearnedLocator, open_locator, shipped_locator
from .spec import ModelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image
    from ..imaging.located import Located, Locator
    from ..imaging.views import Shown

_TRIAL_RUNS = 7  # invokes for each number of threads, of which the fastest counts
_WORTH_A_THREAD = 0.9  # of the time with fewer threads, that more threads must stay below


class Classifier:
    """Answers for pictures: one for each cell (view "cell") or one for the whole (view "frame").

    Cells are asked about one at a time: batches of 2 to 8 took as long for each cell (MobileNetV2, int8, LiteRT on
    x86-64, 1.66 ms alone, 1.68 to 1.71 ms in batches), and tflite files of a fixed input run everywhere.

    Attributes:
        spec: what the file says of itself.
        interpreter: what runs it.
        path: of the file; None where it was not opened from one.
        locator: finds the cells of a picture for it: its own, or the shipped one where it carries none.
    """

    def __init__(
        self, spec: ModelSpec, interpreter: Interpreter, path: Path | None = None, *, locator: Locator | None = None
    ) -> None:
        """Join a spec, an interpreter and a locator, None for the shipped one; use `open` instead."""
        self.spec, self.interpreter, self.path = spec, interpreter, path
        self.locator: Locator = shipped_locator() if locator is None else locator

    @classmethod
    def open(cls, path: str | Path, *, threads: int | None = 1, check: bool = True) -> Classifier:
        """Open a .tflite made by ``bce convert`` and replay its golden samples.

        Args:
            path: the model file.
            threads: cores for one invoke; None tries what is fastest here, which takes some ten invokes.
            check: False leaves the golden samples out.

        Raises:
            MissingFile: no such file.
            SpecError: damaged, without a spec, not what its spec says, or answering differently on this machine.
            RuntimeMissing: no interpreter opens it.
        """
        model = read_model_file(path)
        interpreter = _fastest(path) if threads is None else load_interpreter(path, threads=threads)
        expected = (model.spec.input_size, len(model.spec.outputs))
        found = (interpreter.input_size, interpreter.outputs)
        if expected != found:
            message = f"{path}: expected input size and number of outputs {expected} as its spec says, found {found}"
            raise SpecError(message)
        locator = _locator_of(model)
        if check:
            told = {"name": str(path), "runtime": interpreter.runtime}
            replay(interpreter, model.spec, **told)
            if model.spec.shown_as.needs_cells:
                replay_fields(locator, draw=kept_field, **told)
        return cls(model.spec, interpreter, model.path, locator=locator)

    def __repr__(self) -> str:
        """Name, target and interpreter."""
        return f"Classifier({self.spec.name}, {self.spec.target}, {self.interpreter!r})"

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities of prepared pictures.

        Args:
            pixels: uint8 RGB, shape (n, *input_size, 3).

        Returns:
            float32, shape (n, labels); where the model knows a background they sum to less than 1.
        """
        labels = len(self.spec.labels)
        answers = np.empty((len(pixels), labels), np.float32)
        for row, picture in enumerate(pixels):
            answers[row] = self.interpreter.scores(picture)[:labels]
        return answers

    def classify(self, image: Image | str | Path, located: Located | None = None) -> tuple[Prediction, ...]:
        """Name the cells of one picture, or with view "frame" the picture.

        Args:
            image: uint8 RGB, shape (height, width, 3), any size; or the path of a picture file.
            located: its cells, where they are known; None locates them, with view "cell".

        Returns:
            One for each cell, from top to bottom, none where no cell is found; one, without a box, for view "frame".

        Raises:
            MissingFile, PictureError: of a path, see `read_image`.
        """
        if isinstance(image, str | Path):
            image = read_image(image)
        begun = time.perf_counter()
        return self.answer(self.show(image, located), begun=begun)

    def show(self, image: Image, located: Located | None = None) -> tuple[Shown, ...]:
        """What of a picture the model is asked about, for `answer`; may be called from several threads at once.

        Args:
            image: uint8 RGB, shape (height, width, 3), any size.
            located: its cells, where they are known; None locates them, with view "cell".
        """
        view = self.spec.shown_as
        if located is None and view.needs_cells:
            located = self.locator(image)
        return view.show(image, located)

    def answer(self, shown: Sequence[Shown], *, begun: float | None = None) -> tuple[Prediction, ...]:
        """Name what `show` gave of one picture; not from two threads at once.

        Args:
            shown: by the view of the spec.
            begun: when preparing began, by `time.perf_counter`; None for now.
        """
        start = time.perf_counter() if begun is None else begun
        scores = [self.interpreter.scores(one.pixels) for one in shown]
        each_ms = (time.perf_counter() - start) * 1e3 / max(len(shown), 1)
        return tuple(predict(row, self.spec, one, latency_ms=each_ms) for row, one in zip(scores, shown, strict=True))


def _locator_of(model: ModelFile) -> LearnedLocator:
    """Its own, or the shipped one for a file of version 1, which has none."""
    return open_locator(model.locator, where=str(model.path)) if model.locator else shipped_locator()


def predict(
    scores: NDArray[np.float32] | Sequence[float], spec: ModelSpec, shown: Shown, *, latency_ms: float
) -> Prediction:
    """Turn the probabilities of all outputs into a `Prediction`.

    Below the reject threshold, or marked, it is UNIDENTIFIED; marked `views.EDGE` it is not counted either.
    """
    by_output = {name: float(value) for name, value in zip(spec.outputs, scores, strict=True)}
    other = by_output.pop(UNIDENTIFIED) if spec.background else None
    top = max(by_output, key=by_output.__getitem__)
    score = by_output[top]
    reason = shown.mark
    if not reason and spec.reject_threshold is not None and score < spec.reject_threshold:
        reason = OTHER_CELL if other is not None and other > score else LOW_SCORE
    return Prediction(
        UNIDENTIFIED if reason else top,
        score,
        by_output,
        shown.box,
        latency_ms,
        shown.mark,
        reason,
        counted=shown.mark != EDGE,
        other=other,
    )


def _fastest(path: str | Path) -> Interpreter:
    """An interpreter with as many threads as help on this machine, by trying: more cores are not always faster."""
    best, least = load_interpreter(path), float("inf")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for threads in (count for count in (1, 2, 4) if count <= cores):
        tried = best if threads == 1 else load_interpreter(path, threads=threads)
        took = _trial(tried)
        if took < _WORTH_A_THREAD * least:
            best, least = tried, took
    return best


def _trial(interpreter: Interpreter) -> float:
    """Seconds of the fastest invoke on a grey picture."""
    grey = np.full((*interpreter.input_size, 3), 128, np.uint8)
    times = []
    for _ in range(_TRIAL_RUNS):
        start = time.perf_counter()
        interpreter.scores(grey)
        times.append(time.perf_counter() - start)
    return min(times)
