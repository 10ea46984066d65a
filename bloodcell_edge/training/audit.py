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

Hashes are exact integer arithmetic and RANSAC has a fixed seed: the same pictures in the same order, same groups.
A picture with next to nothing on it (an empty field) is known again by its exact pixels only.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Dataset, Picture, Progress, Unreadable
from ..errors import BceError, DataError, MissingFile, NoPictures, PictureError
from ..files import beside
from ..image import read_image, resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..image import Image

    Points = NDArray[np.float32]
    Descriptors = NDArray[np.uint8]

_WORKERS = 2  # decoding and SIFT release the interpreter lock; matching stays on the caller's thread
_AHEAD = 32  # pictures described but not yet matched, at most

# Features. Chosen on 300 pairs of pictures that show one photograph and 300 that do not: with 64 features at 160 px the
# true pairs had 21 inliers or more and the others 6 or fewer; 320 px takes more than twice as long, parts no better.
_SIDE = 160  # pixels, the longer side of the copy that features are taken from
_FEATURES = 64  # a picture
_CONTRAST = 0.02  # SIFT's contrastThreshold
_BLACK = 24  # the brightest channel of a pixel outside the photograph (a wedge), JPEG noise included
_RIM = 9  # pixels around a wedge where features would describe its edge
_LEVELS = 15  # a RootSIFT value times `_SCALE`, at most; 0.7 % of all get there
_SCALE = 64
_STEPS = 16  # positions are kept in sixteenths of a pixel

# Hash tables.
_TABLES = 8
_PARTS = 4  # hashes that make one key
_WIDTH = 32  # dimensions of one hash: 2 × 32 corners, 6 bits
_CROWDED = 8
_CANDIDATES = 6

# Verification.
_ALIKE = 0.6 * _SCALE  # distance of descriptors of one spot: 99 % of true ones are nearer, 1 % of unlike ones
_REPROJECTION_PX = 3.0
_INLIERS = 9
_STRETCH = (0.4, 2.5)  # singular values of the affine map
_SQUEEZE = 2.0  # their ratio
_CORRELATION = 0.9  # among 4,400 single cells 17 true pairs had 0.98 or more, the others 0.81 or less
_OVERLAP = 0.25  # of the smaller picture

# Views of one photograph.
_VIEWS = 4
_CLOSE = 20  # inliers of a match so good that the picture adds nothing

_FORMAT = 1  # of the .npz file; raise when a constant above changes what is stored
_NO_INDEX = (ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)  # what numpy raises
_DIGEST = 16  # bytes
_NO_POINTS = np.empty((0, 2), np.float32)
_NO_DESCRIPTORS = np.empty((0, 128), np.uint8)


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
    digest = hashlib.sha256(np.array(image.shape, "<i8").tobytes() + image.tobytes()).digest()[:_DIGEST]
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

    found: Any  # None where there is no keypoint, which OpenCV's types do not say
    keypoints, found = cv2.SIFT.create(0, 3, _CONTRAST).detectAndCompute(green, inside)
    if found is None:
        return _NO_POINTS, _NO_DESCRIPTORS
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
    import cv2

    ours = query.descriptors[:, _MIRROR] if mirrored else query.descriptors
    pairs = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(_float(ours), _float(known.descriptors))
    alike = [pair for pair in pairs if pair.distance < _ALIKE]
    if len(alike) < _INLIERS:
        return 0
    source = query.points[[pair.queryIdx for pair in alike]]
    target = known.points[[pair.trainIdx for pair in alike]]
    affine, inliers = _fit(source, target)
    if inliers < _INLIERS or not _plausible(affine, mirrored=mirrored):
        return 0
    return inliers if _correlation(query.thumb, known.thumb, affine) >= _CORRELATION else 0


def _float(descriptors: Descriptors) -> NDArray[np.float32]:
    return np.ascontiguousarray(descriptors, np.float32)


