"""What a search has found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...files import csv_text
from .ladder import candidate_of, ranked
from .rungs import RUNGS

_COLUMNS = (
    "rung", "candidate", "front", "balanced_accuracy", "n", "by_fold", "latency_ms", "bytes", "backbone", "alpha",
    "size", "pooling", "hidden", "dropout", "head_rate", "strength", "fine_tune", "fine_tune_rate", "seconds", "cpu",
)  # fmt: skip


@dataclass(frozen=True)
class JudgedCandidate:
    """One candidate as judged on one rung.

    Attributes:
        rung: 1 to 3.
        candidate: its number, the same on every rung.
        balanced_accuracy: mean over folds.
        by_fold: of each.
        n: pictures it was judged by.
        latency_ms: of one int8 invoke, one thread.
        bytes: of the int8 file.
        chosen: the values it was given.
        seconds: that judging it took, without what an interruption lost.
        cpu: that the latency was measured on.
        front: no other candidate of this rung is better or as good in all three, and better in one.
    """

    rung: int
    candidate: int
    balanced_accuracy: float
    by_fold: dict[str, float]
    n: int
    latency_ms: float
    bytes: int
    chosen: dict[str, Any]
    seconds: float
    cpu: str
    front: bool = False

    def as_json(self) -> dict[str, Any]:
        """Flat JSON values, keys as in trials.csv."""
        backbone, _, alpha = str(self.chosen["backbone"]).partition(":")
        values = {**vars(self), **self.chosen, "backbone": backbone, "alpha": float(alpha)}
        return {key: values.get(key) for key in _COLUMNS}


@dataclass(frozen=True)
class Found:
    """What a study holds.

    Attributes:
        folder: of the study.
        rows: all that were judged, rung by rung, the most accurate first.
        failed: candidates that could not be judged.
        best: recipe file of the most accurate of the highest rung; None before any is judged.
        finished: nothing is left to do; False where the time was up first.
    """

    folder: Path
    rows: tuple[JudgedCandidate, ...]
    failed: int
    best: Path | None
    finished: bool

    @property
    def top(self) -> int:
        """The highest rung with a result."""
        return max((row.rung for row in self.rows), default=0)

    def front(self) -> list[JudgedCandidate]:
        """The Pareto front of the highest rung with a result."""
        return [row for row in self.rows if row.rung == self.top and row.front]

    def counts(self) -> dict[int, int]:
        """Candidates judged on each rung."""
        return {rung.number: sum(row.rung == rung.number for row in self.rows) for rung in RUNGS}


def rows_of(rung: int, trials: Sequence[Any]) -> list[JudgedCandidate]:
    """The trials of one rung, the most accurate first."""
    _, front = ranked(np.array([trial.values for trial in trials]).reshape(-1, 3))
    rows = []
    for trial, number in zip(trials, front, strict=True):
        notes = trial.user_attrs
        accuracy, latency, size = trial.values
        rows.append(
            JudgedCandidate(
                rung,
                candidate_of(trial),
                accuracy,
                notes["by_fold"],
                notes["n"],
                latency,
                int(size),
                dict(trial.params),
                notes["seconds"],
                notes["cpu"],
                bool(number == 0),
            )
        )
    return sorted(rows, key=lambda row: (-row.balanced_accuracy, row.candidate))


def as_csv(rows: Sequence[JudgedCandidate]) -> str:
    """A table of all candidates, a row each."""
    values = ({**row.as_json(), "by_fold": json.dumps(row.by_fold)} for row in rows)
    return csv_text(_COLUMNS, ([one[name] for name in _COLUMNS] for one in values))
