"""Made-up results for the store's tests, and a process that writes them.

``python store_writer.py STORE FIELDS PACE_S`` prints a line for each commit, with the number of fields that are safe so
far, and "done" at the end.
"""

from __future__ import annotations

import hashlib
import sys
import time
from datetime import datetime, timedelta, timezone

from bloodcell_edge.model.spec import ModelSpec
from bloodcell_edge.records import UNIDENTIFIED, CellResult, FieldResult
from bloodcell_edge.slide.store import Store

LABELS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def spec(*, view="cell", sha256="ab" * 32, **changes):
    """A spec as a packed model file has it."""
    crop_um = 20.0 if view == "cell" else None
    return ModelSpec("made-up", LABELS, view, (96, 96), "int8", 1, crop_um=crop_um, sha256=sha256, **changes)


def sha256(number):
    """A hash for picture `number`."""
    return hashlib.sha256(str(number).encode()).hexdigest()


def cell(label, *, box=(10, 20, 30, 40), crop=None, **changes):
    """A cell whose top label is `label`, or NEUTROPHIL where that is UNIDENTIFIED."""
    top = "NEUTROPHIL" if label == UNIDENTIFIED else label
    scores = {name: 0.7 if name == top else 0.1 for name in LABELS}
    return CellResult(label, 0.7, scores, box, crop=crop, **changes)


def field(number, *labels, crop=None):
    """Picture `number` with a cell for each label; without labels, some that only depend on the number."""
    labels = labels or tuple(LABELS[(number * 7 + k) % 4] for k in range(number % 4))
    moment = START + timedelta(seconds=number)
    cells = tuple(cell(label, crop=crop) for label in labels)
    return FieldResult(f"{number}.png", sha256(number), moment, cells=cells, monotonic_ns=number, size=(640, 480))


def refused(number, reason="blurred"):
    """Picture `number`, refused."""
    return FieldResult(f"{number}.png", sha256(number), START, "refused", reason, quality={"focus": 1.5})


def main(path, fields, pace_s):
    """Write so many fields, the same each time, a crop with each cell."""
    safe = 0

    def show(group):
        nonlocal safe
        safe += len(group)
        print(safe, flush=True)  # noqa: T201

    with Store.open(path, on_commit=show) as store:
        reading = store.reading("slide", spec())
        for number in range(int(fields)):
            time.sleep(float(pace_s))
            some = refused(number) if number % 10 == 9 else field(number, crop=bytes([number % 256]) * 2000)
            store.add(reading, some)
    print("done", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
