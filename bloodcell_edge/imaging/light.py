"""Light and absorbance: how dark each place of a smear is, measured from where nothing lies.

Absorbance (optical density) adds up where light passes several things (Beer-Lambert law), so that all that is reckoned
here is in it: in whole steps, `STEPS` to the decade, and with OpenCV functions that are exact, so that x86 and arm64
give the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .image import resize
from .ranks import by_level, level_ranked, ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .image import Image

    Plane = NDArray[np.int16]
    Mask = NDArray[np.uint8]

STEPS = 256
"""Of absorbance in a decade."""

_DARKEST = 2 * STEPS - 2  # steps, so that two channels fit 8 bits after two shifts
_COARSE_SIDE = 24  # pixels, at least, of the shorter side where the empty field is sought
_BRIGHTEST = 20  # one part in so many of a picture is empty field, however tightly it is cut
_NUCLEAR = 77  # steps, 0.3 of a decade, of red light: red cells take less
_PORTRAIT = 10  # one part in so many of a picture, above which a nucleus is what it was taken of
_SAMPLES = 16  # of the empty field along each side of a crop
_UNLIT = 10  # the brightest colour is below one part in so many of the field's light; chromatin lets a third of blue by
_UNLIT_SHARE = 500  # of the picture, one part in so many, from which a dark edge is no cell


@cache
def decades() -> Plane:
    """Absorbance of each grey level, in steps; 255 is 0. Rounded, so that the last bit of a libm is gone."""
    levels = [min(round(STEPS * math.log10(255 / max(level, 1))), _DARKEST) for level in range(256)]
    return np.array(levels, np.int16)


class Halves:
    """One picture at half its size, at a quarter and so on, each made when it is first asked for, and kept.

    Where cells are, whether the field is fit and what light there is are all asked at some of these sizes.

    Attributes:
        image: uint8 RGB, shape (height, width, 3).
    """

    def __init__(self, image: Image) -> None:
        """Nothing is made yet."""
        self.image = image
        self._sizes: dict[int, Image] = {0: image}
        self._absorbed: dict[int, Plane] = {}

    def at(self, halvings: int) -> Image:
        """The picture halved so often, odd lengths rounded up: the bytes that `resize` gives; not to be changed."""
        if halvings not in self._sizes:
            height, width = self.image.shape[:2]
            even = (height | width) & ((1 << halvings) - 1) == 0  # else steps would round on the way
            self._sizes[halvings] = resize(
                self.at(halvings - 1) if even else self.image, (-(-height >> halvings), -(-width >> halvings))
            )
        return self._sizes[halvings]

    def absorbed(self, halvings: int) -> Plane:
        """`two_bands` of that size above its `empty_field`; of a picture that is lit everywhere."""
        if halvings not in self._absorbed:
            small = self.at(halvings)
            self._absorbed[halvings] = two_bands(small) - empty_field(small)
        return self._absorbed[halvings]


def two_bands(small: Image) -> Plane:
    """Absorbance of red and green together, and of blue.

    Args:
        small: uint8 RGB, shape (height, width, 3).

    Returns:
        int16, shape (height, width, 2), `STEPS` to the decade.
    """
    import cv2

    red, green, blue = cv2.split(cv2.LUT(small, decades()))
    bands: Any = cv2.merge([red + green, blue])
    return bands  # type: ignore[no-any-return]


def empty_field(small: Image) -> Plane:
    """The same two bands where nothing lies: the lower envelope of absorbance over half the picture.

    A morphological opening follows vignetting of any colour, and no cell is as large as its window.

    Args:
        small: uint8 RGB, shape (height, width, 3), at least 16 pixels each way; 160 x 120 is enough.

    Returns:
        int16, shape (height, width, 2), to be taken from `two_bands` of the same picture.
    """
    height, width = small.shape[:2]
    low = _envelope(two_bands(_coarse(Halves(small))), 2)
    empty: Plane = _resized(low, height, width).astype(np.int16) << 2
    return empty


@dataclass(frozen=True, eq=False)
class Illumination:
    """The light of one picture: its empty field, coarsely.

    Attributes:
        empty: uint8, shape (rows, columns, 3): absorbance of the empty field in red, green and blue, 1/128 decade.
        size: (height, width) of the picture, pixels.
    """

    empty: Mask
    size: tuple[int, int]

    @classmethod
    def of(cls, halves: Halves) -> Illumination:
        """Measure a picture, at least 16 pixels each way."""
        import cv2

        above: Any = cv2.LUT(lit(_coarse(halves)), decades())
        empty = _envelope(above, 1)
        if _is_portrait(above):  # half of it may be cell: then only its brightest parts tell the light
            brightest = [ranked(above[..., channel], 1, _BRIGHTEST) for channel in range(3)]
            empty = np.minimum(empty, np.array(brightest) >> 1).astype(np.uint8)
        return cls(empty, (halves.image.shape[0], halves.image.shape[1]))

    def whiten(self, pixels: Image, window: tuple[int, int, int, int]) -> Image:
        """Part of the picture as under even white light: the empty field is 255 in each colour, everywhere.

        Args:
            pixels: uint8 RGB, shape (height, width, 3), of that part, at any size.
            window: the part, (x, y, width, height) in pixels of the picture; may reach over its edges.

        Returns:
            uint8 RGB of the same shape.
        """
        import cv2

        x, y, width, height = window
        rows = _sampled(y, height, self.size[0], self.empty.shape[0])
        columns = _sampled(x, width, self.size[1], self.empty.shape[1])
        empty = _resized(self.empty[rows[:, None], columns], *pixels.shape[:2]).astype(np.int16) << 1
        above = cv2.LUT(pixels, decades()) - empty
        white: Image = _levels().take(np.clip(above, 0, _DARKEST))
        return white


def _is_portrait(above: Plane) -> bool:
    """Whether a nucleus, which lets less than half of red light through, fills so much that this is cut around it."""
    red = above[..., 0]
    dark = np.count_nonzero(red > ranked(red, 1, _BRIGHTEST) + _NUCLEAR)
    return bool(dark * _PORTRAIT > red.size)


def _sampled(start: int, length: int, of: int, coarse: int) -> NDArray[np.intp]:
    """Where `_SAMPLES` evenly spread places of a stretch lie in a coarse map of the whole length."""
    places = start + (2 * np.arange(_SAMPLES) + 1) * length // (2 * _SAMPLES)
    return np.clip(places * coarse // of, 0, coarse - 1)


@cache
def _levels() -> NDArray[np.uint8]:
    """The grey level of each absorbance, the inverse of `decades`."""
    return np.array([round(255 * 10 ** (-steps / STEPS)) for steps in range(_DARKEST + 1)], np.uint8)


def _coarse(halves: Halves) -> Image:
    return halves.at(halvings_until(min(halves.image.shape[:2]), 2 * _COARSE_SIDE))


def _envelope(coarse: Plane, shift: int) -> Mask:
    """Lower envelope of absorbance over half the picture, smoothed, in steps shifted right to fit 8 bits."""
    import cv2

    reach = min(coarse.shape[:2]) // 4
    low: Any = cv2.morphologyEx(_continued(coarse, reach), cv2.MORPH_OPEN, square(2 * reach + 1))
    low = np.clip(low >> shift, 0, 255).astype(np.uint8)  # the type that OpenCV smooths and resizes exactly
    smooth = cv2.GaussianBlur(low, (2 * (reach // 2) + 1,) * 2, 0)[reach:-reach, reach:-reach]
    return np.ascontiguousarray(smooth)


def _resized(low: Mask, height: int, width: int) -> Any:
    import cv2

    return cv2.resize(low, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)


def _continued(plane: Plane, reach: int) -> Plane:
    """A plane that goes on outside as steeply as it rises inside, so that an opening keeps its slope at the edges."""
    import cv2

    for sides in ((reach, reach, 0, 0), (0, 0, reach, reach)):  # upper and lower edge, then left and right
        edge: Any = cv2.copyMakeBorder(plane, *sides, cv2.BORDER_REPLICATE)
        mirrored: Any = cv2.copyMakeBorder(plane, *sides, cv2.BORDER_REFLECT_101)
        plane = np.maximum(2 * edge - mirrored, edge)  # inside, all three are the same
    return plane


def lit(image: Image) -> Image:
    """The same picture with light where it has none at its edges; itself where all of it is lit.

    Black corners come from a round field stop, from a camera that sees past the eyepiece, and from turned copies.

    Args:
        image: uint8 RGB, shape (height, width, 3), at least 16 pixels each way.
    """
    unlit = find_unlit(image)
    return image if unlit is None else with_light(image, unlit)


def find_unlit(small: Image) -> Mask | None:
    """1 where no light comes through at the picture's edges, with a margin; None where all is lit."""
    import cv2

    edge = np.concatenate([small[0], small[-1], small[:, 0], small[:, -1]])
    if _brightest(edge).min() >= 255 // _UNLIT:
        return None
    brightest = _brightest(small)
    dark: Mask = (brightest < ranked(brightest, 19, 20) // _UNLIT).view(np.uint8)
    pieces, boxes = pieces_of(dark)
    at_edge = np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]]))
    large = [piece for piece in at_edge if piece and boxes[piece, cv2.CC_STAT_AREA] * _UNLIT_SHARE >= dark.size]
    if not large:
        return None
    chosen = np.zeros(len(boxes), np.uint8)
    chosen[large] = 1
    margin: Any = cv2.dilate(chosen.take(pieces), square(5))
    return None if margin.all() else margin


