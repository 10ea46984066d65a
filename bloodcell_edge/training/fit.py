"""``bce train``: from labelled pictures to a run folder."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dataset.evaluation import figures
from ..dataset.photographs import save_photographs
from ..dataset.pictures import Dataset, Picture, count_by_label
from ..dataset.split import (
    HELD_BACK,
    TRAIN,
    VALIDATION,
    photographs_by_label,
)
from ..errors import OutputExists
from ..files import beside, sha256_file, write_json
from ..model.seen import collect
from ..model.spec import ModelSpec, save_spec
from ..progress import Reporter
from ..runs import RunFolder
from ..version import __version__
from .backbone import build_model
from .background import Others, learn_background
from .distill import Teacher
from .epochs import Checkpoint, run_stage, save_history
from .frameworks import keras
from .plots import save_plots
from .prepared import (
    UNREADABLE,
    refuse_empty,
    say_counts,
    split_and_prepare,
)
from .recipes import Recipe
from .runfolder import is_unfinished, run_config
from .stages import LEAKY, TrainingRun, bare_spec, scores_of, stages_of

if TYPE_CHECKING:
    pass


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
    rows, prepared = split_and_prepare(dataset, recipe, run, report)
    say_counts(rows, report)
    state = TrainingRun(
        recipe, dataset.labels, tuple(rows), prepared, model, features, head, initial, run, teacher, report
    )
    checkpoint = Checkpoint.load(run.state / "checkpoint.npz", model)
    earlier = sum(row["seconds"] for row in checkpoint.history)
    for number, stage in enumerate(stages_of(state)):
        run_stage(number, stage, model, checkpoint, history=run.history, report=report)
    save_history(run.history, checkpoint.history)
    others = learn_background(state, dataset.unknown) if recipe.background else None
    seconds = earlier + time.perf_counter() - start
    done = state if others is None else others.state
    spec = _finish(done, checkpoint.history, others, drawn=drawn, brief=brief, seconds=seconds)
    shutil.rmtree(run.state, ignore_errors=True)
    return spec


def _refuse(run: RunFolder, recipe: Recipe, dataset: Dataset) -> None:
    """Raise where a label has no picture, or the folder holds something else than this run, unfinished."""
    refuse_empty(dataset.root, dataset.by_label())
    if run.metrics.is_file():
        message = f"{run.path}: holds a finished run; give another --name, or --force to train it again"
        raise OutputExists(message)
    if run.config.is_file() and not is_unfinished(run, run_config(recipe, dataset)):
        message = f"{run.path}: holds an unfinished run of another recipe or data; give another --name, or --force"
        raise OutputExists(message)


def _finish(
    state: TrainingRun,
    history: list[dict[str, Any]],
    others: Others | None,
    *,
    drawn: bool,
    brief: bool,
    seconds: float,
) -> ModelSpec:
    """Figures on the held-back pictures, plots, spec and the model itself; metrics.json last: it says "done"."""
    run = state.folder
    held_back = np.flatnonzero([row.split == HELD_BACK for row in state.rows])  # also those without a cell
    pictures = [state.rows[row].picture for row in held_back]
    scores, shown = scores_of(state, held_back), state.prepared.rows(held_back)
    found = figures(pictures, scores, bare_spec(state), no_cell=~shown.found, marked=shown.marked)
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


def _spec(state: TrainingRun, pictures: list[Picture], heldback: dict[str, Any], *, drawn: bool) -> ModelSpec:
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
    return bare_spec(state).with_(
        training=training,
        figures=heldback,
        split_sha256=sha256_file(state.folder.split),
        bce_version=__version__,
    )


def weights_name(weights: str) -> str:
    """What the training started from, for results: a name, or a file's name with the head of its SHA-256."""
    path = Path(weights)
    return f"{path.name} (sha256 {sha256_file(path)[:12]})" if path.is_file() else weights


def _metrics(
    state: TrainingRun, history: list[dict[str, Any]], heldback: dict[str, Any], seconds: float
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
        "unreadable": json.loads((state.folder.path / UNREADABLE).read_text(encoding="utf-8")),
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
