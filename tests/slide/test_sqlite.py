"""The file of a store: versions, one writer, and what becomes of a damaged one."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from datetime import datetime, timedelta, timezone

import pytest
from store_writer import field, refused, spec

from bloodcell_edge.errors import MissingFile, StoreError
from bloodcell_edge.slide import salvage, tables
from bloodcell_edge.slide.reader import CUT_UNIDENTIFIED, Reader
from bloodcell_edge.slide.sqlite import WriterLock
from bloodcell_edge.slide.store import Store
from bloodcell_edge.slide.tables import APPLICATION_ID, MIGRATIONS, TABLES
from bloodcell_edge.text import utc

FIELDS = 200


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.sqlite"


def fill(path, fields=FIELDS):
    """Write so many fields and close; each has as many cells as its number says, with crops."""
    with Store.open(path) as store:
        reading = store.reading("slide", spec())
        for number in range(fields):
            store.add(reading, refused(number) if number % 10 == 9 else field(number, crop=bytes([number]) * 1500))
    return reading


def hashes(path):
    """The pictures in a store, with the number of cells of each."""
    with Reader.open(path) as reader:
        return {
            row["sha256"]: row["n"]
            for row in reader.rows(
                "SELECT sha256, (SELECT count(*) FROM cells WHERE field_id = fields.id) AS n FROM fields"
            )
        }


def asides(path):
    return sorted(path.parent.glob("s.damaged-*.sqlite"))


# Versions


def test_a_new_store_has_the_tables_that_are_promised(path):
    """slides, fields, cells, events, models and reviews are there, with the columns that checks from outside read."""
    fill(path, 1)
    with closing(sqlite3.connect(path)) as database:
        columns = {table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")] for table in TABLES}

    assert {"slides", "fields", "cells", "events", "models", "reviews"} <= set(columns)
    assert columns["fields"][:8] == "id slide_id model_id path sha256 taken_at status reason".split()
    assert columns["cells"][:8] == "id field_id label score x y width height".split()


def test_an_older_store_is_brought_up_and_keeps_its_rows(path, monkeypatch):
    """A file of this version opened by a bce that knows a made-up next one gets its column, and loses nothing."""
    fill(path)
    before = hashes(path)
    newer = ("ALTER TABLE slides ADD COLUMN stain TEXT NOT NULL DEFAULT 'unknown'",)
    monkeypatch.setattr(tables, "MIGRATIONS", (*MIGRATIONS, newer))

    now = len(MIGRATIONS)
    with pytest.raises(StoreError, match=f"store version {now}, expected {now + 1}"):
        Reader.open(path)
    with Store.open(path) as store:
        assert store.rows("SELECT stain FROM slides")[0][0] == "unknown"
        assert store.rows("PRAGMA user_version")[0][0] == now + 1
    assert hashes(path) == before


def test_a_store_of_version_1_opens_and_keeps_its_counts(path):
    """A reader sees it as one of today without changing it, a writer brings it up; both say by which rule it counts."""
    make_version_1(path)
    content = path.read_bytes()

    def said(reader):
        (reading,) = reader.readings()
        why = [row["why"] for row in reader.cells(reading)]
        return reading, reader.differential(reading).as_json(), why

    with Reader.open(path) as reader:
        before = said(reader)
    assert path.read_bytes() == content
    with Store.open(path) as store:
        assert said(store) == before
        assert store.reading("old", spec()) == before[0]

    reading, count, why = before
    assert reading.rule == CUT_UNIDENTIFIED
    assert count["not_evaluated"]["earlier_rule"] == "cut cells counted as UNIDENTIFIED (before version 2 of the store)"
    assert (count["identified"], count["unidentified"]["n"]) == (1, 2)
    assert why == ["", "edge", "low score"]


def make_version_1(path):
    """A store as it was: a field with a monocyte, a cut cell, and one below the threshold."""
    with closing(sqlite3.connect(path)) as database:
        for statement in MIGRATIONS[0]:
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        database.execute("PRAGMA user_version = 1")
        kept = json.dumps(spec().as_json())
        database.execute("INSERT INTO slides VALUES (1, 'old', '2026-01-01')")
        database.execute(
            "INSERT INTO models VALUES (1, ?, 'made-up', 'int8', 'cell', '[]', NULL, '', ?, '2026-01-01')",
            (spec().sha256, kept),
        )
        database.execute(
            "INSERT INTO fields VALUES "
            "(1, 1, 1, '1.png', 'aa', '2026-01-01', 'used', '', 1, 640, 480, NULL, '{}', NULL, 1, 3)"
        )
        for label, mark, x in (("MONOCYTE", "", 90), ("UNIDENTIFIED", "edge", 0), ("UNIDENTIFIED", "", 300)):
            database.execute(
                "INSERT INTO cells VALUES (NULL, 1, ?, 0.7, ?, 20, 40, 40, 'MONOCYTE', '{\"MONOCYTE\": 0.7}', ?, 1)",
                (label, x, mark),
            )
        database.commit()


def test_a_migration_that_fails_leaves_the_old_version_whole(path, monkeypatch):
    """Where the second statement of a step fails, the first is taken back and the file opens as before."""
    fill(path)
    before = hashes(path)
    broken = ("ALTER TABLE slides ADD COLUMN stain TEXT", "ALTER TABLE nowhere ADD COLUMN stain TEXT")
    with monkeypatch.context() as patch:
        patch.setattr(tables, "MIGRATIONS", (*MIGRATIONS, broken))
        with pytest.raises(StoreError, match="nowhere"):
            Store.open(path)

    with Store.open(path) as store:
        assert "stain" not in [row["name"] for row in store.rows("PRAGMA table_info(slides)")]
    assert hashes(path) == before


def test_a_store_of_a_newer_bce_is_refused_untouched(path):
    """A higher version is one line that says to upgrade; the file keeps its bytes."""
    fill(path, 3)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA user_version = 99")
    before = path.read_bytes()

    with pytest.raises(StoreError, match=r"store version 99, this bce knows up to \d+; upgrade bce"):
        Store.open(path)
    assert path.read_bytes() == before


# One writer


def test_a_second_process_cannot_write_and_says_who_does(path):
    """Another process that opens the store to write gets one line with the first one's process number."""
    with Store.open(path):
        code = f"from bloodcell_edge.slide.store import Store; Store.open({str(path)!r})"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert other.returncode == 1
    assert f"{path}: process " in other.stderr.splitlines()[-1]
    assert "is writing to it" in other.stderr.splitlines()[-1]


