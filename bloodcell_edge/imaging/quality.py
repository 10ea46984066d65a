"""Is a field fit to be counted? Each question gets a verdict with its number and its limit.

A refused field is not thrown away: the caller stores it with the reason. Limits are values, so that a site can set its
own; the defaults are measured (see `QualityLimits`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PictureError
from .hashes import perceptual_hash
from .light import STEPS, Halves, decades, lit
from .ranks import by_level, level_reaching

if TYPE_CHECKING:
    from .image import Image


@dataclass(frozen=True)
class QualityLimits:
    """What a field must hold. 0 asks for nothing; 1 of `bright`, `swapped` and `negative`; infinity of `cast`.

    The defaults were set on the odd-numbered BCCD photographs and 110 PBC pictures. Of the 143 even-numbered ones and
    of 110 other PBC pictures none is refused. Refused of the same, spoiled (benchmarks/locate_truth.py --only quality):

    - blurred by a Gaussian of 0.08 red cells: 77 % and 24 %; of 0.12: 96 % and 86 %; of 0.18: 97 % and 95 %;
    - a fifth of the light: all; two fifths, on which cells are still found: none;
    - 1.3 times the light: 1 % and 52 %, 1.5 times: 94 % and 97 %, 1.8 times: all (PBC pictures are the brighter ones);
    - a yellow lamp (blue 0.41 of red): all; a warm one (0.58): none;
    - hashes of different photographs differ by 40 bits or more, of one with new noise by 4, moved by 4 pixels by 14.

    Attributes:
        focus: least sharpness of edges, in edges that fit beside each other into a red cell (see `sharpness`).
        dark: least brightness of the empty field, 0..1 of full scale.
        bright: largest share of pixels whose green, where cells show best, is at the end of the scale, 0..1.
        cast: largest ratio of two colours of the empty field.
        empty: least share of the field that is stained, 0..1; fields of the two sets have 0.22 to 0.74.
        repeated: least bits, of 128, by which the field must differ from every earlier one.
        colour: least colour of what is stained, 0..1 (see `Stain`); a grey picture has 0, whole fields 0.45 and more.
        swapped: how far nuclei may be redder than what is pale, decades of absorbance; of red and blue exchanged it is
            0.1 and more, of whole fields 0.
        negative: how far below the brightest the commonest brightness may be, 0..1: the empty field is bright and
            common; it is 0.8 and more in nearly all negatives, 0.64 and less in whole fields.
    """

    focus: float = 3.2
    dark: float = 0.25
    bright: float = 0.5
    cast: float = 2.2
    empty: float = 0.03
    repeated: float = 21
    colour: float = 0.1
    swapped: float = 0.06
    negative: float = 0.8


@dataclass(frozen=True)
class Verdict:
    """The answer to one question.

    Attributes:
        name: one of the attributes of `QualityLimits`.
        number: what was measured.
        limit: what it was held against.
        passed: the field is fit in this respect.
    """

    name: str
    number: float
    limit: float
    passed: bool


@dataclass(frozen=True)
class Quality:
    """All verdicts on one field.

    Attributes:
        verdicts: one for each limit, in the order of `QualityLimits`.
        fingerprint: what later fields are compared with, 16 bytes; empty where none was asked for.
    """

    verdicts: tuple[Verdict, ...]
    fingerprint: bytes = field(repr=False)

    @property
    def passed(self) -> bool:
        """All verdicts passed."""
        return all(verdict.passed for verdict in self.verdicts)

    @property
    def reason(self) -> str:
        """What did not pass, such as ``"focus 0.41 (limit 1)"``; empty where all passed."""
        return ", ".join(f"{v.name} {v.number:.3g} (limit {v.limit:.3g})" for v in self.verdicts if not v.passed)


_RED_CELL_PX = 50  # pixels; the picture is halved until a red cell's diameter is below this
_RED_CELL_SHARE = 0.18  # of the picture's shorter side, where its size is not known (0.2 in BCCD and in PBC)
_PALE = STEPS // 16  # absorbance of red and green together; red cells have 0.09 to 0.2 decades
_BITS = 128  # of a fingerprint
_FEW = 50  # stained pixels, below which nothing is said of them
_BRIGHT_RANK = 5  # per cent of the pixels are brighter than the empty field is taken for
_FLAT = 5  # pixels each way: where no brightness changes over so much lies a border that was drawn
_FADED = 3  # grey levels: fields with less contrast show nothing that could be sharp


def judge(
    image: Image,
    *,
    red_cell_px: float | None = None,
    earlier: Collection[bytes] | None = (),
    limits: QualityLimits | None = None,
    halves: Halves | None = None,
) -> Quality:
    """Hold a field against limits.

    Args:
        image: uint8 RGB, shape (height, width, 3), at least 16 pixels each way.
        red_cell_px: diameter of a red cell in pixels, as `locate` gives it; without it a usual magnification is taken.
        earlier: fingerprints of the fields that this one may not repeat; None where fields do not come again: then
            there is no fingerprint, and `repeated` is as of a field like no other.
        limits: other than the usual ones.
        halves: what `locate` made of this picture, see `Located`.

    Returns:
        A verdict for each limit.

    Raises:
        PictureError: not such a picture.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < 16:
        message = f"cannot judge {image.dtype} of shape {image.shape}; expected uint8 RGB, at least 16 x 16 pixels"
        raise PictureError(message)
    limits = limits or QualityLimits()
    halves = halves if halves is not None and halves.image is image else Halves(image)
    halvings, scale = _reduced(image, red_cell_px)
    small = lit(halves.at(halvings))
    counts = [by_level(small, channel) for channel in range(3)]
    light = [max(level_reaching(channel, 19, 20), 1) for channel in counts]
    fingerprint = b"" if earlier is None else perceptual_hash(image).tobytes()
    stain = Stain.of(small)
    most = {
        "bright": float(counts[1][-1] / counts[1].sum()),
        "cast": max(light) / min(light),
        "swapped": stain.swapped,
        "negative": stain.negative,
    }
    least = {
        "focus": sharpness(small, scale),
        "dark": max(light) / 255,
        "empty": _stained_share(halves, halvings) if small is halves.at(halvings) else _stained_share(Halves(small), 0),
        "repeated": float(_difference(fingerprint, earlier or ())),
        "colour": stain.colour,
    }
    verdicts = []
    for name, limit in asdict(limits).items():
        number = most[name] if name in most else least[name]
        verdicts.append(Verdict(name, number, limit, number <= limit if name in most else number >= limit))
    return Quality(tuple(verdicts), fingerprint)


