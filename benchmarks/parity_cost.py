"""What the gate costs beside the inference it cannot do without.

    python benchmarks/parity_cost.py RUN [--data DATA] [--rounds 3]

`bce parity` (from picture files to a judgement) on all pictures of DATA, by default the run's held-back ones, against
both models asked about the same prepared pixels and nothing else. In each round both, in turns.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from bloodcell_edge import machine
from bloodcell_edge.cli import ask_of_libraries
from bloodcell_edge.dataset.asking import read_questions
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.split import held_back
from bloodcell_edge.model.choose import DEVICE_FILE
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.progress import SILENT
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.kerasmodel import open_keras
from convert.parity import Candidate, GateLimits, compare

WANTED = 1.3


def main() -> None:
    """Measure, and print."""
    ask_of_libraries()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--data", type=Path, help="labelled pictures (default: the run's held-back ones)")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    options = parser.parse_args()
    run = RunFolder(options.run)
    reference = open_keras(run.model)
    small = Classifier.open(run.path / DEVICE_FILE)
    candidate = Candidate(run.path / DEVICE_FILE, small)
    if options.data is None:
        pictures = held_back(run.split)
    else:
        pictures = list(load_data(options.data, labels=reference.spec.labels).pictures)
    view = reference.spec.shown_as
    pixels = np.stack([pixels for _, pixels in read_questions(pictures, [view]).cells(view)])
    reference.scores(pixels[:64])  # its graph is traced at the first call
    ratios, before = [], machine.usage()
    for number in range(options.rounds):
        start = time.perf_counter()
        compare(reference, run.model, [candidate], pictures, limits=GateLimits(), report=SILENT)
        whole = time.perf_counter() - start
        start = time.perf_counter()
        reference.scores(pixels)
        big = time.perf_counter() - start
        small.scores(pixels)
        both = time.perf_counter() - start
        ratios.append(whole / both)
        print(f"round {number + 1}: parity {whole:.2f} s, inference {both:.2f} s (Keras {big:.2f} s)")
    other = machine.other_work(before, machine.usage())
    ratio = float(np.median(ratios))
    verdict = "holds" if ratio <= WANTED else "DOES NOT HOLD"
    print(f"{len(pictures)} pictures, {len(pixels)} with a cell; {other or 0:.2f} cores were busy otherwise")
    print(f"parity takes {ratio:.2f} times its inference, wanted <= {WANTED}: {verdict}")


if __name__ == "__main__":
    main()
