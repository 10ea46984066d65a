"""A learned locator: a small network that finds white cells and the scale, in a .tflite that describes itself.

The picture is looked at once, as large as it fits into the network's input. Where red cells turn out so small that
white cells would be a few points, it is looked at again in overlapping parts.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PictureError, SpecError
from ..imaging.image import resize
from ..imaging.light import Halves, find_unlit, halvings_until, meets_unlit
from ..imaging.located import RED_CELL_UM, Box, Located, Rectangle, share_seen, sides_cut
from ..imaging.ranks import ranked
from .archive import open_archive, read_member, refuse_changed, seal, sha256_of
from .decode import CHANNELS, FINE, FLOAT_SCALES, STRIDE, Decoder, Peak, Planes, Scale, as_bytes, different
from .interpreter import Interpreter, interpreter_of
from .locatorspec import LocatorSpec, locator_spec_from_json
from .spec import canonical_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image

SPEC_FILE = "locator.json"
SHIPPED = "locator.tflite"
"""Among the shipped models."""

_SMALLEST_SIDE = 16  # pixels
_SMALL_RED_CELL = 6.5  # pixels of the input, below which the picture is looked at in parts
_LARGE_RED_CELL = 35.0  # pixels of the input, above which the picture is cut tightly around a cell
_LARGE_WITHOUT_CELL = 24.0  # the same where no cell is found
_SMALLER = 2  # times, that such a picture is shown: the network has learnt of cells with room around them
_RIM_SIDE = 320  # pixels; the longer side is halved until it is shorter, where the rim of the light is sought
_FINEST = 4  # times as fine as the whole picture
_EMPTY_RANK = 95  # per cent of a picture's pixels are darker than its empty field
_SEAM = 8  # pixels of the input: so far beyond its core a part answers, too, since two looks place a cell differently
_LEAST_SURE = 0.95  # see `Decoder.sureness`; photographs have 1.02 and more, blank pictures 0.88 and less
_EDGE = 1  # pixel of the input: a box that comes so near to the picture's edge is cut by it
_EDGE_OF_CUT = 3  # the same where the network takes the cell for cut
_WHOLE = 88  # per cent of a cell that must be seen where the network says so


@dataclass(frozen=True, eq=False)
class LocatorFile:
    """A locator's .tflite taken apart.

    Attributes:
        content: all of its bytes.
        flatbuffer: the TFLite model alone.
        spec: what it says of itself; its hash was checked.
    """

    content: bytes
    flatbuffer: bytes
    spec: LocatorSpec


def pack_locator(flatbuffer: bytes, spec: LocatorSpec) -> bytes:
    """Put a flatbuffer and its spec into one file's bytes; the hash is filled in.

    Raises:
        SpecError: there is a zip behind the flatbuffer already.
    """
    sealed = spec.with_(sha256=sha256_of(flatbuffer, canonical_json(spec.as_json())))
    return seal(flatbuffer, {SPEC_FILE: json.dumps(sealed.as_json(), sort_keys=True).encode()}, name=spec.name)


def unpack_locator(content: bytes, *, where: str) -> LocatorFile:
    """Take a locator's file apart and check that its parts belong together.

    Args:
        content: the bytes of the file.
        where: the file, for messages.

    Raises:
        SpecError: no spec inside, or its hash does not fit the rest.
    """
    made_by = "bce convert of a locator"
    flatbuffer, members = open_archive(content, (SPEC_FILE,), where=where, made_by=made_by)
    values = read_member(members, SPEC_FILE, where=where, made_by=made_by)
    spec = locator_spec_from_json(values, where=f"{where}:{SPEC_FILE}")
    refuse_changed(spec.sha256, sha256_of(flatbuffer, canonical_json(values)), where=where)
    return LocatorFile(content, flatbuffer, spec)


@dataclass(frozen=True, eq=False)
class _Window:
    """A part of a picture, (x, y, width, height) in its pixels, and the core of it that answers for cells."""

    x: int
    y: int
    width: int
    height: int
    core: tuple[int, int, int, int]


@dataclass(frozen=True, eq=False)
class Sightings:
    """What a network sees in a picture.

    Attributes:
        peaks: white cells in parts of the picture's pixels (`FINE`), surest first.
        red_cell_px: diameter of a red cell, pixels of the picture.
        sure: how well the picture tells it, see `Decoder.sureness`.
        coarse: pixels of the picture that one of the input shows.
    """

    peaks: tuple[Peak, ...]
    red_cell_px: float
    sure: float
    coarse: float


class LearnedLocator:
    """Finds the white cells of a picture with a network; may be called from several threads at once.

    Attributes:
        file: what it was made from.
        spec: what it says of itself.
    """

    def __init__(self, file: LocatorFile, *, plain: bool = False) -> None:
        """Join a file and interpreters; each thread opens its own when it first looks.

        Args:
            file: the locator.
            plain: with the interpreter's built-in kernels alone, as older devices run it.
        """
        self.file, self.spec, self._plain = file, file.spec, plain
        self._own = threading.local()

    def __repr__(self) -> str:
        """Name, target and hash."""
        return f"LearnedLocator({self.spec.name}, {self.spec.target}, {self.spec.sha256[:12]})"

    def __call__(self, image: Image, *, um_per_px: float | None = None) -> Located:
        """Find the white cells of a field.

        Args:
            image: uint8 RGB, shape (height, width, 3), at least 16 pixels each way.
            um_per_px: scale, µm per pixel, where it is known; else the picture tells it.

        Raises:
            PictureError: not such a picture; a scale that is not positive.
        """
        check(image, um_per_px)
        halves = Halves(image)
        given = None if um_per_px is None else RED_CELL_UM / um_per_px
        seen = self.sightings(halves, given)
        measured = seen.red_cell_px if seen.sure >= _LEAST_SURE else None
        boxes = self._boxes(seen, halves)
        return Located(tuple(sorted(boxes, key=lambda box: (box.y, box.x))), given or measured, halves)

    def sightings(self, halves: Halves, red_cell_px: float | None = None) -> Sightings:
        """What the network sees in a picture, at once or in parts.

        Args:
            halves: of the picture.
            red_cell_px: diameter of a red cell in it, where it is known.
        """
        height, width = halves.image.shape[:2]
        everything = _Window(0, 0, width, height, (0, 0, width, height))
        whole = self._look(halves, everything)
        red = red_cell_px or whole.red_cell_px
        large = _LARGE_RED_CELL if whole.peaks else _LARGE_WITHOUT_CELL
        if red > large * self._shrunk(height, width):
            return self._look(halves, everything, smaller=_SMALLER)
        finer = self._finer(height, width, red)
        if finer <= 1:
            return whole
        looks = [self._look(halves, part) for part in _parts(height, width, finer)]
        peaks = sorted((peak for look in looks for peak in look.peaks), key=lambda peak: -peak.heat)
        red_cell, sure = (
            float(np.median(some)) for some in zip(*((k.red_cell_px, k.sure) for k in looks), strict=True)
        )
        return Sightings(tuple(different(peaks)), red_cell, sure, looks[0].coarse)

    def _finer(self, height: int, width: int, red_cell_px: float) -> int:
        """How many times as large a picture is looked at, in parts, for its red cells to be large enough; 1: as it is.

        Never larger than it is, since nothing would be seen that is not there.
        """
        shrunk, finer = self._shrunk(height, width), 1
        while finer < _FINEST and red_cell_px * finer < _SMALL_RED_CELL * shrunk:
            finer *= 2
        return min(finer, int(shrunk))

    def _shrunk(self, height: int, width: int) -> float:
        """Pixels of a part of a picture for one of the input; upright parts are turned."""
        tall, wide = self.spec.input_size[:: -1 if height > width else 1]
        return max(height / tall, width / wide)

    def _look(self, halves: Halves, window: _Window, *, smaller: int = 1) -> Sightings:
        """One look at a part of a picture, so many times smaller than it fits into the input."""
        pixels, size, turned = self._shown(halves, window, smaller)
        planes, decoder = self.planes(pixels)
        found = decoder.peaks(planes, self.spec.threshold, size)
        if turned:
            found, size = [_transposed(peak) for peak in found], size[::-1]
        seam = _SEAM * window.width // size[1]
        placed = (_placed(peak, window, size) for peak in found)
        kept = tuple(peak for peak in placed if _in_core(peak, window.core, seam))
        upright = size[::-1] if turned else size
        red_cell = decoder.red_cell(planes, upright) * window.width / size[1]
        return Sightings(kept, red_cell, decoder.sureness(planes, upright), window.width / size[1])

    def _shown(self, halves: Halves, window: _Window, smaller: int) -> tuple[Image, tuple[int, int], bool]:
        """A part as the network is shown it, upright ones turned; the size of what is picture; if turned."""
        rows, columns = self.spec.input_size
        turned = window.height > window.width
        tall, wide = (columns, rows) if turned else (rows, columns)
        shrink = smaller * self._shrunk(window.height, window.width)
        halvings = halvings_until(shrink, 2)
        source = halves.at(halvings)
        if window.core != (0, 0, *halves.image.shape[1::-1]):
            step = 1 << halvings
            x, y = window.x // step, window.y // step
            source = source[y : y + -(-window.height // step), x : x + -(-window.width // step)]
        height, width = (min(max(round(side / shrink), 1), most) for side, most in
                         ((window.height, tall), (window.width, wide)))  # fmt: skip
        small = resize(np.ascontiguousarray(source), (height, width))
        if turned:
            small = np.ascontiguousarray(small.transpose(1, 0, 2))
        size = (small.shape[0], small.shape[1])
        if size == (rows, columns):
            return small, size, turned
        empty = [ranked(small[..., channel], _EMPTY_RANK, 100) for channel in range(3)]
        padded = np.full((rows, columns, 3), empty, np.uint8)
        padded[: size[0], : size[1]] = small
        return padded, size, turned

    def _interpreter(self) -> tuple[Interpreter, Decoder]:
        """This thread's own."""
        if not hasattr(self._own, "opened"):
            interpreter = interpreter_of(self.file.flatbuffer, plain=self._plain)
            if interpreter.input_size != self.spec.input_size:
                message = (
                    f"locator {self.spec.name}: expected an input of {self.spec.input_size} as its spec says, "
                    f"found {interpreter.input_size}"
                )
                raise SpecError(message)
            self._own.opened = interpreter, _decoder(interpreter, self.spec)
        opened: tuple[Interpreter, Decoder] = self._own.opened
        return opened

    def planes(self, pixels: NDArray[np.uint8]) -> tuple[Planes, Decoder]:
        """What the network says of one input, uint8 RGB (*input_size, 3), and what reads it."""
        interpreter, decoder = self._interpreter()
        return _planes(interpreter, pixels), decoder

    def _boxes(self, sightings: Sightings, halves: Halves) -> list[Box]:
        """Boxes in whole pixels of the picture."""
        if not sightings.peaks:
            return []
        size = height, width = halves.image.shape[:2]
        halvings = halvings_until(max(size), _RIM_SIDE)
        unlit = find_unlit(halves.at(halvings))
        found = []
        for peak in sightings.peaks:
            near = round((_EDGE_OF_CUT if peak.seen < _WHOLE else _EDGE) * sightings.coarse)
            left, right = _snapped(peak.left, peak.right, width, near)
            top, bottom = _snapped(peak.top, peak.bottom, height, near)
            rectangle = left, top, right - left, bottom - top
            sides = sides_cut(rectangle, size)
            dim = peak.seen < _WHOLE or (unlit is not None and meets_unlit(unlit, _halved(rectangle, halvings)))
            share = share_seen(rectangle[2], rectangle[3], *sides)
            seen = min(share, peak.seen / 100) if dim else share
            touching = any(_touch(peak, other) for other in sightings.peaks if other is not peak)
            found.append(Box(*rectangle, not dim and not any(sides), touching, seen))
        return found


