"""The life of a process that does nothing but run one model. It imports what ``bce classify`` does, and no more."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence

from .. import machine
from ..imaging.image import read_image
from ..model.classifier import Classifier


def tell(model: str, threads: int, pictures: Sequence[str]) -> None:
    """Open a model and name pictures; a line of JSON after the first answer, and one after the last, say how it was."""
    start = time.perf_counter()
    classifier = Classifier.open(model, threads=threads)
    load_ms = (time.perf_counter() - start) * 1e3
    for number, picture in enumerate(pictures):
        classifier.classify(read_image(picture))
        if not number:
            _say({"load_ms": load_ms})
    _say({"peak": machine.peak_memory_mb(), "steady": machine.memory_mb()})


def _say(values: dict[str, float | None]) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()
