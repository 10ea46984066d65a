"""The loop from a source to the store: what is counted, what is refused, and what another run adds."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import asdict, replace
from datetime import datetime, timezone
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest

from bloodcell_edge.capture import open_source
from bloodcell_edge.capture.triggers import EveryFrame
from bloodcell_edge.errors import SourceError, SpecError
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.image import decode
from bloodcell_edge.imaging.located import Box, Located
from bloodcell_edge.imaging.quality import QualityLimits
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.records import UNIDENTIFIED, Frame
from bloodcell_edge.slide.reader import Reader
from bloodcell_edge.slide.run import Settings, count_slide
from bloodcell_edge.slide.store import Store

SCAN = "fake:smear?stage=scan&pace=0&cells=2"


class Given:
    """A source that is no source of ours: it gives pictures, and hears of nothing."""

    name, live, endless = "Given", False, False

    def __init__(self, *pictures):
        self.pictures = pictures

    def listen(self, **_):
        """It has nothing to tell."""

    def __iter__(self):
        for number, picture in enumerate(self.pictures, 1):
            yield Frame(np.ascontiguousarray(picture), datetime.now(timezone.utc), time.monotonic_ns(), number)


def picture(seed, labels=("NEUTROPHIL",)):
    return draw_field(seed, labels).image


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image[..., ::-1])


@pytest.fixture
def classifier(tiny_cell_model):
    return Classifier.open(tiny_cell_model())


@pytest.fixture
def folder(tmp_path) -> Path:
    """Twelve drawn fields, and a blurred one."""
    for number in range(12):
        save(tmp_path / "slide" / f"{number}.png", picture(number, ("NEUTROPHIL",) * (1 + number % 3)))
    blurred = cv2.GaussianBlur(picture(99), (0, 0), 8)
    save(tmp_path / "slide" / "blurred.png", blurred)
    return tmp_path / "slide"


@pytest.fixture
def take(classifier, tmp_path):
    """Run a URL or a source into a store in tmp_path: ``take(source, slide="a")`` gives the outcome."""

    def do(source, *, slide="slide", store="s.sqlite", **options):
        with Store.open(tmp_path / store) as to:
            if not isinstance(source, str):
                return count_slide(source, classifier, to, slide=slide, **options)
            with open_source(source) as opened:
                return count_slide(opened, classifier, to, slide=slide, **options)

    return do


def rows(path, table="cells JOIN fields ON fields.id = field_id"):
    """What does not depend on when it was done."""
    wanted = (
        "path, sha256, status, reason, label, score, x, y, cells.width, cells.height, mark, counted, scores, quality"
        if "cells" in table
        else "path, sha256, status, reason, n_cells, quality"
    )
    order = "x, y" if "cells" in table else "sha256"
    with Reader.open(path) as reader:
        return [tuple(row) for row in reader.rows(f"SELECT {wanted} FROM {table} ORDER BY path, {order}")]


def test_every_picture_of_a_folder_is_a_field(take, folder, tmp_path):
    """Each is taken in, in natural order, shown with the count so far; the blurred one is refused with its number."""
    shown = []
    done = take(f"folder:{folder}", on_field=shown.append)

    assert (done.used, done.refused, done.again, done.unreadable, done.ended) == (12, 1, 0, 0, "source")
    assert [Path(one.field.path).stem for one in shown] == [*map(str, range(12)), "blurred"]
    assert [one.field_id for one in shown] == list(range(1, 14))
    assert shown[-1].field.status == "refused"
    assert shown[-1].field.reason.startswith("focus ")
    assert shown[-1].field.cells == ()
    assert set(shown[0].field.quality) == set(asdict(QualityLimits()))
    assert sum(shown[-1].counts.values()) == sum(len(one.field.cells) for one in shown) == 24
    assert list(shown[-1].counts) == ["RED", "GREEN", "BLUE", UNIDENTIFIED]
    with Reader.open(tmp_path / "s.sqlite") as reader:
        counted = reader.differential(done.reading)
    assert {**counted.counts, UNIDENTIFIED: counted.unidentified} == shown[-1].counts


def test_looking_ahead_changes_nothing(take, folder, tmp_path):
    """A folder looked at on several threads gives the tables of one that is looked at picture by picture."""

    class Deaf:
        """The folder, which cannot be told to look ahead."""

        name, live, endless = "Deaf", False, False

        def __init__(self, source):
            self.source = source

        def listen(self, **_):
            """It does not hear."""

        def __iter__(self):
            return iter(self.source)

    take(f"folder:{folder}")
    with open_source(f"folder:{folder}") as source:
        take(Deaf(source), store="deaf.sqlite")

    for table in ("fields", "cells JOIN fields ON fields.id = field_id"):
        assert rows(tmp_path / "s.sqlite", table) == rows(tmp_path / "deaf.sqlite", table)
    crops = []
    for name in ("s", "deaf"):
        with Reader.open(tmp_path / f"{name}.sqlite") as reader:
            crops.append([bytes(row["jpeg"]) for row in reader.rows("SELECT jpeg FROM crops ORDER BY cell_id")])
    assert crops[0] == crops[1] != []


def test_a_field_is_shown_after_its_commit(take, folder, tmp_path):
    """Whoever is told of a field finds it, with its cells, in the file."""
    found = []

    def look(progress):
        with Reader.open(tmp_path / "s.sqlite") as reader:
            row = reader.rows("SELECT path, n_cells FROM fields WHERE id = ?", (progress.field_id,))[0]
            found.append(tuple(row) == (progress.field.path, len(progress.field.cells)))

    take(f"folder:{folder}", on_field=look)
    assert found == [True] * 13


def test_the_same_folder_again_adds_nothing(take, folder, tmp_path):
    """Nor does a copy of a picture: each is an event. What is new is added, and the count goes on."""
    take(f"folder:{folder}")
    before = rows(tmp_path / "s.sqlite", "fields")
    save(folder / "new.png", picture(50))
    (folder / "x.png").write_bytes((folder / "0.png").read_bytes())

    shown = []
    done = take(f"folder:{folder}", on_field=shown.append)

    assert (done.used, done.refused, done.again) == (1, 0, 14)
    assert [Path(one.field.path).name for one in shown] == ["new.png"]
    assert sum(shown[0].counts.values()) == 25
    assert set(rows(tmp_path / "s.sqlite", "fields")) >= set(before)
    with Reader.open(tmp_path / "s.sqlite") as reader:
        assert [event["kind"] for event in reader.events()] == ["again"] * 14


def test_another_slide_is_counted_for_itself(take, folder):
    """The same pictures under another slide's name are new."""
    take(f"folder:{folder}")
    assert take(f"folder:{folder}", slide="other").used == 12


