"""`bce export` and `bce report --store`, through the installed script, and the examples that read a store."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from store_writer import field, refused, spec

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.records import UNIDENTIFIED
from bloodcell_edge.slide.store import Store

JPEG = cv2.imencode(".jpg", np.full((24, 32, 3), 200, np.uint8))[1].tobytes()
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def path(tmp_path):
    """bloodcell.sqlite in the working folder: slide A with two cells and a refused field, slide "B 2" with one cell."""
    path = tmp_path / "bloodcell.sqlite"
    with Store.open(path) as store:
        a, b = store.reading("A", spec()), store.reading("B 2", spec())
        store.add(a, field(1, "MONOCYTE", UNIDENTIFIED, crop=JPEG))
        store.add(a, refused(2, "blurred"))
        store.add(b, field(3, "NEUTROPHIL", crop=JPEG))
        store.flush()
        store.review(store.cells(b)[0]["id"], "LYMPHOCYTE", reviewer="A. Person")
    return path


# bce export


def test_csv_goes_to_stdout_or_a_file(bce, path):
    """--csv prints all slides and nothing else on stdout; with a file it writes the same there and names it."""
    bare, named, written = bce("export", "--csv"), bce("export", "--csv", "-"), bce("export", "--csv", "out/cells.csv")

    assert [row["slide"] for row in csv.DictReader(io.StringIO(bare.stdout))] == ["A", "A", "A", "B 2"]
    assert bare.stderr == "slides: A, B 2\n"
    assert named.stdout == bare.stdout
    assert (written.stdout, written.stderr) == ("out/cells.csv\n", "slides: A, B 2\n4 rows\n")
    file = (path.parent / "out" / "cells.csv").read_bytes()
    assert list(csv.reader(io.StringIO(file.decode()))) == list(csv.reader(io.StringIO(bare.stdout)))


def test_one_slide_of_another_store(bce, path):
    """--store and --slide choose; an option may follow a bare --json."""
    path.rename(path.with_name("other.sqlite"))
    result = bce("export", "--json", "--store", "other.sqlite", "--slide", "B 2", "--cells", "1")

    (reading,) = json.loads(result.stdout)["readings"]
    assert reading["slide"] == "B 2"
    assert reading["differential"]["shares"]["NEUTROPHIL"]["percent"] == 100.0
    assert bce("export", "--store", "other.sqlite", "--slide", "A", "--json", "a.json").stdout == "a.json\n"
    assert json.loads((path.parent / "a.json").read_text())["readings"][0]["slide"] == "A"


def test_crops_are_ready_for_training(bce, path, tmp_path):
    """A folder per class that the data reader takes, reviews first; what is not in it is said."""
    result = bce("export", "--crops", "crops")

    assert (result.returncode, result.stdout) == (0, "crops\n")
    assert "1 to be sorted by a person in crops/UNIDENTIFIED" in result.stderr
    assert sorted(picture.label for picture in load_data(tmp_path / "crops").pictures) == ["LYMPHOCYTE", "MONOCYTE"]
    assert bce("export", "--crops", "reviewed", "--reviewed").returncode == 0
    assert [picture.label for picture in load_data(tmp_path / "reviewed").pictures] == ["LYMPHOCYTE"]


@pytest.mark.parametrize("what", [("--csv", "out"), ("--json", "out"), ("--crops", "out")])
def test_what_is_there_is_not_overwritten(bce, path, what):
    """An existing file or full folder is left alone without --force."""
    out = path.parent / "out"
    if what[0] == "--crops":
        out.mkdir()
        (out / "mine").write_text("mine")
    else:
        out.write_text("mine")
    refused_, forced = bce("export", *what), bce("export", *what, "--force")

    assert [refused_.returncode, forced.returncode] == [1, 0]
    assert "out: exists already; give --force" in refused_.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give exactly one of --csv, --json and --crops DIR"),
        (("--csv", "--json"), "give exactly one of --csv, --json and --crops DIR"),
        (("--csv", "--crops", "x"), "give exactly one of --csv, --json and --crops DIR"),
        (("--csv", "--reviewed"), "--reviewed is for --crops"),
    ],
)
def test_wrong_usage(bce, path, arguments, said):
    """None or two formats are usage errors, and nothing is printed on stdout."""
    result = bce("export", *arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert f"Error: {said}\n" in result.stderr


@pytest.mark.parametrize("command", [("export", "--csv"), ("report", "--store", "bloodcell.sqlite")])
def test_unknown_slide_and_missing_store_are_one_line(bce, path, command):
    """The line names the slides that exist, or the file that does not."""
    unknown = bce(*command, "--slide", "C")
    path.rename(path.with_name("elsewhere"))
    missing = bce(*command)

    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "bce: error: bloodcell.sqlite: no field of a slide 'C'; slides: B 2, A\n"
    assert (missing.returncode, missing.stdout) == (1, "")
    assert missing.stderr == "bce: error: bloodcell.sqlite: no such store; bce run makes one\n"


def test_a_text_file_is_no_store(bce, path):
    """A file of another kind is an error of one line, and stays as it was."""
    path.write_text("a text " * 100)
    result = bce("export", "--csv")

    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith("bce: error: bloodcell.sqlite: ")
    assert path.read_text() == "a text " * 100


# bce report of a slide


def test_the_latest_slide_by_default(bce, path, tmp_path):
    """Without --slide the latest is taken, which stderr says; the page lies beside the store and is made anew."""
    for _ in range(2):
        result = bce("report", "--store", "bloodcell.sqlite")
        assert (result.returncode, result.stderr) == (0, "slide: B 2 (the latest of 2; --slide NAME means another)\n")
    page = (tmp_path / result.stdout.strip()).read_text()
    assert result.stdout.startswith("bloodcell.B-2-")
    assert "<h1>Slide B 2</h1>" in page
    assert "Insufficient cells: 1 identified, 200 asked for" in page


def test_a_named_slide_and_place(bce, path, tmp_path):
    """--slide alone means the default store; --out is not overwritten without --force; --cells is the minimum."""
    command = ("report", "--slide", "A", "--cells", "1", "--out", "a.html")
    first, second, third = bce(*command), bce(*command), bce(*command, "--force")

    assert [one.returncode for one in (first, second, third)] == [0, 1, 0]
    assert (first.stdout, first.stderr) == ("a.html\n", "")
    assert "exists already; give --force" in second.stderr
    page = (tmp_path / "a.html").read_text()
    assert "<h1>Slide A</h1>" in page
    assert "Insufficient" not in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("runs/one", "--store", "x"), "give a run folder, or --store and --slide, not both"),
        (("--cells", "5"), "--cells is for a slide"),
    ],
)
def test_a_run_and_a_slide_do_not_mix(bce, arguments, said):
    """Options of the one with the other are usage errors."""
    result = bce("report", *arguments)

    assert result.returncode == 2
    assert said in result.stderr


def test_neither_run_nor_store_is_the_newer_of_both(bce, path):
    """After `bce run` it is the slide; a run folder that is newer comes first, and --cells is of a slide."""
    first = bce("report", "--cells", "1")
    metrics = path.parent / "runs/latest/metrics.json"
    metrics.parent.mkdir(parents=True)
    metrics.write_text("{}")
    os.utime(metrics, (1, 1))
    second = bce("report")
    os.utime(metrics)
    third = bce("report")

    assert first.returncode == second.returncode == 0, first.stderr + second.stderr
    assert first.stdout.endswith(".html\n")
    assert "store: bloodcell.sqlite; bce report runs/latest means the run" in second.stderr
    assert third.returncode == 1
    assert "runs/latest" in third.stderr


def test_a_report_is_a_page(bce, path):
    """Another ending is refused before anything is written."""
    result = bce("report", "--store", path, "--out", "r.pdf")
    assert result.returncode == 2
    assert "--out r.pdf: a report is an HTML page, expected FILE.html" in result.stderr
    assert not (path.parent / "r.pdf").exists()


# examples


def run_example(name, *arguments):
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_example_export_csv(path, tmp_path):
    """examples/export_csv.py writes every row and says each slide's count."""
    said = run_example("export_csv.py", path, tmp_path / "cells.csv")

    assert len(list(csv.DictReader((tmp_path / "cells.csv").read_text().splitlines()))) == 4
    assert said.startswith("4 rows\nA, made-up: insufficient cells: 1 identified, 100 asked for, 1 unidentified\n")
    assert "  NEUTROPHIL 1, 95 % interval 2.5 to 100.0 %\n" in said


def test_example_read_store(path):
    """examples/read_store.py counts the cells with sqlite3 and names the refused field."""
    assert run_example("read_store.py", path).splitlines() == [
        "A, made-up: 1 MONOCYTE",
        f"A, made-up: 1 {UNIDENTIFIED}",
        "B 2, made-up: 1 NEUTROPHIL",
        "refused: 2.png, blurred",
    ]
