"""What leaves a store: nothing is left out in silence, and crops are a folder that training takes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from store_writer import LABELS, cell, field, refused, sha256, spec

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.reading import read_each
from bloodcell_edge.errors import OutputExists, StoreError
from bloodcell_edge.records import UNIDENTIFIED
from bloodcell_edge.slide.export import CSV_COLUMNS, export_crops, export_csv, export_json
from bloodcell_edge.slide.store import Store

JPEG = cv2.imencode(".jpg", np.full((24, 32, 3), 200, np.uint8))[1].tobytes()


@pytest.fixture
def store(tmp_path):
    """Two slides: A with used, refused and empty fields, B with one cell that a person called otherwise."""
    with Store.open(tmp_path / "s.sqlite") as store:
        a, b = store.reading("A", spec(reject_threshold=0.5)), store.reading("B", spec(reject_threshold=0.5))
        store.add(a, field(1, "MONOCYTE", "NEUTROPHIL", crop=JPEG))
        store.add(a, refused(2, "blurred"))
        store.add(a, replace(field(3), cells=()))
        store.add(a, field(4, UNIDENTIFIED, crop=JPEG))
        store.add(a, replace(field(5), cells=(cell("MONOCYTE", counted=False, crop=JPEG), cell("EOSINOPHIL"))))
        store.event("lost", "camera:0 gives no frames", reading=a)
        store.add(b, field(6, "NEUTROPHIL", crop=JPEG))
        store.flush()
        store.review(store.cells(b)[0]["id"], "LYMPHOCYTE", reviewer="A. Person")
        yield store


def csv_rows(store, **options):
    stream = io.StringIO(newline="")
    number = export_csv(store, stream, **options)
    rows = list(csv.DictReader(io.StringIO(stream.getvalue(), newline="")))
    assert len(rows) == number
    return rows


def test_csv_has_a_row_for_each_cell_and_each_field_without(store):
    """Six cells and two fields without any make eight rows; each names slide, model, picture and status."""
    rows = csv_rows(store)

    assert tuple(rows[0]) == CSV_COLUMNS
    assert [(row["path"], row["status"], row["reason"], row["label"]) for row in rows] == [
        ("1.png", "used", "", "MONOCYTE"),
        ("1.png", "used", "", "NEUTROPHIL"),
        ("2.png", "refused", "blurred", ""),
        ("3.png", "used", "", ""),
        ("4.png", "used", "", UNIDENTIFIED),
        ("5.png", "used", "", "MONOCYTE"),
        ("5.png", "used", "", "EOSINOPHIL"),
        ("6.png", "used", "", "NEUTROPHIL"),
    ]
    assert [row["counted"] for row in rows[5:7]] == ["0", "1"]
    assert rows[7]["reviewed"] == "LYMPHOCYTE"
    assert {row["model_sha256"] for row in rows} == {"ab" * 32}


def test_csv_of_one_slide_is_that_slide(store):
    """Naming a slide leaves the others out; a slide that is not there is an error."""
    assert [row["slide"] for row in csv_rows(store, slide="B")] == ["B"]
    with pytest.raises(StoreError, match="no field of a slide 'C'; slides: B, A"):
        csv_rows(store, slide="C")


def test_json_has_a_differential_for_each_slide_and_model(store):
    """JSON says, for each reading, the differential with its denominator and codes, the model, and every field."""
    found = json.loads(json.dumps(export_json(store, cells=3), allow_nan=False))

    assert [reading["slide"] for reading in found["readings"]] == ["A", "B"]
    first = found["readings"][0]
    assert first["model"]["sha256"] == "ab" * 32
    assert first["model"]["intended_use"].startswith("Research use only")
    assert first["differential"]["identified"] == 3
    assert first["differential"]["sufficient"]
    assert first["differential"]["unidentified"]["n"] == 1
    assert first["differential"]["denominator"].startswith("identified cells of the labels EOSINOPHIL")
    assert first["differential"]["shares"]["NEUTROPHIL"]["related_code"]["code"] == "23761-0"
    assert [(item["path"], item["status"], len(item["cells"])) for item in first["fields"]] == [
        *(("1.png", "used", 2), ("2.png", "refused", 0), ("3.png", "used", 0), ("4.png", "used", 1)),
        ("5.png", "used", 2),
    ]
    assert first["fields"][0]["cells"][0]["box"] == [10, 20, 30, 40]
    assert [event["kind"] for event in found["events"]] == ["lost"]
    assert export_json(store, slide="B")["events"] == []


def test_crops_are_a_folder_that_training_takes(store, tmp_path):
    """The data reader finds each crop under its label, grouped by photograph, decodable; reviews win over the model."""
    written = export_crops(store, tmp_path / "crops")

    dataset = load_data(tmp_path / "crops")
    found = {(picture.label, picture.group) for picture in dataset.pictures}
    assert found == {
        ("MONOCYTE", sha256(1)[:16]),
        ("NEUTROPHIL", sha256(1)[:16]),
        ("LYMPHOCYTE", sha256(6)[:16]),
    }
    done, bad = read_each(dataset.pictures, lambda image: image.shape)
    assert [shape for _, shape in done] == [(24, 32, 3)] * 3
    assert not bad
    assert dict(written.by_label) == {"MONOCYTE": 1, "NEUTROPHIL": 1, "LYMPHOCYTE": 1}
    assert (written.unidentified, written.without_crop) == (1, 1)


def test_unidentified_crops_are_there_but_are_no_training_class(store, tmp_path):
    """Cells that nobody could name lie apart for sorting, and the data reader does not take them for anything."""
    export_crops(store, tmp_path / "crops")

    assert len(list((tmp_path / "crops" / UNIDENTIFIED).glob("*.jpg"))) == 1
    dataset = load_data(tmp_path / "crops")
    assert UNIDENTIFIED not in {picture.label for picture in (*dataset.pictures, *dataset.unknown)}


def test_only_reviewed_crops_where_asked(store, tmp_path):
    """reviewed_only leaves out what no person looked at."""
    assert export_crops(store, tmp_path / "crops", reviewed_only=True).by_label == {"LYMPHOCYTE": 1}


def test_crops_of_the_last_model_only(store, tmp_path):
    """Where two models read a slide, a cell's crop is exported once, under the later model's label."""
    later = store.reading("B", spec(sha256="cd" * 32))
    store.add(later, field(6, "EOSINOPHIL", crop=JPEG))
    store.flush()

    assert export_crops(store, tmp_path / "crops", slide="B").by_label == {"EOSINOPHIL": 1}


def test_crops_do_not_land_among_other_files(store, tmp_path):
    """A folder with something in it is left alone without force; an empty one is fine."""
    folder = tmp_path / "crops"
    folder.mkdir()
    export_crops(store, folder)
    with pytest.raises(OutputExists, match="exists already"):
        export_crops(store, folder)
    assert export_crops(store, folder, force=True).by_label


def test_no_crops_is_an_error_that_says_why(tmp_path):
    """A store whose crops were not kept says so instead of making an empty folder."""
    with Store.open(tmp_path / "s.sqlite", crop_budget=0) as store:
        store.add(store.reading("A", spec()), field(1, "MONOCYTE", crop=JPEG))
        store.flush()
        with pytest.raises(StoreError, match="1 cells have none"):
            export_crops(store, tmp_path / "crops")
    assert not (tmp_path / "crops" / "labels.csv").exists()


def test_the_labels_of_these_tests_are_the_missions(store):
    """The made-up model has the classes that the data reader looks for."""
    assert store.spec(store.readings("A")[0]).labels == LABELS


def test_a_csv_runs_nothing_in_a_spreadsheet(tmp_path):
    """Names of slides and files that look like formulas are text."""
    with Store.open(tmp_path / "s.sqlite") as to:
        reading = to.reading("=cmd|' /C calc'!A0", spec())
        to.add(reading, replace(field(1, "MONOCYTE"), path="-1+1.png"))
        to.flush()
        out = io.StringIO()
        export_csv(to, out)
    (row,) = csv.DictReader(io.StringIO(out.getvalue()))
    assert row["slide"] == "'=cmd|' /C calc'!A0"
    assert row["path"] == "'-1+1.png"
