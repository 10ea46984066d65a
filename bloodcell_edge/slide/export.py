"""What leaves a store: CSV, JSON, and crops in one folder per class.

Nothing is left out in silence: refused fields and fields without a cell have their rows too.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from ..errors import StoreError
from ..files import refuse_existing, write_bytes, write_csv
from ..imaging.views import WHITE_CELL_UM
from ..records import UNIDENTIFIED
from ..text import inert
from .reader import Reader, Reading

CSV_COLUMNS = tuple(
    "slide model model_sha256 field path sha256 taken_at status reason "
    "cell label score x y width height top mark counted reviewed why".split()
)
_CELL_COLUMNS = CSV_COLUMNS[CSV_COLUMNS.index("label") :]
_GROUP_DIGITS = 16  # of a picture's hash: enough to tell pictures apart


@dataclass(frozen=True)
class CropsExport:
    """What `export_crops` wrote: label -> crops that labels.csv names, and what it does not name.

    Attributes:
        by_label: crops in labels.csv.
        unidentified: crops in the folder UNIDENTIFIED, for a person to sort; not in labels.csv.
        without_crop: cells that have none: never kept, or dropped for room.
    """

    by_label: dict[str, int]
    unidentified: int
    without_crop: int


def export_csv(store: Reader, stream: TextIO, *, slide: str | None = None) -> int:
    """Write a row for each cell, and one for each field without any; the number of rows.

    Args:
        store: to read.
        stream: text, opened with ``newline=""``.
        slide: its name; None for all.

    Raises:
        StoreError: no such slide.
    """
    writer = csv.DictWriter(stream, CSV_COLUMNS)
    writer.writeheader()
    number = 0
    for reading in store.readings(slide):
        for field, cells in _fields(store, reading):
            row = {
                "slide": inert(reading.slide),
                "model": inert(reading.model),
                "model_sha256": reading.model_sha256,
                "field": field["id"],
                **{key: field[key] for key in ("path", "sha256", "taken_at", "status", "reason")},
            }
            row["path"] = inert(field["path"])
            of_cells = [{"cell": cell["id"], **{key: cell[key] for key in _CELL_COLUMNS}} for cell in cells]
            writer.writerows(row | cell for cell in of_cells or [{}])
            number += max(1, len(cells))
    return number


def export_json(store: Reader, *, slide: str | None = None, cells: int | None = None) -> dict[str, Any]:
    """Everything a store says, as plain JSON values: for each slide and model the differential and its fields.

    Args:
        store: to read.
        slide: its name; None for all.
        cells: identified cells below which no percentage is stated; None for each slide's own.

    Raises:
        StoreError: no such slide.
    """
    readings = store.readings(slide)
    slides = {reading.slide_id for reading in readings}
    events = [dict(row) for row in store.events() if slide is None or row["slide_id"] in slides]
    return {
        "store": str(store.path),
        "readings": [_reading_json(store, reading, cells) for reading in readings],
        "events": events,
    }


def _reading_json(store: Reader, reading: Reading, cells: int | None) -> dict[str, Any]:
    spec = store.spec(reading)
    return {
        "slide": reading.slide,
        "model": {
            "sha256": reading.model_sha256,
            "name": spec.name,
            "target": spec.target,
            "view": spec.view,
            "labels": list(spec.labels),
            "reject_threshold": spec.reject_threshold,
            "intended_use": spec.intended_use,
            "attribution": list(spec.attribution),
        },
        "differential": store.differential(reading, cells=cells).as_json(),
        "microscope": None if (found := store.microscope(reading)) is None else found.as_json(),
        "fields": [
            {
                **{key: field[key] for key in ("id", "path", "sha256", "taken_at", "status", "reason")},
                **{key: field[key] for key in ("width", "height", "um_per_px")},
                "quality": json.loads(field["quality"]),
                "cells": [_cell_json(cell) for cell in found],
            }
            for field, found in _fields(store, reading)
        ],
    }


def _cell_json(cell: sqlite3.Row) -> dict[str, Any]:
    box = [cell[key] for key in ("x", "y", "width", "height")]
    return {
        "id": cell["id"],
        "label": cell["label"],
        "score": cell["score"],
        "scores": json.loads(cell["scores"]),
        "box": None if cell["x"] is None else box,
        "mark": cell["mark"],
        "counted": bool(cell["counted"]),
        "reason": cell["why"],
        "reviewed": cell["reviewed"],
    }


def _fields(store: Reader, reading: Reading) -> Iterator[tuple[sqlite3.Row, list[sqlite3.Row]]]:
    """Each field with its cells, in the order they were taken in."""
    cells: dict[int, list[sqlite3.Row]] = {}
    for cell in store.cells(reading):
        cells.setdefault(cell["field_id"], []).append(cell)
    for field in store.fields(reading):
        yield field, cells.get(field["id"], [])


def export_crops(
    store: Reader, folder: str | Path, *, slide: str | None = None, reviewed_only: bool = False, force: bool = False
) -> CropsExport:
    """Write crops as FOLDER/LABEL/*.jpg with a labels.csv that ``bce train FOLDER`` takes.

    A cell goes by the label a person gave it, else by the model's: training on a model's own answers teaches it nothing
    new, so look through them first. The scale goes with each crop, which shows too few red cells to measure by. Cells
    without a name lie in FOLDER/UNIDENTIFIED and are not in labels.csv. The group of a crop is its photograph. Where
    several models read a slide, the last one's cells are taken.

    Args:
        store: to read.
        folder: made; must be new or empty, or `force` given.
        slide: its name; None for all.
        reviewed_only: only cells that a person labelled.
        force: write into a folder that has something in it.

    Raises:
        OutputExists: there is something in the folder.
        StoreError: no such slide, or no crop to write.
    """
    folder = Path(folder)
    if folder.is_dir() and not any(folder.iterdir()):
        force = True
    refuse_existing(folder, force=force)
    rows = []
    by_label: dict[str, int] = {}
    unidentified = without = 0
    for cell in _last_cells(store, slide):
        if reviewed_only and cell["reviewed"] is None:
            continue
        jpeg = store.crop(cell["id"])
        if jpeg is None:
            without += 1
            continue
        label = cell["reviewed"] or cell["label"]
        file = f"{label}/{cell['id']:08d}.jpg"
        write_bytes(folder / file, jpeg)
        if label == UNIDENTIFIED:
            unidentified += 1
        else:
            by_label[label] = by_label.get(label, 0) + 1
            rows.append((file, label, cell["sha256"][:_GROUP_DIGITS], _scale(cell)))
    if not by_label and not unidentified:
        message = f"{store.path}: no crop to export ({without} cells have none: not kept, or dropped for room)"
        raise StoreError(message)
    write_csv(folder / "labels.csv", ("file", "label", "group", "um_per_px"), rows)
    return CropsExport(by_label, unidentified, without)


def _scale(cell: sqlite3.Row) -> float | None:
    """µm per pixel of a crop; without red cells in its field, as `views.window` took it. None for a whole picture."""
    if cell["um_per_px"]:
        return float(cell["um_per_px"])
    return WHITE_CELL_UM / max(cell["width"], cell["height"]) if cell["width"] else None


def _last_cells(store: Reader, slide: str | None) -> Iterator[sqlite3.Row]:
    """The counted cells of each slide as the model that came last read them."""
    last = {reading.slide_id: reading for reading in store.readings(slide)}
    for reading in last.values():
        yield from (cell for cell in store.cells(reading) if cell["counted"])
