"""The sheet that plots are drawn on: its size, colours, head and legend."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from matplotlib import style
from matplotlib.figure import Figure
from matplotlib.transforms import IdentityTransform, blended_transform_factory

from ..files import beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes


BLUE, ORANGE, PURPLE = "#0072b2", "#d55e00", "#aa4499"
INK, SOFT, RULE = "#1a1a1a", "#5a5a5a", "#d9d9d9"
_DPI = 72  # a point is a pixel: sizes below are pixels
_STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelpad": 8,
    "axes.labelsize": 14,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 13,
    "grid.color": RULE,
    "legend.fontsize": 13,
    "legend.frameon": False,
    "lines.linewidth": 2.2,
    "lines.markersize": 6,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a file name is a dollar
    "xtick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.color": SOFT,
    "ytick.labelcolor": INK,
}


@contextmanager
def sheet(path: str | Path, width: int, height: int) -> Iterator[Figure]:
    """A white figure of so many pixels in the house's style, written whole to `path` when the block ends well."""
    with style.context(_STYLE, after_reset=True), beside(path) as temporary:
        figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
        yield figure
        with warnings.catch_warnings():  # a file name in letters that the font lacks shows boxes, and that is all
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
            figure.savefig(temporary, metadata={"Software": None})


def place(figure: Figure, left: float, top: float, right: float, bottom: float, **options: Any) -> Axes:
    """Axes between edges in pixels, counted from the upper left corner."""
    width, height = figure.get_size_inches() * _DPI
    box = (left / width, 1.0 - bottom / height, (right - left) / width, (bottom - top) / height)
    return figure.add_axes(box, **options)


def head(figure: Figure, title: str, *lines: str) -> None:
    """The title, and lines below it, in the upper left corner."""
    top, pixels = float(figure.get_size_inches()[1]) * _DPI, IdentityTransform()
    figure.text(15, top - 16, title, transform=pixels, size=19, weight="bold", va="top")
    for number, line in enumerate(lines):
        figure.text(16, top - 48 - 20 * number, line, transform=pixels, color=SOFT, va="top")


def name_height(axes: Axes, text: str) -> None:
    """Name the upright axis, at the left edge of the sheet, so that names of axes one above the other align."""
    axes.set_ylabel(text)
    axes.yaxis.set_label_coords(24, 0.5, transform=blended_transform_factory(IdentityTransform(), axes.transAxes))


def legend(figure: Figure, axes: Axes, top: float) -> None:
    """What the lines and bars of `axes` are, each once, in a row that begins `top` pixels below the upper edge."""
    found = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    anchor = (10.0, float(figure.get_size_inches()[1]) * _DPI - top)
    figure.legend(
        found.values(), found.keys(), loc="upper left", bbox_to_anchor=anchor, bbox_transform=IdentityTransform(),
        ncols=max(len(found), 1), borderaxespad=0.0, borderpad=0.0, columnspacing=1.6,
    )  # fmt: skip


def fitting(size: float, width: float, *texts: str) -> float:
    """The largest size in pixels, up to `size`, at which texts fit a width: a bold capital is 0.66 of its size wide."""
    return min(size, width / (0.66 * max((len(text) for text in texts), default=1)))
