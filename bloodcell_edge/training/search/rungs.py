"""How good one candidate of `bce search` is: its balanced accuracy on photographs, or sources, not trained on.

====  ==================================================================================================
rung  what is trained
====  ==================================================================================================
1     the head, on features of the frozen backbone that are made once for each backbone, size and strength
2     the whole recipe, but with few pictures and epochs
3     the whole recipe, on as many pictures of each source as an hour has time for
====  ==================================================================================================

Every fold is trained without the pictures that judge it. With several DATA each is left out in turn, which tells how a
model carries over to another microscope; with one, a third of its photographs is.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...dataset.evaluation import evaluate_files
from ...dataset.pictures import Dataset, Picture
from ...dataset.split import Member, group_names, take_out
from ...errors import DataError
from ...progress import Reporter
from ...runs import RunFolder
from ...statistics.metrics import evaluate
from ..backbone import build_head, build_model
from ..draws import balanced_weights, epoch_order
from ..features import frozen_features
from ..fit import train
from ..frameworks import keras
from ..kerasmodel import open_keras
from ..prepared import Prepared, prepare_pictures

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..recipes import Recipe

FOLDS = 3
"""Parts that the photographs of a single DATA are dealt into."""

WATCHED = 0.02
"""Share of photographs that a fold's own training holds back: it is judged elsewhere, but watches at least one."""

MEMORY_BYTES = 2 << 30
"""Most that decoded pictures of several input sizes may take at once; those of the last one always stay."""

_POOLINGS = ("avg", "max")  # halves of the cached features, in this order


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Attributes:
        number: 1, 2 or 3.
        pictures: most that are taken of each source.
        head_epochs: most epochs of the head; None leaves the recipe's.
        fine_tune_epochs: likewise of fine-tuning.
    """

    number: int
    pictures: int
    head_epochs: int | None = None
    fine_tune_epochs: int | None = None

    def shortened(self, recipe: Recipe) -> Recipe:
        """The recipe with no more epochs, and no larger ones, than this rung gives it; without a background."""
        head, tune = recipe.head_epochs, recipe.fine_tune_epochs
        if self.head_epochs is not None:
            head = min(head, self.head_epochs)
        if self.fine_tune_epochs is not None:
            tune = min(tune, self.fine_tune_epochs)
        draws = None if recipe.draws is None else min(recipe.draws, self.pictures)
        short = replace(recipe, head_epochs=head, fine_tune_epochs=tune, draws=draws, held_back=WATCHED)
        return replace(short, background=False)


RUNGS = (Rung(1, 1000), Rung(2, 600, head_epochs=4, fine_tune_epochs=6), Rung(3, 1500, fine_tune_epochs=8))
"""Sized so that an hour on two cores judges 30, 10 and 3 candidates."""


@dataclass(frozen=True, eq=False)
class Fold:
    """Positions of pictures to train on and to judge by, each int64 (n,).

    Attributes:
        name: of what is left out.
        train: pictures to train on.
        judge: pictures to judge by.
    """

    name: str
    train: NDArray[np.int64]
    judge: NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """Balanced accuracy of a candidate: the mean over folds, each fold's, and of how many pictures."""

    balanced_accuracy: float
    by_fold: dict[str, float]
    n: int


def make_folds(
    rows: Sequence[Member], labels: Sequence[str], *, first: str, noted: bool = True, seed: int
) -> list[Fold]:
    """Leave each source out in turn, or, of a single one, each third of the photographs.

    Args:
        rows: pictures with group and source.
        labels: of the model; every fold must have all of them to train on.
        first: what the source without a name is called, see `Picture.source`.
        noted: judge also by pictures with a note, whose label may be doubtful.
        seed: of the draw of photographs.

    Raises:
        DataError: a class is missing where a source is left out, or has too few photographs.
    """
    groups = np.array(group_names([row.picture for row in rows]))
    folds = []
    for name, part in _parts([row.picture for row in rows], first, seed).items():
        rest = np.flatnonzero(~np.isin(groups, groups[part]))  # nor what shows a photograph of this source
        missing = [label for label in labels if label not in {rows[row].picture.label for row in rest.tolist()}]
        if missing:
            message = f"{name}: without it there is no {', '.join(missing)} to train on; add DATA, or give --labels"
            raise DataError(message)
        folds.append(Fold(name, rest, part if noted else part[[not rows[row].picture.note for row in part.tolist()]]))
    return folds


