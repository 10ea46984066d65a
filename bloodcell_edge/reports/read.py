"""What one model made of a slide: the part of a store that the parts of a slide's report tell of."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..model.spec import ModelSpec
from ..slide.differential import Differential
from ..slide.reader import Reader, Reading


@dataclass(frozen=True)
class Read:
    """What one model made of the slide."""

    store: Reader
    reading: Reading
    spec: ModelSpec
    count: Differential
    fields: Sequence[sqlite3.Row]

    @property
    def refused(self) -> list[sqlite3.Row]:
        """The fields that were not counted."""
        return [field for field in self.fields if field["status"] == "refused"]

    @property
    def total(self) -> int:
        """Counted cells, identified or not."""
        return self.count.identified + self.count.unidentified

    def cells(self, what: str, *, where: str = "TRUE", rest: str = "", values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """Columns of the slide's cells under this model, with fields, crops and the last review of each."""
        return self.store.rows(
            f"SELECT {what} FROM cells JOIN fields ON fields.id = field_id LEFT JOIN crops ON crops.cell_id = cells.id "
            "LEFT JOIN reviews ON reviews.id = (SELECT max(id) FROM reviews WHERE cell_id = cells.id) "
            f"WHERE slide_id = ? AND model_id = ? AND {where} {rest}",
            (self.reading.slide_id, self.reading.model_id, *values),
        )
