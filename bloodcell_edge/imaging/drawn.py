"""Drawn fields of a stained blood smear (May-Grünwald-Giemsa) with known truth; they say nothing about blood.

For demos, golden samples, tests and the fake camera, which then need no patient's picture. A field is drawn as light
goes through it: every stain adds to the absorbance of what lies in its way (Beer-Lambert law), so overlapping red
cells darken as on a slide; lamp, stain, focus and camera vary by field.

Sizes (Bain, Blood Cells: A Practical Guide; Hoffbrand, Essential Haematology): red cell 7.5 µm, platelet 2-3 µm, small
lymphocyte 9-12 µm, large 12-16 µm, neutrophil 12-15 µm with 2 to 5 lobes, eosinophil 12-17 µm with mostly 2, monocyte
15-20 µm with a kidney-shaped, horseshoe or folded nucleus, vacuoles and grey-blue cytoplasm.

Repeatable: a seed gives the same bytes on x86 and arm64, under numpy 1.26 and 2, OpenCV 4.11 and 5.0. Chance is `PCG64`
through ``random``, ``integers`` and ``bytes`` only. Real numbers meet only ``+ - *`` one at a time, which IEEE 754
rounds alike everywhere, and tables that `math` makes once and that are rounded. OpenCV fills polygons, dilates, blurs
uint8 and resizes with ``INTER_LINEAR_EXACT``, all in integers. The JPEG bytes of `draw_folder` are up to its encoder.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..files import write_bytes
from .image import encode_jpeg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Mask = NDArray[np.uint8]
    Plane = NDArray[np.float64]
    Stains = NDArray[np.int32]
    Place = tuple[int, int, int]

LABELS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
"""What can be drawn, in the order models use."""

AMBIGUITY = 0.06
"""Share of white cells drawn on the way to another type (see `_LOOKALIKES`), 0..1: the one knob of how hard the task
is. They are 20 to 70 % of the way, evenly, so that two in five of them look more like the other type, as where two
readers differ: no model should be right on more than about ``1 - 0.4 * AMBIGUITY`` of the pictures."""

UM_PER_PX = 0.15
"""Default scale, µm per pixel: a neutrophil spans 80 to 100 pixels of a 240 x 320 field."""

SMALLEST_FIELD_PX = 16
"""Smallest height and width that can be asked for."""

_JPEG_QUALITY = 90
_RED_CELL_UM = 7.5
_FIELD_PER_PLATELET_UM2 = 700  # about one to 8 red cells; blood has one to 20, but most fields should show some

# Absorbance (red, green, blue) of full stain in 1/1024 decades. Direction: log10(background / colour) of clustered
# pixels of public smear photographs; strength by eye.
_HAEMOGLOBIN, _CHROMATIN, _BASOPHILIC, _EOSIN = range(4)
_ABSORBANCE = ((120, 275, 255), (620, 930, 290), (330, 300, 90), (130, 440, 370))
_STEPS_PER_DECADE, _DARKEST_STEP = 1024, 4095


@dataclass(frozen=True)
class DrawnCell:
    """One white cell: its label and the box around the whole cell in pixels; (x, y) is the upper left corner."""

    label: str
    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class DrawnField:
    """One drawn picture, RGB uint8 (height, width, 3), its white cells, and the seed it came from."""

    image: NDArray[np.uint8]
    cells: tuple[DrawnCell, ...]
    seed: int


@dataclass(frozen=True)
class _Look:
    """What a white cell is drawn from. Numbers only, so that two looks mix; stains are shares of full stain."""

    diameter_um: float
    lobes: float  # of the nucleus, along an arc; rounded
    lobe: float  # radius of a lobe, share of the cell's
    waist: float  # thickness between lobes, share of theirs: a strand 0.1, a band or kidney 1
    arc: float  # what the lobes span around the cell's centre, turns
    ring: float  # their distance from it, share of the cell's radius
    wobble: float  # of the cell's outline, share of its radius
    chromatin: float
    lace: float  # depth of the pale pattern in the chromatin
    basophilic: float  # blue of the cytoplasm
    eosin: float  # pink of the cytoplasm
    fine: float  # lilac granules of 0.3 µm
    coarse: float  # orange-red granules of 0.6 µm
    vacuoles: float  # how many, rounded


# Lowest and highest value in clear cells, in the order of _Look.
_TEXTBOOK: dict[str, tuple[tuple[float, float], ...]] = {
    "EOSINOPHIL": ((12, 16), (1.7, 2.8), (0.36, 0.46), (0.15, 0.5), (0.26, 0.42), (0.42, 0.54), (0.03, 0.08),
                   (0.64, 0.84), (0.55, 0.8), (0.04, 0.12), (0.18, 0.32), (0, 0.1), (0.6, 1), (0, 1)),
    "LYMPHOCYTE": ((9, 12.5), (1, 1), (0.78, 0.9), (1, 1), (0, 0.1), (0.02, 0.12), (0.03, 0.12),
                   (0.78, 1), (0.4, 0.65), (0.3, 0.55), (0, 0.06), (0, 0.1), (0, 0), (0, 0.6)),
    "MONOCYTE": ((14.5, 19), (1.6, 4.4), (0.38, 0.5), (0.8, 1), (0.3, 0.62), (0.26, 0.42), (0.06, 0.18),
                 (0.5, 0.7), (0.65, 0.95), (0.22, 0.42), (0.03, 0.1), (0.1, 0.35), (0, 0), (0, 7)),
    "NEUTROPHIL": ((12, 15), (2.3, 5.4), (0.28, 0.36), (0.1, 0.45), (0.5, 0.85), (0.38, 0.5), (0.03, 0.09),
                   (0.68, 0.88), (0.5, 0.75), (0.02, 0.1), (0.12, 0.24), (0.35, 1), (0, 0.06), (0, 0.6)),
}  # fmt: skip

# Bands resemble monocytes, eosinophils that lost granules neutrophils, large lymphocytes small monocytes.
_LOOKALIKES = {
    "EOSINOPHIL": ("NEUTROPHIL",),
    "LYMPHOCYTE": ("MONOCYTE",),
    "MONOCYTE": ("LYMPHOCYTE", "NEUTROPHIL"),
    "NEUTROPHIL": ("EOSINOPHIL", "MONOCYTE"),
}


class _Dice(np.random.Generator):
    """The only source of chance."""

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.random()

    def octets(self, height: int, width: int) -> Mask:
        return np.frombuffer(self.bytes(height * width), np.uint8).reshape(height, width)


def draw_field(
    seed: int,
    labels: Sequence[str] = ("NEUTROPHIL",),
    *,
    size: tuple[int, int] = (240, 320),
    um_per_px: float = UM_PER_PX,
    ambiguity: float = AMBIGUITY,
) -> DrawnField:
    """Draw one field.

    Args:
        seed: 0 or more; decides all that the other arguments leave open.
        labels: one white cell each, inside the field and apart as far as there is room; () gives a field without any.
        size: (height, width) in pixels, each at least `SMALLEST_FIELD_PX`.
        um_per_px: scale, µm per pixel, 0.02 to 2.
        ambiguity: as `AMBIGUITY`; 0 draws clear cells only.

    Returns:
        The picture, uint8 RGB (*size, 3), and one `DrawnCell` a label in the same order.

    Raises:
        DataError: an unknown label; a size or scale that cannot be drawn.
    """
    _check(labels, size, um_per_px)
    dice, scale = _Dice(np.random.PCG64(seed)), 1 / um_per_px
    looks = [_look(dice, label, ambiguity) for label in labels]
    outlines = [_outline(dice, k.diameter_um / 2 * scale, k.wobble, dice.between(1, 1.08)) for k in looks]
    places = _places(dice, [math.ceil(np.abs(outline).max()) + 1 for outline in outlines], size)
    stains = np.zeros((4, *size), np.int32)
    _draw_red_cells(dice, stains[_HAEMOGLOBIN], places, scale)
    _draw_platelets(dice, stains, scale)
    for look, outline, place in zip(looks, outlines, places, strict=True):
        _draw_white_cell(dice, stains, look, outline, place, scale)
    cells = [
        _boxed(label, outline, place, size) for label, outline, place in zip(labels, outlines, places, strict=True)
    ]
    return DrawnField(_photograph(dice, stains, scale), tuple(cells), seed)


def draw_folder(
    out: Path,
    *,
    per_class: int | Mapping[str, int],
    seed: int,
    size: tuple[int, int] = (240, 320),
    ambiguity: float = AMBIGUITY,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write one-cell fields as ``out/LABEL/label-0001.jpg``, replacing files of these names.

    Args:
        out: folder, made where it is missing. No file in it is ever half-written.
        per_class: how many pictures of every label, or of each label named. The first n do not depend on it.
        seed: pictures of another seed have nothing in common with these.
        size: (height, width) in pixels.
        ambiguity: as `AMBIGUITY`.
        progress: called as ``progress(done, total)`` after each picture.

    Returns:
        The files, by label and number.

    Raises:
        DataError: as `draw_field`.
        OSError: the folder cannot be written.
    """
    counts = dict.fromkeys(LABELS, per_class) if isinstance(per_class, int) else dict(per_class)
    _check(tuple(counts), size, UM_PER_PX)
    wanted = [(label, number) for label in sorted(counts) for number in range(1, counts[label] + 1)]
    written = []
    for label, number in wanted:
        own_seed = int.from_bytes(hashlib.sha256(f"{seed}/{label}/{number}".encode()).digest()[:6], "big")
        field = draw_field(own_seed, (label,), size=size, ambiguity=ambiguity)
        path = Path(out) / label / f"{label.lower()}-{number:04d}.jpg"
        write_bytes(path, encode_jpeg(field.image, quality=_JPEG_QUALITY))
        written.append(path)
        if progress is not None:
            progress(len(written), len(wanted))
    return written


