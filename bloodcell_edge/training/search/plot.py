"""The plot of a search: accuracy against latency, and which candidates nothing beats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.ticker import PercentFormatter

from ..sheet import BLUE, ORANGE, PURPLE, head, legend, name_height, place, sheet

if TYPE_CHECKING:
    from .found import JudgedCandidate

_RUNGS = {1: (BLUE, "o"), 2: (PURPLE, "s"), 3: (ORANGE, "D")}
"""Colour and mark of each rung."""

_WHAT = {1: "heads on frozen features", 2: "short fine-tuning", 3: "whole recipe"}
_AREA_PER_MB = 40.0  # square pixels: the sign of a file of 2.8 MB is about 11 across


def plot_search(rows: Sequence[JudgedCandidate], path: str | Path) -> None:
    """Draw every candidate, and the Pareto front of the highest rung with its numbers, 960 x 720 pixels.

    Args:
        rows: at least one.
        path: of the PNG.
    """
    top = max(row.rung for row in rows)
    best = sorted((row for row in rows if row.rung == top and row.front), key=lambda row: row.latency_ms)
    with sheet(path, 960, 720) as figure:
        head(
            figure,
            "What accuracy costs",
            f"{len(rows)} results. Line and numbers: the candidates of rung {top} that no other beats in accuracy,",
            "latency and size. Larger signs: larger files. Accuracies of different rungs do not compare.",
        )
        axes = place(figure, 100, 150, 936, 656)
        for rung, (colour, mark) in _RUNGS.items():
            own = [row for row in rows if row.rung == rung]
            if own:
                axes.scatter(
                    [row.latency_ms for row in own],
                    [row.balanced_accuracy for row in own],
                    [max(_AREA_PER_MB * row.bytes / 1e6, 20.0) for row in own],
                    color=colour,
                    marker=mark,
                    alpha=1.0 if rung == top else 0.45,
                    linewidths=0,
                    label=f"rung {rung}: {_WHAT[rung]} ({len(own)})",
                    zorder=2 + rung,
                )
        line = [row.latency_ms for row in best], [row.balanced_accuracy for row in best]
        axes.plot(*line, color=_RUNGS[top][0], linewidth=1.4)
        for row in best:
            where = (row.latency_ms, row.balanced_accuracy)
            axes.annotate(str(row.candidate), where, (8, 6), textcoords="offset points", weight="bold", zorder=9)
        name_height(axes, "balanced accuracy of what was left out")
        axes.set_xlabel("int8, one invoke, one thread (ms)")
        axes.set_xlim(left=0.0, right=1.08 * max(row.latency_ms for row in rows))
        lowest = min(row.balanced_accuracy for row in rows)
        axes.set_ylim(max(0.0, math.floor(20.0 * lowest) / 20.0 - 0.01), 1.005)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        legend(figure, axes, 108)