def share_lit(unlit: Mask) -> float:
    """Share that is seen of a cell which a rim of the light cuts, 0..1.

    That is the lit part of the ellipse in the box of what is seen, over the disc as wide as the box is long: half of a
    cell, cut straight, has a box half as wide as long.

    Args:
        unlit: uint8, shape (height, width) of that box: 1 where there is no light.
    """
    height, width = unlit.shape
    off_x, off_y = (2 * np.arange(width) + 1 - width) * height, (2 * np.arange(height) + 1 - height) * width
    inside = (off_x * off_x)[None] + (off_y * off_y)[:, None] <= (width * height) ** 2
    lit, whole = int(np.count_nonzero(inside & (unlit == 0))), int(np.count_nonzero(inside))
    short, long = sorted((int(width), int(height)))
    return round(lit * short / (whole * long), 6)


def pieces_of(mask: Mask) -> tuple[NDArray[Any], NDArray[np.int32]]:
    """What hangs together, corners too: the number of each pixel's piece, 0 outside, and OpenCV's stats of each."""
    import cv2

    few = mask.size < 2**18  # at most a quarter of the pixels are pieces: 16 bits hold their number, in half the time
    found: Any = cv2.connectedComponentsWithStats(mask, ltype=cv2.CV_16U if few else cv2.CV_32S)
    return found[1], found[2]