@pytest.mark.parametrize("stop_at", [1, 3, 6, 9, 14])
def test_overlap_is_known_again_wherever_a_run_was_stopped(take, tmp_path, stop_at):
    """A folder of a scan, stopped in the middle of a row and gone on with: each shared cell is counted once."""
    with open_source(f"{SCAN}&columns=4&rows=4&rest=1") as source:
        still = [one for one in source if (one.number - 1) % 4 == 0]
    for number, one in enumerate(still):
        save(tmp_path / "scan" / f"{number}.png", one.image)
    settings, asked = Settings(overlap=True), itertools.count()
    source = f"folder:{tmp_path}/scan"
    take(source, store="whole.sqlite", settings=settings)
    # `stop` may be asked while nothing comes, too; each field asks once at least, so that at most so many are taken in
    take(source, settings=settings, stop=lambda: next(asked) >= stop_at)
    taken = len(rows(tmp_path / "s.sqlite", "fields"))
    take(source, settings=settings)

    assert taken <= stop_at
    assert rows(tmp_path / "s.sqlite") == rows(tmp_path / "whole.sqlite")
    assert {row[-3] for row in rows(tmp_path / "s.sqlite")} == {0, 1}


@pytest.mark.parametrize("overlap", [None, True])
def test_a_run_that_was_stopped_ends_as_if_it_was_not(take, tmp_path, overlap):
    """Stopped after 4 and again after 9 fields, also where cells are counted once under overlap: the same tables."""
    with open_source(f"{SCAN}&columns=4&rows=4&rest=1") as source:
        still = [one for one in source if (one.number - 1) % 4 == 0]  # three frames move from each to the next
    for number, one in enumerate(still):
        save(tmp_path / "scan" / f"{number}.png", one.image)
    settings = Settings(overlap=overlap)
    source = f"folder:{tmp_path}/scan"
    take(source, store="whole.sqlite", settings=settings)
    for fields in (4, 5, 99):
        shown = []
        take(source, on_field=shown.append, settings=settings, stop=lambda n=fields, so_far=shown: len(so_far) >= n)

    assert len(rows(tmp_path / "s.sqlite", "fields")) == 16
    assert rows(tmp_path / "s.sqlite") == rows(tmp_path / "whole.sqlite")
    assert rows(tmp_path / "s.sqlite", "fields") == rows(tmp_path / "whole.sqlite", "fields")
    assert {row[-3] for row in rows(tmp_path / "s.sqlite")} == {0, 1}


