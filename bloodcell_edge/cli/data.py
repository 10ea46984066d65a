"""``bce data``."""

from __future__ import annotations

from pathlib import Path

import click

from .terminal.options import PATH, force_option


@click.group()
def data() -> None:
    """Fetch public picture sets.

    \b
    Example:
      bce data kaggle --out blood-cells
    """


@data.command()
@click.option("--out", type=PATH, default=Path("blood-cells"), help="Folder to make.")
@force_option
def kaggle(out: Path, force: bool) -> None:
    """Fetch paultimothymooney/blood-cells from Kaggle (needs a network).

    \b
    Example:
      bce data kaggle && bce audit blood-cells
    """
    from ..dataset.kaggle import fetch_kaggle

    click.echo(str(fetch_kaggle(out, force=force)))
