"""A store that is only looked at, also while another process writes to it."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..closing import Closing
from ..errors import MissingFile, StoreError
from ..imaging.quality import QualityLimits
from ..imaging.views import EDGE
from ..model.microscope import POOL, REMEMBERED, FirstLook, Microscope
from ..model.spec import ModelSpec, spec_from_json
from ..model.together import Before
from ..text import plain
from .differential import CELLS, Differential, differential
from .sampling import OLD_RULE, UNPLACED, Sighting, Weighed, weigh
from .sqlite import connect, plain_errors
from .tables import look_through, refuse_foreign

if TYPE_CHECKING:
    from typing_extensions import Self


DEFAULT_STORE = Path("bloodcell.sqlite")

SOURCE, TARGET = "source", "target"
"""Kinds of events that keep what a slide is: the folder that it is taken from, and how many cells it is to have."""

_QUESTIONS = {one.name for one in fields(QualityLimits)}  # of the quality gate

CUT_UNIDENTIFIED, CUT_NOT_EVALUATED = 1, 2
"""Rules for cut cells: each is UNIDENTIFIED, and without overlap counted so (before version 2 of the store); one of
which too little is seen is not evaluated, the others are named and counted (`views.LEAST_SEEN`)."""
EARLIER_RULE = "cut cells counted as UNIDENTIFIED (before version 2 of the store)"


@dataclass(frozen=True)
class Reading:
    """A slide as one model reads it: what a differential is of.

    Attributes:
        slide_id: in the table slides.
        slide: its name.
        model_id: in the table models.
        model: the model's name.
        model_sha256: of the model file.
        rule: by which its cut cells are counted, `CUT_UNIDENTIFIED` or `CUT_NOT_EVALUATED`; that of its first field.
    """

    slide_id: int
    slide: str
    model_id: int
    model: str
    model_sha256: str
    rule: int = CUT_NOT_EVALUATED

    @property
    def earlier_rule(self) -> str:
        """The rule in words; empty for today's."""
        return EARLIER_RULE if self.rule == CUT_UNIDENTIFIED else ""


