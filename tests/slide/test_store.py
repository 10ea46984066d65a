"""The store: groups, what is met again, order, room for crops, full disks, and what is read back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from store_writer import LABELS, START, cell, field, refused, sha256, spec

from bloodcell_edge.errors import SpecError, StoreError
from bloodcell_edge.records import UNIDENTIFIED, CellResult, FieldResult
from bloodcell_edge.slide import store as store_module
from bloodcell_edge.slide.reader import Reader
from bloodcell_edge.slide.store import GROUP_FIELDS, GROUP_S, Store

HOUR = timedelta(hours=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.sqlite"


@pytest.fixture
def groups():
    """Sizes of the groups that were committed: give `groups.append_size` as on_commit."""

    class Groups(list):
        def take(self, stored):
            self.append(len(stored))

    return Groups()


@pytest.fixture
def patient(monkeypatch):
    """No group is committed because of its age."""
    monkeypatch.setattr(store_module, "GROUP_S", 600.0)


def wait_until(fact, timeout_s=10.0):
    end = time.monotonic() + timeout_s
    while not fact() and time.monotonic() < end:
        time.sleep(0.01)
    assert fact()


# What goes in comes out


def test_a_field_comes_back_as_it_was_added(path):
    """Everything of a field and its cells is in the rows, boxes and crops included."""
    cells = (
        CellResult("MONOCYTE", 0.75, dict(zip(LABELS, (0.1, 0.1, 0.75, 0.05), strict=True)), (1, 2, 30, 40), crop=b"a"),
        CellResult(UNIDENTIFIED, 0.6, dict(zip(LABELS, (0.6, 0.2, 0.1, 0.1), strict=True)), (5, 6, 7, 8), mark="edge"),
    )
    taken = datetime(2026, 3, 1, 12, tzinfo=timezone(HOUR))
    added = FieldResult(
        "a/1.png", sha256(1), taken, "used", "", cells, 12, (640, 480), 0.15, {"focus": 30.5}, latency_ms=9.5
    )
    with Store.open(path) as store:
        reading = store.reading("slide", spec())
        store.add(reading, added)

    with Reader.open(path) as reader:
        (row,) = reader.fields(reading)
        first, second = reader.cells(reading)
        assert (row["path"], row["sha256"], row["status"], row["reason"]) == ("a/1.png", sha256(1), "used", "")
        assert row["taken_at"] == "2026-03-01T11:00:00.000000+00:00"
        assert (row["width"], row["height"], row["um_per_px"], row["monotonic_ns"]) == (640, 480, 0.15, 12)
        assert (row["quality"], row["latency_ms"], row["n_cells"]) == ('{"focus": 30.5}', 9.5, 2)
        assert [first[key] for key in "label score x y width height top mark".split()] == [
            *("MONOCYTE", 0.75, 1, 2, 30, 40, "MONOCYTE", "")
        ]
        assert [second[key] for key in "label score top mark counted".split()] == [
            *(UNIDENTIFIED, 0.6, "EOSINOPHIL", "edge", 1)
        ]
        assert reader.crop(first["id"]) == b"a"
        assert reader.crop(second["id"]) is None


def test_a_whole_picture_has_no_box(path):
    """What a model with view "frame" gives is stored with x, y, width and height null."""
    with Store.open(path) as store:
        reading = store.reading("slide", spec(view="frame"))
        store.add(reading, replace(field(1), cells=(cell("MONOCYTE", box=None),)))
        store.flush()
        (row,) = store.cells(reading)
    assert [row[key] for key in ("x", "y", "width", "height")] == [None] * 4


def test_a_refused_field_keeps_its_reason(path):
    """A refused field is a row with its reason and the numbers behind it, without cells."""
    with Store.open(path) as store:
        reading = store.reading("slide", spec())
        store.add(reading, refused(1, "blurred"))
        store.flush()
        (row,) = store.fields(reading)
        assert (row["status"], row["reason"], row["quality"]) == ("refused", "blurred", '{"focus": 1.5}')
        assert store.cells(reading) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: FieldResult("a", sha256(1), datetime(2026, 1, 1)),
        lambda: FieldResult("a", sha256(1), START, "refused"),
        lambda: FieldResult("a", sha256(1), START, "used", "blurred"),
        lambda: FieldResult("a", sha256(1), START, "lost", "gone"),
        lambda: FieldResult("a", sha256(1), START, "refused", "blurred", (cell("MONOCYTE"),)),
        lambda: CellResult("MONOCYTE", float("nan"), {"MONOCYTE": 1.0}),
        lambda: CellResult("MONOCYTE", 0.9, {}),
        lambda: cell("MONOCYTE", mark="edge"),
    ],
    ids="naive-time no-reason reason-of-used status refused-cells nan no-scores marked-class".split(),
)
def test_values_that_cannot_be_are_refused(make):
    """A naive time, a refusal without reason or with cells, a NaN score, a marked cell with a class: ValueError."""
    with pytest.raises(ValueError, match="expected"):
        make()


def test_a_model_without_hash_cannot_read_a_slide(path):
    """No result is stored that cannot be traced to a model file."""
    with Store.open(path) as store, pytest.raises(SpecError, match="without its sha256"):
        store.reading("slide", spec(sha256=""))


# Groups


def test_full_groups_are_committed_at_once(path, groups, patient):
    """120 fields go in two groups of 50 while they come, and the rest at close."""
    with Store.open(path, on_commit=groups.take) as store:
        reading = store.reading("slide", spec())
        for number in range(120):
            store.add(reading, field(number))
        wait_until(lambda: sum(groups) >= 100)
        assert groups == [GROUP_FIELDS, GROUP_FIELDS]
    assert groups == [GROUP_FIELDS, GROUP_FIELDS, 20]


def test_a_lone_field_is_committed_in_time(path):
    """A field that nothing follows is safe within 200 ms and the time of a commit; another connection sees it."""
    safe = threading.Event()
    with Store.open(path, on_commit=lambda _: safe.set()) as store:
        reading = store.reading("slide", spec())
        start = time.monotonic()
        store.add(reading, field(1))
        assert safe.wait(10)
        assert GROUP_S * 0.9 <= time.monotonic() - start < GROUP_S + 3.0  # a busy machine is not what is tested
        with Reader.open(path) as reader:
            assert len(reader.fields(reading)) == 1


def test_fields_are_shown_after_they_are_safe(path):
    """When on_commit is told of a field, another connection sees it; fields come in order, each once."""
    seen = []

    def show(stored):
        with Reader.open(path) as reader:
            for one in stored:
                (row,) = reader.rows("SELECT sha256 FROM fields WHERE id = ?", (one.field_id,))
                assert row["sha256"] == one.field.sha256
        seen.extend(one.field.path for one in stored)

    with Store.open(path, on_commit=show) as store:
        reading = store.reading("slide", spec())
        for number in range(130):
            store.add(reading, field(number))
    assert seen == [f"{number}.png" for number in range(130)]


def test_what_on_commit_raises_reaches_the_caller(path, groups):
    """An error of on_commit on the background thread is raised by the next call; the fields are safe."""

    def fail(_):
        message = "the terminal is gone"
        raise BrokenPipeError(message)

    store = Store.open(path, on_commit=fail)
    reading = store.reading("slide", spec())
    store.add(reading, field(1))
    wait_until(lambda: store._failure is not None)
    with pytest.raises(BrokenPipeError, match="the terminal is gone"):
        store.add(reading, field(2))
    store.close()
    with Reader.open(path) as reader:
        assert len(reader.fields(reading)) == 1


def test_many_threads_may_add(path):
    """Fields added by four threads at once are all there, each once."""
    with Store.open(path) as store:
        reading = store.reading("slide", spec())

        def add(first):
            for number in range(first, 200, 4):
                store.add(reading, field(number))

        threads = [threading.Thread(target=add, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with Reader.open(path) as reader:
        assert sorted(row["sha256"] for row in reader.fields(reading)) == sorted(sha256(n) for n in range(200))


def test_close_twice_is_fine_and_the_state_shows(path):
    """close() may be called again; repr tells the state; adding after it is an error that says so."""
    store = Store.open(path)
    reading = store.reading("slide", spec())
    assert repr(store) == f"Store({path}, open)"
    store.close()
    store.close()
    assert repr(store) == f"Store({path}, closed)"
    for call in (lambda: store.add(reading, field(1)), lambda: store.fields(reading)):
        with pytest.raises(StoreError, match="this Store is closed"):
            call()
    assert not any(thread.name == "bce-store" for thread in threading.enumerate())


# The same again


def test_the_same_picture_again_is_an_event(path, groups):
    """The same content on the same slide under the same model adds no row but an event that names both."""
    told = []
    with Store.open(path, on_commit=told.extend) as store:
        reading = store.reading("slide", spec())
        store.add(reading, field(1, "MONOCYTE"))
        store.add(reading, replace(field(1, "MONOCYTE"), path="copy of 1.png"))
        store.flush()
        store.add(reading, field(1, "NEUTROPHIL"))
        store.flush()
        assert [row["label"] for row in store.cells(reading)] == ["MONOCYTE"]
        assert [row["message"] for row in store.events()] == ["copy of 1.png", "1.png"]
        assert {row["field_id"] for row in store.events()} == {told[0].field_id}
    assert [one.again for one in told] == [False, True, True]
    assert {one.field_id for one in told} == {told[0].field_id}


def test_a_field_is_known_by_slide_content_and_model(path):
    """The same picture on another slide, or under another model, is another field; differentials keep them apart."""
    with Store.open(path) as store:
        readings = [
            store.reading("A", spec()),
            store.reading("B", spec()),
            store.reading("A", spec(sha256="cd" * 32)),
        ]
        for reading in readings:
            store.add(reading, field(1, "MONOCYTE"))
        store.flush()
        assert [store.differential(reading).identified for reading in readings] == [1, 1, 1]
        assert set(store.readings()) == set(readings)
        assert store.readings("B") == (readings[1],)


def test_readings_come_in_the_order_a_slide_was_read(path):
    """The model that read a slide first stands first there, also where another slide had them the other way round."""
    with Store.open(path) as store:
        early, late = store.reading("A", spec()), store.reading("A", spec(sha256="cd" * 32))
        store.add(late, field(1, "MONOCYTE"))
        store.add(early, field(1, "MONOCYTE"))
        store.flush()
        assert store.readings("A") == (late, early)


def test_a_slide_name_that_is_no_utf8_is_escaped(path):
    """A folder's name may hold any bytes; the slide is found again by the same name."""
    with Store.open(path) as store:
        reading = store.reading("s\udcff", spec(), file="m\udcff.tflite")
        store.add(reading, field(1, "MONOCYTE"))
        store.flush()
        assert reading.slide == r"s\udcff"
        assert store.readings("s\udcff") == (reading,)


