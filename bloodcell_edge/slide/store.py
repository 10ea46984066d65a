"""Results in one SQLite file: every picture taken in, every cell found in it, and what happened meanwhile.

The tables are described in `tables`, what becomes of a field in `rows`, room for crops in `crops`; exports are in
`export`. What a commit holds survives kill -9 and a power cut; what is not committed was not shown. ::

    with Store.open("bloodcell.sqlite", on_commit=show) as store:
        reading = store.reading("slide 12", classifier.spec)
        store.add(reading, FieldResult(...))
    with Reader.open("bloodcell.sqlite") as reader:
        print(reader.differential(reading).as_json())
"""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from ..errors import StoreError
from ..imaging.views import EDGE
from ..model.spec import ModelSpec
from ..records import UNIDENTIFIED, CellResult, FieldResult
from ..text import now, utc
from .crops import CROP_BUDGET_BYTES, CropRoom
from .reader import DEFAULT_STORE, Reader, Reading
from .rows import Event, Pending, Renamed, Stored, enter_reading, insert_item, refuse_unhashed
from .salvage import Salvage, damage, replace_damaged
from .sqlite import WriterLock, connect, plain_errors, transaction
from .tables import migrate

if TYPE_CHECKING:
    from typing_extensions import Self


GROUP_FIELDS = 50
GROUP_S = 0.2
"""A group of results is committed when it holds so many fields, or when its first is so old, in seconds."""

_RETRY_S = 1.0  # between attempts of the background thread while the disk is full

Notify = Callable[[str], None]
"""Called with one line that a person should read."""

OnCommit = Callable[[Sequence[Stored]], None]
"""Called with the fields of a group once they are safe, in the order they were added, never by two threads at once."""


