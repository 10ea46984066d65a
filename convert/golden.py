"""Golden samples: drawn pictures that a file answers clearly, to be replayed on every device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bloodcell_edge.golden import Answering, digest, drawn_pixels
from bloodcell_edge.interpreter import load_interpreter
from bloodcell_edge.smear import LABELS as DRAWN_LABELS
from bloodcell_edge.spec import KERNEL_TOLERANCE, Golden
from bloodcell_edge.views import View

if TYPE_CHECKING:
    from numpy.typing import NDArray

_BEYOND = 1.5
"""How far beyond the largest difference that was seen one must still be allowed for: pictures differ."""

_TRIES = 60  # drawings of each class
_FIRST_SEED = 7_000_000  # far from the seeds of demos and tests


def kernel_tolerance(path: Path, samples: NDArray[np.uint8]) -> float:
    """By how much scores of a file differ between XNNPACK's kernels and the built-in ones, which older devices run.

    Args:
        path: the file.
        samples: uint8 RGB, shape (n, height, width, 3): the representative dataset.

    Returns:
        1.5 times the largest difference on the samples, and `KERNEL_TOLERANCE` at least.
    """
    usual, plain = load_interpreter(path), load_interpreter(path, plain=True)
    largest = max(float(np.abs(usual.scores(one) - plain.scores(one)).max()) for one in samples)
    return max(_BEYOND * largest, KERNEL_TOLERANCE)


def golden_samples(model: Answering, labels: Sequence[str], view: View, *, margin: float) -> tuple[Golden, ...]:
    """One drawn picture for each label that the model gives clearly.

    A model trained on photographs may never give some label to a drawing; that label then has no sample, which
    `bce info` says.

    Args:
        model: the converted file itself, ``scores((height, width, 3)) -> (labels,)``.
        labels: in output order.
        view: how pictures are shown to it.
        margin: least distance of the two best scores: twice the tolerance, since both may move and the label must hold.
    """
    found: dict[str, Golden] = {}
    for number in range(_TRIES * len(DRAWN_LABELS)):
        if len(found) == len(labels):
            break
        seed, drawn = _FIRST_SEED + number, DRAWN_LABELS[number % len(DRAWN_LABELS)]
        pixels = drawn_pixels(seed, drawn, view)
        if pixels is None:
            continue
        scores = model.scores(pixels)
        label = labels[int(np.argmax(scores))]
        second, first = np.sort(scores)[-2:] if len(scores) > 1 else (0.0, scores[0])
        if label not in found and first - second > margin:
            found[label] = Golden(seed, drawn, digest(pixels), label, tuple(float(score) for score in scores))
    return tuple(found[label] for label in labels if label in found)
