"""A slide's report: the store's numbers, nothing unescaped, nothing to fetch, nothing left out in silence."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from datetime import datetime, timezone

import cv2
import numpy as np
import pytest
from html_page import Page
from store_writer import LABELS, START, cell, field, refused, spec

from bloodcell_edge.errors import StoreError
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.locate import locate
from bloodcell_edge.model.spec import INTENDED_USE
from bloodcell_edge.records import UNIDENTIFIED
from bloodcell_edge.reports.html import DRAWN
from bloodcell_edge.reports.slide import DRAWN_MODEL, latest_slide, report_file, slide_report
from bloodcell_edge.slide.differential import LOINC
from bloodcell_edge.slide.reader import Reader
from bloodcell_edge.slide.store import Store

HOSTILE = 'a"><script>alert(1)</script>&amp;$title'
CONFUSION = [[40, 1, 0, 4, 0], [0, 44, 3, 1, 0], [1, 5, 38, 2, 1], [3, 1, 2, 160, 0]]
FIGURES = {"confusion": CONFUSION, "n": 306, "n_groups": 120, "accuracy": 0.92, "accuracy_interval": [0.87, 0.95]}
MADE = datetime(2026, 2, 3, 4, 5, 6, tzinfo=timezone.utc)
SHA = "ab" * 32


def crops(number):
    """So many different JPEG files of cells that were drawn, and found."""
    found = []
    for seed in range(100):
        image = draw_field(seed, ("MONOCYTE", "NEUTROPHIL"), size=(240, 480)).image
        for box in locate(image).cells:
            window = image[box.y : box.y + box.height, box.x : box.x + box.width, ::-1]
            found.append(cv2.imencode(".jpg", np.ascontiguousarray(window))[1].tobytes())
        if len(found) >= number:
            return found[:number]
    raise AssertionError


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.sqlite") as store:
        yield store


def fill(store, slide="slide 1", *, n=5, of=None, **changes):
    """n fields with a cell of each class and one without a name."""
    reading = store.reading(slide, of or spec(figures=FIGURES, reject_threshold=0.5, **changes), file="m.tflite")
    for number in range(n):
        store.add(reading, field(number, *LABELS, UNIDENTIFIED))
    store.flush()
    return reading


def read(store, slide="slide 1", **options):
    store.flush()
    return Page(slide_report(store, slide, made_at=MADE, **options))


def shown(page):
    """The pictures in the page, as files, and their alternative texts."""
    return [(base64.b64decode(one["src"].partition(",")[2]), one["alt"]) for one in page.named("img")]


# The count


def test_the_table_is_the_stores_differential(store):
    """Count, share, exact interval, corrected share with its interval, and related code are the store's, by class."""
    reading = fill(store)
    found = store.differential(reading, cells=20)
    rows = read(store, cells=20).table("Counted by the model")

    for label in LABELS:
        share, corrected = found.shares[label], found.correction.shares[label]
        assert rows[label] == [
            "5", "25.0 %", f"{share.low:.1f}–{share.high:.1f} %",
            f"{corrected.percent:.1f} %", f"{corrected.low:.1f}–{corrected.high:.1f} %", LOINC[label].code,
        ]  # fmt: skip
    assert rows["Identified"][:2] == ["20", "100 %"]
    assert rows[UNIDENTIFIED][:3] == ["5", "20.0 %", "6.8–40.7 %"]  # scipy.stats.binomtest(5, 25).proportion_ci()


def test_too_few_cells_are_said_plainly_and_get_no_percentage(store):
    """Below the cells asked for the page says insufficient with both numbers; only intervals stay in the table."""
    fill(store)
    page = read(store, cells=21)

    assert "Insufficient cells: 20 identified, 21 asked for" in page.text
    rows = page.table("Counted by the model")
    assert [rows[label][1] for label in (*LABELS, UNIDENTIFIED)] == ["–"] * 5
    assert [rows[label][3] for label in LABELS] == ["–"] * 4
    assert all("%" in rows[label][2] for label in (*LABELS, UNIDENTIFIED))
    assert "Insufficient" not in read(store, cells=20).text


def test_a_model_without_confusion_matrix_has_no_corrected_share(store):
    """Where nothing can be corrected the columns are dashes and the reason is said."""
    fill(store, of=spec())
    page = read(store, cells=1)

    assert page.table("Counted by the model")["MONOCYTE"][3:5] == ["–", "–"]
    assert "No corrected share: the model brings no confusion matrix." in page.text


