"""``bce train``: from labelled pictures to a run folder."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
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
from .audit import PhotographIndex, audit
from .augment import augment_batch
from .backbone import blocks as backbone_blocks
from .backbone import build_model, set_trainable
from .background import with_background
from .dataset import (
    HELD_BACK,
    TRAIN,
    VALIDATION,
    Member,
    Prepared,
    as_tensor_dataset,
    balanced_weights,
    epoch_order,
    group_names,
    load_split,
    members,
    photographs_by_label,
    prepare_pictures,
    save_split,
)
from .distill import Teacher
from .epochs import Checkpoint, Stage, run_stage, save_history
from .features import frozen_features
from .frameworks import keras
from .kerasmodel import KerasModel
from .plots import save_plots
from .recipes import Recipe
from .runfolder import is_unfinished, run_config
from .shipped import never_held_back

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEAKY = "leaky"
"""Name of the stage, and prefix of every figure, that stands on a split which cuts photographs apart."""

BACKGROUND_THRESHOLD = 0.5
"""Top score below which a model with a background says UNIDENTIFIED until a threshold is fitted: no label is likelier
than all else together."""

_UNREADABLE = "unreadable.json"  # beside the split: a run that goes on reads only what could be read


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


def train(
    dataset: Dataset,
    recipe: Recipe,
    run: RunFolder,
    *,
    drawn: bool = False,
    teacher: Teacher | None = None,
    brief: bool = False,
    report: Reporter,
) -> ModelSpec:
    """Train a model and fill a run folder; an interrupted run of the same recipe and data goes on.

    Args:
        dataset: labelled pictures; where some have no group they are grouped by photograph first.
        recipe: how.
        run: the folder to fill.
        drawn: the pictures are drawn, so that every figure must say so.
        teacher: what to learn from beside the labels.
        brief: draw no plots and remember no photographs: for a run that is judged and removed.
        report: told how far it is.

    Returns:
        The spec of the trained model, as in the folder.

    Raises:
        DataError: a recipe that cannot be built, labels without pictures, too few photographs to hold some back, or
            pictures that changed while the run was interrupted.
        OutputExists: the folder holds a finished run, or one of another recipe or data.
    """
    start = time.perf_counter()
    _refuse(run, recipe, dataset)
    keras.utils.set_random_seed(recipe.seed)
    model, features, head = build_model(recipe, len(dataset.labels))  # before the long work: it may fail
    initial = tuple(model.get_weights())  # before a checkpoint puts others in their place
    rows, prepared = _split_and_prepare(dataset, recipe, run, report)
    _say_counts(rows, report)
    state = _Run(recipe, dataset.labels, tuple(rows), prepared, model, features, head, initial, run, teacher, report)
    checkpoint = Checkpoint.load(run.state / "checkpoint.npz", model)
    earlier = sum(row["seconds"] for row in checkpoint.history)
    for number, stage in enumerate(_stages(state)):
        run_stage(number, stage, model, checkpoint, history=run.history, report=report)
    save_history(run.history, checkpoint.history)
    others = _learn_background(state, dataset.unknown) if recipe.background else None
    seconds = earlier + time.perf_counter() - start
    done = state if others is None else others.state
    spec = _finish(done, checkpoint.history, others, drawn=drawn, brief=brief, seconds=seconds)
    shutil.rmtree(run.state, ignore_errors=True)
    return spec


def _refuse(run: RunFolder, recipe: Recipe, dataset: Dataset) -> None:
    """Raise where a label has no picture, or the folder holds something else than this run, unfinished."""
    _refuse_empty(dataset.root, dataset.by_label())
    if run.metrics.is_file():
        message = f"{run.path}: holds a finished run; give another --name, or --force to train it again"
        raise OutputExists(message)
    if run.config.is_file() and not is_unfinished(run, run_config(recipe, dataset)):
        message = f"{run.path}: holds an unfinished run of another recipe or data; give another --name, or --force"
        raise OutputExists(message)


def _refuse_empty(root: Path, counts: Mapping[str, int]) -> None:
    empty = [label for label, count in counts.items() if not count]
    if empty:
        message = (
            f"{root}: no readable picture of {', '.join(empty)}; add some, or name the classes that are there with "
            "--labels"
        )
        raise DataError(message)


def _split_and_prepare(
    dataset: Dataset, recipe: Recipe, run: RunFolder, report: Reporter
) -> tuple[list[Member], Prepared]:
    """Decode everything, group it by photograph and split it, or read the split of the run that goes on.

    Nothing is written before all of that is done, so that a command that failed can be given again, changed.
    """
    if run.config.is_file() and run.split.is_file():
        return _resume(run, recipe, report)
    if dataset.unknown and not recipe.background:
        report.say(f"left out as none of these: {_listed(count_by_label(dataset.unknown))}")
    if dataset.skipped:
        report.say(f"skipped: {dataset.skipped} hidden files or files that are no pictures")
    with report.bar("read") as progress:
        prepared = prepare_pictures(dataset.pictures, recipe.shown_as, margin=recipe.margin, progress=progress)
    bad = (*dataset.unreadable, *prepared.unreadable)
    for one in bad:
        report.say(f"left out: {one.error}")
    with_cell = tuple(picture for picture, found in zip(prepared.pictures, prepared.found, strict=True) if found)
    if len(with_cell) < len(prepared.pictures):
        missed = len(prepared.pictures) - len(with_cell)
        of = len(prepared.pictures)
        report.say(f"no white cell found in {missed} of {of} pictures: not trained on, and wrong where held back")
    _refuse_empty(dataset.root, replace(dataset, pictures=with_cell).by_label())
    pictures = with_photographs(prepared.pictures, report)
    rows = members(pictures, recipe)
    if recipe.weights == "blood":
        rows = never_held_back(rows, report)
    write_json(run.config, run_config(recipe, dataset))
    write_json(run.path / _UNREADABLE, [vars(one) for one in bad])
    save_split(run.split, rows)
    return rows, replace(prepared, pictures=tuple(pictures))


def _resume(run: RunFolder, recipe: Recipe, report: Reporter) -> tuple[list[Member], Prepared]:
    """The split of a run that goes on, with its pictures, which must be what they were."""
    rows = load_split(run.split)
    report.say(f"{run.path}: going on with the split of {len(rows)} pictures that is there")
    changed = [
        row.picture.file
        for row in rows
        if not row.picture.path.is_file() or sha256_file(row.picture.path) != row.sha256
    ]
    if changed:
        message = (
            f"{run.path}: {len(changed)} pictures are gone or have changed since this run began (the first: "
            f"{changed[0]}); put them back, or give another --name, or --force to begin again"
        )
        raise DataError(message)
    with report.bar("read") as progress:
        pictures = [row.picture for row in rows]
        return rows, prepare_pictures(pictures, recipe.shown_as, margin=recipe.margin, progress=progress)


def with_photographs(pictures: Sequence[Picture], report: Reporter) -> list[Picture]:
    """Fill in which photograph each picture shows, where nobody said; what somebody said of some pictures holds."""
    if all(picture.group for picture in pictures):
        return list(pictures)
    with report.bar("find photographs") as progress:
        found = audit(Dataset(Path(), (), tuple(pictures)), progress=progress).group_of
    named: dict[int, str] = {}
    for picture in pictures:
        named.setdefault(found[picture.file], picture.file)  # a photograph is called by the first file that shows it
    return [replace(picture, group=named[found[picture.file]]) for picture in pictures]


def _say_counts(rows: Sequence[Member], report: Reporter) -> None:
    for side in (TRAIN, VALIDATION, HELD_BACK):
        pictures = [row.picture for row in rows if row.split == side]
        if pictures:
            photographs = photographs_by_label(pictures)
            counts = count_by_label(pictures)
            listed = ", ".join(f"{label} {counts[label]} of {photographs[label]}" for label in counts)
            total = len(set(group_names(pictures)))  # a photograph whose pictures have two labels is still one
            report.say(f"{side}: {len(pictures)} pictures of {total} photographs ({listed})")


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {label}" for label, count in counts.items())


def _stages(state: _Run) -> Iterator[Stage]:
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


def _head_stage(state: _Run, name: str, train_rows: NDArray[np.int64], watched: NDArray[np.int64]) -> Stage:
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


def _gradual_stages(state: _Run, rows: NDArray[np.int64], watched: NDArray[np.int64]) -> Iterator[Stage]:
    """Train half of the backbone's last blocks for a third of the time, then all of them."""
    blocks, epochs = state.recipe.fine_tune, state.recipe.fine_tune_epochs
    count = blocks if blocks > 0 else len(backbone_blocks(state.model, state.recipe.backbone))
    half, first = math.ceil(count / 2), epochs // 3
    yield _fine_tune_stage(state, _tuning(half), rows, watched, blocks=half, epochs=range(first))
    yield _fine_tune_stage(state, _tuning(blocks), rows, watched, blocks=blocks, epochs=range(first, epochs))


