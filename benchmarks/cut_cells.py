"""How much of a cell must be seen to name it: accuracy of the shipped int8 file against the share that is left.

    python benchmarks/cut_cells.py [--shared ../shared] [--model FILE.tflite] [--every N] [--json]

Pictures are those that the shipped file was not trained on, by `predictions.csv` beside it, labels with a note left
out: BCCD photographs and Barcelona cells, and cells of other classes, which are to be rejected. Of each the whole cell
is cut by the picture's edge, at each of its four sides and at each of its four corners, so that a share of a disc in
its box is left; then the product looks: it finds the cell, measures the share that it takes for seen (`Box.seen`),
cuts it out and names it. Per share: cells found; of these named (at the file's threshold), and right of the named, with
the 95 % interval by picture; right of all found; of the other classes the share rejected. `views.LEAST_SEEN` is chosen
on these tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from locate_truth import SHARED

from bloodcell_edge.dataset.tables import read_rows
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.imaging.located import Located, Rectangle, overlap, share_inside
from bloodcell_edge.model.choose import DEVICE_FILE, SHIPPED
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.statistics.intervals import accuracy_interval

SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4, 0.3)
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1))
CORNERS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
_SAME = 0.3  # overlap over union of what is found with what is left
_HALVINGS = 40


@dataclass(frozen=True)
class Asked:
    """One cut cell: of which picture and class, how it was cut, and what became of it.

    Attributes:
        file: the picture.
        truth: its label.
        known: one of the model's labels.
        corner: cut at two sides.
        left: share that was left of it.
        seen: share that the product takes for seen; None where it found no cell there.
        said: the top label.
        named: its score was enough, and it touches no other cell.
    """

    file: str
    truth: str
    known: bool
    corner: bool
    left: float
    seen: float | None = None
    said: str = ""
    named: bool = False


def kept(share: float, *, corner: bool) -> float:
    """How much of a disc's diameter the cut leaves, on each axis that is cut, so that a share of its area is left."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        y = middle - 0.5 if corner else 0.5
        low, high = (low, middle) if share_inside(middle - 0.5, y, 1.0, 9.0, 9.0) > share else (middle, high)
    return high


def cut(image: np.ndarray, box: Rectangle, side: tuple[int, int], share: float) -> tuple[np.ndarray, Rectangle]:
    """The picture without what lies beyond a side (1: left or upper, -1: right or lower, 0: not cut), and the box."""
    depth = kept(share, corner=all(side))
    spans = []
    for start, length, whole, cuts in zip(box[:2], box[2:], image.shape[1::-1], side, strict=True):
        gone = round((1 - depth) * length)
        spans.append((start + gone if cuts == 1 else 0, start + length - gone if cuts == -1 else whole))
    (left, right), (top, bottom) = spans
    x, y = max(box[0], left), max(box[1], top)
    seen = x - left, y - top, min(box[0] + box[2], right) - x, min(box[1] + box[3], bottom) - y
    return np.ascontiguousarray(image[top:bottom, left:right]), seen


def ask(classifier: Classifier, image: np.ndarray, where: Rectangle, about: Asked) -> Asked:
    """What the product makes of the cell that is left."""
    located = classifier.locator(image)
    best = max(located.cells, key=lambda cell: overlap(cell.rectangle, where), default=None)
    if best is None or overlap(best.rectangle, where) < _SAME:
        return about
    alone = Located((best,), located.red_cell_px, located.halves)
    (scores,) = classifier.scores(classifier.show(image, alone)[0].pixels[None])
    named = bool(scores.max() >= (classifier.spec.reject_threshold or 0.0)) and not best.touching
    said = classifier.spec.labels[int(scores.argmax())]
    return Asked(about.file, about.truth, about.known, about.corner, about.left, best.seen, said, named)


