"""Golden samples: drawn pictures that a file answers clearly, to be replayed on every device."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bloodcell_edge.image import prepare
from bloodcell_edge.smear import LABELS as DRAWN_LABELS
from bloodcell_edge.smear import draw_field
from bloodcell_edge.spec import Golden

if TYPE_CHECKING:
    from numpy.typing import NDArray

MARGIN = 2 * 20 / 256
"""Least distance of the two best scores. Other kernels move an int8 score by up to 20/256, so the label must hold."""

_TRIES = 60  # drawings of each class
_FIRST_SEED = 7_000_000  # far from the seeds of demos and tests


class _Answers(Protocol):
    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]: ...


def golden_samples(model: _Answers, labels: Sequence[str], input_size: tuple[int, int]) -> tuple[Golden, ...]:
    """One drawn picture for each label that the model gives clearly.

    A model trained on photographs may never give some label to a drawing; that label then has no sample, which
    `bce info` says.

    Args:
        model: the converted file itself, ``scores((height, width, 3)) -> (labels,)``.
        labels: in output order.
        input_size: (height, width) in pixels.
    """
    found: dict[str, Golden] = {}
    for number in range(_TRIES * len(DRAWN_LABELS)):
        if len(found) == len(labels):
            break
        seed, drawn = _FIRST_SEED + number, DRAWN_LABELS[number % len(DRAWN_LABELS)]
        pixels = _pixels(seed, drawn, input_size)
        scores = model.scores(pixels)
        label = labels[int(np.argmax(scores))]
        second, first = np.sort(scores)[-2:] if len(scores) > 1 else (0.0, scores[0])
        if label not in found and first - second > MARGIN:
            digest = hashlib.sha256(pixels.tobytes()).hexdigest()
            found[label] = Golden(seed, drawn, digest, label, tuple(float(score) for score in scores))
    return tuple(found[label] for label in labels if label in found)


@functools.lru_cache(maxsize=_TRIES * len(DRAWN_LABELS))  # every target of a model is asked about the same drawings
def _pixels(seed: int, drawn: str, input_size: tuple[int, int]) -> NDArray[np.uint8]:
    pixels = prepare(draw_field(seed, (drawn,)).image, input_size)
    pixels.flags.writeable = False
    return pixels
