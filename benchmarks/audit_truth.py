"""Measure the grouping of `bce audit` against the known photographs of the shared pictures.

Usage: python benchmarks/audit_truth.py [--shared FOLDER]

Prints JSON: precision and recall over all pairs of pictures that the found groups imply, on the pictures of
blood-cells/sources.csv. Pairs of one cell on two photographs count neither way. `growth` has the seconds for the same
share of every class at a quarter, half and all of them, `growth_cpu` the processor seconds, which other work on the
machine does not stretch as much; `index_bytes` is the saved index of photographs; `pbc_pairs`
the pairs found among pictures that show different cells, so all false or copies in that set.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bloodcell_edge.dataset.photographs import PhotographIndex
from bloodcell_edge.dataset.tables import read_rows

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pairs(names: Iterable[Hashable]) -> int:
    """How many pairs share a name."""
    return sum(count * (count - 1) // 2 for count in Counter(names).values())


def score(found: Sequence[int], photos: Sequence[str], cells: Sequence[str]) -> dict[str, float]:
    """Pair precision and recall; pairs of one cell but two photographs are left out."""
    right = pairs(zip(found, photos, strict=True))
    wrong = pairs(found) - pairs(zip(found, cells, strict=True))
    return {
        "precision": right / max(right + wrong, 1),
        "recall": right / max(pairs(photos), 1),
        "pairs": pairs(photos),
        "wrong_pairs": wrong,
        "missed_pairs": pairs(photos) - right,
    }


@dataclass(frozen=True)
class Timed:
    """The index and groups of some files, and what they took."""

    index: PhotographIndex
    groups: list[int]
    seconds: float
    cpu_seconds: float


def timed(files: Sequence[Path]) -> Timed:
    """Group some files."""
    index, start, cpu = PhotographIndex(), time.perf_counter(), time.process_time()
    groups = index.add_all(files)
    return Timed(index, groups, round(time.perf_counter() - start, 2), round(time.process_time() - cpu, 2))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder that holds data/")
    data = parser.parse_args().shared / "data"
    rows = read_rows(data / "blood-cells" / "sources.csv", ("file",))
    files = [data / "blood-cells" / row["file"] for row in rows]
    runs = {len(files[::step]): timed(files[::step]) for step in (4, 2, 1)}
    whole = runs[len(files)]
    with tempfile.TemporaryDirectory() as folder:
        whole.index.save(Path(folder) / "index.npz")
        size = (Path(folder) / "index.npz").stat().st_size
    pbc = timed(sorted((data / "pbc").glob("*/*")))
    figures = {
        "n": len(files),
        "seconds": whole.seconds,
        **score(whole.groups, [row["photo"] for row in rows], [row["group"] for row in rows]),
        "photographs": len({row["photo"] for row in rows}),
        "groups": len(whole.index),
        "growth": {n: run.seconds for n, run in runs.items()},
        "growth_cpu": {n: run.cpu_seconds for n, run in runs.items()},
        "index_bytes": size,
        "pbc": {"n": len(pbc.groups), "pairs": pairs(pbc.groups), "seconds": pbc.seconds, "cpu": pbc.cpu_seconds},
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
