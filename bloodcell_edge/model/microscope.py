"""What is one thing over a slide: its magnification, its lamp, and what stands still in every field.

A field alone guesses its scale from the few red cells that it shows. The fields of a slide share a microscope, so that
the median of their guesses is far closer, and a field that contradicts it shows another objective or another lamp. What
comes at the same place with the same look in most fields (a pointer, a scale bar, dust) lies in the microscope, and is
no cell.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from ..imaging.image import resize
from ..imaging.located import Located, Rectangle, overlap
from ..imaging.ranks import ranked

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image

POOL = 20
"""Fields that are looked at together before any is named; after each so many the estimate is made anew."""

REMEMBERED = 200
"""Fields, the last before a block, that its estimate is made of: it follows a lamp that is turned up, and a run of days
holds no more than these."""

FEWEST = 3
"""Fields that tell their scale, from which they are pooled."""

HELD_BYTES = 256_000_000
"""Of pictures that are held for that: large ones are looked at in smaller groups."""

_AGREE = 1.25  # times, within which half of the single rulers must lie around their median: else they are not pooled
_ANOTHER_OBJECTIVE = 1.5  # times, by which a ruler is off where a field is of another magnification
_ANOTHER_LAMP = 40  # grey levels of any colour of the white point
_WHITE_RANK = 95  # per cent of a picture's pixels are darker than its white point
_LOOK = 8  # pixels of the side of a thumbnail
_SAME_PLACE = 0.7  # intersection over union
_SAME_LOOK = 6.0  # grey levels, mean difference of thumbnails
_MOST_FIELDS = 0.6  # of the fields, in which what stands still is seen
_FEWEST_STILL = 5  # fields, from which that can be told


@dataclass(frozen=True)
class Thing:
    """A box in a field, and a thumbnail of what is in it: uint8 grey levels, row by row."""

    box: Rectangle
    look: bytes

    def is_same(self, other: Thing) -> bool:
        """The same look at the same place."""
        if overlap(self.box, other.box) < _SAME_PLACE:
            return False
        one, two = (np.frombuffer(look, np.uint8).astype(np.int16) for look in (self.look, other.look))
        return float(np.abs(one - two).mean()) <= _SAME_LOOK


@dataclass(frozen=True)
class FirstLook:
    """What one field says of the microscope by itself.

    Attributes:
        size: (height, width) of the picture, pixels.
        red_cell_px: diameter of a red cell, pixels; None where it does not tell.
        white: its white point, (red, green, blue).
        things: what was located in it.
    """

    size: tuple[int, int]
    red_cell_px: float | None
    white: tuple[int, int, int]
    things: tuple[Thing, ...] = ()

    @classmethod
    def of(cls, image: Image, located: Located) -> FirstLook:
        """Of a picture, uint8 RGB, and what was located in it."""
        height, width = image.shape[:2]
        step = max(min(height, width) // 48, 1)
        coarse = image[::step, ::step]
        red, green, blue = (int(ranked(coarse[..., channel], _WHITE_RANK, 100)) for channel in range(3))
        things = tuple(Thing(box.rectangle, _thumbnail(image, box.rectangle)) for box in located.cells)
        return cls((height, width), located.red_cell_px, (red, green, blue), things)

    def as_text(self) -> str:
        """For a store."""
        things = [[*thing.box, thing.look.hex()] for thing in self.things]
        return json.dumps([list(self.size), self.red_cell_px, list(self.white), things])

    @classmethod
    def from_text(cls, text: str) -> FirstLook:
        """As `as_text` wrote it."""
        size, red_cell_px, white, things = json.loads(text)
        kept = tuple(Thing((x, y, wide, tall), bytes.fromhex(look)) for x, y, wide, tall, look in things)
        return cls(tuple(size), red_cell_px, tuple(white), kept)


def _thumbnail(image: Image, box: Rectangle) -> bytes:
    x, y, width, height = box
    part = resize(np.ascontiguousarray(image[y : y + height, x : x + width]), (_LOOK, _LOOK))
    grey: bytes = part.mean(axis=2).astype(np.uint8).tobytes()
    return grey


@dataclass(frozen=True)
class Ruler:
    """The scale of pictures of one size.

    Attributes:
        red_cell_px: diameter of a red cell, pixels: the median of what single fields say.
        fields: that tell it.
        spread: 90th over 10th percentile of what they say.
    """

    red_cell_px: float
    fields: int
    spread: float


@dataclass(frozen=True)
class Microscope:
    """What fields of one slide say together.

    Attributes:
        fields: it is of so many.
        rulers: (height, width) of pictures -> their scale; pictures that disagree with each other have none.
        white: the median white point, (red, green, blue); None without fields.
        still: (height, width) of pictures -> boxes of what stands still in them.
    """

    fields: int = 0
    rulers: Mapping[tuple[int, int], Ruler] = field(default_factory=dict)
    white: tuple[int, int, int] | None = None
    still: Mapping[tuple[int, int], tuple[Thing, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, looks: Sequence[FirstLook]) -> Microscope:
        """What these fields say together; their order says nothing."""
        by_size: dict[tuple[int, int], list[FirstLook]] = defaultdict(list)
        for look in looks:
            by_size[look.size].append(look)
        rulers = {size: ruler for size, some in by_size.items() if (ruler := _ruler(some)) is not None}
        still = {size: found for size, some in by_size.items() if (found := _still(some))}
        white = None
        if looks:
            red, green, blue = (int(median(look.white[channel] for look in looks)) for channel in range(3))
            white = red, green, blue
        return cls(len(looks), rulers, white, still)

    def applied(self, look: FirstLook, located: Located) -> Located:
        """What was located in a field, by the slide's scale and without what stands still.

        A field whose own scale is far from it is of another magnification, and keeps its own.
        """
        still = self.still.get(look.size, ())
        gone = {thing.box for thing in look.things if any(thing.is_same(one) for one in still)}
        cells = tuple(box for box in located.cells if box.rectangle not in gone)
        return replace(located, cells=cells, red_cell_px=self.red_cell_px(look))

    def red_cell_px(self, look: FirstLook) -> float | None:
        """The scale of a field: the slide's, or its own where they contradict each other."""
        ruler = self.rulers.get(look.size)
        if ruler is None or (look.red_cell_px is not None and _apart(look.red_cell_px, ruler.red_cell_px)):
            return look.red_cell_px
        return ruler.red_cell_px

    def contradiction(self, look: FirstLook) -> str:
        """What of a field does not fit the slide, with numbers; empty where all does."""
        ruler = self.rulers.get(look.size)
        if ruler is not None and look.red_cell_px is not None and _apart(look.red_cell_px, ruler.red_cell_px):
            return (
                f"red cells of {look.red_cell_px:.0f} px where {ruler.fields} fields have {ruler.red_cell_px:.0f}: "
                "another objective? The field keeps its own scale"
            )
        if self.white is not None and self.fields >= FEWEST:
            off = max(abs(one - other) for one, other in zip(look.white, self.white, strict=True))
            if off > _ANOTHER_LAMP:
                return f"white is {look.white} where {self.fields} fields have {self.white}: another lamp?"
        return ""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "fields": self.fields,
            "rulers": [{"height": size[0], "width": size[1], **asdict(ruler)} for size, ruler in self.rulers.items()],
            "white": None if self.white is None else list(self.white),
            "still": [list(thing.box) for things in self.still.values() for thing in things],
        }