def open_to_read(path: Path) -> sqlite3.Connection:
    """Open an existing store beside its writer; it cannot be changed through this.

    Raises:
        MissingFile: no such file.
        StoreError: no store, damaged, or of a newer version.
    """
    if not path.exists():
        message = f"{path}: no such store; bce run makes one"
        raise MissingFile(message)
    with plain_errors(path):
        connection = connect(path, write=False)
        try:
            refuse_foreign(connection, path)
            look_through(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _weighed(reading: Reading, cells: Sequence[sqlite3.Row]) -> Weighed | str:
    """Its cells by the chance to be counted, those the model was asked about by their top label; or why not."""
    if reading.rule == CUT_UNIDENTIFIED:
        return OLD_RULE
    if any(None in (row["x"], row["across"]) for row in cells):
        return UNPLACED
    return weigh(
        [
            Sighting(
                row["field_id"],
                (row["x"], row["y"], row["width"], row["height"]),
                (row["across"], row["down"]),
                row["top"] if row["counted"] and not row["mark"] else None,
                again=not row["counted"] and row["mark"] != EDGE,
            )
            for row in cells
        ]
    )


class Reader(Closing):
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
            StoreError: no store, damaged, or of a newer version.
        """
        path = Path(path)
        return cls(path, open_to_read(path))

    def close(self) -> None:
        """Close the file; twice is fine."""
        self._closed = True
        self._connection.close()

    def __repr__(self) -> str:
        """Class, path and whether it is open."""
        return f"{type(self).__name__}({self.path}, {'closed' if self._closed else 'open'})"

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """What a SELECT gives; the tables are described in `tables`.

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
            "SELECT slides.id AS slide_id, slides.name AS slide, models.id AS model_id, models.name AS model, sha256, "
            "rule FROM "
            "(SELECT slide_id, model_id, min(id) AS first, min(rule) AS rule FROM fields GROUP BY 1, 2) AS used "
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

    def target(self, reading: Reading) -> int:
        """Identified cells that the slide is to have: what the last run of it that was told a number was told."""
        rows = self.rows(
            "SELECT message FROM events WHERE slide_id = ? AND kind = ? ORDER BY id DESC LIMIT 1",
            (reading.slide_id, TARGET),
        )
        return int(rows[0]["message"]) if rows else CELLS

    def used(self, reading: Reading) -> int:
        """How many fields are counted."""
        query = "SELECT count(*) AS n FROM fields WHERE slide_id = ? AND model_id = ? AND status = 'used'"
        return int(self.rows(query, (reading.slide_id, reading.model_id))[0]["n"])

    def differential(self, reading: Reading, *, cells: int | None = None) -> Differential:
        """The count of a slide by one model: cells of used fields, each once.

        Args:
            reading: slide and model.
            cells: identified cells below which no percentage is stated; None for the slide's own, see `target`.
        """
        spec = self.spec(reading)
        counts: Counter[str] = Counter()
        called: Counter[str] = Counter()
        cut = 0
        cells_found = self.rows(
            "SELECT field_id, label, top, mark, counted, x, y, cells.width, cells.height, fields.width AS across, "
            "fields.height AS down FROM cells JOIN fields ON fields.id = field_id WHERE slide_id = ? AND model_id = ?",
            (reading.slide_id, reading.model_id),
        )
        for row in cells_found:
            counts[row["label"]] += row["counted"]
            called[row["top"]] += row["counted"] and not row["mark"]
            cut += row["mark"] == EDGE and not row["counted"]
        return differential(
            {label: counts[label] for label in spec.labels},
            labels=spec.labels,
            unidentified=sum(n for label, n in counts.items() if label not in spec.labels),
            called={label: called[label] for label in spec.labels},
            cells=self.target(reading) if cells is None else cells,
            figures=spec.figures,
            unit="cells" if spec.view == "cell" else "pictures",
            not_evaluated=cut,
            earlier_rule=reading.earlier_rule,
            weighed=_weighed(reading, cells_found),
        )

    def first_looks(self, reading: Reading) -> list[FirstLook]:
        """What used fields say of their microscope, in order; those that older versions took in say nothing."""
        query = (
            "SELECT first_look FROM fields WHERE slide_id = ? AND model_id = ? AND status = 'used' "
            "AND first_look <> '' ORDER BY id"
        )
        return [
            FirstLook.from_text(row["first_look"]) for row in self.rows(query, (reading.slide_id, reading.model_id))
        ]

    def before(self, reading: Reading) -> Before:
        """Of the used fields so far what the next ones need, see `model.together`."""
        chosen = "FROM fields WHERE slide_id = ? AND model_id = ? AND status = 'used' AND first_look <> ''"
        which = (reading.slide_id, reading.model_id)
        count = int(self.rows(f"SELECT count(*) AS n {chosen}", which)[0]["n"])
        first = self.rows(f"SELECT first_look {chosen} ORDER BY id LIMIT 1", which)
        last = self.rows(f"SELECT first_look {chosen} ORDER BY id DESC LIMIT ?", (*which, REMEMBERED + POOL))
        looks = tuple(FirstLook.from_text(row["first_look"]) for row in reversed(last))
        return Before(count, FirstLook.from_text(first[0]["first_look"]).size if first else None, looks)

    def microscope(self, reading: Reading) -> Microscope | None:
        """What all used fields say together; None where they were not looked at together."""
        looks = self.first_looks(reading)
        return Microscope.of(looks) if looks else None

    def refusals(self, reading: Reading) -> dict[str, int]:
        """Refused fields by reason, most first; a field may have several, see `QualityLimits`."""
        query = "SELECT reason FROM fields WHERE slide_id = ? AND model_id = ? AND status = 'refused'"
        counts: Counter[str] = Counter()
        for row in self.rows(query, (reading.slide_id, reading.model_id)):
            named = {part.split()[0] for part in row["reason"].split(", ")} & _QUESTIONS
            counts.update(named or {"other"})
        return dict(counts.most_common())

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
