"""What goes into a store, and the rows that it becomes; the tables are described in `tables`."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from ..errors import SpecError
from ..model.spec import ModelSpec
from ..records import CellResult, FieldResult, with_other
from ..text import now, plain, utc
from .reader import CUT_NOT_EVALUATED, Reading

_UNSTORED = ("seen", "golden", "representative")  # parts of a spec that are long and of no use to a reader


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


@dataclass(frozen=True)
class Renamed:
    """A field whose cells are named again, by what is known of the slide's microscope by now.

    Attributes:
        reading: what it belongs to.
        sha256: of its picture.
        um_per_px: its scale.
        cells: of the same boxes, or fewer.
    """

    reading: Reading
    sha256: str
    um_per_px: float | None
    cells: tuple[CellResult, ...]


Pending = tuple[Reading, FieldResult] | Event | Renamed


def refuse_unhashed(spec: ModelSpec) -> None:
    """SpecError where a spec lacks the hash of its file: no result could be traced to it."""
    if not spec.sha256:
        message = f"{spec.name}: expected the spec of a .tflite that bce made, found one without its sha256"
        raise SpecError(message)


def enter_reading(connection: sqlite3.Connection, slide: str, spec: ModelSpec, file: str) -> Reading:
    """Enter a slide and a model where they are new; inside a transaction.

    Args:
        connection: of the store.
        slide: its name.
        spec: of a packed model file, with its hash.
        file: where the model was read from.
    """
    kept = {key: value for key, value in spec.as_json().items() if key not in _UNSTORED}
    slide, at = plain(slide), utc(now())

    def found(query: str, value: str) -> Any:
        return connection.execute(query, (value,)).fetchone()

    if found("SELECT 1 FROM slides WHERE name = ?", slide) is None:
        _insert(connection, "slides", name=slide, created_at=at)
    if found("SELECT 1 FROM models WHERE sha256 = ?", spec.sha256) is None:
        _insert(
            connection,
            "models",
            sha256=spec.sha256,
            name=spec.name,
            target=spec.target,
            view=spec.view,
            labels=json.dumps(spec.labels),
            reject_threshold=spec.reject_threshold,
            file=plain(file),
            spec=json.dumps(kept, sort_keys=True),
            added_at=at,
        )
    slide_id = found("SELECT id FROM slides WHERE name = ?", slide)["id"]
    model = found("SELECT id, name FROM models WHERE sha256 = ?", spec.sha256)
    known = "SELECT min(rule) FROM fields WHERE slide_id = ? AND model_id = ?"
    rule = connection.execute(known, (slide_id, model["id"])).fetchone()[0]
    return Reading(slide_id, slide, model["id"], model["name"], spec.sha256, rule or CUT_NOT_EVALUATED)


def insert_item(connection: sqlite3.Connection, item: Pending) -> Stored | None:
    """Insert a field, with its cells and crops, or an event, or name a field again; inside a transaction.

    Returns:
        The field that is stored; None of all else.
    """
    if isinstance(item, Renamed):
        _rename(connection, item)
        return None
    if isinstance(item, Event):
        _insert(connection, "events", at=item.at, kind=item.kind, message=item.message, slide_id=item.slide_id)
        return None
    reading, field = item
    query = "SELECT id FROM fields WHERE slide_id = ? AND sha256 = ? AND model_id = ?"
    known = connection.execute(query, (reading.slide_id, field.sha256, reading.model_id)).fetchone()
    if known is not None:
        _insert(
            connection,
            "events",
            at=utc(now()),
            kind="again",
            message=field.path,
            slide_id=reading.slide_id,
            field_id=known["id"],
        )
        return Stored(known["id"], reading, field, again=True)
    return Stored(_insert_field(connection, reading, field), reading, field, again=False)


def _insert_field(connection: sqlite3.Connection, reading: Reading, field: FieldResult) -> int:
    width, height = field.size or (None, None)
    field_id = _insert(
        connection,
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
        rule=reading.rule,
        first_look=field.first_look,
    )
    for cell in field.cells:
        x, y, wide, high = cell.box or (None, None, None, None)
        named = _named(cell)
        cell_id = _insert(connection, "cells", field_id=field_id, x=x, y=y, width=wide, height=high, **named)
        if cell.crop is not None:
            _insert(connection, "crops", cell_id=cell_id, jpeg=cell.crop)
    return field_id


def _named(cell: CellResult) -> dict[str, Any]:
    """What the model says of a cell, as columns."""
    return {
        "label": cell.label,
        "score": cell.score,
        "top": cell.top,
        "scores": json.dumps(with_other(cell.scores, cell.other)),
        "mark": cell.mark,
        "counted": int(cell.counted),
        "why": cell.reason or cell.mark,
    }


def _rename(connection: sqlite3.Connection, item: Renamed) -> None:
    """Change the names of a field's cells; one that is none any more goes, but not where a person has named it."""
    query = "SELECT id FROM fields WHERE slide_id = ? AND sha256 = ? AND model_id = ?"
    reading = item.reading
    (field_id,) = connection.execute(query, (reading.slide_id, item.sha256, reading.model_id)).fetchone()
    cells = {cell.box: cell for cell in item.cells}
    unreviewed = "SELECT * FROM cells WHERE field_id = ? AND id NOT IN (SELECT cell_id FROM reviews)"
    for row in connection.execute(unreviewed, (field_id,)).fetchall():
        cell = cells.get((row["x"], row["y"], row["width"], row["height"]))
        if cell is None:
            connection.execute("DELETE FROM cells WHERE id = ?", (row["id"],))
            continue
        values = _named(cell)
        columns = ", ".join(f"{name} = ?" for name in values)
        connection.execute(f"UPDATE cells SET {columns} WHERE id = ?", (*values.values(), row["id"]))
    count = "(SELECT count(*) FROM cells WHERE field_id = ?)"
    connection.execute(
        f"UPDATE fields SET um_per_px = ?, n_cells = {count} WHERE id = ?", (item.um_per_px, field_id, field_id)
    )


def _insert(connection: sqlite3.Connection, table: str, **values: Any) -> int:
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    cursor = connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values()))
    return int(cursor.lastrowid or 0)