def test_pictures_are_not_called_cells(store):
    """A whole-frame model's count is said to be of pictures."""
    reading = store.reading("slide 1", spec(view="frame"))
    store.add(reading, replace(field(1), cells=(cell("MONOCYTE", box=None),)))
    text = read(store).text

    assert "counts of pictures, not of cells" in text
    assert "Insufficient pictures: 1 identified, 200 asked for" in text


def test_the_page_says_what_counted(store):
    """Slide, times, model, hash, target, threshold and store are there, and what the page is for."""
    fill(store)
    page = read(store)
    rows = page.table("What was counted")

    assert rows["Slide"] == ["slide 1"]
    assert rows["Taken"] == ["2026-01-01 00:00:00 to 2026-01-01 00:00:04 UTC"]
    assert rows["Model"] == ["made-up, int8"]
    assert rows["Its SHA-256"] == [SHA]
    assert rows["Reject threshold"] == ["0.500"]
    assert rows["Store"] == [str(store.path)]
    assert rows["Report made"] == ["2026-02-03 04:05:06 UTC"]
    assert page.table("Model details")["Accuracy, held back"] == [
        "92.0 % of 306 pictures, 95 % interval 87.0–95.0 %, before conversion"
    ]
    assert INTENDED_USE in page.text


def test_a_model_of_drawn_pictures_is_called_so(store):
    """The sentence stands above the first number, and in no other report."""
    fill(store, "drawn", training={"drawn": True})
    fill(store, "real", of=spec(sha256="cd" * 32))

    text = read(store, "drawn").text
    assert 0 < text.index(DRAWN_MODEL) < text.index("Identified cells")
    assert DRAWN_MODEL not in read(store, "real").text


def test_drawn_fields_are_called_drawn(store):
    """A slide that the fake camera drew says so, whatever the model has seen."""
    store.add(store.reading("slide 1", spec()), replace(field(1, "MONOCYTE"), path="fake:smear?seed=1 frame 1"))
    text = read(store).text

    assert 0 < text.index(DRAWN) < text.index("Identified cells")


def test_each_model_has_its_own_count(store):
    """Where two models read a slide, each has a part with its numbers and hash, and nothing is added up."""
    fill(store, n=3)
    other = store.reading("slide 1", spec(sha256="cd" * 32))
    store.add(other, field(1, "MONOCYTE"))
    page = read(store)

    assert len(page.named("article")) == 2
    assert page.table("In the order used")[f"made-up int8 {SHA[:12]}"] == ["3", "12", "3", "insufficient"]
    assert page.table("In the order used")["made-up int8 cdcdcdcdcdcd"] == ["1", "1", "0", "insufficient"]
    assert page.text.count("Insufficient cells: 12 identified") == 1
    assert page.text.count("Insufficient cells: 1 identified") == 1


# Fields and events


def test_refused_fields_are_counted_by_reason_and_named(store):
    """Reasons are grouped without their numbers; the first fields of each stand with path, numbers and limits."""
    reading = fill(store)
    for number in range(10, 18):
        store.add(reading, refused(number, f"focus 0.{number} (limit 3.2)"))
    dark = replace(refused(30, "focus 1e-05 (limit 3.2), dark 0.1 (limit 0.25)"), quality={"focus": 0.1, "cast": 1.5})
    store.add(reading, dark)
    page = read(store)

    assert "5 of 14 fields were used, 9 refused." in page.text
    assert page.table("Refused fields by reason")["focus"] == ["out of focus", "8"]
    assert page.table("Refused fields by reason")["focus, dark"] == ["out of focus, too dark", "1"]
    rows = page.table("The first 5 of each reason; 3 more are in the store")
    assert rows["10.png"] == ["focus 0.10 (limit 3.2)", "–", "2026-01-01 00:00:00"]
    assert rows["30.png"][:2] == ["focus 1e-05 (limit 3.2), dark 0.1 (limit 0.25)", "cast 1.5"]
    assert "15.png" not in rows


def test_a_slide_of_refused_fields_alone_has_a_report(store):
    """Nothing counted is a report, too: no cell, no share, the reasons."""
    store.add(store.reading("slide 1", spec()), refused(1))
    page = read(store)

    assert "Insufficient cells: 0 identified, 200 asked for" in page.text
    assert page.table("Refused fields by reason")["blurred"] == ["–", "1"]
    assert not page.named("img")