def _brightest(pixels: Mask) -> Mask:
    """The largest of the three channels; `max` along so short an axis takes ten times as long."""
    brightest: Mask = np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return brightest


def with_light(small: Image, unlit: Mask) -> Image:
    """A copy, with the colour of the empty field where no light is."""
    copy = small.copy()
    copy[unlit == 1] = [level_ranked(by_level(small, channel, 1 - unlit), 9, 10) for channel in range(3)]
    return copy


def meets_unlit(unlit: Mask, bounds: tuple[int, int, int, int]) -> bool:
    """Whether a cell reaches to where there is no light: the corners of its box do not count, cells are round.

    Args:
        unlit: as `find_unlit` gives it.
        bounds: left, top, right, bottom of the box in pixels of that picture; right and bottom are outside.
    """
    left, top, right, bottom = bounds
    x, y = max(left - 1, 0), max(top - 1, 0)  # a cut cell ends with the light: one pixel farther there is none
    rows, columns = np.nonzero(unlit[y : bottom + 1, x : right + 1])
    across, down = right - left + 2, bottom - top + 2
    off_x, off_y = (2 * (columns + x - left) + 3 - across) * down, (2 * (rows + y - top) + 3 - down) * across
    return bool((off_x * off_x + off_y * off_y <= across * across * down * down).any())


def halvings_until(length: float, limit: float) -> int:
    """How often a length is halved until it is shorter than the limit."""
    count = 0
    while length >= limit:
        length, count = length / 2, count + 1
    return count


def square(side: int) -> Mask:
    """A window for a morphological operation."""
    return np.ones((side, side), np.uint8)
