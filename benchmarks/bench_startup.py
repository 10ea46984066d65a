"""How long `import bloodcell_edge` and `bce --help` take, against a bare Python with click.

    python benchmarks/bench_startup.py

All commands run in turn, round after round, so that a busy machine slows each of them alike. Printed are medians and
the ratio to ``python -c "import click"``, which the project wants to be 3 at most.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

BASE = "python -c 'import click'"
COMMANDS: dict[str, list[str]] = {
    "python -c pass": [sys.executable, "-c", "pass"],
    BASE: [sys.executable, "-c", "import click"],
    "import bloodcell_edge": [sys.executable, "-c", "import bloodcell_edge"],
    "bce --help": [str(Path(sys.executable).parent / "bce"), "--help"],
}


def measure(rounds: int) -> dict[str, list[float]]:
    """Run every command once a round, after one round that is not counted; seconds each took, by name."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for count in range(rounds + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if count:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Measure, and print a line for each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="how often each command is run (default 20)")
    rounds = parser.parse_args().rounds
    seconds = measure(rounds)
    base = statistics.median(seconds[BASE])
    print(f"start-up, median of n = {rounds} interleaved runs, Python {sys.version.split()[0]}")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"  {name:26} {1000 * median:7.1f} ms   {median / base:5.2f} x")


if __name__ == "__main__":
    main()