def _ruler(looks: Sequence[FirstLook]) -> Ruler | None:
    logs = [math.log(look.red_cell_px) for look in looks if look.red_cell_px]
    if len(logs) < FEWEST:
        return None
    middle = median(logs)
    if 2 * sum(abs(one - middle) <= math.log(_AGREE) for one in logs) < len(logs):
        return None
    low, high = np.percentile(logs, (10, 90))
    return Ruler(round(math.exp(middle), 3), len(logs), round(math.exp(float(high - low)), 3))


def _still(looks: Sequence[FirstLook]) -> tuple[Thing, ...]:
    """Things that most fields have; each once, as the first field shows it. Many fields are told by some of them."""
    looks = looks[:: -(-len(looks) // REMEMBERED)] if looks else looks
    needed = max(_FEWEST_STILL, math.ceil(_MOST_FIELDS * len(looks)))
    things = [thing for look in looks for thing in look.things]
    if len(looks) < needed or len(things) < needed:
        return ()
    fields = np.repeat(np.arange(len(looks)), [len(look.things) for look in looks])
    boxes = np.array([thing.box for thing in things], np.float32)
    seen = np.frombuffer(b"".join(thing.look for thing in things), np.uint8).reshape(len(things), -1).astype(np.int16)
    found: list[int] = []
    first_ones = int((fields <= len(looks) - needed).sum())  # what begins later cannot be in so many
    for place in range(first_ones):
        same = np.flatnonzero(_overlaps(boxes[place], boxes) >= _SAME_PLACE)
        if len(same) < needed:
            continue
        same = same[np.abs(seen[same] - seen[place]).mean(axis=1) <= _SAME_LOOK]
        if len(np.unique(fields[same])) >= needed and not set(same.tolist()).intersection(found):
            found.append(place)
    return tuple(things[place] for place in found)


def _overlaps(box: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """`located.overlap` of one box with many, shape (n,)."""
    ends = np.minimum(box[:2] + box[2:], others[:, :2] + others[:, 2:])
    shared = np.clip(ends - np.maximum(box[:2], others[:, :2]), 0, None).prod(axis=1)
    overlaps: NDArray[np.float32] = shared / (box[2] * box[3] + others[:, 2] * others[:, 3] - shared)
    return overlaps


def _apart(one: float, other: float) -> bool:
    return max(one / other, other / one) > _ANOTHER_OBJECTIVE


def asked_of(number: int, block: int) -> range:
    """Which fields, counted from 0, the estimate for one is made of: the last `REMEMBERED` of whole blocks before it.

    The first block knows itself. Where fields are named as they come (`block` is 1), each of the first `POOL` knows all
    before it.

    Args:
        number: of the field, from 1.
        block: fields that are looked at together.
    """
    step = block if number <= POOL else max(POOL // block, 1) * block
    stop = max(step * ((number - 1) // step), block)
    return range(max(stop - REMEMBERED, 0), stop)


def block_of(size: tuple[int, int], together: int = POOL) -> int:
    """How many pictures of (height, width) are looked at together: as many as are asked for, or can be held."""
    return max(min(together, HELD_BYTES // (3 * size[0] * size[1])), 1)
