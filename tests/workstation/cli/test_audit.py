from __future__ import annotations

import json
import shutil

import cv2
import pytest

from bloodcell_edge.imaging.drawn import LABELS, draw_folder

KEYS = set("n by_label photographs_by_label unreadable duplicates groups conflicts straddling leaks".split())


@pytest.fixture
def data(tmp_path):
    """TRAIN with three and TEST with one drawn field of each class, and no copy among them."""
    draw_folder(tmp_path / "data" / "TRAIN", per_class=3, seed=1, size=(120, 160))
    draw_folder(tmp_path / "data" / "TEST", per_class=1, seed=2, size=(120, 160))
    return tmp_path / "data"


def test_clean_data_passes(bce, data):
    """Counts by class on stdout, exit 0, nothing on stderr."""
    result = bce("audit", data)

    assert (result.returncode, result.stderr) == (0, "")
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row for row in rows if row and row[0] in (*LABELS, "together")] == [
        *([label, "4", "4"] for label in LABELS),
        ["together", "16", "16"],
    ]
    assert "pictures that leak: 0" in result.stdout


def test_json_has_the_documented_keys(bce, data):
    """--json is one document with exactly the keys of CLI.md, true to the data."""
    result = bce("audit", data, "--json")

    values = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (0, "")
    assert set(values) == KEYS
    assert values["n"] == 16
    assert values["by_label"] == values["photographs_by_label"] == dict.fromkeys(LABELS, 4)
    assert [values[key] for key in ("unreadable", "duplicates", "groups", "conflicts", "straddling", "leaks")] == [
        [], [], [], [], [], 0
    ]  # fmt: skip


def test_a_leak_exits_4(bce, data):
    """A training photograph, mirrored and saved anew as a test picture of another class: a leak and a conflict."""
    source = data / "TRAIN" / "MONOCYTE" / "monocyte-0001.jpg"
    copy = data / "TEST" / "LYMPHOCYTE" / "copy.png"
    cv2.imwrite(str(copy), cv2.flip(cv2.imread(str(source)), 1))

    result = bce("audit", data, "--json")

    values = json.loads(result.stdout)
    files = ["TEST/LYMPHOCYTE/copy.png", "TRAIN/MONOCYTE/monocyte-0001.jpg"]
    assert result.returncode == 4
    assert result.stderr.startswith(f"bce: gate: {data}: 1 pictures have a copy")
    assert result.stderr.count("\n") == 1
    assert values["leaks"] == 1
    assert sorted(values["straddling"][0]["files"]) == files
    assert values["conflicts"][0]["labels"] == ["LYMPHOCYTE", "MONOCYTE"]


def test_the_table_tells_it_too(bce, data):
    """Copies, broken files, other classes and skipped files all stand in the text."""
    shutil.copy(data / "TRAIN" / "MONOCYTE" / "monocyte-0001.jpg", data / "TRAIN" / "MONOCYTE" / "again.jpg")
    (data / "TRAIN" / "MONOCYTE" / "broken.jpg").write_bytes(b"no picture")
    (data / "TRAIN" / "notes.txt").write_text("no picture")
    shutil.copytree(data / "TRAIN" / "MONOCYTE", data / "TRAIN" / "BASOPHIL")
    for path in (data / "TRAIN" / "BASOPHIL").iterdir():
        if path.name != "monocyte-0003.jpg":
            path.unlink()

    result = bce("audit", data)

    assert result.returncode == 0
    assert "BASOPHIL (none of these)" in result.stdout
    assert "broken.jpg" in result.stdout
    assert "pictures that are exactly equal: 2" in result.stdout
    assert "TRAIN/MONOCYTE/again.jpg" in result.stdout
    assert "photographs with conflicting labels: 1" in result.stdout
    assert result.stderr == "skipped: 1 hidden files and files that are no pictures by their names\n"


def test_groups_of_the_user_count(bce, data, tmp_path):
    """--group-by joins pictures that the user knows to show one cell; across TRAIN and TEST that is a leak."""
    files = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.jpg"))
    groups = {"TRAIN/MONOCYTE/monocyte-0002.jpg": "cell", "TEST/MONOCYTE/monocyte-0001.jpg": "cell"}
    rows = [f"{file},{groups.get(file, file)}" for file in files]
    (tmp_path / "groups.csv").write_text("\n".join(["file,group", *rows]))

    result = bce("audit", data, "--group-by", tmp_path / "groups.csv", "--json")

    assert result.returncode == 4
    assert json.loads(result.stdout)["leaks"] == 1


def test_no_picture_is_an_error(bce, data):
    """Where no file decodes: one line, exit 1, nothing on stdout even with --json."""
    for path in data.rglob("*.jpg"):
        path.write_bytes(b"no picture")

    result = bce("audit", data, "--json")

    assert (result.returncode, result.stdout) == (1, "")
    assert "none of 16 pictures can be read" in result.stderr


def test_a_class_name_nearly_right_is_an_error(bce, data):
    """A folder Neutrophils is not taken for another class: an error that suggests NEUTROPHIL."""
    (data / "TRAIN" / "NEUTROPHIL").rename(data / "TRAIN" / "Neutrophils")

    result = bce("audit", data)

    assert result.returncode == 1
    assert "did you mean NEUTROPHIL?" in result.stderr


def test_a_file_with_two_labels_ends_with_4(bce, data):
    """A table that contradicts itself is named with the file and both labels."""
    file = "TRAIN/MONOCYTE/monocyte-0001.jpg"
    (data / "list.csv").write_text(f"file,label\n{file},MONOCYTE\n{file},LYMPHOCYTE\n")
    done = bce("audit", data / "list.csv")
    assert done.returncode == 4
    assert f"two labels for one file, 1 times (the first: {file}, LYMPHOCYTE and MONOCYTE)" in done.stderr
