"""Pictures from anywhere: a class that gives frames is a source; python own_source.py MODEL STORE FILE.npy..."""

import sys
import time
from datetime import datetime, timezone

import numpy as np

from bloodcell_edge import Frame, Store, count_slide, load_model


class Arrays:
    """Arrays of uint8 RGB, (height, width, 3), as a camera's library might give them."""

    live = endless = False  # no stage that shows a cell twice; and it ends

    def __init__(self, files) -> None:
        self.files = files

    def __iter__(self):
        for number, file in enumerate(self.files, 1):
            yield Frame(np.load(file), datetime.now(timezone.utc), time.monotonic_ns(), number)


with Store.open(sys.argv[2]) as store:
    print(count_slide(Arrays(sys.argv[3:]), load_model(sys.argv[1]), store, slide="arrays"))
