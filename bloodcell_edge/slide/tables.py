"""The tables of a store, and how an older file is brought up.

Tables (version 2; each id rises in the order of intake, whatever the clock does; times are ISO 8601, UTC):

- slides: id, name, created_at
- models: id, sha256 (of the model file), name, target, view, labels (JSON list), reject_threshold, file, spec (JSON,
  without golden samples and hashes of training pictures), added_at
- fields: id, slide_id, model_id, path, sha256, taken_at, status ("used", "refused"), reason, monotonic_ns, width,
  height, um_per_px, quality (JSON: number by name), latency_ms, n_cells, rule (from version 2 on; by which cut cells
  are counted, see `reader.Reading`). One for each (slide_id, sha256, model_id)
- cells: id, field_id, label, score, x, y, width, height (pixels of the field; null for a model that takes the whole
  picture), top (the best label, also where label is UNIDENTIFIED), scores (JSON: probability by label, and OTHER, the
  background's, where the model has one), mark (why the gate left it unidentified), counted (0: counted in an earlier
  field, or not evaluated, since the edge cuts it), why (from version 2 on; of UNIDENTIFIED: "edge", "touching", "low
  score", "other cell")
- crops: cell_id, jpeg. The only rows that are ever dropped, see `crops.CROP_BUDGET_BYTES`
- events: id, at, kind, message, slide_id, field_id
- reviews: id, cell_id, at, reviewer, label, note. What a person said of a cell; the model's answer stays in cells
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from ..errors import StoreError
from .sqlite import transaction

APPLICATION_ID = 0x62636531
""""bce1" in the file's header (PRAGMA application_id): what tells a store from another program's database."""
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
_TABLES_2 = (
    "ALTER TABLE fields ADD COLUMN rule INTEGER NOT NULL DEFAULT 1",
    "ALTER TABLE fields ADD COLUMN first_look TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE cells ADD COLUMN why TEXT NOT NULL DEFAULT ''",
    "UPDATE cells SET why = CASE mark WHEN '' THEN 'low score' ELSE mark END WHERE label = 'UNIDENTIFIED'",
)
MIGRATIONS: tuple[tuple[str, ...], ...] = (_TABLES_1, _TABLES_2)
"""Statements that bring a file from version i to i + 1. Never change one that was released: add the next."""
LOOKS: Mapping[int, tuple[str, ...]] = {
    1: (
        "CREATE TEMP VIEW fields AS SELECT *, 1 AS rule, '' AS first_look FROM main.fields",
        "CREATE TEMP VIEW cells AS SELECT *, CASE WHEN label <> 'UNIDENTIFIED' THEN '' WHEN mark = '' "
        "THEN 'low score' ELSE mark END AS why FROM main.cells",
    ),
}
"""Statements by which a reader, who changes nothing, sees a file of version i as one of i + 1."""
TABLES = ("slides", "models", "fields", "cells", "crops", "events", "reviews")
"""Parents before children."""


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


def look_through(connection: sqlite3.Connection, path: Path) -> None:
    """Let a reader see an older file as one of the newest version; the file is not changed.

    Raises:
        StoreError: a newer bce made it, or its version cannot be looked through.
    """
    found = version_of(connection)
    steps = range(found, len(MIGRATIONS))
    if found > len(MIGRATIONS) or not all(version in LOOKS for version in steps):
        message = f"{path}: store version {found}, expected {len(MIGRATIONS)}; bce run brings an older one up"
        raise StoreError(message)
    for version in steps:
        for statement in LOOKS[version]:
            connection.execute(statement)


def refuse_foreign(connection: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError for another program's database; an empty one is as good as none."""
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if mark != APPLICATION_ID and tables:
        message = f"{path}: another program's database, not a store; give another --store"
        raise StoreError(message)