def test_events_of_the_slide_and_of_the_store_are_told(store):
    """Events are counted by kind and told one by one, those of other slides left out."""
    reading, other = fill(store), fill(store, "slide 2")
    store.event("lost", "camera:0 is gone", reading=reading, at=START)
    store.event("lost", "camera:1 is gone", reading=other)
    store.event("crops", "the oldest are dropped")
    store.add(reading, field(1, "MONOCYTE"))
    page = read(store)

    rows = page.table("Events of this slide")
    assert {kind: rows[kind][-1] for kind in ("lost", "crops", "again")} == {"lost": "1", "crops": "1", "again": "1"}
    assert page.table("One by one")["2026-01-01 00:00:00"] == ["lost", "camera:0 is gone"]
    assert "camera:1" not in page.text


def test_no_events_no_section(store):
    """A quiet slide has no heading for events."""
    fill(store)
    assert "Events" not in read(store).text


# The cells


def test_each_class_shows_its_crops_least_sure_first(store):
    """The pictures are those of the store byte for byte, of their class, by rising score; no uncounted ones."""
    first, second, third, again, edge = crops(5)
    reading = store.reading("slide 1", spec())
    sure = replace(cell("MONOCYTE", crop=first), score=0.9)
    store.add(reading, replace(field(1), cells=(sure, cell("MONOCYTE", crop=second), cell("NEUTROPHIL", crop=third))))
    store.add(reading, replace(field(2), cells=(cell("MONOCYTE", crop=again, counted=False),)))
    store.add(reading, replace(field(3), cells=(cell(UNIDENTIFIED, crop=edge, mark="edge"), cell(UNIDENTIFIED))))
    page = read(store)

    assert shown(page) == [
        (second, "MONOCYTE, score 0.700, of 1.png"),
        (first, "MONOCYTE, score 0.900, of 1.png"),
        (third, "NEUTROPHIL, score 0.700, of 1.png"),
        (edge, "UNIDENTIFIED, score 0.700, of 3.png"),
    ]
    assert [heading in page.text for heading in ("MONOCYTE: 2", "NEUTROPHIL: 1", "UNIDENTIFIED: 2")] == [True] * 3
    assert "cut by the edge" in page.text
    assert "Without a crop in the store: 1." in page.text
    assert "Cells met again, counted in an earlier field only: 1." in page.text
    assert "Not evaluated: " not in page.text


def test_cells_cut_by_the_edge_are_not_called_met_again(store):
    """They are in no count, and their number stands beside it."""
    cut = replace(cell(UNIDENTIFIED, mark="edge"), counted=False)
    store.add(store.reading("slide 1", spec()), replace(field(1), cells=(cell("MONOCYTE"), cut, cut)))
    page = read(store)

    assert "Not evaluated: 2 cut by the edge" in page.text
    assert "cut by the edge; in no count" in page.text
    assert "met again" not in page.text
    assert "UNIDENTIFIED: " not in page.text


def test_a_slide_of_an_earlier_rule_says_so(store):
    """Its cut cells are among the unidentified ones; that is said under the count, and under no other."""
    fill(store)
    assert "earlier rule" not in read(store).text
    store._connection.execute("UPDATE fields SET rule = 1")
    assert "By an earlier rule: cut cells counted as UNIDENTIFIED (before version 2 of the store)." in read(store).text


def test_an_unidentified_cell_has_its_best_class_with_a_question_mark(store):
    """Below the reject threshold the class that was nearest stands under the picture."""
    store.add(store.reading("slide 1", spec()), field(1, UNIDENTIFIED, crop=crops(1)[0]))
    assert "NEUTROPHIL?" in read(store).text


def test_a_gallery_is_bounded_and_says_how_many_more(store):
    """No more pictures of a class than asked for; the rest is a number."""
    reading = store.reading("slide 1", spec())
    store.add(reading, field(1, *["MONOCYTE"] * 9, crop=crops(1)[0]))
    page = read(store, gallery=4)

    assert len(page.named("img")) == 4
    assert "And 5 more." in page.text


