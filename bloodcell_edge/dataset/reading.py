"""Decoding labelled pictures on all cores, each file opened once; what cannot be read is collected by name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from ..errors import MissingFile, NoPictures, PictureError
from ..imaging.image import decode, read_file
from ..progress import Progress
from .pictures import Picture, Unreadable

if TYPE_CHECKING:
    from ..imaging.image import Image

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Opened:
    """A labelled picture while it is open.

    Attributes:
        picture: which.
        data: the bytes of its file.
        image: uint8 RGB, shape (height, width, 3).
    """

    picture: Picture
    data: bytes
    image: Image

    @cached_property
    def sha256(self) -> str:
        """Of the file's bytes, hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


def read_each(
    pictures: Sequence[Picture], use: Callable[[Image], T], *, progress: Progress | None = None
) -> tuple[list[tuple[Picture, T]], list[Unreadable]]:
    """As `read_opened`, for what needs no more than the pixels.

    Args:
        pictures: what to read, order kept.
        use: called with uint8 RGB (height, width, 3) on a worker thread.
        progress: called as pictures are done.

    Raises:
        NoPictures: pictures were given and none can be read.
    """
    return read_opened(pictures, lambda opened: use(opened.image), progress=progress)


def read_opened(
    pictures: Sequence[Picture], use: Callable[[Opened], T], *, progress: Progress | None = None
) -> tuple[list[tuple[Picture, T]], list[Unreadable]]:
    """Decode pictures on all cores and keep what `use` makes of each.

    Args:
        pictures: what to read, order kept.
        use: called on a worker thread; what it is given is let go of afterwards.
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
    use: Callable[[Opened], T],
    bad: list[Unreadable],
    *,
    progress: Progress | None = None,
) -> Iterator[tuple[Picture, T]]:
    """As `read_opened`, for work that can begin with the first pictures while the others are read.

    Args:
        pictures: as for `read_opened`.
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
            data = read_file(picture.path)
            return use(Opened(picture, data, decode(data, name=str(picture.path))))
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
