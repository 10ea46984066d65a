"""Does a recipe carry over to another microscope? Train on one source, evaluate on the other, and the other way round.

    python benchmarks/leave_one_source_out.py PHOTOS PBC --weights W --out FOLDER [--seed N]

Prints a line of JSON for each direction: balanced accuracy and accuracy with its interval by photograph. Pictures with
a note on their label are evaluated with and without. Nothing of the tested source is seen in training.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from bloodcell_edge.cli.options import Terminal
from bloodcell_edge.data import LABELS, Dataset, load_data
from bloodcell_edge.evaluation import evaluate_files
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.fit import train
from bloodcell_edge.training.kerasmodel import open_keras
from bloodcell_edge.training.recipes import choose_recipe

PATH = click.Path(path_type=Path)


def without_notes(dataset: Dataset) -> Dataset:
    """The pictures whose label nobody doubts."""
    return replace(dataset, pictures=tuple(one for one in dataset.pictures if not one.note), unknown=())


@click.command()
@click.argument("sources", nargs=2, type=PATH)
@click.option("--recipe", "name", default="blood")
@click.option("--weights", default="imagenet")
@click.option("--epochs", type=int)
@click.option("--seed", type=int, default=0)
@click.option("--out", type=PATH, required=True)
def main(sources: tuple[Path, Path], name: str, weights: str, epochs: int | None, seed: int, out: Path) -> None:
    """Both directions, one after the other."""
    report = Terminal()
    recipe = choose_recipe(name, weights=weights, epochs=epochs, seed=seed)
    for seen, unseen in (sources, sources[::-1]):
        run = RunFolder(out / f"{name}-{seen.name}-{seed}")
        if not run.metrics.is_file():
            train(load_data(seen), recipe, run, report=report)
        model = open_keras(run.model)
        tested = replace(load_data(unseen, labels=LABELS), unknown=())
        for what, dataset in (("all", tested), ("without notes", without_notes(tested))):
            found = evaluate_files(model, dataset).evaluation.as_json()
            kept = ("n", "balanced_accuracy", "accuracy", "accuracy_interval", "no_cell", "confusion")
            direction = f"{seen.name} -> {unseen.name}"
            click.echo(json.dumps({"from": direction, "labels": what, **{key: found[key] for key in kept}}))


if __name__ == "__main__":
    main()