def _check(labels: Sequence[str], size: tuple[int, int], um_per_px: float) -> None:
    unknown = sorted(set(labels) - set(LABELS))
    if unknown:
        message = f"cannot draw {', '.join(unknown)}; expected any of {', '.join(LABELS)}"
        raise DataError(message)
    if min(size) < SMALLEST_FIELD_PX:
        message = f"cannot draw a field of {size[0]} x {size[1]} pixels; expected at least {SMALLEST_FIELD_PX} each way"
        raise DataError(message)
    if not 0.02 <= um_per_px <= 2:
        message = f"cannot draw at {um_per_px} µm per pixel; expected 0.02 to 2 (oil immersion gives 0.05 to 0.2)"
        raise DataError(message)


def _look(dice: _Dice, label: str, ambiguity: float) -> _Look:
    """A clear cell of the label or, with the chance `ambiguity`, one on the way to a lookalike."""
    look = [dice.between(low, high) for low, high in _TEXTBOOK[label]]
    if dice.random() < ambiguity:
        other = _LOOKALIKES[label][int(dice.integers(len(_LOOKALIKES[label])))]
        way = dice.between(0.2, 0.7)
        look = [a + (dice.between(low, high) - a) * way for a, (low, high) in zip(look, _TEXTBOOK[other], strict=True)]
    return _Look(*look)


