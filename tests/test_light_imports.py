"""What is loaded, and what is not: a device pays for no TensorFlow, a `--help` for no OpenCV either."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import click
import pytest

HEAVY = frozenset({"tensorflow", "keras", "matplotlib", "optuna"})
PACKAGE = Path(find_spec("bloodcell_edge").submodule_search_locations[0])


def device_modules() -> list[str]:
    """Every module of bloodcell_edge but those of training, by its dotted name."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        if parts[1] != "training":
            names.append(".".join(parts).removesuffix(".__init__"))
    return names


def command_lines() -> list[tuple[str, ...]]:
    """() for `bce` itself, then the words of each command below it, groups and their commands included."""
    from bloodcell_edge.cli import bce

    found: list[tuple[str, ...]] = []

    def walk(command: click.Command, words: tuple[str, ...]) -> None:
        found.append(words)
        if isinstance(command, click.Group):
            for name in command.list_commands(click.Context(command)):
                walk(command.get_command(click.Context(command), name), (*words, name))

    walk(bce, ())
    return found


def loaded(*command: str | Path) -> set[str]:
    """Run Python with a command line that must succeed; the top-level names of all modules it loaded."""
    result = subprocess.run(
        [sys.executable, "-X", "importtime", *command], capture_output=True, encoding="utf-8", timeout=120, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    lines = (line for line in result.stderr.splitlines() if line.startswith("import time:"))
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("module", device_modules())
def test_a_device_module_loads_no_training_package(module):
    """Each module outside training/ imports where only the base packages are, and loads none of the heavy ones."""
    names = loaded("-c", f"import {module}")

    assert "bloodcell_edge" in names
    assert not names & HEAVY


def test_the_package_alone_loads_no_numpy():
    """`import bloodcell_edge` costs no numpy, no OpenCV, no click."""
    names = loaded("-c", "import bloodcell_edge")

    assert "bloodcell_edge" in names
    assert not names & (HEAVY | {"numpy", "cv2", "click"})


@pytest.mark.parametrize("words", command_lines(), ids=lambda words: " ".join(("bce", *words)))
def test_help_loads_neither_opencv_nor_a_training_package(words):
    """`bce --help` and each `bce COMMAND --help`, through the installed script, load no cv2 and nothing heavy."""
    names = loaded(Path(sys.executable).parent / "bce", *words, "--help")

    assert {"bloodcell_edge", "click"} <= names
    assert not names & (HEAVY | {"cv2"})


@pytest.mark.parametrize("module", ["cv2", "numpy"])
def test_the_measure_sees_what_is_loaded(module):
    """The probe behind these tests reports a module that is loaded, also one loaded inside a function."""
    assert module in loaded("-c", f"def late():\n    import {module}\nlate()")
