"""The SQLite file behind `store`: its tables and versions, its one writer, and what happens when it is damaged.

Tables (`VERSION` 1; each id rises in the order of intake, whatever the clock does; times are ISO 8601, UTC):

- slides: id, name, created_at
- models: id, sha256 (of the model file), name, target, view, labels (JSON list), reject_threshold, file, spec (JSON,
  without golden samples and hashes of training pictures), added_at
- fields: id, slide_id, model_id, path, sha256, taken_at, status ("used", "refused"), reason, monotonic_ns, width,
  height, um_per_px, quality (JSON: number by name), latency_ms, n_cells. One for each (slide_id, sha256, model_id)
- cells: id, field_id, label, score, x, y, width, height (pixels of the field; null for a model that takes the whole
  picture), top (the best label, also where label is UNIDENTIFIED), scores (JSON: probability by label), mark (why the
  gate left it unidentified), counted (0: counted in an
  earlier field; or cut by the edge under a moving stage, and left for the field that shows it whole)
- crops: cell_id, jpeg. The only rows that are ever dropped, see `store.CROP_BUDGET_BYTES`
- events: id, at, kind, message, slide_id, field_id
- reviews: id, cell_id, at, reviewer, label, note. What a person said of a cell; the model's answer stays in cells
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

from .errors import DiskFull, MissingFile, StoreError

APPLICATION_ID = 0x62636531
""""bce1" in the file's header (PRAGMA application_id): what tells a store from another program's database."""

_SQLITE_HEADER = b"SQLite format 3\0"
_DAMAGED = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter where even the name in its message is damaged
_BUSY_S = 5.0  # how long a writer waits for a reader that is just recovering the log
_ROWS_AT_ONCE = 256
_HIGHEST_ID = 1 << 17  # where a damaged file does not say how many rows it had

_TABLES_1 = (
    """CREATE TABLE slides (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        created_at TEXT NOT NULL)""",
    """CREATE TABLE models (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        sha256 TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL,
        target TEXT NOT NULL,
        view TEXT NOT NULL,
        labels TEXT NOT NULL,
        reject_threshold REAL,
        file TEXT NOT NULL,
        spec TEXT NOT NULL,
        added_at TEXT NOT NULL)""",
    """CREATE TABLE fields (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        slide_id INTEGER NOT NULL REFERENCES slides (id),
        model_id INTEGER NOT NULL REFERENCES models (id),
        path TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        taken_at TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('used', 'refused')),
        reason TEXT NOT NULL,
        monotonic_ns INTEGER,
        width INTEGER,
        height INTEGER,
        um_per_px REAL,
        quality TEXT NOT NULL,
        fingerprint BLOB,
        latency_ms REAL,
        n_cells INTEGER NOT NULL,
        UNIQUE (slide_id, sha256, model_id))""",
    """CREATE TABLE cells (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        field_id INTEGER NOT NULL REFERENCES fields (id) ON DELETE CASCADE,
        label TEXT NOT NULL,
        score REAL NOT NULL,
        x INTEGER,
        y INTEGER,
        width INTEGER,
        height INTEGER,
        top TEXT NOT NULL,
        scores TEXT NOT NULL,
        mark TEXT NOT NULL,
        counted INTEGER NOT NULL CHECK (counted IN (0, 1)))""",
    "CREATE INDEX cells_by_field ON cells (field_id)",
    """CREATE TABLE crops (
        cell_id INTEGER PRIMARY KEY REFERENCES cells (id) ON DELETE CASCADE,
        jpeg BLOB NOT NULL)""",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        message TEXT NOT NULL,
        slide_id INTEGER REFERENCES slides (id) ON DELETE SET NULL,
        field_id INTEGER REFERENCES fields (id) ON DELETE SET NULL)""",
    """CREATE TABLE reviews (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        cell_id INTEGER NOT NULL REFERENCES cells (id) ON DELETE CASCADE,
        at TEXT NOT NULL,
        reviewer TEXT NOT NULL,
        label TEXT NOT NULL,
        note TEXT NOT NULL)""",
    "CREATE INDEX reviews_by_cell ON reviews (cell_id)",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_TABLES_1,)
"""Statements that bring a file from version i to i + 1. Never change one that was released: add the next."""

TABLES = ("slides", "models", "fields", "cells", "crops", "events", "reviews")
"""Parents before children."""


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


def now() -> str:
    """The time as the store writes it."""
    return utc(datetime.now(timezone.utc))


def plain(text: str) -> str:
    """Text that UTF-8 can hold: bytes of a file's name that are none are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def utc(moment: datetime) -> str:
    """An aware time as ISO 8601 in UTC with microseconds, so that text sorts as time does."""
    return moment.astimezone(timezone.utc).isoformat(timespec="microseconds")


@contextlib.contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite and the system say into one line.

    Raises:
        DiskFull: where there is no room on the disk.
        StoreError: instead of any other `sqlite3.Error` or `OSError` that is not ours.
    """
    try:
        yield
    except StoreError:
        raise
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
        said = str(error)
        if isinstance(error, (sqlite3.OperationalError, OSError)) and _no_space(said, path):
            message = f"{path}: no space left on its disk ({said}); free some: what was taken in is kept, written then"
            raise DiskFull(message) from error
        message = f"{path}: {_in_words(error)}"
        raise StoreError(message) from error


def _in_words(error: Exception) -> str:
    said = str(error)
    if "locked" in said:
        return f"another program holds it ({said}); end that, or give another --store"
    if isinstance(error, _DAMAGED) and not isinstance(error, sqlite3.OperationalError):
        return f"damaged ({said}); start again, and what can be read will be saved into a new file"
    return f"cannot be opened or written ({said}); check the folder and its permissions, or give another --store"