def test_a_known_picture_is_known_before_its_commit(path, patient):
    """has() is true from the moment a field is added, so that a resumed folder is not looked at twice."""
    with Store.open(path) as store:
        reading = store.reading("slide", spec())
        assert not store.has(reading, sha256(1))
        store.add(reading, field(1))
        assert store.has(reading, sha256(1))
        store.flush()
        assert store.has(reading, sha256(1))
        assert not store.has(store.reading("other", spec()), sha256(1))


def test_entering_a_slide_again_changes_nothing(path):
    """The same slide and model give the same ids, also after closing."""
    with Store.open(path) as store:
        first = store.reading("slide", spec())
    with Store.open(path) as store:
        assert store.reading("slide", spec()) == first
        assert len(store.rows("SELECT * FROM slides")) == len(store.rows("SELECT * FROM models")) == 1


def test_clock_jumps_do_not_reorder(path):
    """Fields and events keep the order they were taken in, where the clock jumps back a day and forward a year."""
    moments = [START, START - timedelta(days=1), START + timedelta(days=365), START]
    with Store.open(path) as store:
        reading = store.reading("slide", spec())
        for number, moment in enumerate(moments):
            store.add(reading, replace(field(number), taken_at=moment))
            store.event("test", str(number), at=moment)
        store.flush()
        assert [row["path"] for row in store.fields(reading)] == [f"{n}.png" for n in range(4)]
        assert [row["message"] for row in store.events()] == ["0", "1", "2", "3"]


