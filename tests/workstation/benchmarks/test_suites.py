from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def suites(*arguments: str) -> str:
    """What pytest says of benchmarks/ with these arguments."""
    command = [sys.executable, "-m", "pytest", "benchmarks", "-q", "-n", "0", "-p", "no:cacheprovider", *arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_suite_is_found():
    """pytest collects benchmarks of stages, conversion, parity and training steps."""
    found = suites("--collect-only")
    for name in (
        "bench_locate",
        "bench_invoke[int8]",
        "bench_run",
        "bench_convert[int8]",
        "bench_parity",
        "bench_step",
    ):
        assert f"::{name}\n" in found


@pytest.mark.soak
def test_every_suite_runs():
    """With timing switched off every benchmark goes through once, without an error."""
    assert " passed" in suites("--benchmark-disable")
