"""What ``bce benchmark`` prints for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import table

if TYPE_CHECKING:
    from ...benchmark.compare import Comparison
    from ...benchmark.figures import BenchmarkReport
    from ...benchmark.recommend import Recommendation

_HEAD = (
    "file", "threads", "decode", "locate", "resize", "invoke p50", "p95", "whole p50", "p95", "p99", "images/s",
    "stored", "start", "load", "MB", "valid",
)  # fmt: skip


def summary(found: BenchmarkReport) -> str:
    """A table of what counts, and the machine."""
    values = found.as_json()
    machine = values["machine"]
    about = [
        str(machine.get("cpu") or "unknown CPU"),
        f"{machine.get('cores', '?')} cores",
        *([f"governor {machine['governor']}"] if machine.get("governor") else []),
        *(sorted({f"{one['interpreter']} ({one['delegate']})" for one in values["results"]})),
    ]
    rows = [_row(one) for one in values["results"]]
    doubts = [
        f"not valid: {one['file']}, {one['threads']} threads: {one['why']}" for one in values["results"] if one["why"]
    ]
    return "\n".join([f"{', '.join(about)}; milliseconds", table(_HEAD, rows), *doubts])


def recommended(chosen: Recommendation) -> str:
    """What to use, and why."""
    return f"use {chosen.result.model.path} --threads {chosen.result.threads}: {'; '.join(chosen.why)}"


def compared(found: Comparison) -> str:
    """Then and now, a line for each time, with what must be known besides."""
    head = ("file", "threads", "time", "then", "now", "ratio", "verdict")
    rows = [
        (
            row.file,
            str(row.threads),
            row.what,
            f"{row.reference_ms:.2f}",
            f"{row.now_ms:.2f}",
            f"{row.ratio:.2f}",
            row.verdict,
        )
        for row in found.rows
    ]
    return "\n".join([f"against {found.reference}, tolerance {found.tolerance:g} %", table(head, rows), *found.notes])


def _row(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        one["file"],
        str(one["threads"]),
        *(f"{one['stages_ms'][stage]:.2f}" for stage in ("decode", "locate", "resize")),
        *(f"{one['invoke_ms'][name]:.2f}" for name in ("p50", "p95")),
        *(f"{one['end_to_end_ms'][name]:.2f}" for name in ("p50", "p95", "p99")),
        f"{one['images_per_s']:.0f}",
        f"{one['images_per_s_stored']:.0f}",
        f"{one['cold_start_ms']:.0f}",
        f"{one['load_ms']:.1f}",
        "-" if one["rss_mb"] is None else f"{one['rss_mb']:.0f}",
        "yes" if one["valid"] else "no",
    )
