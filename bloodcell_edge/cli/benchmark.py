"""``bce benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from .options import PATH, Terminal, echo_json, json_option, say_choice, table

if TYPE_CHECKING:
    from ..benchmark import BenchmarkReport


@click.command()
@click.argument("models", metavar="[MODEL...]", nargs=-1)
@click.option(
    "--threads",
    default="1",
    callback=lambda _, __, value: parse_threads(value),
    metavar="N,...",
    help="Cores for one invoke, several to compare.",
)
@click.option("--data", type=PATH, metavar="DATA", help="Picture files to time with.  [default: drawn ones]")
@click.option("--runs", type=click.IntRange(1), default=200, help="Timed rounds of each file and thread count.")
@json_option
def benchmark(models: tuple[str, ...], threads: list[int], data: Path | None, runs: int, as_json: bool) -> None:
    """Latency of decode, resize and invoke on this machine.

    \b
    Example:
      bce benchmark
      bce benchmark bloodcell-int8.tflite bloodcell-float16.tflite --threads 1,2
    """
    import tempfile

    from ..answers import picture_files
    from ..benchmark import benchmark as run_benchmark
    from ..benchmark import default_pictures
    from ..runs import choose_model

    paths = [say_choice(choose_model(model)) for model in models or (None,)]
    with tempfile.TemporaryDirectory() as folder:
        pictures = default_pictures(Path(folder)) if data is None else picture_files([data])
        found = run_benchmark(paths, pictures, threads=threads, runs=runs, report=Terminal())
    if as_json:
        echo_json(found.as_json())
    else:
        click.echo(summary(found))


def parse_threads(text: str) -> list[int]:
    """Thread counts of a comma-separated list."""
    counts = [int(part) for part in text.split(",") if part.strip().isdecimal() and int(part) > 0]
    if not counts or len(counts) != len(text.split(",")):
        message = f"expected numbers such as 1,2, found {text!r}"
        raise click.BadParameter(message)
    return counts


def summary(found: BenchmarkReport) -> str:
    """A table of what counts, and the machine."""
    values = found.as_json()
    head = ("file", "threads", "decode", "resize", "invoke p50", "p95", "whole p50", "p95", "images/s", "MB", "valid")
    rows = [
        (
            one["file"],
            str(one["threads"]),
            f"{one['stages_ms']['decode']:.2f}",
            f"{one['stages_ms']['resize']:.2f}",
            f"{one['invoke_ms']['p50']:.2f}",
            f"{one['invoke_ms']['p95']:.2f}",
            f"{one['end_to_end_ms']['p50']:.2f}",
            f"{one['end_to_end_ms']['p95']:.2f}",
            f"{one['images_per_s']:.0f}",
            f"{one['rss_mb']:.0f}",
            "yes" if one["valid"] else f"no: {one['why']}",
        )
        for one in values["results"]
    ]
    machine = values["machine"]
    return f"{machine.get('cpu', 'unknown CPU')}, {machine.get('cores', '?')} cores; milliseconds\n{table(head, rows)}"
