"""Which picture files a folder holds, and in which order."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError, MissingFile, NoPictures
from .image import SUFFIXES


def natural_key(name: str | Path) -> list[tuple[int, int, str]]:
    """Sort key that puts ``field_2`` before ``field_10``."""
    parts = re.split(r"(\d+)", str(name))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts]


def walk(folder: Path) -> tuple[list[Path], int]:
    """All picture files below a folder in natural order, and how many other files were skipped.

    Raises:
        DataError: a folder cannot be read.
    """
    found, skipped = [], 0
    for parent, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if name.startswith(".") or Path(name).suffix.lower() not in SUFFIXES:
                skipped += 1
            else:
                found.append(Path(parent) / name)
    # The path itself decides between names that are naturally equal, such as 7.jpg and 07.jpg.
    return sorted(found, key=lambda path: (natural_key(path.relative_to(folder).as_posix()), path)), skipped


def _refuse_folder(error: OSError) -> None:
    message = f"{error.filename}: the folder cannot be read ({error.strerror})"
    raise DataError(message) from error


def picture_files(paths: Sequence[Path]) -> list[Path]:
    """Files as named and the pictures in folders, in natural order; each is PATH as typed joined with the rest.

    Raises:
        MissingFile: a path does not exist.
        NoPictures: there is none.
    """
    found: list[Path] = []
    skipped = 0
    for path in paths:
        if path.is_dir():
            inside, other = walk(path)
            found, skipped = found + inside, skipped + other
        elif path.exists():
            found.append(path)
        else:
            message = f"{path}: no such file or folder; expected a picture or a folder of pictures"
            raise MissingFile(message)
    if not found:
        listed, wanted = ", ".join(map(str, paths)), ", ".join(sorted(SUFFIXES))
        message = f"{listed}: no picture found ({skipped} other files skipped); expected {wanted} files"
        raise NoPictures(message)
    return found
