"""Drawn fields, and copies of them: turned, sheared, cropped, saved again."""

from __future__ import annotations

import cv2
import numpy as np

from bloodcell_edge.dataset.pictures import Dataset, Picture
from bloodcell_edge.imaging.drawn import LABELS

SEEDS = range(100, 112)


def moved(image, *, degrees=0.0, shear=0.0, zoom=1.0, shift=(0.0, 0.0), flip=(1, 1), wedge=0):
    """An image under a known affine map about its centre; shift in shares of its size, wedges filled."""
    height, width = image.shape[:2]
    turn = np.deg2rad(degrees)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn + shear)], [np.sin(turn), np.cos(turn + shear)]])
    linear = linear @ np.diag(flip)
    centre = np.array([width / 2, height / 2])
    offset = centre - linear @ centre + np.multiply(shift, (width, height))
    return cv2.warpAffine(image, np.column_stack([linear, offset]), (width, height), borderValue=(wedge,) * 3)


def saved_again(image, quality):
    """An image as JPEG of low quality gives it back."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def cropped(image, share):
    """The middle of an image, brought back to its size."""
    height, width = image.shape[:2]
    top, left = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return cv2.resize(image[top : height - top, left : width - left], (width, height))


COPIES = {
    "turned 20 degrees": lambda image: moved(image, degrees=20),
    "turned -20 degrees": lambda image: moved(image, degrees=-20),
    "upside down": lambda image: moved(image, degrees=180),
    "sheared": lambda image: moved(image, shear=0.2),
    "shifted 10 %": lambda image: moved(image, shift=(0.1, -0.1)),
    "flipped left to right": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "flipped top to bottom": lambda image: np.ascontiguousarray(image[::-1]),
    "flipped both ways": lambda image: np.ascontiguousarray(image[::-1, ::-1]),
    "all at once": lambda image: moved(image, degrees=15, shear=-0.15, shift=(-0.1, 0.05), flip=(-1, 1)),
    "white wedges": lambda image: moved(image, degrees=12, wedge=255),
    "saved again": lambda image: saved_again(image, 30),
    "darker": lambda image: np.rint(image * 0.6).astype(np.uint8),
    "brighter": lambda image: np.clip(image * 1.25, 0, 255).astype(np.uint8),
    "grey": lambda image: np.repeat(image[..., 1:2], 3, axis=2),
    "cropped": lambda image: cropped(image, 0.8),
    "twice as large": lambda image: cv2.resize(image, None, fx=2, fy=2),
    "squeezed to a square": lambda image: cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA),
}


def write(path, image):
    """Write RGB pixels as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def dataset_of(folder, named):
    """A data set of (file, image, label, group, subset)."""
    pictures = []
    for file, image, label, group, subset in named:
        write(folder / file, image)
        pictures.append(Picture(folder / file, file, label, group, subset))
    return Dataset(folder, LABELS, tuple(pictures))