def _places(dice: _Dice, reaches: Sequence[int], size: tuple[int, int]) -> list[Place]:
    """Centre and reach (x, y, r) in pixels for each cell: the first of 30 throws that is free, else the freest."""
    places: list[Place] = []
    for reach in reaches:
        room = [max(length - 2 * reach - 1, 0) for length in size]
        least = [(length - 1 - free) // 2 for length, free in zip(size, room, strict=True)]
        throws = [
            (least[1] + int(dice.integers(room[1] + 1)), least[0] + int(dice.integers(room[0] + 1)), reach)
            for _ in range(30)
        ]
        gaps = [min((_gap(throw, place) for place in places), default=1) for throw in throws]
        places.append(throws[next((k for k, gap in enumerate(gaps) if gap > 0), gaps.index(max(gaps)))])
    return places


def _gap(a: Place, b: Place) -> int:
    """Positive where two cells are apart, rising with their distance, px²."""
    return (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 - (a[2] + b[2]) ** 2


def _boxed(label: str, outline: Plane, place: Place, size: tuple[int, int]) -> DrawnCell:
    """The box around an outline, cut to the field."""
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int) + place[:2], 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int) + place[:2], (size[1] - 1, size[0] - 1))
    width, height = high - low + 1
    return DrawnCell(label, int(low[0]), int(low[1]), int(width), int(height))


