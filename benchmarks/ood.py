"""Which score tells cells of other classes from the four? Softmax, energy and feature distance of one trained run.

The run's held-back pictures must be kept, pictures of other classes (the other folders of DATA) be turned away.

max softmax      Hendrycks and Gimpel 2017, ICLR: the top probability, what the reject threshold looks at
energy           Liu et al. 2020, NeurIPS: log of the sum of exp(logits)
max logit        Hendrycks et al. 2022, ICML
mahalanobis      Lee et al. 2018, NeurIPS: distance of the embedding to the nearest class mean, one covariance
cosine           of the embedding, less the mean of all, to the nearest class mean
nearest cells    Sun et al. 2022, ICML: distance of the normed embedding to the 10th nearest training cell
as converted     top score of the int8 file, its own background included, which has learnt of most of these pictures
background       the output for none of the classes, as `training.background` fits it, on training pictures and three of
                 the other classes; each class is scored by the one that has not seen it

    python -m benchmarks.ood RUN DATA
"""

import argparse
import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN
from bloodcell_edge.dataset.tables import read_rows
from bloodcell_edge.model.choose import DEVICE_FILE
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.statistics.intervals import binomial_interval
from bloodcell_edge.text import interval
from bloodcell_edge.training.background import fit_background
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.kerasmodel import open_keras
from bloodcell_edge.training.prepared import prepare_pictures

CELLS_KEPT = 0.95  # of the four's cells that may be named
PICTURES_KEPT = 0.92  # of all pictures of the four: one without a cell, or of a marked one, is not kept
NEIGHBOUR = 10
SHRINKAGE = 0.05  # of the covariance towards its mean variance; 1,280 features of some 3,000 cells
BATCH = 64


def shown(pictures, view):
    """Pixels and pictures of those that show a cell that may be named."""
    prepared = prepare_pictures(pictures, view)
    return prepared.rows(np.flatnonzero(prepared.found & ~prepared.marked)), len(prepared.pictures)


def looked_at(net, pixels, labels):
    """Embedding, and logits of the labels, of pictures: float64, shapes (n, width) and (n, labels)."""
    outputs = [net.get_layer("pool").output, net.get_layer("logits").output]
    both = keras.Model(net.input, outputs)
    parts = [both.predict_on_batch(pixels[i : i + BATCH].astype(np.float32)) for i in range(0, len(pixels), BATCH)]
    features, logits = (np.concatenate(column).astype(np.float64) for column in zip(*parts, strict=True))
    return features, logits[:, :labels]


def log_sum_exp(logits):
    """Stable, shape (n,)."""
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, None]).sum(axis=1))


def normed(features):
    """Rows of length 1."""
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def by_mahalanobis(train, targets):
    """The nearest class mean under one covariance, shrunk (Ledoit and Wolf 2004's form with a fixed weight)."""
    means = np.stack([train[targets == label].mean(axis=0) for label in np.unique(targets)])
    covariance = np.cov(train - means[targets], rowvar=False)
    level = np.trace(covariance) / len(covariance)
    inverse = np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * level * np.eye(len(covariance)))

    def score(features):
        gaps = features[:, None] - means
        return -np.einsum("nkd,de,nke->nk", gaps, inverse, gaps, optimize=True).min(axis=1)

    return score


def by_cosine(train, targets):
    """The nearest class mean by angle, seen from the mean of all."""
    centre = train.mean(axis=0)
    means = normed(np.stack([train[targets == label].mean(axis=0) for label in np.unique(targets)]) - centre)
    return lambda features: (normed(features - centre) @ means.T).max(axis=1)


def by_neighbour(train):
    """The 10th nearest training cell."""
    kept = normed(train)

    def score(features):
        return np.sort(normed(features) @ kept.T, axis=1)[:, -NEIGHBOUR]

    return score


def background(train, train_logits, others, other_logits):
    """The top score of the labels beside a background output."""
    weights, bias = fit_background(train, train_logits, others, other_logits)

    def score(features, logits):
        none = features @ weights + bias
        return logits.max(axis=1) - np.logaddexp(log_sum_exp(logits), none)

    return score


