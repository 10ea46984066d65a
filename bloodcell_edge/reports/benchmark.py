"""A benchmark as one HTML page: what to use, the plots, every figure, and the machine. It needs no other file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..text import percent
from .charts import STYLE, Axis, Series, axis, chart
from .html import Tile, bullets, machine_table, page, paragraph, section, table, tiles, warning

_MEGABYTE = 1e6
_LEAST_POINTS = 5.0  # of accuracy shown: what few hundred pictures can tell apart is not much less


def benchmark_page(values: Mapping[str, Any], *, drawn: bool = False) -> str:
    """One HTML document of what ``bce benchmark --json`` prints.

    Args:
        values: as `BenchmarkReport.as_json` gives it, with ``recommendation`` and ``comparison`` where there are any.
        drawn: the pictures were drawn by a program.
    """
    results = values["results"]
    invalid = [f"{_name(one)}: {one['why']}" for one in results if not one["valid"]]
    return page(
        "Benchmark",
        [
            *_first(values),
            section("Do not quote these", bullets("Something disturbed the measurement:", invalid)) if invalid else "",
            section("How long a picture takes", _distribution(results), *_figures(results)),
            section("Threads", _threads(results)),
            section("Size, accuracy and time", *_trade(results)),
            section("Against a run of earlier", *_comparison(values)) if "comparison" in values else "",
            section("The machine", machine_table(values["machine"])),
        ],
        notice="Measured with pictures that a program drew; real fields have other numbers of cells." if drawn else "",
        style=STYLE,
    )


def _first(values: Mapping[str, Any]) -> Iterable[str]:
    best = min(values["results"], key=lambda one: one["end_to_end_ms"]["p50"])
    size = " x ".join(str(side) for side in reversed(values["pictures"]["size"]))
    yield tiles([
        Tile("A picture, start to end", f"{best['end_to_end_ms']['p50']:.2f} ms", f"p50, {_name(best)}"),
        Tile("Pictures a second", f"{best['images_per_s']:.0f}", "of a folder, the next ones decoded meanwhile"),
        Tile("Network alone", f"{best['invoke_ms']['p50']:.2f} ms", "p50, all cells of a picture"),
        Tile("Memory", _number(best["rss_mb"], " MB"), "the most that its process held"),
        Tile("Measured with", f"{values['pictures']['n']} pictures", f"of {size} pixels"),
    ])  # fmt: skip
    if "recommendation" in values:
        told = values["recommendation"]
        yield section("What to use here", paragraph(f"{told['file']} with --threads {told['threads']}. {told['why']}."))


def _distribution(results: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        Series(_name(one), tuple((ms, float(share)) for share, ms in enumerate(one["quantiles_ms"]["end_to_end"])))
        for one in results
    ]
    across = axis("milliseconds, start to end", (ms for line in lines for ms, _ in line.points), log=True)
    return chart("Share of pictures that were done in so many milliseconds", across, _PERCENT, lines)


_PERCENT = Axis("pictures, %", 0, 100, ticks=(0, 25, 50, 75, 95))


def _threads(results: Sequence[Mapping[str, Any]]) -> str:
    files = list(dict.fromkeys(one["file"] for one in results))
    lines = []
    for what, part in (("start to end", "end_to_end_ms"), ("network alone", "invoke_ms")):
        for file in files:
            points = sorted((float(one["threads"]), one[part]["p50"]) for one in results if one["file"] == file)
            lines.append(Series(f"{_short(file)}, {what}", tuple(points), (1.0,) * len(points)))
    counts = sorted({float(one["threads"]) for one in results})
    across = Axis("threads of the network", counts[0] - 0.5, counts[-1] + 0.5, ticks=tuple(counts))
    up = axis("milliseconds, p50", (ms for line in lines for _, ms in line.points), zero=True)
    return chart("Milliseconds a picture by number of threads", across, up, lines)


def _trade(results: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    known = [one for one in results if one["accuracy"]["percent"] is not None]
    unknown = sorted({_short(one["file"]) for one in results if one["accuracy"]["percent"] is None})
    if known:
        largest = max(one["bytes"] for one in known)
        dots = [
            Series(
                f"{_name(one)}: {one['bytes'] / _MEGABYTE:.1f} MB, {percent(one['accuracy']['percent'], whole=100)} of "
                f"{one['accuracy']['n']}",
                ((one["end_to_end_ms"]["p50"], one["accuracy"]["percent"]),),
                (6 * one["bytes"] / largest,),
                joined=False,
            )
            for one in known
        ]
        across = axis("milliseconds a picture, p50", (dot.points[0][0] for dot in dots))
        up = axis("accuracy on held-back pictures, %", (dot.points[0][1] for dot in dots), least=_LEAST_POINTS)
        up = replace(up, high=min(up.high, 100.5))
        yield chart("Accuracy against time; the larger the dot, the larger the file", across, up, dots)
    if unknown:
        yield paragraph(f"Accuracy not known before bce parity holds: {', '.join(unknown)}.")


def _figures(results: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    parts = ("p50", "p95", "p99", "min")
    yield table(
        "Milliseconds: start to end, and of the network alone",
        ("File", "threads", *parts, *parts, "n"),
        [(_short(one["file"]), one["threads"], *_times(one["end_to_end_ms"], parts), *_times(one["invoke_ms"], parts),
          one["n"]) for one in results],
        over=[("", 2), ("Start to end", 4), ("Network", 4), ("", 1)],
    )  # fmt: skip
    yield table(
        "Milliseconds of the stages before the network",
        ("File", "threads", *(part for _ in range(3) for part in parts)),
        [(_short(one["file"]), one["threads"], *(time for stage in ("decode", "locate", "resize")
          for time in _times(one["stages"][stage], parts))) for one in results],
        over=[("", 2), ("Decode", 4), ("Locate", 4), ("Crop and resize", 4)],
    )  # fmt: skip
    yield table(
        "Pictures a second, starting, and memory in MB",
        ("File", "threads", "folder", "stored", "one by one", "cold start", "of it, load", "first", "most", "steady"),
        [(_short(one["file"]), one["threads"], f"{one['images_per_s']:.1f}", f"{one['images_per_s_stored']:.1f}",
          f"{one['images_per_s_one_by_one']:.1f}", f"{one['cold_start_ms']:.0f}", f"{one['load_ms']:.1f}",
          _number(one["warm_up"]["first_ms"], "", 2), _number(one["rss_mb"]), _number(one["steady_mb"]))
         for one in results],
        over=[("", 2), ("Pictures a second", 3), ("Start, ms", 2), ("Picture, ms", 1), ("Memory, MB", 2)],
    )  # fmt: skip
    ran = sorted({f"{one['interpreter']} with {one['delegate']}" for one in results})
    yield paragraph(f"Ran by {', '.join(ran)}.")


def _comparison(values: Mapping[str, Any]) -> Iterable[str]:
    found = values["comparison"]
    if not found["passed"]:
        yield warning(f"Something differs by more than {found['tolerance']:g} % from {found['reference']}.")
    yield table(
        f"Against {found['reference']}, tolerance {found['tolerance']:g} %",
        ("File", "threads", "time", "then, ms", "now, ms", "ratio", "verdict"),
        [(_short(row["file"]), row["threads"], row["what"], f"{row['reference_ms']:.2f}", f"{row['now_ms']:.2f}",
          f"{row['ratio']:.2f}", row["verdict"]) for row in found["rows"]],
    )  # fmt: skip
    yield bullets("To be known with it:", found["notes"])


def _times(found: Mapping[str, float], parts: Iterable[str]) -> list[str]:
    return [f"{found[part]:.2f}" for part in parts]


def _number(value: float | None, unit: str = "", digits: int = 0) -> str | None:
    return None if value is None else f"{value:.{digits}f}{unit}"


def _short(file: str) -> str:
    """The last folder and the name: enough to tell runs apart."""
    return str(Path(*Path(file).parts[-2:]))


def _name(one: Mapping[str, Any]) -> str:
    return f"{_short(one['file'])}, {one['threads']} thread{'s' if one['threads'] > 1 else ''}"
