"""What ``bce run`` shows: on a terminal one live line, elsewhere a JSON line a field; and the count at the end."""

from __future__ import annotations

import json
import math
import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

import click

from ...text import interval, percent, printable, utc
from .options import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...records import Notice
    from ...slide.differential import Differential, Share
    from ...slide.run import FieldProgress, Outcome


class Screen(Protocol):
    """Shows how a run goes. Fields may be shown from another thread than the rest."""

    def aim(self, cells: int) -> None:
        """So many cells are to be identified."""

    def field(self, progress: FieldProgress) -> None:
        """A field that is safe in the store."""

    def say(self, text: str) -> None:
        """One line for a person."""

    def close(self) -> None:
        """No more fields will come. Twice is fine."""

    def result(self, text: str) -> None:
        """The count."""


def open_screen(*, as_json: bool) -> Screen:
    """The one that fits where standard output goes."""
    return JsonScreen() if as_json or not sys.stdout.isatty() else LiveScreen()


def say_notice(screen: Screen, notice: Notice) -> None:
    """One line; pictures taken in before are only counted, at the end."""
    if notice.kind != "again":
        screen.say(f"{notice.kind}: {notice.text}")


class JsonScreen:
    """A JSON line a field on stdout, everything else on stderr."""

    def aim(self, cells: int) -> None:
        """Nothing to draw it in."""

    def field(self, progress: FieldProgress) -> None:
        """A line, at once."""
        click.echo(json.dumps(field_json(progress), allow_nan=False))

    def say(self, text: str) -> None:
        """On stderr."""
        click.echo(text, err=True)

    def close(self) -> None:
        """Nothing to take away."""

    def result(self, text: str) -> None:
        """On stderr."""
        click.echo(text, err=True)


def field_json(progress: FieldProgress) -> dict[str, Any]:
    """The keys of a line."""
    from ...records import with_other

    field = progress.field
    cells = [
        {
            "label": cell.label,
            "score": round(cell.score, 6),
            "scores": {label: round(score, 6) for label, score in with_other(cell.scores, cell.other).items()},
            "box": None if cell.box is None else list(cell.box),
            "mark": cell.mark,
            "counted": cell.counted,
            "reason": cell.reason,
        }
        for cell in field.cells
    ]
    return {
        "field": progress.field_id,
        "path": field.path,
        "taken_at": utc(field.taken_at),
        "status": field.status,
        "reason": field.reason,
        "cells": cells,
        "counts": dict(progress.counts),
        "dropped": progress.dropped,
        "not_evaluated": progress.not_evaluated,
    }


class LiveScreen:
    """One line of counts and rates that is drawn again; what is said, and each refused field, stands above it."""

    def __init__(self) -> None:
        self._cells, self._line = 0, _rich_line() or _PlainLine()
        self._lock = threading.Lock()
        self._fields = self._refused = 0
        self._start = time.monotonic()

    def aim(self, cells: int) -> None:
        """So many cells are to be identified."""
        self._cells = cells

    def field(self, progress: FieldProgress) -> None:
        """Draw the line; a refusal stays."""
        from ...records import UNIDENTIFIED

        with self._lock:
            refused = progress.field.status == "refused"
            self._fields, self._refused = self._fields + 1, self._refused + refused
            if refused:
                self._line.above(printable(f"refused: {progress.field.path}: {progress.field.reason}"))
            rate = self._fields / max(time.monotonic() - self._start, 1e-3)
            identified = sum(progress.counts.values()) - progress.counts[UNIDENTIFIED]
            classes = ", ".join(f"{label} {n}" for label, n in progress.counts.items())
            cut = f", not evaluated {progress.not_evaluated}" if progress.not_evaluated else ""
            self._line.draw(
                f"{identified} of {self._cells} cells · {self._fields} fields, {self._refused} refused, "
                f"{rate:.1f} a second · {progress.dropped} frames dropped · {classes}{cut}"
            )

    def say(self, text: str) -> None:
        """Above the line."""
        with self._lock:
            self._line.above(printable(text))

    def close(self) -> None:
        """Leave the line as it was last."""
        self._line.close()

    def result(self, text: str) -> None:
        """Below all."""
        click.echo(text)


