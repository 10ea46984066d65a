"""What the shipped backbone was trained on: a run that starts from it may not be judged on that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..errors import DataError
from ..model.choose import DEVICE_FILE, SHIPPED
from ..model.file import read_model_file
from ..model.seen import from_json
from .split import HELD_BACK, TRAIN, Member

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..progress import Reporter


def never_held_back(rows: Sequence[Member], hashes: NDArray[np.uint8], report: Reporter) -> list[Member]:
    """Move pictures that the shipped backbone has seen, whole groups of them, to the training side.

    A picture is known by its content, or as a near copy, flipped, or turned by quarters. Copies turned by other angles
    are not known again: for such sets (the Kaggle one, made of BCCD) there is ``--weights imagenet``.

    Args:
        rows: split.
        hashes: `all_hashes` of each picture, shape (n, 8, 16).
        report: told how many were moved.

    Raises:
        DataError: no picture of some class is left to be held back.
    """
    seen = from_json(read_model_file(SHIPPED / DEVICE_FILE).spec.seen)
    asked = zip(rows, hashes, strict=True)
    groups = {row.picture.group for row, one in asked if row.split != TRAIN and seen.holds(row.sha256, one)}
    if not groups:
        return list(rows)
    moved = [replace(row, split=TRAIN) if row.picture.group in groups else row for row in rows]
    before, after = (sum(row.split != TRAIN for row in some) for some in (rows, moved))
    report.say(f"{before - after} of {before} pictures not held back: the shipped backbone was trained on them")
    missing = {row.picture.label for row in rows} - {row.picture.label for row in moved if row.split == HELD_BACK}
    if missing:
        message = (
            f"--weights blood: nothing of {', '.join(sorted(map(str, missing)))} is left to be held back, the shipped "
            "backbone was trained on these pictures; add others, or give --weights imagenet"
        )
        raise DataError(message)
    return moved
