from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from dataclasses import FrozenInstanceError
from pathlib import Path

import cv2
import numpy as np
import pytest

from bloodcell_edge.dataset import photographs as module
from bloodcell_edge.dataset.audit import AuditReport, audit
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.photographs import PhotographIndex, in_order
from bloodcell_edge.dataset.pictures import Dataset, Picture
from bloodcell_edge.errors import DataError, MissingFile, NoPictures, PictureError
from bloodcell_edge.imaging.drawn import LABELS, draw_field

SEEDS = range(100, 112)


def moved(image, *, degrees=0.0, shear=0.0, zoom=1.0, shift=(0.0, 0.0), flip=(1, 1), wedge=0):
    """An image under a known affine map about its centre; shift in shares of its size, wedges filled."""
    height, width = image.shape[:2]
    turn = np.deg2rad(degrees)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn + shear)], [np.sin(turn), np.cos(turn + shear)]])
    linear = linear @ np.diag(flip)
    centre = np.array([width / 2, height / 2])
    offset = centre - linear @ centre + np.multiply(shift, (width, height))
    return cv2.warpAffine(image, np.column_stack([linear, offset]), (width, height), borderValue=(wedge,) * 3)


def saved_again(image, quality):
    """An image as JPEG of low quality gives it back."""
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def cropped(image, share):
    """The middle of an image, brought back to its size."""
    height, width = image.shape[:2]
    top, left = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return cv2.resize(image[top : height - top, left : width - left], (width, height))


COPIES = {
    "turned 20 degrees": lambda image: moved(image, degrees=20),
    "turned -20 degrees": lambda image: moved(image, degrees=-20),
    "upside down": lambda image: moved(image, degrees=180),
    "sheared": lambda image: moved(image, shear=0.2),
    "shifted 10 %": lambda image: moved(image, shift=(0.1, -0.1)),
    "flipped left to right": lambda image: np.ascontiguousarray(image[:, ::-1]),
    "flipped top to bottom": lambda image: np.ascontiguousarray(image[::-1]),
    "flipped both ways": lambda image: np.ascontiguousarray(image[::-1, ::-1]),
    "all at once": lambda image: moved(image, degrees=15, shear=-0.15, shift=(-0.1, 0.05), flip=(-1, 1)),
    "white wedges": lambda image: moved(image, degrees=12, wedge=255),
    "saved again": lambda image: saved_again(image, 30),
    "darker": lambda image: np.rint(image * 0.6).astype(np.uint8),
    "brighter": lambda image: np.clip(image * 1.25, 0, 255).astype(np.uint8),
    "grey": lambda image: np.repeat(image[..., 1:2], 3, axis=2),
    "cropped": lambda image: cropped(image, 0.8),
    "twice as large": lambda image: cv2.resize(image, None, fx=2, fy=2),
    "squeezed to a square": lambda image: cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA),
}


@pytest.fixture(scope="module")
def fields():
    """Twelve different drawn fields."""
    return [draw_field(seed, (LABELS[seed % 4],)).image for seed in SEEDS]


@pytest.fixture(scope="module")
def index(fields):
    """An index that knows them; tests only ask it."""
    known = PhotographIndex()
    known.add_all(fields)
    return known


def groups_of(images, **options):
    """The photograph of each picture, numbered from 0 in order of first appearance."""
    return in_order(PhotographIndex().add_all(images, **options))