def test_readers_see_what_is_committed_while_another_writes(path):
    """A reader beside the writer sees each group after its commit, and cannot change anything."""
    with Store.open(path) as store:
        reading = store.reading("slide", spec())
        with Reader.open(path) as reader:
            for number in range(1, 4):
                store.add(reading, field(number))
                store.flush()
                assert len(reader.fields(reading)) == number
            with pytest.raises(StoreError, match="readonly"):
                reader.rows("DELETE FROM fields")


def test_the_lock_ends_with_its_holder(path):
    """After close, and after a crash, the next writer gets in."""
    with Store.open(path):
        pass
    code = f"import os; from bloodcell_edge.slide.store import Store; s = Store.open({str(path)!r}); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    with Store.open(path) as store:
        assert store.salvage is None


def test_the_lock_is_one(tmp_path):
    """Two locks on one store cannot be held at once, also within a process."""
    with WriterLock(tmp_path / "s.sqlite"), pytest.raises(StoreError, match="is writing to it"):
        WriterLock(tmp_path / "s.sqlite")


# What is no store


def test_a_picture_given_as_store_is_left_alone(path):
    """A file that never was a store is refused in one line, keeps its bytes and name, and gets no lock beside it."""
    path.write_bytes(b"\xff\xd8\xff\xe0 a photograph")

    with pytest.raises(StoreError, match="expected a store, found a file that begins with"):
        Store.open(path)
    assert path.read_bytes() == b"\xff\xd8\xff\xe0 a photograph"
    assert list(path.parent.iterdir()) == [path]


