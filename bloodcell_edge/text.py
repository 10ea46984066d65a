"""The clock, and text that files and terminals can take."""

from __future__ import annotations

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
