"""Which pictures show the same photograph, though turned, flipped, sheared, shifted, cropped or saved again.

How a picture is found among many, none of it growing faster than n log n for n pictures:

1. Local features (SIFT, Lowe 2004, doi 10.1023/B:VISI.0000029664.99615.94) of a small copy, compared as RootSIFT
   (Arandjelović and Zisserman 2012, doi 10.1109/CVPR.2012.6248018). Turning and zooming do not change them. A flip
   only permutes the 128 numbers of a descriptor, so each feature is looked up as it is and flipped.
2. Hash tables (cross-polytope hashing, Andoni et al. 2015, arXiv 1509.02897) name the few known photographs that share
   rare features. A hash that more than `_CROWDED` features have says nothing (rims of red cells) and is passed over.
3. At most `_CANDIDATES` of them are tried: RANSAC fits an affine map through the matching features, and the pixels
   under that map must correlate. Both must hold, since one wrong match would join two photographs.
4. A picture that matches joins the photograph, or joins two that were thought apart; else it becomes a new one. Only
   the first picture of a photograph is kept to compare with, and up to `_VIEWS` that resemble it least.

All arithmetic that decides is done on small integers, so the same pictures in the same order give the same groups.
A picture with next to nothing on it (an empty field) is known again by its exact pixels only.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..data import Dataset, Picture, Progress, Unreadable
from ..errors import DataError, MissingFile, PictureError
from ..files import beside
from ..image import read_image, resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..image import Image

    Points = NDArray[np.float32]
    Descriptors = NDArray[np.uint8]

T = TypeVar("T", bound=Hashable)

_WORKERS = 2  # decoding and SIFT release the interpreter lock; matching stays on the caller's thread
_AHEAD = 64  # pictures in memory at once, at most

# Features. Chosen on 300 pairs of pictures that show one photograph and 300 that do not: with 64 features at 160 px the
# true pairs had 21 inliers or more and the others 6 or fewer; 320 px costs three times as long and parts no better.
_SIDE = 160  # pixels, the longer side of the copy that features are taken from
_FEATURES = 64  # a picture
_CONTRAST = 0.02  # SIFT's contrastThreshold
_BLACK = 24  # the brightest channel of a pixel outside the photograph (a wedge), JPEG noise included
_RIM = 9  # pixels around a wedge where features would describe its edge
_LEVELS = 15  # a RootSIFT value times `_SCALE`, at most; larger ones are rarer than 1 in 1,000
_SCALE = 64
_STEPS = 16  # positions are kept in sixteenths of a pixel

# Hash tables.
_TABLES = 12
_PARTS = 4  # hashes that make one key
_WIDTH = 32  # dimensions of one hash: 2 × 32 corners, 6 bits
_CROWDED = 8
_CANDIDATES = 6

# Verification.
_ALIKE = 0.8  # cosine of two descriptors that may be the same spot
_REPROJECTION_PX = 3.0
_INLIERS = 9
_STRETCH = (0.4, 2.5)  # singular values of the affine map
_SQUEEZE = 2.0  # their ratio
_CORRELATION = 0.7
_OVERLAP = 0.25  # of the smaller picture

# Views of one photograph.
_VIEWS = 4
_CLOSE = 20  # inliers of a match so good that the picture adds nothing

_FORMAT = 1


@dataclass(frozen=True)
class _View:
    """What is known of one picture.

    Attributes:
        points: float32 (x, y) in the small copy, shape (n, 2), n ≤ `_FEATURES`.
        descriptors: RootSIFT times `_SCALE`, uint8 0..`_LEVELS`, shape (n, 128).
        thumb: green channel, uint8, shape (`_SIDE` / 2, `_SIDE` / 2); 0 is outside the photograph.
        digest: 16 bytes of the SHA-256 of the decoded pixels and their shape.
    """

    points: Points
    descriptors: Descriptors
    thumb: NDArray[np.uint8]
    digest: bytes


def _mirror() -> NDArray[np.intp]:
    """The permutation of a SIFT descriptor that a flip makes: 4 × 4 cells upside down, 8 directions reversed."""
    cells = np.arange(128).reshape(4, 4, 8)[::-1]
    return cells[:, :, -np.arange(8) % 8].ravel()


_MIRROR = _mirror()


def _view(image: Image) -> _View:
    """Take features of a picture, uint8 RGB (height, width, 3)."""
    digest = hashlib.sha256(np.array(image.shape, "<i8").tobytes() + image.tobytes()).digest()[:16]
    zoom = _SIDE / max(image.shape[:2])
    height, width = (max(1, round(side * zoom)) for side in image.shape[:2])
    small = resize(image, (height, width))
    inside = _inside(small)
    green = _stretched(small[..., 1], inside)
    points, descriptors = _features(green, inside)
    return _View(points, descriptors, _thumb(green, inside), digest)


def _inside(small: Image) -> NDArray[np.uint8]:
    """255 where the photograph is, 0 in black wedges and beside them; uint8 (height, width)."""
    import cv2

    bright = (small.max(axis=2) > _BLACK).astype(np.uint8) * 255
    filled = cv2.morphologyEx(bright, cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))  # a very dark nucleus is no wedge
    rim = np.ones((_RIM, _RIM), np.uint8)
    return np.asarray(cv2.erode(filled, rim, borderType=cv2.BORDER_CONSTANT, borderValue=255), np.uint8)


def _stretched(green: NDArray[np.uint8], inside: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stretch to full contrast, so that brightness and contrast do not count: stains absorb green most."""
    pixels = green[inside > 0]
    low, high = np.percentile(pixels, (1, 99)) if pixels.size else (0.0, 255.0)
    scaled = (green.astype(np.float32) - low) * (254 / max(high - low, 16.0)) + 1
    return np.clip(np.rint(scaled), 1, 255).astype(np.uint8)


