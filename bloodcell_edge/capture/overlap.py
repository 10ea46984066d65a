"""The same field, or the same cell, seen again under a moving stage is not counted twice.

Each new field is laid on the fields seen before, by phase correlation of small copies (Kuglin and Hines, 1975), checked
by the correlation of what they then share. A cell that falls on one that was counted there is not new. Positions are
kept from field to field only, so that no error adds up over a slide.

How the limit was found, on crops of real photographs: see `_LEAST_LIKENESS`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from ..imaging.image import resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image
    from ..imaging.located import Rectangle
    from ..records import Frame

    Plane = NDArray[np.float32]

SMALL_PX = 128
"""Longer side of the small copies."""

_TAPER = 0.1  # share of each side over which the copy fades, since its edges do not continue each other
_WHOLE_WAVES = 2  # slower ones are the lamp, not the slide
_FINEST = 0.25  # waves finer than this share of a pixel's are noise
_PEAKS = 3  # six found no more
_LEAST_SHARED = 0.12  # of a field's area: 30 % of one side, or 35 % of both
# Measured on 80 photographs of the BCCD set, no cell twice, 376 x 282 pixel crops with sensor noise of 3 grey levels:
# 318 of 320 pairs of crops that share 30 or 40 % were laid within 8 pixels and correlate by 0.81 or more; of 3,160
# pairs that share nothing, the best fit of each correlates by 0.65 at most (by less than 0.54 in 99.9 %).
_LEAST_LIKENESS = 0.7
_SAME_FIELD = 0.9  # shared area of a field that is the one before, pushed a little
_SAME_CELL = 0.5


@dataclass(frozen=True, eq=False)
class SmallCopy:
    """A small copy of a frame to lay on others: green, without slow changes of light, float32 (rows, columns).

    Attributes:
        pixels: grey levels about 0.
        waves: their spectrum, tapered, complex64 (rows, columns // 2 + 1).
        scale: small pixels for one of the frame.
    """

    pixels: Plane
    waves: NDArray[np.complex64]
    scale: float

    @classmethod
    def of(cls, image: Image) -> SmallCopy:
        """The copy of a frame's pixels, uint8 RGB (height, width, 3)."""
        import cv2

        height, width = image.shape[:2]
        scale = SMALL_PX / max(height, width)
        size = max(round(height * scale), 4), max(round(width * scale), 4)
        green = resize(image, size)[..., 1].astype(np.float32)  # where both chromatin and haemoglobin absorb most
        slow: Any = cv2.blur(green, (SMALL_PX // 8 - 1, SMALL_PX // 8 - 1))
        waves = np.fft.rfft2((green - green.mean()) * _taper(size)).astype(np.complex64)
        return cls(green - slow, waves, scale)


@dataclass(frozen=True)
class Shift:
    """Where one copy lies on another: a point (x, y) of the second is (x + right, y + down) in the first.

    Attributes:
        right, down: in small pixels.
        likeness: correlation of what both show, -1..1.
        shared: how much that is, as a share of a copy's area.
    """

    right: int
    down: int
    likeness: float
    shared: float


def find_shift(first: SmallCopy, second: SmallCopy) -> Shift | None:
    """How the second copy lies on the first; None where they show nothing in common, or differ in shape."""
    if first.pixels.shape != second.pixels.shape:
        return None
    rows, columns = first.pixels.shape
    found = []
    for down, right in _peaks(first, second):
        for y in (down, down - rows):  # a spectrum cannot tell a shift from the same one the other way round
            for x in (right, right - columns):
                shared = (rows - abs(y)) * (columns - abs(x)) / (rows * columns)
                if shared >= _LEAST_SHARED:
                    found.append(Shift(x, y, likeness(first, second, x, y), shared))
    best = max(found, key=lambda shift: shift.likeness, default=None)
    return best if best is not None and best.likeness >= _LEAST_LIKENESS else None


def likeness(first: SmallCopy, second: SmallCopy, right: int = 0, down: int = 0) -> float:
    """Correlation, -1..1, of what two copies of one shape show where the second is shifted so."""
    rows, columns = first.pixels.shape
    a = first.pixels[max(down, 0) : rows + min(down, 0), max(right, 0) : columns + min(right, 0)]
    b = second.pixels[max(-down, 0) : rows + min(-down, 0), max(-right, 0) : columns + min(-right, 0)]
    a, b = a - a.mean(), b - b.mean()
    power = float(np.vdot(a, a) * np.vdot(b, b))
    return float(np.vdot(a, b)) / power**0.5 if power > 0 else 0.0


def _peaks(first: SmallCopy, second: SmallCopy) -> list[tuple[int, int]]:
    """The most probable shifts (down, right), each modulo the size."""
    shape = first.pixels.shape
    product = first.waves * second.waves.conj()
    whitened = product * (_band(shape) / (np.abs(product) + np.float32(1e-6)))
    surface = np.fft.irfft2(whitened, shape)
    peaks = []
    for _ in range(_PEAKS):
        y, x = divmod(int(np.argmax(surface)), shape[1])
        peaks.append((y, x))
        surface[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] = -np.inf
    return peaks


@cache
def _taper(size: tuple[int, int]) -> Plane:
    def side(length: int) -> NDArray[np.float64]:
        to_edge = np.minimum(np.arange(length), np.arange(length)[::-1])
        return np.clip(to_edge / (_TAPER * length), 0, 1)

    return (side(size[0])[:, None] * side(size[1])).astype(np.float32)


@cache
def _band(shape: tuple[int, int]) -> Plane:
    """Weight of each wave: none for slow ones, less for fine ones."""
    down = np.abs(np.fft.fftfreq(shape[0]) * shape[0])[:, None]
    waves = np.hypot(down, np.arange(shape[1] // 2 + 1))
    weight: NDArray[np.float64] = (waves >= _WHOLE_WAVES) * np.exp(-((waves / (_FINEST * max(shape))) ** 2))
    return weight.astype(np.float32)


@dataclass(eq=False)
class _Field:
    """A field seen before and the cells counted in it, as (left, top, right, bottom) in small pixels."""

    small: SmallCopy
    cells: list[tuple[float, float, float, float]] = field(default_factory=list)


class Overlap:
    """Remembers the fields and cells of a slide.

    Args:
        capacity: fields remembered; beyond it the oldest are forgotten. A field is 100 kB, and takes
            about a millisecond (x86) of each call.
    """

    def __init__(self, capacity: int = 400) -> None:
        self._fields: deque[_Field] = deque(maxlen=capacity)

    def __repr__(self) -> str:
        return f"<Overlap: {len(self._fields)} fields>"

    def new_cells(self, frame: Frame, boxes: Sequence[Rectangle]) -> list[Rectangle]:
        """Which of a frame's cells have not been counted yet; from now on they are.

        Args:
            frame: the next field of this slide.
            boxes: its cells that may be counted. One cut by the edge may be left for the field that shows it whole.

        Returns:
            The new ones, in their order.
        """
        small = SmallCopy.of(frame.image)
        laid = [(seen, shift) for seen in self._fields if (shift := find_shift(seen.small, small)) is not None]
        cells = {box: _corners(box, small.scale) for box in boxes}
        known = [_moved(cell, -shift.right, -shift.down) for seen, shift in laid for cell in seen.cells]
        new = [box for box, cell in cells.items() if not any(_same(cell, other) for other in known)]
        same = next(((seen, shift) for seen, shift in laid if shift.shared >= _SAME_FIELD), None)
        if same is None:
            self._fields.append(_Field(small, list(cells.values())))
        else:  # a still stage must not fill the memory
            seen, shift = same
            seen.cells.extend(_moved(cells[box], shift.right, shift.down) for box in new)
        return new


def _corners(box: Rectangle, scale: float) -> tuple[float, float, float, float]:
    x, y, width, height = box
    return x * scale, y * scale, (x + width) * scale, (y + height) * scale


def _moved(cell: tuple[float, float, float, float], right: float, down: float) -> tuple[float, float, float, float]:
    return cell[0] + right, cell[1] + down, cell[2] + right, cell[3] + down


def _same(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    """True where the smaller box lies for at least half in the other; one of them may have been cut by an edge."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
    return width > 0 and height > 0 and width * height >= _SAME_CELL * smaller
