"""The stages of training: what each trains, on which pictures, at which rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dataset.split import HELD_BACK, TRAIN, VALIDATION, Member
from ..imaging.image import IMAGE_VERSION
from ..model.spec import ModelSpec
from ..progress import Reporter
from ..runs import RunFolder
from ..statistics.metrics import evaluate as evaluate_scores
from .augment import augment_batch
from .backbone import blocks as backbone_blocks
from .backbone import set_trainable
from .distill import Teacher
from .draws import balanced_weights, epoch_order
from .epochs import Stage
from .features import frozen_features
from .frameworks import keras
from .kerasmodel import KerasModel
from .prepared import Prepared, as_tensor_dataset
from .recipes import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray


LEAKY = "leaky"
"""Name of the stage, and prefix of every figure, that stands on a split which cuts photographs apart."""

BACKGROUND_THRESHOLD = 0.5
"""Top score below which a model with a background says UNIDENTIFIED until a threshold is fitted: no label is likelier
than all else together."""


@dataclass(frozen=True)
class TrainingRun:
    """What all stages of one run share."""

    recipe: Recipe
    labels: tuple[str, ...]
    rows: tuple[Member, ...]
    prepared: Prepared
    model: Any
    features: Any
    head: Any
    initial: tuple[NDArray[np.float32], ...]
    folder: RunFolder
    teacher: Teacher | None
    report: Reporter

    def side(self, name: str) -> NDArray[np.int64]:
        """Positions of the pictures on one side of the split, of those that show a cell."""
        return np.flatnonzero(np.array([row.split == name for row in self.rows]) & self.prepared.found)

    @property
    def watched(self) -> NDArray[np.int64]:
        """Pictures whose loss is shown after each epoch: validation where a choice is made by it, else held back."""
        return self.side(VALIDATION if self.recipe.validation else HELD_BACK)

    def targets(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """What some pictures are trained on: one-hot, shape (len(rows), labels), or what the teacher makes of that."""
        one_hot = np.eye(len(self.labels), dtype=np.float32)[self.prepared.targets(self.labels)[rows]]
        if self.teacher is None:
            return one_hot
        return self.teacher.targets([self.rows[row].sha256 for row in rows], one_hot)

    def weights(self, rows: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Chance of each to be drawn; None draws every picture once."""
        if not self.recipe.balance:
            return None
        return balanced_weights([self.prepared.pictures[row] for row in rows], noted=self.recipe.noted)


def stages_of(state: TrainingRun) -> Iterator[Stage]:
    """The stages in order; the first of each training starts from the initial weights."""
    recipe = state.recipe
    train_rows, watched = state.side(TRAIN), state.watched
    if recipe.leaky_too:
        leaky = np.array([row.leaky_split for row in state.rows])
        rows = np.flatnonzero(leaky == TRAIN), np.flatnonzero(leaky == VALIDATION)
        yield _head_stage(state, LEAKY, *rows) if recipe.head_epochs else _whole_stage(state, LEAKY, *rows)
    if recipe.head_epochs:
        yield _head_stage(state, "head", train_rows, watched)
    if recipe.fine_tune not in (0, 1) and recipe.head_epochs and recipe.fine_tune_epochs > 2:
        yield from _gradual_stages(state, train_rows, watched)
    elif recipe.fine_tune:
        yield _whole_stage(state, _tuning(recipe.fine_tune), train_rows, watched)


def _head_stage(state: TrainingRun, name: str, train_rows: NDArray[np.int64], watched: NDArray[np.int64]) -> Stage:
    """Train the head alone, on features that the frozen backbone gives once."""
    recipe = state.recipe
    hashes = np.array([row.sha256 for row in state.rows])

    def cached(rows: NDArray[np.int64], *, augmented: bool) -> NDArray[np.float32]:
        some = state.prepared.rows(rows)
        with state.report.bar("features of the frozen backbone") as progress:
            return frozen_features(
                state.features, some, hashes[rows].tolist(), recipe, augmented=augmented,
                cache=state.folder.cache, progress=progress,
            )  # fmt: skip

    weights, targets = state.weights(train_rows), state.targets(train_rows)
    made: dict[str, NDArray[np.float32]] = {}

    def begin(fresh: bool) -> Any:
        if recipe.augmentation is None:  # one pass over all pictures serves every split of them
            everything = cached(np.arange(len(state.rows)), augmented=False)
            made["train"], made["watched"] = everything[train_rows], everything[watched][:, 0]
        else:
            made["train"], made["watched"] = cached(train_rows, augmented=True), cached(watched, augmented=False)[:, 0]
        if fresh:
            state.model.set_weights(state.initial)
        _compile(state.head, state, recipe.head_rate)
        return state.head

    def batches(epoch: int) -> dict[str, Any]:
        order = epoch_order(len(train_rows), weights, (recipe.seed, 1, epoch))
        view = np.random.default_rng((recipe.seed, 2, epoch)).integers(made["train"].shape[1], size=len(order))
        return {"x": made["train"][order, view], "y": targets[order], "batch_size": recipe.batch, "shuffle": False}

    def validate() -> tuple[float, float]:
        return _loss_and_accuracy(state, watched, state.head.predict(made["watched"], batch_size=256, verbose=0))

    return Stage(name, begin, recipe.head_epochs, batches, validate, recipe.patience)


