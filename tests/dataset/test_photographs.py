"""The index of photographs: which known one a picture shows, whatever was done to it."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from copies import COPIES, SEEDS, moved, write

from bloodcell_edge.dataset import photographs as module
from bloodcell_edge.dataset.photographs import PhotographIndex, in_order
from bloodcell_edge.errors import DataError, MissingFile, PictureError
from bloodcell_edge.imaging.drawn import LABELS, draw_field


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
