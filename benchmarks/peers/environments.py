"""A virtual environment for each peer, made once and kept: their requirements do not fit together in one."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class AbsentError(Exception):
    """A peer cannot be measured here; says why."""


def environment(work: Path, name: str, requirements: Sequence[str], *, base: str = sys.executable) -> Path:
    """The Python of an environment with these requirements; made where it is not there yet.

    Args:
        work: folder that keeps environments from run to run.
        name: for people who look into that folder.
        requirements: as pip takes them; none means the environment that runs this.
        base: the Python it is made with.

    Raises:
        AbsentError: it cannot be made or filled; with what pip said.
    """
    if not requirements:
        return Path(base)
    key = hashlib.sha256(repr((sys.version, base, *requirements)).encode()).hexdigest()[:12]
    folder = work / "environments" / f"{name}-{key}"
    python, done = folder / "bin" / "python", folder / "done"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        _run(base, "-m", "venv", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", "--only-binary=:all:", *requirements)
        done.touch()
    return python


def installed(python: Path) -> dict[str, str]:
    """Distribution -> version, of everything in an environment."""
    code = "from importlib.metadata import distributions as d; [print(x.name, x.version) for x in d()]"
    said = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True).stdout
    return dict(line.split() for line in said.splitlines())


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise AbsentError(str(error)) from error
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        message = (
            f"{' '.join(command[1:4])}: {next((line for line in said if 'ERROR' in line), said[-1] if said else '')}"
        )
        raise AbsentError(message[:300])
