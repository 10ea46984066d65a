"""Every class's cells to look at: crops out of a slide's store, and what persons said of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from html import escape

from ..records import REASONS, UNIDENTIFIED
from .html import data_uri, paragraph, section, table
from .read import Read

GALLERY = 60
"""Crops of a class that a report shows; a page of 5 classes then has some 2 MB."""


def galleries(part: Read, most: int, level: int) -> Iterator[str]:
    """The part of a report that shows them, a heading a class.

    Args:
        part: what one model made of the slide.
        most: crops of a class to show.
        level: of the headings.
    """
    yield paragraph(f"Each with its score and its number in the store: at most {most} of a class, least certain first.")
    yield _reviews(part)
    numbers = {row["label"]: row for row in part.cells(
        "cells.label, count(*) AS n, count(jpeg) AS kept", where="counted = 1", rest="GROUP BY 1"
    )}  # fmt: skip
    for label in dict.fromkeys((*part.spec.labels, UNIDENTIFIED, *sorted(numbers))):
        if label in numbers:
            title = f"{label}: {numbers[label]['n']}"
            yield section(title, _gallery(part, numbers[label], most), level=level)


def _reviews(part: Read) -> str:
    """What persons said of cells; the count above does not move by it."""
    found = part.cells(
        "cells.label, reviews.label AS said, reviewer, count(*) AS n",
        where="reviews.id IS NOT NULL",
        rest="GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
    )
    if not found:
        return ""
    rows = [(row["label"], row["said"], row["reviewer"], row["n"]) for row in found]
    caption = "Cells that a person looked at. The differential counts what the model said."
    return table(caption, ("Model", "Person", "Who", "Cells"), rows, kind="words")


def _gallery(part: Read, numbers: sqlite3.Row, most: int) -> str:
    shown = part.cells(
        "cells.*, path, jpeg, reviews.label AS said",
        where="counted = 1 AND cells.label = ? AND jpeg IS NOT NULL",
        rest="ORDER BY score, cells.id LIMIT ?",
        values=(numbers["label"], most),
    )
    more, without = numbers["kept"] - len(shown), numbers["n"] - numbers["kept"]
    told = [f"And {more} more." if more else "", f"Without a crop in the store: {without}." if without else ""]
    cells = "\n".join(map(_crop, shown))
    return f'<div class="cells">\n{cells}\n</div>\n' * bool(shown) + "".join(map(paragraph, filter(None, told)))


def _crop(cell: sqlite3.Row) -> str:
    lines = [f"{100 * cell['score']:.0f} %, {cell['id']}"]
    if cell["label"] == UNIDENTIFIED:
        why = REASONS.get(cell["why"], cell["why"])
        lines.insert(0, why if cell["mark"] else f"{cell['top']}? {why}".strip())
    told = escape(f"{cell['label']}, score {cell['score']:.3f}, of {cell['path']}")
    said = f"<b>person: {escape(cell['said'])}</b>" if cell["said"] else ""
    kind = ("reviewed" if cell["said"] == cell["label"] else "reviewed changed") if said else "unseen"
    return (
        f'<figure class="{kind}">'
        f'<img src="{data_uri(cell["jpeg"], "jpeg")}" alt="{told}" title="{told}" loading="lazy">'
        f"<figcaption>{said}{'<br>'.join(map(escape, lines))}</figcaption></figure>"
    )
