"""Which picture files a folder holds, and in which order."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, MissingFile, NoPictures
from .image import SUFFIXES

_NOT_OURS = frozenset(
    ("@eadir", "#recycle", "#snapshot", "$recycle.bin", "__macosx", "lost+found", "system volume information",
     "thumbs.db", "desktop.ini")
)  # fmt: skip
"""Names, in lower case, that network drives, waste bins, archives and Windows give to what is theirs."""


def natural_key(name: str | Path) -> list[tuple[int, int, str]]:
    """Sort key that puts ``field_2`` before ``field_10``."""
    parts = re.split(r"(\d+)", str(name))
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part.lower()) for part in parts]


@dataclass(frozen=True)
class Listing:
    """What a folder holds.

    Attributes:
        files: of pictures, by their names, in natural order; links to nothing among them.
        others: ending, such as ".heic" -> how many files were left out for it; "" for names without one.
        hidden: files left out since their names begin with a dot.
        folders: that were not looked into.
    """

    files: tuple[Path, ...]
    others: Mapping[str, int]
    hidden: int = 0
    folders: int = 0

    @property
    def skipped(self) -> int:
        """How many files were left out."""
        return self.hidden + sum(self.others.values())

    @property
    def left_out(self) -> str:
        """In words, such as "3 files left out: 2 .heic, 1 .txt"; empty where nothing is but what is hidden."""
        total = sum(self.others.values())
        often = sorted(self.others.items(), key=lambda item: (-item[1], item[0]))
        listed = ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in often)
        files = f"{total} {'file' if total == 1 else 'files'} left out: {listed}" if total else ""
        folders = (
            f"{self.folders} {'folder' if self.folders == 1 else 'folders'} not looked into" if self.folders else ""
        )
        return "; ".join(filter(None, (files, folders)))


def list_folder(folder: Path, *, recursive: bool = True) -> Listing:
    """The picture files of a folder, and what else is there.

    Folders that a NAS, a waste bin or an archive keeps for itself are passed over as hidden ones are.

    Args:
        folder: where to look.
        recursive: also below it; links to folders are not followed.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[Path] = []
    others: Counter[str] = Counter()
    hidden = inside = 0
    for parent, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name.lower() not in _NOT_OURS]
        if not recursive:
            inside, folders[:] = len(folders), []
        for name in names:
            ending = Path(name).suffix.lower()
            if name.startswith(".") or name.lower() in _NOT_OURS:
                hidden += 1
            elif ending in SUFFIXES:
                found.append(Path(parent) / name)
            else:
                others[ending] += 1
    # The path itself decides between names that are naturally equal, such as 7.jpg and 07.jpg.
    files = sorted(found, key=lambda path: (natural_key(path.relative_to(folder).as_posix()), path))
    return Listing(tuple(files), dict(others), hidden, inside)


def _refuse_folder(error: OSError) -> None:
    message = f"{error.filename}: the folder cannot be read ({error.strerror})"
    raise DataError(message) from error


def picture_files(paths: Sequence[Path], *, say: Callable[[str], None] | None = None) -> list[Path]:
    """Files as named and the pictures in folders, in natural order; each is PATH as typed joined with the rest.

    Args:
        paths: of files and folders.
        say: told once a folder what of it was left out.

    Raises:
        MissingFile: a path does not exist.
        NoPictures: there is none.
    """
    found: list[Path] = []
    skipped = 0
    for path in paths:
        if path.is_dir():
            inside = list_folder(path)
            found, skipped = [*found, *inside.files], skipped + inside.skipped
            if say is not None and inside.left_out:
                say(f"{path}: {inside.left_out}")
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
