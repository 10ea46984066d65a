"""Does a recipe carry over to another microscope? Each source is left out in turn: trained on the others, tested on it.

    python benchmarks/leave_one_source_out.py PHOTOS PBC [RAABIN ...] --weights W --out FOLDER [--seed N]
        [--recipe-file FILE] [--set FIELD=VALUE ...] [--judge-on DATA ...] [--only SOURCE,...]
        [--ingredients --epochs 3]

Prints a line of JSON for each source left out: balanced accuracy, and accuracy with its interval by photograph.
Pictures with a note on their label are evaluated with and without. Nothing of the tested source is seen in training.
The last line of a recipe has the mean and the worst of its sources, without such pictures. DATA of --judge-on is
measured by every network and counts nowhere. With --ingredients the recipe is built up piece by piece, each in runs of
their own. Finished runs in FOLDER are not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click

from bloodcell_edge.cli.terminal.options import Terminal
from bloodcell_edge.dataset.evaluation import evaluate_files
from bloodcell_edge.dataset.layouts import load_all, load_data
from bloodcell_edge.dataset.pictures import LABELS, Dataset
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.fit import train
from bloodcell_edge.training.kerasmodel import open_keras
from bloodcell_edge.training.recipes import Augmentation, Recipe, choose_recipe, load_recipe

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


def changed(recipe: Recipe, changes: Sequence[str]) -> Recipe:
    """A recipe with some fields, or fields of its augmentation, set anew, such as "size=96" or "zoom=0.4".

    Raises:
        BadParameter: not FIELD=VALUE, or a field that there is not.
    """
    own = {field.name for field in fields(Recipe)}
    for change in changes:
        name, _, text = change.partition("=")
        augmentation = recipe.augmentation or Augmentation()
        if not text or not (name in own or hasattr(augmentation, name)):
            message = f"expected FIELD=VALUE with a field of a recipe or its augmentation, found {change!r}"
            raise click.BadParameter(message)
        value = json.loads(text) if text[:1] in "-0123456789" or text in ("true", "false", "null") else text
        if name in own:
            recipe = replace(recipe, **{name: value})
        else:
            recipe = replace(recipe, augmentation=replace(augmentation, **{name: value}))
    return recipe


@click.command()
@click.argument("sources", nargs=-1, required=True, type=PATH)
@click.option("--recipe", "name", default="blood")
@click.option("--recipe-file", type=PATH, help="Instead of a recipe's name.")
@click.option("--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Changes a field of the recipe.")
@click.option("--weights", default="imagenet")
@click.option("--epochs", type=int)
@click.option("--seed", type=int, default=0)
@click.option("--judge-on", type=PATH, multiple=True, help="Measured by every network; counts nowhere.")
@click.option("--only", default="", help="Names of sources to leave out, of those given.")
@click.option("--ingredients", is_flag=True)
@click.option("--out", type=PATH, required=True)
def main(
    sources: tuple[Path, ...],
    name: str,
    recipe_file: Path | None,
    changes: tuple[str, ...],
    weights: str,
    epochs: int | None,
    seed: int,
    judge_on: tuple[Path, ...],
    only: str,
    ingredients: bool,
    out: Path,
) -> None:
    """All sources, one after the other."""
    if len(sources) < 2:
        message = "expected two sources or more: one is left out, and the others are trained on"
        raise click.BadParameter(message)
    if recipe_file is None:
        recipe = choose_recipe(name, weights=weights, epochs=epochs, seed=seed)
    else:
        recipe = replace(load_recipe(recipe_file), weights=weights, seed=seed)
        recipe = recipe if epochs is None else replace(recipe, fine_tune_epochs=epochs)
    recipe = changed(recipe, changes)
    what = " ".join((recipe.name, *changes))
    variants = list(built_up(recipe)) if ingredients else [(what, recipe)]
    for number, (what, variant) in enumerate(variants):
        answers: list[dict[str, Any]] = []
        for unseen in sources:
            if not only or unseen.name in only.split(","):
                run = RunFolder(out / "-".join((*what.split(), str(number), "without", unseen.name, str(seed)))[:200])
                seen = [source for source in sources if source != unseen]
                for answer in left_out(variant, run, seen, unseen, judge_on):
                    answers.append(answer)
                    click.echo(json.dumps({"what": what, "seed": seed, **answer}))
        click.echo(json.dumps({"what": what, "seed": seed, **summary(answers)}))


def left_out(
    recipe: Recipe, run: RunFolder, seen: Sequence[Path], unseen: Path, judge_on: Sequence[Path]
) -> Iterator[dict[str, Any]]:
    """Train on some sources, unless that is done, and evaluate on the one left out, and on what only measures."""
    if not run.metrics.is_file():
        train(load_all(seen), recipe, run, report=Terminal())
    model = open_keras(run.model)
    how = {"epochs": recipe.fine_tune_epochs, "trained_on": [one.name for one in seen]}
    for place in (unseen, *judge_on):
        tested = replace(load_data(place, labels=LABELS), unknown=())
        for labels, dataset in (("all", tested), ("without notes", without_notes(tested))):
            found = evaluate_files(model, dataset).evaluation.as_json()
            kept = ("n", "n_groups", "balanced_accuracy", "accuracy", "accuracy_interval", "no_cell", "confusion")
            about = {**how, "tested_on": place.name, "counts": place == unseen, "labels": labels}
            yield {**about, **{key: found[key] for key in kept}}


def summary(answers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and worst balanced accuracy of the sources left out, where nobody doubts the label."""
    asked = [one for one in answers if one["counts"] and one["labels"] == "without notes"]
    found = {one["tested_on"]: one["balanced_accuracy"] for one in asked}
    return {"mean": sum(found.values()) / len(found), "worst": min(found.values()), "sources": found}


if __name__ == "__main__":
    main()
