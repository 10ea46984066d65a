"""An index of photographs: which known one does a picture show, turned, flipped, sheared, shifted or saved again?

How a picture is found among many, none of it growing faster than n log n for n pictures:

1. Its local features (`photograph`) are looked up as they are and flipped.
2. Hash tables (cross-polytope hashing, Andoni et al. 2015, arXiv 1509.02897) name the few known photographs that share
   rare features. A hash that more than `_CROWDED` features have says nothing (rims of red cells) and is passed over.
3. At most `_CANDIDATES` of them are compared with it, feature by feature and pixel by pixel.
4. A picture that matches joins the photograph, or joins two that were thought apart; else it becomes a new one. Only
   the first picture of a photograph is kept to compare with, and up to `_MOST_KEPT` that resemble it least.

Hashes are exact integer arithmetic and RANSAC has a fixed seed: the same pictures in the same order, same groups.
A picture with next to nothing on it (an empty field) is known again by its exact pixels only.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BceError, DataError, MissingFile, PictureError
from ..files import beside
from ..imaging.image import read_image
from ..progress import Progress, Reporter
from .photograph import (
    DIGEST_BYTES,
    MIRROR,
    NO_DESCRIPTORS,
    NO_POINTS,
    SIDE,
    STEPS,
    PictureFeatures,
    compare,
    picture_features,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image
    from .photograph import Descriptors


_WORKERS = 2  # decoding and SIFT release the interpreter lock; matching stays on the caller's thread
_AHEAD = 32  # pictures described but not yet matched, at most

# Hash tables.
_TABLES = 8
_PARTS = 4  # hashes that make one key
_WIDTH = 32  # dimensions of one hash: 2 × 32 corners, 6 bits
_CROWDED = 8
_CANDIDATES = 6

# Views of one photograph.
_MOST_KEPT = 4
_CLOSE = 20  # inliers of a match so good that the picture adds nothing

_FORMAT = 1  # of the .npz file; raise when a constant above changes what is stored
_NO_INDEX = (ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)  # what numpy raises


def _hadamard(rows: NDArray[np.int16]) -> NDArray[np.int16]:
    """Walsh-Hadamard transform of the last axis, 128 long: with random signs before it, a random rotation.

    Not a matrix product: BLAS would start threads for one, which wait for each other on a busy machine (measured: 20
    times slower at worst).
    """
    for _ in range(7):
        even, odd = rows[..., ::2], rows[..., 1::2]
        rows = np.concatenate([even + odd, even - odd], axis=-1)
    return rows


class _Buckets:
    """Features by hash: sorted runs of doubling size, as in a log-structured merge tree; n log n to fill."""

    def __init__(self) -> None:
        self._runs: list[tuple[NDArray[np.uint32], NDArray[np.int32]]] = []
        rng = np.random.Generator(np.random.PCG64(20))
        self._signs = rng.integers(0, 2, (_TABLES, 128)).astype(np.int16) * 2 - 1

    def keys(self, descriptors: Descriptors) -> NDArray[np.uint32]:
        """The distinct hashes of descriptors (n, 128), over all tables."""
        wide = descriptors.astype(np.int16)
        centred = 8 * wide - wide.sum(axis=1, keepdims=True, dtype=np.int16) // 16  # 8 × (descriptor - its mean)
        turned = _hadamard(centred[:, None] * self._signs).reshape(-1, _TABLES, _PARTS, _WIDTH)
        corner = np.concatenate([turned, -turned], axis=-1).argmax(axis=-1).astype(np.uint32)
        keys = np.zeros(corner.shape[:2], np.uint32) + np.arange(_TABLES, dtype=np.uint32)
        for part in range(_PARTS):
            keys = keys * np.uint32(2 * _WIDTH) + corner[:, :, part]
        return np.unique(keys)

    def add(self, keys: NDArray[np.uint32], owner: int) -> None:
        """Keep sorted keys as those of picture number `owner`."""
        self._runs.append((keys, np.full(len(keys), owner, np.int32)))
        while len(self._runs) > 1 and len(self._runs[-2][0]) < 3 * len(self._runs[-1][0]):
            last, before = self._runs.pop(), self._runs.pop()
            both, owners = (np.concatenate(pair) for pair in zip(before, last, strict=True))
            order = np.argsort(both, kind="stable")
            self._runs.append((both[order], owners[order]))

    def owners(self, keys: NDArray[np.uint32]) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """Views that have some of the keys, once for each key, and the weight of each: 1 / (how many have it)."""
        which, owners = [np.empty(0, np.intp)], [np.empty(0, np.int32)]
        for known, owner in self._runs:
            first = np.searchsorted(known, keys)
            window = np.minimum(first[:, None] + np.arange(_CROWDED + 1), len(known) - 1)
            row, column = np.nonzero((known[window] == keys[:, None]) & (first < len(known))[:, None])
            place = first[row] + column
            row, place = row[place < len(known)], place[place < len(known)]  # the last window repeats its end
            which.append(row)
            owners.append(owner[place])
        hit = np.concatenate(which)
        count = np.bincount(hit, minlength=len(keys))[hit]
        telling = count <= _CROWDED
        return np.concatenate(owners)[telling], 1 / count[telling]


@dataclass(frozen=True)
class _Match:
    """A known picture that shows the same photograph: its number and how many features agree."""

    picture: int
    inliers: int


class DisjointSets:
    """Union-find (Tarjan 1975): numbers that are joined answer to the smallest of them."""

    def __init__(self) -> None:
        self._parent: list[int] = []

    def new(self) -> int:
        """A number that is joined to none yet."""
        self._parent.append(len(self._parent))
        return len(self._parent) - 1

    def __len__(self) -> int:
        return len(self._parent)

    def root(self, number: int) -> int:
        """The smallest number that this one is joined to."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, a: int, b: int) -> int:
        """Join two; the root of both."""
        low, high = sorted((self.root(a), self.root(b)))
        self._parent[high] = low
        return low


