"""Pictures from anywhere: a class that gives frames is a source; python own_source.py MODEL STORE FILE.npy..."""

import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone

import numpy as np

from bloodcell_edge import Frame, Store, count_slide, load_model


class Arrays:
    """Arrays of uint8 RGB, (height, width, 3), as a camera's library might give them."""

    name, live, endless = "Arrays", False, False  # what the store calls it; no stage that shows a cell twice; it ends

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def listen(self, **_: object) -> None:
        """Nothing to tell besides frames; see `bloodcell_edge.capture.Source`."""

    def __iter__(self) -> Iterator[Frame]:
        for number, file in enumerate(self.files, 1):
            yield Frame(np.load(file), datetime.now(timezone.utc), time.monotonic_ns(), number)


with Store.open(sys.argv[2]) as store:
    print(count_slide(Arrays(sys.argv[3:]), load_model(sys.argv[1]), store, slide="arrays"))
