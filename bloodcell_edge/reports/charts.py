"""Plots as SVG inside a page: no script, no library, light and dark. What goes in is plain text and numbers.

Colours are those of Okabe and Ito 2008 ("Color Universal Design"); lines differ in dashes and marks as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape

STYLE = """\
svg { display: block; width: 100%; max-width: 46rem; height: auto; font: 13px system-ui, "DejaVu Sans", sans-serif; }
svg text { fill: var(--ink); }
svg .soft { fill: var(--soft); }
svg .grid { stroke: var(--rule); }
svg .axis { stroke: var(--soft); }"""

_WIDTH, _HEIGHT = 736, 340  # pixels at full size
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 12, 48
_LEGEND_LINE = 20
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("", "7 4", "2 3", "9 3 2 3")
_TICKS = 6


@dataclass(frozen=True)
class Series:
    """A line: its name and its points in order.

    Attributes:
        sizes: area of the mark at each point, relative to a usual one; none: no marks.
        joined: draw the line between them.
    """

    name: str
    points: tuple[tuple[float, float], ...]
    sizes: tuple[float, ...] = ()
    joined: bool = True


@dataclass(frozen=True)
class Axis:
    """What an axis shows, from where to where; `ticks` None chooses round numbers."""

    title: str
    low: float
    high: float
    log: bool = False
    ticks: tuple[float, ...] | None = None

    def place(self, value: float) -> float:
        """0 at `low`, 1 at `high`."""
        scale: Callable[[float], float] = math.log if self.log else float
        return (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))

    def marks(self) -> tuple[float, ...]:
        """Values with a grid line."""
        chosen = self.ticks or (log_ticks if self.log else ticks)(self.low, self.high)
        return tuple(value for value in chosen if self.low <= value <= self.high)


def axis(title: str, values: Iterable[float], *, log: bool = False, zero: bool = False, least: float = 0.0) -> Axis:
    """An axis with room for these values, from 0 on where asked; a lone value gets room on both sides.

    At least so much is shown, that a small difference does not look large.
    """
    known = list(values)
    low, high = min(known), max(known)
    if log:
        return Axis(title, low / 1.1, high * 1.1, log=True)
    room = max(0.08 * (high - low), (least - high + low) / 2) or 0.1 * abs(high) or 1.0
    return Axis(title, 0.0 if zero else low - room, high + room)


def ticks(low: float, high: float, most: int = _TICKS) -> tuple[float, ...]:
    """Multiples of 1, 2 or 5 times a power of ten, at most so many and one more."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= raw)
    first = math.ceil(low / step - 1e-9)
    return tuple(number * step for number in range(first, math.floor(high / step + 1e-9) + 1))


def log_ticks(low: float, high: float) -> tuple[float, ...]:
    """1, 2 and 5 times powers of ten; where fewer than four of those lie within, round numbers."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = tuple(step * 10.0**power for power in powers for step in (1, 2, 5) if low <= step * 10.0**power <= high)
    return found if len(found) > 3 else ticks(low, high)


def chart(caption: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """A figure with its legend and caption, as HTML."""
    told = escape(caption)
    height = _HEIGHT + _LEGEND_LINE * len(series)
    drawn = [*_grid(x, y), *(part for number, one in enumerate(series) for part in _line(number, one, x, y))]
    legend = [part for number, one in enumerate(series) for part in _legend(number, one)]
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{told}">\n'
        + "\n".join([*drawn, *legend])
        + f"\n</svg><figcaption>{told}</figcaption></figure>"
    )


def _x(value: float, x: Axis) -> float:
    return round(_LEFT + x.place(value) * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(value: float, y: Axis) -> float:
    return round(_HEIGHT - _BOTTOM - y.place(value) * (_HEIGHT - _TOP - _BOTTOM), 1)


def _grid(x: Axis, y: Axis) -> Iterable[str]:
    left, right, bottom = _LEFT, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    for value in y.marks():
        at = _y(value, y)
        yield f'<line class="grid" x1="{left}" x2="{right}" y1="{at}" y2="{at}"/>'
        yield f'<text class="soft" x="{left - 8}" y="{at + 4}" text-anchor="end">{value:g}</text>'
    for value in x.marks():
        at = _x(value, x)
        yield f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{bottom}"/>'
        yield f'<text class="soft" x="{at}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>'
    yield f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>'
    yield f'<text x="{(left + right) / 2}" y="{bottom + 40}" text-anchor="middle">{escape(x.title)}</text>'
    middle = (_TOP + bottom) / 2
    yield f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(y.title)}</text>'


def _line(number: int, series: Series, x: Axis, y: Axis) -> Iterable[str]:
    colour, dashes = _look(number)
    places = [(_x(a, x), _y(b, y)) for a, b in series.points]
    if series.joined:
        along = " ".join(f"{a},{b}" for a, b in places)
        yield f'<polyline points="{along}" fill="none" stroke="{colour}" stroke-width="2" {dashes}/>'
    for (a, b), size in zip(places, series.sizes, strict=False):
        yield f'<circle cx="{a}" cy="{b}" r="{5 * math.sqrt(size):.1f}" fill="{colour}" fill-opacity="0.75"/>'


def _legend(number: int, series: Series) -> Iterable[str]:
    colour, dashes = _look(number)
    at = _HEIGHT + _LEGEND_LINE * number + 8
    if series.joined:
        yield f'<line x1="{_LEFT}" x2="{_LEFT + 32}" y1="{at}" y2="{at}" stroke="{colour}" stroke-width="3" {dashes}/>'
    else:
        yield f'<circle cx="{_LEFT + 16}" cy="{at}" r="5" fill="{colour}" fill-opacity="0.75"/>'
    yield f'<text x="{_LEFT + 40}" y="{at + 4}">{escape(series.name)}</text>'


def _look(number: int) -> tuple[str, str]:
    """Colour and dashes: no two of the first 12 lines are alike in both."""
    dashes = _DASHES[number % len(_DASHES)]
    return _COLOURS[number % len(_COLOURS)], f'stroke-dasharray="{dashes}"' if dashes else ""
