"""``bce classify``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .terminal.options import PATH, force_option, json_option, say_choice, say_left_out, say_note


@click.command()
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=PATH)
@click.option("--model", help="A .tflite, a run folder, or a shipped model.  [default: shipped, else runs/latest]")
@click.option("--threads", type=click.IntRange(1), default=1, help="Cores for one picture.")
@click.option("--csv", "csv_file", type=PATH, metavar="FILE", help="Write the answers to a CSV file.")
@force_option
@json_option
def classify(
    paths: tuple[Path, ...], model: str | None, threads: int, csv_file: Path | None, force: bool, as_json: bool
) -> None:
    """Classify the white cells in pictures.

    Folders are walked. A file that cannot be read is a line with its error; the rest go on, and the exit code is 1.
    --json prints a JSON document a line.

    \b
    Example:
      bce classify slides/
      bce classify field_01.jpg field_02.jpg --json
    """
    from ..errors import PictureError
    from ..files import refuse_existing
    from ..model.answers import CsvSink, JsonSink, Sinks, TableSink, classify_paths
    from ..model.choose import choose_model
    from ..model.classifier import Classifier

    if csv_file is not None:
        refuse_existing(csv_file, force=force)
    classifier = Classifier.open(say_choice(choose_model(model)), threads=threads)
    say_note(classifier.spec)
    sinks: Sinks = [JsonSink(sys.stdout) if as_json else TableSink(sys.stdout)]
    if csv_file is not None:
        sinks.append(CsvSink(csv_file, classifier.spec.labels))
    failed = classify_paths(classifier, paths, sinks, say=say_left_out)
    if failed:
        message = f"{failed} of the files could not be read; their lines say why"
        raise PictureError(message)