def _no_space(said: str, path: Path) -> bool:
    """SQLite says "disk I/O error" where its index beside the log cannot grow."""
    if "full" in said or "No space" in said:
        return True
    return "I/O" in said and shutil.disk_usage(path.parent).free < 1 << 16


class WriterLock:
    """One writer at a time, by a lock on ``<store>.lock`` that ends with its process, however it ends."""

    def __init__(self, path: Path) -> None:
        """Take the lock.

        Raises:
            StoreError: another process has it.
        """
        self.path = path.with_name(path.name + ".lock")
        self.was_there = self.path.exists()
        self._stream = self.path.open("ab+", buffering=0)
        try:
            fcntl.flock(self._stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._stream.seek(0)
            holder = self._stream.read(20).decode() or "unknown"
            self._stream.close()
            message = f"{path}: process {holder} is writing to it; wait until that ends, or give another --store"
            raise StoreError(message) from error
        with contextlib.suppress(OSError):  # the number is for people; without room for it the lock holds as well
            self._stream.truncate(0)
            self._stream.write(str(os.getpid()).encode())

    def close(self) -> None:
        """Give the lock back; twice is fine. The file stays: removing it could hand out two locks."""
        self._stream.close()

    def __enter__(self) -> WriterLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """A bare connection: no implicit transactions, usable from any thread (one at a time).

    Args:
        path: of an existing file, or of one to be made where `write`.
        write: also set what a writer needs: write-ahead log, an fsync at each commit, foreign keys.

    Raises:
        sqlite3.Error: it cannot be opened; see `plain_errors`.
    """
    uri = f"{path.absolute().as_uri()}?mode={'rwc' if write else 'ro'}"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        connection.row_factory = sqlite3.Row
        if write:
            mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                message = f"{path}: no write-ahead log is possible here (a network share?); put it on a local disk"
                raise StoreError(message)
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing: commit when the block ends well, roll back where anything stops it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite rolls back by itself when the disk is full
            connection.execute("ROLLBACK")
        raise


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the tables; 0 before there are any."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, path: Path) -> int:
    """Bring the tables to the newest version, each step in a transaction of its own.

    Returns:
        The version it had.

    Raises:
        StoreError: a newer bce made it.
    """
    found = version_of(connection)
    if found > len(MIGRATIONS):
        message = f"{path}: store version {found}, this bce knows up to {len(MIGRATIONS)}; upgrade bce"
        raise StoreError(message)
    for version, statements in enumerate(MIGRATIONS[found:], found + 1):
        with transaction(connection):
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version}")
    return found


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open an existing store beside its writer; it cannot be changed through this.

    Raises:
        MissingFile: no such file.
        StoreError: no store, damaged, or of another version.
    """
    if not path.exists():
        message = f"{path}: no such store; bce run makes one"
        raise MissingFile(message)
    with plain_errors(path):
        connection = connect(path, write=False)
        try:
            _refuse_foreign(connection, path)
            found = version_of(connection)
            if found != len(MIGRATIONS):
                message = f"{path}: store version {found}, expected {len(MIGRATIONS)}; bce run brings an older one up"
                raise StoreError(message)
        except BaseException:
            connection.close()
            raise
    return connection


def _refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError for another program's database; an empty one is as good as none."""
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if mark != APPLICATION_ID and tables:
        message = f"{path}: another program's database, not a store; give another --store"
        raise StoreError(message)


def open_to_write(path: Path, lock: WriterLock) -> tuple[sqlite3.Connection, Salvage | None]:
    """Open or make a store, checked, salvaged where it is damaged, and brought to the newest version.

    Args:
        path: of the store; its folder exists.
        lock: held by the caller.

    Returns:
        The connection, and what was salvaged where the file was damaged.

    Raises:
        StoreError: not a store, of a newer bce, or it cannot be written.
    """
    with plain_errors(path):
        why = damage(path, was_store=lock.was_there)
        saved = None if why is None else _replace_damaged(path, why)
        connection = connect(path, write=True)
        try:
            migrate(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection, saved


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
            _refuse_foreign(connection, path)
            verdict = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:  # cannot be opened: says nothing of its content
        raise
    except _DAMAGED as error:
        return str(error)
    return None if verdict == "ok" else " ".join(verdict.replace("*** in database main ***", "").split())


def _replace_damaged(path: Path, why: str) -> Salvage:
    """Save what can be read beside the damaged file, keep that under another name, and take its place.

    At every moment `path` is the damaged file or the whole new one, so an interruption here starts over.
    """
    fresh = path.with_name(f".{path.name}.salvage")
    fresh.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(fresh, isolation_level=None)) as new:
        migrate(new, fresh)
        with contextlib.suppress(*_DAMAGED), contextlib.closing(connect(path, write=False)) as old:
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
    except _DAMAGED:
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
        with contextlib.suppress(*_DAMAGED):  # one damaged id may be far away: nothing to read until there
            after = old.execute(f"SELECT min(rowid) FROM {table} NOT INDEXED WHERE rowid >= ?", (low,)).fetchone()[0]
            low = highest + 1 if after is None else after


def _highest_id(old: sqlite3.Connection, table: str) -> int:
    """The last row id of a table: as the tree says, as the counter of AUTOINCREMENT says, or a large number."""
    for query in (
        f"SELECT max(rowid) FROM {table} NOT INDEXED",
        f"SELECT max(seq) FROM sqlite_sequence WHERE name = '{'cells' if table == 'crops' else table}'",
    ):
        with contextlib.suppress(*_DAMAGED):
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
        except _DAMAGED:
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


Notify = Callable[[str], None]
"""Called with one line that a person should read."""
