"""Measure `locate` and `judge` on the shared photographs, and on pictures made from them where the truth is known.

    python benchmarks/locate_truth.py [--shared FOLDER] [--half heldback|even|odd] [--locator FILE|rules|shipped]
        [--model INT8.tflite] [--only NAME,...]
    python benchmarks/locate_truth.py --odd-half FOLDER     # as DATA, to train a locator for the even half on

Prints JSON. The shipped locator was trained on photographs of both halves: report those held back. Sizes in locate.py
were chosen on the odd-numbered ones: report the even ones of the rules. A cell is found
where a box overlaps its own by IoU 0.4 or more. With --model (MobileNetV2 1.0, 128 px, int8) the time of `locate` is
given as a ratio to its invoke, both on one thread, taken in turns in one run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from bloodcell_edge.dataset.tables import read_rows
from bloodcell_edge.imaging.drawn import LABELS, UM_PER_PX, draw_field
from bloodcell_edge.imaging.hashes import perceptual_hash
from bloodcell_edge.imaging.image import read_image, resize
from bloodcell_edge.imaging.locate import locate as by_rules
from bloodcell_edge.imaging.located import Located, Locator, Rectangle, matches
from bloodcell_edge.imaging.quality import judge
from bloodcell_edge.model.choose import SHIPPED
from bloodcell_edge.model.locator import open_locator, shipped_locator

SHARED = Path(__file__).resolve().parents[2] / "shared"
CHOSEN: dict[str, Locator] = {}
"""The locator that is measured."""

# Boxes of white cells that boxes.csv lacks, drawn by eye (x, y, width, height); one cell each, plainly visible.
MISSING = {
    "BloodImage_00096.jpg": (175, 75, 232, 217),  # out of focus
    "BloodImage_00133.jpg": (137, 0, 158, 94),  # cut by the upper edge
    "BloodImage_00135.jpg": (57, 330, 118, 149),  # cut by the lower edge
    "BloodImage_00171.jpg": (155, 0, 215, 215),  # cut by the upper edge, torn: a smudge cell
    "BloodImage_00178.jpg": (210, 0, 205, 178),  # cut by the upper edge
    "BloodImage_00228.jpg": (272, 0, 155, 143),  # cut by the upper edge
    "BloodImage_00280.jpg": (225, 285, 165, 195),  # cut by the lower edge, pale
    "BloodImage_00327.jpg": (0, 185, 130, 170),  # cut by the left edge
    "BloodImage_00329.jpg": (20, 170, 190, 182),  # out of focus
}
# A box of boxes.csv named WBC around what is a platelet, 33 x 28 pixels.
NO_CELL = {"BloodImage_00113.jpg": 60}

Fields = Iterator[tuple[str, np.ndarray, Sequence[Rectangle]]]


def locate(image: np.ndarray, **options: float) -> Located:
    """What the chosen locator finds."""
    return CHOSEN["locator"](image, **options)


class Photograph:
    """A photograph with the boxes of its white cells, as listed and as corrected."""

    def __init__(self, path: Path, listed: Sequence[Rectangle], red: Sequence[Rectangle]) -> None:
        self.name, self.image, self.listed = path.name, read_image(path), list(listed)
        smallest = NO_CELL.get(path.name, 0)
        self.cells = [box for box in listed if min(box[2:]) >= smallest]
        self.cells += [MISSING[path.name]] if path.name in MISSING else []
        self.red_px = float(np.median([(box[2] + box[3]) / 2 for box in red])) if red else None


def load(shared: Path, half: str) -> list[Photograph]:
    """The odd or even photographs by file number, or those that the shipped models and their locator held back."""
    boxes: dict[tuple[str, str], list[Rectangle]] = defaultdict(list)
    for row in read_rows(shared / "data/photos/boxes.csv", ("file", "kind", "x", "y", "width", "height")):
        x, y, width, height = (int(float(row[side])) for side in ("x", "y", "width", "height"))
        boxes[row["file"], row["kind"]].append((x, y, width, height))
    files = sorted((shared / "data/photos").glob("*.jpg"))
    if half == "heldback":
        rows = read_rows(SHIPPED / "predictions.csv", ("source", "file"))
        names = {row["file"] for row in rows if row["source"] == "photos"}
        wanted = [file for file in files if file.name in names]
    else:
        wanted = [file for file in files if int(file.stem[-5:]) % 2 == (half == "odd")]
    return [Photograph(file, boxes[file.name, "WBC"], boxes[file.name, "RBC"]) for file in wanted]


def write_odd_half(shared: Path, folder: Path) -> None:
    """The odd-numbered photographs as DATA: links to them, and their rows of labels.csv and boxes.csv."""
    place = folder / "photos"
    place.mkdir(parents=True)
    kept = {file.name for file in (shared / "data/photos").glob("*.jpg") if int(file.stem[-5:]) % 2}
    for name in kept:
        (place / name).symlink_to((shared / "data/photos" / name).resolve())
    for table in ("labels.csv", "boxes.csv"):
        head, *rows = (shared / "data/photos" / table).read_text(encoding="utf-8").splitlines()
        own = [row for row in rows if row.partition(",")[0] in kept]
        (place / table).write_text("\n".join((head, *own, "")), encoding="utf-8")
    print(place)


def overlaps(found: Sequence[Rectangle], true: Sequence[Rectangle]) -> list[float]:
    """IoU of each pair that fits, best first, each box used once."""
    return [fit for fit, *_ in matches(found, true)]


def score(fields: Fields, **options: float) -> dict[str, object]:
    """Recall and precision over fields of known truth."""
    found_n = true_n = marked = exact = n = 0
    fits: list[float] = []
    wrong = []
    for name, image, true in fields:
        cells = locate(image, **options).cells
        overlap = overlaps([cell.rectangle for cell in cells], true)
        n, found_n, true_n, fits = n + 1, found_n + len(cells), true_n + len(true), fits + overlap
        marked += sum(cell.touching for cell in cells)
        exact += len(cells) == len(true)
        if not len(overlap) == len(cells) == len(true):
            wrong.append(f"{name}: {len(overlap)} right of {len(cells)} found, {len(true)} true")
    return {
        "fields": n,
        "cells": true_n,
        "recall": round(len(fits) / max(true_n, 1), 4),
        "precision": round(len(fits) / max(found_n, 1), 4),
        "count_exact": round(exact / max(n, 1), 4),
        "median_iou": round(float(np.median(fits)), 3) if fits else None,
        "marked_touching": marked,
        "wrong": wrong[:20],
    }


def mosaics(photographs: list[Photograph], count: int = 200) -> Fields:
    """2 x 2 photographs, 1280 x 960."""
    rng = np.random.default_rng(1)
    for _ in range(count):
        four = [photographs[k] for k in rng.choice(len(photographs), 4, replace=False)]
        rows = [np.hstack([photo.image for photo in pair]) for pair in (four[:2], four[2:])]
        true = [
            (x + 640 * (k % 2), y + 480 * (k // 2), width, height)
            for k, photo in enumerate(four)
            for x, y, width, height in photo.cells
        ]
        yield "+".join(photo.name[11:16] for photo in four), np.vstack(rows), true


def halved(fields: Fields) -> Fields:
    """The same at half the size."""
    for name, image, true in fields:
        small = resize(image, (image.shape[0] // 2, image.shape[1] // 2))
        yield name, small, [(x // 2, y // 2, width // 2, height // 2) for x, y, width, height in true]


def whole_cells(photograph: Photograph) -> list[Rectangle]:
    """Cells not cut by the edge, of a usual size."""
    return [
        (x, y, width, height)
        for x, y, width, height in photograph.cells
        if x > 4 and y > 4 and x + width < 636 and y + height < 476 and min(width, height) > 60
    ]


def ellipse(width: int, height: int) -> np.ndarray:
    """A soft mask 0..1, (height, width, 1)."""
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (width // 2 - 3, height // 2 - 3), 0, 0, 360, 255, -1)
    return cv2.GaussianBlur(mask, (7, 7), 0)[..., None] / 255


def touching_pairs(photographs: list[Photograph], count: int = 200) -> Fields:
    """A cell of one photograph laid beside a cell of another so that their outlines touch (overlap 8 % of a radius)."""
    rng = np.random.default_rng(2)
    usable = [photo for photo in photographs if len(whole_cells(photo)) == len(photo.cells) == 1]
    made = 0
    while made < count:
        host, guest = (usable[k] for k in rng.choice(len(usable), 2, replace=False))
        (x, y, width, height), (gx, gy, guest_width, guest_height) = whole_cells(host)[0], whole_cells(guest)[0]
        turn = rng.random() * 2 * np.pi
        away = [0.96 * (width + guest_width) / 2 * np.cos(turn), 0.96 * (height + guest_height) / 2 * np.sin(turn)]
        left, top = (int(x + width / 2 + away[0] - guest_width / 2), int(y + height / 2 + away[1] - guest_height / 2))
        if not (0 < left < 640 - guest_width and 0 < top < 480 - guest_height):
            continue
        image = host.image.copy()
        mask = ellipse(guest_width, guest_height)
        window = image[top : top + guest_height, left : left + guest_width]
        cell = guest.image[gy : gy + guest_height, gx : gx + guest_width]
        window[:] = np.rint(window * (1 - mask) + cell * mask).astype(np.uint8)
        made += 1
        name = f"{host.name[11:16]}+{guest.name[11:16]}"
        yield name, image, [(x, y, width, height), (left, top, guest_width, guest_height)]


def pairs_told(photographs: list[Photograph]) -> dict[str, object]:
    """How often two touching cells are two boxes, or one that is marked."""
    apart = marked = n = 0
    missed = []
    for name, image, true in touching_pairs(photographs):
        cells = locate(image).cells
        two = len(overlaps([cell.rectangle for cell in cells], true)) == 2
        flagged = any(cell.touching for cell in cells)
        n, apart, marked = n + 1, apart + two, marked + (flagged and not two)
        if not (two or flagged):
            missed.append(name)
    shares = {"told_apart": apart / n, "only_marked": marked / n, "either": (apart + marked) / n}
    return {"n": n, **shares, "missed": missed[:20]}


def painted_over(photographs: list[Photograph], how: str) -> Fields:
    """Fields whose white cells are painted over, by OpenCV's inpainting or by a patch of the same photograph."""
    for photo in photographs:
        image = photo.image.copy()
        for box in photo.cells:
            margin = 12
            x, y = max(box[0] - margin, 0), max(box[1] - margin, 0)
            right, bottom = min(box[0] + box[2] + margin, 640), min(box[1] + box[3] + margin, 480)
            if how == "inpaint":
                mask = np.zeros(image.shape[:2], np.uint8)
                mask[y:bottom, x:right] = 255
                half = cv2.inpaint(image[::4, ::4].copy(), mask[::4, ::4].copy(), 3, cv2.INPAINT_TELEA)
                image[y:bottom, x:right] = cv2.resize(half, (640, 480))[y:bottom, x:right]
            else:
                width, height = right - x, bottom - y
                away = 640 - width if x < (640 - width) / 2 else 0  # the far side, where there is no white cell
                lift = 480 - height if y < (480 - height) / 2 else 0
                image[y:bottom, x:right] = photo.image[lift : lift + height, away : away + width]
        yield photo.name, image, []


