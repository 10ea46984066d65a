"""The SQLite file behind a store: how it is opened, its one writer, and errors in plain words."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from ..closing import Closing
from ..errors import DiskFull, StoreError

DAMAGED = (sqlite3.DatabaseError, UnicodeDecodeError)  # the latter where even the name in its message is damaged
_BUSY_S = 5.0  # how long a writer waits for a reader that is just recovering the log


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
    if isinstance(error, DAMAGED) and not isinstance(error, sqlite3.OperationalError):
        return f"damaged ({said}); start again, and what can be read will be saved into a new file"
    return f"cannot be opened or written ({said}); check the folder and its permissions, or give another --store"


def _no_space(said: str, path: Path) -> bool:
    """SQLite says "disk I/O error" where its index beside the log cannot grow."""
    if "full" in said or "No space" in said:
        return True
    return "I/O" in said and shutil.disk_usage(path.parent).free < 1 << 16


class WriterLock(Closing):
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
