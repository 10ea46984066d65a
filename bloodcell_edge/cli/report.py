"""``bce report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .terminal.options import PATH, force_option

if TYPE_CHECKING:
    from ..slide.reader import Reader


@click.command()
@click.argument("run", required=False, type=PATH)
@click.option("--store", type=PATH, metavar="FILE", help="Results of bce run.  [default: bloodcell.sqlite]")
@click.option("--slide", metavar="NAME", help="Which slide of the store.  [default: the latest]")
@click.option(
    "--cells", type=click.IntRange(1), metavar="N", help="Cells below which no percentage is stated.  [the run's]"
)
@click.option(
    "--out", type=PATH, metavar="FILE.html", help="Where to write.  [default: in the run folder; beside the store]"
)
@force_option
def report(
    run: Path | None, store: Path | None, slide: str | None, cells: int | None, out: Path | None, force: bool
) -> None:
    """One HTML page of a training run, or of a slide: its differential with intervals, its cells, its refused fields.

    RUN is a run folder; with --store or --slide the page is of a slide. With none of them it is of the newer of
    runs/latest and bloodcell.sqlite.

    \b
    Example:
      bce report
      bce report runs/latest --out report.html
      bce report --store bloodcell.sqlite --slide "slide 12"
    """
    from ..files import refuse_existing, write_text

    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        message = f"--out {out}: a report is an HTML page, expected FILE.html; a browser prints it to PDF"
        raise click.UsageError(message)
    if run is None and store is None and slide is None:
        store = _newer_store(asked=cells is not None)
    if store is None and slide is None:
        if cells is not None:
            message = "--cells is for a slide: give --store or --slide with it"
            raise click.UsageError(message)
        page, usual = _of_run(run)
    elif run is None:
        page, usual = _of_slide(store, slide, cells)
    else:
        message = "give a run folder, or --store and --slide, not both"
        raise click.UsageError(message)
    if out is not None:
        refuse_existing(out, force=force)  # the default place is the report's own, made anew each time
    write_text(out or usual, page)
    click.echo(str(out or usual))


def _newer_store(*, asked: bool) -> Path | None:
    """The store in this folder where it is newer than the latest run, or a slide is asked for; says so on stderr."""
    from ..runs import LATEST, RunFolder
    from ..slide.reader import DEFAULT_STORE

    if not DEFAULT_STORE.is_file():
        return None
    metrics = RunFolder(LATEST).metrics
    if metrics.is_file():
        if not asked and metrics.stat().st_mtime >= DEFAULT_STORE.stat().st_mtime:
            return None
        click.echo(f"store: {DEFAULT_STORE}; bce report {LATEST} means the run", err=True)
    return DEFAULT_STORE


def _of_run(run: Path | None) -> tuple[str, Path]:
    from ..reports.training import run_report
    from ..runs import LATEST, RunFolder

    folder = RunFolder(run or LATEST)
    return run_report(folder), folder.path / "report.html"


def _of_slide(path: Path | None, slide: str | None, cells: int | None) -> tuple[str, Path]:
    from ..reports.slide import report_file, slide_report
    from ..slide.reader import DEFAULT_STORE, Reader

    with Reader.open(path or DEFAULT_STORE) as store:
        name = _choose_slide(store) if slide is None else slide
        return slide_report(store, name, cells=cells), report_file(store.path, name)


def _choose_slide(store: Reader) -> str:
    """The only slide, else the slide of the last field; says which on stderr."""
    from ..reports.slide import latest_slide

    name, number = latest_slide(store)
    why = "the only one" if number == 1 else f"the latest of {number}; --slide NAME means another"
    click.echo(f"slide: {name} ({why})", err=True)
    return name
