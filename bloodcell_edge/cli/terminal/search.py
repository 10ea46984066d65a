"""What `bce search` says of its candidates."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from ...text import percent
from .options import table

if TYPE_CHECKING:
    from ...training.search.found import Found, JudgedCandidate


def summary(found: Found, repeat: str | None) -> str:
    """How far it is, the front as a table, and how to train its most accurate candidate."""
    counts = ", ".join(f"rung {rung}: {count}" for rung, count in found.counts().items())
    state = "done" if found.finished else "stopped by the clock; the same command goes on"
    lines = [f"{found.folder}: judged {counts}; {found.failed} left out; {state}"]
    if repeat is not None:
        lines += [
            f"Pareto front of rung {found.top}; accuracy is balanced, of what was not trained on, n pictures",
            table(_HEAD, [_cells(row) for row in found.front()]),
            "Chosen among many on the same pictures, so somewhat optimistic: judge it on others.",
            f"the most accurate again: {repeat}",
        ]
    cpus = {row.cpu for row in found.rows}
    if len(cpus) > 1:
        lines.append(f"latencies are of {len(cpus)} kinds of machine and do not compare: {', '.join(sorted(cpus))}")
    return "\n".join(lines)


_HEAD = (
    "candidate", "accuracy", "lowest", "n", "int8 ms", "MB", "backbone", "px", "head", "dropout", "head rate",
    "augmented", "blocks", "rate",
)  # fmt: skip


def _cells(row: JudgedCandidate) -> tuple[str, ...]:
    one = row.as_json()
    return (
        str(row.candidate),
        percent(row.balanced_accuracy),
        percent(min(row.by_fold.values())),
        str(row.n),
        f"{row.latency_ms:.2f}",
        f"{row.bytes / 1e6:.2f}",
        f"{one['backbone']} {one['alpha']:g}",
        str(one["size"]),
        f"{one['pooling']} {one['hidden'] or ''}".strip(),
        f"{one['dropout']:.2f}",
        f"{one['head_rate']:.1e}",
        f"x {one['strength']:g}",
        "-" if one["fine_tune"] is None else "all" if one["fine_tune"] < 0 else str(one["fine_tune"]),
        "-" if one["fine_tune_rate"] is None else f"{one['fine_tune_rate']:.1e}",
    )


def train_command(
    paths: tuple[Path, ...], best: Path | None, group_by: Path | None, labels: tuple[str, ...] | None
) -> str | None:
    """The `bce train` that trains the best candidate on everything."""
    if best is None:
        return None
    words = ["bce", "train", *map(str, paths), "--recipe-file", str(best)]
    words += [] if group_by is None else ["--group-by", str(group_by)]
    words += [] if labels is None else ["--labels", ",".join(labels)]
    return shlex.join(words)
