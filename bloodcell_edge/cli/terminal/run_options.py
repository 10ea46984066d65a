"""What the options of ``bce run`` mean."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ...capture.triggers import Trigger
    from ...imaging.quality import QualityLimits


_FINEST, _COARSEST = 0.005, 2.0  # µm per pixel: beyond, a white cell has over 2,000 pixels or under 8


def folder_of(source: str) -> Path | None:
    """The folder that a source is; None for what is none."""
    from ...capture.url import SourceUrl

    return Path(SourceUrl.parse(source, known=("folder",)).place) if source.startswith("folder:") else None


def default_slide(folder: Path | None) -> str:
    """The folder's name, in one Unicode form; for what is no folder, or has no name, the time."""
    import unicodedata

    from ...text import now

    name = "" if folder is None else unicodedata.normalize("NFC", folder.resolve().name)
    return name or now().strftime("%Y-%m-%dT%H:%M:%SZ")


def choose_trigger(source: str, every: float | None, *, on_change: bool, on_key: bool) -> Callable[[], Trigger] | None:
    """What the options mean, to be made when it is time; None is the source's own."""
    from ...capture.triggers import EveryFrame, EverySeconds, FieldChange, KeyPress

    if (every is not None) + on_change + on_key > 1:
        message = "--every, --on-change and --on-key: expected one of them"
        raise click.UsageError(message)
    if source.startswith("folder:") and (every is not None or on_change or on_key):
        message = "--every, --on-change and --on-key choose among a camera's frames; a folder's pictures all count"
        raise click.UsageError(message)
    if every is not None:
        return partial(EverySeconds, every) if every else EveryFrame
    return FieldChange if on_change else KeyPress if on_key else None


def check_scale(_: click.Context, __: click.Parameter, um_per_px: float | None) -> float | None:
    """A scale that a microscope can have."""
    if um_per_px is not None and not _FINEST <= um_per_px <= _COARSEST:  # NaN neither
        message = (
            f"expected {_FINEST:g} to {_COARSEST:g} µm per pixel (a 100x objective: about 0.1), found {um_per_px:g}"
        )
        raise click.BadParameter(message)
    return um_per_px


def parse_limits(texts: tuple[str, ...]) -> QualityLimits:
    """The gate's limits with those that are given as NAME=NUMBER."""
    from dataclasses import asdict

    from ...imaging.quality import QualityLimits

    known = asdict(QualityLimits())
    for text in texts:
        name, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if name not in known or not value >= 0:
            usual = ", ".join(f"{key}={default:g}" for key, default in known.items())
            message = f"--limit {text!r}: expected a name and a number from 0, as in {usual}"
            raise click.UsageError(message)
        known[name] = value
    return QualityLimits(**known)
