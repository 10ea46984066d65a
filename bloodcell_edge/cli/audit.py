"""``bce audit``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import PATH, Terminal, echo_json, group_by_option, json_option, labels_option


@click.command()
@click.argument("path", metavar="DATA", type=PATH)
@group_by_option
@labels_option
@json_option
def audit(path: Path, group_by: Path | None, labels: tuple[str, ...] | None, as_json: bool) -> None:
    """Count pictures and photographs, find copies, conflicting labels and leaking splits.

    Pictures that show the same photograph are found although rotated, flipped, sheared or shifted. Exits with 4 where a
    photograph stands on both sides of TRAIN and TEST.

    \b
    Example:
      bce audit blood-cells/
      bce audit blood-cells/ --json > audit.json
    """
    from ..data import LABELS, load_data
    from ..errors import GateFailure
    from ..training.audit import audit as run_audit

    dataset = load_data(path, labels=labels or LABELS, group_by=group_by)
    with Terminal().bar("find photographs") as progress:
        found = run_audit(dataset, progress=progress)
    if as_json:
        echo_json(found.as_json())
    else:
        click.echo(found.summary())
    if found.leaks:
        message = (
            f"{path}: {found.leaks} pictures have a copy of their photograph on the other side of the split; "
            "split by photograph, as bce train does"
        )
        raise GateFailure(message)