def pasted(shared: Path, label: str, count: int = 150) -> dict[str, object]:
    """PBC pictures, their cell in the middle, pasted off-centre into an empty 640 x 480 field; and cut off-centre.

    There are no boxes: a cell is found where a box holds the picture's middle and is 50 to 300 pixels wide and high.
    """
    rng = np.random.default_rng(3)
    files = sorted((shared / "data/pbc" / label).iterdir())
    found = {"pasted": 0, "cut": 0}
    extra = {"pasted": 0, "cut": 0}
    missed = []
    chosen = [files[k] for k in rng.permutation(len(files))[:count]]
    for file in chosen:
        image = read_image(file)
        height, width = image.shape[:2]
        field = np.empty((480, 640, 3), np.uint8)
        field[:] = [np.argmax(np.bincount(image[..., channel].ravel())) for channel in range(3)]
        x, y = int(rng.integers(640 - width + 1)), int(rng.integers(480 - height + 1))
        field[y : y + height, x : x + width] = image
        left, top = (int(value) for value in rng.integers(0, 70, 2))
        views = {
            "pasted": (field, (x + width // 2, y + height // 2)),
            "cut": (image[top : top + 290, left : left + 290].copy(), (width // 2 - left, height // 2 - top)),
        }
        for view, (picture, middle) in views.items():
            boxes = [cell.rectangle for cell in locate(picture).cells]
            right = [box for box in boxes if all(50 <= side <= 300 for side in box[2:]) and holds(box, middle)]
            found[view] += bool(right)
            extra[view] += len(boxes) - bool(right)
            if not right:
                missed.append(f"{file.name} {view}")
    n = len(chosen)
    shares = {f"found_{view}": round(found[view] / n, 4) for view in found}
    return {"n": n, **shares, **{f"others_{view}": round(extra[view] / n, 3) for view in extra}, "missed": missed[:8]}


def holds(box: Rectangle, point: tuple[int, int]) -> bool:
    """A point in a box."""
    return box[0] <= point[0] < box[0] + box[2] and box[1] <= point[1] < box[1] + box[3]


def drawn(count: int = 150) -> Fields:
    """Drawn fields, 640 x 480, 0 to 4 cells."""
    for seed in range(count):
        labels = [LABELS[(seed + k) % 4] for k in range(seed % 5)]
        field = draw_field(seed, labels, size=(480, 640))
        yield f"seed {seed}", field.image, [(cell.x, cell.y, cell.width, cell.height) for cell in field.cells]


def tilt(image: np.ndarray, gains: Sequence[float], gamma: float = 1.0) -> np.ndarray:
    """White balance, and the camera's tone curve."""
    return np.clip(255 * (image / 255) ** gamma * np.array(gains), 0, 255).round().astype(np.uint8)


def vignette(image: np.ndarray, dark: Sequence[float]) -> np.ndarray:
    """Light that falls off to these shares (red, green, blue) in the corners."""
    rows, columns = (np.linspace(-1, 1, length) for length in image.shape[:2])
    radius = ((rows * rows)[:, None] + (columns * columns)[None]) / 2
    return np.clip(image * (1 - radius[..., None] * (1 - np.array(dark))), 0, 255).round().astype(np.uint8)


def restained(image: np.ndarray, strength: Sequence[float]) -> np.ndarray:
    """Other absorbance of each channel: a paler or denser stain, other dyes."""
    return np.clip(210 * (np.maximum(image, 1) / 210.0) ** np.array(strength), 0, 255).round().astype(np.uint8)


def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    """Sensor noise."""
    noise = np.random.default_rng(4).normal(0, sigma, image.shape)
    return np.clip(image + noise, 0, 255).round().astype(np.uint8)


VARIANTS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "warm": lambda image: tilt(image, (1.2, 1, 0.7)),
    "cold": lambda image: tilt(image, (0.75, 0.95, 1.2)),
    "green": lambda image: tilt(image, (0.8, 1.15, 0.8)),
    "yellow": lambda image: tilt(image, (1.1, 1.05, 0.45)),
    "dark": lambda image: tilt(image, (0.4, 0.4, 0.4)),
    "bright": lambda image: tilt(image, (1.2, 1.2, 1.2)),
    "gamma 0.6": lambda image: tilt(image, (1, 1, 1), 0.6),
    "gamma 1.6": lambda image: tilt(image, (1, 1, 1), 1.6),
    "vignette": lambda image: vignette(image, (0.35, 0.35, 0.35)),
    "blue vignette": lambda image: vignette(image, (0.25, 0.35, 0.7)),
    "pale stain": lambda image: restained(image, (0.6, 0.6, 0.6)),
    "dense stain": lambda image: restained(image, (1.6, 1.6, 1.6)),
    "yellowish stain": lambda image: restained(image, (1, 0.8, 2)),
    "noise": lambda image: noisy(image, 12),
    "blur": lambda image: cv2.GaussianBlur(image, (0, 0), 4),
}


def ruler(photographs: list[Photograph], shared: Path) -> dict[str, object]:
    """The red-cell diameter over that of boxes.csv, or over 73 pixels in PBC pictures."""
    ratios = {"photos": [], "pbc": []}
    for photo in photographs:
        if photo.red_px:
            ratios["photos"].append((locate(photo.image).red_cell_px or np.nan) / photo.red_px)
    for file in sorted((shared / "data/pbc").glob("*/*"))[::40]:
        ratios["pbc"].append((locate(read_image(file)).red_cell_px or np.nan) / 73)
    return {
        name: {
            "n": len(values),
            "none": int(np.isnan(values).sum()),
            "median_ratio": round(float(np.nanmedian(values)), 3),
            "within_25_percent": round(float((np.abs(values / np.nanmedian(values) - 1) <= 0.25).mean()), 3),
        }
        for name, values in ratios.items()
    }


def blurred(image: np.ndarray, diameters: float, red_cell_px: float) -> np.ndarray:
    """Out of focus by a Gaussian of so many red-cell diameters."""
    return cv2.GaussianBlur(image, (0, 0), diameters * red_cell_px)


def quality(photographs: list[Photograph], shared: Path) -> dict[str, object]:
    """Shares of pictures that the gate refuses: as they are (all good, bar a few out of focus), and spoiled."""
    good = {
        "photos": (95.0, [photo.image for photo in photographs]),
        "pbc": (73.0, [read_image(file) for file in sorted((shared / "data/pbc").glob("*/*"))[20::40]]),
    }
    figures: dict[str, object] = {}
    for name, (red_cell_px, images) in good.items():
        widths = (0.08, 0.12, 0.18)
        spoiled = {f"focus, blurred by {d}": [blurred(image, d, red_cell_px) for image in images] for d in widths}
        spoiled |= {f"dark, times {gain}": [tilt(image, (gain,) * 3) for image in images] for gain in (0.2, 0.4)}
        spoiled |= {f"bright, times {gain}": [tilt(image, (gain,) * 3) for image in images] for gain in (1.3, 1.5, 1.8)}
        spoiled |= {"cast, yellow": [VARIANTS["yellow"](image) for image in images]}
        spoiled |= {"cast, warm": [VARIANTS["warm"](image) for image in images]}
        figures[name] = {"n": len(images), "good": refused(images)}
        figures[name] |= {kind: refused(pictures)[kind.split(",")[0]] for kind, pictures in spoiled.items()}
    images = good["photos"][1]
    prints = [perceptual_hash(image) for image in images]
    pairs = [bits(one, other) for k, one in enumerate(prints) for other in prints[:k]]
    copies = [bits(one, perceptual_hash(noisy(image, 6))) for one, image in zip(prints, images, strict=True)]
    moved = [bits(perceptual_hash(image[:-4, :-4].copy()), perceptual_hash(image[4:, 4:].copy())) for image in images]
    figures["bits"] = {"different, least": min(pairs), "with noise, most": max(copies), "moved 4 px, most": max(moved)}
    return figures


def refused(images: Sequence[np.ndarray]) -> dict[str, float]:
    """Share refused by each verdict."""
    judged = [judge(image, red_cell_px=locate(image).red_cell_px) for image in images]
    names = [verdict.name for verdict in judged[0].verdicts]
    return {name: round(float(np.mean([not q.verdicts[k].passed for q in judged])), 3) for k, name in enumerate(names)}


def bits(one: np.ndarray, other: np.ndarray) -> int:
    """In which two hashes differ."""
    return int(np.unpackbits(one ^ other).sum())


def timed(photographs: list[Photograph], model: Path | None) -> dict[str, object]:
    """Median milliseconds of `locate` on a photograph, and of the model's invoke, taken in turns on one thread."""
    cv2.setNumThreads(1)
    interpreter = None
    if model is not None:
        from bloodcell_edge.model.interpreter import load_interpreter

        interpreter = load_interpreter(model, threads=1)
        pixels = np.zeros((*interpreter.input_size, 3), np.uint8)
    locate(photographs[0].image)
    seconds: dict[str, list[float]] = {"locate": [], "invoke": [], "judge": []}
    for photo in 4 * photographs:
        for name in seconds:
            start = time.perf_counter()
            if name == "locate":
                locate(photo.image)
            elif name == "judge":
                judge(photo.image, red_cell_px=95)
            elif interpreter is not None:
                interpreter.scores(pixels)
            seconds[name].append(1000 * (time.perf_counter() - start))
    medians = {name: round(float(np.median(values)), 3) for name, values in seconds.items()}
    ratio = round(medians["locate"] / medians["invoke"], 2) if interpreter else None
    return {"n": 4 * len(photographs), **medians, "ratio": ratio}


def chosen(name: str) -> Locator:
    """A locator by its name or file."""
    if name in ("rules", "shipped"):
        return by_rules if name == "rules" else shipped_locator()
    return open_locator(Path(name).read_bytes(), where=name)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder that holds data/")
    parser.add_argument("--half", choices=("odd", "even", "heldback"), default="heldback", help="which photographs")
    parser.add_argument("--locator", default="shipped", help="a locator's .tflite, or: rules, shipped")
    parser.add_argument("--model", type=Path, help="an int8 .tflite to compare the time with")
    parser.add_argument("--only", default="", help="parts to measure, by the names printed")
    parser.add_argument("--odd-half", type=Path, metavar="FOLDER", help="write that half as DATA, and end")
    arguments = parser.parse_args()
    if arguments.odd_half is not None:
        write_odd_half(arguments.shared, arguments.odd_half)
        return
    CHOSEN["locator"] = chosen(arguments.locator)
    photos = load(arguments.shared, arguments.half)
    corrected = [(photo.name, photo.image, photo.cells) for photo in photos]
    parts: dict[str, Callable[[], object]] = {
        "untouched": lambda: score((photo.name, photo.image, photo.listed) for photo in photos),
        "corrected": lambda: score(iter(corrected)),
        "half_size": lambda: score(halved(iter(corrected))),
        "mosaics": lambda: score(mosaics(photos)),
        "mosaics_halved": lambda: score(halved(mosaics(photos))),
        "touching_pairs": lambda: pairs_told(photos),
        "inpainted": lambda: score(painted_over(photos, "inpaint")),
        "patched": lambda: score(painted_over(photos, "patch")),
        "pbc": lambda: {
            folder.name: pasted(arguments.shared, folder.name)
            for folder in sorted((arguments.shared / "data/pbc").iterdir())
        },
        "drawn": lambda: score(drawn()),
        "drawn_with_scale": lambda: score(drawn(), um_per_px=UM_PER_PX),
        "variants": lambda: {
            name: score((file, change(image), cells) for file, image, cells in corrected)
            for name, change in VARIANTS.items()
        },
        "ruler": lambda: ruler(photos, arguments.shared),
        "quality": lambda: quality(photos, arguments.shared),
        "time_ms": lambda: timed(photos, arguments.model),
    }
    wanted = arguments.only.split(",") if arguments.only else list(parts)
    print(json.dumps({"half": arguments.half, **{name: parts[name]() for name in wanted}}, indent=1))


if __name__ == "__main__":
    main()