def test_a_slide_has_one_scale(take, folder, tmp_path):
    """Fields of a folder are named by the median of their scales; a scale that is given holds."""
    take(f"folder:{folder}", slide="pooled")
    take(f"folder:{folder}", slide="single", settings=Settings(together=1))
    take(f"folder:{folder}", slide="given", settings=Settings(um_per_px=0.15))
    with Reader.open(tmp_path / "s.sqlite") as reader:
        readings = {one.slide: one for one in reader.readings()}
        scales = {
            name: [row["um_per_px"] for row in reader.fields(one) if row["status"] == "used"]
            for name, one in readings.items()
        }
        looks = [look.red_cell_px for look in reader.first_looks(readings["pooled"])]
        told = reader.microscope(readings["pooled"])

    assert set(scales["given"]) == {0.15}
    assert len(set(scales["single"])) > 3
    assert len(set(scales["pooled"])) == 1
    assert scales["pooled"][0] == pytest.approx(7.5 / np.median(looks), rel=0.02)
    assert told.fields == 12
    assert told.rulers[240, 320].red_cell_px == pytest.approx(np.median(looks), rel=0.01)


@pytest.mark.parametrize("stops", [(1, 5), (4, 9), (3, 99)])
def test_a_slide_of_one_scale_may_be_stopped_anywhere(take, folder, tmp_path, stops):
    """Going on gives the same cells, scores and scales as a run that was not stopped."""
    settings = Settings(together=4)
    take(f"folder:{folder}", store="whole.sqlite", settings=settings)
    for fields in (*stops, 99):
        shown = []
        take(
            f"folder:{folder}",
            on_field=shown.append,
            settings=settings,
            stop=lambda n=fields, so_far=shown: len(so_far) >= n,
        )

    assert rows(tmp_path / "s.sqlite") == rows(tmp_path / "whole.sqlite")
    assert rows(tmp_path / "s.sqlite", "fields") == rows(tmp_path / "whole.sqlite", "fields")
    with Reader.open(tmp_path / "s.sqlite") as one, Reader.open(tmp_path / "whole.sqlite") as other:
        scales = "SELECT path, um_per_px FROM fields ORDER BY path"
        assert [tuple(row) for row in one.rows(scales)] == [tuple(row) for row in other.rows(scales)]


class Stream(Given):
    """As a camera: it never ends by itself, so that nothing may wait."""

    endless = True


def test_a_field_that_comes_again_is_held_once(take, monkeypatch):
    """A camera that shows two fields fifty times each names two again at the end, not a hundred."""
    renamed, rename = [], Store.rename

    def counting(store, reading, sha256, **values):
        renamed.append(sha256)
        rename(store, reading, sha256, **values)

    monkeypatch.setattr(Store, "rename", counting)
    done = take(Stream(*[picture(0), picture(1)] * 50), settings=Settings(overlap=True, cells=999))
    assert (done.used, done.again) == (2, 98)
    assert len(renamed) == len(set(renamed)) == 2


