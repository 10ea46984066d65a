"""``bce report``."""

from __future__ import annotations

from pathlib import Path

import click

from .options import PATH, force_option


@click.command()
@click.argument("run", required=False, type=PATH)
@click.option("--out", type=PATH, metavar="FILE.html", help="Where to write.  [default: report.html in the run folder]")
@force_option
def report(run: Path | None, out: Path | None, force: bool) -> None:
    """One HTML page of a training run: data, figures, parity, speed, plots.

    \b
    Example:
      bce report
      bce report runs/latest --out report.html
    """
    from ..files import refuse_existing, write_text
    from ..report import run_report
    from ..runs import LATEST, RunFolder

    folder = RunFolder(run or LATEST)
    target = out or folder.path / "report.html"
    page = run_report(folder)
    if out is not None:
        refuse_existing(target, force=force)  # the default place is the run's own, made anew each time
    write_text(target, page)
    click.echo(str(target))
