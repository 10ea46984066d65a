"""``bce evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from ..text import interval, percent
from .terminal.options import PATH, Terminal, echo_json, group_by_option, json_option, say_choice, say_note, table


@click.command()
@click.argument("arguments", metavar="[MODEL] DATA", nargs=-1, required=True)
@click.option("--plots", type=PATH, metavar="DIR", help="Write confusion matrix, reliability and worst mistakes there.")
@click.option("--allow-seen", is_flag=True, help="Keep pictures that the model was trained on.")
@group_by_option
@json_option
def evaluate(
    arguments: tuple[str, ...], plots: Path | None, allow_seen: bool, group_by: Path | None, as_json: bool
) -> None:
    """Evaluate a .keras or .tflite model on labelled pictures that it has not seen.

    \b
    Example:
      bce evaluate DATA
      bce evaluate runs/latest/model.keras DATA --plots plots/
    """
    from ..dataset.evaluation import evaluate_data
    from ..model.choose import choose_model
    from ..training.opening import open_model

    if len(arguments) > 2:
        message = f"expected [MODEL] DATA, found {len(arguments)} arguments"
        raise click.UsageError(message)
    path = say_choice(choose_model(arguments[0] if len(arguments) == 2 else None))
    report = Terminal()
    opened = open_model(path)
    say_note(opened.spec)
    answers = evaluate_data(opened, arguments[-1], group_by=group_by, allow_seen=allow_seen, report=report)
    if plots is not None:
        from ..training.plots import save_plots

        pictures, scores = answers.with_cell()
        save_plots(plots, evaluation=answers.evaluation, pictures=pictures, scores=scores)
    for one in answers.unreadable:
        report.say(f"left out: {one.error}")
    if as_json:
        echo_json(answers.as_json(str(path)))
        return
    found = answers.evaluation
    click.echo(
        f"n = {found.n}, accuracy {percent(found.accuracy)} (95 % interval "
        f"{interval((found.interval.low, found.interval.high), each=' %')}, {found.interval.method}), "
        f"balanced {percent(found.balanced_accuracy)}, loss {found.loss or 0:.3f}, "
        f"ECE {percent(found.calibration.ece)}; {len(answers.seen)} left out as seen in training"
    )
    click.echo(
        f"named: {percent(found.coverage)} of the evaluated, {percent(found.accuracy_covered)} of these right; "
        f"{found.cut} cut by the edge and not evaluated, {found.no_cell} without a cell"
    )
    if answers.unknown["n"]:
        click.echo(f"none of these: n = {answers.unknown['n']}, {answers.unknown['rejected']} of them rejected")
    head = ("class", "n", "precision", "recall", "f1", "specificity")
    rows = [
        (label, str(one.n), percent(one.precision), percent(one.recall), percent(one.f1), percent(one.specificity))
        for label, one in found.per_class.items()
    ]
    click.echo(table(head, rows))
    click.echo("\nconfusion (rows true, columns said)")
    counts = [(label, *map(str, row)) for label, row in zip(found.labels, found.confusion, strict=True)]
    click.echo(table(("", *found.labels, "no cell"), counts))
