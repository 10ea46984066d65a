"""A run folder's files, and which model a command means when nobody says.

``bce train`` makes ``runs/<name>/`` and points ``runs/latest`` at it; the other commands find their way from there.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import MissingFile, OutputExists

RUNS = Path("runs")
LATEST = RUNS / "latest"
DEVICE_FILE = "bloodcell-int8.tflite"
SHIPPED = Path(__file__).parent / "models"
"""The models that come with bce."""


@dataclass(frozen=True)
class RunFolder:
    """Names of the files in a run folder; nothing is read or made here."""

    path: Path

    @property
    def model(self) -> Path:
        """The trained Keras model."""
        return self.path / "model.keras"

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


@dataclass(frozen=True)
class Choice:
    """A model file and why it was taken."""

    path: Path
    why: str

    def __str__(self) -> str:
        """As the commands say it."""
        return f"model: {self.path} ({self.why})"


def choose_model(argument: str | Path | None, *, prefer: str = DEVICE_FILE) -> Choice:
    """Find the model that a command means.

    Args:
        argument: a file, a run folder, the name of a shipped model, or None.
        prefer: the file taken from a run folder: the int8 file for what runs on a device, model.keras for others.

    Raises:
        MissingFile: there is no such model; says where it was looked for.
    """
    if argument is not None:
        return _named(Path(argument), prefer)
    shipped = SHIPPED / DEVICE_FILE
    if prefer == DEVICE_FILE and shipped.is_file():
        return Choice(shipped, "shipped with bce")
    chosen = LATEST / prefer
    if not chosen.is_file():
        todo = "run bce train DATA" if prefer != DEVICE_FILE else "run bce train DATA and bce convert, or give a model"
        message = f"no model given and no {chosen} here; {todo}"
        raise MissingFile(message)
    return Choice(chosen, "the latest run")


def _named(path: Path, prefer: str) -> Choice:
    if path.is_dir():
        if (path / prefer).is_file():
            return Choice(path / prefer, f"of the run folder {path}")
        todo = "bce convert" if prefer == DEVICE_FILE else "bce train"
        others = ", ".join(file.name for file in sorted(path.glob("*.tflite"))) or "no model"
        message = f"{path}: expected {prefer} in this run folder, found {others}; run {todo}, or name a file"
        raise MissingFile(message)
    if path.is_file():
        return Choice(path, "given")
    for name in (path.name, f"{path.name}.tflite"):
        if path.parent == Path() and (SHIPPED / name).is_file():
            return Choice(SHIPPED / name, "shipped with bce")
    message = f"{path}: no such model; expected a .keras or .tflite file, a run folder, or the name of a shipped model"
    raise MissingFile(message)
