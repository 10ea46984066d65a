"""Results in one SQLite file: every picture taken in, every cell found in it, and what happened meanwhile.

The tables are described in `storefile`, exports are in `export`. What a commit holds survives kill -9 and a power cut;
what is not committed was not shown. ::

    with Store.open("bloodcell.sqlite", on_commit=show) as store:
        reading = store.reading("slide 12", classifier.spec)
        store.add(reading, FieldResult(...))
    with Reader.open("bloodcell.sqlite") as reader:
        print(reader.differential(reading).as_json())
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .differential import CELLS, Differential, differential
from .errors import SpecError, StoreError
from .records import UNIDENTIFIED, FieldResult
from .spec import ModelSpec, spec_from_json
from .storefile import (
    Notify,
    Salvage,
    WriterLock,
    now,
    open_to_read,
    open_to_write,
    plain,
    plain_errors,
    transaction,
    utc,
)

if TYPE_CHECKING:
    from typing_extensions import Self

DEFAULT_STORE = Path("bloodcell.sqlite")

GROUP_FIELDS = 50
GROUP_S = 0.2
"""A group of results is committed when it holds so many fields, or when its first is so old, in seconds."""

CROP_BUDGET_BYTES = 200_000_000
"""Default room for crops, some 40,000 cells at 5 kB: the file is read through at each start, and an SD card gives some
40 MB/s. Beyond it the oldest crops go, reviewed ones last; the rows of their cells stay for ever."""

_ROOM_AFTER_DROPPING = 0.95  # of the budget, so that not every commit has to drop
_RETRY_S = 1.0  # between attempts of the background thread while the disk is full
_UNSTORED = ("seen", "golden", "representative")  # parts of a spec that are long and of no use to a reader


@dataclass(frozen=True)
class Reading:
    """A slide as one model reads it: what a differential is of.

    Attributes:
        slide_id: in the table slides.
        slide: its name.
        model_id: in the table models.
        model: the model's name.
        model_sha256: of the model file.
    """

    slide_id: int
    slide: str
    model_id: int
    model: str
    model_sha256: str


@dataclass(frozen=True)
class Stored:
    """A field that is committed.

    Attributes:
        field_id: in the table fields.
        reading: what it belongs to.
        field: what was added.
        again: the same picture was there already, so only an event was added; field_id is the one that stands.
    """

    field_id: int
    reading: Reading
    field: FieldResult
    again: bool


@dataclass(frozen=True)
class Event:
    """Something that happened: "again", "crops", "salvage", or what the caller reported."""

    at: str
    kind: str
    message: str
    slide_id: int | None = None
    field_id: int | None = None


OnCommit = Callable[[Sequence[Stored]], None]
"""Called with the fields of a group once they are safe, in the order they were added, never by two threads at once."""

Pending = tuple[Reading, FieldResult] | Event


class Reader:
    """A store that is only looked at, also while another process writes to it.

    Attributes:
        path: of the store.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        """Use `open` instead."""
        self.path = path
        self._connection = connection
        self._wake = threading.Condition(threading.RLock())
        self._closed = False

    @classmethod
    def open(cls, path: str | Path = DEFAULT_STORE) -> Self:
        """Open an existing store to read.

        Raises:
            MissingFile: no such file.
            StoreError: no store, damaged, or of another version.
        """
        path = Path(path)
        return cls(path, open_to_read(path))

    def close(self) -> None:
        """Close the file; twice is fine."""
        self._closed = True
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Class, path and whether it is open."""
        return f"{type(self).__name__}({self.path}, {'closed' if self._closed else 'open'})"

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """What a SELECT gives; the tables are described in `storefile`.

        Raises:
            StoreError: closed, damaged, or not a query.
        """
        with self._wake, plain_errors(self.path):
            if self._closed:
                message = f"{self.path}: this {type(self).__name__} is closed"
                raise StoreError(message)
            return self._connection.execute(query, values).fetchall()

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """What is read inside is of one moment, whatever another process commits meanwhile; write nothing inside.

        Raises:
            StoreError: closed or damaged.
        """
        with self._wake:
            self.rows("BEGIN")
            try:
                yield
            finally:
                self.rows("COMMIT")

    def readings(self, slide: str | None = None) -> tuple[Reading, ...]:
        """Slides and the models that read them, the slide and the model used first in front; of one slide if named.

        Raises:
            StoreError: no slide of that name.
        """
        found = self.rows(
            "SELECT slides.id AS slide_id, slides.name AS slide, models.id AS model_id, models.name AS model, sha256 "
            "FROM (SELECT slide_id, model_id, min(id) AS first FROM fields GROUP BY 1, 2) AS used "
            "JOIN slides ON slides.id = used.slide_id JOIN models ON models.id = used.model_id "
            "WHERE ?1 IS NULL OR slides.name = ?1 ORDER BY 1, first",
            (slide if slide is None else plain(slide),),
        )
        if slide is not None and not found:
            names = ", ".join(row["name"] for row in self.rows("SELECT name FROM slides ORDER BY id DESC LIMIT 20"))
            message = f"{self.path}: no field of a slide {slide!r}; slides: {names or 'none'}"
            raise StoreError(message)
        return tuple(Reading(*row) for row in found)

    def spec(self, reading: Reading) -> ModelSpec:
        """The spec of a reading's model, without golden samples and hashes of training pictures."""
        row = self.rows("SELECT spec FROM models WHERE id = ?", (reading.model_id,))[0]
        return spec_from_json(json.loads(row["spec"]), where=str(self.path))

    def differential(self, reading: Reading, *, cells: int = CELLS) -> Differential:
        """The count of a slide by one model: cells of used fields, each once.

        Args:
            reading: slide and model.
            cells: identified cells below which no percentage is stated.
        """
        spec = self.spec(reading)
        found = self.rows(
            "SELECT label, top, mark = '' AS asked, count(*) AS n FROM cells JOIN fields ON fields.id = field_id "
            "WHERE slide_id = ? AND model_id = ? AND counted = 1 GROUP BY 1, 2, 3",
            (reading.slide_id, reading.model_id),
        )
        counts: Counter[str] = Counter()
        called: Counter[str] = Counter()
        for row in found:
            counts[row["label"]] += row["n"]
            called[row["top"]] += row["n"] * row["asked"]
        return differential(
            {label: counts[label] for label in spec.labels},
            labels=spec.labels,
            unidentified=sum(n for label, n in counts.items() if label not in spec.labels),
            called={label: called[label] for label in spec.labels},
            cells=cells,
            figures=spec.figures,
            unit="cells" if spec.view == "cell" else "pictures",
        )

    def fingerprints(self, reading: Reading, most: int) -> list[bytes]:
        """Of the last used fields that have one, at most so many, oldest first."""
        query = (
            "SELECT fingerprint FROM fields WHERE slide_id = ? AND model_id = ? AND status = 'used' "
            "AND fingerprint IS NOT NULL ORDER BY id DESC LIMIT ?"
        )
        rows = self.rows(query, (reading.slide_id, reading.model_id, most))
        return [bytes(row["fingerprint"]) for row in reversed(rows)]

    def fields(self, reading: Reading) -> list[sqlite3.Row]:
        """The rows of fields, in the order they were taken in."""
        query = "SELECT * FROM fields WHERE slide_id = ? AND model_id = ? ORDER BY id"
        return self.rows(query, (reading.slide_id, reading.model_id))

    def cells(self, reading: Reading, *, label: str | None = None, limit: int = -1) -> list[sqlite3.Row]:
        """The rows of cells, with ``path``, ``sha256`` and ``um_per_px`` of their field, and a person's label.

        That is ``reviewed``, the last one given, None where there is none.

        Args:
            reading: slide and model.
            label: the model's label; None for all.
            limit: at most so many; -1 for all.
        """
        return self.rows(
            "SELECT cells.*, fields.path, fields.sha256, fields.um_per_px, "
            "(SELECT reviews.label FROM reviews WHERE cell_id = cells.id ORDER BY reviews.id DESC LIMIT 1) AS reviewed "
            "FROM cells JOIN fields ON fields.id = field_id WHERE slide_id = ?1 AND model_id = ?2 "
            "AND (?3 IS NULL OR cells.label = ?3) ORDER BY cells.id LIMIT ?4",
            (reading.slide_id, reading.model_id, label, limit),
        )

    def crop(self, cell_id: int) -> bytes | None:
        """The JPEG file of a cell; None where none was kept, or it was dropped for room."""
        found = self.rows("SELECT jpeg FROM crops WHERE cell_id = ?", (cell_id,))
        return bytes(found[0]["jpeg"]) if found else None

    def events(self) -> list[sqlite3.Row]:
        """The rows of events, oldest first."""
        return self.rows("SELECT * FROM events ORDER BY id")


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
        self._crop_budget = crop_budget
        self._crop_bytes = int(connection.execute("SELECT total(length(jpeg)) FROM crops").fetchone()[0])
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
        if not spec.sha256:
            message = f"{spec.name}: expected the spec of a .tflite that bce made, found one without its sha256"
            raise SpecError(message)
        kept = {key: value for key, value in spec.as_json().items() if key not in _UNSTORED}
        labels, text = json.dumps(spec.labels), json.dumps(kept, sort_keys=True)
        slide, file = plain(slide), plain(file)
        with self._wake, plain_errors(self.path), transaction(self._connection):
            execute = self._connection.execute
            if not self.rows("SELECT 1 FROM slides WHERE name = ?", (slide,)):
                execute("INSERT INTO slides (name, created_at) VALUES (?, ?)", (slide, now()))
            if not self.rows("SELECT 1 FROM models WHERE sha256 = ?", (spec.sha256,)):
                execute(
                    "INSERT INTO models (sha256, name, target, view, labels, reject_threshold, file, spec, added_at) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (spec.sha256, spec.name, spec.target, spec.view, labels, spec.reject_threshold, file, text, now()),
                )
            slide_id = self.rows("SELECT id FROM slides WHERE name = ?", (slide,))[0]["id"]
            model = self.rows("SELECT id, name FROM models WHERE sha256 = ?", (spec.sha256,))[0]
        return Reading(slide_id, slide, model["id"], model["name"], spec.sha256)

    def counts(self, reading: Reading) -> dict[str, int]:
        """Label -> cells counted so far, UNIDENTIFIED last; what is not committed yet is not in it."""
        query = (
            "SELECT label, count(*) AS n FROM cells JOIN fields ON fields.id = field_id "
            "WHERE slide_id = ? AND model_id = ? AND counted = 1 GROUP BY 1"
        )
        found = {row["label"]: row["n"] for row in self.rows(query, (reading.slide_id, reading.model_id))}
        return {label: found.get(label, 0) for label in (*self.spec(reading).labels, UNIDENTIFIED)}

    def has(self, reading: Reading, sha256: str) -> bool:
        """True where this picture was taken in before, so that it need not be looked at again (note it as an event)."""
        query = "SELECT 1 FROM fields WHERE slide_id = ? AND sha256 = ? AND model_id = ?"
        with self._wake:
            waiting = (item for item in self._pending if not isinstance(item, Event))
            if any((of, field.sha256) == (reading, sha256) for of, field in waiting):
                return True
            return bool(self.rows(query, (reading.slide_id, sha256, reading.model_id)))

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
        self._append(Event(now() if at is None else utc(at), kind, message, slide_id))

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
                (cell_id, now(), reviewer, label, note),
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
                stored = [one for one in map(self._write, self._pending) if one is not None]
                new = _crop_bytes(stored)  # without any, nothing is dropped, however little room was given
                crop_bytes, dropped = self._make_room(self._crop_bytes + new) if new else (self._crop_bytes, 0)
            self._pending.clear()
            self._crop_bytes = crop_bytes
        if dropped and not self._crops_dropped:
            self._crops_dropped = True
            kept = f"more than {self._crop_budget / 1e6:g} MB"
            self._notice("crops", f"crops took {kept}: the oldest are dropped from now on, the counts stay")
        if self._on_commit is not None and stored:
            self._on_commit(stored)

    def _notice(self, kind: str, message: str) -> None:
        """An event that a person should know of."""
        self._put(Event(now(), kind, message))
        if self._on_notice is not None:
            self._on_notice(f"{self.path}: {message}")

    def _write(self, item: Pending) -> Stored | None:
        """Insert one item inside the transaction."""
        if isinstance(item, Event):
            self._insert("events", at=item.at, kind=item.kind, message=item.message, slide_id=item.slide_id)
            return None
        reading, field = item
        query = "SELECT id FROM fields WHERE slide_id = ? AND sha256 = ? AND model_id = ?"
        known = self._connection.execute(query, (reading.slide_id, field.sha256, reading.model_id)).fetchone()
        if known is not None:
            self._insert(
                "events", at=now(), kind="again", message=field.path, slide_id=reading.slide_id, field_id=known["id"]
            )
            return Stored(known["id"], reading, field, again=True)
        return Stored(self._write_field(reading, field), reading, field, again=False)

    def _write_field(self, reading: Reading, field: FieldResult) -> int:
        width, height = field.size or (None, None)
        field_id = self._insert(
            "fields",
            slide_id=reading.slide_id,
            model_id=reading.model_id,
            path=field.path,
            sha256=field.sha256,
            taken_at=utc(field.taken_at),
            status=field.status,
            reason=field.reason,
            monotonic_ns=field.monotonic_ns,
            width=width,
            height=height,
            um_per_px=field.um_per_px,
            quality=json.dumps(field.quality),
            fingerprint=field.fingerprint,
            latency_ms=field.latency_ms,
            n_cells=len(field.cells),
        )
        for cell in field.cells:
            x, y, wide, high = cell.box or (None, None, None, None)
            cell_id = self._insert(
                "cells",
                field_id=field_id,
                label=cell.label,
                score=cell.score,
                x=x,
                y=y,
                width=wide,
                height=high,
                top=cell.top,
                scores=json.dumps(cell.scores),
                mark=cell.mark,
                counted=int(cell.counted),
            )
            if cell.crop is not None:
                self._insert("crops", cell_id=cell_id, jpeg=cell.crop)
        return field_id

    def _insert(self, table: str, **values: Any) -> int:
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        cursor = self._connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))
        return int(cursor.lastrowid or 0)

    def _make_room(self, used: int) -> tuple[int, int]:
        """Drop crops inside the transaction until the budget holds; the bytes left and the crops dropped."""
        if used <= self._crop_budget:
            return used, 0
        dropped: list[tuple[int]] = []
        for cell_id, size in self._oldest_crops():
            if used <= self._crop_budget * _ROOM_AFTER_DROPPING:
                break
            dropped.append((cell_id,))
            used -= size
        self._connection.executemany("DELETE FROM crops WHERE cell_id = ?", dropped)
        return used, len(dropped)

    def _oldest_crops(self) -> Iterator[tuple[int, int]]:
        """(cell_id, bytes) of every crop, those with a review last."""
        for row in self._connection.execute(
            "SELECT cell_id, length(jpeg) FROM crops "
            "ORDER BY EXISTS (SELECT 1 FROM reviews WHERE reviews.cell_id = crops.cell_id), cell_id"
        ):
            yield row[0], row[1]


def _crop_bytes(stored: Sequence[Stored]) -> int:
    cells = (cell for one in stored if not one.again for cell in one.field.cells)
    return sum(len(cell.crop) for cell in cells if cell.crop is not None)
