"""A slide's differential as one HTML file: counts with intervals, refused fields, and every class's cells to look at.

A report is of one slide; where several models read it, each has its part. It says what the store holds at one moment,
also while `bce run` goes on writing. Its frame is `html.page`.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

from ..errors import StoreError
from ..records import UNIDENTIFIED
from ..slide.differential import LOINC, Differential, Share
from ..slide.reader import SOURCE, TARGET, Reader
from ..text import interval, percent, utc
from .gallery import GALLERY, galleries
from .html import DRAWN, Tile, page, paragraph, section, share, span, table, tiles, warning
from .read import Read

DRAWN_MODEL = "This model has learnt from drawn pictures: its answers test the software and say nothing about blood."
"""What stands at the top where the model never saw a photograph."""

_DRAWN_FIELDS = "fake:"  # how the path of a field begins that `capture.fake` drew
_FIRST_REFUSED = 5  # fields of each reason that are named one by one
_FIRST_EVENTS = 20
_SHORT_HASH = 12
_LONGEST_NAME, _NAME_HASH = 40, 6  # characters of a file's name
_WHY_REFUSED = {
    "focus": "out of focus",
    "dark": "too dark",
    "bright": "too bright",
    "cast": "colour cast",
    "empty": "nothing stained in it",
    "repeated": "an earlier field, again",
    "colour": "no colour",
    "swapped": "red and blue look exchanged",
    "negative": "looks like a negative",
}
_EVENTS = {
    "lost": "the camera or folder gave nothing more",
    "back": "it came back",
    "stale": "the camera gave only old pictures",
    "setting": "the camera does not do what was asked",
    "unreadable": "a file that is no picture",
    "left out": "files, folders, pages or impossible times",
    "again": "a picture that was there already, so not counted again",
    "ended": "a video stopped before its end",
    "given up": "the camera did not come back in time",
    "microscope": "a field does not fit the others of its slide",
    "full": "the disk was full, or has room again",
    "rule": "the slide goes on by the rule it was begun with",
    "crops": "room for crops ran out: the oldest were dropped",
    "salvage": "the store was damaged, and what could be read was saved",
}
_NUMBER = re.compile(r" [-+.\deinf]+ \(limit [^)]*\)")  # of `quality.Quality.reason`

_STYLE = """\
article { margin-top: 4rem; border-top: 5px solid var(--accent); }
article > h2 { margin-top: 1rem; border: 0; overflow-wrap: anywhere; }
.cells { display: grid; grid-template-columns: repeat(auto-fill, minmax(6rem, 1fr)); gap: .75rem .6rem;
  margin: .75rem 0 1.5rem; }
.cells figure { margin: 0; }
.cells img { width: 100%; aspect-ratio: 1; object-fit: contain; }
.cells figcaption { margin: .15rem 0 0; font-size: .75rem; line-height: 1.3; overflow-wrap: anywhere; }
.cells b { display: block; color: var(--ink); }
.cells .reviewed img { border: 3px solid var(--accent); }
.cells .changed img { border-color: var(--warn-rule); }
@media print {
  article { break-before: page; margin-top: 0; }
  .tiles { grid-template-columns: repeat(3, 1fr); }
  .cells { grid-template-columns: repeat(auto-fill, minmax(2cm, 1fr)); gap: .2cm; break-before: avoid; }
  .cells img { max-width: 100%; }
  .cells figcaption { font-size: 6.5pt; }
}"""


def slide_report(
    store: Reader, slide: str, *, cells: int | None = None, gallery: int = GALLERY, made_at: datetime | None = None
) -> str:
    """Put together everything a store says of a slide.

    Args:
        store: to read.
        slide: its name.
        cells: identified cells below which no percentage is stated; None for each slide's own.
        gallery: crops of a class to show, at most.
        made_at: when the report was made, aware; None for now.

    Returns:
        One HTML document that needs no other file.

    Raises:
        StoreError: no such slide, or the store cannot be read.
    """
    made_at = made_at or datetime.now(timezone.utc)
    with store.one_moment():
        parts = [
            Read(store, one, store.spec(one), store.differential(one, cells=cells), store.fields(one))
            for one in store.readings(slide)
        ]
        sections = [_models_side_by_side(parts)] if len(parts) > 1 else []
        for part in parts:
            sections += [_article(part, gallery, made_at)] if len(parts) > 1 else _sections(part, gallery, made_at)
        sections.append(_events(store, parts[0].reading.slide_id))
    return page(f"Slide {slide}", filter(None, sections), notice=_notice(parts), style=_STYLE)


def _notice(parts: Sequence[Read]) -> str:
    """What stands at the top where the model or the fields were never on a slide."""
    if any(field["path"].startswith(_DRAWN_FIELDS) for part in parts for field in part.fields):
        return DRAWN
    return DRAWN_MODEL if any(part.spec.training.get("drawn") for part in parts) else ""


def latest_slide(store: Reader) -> tuple[str, int]:
    """The slide that the last field went to, and how many slides have fields.

    Raises:
        StoreError: there is no field yet.
    """
    found = store.rows("SELECT name FROM fields JOIN slides ON slides.id = slide_id ORDER BY fields.id DESC LIMIT 1")
    if not found:
        message = f"{store.path}: no field in it yet; bce run adds some"
        raise StoreError(message)
    return found[0]["name"], len({reading.slide_id for reading in store.readings()})


def report_file(store: Path, slide: str) -> Path:
    """Where a slide's report belongs: beside its store, named after both; no two slides share a file."""
    plain = re.sub(r"[^\w.-]+", "-", slide)[:_LONGEST_NAME]
    mark = "" if plain == slide else f"-{hashlib.sha256(slide.encode()).hexdigest()[:_NAME_HASH]}"
    return store.with_name(f"{store.stem}.{plain}{mark}.html")


