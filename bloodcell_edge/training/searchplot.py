"""The plot of a search: accuracy against latency, and which candidates nothing beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.ticker import PercentFormatter

from .plots import BLUE, ORANGE, PURPLE, _head, _legend, _name_height, _place, _sheet

_RUNGS = {1: (BLUE, "o"), 2: (PURPLE, "s"), 3: (ORANGE, "D")}
"""Colour and mark of each rung."""

_WHAT = {1: "heads on frozen features", 2: "short fine-tuning", 3: "whole recipe"}
_AREA_PER_MB = 40.0  # square pixels: the sign of a file of 2.8 MB is about 11 across


@dataclass(frozen=True)
class Point:
    """One candidate on one rung.

    Attributes:
        rung: 1 to 3.
        accuracy: balanced, 0..1.
        latency_ms: of one int8 invoke.
        bytes: of the int8 file.
        front: nothing on its rung beats it.
        name: written beside it where it is on the front of the highest rung.
    """

    rung: int
    accuracy: float
    latency_ms: float
    bytes: int
    front: bool
    name: str


def plot_search(points: Sequence[Point], path: str | Path) -> None:
    """Draw every candidate, and the Pareto front of the highest rung, 960 x 720 pixels.

    Args:
        points: at least one.
        path: of the PNG.
    """
    top = max(point.rung for point in points)
    best = sorted((one for one in points if one.rung == top and one.front), key=lambda one: one.latency_ms)
    with _sheet(path, 960, 720) as figure:
        _head(
            figure,
            "What accuracy costs",
            f"{len(points)} results. Line and numbers: the candidates of rung {top} that no other beats in accuracy,",
            "latency and size. Larger signs: larger files. Accuracies of different rungs do not compare.",
        )
        axes = _place(figure, 100, 150, 936, 656)
        for rung, (colour, mark) in _RUNGS.items():
            own = [point for point in points if point.rung == rung]
            if own:
                axes.scatter(
                    [point.latency_ms for point in own],
                    [point.accuracy for point in own],
                    [max(_AREA_PER_MB * point.bytes / 1e6, 20.0) for point in own],
                    color=colour,
                    marker=mark,
                    alpha=1.0 if rung == top else 0.45,
                    linewidths=0,
                    label=f"rung {rung}: {_WHAT[rung]} ({len(own)})",
                    zorder=2 + rung,
                )
        axes.plot([one.latency_ms for one in best], [one.accuracy for one in best], color=_RUNGS[top][0], linewidth=1.4)
        for one in best:
            where = (one.latency_ms, one.accuracy)
            axes.annotate(one.name, where, (8, 6), textcoords="offset points", weight="bold", zorder=9)
        _name_height(axes, "balanced accuracy of what was left out")
        axes.set_xlabel("int8, one invoke, one thread (ms)")
        axes.set_xlim(left=0.0, right=1.08 * max(point.latency_ms for point in points))
        lowest = min(point.accuracy for point in points)
        axes.set_ylim(max(0.0, math.floor(20.0 * lowest) / 20.0 - 0.01), 1.005)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        _legend(figure, axes, 108)
