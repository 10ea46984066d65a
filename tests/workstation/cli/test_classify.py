from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.model.classifier import Classifier

CHOICE = "model: runs/latest/bloodcell-int8.tflite (of the run folder runs/latest)\n"
LEFT_OUT = "left out: slides: 1 file left out: 1 .txt\n"


@pytest.fixture
def slides(own_colours, tmp_path):
    """A folder beside runs/latest with three pictures, one of them below, and files to be skipped."""
    pictures = own_colours_pictures(own_colours)
    folder = tmp_path / "slides"
    (folder / "b").mkdir(parents=True)
    for name, source in zip(("field_2.png", "field_10.png", "b/field_1.png"), pictures, strict=True):
        (folder / name).write_bytes(source.read_bytes())
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(b"hidden")
    return folder


def own_colours_pictures(run) -> list[Path]:
    """A picture of three of the four classes, named by the run's split."""
    from bloodcell_edge.dataset.split import load_split

    by_label = {row.picture.label: row.picture.path for row in load_split(run.split)}
    return [by_label[label] for label in ("LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")]


def test_a_table_for_people(bce, slides):
    """Label, score, milliseconds and file, a line a picture in natural order; stderr says the model and no more."""
    result = bce("classify", "--model", "runs/latest", "slides")

    lines = [line.split() for line in result.stdout.splitlines()]
    assert (result.returncode, result.stderr) == (0, CHOICE + LEFT_OUT)
    assert lines[0] == ["label", "score", "ms", "file"]
    assert [(line[0], line[3]) for line in lines[1:]] == [
        ("NEUTROPHIL", "slides/b/field_1.png"),
        ("LYMPHOCYTE", "slides/field_2.png"),
        ("MONOCYTE", "slides/field_10.png"),
    ]


def test_json_lines(bce, slides, own_colours):
    """--json: an object a line with exactly the documented keys, scores as the file itself gives them."""
    result = bce("classify", "--model", "runs/latest", "slides", "--json")

    classifier = Classifier.open(own_colours.path / "bloodcell-int8.tflite")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.returncode, result.stderr) == (0, CHOICE + LEFT_OUT)
    assert [line["file"] for line in lines] == ["slides/b/field_1.png", "slides/field_2.png", "slides/field_10.png"]
    for line in lines:
        assert list(line) == ["file", "label", "score", "scores", "box", "ms", "mark", "counted", "reason"]
        (expected,) = classifier.classify(read_image(slides.parent / line["file"]))
        assert line["scores"] == pytest.approx(expected.scores, abs=1e-6)
        assert (line["label"], line["box"]) == (expected.label, None)
        assert line["score"] == pytest.approx(max(line["scores"].values()))
        assert line["ms"] > 0


def test_a_csv_file(bce, slides, tmp_path):
    """--csv writes a row a picture, and is not replaced without --force."""
    first = bce("classify", "--model", "runs/latest", "slides", "--csv", "answers.csv")
    again = bce("classify", "--model", "runs/latest", "slides", "--csv", "answers.csv")
    forced = bce("classify", "--model", "runs/latest", "slides/field_2.png", "--csv", "answers.csv", "--force")

    rows = list(csv.DictReader((tmp_path / "answers.csv").read_text().splitlines()))
    assert (first.returncode, forced.returncode) == (0, 0)
    assert again.returncode == 1
    assert again.stderr == "bce: error: answers.csv: exists already; give --force to replace it, or another place\n"
    assert [(row["file"], row["label"], row["error"]) for row in rows] == [("slides/field_2.png", "LYMPHOCYTE", "")]
    assert sum(float(rows[0][label]) for label in ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")) == (
        pytest.approx(1, abs=0.02)
    )


@pytest.mark.parametrize("damage", [b"", b"no picture", "half"], ids=["empty", "text", "truncated"])
def test_a_corrupt_file_does_not_stop_the_rest(bce, slides, damage):
    """A broken file among good ones has a line with its error, the rest their answers; exit 1 says how many."""
    whole = (slides / "field_2.png").read_bytes()
    (slides / "field_2.png").write_bytes(whole[: len(whole) // 2] if damage == "half" else damage)

    result = bce("classify", "--model", "runs/latest", "slides", "--json", "--csv", "answers.csv")

    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 1
    assert [list(line) for line in lines if "error" in line] == [["file", "error"]]
    assert [line["file"] for line in lines] == ["slides/b/field_1.png", "slides/field_2.png", "slides/field_10.png"]
    assert "slides/field_2.png" in lines[1]["error"]
    assert result.stderr == CHOICE + LEFT_OUT + "bce: error: 1 of the files could not be read; their lines say why\n"
    rows = list(csv.DictReader((slides.parent / "answers.csv").read_text().splitlines()))
    assert [bool(row["error"]) for row in rows] == [False, True, False]


@pytest.mark.parametrize(
    ("path", "says"),
    [("nowhere.jpg", "no such file or folder"), ("empty", "no picture found (0 other files skipped)")],
)
def test_nothing_to_classify(bce, slides, path, says):
    """A path that is not there, or a folder without pictures, is an error of one line; nothing on stdout, no CSV."""
    (slides.parent / "empty").mkdir()

    result = bce("classify", "--model", "runs/latest", path, "--json", "--csv", "answers.csv")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(CHOICE + f"bce: error: {path}: {says}")
    assert result.stderr.count("\n") == 2
    assert not (slides.parent / "answers.csv").exists()


def test_a_damaged_model_is_refused(bce, slides, own_colours):
    """A model file cut short is an error that says so, before any answer."""
    path = own_colours.path / "bloodcell-int8.tflite"
    path.write_bytes(path.read_bytes()[:-100])

    result = bce("classify", "--model", "runs/latest", "slides")

    assert (result.returncode, result.stdout) == (1, "")
    assert "expected a .tflite made by bce convert, copied whole" in result.stderr


def test_piping_to_head_is_quiet(slides):
    """`bce classify ... | head -1` gives one line and no complaint."""
    for number in range(400):
        (slides / f"more_{number}.png").write_bytes((slides / "field_2.png").read_bytes())
    script = Path(sys.executable).parent / "bce"

    done = subprocess.run(
        ["bash", "-c", f"'{script}' classify slides --model runs/latest --json | head -1"],
        cwd=slides.parent, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == CHOICE + LEFT_OUT


def test_no_tensorflow_is_loaded(slides):
    """Classifying works where tensorflow, keras and matplotlib cannot be imported."""
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'matplotlib'): sys.modules[name] = None  # importing them fails\n"
        "from bloodcell_edge.cli import main\n"
        "sys.argv = ['bce', 'classify', 'slides', '--json']\n"
        "main()"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=slides.parent, capture_output=True, text=True, timeout=120, check=False
    )

    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3), done.stderr
