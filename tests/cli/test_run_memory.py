"""`bce run` for a long time: what it holds in memory does not grow with what it has seen."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from bloodcell_edge.slide.reader import Reader

BCE = Path(sys.executable).parent / "bce"
SMALL = "fake:smear?cells=1&width=64&height=64&um_per_px=0.4&fps=0"  # as fast as they can be drawn
EACH = 50  # fields from one look at its memory to the next
CROP_MB = 1  # some 700 crops, so that the oldest are dropped all the time


def resident_kb(process):
    """Resident memory of a process, kB: numpy, OpenCV and the interpreter are in it."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def tenths(model, folder, frames):
    """Median resident memory in kB in each tenth of a run over so many frames; the last line shown, and the store."""
    store = folder / "s.sqlite"
    command = [BCE, "run", "--source", f"{SMALL}&count={frames}", "--model", model, "--store", store, "--threads", "1"]
    command += ["--cells", str(10**9), "--crop-mb", str(CROP_MB)]
    seen, line = [], ""
    with (folder / "err").open("w+") as errors:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            for number, shown in enumerate(process.stdout, 1):
                line = shown
                if number % EACH == 0 and number < frames:
                    seen.append((number, resident_kb(process)))
        errors.seek(0)
        assert process.returncode == 0, errors.read()
    rows = [[kb for number, kb in seen if tenth < number * 10 / frames <= tenth + 1] for tenth in range(10)]
    return [statistics.median(row) for row in rows], json.loads(line), store


def stays_flat(model, folder, frames):
    """Run, check that nothing was left out, and compare the last tenth with the second."""
    medians, last, store = tenths(model, folder, frames)
    print(f"resident memory, MB, by tenth of {frames} frames:", *(f"{kb / 1000:.1f}" for kb in medians))  # noqa: T201
    with closing(Reader.open(store)) as reader:
        fields, cells, kept = reader.rows(
            "SELECT (SELECT count(*) FROM fields), (SELECT count(*) FROM cells), "
            "(SELECT total(length(jpeg)) FROM crops)"
        )[0]
    assert fields == frames
    assert last["field"] == frames
    counted = sum(last["counts"].values())
    assert cells == counted + last["not_evaluated"]
    assert counted > frames / 2, "hardly any cell was found: the test proves nothing"
    assert kept <= CROP_MB * 1e6
    assert medians[-1] == pytest.approx(medians[1], rel=0.05)


def test_3000_frames_leave_memory_as_it_was(tiny_cell_model, tmp_path):
    """In the last tenth of 3,000 drawn frames resident memory is within 5 % of what it was in the second."""
    stays_flat(tiny_cell_model(), tmp_path, 3_000)


@pytest.mark.soak
def test_100000_frames_leave_memory_as_it_was(tiny_cell_model, tmp_path):
    """In the last tenth of 100,000 drawn frames resident memory is within 5 % of what it was in the second."""
    stays_flat(tiny_cell_model(), tmp_path, 100_000)
