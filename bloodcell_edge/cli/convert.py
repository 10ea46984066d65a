"""``bce convert``."""

from __future__ import annotations

from pathlib import Path

import click

from .terminal.options import PATH, Terminal, echo_json, force_option, json_option, labels_option, say_choice, table


@click.command()
@click.argument("model", required=False)
@click.option("--int8", is_flag=True, help="Integers inside, uint8 pictures in.")
@click.option("--float16", is_flag=True, help="Half the size, float inside.")
@click.option("--dynamic", is_flag=True, help="int8 weights, float inside.")
@click.option("--float32", is_flag=True, help="As trained.")
@click.option("--representative", type=PATH, metavar="DATA", help="Calibrate on these.  [default: training pictures]")
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
    temperature and its reject threshold; model.keras stays as it was trained.

    \b
    Example:
      bce convert
      bce convert runs/latest --int8 --out device/
    """
    from ..model.choose import choose_model

    path = say_choice(choose_model(model, prefer="model.keras"))  # before TensorFlow takes its seconds

    from convert.calibrate import calibration_pictures
    from convert.files import convert_files
    from convert.representative import representative_pictures
    from convert.targets import Target

    from ..errors import SpecError
    from ..training.kerasmodel import open_keras

    targets = [target for target in Target if wanted[target.value]] or [Target.INT8, Target.FLOAT16]
    keras_model = open_keras(path, labels=labels, view=view)
    if labels not in (None, keras_model.spec.labels):
        message = f"{path}: --labels {','.join(labels)}, but its spec.json says {','.join(keras_model.spec.labels)}"
        raise SpecError(message)
    report = Terminal()
    samples = (
        representative_pictures(path, keras_model.spec, representative, allow_small=allow_small, report=report)
        if any(target.needs_samples for target in targets)
        else []
    )
    made = convert_files(
        keras_model,
        targets,
        out or path.parent,
        representative=samples,
        calibration=calibration_pictures(path, targets, report),
        force=force,
        report=report,
    )
    if as_json:
        files = [
            {"file": str(one.file), "target": one.target.value, "bytes": one.bytes, "min_runtime": one.min_runtime}
            for one in made
        ]
        echo_json({"model": str(path), "files": files})
        return
    rows = [(str(one.file), one.target.value, f"{one.bytes:,}", one.min_runtime) for one in made]
    click.echo(table(("file", "target", "bytes", "oldest runtime"), rows))
