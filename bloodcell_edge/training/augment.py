"""Augmentation of prepared pictures: numpy and OpenCV, repeatable from a seed.

It comes after `image.prepare` and so works on the squeezed picture; turning one all round would shear its cells, so
the geometry is done in the proportions of the original field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from ..imaging.image import decode, encode_jpeg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image
    from .recipes import Augmentation

_STAINS = np.array([[0.644211, 0.716556, 0.266844], [0.092789, 0.954111, 0.283111], [0.635, 0.001, 0.772]])
"""Optical density of haematoxylin, eosin and a residual in R, G, B (Ruifrok and Johnston 2001, Anal Quant Cytol Histol
23:291-299, haematoxylin-eosin vectors; azure and eosin of a Romanowsky stain lie close to the first two)."""

_TO_DENSITY = -np.log((np.arange(256) + 1) / 256.0).astype(np.float32)
"""Optical density of each grey level; one is added, so that black has one too and comes back as black."""


_MIDDLE_DENSITY = np.float32(0.6 * np.log(10))  # of chromatin, natural logarithm; `gamma` leaves it where it is


def augment(image: Image, how: Augmentation, *, aspect: float, size: int, rng: np.random.Generator) -> Image:
    """One random variant of a picture.

    Args:
        image: uint8 RGB, shape (wide, wide, 3), prepared, with a margin where `wide` is more than the size.
        how: the limits.
        aspect: width through height of the original field.
        size: side of the result in pixels, at the same scale.
        rng: where chance comes from.

    Returns:
        uint8 RGB, shape (size, size, 3).
    """
    return _camera(_colour(_geometry(image, how, aspect, size, rng), how, rng), how, rng)


def _geometry(image: Image, how: Augmentation, aspect: float, size: int, rng: np.random.Generator) -> Image:
    angle = np.deg2rad(rng.uniform(-how.rotation_degrees, how.rotation_degrees))
    zoom = 1.0 + rng.uniform(-how.zoom, how.zoom)
    mirror = -1.0 if how.flip and rng.random() < 0.5 else 1.0
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * zoom
    squeeze = np.diag([1.0 / aspect, 1.0])
    linear = squeeze @ turn @ np.diag([mirror, 1.0]) @ np.linalg.inv(squeeze)
    centre, wide_centre = np.full(2, (size - 1) / 2), np.full(2, (image.shape[0] - 1) / 2)
    offset = centre - linear @ wide_centre + rng.uniform(-how.shift, how.shift, 2) * size
    matrix = np.column_stack([linear, offset])
    # mirrored edges: black wedges are what no microscope shows
    moved = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, np.uint8)


def _colour(image: Image, how: Augmentation, rng: np.random.Generator) -> Image:
    """Stain and light, in one pass: both are linear in optical density, contrast and brightness in the result."""
    stain = 1.0 + rng.uniform(-how.stain, how.stain, 3)
    white = rng.uniform(-how.white, how.white, 3)
    mixed = np.linalg.inv(_STAINS) @ np.diag(stain) @ _STAINS
    if how.density:
        gains = np.exp(rng.normal(0, how.density, 3) + rng.normal(0, how.density))
        mixed = mixed @ np.diag(gains)
    density = cv2.transform(cv2.LUT(image, _TO_DENSITY), np.column_stack([mixed.T, -white]).astype(np.float32))
    if how.gamma:
        power = float(np.exp(rng.normal(0, how.gamma)))
        density = cv2.pow(np.maximum(density, 0) / _MIDDLE_DENSITY, power) * _MIDDLE_DENSITY
    pixels = cv2.exp(-density) * np.float32(256.0) - np.float32(1.0)
    contrast = 1.0 + rng.uniform(-how.contrast, how.contrast)
    brightness = 1.0 + rng.uniform(-how.brightness, how.brightness)
    mean = float(pixels.mean())
    stretched = (pixels - mean) * np.float32(contrast) + np.float32(mean)
    return np.asarray(cv2.convertScaleAbs(np.maximum(stretched, 0), alpha=brightness), np.uint8)


def _camera(image: Image, how: Augmentation, rng: np.random.Generator) -> Image:
    """Focus, pixels, sharpening, noise and compression, each for a share of the pictures."""
    if how.blur and rng.random() < how.blur:
        image = _unfocused(image, rng)
    if how.sharpen and rng.random() < how.sharpen:
        soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.8, 2.0))
        image = np.asarray(cv2.addWeighted(image, 1.0 + (more := rng.uniform(0.3, 1.5)), soft, -more, 0.0), np.uint8)
    if how.noise and rng.random() < how.noise:
        grain = rng.normal(0.0, rng.uniform(1.0, 8.0), image.shape)
        image = np.clip(image + grain, 0, 255).astype(np.uint8)
    if how.jpeg and rng.random() < how.jpeg:
        image = decode(encode_jpeg(image, quality=int(rng.integers(30, 95))))
    return image


def _unfocused(image: Image, rng: np.random.Generator) -> Image:
    """Half of them blurred, half brought to fewer pixels and back."""
    size = image.shape[0]
    if rng.random() < 0.5:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 2.2) * size / 128), np.uint8)
    fewer = max(round(size * rng.uniform(0.25, 0.8)), 8)
    small = cv2.resize(image, (fewer, fewer), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)


def augment_batch(
    pixels: NDArray[np.uint8], how: Augmentation, *, aspects: NDArray[np.float64], size: int, seed: tuple[int, ...]
) -> NDArray[np.uint8]:
    """`augment` for a batch; each picture has a stream of its own, so that the order of work does not matter.

    Args:
        pixels: uint8 RGB, shape (n, wide, wide, 3).
        how: the limits.
        aspects: width through height of each original field, shape (n,).
        size: side of the results in pixels.
        seed: what tells this batch from all others.
    """
    streams = np.random.SeedSequence(seed).spawn(len(pixels))
    changed = [
        augment(picture, how, aspect=float(aspect), size=size, rng=np.random.default_rng(stream))
        for picture, aspect, stream in zip(pixels, aspects, streams, strict=True)
    ]
    return np.stack(changed)
