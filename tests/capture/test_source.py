"""What is a source, to a type checker: the example is one, and what lacks a part of it is told so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

NO_SOURCES = """
from collections.abc import Iterator

from bloodcell_edge.capture import Source, open_source
from bloodcell_edge.records import Frame

class Deaf:
    name, live, endless = "deaf", False, False

    def __iter__(self) -> Iterator[Frame]:
        yield from ()

one: Source = Deaf()
other: Source = open_source("fake:smear")
"""


def test_the_example_satisfies_the_protocol(tmp_path):
    """mypy --strict finds nothing in examples/own_source.py and `open_source`, and misses `listen` where it lacks."""
    deaf = tmp_path / "deaf.py"
    deaf.write_text(NO_SOURCES)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "examples/own_source.py", str(deaf)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    errors = [line for line in found.stdout.splitlines() if ": error: " in line]
    assert len(errors) == 1, found.stdout + found.stderr
    assert "deaf.py:13:" in errors[0]
    assert '"Deaf" is missing following "Source" protocol member:' in found.stdout
    assert found.stdout.rstrip().endswith("listen")