def test_what_a_person_said_is_shown_and_counts_nothing(store):
    """The last review of a cell stands under it and in a table; the differential stays the model's."""
    reading = store.reading("slide 1", spec())
    store.add(reading, field(1, "MONOCYTE", "MONOCYTE", crop=crops(1)[0]))
    store.flush()
    one, two = store.cells(reading)
    store.review(one["id"], "NEUTROPHIL", reviewer="A")
    store.review(one["id"], "BASOPHIL", reviewer="A <b>")
    store.review(two["id"], "MONOCYTE", reviewer="A <b>")
    page = read(store, cells=1)

    assert page.text.count("person: BASOPHIL") == page.text.count("person: MONOCYTE") == 1
    assert "person: NEUTROPHIL" not in page.text
    assert [one["class"] for one in page.named("figure")] == ["reviewed changed", "reviewed"]
    assert ["MONOCYTE", "BASOPHIL", "A <b>", "1"] in next(
        rows for caption, rows in page.tables.items() if caption.startswith("Cells that a person")
    )
    assert page.table("Counted by the model")["MONOCYTE"][0] == "2"


# The page


def test_the_page_needs_no_other_file(store):
    """No link, script or address: pictures are inside."""
    store.add(store.reading("slide 1", spec()), field(1, "MONOCYTE", crop=crops(1)[0]))
    store.flush()
    source = slide_report(store, "slide 1")
    page = Page(source)

    assert page.fetched()
    assert all(address.startswith("data:") for address in page.fetched())
    assert not {"a", "link", "script", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert not any(word in source for word in ("http://", "https://", "@import", "url("))


def test_hostile_names_stay_text(store):
    """Markup in the names of slides, models, files and marks makes no tag."""
    reading = store.reading(HOSTILE, replace(spec(), name=HOSTILE))
    bad = replace(field(1), path=HOSTILE, cells=(cell(UNIDENTIFIED, mark=HOSTILE, crop=crops(1)[0]),))
    store.add(reading, bad)
    store.add(reading, replace(refused(2, HOSTILE), path=HOSTILE, quality={HOSTILE: 1.0}))
    store.event(HOSTILE, HOSTILE, reading=reading)
    page = read(store, HOSTILE)

    assert not page.named("script")
    assert page.text.count(HOSTILE) >= 8


def test_tables_have_headers_that_a_screen_reader_announces(store):
    """Every header cell has a scope, every table a caption, every picture a text."""
    store.add(store.reading("slide 1", spec()), field(1, "MONOCYTE", crop=crops(1)[0]))
    page = read(store)

    assert {attributes.get("scope") for attributes in page.named("th")} == {"row", "col", "colgroup"}
    assert len(page.named("caption")) == len(page.named("table")) == len(page.tables)
    assert all(one["alt"] for one in page.named("img"))


def test_a_report_is_of_one_moment(tmp_path):
    """What a writer commits while a reader looks is not in what it reads until it looks again."""
    with Store.open(tmp_path / "s.sqlite") as store:
        reading = fill(store, n=1)
        with Reader.open(store.path) as reader:
            with reader.one_moment():
                assert len(reader.fields(reading)) == 1
                store.add(reading, field(9))
                store.flush()
                assert len(reader.fields(reading)) == 1
            assert len(reader.fields(reading)) == 2


def test_an_unknown_slide_is_one_line_with_the_names(store):
    """The error names the slides that are there."""
    fill(store)
    with pytest.raises(StoreError, match=r"no field of a slide 'other'; slides: slide 1$"):
        slide_report(store, "other")


def test_the_latest_slide_is_that_of_the_last_field(store):
    """Not the slide that was entered last, but the one worked on last."""
    with pytest.raises(StoreError, match="no field in it yet; bce run adds some"):
        latest_slide(store)
    first = fill(store)
    fill(store, "slide 2")
    assert latest_slide(store) == ("slide 2", 2)
    store.add(first, field(99))
    store.flush()
    assert latest_slide(store) == ("slide 1", 2)


def test_no_two_slides_share_a_file(tmp_path):
    """Names that a file system would not take become others, different ones for different slides."""
    names = ["plain", "a b", "a/b", "a-b", "a_b", "../up", "x" * 300, "x" * 301, "Präparat 3", " "]
    files = [report_file(tmp_path / "s.sqlite", name) for name in names]

    assert files[0].name == "s.plain.html"
    assert len({file.name for file in files}) == len(names)
    assert {file.parent for file in files} == {tmp_path}
    assert all(re.fullmatch(r"s\.[\w.-]+\.html", file.name) and len(file.name.encode()) < 200 for file in files)
