"""Ranks: below which value so many of a picture's pixels are. In integers, so that every machine gives the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def ranked(values: NDArray[Any], part: int, of: int) -> int:
    """The value that `part` in `of` are below."""
    rank = values.size * part // of
    return int(np.partition(values, rank, axis=None)[rank])


def by_level(pixels: NDArray[np.uint8], channel: int = 0, mask: NDArray[np.uint8] | None = None) -> NDArray[np.int64]:
    """How many pixels have each grey level in a channel, (256,).

    Args:
        pixels: uint8, shape (height, width) or (height, width, channels).
        channel: its number.
        mask: uint8, shape (height, width): where it is 0, pixels are not counted; None counts all.
    """
    import cv2

    counts: NDArray[np.int64] = cv2.calcHist([pixels], [channel], mask, [256], [0, 256]).ravel().astype(np.int64)
    return counts


def level_ranked(counts: NDArray[np.int64], part: int, of: int) -> int:
    """As `ranked`, of pixels that are counted by their level."""
    return _level_at(counts, int(counts.sum()) * part // of)


def level_reaching(counts: NDArray[np.int64], part: int, of: int) -> int:
    """The lowest level that `part` in `of` pixels do not exceed."""
    return _level_at(counts, -(-int(counts.sum()) * part // of) - 1)


def _level_at(counts: NDArray[np.int64], place: int) -> int:
    """The level of one pixel, the darkest has place 0."""
    return int(np.searchsorted(np.cumsum(counts), place, side="right"))
