"""A run folder: the names of its files, and the link to the latest one.

``bce train`` makes ``runs/<name>/`` and points ``runs/latest`` at it; the other commands find their way from there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import OutputExists

RUNS = Path("runs")
LATEST = RUNS / "latest"
KERAS_FILE = "model.keras"


@dataclass(frozen=True)
class RunFolder:
    """Names of the files in a run folder; nothing is read or made here."""

    path: Path

    @property
    def model(self) -> Path:
        """The trained Keras model."""
        return self.path / KERAS_FILE

    @property
    def spec(self) -> Path:
        """The model's spec."""
        return self.path / "spec.json"

    @property
    def split(self) -> Path:
        """Which picture is on which side, by group."""
        return self.path / "split.csv"

    @property
    def unknown(self) -> Path:
        """The same of pictures of none of the classes, where the model learnt of some."""
        return self.path / "unknown.csv"

    @property
    def history(self) -> Path:
        """Losses and accuracies, a row an epoch."""
        return self.path / "history.csv"

    @property
    def metrics(self) -> Path:
        """Figures on the held-back split."""
        return self.path / "metrics.json"

    @property
    def config(self) -> Path:
        """The recipe as it was run."""
        return self.path / "recipe.json"

    @property
    def index(self) -> Path:
        """Local features of the training photographs, to know rotated copies again."""
        return self.path / "photographs.npz"

    @property
    def parity(self) -> Path:
        """The last parity report."""
        return self.path / "parity.json"

    @property
    def benchmark(self) -> Path:
        """The last times of the run's files, for its report."""
        return self.path / "benchmark.json"

    @property
    def unreadable(self) -> Path:
        """What could not be decoded; a run that goes on reads only what could be."""
        return self.path / "unreadable.json"

    @property
    def plots(self) -> Path:
        """Folder of plots."""
        return self.path / "plots"

    @property
    def cache(self) -> Path:
        """Features of the frozen backbone; may be deleted."""
        return self.path / "cache"

    @property
    def state(self) -> Path:
        """Checkpoint of an unfinished run; gone when it is done."""
        return self.path / "state"

    @property
    def log(self) -> Path:
        """What was printed."""
        return self.path / "train.log"

    def tflite_files(self) -> list[Path]:
        """The converted files beside the model."""
        return sorted(self.path.glob("*.tflite"))


def point_latest(run: Path, *, latest: Path = LATEST) -> None:
    """Make `latest` a link to a run folder, in one step; relative, so that both can be moved together.

    Raises:
        OutputExists: something else than a link has that name.
    """
    if latest.is_dir() and not latest.is_symlink():
        message = f"{latest}: expected a link to the latest run, found a folder; rename it, then run the command again"
        raise OutputExists(message)
    latest.parent.mkdir(parents=True, exist_ok=True)
    temporary = latest.with_name(f".latest-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(run, latest.parent), target_is_directory=True)
    temporary.replace(latest)