def _features(green: NDArray[np.uint8], inside: NDArray[np.uint8]) -> tuple[Points, Descriptors]:
    import cv2

    keypoints, found = cv2.SIFT_create(0, 3, _CONTRAST).detectAndCompute(green, inside)
    if found is None:
        return np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8)
    order = np.argsort([-point.response for point in keypoints], kind="stable")[:_FEATURES]
    raw = found[order].astype(np.float64)
    root = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1))
    points = np.array([keypoints[i].pt for i in order], np.float32)
    steps = np.clip(np.rint(points * _STEPS), 0, _SIDE * _STEPS) / _STEPS
    return steps.astype(np.float32), np.minimum(np.rint(root * _SCALE), _LEVELS).astype(np.uint8)


def _thumb(green: NDArray[np.uint8], inside: NDArray[np.uint8]) -> NDArray[np.uint8]:
    canvas = np.zeros((_SIDE, _SIDE), np.uint8)
    canvas[: green.shape[0], : green.shape[1]] = np.where(inside > 0, green, 0)
    quarters = canvas.reshape(_SIDE // 2, 2, _SIDE // 2, 2).swapaxes(1, 2).reshape(_SIDE // 2, _SIDE // 2, 4)
    mean = (quarters.sum(axis=2, dtype=np.uint16) + 2) // 4
    return np.where(quarters.all(axis=2), mean, 0).astype(np.uint8)


class _Buckets:
    """Features by hash: sorted runs of doubling size, as in a log-structured merge tree; n log n to fill."""

    def __init__(self) -> None:
        self._runs: list[tuple[NDArray[np.uint32], NDArray[np.int32]]] = []
        # Each direction has as many +1 as -1, so that a descriptor's mean drops out; integers keep sums exact.
        signs = np.repeat(np.array([1, -1], np.float32), 64)
        rng = np.random.Generator(np.random.PCG64(20))
        self._directions = np.stack([rng.permutation(signs) for _ in range(_TABLES * _PARTS * _WIDTH)], axis=1)

    def keys(self, descriptors: Descriptors) -> NDArray[np.uint32]:
        """The distinct hashes of descriptors (n, 128), over all tables."""
        across = (descriptors.astype(np.float32) @ self._directions).reshape(-1, _TABLES, _PARTS, _WIDTH)
        corner = np.concatenate([across, -across], axis=-1).argmax(axis=-1).astype(np.uint32)
        keys = np.zeros(corner.shape[:2], np.uint32) + np.arange(_TABLES, dtype=np.uint32)
        for part in range(_PARTS):
            keys = keys * np.uint32(2 * _WIDTH) + corner[:, :, part]
        return np.unique(keys)

    def add(self, keys: NDArray[np.uint32], owner: int) -> None:
        """Keep sorted keys as those of view number `owner`."""
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
    """A known view that shows the same photograph: its number and how many features agree."""

    view: int
    inliers: int


def _compare(query: _View, known: _View, *, mirrored: bool) -> int:
    """Inliers of the affine map that lays one picture onto another, 0 where they do not show one photograph."""
    ours = query.descriptors[:, _MIRROR] if mirrored else query.descriptors
    cosine = ours.astype(np.float32) @ known.descriptors.astype(np.float32).T / _SCALE**2
    best = cosine.argmax(axis=1)
    rows = np.arange(len(best))
    rows = rows[(cosine.argmax(axis=0)[best] == rows) & (cosine[rows, best] > _ALIKE)]
    if len(rows) < _INLIERS:
        return 0
    affine, inliers = _fit(query.points[rows], known.points[best[rows]])
    if inliers < _INLIERS or not _plausible(affine, mirrored=mirrored):
        return 0
    return inliers if _correlation(query.thumb, known.thumb, affine) >= _CORRELATION else 0


def _fit(source: Points, target: Points) -> tuple[NDArray[np.float64], int]:
    """The affine map (2, 3) that most pairs of points agree on, and how many do. OpenCV's RANSAC has a fixed seed."""
    import cv2

    affine, agree = cv2.estimateAffine2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=_REPROJECTION_PX, maxIters=500
    )
    if affine is None:
        return np.zeros((2, 3)), 0
    return affine, int(agree.sum())