@cache
def _directions() -> Plane:
    """Cosine and sine of 64 directions, shape (2, 64); rounded, so that the last bit of a libm is gone."""
    angles = [2 * math.pi * k / 64 for k in range(64)]
    return np.array([[round(math.cos(a), 9) for a in angles], [round(math.sin(a), 9) for a in angles]])


def _outline(dice: _Dice, radius: float, wobble: float = 0.0, stretch: float = 1.0) -> Plane:
    """A closed outline about the origin, (64, 2) as (x, y) in pixels: a circle that wobbles, stretched and turned."""
    cosine, sine = _directions()
    reach = np.full(64, radius)
    for harmonic in (2, 3, 4, 5):
        wave = cosine[(np.arange(64) * harmonic + int(dice.integers(64))) % 64]
        reach = reach + wave * (radius * wobble * dice.between(0, 2) * (1 / harmonic))
    along, across = reach * cosine * stretch, reach * sine * (2 - stretch)
    turn = int(dice.integers(64))
    return np.stack([along * cosine[turn] - across * sine[turn], along * sine[turn] + across * cosine[turn]], axis=1)


def _fill(mask: Mask, outline: Plane, centre: tuple[float, float], value: int = 255) -> None:
    """Fill an outline about (x, y); corners go to 1/16 pixel."""
    import cv2

    points = np.rint((outline + np.array(centre)) * 16).astype(np.int32)
    cv2.fillPoly(mask, [points], value, lineType=cv2.LINE_8, shift=4)


def _disc(radius: float) -> Plane:
    return np.ascontiguousarray(_directions().T * radius)


def _square(half: int) -> Mask:
    return np.zeros((2 * half + 1, 2 * half + 1), np.uint8)


def _soften(pixels: Mask, sigma_px: float) -> Mask:
    """Gaussian blur of uint8 pixels, which OpenCV computes in fixed point."""
    import cv2

    width = 2 * math.ceil(2.5 * sigma_px) + 1
    blurred: Any = cv2.GaussianBlur(pixels, (width, width), sigma_px)
    return blurred  # type: ignore[no-any-return]


def _share(pixels: Mask) -> Plane:
    """Grey levels as 0..1."""
    return pixels.astype(np.float64) * (1 / 255)


