"""Decoding labelled pictures on all cores; what cannot be read is collected by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..errors import MissingFile, NoPictures, PictureError
from ..imaging.image import read_image
from ..progress import Progress
from .pictures import Picture, Unreadable

if TYPE_CHECKING:
    from ..imaging.image import Image

T = TypeVar("T")


def read_each(
    pictures: Sequence[Picture], use: Callable[[Image], T], *, progress: Progress | None = None
) -> tuple[list[tuple[Picture, T]], list[Unreadable]]:
    """As `read_with`, for what needs no more than the pixels.

    Args:
        pictures: what to read, order kept.
        use: called with uint8 RGB (height, width, 3) on a worker thread.
        progress: called as pictures are done.

    Raises:
        NoPictures: pictures were given and none can be read.
    """
    return read_with(pictures, lambda _, image: use(image), progress=progress)


def read_with(
    pictures: Sequence[Picture], use: Callable[[Picture, Image], T], *, progress: Progress | None = None
) -> tuple[list[tuple[Picture, T]], list[Unreadable]]:
    """Decode pictures on all cores and keep what `use` makes of each.

    Args:
        pictures: what to read, order kept.
        use: called with the picture and its pixels, uint8 RGB (height, width, 3), on a worker thread.
        progress: called as pictures are done.

    Returns:
        (picture, result) of every readable picture, and the unreadable ones by name.

    Raises:
        NoPictures: pictures were given and none can be read.
    """
    bad: list[Unreadable] = []
    return list(read_one_by_one(pictures, use, bad, progress=progress)), bad


def read_one_by_one(
    pictures: Sequence[Picture],
    use: Callable[[Picture, Image], T],
    bad: list[Unreadable],
    *,
    progress: Progress | None = None,
) -> Iterator[tuple[Picture, T]]:
    """As `read_with`, for callers that begin with the first pictures while the others are read.

    Args:
        pictures: as for `read_with`.
        use: likewise.
        bad: the unreadable ones are added to it.
        progress: likewise.

    Yields:
        (picture, result) of every readable picture, in order.

    Raises:
        NoPictures: at the end: pictures were given and none could be read.
    """
    from concurrent.futures import ThreadPoolExecutor  # 4 ms that `bce classify` need not wait for

    def one(picture: Picture) -> T | Unreadable:
        try:
            return use(picture, read_image(picture.path))
        except (PictureError, MissingFile) as error:
            return Unreadable(picture.file, str(error))

    readable = 0
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        try:
            for number, (picture, result) in enumerate(zip(pictures, pool.map(one, pictures), strict=True), 1):
                if progress is not None:
                    progress(number, len(pictures))
                if isinstance(result, Unreadable):
                    bad.append(result)
                else:
                    readable += 1
                    yield picture, result
        finally:
            pool.shutdown(cancel_futures=True)  # an interrupt does not wait for thousands of pictures
    if bad and not readable:
        message = f"none of {len(bad)} pictures can be read; the first: {bad[0].error}"
        raise NoPictures(message)