def test_another_programs_database_is_left_alone(path):
    """An SQLite file with other tables is refused, to read and to write."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE photos (id)")
    before = path.read_bytes()

    for opening in (Store.open, Reader.open):
        with pytest.raises(StoreError, match="another program's database"):
            opening(path)
    assert path.read_bytes() == before


def test_reading_a_store_that_is_not_there_says_so(path):
    """A reader makes no file; the message names the path."""
    with pytest.raises(MissingFile, match=r"s\.sqlite: no such store"):
        Reader.open(path)
    assert not path.exists()


# Damage


def salvaged(path, notices=None):
    """Open a damaged store, and check that it is whole now and says what happened."""
    said = []
    with Store.open(path, on_notice=said.append) as store:
        salvage = store.salvage
        assert salvage is not None
        store.flush()
        events = [row["message"] for row in store.rows("SELECT message FROM events WHERE kind = 'salvage'")]
        assert store.rows("PRAGMA integrity_check")[0][0] == "ok"
        assert store.rows("PRAGMA foreign_key_check") == []
    assert events == [str(salvage)]
    assert said == [f"{path}: {salvage}"]
    assert salvage.aside in asides(path)
    return salvage


def test_a_page_of_garbage_costs_its_rows_and_no_others(path):
    """A page overwritten in the middle is found at start; most fields are saved, whole, and the rest comes again."""
    fill(path)
    before = hashes(path)
    damaged = bytearray(path.read_bytes())
    pages = len(damaged) // 4096
    with closing(sqlite3.connect(path)) as database:
        roots = {row[0] for row in database.execute("SELECT rootpage FROM sqlite_schema")}
    page = next(number for number in range(pages // 2, pages) if number + 1 not in roots)
    damaged[page * 4096 : (page + 1) * 4096] = random.Random(1).randbytes(4096)
    path.write_bytes(damaged)

    salvage = salvaged(path)

    kept = hashes(path)
    assert kept.items() <= before.items(), "a field was saved with other cells than it had"
    assert len(kept) == salvage.fields >= 0.8 * FIELDS
    assert salvage.aside.read_bytes() == bytes(damaged)
    fill(path)
    assert hashes(path) == before


@pytest.mark.parametrize(("share", "saved"), [(0.05, 0), (0.5, 0.3), (0.95, 0.8)])
def test_a_file_that_lost_its_end_is_salvaged(path, share, saved):
    """A store cut short opens as a whole one with no half fields, and the same slides complete it."""
    fill(path)
    before = hashes(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])

    assert salvaged(path).fields >= saved * FIELDS

    assert hashes(path).items() <= before.items()
    fill(path)
    assert hashes(path) == before


def test_a_store_without_its_first_page_starts_anew_and_is_kept(path):
    """Where not even the header is left, nothing can be read, the file is set aside, and writing goes on."""
    fill(path)
    damaged = bytes(4096) + path.read_bytes()[4096:]
    path.write_bytes(damaged)

    salvage = salvaged(path)

    assert (salvage.fields, salvage.cells) == (0, 0)
    assert asides(path)[0].read_bytes() == damaged
    fill(path)
    assert len(hashes(path)) == FIELDS


def test_damage_anywhere_never_crashes_and_never_halves_a_field(path, tmp_path):
    """40 stores with garbage in random places open: what they hold then was in the store, whole."""
    fill(path)
    before, data, chance = hashes(path), path.read_bytes(), random.Random(3)
    opened = 0
    for number in range(40):
        other = tmp_path / f"{number}" / "s.sqlite"
        other.parent.mkdir()
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 3, 20))):
            place = chance.randrange(100, len(data))
            damaged[place : place + 200] = chance.randbytes(len(damaged[place : place + 200]))
        other.write_bytes(damaged)
        with Store.open(other) as store:
            opened += store.salvage is not None
            assert store.rows("PRAGMA foreign_key_check") == []
        found = hashes(other)
        if asides(other):
            assert all(before[sha] == cells for sha, cells in found.items() if sha in before)
        shutil.rmtree(other.parent)
    assert opened >= 20, f"only {opened} of 40 were found damaged"


def test_a_damaged_name_in_the_table_of_tables_is_damage(path):
    """SQLite repeats the name in its message; bytes in it that are no UTF-8 are no bug, and the store is salvaged."""
    fill(path)
    path.write_bytes(path.read_bytes().replace(b"TABLE reviews (", b"TABLE rev\xd9ews("))
    with pytest.raises(StoreError, match="damaged"), Reader.open(path) as reader:
        reader.rows("SELECT 1 FROM fields")
    with Store.open(path) as store:
        assert store.salvage is not None


def test_one_id_far_away_does_not_hold_up_the_salvage(path):
    """An id of 2 to the 50th, as one flipped byte makes it, costs nothing; every field comes back."""
    fill(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("INSERT INTO events (id, at, kind, message) VALUES (1125899906842624, '', '', '')")
        connection.commit()
        page = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'cells_by_field'").fetchone()[0]
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : (page - 1) * 4096 + 100] = b"\xff" * 100
    path.write_bytes(data)
    start = time.monotonic()
    with Store.open(path) as store:
        assert store.salvage is not None
        assert store.salvage.fields == FIELDS
    assert time.monotonic() - start < 30


def test_a_failed_salvage_leaves_the_damaged_file_in_its_place(path, monkeypatch):
    """Stopped half-way, salvage leaves the damaged file under its own name, so that the next start tries again."""
    fill(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])

    def stop(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(salvage, "_keep_whole", stop)
        with pytest.raises(KeyboardInterrupt):
            Store.open(path)

    assert path.read_bytes() == data[: len(data) // 2]
    assert salvaged(path).fields > 0


# Times


def test_times_sort_as_text():
    """Times of any zone become UTC text that sorts as the moments do, whole seconds included."""
    east = timezone(timedelta(hours=5, minutes=30))
    moments = [
        datetime(2026, 1, 1, 5, 29, tzinfo=east),
        datetime(2026, 1, 1, 0, 0, tzinfo=timezone.utc),
        datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=timezone.utc),
    ]
    assert [utc(moment) for moment in moments] == sorted(utc(moment) for moment in moments)
    assert utc(moments[0]) == "2025-12-31T23:59:00.000000+00:00"