def _fit(source: Points, target: Points) -> tuple[NDArray[np.float64], int]:
    """The affine map (2, 3) that most pairs of points agree on, and how many do. OpenCV's RANSAC has a fixed seed."""
    import cv2

    found: tuple[Any, Any] = cv2.estimateAffine2D(
        source, target, method=cv2.RANSAC, ransacReprojThreshold=_REPROJECTION_PX, maxIters=500
    )
    affine, agree = found
    return (np.zeros((2, 3)), 0) if affine is None else (affine, int(agree.sum()))


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

    def __init__(self) -> None:
        self._parent: list[int] = []

    def new(self) -> int:
        self._parent.append(len(self._parent))
        return len(self._parent) - 1

    def __len__(self) -> int:
        return len(self._parent)

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
        for number, view in enumerate(_read_views(images), 1):
            if isinstance(view, BceError):
                raise view
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

    def save(self, path: str | Path) -> None:
        """Write the index to one compressed .npz file, or nothing where that fails.

        Raises:
            OSError: the folder cannot be written.
        """
        views = self._views
        arrays = {
            "format": np.array(_FORMAT),
            "became": np.array([self.current(group) for group in range(len(self._groups))], np.int32),
            "group": np.array(self._group_of_view, np.int32),
            "features": np.array([len(view.points) for view in views], np.int32),
            "points": np.concatenate([_NO_POINTS, *(view.points for view in views)]) * _STEPS,
            "descriptors": np.concatenate([_NO_DESCRIPTORS, *(view.descriptors for view in views)]),
            "thumbs": np.array([view.thumb for view in views], np.uint8).reshape(-1, _SIDE // 2, _SIDE // 2),
            "digests": np.frombuffer(b"".join(view.digest for view in views), np.uint8).reshape(-1, _DIGEST),
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
        points = np.split(arrays["points"].astype(np.float32) / np.float32(_STEPS), ends)
        descriptors = np.split(arrays["descriptors"], ends)
        for number, group in enumerate(arrays["group"]):
            digest = arrays["digests"][number].tobytes()
            view = _View(points[number], descriptors[number], arrays["thumbs"][number], digest)
            index._keep(view, index._buckets.keys(view.descriptors), int(group))
        return index

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
        self._views_in[self.current(group)] += 1
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


def find_groups(images: Sequence[str | Path] | Sequence[Image], *, progress: Progress | None = None) -> list[int]:
    """Number the photographs that pictures show.

    Args:
        images: files, or uint8 RGB arrays (height, width, 3).
        progress: called with (done, total).

    Returns:
        The group of each picture, 0, 1, 2, … in order of first appearance.

    Raises:
        PictureError: a file cannot be decoded.
        MissingFile: a file is not there.
    """
    return _in_order(PhotographIndex().add_all(images, progress=progress))


def _in_order(names: Iterable[Hashable]) -> list[int]:
    """Names as numbers from 0, in order of first appearance."""
    numbers: dict[Hashable, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]


def _read_views(images: Sequence[str | Path] | Sequence[Image]) -> Iterator[_View | BceError]:
    """Describe pictures on worker threads, in order; an unreadable one gives its error."""

    def one(image: str | Path | Image) -> _View | BceError:
        try:
            return _view(read_image(image) if isinstance(image, (str, Path)) else image)
        except (PictureError, MissingFile) as error:
            return error

    with ThreadPoolExecutor(_WORKERS) as pool:
        left = iter(images)
        waiting: deque[Future[_View | BceError]] = deque(pool.submit(one, image) for image in islice(left, _AHEAD))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(one, image) for image in islice(left, 1))


@dataclass(frozen=True)
class AuditReport:
    """What is to be known of labelled pictures before anything is trained on them. Files are named as in DATA.

    A group is what may not be split: pictures found to show one photograph, joined with the groups that the user gave.

    Attributes:
        n: readable pictures, "none of these" included.
        by_label: pictures of each label.
        photographs_by_label: groups of each label; a group with two labels counts for both.
        unreadable: files that are no pictures.
        duplicates: files with exactly the same pixels after decoding, so that names, EXIF data and format do not count.
        groups: files of each group of two or more.
        conflicts: groups with more than one label, as {"files", "labels"}.
        straddling: groups on more than one side of a split, as {"files", "sides"}.
        leaks: pictures outside the largest side whose group is on another side too: with two sides, the pictures of
            the smaller one (the test set) that have a copy on the other.
        group_of: number of the group of each readable file, in order of first appearance.
    """

    n: int
    by_label: dict[str, int]
    photographs_by_label: dict[str, int]
    unreadable: tuple[Unreadable, ...]
    duplicates: tuple[tuple[str, ...], ...]
    groups: tuple[tuple[str, ...], ...]
    conflicts: tuple[dict[str, list[str]], ...]
    straddling: tuple[dict[str, list[str]], ...]
    leaks: int
    group_of: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """The document of `bce audit --json`."""
        document = asdict(self)
        del document["group_of"]
        return document


def audit(dataset: Dataset, *, sides: Mapping[str, str] | None = None, progress: Progress | None = None) -> AuditReport:
    """Look through a data set for copies, conflicting labels and leaks.

    Args:
        dataset: as `bloodcell_edge.data.load_data` gives it; pictures of "none of these" are looked at too.
        sides: side of each file in a split (`Picture.file` to a name); files it leaves out are on no side. Without it
            the subsets of the data (train, test) are the sides.
        progress: called with (done, total).

    Raises:
        NoPictures: none can be read.
    """
    pictures, digests, found, bad = _find(dataset, progress)
    groups = _join_given(pictures, found)
    side_of = {picture.file: picture.subset if sides is None else sides.get(picture.file) for picture in pictures}
    members = _listed(pictures, groups)
    straddling = [group for group in members if len(_values(group, side_of)) > 1]
    return AuditReport(
        n=len(pictures),
        by_label=_count_labels(dataset, [picture.label for picture in pictures]),
        photographs_by_label=_count_labels(dataset, [label for label, _ in _labels_of_groups(pictures, groups)]),
        unreadable=(*dataset.unreadable, *bad),
        duplicates=_copies(_listed(pictures, _in_order(digests))),
        groups=_copies(members),
        conflicts=_disagreeing(members, {picture.file: picture.label for picture in pictures}, "labels"),
        straddling=_disagreeing(members, side_of, "sides"),
        leaks=_leaks(straddling, side_of),
        group_of={picture.file: group for picture, group in zip(pictures, groups, strict=True)},
    )


def _find(
    dataset: Dataset, progress: Progress | None
) -> tuple[list[Picture], list[bytes], list[int], list[Unreadable]]:
    """(readable pictures, digest of each, group of each, unreadable files)."""
    pictures = (*dataset.pictures, *dataset.unknown)
    index = PhotographIndex()
    readable, digests, groups, bad = [], [], [], []
    views = _read_views([picture.path for picture in pictures])
    for number, (picture, view) in enumerate(zip(pictures, views, strict=True), 1):
        if isinstance(view, BceError):
            bad.append(Unreadable(picture.file, str(view)))
        else:
            readable.append(picture)
            digests.append(view.digest)
            groups.append(index._add(view))
        if progress is not None:
            progress(number, len(pictures))
    if not readable:
        reason = f"; the first: {bad[0].error}" if bad else ""
        message = f"{dataset.root}: none of {len(pictures)} pictures can be read{reason}"
        raise NoPictures(message)
    return readable, digests, [index.current(group) for group in groups], bad


def _join_given(pictures: Sequence[Picture], found: Sequence[int]) -> list[int]:
    """Join found groups that the user says belong together (one cell on several photographs)."""
    sets = _Sets()
    number_of: dict[tuple[str, Hashable], int] = {}

    def number(kind: str, name: Hashable) -> int:
        if (kind, name) not in number_of:
            number_of[kind, name] = sets.new()
        return number_of[kind, name]

    own = [number("found", group) for group in found]
    for picture, group in zip(pictures, own, strict=True):
        if picture.group is not None:
            sets.join(group, number("given", picture.group))
    return _in_order(sets.root(group) for group in own)


def _listed(pictures: Sequence[Picture], groups: Sequence[int]) -> list[tuple[str, ...]]:
    """The files of each group, in order."""
    files: dict[int, list[str]] = defaultdict(list)
    for picture, group in zip(pictures, groups, strict=True):
        files[group].append(picture.file)
    return [tuple(names) for _, names in sorted(files.items())]


def _copies(groups: Iterable[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    return tuple(files for files in groups if len(files) > 1)


def _values(files: Iterable[str], value_of: Mapping[str, str | None]) -> list[str]:
    """The different values of some files, sorted; files without one left out."""
    return sorted({value for file in files if (value := value_of[file]) is not None})


def _disagreeing(
    groups: Iterable[tuple[str, ...]], value_of: Mapping[str, str | None], name: str
) -> tuple[dict[str, list[str]], ...]:
    """Groups whose files have more than one value, with the values under `name`."""
    described = ({"files": list(files), name: _values(files, value_of)} for files in groups)
    return tuple(group for group in described if len(group[name]) > 1)


def _leaks(straddling: Iterable[tuple[str, ...]], side_of: Mapping[str, str | None]) -> int:
    """Files of straddling groups outside the largest side; of equal sides the first by name counts as the largest."""
    sizes = Counter(side for side in side_of.values() if side is not None)
    largest = min(sizes, key=lambda side: (-sizes[side], side), default=None)
    return sum(side_of[file] not in (None, largest) for files in straddling for file in files)


def _labels_of_groups(pictures: Sequence[Picture], groups: Sequence[int]) -> set[tuple[str | None, int]]:
    return {(picture.label, group) for picture, group in zip(pictures, groups, strict=True)}


def _count_labels(dataset: Dataset, labels: Iterable[str | None]) -> dict[str, int]:
    """How often each label occurs: those asked for first, zeros included, then the others by name."""
    counts = Counter(label for label in labels if label is not None)
    return {label: counts[label] for label in (*dataset.labels, *sorted(set(counts) - set(dataset.labels)))}
