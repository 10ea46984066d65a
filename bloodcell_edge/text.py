"""The clock, text that files and terminals can take, and shares as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone


def now() -> datetime:
    """The time, aware, UTC."""
    return datetime.now(timezone.utc)


def utc(moment: datetime) -> str:
    """An aware time as ISO 8601 in UTC with microseconds, so that text sorts as time does."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")


def plain(text: str) -> str:
    """Text that UTF-8 can hold: bytes of a file's name that are none are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """One line that any terminal takes: file names may hold line breaks, and bytes that are no UTF-8."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def inert(text: str) -> str:
    """Text for a cell of a table that a person opens: a spreadsheet runs what begins so, and shows this as it is.

    An apostrophe goes before it (OWASP, CSV Injection).
    """
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def percent(share: float | None, *, absent: str = "-", whole: float = 1) -> str:
    """A share in per cent: "97.6 %".

    Args:
        share: of the whole.
        absent: what stands for None.
        whole: 1, or 100 where the share is in per cent already.
    """
    return absent if share is None else f"{_number(share, whole)} %"


def interval(
    bounds: Sequence[float] | None, *, between: str = " to ", each: str = "", absent: str = "-", whole: float = 1
) -> str:
    """The bounds of a share in per cent: "97.1 to 98.0".

    Args:
        bounds: low and high.
        between: what stands between them.
        each: what stands after each of them.
        absent: what stands for None.
        whole: as for `percent`.
    """
    return absent if bounds is None else between.join(f"{_number(bound, whole)}{each}" for bound in bounds)


def _number(share: float, whole: float) -> str:
    return f"{100 / whole * share:.1f}"
