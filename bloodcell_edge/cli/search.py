"""``bce search``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from .terminal.options import (
    PATH,
    Terminal,
    echo_json,
    force_option,
    group_by_option,
    json_option,
    labels_option,
)
from .terminal.search import summary, train_command


@click.command()
@click.argument("paths", metavar="DATA...", nargs=-1, required=True, type=PATH)
@click.option(
    "--minutes", type=click.FloatRange(min=0, min_open=True), help="Stop after this many minutes.  [default: no limit]"
)
@click.option(
    "--trials",
    type=click.IntRange(1),
    help="Candidates of the first rung.  [default: 30; with --minutes again and again]",
)
@click.option(
    "--recipe", type=click.Choice(["field", "blood"]), default="blood", help="Recipe that the candidates vary."
)
@click.option(
    "--view", type=click.Choice(["frame", "cell"]), help="Whole pictures or located cells.  [default: the recipe's]"
)
@click.option("--weights", metavar="imagenet|FILE", help="Initial weights.  [default: imagenet]")
@click.option(
    "--sizes",
    default="96,128,160,224",
    callback=lambda _, __, value: parse_sizes(value),
    metavar="PX,...",
    help="Input sizes to choose from.",
)
@click.option("--seed", type=click.IntRange(0), help="Random seed.  [default: 0]")
@group_by_option
@labels_option
@click.option("--name", default="search", help="Name of the folder under searches/.")
@force_option
@json_option
def search(
    paths: tuple[Path, ...],
    minutes: float | None,
    trials: int | None,
    sizes: tuple[int, ...],
    group_by: Path | None,
    labels: tuple[str, ...] | None,
    name: str,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Search for models that are accurate, fast and small: the Pareto front.

    Accuracy is balanced, of what was not trained on: with several DATA each is left out in turn, with one a third of
    its photographs; pictures with a note judge only where the recipe trains on them. Latency and size are those of the
    int8 file. A third of the candidates goes on to a short fine-tuning, a third of these to the whole recipe. The same
    command goes on where it was stopped or killed, and may run several times at once, also on machines that share the
    folder with its file locks. Tables, the plot, and recipes for bce train are in searches/NAME/.

    \b
    Example:
      bce search photos/ other-lab/ --minutes 60
    """
    from convert.cost import int8_cost

    from ..dataset.layouts import load_all
    from ..dataset.pictures import LABELS
    from ..training.recipes import choose_recipe
    from ..training.search.search import new_folder
    from ..training.search.search import search as run_search
    from ..training.search.space import space_with_weights

    recipe = choose_recipe(options.pop("recipe"), **options)
    dataset = load_all(paths, labels=labels or LABELS, group_by=group_by, subset="train")
    report, folder = Terminal(), new_folder(name, force=force)
    report.log_to(folder / "search.log")
    space, left_out = space_with_weights(recipe, sizes, len(dataset.labels))
    if left_out:
        why = next(iter(left_out.values()))
        report.say(f"not in this search, for want of weights: {', '.join(left_out)} (the first: {why})")
    found = run_search(
        paths, dataset, recipe, space, folder, measure=int8_cost, minutes=minutes, trials=trials, report=report
    )
    repeat = train_command(paths, found.best, group_by, labels)
    if as_json:
        rungs = {str(rung): count for rung, count in found.counts().items()}
        front = [row.as_json() for row in found.front()]
        best = None if found.best is None else str(found.best)
        values = {"search": str(folder), "finished": found.finished, "judged": rungs, "failed": found.failed}
        echo_json({**values, "front": front, "best": best, "command": repeat})
    else:
        click.echo(summary(found, repeat))


def parse_sizes(text: str) -> tuple[int, ...]:
    """Input sides of a comma-separated list."""
    sides = tuple(int(part) for part in text.split(",") if part.strip().isdecimal() and 32 <= int(part) <= 1024)
    if len(sides) != len(text.split(",")):
        message = f"expected pixels from 32 to 1024, such as 96,128, found {text!r}"
        raise click.BadParameter(message)
    return sides
