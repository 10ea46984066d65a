"""``bce benchmark``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from ..benchmark.compare import TOLERANCE
from .terminal.benchmark import compared, recommended, summary
from .terminal.options import PATH, Terminal, echo_json, force_option, json_option, say_choice


@click.command()
@click.argument("models", metavar="[MODEL...]", nargs=-1)
@click.option(
    "--threads",
    callback=lambda _, __, value: parse_threads(value),
    metavar="N,...",
    help="Cores for one invoke, several to compare.  [default: 1; with --recommend 1, 2 and 4 where there are as many]",
)
@click.option("--data", type=PATH, metavar="DATA", help="Picture files to time with.  [default: drawn ones]")
@click.option(
    "--runs",
    type=click.IntRange(1),
    metavar="N",
    help="Pictures for each file and thread count.  [default: 200, or as many as 10 s each allow]",
)
@click.option("--compare", type=PATH, metavar="FILE", help="What --json printed earlier: exit 4 where times differ.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, min_open=True),
    default=TOLERANCE,
    help="Percent, slower or faster, of --compare.",
)
@click.option("--html", type=PATH, metavar="FILE", help="Write one page with plots.")
@click.option("--recommend", is_flag=True, help="Say which file and how many threads to use here.")
@force_option
@json_option
def benchmark(
    models: tuple[str, ...],
    threads: list[int] | None,
    data: Path | None,
    runs: int | None,
    compare: Path | None,
    tolerance: float,
    html: Path | None,
    recommend: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Measure the time of every stage on this machine, memory, and start-up.

    Something that disturbs the measurement (other programs, heat, a weak supply) makes a result invalid; it says what.
    With --recommend all .tflite files of a run folder are tried.

    \b
    Example:
      bce benchmark
      bce benchmark bloodcell-int8.tflite bloodcell-float16.tflite --threads 1,2 --html benchmark.html
      bce benchmark --json > reference.json && bce benchmark --compare reference.json
    """
    from .. import machine
    from ..benchmark.compare import load_reference, refuse_other_machine
    from ..errors import GateFailure
    from ..files import refuse_existing, write_text
    from ..reports.benchmark import benchmark_page

    if html is not None:
        refuse_existing(html, force=force)
    reference = None if compare is None else load_reference(compare)
    if reference is not None:
        refuse_other_machine(machine.describe(), reference, str(compare))  # before a minute is spent on measuring
    found = _measure(_paths(models, beside=recommend), threads or _usual_threads(several=recommend), data, runs)
    values, told = found.as_json(), [summary(found)]
    if recommend:
        from ..benchmark.recommend import recommend as choose

        chosen = choose(found.results)
        values["recommendation"] = chosen.as_json()
        told.append(recommended(chosen))
    failure = None
    if reference is not None:
        from ..benchmark.compare import compare as put_beside

        beside = put_beside(values, reference, name=str(compare), tolerance=tolerance)
        values["comparison"] = beside.as_json()
        told.append(compared(beside))
        if not beside.passed:
            failure = (
                f"times differ by more than {tolerance:g} % from {compare}; find out what changed, "
                "and keep a new reference with --json where it is meant"
            )
    if html is not None:
        write_text(html, benchmark_page(values, drawn=data is None))
        told.append(str(html))
    if as_json:
        echo_json(values)
    else:
        click.echo("\n".join(told))
    if failure:
        raise GateFailure(failure)


def _measure(models: Sequence[Path], threads: Sequence[int], data: Path | None, runs: int | None) -> Any:
    import tempfile

    from ..benchmark.measure import benchmark as measure
    from ..benchmark.measure import default_pictures

    with tempfile.TemporaryDirectory() as folder:
        pictures = default_pictures(Path(folder)) if data is None else _pictures(data)
        return measure(models, pictures, threads=threads, runs=runs, report=Terminal())


def _pictures(data: Path) -> list[Path]:
    """The picture files of a folder, or those that a CSV names; labels do not matter."""
    from ..dataset.layouts import load_data
    from ..imaging.folder import picture_files

    if data.suffix.lower() == ".csv" and data.is_file():
        found = load_data(data)
        return [picture.path for picture in (*found.pictures, *found.unknown)]
    return picture_files([data])


def _paths(models: Sequence[str], *, beside: bool) -> list[Path]:
    """The files that are meant; of a single one also those beside it, where all are to be tried."""
    from ..model.choose import choose_model

    chosen = [say_choice(choose_model(model)) for model in models or (None,)]
    if beside and len(chosen) == 1:
        return [chosen[0], *(path for path in sorted(chosen[0].parent.glob("*.tflite")) if path != chosen[0])]
    return chosen


def _usual_threads(*, several: bool) -> list[int]:
    from ..machine import usable_cores

    return [count for count in (1, 2, 4) if count <= len(usable_cores())] if several else [1]


def parse_threads(text: str | None) -> list[int] | None:
    """Thread counts of a comma-separated list."""
    if text is None:
        return None
    counts = [int(part) for part in text.split(",") if part.strip().isdecimal() and int(part) > 0]
    if not counts or len(counts) != len(text.split(",")):
        message = f"expected numbers such as 1,2, found {text!r}"
        raise click.BadParameter(message)
    return counts
