"""``bce parity``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .terminal.options import PATH, Terminal, echo_json, json_option, say_choice, table

if TYPE_CHECKING:
    from convert.reports import ParityReport


MOST_FLIPPED = 5


@click.command()
@click.argument("reference", required=False)
@click.argument("candidates", metavar="[CANDIDATE...]", nargs=-1, type=PATH)
@click.option(
    "--data", type=PATH, metavar="DATA", help="Pictures to compare on.  [default: the run's held-back pictures]"
)
@click.option("--max-drop", type=float, default=1.0, help="Largest drop of accuracy, percentage points.")
@click.option("--max-recall-drop", type=float, default=2.0, help="Largest drop of a class's recall, percentage points.")
@click.option("--min-agreement", type=float, default=98.0, help="Least share of equal labels, percent.")
@click.option("--allow-small", is_flag=True, help="Pass also with fewer than 100 pictures.")
@json_option
def parity(
    reference: str | None,
    candidates: tuple[Path, ...],
    data: Path | None,
    max_drop: float,
    max_recall_drop: float,
    min_agreement: float,
    allow_small: bool,
    as_json: bool,
) -> None:
    """Check that converted files answer like the Keras model; exit 4 where they do not.

    Candidates default to all .tflite beside the reference. On the run's held-back pictures, a report that passed is
    written into the file that it is about.

    \b
    Example:
      bce parity
      bce parity runs/latest bloodcell-int8.tflite --data DATA
    """
    from ..errors import GateFailure
    from ..model.choose import choose_model, holds_locator
    from ..runs import KERAS_FILE

    path = say_choice(choose_model(reference, prefer=KERAS_FILE))  # before TensorFlow takes its seconds
    if holds_locator(path.parent):
        _prove_locator(path.parent, candidates, as_json=as_json)
        return

    from convert.parity import GateLimits
    from convert.proof import prove

    limits = GateLimits(max_drop, max_recall_drop, min_agreement, allow_small)
    terminal = Terminal()
    found = prove(path, candidates, data, limits=limits, report=terminal)
    if as_json:
        echo_json(found.as_json())
    else:
        click.echo(summary(found))
    if not found.passed:
        failed = ", ".join(Path(one.file).name for one in found.candidates if not one.passed)
        message = f"parity does not hold for {failed}"
        raise GateFailure(message)


def _prove_locator(run: Path, candidates: tuple[Path, ...], *, as_json: bool) -> None:
    from convert.locator import prove_locator

    from ..errors import GateFailure

    found = prove_locator(run, candidates, report=Terminal())
    if as_json:
        echo_json({"passed": all(one.passed for one in found), "candidates": [one.as_json() for one in found]})
    else:
        head = ("file", "cells", "recall", "drop", "precision", "drop", "agreement", "box overlap", "gate")
        rows = [
            (
                Path(one.file).name,
                str(one.n),
                f"{one.recall:.2f} %",
                f"{one.recall_drop:+.2f}",
                f"{one.precision:.2f} %",
                f"{one.precision_drop:+.2f}",
                f"{one.agreement:.2f} %",
                f"{one.iou:.3f}",
                "holds" if one.passed else "FAILS",
            )
            for one in found
        ]
        click.echo("\n".join([table(head, rows), *(f"{Path(one.file).name}: {one.why}" for one in found if one.why)]))
    failed = ", ".join(Path(one.file).name for one in found if not one.passed)
    if failed:
        message = f"parity does not hold for {failed}"
        raise GateFailure(message)


def summary(found: ParityReport) -> str:
    """The report as a table, with what did not hold below."""
    photographs = "" if found.n_groups is None else f" of {found.n_groups} photographs"
    head = ("file", "bytes", "accuracy", "drop", "recall drop", "agreement", "max diff", "McNemar p", "gate")
    rows = [
        (
            Path(one.file).name,
            f"{one.bytes:,}",
            f"{one.accuracy:.2f} %",
            f"{one.accuracy_drop:+.2f}",
            f"{one.worst_recall_drop:+.2f}",
            f"{one.agreement:.2f} %",
            f"{one.max_abs_diff:.3f}",
            f"{one.mcnemar_p:.3f}",
            "holds" if one.passed else "FAILS",
        )
        for one in found.candidates
    ]
    notes = [f"{Path(one.file).name}: {why}" for one in found.candidates for why in one.why]
    for one in found.candidates:
        if one.layers:
            losses = [(layer.layer, layer.operator, f"{layer.error:.2f}") for layer in one.layers]
            notes += [table(("layers that lose most", "operator", "error in steps"), losses), f"try: {one.advice}"]
        if one.flipped and not one.passed:
            shown = ", ".join(one.flipped[:MOST_FLIPPED])
            notes.append(f"changed answers: {len(one.flipped)}, such as {shown} (all of them with --json)")
    first = f"{found.n} pictures{photographs}; {found.reference_file} is right on {found.reference_accuracy:.2f} %"
    return "\n".join([first, table(head, rows), *notes])
