"""What is located in labelled pictures, by the scale of all that share their microscope.

They are looked at twice, as the fields of a slide are: once to locate cells and tell the scale, then to show what the
scale of all makes of each. Pictures share a microscope where a table gives them one group (a smear) with others, or
else where they come from one DATA.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PictureError
from ..model.locator import shipped_locator
from ..model.microscope import FEWEST, FirstLook, Microscope
from .reading import read_one_by_one

if TYPE_CHECKING:
    from ..imaging.located import Located, Locator
    from ..progress import Progress
    from .pictures import Picture, Unreadable
    from .reading import Opened


class PooledPictures:
    """What was located in pictures that were looked at together."""

    def __init__(self, found: Mapping[Path, Located], refused: Mapping[str, str]) -> None:
        """Use `locate_pictures`."""
        self._found, self._refused = found, refused

    def located(self, picture: Picture) -> Located:
        """Its cells and scale.

        Raises:
            PictureError: it could not be looked at, such as one that is too small.
        """
        if picture.path not in self._found:
            raise PictureError(self._refused.get(picture.file, f"{picture.path}: has changed while it was read"))
        return self._found[picture.path]


def locate_pictures(
    pictures: Sequence[Picture], locate: Locator | None = None, *, progress: Progress | None = None
) -> PooledPictures:
    """Locate the cells of labelled pictures, and give each the scale of all that share its microscope.

    Where those disagree with each other, and where a picture's scale is given, each keeps its own.

    Args:
        pictures: labelled.
        locate: finds the cells, None for the shipped locator.
        progress: called as pictures are done.

    Raises:
        NoPictures: pictures were given and none can be read.
    """
    finder = locate or shipped_locator()

    def look(opened: Opened) -> tuple[Located, FirstLook]:
        located = finder(opened.image, um_per_px=opened.picture.um_per_px)
        return replace(located, halves=None), FirstLook.of(opened.image, located)

    bad: list[Unreadable] = []
    read = list(read_one_by_one(pictures, look, bad, progress=progress))
    microscopes = _microscopes({picture: first for picture, (_, first) in read if picture.um_per_px is None})
    found = {
        picture.path: located if picture.um_per_px else microscopes(picture).applied(first, located)
        for picture, (located, first) in read
    }
    return PooledPictures(found, {one.file: one.error for one in bad})


def _microscopes(looks: Mapping[Picture, FirstLook]) -> Callable[[Picture], Microscope]:
    """What a picture was taken with: what its group says where that has pictures enough, or else its DATA."""
    together: dict[tuple[str, str | None], list[FirstLook]] = defaultdict(list)
    for picture, first in looks.items():
        together[picture.source, None].append(first)
        if picture.group is not None:
            together[picture.source, picture.group].append(first)
    known = {name: Microscope.of(some) for name, some in together.items() if name[1] is None or len(some) >= FEWEST}

    def of(picture: Picture) -> Microscope:
        return known.get((picture.source, picture.group)) or known[picture.source, None]

    return of