def write(path, image):
    """Write RGB pixels as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return path


def dataset_of(folder, named):
    """A data set of (file, image, label, group, subset)."""
    pictures = []
    for file, image, label, group, subset in named:
        write(folder / file, image)
        pictures.append(Picture(folder / file, file, label, group, subset))
    return Dataset(folder, LABELS, tuple(pictures))


@pytest.mark.parametrize("change", COPIES.values(), ids=COPIES)
def test_a_changed_copy_is_known_again(index, fields, change):
    """Every field is found again under its own number, whatever of the known changes was made to it."""
    assert [index.find(change(field)) for field in fields] == list(range(len(fields)))


def test_copies_are_grouped_and_fields_kept_apart(fields):
    """Four copies of each field, mixed, make one group a field, numbered by first appearance."""
    changes = [COPIES[name] for name in ("turned 20 degrees", "all at once", "flipped top to bottom", "sheared")]
    mixed = [change(field) for change in changes for field in fields]
    assert groups_of(mixed) == list(range(len(fields))) * len(changes)


def test_drawn_fields_are_all_different():
    """None of 200 fields with one white cell each is taken for another: no false group."""
    drawn = [draw_field(seed, (LABELS[seed % 4],), size=(120, 160)).image for seed in range(200)]
    assert groups_of(drawn) == list(range(200))


def test_the_same_cell_in_other_fields_is_not_a_copy(fields):
    """A part shared by two pictures, smaller than a quarter of either, does not make them one photograph."""
    pasted = [field.copy() for field in fields]
    for picture in pasted[1:]:
        picture[80:160, 100:200] = pasted[0][80:160, 100:200]
    assert groups_of(pasted) == list(range(len(fields)))


def test_a_later_picture_joins_two_groups():
    """Two parts of one field are two photographs until a picture shows both; then both numbers mean the first."""
    field = draw_field(7, LABELS, size=(480, 640), um_per_px=0.1).image
    left, right = field[:, :340].copy(), field[:, 300:].copy()
    known = PhotographIndex()
    assert [known.add(left), known.add(right)] == [0, 1]
    assert len(known) == 2
    assert known.add(field) == 0
    assert [known.current(0), known.current(1), len(known)] == [0, 0, 1]
    assert known.find(right) == 0


@pytest.mark.parametrize("shape", [(240, 320, 3), (1, 1, 3), (1, 500, 3), (40, 30, 3), (3000, 3, 3)])
@pytest.mark.parametrize("value", [0, 120, 255])
def test_pictures_with_nothing_on_them(shape, value):
    """Plain pictures of any shape are groups of their own, and known again by their exact pixels only."""
    plain, other = np.full(shape, value, np.uint8), np.full((*shape[:1], shape[1] + 1, 3), value, np.uint8)
    assert groups_of([plain, other, plain.copy()]) == [0, 1, 0]


def test_no_picture_at_all():
    """No pictures give no groups, and an empty index knows nothing."""
    assert groups_of([]) == []
    assert PhotographIndex().find(np.full((24, 32, 3), 200, np.uint8)) is None


def test_same_pictures_give_same_groups_and_file(fields, tmp_path):
    """Two runs over the same pictures agree in groups and in every byte of the saved index."""
    mixed = [COPIES["all at once"](field) for field in fields] + fields
    saved = []
    for name in ("one.npz", "two.npz"):
        known = PhotographIndex()
        groups = known.add_all(mixed)
        known.save(tmp_path / name)
        saved.append((groups, (tmp_path / name).read_bytes()))
    assert saved[0] == saved[1]


def test_pixels_are_not_changed(fields):
    """Adding a picture leaves its pixels as they were."""
    before = fields[0].copy()
    PhotographIndex().add(fields[0])
    np.testing.assert_array_equal(fields[0], before)


def test_few_comparisons_a_picture(fields, monkeypatch):
    """No picture is laid onto more than a fixed number of others: the work does not grow with the square."""
    compared = []
    real = module.compare

    def counted(*arguments, **options):
        compared.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(module, "compare", counted)
    mixed = [change(field) for change in COPIES.values() for field in fields]
    groups = groups_of(mixed)
    assert len(set(groups)) == len(fields)
    assert len(fields) * (len(COPIES) - 1) <= len(compared) <= module._CANDIDATES * len(mixed)


def test_copies_do_not_make_the_index_grow(fields, tmp_path):
    """A photograph keeps a bounded number of pictures, so a thousandth copy costs no space."""
    known = PhotographIndex()
    for degrees in range(-60, 61, 3):
        known.add(moved(fields[0], degrees=degrees, flip=(1 if degrees % 2 else -1, 1)))
    assert len(known) == 1
    known.save(tmp_path / "index.npz")
    assert (tmp_path / "index.npz").stat().st_size < module._MOST_KEPT * 13_000


def test_index_survives_saving(index, fields, tmp_path):
    """A loaded index answers and grows just like the one that was saved."""
    index.save(tmp_path / "run" / "photographs.npz")
    loaded = PhotographIndex.load(tmp_path / "run" / "photographs.npz")
    stranger = draw_field(5000, ("MONOCYTE",)).image
    questions = [COPIES["all at once"](field) for field in fields] + [stranger]
    assert [loaded.find(image) for image in questions] == [*range(len(fields)), None]
    assert len(loaded) == len(index)
    assert loaded.add(stranger) == len(fields)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["photographs.npz"]


def test_empty_and_joined_indexes_survive_saving(tmp_path):
    """An empty index, and one in which two groups became one, load as what they were."""
    path = tmp_path / "index.npz"
    PhotographIndex().save(path)
    assert len(PhotographIndex.load(path)) == 0
    field = draw_field(7, LABELS, size=(480, 640), um_per_px=0.1).image
    known = PhotographIndex()
    known.add_all([field[:, :340].copy(), field[:, 300:].copy(), field])
    known.save(path)
    loaded = PhotographIndex.load(path)
    assert [loaded.current(1), len(loaded), loaded.add(draw_field(8, size=(240, 320)).image)] == [0, 1, 2]


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 cut short"])
def test_what_is_no_index_is_refused(tmp_path, content):
    """A file that is no index is a DataError that names it."""
    (tmp_path / "broken.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.npz: not an index of photographs"):
        PhotographIndex.load(tmp_path / "broken.npz")


def test_other_arrays_and_formats_are_refused(tmp_path, index):
    """So are an .npz with other arrays, one plain array, and an index of another format."""
    np.savez(tmp_path / "other.npz", weights=np.zeros(3))
    np.save(tmp_path / "plain.npy", np.zeros(3))
    index.save(tmp_path / "index.npz")
    with np.load(tmp_path / "index.npz") as stored:
        np.savez(tmp_path / "newer.npz", **{**stored, "format": np.array(99)})
    for name, reason in (("other.npz", "not an index"), ("plain.npy", "not an index"), ("newer.npz", "format 99")):
        with pytest.raises(DataError, match=reason):
            PhotographIndex.load(tmp_path / name)
    with pytest.raises(MissingFile, match=r"gone\.npz: no such file"):
        PhotographIndex.load(tmp_path / "gone.npz")


def test_files_give_the_groups_of_their_pixels(fields, tmp_path):
    """Paths and arrays mean the same, and progress is called once a picture, up to the end."""
    images = [*fields[:3], COPIES["sheared"](fields[1])]
    files = [write(tmp_path / f"{number}.png", image) for number, image in enumerate(images)]
    calls = []
    groups = groups_of([*files[:2], str(files[2]), files[3]], progress=lambda *done: calls.append(done))
    assert groups == groups_of(images) == [0, 1, 2, 1]
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_unreadable_files_stop_find_groups(fields, tmp_path):
    """add_all has a group for every file or raises: PictureError for no picture, MissingFile for no file."""
    good = write(tmp_path / "good.png", fields[0])
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match=r"bad\.png"):
        groups_of([good, tmp_path / "bad.png"])
    with pytest.raises(MissingFile, match=r"gone\.png"):
        groups_of([good, tmp_path / "gone.png"])


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


def count_pairs(names):
    """How many pairs share a name."""
    return sum(count * (count - 1) // 2 for count in Counter(names).values())


@pytest.mark.shared
def test_real_photographs_are_found(shared):
    """On 750 real augmented pictures pair precision is at least 0.99 at recall 0.95 or more."""
    folder = shared / "data" / "blood-cells"
    with (folder / "sources.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))[::4]
    found = groups_of([folder / row["file"] for row in rows])
    photos, cells = [row["photo"] for row in rows], [row["group"] for row in rows]
    right = count_pairs(zip(found, photos, strict=True))
    wrong = count_pairs(found) - count_pairs(zip(found, cells, strict=True))
    assert count_pairs(photos) > 1500
    assert right / (right + wrong) >= 0.99
    assert right / count_pairs(photos) >= 0.95


@pytest.mark.shared
def test_original_photographs_are_known_from_their_copies(shared):
    """A 640x480 original is found in an index that saw only augmented 320x240 copies of it, and no other cell is."""
    data = shared / "data"
    with (data / "blood-cells" / "sources.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))[::10]
    known = PhotographIndex()
    groups = known.add_all([data / "blood-cells" / row["file"] for row in rows])
    expected = {row["photo"]: group for row, group in zip(rows, groups, strict=True)}
    originals = {photo: known.find(module.read_image(data / "photos" / photo)) for photo in expected}
    assert sum(originals[photo] == expected[photo] for photo in expected) >= 0.99 * len(expected)
    others = sorted((data / "pbc").glob("*/*"))[::50]
    assert [known.find(module.read_image(path)) for path in others] == [None] * len(others)


@pytest.mark.shared
def test_single_cells_are_kept_apart(shared):
    """Among 550 pictures of other cells, one each, at most one pair is grouped."""
    files: list[Path] = sorted((shared / "data" / "pbc").glob("*/*"))[::8]
    assert count_pairs(groups_of(files)) <= 1