def auroc(inside, outside):
    """Chance that a cell of the four scores above one of the others; ties count half (Hanley and McNeil 1982)."""
    both = np.concatenate([inside, outside])
    _, which, counts = np.unique(both, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[which]
    wins = ranks[: len(inside)].sum() - len(inside) * (len(inside) + 1) / 2
    return float(wins / (len(inside) * len(outside)))


def turned_away(inside, outside, kept):
    """How many of `outside` are below the threshold that keeps the best `kept` of `inside`."""
    threshold = -np.inf if kept > len(inside) else np.sort(inside)[::-1][kept - 1]
    return int((outside < threshold).sum())


def main():
    """Measure all scores and print a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()

    run = RunFolder(arguments.run)
    model = open_keras(run.model)
    labels, view = model.spec.labels, model.spec.shown_as
    root = arguments.data.resolve()
    rows = [
        row for row in read_rows(run.split, ("path", "label", "group", "split")) if root in Path(row["path"]).parents
    ]
    sides = {
        side: [Picture(Path(r["path"]), r["file"], r["label"], r["group"] or None) for r in rows if r["split"] == side]
        for side in (TRAIN, HELD_BACK)
    }
    (train, _), (inside, n_inside) = shown(sides[TRAIN], view), shown(sides[HELD_BACK], view)
    outside, n_outside = shown(load_data(arguments.data, labels=labels).unknown, view)
    names = np.array([picture.label for picture in outside.pictures])
    kinds = sorted({picture.label for picture in outside.pictures})

    features, logits = looked_at(model.net, train.pixels, len(labels))
    targets = train.targets(labels)
    (in_features, in_logits), (out_features, out_logits) = (
        looked_at(model.net, one.pixels, len(labels)) for one in (inside, outside)
    )
    # distances need no seen unknown; the background classes do
    distances = {
        "mahalanobis": by_mahalanobis(features, targets),
        "cosine": by_cosine(features, targets),
        "nearest cells": by_neighbour(features),
    }
    scores = {
        "max softmax": tuple(one.max(axis=1) - log_sum_exp(one) for one in (in_logits, out_logits)),
        "energy": (log_sum_exp(in_logits), log_sum_exp(out_logits)),
        "max logit": (in_logits.max(axis=1), out_logits.max(axis=1)),
        **{name: (score(in_features), score(out_features)) for name, score in distances.items()},
    }
    if (run.path / DEVICE_FILE).is_file():
        device = Classifier.open(run.path / DEVICE_FILE)
        scores["as converted"] = tuple(device.scores(one.pixels).max(axis=1) for one in (inside, outside))
    unseen = {
        kind: background(features, logits, out_features[names != kind], out_logits[names != kind]) for kind in kinds
    }

    known, other = Side(n_inside, len(inside.pixels)), Side(n_outside, len(names))
    table = [
        summary(name, {kind: (ours, theirs[names == kind]) for kind in kinds}, known, other)
        for name, (ours, theirs) in scores.items()
    ]
    pairs = {
        kind: (score(in_features, in_logits), score(out_features[names == kind], out_logits[names == kind]))
        for kind, score in unseen.items()
    }
    table.append(summary("background, class unseen", pairs, known, other))
    if arguments.json:
        print(json.dumps({"known": known._asdict(), "other": other._asdict(), "scores": table}))
        return
    print(f"held back: {known.cells} cells that may be named in {known.pictures} pictures")
    counts = {kind: int((names == kind).sum()) for kind in kinds}
    print(f"other classes: {other.cells} in {other.pictures} {counts}")
    head = f"{'score':26}{'AUROC':>7}{'worst':>7}{'cells away at 95 %':>22}{'pictures at 92 %':>22}"
    print(head + "".join(f"{kind[:12]:>14}" for kind in kinds) + "   (cells at 95 %)")
    for row in table:
        line = f"{row['score']:26}{row['auroc']:7.3f}{row['auroc_worst']:7.3f}"
        for one in (row["cells"], row["pictures"]):
            text = f"{100 * one['share']:.1f} ({interval((one['low'], one['high']), between='-')})"
            line += f"{text:>22}"
        print(line + "".join(f"{100 * share:14.1f}" for share in row["by_class"].values()))


class Side(NamedTuple):
    """Pictures, and how many show a cell that may be named."""

    pictures: int
    cells: int


def summary(name, pairs, known, other):
    """A row of the table from (scores of the four, scores of one other class) for each other class."""
    areas = {kind: auroc(ours, theirs) * len(theirs) for kind, (ours, theirs) in pairs.items()}
    counts = {kind: len(theirs) for kind, (_, theirs) in pairs.items()}

    def away(kept):
        return {kind: turned_away(ours, theirs, kept) for kind, (ours, theirs) in pairs.items()}

    cells = away(math.ceil(CELLS_KEPT * known.cells))
    nothing_to_name = other.pictures - other.cells
    pictures = sum(away(math.ceil(PICTURES_KEPT * known.pictures)).values()) + nothing_to_name
    return {
        "score": name,
        "auroc": sum(areas.values()) / other.cells,
        "auroc_worst": min(areas[kind] / counts[kind] for kind in pairs),
        "cells": share(sum(cells.values()), other.cells),
        "pictures": share(pictures, other.pictures),
        "by_class": {kind: cells[kind] / counts[kind] for kind in pairs},
    }


def share(k, n):
    """With its exact 95 % interval."""
    low, high = binomial_interval(k, n)
    return {"share": k / n, "low": low, "high": high, "n": n}


if __name__ == "__main__":
    main()
