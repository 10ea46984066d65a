"""Which folder a training run fills."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..data import Dataset
from ..runs import RUNS, RunFolder

if TYPE_CHECKING:
    from .recipes import Recipe


def run_config(recipe: Recipe, dataset: Dataset) -> dict[str, Any]:
    """What makes two runs the same: recipe, labels and data."""
    return {"recipe": recipe.as_json(), "labels": list(dataset.labels), "data": str(dataset.root.resolve()), "n": len(dataset.pictures)}


def is_unfinished(run: RunFolder, config: dict[str, Any]) -> bool:
    """True where a folder holds a run of this configuration that was interrupted."""
    return not run.metrics.is_file() and run.config.is_file() and json.loads(run.config.read_text()) == config


def new_run_folder(name: str | None, recipe: Recipe, dataset: Dataset) -> RunFolder:
    """The named folder; else an unfinished run of the same configuration, to go on with; else a new number.

    Nothing is made here.
    """
    if name is not None:
        return RunFolder(RUNS / name)
    config = run_config(recipe, dataset)
    number = 1
    while (RUNS / f"{recipe.name}-{number}").exists():
        run = RunFolder(RUNS / f"{recipe.name}-{number}")
        if is_unfinished(run, config):
            return run
        number += 1
    return RunFolder(RUNS / f"{recipe.name}-{number}")
