"""Does a recipe carry over to another microscope? Train on one source, evaluate on the other, and the other way round.

    python benchmarks/leave_one_source_out.py PHOTOS PBC --weights W --out FOLDER [--seed N] [--ingredients --epochs 3]

Prints a line of JSON for each direction: balanced accuracy and accuracy with its interval by photograph. Pictures with
a note on their label are evaluated with and without. Nothing of the tested source is seen in training. With
--ingredients the recipe is built up piece by piece, each in a run of its own. Finished runs in FOLDER are not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click

from bloodcell_edge.cli.terminal.options import Terminal
from bloodcell_edge.dataset.evaluation import evaluate_files
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.pictures import LABELS, Dataset
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.fit import train
from bloodcell_edge.training.kerasmodel import open_keras
from bloodcell_edge.training.recipes import Augmentation, Recipe, choose_recipe

PATH = click.Path(path_type=Path)
CAMERA = ("blur", "sharpen", "noise", "jpeg")
STAIN = ("contrast", "stain", "white", "density", "gamma")


def without_notes(dataset: Dataset) -> Dataset:
    """The pictures whose label nobody doubts."""
    return replace(dataset, pictures=tuple(one for one in dataset.pictures if not one.note), unknown=())


def built_up(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """A recipe without its ingredients, then with one after the other, in the end itself."""
    full, bare = recipe.augmentation or Augmentation(), Augmentation()
    stained = replace(bare, **{name: getattr(full, name) for name in STAIN})
    plain = replace(recipe, augmentation=bare, background=False)
    yield "cells, as taken, mild augmentation, noted labels too", replace(plain, light="camera", noted=1.0)
    yield "less the noted labels", replace(plain, light="camera")
    yield "and white light", plain
    yield "and strong stain augmentation", replace(plain, augmentation=stained)
    yield "and camera augmentation (the recipe)", replace(plain, augmentation=full)


@click.command()
@click.argument("sources", nargs=2, type=PATH)
@click.option("--recipe", "name", default="blood")
@click.option("--weights", default="imagenet")
@click.option("--epochs", type=int)
@click.option("--seed", type=int, default=0)
@click.option("--ingredients", is_flag=True)
@click.option("--out", type=PATH, required=True)
def main(
    sources: tuple[Path, Path], name: str, weights: str, epochs: int | None, seed: int, ingredients: bool, out: Path
) -> None:
    """Both directions, one after the other."""
    recipe = choose_recipe(name, weights=weights, epochs=epochs, seed=seed)
    variants = list(built_up(recipe)) if ingredients else [(name, recipe)]
    for number, (what, variant) in enumerate(variants):
        for seen, unseen in (sources, sources[::-1]):
            run = RunFolder(out / f"{name}-{number}-{seen.name}-{seed}")
            for answer in left_out(variant, run, seen, unseen):
                click.echo(json.dumps({"what": what, "seed": seed, **answer}))


def left_out(recipe: Recipe, run: RunFolder, seen: Path, unseen: Path) -> Iterator[dict[str, object]]:
    """Train on one source, unless that is done, and evaluate on the other."""
    report = Terminal()
    if not run.metrics.is_file():
        train(load_data(seen), recipe, run, report=report)
    model = open_keras(run.model)
    tested = replace(load_data(unseen, labels=LABELS), unknown=())
    for labels, dataset in (("all", tested), ("without notes", without_notes(tested))):
        found = evaluate_files(model, dataset).evaluation.as_json()
        kept = ("n", "n_groups", "balanced_accuracy", "accuracy", "accuracy_interval", "no_cell", "confusion")
        how = {"epochs": recipe.fine_tune_epochs, "trained_on": seen.name, "tested_on": unseen.name, "labels": labels}
        yield {**how, **{key: found[key] for key in kept}}


if __name__ == "__main__":
    main()