def _mottle(dice: _Dice, shape: tuple[int, ...], grain_px: float) -> Plane:
    """Clouds 0..1, about `grain_px` wide."""
    import cv2

    rows, columns = (math.ceil(length / max(grain_px, 1)) + 1 for length in shape)
    clouds: Any = cv2.resize(dice.octets(rows, columns), (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR_EXACT)
    return _share(clouds)


def _specks(dice: _Dice, shape: tuple[int, ...], share: float, diameter_px: float) -> Plane:
    """Round granules of unequal strength 0..1, one on a `share` of the pixels."""
    import cv2

    seeds = dice.octets(*shape) * (dice.random(shape) < share)
    middle = max(round(diameter_px), 1) // 2
    dot = _square(middle)
    _fill(dot, _disc(max(diameter_px / 2 - 0.3, 0)), (middle, middle), 1)
    grown: Any = cv2.dilate(seeds, dot)
    return _share(_soften(grown, 0.2 * diameter_px))


def _add(plane: Stains, patch: Stains, x: int, y: int) -> None:
    """Add a square patch about (x, y), cut off at the plane's edges."""
    field, part = _overlap(plane.shape, patch.shape[0] // 2, x, y)
    plane[field] += patch[part]


def _overlap(shape: tuple[int, ...], half: int, x: int, y: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where a square about (x, y) lies in a plane, and which part of the square that is."""
    spans = [(middle - half, min(max(middle - half, 0), n), min(max(middle + half + 1, 0), n))
             for middle, n in zip((y, x), shape, strict=True)]  # fmt: skip
    return tuple(slice(a, b) for _, a, b in spans), tuple(slice(a - start, b - start) for start, a, b in spans)


def _draw_red_cells(dice: _Dice, plane: Stains, white: Sequence[Place], scale: float) -> None:
    """Biconcave discs on a loose grid; white cells push them aside."""
    radius = _RED_CELL_UM / 2 * scale
    kinds = [_red_cell(dice, radius) for _ in range(8)]
    spacing, looseness, share = radius * dice.between(1.85, 2.7), dice.between(0.25, 0.65), dice.between(0.7, 1)
    for row in range(-1, math.ceil(plane.shape[0] / spacing) + 1):
        for column in range(-1, math.ceil(plane.shape[1] / spacing) + 1):
            x = round((column + row % 2 * 0.5 + dice.between(-looseness, looseness)) * spacing)
            y = round((row + dice.between(-looseness, looseness)) * spacing)
            kind = kinds[int(dice.integers(len(kinds)))]
            free = all(_gap((x, y, round(0.7 * radius)), place) > 0 for place in white)
            if dice.random() < share and free:
                _add(plane, kind, x, y)


def _red_cell(dice: _Dice, radius: float) -> Stains:
    """One red cell, a square of haemoglobin 0..255: a dark rim, and a pale centre that differs by cell."""
    edge = _outline(dice, radius * dice.between(0.88, 1.06), 0.05, dice.between(1, 1.14))
    rim, pallor = dice.between(110, 150), dice.between(0.15, 0.85)
    half = math.ceil(np.abs(edge).max()) + 2
    disc = _square(half)
    for part, lost in ((1.0, 0.0), (0.93, 0.07), (0.82, 0.12), (0.66, 0.5), (0.56, 0.8), (0.46, 1.0)):
        _fill(disc, edge * part, (half, half), round(rim * (1 - lost * pallor)))
    return _soften(disc, 0.05 * radius).astype(np.int32)


def _draw_platelets(dice: _Dice, stains: Stains, scale: float) -> None:
    """Small lilac bodies of uneven density."""
    _, height, width = stains.shape
    usual = height * width / (scale * scale * _FIELD_PER_PLATELET_UM2)
    for _ in range(round(usual * dice.between(0.3, 1.6))):
        radius = dice.between(1, 1.6) * scale
        half = math.ceil(radius * 1.5) + 2
        body = _square(half)
        _fill(body, _outline(dice, radius, 0.25), (half, half))
        density = _soften(body, 0.2 * radius) * (_mottle(dice, body.shape, 0.5 * scale) + 0.3)
        x, y = int(dice.integers(width)), int(dice.integers(height))
        _add(stains[_CHROMATIN], np.rint(density * 0.3).astype(np.int32), x, y)
        _add(stains[_BASOPHILIC], np.rint(density * 0.25).astype(np.int32), x, y)


def _draw_white_cell(dice: _Dice, stains: Stains, look: _Look, outline: Plane, place: Place, scale: float) -> None:
    """Draw one white cell over what is there."""
    half = place[2] + 2
    body = _square(half)
    shape = body.shape
    _fill(body, outline, (half, half))
    cell = _share(_soften(body, 0.12 * scale))
    nucleus = _nucleus(dice, look, half, scale) * cell
    cytoplasm = (cell - nucleus * 0.85) * (1 - _vacuoles(dice, look, half, scale) * 0.8)
    lilac = _specks(dice, shape, 0.1, 0.3 * scale) * look.fine
    orange = _specks(dice, shape, 3 / (scale * scale), 0.6 * scale) * look.coarse
    lace = _mottle(dice, shape, 0.45 * scale) * 0.4 + _mottle(dice, shape, 1.1 * scale) * 0.6
    cloud = _mottle(dice, shape, 1.5 * scale) * 0.5 + _mottle(dice, shape, 0.3 * scale) * 0.3 + 0.6
    layers = np.zeros((4, *shape))
    layers[_CHROMATIN] = nucleus * (1.2 - lace * look.lace) * look.chromatin
    layers[_CHROMATIN] += cytoplasm * (lilac * 0.16 + look.eosin * 0.12)
    layers[_BASOPHILIC] = cytoplasm * cloud * look.basophilic
    layers[_EOSIN] = cytoplasm * (cloud * look.eosin + orange * 0.65)
    field, part = _overlap(stains.shape[1:], half, *place[:2])
    window = stains[(slice(None), *field)]
    window[:] = np.rint(window * (1 - cell[part]) + layers[(slice(None), *part)] * 255).astype(np.int32)


def _nucleus(dice: _Dice, look: _Look, half: int, scale: float) -> Plane:
    """The nucleus 0..1: lobes along an arc, joined by strands or, where the waist is wide, a band or kidney."""
    radius, mask, (cosine, sine) = look.diameter_um / 2 * scale, _square(half), _directions()
    lobes, start, side = max(round(look.lobes), 1), dice.random(), int(dice.integers(2)) * 2 - 1
    nodes = []
    for number in range(lobes):
        turn = start + side * look.arc * number / max(lobes - 1, 1) + dice.between(-0.02, 0.02)
        away, k = radius * look.ring * dice.between(0.8, 1.2), round(turn * 64) % 64
        nodes.append((half + away * cosine[k], half + away * sine[k], radius * look.lobe * dice.between(0.85, 1.1)))
    for x, y, lobe in nodes:
        _fill(mask, _outline(dice, lobe, 0.1, dice.between(1, 1.15)), (x, y))
    for (x0, y0, r0), (x1, y1, r1) in pairwise(nodes):
        for step in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9):
            bulge = (2 * step - 1) * (2 * step - 1) * 0.6
            thick = (r0 + (r1 - r0) * step) * (look.waist + (1 - look.waist) * bulge)
            _fill(mask, _disc(thick), (x0 + (x1 - x0) * step, y0 + (y1 - y0) * step))
    return _share(_soften(mask, 0.1 * scale))


def _vacuoles(dice: _Dice, look: _Look, half: int, scale: float) -> Plane:
    """Small round holes 0..1 about the middle of the cell."""
    holes, reach = _square(half), look.diameter_um * 0.3 * scale
    for _ in range(round(look.vacuoles)):
        spot = half + dice.between(-reach, reach), half + dice.between(-reach, reach)
        _fill(holes, _disc(dice.between(0.25, 0.6) * scale), spot)
    return _share(_soften(holes, 0.1 * scale))


@cache
def _transmission() -> Mask:
    """Grey level for each step of absorbance. From 256, since a tenth of 255 would lie on a rounding edge."""
    levels = [min(round(256 * 10 ** (-k / _STEPS_PER_DECADE)), 255) for k in range(_DARKEST_STEP + 1)]
    return np.array(levels, np.uint8)


def _photograph(dice: _Dice, stains: Stains, scale: float) -> Mask:
    """Take a picture of stains, (4, height, width) with 255 for full stain: light, colours, focus, noise."""
    light = _light(dice, stains.shape[1:])
    dim, warm = dice.between(5, 70), dice.random()  # exposure; white balance from grey to cream
    tint = dim, dim + 30 * warm + dice.between(-6, 14), dim + 85 * warm + dice.between(-10, 20)
    strength = [dice.between(0.8, 1.2) for _ in range(4)]
    blueness = dice.between(0.5, 1.15)  # chromatin from blue to violet, by stain and camera
    picture = np.empty((*stains.shape[1:], 3), np.uint8)
    for channel in range(3):
        absorbed = light + round(tint[channel])
        for stain, plane in enumerate(stains):
            hue = blueness if (stain, channel) == (_CHROMATIN, 2) else 1.0
            absorbed += (plane * round(_ABSORBANCE[stain][channel] * strength[stain] * hue)) >> 8
        picture[..., channel] = _transmission().take(absorbed, mode="clip")
    defocus = dice.random()
    return _noisy(dice, _soften(picture, (0.06 + 0.22 * defocus * defocus * defocus) * scale))


def _light(dice: _Dice, shape: tuple[int, ...]) -> Stains:
    """Absorbance that stands for uneven light: darker away from a spot near the middle, and a little cloudy."""
    down, across = (np.arange(length) * (1 / length) - dice.between(0.3, 0.7) for length in shape)
    falloff = ((down * down)[:, None] + (across * across)[None, :]) * dice.between(20, 220)
    return np.rint(falloff + _mottle(dice, shape, shape[0] / 4) * 12).astype(np.int32)


def _noisy(dice: _Dice, picture: Mask) -> Mask:
    """Add sensor noise of 0.6 to 2.5 grey levels: the bits set in a random byte, a binomial near enough to normal."""
    level = dice.between(0.4, 1.8)
    table = np.array([round((octet.bit_count() - 4) * level) for octet in range(256)], np.int16)
    height, width, channels = picture.shape
    noise = table[dice.octets(height, width * channels)].reshape(picture.shape)
    noisy: Mask = np.clip(picture + noise, 0, 255).astype(np.uint8)
    return noisy