def _plausible(affine: NDArray[np.float64], *, mirrored: bool) -> bool:
    """True for a map between two pictures of one thing: no collapse, and flipped just where the features say so."""
    large, little = np.linalg.svd(affine[:, :2], compute_uv=False)
    flipped = bool(np.linalg.det(affine[:, :2]) < 0)
    return bool(flipped == mirrored and _STRETCH[0] < little and large < _STRETCH[1] and large < _SQUEEZE * little)


def _correlation(source: NDArray[np.uint8], target: NDArray[np.uint8], affine: NDArray[np.float64]) -> float:
    """Pearson's correlation of the pixels two thumbs share under an affine map; -1 where they share too few."""
    import cv2

    linear = affine[:, :2]
    shift = (linear @ (0.5, 0.5) + affine[:, 2] - 0.5) / 2  # pixel centres of the copy lie at 2 × (thumb's) + 0.5
    halved = np.column_stack([linear, shift])
    shape = target.shape[::-1]
    moved = cv2.warpAffine(source, halved, shape, flags=cv2.INTER_LINEAR)
    covered = cv2.warpAffine((source > 0).astype(np.uint8) * 255, halved, shape, flags=cv2.INTER_LINEAR)
    both = (covered == 255) & (target > 0)
    area = min(np.count_nonzero(covered), np.count_nonzero(target))
    if both.sum() < max(_OVERLAP * area, 2):
        return -1.0
    ours, theirs = moved[both].astype(np.float64), target[both].astype(np.float64)
    ours, theirs = ours - ours.mean(), theirs - theirs.mean()
    return float(ours @ theirs / max(np.sqrt((ours @ ours) * (theirs @ theirs)), 1e-9))


class _Sets:
    """Union-find (Tarjan 1975): numbers that are joined answer to the smallest of them."""

    def __init__(self, count: int = 0) -> None:
        self._parent = list(range(count))

    def new(self) -> int:
        self._parent.append(len(self._parent))
        return len(self._parent) - 1

    def root(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, a: int, b: int) -> int:
        low, high = sorted((self.root(a), self.root(b)))
        self._parent[high] = low
        return low


