"""A perceptual hash: the same picture saved again, resized, flipped or turned by 90 degrees is known by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .image import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .image import Image


_SIDE = 32  # as in the classic pHash, which keeps 64 bits; smears of one microscope are too alike for so few
_BITS = 128
HASH_BYTES = _BITS // 8


def perceptual_hash(image: Image) -> NDArray[np.uint8]:
    """DCT hash of a picture (the "pHash" of Zauner 2010, thesis, section 3.2.1), longer than the original's.

    Args:
        image: uint8 RGB, shape (height, width, 3).

    Returns:
        uint8, shape (16,).
    """
    return _hash_of(_grey(image))


def all_hashes(image: Image) -> NDArray[np.uint8]:
    """The hashes of a picture as it is, flipped, and turned by 90, 180 and 270 degrees; uint8, shape (8, 16)."""
    grey = _grey(image)
    return np.array([_hash_of(np.rot90(side, quarter)) for side in (grey, grey[:, ::-1]) for quarter in range(4)])


def _grey(image: Image) -> NDArray[np.float64]:
    small = resize(image, (_SIDE, _SIDE)).astype(np.float64)
    grey: NDArray[np.float64] = small @ np.array([0.299, 0.587, 0.114])
    return grey


def _hash_of(grey: NDArray[np.float64]) -> NDArray[np.uint8]:
    kept = (_DCT @ grey @ _DCT.T).ravel()[_LOWEST].round(3)  # else the last bits of zeros decide in an even picture
    return np.packbits(kept > np.median(kept))


def _dct_matrix() -> NDArray[np.float64]:
    """DCT-II, unnormalised."""
    k, n = np.arange(_SIDE)[:, None], np.arange(_SIDE)[None, :]
    matrix: NDArray[np.float64] = np.cos(np.pi * k * (2 * n + 1) / (2 * _SIDE))
    return matrix


_DCT = _dct_matrix()
_LOWEST = np.argsort(np.add.outer(np.arange(_SIDE), np.arange(_SIDE)).ravel(), kind="stable")[1 : _BITS + 1]
"""The lowest frequencies but the mean, which is only brightness."""
