"""``bce audit``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .terminal.options import PATH, Terminal, echo_json, group_by_option, json_option, labels_option, table

if TYPE_CHECKING:
    from ..dataset.audit import AuditReport

SHOWN = 5  # of a long list


@click.command()
@click.argument("path", metavar="DATA", type=PATH)
@group_by_option
@labels_option
@json_option
def audit(path: Path, group_by: Path | None, labels: tuple[str, ...] | None, as_json: bool) -> None:
    """Count pictures and photographs, find copies, conflicting labels and leaking splits.

    Pictures that show the same photograph are found although rotated, flipped, sheared or shifted. Exits with 4 where a
    photograph is on two sides (train, val, test), or a table gives one file two labels.

    \b
    Example:
      bce audit blood-cells/
      bce audit blood-cells/ --json > audit.json
    """
    from ..dataset.audit import audit as run_audit
    from ..dataset.layouts import load_data
    from ..dataset.pictures import LABELS
    from ..errors import GateFailure

    dataset = load_data(path, labels=labels or LABELS, group_by=group_by)
    terminal = Terminal()
    with terminal.bar("find photographs") as progress:
        found = run_audit(dataset, progress=progress)
    for note in dataset.notes:
        terminal.say(note)
    if dataset.skipped:
        terminal.say(f"skipped: {dataset.skipped} hidden files and files that are no pictures by their names")
    if as_json:
        echo_json(found.as_json())
    else:
        click.echo(summary(found, dataset.labels))
    if found.leaks:
        message = (
            f"{path}: {found.leaks} pictures have a copy of their photograph on the other side of the split; "
            "split by photograph, as bce train does"
        )
        raise GateFailure(message)
    twice = [one for one in found.conflicts if len(one["files"]) == 1]
    if twice:
        (file,), labelled = twice[0]["files"], " and ".join(twice[0]["labels"])
        message = (
            f"{path}: two labels for one file, {len(twice)} times (the first: {file}, {labelled}); keep one row of each"
        )
        raise GateFailure(message)


def summary(found: AuditReport, labels: Sequence[str]) -> str:
    """Counts as a table, then what was found, a line a kind; classes outside `labels` are said to be none of these."""
    rows = [
        (label if label in labels else f"{label} (none of these)", str(count), str(found.photographs_by_label[label]))
        for label, count in found.by_label.items()
    ]
    rows.append(("together", str(found.n), str(len(set(found.group_of.values())))))
    lines = [table(("class", "pictures", "photographs"), rows), ""]
    lines += [f"unreadable: {one.error}" for one in found.unreadable]
    lines += _listed("pictures that are exactly equal", found.duplicates)
    lines += _listed("photographs shown by several pictures", found.groups)
    lines += _listed("photographs with conflicting labels", [one["labels"] + one["files"] for one in found.conflicts])
    lines += _listed("photographs on both sides of a split", [one["files"] for one in found.straddling])
    lines.append(f"pictures that leak: {found.leaks}")
    return "\n".join(lines)


def _listed(title: str, groups: Sequence[Sequence[str]]) -> list[str]:
    """A title with the count, and the first few groups."""
    lines = [f"{title}: {len(groups)}"]
    for group in groups[:SHOWN]:
        more = f", ... {len(group) - SHOWN} more" if len(group) > SHOWN else ""
        lines.append(f"    {', '.join(group[:SHOWN])}{more}")
    if len(groups) > SHOWN:
        lines.append(f"    ... {len(groups) - SHOWN} more (all of them with --json)")
    return lines
