"""kill -9 of `bce run`, and a disk that is full: nothing is lost or doubled, nothing is corrupt, and it goes on.

The whole command runs here, in a process of its own; tests/slide/test_store_crash.py does the same to the store alone,
and cuts the power.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import cv2
import pytest

from bloodcell_edge.imaging.drawn import LABELS, draw_field
from bloodcell_edge.slide.store import GROUP_FIELDS

BCE = Path(sys.executable).parent / "bce"
FIELDS = 640
TIMES_OF_THE_RUN = {
    ("slides", "created_at"),
    ("models", "added_at"),
    ("fields", "monotonic_ns"),  # when the file was read; taken_at is the file's own time, and is compared
    ("fields", "latency_ms"),
}


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Path:
    """A folder of small drawn fields with 0 to 2 white cells; every fifth is too blurred to be used."""
    folder = tmp_path_factory.mktemp("fields") / "slide"
    folder.mkdir()
    for number in range(FIELDS):
        labels = [LABELS[(number + k) % len(LABELS)] for k in range(number % 3)]
        image = draw_field(number, labels, size=(64, 96), um_per_px=0.4).image
        if number % 5 == 4:
            image = cv2.GaussianBlur(image, (0, 0), 4)
        assert cv2.imwrite(str(folder / f"{number}.png"), image[..., ::-1])
    return folder


@contextmanager
def running(slide, model, store, **options):
    """`bce run` over a folder, its output in pipes, killed at the end if it still runs."""
    command = [BCE, "run", "--source", f"folder:{slide}", "--model", model, "--store", store, "--threads", "1"]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen(command, encoding="utf-8", **options) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(slide, model, store):
    """Run to the end; what it showed, and what it said."""
    with running(slide, model, store) as process:
        shown, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    return shown.splitlines(), said


def seconds_of_a_group(slide, model, store):
    """How long this machine takes from one commit to the next."""
    with running(slide, model, store) as process:
        process.stdout.readline()
        start = time.monotonic()
        process.stdout.read()
    return (time.monotonic() - start) * GROUP_FIELDS / FIELDS


def kill_at_random(slide, model, store, chance, group_s):
    """kill -9 between the first and the last commit: after a random field, at a random moment of the next group.

    Returns:
        The number of the last field that was shown, and how many are in the store.
    """
    with running(slide, model, store) as process:
        lines = [process.stdout.readline() for _ in range(chance.randint(1, FIELDS - 1))]
        assert lines[-1], process.stderr.read()
        time.sleep(chance.uniform(0.0, group_s))
        process.send_signal(signal.SIGKILL)
        lines += [line for line in process.stdout if line.endswith("\n")]
    return json.loads(lines[-1])["field"], len(found_in(store, "SELECT 1 FROM fields"))


def found_in(store, query):
    """What a query gives, asked of a copy elsewhere: the next run shall meet the log as this one left it."""
    with tempfile.TemporaryDirectory() as folder:
        for file in (store, store.with_name(f"{store.name}-wal")):
            if file.exists():
                shutil.copy(file, folder)
        with closing(sqlite3.connect(Path(folder) / store.name)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("PRAGMA foreign_key_check").fetchall() == []
            return database.execute(query).fetchall()


BUT_LAMPS = "WHERE kind NOT IN ('microscope', 'source')"  # lamps of drawn fields differ; the folder is no event


def contents(store):
    """Every table with its ids, without the times of the run; events are not here, since a second run has its own."""
    found = {}
    for table in ("slides", "models", "fields", "cells", "crops", "reviews"):
        names = [row[1] for row in found_in(store, f"PRAGMA table_info({table})")]
        kept = ", ".join(name for name in names if (table, name) not in TIMES_OF_THE_RUN)
        found[table] = found_in(store, f"SELECT {kept} FROM {table} ORDER BY 1")
    return found


def undisturbed(slide, model, folder):
    """The tables of a run that nobody stops; what makes the comparison worth something is in them."""
    store = folder / "undisturbed.sqlite"
    shown, _ = finish(slide, model, store)
    assert [json.loads(line)["field"] for line in shown] == list(range(1, FIELDS + 1))
    expected = contents(store)
    assert len(expected["fields"]) == FIELDS
    assert len(expected["cells"]) == len(expected["crops"]) > FIELDS / 2
    assert len(found_in(store, "SELECT 1 FROM fields WHERE status = 'refused'")) >= FIELDS // 5
    assert found_in(store, f"SELECT 1 FROM events {BUT_LAMPS}") == []
    return expected


def survive_kills(slide, model, folder, kills):
    """Kill as many runs and complete each; all must equal the undisturbed one. Gives how many were hit mid-run."""
    expected, chance, mid_run = undisturbed(slide, model, folder), random.Random(20261123), 0
    group_s = seconds_of_a_group(slide, model, folder / "pace.sqlite")
    for number in range(kills):
        store = folder / str(number) / "s.sqlite"
        last, found = kill_at_random(slide, model, store, chance, group_s)
        assert last <= found, "a field was shown that the kill took back"
        mid_run += 0 < found < FIELDS
        shown, said = finish(slide, model, store)
        assert [json.loads(line)["field"] for line in shown] == list(range(found + 1, FIELDS + 1))
        assert f"not counted again: {found} pictures" in said
        assert contents(store) == expected
        assert found_in(store, f"SELECT kind, count(*) FROM events {BUT_LAMPS} GROUP BY 1") == [("again", found)]
        shutil.rmtree(store.parent)
    return mid_run


def test_4_killed_runs_go_on_where_they_were(slide, tiny_cell_model, tmp_path):
    """4 runs over 640 pictures, killed at random moments and run again, equal an undisturbed one; 2 hit mid-run."""
    assert survive_kills(slide, tiny_cell_model(), tmp_path, 4) >= 2


@pytest.mark.soak
def test_100_killed_runs_go_on_where_they_were(slide, tiny_cell_model, tmp_path):
    """100 runs over 640 pictures, killed at random moments and run again, equal an undisturbed one; 80 hit mid-run."""
    mid_run = survive_kills(slide, tiny_cell_model(), tmp_path, 100)
    print(f"{mid_run} of 100 kills hit between the first and the last commit")  # noqa: T201
    assert mid_run >= 80


# A full disk

ROOM = 300_000  # bytes left at the start: the tables of a new store take 80 kB, those of the whole run some 2 MB


def mounts(test):
    """Mark a test that mounts a disk, which only root can: anybody else may skip it, even with CI=true."""
    return pytest.mark.may_skip(test) if os.geteuid() else test


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 16 MB, all but `ROOM` bytes of it taken by a file `ballast`."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    try:
        fill(folder, leave=ROOM)
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk, *, leave):
    """Write a file `ballast` that leaves so many bytes."""
    with (disk / "ballast").open("wb") as ballast:
        for size in (1 << 16, 1 << 12):
            while shutil.disk_usage(disk).free > leave + size:
                ballast.write(bytes(size))
                ballast.flush()


@contextmanager
def running_until_full(slide, model, disk):
    """`bce run` with its store on a disk, from the moment it has said that this is full: the process, and the line."""
    with (disk.parent / "shown").open("w") as shown, running(slide, model, disk / "s.sqlite", stdout=shown) as process:
        for line in process.stderr:
            if line.startswith("full:"):
                break
        else:
            pytest.fail("it never met the full disk")
        yield process, line


def shown_in(folder):
    """The numbers of the fields that a run has shown so far."""
    return [json.loads(line)["field"] for line in (folder / "shown").read_text().splitlines()]


@mounts
def test_a_run_waits_for_room(slide, tiny_cell_model, small_disk, tmp_path):
    """A run that meets a full disk says so in one line, shows only what is safe, and goes on by itself."""
    model, store = tiny_cell_model(), small_disk / "s.sqlite"
    with running_until_full(slide, model, small_disk) as (process, line):
        time.sleep(1.5)
        assert 0 < len(shown_in(tmp_path)) <= len(found_in(store, "SELECT 1 FROM fields")) < FIELDS
        (small_disk / "ballast").unlink()
        said = process.stderr.read()
    assert process.returncode == 0, said
    assert "s.sqlite: no space left on its disk" in line
    assert said.count("\nfull: ") + said.startswith("full: ") == 1
    assert "there is room on its disk again, going on" in said
    assert shown_in(tmp_path) == list(range(1, FIELDS + 1))
    assert contents(store) == undisturbed(slide, model, tmp_path)


@mounts
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_ended_on_a_full_disk_goes_on(slide, tiny_cell_model, small_disk, tmp_path, end):
    """A run that waits for room ends by SIGTERM, with a line, or kill -9: what it showed is safe, the next goes on."""
    model, store = tiny_cell_model(), small_disk / "s.sqlite"
    with running_until_full(slide, model, small_disk) as (process, _):
        process.send_signal(end)
        said = process.stderr.read()
    found = len(found_in(store, "SELECT 1 FROM fields"))
    assert 0 < len(shown_in(tmp_path)) <= found < FIELDS
    if end == signal.SIGTERM:
        assert process.returncode == 1
        assert [line for line in said.splitlines() if line.startswith("bce: ")] == said.splitlines()[-1:]
        assert "no space left on its disk" in said.splitlines()[-1]

    (small_disk / "ballast").unlink()
    shown, _ = finish(slide, model, store)

    assert [json.loads(line)["field"] for line in shown] == list(range(found + 1, FIELDS + 1))
    assert contents(store) == undisturbed(slide, model, tmp_path)


@mounts
def test_a_disk_that_is_full_from_the_start(slide, tiny_cell_model, small_disk, tmp_path):
    """Where there is no room for a store the run ends at once with one line, and works when there is some."""
    model, store = tiny_cell_model(), small_disk / "s.sqlite"
    fill(small_disk, leave=0)
    with running(slide, model, store) as process:
        shown, said = process.communicate(timeout=60)
    assert (process.returncode, shown) == (1, "")
    assert said.splitlines()[-1].startswith("bce: error: ")
    assert "no space left on its disk" in said.splitlines()[-1]
    assert "Traceback" not in said

    (small_disk / "ballast").unlink()
    finish(slide, model, store)

    assert contents(store) == undisturbed(slide, model, tmp_path)
