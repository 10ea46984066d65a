"""What one scale for all pictures of a microscope adds, and what the order of a slide's fields changes.

    python benchmarks/pooled_scale.py [--shared ../shared] [--model FILE.tflite] [--every N] [--json]

Nothing is chosen by these figures. Pictures are those that the shipped file was not trained on. Each source is shown
twice: every picture by its own scale, and by the scale of all that share its microscope (`dataset.pooled`). Per source:
pictures, how far single scales
spread (90th over 10th percentile), balanced accuracy both ways with its 95 % interval, and how many pictures are right
with the pooled scale alone and with their own alone (McNemar's exact test). A mark or a rejection counts as wrong in
neither: it is the name with the highest score that is compared.

The photographs are one slide, too: its fields come in the order of their names and in ten others, a block of 20 is
named together as `bce run` does, and the cells whose label hangs on the order are counted.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from locate_truth import SHARED

from bloodcell_edge.dataset.asking import Answers, read_questions
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.dataset.tables import read_rows
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.imaging.located import Located
from bloodcell_edge.model.choose import DEVICE_FILE, SHIPPED
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.microscope import FirstLook
from bloodcell_edge.model.together import Together
from bloodcell_edge.statistics.intervals import mcnemar_exact

SOURCES = ("photos", "pbc", "raabin", "rvpbs")
TRAINED_ON = ("photos", "pbc")
ORDERS = 10


@dataclass(frozen=True, eq=False)
class Field:
    """A field of the slide: what is located in it, and what it says of the microscope."""

    path: Path
    located: Located
    first: FirstLook


def unseen(shared: Path, source: str, labels: Sequence[str], every: int) -> list[Picture]:
    """Labelled pictures of a source that the shipped file was not trained on, labels with a note left out."""
    held_back = {Path(row["file"]).name for row in read_rows(SHIPPED / "predictions.csv", ("source", "file"))}
    data = load_data(shared / "data" / source, labels=labels)
    known = [one for one in data.pictures if not one.note]
    return [one for one in known if source not in TRAINED_ON or one.path.name in held_back][::every]


def apart(pictures: Iterable[Picture]) -> list[Picture]:
    """The same, each of a source of its own, so that none shares a scale."""
    return [Picture(**(vars(one) | {"source": one.file, "group": None})) for one in pictures]


def compared(model: Classifier, pictures: Sequence[Picture]) -> dict[str, object]:
    """Both ways of showing pictures."""
    view, truth = [model.spec.shown_as], np.array([model.spec.labels.index(one.label or "") for one in pictures])
    own = read_questions(apart(pictures), view, locate=model.locator).ask(model)
    pooled = read_questions(pictures, view, locate=model.locator).ask(model)
    rulers = [model.locator(read_image(one.path)).red_cell_px for one in pictures]
    low, high = np.percentile([one for one in rulers if one], (10, 90))
    right = {name: _right(answers, truth) for name, answers in (("own", own), ("pooled", pooled))}
    gained, lost = right["pooled"] & ~right["own"], right["own"] & ~right["pooled"]
    return {
        "n": len(pictures),
        "spread": round(float(high / low), 3),
        "own": _balanced(right["own"], truth),
        "pooled": _balanced(right["pooled"], truth),
        "right_pooled_only": int(gained.sum()),
        "right_own_only": int(lost.sum()),
        "p": round(mcnemar_exact(right["pooled"], right["own"]), 4),
    }


def _right(answers: Answers, truth: np.ndarray) -> np.ndarray:
    scores = np.where(answers.found[:, None], answers.scores, -1.0)
    return np.asarray(answers.found & (scores.argmax(axis=1) == truth), bool)


def _balanced(right: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean of the classes' shares, with the interval of a stratified bootstrap (2,000 draws)."""
    rng = np.random.default_rng(0)
    classes = [right[truth == label] for label in np.unique(truth)]
    drawn = np.mean([rng.binomial(len(one), one.mean(), 2000) / len(one) for one in classes], axis=0)
    low, high = np.percentile(drawn, (2.5, 97.5))
    mean = float(np.mean([one.mean() for one in classes]))
    return {"balanced_accuracy": round(mean, 4), "low": round(float(low), 4), "high": round(float(high), 4)}


def slide(model: Classifier, paths: Sequence[Path]) -> list[Field]:
    """The fields of a slide, located once."""
    fields = []
    for path in paths:
        image = read_image(path)
        located = model.locator(image)
        fields.append(Field(path, Located(located.cells, located.red_cell_px), FirstLook.of(image, located)))
    return fields


def labels_in_order(
    model: Classifier, fields: Sequence[Field], order: Sequence[int], known: dict[object, tuple[str, ...]]
) -> dict[Path, tuple[str, ...]]:
    """The labels of each field's cells when they come in this order; `known` keeps what was asked already."""
    waiting: Together[Field] = Together()
    said = {}
    for number, place in enumerate(order, 1):
        waiting.add(fields[place], fields[place].first)
        if not waiting.complete and number < len(order):
            continue
        for one, first, microscope in waiting.take():
            shared = microscope.applied(first or one.first, one.located)
            key = one.path, shared.red_cell_px, shared.cells
            if key not in known:
                shown = model.show(read_image(one.path), shared)
                known[key] = tuple(cell.label for cell in model.answer(shown))
            said[one.path] = known[key]
    return said


def shuffled(model: Classifier, fields: Sequence[Field]) -> dict[str, object]:
    """How many labels of a slide hang on the order of its fields."""
    rng, known = np.random.default_rng(0), {}
    first = labels_in_order(model, fields, range(len(fields)), known)
    n = sum(map(len, first.values()))
    changed = []
    for _ in range(ORDERS):
        other = labels_in_order(model, fields, rng.permutation(len(fields)).tolist(), known)
        changed.append(sum(a != b for path in first for a, b in zip(first[path], other[path], strict=True)))
    return {"cells": n, "orders": ORDERS, "changed": changed, "most_in_200": round(200 * max(changed) / n, 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED)
    parser.add_argument("--model", type=Path, default=SHIPPED / DEVICE_FILE)
    parser.add_argument("--every", type=int, default=1, help="take each so many pictures of a source")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    model = Classifier.open(arguments.model)
    found = {
        name: compared(model, unseen(arguments.shared, name, model.spec.labels, arguments.every)) for name in SOURCES
    }
    paths = sorted((arguments.shared / "data/photos").glob("*.jpg"))[:: arguments.every]
    order = shuffled(model, slide(model, paths))
    if arguments.json:
        print(json.dumps({"sources": found, "order": order}))
        return
    print("balanced accuracy (95 %)       own scale               pooled scale           only pooled / only own right")
    for name, one in found.items():
        ways = "   ".join(
            f"{one[way]['balanced_accuracy']:.3f} ({one[way]['low']:.3f} to {one[way]['high']:.3f})"
            for way in ("own", "pooled")
        )
        only = f"{one['right_pooled_only']} / {one['right_own_only']}, p {one['p']}"
        print(f"{name:8} n {one['n']:5} spread {one['spread']:.2f}   {ways}   {only}")
    print(f"order: {order['changed']} of {order['cells']} labels changed in {ORDERS} orders")


if __name__ == "__main__":
    main()
