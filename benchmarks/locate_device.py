"""The shipped locator on this machine: its time over that of the rules, and whether other kernels find the same cells.

    python benchmarks/locate_device.py [--shared FOLDER] [--locator FILE] [--rules CHECKOUT] [--rounds 20]
        [--pictures 60]

Prints JSON. Both locators look at the same photographs in turns, on one core; a ratio is of the times of one round, and
its median with the 5th and 95th percentile are printed. With --rules the rules are those of another checkout, such as
`git worktree add ../rules cd62c61`, the last commit that had nothing else.

Other kernels are the interpreter's built-in ones, which tflite-runtime runs: cells that only one of the two finds are
counted, but for those whose heat is within the file's own tolerance of its threshold.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from locate_truth import SHARED, chosen

from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.imaging.light import Halves
from bloodcell_edge.imaging.locate import locate
from bloodcell_edge.imaging.located import Locator, matches
from bloodcell_edge.model.locator import LearnedLocator


def seconds(locator: Locator, images: Sequence[np.ndarray]) -> float:
    """To look at all pictures once."""
    start = time.perf_counter()
    for image in images:
        locator(image)
    return time.perf_counter() - start


def rules_of(checkout: Path) -> Locator:
    """The rules of another checkout, beside this one's: its package by another name."""
    package = checkout / "bloodcell_edge"
    spec = importlib.util.spec_from_file_location("rules_edge", package / "__init__.py")
    if spec is None or spec.loader is None or not (package / "locate.py").is_file():
        message = f"{checkout}: expected a checkout with bloodcell_edge/locate.py, as that of commit cd62c61"
        raise SystemExit(message)
    sys.modules["rules_edge"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["rules_edge"])
    locator: Locator = importlib.import_module("rules_edge.locate").locate
    return locator


def timed(locator: Locator, by_rules: Locator, images: Sequence[np.ndarray], rounds: int) -> dict[str, object]:
    """Time over that of the rules, in turns."""
    for which in (locator, by_rules):
        seconds(which, images[:5])
    ratios, each = [], []
    for number in range(rounds):
        order = (locator, by_rules) if number % 2 else (by_rules, locator)
        took = {which: seconds(which, images) for which in order}
        ratios.append(took[locator] / took[by_rules])
        each.append(1000 * took[locator] / len(images))
    low, middle, high = (round(float(value), 3) for value in np.percentile(ratios, (5, 50, 95)))
    return {"rounds": rounds, "pictures": len(images), "ratio": middle, "5 to 95 %": [low, high],
            "ms": round(float(np.median(each)), 3)}  # fmt: skip


def kernels(locator: LearnedLocator, images: Sequence[np.ndarray]) -> dict[str, object]:
    """The same cells, or not, with the built-in kernels."""
    plain = LearnedLocator(locator.file, plain=True)
    sure = locator.spec.threshold + locator.spec.kernel_tolerance
    cells = alone = near = 0
    rulers = []
    for image in images:
        one, other = locator.sightings(Halves(image)), plain.sightings(Halves(image))
        pairs = matches([peak.rectangle for peak in one.peaks], [peak.rectangle for peak in other.peaks], 0.5)
        single = [peak for place, peak in enumerate(one.peaks) if place not in {i for _, i, _ in pairs}]
        single += [peak for place, peak in enumerate(other.peaks) if place not in {j for _, _, j in pairs}]
        cells, alone = cells + len(one.peaks), alone + sum(peak.heat >= sure for peak in single)
        near += sum(peak.heat < sure for peak in single)
        rulers.append(abs(one.red_cell_px / other.red_cell_px - 1))
    return {"pictures": len(images), "cells": cells, "only one finds": alone, "of these near the threshold": near,
            "ruler, largest difference": round(max(rulers), 4)}  # fmt: skip


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder that holds data/")
    parser.add_argument("--locator", default="shipped", help="a locator's .tflite, or: shipped")
    parser.add_argument("--rules", type=Path, help="a checkout whose rules are timed; else this one's")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pictures", type=int, default=60, help="photographs; as many of PBC for the kernels")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    locator = chosen(arguments.locator)
    files = sorted((arguments.shared / "data/photos").glob("*.jpg"))[:: max(280 // arguments.pictures, 1)]
    others = sorted((arguments.shared / "data/pbc").glob("*/*"))[:: 4400 // arguments.pictures]
    images = [read_image(file) for file in files[: arguments.pictures]]
    by_rules = rules_of(arguments.rules) if arguments.rules else locate
    figures: dict[str, object] = {"time over the rules": timed(locator, by_rules, images, arguments.rounds)}
    if isinstance(locator, LearnedLocator):
        figures["other kernels"] = kernels(locator, [*images, *(read_image(file) for file in others)])
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