@dataclass(frozen=True)
class Stain:
    """Whether a picture can be of a stained smear in bright field, by the absorbance of what is stained.

    Romanowsky dyes and haemoglobin absorb green most; nuclei absorb red, too, and red cells blue.

    Attributes:
        colour: difference of the most and the least absorbed colour over the most absorbed one, at the 95th percentile
            of the stained pixels; 1 where nothing is stained.
        swapped: absorbance of blue over red in the darkest stained pixels, less that of the palest half, decades; 0
            where the stained pixels absorb more blue than red, as red cells do.
        negative: how far below the brightest (99th percentile of green) the commonest brightness is, of the range from
            the 1st.
    """

    colour: float
    swapped: float
    negative: float

    @classmethod
    def of(cls, small: Image) -> Stain:
        """Measure a picture, uint8 RGB, shape (height, width, 3), with red cells of 25 to 50 pixels."""
        absorbed = decades()[small[::2, ::2]].reshape(-1, 3).astype(np.int32)  # enough, in a quarter of the time
        above = absorbed - np.percentile(absorbed, _BRIGHT_RANK, axis=0).astype(np.int32)
        stained = above[above[:, 1] >= _PALE]
        if len(stained) < _FEW:
            return cls(1.0, 0.0, _below_brightest(small))
        most, least = stained.max(axis=1), stained.min(axis=1)
        colour = np.percentile((most - least) / most, 95)
        redder = stained[:, 2] - stained[:, 0]
        dark, pale = (np.percentile(stained[:, 1], rank) for rank in (97, 50))
        turn = np.median(redder[stained[:, 1] >= dark]) - np.median(redder[stained[:, 1] <= pale])
        swapped = float(turn) / STEPS if np.median(redder) < 0 else 0.0
        return cls(min(float(colour), 1.0), max(swapped, 0.0), _below_brightest(small))


def _below_brightest(small: Image) -> float:
    import cv2

    green = cv2.extractChannel(small, 1)
    window = np.ones((_FLAT, _FLAT), np.uint8)
    changes = cv2.dilate(green, window) != cv2.erode(green, window)
    levels = green[changes] if np.count_nonzero(changes) > green.size // 4 else green.ravel()
    low, high = np.percentile(levels, (1, 99))
    common = int(np.convolve(np.bincount(levels, minlength=256), np.ones(9, np.int64), "same").argmax())
    return min(max(float((high - common) / max(high - low, 1)), 0.0), 1.0)


def _reduced(image: Image, red_cell_px: float | None) -> tuple[int, float]:
    """How often to halve it until red cells have about the same size, and their diameter then, pixels."""
    height, width = image.shape[:2]
    diameter = red_cell_px or _RED_CELL_SHARE * min(height, width)
    halvings = 0
    while diameter >= _RED_CELL_PX and min(height, width) >= 32:
        height, width, diameter, halvings = (height + 1) // 2, (width + 1) // 2, diameter / 2, halvings + 1
    return halvings, diameter


def sharpness(image: Image, red_cell_px: float) -> float:
    """How many of the sharpest edges would fit beside each other into a red cell.

    The steepest slopes of green (the 0.5 % steepest pixels begin there) over the picture's contrast (1st to 99th
    percentile) is one over the width of an edge; in red-cell diameters it depends neither on stain nor magnification.
    The variance of the Laplacian, the usual measure (Pech-Pacheco 2000, ICPR 3:314), was tried first, also over
    contrast: on these photographs noise and rounding hid the blur.

    Args:
        image: uint8 RGB, shape (height, width, 3).
        red_cell_px: diameter of a red cell in this picture, pixels; 25 to 50 is best.

    Returns:
        Edges a red cell; 0 where the picture shows nothing.
    """
    import cv2

    green: Any = cv2.GaussianBlur(cv2.extractChannel(image, 1), (3, 3), 0)
    levels = by_level(green)
    contrast = level_reaching(levels, 99, 100) - level_reaching(levels, 1, 100)
    if contrast < _FADED:
        return 0.0
    across = cv2.absdiff(green[1:-1, 2:], green[1:-1, :-2])
    down = cv2.absdiff(green[2:, 1:-1], green[:-2, 1:-1])
    slope = level_reaching(by_level(cv2.max(across, down)), 199, 200) / 2
    return slope / contrast * red_cell_px


def _stained_share(halves: Halves, halvings: int) -> float:
    """Share of the field that absorbs as much as a pale red cell, uneven light taken off."""
    more = min(halves.at(halvings).shape[:2]) >= 32
    absorbed = halves.absorbed(halvings + more)[..., 0]
    return float(np.count_nonzero(absorbed >= _PALE) / absorbed.size)


def _difference(fingerprint: bytes, earlier: Collection[bytes]) -> int:
    """Bits to the most similar earlier field; all 128 where there is none."""
    own = int.from_bytes(fingerprint, "big")
    return min(((own ^ int.from_bytes(other, "big")).bit_count() for other in earlier), default=_BITS)