@pytest.mark.parametrize("overlap", [False, True])
def test_the_first_fields_of_a_camera_are_named_once_more(take, classifier, monkeypatch, tmp_path, overlap):
    """Each when it comes, by those before it; after 20 all have the scale of all, and what was counted stays."""
    levels = iter([30.0, *(50.0 + number % 3 for number in range(29))])
    locate = classifier.locator

    def with_ruler(image, *, um_per_px=None):
        return replace(locate(image, um_per_px=um_per_px), red_cell_px=next(levels))

    monkeypatch.setattr(classifier, "locator", with_ruler)
    shown = []
    done = take(Stream(*map(picture, range(30))), on_field=shown.append, settings=Settings(overlap=overlap, cells=999))
    with Reader.open(tmp_path / "s.sqlite") as reader:
        rows = [row for row in reader.fields(done.reading) if row["status"] == "used"]
        counted = reader.differential(done.reading)
        cells = reader.rows("SELECT count(*) AS n, total(counted) AS counted FROM cells")[0]
    assert len(rows) == 30
    assert [round(7.5 / row["um_per_px"]) for row in rows] == [30] + [51] * 29  # the first contradicts the others
    assert 7.5 / shown[3].field.um_per_px == pytest.approx(50)  # as it came, by three others
    assert cells["n"] == sum(len(one.field.cells) for one in shown)
    assert cells["counted"] == sum(shown[-1].counts.values()) == counted.identified + counted.unidentified


def test_another_objective_is_told_once(take, folder, tmp_path):
    """A field of twice the magnification keeps its scale: an event, and a notice for a person."""
    coarse = draw_field(77, ("NEUTROPHIL",) * 3, um_per_px=0.4).image
    save(folder / "x-coarse.png", coarse)
    notices = []
    take(f"folder:{folder}", settings=Settings(together=6), on_notice=notices.append)

    told = [notice.text for notice in notices if notice.kind == "microscope"]
    assert len(told) == 1
    assert "another objective?" in told[0]
    with Reader.open(tmp_path / "s.sqlite") as reader:
        scales = {Path(row["path"]).name: row["um_per_px"] for row in reader.rows("SELECT path, um_per_px FROM fields")}
    assert scales["x-coarse.png"] > 1.5 * scales["0.png"]


def test_a_picture_twice_among_those_that_wait_is_one_field(take, folder):
    """The second is an event, as it is where the first is in the store."""
    (folder / "copy.png").write_bytes((folder / "3.png").read_bytes())
    done = take(f"folder:{folder}")
    assert (done.used, done.again) == (12, 1)


def test_a_moving_stage_is_counted_within_2_percent(take):
    """Three scans with 30 % overlap, located, judged and named: the cells counted are those that are there."""
    counted = true = 0
    for seed in (1, 2, 3):
        with open_source(f"{SCAN}&columns=6&rows=5&seed={seed}") as source:
            shown = []
            done = take(source, slide=str(seed), on_field=shown.append, settings=Settings(cells=10_000))
            assert (done.used, done.refused) == (30, 0)
            counted, true = counted + sum(shown[-1].counts.values()), true + source.true_cells()

    assert true > 100
    assert abs(counted - true) <= 0.02 * true


def test_a_still_stage_adds_nothing(take):
    """An hour at one frame a second is one field; every frame of it taken counts no cell twice."""
    still = "fake:smear?stage=still&pace=0&fps=1&cells=3"
    hour = take(f"{still}&count=3600&width=160&height=120&um_per_px=0.4")
    shown = []
    every = take(f"{still}&count=20", slide="every", trigger=EveryFrame(), on_field=shown.append)

    assert (hour.used, hour.refused) == (1, 0)
    assert (every.used, every.refused) == (1, 19)
    assert all("repeated" in one.field.reason for one in shown[1:])
    assert shown[0].counts == shown[-1].counts


