"""``bce ensemble``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..text import interval, percent
from .terminal.options import PATH, Terminal, echo_json, force_option, json_option, table

if TYPE_CHECKING:
    from collections.abc import Mapping


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=PATH)
@click.option("--distill", is_flag=True, help="Train one small model on the average of the runs.")
@click.option(
    "--recipe",
    type=click.Choice(["original", "field", "blood"]),
    help="Recipe of the student.  [default: of the first RUN]",
)
@click.option("--backbone", help="Changes --recipe, as do the next four; see bce train.")
@click.option("--alpha", type=click.FloatRange(0.1, 2.0), help="Width of the backbone.")
@click.option("--size", type=click.IntRange(32, 1024), metavar="PX", help="Input size, pixels.")
@click.option("--weights", metavar="imagenet|none|FILE", help="Initial weights.")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of the last stage.")
@click.option(
    "--name", help="Name of the folder under runs/; the student's gets -student.  [default: ensemble and number]"
)
@force_option
@json_option
def ensemble(
    runs: tuple[Path, ...],
    distill: bool,
    recipe: str | None,
    name: str | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Average several runs of one split and judge them on the pictures that they held back.

    Runs may differ in seed, backbone, size and view, not in labels or split (bce train --split-seed). A student is a
    run like any other: runs/latest points at it, and bce convert and bce parity work on it.

    \b
    Example:
      bce ensemble runs/blood-1 runs/blood-2
      bce ensemble runs/blood-1 runs/blood-2 --distill --alpha 0.35 --weights none
    """
    _refuse_unused(distill, recipe, options)

    from ..runs import RunFolder, point_latest
    from ..training.ensemble import distill as run_distilling
    from ..training.ensemble import ensemble_folder, evaluate_ensemble, open_ensemble, save_ensemble, student_folder
    from ..training.recipes import choose_recipe, load_recipe

    opened = open_ensemble(runs)
    run = ensemble_folder(name, opened, force=force)
    student = student_folder(run)
    report = Terminal()
    found = evaluate_ensemble(opened, report)
    if force:
        shutil.rmtree(run.path, ignore_errors=True)
    metrics = save_ensemble(run, opened, found)
    figures: dict[str, Mapping[str, Any]] = {
        **{one["model"]: one for one in metrics["members"]},
        "average": metrics["heldback"],
    }
    if distill:
        how = load_recipe(RunFolder(runs[0]).config) if recipe is None else choose_recipe(recipe, **options)
        if force:
            shutil.rmtree(student.path, ignore_errors=True)
        report.log_to(student.log)
        figures[str(student.path)] = run_distilling(opened, how, student, report=report).figures
        point_latest(student.path)
    if as_json:
        told = {"run": str(run.path), **metrics, "student": None}
        if distill:
            told["student"] = {"run": str(student.path), "heldback": dict(figures[str(student.path)])}
        echo_json(told)
        return
    click.echo(summary(figures))


def _refuse_unused(distill: bool, recipe: str | None, options: Mapping[str, Any]) -> None:
    """Options that would change nothing are an error."""
    given = ", ".join(f"--{key}" for key, value in options.items() if value is not None)
    if given and recipe is None:
        message = f"{given}: changes a recipe; give --recipe too"
        raise click.UsageError(message)
    if recipe is not None and not distill:
        message = "--recipe: says how to train the student; give --distill too"
        raise click.UsageError(message)


def summary(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each run, their average and the student, all on the same pictures."""
    head = ("on the held-back pictures", "n", "accuracy", "95 % interval", "balanced", "loss", "ECE")
    rows = [
        (
            name,
            str(one["n"]),
            percent(one["accuracy"]),
            interval(one["accuracy_interval"], each=" %"),
            percent(one["balanced_accuracy"]),
            f"{one['loss'] or 0:.3f}",
            percent(one["ece"]),
        )
        for name, one in figures.items()
    ]
    return table(head, rows)