def _tuning(blocks: int) -> str:
    return f"fine-tune {'all' if blocks < 0 else blocks} blocks"


def _gradual_stages(state: TrainingRun, rows: NDArray[np.int64], watched: NDArray[np.int64]) -> Iterator[Stage]:
    """Train half of the backbone's last blocks for a third of the time, then all of them."""
    blocks, epochs = state.recipe.fine_tune, state.recipe.fine_tune_epochs
    count = blocks if blocks > 0 else len(backbone_blocks(state.model, state.recipe.backbone))
    half, first = math.ceil(count / 2), epochs // 3
    yield _fine_tune_stage(state, _tuning(half), rows, watched, blocks=half, epochs=range(first))
    yield _fine_tune_stage(state, _tuning(blocks), rows, watched, blocks=blocks, epochs=range(first, epochs))


def _whole_stage(state: TrainingRun, name: str, rows: NDArray[np.int64], watched: NDArray[np.int64]) -> Stage:
    """All of fine-tuning in one stage."""
    blocks, epochs = state.recipe.fine_tune, range(state.recipe.fine_tune_epochs)
    return _fine_tune_stage(state, name, rows, watched, blocks=blocks, epochs=epochs)


def _fine_tune_stage(
    state: TrainingRun, name: str, rows: NDArray[np.int64], watched: NDArray[np.int64], *, blocks: int, epochs: range
) -> Stage:
    """Train the backbone's last blocks and the head, in these of all epochs under one falling learning rate."""
    recipe = state.recipe
    weights, targets = state.weights(rows), state.targets(rows)
    steps = max((recipe.draws or len(rows)) // recipe.batch, 1)
    done, total = steps * epochs.start, steps * recipe.fine_tune_epochs

    def begin(fresh: bool) -> Any:
        if fresh and not recipe.head_epochs:
            state.model.set_weights(state.initial)
        set_trainable(state.model, recipe.backbone, blocks, norm=recipe.weights == "none")
        _compile(state.model, state, _FallingRate(recipe.fine_tune_rate, done, total))
        return state.model

    def batches(epoch: int) -> dict[str, Any]:
        order = epoch_order(len(rows), weights, (recipe.seed, 3, done, epoch), draws=recipe.draws)
        return {"x": as_tensor_dataset(partial(batch, order, epoch), steps, recipe.size), "shuffle": False}

    def batch(order: NDArray[np.int64], epoch: int, step: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        taken = order[step * recipe.batch : (step + 1) * recipe.batch]
        if recipe.augmentation is None:
            pixels = state.prepared.pixels[rows[taken]]
        else:
            wide = state.prepared.wide[rows[taken]]
            aspects = state.prepared.aspects[rows[taken]]
            seed = (recipe.seed, 4, done, epoch, step)
            pixels = augment_batch(wide, recipe.augmentation, aspects=aspects, size=recipe.size, seed=seed)
        return pixels, targets[taken]

    def validate() -> tuple[float, float]:
        return _loss_and_accuracy(state, watched, scores_of(state, watched))

    return Stage(name, begin, len(epochs), batches, validate, recipe.patience)


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


def _compile(net: Any, state: TrainingRun, rate: Any) -> None:
    smoothing, decay, teacher = state.recipe.label_smoothing, state.recipe.weight_decay, state.teacher
    optimizer = keras.optimizers.AdamW(rate, weight_decay=decay) if decay else keras.optimizers.Adam(rate)
    loss: Any = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    accuracy: Any = "accuracy"
    if teacher is not None:
        loss, accuracy = teacher.loss(smoothing), teacher.accuracy
    net.compile(optimizer=optimizer, loss=loss, metrics=[accuracy], jit_compile=False)


def scores_of(state: TrainingRun, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """What the network says to some pictures, float32, shape (len(rows), labels)."""
    return bare_model(state).scores(state.prepared.pixels[rows])


def bare_model(state: TrainingRun) -> KerasModel:
    """The network as it is now, with its spec."""
    return KerasModel(state.model, bare_spec(state), state.folder.model)


def _loss_and_accuracy(state: TrainingRun, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> tuple[float, float]:
    found = evaluate_scores(state.prepared.targets(state.labels)[rows], scores, state.labels)
    return found.loss or 0.0, found.accuracy


def bare_spec(state: TrainingRun) -> ModelSpec:
    """The spec of the network, without figures."""
    recipe = state.recipe
    name = state.folder.path.name
    view = recipe.shown_as
    bare = ModelSpec(name, state.labels, view.name, view.size, "keras", IMAGE_VERSION, view.crop_um, view.light)
    if state.model.output_shape[-1] == len(state.labels):
        return bare
    return bare.with_(background=True, reject_threshold=BACKGROUND_THRESHOLD)
