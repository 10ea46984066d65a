"""Which pictures a model was trained on, small enough to travel in the model file.

Two hashes a picture: 64 bits of the SHA-256 of its file (the same file), and a 128-bit perceptual hash (the same
picture saved again, resized, flipped or turned by 90 degrees). Copies turned by a few degrees need local features:
a run folder keeps those too, see `dataset.photographs`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import SpecError
from ..imaging.hashes import HASH_BYTES

if TYPE_CHECKING:
    from numpy.typing import NDArray


NEAR_BITS = 12
"""Perceptual hashes that differ in at most so many of 128 bits are one picture.

Measured with tests/model/test_seen.py and the same loop on whole sets: 599 of 600 copies saved again, resized and
turned are within 12 bits. Pairs of pictures of different cells within 12 bits: 10 of 4,457,399 (3,000 pictures of
Kaggle's blood-cells), 0 of 39,042 (the 280 photographs behind them), 0 of 9,677,800 (4,400 pictures of another
microscope).
"""


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
    return Seen(content, np.array([one for _, one in entries], np.uint8).reshape(-1, HASH_BYTES))


def from_json(values: Mapping[str, str]) -> Seen:
    """Read what `Seen.as_json` gave; an empty mapping is a model that says nothing of its training.

    Raises:
        SpecError: not base64 of whole hashes.
    """
    try:
        content = np.frombuffer(base64.b64decode(values.get("content", ""), validate=True), ">u8").astype(np.uint64)
        perceptual = np.frombuffer(base64.b64decode(values.get("perceptual", ""), validate=True), np.uint8)
        return Seen(content, perceptual.reshape(-1, HASH_BYTES))
    except (ValueError, TypeError, AttributeError) as error:
        message = f"spec: the hashes of the training pictures cannot be read ({error}); convert the model again"
        raise SpecError(message) from error
