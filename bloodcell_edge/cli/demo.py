"""``bce demo``: the main job, start to end."""

from __future__ import annotations

from pathlib import Path

import click

from .terminal.options import PATH, Terminal, force_option, group_by_option


@click.command()
@click.option("--data", type=PATH, metavar="DATA", help="Labelled pictures.  [default: 2,000 drawn ones]")
@click.option(
    "--weights", metavar="imagenet|none|FILE", help="What to start from.  [default: none for drawn, imagenet]"
)
@click.option("--out", type=PATH, default=Path("bce-demo"), help="Folder for all that is made.")
@group_by_option
@force_option
def demo(data: Path | None, weights: str | None, out: Path, group_by: Path | None, force: bool) -> None:
    """Audit, train, convert, prove, time, classify and report on one page; then count a drawn slide.

    Without --data on pictures that bce draws, with a small network, in a few minutes and without a download.

    \b
    Example:
      bce demo
      bce demo --data blood-cells/ --weights mobilenet_v2_notop.weights.h5
    """
    from ..errors import GateFailure
    from ..files import refuse_existing
    from .demo_steps import Demo

    refuse_existing(out / "run", force=force)
    held = Demo(out, Terminal(), data=data, weights=weights, group_by=group_by).run()
    if not held:
        message = f"{out}: a gate did not hold, the lines above say which"
        raise GateFailure(message)