def _models_side_by_side(parts: Sequence[Read]) -> str:
    rows = [
        (_named(one), len(one.fields) - len(one.refused), one.count.identified, one.count.unidentified,
         "enough" if one.count.sufficient else "insufficient")
        for one in parts
    ]  # fmt: skip
    head = ("Model", "Fields used", "Identified", "Unidentified", f"{parts[0].count.cells} asked for")
    text = "Each has its own count below; cells are never added up over models."
    return section(f"{len(parts)} models read this slide", paragraph(text), table("In the order used", head, rows))


def _named(part: Read) -> str:
    return f"{part.spec.name} {part.spec.target} {part.reading.model_sha256[:_SHORT_HASH]}"


def _article(part: Read, gallery: int, made_at: datetime) -> str:
    body = "\n".join(_sections(part, gallery, made_at, level=3))
    return f"<article>\n<h2>Model {escape(_named(part))}</h2>\n{body}\n</article>"


def _sections(part: Read, gallery: int, made_at: datetime, *, level: int = 2) -> list[str]:
    return [
        _identity(part, made_at),
        _headlines(part),
        section("Differential", *_differential(part), level=level),
        section("Fields", *_fields(part), level=level),
        section(part.count.unit.capitalize(), *galleries(part, gallery, level + 1), level=level),
        section("Model", _model(part), level=level),
    ]


# Numbers as people read them.


def _percent(found: Share | None) -> str | None:
    return percent(found.percent, whole=100) if found else None


def _interval(found: Share | None) -> str | None:
    return f"{interval((found.low, found.high), between='–', whole=100)} %" if found else None


def _moment(text: str) -> str:
    """A time of the store, to the second; UTC, as the text around it must say."""
    return f"{text[:10]} {text[11:19]}"


# The count.


def _headlines(part: Read) -> str:
    count, n_fields, n_refused = part.count, len(part.fields), len(part.refused)
    asked = f"{count.cells} asked for" if count.sufficient else f"Insufficient {count.unit}: {count.cells} asked for"
    unclear = _percent(count.unidentified_share) if count.sufficient else str(count.unidentified)
    limits = _interval(count.unidentified_share) or "–"
    return tiles(
        [
            Tile(f"Identified {count.unit}", str(count.identified), asked, bad=not count.sufficient),
            Tile("Unidentified", unclear, f"{count.unidentified} of {part.total} counted; 95 % interval {limits}"),
            Tile("Not evaluated", str(count.not_evaluated), "cut by the edge; in no count"),
            Tile("Fields used", str(n_fields - n_refused), f"of {n_fields} taken in; {n_refused} refused"),
        ]
    )


