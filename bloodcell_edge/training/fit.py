"""``bce train``: from labelled pictures to a run folder."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..dataset.asking import Answers
from ..dataset.layouts import load_all
from ..dataset.photographs import save_photographs
from ..dataset.pictures import LABELS, Dataset, Picture, count_by_label
from ..dataset.split import (
    HELD_BACK,
    TRAIN,
    VALIDATION,
    photographs_by_label,
)
from ..files import beside, sha256_file, write_json
from ..model.locator import shipped_locator
from ..model.seen import collect
from ..model.spec import ModelSpec, save_spec
from ..progress import SILENT, Reporter
from ..runs import RunFolder, point_latest
from ..version import __version__
from .backbone import build_model
from .background import Others, learn_background
from .distill import Teacher
from .epochs import Checkpoint, run_stage, save_history
from .frameworks import keras
from .plots import save_plots
from .prepared import (
    refuse_empty,
    say_counts,
    split_and_prepare,
)
from .recipes import Recipe, choose_recipe
from .runfolder import is_unfinished, new_run_folder, refuse_taken, run_config
from .stages import LEAKY, TrainingRun, bare_spec, scores_of, stages_of


def train_data(
    data: str | Path | Sequence[str | Path],
    recipe: Recipe | str = "blood",
    *,
    labels: Sequence[str] = LABELS,
    group_by: str | Path | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    report: Reporter = SILENT,
    **changes: Any,
) -> Path:
    """What `bce train` does: train on DATA, fill a folder under runs/ and point runs/latest at it.

    An interrupted run goes on from its last epoch when the same is asked for again.

    Args:
        data: one or several DATA, see `layouts`; of each, TRAIN counts where it has one.
        recipe: how, or the name of a recipe.
        labels: the classes.
        group_by: a CSV with the columns ``file,group``; without groups they are found, as in `bce audit`.
        name: of the folder in runs/; None for the recipe's name and a number.
        out: a folder to fill instead, wherever it is; runs/latest stays as it is.
        force: train again what is there.
        report: told how far it is.
        **changes: of the recipe, see `choose_recipe`.

    Returns:
        The run folder.

    Raises:
        MissingFile, DataError, NoPictures: see `load_all`.
        DataError, OutputExists: see `train`.
    """
    how = choose_recipe(recipe, **changes) if isinstance(recipe, str) else recipe
    paths = [data] if isinstance(data, (str, Path)) else data
    dataset = load_all(paths, labels=labels, group_by=group_by, subset="train")
    run = new_run_folder(name, how, dataset) if out is None else RunFolder(Path(out))
    if force:
        shutil.rmtree(run.path, ignore_errors=True)
    report.log_to(run.log)
    try:
        train(dataset, how, run, report=report)
    except KeyboardInterrupt:
        report.say(f"stopped; the same command goes on from the last epoch, kept in {run.path}")
        raise
    if out is None:
        point_latest(run.path)
    return run.path


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
    rows, prepared = split_and_prepare(dataset, recipe, run, report, remember=not brief)
    say_counts(rows, report)
    state = TrainingRun(
        recipe, dataset.labels, tuple(rows), prepared, model, features, head, initial, run, teacher, report
    )
    checkpoint = Checkpoint.load(run.state / "checkpoint.npz", model)
    earlier = sum(row["seconds"] for row in checkpoint.history)
    for number, stage in enumerate(stages_of(state)):
        run_stage(number, stage, model, checkpoint, history=run.history, report=report)
    save_history(run.history, checkpoint.history)
    others = learn_background(state, dataset.unknown, remember=not brief) if recipe.background else None
    seconds = earlier + time.perf_counter() - start
    done = state if others is None else others.state
    spec = _finish(done, checkpoint.history, others, drawn=drawn, brief=brief, seconds=seconds)
    shutil.rmtree(run.state, ignore_errors=True)
    return spec


def _refuse(run: RunFolder, recipe: Recipe, dataset: Dataset) -> None:
    """Raise where a label has no picture, or the folder holds something else than this run, unfinished."""
    refuse_empty(dataset.root, dataset.by_label())
    refuse_taken(run, goes_on=is_unfinished(run, run_config(recipe, dataset)))


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
    found = Answers(tuple(pictures), scores, shown.found, shown.marked, shown.cut).figures(bare_spec(state))
    with beside(run.model) as temporary:
        keras.Model(state.model.input, state.model.output, name="bloodcell").save(temporary)
    trained = [row for row, member in enumerate(state.rows) if member.split != HELD_BACK]  # or looked at in vain
    learnt_from = [(state.rows[row], state.prepared, row) for row in trained]
    if others is not None:
        learnt_from += [(others.rows[row], others.prepared, row) for row in others.side(TRAIN)]
    spec = _spec(state, [state.rows[row].picture for row in trained], found.as_json(), drawn=drawn)
    spec = spec.with_(seen=collect([(one.sha256, of.hashes[row, 0]) for one, of, row in learnt_from]).as_json())
    save_spec(run.spec, spec)
    if not brief:
        save_photographs(run.index, [of.features[row] for _, of, row in learnt_from], state.report)
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
    if recipe.shown_as.needs_cells:
        training["locator"] = shipped_locator().spec.sha256
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
        "unreadable": json.loads(state.folder.unreadable.read_text(encoding="utf-8")),
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