# The differential


def test_the_differential_counts_each_cell_once(path):
    """Counts are of counted cells; UNIDENTIFIED and marked ones are in the share unidentified and nowhere else."""
    repeated = cell("LYMPHOCYTE", counted=False)
    cells = (*(cell("NEUTROPHIL") for _ in range(6)), cell("MONOCYTE"), repeated, cell(UNIDENTIFIED, mark="edge"))
    with Store.open(path) as store:
        reading = store.reading("slide", spec(reject_threshold=0.5))
        store.add(reading, replace(field(1), cells=cells))
        store.add(reading, field(2, UNIDENTIFIED))
        store.add(reading, refused(3))
        store.flush()
        found = store.differential(reading, cells=5)
    assert dict(found.counts) == {"EOSINOPHIL": 0, "LYMPHOCYTE": 0, "MONOCYTE": 1, "NEUTROPHIL": 6}
    assert found.unidentified == 2
    assert found.sufficient
    assert found.unit == "cells"


def test_the_correction_takes_rejected_cells_by_their_top_label(path):
    """A confusion matrix ignores rejection, so the corrected share is of all cells asked about, marked ones apart."""
    figures = {"confusion": [[90, 0, 0, 10, 0], [0, 100, 0, 0, 0], [0, 0, 100, 0, 0], [5, 0, 0, 95, 0]]}
    cells = (cell("MONOCYTE"), cell(UNIDENTIFIED), cell(UNIDENTIFIED, mark="edge"))
    with Store.open(path) as store:
        reading = store.reading("slide", spec(figures=figures))
        store.add(reading, replace(field(1), cells=cells))
        store.flush()
        found = store.differential(reading)
    assert found.identified == 1
    assert found.correction.n == 2
    assert found.correction.shares["NEUTROPHIL"].percent == pytest.approx(50, abs=3)


