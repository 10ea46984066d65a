"""``bce convert``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .terminal.options import PATH, Terminal, echo_json, force_option, json_option, labels_option, say_choice, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convert.files import Converted


@click.command()
@click.argument("model", required=False)
@click.option("--int8", is_flag=True, help="Integer weights and activations, uint8 input.")
@click.option("--float16", is_flag=True, help="float16 weights, half the size.")
@click.option("--dynamic", is_flag=True, help="int8 weights, float activations.")
@click.option("--float32", is_flag=True, help="float32, as trained.")
@click.option(
    "--representative", type=PATH, metavar="DATA", help="Representative dataset.  [default: training pictures]"
)
@click.option("--out", type=PATH, metavar="DIR", help="Folder for the files.  [default: beside the .keras]")
@click.option("--allow-small", is_flag=True, help="Accept fewer than 50 representative pictures, or a class missing.")
@labels_option
@click.option("--view", type=click.Choice(["frame", "cell"]), help="For a bare .keras without spec.json.")
@force_option
@json_option
def convert(
    model: str | None,
    representative: Path | None,
    out: Path | None,
    allow_small: bool,
    labels: tuple[str, ...] | None,
    view: str | None,
    force: bool,
    as_json: bool,
    **wanted: bool,
) -> None:
    """Convert a trained model to TFLite; int8 and float16 unless told otherwise.

    The int8 file of a run is calibrated on the pictures that the run held back. All files made with it get its
    temperature and its reject threshold; model.keras stays as it was trained. The run of a locator gives
    locator-int8.tflite and so on.

    \b
    Example:
      bce convert
      bce convert runs/latest --int8 --out device/
    """
    from ..model.choose import choose_model, holds_locator
    from ..runs import KERAS_FILE

    path = say_choice(choose_model(model, prefer=KERAS_FILE))  # before TensorFlow takes its seconds
    targets = [name for name, asked_for in wanted.items() if asked_for] or ["int8", "float16"]
    if holds_locator(path.parent):
        from convert.locator import convert_locator

        _say(convert_locator(path.parent, targets, out=out, force=force, report=Terminal()), path, as_json=as_json)
        return

    from convert.files import convert as convert_model

    made = convert_model(
        path,
        targets=targets,
        out=out,
        representative=representative,
        allow_small=allow_small,
        labels=labels,
        view=view,
        force=force,
        report=Terminal(),
    )
    _say(made, path, as_json=as_json)


def _say(made: Sequence[Converted], path: Path, *, as_json: bool) -> None:
    if as_json:
        files = [
            {"file": str(one.file), "target": one.target.value, "bytes": one.bytes, "min_runtime": one.min_runtime}
            for one in made
        ]
        echo_json({"model": str(path), "files": files})
        return
    rows = [(str(one.file), one.target.value, f"{one.bytes:,}", one.min_runtime) for one in made]
    click.echo(table(("file", "target", "bytes", "oldest runtime"), rows))
