"""Labelled pictures that tests draw: those that need not exist, and files of which one is no picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from hypothesis import strategies as st

from bloodcell_edge.dataset.pictures import Picture


def picture(number, label, group):
    """A picture that need not exist."""
    return Picture(Path(f"/nowhere/{number}.png"), f"{number}.png", label, group)


@st.composite
def data_sets(draw, at_least=3):
    """Pictures of 2 to 4 classes with `at_least` or more groups each; some groups have conflicting labels."""
    pictures, labels = [], draw(st.sampled_from([("A", "B"), ("A", "B", "C", "D")]))
    for label in labels:
        for group, copies in enumerate(draw(st.lists(st.integers(1, 5), min_size=at_least, max_size=12))):
            pictures += [picture(len(pictures) + i, label, f"{label}{group}") for i in range(copies)]
    for place in draw(st.lists(st.integers(0, len(pictures) - 1), max_size=4)):
        pictures[place] = replace(pictures[place], label=draw(st.sampled_from(labels)))
    return pictures


def files_and_one_that_is_none(folder):
    """Six readable pictures of two classes, and one that is not."""
    pictures = []
    for number in range(7):
        path = folder / "AB"[number % 2] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40 + 10 * number, 3), np.uint8)
        assert cv2.imwrite(str(path), pixels)
        pictures.append(Picture(path, f"{path.parent.name}/{path.name}", path.parent.name, f"group {number}"))
    pictures[3].path.write_bytes(b"no picture")
    return pictures