class PhotographIndex:
    """The photographs seen so far; knows another picture of one of them again.

    A photograph is a group number, given in order of first appearance. `len` is how many there are. Not for
    use from several threads at once.
    """

    def __init__(self) -> None:
        self._pictures: list[PictureFeatures] = []
        self._group_of_picture: list[int] = []
        self._pictures_in: Counter[int] = Counter()
        self._groups = DisjointSets()
        self._by_digest: dict[bytes, int] = {}
        self._buckets = _Buckets()

    def __len__(self) -> int:
        return len({self._groups.root(group) for group in self._group_of_picture})

    def add(self, image: Image) -> int:
        """Add a picture.

        Args:
            image: uint8 RGB, shape (height, width, 3).

        Returns:
            The group of its photograph. A later picture can show that two groups are one: see `current`.
        """
        return self.add_features(picture_features(image))

    def add_features(self, features: PictureFeatures) -> int:
        """`add` a picture by its features, taken before."""
        known = self._by_digest.get(features.digest)
        if known is not None:
            return self.current(self._group_of_picture[known])
        keys = self._buckets.keys(features.descriptors)
        matches = self._matches(features, keys)
        if not matches:
            group = self._groups.new()
            self._keep(features, keys, group)
            return group
        group = self.current(self._group_of_picture[matches[0].picture])
        for match in matches[1:]:
            group = self._join(group, self._group_of_picture[match.picture])
        if max(match.inliers for match in matches) < _CLOSE and self._pictures_in[group] < _MOST_KEPT:
            self._keep(features, keys, group)
        return group

    def add_all(self, images: Sequence[str | Path] | Sequence[Image], *, progress: Progress | None = None) -> list[int]:
        """Add many pictures, decoded and described on two threads, a bounded number in memory at once.

        Args:
            images: files, or uint8 RGB arrays (height, width, 3).
            progress: called with (done, total).

        Returns:
            The group of each, as it stands after the last one.

        Raises:
            PictureError: a file cannot be decoded.
            MissingFile: a file is not there.
        """
        groups = []
        for number, features in enumerate(read_features(images), 1):
            if isinstance(features, BceError):
                raise features
            groups.append(self.add_features(features))
            if progress is not None:
                progress(number, len(images))
        return [self.current(group) for group in groups]

    def find(self, image: Image) -> int | None:
        """The group whose photograph a picture (uint8 RGB, (height, width, 3)) shows, None where it shows none."""
        features = picture_features(image)
        known = self._by_digest.get(features.digest)
        if known is None:
            matches = self._matches(features, self._buckets.keys(features.descriptors))
            if not matches:
                return None
            known = max(matches, key=lambda match: match.inliers).picture
        return self.current(self._group_of_picture[known])

    def current(self, group: int) -> int:
        """What a group number became: the smallest number of those that turned out to be one photograph."""
        return self._groups.root(group)

    def save(self, path: str | Path) -> None:
        """Write the index to one compressed .npz file, or nothing where that fails.

        Raises:
            OSError: the folder cannot be written.
        """
        known = self._pictures
        arrays = {
            "format": np.array(_FORMAT),
            "became": np.array([self.current(group) for group in range(len(self._groups))], np.int32),
            "group": np.array(self._group_of_picture, np.int32),
            "features": np.array([len(one.points) for one in known], np.int32),
            "points": np.concatenate([NO_POINTS, *(one.points for one in known)]) * STEPS,
            "descriptors": np.concatenate([NO_DESCRIPTORS, *(one.descriptors for one in known)]),
            "thumbs": np.array([one.thumb for one in known], np.uint8).reshape(-1, SIDE // 2, SIDE // 2),
            "digests": np.frombuffer(b"".join(one.digest for one in known), np.uint8).reshape(-1, DIGEST_BYTES),
        }
        arrays["points"] = arrays["points"].astype(np.uint16)
        with beside(path) as temporary, temporary.open("wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> PhotographIndex:
        """Read what `save` wrote; the index gives the same answers as the one that was saved.

        Raises:
            MissingFile: there is no such file.
            DataError: it is not an index, or of a format this version does not know.
        """
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError as error:
            message = f"{path}: no such file; expected an index of photographs, as a training run writes it"
            raise MissingFile(message) from error
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as stored:  # from memory: a bad file is closed at once
                arrays = {name: stored[name] for name in stored.files}
            found = int(arrays["format"])
            if found == _FORMAT:
                return cls._from_arrays(arrays)
        except _NO_INDEX as error:
            message = f"{path}: not an index of photographs ({error}); train again"
            raise DataError(message) from error
        message = f"{path}: index of photographs in format {found}, expected {_FORMAT}; train again"
        raise DataError(message)

    @classmethod
    def _from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> PhotographIndex:
        index = cls()
        for group in arrays["became"]:
            index._groups.join(index._groups.new(), int(group))
        ends = np.cumsum(arrays["features"])[:-1]
        points = np.split(arrays["points"].astype(np.float32) / np.float32(STEPS), ends)
        descriptors = np.split(arrays["descriptors"], ends)
        for number, group in enumerate(arrays["group"]):
            digest = arrays["digests"][number].tobytes()
            features = PictureFeatures(points[number], descriptors[number], arrays["thumbs"][number], digest)
            index._keep(features, index._buckets.keys(features.descriptors), int(group))
        return index

    def _join(self, a: int, b: int) -> int:
        a, b = self.current(a), self.current(b)
        if a != b:
            joined = self._groups.join(a, b)
            self._pictures_in[joined] = self._pictures_in[a] + self._pictures_in[b]
        return self.current(a)

    def _keep(self, features: PictureFeatures, keys: NDArray[np.uint32], group: int) -> None:
        number = len(self._pictures)
        self._pictures.append(features)
        self._group_of_picture.append(group)
        self._pictures_in[self.current(group)] += 1
        self._by_digest[features.digest] = number
        self._buckets.add(keys, number)

    def _matches(self, features: PictureFeatures, keys: NDArray[np.uint32]) -> list[_Match]:
        """Known pictures of the same photograph among the likeliest candidates, at most one of each group."""
        matches: list[_Match] = []
        groups: set[int] = set()
        for number, mirrored in self._candidates(features, keys):
            group = self.current(self._group_of_picture[number])
            if group in groups:
                continue
            inliers = compare(features, self._pictures[number], mirrored=mirrored)
            if inliers:
                groups.add(group)
                matches.append(_Match(number, inliers))
        return matches

    def _candidates(self, features: PictureFeatures, keys: NDArray[np.uint32]) -> list[tuple[int, bool]]:
        """(picture, whether flipped) of those that share most, counting rare features more."""
        seen = []
        for mirrored, own in ((0, keys), (1, self._buckets.keys(features.descriptors[:, MIRROR]))):
            owners, weights = self._buckets.owners(own)
            seen.append((owners * 2 + mirrored, weights))
        ids, place = np.unique(np.concatenate([owners for owners, _ in seen]), return_inverse=True)
        votes = np.bincount(place, np.concatenate([weights for _, weights in seen]), len(ids))
        best = np.lexsort((ids, -votes))[:_CANDIDATES]
        return [(int(ids[i]) // 2, bool(ids[i] % 2)) for i in best]


def in_order(names: Iterable[Hashable]) -> list[int]:
    """Names as numbers from 0, in order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]


def read_features(images: Sequence[str | Path] | Sequence[Image]) -> Iterator[PictureFeatures | BceError]:
    """Describe pictures on worker threads, in order; an unreadable one gives its error."""

    def one(image: str | Path | Image) -> PictureFeatures | BceError:
        try:
            return picture_features(read_image(image) if isinstance(image, (str, Path)) else image)
        except (PictureError, MissingFile) as error:
            return error

    with ThreadPoolExecutor(_WORKERS) as pool:
        left = iter(images)
        waiting: deque[Future[PictureFeatures | BceError]] = deque(
            pool.submit(one, image) for image in islice(left, _AHEAD)
        )
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(one, image) for image in islice(left, 1))


def save_photographs(path: Path, features: Sequence[PictureFeatures], report: Reporter) -> None:
    """Keep local features of the training photographs, so that a turned copy of one is known again."""
    index = PhotographIndex()
    with report.bar("remember photographs") as progress:
        for number, one in enumerate(features, 1):
            index.add_features(one)
            progress(number, len(features))
    index.save(path)
