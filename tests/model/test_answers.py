import csv
import io
import json
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bloodcell_edge.errors import MissingFile, NoPictures
from bloodcell_edge.imaging.folder import picture_files
from bloodcell_edge.model.answers import CsvSink, JsonSink, TableSink, classify_paths
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.records import Prediction

LABELS = ("RED", "GREEN", "BLUE")
COLOURS = {"RED": (0, 0, 255), "GREEN": (0, 255, 0), "BLUE": (255, 0, 0)}  # as OpenCV writes them
CELL = Prediction("RED", 0.9876543, {"RED": 0.9876543, "GREEN": 0.01, "BLUE": 0.0023457}, (1, 2, 30, 40), 1.23456)


@pytest.fixture
def classifier(tiny_model):
    return Classifier.open(tiny_model("int8", name="models/int8.tflite"))


def draw(path: Path, label: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", np.full((30, 40, 3), COLOURS[label], np.uint8))[1].tobytes())
    return path


@pytest.fixture
def slides(tmp_path, monkeypatch):
    """slides/ in the working folder: three good pictures, two that cannot be read, and what is no picture."""
    monkeypatch.chdir(tmp_path)
    for number, label in ((10, "RED"), (2, "GREEN")):
        draw(Path(f"slides/field_{number}.png"), label)
    draw(Path("slides/deeper/field_1.png"), "BLUE")
    Path("slides/field_3.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut")
    Path("slides/field_4.png").write_bytes(b"")
    Path("slides/notes.txt").write_text("x")
    Path("slides/.hidden.png").write_text("x")
    return Path("slides")


ORDER = ["slides/deeper/field_1.png", *(f"slides/field_{n}" for n in ("2.png", "3.jpg", "4.png", "10.png"))]


def json_lines(classifier, paths) -> tuple[int, list[dict]]:
    stream = io.StringIO()
    failed = classify_paths(classifier, paths, [JsonSink(stream)])
    assert stream.getvalue().endswith("\n")
    return failed, [json.loads(line) for line in stream.getvalue().splitlines()]


# Which files


def test_files_as_typed_folders_walked(slides):
    """Folders are walked in natural order, hidden and other files left out; files are taken as named and as typed."""
    assert [str(path) for path in picture_files([slides])] == ORDER
    assert picture_files([Path("slides/notes.txt"), slides / "deeper"]) == [Path("slides/notes.txt"), Path(ORDER[0])]
    assert picture_files([slides.absolute()])[0] == Path(ORDER[0]).absolute()
    assert picture_files([Path("slides/../slides/deeper")]) == [Path("slides/../slides/deeper/field_1.png")]


def test_nothing_to_classify_is_an_error(slides, tmp_path):
    """A path that is not there, and a folder without pictures, say what was expected."""
    with pytest.raises(MissingFile, match="absent: no such file or folder; expected a picture or a folder of pictures"):
        picture_files([slides, Path("absent")])
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.txt").write_text("")
    with pytest.raises(NoPictures, match=r"empty: no picture found \(1 other files skipped\); expected \.bmp, "):
        picture_files([Path("empty")])


# JSON


def test_a_json_line_for_each_picture(classifier, slides):
    """Exactly the keys of CLI.md, in natural order, file as typed; what cannot be read has file and error alone."""
    failed, lines = json_lines(classifier, [slides])

    assert failed == 2
    assert [line["file"] for line in lines] == ORDER
    for line in (lines[0], lines[1], lines[4]):
        assert list(line) == ["file", "label", "score", "scores", "box", "ms", "mark", "counted", "reason"]
        assert line["box"] is None
        assert list(line["scores"]) == list(LABELS)
        assert line["score"] == max(line["scores"].values())
        assert line["ms"] > 0
    assert [line.get("label") for line in lines] == ["BLUE", "GREEN", None, None, "RED"]
    for line in lines[2:4]:
        assert list(line) == ["file", "error"]
        assert line["error"].startswith(f"{line['file']}: ")


def test_a_box_is_four_numbers():
    """A cell's box is [x, y, width, height]; numbers are rounded, not cut."""
    stream = io.StringIO()
    JsonSink(stream).answer("a.png", CELL)

    assert json.loads(stream.getvalue()) == {
        "file": "a.png",
        "label": "RED",
        "score": 0.987654,
        "scores": {"RED": 0.987654, "GREEN": 0.01, "BLUE": 0.002346},
        "box": [1, 2, 30, 40],
        "ms": 1.235,
        "mark": "",
        "counted": True,
        "reason": "",
    }


def test_the_background_is_among_the_scores_and_the_reason_beside():
    """OTHER comes after the labels where the model has a background; a cut cell says that it is not counted."""
    stream = io.StringIO()
    cut = replace(CELL, label="UNIDENTIFIED", mark="edge", reason="edge", counted=False, other=0.25)
    JsonSink(stream).answer("a.png", cut)
    line = json.loads(stream.getvalue())

    assert list(line["scores"].items()) == [("RED", 0.987654), ("GREEN", 0.01), ("BLUE", 0.002346), ("OTHER", 0.25)]
    assert (line["mark"], line["reason"], line["counted"]) == ("edge", "edge", False)


def test_every_line_is_there_at_once(classifier, slides):
    """Whoever reads the other end of a pipe has each answer before the next is worked on."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    with os.fdopen(write, "w") as stream, JsonSink(stream) as sink:
        sink.error("a.png", "gone")
        line = os.read(read, 1000)
    os.close(read)

    assert json.loads(line) == {"file": "a.png", "error": "gone"}


def test_an_unidentified_picture_keeps_its_scores(tiny_model, tmp_path):
    """Below the threshold label says UNIDENTIFIED and the scores stay."""
    path = tmp_path / "grey.png"
    path.write_bytes(cv2.imencode(".png", np.full((9, 9, 3), 128, np.uint8))[1].tobytes())
    _, (line,) = json_lines(Classifier.open(tiny_model(reject_threshold=0.6)), [path])

    assert line["label"] == "UNIDENTIFIED"
    assert sum(line["scores"].values()) == pytest.approx(1, abs=0.02)


# Table and CSV


@pytest.mark.parametrize(
    ("reason", "counted", "words"),
    [
        ("edge", False, "(not evaluated: cut by the edge)"),
        ("edge", True, "(cut by the edge)"),
        ("touching", True, "(touches another)"),
        ("low score", True, "(score too low)"),
        ("other cell", True, "(none of these)"),
        ("", True, "a.png"),
    ],
)
def test_a_terminal_says_the_reason_in_words(reason, counted, words):
    """After the file stands why a cell has no name; a named one has nothing there."""
    stream = io.StringIO()
    TableSink(stream).answer("a.png", replace(CELL, reason=reason, counted=counted))
    assert stream.getvalue().endswith(f"{words}\n")


def test_a_table_for_people(classifier, slides):
    """A head, a line for each file in columns, the reason where a file cannot be read."""
    stream = io.StringIO()
    assert classify_paths(classifier, [slides], [TableSink(stream)]) == 2
    lines = stream.getvalue().splitlines()

    assert lines[0].split() == ["label", "score", "ms", "file"]
    assert [line.split()[0] for line in lines[1:]] == ["BLUE", "GREEN", "error", "error", "RED"]
    assert all(file in line for file, line in zip(ORDER, lines[1:], strict=True))
    assert len({line.index("slides") for line in lines[1:]}) == 1


def test_a_csv_holds_everything(classifier, slides):
    """Columns for each label, box and time; an error has its own column; the file is there when all is done."""
    out = Path("out") / "answers.csv"
    assert classify_paths(classifier, [slides], [CsvSink(out, LABELS)]) == 2
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))

    assert list(rows[0]) == [
        "file",
        "label",
        "score",
        *LABELS,
        "x",
        "y",
        "width",
        "height",
        "ms",
        "error",
        "mark",
        "counted",
        "reason",
    ]
    assert [row["file"] for row in rows] == ORDER
    assert [row["label"] for row in rows] == ["BLUE", "GREEN", "", "", "RED"]
    assert float(rows[0]["BLUE"]) == float(rows[0]["score"]) > 0.9
    assert rows[0]["x"] == rows[0]["error"] == ""
    assert rows[2]["error"].startswith("slides/field_3.jpg: ")
    assert None not in rows[2]
    assert None not in rows[2].values()


def test_a_csv_row_has_the_box(tmp_path):
    """A cell's box stands under x, y, width and height."""
    with CsvSink(tmp_path / "a.csv", LABELS) as sink:
        sink.answer("a.png", CELL)
    with (tmp_path / "a.csv").open(newline="") as stream:
        (row,) = csv.DictReader(stream)

    assert [row[name] for name in ("x", "y", "width", "height", "ms")] == ["1", "2", "30", "40", "1.235"]


def test_an_interrupted_csv_leaves_the_old_one(tmp_path):
    """A CSV is whole or not there: an interrupt keeps what was there before and leaves nothing else."""
    out = tmp_path / "answers.csv"
    out.write_text("old")

    def interrupt():
        with CsvSink(out, LABELS) as sink:
            sink.answer("a.png", CELL)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["answers.csv"]


def test_several_sinks_hear_the_same(classifier, slides):
    """Table, JSON and CSV at once have the same files and labels."""
    json_stream, table_stream = io.StringIO(), io.StringIO()
    sinks = [JsonSink(json_stream), TableSink(table_stream), CsvSink(Path("a.csv"), LABELS)]
    classify_paths(classifier, [slides], sinks)
    with Path("a.csv").open(newline="") as stream:
        rows = [row["file"] for row in csv.DictReader(stream)]

    assert rows == [json.loads(line)["file"] for line in json_stream.getvalue().splitlines()] == ORDER
    assert len(table_stream.getvalue().splitlines()) == 6


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"two\nlines.png", "zelle_ä.png".encode()])
def test_any_file_name_can_be_told(classifier, tmp_path, name):
    """Names that are no UTF-8 or hold a line break, as on old sticks, stop nobody; JSON gives them back exactly."""
    folder = tmp_path / "stick"
    draw(folder / "x.png", "RED").rename(os.fsdecode(bytes(folder) + b"/" + name))
    json_stream, table_stream = io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    sinks = [JsonSink(json_stream), TableSink(table_stream), CsvSink(tmp_path / "a.csv", LABELS)]
    assert classify_paths(classifier, [folder], sinks) == 0
    table_stream.flush()

    assert os.fsencode(json.loads(json_stream.getvalue())["file"]) == bytes(folder) + b"/" + name
    assert len(table_stream.buffer.getvalue().decode().splitlines()) == 2
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == ["RED"]


def test_all_unreadable_is_told_file_by_file(classifier, tmp_path):
    """When nothing can be read every file still has its line."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"x")
    failed, lines = json_lines(classifier, [tmp_path])

    assert failed == 2
    assert [set(line) for line in lines] == [{"file", "error"}] * 2
