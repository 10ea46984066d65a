"""What a slide is: how many cells it is to have, and the folders that its pictures came from.

A run that is given no name calls its slide by the folder. Where that slide is there already, came from another folder
and has none of this one's pictures, it is more likely another patient's than the same slide moved.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path

from ..errors import StoreError
from ..files import sha256_file
from ..imaging.folder import list_folder
from ..imaging.image import SUFFIXES
from .reader import SOURCE, TARGET, Reader, Reading
from .store import Store


def refuse_another_folder(store: Reader, slide: str, folder: Path) -> None:
    """Refuse to go on with a slide that came from other folders and shares no picture with this one.

    Args:
        store: where the slide may be.
        slide: its name, taken from the folder.
        folder: that pictures are to come from now.

    Raises:
        StoreError: names both folders, and what to do.
    """
    known = _folders(store, slide)
    here = folder.resolve()
    if not known or _in_one_form(here) in map(_in_one_form, known) or _shares(store, slide, here):
        return
    message = (
        f"slide {slide}: {store.path} has it from {', '.join(map(str, sorted(known)))}, and none of its pictures is in "
        f"{here}; give this one a name of its own with --slide NAME, or --slide {slide} if both are one slide"
    )
    raise StoreError(message)


def note_folder(store: Store, reading: Reading, folder: Path) -> None:
    """Keep from which folder a slide is taken, once."""
    here = str(folder.resolve())
    if here not in _noted(store, reading.slide):
        store.event(SOURCE, here, reading=reading)
        store.flush()


def note_target(store: Store, reading: Reading, cells: int | None) -> int:
    """Keep how many identified cells a slide is to have, where that is said; what it is to have then."""
    if cells is not None and cells != store.target(reading):
        store.event(TARGET, str(cells), reading=reading)
        store.flush()
    return store.target(reading)


def _in_one_form(folder: Path) -> str:
    """For comparing: letters with accents are one character, or two, by the system that wrote the name."""
    return unicodedata.normalize("NFC", str(folder))


def _noted(store: Reader, slide: str) -> list[str]:
    rows = store.rows(
        "SELECT DISTINCT message FROM events JOIN slides ON slides.id = slide_id WHERE kind = ? AND name = ?",
        (SOURCE, slide),
    )
    return [row["message"] for row in rows]


def _folders(store: Reader, slide: str) -> set[Path]:
    """Where its pictures came from; of a store of earlier, which did not keep it, where they lie as they were named."""
    noted = _noted(store, slide)
    if noted:
        return {Path(folder) for folder in noted}
    rows = store.rows("SELECT DISTINCT path FROM fields JOIN slides ON slides.id = slide_id WHERE name = ?", (slide,))
    files = (Path(row["path"]) for row in rows)  # of a camera's frames the paths are no files
    return {file.resolve().parent for file in files if file.suffix.lower() in SUFFIXES}


def _shares(store: Reader, slide: str, folder: Path) -> bool:
    """Whether a picture of the folder is in the slide, by its content."""
    known = {
        row["sha256"]
        for row in store.rows("SELECT sha256 FROM fields JOIN slides ON slides.id = slide_id WHERE name = ?", (slide,))
    }
    return any(file.is_file() and sha256_file(file) in known for file in list_folder(folder).files)
