"""``bce train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..text import interval, percent
from .terminal.options import (
    PATH,
    Terminal,
    echo_json,
    force_option,
    group_by_option,
    json_option,
    labels_option,
)

if TYPE_CHECKING:
    from ..training.recipes import Recipe

_OF_THE_RECIPE = ("recipe", "view", "backbone", "alpha", "size", "weights", "epochs", "fine_tune", "seed", "split_seed")


@click.command()
@click.argument("paths", metavar="DATA...", nargs=-1, required=True, type=PATH)
@click.option(
    "--recipe",
    type=click.Choice(["original", "field", "blood"]),
    default="blood",
    help="Training recipe.",
    show_default=True,
)
@click.option(
    "--view", type=click.Choice(["frame", "cell"]), help="Whole pictures or located cells.  [default: the recipe's]"
)
@click.option("--backbone", help="Network, a name in keras.applications.  [default: mobilenet_v2]")
@click.option("--alpha", type=click.FloatRange(0.1, 2.0), help="Width of the backbone.  [default: 1.0]")
@click.option(
    "--size", type=click.IntRange(32, 1024), metavar="PX", help="Input size, pixels.  [default: the recipe's]"
)
@click.option("--weights", metavar="blood|imagenet|none|FILE", help="Initial weights.  [default: imagenet]")
@click.option("--epochs", type=click.IntRange(1), help="Epochs of the last stage.  [default: the recipe's]")
@click.option("--fine-tune", type=click.IntRange(-1), metavar="N", help="Backbone blocks to train, -1 for all.")
@click.option("--seed", type=click.IntRange(0), help="Random seed.  [default: 0]")
@click.option(
    "--split-seed", type=click.IntRange(0), help="Random seed of the split, for bce ensemble.  [default: --seed]"
)
@click.option(
    "--recipe-file", type=PATH, metavar="JSON", help="Recipe file of bce search, in place of all these options."
)
@click.option("--locator", is_flag=True, help="Train the network that finds the cells.")
@group_by_option
@labels_option
@click.option("--name", help="Name of the run folder.  [default: recipe and number]")
@force_option
@json_option
def train(
    paths: tuple[Path, ...],
    recipe_file: Path | None,
    locator: bool,
    name: str | None,
    group_by: Path | None,
    labels: tuple[str, ...] | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a classifier; fills a folder under runs/ and points runs/latest at it.

    Pictures are split by photograph: given by --group-by or a group column, else found as in bce audit. A run that was
    interrupted goes on from its last epoch when the same command is given again.

    With --locator it trains the network that finds the cells: DATA is photographs with a boxes.csv (file, kind, x, y,
    width, height; kinds WBC and RBC), or pictures of one cell each, of as many microscopes as there are.

    \b
    Example:
      bce train DATA
      bce train --locator PHOTOS CELLS
      bce train DATA --recipe original --weights mobilenet_v2_notop.weights.h5
    """
    if locator:
        _refuse_beside_locator()
        _train_locator(paths, name, options["epochs"], options["seed"], force=force, as_json=as_json)
        return
    from ..dataset.pictures import LABELS
    from ..model.spec import load_spec
    from ..runs import RunFolder
    from ..training.fit import train_data
    from ..training.recipes import choose_recipe

    recipe = choose_recipe(options.pop("recipe"), **options) if recipe_file is None else _recipe_of(recipe_file)
    run = RunFolder(
        train_data(paths, recipe, labels=labels or LABELS, group_by=group_by, name=name, force=force, report=Terminal())
    )
    figures = load_spec(run.spec).figures
    if as_json:
        echo_json({"run": str(run.path), "heldback": dict(figures)})
        return
    click.echo(
        f"{run.path}: held-back accuracy {percent(figures['accuracy'])} "
        f"(95 % interval {interval(figures['accuracy_interval'], each=' %')}, "
        f"{figures['interval_method']}, n = {figures['n']})"
    )


_OF_A_LOCATOR = ("paths", "locator", "name", "epochs", "seed", "force", "as_json")


def _refuse_beside_locator() -> None:
    """UsageError for an option that is of a classifier alone."""
    context = click.get_current_context()
    given = click.core.ParameterSource.COMMANDLINE
    for name in context.params:
        if name not in _OF_A_LOCATOR and context.get_parameter_source(name) is given:
            message = f"--{name.replace('_', '-')} is of a classifier; --locator takes --name, --epochs and --seed"
            raise click.UsageError(message)


def _train_locator(
    paths: tuple[Path, ...], name: str | None, epochs: int | None, seed: int | None, *, force: bool, as_json: bool
) -> None:
    from ..files import read_json
    from ..runs import RunFolder
    from ..training.locator.fit import train_locator
    from ..training.locator.recipe import LocatorRecipe

    changes: dict[str, Any] = {key: value for key, value in (("epochs", epochs), ("seed", seed)) if value is not None}
    run = RunFolder(train_locator(paths, LocatorRecipe(**changes), name=name, force=force, report=Terminal()))
    figures = read_json(run.metrics)["heldback"]
    if as_json:
        echo_json({"run": str(run.path), "heldback": figures})
        return
    click.echo(
        f"{run.path}: of {figures['cells']} white cells in {figures['scenes']} damaged scenes of held-back pictures "
        f"{percent(figures['recall'])} found, {percent(figures['precision'])} of what is found is one"
    )


def _recipe_of(path: Path) -> Recipe:
    """The recipe of a file; what else would change it is refused, not passed over."""
    from ..training.recipes import load_recipe

    context = click.get_current_context()
    given = click.core.ParameterSource.COMMANDLINE
    for name in _OF_THE_RECIPE:
        if context.get_parameter_source(name) is given:
            message = f"--{name.replace('_', '-')} changes the recipe, which --recipe-file gives whole: edit the file"
            raise click.UsageError(message)
    return load_recipe(path)
