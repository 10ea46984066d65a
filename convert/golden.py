"""Golden samples: drawn pictures that a file answers clearly, to be replayed on every device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bloodcell_edge.golden import TOLERANCE, Answering, digest, drawn_pixels
from bloodcell_edge.smear import LABELS as DRAWN_LABELS
from bloodcell_edge.spec import Golden
from bloodcell_edge.views import View

MARGIN = 2 * TOLERANCE
"""Least distance of the two best scores. Other kernels move a score by up to the tolerance, so the label must hold."""

_TRIES = 60  # drawings of each class
_FIRST_SEED = 7_000_000  # far from the seeds of demos and tests


def golden_samples(model: Answering, labels: Sequence[str], view: View) -> tuple[Golden, ...]:
    """One drawn picture for each label that the model gives clearly.

    A model trained on photographs may never give some label to a drawing; that label then has no sample, which
    `bce info` says.

    Args:
        model: the converted file itself, ``scores((height, width, 3)) -> (labels,)``.
        labels: in output order.
        view: how pictures are shown to it.
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
        if label not in found and first - second > MARGIN:
            found[label] = Golden(seed, drawn, digest(pixels), label, tuple(float(score) for score in scores))
    return tuple(found[label] for label in labels if label in found)