def _whole_stage(state: _Run, name: str, rows: NDArray[np.int64], watched: NDArray[np.int64]) -> Stage:
    """All of fine-tuning in one stage."""
    blocks, epochs = state.recipe.fine_tune, range(state.recipe.fine_tune_epochs)
    return _fine_tune_stage(state, name, rows, watched, blocks=blocks, epochs=epochs)


def _fine_tune_stage(
    state: _Run, name: str, rows: NDArray[np.int64], watched: NDArray[np.int64], *, blocks: int, epochs: range
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
        return _loss_and_accuracy(state, watched, _scores(state, watched))

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


def _compile(net: Any, state: _Run, rate: Any) -> None:
    smoothing, decay, teacher = state.recipe.label_smoothing, state.recipe.weight_decay, state.teacher
    optimizer = keras.optimizers.AdamW(rate, weight_decay=decay) if decay else keras.optimizers.Adam(rate)
    loss: Any = keras.losses.CategoricalCrossentropy(label_smoothing=smoothing)
    accuracy: Any = "accuracy"
    if teacher is not None:
        loss, accuracy = teacher.loss(smoothing), teacher.accuracy
    net.compile(optimizer=optimizer, loss=loss, metrics=[accuracy], jit_compile=False)


def _scores(state: _Run, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    return _bare(state).scores(state.prepared.pixels[rows])


def _bare(state: _Run) -> KerasModel:
    return KerasModel(state.model, _bare_spec(state), state.folder.model)


def _loss_and_accuracy(state: _Run, rows: NDArray[np.int64], scores: NDArray[np.float32]) -> tuple[float, float]:
    found = evaluate_scores(state.prepared.targets(state.labels)[rows], scores, state.labels)
    return found.loss or 0.0, found.accuracy


def _bare_spec(state: _Run) -> ModelSpec:
    recipe = state.recipe
    name = state.folder.path.name
    view = recipe.shown_as
    bare = ModelSpec(name, state.labels, view.name, view.size, "keras", IMAGE_VERSION, view.crop_um, view.light)
    if state.model.output_shape[-1] == len(state.labels):
        return bare
    return bare.with_(background=True, reject_threshold=BACKGROUND_THRESHOLD)


@dataclass(frozen=True)
class _Others:
    """Pictures of none of the classes, and the run whose network has learnt of those on the training side."""

    state: _Run
    rows: tuple[Member, ...]
    prepared: Prepared

    def side(self, name: str) -> NDArray[np.int64]:
        """Positions of the pictures on one side of the split."""
        return np.flatnonzero([row.split == name for row in self.rows])

    def figures(self) -> dict[str, int]:
        """How many of those held back are rejected: their top score is below a half, or there is no cell to name."""
        rows = self.prepared.rows(self.side(HELD_BACK))
        top = _bare(self.state).scores(rows.pixels).max(axis=1, initial=0.0)
        unidentified = rows.found & ((top < BACKGROUND_THRESHOLD) | rows.marked)
        no_cell = int((~rows.found).sum())
        asked = {"unidentified": int(unidentified.sum()), "no_cell": no_cell}
        return {"n": len(top), "rejected": sum(asked.values()), **asked}


def _learn_background(state: _Run, unknown: Sequence[Picture]) -> _Others | None:
    """Fit an output for none of the classes; None where there are no pictures of others."""
    recipe, report = state.recipe, state.report
    if not unknown:
        report.say("no pictures of other classes: nothing is learnt of what is none of these")
        return None
    with report.bar("read others") as progress:
        prepared = prepare_pictures(unknown, recipe.shown_as, margin=recipe.margin, progress=progress)
    pictures = with_photographs(prepared.pictures, report)
    others = _Others(state, tuple(members(pictures, recipe)), replace(prepared, pictures=tuple(pictures)))
    save_split(state.folder.unknown, others.rows)
    trained = others.side(TRAIN)
    report.say(f"none of these: learning from {_listed(count_by_label([pictures[row] for row in trained]))}")
    known = state.prepared.rows(state.side(TRAIN))
    model = with_background(state.model, known, prepared.rows(trained[prepared.found[trained]]), recipe)
    return replace(others, state=replace(state, model=model))


def _finish(
    state: _Run, history: list[dict[str, Any]], others: _Others | None, *, drawn: bool, brief: bool, seconds: float
) -> ModelSpec:
    """Figures on the held-back pictures, plots, spec and the model itself; metrics.json last: it says "done"."""
    run = state.folder
    held_back = np.flatnonzero([row.split == HELD_BACK for row in state.rows])  # also those without a cell
    pictures = [state.rows[row].picture for row in held_back]
    scores, shown = _scores(state, held_back), state.prepared.rows(held_back)
    found = figures(pictures, scores, _bare_spec(state), no_cell=~shown.found, marked=shown.marked)
    with beside(run.model) as temporary:
        keras.Model(state.model.input, state.model.output, name="bloodcell").save(temporary)
    trained = [row for row, member in enumerate(state.rows) if member.split != HELD_BACK]  # or looked at in vain
    learnt_from = [(state.rows[row], state.prepared.hashes[row]) for row in trained]
    if others is not None:
        learnt_from += [(others.rows[row], others.prepared.hashes[row]) for row in others.side(TRAIN)]
    spec = _spec(state, [state.rows[row].picture for row in trained], found.as_json(), drawn=drawn)
    spec = spec.with_(seen=collect([(row.sha256, hashes) for row, hashes in learnt_from]).as_json())
    save_spec(run.spec, spec)
    if not brief:
        save_photographs(run.index, [row.picture for row, _ in learnt_from], state.report)
        with_cell = np.flatnonzero(shown.found)
        asked = [pictures[row] for row in with_cell]
        save_plots(run.plots, history=history, evaluation=found, pictures=asked, scores=scores[with_cell])
    heldback = {"model": str(run.model), **found.as_json()}
    if others is not None:
        heldback["unknown"] = others.figures()
    write_json(run.metrics, _metrics(state, history, heldback, seconds))
    return spec


def _spec(state: _Run, pictures: list[Picture], heldback: dict[str, Any], *, drawn: bool) -> ModelSpec:
    recipe = state.recipe
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
    return _bare_spec(state).with_(
        training=training,
        figures=heldback,
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


def _metrics(state: _Run, history: list[dict[str, Any]], heldback: dict[str, Any], seconds: float) -> dict[str, Any]:
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
        "unreadable": json.loads((state.folder.path / _UNREADABLE).read_text(encoding="utf-8")),
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