def _halved(rectangle: Rectangle, halvings: int) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of a box in a picture that was halved so often."""
    x, y, width, height = rectangle
    return x >> halvings, y >> halvings, -(-(x + width) >> halvings), -(-(y + height) >> halvings)


def _snapped(start: int, end: int, length: int, near: int) -> tuple[int, int]:
    """Where a box begins and ends on an axis, whole pixels; at the picture's edge where it comes near."""
    first, last = (start + FINE // 2) // FINE, (end + FINE // 2) // FINE
    first = 0 if first <= near else min(first, length - 1)
    return first, length if last >= length - near else max(last, first + 1)


def check(image: Image, um_per_px: float | None) -> None:
    """Refuse what no locator can look at.

    Raises:
        PictureError: not uint8 RGB of at least 16 pixels each way; a scale that is not positive.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < _SMALLEST_SIDE:
        message = (
            f"cannot look for cells in {image.dtype} of shape {image.shape}; expected uint8 RGB, "
            f"(height, width, 3), at least {_SMALLEST_SIDE} pixels each way"
        )
        raise PictureError(message)
    if um_per_px is not None and not 0 < um_per_px < math.inf:
        message = f"cannot look for cells at {um_per_px} µm per pixel; expected a positive number, such as 0.1"
        raise PictureError(message)


_SIGNED = 128  # between int8 values and the bytes they are read as


def _planes(interpreter: Interpreter, pixels: NDArray[np.uint8]) -> Planes:
    """What a network says, as bytes."""
    by_channels = {plane.shape[-1]: (plane, scale) for plane, scale, _ in interpreter.planes(pixels)}
    white, shape, ruler = (
        _as_bytes(*by_channels[channels], usual)
        for channels, usual in zip(CHANNELS.values(), FLOAT_SCALES, strict=True)
    )
    return Planes(np.ascontiguousarray(white[..., 0]), shape, ruler)


def _as_bytes(plane: NDArray[Any], scale: float, usual: Scale) -> NDArray[np.uint8]:
    """Of a plane of int8 or uint8 values, or of floats where it has no scale."""
    if not scale:
        return as_bytes(plane, usual)
    if plane.dtype == np.uint8:
        return plane
    levels: NDArray[np.uint8] = plane.view(np.uint8) ^ np.uint8(_SIGNED)
    return levels


def _decoder(interpreter: Interpreter, spec: LocatorSpec) -> Decoder:
    """What reads the outputs of a network, which must be those of a locator."""
    answers = interpreter.planes(np.zeros((*spec.input_size, 3), np.uint8))
    grid = tuple(side // STRIDE for side in spec.input_size)
    expected = sorted((*grid, channels) for channels in CHANNELS.values())
    shapes = sorted(plane.shape for plane, _, _ in answers)
    if shapes != expected:
        message = f"locator {spec.name}: expected outputs of {_listed(expected)}, found {_listed(shapes)}"
        raise SpecError(message)
    scales = {plane.shape[-1]: _scale(plane, scale, zero_point) for plane, scale, zero_point in answers}
    white, shape, ruler = (
        scales[channels] or usual for channels, usual in zip(CHANNELS.values(), FLOAT_SCALES, strict=True)
    )
    if white != FLOAT_SCALES[0]:
        message = f"locator {spec.name}: expected heats in steps of 1/256 from 0 on, found {white}; convert it again"
        raise SpecError(message)
    return Decoder(shape, ruler)


def _scale(plane: NDArray[Any], scale: float, zero_point: int) -> Scale | None:
    """Of a plane of integers, read as bytes from 0 to 255; None of floats."""
    return Scale(float(scale), int(zero_point) + (_SIGNED if plane.dtype == np.int8 else 0)) if scale else None


def _listed(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(" x ".join(map(str, shape)) for shape in shapes)


def _parts(height: int, width: int, finer: int) -> list[_Window]:
    """Overlapping parts of one in `finer` of each side; their cores cover the picture without overlapping."""
    tall, wide = -(-height // finer), -(-width // finer)
    rows, columns = ([k * (side - part) // finer for k in range(finer + 1)] for side, part in
                     ((height, tall), (width, wide)))  # fmt: skip
    return [
        _Window(x, y, wide, tall, (x0, y0, x1, y1))
        for y, (y0, y1) in zip(rows, _cores(rows, tall, height), strict=True)
        for x, (x0, x1) in zip(columns, _cores(columns, wide, width), strict=True)
    ]


def _cores(starts: Sequence[int], part: int, side: int) -> list[tuple[int, int]]:
    """From the middle of the overlap before to the middle of the one after."""
    seams = [0, *((start + before + part) // 2 for before, start in pairwise(starts)), side]
    return list(pairwise(seams))


def _placed(peak: Peak, window: _Window, size: tuple[int, int]) -> Peak:
    """From pixels of the input to those of the picture; `size` is that of the part in the input."""
    across, down = (window.width, size[1]), (window.height, size[0])
    return Peak(
        FINE * window.x + peak.left * across[0] // across[1],
        FINE * window.y + peak.top * down[0] // down[1],
        FINE * window.x + peak.right * across[0] // across[1],
        FINE * window.y + peak.bottom * down[0] // down[1],
        peak.heat,
        peak.seen,
    )


def _transposed(peak: Peak) -> Peak:
    return Peak(peak.top, peak.left, peak.bottom, peak.right, peak.heat, peak.seen)


def _in_core(peak: Peak, core: tuple[int, int, int, int], seam: int) -> bool:
    """Whether its middle lies there, or not farther outside than `seam`."""
    x, y = (peak.left + peak.right) // (2 * FINE), (peak.top + peak.bottom) // (2 * FINE)
    return core[0] - seam <= x <= core[2] + seam and core[1] - seam <= y <= core[3] + seam


def _touch(one: Peak, other: Peak) -> bool:
    """Whether the ellipses in two boxes meet; exactly so for discs."""
    across = (one.left + one.right) - (other.left + other.right)
    down = (one.top + one.bottom) - (other.top + other.bottom)
    wide = one.right - one.left + other.right - other.left
    tall = one.bottom - one.top + other.bottom - other.top
    return (across * tall) ** 2 + (down * wide) ** 2 <= (wide * tall) ** 2


def open_locator(content: bytes, *, where: str) -> LearnedLocator:
    """A locator from the bytes of its file.

    Raises:
        SpecError: damaged, or without a spec.
    """
    return LearnedLocator(unpack_locator(content, where=where))


def told(file: LocatorFile) -> dict[str, Any]:
    """What the spec of a model says of the locator that it carries, plain JSON values."""
    spec = file.spec
    values = {
        "name": spec.name,
        "target": spec.target,
        "bytes": len(file.content),
        "input_size": spec.input_size,
        "threshold": spec.threshold,
        "figures": spec.figures,
        "sha256": spec.sha256,
        "file_sha256": sha256_of(file.content),
        "kernel_tolerance": spec.kernel_tolerance,
        "golden": spec.as_json()["golden"],
    }
    plain: dict[str, Any] = json.loads(json.dumps(values))  # lists, as they will be read
    return plain


@cache
def shipped_locator() -> LearnedLocator:
    """The locator that comes along."""
    return open_locator((resources.files(__package__) / "shipped" / SHIPPED).read_bytes(), where=SHIPPED)