class PhotographIndex:
    """The photographs seen so far; knows another picture of one of them again.

    A photograph is a group number, given in order of first appearance. `len` is how many there are. Not for
    use from several threads at once.
    """

    def __init__(self) -> None:
        self._views: list[_View] = []
        self._group_of_view: list[int] = []
        self._views_in: Counter[int] = Counter()
        self._groups = _Sets()
        self._by_digest: dict[bytes, int] = {}
        self._buckets = _Buckets()

    def __len__(self) -> int:
        return len({self._groups.root(group) for group in self._group_of_view})

    def add(self, image: Image) -> int:
        """Add a picture.

        Args:
            image: uint8 RGB, shape (height, width, 3).

        Returns:
            The group of its photograph. A later picture can show that two groups are one: see `current`.
        """
        return self._add(_view(image))

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
        for number, view in enumerate(_views(images), 1):
            groups.append(self._add(view))
            if progress is not None:
                progress(number, len(images))
        return [self.current(group) for group in groups]

    def find(self, image: Image) -> int | None:
        """The group whose photograph a picture (uint8 RGB, (height, width, 3)) shows, None where it shows none."""
        view = _view(image)
        known = self._by_digest.get(view.digest)
        if known is None:
            matches = self._matches(view, self._buckets.keys(view.descriptors))
            if not matches:
                return None
            known = max(matches, key=lambda match: match.inliers).view
        return self.current(self._group_of_view[known])

    def current(self, group: int) -> int:
        """What a group number became: the smallest number of those that turned out to be one photograph."""
        return self._groups.root(group)

    def _add(self, view: _View) -> int:
        known = self._by_digest.get(view.digest)
        if known is not None:
            return self.current(self._group_of_view[known])
        keys = self._buckets.keys(view.descriptors)
        matches = self._matches(view, keys)
        if not matches:
            group = self._groups.new()
            self._keep(view, keys, group)
            return group
        group = self.current(self._group_of_view[matches[0].view])
        for match in matches[1:]:
            group = self._join(group, self._group_of_view[match.view])
        if max(match.inliers for match in matches) < _CLOSE and self._views_in[group] < _VIEWS:
            self._keep(view, keys, group)
        return group

    def _join(self, a: int, b: int) -> int:
        a, b = self.current(a), self.current(b)
        if a != b:
            joined = self._groups.join(a, b)
            self._views_in[joined] = self._views_in[a] + self._views_in[b]
        return self.current(a)

    def _keep(self, view: _View, keys: NDArray[np.uint32], group: int) -> None:
        number = len(self._views)
        self._views.append(view)
        self._group_of_view.append(group)
        self._views_in[group] += 1
        self._by_digest[view.digest] = number
        self._buckets.add(keys, number)

    def _matches(self, view: _View, keys: NDArray[np.uint32]) -> list[_Match]:
        """Known views of the same photograph among the likeliest candidates, at most one of each group."""
        matches: list[_Match] = []
        groups: set[int] = set()
        for number, mirrored in self._candidates(view, keys):
            group = self.current(self._group_of_view[number])
            if group in groups:
                continue
            inliers = _compare(view, self._views[number], mirrored=mirrored)
            if inliers:
                groups.add(group)
                matches.append(_Match(number, inliers))
        return matches

    def _candidates(self, view: _View, keys: NDArray[np.uint32]) -> list[tuple[int, bool]]:
        """(view, whether flipped) of those that share most, counting rare features more."""
        seen = []
        for mirrored, own in ((0, keys), (1, self._buckets.keys(view.descriptors[:, _MIRROR]))):
            owners, weights = self._buckets.owners(own)
            seen.append((owners * 2 + mirrored, weights))
        ids, place = np.unique(np.concatenate([owners for owners, _ in seen]), return_inverse=True)
        votes = np.bincount(place, np.concatenate([weights for _, weights in seen]), len(ids))
        best = np.lexsort((ids, -votes))[:_CANDIDATES]
        return [(int(ids[i]) // 2, bool(ids[i] % 2)) for i in best]
