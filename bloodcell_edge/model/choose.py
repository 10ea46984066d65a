"""Which model a command means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingFile
from ..files import read_json
from ..runs import LATEST, RunFolder

DEVICE_FILE = "bloodcell-int8.tflite"
SHIPPED = Path(__file__).parent / "shipped"
"""The models that come with bce."""


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


def holds_locator(folder: Path) -> bool:
    """Whether a run folder is that of a locator's training, not of a classifier's."""
    config = RunFolder(folder).config
    return config.is_file() and "locator" in read_json(config)


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
