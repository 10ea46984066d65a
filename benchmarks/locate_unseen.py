"""Measure `locate` and the crops of view "cell" as other microscopes would show the same cells.

    python benchmarks/locate_unseen.py [--shared FOLDER] [--half even|odd] [--count N] [--only NAME;...] [--json]

Public sets of single cells are cut tightly, at any magnification, under any lamp and stain. None of them is here, so
such pictures are made: squares around the cell of a PBC picture or photograph, 1.1 to 2.2 times its longer side,
brought to another size, then stained and lit anew, blurred and compressed. What the locator says of the untouched
picture is the truth: its box and its crop. Only pictures are taken where that holds one whole cell and a ruler.

Per variant: the share (%) of pictures where no cell is shown, of shown boxes with IoU below 0.5, of marked cells and
of pictures with a ruler; and the side of the crop over the true one, of which 1 is right (5th percentile, median,
95th; `off` is the share beyond 1.25 either way).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from locate_truth import CHOSEN, SHARED, chosen, load, locate, tilt, vignette

from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.imaging.located import Rectangle, overlap
from bloodcell_edge.imaging.views import CROP_UM, View, window

LEAST_IOU = 0.5
FAR = 1.25  # times too large or too small a crop
VIEW = View("cell", (32, 32), CROP_UM)
Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Known:
    """A picture, the box of its cell and the side of its crop, pixels."""

    image: np.ndarray
    box: Rectangle
    side: int


def known(image: np.ndarray) -> Known | None:
    """What is taken for the truth; None where the picture has no single whole cell, or no ruler."""
    located = locate(image)
    whole = [cell for cell in located.cells if cell.whole and not cell.touching]
    if len(whole) != 1 or located.red_cell_px is None:
        return None
    return Known(image, whole[0].rectangle, window(whole[0], image.shape, located.red_cell_px)[2])


def pictures(shared: Path, half: str, count: int) -> dict[str, list[Known]]:
    """So many pictures of each PBC class of white cells, and the photographs, of the odd or even half."""
    rng = np.random.default_rng(5)
    found: dict[str, list[Known]] = {"pbc": [], "photos": []}
    for folder in sorted((shared / "data/pbc").iterdir()):
        if folder.name != "PLATELET":
            files = sorted(folder.iterdir())[half == "odd" :: 2]
            chosen = (known(read_image(files[k])) for k in rng.permutation(len(files))[:count])
            found["pbc"] += [one for one in chosen if one]
    found["photos"] = [one for photo in load(shared, half) if (one := known(photo.image))]
    return found


def squared(one: Known, times: float, side: int | None = None) -> Known:
    """A square around the cell, so many times its longer side, moved into the picture; brought to another size."""
    x, y, width, height = one.box
    length = min(round(times * max(width, height)), *one.image.shape[:2])
    left, top = (
        min(max(start + (extent - length) // 2, 0), most - length)
        for start, extent, most in ((x, width, one.image.shape[1]), (y, height, one.image.shape[0]))
    )
    cut = np.ascontiguousarray(one.image[top : top + length, left : left + length])
    right, bottom = min(x + width - left, length), min(y + height - top, length)
    x, y = max(x - left, 0), max(y - top, 0)
    return scaled(Known(cut, (x, y, right - x, bottom - y), one.side), (side or length, side or length))


def scaled(one: Known, size: tuple[int, int]) -> Known:
    """The same picture at another size (height, width)."""
    if size == one.image.shape[:2]:
        return one
    down, across = (new / old for new, old in zip(size, one.image.shape, strict=False))
    x, y, width, height = one.box
    box = (round(x * across), round(y * down), round(width * across), round(height * down))
    interpolation = cv2.INTER_AREA if down < 1 else cv2.INTER_CUBIC
    return Known(cv2.resize(one.image, size[::-1], interpolation=interpolation), box, round(one.side * across))


def dyed(image: np.ndarray, mix: Sequence[Sequence[float]], empty: Sequence[int]) -> np.ndarray:
    """Other dyes and lamp: absorbance of red, green and blue mixed anew, over an empty field of another colour."""
    field = np.percentile(image.reshape(-1, 3), 90, axis=0)
    absorbance = np.log10(np.maximum(field, 1) / np.maximum(image, 1))
    return np.clip(np.array(empty) * 10 ** -(absorbance @ np.array(mix).T), 0, 255).round().astype(np.uint8)


def even(strength: float) -> list[list[float]]:
    """All absorbances times this."""
    return [[strength * (row == column) for column in range(3)] for row in range(3)]


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """Through a JPEG file."""
    _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def blurred(image: np.ndarray) -> np.ndarray:
    """Out of focus by 2 % of the shorter side."""
    return cv2.GaussianBlur(image, (0, 0), 0.02 * min(image.shape[:2]))


LOOKS: dict[str, Change] = {
    "as it is": lambda image: image,
    "yellow field": lambda image: dyed(image, even(1), (230, 215, 150)),
    "blue field": lambda image: dyed(image, even(1), (165, 190, 235)),
    "brown field": lambda image: dyed(image, even(1.1), (200, 165, 125)),
    "pale stain": lambda image: dyed(image, even(0.5), (225, 215, 220)),
    "dark stain": lambda image: dyed(image, even(1.8), (225, 215, 220)),
    "magenta stain": lambda image: dyed(image, [[0.7, 0.15, 0], [0, 1.2, 0], [0, 0.3, 0.8]], (230, 220, 225)),
    "blue stain": lambda image: dyed(image, [[1.2, 0.1, 0], [0.1, 0.9, 0], [0, 0, 0.6]], (220, 220, 235)),
    "low contrast": lambda image: (96 + image * 0.45).round().astype(np.uint8),
    "gamma 0.6": lambda image: tilt(image, (1, 1, 1), 0.6),
    "gamma 1.7": lambda image: tilt(image, (1, 1, 1), 1.7),
    "blurred": blurred,
    "JPEG 30": lambda image: compressed(image, 30),
    "vignette": lambda image: vignette(image, (0.5, 0.5, 0.4)),
}
SQUARES = (1.1, 1.3, 1.6, 2.2)
SIDES = (64, 120, 300, 575)


def variants(found: dict[str, list[Known]]) -> Iterator[tuple[str, Iterator[Known]]]:
    """Each square as it is and at each size, each look of some squares, and fields of another camera."""
    cells = [*found["pbc"], *found["photos"]]
    for times in SQUARES:
        yield f"{times}", (squared(one, times) for one in cells)
    for times in SQUARES[:3]:
        for side in SIDES:
            yield f"{times}, {side} px", (squared(one, times, side) for one in cells)
    for times in SQUARES:
        for name, look in [*LOOKS.items()][1:]:
            yield f"{times}, {name}", (changed(squared(one, times), look) for one in cells)
    for name, look in LOOKS.items():
        yield f"PBC, {name}", (changed(one, look) for one in found["pbc"])
    for name in ("as it is", "brown field"):
        yield f"720 x 576, {name}", (changed(scaled(one, (576, 720)), LOOKS[name]) for one in found["photos"])


def changed(one: Known, look: Change) -> Known:
    """The same cell in other colours."""
    return Known(look(one.image), one.box, one.side)


def score(cells: Iterable[Known]) -> dict[str, float]:
    """What is reported of one variant."""
    overlaps, ratios, n, marked, rulers = [], [], 0, 0, 0
    for one in cells:
        n += 1
        located = locate(one.image)
        rulers += located.red_cell_px is not None
        shown = VIEW.show_labelled(one.image, located)
        if shown is not None and shown.box is not None:
            box = next(cell for cell in located.cells if cell.rectangle == shown.box)
            overlaps.append(overlap(shown.box, one.box))
            ratios.append(window(box, one.image.shape, located.red_cell_px)[2] / one.side)
            marked += bool(shown.mark)
    seen = max(len(ratios), 1)
    low, middle, high = np.percentile(ratios, (5, 50, 95)) if ratios else (np.nan,) * 3
    off = sum(not 1 / FAR <= ratio <= FAR for ratio in ratios)
    return {
        "n": n,
        "none": round(100 * (1 - len(ratios) / n), 1),
        "iou<0.5": round(100 * sum(overlap < LEAST_IOU for overlap in overlaps) / seen, 1),
        "marked": round(100 * marked / seen, 1),
        "ruler": round(100 * rulers / n, 1),
        "5%": round(float(low), 2),
        "median": round(float(middle), 2),
        "95%": round(float(high), 2),
        "off": round(100 * off / seen, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder that holds data/")
    parser.add_argument("--half", choices=("odd", "even"), default="even", help="pictures by file number")
    parser.add_argument("--locator", default="shipped", help="a locator's .tflite, or: rules, shipped")
    parser.add_argument("--count", type=int, default=60, help="pictures of each PBC class")
    parser.add_argument("--only", default="", help="variants whose names begin so, parted by semicolons")
    parser.add_argument("--json", action="store_true", help="JSON, not a table")
    arguments = parser.parse_args()
    CHOSEN["locator"] = chosen(arguments.locator)
    wanted = tuple(arguments.only.split(";"))
    table = {
        name: score(cells)
        for name, cells in variants(pictures(arguments.shared, arguments.half, arguments.count))
        if name.startswith(wanted)
    }
    if arguments.json:
        print(json.dumps({"half": arguments.half, **table}, indent=1))
        return
    print(f"{'':24}" + "".join(f"{heading:>9}" for heading in next(iter(table.values()))))
    for name, figures in table.items():
        print(f"{name:24}" + "".join(f"{figure:9}" for figure in figures.values()))


if __name__ == "__main__":
    main()
