"""A damaged store is set aside, and what can be read of it goes into a new one."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from ..errors import StoreError
from .sqlite import DAMAGED, connect, transaction
from .tables import TABLES, migrate, refuse_foreign

_SQLITE_HEADER = b"SQLite format 3\0"
_ROWS_AT_ONCE = 256
_HIGHEST_ID = 1 << 17  # where a damaged file does not say how many rows it had


@dataclass(frozen=True)
class Salvage:
    """What became of a damaged file: why, where it is now, and the whole fields and cells that could be read."""

    why: str
    aside: Path
    fields: int
    cells: int

    def __str__(self) -> str:
        return (
            f"the store was damaged ({self.why}); it was set aside as {self.aside}, {self.fields} whole fields with "
            f"{self.cells} cells were saved from it; run the same slides again to add what is missing"
        )


def damage(path: Path, *, was_store: bool) -> str | None:
    """What is wrong with a file: None where it is a whole store, or not there yet.

    Args:
        path: of the file.
        was_store: bce wrote here before, so that even a file without a readable header is a damaged store.

    Raises:
        StoreError: it never was a store, so nothing is done to it.
    """
    if not path.exists() or not path.stat().st_size:
        return None
    with path.open("rb") as stream:
        header = stream.read(len(_SQLITE_HEADER))
    if header != _SQLITE_HEADER and not was_store:
        message = f"{path}: expected a store, found a file that begins with {header!r}; give another --store"
        raise StoreError(message)
    try:
        with contextlib.closing(connect(path, write=False)) as connection:
            refuse_foreign(connection, path)
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:  # cannot be opened: says nothing of its content
        raise
    except DAMAGED as error:
        return str(error)
    return None if verdict == "ok" else " ".join(verdict.replace("*** in database main ***", "").split())


def replace_damaged(path: Path, why: str) -> Salvage:
    """Save what can be read beside the damaged file, keep that under another name, and take its place.

    At every moment `path` is the damaged file or the whole new one, so an interruption here starts over.
    """
    fresh = path.with_name(f".{path.name}.salvage")
    fresh.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as new:
        migrate(new, fresh)
        with contextlib.suppress(*DAMAGED), contextlib.closing(connect(path, write=False)) as old:
            old.text_factory = _text
            old.execute("PRAGMA writable_schema = ON")  # else nothing is read of a file that is shorter than it says
            for table in TABLES:
                _copy(old, new, table)
        with transaction(new):
            fields, cells = _keep_whole(new)
    aside = _aside(path)
    for suffix in ("", "-wal"):
        if Path(f"{path}{suffix}").exists():
            _link(Path(f"{path}{suffix}"), Path(f"{aside}{suffix}"))
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    fresh.replace(path)
    return Salvage(why, aside, fields, cells)


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")


def _aside(path: Path) -> Path:
    """A free name beside the store that says when it was found damaged."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    names = (f"{path.stem}.damaged-{stamp}{extra}{path.suffix}" for extra in ("", *(f"-{n}" for n in range(2, 100))))
    return next(path.with_name(name) for name in names if not path.with_name(name).exists())


def _link(path: Path, other: Path) -> None:
    """A second name for a file; a copy where the disk has no links (FAT)."""
    try:
        other.hardlink_to(path)
    except OSError:
        shutil.copy2(path, other)


def _copy(old: sqlite3.Connection, new: sqlite3.Connection, table: str) -> None:
    """Copy the rows that can be read; columns that only one side has are left out."""
    try:
        theirs = {row["name"] for row in old.execute(f"PRAGMA table_info({table})")}
        ours = [row[1] for row in new.execute(f"PRAGMA table_info({table})")]
    except DAMAGED:
        return
    columns = ", ".join(name for name in ours if name in theirs)
    if not columns:
        return
    marks = ", ".join("?" * len(columns.split(", ")))
    insert = f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({marks})"
    low, highest = 1, _highest_id(old, table)
    while low <= highest:
        with transaction(new):
            rows = _readable(old, f"SELECT {columns} FROM {table} NOT INDEXED WHERE rowid BETWEEN ? AND ?", low)
            new.executemany(insert, rows)
        low += _ROWS_AT_ONCE
        with contextlib.suppress(*DAMAGED):  # one damaged id may be far away: nothing to read until there
            after = old.execute(f"SELECT min(rowid) FROM {table} NOT INDEXED WHERE rowid >= ?", (low,)).fetchone()[0]
            low = highest + 1 if after is None else after


def _highest_id(old: sqlite3.Connection, table: str) -> int:
    """The last row id of a table: as the tree says, as the counter of AUTOINCREMENT says, or a large number."""
    for query in (
        f"SELECT max(rowid) FROM {table} NOT INDEXED",
        f"SELECT max(seq) FROM sqlite_sequence WHERE name = '{'cells' if table == 'crops' else table}'",
    ):
        with contextlib.suppress(*DAMAGED):
            return min(int(old.execute(query).fetchone()[0] or 0), 1 << 40)
    return _HIGHEST_ID


def _readable(old: sqlite3.Connection, query: str, low: int) -> list[tuple[object, ...]]:
    """The rows of ids low to low + `_ROWS_AT_ONCE` - 1 that can be read, by halving where something cannot."""
    found: list[tuple[object, ...]] = []
    spans = [(low, low + _ROWS_AT_ONCE - 1)]
    while spans:
        first, last = spans.pop()
        try:
            found += [tuple(row) for row in old.execute(query, (first, last)).fetchall()]
        except DAMAGED:
            if first < last:
                middle = (first + last) // 2
                spans += [(middle + 1, last), (first, middle)]
    return found


def _keep_whole(new: sqlite3.Connection) -> tuple[int, int]:
    """Drop fields with a cell, slide or model missing, and rows whose parent is gone; the fields and cells left.

    A field that lost a cell would be undercounted for ever, since its picture is known: without it, it comes again.
    """
    for statement in (
        "DELETE FROM cells WHERE field_id NOT IN (SELECT id FROM fields)",
        "DELETE FROM fields WHERE slide_id NOT IN (SELECT id FROM slides)",
        "DELETE FROM fields WHERE model_id NOT IN (SELECT id FROM models)",
        "DELETE FROM fields WHERE n_cells <> (SELECT count(*) FROM cells WHERE cells.field_id = fields.id)",
        "DELETE FROM cells WHERE field_id NOT IN (SELECT id FROM fields)",
        "DELETE FROM crops WHERE cell_id NOT IN (SELECT id FROM cells)",
        "DELETE FROM reviews WHERE cell_id NOT IN (SELECT id FROM cells)",
        "UPDATE events SET slide_id = NULL WHERE slide_id NOT IN (SELECT id FROM slides)",
        "UPDATE events SET field_id = NULL WHERE field_id NOT IN (SELECT id FROM fields)",
    ):
        new.execute(statement)
    fields, cells = (new.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in ("fields", "cells"))
    return int(fields), int(cells)
