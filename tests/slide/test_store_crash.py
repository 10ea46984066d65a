"""kill -9 and power cuts: what was shown is there, groups are whole, and running again completes the store."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from store_writer import field, spec

from bloodcell_edge.slide import store as store_module
from bloodcell_edge.slide.reader import Reader
from bloodcell_edge.slide.store import Store

WRITER = Path(__file__).parents[1] / "support" / "store_writer.py"
FIELDS = 300
PACE_S = 0.002
TIMES_OF_THE_STORE = {("slides", "created_at"), ("models", "added_at")}


def write(path, pace_s=PACE_S):
    """Start a process that writes `FIELDS` fields to a store."""
    command = [sys.executable, str(WRITER), str(path), str(FIELDS), str(pace_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def contents(path):
    """Every table but events (where a second run notes what it met again), without the times of writing."""
    with closing(sqlite3.connect(path)) as database:
        found = {}
        for table in ("slides", "models", "fields", "cells", "crops"):
            names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            kept = ", ".join(name for name in names if (table, name) not in TIMES_OF_THE_STORE)
            found[table] = database.execute(f"SELECT {kept} FROM {table} ORDER BY 1").fetchall()
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        return found


def finish(path):
    """Run the writer to its end."""
    with write(path, pace_s=0) as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return output


def kill_at_random(path, chance, window_s):
    """Start writing, kill -9 within `window_s` of the first commit; the fields shown and the fields found after."""
    with write(path) as process:
        assert process.stdout.readline(), process.stderr.read()
        time.sleep(chance.uniform(0.0, window_s))
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate(timeout=60)
    shown = [int(line) for line in output.split() if line != "done"]
    with closing(sqlite3.connect(path)) as database:
        found = database.execute("SELECT count(*) FROM fields").fetchone()[0]
    return (shown or [0])[-1], found


def survive_kills(folder, kills, share_mid_run):
    """Kill as many runs and complete each; all must equal a run that nobody disturbed."""
    undisturbed = folder / "undisturbed.sqlite"
    with write(undisturbed) as process:
        assert process.stdout.readline()
        start = time.monotonic()
        process.communicate(timeout=120)
        window_s = time.monotonic() - start
    expected = contents(undisturbed)
    assert len(expected["fields"]) == FIELDS

    chance, mid_run = random.Random(20260729), 0
    for number in range(kills):
        path = folder / f"{number}.sqlite"
        shown, found = kill_at_random(path, chance, window_s * 0.9)
        assert shown <= found, "a field was shown that a kill took back"
        mid_run += 0 < found < FIELDS
        finish(path)
        assert contents(path) == expected
        with Reader.open(path) as reader:
            again = reader.rows("SELECT count(*) FROM events WHERE kind = 'again'")[0][0]
        assert again == found
        path.unlink()
    assert mid_run >= share_mid_run * kills, f"only {mid_run} of {kills} kills hit mid-run"
    return mid_run


def test_20_kills_lose_and_double_nothing(tmp_path):
    """20 runs over 300 fields, killed at random moments and run again, equal an undisturbed run; 80 % hit mid-run."""
    survive_kills(tmp_path, 20, 0.8)


@pytest.mark.soak
def test_100_kills_lose_and_double_nothing(tmp_path):
    """100 runs over 300 fields, killed at random moments and run again, equal an undisturbed run; 80 hit mid-run."""
    survive_kills(tmp_path, 100, 0.8)


def test_every_commit_is_synced(tmp_path):
    """The writer's connection has synchronous=FULL and a write-ahead log: each commit waits for its fsync."""
    with Store.open(tmp_path / "s.sqlite") as store:
        assert store.rows("PRAGMA synchronous")[0][0] == 2
        assert store.rows("PRAGMA journal_mode")[0][0] == "wal"
        assert store.rows("PRAGMA foreign_keys")[0][0] == 1


@pytest.fixture
def log_of_groups(tmp_path, monkeypatch):
    """A store whose six groups of 10 fields are all in the log still, copied while it was open."""
    monkeypatch.setattr(store_module, "GROUP_S", 60.0)
    path = tmp_path / "s.sqlite"
    with Store.open(path) as store:
        store.rows("PRAGMA wal_autocheckpoint = 0")
        reading = store.reading("slide", spec())
        store.rows("PRAGMA wal_checkpoint(TRUNCATE)")
        for group in range(6):
            for number in range(10):
                store.add(reading, field(group * 10 + number, "MONOCYTE", "NEUTROPHIL", crop=b"c" * 700))
            store.flush()
        cut = tmp_path / "cut"
        cut.mkdir()
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", cut / f"s.sqlite{suffix}")
    return cut


def replay(folder, log):
    """Fields and cells that a start after a power cut finds, where only `log` of the write-ahead log was written."""
    with_log = folder / "replay"
    shutil.rmtree(with_log, ignore_errors=True)
    with_log.mkdir()
    shutil.copy(folder / "s.sqlite", with_log / "s.sqlite")
    (with_log / "s.sqlite-wal").write_bytes(log)
    with Store.open(with_log / "s.sqlite") as store:
        assert store.salvage is None
        counts = [store.rows(f"SELECT count(*) FROM {table}")[0][0] for table in ("fields", "cells", "crops")]
    return tuple(counts)


def test_a_log_cut_anywhere_gives_whole_groups(log_of_groups):
    """However much of the log reached the disk, a start finds 0, 10, 20, ... 60 fields, each with all its cells."""
    log = (log_of_groups / "s.sqlite-wal").read_bytes()
    frame = 24 + 4096
    edges = range(32, len(log) + 1, frame)
    chance = random.Random(1)
    cuts = {0, len(log), *edges, *(chance.randrange(len(log)) for _ in range(60))}

    found = {replay(log_of_groups, log[:cut]) for cut in sorted(cuts)}

    assert found == {(10 * n, 20 * n, 20 * n) for n in range(7)}


def test_a_log_torn_in_its_tail_gives_whole_groups(log_of_groups):
    """Where the disk wrote sectors of the last frames out of order, or garbage, a start finds whole groups."""
    log = (log_of_groups / "s.sqlite-wal").read_bytes()
    chance = random.Random(2)
    for _ in range(30):
        torn = bytearray(log)
        start = chance.randrange(len(log) // 2, len(log) - 512)
        torn[start : start + 512] = chance.randbytes(512)

        fields, cells, crops = replay(log_of_groups, bytes(torn))

        assert fields % 10 == 0
        assert cells == crops == 2 * fields
        assert fields < 60
