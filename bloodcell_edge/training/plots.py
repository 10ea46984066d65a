"""The plots of a run: curves, confusion, reliability, and a sheet of the worst mistakes.

Each is one PNG that explains itself, legible at its own size. Colours are those of Okabe and Ito 2008 ("Color
Universal Design"), which people with any colour vision tell apart; lines differ in marks and dashes as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter

from ..errors import BceError
from ..imaging.image import read_image
from ..text import interval, percent
from .sheet import BLUE, INK, ORANGE, PURPLE, RULE, SOFT, fitting, head, legend, name_height, place, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from ..dataset.pictures import Picture
    from ..statistics.metrics import CalibrationBin, Evaluation

_LEAKY = "leaky"
_FEW = 10  # below so many pictures a bar of the reliability diagram is drawn as uncertain
_TILE, _TILES_A_ROW = 230, 4  # of the sheet of mistakes


def save_plots(
    folder: str | Path,
    *,
    history: Sequence[Mapping[str, Any]] = (),
    evaluation: Evaluation,
    pictures: Sequence[Picture],
    scores: NDArray[np.floating[Any]],
) -> None:
    """Draw all plots of a run: curves.png, confusion.png, reliability.png, mistakes.png.

    Without a history there are no curves.

    Args:
        folder: where they go; made where it is missing.
        history: see `plot_curves`.
        evaluation: of the held-back pictures.
        pictures: the held-back pictures.
        scores: their probabilities, shape (n, labels), in the order of ``evaluation.labels``.
    """
    folder = Path(folder)
    if history:
        plot_curves(history, folder / "curves.png")
    plot_confusion(evaluation, folder / "confusion.png")
    plot_reliability(evaluation, folder / "reliability.png")
    plot_mistakes(pictures, scores, evaluation.labels, folder / "mistakes.png")


def _percent(share: float | None) -> str:
    return percent(share, absent="–")


def _measured(evaluation: Evaluation) -> str:
    """What every figure must stand beside: n, the interval and how it was made."""
    found = evaluation.interval
    photographs = "" if found.n_groups is None else f" of {found.n_groups} photographs"
    return (
        f"{evaluation.n} pictures{photographs}. Accuracy {_percent(evaluation.accuracy)}, 95 % interval "
        f"{interval((found.low, found.high), between='–')} % ({found.method})"
    )


def plot_curves(history: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw loss and accuracy over all epochs, 960 x 720 pixels.

    Args:
        history: a row an epoch, keys as in `epochs.HISTORY_COLUMNS`; numbers may be text, as a CSV reader gives them.
            A stage called leaky is drawn apart from the others, in a colour of its own.
        path: of the PNG.
    """
    with sheet(path, 960, 720) as figure:
        stages = _stages(history)
        apart = any(_is_leaky(name) for name, _, _ in stages)
        note = "The leaky stage is a training of its own and says nothing of new photographs." if apart else ""
        head(figure, "How the training went", f"Stage after stage, epochs counted on. {note}")
        upper = place(figure, 84, 150, 936, 396)
        lower = place(figure, 84, 416, 936, 662, sharex=upper)
        name_height(upper, "loss (lower is better)")
        name_height(lower, "accuracy")
        lower.set_xlabel("epoch")
        upper.tick_params(labelbottom=False)
        for axes, key in ((upper, "loss"), (lower, "accuracy")):
            for number, (name, epochs, rows) in enumerate(stages):
                _draw_stage(axes, key, name, epochs, rows, shaded=number % 2 == 1)
        _name_stages(upper, stages)
        _limit_curves(upper, lower, len(history))
        legend(figure, upper, 80)


def _stages(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, NDArray[np.int64], list[Mapping[str, Any]]]]:
    """Name, epochs counted through (from 1) and rows of each stage."""
    stages, done = [], 0
    for name, group in groupby(history, key=lambda row: str(row["stage"])):
        rows = list(group)
        stages.append((name, np.arange(done + 1, done + len(rows) + 1), rows))
        done += len(rows)
    return stages


