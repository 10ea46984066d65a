from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError

import cv2
import pytest
from copies import COPIES, SEEDS, dataset_of, write

from bloodcell_edge.dataset.audit import AuditReport, audit
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.pictures import Dataset, Picture
from bloodcell_edge.errors import NoPictures
from bloodcell_edge.imaging.drawn import LABELS, draw_field


@pytest.fixture(scope="module")
def fields():
    """Twelve different drawn fields."""
    return [draw_field(seed, (LABELS[seed % 4],)).image for seed in SEEDS]


def test_audit_of_a_leaky_folder(fields, tmp_path):
    """Copies across TRAIN and TEST, one with another label, an exact duplicate and a broken file are all named."""
    turned = COPIES["all at once"]
    for file, image in {
        "TRAIN/NEUTROPHIL/a.png": fields[0],
        "TRAIN/NEUTROPHIL/a-again.png": fields[0],
        "TRAIN/NEUTROPHIL/b.png": fields[1],
        "TRAIN/LYMPHOCYTE/c.png": fields[2],
        "TRAIN/BASOPHIL/d.png": fields[3],
        "TEST/NEUTROPHIL/a-turned.png": turned(fields[0]),
        "TEST/EOSINOPHIL/b-turned.png": turned(fields[1]),
        "TEST/LYMPHOCYTE/e.png": fields[4],
    }.items():
        write(tmp_path / file, image)
    (tmp_path / "TEST/LYMPHOCYTE/broken.png").write_bytes(b"no picture")
    report = audit(load_data(tmp_path))
    a = ["TRAIN/NEUTROPHIL/a-again.png", "TRAIN/NEUTROPHIL/a.png", "TEST/NEUTROPHIL/a-turned.png"]
    b = ["TRAIN/NEUTROPHIL/b.png", "TEST/EOSINOPHIL/b-turned.png"]
    assert report.n == 8
    assert report.by_label == {"EOSINOPHIL": 1, "LYMPHOCYTE": 2, "MONOCYTE": 0, "NEUTROPHIL": 4, "BASOPHIL": 1}
    assert report.photographs_by_label == {
        "EOSINOPHIL": 1,
        "LYMPHOCYTE": 2,
        "MONOCYTE": 0,
        "NEUTROPHIL": 2,
        "BASOPHIL": 1,
    }
    assert [one.file for one in report.unreadable] == ["TEST/LYMPHOCYTE/broken.png"]
    assert sorted(map(sorted, report.duplicates)) == [sorted(a[:2])]
    assert sorted(map(sorted, report.groups)) == sorted([sorted(a), sorted(b)])
    assert [(sorted(one["files"]), one["labels"]) for one in report.conflicts] == [
        (sorted(b), ["EOSINOPHIL", "NEUTROPHIL"])
    ]
    assert sorted(sorted(one["files"]) for one in report.straddling) == sorted([sorted(a), sorted(b)])
    assert all(one["sides"] == ["test", "train"] for one in report.straddling)
    assert report.leaks == 2


def test_json_has_the_documented_keys(fields, tmp_path):
    """The report is plain JSON with the keys that bce audit --json promises."""
    report = audit(dataset_of(tmp_path, [("a.png", fields[0], "MONOCYTE", None, None)]))
    document = json.loads(json.dumps(report.as_json()))
    keys = "n by_label photographs_by_label unreadable duplicates groups conflicts straddling leaks"
    assert list(document) == keys.split()
    assert document["groups"] == []
    assert document["n"] == 1


def test_given_groups_join_found_ones(fields, tmp_path):
    """Two photographs that the user calls one cell are one group, with the copies of both."""
    data = dataset_of(
        tmp_path,
        [
            ("a.png", fields[0], "MONOCYTE", "cell 1", None),
            ("b.png", fields[1], "MONOCYTE", "cell 1", None),
            ("c.png", COPIES["sheared"](fields[1]), "MONOCYTE", None, None),
            ("d.png", fields[2], "MONOCYTE", None, None),
            ("e.png", fields[3], "MONOCYTE", "cell 2", None),
        ],
    )
    report = audit(data)
    assert report.groups == (("a.png", "b.png", "c.png"),)
    assert report.group_of == {"a.png": 0, "b.png": 0, "c.png": 0, "d.png": 1, "e.png": 2}
    assert report.photographs_by_label["MONOCYTE"] == 3
    assert report.duplicates == report.conflicts == report.straddling == ()
    assert report.leaks == 0


