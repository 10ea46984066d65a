"""Which pictures an epoch shows, and in which order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..dataset.pictures import Picture
from ..dataset.split import group_names
from ..errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def balanced_weights(pictures: Sequence[Picture], *, noted: float = 1.0) -> NDArray[np.float64]:
    """Chance of each picture to be drawn: classes equal, sources equal within a class, photographs within a source.

    Args:
        pictures: with label, group and source.
        noted: weight of a picture with a note, whose label may be doubtful, against one without; 0 leaves them out.

    Returns:
        float64, shape (n,), sums to 1.

    Raises:
        DataError: a class has nothing but pictures with notes, and these are left out.
    """
    labels, sources, groups = [p.label for p in pictures], [p.source for p in pictures], group_names(pictures)
    photographs = list(zip(labels, sources, groups, strict=True))
    weights = np.array([noted if picture.note else 1.0 for picture in pictures])
    largest = dict.fromkeys(photographs, 0.0)
    for photograph, weight in zip(photographs, weights, strict=True):
        largest[photograph] = max(largest[photograph], weight)
    weights = _shared(weights, photographs) * np.array([largest[photograph] for photograph in photographs])
    weights = _shared(_shared(weights, list(zip(labels, sources, strict=True))), labels)
    return _summing_to_one(weights, labels)


def _shared(weights: NDArray[np.float64], names: Sequence[Hashable]) -> NDArray[np.float64]:
    """Weights that sum to 1 under each name, or are all 0."""
    totals: dict[Hashable, float] = defaultdict(float)
    for name, weight in zip(names, weights, strict=True):
        totals[name] += weight
    return np.array([weight / (totals[name] or 1.0) for name, weight in zip(names, weights, strict=True)])


def _summing_to_one(weights: NDArray[np.float64], labels: list[str | None]) -> NDArray[np.float64]:
    left = {label for label, weight in zip(labels, weights, strict=True) if weight}
    empty = sorted(str(label) for label in set(labels) - left)
    if empty:
        message = f"{', '.join(empty)}: every picture has a note, and the recipe leaves those out; add others"
        raise DataError(message)
    normal: NDArray[np.float64] = weights / weights.sum()
    return normal


def epoch_order(
    n: int, weights: NDArray[np.float64] | None, seed: tuple[int, ...], *, draws: int | None = None
) -> NDArray[np.int64]:
    """Which pictures one epoch shows, in which order: shuffles, or draws by weight. int64, shape (draws or n,)."""
    rng = np.random.default_rng(seed)
    length = n if draws is None else draws
    if weights is not None:
        return rng.choice(n, length, p=weights)
    return np.concatenate([rng.permutation(n) for _ in range(-(-length // n))])[:length]