def cut_pictures(classifier: Classifier, pictures: Iterable[tuple[Path, str]]) -> Iterator[Asked]:
    """Every cut of every picture that shows one whole cell alone."""
    for path, label in pictures:
        image = read_image(path)
        whole = [cell for cell in classifier.locator(image).cells if cell.whole and not cell.touching]
        if len(whole) != 1:
            continue
        box = whole[0].rectangle
        known = label in classifier.spec.labels
        for share in SHARES:
            for side in (*SIDES, *CORNERS) if share < 1 else ((0, 0),):
                cut_image, left = cut(image, box, side, share) if share < 1 else (image, box)
                about = Asked(f"{path.parent.name}/{path.name}", label, known, all(side), share)
                yield ask(classifier, cut_image, left, about)


def held_back(shared: Path, every: int) -> list[tuple[Path, str]]:
    """Pictures that the shipped file has not seen, and their labels; those with a note on the label left out."""
    rows = read_rows(SHIPPED / "predictions.csv", ("source", "file", "label", "note"))
    chosen = [row for row in rows if not row["note"]][::every]
    return [
        (
            shared / "data" / row["source"] / ("" if row["source"] == "photos" else row["label"]) / row["file"],
            row["label"],
        )
        for row in chosen
    ]


def table(asked: Sequence[Asked], *, by_seen: bool) -> list[dict[str, object]]:
    """A row for each share that was left; or for each tenth of the share that was taken for seen."""

    def key(one: Asked) -> float:
        return one.left if not by_seen or one.seen is None else min(int(one.seen * 10), 9) / 10 + (one.seen == 1) / 10

    rows = []
    for share in sorted({round(key(one), 2) for one in asked if not by_seen or one.seen is not None}, reverse=True):
        here = [one for one in asked if round(key(one), 2) == share and (not by_seen or one.seen is not None)]
        ours, others = [one for one in here if one.known], [one for one in here if not one.known]
        found = [one for one in ours if one.seen is not None]
        named = [one for one in found if one.named]
        if not named:
            continue
        right = np.array([one.said == one.truth for one in named])
        limits = accuracy_interval(right, [one.file for one in named])
        rows.append(
            {
                "share": share,
                "n": len(ours),
                "found": len(found) / len(ours),
                "taken_for": float(np.mean([one.seen for one in found])),
                "named": len(named) / len(found),
                "accuracy": float(right.mean()),
                "interval": [limits.low, limits.high],
                "accuracy_all": float(np.mean([one.said == one.truth for one in found])),
                "n_others": len(others),
                "others_rejected": float(np.mean([not one.named for one in others])) if others else None,
            }
        )
    return rows


def printed(title: str, rows: Sequence[dict[str, object]]) -> None:
    """One table for people."""
    print(f"\n{title}")
    print("share      n  found  taken for  named  right of named (95 %)      right of all  others rejected (n)")
    for row in rows:
        low, high = (100 * end for end in row["interval"])  # type: ignore[attr-defined]
        rejected = "-" if row["others_rejected"] is None else f"{100 * row['others_rejected']:.1f}"
        print(
            f"{row['share']:5.2f} {row['n']:6d} {100 * row['found']:6.1f} {row['taken_for']:10.3f} "
            f"{100 * row['named']:6.1f} {100 * row['accuracy']:8.2f} ({low:.2f} to {high:.2f}) "
            f"{100 * row['accuracy_all']:12.2f} {rejected:>10} ({row['n_others']})"
        )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder that holds data/")
    parser.add_argument("--model", type=Path, default=SHIPPED / DEVICE_FILE, help="a .tflite of view 'cell'")
    parser.add_argument("--every", type=int, default=1, help="only one picture in so many")
    parser.add_argument("--json", action="store_true", help="the answers, one JSON document a line")
    arguments = parser.parse_args()
    classifier = Classifier.open(arguments.model)
    asked = list(cut_pictures(classifier, held_back(arguments.shared, arguments.every)))
    if arguments.json:
        for one in asked:
            print(json.dumps(asdict(one)))
        return
    sides, corners = ([one for one in asked if one.corner == corner] for corner in (False, True))
    printed("cut at one side, by the share that was left", table(sides, by_seen=False))
    printed("cut at one side, by the share that is taken for seen", table(sides, by_seen=True))
    printed("cut at a corner, by the share that was left", table(corners, by_seen=False))
    printed("cut at a corner, by the share that is taken for seen", table(corners, by_seen=True))


if __name__ == "__main__":
    main()
