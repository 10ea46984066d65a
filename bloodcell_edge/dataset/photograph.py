"""What is known of one picture, and whether two of them show one photograph.

Local features (SIFT, Lowe 2004, doi 10.1023/B:VISI.0000029664.99615.94) of a small copy, compared as RootSIFT
(Arandjelović and Zisserman 2012, doi 10.1109/CVPR.2012.6248018). Turning and zooming do not change them. A flip only
permutes the 128 numbers of a descriptor. Two pictures show one photograph where RANSAC fits an affine map through the
features that match, and the pixels under that map correlate. Both must hold, since one wrong match would join two
photographs.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..imaging.image import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image

    Points = NDArray[np.float32]
    Descriptors = NDArray[np.uint8]


# Features. Chosen on 300 pairs of pictures that show one photograph and 300 that do not: with 64 features at 160 px the
# true pairs had 21 inliers or more and the others 6 or fewer; 320 px takes more than twice as long, parts no better.
SIDE = 160  # pixels, the longer side of the copy that features are taken from
_FEATURES = 64  # a picture
_CONTRAST = 0.02  # SIFT's contrastThreshold
_BLACK = 24  # the brightest channel of a pixel outside the photograph (a wedge), JPEG noise included
_RIM = 9  # pixels around a wedge where features would describe its edge
_LEVELS = 15  # a RootSIFT value times `_SCALE`, at most; 0.7 % of all get there
_SCALE = 64
STEPS = 16  # positions are kept in sixteenths of a pixel

# Verification.
_ALIKE = 0.6 * _SCALE  # distance of descriptors of one spot: 99 % of true ones are nearer, 1 % of unlike ones
_REPROJECTION_PX = 3.0
_INLIERS = 9
_STRETCH = (0.4, 2.5)  # singular values of the affine map
_SQUEEZE = 2.0  # their ratio
_CORRELATION = 0.9  # among 4,400 single cells 17 true pairs had 0.98 or more, the others 0.81 or less
_OVERLAP = 0.25  # of the smaller picture

DIGEST_BYTES = 16
NO_POINTS = np.empty((0, 2), np.float32)
NO_DESCRIPTORS = np.empty((0, 128), np.uint8)


@dataclass(frozen=True)
class PictureFeatures:
    """What is known of one picture.

    Attributes:
        points: float32 (x, y) in the small copy, shape (n, 2), n ≤ `_FEATURES`.
        descriptors: RootSIFT times `_SCALE`, uint8 0..`_LEVELS`, shape (n, 128).
        thumb: green channel, uint8, shape (`SIDE` / 2, `SIDE` / 2); 0 is outside the photograph.
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


MIRROR = _mirror()


def picture_features(image: Image) -> PictureFeatures:
    """Take features of a picture, uint8 RGB (height, width, 3)."""
    digest = hashlib.sha256(np.array(image.shape, "<i8").tobytes() + image.tobytes()).digest()[:DIGEST_BYTES]
    zoom = SIDE / max(image.shape[:2])
    height, width = (max(1, round(side * zoom)) for side in image.shape[:2])
    small = resize(image, (height, width))
    inside = _inside(small)
    green = _stretched(small[..., 1], inside)
    points, descriptors = _features(green, inside)
    return PictureFeatures(points, descriptors, _thumb(green, inside), digest)


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
        return NO_POINTS, NO_DESCRIPTORS
    order = np.argsort([-point.response for point in keypoints], kind="stable")[:_FEATURES]
    raw = found[order].astype(np.float64)
    root = np.sqrt(raw / np.maximum(raw.sum(axis=1, keepdims=True), 1))
    points = np.array([keypoints[i].pt for i in order], np.float32)
    steps = np.clip(np.rint(points * STEPS), 0, SIDE * STEPS) / STEPS
    return steps.astype(np.float32), np.minimum(np.rint(root * _SCALE), _LEVELS).astype(np.uint8)


def _thumb(green: NDArray[np.uint8], inside: NDArray[np.uint8]) -> NDArray[np.uint8]:
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    canvas[: green.shape[0], : green.shape[1]] = np.where(inside > 0, green, 0)
    quarters = canvas.reshape(SIDE // 2, 2, SIDE // 2, 2).swapaxes(1, 2).reshape(SIDE // 2, SIDE // 2, 4)
    mean = (quarters.sum(axis=2, dtype=np.uint16) + 2) // 4
    return np.where(quarters.all(axis=2), mean, 0).astype(np.uint8)


def compare(query: PictureFeatures, known: PictureFeatures, *, mirrored: bool) -> int:
    """Inliers of the affine map that lays one picture onto another, 0 where they do not show one photograph."""
    import cv2

    ours = query.descriptors[:, MIRROR] if mirrored else query.descriptors
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
