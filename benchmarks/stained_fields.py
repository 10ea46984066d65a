"""How many fields the quality gate takes for no stained field: of real ones as they are, and of the same spoiled.

    python benchmarks/stained_fields.py [--shared FOLDER] [--count 150]

Prints JSON: of each set how many pictures were judged and how many `colour`, `swapped` and `negative` refuse, with the
numbers' range. RV-PBS measures and chooses nothing.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from locate_truth import SHARED

from bloodcell_edge.imaging.drawn import LABELS, draw_field
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.imaging.quality import judge

NAMES = ("colour", "swapped", "negative")
SETS = {"photos": "photos/*.jpg", "kaggle": "blood-cells/TRAIN/*/*", "pbc": "pbc/*/*", "raabin": "raabin/*/*.jpg",
        "rvpbs": "rvpbs/*.jpg"}  # fmt: skip
SPOILT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "grey": lambda image: np.repeat(image[..., 1:2], 3, axis=2),
    "red and blue exchanged": lambda image: np.ascontiguousarray(image[..., ::-1]),
    "negative": lambda image: 255 - image,
}


def refused(images: list[np.ndarray]) -> dict[str, object]:
    """By each name, and the range of its numbers."""
    judged = [{one.name: one for one in judge(image, earlier=None).verdicts} for image in images]
    found: dict[str, object] = {"n": len(images)}
    for name in NAMES:
        numbers = [one[name].number for one in judged]
        found[name] = {"refused": sum(not one[name].passed for one in judged),
                       "range": [round(min(numbers), 3), round(max(numbers), 3)]}  # fmt: skip
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder that holds data/")
    parser.add_argument("--count", type=int, default=150, help="pictures of a set, at most; all photographs")
    arguments = parser.parse_args()
    for name, pattern in SETS.items():
        files = sorted((arguments.shared / "data").glob(pattern))
        if name != "photos":
            files = random.Random(1).sample(files, min(arguments.count, len(files)))
        images = [read_image(file) for file in files]
        print(json.dumps({"set": name, **refused(images)}), flush=True)
        if name == "photos":
            for what, spoil in SPOILT.items():
                print(json.dumps({"set": f"{name}, {what}", **refused([spoil(image) for image in images])}), flush=True)
    drawn = [draw_field(seed, [LABELS[seed % 4]] * (seed % 4), size=(480, 640)).image for seed in range(40)]
    print(json.dumps({"set": "drawn", **refused(drawn)}))


if __name__ == "__main__":
    main()
