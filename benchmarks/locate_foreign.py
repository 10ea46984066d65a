"""Measure a locator on pictures of other microscopes, and its ruler at five magnifications.

    python benchmarks/locate_foreign.py [--shared FOLDER] [--locator FILE|rules|shipped] [--only NAME,...] [--count N]

Prints JSON, every share with n and a 95 % interval (Clopper-Pearson).

- photos: all of them with the boxes that are missing in the list, as `locate_truth.py` has them: recall and precision.
- raabin: pictures of one cell each: a box holds the middle of the picture.
- rvpbs: photographs with one boxed cell, which measure and choose nothing: a box's middle lies in it; other boxes a
  field, of which some are true cells that nobody boxed.
- ruler: photos and PBC pictures shown at five magnifications, what is missing around a smaller one filled by mirroring:
  median of the diameter found over the true one (boxes.csv; 73 pixels in PBC), and how far single pictures, and medians
  of 20 pictures, lie apart: 90th over 10th percentile.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from locate_truth import SHARED, chosen, holds, load, overlaps

from bloodcell_edge.dataset.tables import read_rows
from bloodcell_edge.imaging.image import read_image, resize
from bloodcell_edge.imaging.located import Locator, Rectangle
from bloodcell_edge.statistics.intervals import binomial_interval

MAGNIFICATIONS = (0.35, 0.5, 0.71, 1.0, 1.4)
POOLED = 20
PBC_RED_CELL = 73.0  # pixels


def share(hits: int, n: int) -> dict[str, object]:
    """A share with its interval."""
    return {"n": n, "share": round(hits / n, 4), "interval": [round(end, 4) for end in binomial_interval(hits, n)]}


def photos(locator: Locator, shared: Path) -> dict[str, object]:
    """All photographs with boxes."""
    found = true = hits = 0
    for photograph in (*load(shared, "even"), *load(shared, "odd")):
        boxes = [cell.rectangle for cell in locator(photograph.image).cells]
        found, true = found + len(boxes), true + len(photograph.cells)
        hits += len(overlaps(boxes, photograph.cells))
    recall, precision = hits / true, hits / found
    f1 = 2 * recall * precision / (recall + precision)
    return {"recall": share(hits, true), "precision": share(hits, found), "f1": round(f1, 4)}


def raabin(locator: Locator, shared: Path, count: int) -> dict[str, object]:
    """The cell in the middle of each picture."""
    files = sorted((shared / "data/raabin").glob("*/*.jpg"))
    random.Random(1).shuffle(files)
    hits = others = 0
    for file in files[:count]:
        image = read_image(file)
        boxes = [cell.rectangle for cell in locator(image).cells]
        hit = any(holds(box, (image.shape[1] // 2, image.shape[0] // 2)) for box in boxes)
        hits, others = hits + hit, others + len(boxes) - hit
    return {"central": share(hits, len(files[:count])), "others": round(others / len(files[:count]), 3)}


def rvpbs(locator: Locator, shared: Path) -> dict[str, object]:
    """The boxed cell of each photograph."""
    rows = read_rows(shared / "data/rvpbs/boxes.csv", ("file", "x", "y", "width", "height"))
    hits = others = 0
    for row in rows:
        true: Rectangle = tuple(round(float(row[side])) for side in ("x", "y", "width", "height"))  # type: ignore[assignment]
        boxes = [cell.rectangle for cell in locator(read_image(shared / "data/rvpbs" / row["file"])).cells]
        hit = any(holds(true, (x + width // 2, y + height // 2)) for x, y, width, height in boxes)
        hits, others = hits + hit, others + len(boxes) - hit
    return {"boxed": share(hits, len(rows)), "others": round(others / len(rows), 3)}


def shown_at(image: np.ndarray, times: float) -> np.ndarray:
    """A picture magnified so many times, cut to its size, or mirrored to fill it."""
    height, width = image.shape[:2]
    scaled = resize(image, (round(height * times), round(width * times)))
    if times >= 1:
        y, x = (scaled.shape[0] - height) // 2, (scaled.shape[1] - width) // 2
        return np.ascontiguousarray(scaled[y : y + height, x : x + width])
    while scaled.shape[0] < height or scaled.shape[1] < width:
        more = min(height - scaled.shape[0], scaled.shape[0] - 1), min(width - scaled.shape[1], scaled.shape[1] - 1)
        scaled = cv2.copyMakeBorder(scaled, 0, max(more[0], 0), 0, max(more[1], 0), cv2.BORDER_REFLECT_101)
    return scaled


def ruler(locator: Locator, shared: Path, count: int) -> dict[str, object]:
    """Diameters over true ones."""
    photographs = [one for half in ("even", "odd") for one in load(shared, half)]
    usual = float(np.median([one.red_px for one in photographs if one.red_px]))
    files = sorted((shared / "data/pbc").glob("*/*"))
    random.Random(2).shuffle(files)
    pictures = {
        "photos": ([one.image for one in photographs][:count], usual),
        "pbc": ([read_image(file) for file in files[:count]], PBC_RED_CELL),
    }
    return {
        f"{name} x {times}": spread(
            [(locator(shown_at(image, times)).red_cell_px or np.nan) / (times * true) for image in images]
        )
        for name, (images, true) in pictures.items()
        for times in MAGNIFICATIONS
    }


def spread(ratios: Sequence[float]) -> dict[str, object]:
    """Of diameters over true ones."""
    known = [ratio for ratio in ratios if np.isfinite(ratio)]
    rng = np.random.default_rng(3)
    pooled = [float(np.median(rng.choice(known, POOLED))) for _ in range(300)]
    low, high = np.percentile(known, (10, 90))
    pooled_low, pooled_high = np.percentile(pooled, (10, 90))
    return {
        "n": len(ratios),
        "none": len(ratios) - len(known),
        "median": round(float(np.median(known)), 3),
        "single": round(float(high / low), 3),
        f"of {POOLED}": round(float(pooled_high / pooled_low), 3),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder that holds data/")
    parser.add_argument("--locator", default="shipped", help="a locator's .tflite, or: rules, shipped")
    parser.add_argument("--only", default="", help="parts to measure, by the names printed")
    parser.add_argument("--count", type=int, default=10_000, help="pictures of raabin and of each ruler, at most")
    arguments = parser.parse_args()
    locator = chosen(arguments.locator)
    parts: dict[str, Callable[[], object]] = {
        "photos": lambda: photos(locator, arguments.shared),
        "raabin": lambda: raabin(locator, arguments.shared, arguments.count),
        "rvpbs": lambda: rvpbs(locator, arguments.shared),
        "ruler": lambda: ruler(locator, arguments.shared, min(arguments.count, 280)),
    }
    wanted = arguments.only.split(",") if arguments.only else list(parts)
    print(json.dumps({"locator": arguments.locator, **{name: parts[name]() for name in wanted}}, indent=1))


if __name__ == "__main__":
    main()
