from __future__ import annotations

import subprocess
import sys

import pytest

from bloodcell_edge.benchmark.apart import Life, live, summed_up
from bloodcell_edge.benchmark.figures import Memory, Start
from bloodcell_edge.benchmark.measure import default_pictures


def test_a_process_of_its_own_tells_its_life(tiny_model, tmp_path):
    """Start, loading and memory of a process with a real model: loading is part of the start, the peak the most."""
    found = live(tiny_model(), 1, default_pictures(tmp_path / "drawn", 2))

    assert 0 < found.load_ms < found.cold_ms
    assert 20 < found.memory.steady <= found.memory.peak < 200


def test_lives_are_summed_up():
    """Times and steady memory are medians, the peak is the most; memory that nobody told is None."""
    lives = [
        Life(300.0, 50.0, Memory(80.0, 70.0)),
        Life(500.0, 60.0, Memory(85.0, 72.0)),
        Life(310.0, 52.0, Memory(81.0, 71.0)),
    ]
    assert summed_up(lives) == (Start(310.0, 52.0, 3), Memory(85.0, 71.0))
    assert summed_up([Life(300.0, 50.0, Memory(None, None))]) == (Start(300.0, 50.0, 1), Memory(None, None))


@pytest.mark.parametrize("module", ["sqlite3", "bloodcell_edge.slide.store", "bloodcell_edge.slide.run", "tensorflow"])
def test_the_process_loads_no_more_than_classifying_needs(module):
    """What measures does not weigh: the process that is weighed imports none of it."""
    code = f"import sys, bloodcell_edge.benchmark.life; sys.exit({module!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
