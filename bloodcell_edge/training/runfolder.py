"""Which folder a training run fills."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..dataset.pictures import Dataset
from ..errors import DataError, OutputExists
from ..runs import LATEST, RUNS, RunFolder

if TYPE_CHECKING:
    from .recipes import Recipe


def run_config(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """What makes two runs the same: recipe, labels, and which files with which labels and groups, not their content."""
    rows = [(picture.file, picture.label, picture.group) for picture in dataset.pictures]
    return {
        "recipe": recipe.as_json(),
        "labels": list(dataset.labels),
        "data": str(dataset.root.resolve()),
        "n": len(rows),
        "pictures_sha256": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }


def is_unfinished(run: RunFolder, config: dict[str, Any]) -> bool:
    """True where a folder holds a run of this configuration that was interrupted."""
    return not run.metrics.is_file() and run.config.is_file() and json.loads(run.config.read_text()) == config


def new_run_folder(name: str | None, recipe: Recipe, dataset: Dataset) -> RunFolder:
    """The named folder; else an unfinished run of the same configuration, to go on with; else a new number.

    Nothing is made here. A folder that holds no more than a log, of a run that failed before it began, counts as new.

    Raises:
        DataError: the name is not one of a folder in runs/.
    """
    if name is not None:
        return named_run(name)
    config = run_config(recipe, dataset)
    return free_run(recipe.name, lambda run: is_unfinished(run, config))


def free_run(name: str, goes_on: Callable[[RunFolder], bool]) -> RunFolder:
    """The first folder of that name and a number that holds nothing, or an unfinished run to go on with."""
    number = 1
    while not _is_free(run := RunFolder(RUNS / f"{name}-{number}")) and not goes_on(run):
        number += 1
    return run


def refuse_taken(run: RunFolder, *, goes_on: bool) -> None:
    """Raise OutputExists where a folder holds a finished run, or an unfinished one that this is not the rest of."""
    if run.metrics.is_file():
        message = f"{run.path}: holds a finished run; give another --name, or --force to train it again"
        raise OutputExists(message)
    if run.config.is_file() and not goes_on:
        message = f"{run.path}: holds an unfinished run of another recipe or data; give another --name, or --force"
        raise OutputExists(message)


def named_run(name: str) -> RunFolder:
    """The folder of that name in runs/.

    Raises:
        DataError: it is not the name of a folder there.
    """
    if name in ("", ".", "..", LATEST.name) or "/" in name:
        message = f"--name {name!r}: expected the name of a folder to be made in {RUNS}/, without a slash"
        raise DataError(message)
    return RunFolder(RUNS / name)


def _is_free(run: RunFolder) -> bool:
    return not run.path.exists() or all(child == run.log for child in run.path.iterdir())
