"""Golden fields: drawn fields and what a locator found in them when it was made, found again on every device.

Under the kernels that it was made with a locator gives equal planes, and so equal cells. Other kernels move heats a
little: then the same cells must be found but those whose heat is within the file's tolerance of its threshold.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SpecError
from ..imaging.light import Halves
from ..imaging.located import overlap
from .decode import FINE, Peak
from .interpreter import interpreter_of
from .locatorspec import GoldenField

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image
    from .locator import LearnedLocator

FIELD_SIZE = (240, 320)
"""(height, width) of a golden field, pixels."""

_FIRST_SEED = 8_000_000  # far from the seeds of demos, tests and training
_FIELDS = 2
_CELLS = 3
_NEAR = 0.5  # intersection over union, from which two boxes are the same cell under other kernels
_RULER_OFF = 1.03  # times, by which a red cell's diameter may differ under other kernels
_BEYOND = 1.5  # how far beyond the largest difference that was seen one must still be allowed for: pictures differ
_LEAST_TOLERANCE = 10  # of heat, 0..255

Drawing = Callable[[int, tuple[str, ...]], "Image"]


@functools.lru_cache(maxsize=8)
def drawn_field(seed: int, drawn: tuple[str, ...]) -> Image:
    """A drawn field, uint8 RGB, shape (240, 320, 3)."""
    from ..imaging.drawn import draw_field  # numpy.random takes a while, and is needed once

    return draw_field(seed, drawn, size=FIELD_SIZE).image


def golden_fields(locator: LearnedLocator) -> tuple[GoldenField, ...]:
    """What a locator finds in drawn fields, for its spec.

    A field is taken where no heat is near the threshold, so that the same cells are found under other kernels.
    """
    from ..imaging.drawn import LABELS

    found: list[GoldenField] = []
    for number in range(200):
        drawn = tuple(LABELS[(number + k) % len(LABELS)] for k in range(_CELLS))
        field = _look(locator, _FIRST_SEED + number, drawn)
        sure = locator.spec.threshold + 2 * locator.spec.kernel_tolerance
        if len(field.boxes) == _CELLS and all(heat >= sure for *_, heat in field.boxes):
            found.append(field)
        if len(found) == _FIELDS:
            break
    return tuple(found)


def _look(locator: LearnedLocator, seed: int, drawn: tuple[str, ...], draw: Drawing = drawn_field) -> GoldenField:
    image = draw(seed, drawn)
    seen = locator.sightings(Halves(image))
    return GoldenField(
        seed, drawn, _digest(image), tuple(_box(peak) for peak in seen.peaks), round(seen.red_cell_px, 3)
    )


def _box(peak: Peak) -> tuple[int, int, int, int, int]:
    left, top = peak.left // FINE, peak.top // FINE
    return left, top, peak.right // FINE - left, peak.bottom // FINE - top, peak.heat


def _digest(image: Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def replay_fields(locator: LearnedLocator, *, name: str, runtime: str, draw: Drawing = drawn_field) -> None:
    """Look at a locator's golden fields again.

    Args:
        locator: on this machine.
        name: of the file, for messages.
        runtime: what runs it, for messages.
        draw: gives a drawn field; another one may keep what was drawn at an earlier start.

    Raises:
        SpecError: a field is drawn otherwise, or other cells are found, than when the locator was made.
    """
    for field in locator.spec.golden:
        here = _look(locator, field.seed, field.drawn, draw)
        if here.pixels_sha256 != field.pixels_sha256:
            message = (
                f"{name}: this machine draws golden field {field.seed} otherwise than the one its locator was made on; "
                "its OpenCV or numpy differs: install the versions of setup.cfg, or convert the model again"
            )
            raise SpecError(message)
        if here != field and not _agree(field, here, locator.spec.threshold, locator.spec.kernel_tolerance):
            message = (
                f"{name}: in golden field {field.seed} its locator found {_told(field)} when it was made, and finds "
                f"{_told(here)} here with {runtime}; do not use it here: try another interpreter (README), or copy "
                "the file again"
            )
            raise SpecError(message)


def _told(field: GoldenField) -> str:
    boxes = ", ".join(f"{width}x{height} at ({x}, {y})" for x, y, width, height, _ in field.boxes) or "no cell"
    return f"{boxes}, red cells of {field.red_cell_px:.1f} px"


def _agree(made: GoldenField, here: GoldenField, threshold: int, tolerance: int) -> bool:
    """The same cells but those near the threshold, and nearly the same scale."""
    close = made.red_cell_px / _RULER_OFF <= here.red_cell_px <= made.red_cell_px * _RULER_OFF
    sure = threshold + tolerance
    return close and _all_in(made.boxes, here.boxes, sure) and _all_in(here.boxes, made.boxes, sure)


def _all_in(some: Sequence[tuple[int, ...]], others: Sequence[tuple[int, ...]], sure: int) -> bool:
    return all(any(overlap(box, other) >= _NEAR for other in others) for box in some if box[4] >= sure)


def heat_tolerance(flatbuffer: bytes, samples: NDArray[np.uint8]) -> int:
    """By how much heats differ between XNNPACK's kernels and the built-in ones, which older devices run.

    Args:
        flatbuffer: the bytes of a locator's .tflite.
        samples: uint8 RGB, shape (n, height, width, 3).

    Returns:
        1.5 times the largest difference at a peak of either, 10 at least; of 256.
    """
    usual, plain = interpreter_of(flatbuffer), interpreter_of(flatbuffer, plain=True)
    largest = max(_largest_difference(_heat(usual, one), _heat(plain, one)) for one in samples)
    return max(int(_BEYOND * largest), _LEAST_TOLERANCE)


def _heat(interpreter: Any, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    heats = [
        plane[..., 0].astype(np.float64) * (256 * (scale or 1.0))
        for plane, scale, _ in interpreter.planes(pixels)
        if plane.shape[-1] == 1
    ]
    heat: NDArray[np.int64] = np.rint(heats[0]).astype(np.int64)
    return heat


def _largest_difference(one: NDArray[np.int64], other: NDArray[np.int64]) -> int:
    return int(np.abs(one - other).max())