class Store(Reader):
    """A store that is written to: one process at a time, any of its threads.

    What is added goes to the file in groups (`GROUP_FIELDS`, `GROUP_S`), each a transaction with an fsync. A background
    thread commits a group whose time has come, so nothing waits for the next field.

    Where the disk is full, `add` and `flush` raise StoreError and take in nothing more; what was taken in before is
    kept and tried again once a second, by the background thread, and at each call.

    Attributes:
        path: of the store.
        salvage: what happened where the file was damaged; None where it was whole.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        lock: WriterLock,
        *,
        on_commit: OnCommit | None,
        on_notice: Notify | None,
        crop_budget: int,
        salvage: Salvage | None,
    ) -> None:
        """Use `open` instead."""
        super().__init__(path, connection)
        self.salvage = salvage
        self._lock, self._on_commit, self._on_notice = lock, on_commit, on_notice
        self._crops = CropRoom(connection, crop_budget)
        self._crops_dropped = False
        self._pending: list[Pending] = []
        self._due = 0.0
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._commit_in_time, name="bce-store", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        path: str | Path = DEFAULT_STORE,
        *,
        on_commit: OnCommit | None = None,
        on_notice: Notify | None = None,
        crop_budget: int = CROP_BUDGET_BYTES,
    ) -> Self:
        """Open a store to write, or make one; check it, and save what can be read where it is damaged.

        Args:
            path: of the store; its folder is made.
            on_commit: told of fields once they are safe.
            on_notice: told what a person should know: that the file was damaged, that crops are dropped.
            crop_budget: bytes of crops to keep; 0 keeps none.

        Raises:
            StoreError: another process writes to it, it is no store, of a newer bce, or cannot be written.
        """
        path = Path(path)
        with plain_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = WriterLock(path)
        try:
            connection, salvage = open_to_write(path, lock)
        except BaseException:
            if not lock.was_there:
                lock.path.unlink()
            lock.close()
            raise
        store = cls(
            path,
            connection,
            lock,
            on_commit=on_commit,
            on_notice=on_notice,
            crop_budget=crop_budget,
            salvage=salvage,
        )
        try:
            if salvage is not None:
                store._notice("salvage", str(salvage))
        except BaseException:
            store.close()
            raise
        return store

    def reading(self, slide: str, spec: ModelSpec, *, file: str = "") -> Reading:
        """What fields are added to; slide and model are entered where they are new.

        Args:
            slide: its name.
            spec: of a packed model file.
            file: where the model was read from.

        Raises:
            SpecError: a spec without the hash of its file: no result could be traced to it.
            StoreError: it cannot be written.
        """
        refuse_unhashed(spec)
        with self._wake, plain_errors(self.path), transaction(self._connection):
            return enter_reading(self._connection, slide, spec, file)

    def counts(self, reading: Reading) -> dict[str, int]:
        """Label -> cells counted so far, UNIDENTIFIED last; what is not committed yet is not in it."""
        query = (
            "SELECT label, count(*) AS n FROM cells JOIN fields ON fields.id = field_id "
            "WHERE slide_id = ? AND model_id = ? AND counted = 1 GROUP BY 1"
        )
        found = {row["label"]: row["n"] for row in self.rows(query, (reading.slide_id, reading.model_id))}
        return {label: found.get(label, 0) for label in (*self.spec(reading).labels, UNIDENTIFIED)}

    def not_evaluated(self, reading: Reading) -> int:
        """Cells cut by the edge that are in no count; what is not committed yet is not in it."""
        query = (
            "SELECT count(*) FROM cells JOIN fields ON fields.id = field_id "
            "WHERE slide_id = ? AND model_id = ? AND counted = 0 AND mark = ?"
        )
        return int(self.rows(query, (reading.slide_id, reading.model_id, EDGE))[0][0])

    def has(self, reading: Reading, sha256: str) -> bool:
        """True where this picture was taken in before, so that it need not be looked at again (note it as an event)."""
        return self.status(reading, sha256) is not None

    def status(self, reading: Reading, sha256: str) -> str | None:
        """What became of a picture that was taken in before, "used" or "refused"; None where it was not."""
        query = "SELECT status FROM fields WHERE slide_id = ? AND sha256 = ? AND model_id = ?"
        with self._wake:
            for item in self._pending:
                if isinstance(item, tuple) and (item[0], item[1].sha256) == (reading, sha256):
                    return item[1].status
            found = self.rows(query, (reading.slide_id, sha256, reading.model_id))
            return str(found[0]["status"]) if found else None

    @contextmanager
    def telling(self, on_commit: OnCommit) -> Iterator[None]:
        """While this lasts, tell this one, too, of fields once they are safe; what is left is committed at its end.

        Raises:
            StoreError: the rest could not be written.
        """
        before = self._on_commit

        def both(group: Sequence[Stored]) -> None:
            if before is not None:
                before(group)
            on_commit(group)

        self.flush()
        with self._wake:
            self._on_commit = both
        try:
            yield
        finally:
            try:
                self.flush()
            finally:
                with self._wake:
                    self._on_commit = before

    def add(self, reading: Reading, field: FieldResult) -> None:
        """Take in a field; it is safe, and shown, when `on_commit` gets it.

        Raises:
            StoreError: the store cannot be written: this field was not taken in.
        """
        self._append((reading, field))

    def rename(self, reading: Reading, sha256: str, *, um_per_px: float | None, cells: tuple[CellResult, ...]) -> None:
        """Name the cells of a field again; what a person has named stays as it is.

        Args:
            reading: slide and model.
            sha256: of the field's picture; it was taken in before.
            um_per_px: its scale, µm per pixel.
            cells: in the boxes that the field has, or some of them: the others go.

        Raises:
            StoreError: as `add`.
        """
        self._append(Renamed(reading, sha256, um_per_px, cells))

    def event(self, kind: str, message: str, *, reading: Reading | None = None, at: datetime | None = None) -> None:
        """Note something that happened, in order with the fields.

        Args:
            kind: a word to look for.
            message: one line for a person.
            reading: the slide it happened on.
            at: aware; None for now.

        Raises:
            StoreError: as `add`.
        """
        slide_id = None if reading is None else reading.slide_id
        self._append(Event(utc(now()) if at is None else utc(at), kind, message, slide_id))

    def review(self, cell_id: int, label: str, *, reviewer: str, note: str = "") -> None:
        """Keep what a person says of a cell, beside what the model said.

        Args:
            cell_id: in the table cells.
            label: a class name, of the model or not; UNIDENTIFIED for "not to be named".
            reviewer: who says so.
            note: why.

        Raises:
            StoreError: no such cell, no class name, or it cannot be written.
        """
        if not re.fullmatch(r"[A-Z][A-Z0-9_ -]*", label):  # it becomes a folder's name
            message = f"cell {cell_id}: expected a class name in capitals, found {label!r}"
            raise StoreError(message)
        if not self.rows("SELECT 1 FROM cells WHERE id = ?", (cell_id,)):
            message = f"{self.path}: no cell {cell_id} to review"
            raise StoreError(message)
        with self._wake, plain_errors(self.path), transaction(self._connection):
            self._connection.execute(
                "INSERT INTO reviews (cell_id, at, reviewer, label, note) VALUES (?, ?, ?, ?, ?)",
                (cell_id, utc(now()), reviewer, label, note),
            )

    def flush(self) -> None:
        """Commit what was taken in, now.

        Raises:
            StoreError: it cannot be written; it is kept and tried again.
        """
        with self._wake:
            while self._pending:
                self._commit()
            failure, self._failure = self._failure, None
            if failure is not None and not isinstance(failure, StoreError):  # a full disk that is full no more is over
                raise failure

    def close(self) -> None:
        """Commit what is left and close; twice is fine.

        Raises:
            StoreError: the rest could not be written. The file is whole; the same pictures again add what is missing.
        """
        with self._wake:
            if self._closed:
                return
            try:
                self.flush()
            finally:
                self._closed = True
                self._wake.notify_all()
                self._connection.close()
                self._lock.close()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*((StoreError,) if error is not None else ())):  # the first error is the one to be seen
            self.close()

    def _append(self, item: Pending) -> None:
        with self._wake:
            if self._closed:
                message = f"{self.path}: this Store is closed"
                raise StoreError(message)
            if self._failure is not None or len(self._pending) >= GROUP_FIELDS:
                self.flush()
            self._put(item)

    def _put(self, item: Pending) -> None:
        """Add to the group; the background thread is woken where that changes when it is due."""
        with self._wake:
            if not self._pending:
                self._due = time.monotonic() + GROUP_S
            self._pending.append(item)
            if len(self._pending) in (1, GROUP_FIELDS):
                self._wake.notify_all()

    def _commit_in_time(self) -> None:
        """The background thread: commit each group when it is full or its time has come."""
        with self._wake:
            while not self._closed:
                left = self._due - time.monotonic() if len(self._pending) < GROUP_FIELDS else 0.0
                if not self._pending or left > 0.0:
                    self._wake.wait(left if self._pending else None)
                    continue
                try:
                    self._commit()
                    if isinstance(self._failure, StoreError):
                        self._failure = None
                except Exception as error:  # noqa: BLE001  on_commit may raise anything; the next call raises it again
                    self._failure = error
                    self._wake.wait_for(lambda: self._closed, timeout=_RETRY_S)

    def _commit(self) -> None:
        """Write what is pending as one group, then tell of it."""
        if not self._pending:
            return
        with plain_errors(self.path):
            with transaction(self._connection):
                done = (insert_item(self._connection, item) for item in self._pending)
                stored = [one for one in done if one is not None]
                used, dropped = self._crops.made_for(stored)
            self._pending.clear()
            self._crops.used = used
        if dropped and not self._crops_dropped:
            self._crops_dropped = True
            kept = f"more than {self._crops.budget / 1e6:g} MB"
            self._notice("crops", f"crops took {kept}: the oldest are dropped from now on, the counts stay")
        if self._on_commit is not None and stored:
            self._on_commit(stored)

    def _notice(self, kind: str, message: str) -> None:
        """An event that a person should know of."""
        self._put(Event(utc(now()), kind, message))
        if self._on_notice is not None:
            self._on_notice(f"{self.path}: {message}")


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
        saved = None if why is None else replace_damaged(path, why)
        connection = connect(path, write=True)
        try:
            migrate(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection, saved