class _PlainLine:
    """The last line of a terminal, by carriage returns alone."""

    def __init__(self) -> None:
        self._last = ""

    def draw(self, text: str) -> None:
        width = max(shutil.get_terminal_size().columns - 1, 1)
        blank = " " * (min(len(self._last), width) - len(text[:width]))
        self._last = text[:width]
        click.echo(f"\r{self._last}{blank}", nl=False)

    def above(self, text: str) -> None:
        last = self._last
        click.echo(f"\r{' ' * len(last)}\r{text}")
        self._last = ""
        self.draw(last)

    def close(self) -> None:
        if self._last:
            click.echo()
        self._last = ""


class _RichLine:
    """The same by rich, which knows terminals better."""

    def __init__(self, live: Any, text: Any) -> None:
        self._live, self._text = live, text
        live.start()

    def draw(self, text: str) -> None:
        self._live.update(self._text(text, no_wrap=True, overflow="ellipsis"), refresh=True)

    def above(self, text: str) -> None:
        self._live.console.print(self._text(text), soft_wrap=True)

    def close(self) -> None:
        self._live.stop()


def _rich_line() -> _RichLine | None:
    """None where rich is not installed."""
    try:
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        return None
    return _RichLine(Live(auto_refresh=False, redirect_stdout=False, redirect_stderr=False), Text)


def differential_text(found: Differential) -> str:
    """The count as a table, with what must be said beside it."""
    corrected = found.correction.shares if found.correction else {}
    head = ("class", found.unit, "share", "95 % interval", *(("corrected", "95 % interval") if corrected else ()))
    rows = [
        (
            label,
            str(found.counts[label]),
            *_share(found.shares[label], stated=found.sufficient),
            *(_share(corrected[label], stated=found.sufficient) if corrected else ()),
        )
        for label in found.labels
    ]
    unidentified = found.unidentified_share
    share = f" ({percent(unidentified.percent / 100)} of all counted {found.unit})" if unidentified else ""
    lines = [table(head, rows), f"unidentified: {found.unidentified}{share}"]
    if found.not_evaluated:
        lines.append(f"not evaluated: {found.not_evaluated} cut by the edge")
    if found.earlier_rule:
        lines.append(found.earlier_rule)
    if not found.sufficient:
        lines.append(f"{found.status}: no percentages")
    if found.correction is not None:
        lines.append(found.correction.weighing)
    if found.why_uncorrected and found.identified:
        lines.append(f"not corrected for the model's mistakes: {found.why_uncorrected}")
    return "\n".join([*lines, "Research use only, not for diagnosis."])


def _share(share: Share | None, *, stated: bool) -> tuple[str, str]:
    """Percent and interval; no percentage where there are too few cells."""
    if share is None:
        return "-", "-"
    stated_share = share.percent if stated else None
    return percent(stated_share, whole=100), f"{interval((share.low, share.high), whole=100)} %"


def refusals_text(refused: Mapping[str, int]) -> str:
    """How many fields of a slide count nothing, and why."""
    why = ", ".join(f"{name} {count}" for name, count in refused.items())
    return f"fields refused on this slide, which count nothing: {why} (--limit NAME=N moves a limit)"


def more_fields(count: Differential, used: int) -> str:
    """About how many more fields it takes, in words; empty where there are cells enough or nothing to go by."""
    if count.sufficient or not count.identified or not used:
        return ""
    more = math.ceil((count.cells - count.identified) * used / count.identified)
    return f"about {more} more fields like these would do"


def say_end(done: Outcome, screen: Screen, cells: int) -> None:
    """What was left out, and why it ended."""
    if done.again:
        screen.say(f"taken in before, not counted again: {done.again} pictures")
    if done.ended == "cells":
        screen.say(f"stopped: {cells} cells are identified (--cells {cells}); go on with a larger number")
