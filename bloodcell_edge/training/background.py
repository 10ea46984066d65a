"""A last output for what is none of the classes: other cells, platelets, whatever else a locator finds.

It is fitted when all else is trained, on what the trained network makes of a picture, and takes nothing from the
classes: their logits, and so which of them comes first, stay as they are. With embedding x and class logits z the
chance of none of them is ``sigmoid(w x + b - log(sum(exp(z))))``, which is a softmax with one logit more; w and b are a
ridge-penalized logistic regression with an offset, which has one optimum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dataset.asking import Answers
from ..dataset.audit import with_photographs
from ..dataset.pictures import Picture, count_by_label
from ..dataset.split import HELD_BACK, TRAIN, Member, members, save_split
from .augment import augment_batch
from .frameworks import keras
from .prepared import Prepared, counts_in_words, prepare_pictures
from .stages import BACKGROUND_THRESHOLD, TrainingRun, bare_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .recipes import Recipe

    Floats = NDArray[np.float64]

RIDGE = 1e-3
"""Penalty of the squared weights, against the mean of the features' variances: a few hundred pictures of other cells
must not be learnt by heart through some thousand features."""

PRIOR = 0.1
"""Share of what a locator finds on a smear that is none of the classes, as the fit weighs its two sides: basophils and
immature cells are few, and a half would take from the scores of every cell what rejects no more of the others."""

_BATCH = 64
_STEPS = 50  # of Newton's method; it needs about twenty
_ENOUGH = 1e-8  # change of the loss, or of the weights


def with_background(net: Any, known: Prepared, others: Prepared, recipe: Recipe) -> Any:
    """A copy of a network with an output more.

    Args:
        net: gives probabilities by a softmax over a Dense named "logits".
        known: pictures of the classes, with a cell found in each.
        others: likewise, of none of them.
        recipe: says how pictures are augmented; each is looked at twice, as it is and augmented.

    Returns:
        A Keras model of one output more, the last.
    """
    own = keras.models.clone_model(net)  # layers shared with other models have several inputs
    own.set_weights(net.get_weights())
    dense = own.get_layer("logits")
    part = keras.Model(own.input, dense.input)
    kernel, bias = (np.asarray(array, np.float64) for array in dense.get_weights())
    inside, outside = (_embeddings(part, prepared, recipe) for prepared in (known, others))
    weights, level = fit_background(inside, inside @ kernel + bias, outside, outside @ kernel + bias)
    wider = keras.layers.Dense(len(bias) + 1, name="logits")
    output = keras.layers.Softmax(name="probability")(wider(dense.input))
    wider.set_weights([np.column_stack([kernel, weights]), np.append(bias, level)])
    return keras.Model(own.input, output, name=net.name)


def _embeddings(part: Any, prepared: Prepared, recipe: Recipe) -> Floats:
    """What enters the last Dense for each picture as it is, then for each augmented; float64, shape (2 n, width)."""
    found = []
    for start in range(0, len(prepared.pixels), _BATCH):
        rows = slice(start, start + _BATCH)
        changed = prepared.pixels[rows]
        if recipe.augmentation is not None:
            wide, aspects, seed = prepared.wide[rows], prepared.aspects[rows], (recipe.seed, 5, start)
            changed = augment_batch(wide, recipe.augmentation, aspects=aspects, size=recipe.size, seed=seed)
        found.append([part.predict_on_batch(one.astype(np.float32)) for one in (prepared.pixels[rows], changed)])
    return np.concatenate([batch for view in zip(*found, strict=True) for batch in view]).astype(np.float64)


def fit_background(
    inside: Floats, inside_logits: Floats, outside: Floats, outside_logits: Floats
) -> tuple[Floats, float]:
    """Weights and bias of the background's logit, by Newton's method; the sides are weighed by `PRIOR`, however many.

    Args:
        inside: embeddings of pictures of the classes, shape (n, width).
        inside_logits: their class logits, shape (n, labels).
        outside: embeddings of pictures of none, shape (m, width).
        outside_logits: likewise, shape (m, labels).

    Returns:
        (weights, bias); weights float64, shape (width,).
    """
    features = np.concatenate([inside, outside])
    offset = _log_sum_exp(np.concatenate([inside_logits, outside_logits]))
    target = np.repeat([0.0, 1.0], [len(inside), len(outside)])
    share = np.repeat([(1 - PRIOR) / len(inside), PRIOR / len(outside)], [len(inside), len(outside)])
    columns = np.column_stack([features, np.ones(len(features))])
    penalty = np.append(np.full(features.shape[1], RIDGE * _spread(features, share)), 0.0)

    def loss(at: Floats) -> float:
        logit = columns @ at - offset
        return float(share @ (np.logaddexp(0.0, logit) - target * logit) + 0.5 * penalty @ at**2)

    found = np.zeros(columns.shape[1])
    for _ in range(_STEPS):
        chance = 1.0 / (1.0 + np.exp(offset - columns @ found))
        slope = columns.T @ (share * (chance - target)) + penalty * found
        curve = (columns * (share * chance * (1.0 - chance))[:, None]).T @ columns + np.diag(penalty + 1e-12)
        before, step = loss(found), np.linalg.solve(curve, slope)
        while loss(found - step) > before and np.abs(step).max() > _ENOUGH:
            step = step / 2  # where the loss is flat far away, a whole step goes too far
        found = found - step
        if before - loss(found) < _ENOUGH:
            break
    return found[:-1], float(found[-1])


def _spread(features: Floats, share: Floats) -> float:
    """The mean over features of their variances, rows weighted."""
    return float((share @ features**2 - (share @ features) ** 2).mean())


def _log_sum_exp(logits: Floats) -> Floats:
    top = logits.max(axis=1)
    sums: Floats = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
    return sums


@dataclass(frozen=True)
class Others:
    """Pictures of none of the classes, and the run whose network has learnt of those on the training side."""

    state: TrainingRun
    rows: tuple[Member, ...]
    prepared: Prepared

    def side(self, name: str) -> NDArray[np.int64]:
        """Positions of the pictures on one side of the split."""
        return np.flatnonzero([row.split == name for row in self.rows])

    def figures(self) -> dict[str, int]:
        """How many of those held back are rejected: their top score is below a half, or there is no cell to name."""
        rows = self.prepared.rows(self.side(HELD_BACK))
        scores = bare_model(self.state).scores(rows.pixels)
        return Answers(rows.pictures, scores, rows.found, rows.marked, rows.cut).rejections(BACKGROUND_THRESHOLD)


def learn_background(state: TrainingRun, unknown: Sequence[Picture], *, remember: bool = True) -> Others | None:
    """Fit an output for none of the classes; None where there are no pictures of others.

    Args:
        state: with a trained network.
        unknown: pictures of other classes.
        remember: see `split_and_prepare`.
    """
    recipe, report = state.recipe, state.report
    if not unknown:
        report.say("no pictures of other classes: the model cannot learn to reject other cells")
        return None
    with report.bar("read others") as progress:
        features = remember or not all(picture.group for picture in unknown)
        prepared = prepare_pictures(
            unknown, recipe.shown_as, margin=recipe.margin, features=features, progress=progress
        )
    pictures = with_photographs(prepared.pictures, report, prepared.features)
    rows = members(pictures, recipe.split, prepared.sha256)
    others = Others(state, tuple(rows), replace(prepared, pictures=tuple(pictures)))
    save_split(state.folder.unknown, others.rows)
    trained = others.side(TRAIN)
    report.say(f"none of these: learning from {counts_in_words(count_by_label([pictures[row] for row in trained]))}")
    known = state.prepared.rows(state.side(TRAIN))
    model = with_background(state.model, known, prepared.rows(trained[prepared.found[trained]]), recipe)
    return replace(others, state=replace(state, model=model))