def _differential(part: Read) -> Iterator[str]:
    count = part.count
    if part.spec.view != "cell":
        yield warning("This model answers once for a whole picture: these are counts of pictures, not of cells.")
    if not count.sufficient:
        yield warning(
            f"Insufficient {count.unit}: {count.identified} identified, {count.cells} asked for. No percentage is "
            "stated; the intervals say what so few allow."
        )
    yield table(
        "Counted by the model, with 95 % intervals",
        ("Class", "Count", "share", "interval", "share", "interval", "Related LOINC"),
        [*(_class_row(count, label) for label in count.labels), *_sum_rows(part)],
        over=[("", 2), ("As counted", 2), ("Corrected", 2), ("", 1)],
    )
    yield paragraph(
        f"Shares are of the {count.identified} identified {count.unit}; that of {UNIDENTIFIED} is of all {part.total} "
        "counted. As counted: exact (Clopper-Pearson) intervals, for sampling error only; they know nothing of "
        "the model's mistakes."
    )
    yield from map(paragraph, _explained(count))
    if count.earlier_rule:
        yield warning(f"By an earlier rule: {count.earlier_rule}.")


def _class_row(count: Differential, label: str) -> tuple[object, ...]:
    corrected = count.correction.shares[label] if count.correction else None
    stated = [_percent(one) if count.sufficient else None for one in (count.shares[label], corrected)]
    code = LOINC[label].code if label in LOINC else None
    return label, count.counts[label], stated[0], _interval(count.shares[label]), stated[1], _interval(corrected), code


def _sum_rows(part: Read) -> Iterator[tuple[object, ...]]:
    count, unclear = part.count, part.count.unidentified_share
    yield "Identified", count.identified, "100 %" if count.sufficient else None, None, None, None, None
    stated = _percent(unclear) if count.sufficient else None
    yield UNIDENTIFIED, count.unidentified, stated, _interval(unclear), None, None, LOINC[UNIDENTIFIED].code


def _explained(count: Differential) -> Iterator[str]:
    if count.correction is None:
        yield f"No corrected share: {count.why_uncorrected}."
    else:
        tests = ", ".join(f"{n} {label}" for label, n in count.correction.test_cells.items())
        groups = count.correction.test_groups
        yield (
            f"Corrected: the most likely true shares, the model's own mistakes taken out by what it said of {tests} "
            f"test pictures{f' of {groups} photographs' if groups else ''}; the wider intervals hold the luck of that "
            f"test too. Of {count.correction.n} {count.unit}, unidentified ones by their top class."
        )
        yield f"{count.correction.weighing.capitalize()}."
    related = "; ".join(f"{LOINC[label].code} {LOINC[label].display}" for label in (*count.labels, UNIDENTIFIED)
                        if label in LOINC)  # fmt: skip
    yield f"The LOINC terms are related, not equal: they are for a person's count of all leukocytes. {related}."


# The fields.


def _fields(part: Read) -> Iterator[str]:
    used, refused = len(part.fields) - len(part.refused), part.refused
    bare = sum(not field["n_cells"] for field in part.fields) - len(refused)
    (uncounted,) = part.cells("count(*) AS n", where="counted = 0")
    again = uncounted["n"] - part.count.not_evaluated
    yield paragraph(
        f"{used} of {len(part.fields)} fields were used, {len(refused)} refused."
        f"{f' In {bare} of the used ones no white cell was found.' if bare else ''}"
    )
    if again:
        yield paragraph(f"Cells met again, counted in an earlier field only: {again}.")
    if part.count.not_evaluated:
        yield paragraph(
            f"Not evaluated: {part.count.not_evaluated} cut by the edge, of which too little is seen. Where fields "
            "overlap, a cell is counted in the first that shows enough of it."
        )
    if not refused:
        return
    by_reason: dict[str, list[sqlite3.Row]] = {}
    for field in refused:
        by_reason.setdefault(_NUMBER.sub("", field["reason"]), []).append(field)
    reasons = sorted(by_reason, key=lambda reason: -len(by_reason[reason]))
    rows = [(reason, _in_words(reason, _WHY_REFUSED), len(by_reason[reason])) for reason in reasons]
    yield table("Refused fields by reason", ("Reason", "In words", "Fields"), rows, kind="words")
    first = [field for reason in reasons for field in by_reason[reason][:_FIRST_REFUSED]]
    left = len(refused) - len(first)
    yield table(
        f"The first {_FIRST_REFUSED} of each reason{f'; {left} more are in the store' if left else ''}",
        ("Field", "Reason", "Other numbers", "Taken (UTC)"),
        [(one["path"], one["reason"], _others(one), _moment(one["taken_at"])) for one in first],
        kind="words",
    )


