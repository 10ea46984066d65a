"""Drawn fields as if from a camera, with known truth: for tests, examples, demonstrations and dry runs.

``fake:smear``                every frame is another field with `cells` white cells
``fake:smear?stage=scan``     one large drawn smear under a stage that goes over it field by field and rests on each
``fake:smear?stage=still``    the same under a stage that never moves

A seed gives the same pixels each time. Frames are `fps` to the second on the source's own clock; with ``pace=0`` it is
not waited for, an hour passes as fast as it can be drawn, and the clock starts at a fixed moment, so that two runs are
alike to the last digit.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import SourceError
from ..imaging.drawn import LABELS, DrawnCell, DrawnField, draw_field
from ..records import Frame
from ..text import now
from .base import BaseSource
from .url import SourceUrl, option

if TYPE_CHECKING:
    from ..imaging.image import Image

# Shares of adult blood (Bain, Blood Cells), the four alone: so drawn fields ask for as many of each as a smear does.
_SHARES = {"EOSINOPHIL": 0.03, "LYMPHOCYTE": 0.31, "MONOCYTE": 0.06, "NEUTROPHIL": 0.6}
_EPOCH = datetime(2024, 1, 1, tzinfo=timezone.utc)
_MOVING = 3  # frames from one field to the next
_NOISE = 3  # grey levels, either way, by which two frames of one field differ


@dataclass(frozen=True)
class FakeOptions:
    """Settings of the drawn camera.

    Attributes:
        cells: white cells a field; with a stage, as many to a field's area.
        fps: frames a second; 0 is ``fps=10&pace=0``.
        seed: decides all that is drawn.
        count: frames until it ends; None: a scan ends with its last field, others do not.
        width, height: of a field, pixels.
        um_per_px: scale; None: 0.15, under a stage 0.25, so that what two fields share has room for a whole cell.
        pace: wait for each frame's time.
        stage: none, scan or still.
        overlap: share of a field that the next one shows again.
        columns, rows: fields of a scan; it goes through the rows to and fro.
        rest: frames that the stage rests on a field.
    """

    cells: int = option(3, least=0, most=100)
    fps: float = option(10.0, least=0, most=1000)
    seed: int = option(1, least=0, most=2**63)
    count: int | None = option(None, least=0, most=1e12)
    width: int = option(320, least=16, most=4000)
    height: int = option(240, least=16, most=4000)
    um_per_px: float | None = option(None, least=0.02, most=2)
    pace: bool = option(True)
    stage: str = option("none", among=("none", "scan", "still"))
    overlap: float = option(0.3, least=0, most=0.9)
    columns: int = option(5, least=1, most=50)
    rows: int = option(4, least=1, most=50)
    rest: int = option(4, least=1, most=10_000)

    @property
    def scale(self) -> float:
        """Scale, µm per pixel."""
        return self.um_per_px or (0.15 if self.stage == "none" else 0.25)


def from_url(url: SourceUrl, **callbacks: Any) -> FakeSource:
    """The source of a ``fake:`` URL; `callbacks` are `notice` and `idle` of `open_source`."""
    if url.place != "smear":
        message = f"source {url.name!r}: expected fake:smear, found {url.place!r}"
        raise SourceError(message)
    return FakeSource(url.name, url.options(FakeOptions), **callbacks)


class FakeSource(BaseSource):
    """The drawn camera. Nothing is ever dropped.

    Attributes:
        world: with a stage, the whole drawn smear and its cells.
    """

    def __init__(self, name: str, options: FakeOptions, **callbacks: Any) -> None:
        super().__init__(name, **callbacks)
        self._options = options
        self._pace = options.pace and options.fps > 0
        self._fps = options.fps or 10.0
        self._places = _path(options) if options.stage == "scan" else [(0, 0)]
        self.live = options.stage != "none"
        self._count = len(self._places) if options.stage == "scan" and options.count is None else options.count
        self.endless = self._count is None

    @cached_property
    def world(self) -> DrawnField:
        """The whole drawn smear that the stage moves over; SourceError without a stage."""
        options = self._options
        if not self.live:
            message = f"{self.name}: there is no stage; expected stage=scan or stage=still"
            raise SourceError(message)
        height = max(y for _, y in self._places) + options.height
        width = max(x for x, _ in self._places) + options.width
        fields = height * width / (options.height * options.width)
        labels = _labels(options.seed, round(options.cells * fields))
        return draw_field(options.seed, labels, size=(height, width), um_per_px=options.scale)

    def truth(self, number: int) -> tuple[DrawnCell, ...]:
        """The white cells in frame `number`, 1 being the first; under a stage those of the world that lie wholly in it.

        Boxes are in pixels of the frame.
        """
        options = self._options
        if not self.live:
            return self._field(number).cells
        left, top = self._places[(number - 1) % len(self._places)]
        moved = (DrawnCell(c.label, c.x - left, c.y - top, c.width, c.height) for c in self.world.cells)
        return tuple(cell for cell in moved if _inside(cell, options.width, options.height))

    def true_cells(self) -> int:
        """How many different cells of the world lie wholly in at least one field that the stage rests on."""
        options = self._options
        stops = _stops(options) if options.stage == "scan" else self._places
        return sum(
            any(
                left <= cell.x <= left + options.width - cell.width
                and top <= cell.y <= top + options.height - cell.height
                for left, top in stops
            )
            for cell in self.world.cells
        )

    def _frames(self) -> Iterator[Frame]:
        start_at = now() if self._pace else _EPOCH
        start_ns = time.monotonic_ns() if self._pace else 0
        while not self._stopped.is_set() and self._frames_given != self._count:
            number = self._frames_given + 1
            passed_s = (number - 1) / self._fps
            image = self._image(number)
            while self._pace and (left := start_ns / 1e9 + passed_s - time.monotonic()) > 0:
                self._pause(left)
                if self._stopped.is_set():
                    return
            taken_ns = start_ns + round(passed_s * 1e9)
            yield Frame(image, start_at + timedelta(seconds=passed_s), taken_ns, self._next_number())

    def _image(self, number: int) -> Image:
        if not self.live:
            return self._field(number).image
        options = self._options
        left, top = self._places[(number - 1) % len(self._places)]
        seen = self.world.image[top : top + options.height, left : left + options.width]
        dice = np.random.Generator(np.random.PCG64((options.seed, number)))
        noise = dice.integers(-_NOISE, _NOISE, seen.shape, np.int16, endpoint=True)
        noisy: Image = np.clip(seen + noise, 0, 255).astype(np.uint8)
        return noisy

    def _field(self, number: int) -> DrawnField:
        options = self._options
        own_seed = int.from_bytes(hashlib.sha256(f"{options.seed}/{number}".encode()).digest()[:6], "big")
        labels = _labels(own_seed, options.cells)
        return draw_field(own_seed, labels, size=(options.height, options.width), um_per_px=options.scale)


def _labels(seed: int, count: int) -> list[str]:
    """White cells as blood has them."""
    dice = np.random.Generator(np.random.PCG64(seed))
    return [LABELS[k] for k in dice.choice(len(LABELS), count, p=[_SHARES[label] for label in LABELS])]


def _stops(options: FakeOptions) -> list[tuple[int, int]]:
    """Upper left corner (x, y) of each field of a scan: row by row, to and fro."""
    across, down = (round(length * (1 - options.overlap)) for length in (options.width, options.height))
    return [
        (across * (column if row % 2 == 0 else options.columns - 1 - column), down * row)
        for row in range(options.rows)
        for column in range(options.columns)
    ]


def _path(options: FakeOptions) -> list[tuple[int, int]]:
    """Where the field's upper left corner is at each frame of a scan: it rests on each stop, then moves to the next."""
    stops = _stops(options)
    places = [stops[0]] * options.rest
    for (x, y), (next_x, next_y) in pairwise(stops):
        for step in range(1, _MOVING + 1):
            share = step / (_MOVING + 1)
            places.append((round(x + (next_x - x) * share), round(y + (next_y - y) * share)))
        places += [(next_x, next_y)] * options.rest
    return places


def _inside(cell: DrawnCell, width: int, height: int) -> bool:
    return cell.x >= 0 and cell.y >= 0 and cell.x + cell.width <= width and cell.y + cell.height <= height