def test_a_field_is_known_again_by_the_next_run(take, tmp_path):
    """Going on under a camera on the field last seen, whose noise is another now, refuses it as repeated."""
    field, noise = picture(5, ("NEUTROPHIL", "MONOCYTE")), np.random.default_rng(1)
    again = np.clip(field + noise.normal(0, 2, field.shape), 0, 255).astype(np.uint8)
    settings, trigger = Settings(overlap=True), EveryFrame
    first = take(Given(field), settings=settings, trigger=trigger())
    second = take(Given(again), settings=settings, trigger=trigger())

    assert (first.used, second.used, second.refused) == (1, 0, 1)
    assert {row[0] for row in rows(tmp_path / "s.sqlite")} == {"Given frame 1"}
    assert take(Given(again), slide="other", settings=settings, trigger=trigger()).used == 1


@pytest.fixture
def at_the_edge(classifier, monkeypatch):
    """A drawn field and its cell, which the edge cuts where columns are gone; it is located exactly."""
    drawn = draw_field(1, ("LYMPHOCYTE",))
    cell, width = drawn.cells[0], drawn.image.shape[1]

    def locate(image, *, um_per_px=None):
        gone = max(width - image.shape[1] - cell.x, 0)
        left = cell.width - gone
        x = cell.x - (width - image.shape[1]) if not gone else 0
        seen = left / cell.width
        return Located((Box(x, cell.y, left, cell.height, whole=not gone, touching=False, seen=seen),), 50.0)

    monkeypatch.setattr(classifier, "locator", locate)
    return drawn.image, cell


