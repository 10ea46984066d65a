"""What can be told only by a process of its own: how long a start takes, and how much memory a model needs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile
from typing import NamedTuple

from ..errors import BceError
from .figures import Memory, Start

PICTURES = 8
"""After so many the memory of a process no longer grows."""

_CHILD = """
import sys
from bloodcell_edge.benchmark.life import tell
tell(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
"""


class Life(NamedTuple):
    """Of one process: ms from its start to the first answer, ms to open the model, and its memory at the end."""

    cold_ms: float
    load_ms: float
    memory: Memory


def live(model: Path, threads: int, pictures: Sequence[Path]) -> Life:
    """Start a process that opens a model and runs some pictures, and ask it.

    Raises:
        BceError: it fails; with the last line it said.
    """
    command = [sys.executable, "-c", _CHILD, str(model), str(threads), *map(str, pictures[:PICTURES])]
    start = time.perf_counter()
    with (
        TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8") as process,
    ):
        assert process.stdout is not None  # it is a pipe
        first = process.stdout.readline()
        cold_ms = (time.perf_counter() - start) * 1e3
        last = process.stdout.read()
        code = process.wait()
        errors.seek(0)
        told = (errors.read().strip().splitlines() or ["no message"])[-1]
    if code:
        message = f"{model}: a process of its own that runs it ended with {code} ({told})"
        raise BceError(message)
    return Life(cold_ms, json.loads(first)["load_ms"], Memory(**json.loads(last)))


def summed_up(lives: Sequence[Life]) -> tuple[Start, Memory]:
    """Medians of the starts; the most memory that any of them held, and the median of what they held in the end."""
    start = Start(median(life.cold_ms for life in lives), median(life.load_ms for life in lives), len(lives))
    peaks = [life.memory.peak for life in lives if life.memory.peak is not None]
    steady = [life.memory.steady for life in lives if life.memory.steady is not None]
    return start, Memory(max(peaks, default=None), median(steady) if steady else None)
