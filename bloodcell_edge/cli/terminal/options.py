"""Options and helpers that several commands share."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ...text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...model.choose import Choice
    from ...model.spec import ModelSpec
    from ...progress import Progress

Command = TypeVar("Command", bound=Callable[..., Any])

PATH = click.Path(path_type=Path)

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout and nothing else.")
group_by_option = click.option(
    "--group-by", type=PATH, metavar="CSV", help="Columns file,group: pictures of one photograph or cell."
)
labels_option = click.option(
    "--labels", callback=lambda _, __, value: parse_labels(value), metavar="L,...", help="Class names, in output order."
)
force_option = click.option("--force", is_flag=True, help="Replace what is there already.")


def parse_labels(text: str | None) -> tuple[str, ...] | None:
    """Labels of a comma-separated list, in capitals."""
    if text is None:
        return None
    labels = tuple(label.strip().upper() for label in text.split(",") if label.strip())
    if len(labels) < 2 or len(set(labels)) != len(labels):
        message = f"expected at least two different labels, found {text!r}"
        raise click.BadParameter(message)
    return labels


class Terminal:
    """A `Reporter`: lines and, on a terminal, bars, on stderr."""

    def __init__(self, *logs: Path) -> None:
        """Say everything also into log files."""
        self._logs = list(logs)

    def log_to(self, path: Path) -> None:
        """From now on also into this file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._logs.append(path)

    def say(self, text: str) -> None:
        """One line."""
        click.echo(text, err=True)
        for path in self._logs:
            with path.open("a", encoding="utf-8") as stream:
                stream.write(f"{text}\n")

    @contextmanager
    def bar(self, title: str) -> Iterator[Progress]:
        """A bar on a terminal, nothing elsewhere."""
        if not sys.stderr.isatty():
            yield lambda *_: None
            return
        with click.progressbar(length=1, label=title, file=sys.stderr, show_pos=True) as bar:

            def move(done: int, total: int) -> None:
                bar.length = total
                bar.update(done - bar.pos)

            yield move


def say_choice(choice: Choice) -> Path:
    """Say on stderr which model is used and why."""
    click.echo(str(choice), err=True)
    return choice.path


def say_note(spec: ModelSpec) -> None:
    """Say on stderr what a person should be told of a model, where there is something."""
    if spec.note:
        click.echo(f"note: {spec.note}", err=True)


def say_left_out(text: str) -> None:
    """Say on stderr what of a folder or file was not looked at."""
    click.echo(f"left out: {printable(text)}", err=True)


def echo_json(value: Any) -> None:
    """One JSON document on stdout."""
    click.echo(json.dumps(value, allow_nan=False))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they must be; the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(pairs))
        for pairs in (list(zip(row, widths, strict=True)) for row in [head, *rows])
    ]
    return "\n".join(line.rstrip() for line in lines)
