"""``bce export``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .terminal.options import PATH, Command, force_option, table

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..slide.export import CropsExport
    from ..slide.reader import Reader


def _file_option(name: str, help_text: str) -> Callable[[Command], Command]:
    """A format with a file, or without one for stdout."""
    return click.option(f"--{name}", f"{name}_file", is_flag=False, flag_value="-", metavar="[FILE]", help=help_text)


@click.command()
@click.option("--store", "path", type=PATH, metavar="FILE", help="Results of bce run.  [default: bloodcell.sqlite]")
@click.option("--slide", metavar="NAME", help="Only this slide.  [default: all]")
@_file_option("csv", "A row for each cell, and for each field without one; to stdout where no file is named.")
@_file_option("json", "Differentials, fields, cells and events; to stdout where no file is named.")
@click.option("--crops", type=PATH, metavar="DIR", help="Pictures of cells, a folder for each class, for bce train.")
@click.option("--reviewed", is_flag=True, help="With --crops: only cells that a person labelled.")
@click.option(
    "--cells", type=click.IntRange(1), metavar="N", help="With --json: cells below which no percentage is.  [the run's]"
)
@force_option
def export(
    path: Path | None, slide: str | None, csv_file: str | None, json_file: str | None, crops: Path | None,
    reviewed: bool, cells: int | None, force: bool,
) -> None:  # fmt: skip
    """Export results as CSV, JSON, or cell pictures in a folder per class.

    Give one of --csv, --json and --crops. All slides, unless --slide names one.

    \b
    Example:
      bce export --csv cells.csv
      bce export --store bloodcell.sqlite --slide "slide 12" --json
      bce export --crops crops/ && bce train crops/
    """
    from ..slide.export import export_crops
    from ..slide.reader import DEFAULT_STORE, Reader

    if sum(one is not None for one in (csv_file, json_file, crops)) != 1:
        message = "give exactly one of --csv, --json and --crops DIR"
        raise click.UsageError(message)
    if reviewed and crops is None:
        message = "--reviewed is for --crops"
        raise click.UsageError(message)
    with Reader.open(path or DEFAULT_STORE) as store, store.one_moment():
        slides = dict.fromkeys(reading.slide for reading in store.readings(slide))
        click.echo(f"slides: {', '.join(slides) or 'none'}", err=True)
        if crops is not None:
            _say_crops(export_crops(store, crops, slide=slide, reviewed_only=reviewed, force=force), crops)
        elif csv_file is not None:
            _csv(store, slide, csv_file, force)
        elif json_file is not None:
            _json(store, slide, json_file, cells, force)


def _csv(store: Reader, slide: str | None, file: str, force: bool) -> None:
    from ..files import beside, refuse_existing
    from ..slide.export import export_csv

    if file == "-":
        export_csv(store, sys.stdout, slide=slide)
        return
    refuse_existing(file, force=force)
    with beside(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
        rows = export_csv(store, stream, slide=slide)
    click.echo(f"{rows} rows", err=True)
    click.echo(file)


def _json(store: Reader, slide: str | None, file: str, cells: int | None, force: bool) -> None:
    from ..files import refuse_existing, write_json
    from ..slide.export import export_json
    from .terminal.options import echo_json

    found = export_json(store, slide=slide, cells=cells)
    if file == "-":
        echo_json(found)
        return
    refuse_existing(file, force=force)
    write_json(file, found)
    click.echo(file)


def _say_crops(written: CropsExport, folder: Path) -> None:
    rows = [(label, str(n)) for label, n in sorted(written.by_label.items())]
    click.echo(table(("class", "crops"), rows), err=True)
    if written.unidentified:
        click.echo(f"{written.unidentified} to be sorted by a person in {folder / 'UNIDENTIFIED'}", err=True)
    if written.without_crop:
        click.echo(f"{written.without_crop} cells have no crop: not kept, or dropped for room", err=True)
    click.echo(str(folder))
