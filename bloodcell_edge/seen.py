"""Which pictures a model was trained on, small enough to travel in the model file.

Two hashes a picture: 64 bits of the SHA-256 of its file (the same file), and a 128-bit perceptual hash (the same
picture saved again, resized, flipped or turned by 90 degrees). Copies turned by a few degrees need local features:
a run folder keeps those too, see `bloodcell_edge.training.audit`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .errors import SpecError
from .image import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .image import Image

NEAR_BITS = 12
"""Perceptual hashes that differ in at most so many of 128 bits are one picture.

Measured with tests/test_seen.py and the same loop on whole sets: 599 of 600 copies saved again, resized and turned are
within 12 bits. Pairs of pictures of different cells within 12 bits: 10 of 4,457,399 (3,000 pictures of Kaggle's
blood-cells), 0 of 39,042 (the 280 photographs behind them), 0 of 9,677,800 (4,400 pictures of another microscope).
"""

_SIDE = 32  # as in the classic pHash, which keeps 64 bits; smears of one microscope are too alike for so few
_BITS = 128
_BYTES = _BITS // 8


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


def content_hash(sha256: str) -> np.uint64:
    """The first 64 bits of a file's SHA-256."""
    return np.uint64(int(sha256[:16], 16))


@dataclass(frozen=True)
class Seen:
    """Hashes of training pictures.

    Attributes:
        content: uint64, shape (n,).
        perceptual: uint8, shape (n, 16).
    """

    content: NDArray[np.uint64]
    perceptual: NDArray[np.uint8]

    def holds(self, sha256: str, hashes: NDArray[np.uint8]) -> bool:
        """True where a file, or a near copy of it, was trained on.

        Args:
            sha256: of the file, hexadecimal.
            hashes: `all_hashes` of its picture.
        """
        if np.any(self.content == content_hash(sha256)):
            return True
        return any(bool((distances(self.perceptual, one) <= NEAR_BITS).any()) for one in hashes)

    def as_json(self) -> dict[str, str]:
        """Base64 of the big-endian bytes."""
        return {
            "content": base64.b64encode(self.content.astype(">u8").tobytes()).decode(),
            "perceptual": base64.b64encode(self.perceptual.tobytes()).decode(),
        }


def distances(hashes: NDArray[np.uint8], one: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number of bits in which each of `hashes`, shape (n, 16), differs from `one`, shape (16,)."""
    differing: NDArray[np.int64] = _BIT_COUNT[hashes ^ one].sum(axis=1, dtype=np.int64)
    return differing


_BIT_COUNT = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)  # numpy 1 has no bitwise_count


def collect(entries: Sequence[tuple[str, NDArray[np.uint8]]]) -> Seen:
    """Gather (SHA-256 of the file, `perceptual_hash`) of each training picture."""
    content = np.array([content_hash(sha256) for sha256, _ in entries], np.uint64)
    return Seen(content, np.array([one for _, one in entries], np.uint8).reshape(-1, _BYTES))


def from_json(values: Mapping[str, str]) -> Seen:
    """Read what `Seen.as_json` gave; an empty mapping is a model that says nothing of its training.

    Raises:
        SpecError: not base64 of whole hashes.
    """
    try:
        content = np.frombuffer(base64.b64decode(values.get("content", ""), validate=True), ">u8").astype(np.uint64)
        perceptual = np.frombuffer(base64.b64decode(values.get("perceptual", ""), validate=True), np.uint8)
        return Seen(content, perceptual.reshape(-1, _BYTES))
    except (ValueError, TypeError, AttributeError) as error:
        message = f"spec: the hashes of the training pictures cannot be read ({error}); convert the model again"
        raise SpecError(message) from error