def _is_leaky(stage: str) -> bool:
    return _LEAKY in stage.lower()


def _draw_stage(
    axes: Axes, key: str, name: str, epochs: NDArray[np.int64], rows: list[Mapping[str, Any]], *, shaded: bool
) -> None:
    train, watched = ([float(row[column]) for row in rows] for column in (key, f"val_{key}"))
    axes.plot(epochs, train, color=BLUE, marker="o", label="trained on")
    if _is_leaky(name):
        label = "LEAKY validation: copies of photographs trained on"
        axes.plot(epochs, watched, color=PURPLE, marker="X", linestyle=":", markersize=8, label=label)
        axes.axvspan(epochs[0] - 0.5, epochs[-1] + 0.5, facecolor="#f7eef6", edgecolor="#e2c8df", hatch="//", zorder=0)
    else:
        label = "photographs not trained on"
        axes.plot(epochs, watched, color=ORANGE, marker="s", linestyle="--", label=label)
        if shaded:
            axes.axvspan(epochs[0] - 0.5, epochs[-1] + 0.5, facecolor="#f1f3f5", edgecolor="none", zorder=0)


def _name_stages(axes: Axes, stages: Sequence[tuple[str, NDArray[np.int64], Any]]) -> None:
    """Write each stage's name above its epochs, on two levels in turn where one would be too narrow."""
    total = sum(len(epochs) for _, epochs, _ in stages)
    tight = any(8.5 * len(name) > 852.0 * len(epochs) / total for name, epochs, _ in stages)
    for number, (name, epochs, _) in enumerate(stages):
        axes.annotate(
            name,
            (float(epochs.mean()), 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 22 if tight and number % 2 else 5),
            textcoords="offset points",
            ha="center",
            weight="bold",
            color=PURPLE if _is_leaky(name) else INK,
            annotation_clip=False,
        )


def _limit_curves(loss: Axes, accuracy: Axes, n_epochs: int) -> None:
    loss.set_xlim(0.5, max(n_epochs, 1) + 0.5)
    loss.set_ylim(bottom=0.0)
    loss.xaxis.set_major_locator(MaxNLocator(nbins=16, integer=True))
    loss.grid(False, axis="x")
    accuracy.grid(False, axis="x")
    low = accuracy.get_ylim()[0] if n_epochs else 0.0
    accuracy.set_ylim(max(0.0, math.floor(10.0 * low) / 10.0), 1.005)
    accuracy.yaxis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))


def plot_confusion(evaluation: Evaluation, path: str | Path) -> None:
    """Draw what was said of each true class: counts, and their share of the row.

    The column "no cell" is there only where some picture had none. 4 labels make 760 x 560 pixels.

    Args:
        evaluation: with its confusion counts.
        path: of the PNG.
    """
    counts = np.array(evaluation.confusion)
    columns = [*evaluation.labels, "no cell"]
    if not counts[:, -1].any():
        counts, columns = counts[:, :-1], columns[:-1]
    rows, side = len(counts), 128
    left, top = 196, 94
    width, height = max(left + side * len(columns) + 36, 760), top + 96 * rows + 82
    with sheet(path, width, height) as figure:
        head(figure, "What the model said of each class", _measured(evaluation))
        axes = place(figure, left, top, left + side * len(columns), top + 96 * rows)
        n = counts.sum(axis=1)
        shares = counts / np.maximum(n, 1)[:, None]
        axes.imshow(_tints(shares), aspect="auto")
        for (row, column), count in np.ndenumerate(counts):
            _write_count(axes, row, column, int(count), float(shares[row, column]) if n[row] else None)
        size = fitting(13.0, side - 8.0, *evaluation.labels)
        named = [f"{label}\nn = {m}" for label, m in zip(evaluation.labels, n, strict=True)]
        axes.set_xticks(range(len(columns)), columns, size=size)
        axes.set_yticks(range(rows), named, size=size)
        axes.tick_params(length=0, pad=8)
        axes.set_xlabel("the model said")
        axes.set_ylabel("true class")
        _rule_cells(axes, rows, len(columns))