def _parts(pictures: Sequence[Picture], first: str, seed: int) -> dict[str, NDArray[np.int64]]:
    """What is left out in turn: positions of pictures, by name."""
    sources = list(dict.fromkeys(picture.source for picture in pictures))
    if len(sources) == 1:
        return {f"part {number + 1} of {FOLDS}": part for number, part in enumerate(_thirds(pictures, seed))}
    return {source or first: np.flatnonzero([picture.source == source for picture in pictures]) for source in sources}


def _thirds(pictures: Sequence[Picture], seed: int) -> list[NDArray[np.int64]]:
    """Positions of the pictures of each part; photographs stay whole, classes are dealt evenly."""
    labels, groups = [picture.label or "" for picture in pictures], group_names(pictures)
    left, parts = np.arange(len(pictures)), []
    for number in range(FOLDS - 1):
        share = 1 / (FOLDS - number)
        taken = take_out([labels[i] for i in left], [groups[i] for i in left], share, seed=seed + number)
        parts.append(left[taken])
        left = left[~taken]
    return [*parts, left]


def some_pictures(rows: Sequence[Member], most: int, seed: int) -> NDArray[np.int64]:
    """Positions of about `most` pictures of each source: classes alike, of as many photographs as there are.

    Args:
        rows: pictures with group and source.
        most: of a source.
        seed: of the draw; the same pictures give the same choice.
    """
    shuffled = np.random.default_rng(seed).permutation(len(rows))
    shown: Counter[tuple[str, str, str]] = Counter()
    kinds: dict[str, dict[str, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    names = group_names([row.picture for row in rows])
    for place in shuffled.tolist():
        source, label = rows[place].picture.source, rows[place].picture.label or ""
        kinds[source][label].append((shown[source, label, names[place]], place))
        shown[source, label, names[place]] += 1
    # one picture of each photograph, then a second one of each, and so on; the sort keeps the shuffled order
    by_turn = [
        sorted(own, key=lambda turn: turn[0])[: max(most // len(classes), 1)]
        for classes in kinds.values()
        for own in classes.values()
    ]
    return np.array(sorted(place for own in by_turn for _, place in own))


class Judge:
    """Trains candidates and judges them; keeps decoded pictures, and the features of the last candidate, in memory."""

    def __init__(
        self, rows: Sequence[Member], labels: tuple[str, ...], folds: Sequence[Fold], *, folder: Path, seed: int
    ) -> None:
        """Judge by these folds; caches and runs in hand are kept in `folder`."""
        self._rows, self._labels, self._folds, self._folder, self._seed = tuple(rows), labels, folds, folder, seed
        self._prepared: dict[object, Prepared] = {}
        self._features: dict[object, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def run_folders(self, rung: Rung, candidate: int) -> list[Path]:
        """Where the trainings of a candidate stand while it is judged."""
        return [self._folder / "trials" / f"{rung.number}-{candidate}-{number}" for number in range(len(self._folds))]

    def judge(self, recipe: Recipe, rung: Rung, candidate: int, report: Reporter) -> Judged:
        """Train a candidate in every fold and judge it by what was left out; what is unfinished goes on.

        Args:
            recipe: the candidate.
            rung: how thoroughly.
            candidate: its number, by which its trainings are known.
            report: told how far it is; may raise at the beginning of an epoch.
        """
        chosen = some_pictures(self._rows, rung.pictures, self._seed)
        folds = [
            Fold(one.name, np.intersect1d(one.train, chosen), np.intersect1d(one.judge, chosen)) for one in self._folds
        ]
        recipe = rung.shortened(recipe)
        if rung.number == 1:
            found = self._judge_heads(recipe, chosen, folds, report)
        else:
            found = []
            for fold, path in zip(folds, self.run_folders(rung, candidate), strict=True):
                report.say(f"rung {rung.number}, candidate {candidate}: training without {fold.name}")
                found.append(self._judge_trained(recipe, fold, RunFolder(path), report))
        by_fold = {fold.name: share for fold, share in zip(folds, found, strict=True)}
        return Judged(float(np.mean(found)), by_fold, sum(len(fold.judge) for fold in folds))

    def _judge_heads(
        self, recipe: Recipe, chosen: NDArray[np.int64], folds: Sequence[Fold], report: Reporter
    ) -> list[float]:
        prepared = self._pictures(recipe, chosen, report)
        varied, plain = self._cached_features(recipe, prepared, chosen, report)
        truth = prepared.targets(self._labels)
        shares = []
        for fold in folds:
            train_rows, judged = np.searchsorted(chosen, fold.train), np.searchsorted(chosen, fold.judge)
            rows = train_rows[prepared.found[train_rows]]
            head = self._trained_head(recipe, varied, prepared, rows)
            scores = np.asarray(head(plain[judged], training=False))
            figures = evaluate(truth[judged], scores, self._labels, no_cell=~prepared.found[judged])
            shares.append(figures.balanced_accuracy or 0.0)
        return shares

    def _trained_head(
        self, recipe: Recipe, varied: NDArray[np.float32], prepared: Prepared, rows: NDArray[np.int64]
    ) -> keras.Model:
        keras.utils.set_random_seed(recipe.seed)
        head = build_head(recipe, varied.shape[-1], len(self._labels))
        head.compile(
            keras.optimizers.AdamW(recipe.head_rate, weight_decay=recipe.weight_decay),
            keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
            jit_compile=False,
        )
        targets = np.eye(len(self._labels), dtype=np.float32)[prepared.targets(self._labels)]
        weights = balanced_weights([prepared.pictures[row] for row in rows], noted=recipe.noted)
        for epoch in range(max(recipe.head_epochs, 1)):
            drawn = rows[epoch_order(len(rows), weights, (recipe.seed, 1, epoch))]
            view = np.random.default_rng((recipe.seed, 2, epoch)).integers(varied.shape[1], size=len(drawn))
            head.fit(varied[drawn, view], targets[drawn], batch_size=recipe.batch, shuffle=False, verbose=0)
        return head

    def _pictures(self, recipe: Recipe, chosen: NDArray[np.int64], report: Reporter) -> Prepared:
        key = recipe.shown_as
        if key not in self._prepared:
            with report.bar(f"read {len(chosen)} pictures") as progress:
                wanted = [self._rows[row].picture for row in chosen]
                prepared = prepare_pictures(wanted, recipe.shown_as, margin=recipe.margin, progress=progress)
            if prepared.unreadable:
                message = f"{prepared.unreadable[0].error}; it could be read when this search began: put it back"
                raise DataError(message)
            self._make_room(prepared)
            self._prepared[key] = prepared
        return self._prepared[key]

    def _make_room(self, wanted: Prepared) -> None:
        """Forget the oldest pictures until others fit."""
        while self._prepared and sum(map(_bytes, (*self._prepared.values(), wanted))) > MEMORY_BYTES:
            del self._prepared[next(iter(self._prepared))]

    def _cached_features(
        self, recipe: Recipe, prepared: Prepared, chosen: NDArray[np.int64], report: Reporter
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features of augmented views, float32 (n, views, width), and of the pictures as they are, (n, width)."""
        key = (recipe.backbone, recipe.alpha, recipe.size, recipe.augmentation)
        if key not in self._features:
            self._features.clear()
            backbone = _two_poolings(recipe, len(self._labels))
            hashes = [self._rows[row].sha256 for row in chosen]
            both = replace(recipe, pooling="+".join(_POOLINGS), views=1)
            made = []
            for augmented in (True, False):
                with report.bar(f"features of {recipe.backbone} {recipe.alpha:g} at {recipe.size} px") as progress:
                    made.append(
                        frozen_features(
                            backbone,
                            prepared,
                            hashes,
                            both,
                            augmented=augmented,
                            cache=self._folder / "cache",
                            progress=progress,
                        )
                    )
            self._features[key] = made[0], made[1][:, 0]
        varied, plain = self._features[key]
        width = plain.shape[-1] // len(_POOLINGS)
        half = slice(width * _POOLINGS.index(recipe.pooling), width * (_POOLINGS.index(recipe.pooling) + 1))
        return varied[..., half], plain[..., half]

    def _judge_trained(self, recipe: Recipe, fold: Fold, run: RunFolder, report: Reporter) -> float:
        if not run.metrics.is_file():
            train(self._dataset(fold.train), recipe, run, brief=True, report=report)
        answers = evaluate_files(open_keras(run.model), self._dataset(fold.judge), allow_seen=True, report=report)
        return answers.evaluation.balanced_accuracy or 0.0

    def _dataset(self, rows: NDArray[np.int64]) -> Dataset:
        return Dataset(self._folder, self._labels, tuple(self._rows[row].picture for row in rows))


def _bytes(prepared: Prepared) -> int:
    return prepared.pixels.nbytes + prepared.wide.nbytes


def _two_poolings(recipe: Recipe, labels: int) -> keras.Model:
    """A frozen backbone that gives both poolings side by side, so that one pass serves every head."""
    _, features, _ = build_model(replace(recipe, pooling="avg"), labels)
    last = features.layers[-2].output
    pooled = [features.output, keras.layers.GlobalMaxPooling2D()(last)]
    return keras.Model(features.input, keras.layers.Concatenate()(pooled), name="features")