def test_a_cell_at_the_edge(take, at_the_edge, tmp_path):
    """Half of it is not evaluated and in no count; seven eighths count as any other, but where it comes again whole."""
    image, cell = at_the_edge
    for overlap in (False, True):
        shown = []
        for gone, slide in ((2, "half"), (8, "most")):
            cut = image[:, cell.x + cell.width // gone :]
            done = take(
                Given(cut), slide=f"{slide} {overlap}", on_field=shown.append, settings=Settings(overlap=overlap)
            )
            with Reader.open(tmp_path / "s.sqlite") as reader:
                found = reader.differential(done.reading)
            assert found.not_evaluated == shown[-1].not_evaluated == (gone == 2)
            assert (
                found.identified + found.unidentified == sum(shown[-1].counts.values()) == (gone != 2 and not overlap)
            )
        (half,), (most,) = (one.field.cells for one in shown)
        assert (half.label, half.mark, half.reason, half.counted) == (UNIDENTIFIED, "edge", "edge", False)
        assert (most.mark, most.counted) == ("", not overlap)


def test_a_slide_goes_on_by_the_rule_it_was_begun_with(take, at_the_edge, tmp_path):
    """By the rule of version 1 a cut cell is UNIDENTIFIED and counted; it goes on so and says so, a new slide not."""
    image, cell = at_the_edge
    pictures = [image[:, cell.x + cell.width // gone :] for gone in (8, 9, 2)]
    take(Given(image))
    with closing(sqlite3.connect(tmp_path / "s.sqlite")) as database:
        database.execute("UPDATE fields SET rule = 1")
        database.commit()
    notices, shown = [], []
    old = take(Given(*pictures), on_notice=notices.append, on_field=shown.append)
    new = take(Given(*pictures), slide="new", on_notice=notices.append, on_field=shown.append)

    assert [notice.kind for notice in notices] == ["rule"]
    assert "cut cells counted as UNIDENTIFIED (before version 2 of the store)" in notices[0].text
    marks = [(one.mark, one.counted) for field in shown for one in field.field.cells]
    assert marks == [("edge", True)] * 3 + [("", True)] * 2 + [("edge", False)]
    with Reader.open(tmp_path / "s.sqlite") as reader:
        before, after = (reader.differential(one.reading) for one in (old, new))
        assert [row["rule"] for row in reader.fields(old.reading)] == [1] * 4
        assert [row["rule"] for row in reader.fields(new.reading)] == [2] * 3
        assert [event["kind"] for event in reader.events()] == ["rule"]
    assert before.as_json()["not_evaluated"] == {
        "n": 0, "reason": "edge", "earlier_rule": "cut cells counted as UNIDENTIFIED (before version 2 of the store)",
    }  # fmt: skip
    assert (before.unidentified, after.not_evaluated, after.earlier_rule) == (3, 1, "")


def test_what_was_seen_is_kept_as_a_crop(take, tmp_path):
    """A crop is a JPEG file of the cell's surroundings, at the field's own scale; none where none is wanted."""
    image = picture(5)
    shown = []
    take(Given(image), on_field=shown.append)
    take(Given(image), slide="without", on_field=shown.append, settings=Settings(crops=False))

    (cell,), (other,) = (one.field.cells for one in shown)
    crop = decode(cell.crop)
    x, y, width, height = cell.box
    assert min(crop.shape[:2]) >= max(width, height)
    assert max(crop.shape[:2]) <= 2 * max(width, height) + 40
    seen = image[y : y + height, x : x + width]
    match = cv2.matchTemplate(crop, seen, cv2.TM_CCOEFF_NORMED)
    assert match.max() > 0.98
    assert other.crop is None


def test_a_picture_that_is_too_small_is_refused(take):
    """12 x 12 pixels: stored, with what was expected; the run goes on."""
    shown = []
    take(Given(np.full((12, 12, 3), 200, np.uint8), picture(5)), on_field=shown.append)

    assert [one.field.status for one in shown] == ["refused", "used"]
    assert "at least 16 pixels" in shown[0].field.reason


def test_a_model_of_whole_pictures_gives_one_result_each(tiny_model, folder, tmp_path):
    """Its box is None, it has no crop, and the differential counts pictures."""
    shown = []
    with Store.open(tmp_path / "s.sqlite") as store, open_source(f"folder:{folder}") as source:
        done = count_slide(source, Classifier.open(tiny_model()), store, slide="a", on_field=shown.append)
        counted = store.differential(done.reading)

    assert [[(cell.box, cell.crop) for cell in one.field.cells] for one in shown] == [[(None, None)]] * 12 + [[]]
    assert (counted.unit, counted.identified) == ("pictures", 12)


def test_cameras_stop_at_so_many_cells_and_folders_do_not(take, folder):
    """A drawn camera ends with the field that has the fifth identified cell, and at once when it is asked again."""
    settings = Settings(cells=5)
    shown = []
    done = take("fake:smear?fps=0&cells=2", on_field=shown.append, settings=settings)
    again = take("fake:smear?fps=0&cells=2", settings=settings)

    identified = [sum(one.counts.values()) - one.counts[UNIDENTIFIED] for one in shown]
    assert done.ended == "cells"
    assert identified[-1] >= 5 > identified[-2]
    assert (again.ended, again.used) == ("cells", 0)
    assert take(f"folder:{folder}", slide="files", settings=settings).used == 12


def test_limits_decide_what_is_refused(take):
    """With focus asked for as nobody has it, a sharp field is refused; with 0, a blurred one is used."""
    blurred = cv2.GaussianBlur(picture(5), (0, 0), 8)
    assert take(Given(picture(5)), settings=Settings(limits=QualityLimits(focus=50))).refused == 1
    assert take(Given(blurred), settings=Settings(limits=QualityLimits(focus=0))).used == 1


def test_a_repeated_field_is_refused_only_where_a_stage_moves(take):
    """The same field with new noise: folders and the like drop nothing, under a stage it is refused as repeated."""
    noise = np.random.default_rng(1).integers(-3, 4, (2, *picture(5).shape))
    fields = [np.clip(picture(5) + one, 0, 255).astype(np.uint8) for one in noise]
    assert take(Given(*fields)).used == 2
    shown = []
    take(Given(*fields), slide="stage", settings=Settings(overlap=True), on_field=shown.append)
    assert [one.field.status for one in shown] == ["used", "refused"]
    assert shown[1].field.reason.startswith("repeated ")


def test_what_happens_at_the_source_is_an_event(take, folder, tmp_path):
    """A file that is no picture is counted, told and an event of its slide; the rest goes on."""
    (folder / "5.png").write_bytes(b"no picture")
    told = []
    done = take(f"folder:{folder}", on_notice=told.append)

    assert (done.used, done.unreadable) == (11, 1)
    assert [notice.kind for notice in told] == ["unreadable"]
    with Reader.open(tmp_path / "s.sqlite") as reader:
        (event,) = reader.events()
        assert (event["kind"], event["slide_id"]) == ("unreadable", done.reading.slide_id)
        assert "5.png: expected a JPEG, PNG, TIFF, BMP or WebP" in event["message"]


def test_a_source_that_fails_is_an_event_and_an_error(take, tmp_path):
    """What came before it failed is stored and shown; the store says why it ended."""

    class Failing(Given):
        def __iter__(self):
            yield from super().__iter__()
            message = "scope: unplugged"
            raise SourceError(message)

    shown = []
    with pytest.raises(SourceError, match="unplugged"):
        take(Failing(picture(5)), on_field=shown.append)

    assert len(shown) == 1
    with Reader.open(tmp_path / "s.sqlite") as reader:
        assert [(event["kind"], event["message"]) for event in reader.events()] == [("given up", "scope: unplugged")]


def test_names_that_are_no_text_are_escaped(take, tmp_path):
    """A file name of bytes that are no UTF-8 is a path in the store, readable and not mangled twice."""
    save(tmp_path / "in" / "a.png", picture(5))
    (tmp_path / "in" / "a.png").rename(tmp_path / "in" / os.fsdecode(b"a\xff.png"))
    shown = []
    take(f"folder:{tmp_path}/in", on_field=shown.append)
    assert shown[0].field.path == f"{tmp_path}/in/a\\udcff.png"


def test_somebody_else_may_write_to_the_store_meanwhile(classifier, tmp_path):
    """Fields that another part of the program adds are not shown as this run's; who was told before still is."""
    told, shown = [], []
    with Store.open(tmp_path / "s.sqlite", on_commit=told.extend) as store:
        other = store.reading("other", classifier.spec)

        numbers = count()

        def stop():
            store.add(other, make_field(next(numbers)))
            return False

        def show(progress):
            shown.append(progress.field.path)

        count_slide(Given(picture(5), picture(6)), classifier, store, slide="a", on_field=show, stop=stop)
        store.add(other, make_field(100))

    assert shown == ["Given frame 1", "Given frame 2"]
    assert len(told) > 3
    assert told[-1].field.path == "100.png"


def make_field(number):
    from store_writer import field

    return field(number)


def test_a_model_without_its_hash_is_refused(classifier, tmp_path):
    """No result could be traced to it."""
    bare = Classifier(classifier.spec.with_(sha256=""), classifier.interpreter)
    with Store.open(tmp_path / "s.sqlite") as store, pytest.raises(SpecError, match="without its sha256"):
        count_slide(Given(picture(5)), bare, store, slide="a")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.may_skip
def test_a_full_disk_is_waited_for(classifier, small_disk):
    """It is said once, nothing is taken in until there is room again, and then no field is missing."""
    told, shown, ballast = [], [], small_disk / "ballast"
    ballast.write_bytes(bytes(7_500_000))

    def tell(notice):
        told.append(notice)
        if len(told) == 1:
            ballast.unlink()

    source = open_source("fake:smear?fps=0&count=60&cells=3")
    with Store.open(small_disk / "s.sqlite", crop_budget=10**9) as store, source:
        done = count_slide(
            source,
            classifier,
            store,
            slide="a",
            on_field=shown.append,
            on_notice=tell,
            settings=Settings(cells=10_000),
        )
        assert len(store.fields(done.reading)) == len(shown) == done.used + done.refused == 60

    assert [notice.kind for notice in told] == ["full", "full"]
    assert "no space left" in told[0].text
    assert "room on its disk again" in told[1].text