def _tints(shares: NDArray[np.float64]) -> NDArray[np.uint8]:
    """An RGB colour for each share 0..1: towards blue on the diagonal, towards orange off it. Adds an axis of 3."""
    full = np.broadcast_to(_rgb(ORANGE), (*shares.shape, 3)).copy()
    full[np.eye(*shares.shape, dtype=np.bool_)] = _rgb(BLUE)
    depth = np.where(shares > 0.0, 0.08 + 0.92 * shares, 0.0)[..., None]  # a single mistake still shows
    return np.rint(255.0 - depth * (255.0 - full)).astype(np.uint8)


def _rgb(colour: str) -> NDArray[np.float64]:
    return np.array([float(int(colour[i : i + 2], 16)) for i in (1, 3, 5)])


def _write_count(axes: Axes, row: int, column: int, count: int, share: float | None) -> None:
    colour = "white" if (share or 0.0) > 0.55 else INK if count else "#9a9a9a"
    axes.text(column, row - 0.12, str(count), ha="center", va="center", size=19, weight="bold", color=colour)
    axes.text(column, row + 0.22, _percent(share), ha="center", va="center", color=colour)


def _rule_cells(axes: Axes, rows: int, columns: int) -> None:
    """Thin lines between the cells and no others."""
    axes.grid(False)
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(True, which="minor", color=RULE, linewidth=1)
    axes.tick_params(which="minor", length=0)
    axes.spines[:].set(visible=True, color=RULE)


def plot_reliability(evaluation: Evaluation, path: str | Path) -> None:
    """Draw whether a score of 0.9 is right nine times in ten, 760 x 720 pixels.

    Args:
        evaluation: with its calibration bins.
        path: of the PNG.
    """
    found = evaluation.calibration
    told = f"Expected calibration error {_percent(found.ece)} in {len(found.bins)} bins"
    with sheet(path, 760, 720) as figure:
        head(figure, "Can the score be believed?", f"{told}.", f"{_measured(evaluation)}.")
        upper = place(figure, 84, 136, 728, 520)
        lower = place(figure, 84, 548, 728, 660, sharex=upper)
        _draw_bins(upper, found.bins)
        name_height(upper, "share that is right")
        upper.set_xlim(0.0, 1.0)
        upper.set_ylim(0.0, 1.0)
        upper.tick_params(labelbottom=False)
        for axis in (upper.yaxis, lower.xaxis):
            axis.set_major_formatter(PercentFormatter(1.0, symbol=" %"))
        legend(figure, upper, 100)
        _draw_bin_counts(lower, found.bins)


def _draw_bins(axes: Axes, bins: Sequence[CalibrationBin]) -> None:
    width = 1.0 / len(bins)
    axes.plot((0, 1), (0, 1), color=SOFT, linestyle="--", linewidth=1.4, label="as it should be", zorder=3)
    many = [one for one in bins if one.n >= _FEW]
    few = [one for one in bins if 0 < one.n < _FEW]
    for group, label, fill, hatch in (
        (many, "right in fact", "#8cc0e0", ""),
        (few, f"fewer than {_FEW} pictures", "white", "///"),
    ):
        if group:
            middles, heights = [one.low + width / 2 for one in group], [one.accuracy or 0.0 for one in group]
            axes.bar(middles, heights, 0.92 * width, label=label, facecolor=fill, hatch=hatch, edgecolor=BLUE)
    filled = [*many, *few]
    claimed = [one.confidence or 0.0 for one in filled]
    starts = [one.low + 0.04 * width for one in filled]
    axes.hlines(claimed, starts, [start + 0.92 * width for start in starts], color=ORANGE, linewidth=3.5,
                label="claimed (mean score)", zorder=4)  # fmt: skip