def test_the_spec_that_is_kept_knows_the_figures(path):
    """A model's spec comes back without golden samples and hashes of its training pictures, all else as it was."""
    given = spec(figures={"n": 5}, seen={"files": "abc"}, representative=({"file": "a", "sha256": "b"},))
    with Store.open(path) as store:
        reading = store.reading("slide", given)
    with Reader.open(path) as reader:
        assert reader.spec(reading) == given.with_(seen={}, representative=())


def test_a_slide_that_is_not_there_is_named_with_those_that_are(path):
    """Asking for an unknown slide says which there are."""
    with Store.open(path) as store:
        store.add(store.reading("slide 12", spec()), field(1))
        store.flush()
        with pytest.raises(StoreError, match="no field of a slide 'slide 13'; slides: slide 12"):
            store.readings("slide 13")


# Room for crops


def crops(store):
    return [row["cell_id"] for row in store.rows("SELECT cell_id FROM crops ORDER BY cell_id")]


def test_the_oldest_crops_go_first_and_no_row_with_them(path):
    """Beyond the budget the oldest crops are dropped, cells and counts stay, and it is said once."""
    said = []
    with Store.open(path, crop_budget=10_000, on_notice=said.append) as store:
        reading = store.reading("slide", spec())
        for number in range(40):
            store.add(reading, field(number, "MONOCYTE", crop=bytes(1000)))
            store.flush()
        kept = crops(store)
        assert kept == list(range(41 - len(kept), 41))
        assert 9 <= len(kept) <= 10
        assert store.differential(reading).identified == 40
        assert len([row for row in store.events() if row["kind"] == "crops"]) == len(said) == 1
    with Store.open(path, crop_budget=5_000) as store:
        store.add(reading, field(99, "MONOCYTE", crop=bytes(1000)))
        store.flush()
        assert len(crops(store)) == 4, "the budget counts what earlier runs kept"


def test_crops_with_a_review_go_last(path):
    """A crop that a person labelled outlives newer ones without."""
    with Store.open(path, crop_budget=5_000) as store:
        reading = store.reading("slide", spec())
        store.add(reading, field(0, "MONOCYTE", crop=bytes(1000)))
        store.flush()
        store.review(1, "LYMPHOCYTE", reviewer="A. Person")
        for number in range(1, 20):
            store.add(reading, field(number, "MONOCYTE", crop=bytes(1000)))
        store.flush()
        assert crops(store)[0] == 1
        assert crops(store)[-1] == 20
        assert store.cells(reading)[0]["reviewed"] == "LYMPHOCYTE"
        assert store.cells(reading)[0]["label"] == "MONOCYTE"


def test_no_budget_leaves_the_crops_of_earlier_runs(path):
    """A run that adds no crop drops none, however little room it was given."""
    with Store.open(path) as store:
        store.add(store.reading("slide", spec()), field(1, "MONOCYTE", crop=b"abc"))
    with Store.open(path, crop_budget=0) as store:
        store.add(store.reading("slide", spec()), field(2, "MONOCYTE"))
        store.flush()
        assert len(crops(store)) == 1


def test_no_budget_keeps_no_crop(path):
    """With a budget of 0 every cell has its row and none its picture."""
    with Store.open(path, crop_budget=0) as store:
        reading = store.reading("slide", spec())
        store.add(reading, field(1, "MONOCYTE", crop=b"abc"))
        store.flush()
        assert crops(store) == []
        assert len(store.cells(reading)) == 1


@pytest.mark.parametrize(("cell_id", "label"), [(99, "MONOCYTE"), (1, "../MONOCYTE"), (1, "monocyte")])
def test_a_review_of_nothing_or_by_no_name_is_refused(path, cell_id, label):
    """A review needs a cell that is there and a class name, since that may become a folder."""
    with Store.open(path) as store:
        store.add(store.reading("slide", spec()), field(1, "MONOCYTE"))
        store.flush()
        with pytest.raises(StoreError, match=r"no cell 99|expected a class name"):
            store.review(cell_id, label, reviewer="A. Person")
        assert store.rows("SELECT * FROM reviews") == []


