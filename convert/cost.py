"""What an architecture costs on this machine: size and speed of its int8 file, which its weights do not change."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bloodcell_edge.model.interpreter import interpreter_of
from bloodcell_edge.training.backbone import build_model

from .representative import with_full_range
from .targets import Target
from .tflite import to_tflite

if TYPE_CHECKING:
    from bloodcell_edge.model.interpreter import Interpreter
    from bloodcell_edge.training.recipes import Recipe

ROUNDS, INVOKES, WARM_UP = 5, 20, 10
"""The quietest of the rounds counts: the graph's work is always the same, so what is above it is disturbance."""

_SAMPLES, _SEED = 2, 0  # noise to calibrate with; how well it is calibrated costs no time


class Cost(NamedTuple):
    """Median time of one invoke with one thread in ms; bytes of the flatbuffer, without metadata (some kB)."""

    latency_ms: float
    bytes: int


def int8_cost(recipe: Recipe, labels: int) -> Cost:
    """Convert an untrained network of a recipe's architecture to int8 and time it.

    Args:
        recipe: of it counts backbone, alpha, size, pooling and hidden.
        labels: number of classes.

    Raises:
        DataError: no such architecture.
        ConversionError: it cannot be converted.
        RuntimeMissing: no interpreter opens the file.
    """
    model, _, _ = build_model(replace(recipe, weights="none", dropout=0.0), labels)
    shape = (_SAMPLES, recipe.size, recipe.size, 3)
    noise = np.random.default_rng(_SEED).integers(0, 256, shape, np.uint8)
    flatbuffer = to_tflite(model, target=Target.INT8, representative=with_full_range(noise))
    interpreter = interpreter_of(flatbuffer)
    _seconds(interpreter, noise[0], WARM_UP)
    medians = [float(np.median(_seconds(interpreter, noise[0], INVOKES))) for _ in range(ROUNDS)]
    return Cost(1e3 * min(medians), len(flatbuffer))


def _seconds(interpreter: Interpreter, picture: np.ndarray, count: int) -> list[float]:
    times = []
    for _ in range(count):
        start = time.perf_counter()
        interpreter.scores(picture)
        times.append(time.perf_counter() - start)
    return times