def _draw_bin_counts(axes: Axes, bins: Sequence[CalibrationBin]) -> None:
    width = 1.0 / len(bins)
    middles = [one.low + width / 2 for one in bins]
    bars = axes.bar(middles, [one.n for one in bins], 0.92 * width, color="#c4c9ce")
    axes.bar_label(bars, [str(one.n) if one.n else "" for one in bins], padding=2, size=12)
    axes.set_ylim(0, 1.25 * max([one.n for one in bins] + [1]))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    axes.grid(False, axis="x")
    name_height(axes, "pictures")
    axes.set_xlabel("score of the class that was named")


def plot_mistakes(
    pictures: Sequence[Picture],
    scores: NDArray[np.floating[Any]],
    labels: Sequence[str],
    path: str | Path,
    most: int = 24,
) -> None:
    """Draw a sheet of the worst mistakes: the pictures a model was surest of and wrong about.

    944 pixels wide, 230 high for each row of four. Without a mistake it says so. A picture that cannot be read any
    more leaves its place empty and says so.

    Args:
        pictures: labelled.
        scores: their probabilities, shape (n, labels).
        labels: the model's labels.
        path: of the PNG.
        most: how many to show.

    Raises:
        ValueError: not one row of scores for each picture.
    """
    scores = np.asarray(scores)
    if scores.shape != (len(pictures), len(labels)):
        message = f"mistakes: expected scores of shape ({len(pictures)}, {len(labels)}), found {scores.shape}"
        raise ValueError(message)
    said, top = scores.argmax(axis=1), scores.max(axis=1)
    wrong = [i for i, picture in enumerate(pictures) if labels[said[i]] != picture.label]
    worst = sorted(wrong, key=lambda i: -top[i])[:most]
    rows = math.ceil(len(worst) / _TILES_A_ROW)
    with sheet(path, _TILE * _TILES_A_ROW + 24, 92 + _TILE * rows) as figure:
        if not wrong:
            head(figure, "No mistakes", f"All {len(pictures)} pictures were named rightly.")
            return
        shown = "" if len(worst) == len(wrong) else f"{len(worst)} of "
        counted = f"{shown}{len(wrong)} mistakes among {len(pictures)} pictures, the surest first"
        head(figure, "The worst mistakes", f"{counted}. True class → what the model said (its score).")
        captions = [f"{pictures[i].label} → {labels[said[i]]} ({top[i]:.2f})" for i in worst]
        size = fitting(12.0, _TILE - 8.0, *captions)
        for number, (i, caption) in enumerate(zip(worst, captions, strict=True)):
            left, top_edge = 12 + _TILE * (number % _TILES_A_ROW), 84 + _TILE * (number // _TILES_A_ROW)
            axes = place(figure, left + 4, top_edge, left + _TILE - 4, top_edge + 174)
            _draw_picture(axes, pictures[i].path)
            _write_below(axes, 5, caption, size=size, weight="bold")
            _write_below(axes, 23, _short(pictures[i].file), size=11, color=SOFT)


def _draw_picture(axes: Axes, path: Path) -> None:
    axes.set_axis_off()
    axes.set_anchor("S")  # pictures of any shape stand on their captions
    try:
        axes.imshow(read_image(path))
    except BceError:
        axes.text(0.5, 0.5, "cannot be read any more", ha="center", va="center", color=SOFT)


def _write_below(axes: Axes, pixels: int, text: str, **options: Any) -> None:
    centre, offset = (0.5, 0.0), (0, -pixels)
    axes.annotate(text, centre, offset, "axes fraction", "offset points", ha="center", va="top", **options)


def _short(file: str, most: int = 34) -> str:
    """A file name that fits below a tile: its middle left out, signs that cannot be shown replaced."""
    text = "".join(sign if sign.isprintable() else "?" for sign in file)
    return text if len(text) <= most else f"{text[: most // 2 - 4]}…{text[-(most // 2 + 3) :]}"