# A full disk


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


on_a_small_disk = pytest.mark.may_skip if os.geteuid() else pytest.mark.usefixtures("small_disk")


@on_a_small_disk
def test_a_full_disk_is_said_and_survived(small_disk):
    """On a full disk the caller gets one line, what was shown stays, and with space again everything else follows."""
    path, shown = small_disk / "s.sqlite", []
    ballast = small_disk / "ballast"
    with Store.open(path, on_commit=shown.extend) as store:
        reading = store.reading("slide", spec())
        number = 0
        ballast.write_bytes(bytes(300_000))
        with pytest.raises(StoreError) as full:  # noqa: PT012  how many fields fit is not what is tested
            for number in range(10_000):
                store.add(reading, field(number, "MONOCYTE", crop=bytes(2000)))
        assert str(full.value).startswith(f"{path}: no space left on its disk")
        assert "\n" not in str(full.value)
        with pytest.raises(StoreError, match="no space left"):
            store.add(reading, field(number, "MONOCYTE", crop=bytes(2000)))
        safe = len(shown)
        assert len(store.fields(reading)) == safe

        ballast.unlink()
        wait_until(lambda: len(shown) > safe)  # the background thread goes on by itself
        for later in range(number, number + 5):
            store.add(reading, field(later, "MONOCYTE"))
        store.flush()
        assert [one.field.path for one in shown] == [f"{n}.png" for n in range(number + 5)]
        assert not any(one.again for one in shown)
        assert store.rows("PRAGMA integrity_check")[0][0] == "ok"
    with Reader.open(path) as reader:
        assert len(reader.fields(reading)) == number + 5


@on_a_small_disk
def test_closing_on_a_full_disk_says_so_and_leaves_a_whole_file(small_disk):
    """close() raises where the rest does not fit; the file is whole, and the same pictures complete it later."""
    path, shown = small_disk / "s.sqlite", []
    ballast = small_disk / "ballast"
    store = Store.open(path, on_commit=shown.extend)
    reading = store.reading("slide", spec())
    store.add(reading, field(0, "MONOCYTE"))
    store.flush()
    with ballast.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space"):  # noqa: PT012
        while True:
            stream.write(bytes(512))
    for number in range(1, 40):
        store._put((reading, field(number, "MONOCYTE", crop=bytes(2000))))
    with pytest.raises(StoreError, match="no space left"):
        store.close()
    assert [one.field.path for one in shown] == ["0.png"]

    ballast.unlink()
    with Store.open(path) as store:
        assert store.salvage is None
        assert len(store.fields(reading)) == 1
        for number in range(40):
            store.add(reading, field(number, "MONOCYTE", crop=bytes(2000)))
        store.flush()
        assert len(store.fields(reading)) == 40


@on_a_small_disk
def test_opening_on_a_full_disk_says_so(small_disk):
    """Where there is no room for a new store, opening says so in one line, and works once there is."""
    path, ballast = small_disk / "s.sqlite", small_disk / "ballast"
    with ballast.open("wb", buffering=0) as stream, pytest.raises(OSError, match="No space"):  # noqa: PT012
        while True:
            stream.write(bytes(512))
    with pytest.raises(StoreError, match="no space left"):
        Store.open(path)
    ballast.unlink()
    with Store.open(path) as store:
        assert store.salvage is None


def test_a_folder_that_cannot_be_written_says_so(tmp_path):
    """A store inside a file, or below one, is one line with the path."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"file/s\.sqlite: cannot be opened or written"):
        Store.open(tmp_path / "file" / "s.sqlite")


# Size


def test_100_fields_a_second_are_no_burden(path):
    """2,000 fields with 3 cells each go in at more than 200 a second, and memory holds one group at most."""
    with Store.open(path) as store:
        reading = store.reading("slide", spec())
        start = time.monotonic()
        for number in range(2000):
            store.add(reading, field(number, "MONOCYTE", "NEUTROPHIL", "NEUTROPHIL"))
            assert len(store._pending) <= GROUP_FIELDS
        store.flush()
        assert time.monotonic() - start < 10
        assert store.differential(reading).identified == 6000


def test_the_store_loads_neither_opencv_nor_an_interpreter(tmp_path):
    """A script that reads a store pays for numpy alone."""
    code = "import sys, bloodcell_edge.slide.export; print({'cv2', 'ai_edge_litert', 'tensorflow'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.strip() == "set()"
