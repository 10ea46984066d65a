"""``bce train``: from labelled pictures to a run folder."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..data import Dataset, Picture
from ..errors import DataError, OutputExists
from ..evaluation import count_by_label, figures
from ..files import beside, sha256_file, write_json
from ..image import IMAGE_VERSION
from ..metrics import evaluate as evaluate_scores
from ..reporting import Reporter
from ..runs import RunFolder
from ..seen import collect
from ..spec import ModelSpec, save_spec
from .audit import PhotographIndex, find_groups
from .augment import augment_batch
from .backbone import build_model, set_trainable
from .dataset import (
    HELD_BACK,
    TRAIN,
    VALIDATION,
    Member,
    Prepared,
    as_tensor_dataset,
    balanced_weights,
    epoch_order,
    load_split,
    members,
    photographs_by_label,
    prepare_pictures,
    save_split,
)
from .epochs import Checkpoint, Stage, run_stage, save_history
from .features import frozen_features
from .frameworks import keras
from .kerasmodel import KerasModel
from .plots import save_plots
from .recipes import Recipe
from .runfolder import is_unfinished, run_config

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAKY = "leaky"
"""Name of the stage, and prefix of every figure, that stands on a split which cuts photographs apart."""


@dataclass(frozen=True)
class _Run:
    """What all stages of one run share."""

    recipe: Recipe
    labels: tuple[str, ...]
    rows: tuple[Member, ...]
    prepared: Prepared
    model: Any
    features: Any
    head: Any
    folder: RunFolder
    report: Reporter

    def side(self, name: str) -> NDArray[np.int64]:
        """Positions of the pictures on one side of the split."""
        return np.flatnonzero([row.split == name for row in self.rows])

    @property
    def watched(self) -> NDArray[np.int64]:
        """Pictures whose loss is shown after each epoch: validation where a choice is made by it, else held back."""
        return self.side(VALIDATION if self.recipe.validation else HELD_BACK)

    def one_hot(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Targets of some pictures, shape (len(rows), labels)."""
        return np.eye(len(self.labels), dtype=np.float32)[self.prepared.targets(self.labels)[rows]]

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Chance of each to be drawn; None draws every picture once."""
        if not self.recipe.balance:
            return None
        return balanced_weights([self.prepared.pictures[row] for row in rows])


def train(dataset: Dataset, recipe: Recipe, run: RunFolder, *, drawn: bool = False, report: Reporter) -> ModelSpec:
    """Train a model and fill a run folder; an interrupted run of the same recipe and data goes on.

    Args:
        dataset: labelled pictures; those without a group are grouped by photograph first.
        recipe: how.
        run: the folder to fill.
        drawn: the pictures are drawn, so that every figure must say so.
        report: told how far it is.

    Returns:
        The spec of the trained model, as in the folder.

    Raises:
        DataError: labels without pictures, or too few photographs to hold some back.
        OutputExists: the folder holds a finished run, or one of another recipe.
    """
    start = time.perf_counter()
    _enter(run, recipe, dataset)
    rows, prepared = _split_and_prepare(dataset, recipe, run, report)
    _say_counts(rows, report)
    keras.utils.set_random_seed(recipe.seed)
    model, features, head = build_model(recipe, len(dataset.labels))
    state = _Run(recipe, dataset.labels, tuple(rows), prepared, model, features, head, run, report)
    checkpoint = Checkpoint.load(run.state / "checkpoint.npz", model)
    for number, stage in enumerate(_stages(state)):
        run_stage(number, stage, model, checkpoint, history=run.history, report=report)
    save_history(run.history, checkpoint.history)
    spec = _finish(state, checkpoint.history, drawn=drawn, seconds=time.perf_counter() - start)
    shutil.rmtree(run.state, ignore_errors=True)
    return spec


def _enter(run: RunFolder, recipe: Recipe, dataset: Dataset) -> None:
    """Make the folder, or go on in it where it is an unfinished run of the same recipe and data."""
    empty = [label for label, count in dataset.by_label().items() if not count]
    if empty:
        message = f"{dataset.root}: no picture of {', '.join(empty)}; add some, or name fewer classes with --labels"
        raise DataError(message)
    config = run_config(recipe, dataset)
    if run.config.is_file():
        if run.metrics.is_file():
            message = f"{run.path}: holds a finished run; give another --name, or --force to train it again"
            raise OutputExists(message)
        if not is_unfinished(run, config):
            message = f"{run.path}: holds an unfinished run of another recipe or data; give another --name, or --force"
            raise OutputExists(message)
    write_json(run.config, config)


def _split_and_prepare(
    dataset: Dataset, recipe: Recipe, run: RunFolder, report: Reporter
) -> tuple[list[Member], Prepared]:
    """Decode everything, group it by photograph and split it, or read the split of the run that goes on."""
    if run.split.is_file():
        rows = load_split(run.split)
        report.say(f"{run.path}: going on with the split of {len(rows)} pictures that is there")
        with report.bar("read") as progress:
            return rows, prepare_pictures([row.picture for row in rows], recipe.size, progress=progress)
    with report.bar("read") as progress:
        prepared = prepare_pictures(dataset.pictures, recipe.size, progress=progress)
    bad = (*dataset.unreadable, *prepared.unreadable)
    for one in bad:
        report.say(f"left out: {one.error}")
    pictures = with_photographs(prepared.pictures, report)
    rows = members(pictures, recipe)
    write_json(run.path / "unreadable.json", [vars(one) for one in bad])
    save_split(run.split, rows)
    return rows, replace(prepared, pictures=tuple(pictures))


def with_photographs(pictures: Sequence[Picture], report: Reporter) -> list[Picture]:
    """Fill in which photograph each picture shows, where nobody said."""
    if all(picture.group is not None for picture in pictures):
        return list(pictures)
    with report.bar("find photographs") as progress:
        found = find_groups([picture.path for picture in pictures], progress=progress)
    named: dict[int, str] = {}
    for picture, group in zip(pictures, found, strict=True):
        named.setdefault(group, picture.file)  # a found photograph is called by the first file that shows it
    return [replace(picture, group=named[group]) for picture, group in zip(pictures, found, strict=True)]


def _say_counts(rows: Sequence[Member], report: Reporter) -> None:
    for side in (TRAIN, VALIDATION, HELD_BACK):
        pictures = [row.picture for row in rows if row.split == side]
        if pictures:
            photographs = photographs_by_label(pictures)
            counts = count_by_label(pictures)
            listed = ", ".join(f"{label} {counts[label]} of {photographs[label]}" for label in counts)
            report.say(f"{side}: {len(pictures)} pictures of {sum(photographs.values())} photographs ({listed})")


def _stages(state: _Run) -> Iterator[Stage]:
    recipe = state.recipe
    initial = state.head.get_weights()
    if recipe.leaky_too:
        leaky = np.array([row.leaky_split for row in state.rows])
        yield _head_stage(state, LEAKY, np.flatnonzero(leaky == TRAIN), np.flatnonzero(leaky == VALIDATION), initial)
    if recipe.head_epochs:
        yield _head_stage(state, "head", state.side(TRAIN), state.watched, initial)
    yield from _fine_tune_stages(state)


def _head_stage(
    state: _Run, name: str, train_rows: NDArray[np.int64], watched: NDArray[np.int64], initial: list[Any]
) -> Stage:
    """Train the head alone, on features that the frozen backbone gives once."""
    recipe = state.recipe
    hashes = np.array([row.sha256 for row in state.rows])

    def cached(rows: NDArray[np.int64], *, augmented: bool) -> NDArray[np.float32]:
        some = _rows_of(state.prepared, rows)
        with state.report.bar("features of the frozen backbone") as progress:
            return frozen_features(
                state.features, some, hashes[rows].tolist(), recipe, augmented=augmented,
                cache=state.folder.cache, progress=progress,
            )  # fmt: skip

    weights, targets = state.weights(train_rows), state.one_hot(train_rows)
    made: dict[str, NDArray[np.float32]] = {}

    def begin(fresh: bool) -> Any:
        if recipe.augmentation is None:  # one pass over all pictures serves every split of them
            everything = cached(np.arange(len(state.rows)), augmented=False)
            made["train"], made["watched"] = everything[train_rows], everything[watched][:, 0]
        else:
            made["train"], made["watched"] = cached(train_rows, augmented=True), cached(watched, augmented=False)[:, 0]
        if fresh:
            state.head.set_weights(initial)
        _compile(state.head, recipe, recipe.head_rate)
        return state.head

    def batches(epoch: int) -> dict[str, Any]:
        order = epoch_order(len(train_rows), weights, (recipe.seed, 1, epoch))
        view = np.random.default_rng((recipe.seed, 2, epoch)).integers(made["train"].shape[1], size=len(order))
        return {"x": made["train"][order, view], "y": targets[order], "batch_size": recipe.batch, "shuffle": False}

    def validate() -> tuple[float, float]:
        return _loss_and_accuracy(state, watched, state.head.predict(made["watched"], batch_size=256, verbose=0))

    return Stage(name, begin, recipe.head_epochs, batches, validate, recipe.patience)


def _fine_tune_stages(state: _Run) -> Iterator[Stage]:
    """Train the backbone's last blocks, first half of them, then all, under one falling learning rate."""
    recipe = state.recipe
    if not recipe.fine_tune:
        return
    rows = state.side(TRAIN)
    steps = max(len(rows) // recipe.batch, 1)
    epochs = recipe.fine_tune_epochs
    gradual = recipe.fine_tune > 1 and recipe.head_epochs > 0 and epochs > 2
    first = epochs // 3 if gradual else 0
    if gradual:
        yield _fine_tune_stage(state, rows, math.ceil(recipe.fine_tune / 2), first, 0, steps * epochs)
    yield _fine_tune_stage(state, rows, recipe.fine_tune, epochs - first, steps * first, steps * epochs)


def _fine_tune_stage(state: _Run, rows: NDArray[np.int64], blocks: int, epochs: int, done: int, total: int) -> Stage:
    recipe = state.recipe
    name = f"fine-tune {'all' if blocks < 0 else blocks} blocks"
    weights, targets = state.weights(rows), state.one_hot(rows)
    steps = max(len(rows) // recipe.batch, 1)

    def begin(fresh: bool) -> Any:
        set_trainable(state.model, recipe.backbone, blocks, norm=recipe.weights == "none")
        _compile(state.model, recipe, _FallingRate(recipe.fine_tune_rate, done, total))
        return state.model

    def batches(epoch: int) -> dict[str, Any]:
        order = epoch_order(len(rows), weights, (recipe.seed, 3, done, epoch))
        return {"x": as_tensor_dataset(partial(batch, order, epoch), steps, recipe.size), "shuffle": False}

    def batch(order: NDArray[np.int64], epoch: int, step: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        taken = order[step * recipe.batch : (step + 1) * recipe.batch]
        pixels = state.prepared.pixels[rows[taken]]
        if recipe.augmentation is not None:
            aspects = state.prepared.aspects[rows[taken]]
            seed = (recipe.seed, 4, done, epoch, step)
            pixels = augment_batch(pixels, recipe.augmentation, aspects=aspects, seed=seed)
        return pixels, targets[taken]

    def validate() -> tuple[float, float]:
        return _loss_and_accuracy(state, state.watched, _scores(state, state.watched))

    return Stage(name, begin, epochs, batches, validate, recipe.patience)


@keras.saving.register_keras_serializable("bloodcell_edge")
class _FallingRate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A half cosine over all fine-tuning stages (Loshchilov and Hutter 2017), after a short linear rise."""

    def __init__(self, initial: float, done: int, total: int) -> None:
        self.initial, self.done, self.total = initial, done, total
        self.rise = max(total // 20, 1)

    def __call__(self, step: Any) -> Any:
        at = keras.ops.cast(step, "float32") + self.done
        wave = 0.5 * (1.0 + keras.ops.cos(math.pi * keras.ops.minimum(at / self.total, 1.0)))
        return self.initial * wave * keras.ops.minimum(1.0, (at + 1.0) / self.rise)

    def get_config(self) -> dict[str, Any]:
        return {"initial": self.initial, "done": self.done, "total": self.total}


def _compile(net: Any, recipe: Recipe, rate: Any) -> None:
    decay = recipe.weight_decay
    optimizer = keras.optimizers.AdamW(rate, weight_decay=decay) if decay else keras.optimizers.Adam(rate)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    net.compile(optimizer=optimizer, loss=loss, metrics=["accuracy"], jit_compile=False)


def _rows_of(prepared: Prepared, rows: NDArray[np.int64]) -> Prepared:
    pictures = tuple(prepared.pictures[row] for row in rows)
    return Prepared(pictures, prepared.pixels[rows], prepared.aspects[rows], prepared.hashes[rows], ())


def _scores(state: _Run, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return KerasModel(state.model, _bare_spec(state), state.folder.model).scores(state.prepared.pixels[rows])


def _loss_and_accuracy(
    state: _Run, rows: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[float, float]:
    found = evaluate_scores(state.prepared.targets(state.labels)[rows], scores, state.labels)
    return found.loss or 0.0, found.accuracy


def _bare_spec(state: _Run) -> ModelSpec:
    recipe = state.recipe
    name = state.folder.path.name
    return ModelSpec(name, state.labels, recipe.view, (recipe.size, recipe.size), "keras", IMAGE_VERSION)


def _finish(state: _Run, history: list[dict[str, Any]], *, drawn: bool, seconds: float) -> ModelSpec:
    """Figures on the held-back pictures, plots, spec and the model itself; metrics.json last: it says "done"."""
    run, held_back = state.folder, state.side(HELD_BACK)
    pictures = [state.rows[row].picture for row in held_back]
    scores = _scores(state, held_back)
    found = figures(pictures, scores, _bare_spec(state))
    with beside(run.model) as temporary:
        keras.Model(state.model.inputs, state.model.outputs, name="bloodcell").save(temporary)
    trained = [row for row, member in enumerate(state.rows) if member.split != HELD_BACK]
    spec = _spec(state, trained, found.as_json(), drawn=drawn)
    save_spec(run.spec, spec)
    save_photographs(run.index, [state.rows[row].picture for row in trained], state.report)
    save_plots(run.plots, history=history, evaluation=found, pictures=pictures, scores=scores)
    write_json(run.metrics, _metrics(state, history, {"model": str(run.model), **found.as_json()}, seconds))
    return spec


def _spec(state: _Run, trained: list[int], heldback: dict[str, Any], *, drawn: bool) -> ModelSpec:
    recipe, rows = state.recipe, state.rows
    pictures = [rows[row].picture for row in trained]
    training = {
        "recipe": recipe.name,
        "backbone": recipe.backbone,
        "alpha": recipe.alpha,
        "weights": weights_name(recipe.weights),
        "seed": recipe.seed,
        "pictures": count_by_label(pictures),
        "photographs": photographs_by_label(pictures),
        "drawn": drawn,
    }
    seen = collect([(rows[row].sha256, state.prepared.hashes[row]) for row in trained])
    return _bare_spec(state).with_(
        training=training,
        figures=heldback,
        seen=seen.as_json(),
        split_sha256=sha256_file(state.folder.split),
        bce_version=__version__,
    )


def weights_name(weights: str) -> str:
    """What the training started from, for results: a name, or a file's name with the head of its SHA-256."""
    path = Path(weights)
    return f"{path.name} (sha256 {sha256_file(path)[:12]})" if path.is_file() else weights


def save_photographs(path: Path, pictures: Sequence[Picture], report: Reporter) -> None:
    """Keep local features of the training photographs, so that a turned copy of one is known again."""
    index = PhotographIndex()
    with report.bar("remember photographs") as progress:
        index.add_all([picture.path for picture in pictures], progress=progress)
    index.save(path)


def _metrics(
    state: _Run, history: list[dict[str, Any]], heldback: dict[str, Any], seconds: float
) -> dict[str, Any]:
    sides = {
        side: [row.picture for row in state.rows if row.split == side]
        for side in (TRAIN, VALIDATION, HELD_BACK)
        if any(row.split == side for row in state.rows)
    }
    metrics: dict[str, Any] = {
        "heldback": heldback,
        "pictures": {side: count_by_label(pictures) for side, pictures in sides.items()},
        "photographs": {side: photographs_by_label(pictures) for side, pictures in sides.items()},
        "weights": weights_name(state.recipe.weights),
        "seconds": round(seconds, 1),
        "unreadable": json.loads((state.folder.path / "unreadable.json").read_text()),
    }
    leaky = [row for row in history if row["stage"] == LEAKY]
    if leaky:
        best = min(leaky, key=lambda row: float(row["val_loss"]))
        metrics["leaky"] = {
            "validation_accuracy": best["val_accuracy"],
            "validation_loss": best["val_loss"],
            "n": sum(row.leaky_split == VALIDATION for row in state.rows),
        }
    return metrics