def _in_words(reason: str, words: Mapping[str, str]) -> str:
    return ", ".join(words[name] for name in reason.split(", ") if name in words) or "–"


def _others(field: sqlite3.Row) -> str:
    """The numbers of the gate that the reason does not name."""
    numbers = json.loads(field["quality"])
    return ", ".join(f"{name} {number:.3g}" for name, number in numbers.items() if name not in field["reason"]) or "–"


# What happened, and by which model.


def _events(store: Reader, slide_id: int) -> str:
    events = [
        row for row in store.events() if row["slide_id"] in (slide_id, None) and row["kind"] not in (SOURCE, TARGET)
    ]
    if not events:
        return ""
    numbers = Counter(row["kind"] for row in events)
    rows = [(kind, _EVENTS.get(kind, "–"), n) for kind, n in numbers.most_common()]
    told = [row for row in events if row["kind"] != "again"]
    last = told[-_FIRST_EVENTS:]
    left = len(told) - len(last)
    parts = [table("Events of this slide and of the whole store", ("Event", "In words", "Times"), rows, kind="words")]
    if last:
        caption = f"The last {len(last)}; {left} before them are in the store" if left else "One by one"
        lines = [(_moment(row["at"]), row["kind"], row["message"]) for row in last]
        parts.append(table(caption, ("When (UTC)", "Event", "What"), lines, kind="words"))
    return section("Events", *parts)


def _identity(part: Read, made_at: datetime) -> str:
    """What a printed first page must say, so that nobody takes it for another slide or another model."""
    spec = part.spec
    taken = [field["taken_at"] for field in part.fields]
    rows = [
        ("Slide", part.reading.slide),
        ("Taken", f"{_moment(min(taken))} to {_moment(max(taken))} UTC"),
        ("Model", f"{spec.name}, {spec.target}"),
        ("Its SHA-256", part.reading.model_sha256),
        ("Reject threshold", f"{spec.reject_threshold:.3f}" if spec.reject_threshold is not None else "none fitted"),
        ("Red cells", _ruler(part)),
        ("Store", str(part.store.path.absolute())),
        ("Report made", f"{_moment(utc(made_at))} UTC"),
    ]
    return table("What was counted, by what", ("What", "Value"), rows, kind="words")


def _ruler(part: Read) -> str | None:
    """The slide's scale, by pictures of each size."""
    found = part.store.microscope(part.reading)
    if found is None or not found.rulers:
        return None
    return "; ".join(
        f"{ruler.red_cell_px:.1f} px, the median of {ruler.fields} fields of {size[1]} x {size[0]} "
        f"(single ones spread by {ruler.spread:.2f})"
        for size, ruler in found.rulers.items()
    )


def _model(part: Read) -> str:
    spec = part.spec
    (row,) = part.store.rows("SELECT file, added_at FROM models WHERE id = ?", (part.reading.model_id,))
    rows = [
        ("File", row["file"] or None),
        ("First used with this store", f"{_moment(row['added_at'])} UTC"),
        ("Classes", ", ".join(spec.labels)),
        ("Takes", "each cell that was located" if spec.view == "cell" else "the whole picture"),
        ("Learnt from", _taught(spec.training)),
        ("Accuracy, held back", _accuracy(spec.figures)),
        ("Made with", f"bloodcell_edge {spec.bce_version}" if spec.bce_version else None),
        *(("Attribution", line) for line in spec.attribution),
    ]
    return table("Model details", ("What", "Value"), rows, kind="words")


def _taught(training: Mapping[str, Any]) -> str | None:
    if not training:
        return None
    return "pictures drawn by a program" if training.get("drawn") else "photographs"


def _accuracy(figures: Mapping[str, Any]) -> str | None:
    if "accuracy" not in figures:
        return None
    limits = span(figures.get("accuracy_interval"))
    told = f", 95 % interval {limits}" if limits else ""
    return f"{share(figures['accuracy'])} of {figures.get('n', '?')} pictures{told}, before conversion"
