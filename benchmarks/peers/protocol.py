"""How the process of a peer talks with the one that measures: a line of JSON in, a line out.

Standard library only, since it runs in every environment. A peer is a script that calls `serve` with a function that
loads its model; what it imports, it imports in there, when the process stands on its cores already.

A task is gone through as a whole and timed as a whole: what happens to each item is the peer's own code alone.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Labels = list[str]
Loop = Callable[[Sequence[Any]], Labels]
"""Goes through the items of a task and names them."""


def serve(load: Callable[[dict[str, Any]], dict[str, Loop]]) -> None:
    """Answer tasks until there are no more.

    Args:
        load: takes the setup (model, labels, size, threads, cores, tasks: name -> file of items) and gives a loop for
            each task that this peer can do.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    setup = json.loads(sys.stdin.readline())
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, setup["cores"])

    def say(value: dict[str, Any]) -> None:
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        start = time.perf_counter()
        loops = load(setup)
        say({"tasks": sorted(loops), "load_ms": (time.perf_counter() - start) * 1e3})
        items = {task: _items(setup["tasks"][task]) for task in loops}
        for line in sys.stdin:
            asked = json.loads(line)
            task, some = asked["task"], items[asked["task"]][: asked["limit"]]
            start = time.perf_counter()
            labels = loops[task](some)
            seconds = time.perf_counter() - start
            say({"seconds": seconds, "items": len(some), "labels": labels, "peak_mb": _peak_mb()})
    except Exception as error:  # noqa: BLE001 - whatever a peer raises is told, so that it is reported as absent
        say({"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"})


def _items(path: str) -> Sequence[Any]:
    """Rows of an .npy file, or a list in a .json file."""
    if path.endswith(".npy"):
        import numpy as np

        return list(np.load(path))
    return list(json.loads(Path(path).read_text()))


def _peak_mb() -> float | None:
    """VmHWM of /proc/self/status, MB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM")), None)
