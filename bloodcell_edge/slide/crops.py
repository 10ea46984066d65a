"""Room for crops: the oldest go where there are more than a store may hold; the rows of their cells stay."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

from .rows import Stored

CROP_BUDGET_BYTES = 200_000_000
"""Default room for crops, some 40,000 cells at 5 kB: the file is read through at each start, and an SD card gives some
40 MB/s. Beyond it the oldest crops go, reviewed ones last; the rows of their cells stay for ever."""

_ROOM_AFTER_DROPPING = 0.95  # of the budget, so that not every commit has to drop


class CropRoom:
    """How much room the crops of a store may take, and take.

    Attributes:
        budget: bytes of crops to keep; 0 keeps none.
        used: bytes that they take; to be set to what `made_for` gave once that is committed.
    """

    def __init__(self, connection: sqlite3.Connection, budget: int) -> None:
        """Measure what is there."""
        self.budget, self._connection = budget, connection
        self.used = int(connection.execute("SELECT total(length(jpeg)) FROM crops").fetchone()[0])

    def made_for(self, stored: Sequence[Stored]) -> tuple[int, int]:
        """Drop crops inside the transaction that stored some fields, until the budget holds.

        Returns:
            The bytes that are then used, and how many crops were dropped.
        """
        cells = (cell for one in stored if not one.again for cell in one.field.cells)
        new = sum(len(cell.crop) for cell in cells if cell.crop is not None)
        used = self.used + new
        if not new or used <= self.budget:  # without a new one nothing is dropped, however little room was given
            return used, 0
        dropped: list[tuple[int]] = []
        for cell_id, size in self._oldest():
            if used <= self.budget * _ROOM_AFTER_DROPPING:
                break
            dropped.append((cell_id,))
            used -= size
        self._connection.executemany("DELETE FROM crops WHERE cell_id = ?", dropped)
        return used, len(dropped)

    def _oldest(self) -> Iterator[tuple[int, int]]:
        """(cell_id, bytes) of every crop, those with a review last."""
        for row in self._connection.execute(
            "SELECT cell_id, length(jpeg) FROM crops "
            "ORDER BY EXISTS (SELECT 1 FROM reviews WHERE reviews.cell_id = crops.cell_id), cell_id"
        ):
            yield row[0], row[1]