@pytest.fixture(scope="module")
def mixed(fields, tmp_path_factory):
    """Two copies of one field, three of another, one of a third, marked train and test the clean way."""
    named = [
        ("a0.png", fields[0], "MONOCYTE", None, "train"),
        ("a1.png", COPIES["sheared"](fields[0]), "MONOCYTE", None, "train"),
        ("b0.png", fields[1], "MONOCYTE", None, "test"),
        ("b1.png", COPIES["turned 20 degrees"](fields[1]), "MONOCYTE", None, "test"),
        ("b2.png", COPIES["flipped top to bottom"](fields[1]), "MONOCYTE", None, "test"),
        ("c0.png", fields[2], "MONOCYTE", None, "train"),
    ]
    return dataset_of(tmp_path_factory.mktemp("mixed"), named)


@pytest.mark.parametrize(
    ("sides", "straddling", "leaks"),
    [
        (None, 0, 0),
        ({"a0.png": "train", "a1.png": "train", "b0.png": "test", "c0.png": "train"}, 0, 0),
        # the smaller side has two copies of b, the larger one
        ({"a0.png": "x", "a1.png": "x", "b0.png": "x", "b1.png": "y", "b2.png": "y", "c0.png": "x"}, 1, 2),
        # the smaller side has one copy of each
        ({"a0.png": "y", "a1.png": "x", "b0.png": "y", "b1.png": "x", "b2.png": "x", "c0.png": "x"}, 2, 2),
        # of three sides all but the largest count
        ({"a0.png": "x", "a1.png": "y", "b0.png": "z", "b1.png": "y", "b2.png": "x", "c0.png": "x"}, 2, 3),
        # files on no side do not leak
        ({"b0.png": "x", "c0.png": "y"}, 0, 0),
    ],
)
def test_leaks_of_a_given_split(mixed, sides, straddling, leaks):
    """A split given by file replaces train and test; leaks are the copies outside its largest side."""
    report = audit(mixed, sides=sides)
    assert (len(report.straddling), report.leaks) == (straddling, leaks)


def test_nothing_readable_is_an_error(tmp_path):
    """An audit of broken files only is NoPictures with the first reason, not an empty report."""
    (tmp_path / "bad.png").write_bytes(b"no picture")
    data = Dataset(tmp_path, LABELS, (Picture(tmp_path / "bad.png", "bad.png", "MONOCYTE"),))
    with pytest.raises(NoPictures, match=r"none of 1 pictures can be read; the first: .*bad\.png"):
        audit(data)


def test_audit_reports_progress(mixed):
    """Progress reaches the number of pictures, and the report is a value that cannot be changed."""
    calls = []
    report = audit(mixed, progress=lambda *done: calls.append(done))
    assert calls[-1] == (6, 6)
    assert isinstance(report, AuditReport)
    with pytest.raises(FrozenInstanceError):
        report.leaks = 1


def test_audit_is_light():
    """Importing the audit loads neither tensorflow nor keras nor cv2."""
    code = "import sys, bloodcell_edge.dataset.audit; print({'tensorflow', 'keras', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_table_that_gives_a_file_two_labels_is_a_conflict(tmp_path):
    """The file is named once, with both labels."""
    cv2.imwrite(str(tmp_path / "n.png"), draw_field(1, ["NEUTROPHIL"]).image)
    (tmp_path / "labels.csv").write_text("file,label\nn.png,NEUTROPHIL\nn.png,EOSINOPHIL\n")
    (conflict,) = audit(load_data(tmp_path)).conflicts
    assert conflict == {"files": ["n.png"], "labels": ["EOSINOPHIL", "NEUTROPHIL"]}
