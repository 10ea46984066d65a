"""Measure the grouping of `bce audit` against the known photographs of the shared pictures.

Usage: python benchmarks/audit_truth.py [--shared FOLDER]

Prints JSON: precision and recall over all pairs of pictures that the found groups imply, on the pictures of
blood-cells/sources.csv. Pairs of one cell on two photographs count neither way. `growth` has the seconds for the same
share of every class at a quarter, half and all of them; `index_bytes` is the saved index of photographs; `pbc_pairs`
the pairs found among pictures that show different cells, so all false or copies in that set.
"""

from __future__ import annotations

import argparse
import csv
import json
import tempfile
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

from bloodcell_edge.training.audit import PhotographIndex

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


def timed(files: Sequence[Path]) -> tuple[PhotographIndex, list[int], float]:
    """The index and groups of some files, and the seconds it took."""
    index, start = PhotographIndex(), time.perf_counter()
    groups = index.add_all(files)
    return index, groups, round(time.perf_counter() - start, 2)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder that holds data/")
    data = parser.parse_args().shared / "data"
    with (data / "blood-cells" / "sources.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    files = [data / "blood-cells" / row["file"] for row in rows]
    index, found, seconds = timed(files)
    growth = {str(len(files[::step])): timed(files[::step])[2] for step in (4, 2)}
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index.npz")
        size = (Path(folder) / "index.npz").stat().st_size
    pbc = sorted((data / "pbc").glob("*/*"))
    _, others, pbc_seconds = timed(pbc)
    figures = {
        "n": len(files),
        "seconds": seconds,
        **score(found, [row["photo"] for row in rows], [row["group"] for row in rows]),
        "photographs": len({row["photo"] for row in rows}),
        "groups": len(index),
        "growth": {**growth, str(len(files)): seconds},
        "index_bytes": size,
        "pbc": {"n": len(pbc), "pairs": pairs(others), "seconds": pbc_seconds},
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
