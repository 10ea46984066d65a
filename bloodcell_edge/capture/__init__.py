"""Where pictures come from: one Protocol, chosen by a URL.

==================================  ====================================================================================
``folder:DIR``                      pictures in a folder, then done; or, watched, the new ones too (`folder`)
``camera:0``, ``/dev/video0``       a local camera by OpenCV, in a process that can be replaced (`camera`)
``rtsp://…``                        a network camera by OpenCV, in such a process too (`camera`)
``http://…``, ``https://…``         MJPEG over HTTP, read by ourselves (`mjpeg`)
``video:FILE``                      a recording (`camera`)
``picamera:0``                      a Raspberry Pi camera by the system's picamera2 (`picamera`)
``fake:smear``                      drawn fields with known truth (`fake`)
==================================  ====================================================================================

Settings follow as ``?name=value&name=value``. In the network URLs what follows ``?`` belongs to the server, so that
ours stand behind ``#`` there: ``http://scope/stream.mjpg?user=1#max_age_ms=300``.

    >>> from bloodcell_edge.capture import open_source
    >>> with open_source("fake:smear?cells=3&fps=0&count=2") as source:
    ...     [frame.image.shape for frame in source]
    [(240, 320, 3), (240, 320, 3)]
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from ..errors import SourceError
from .url import SourceUrl

if TYPE_CHECKING:
    from ..imaging.image import Image
    from ..records import Frame, Notice, PreparedField
    from .base import BaseSource

__all__ = ["Source", "open_source"]

_ROOMS = {
    "folder": "folder",
    "camera": "camera",
    "rtsp": "camera",
    "video": "camera",
    "http": "mjpeg",
    "https": "mjpeg",
    "picamera": "picamera",
    "fake": "fake",
}
_CAMERAS = frozenset({"camera", "rtsp", "http", "https", "picamera"})


class Source(Protocol):
    """Anything that gives frames to `slide.run.count_slide`; examples/own_source.py is one.

    What `open_source` gives can do more: it is stopped and closed, see `base.BaseSource`.

    Attributes:
        name: what the store and messages call it.
        live: a stage lies under a camera, so that the same field and the same cell come again: take a frame on field
            change and count by `overlap.Overlap`, unless told otherwise.
        endless: it never ends by itself, so that no frame may wait for later ones.
    """

    name: str
    live: bool
    endless: bool

    def __iter__(self) -> Iterator[Frame]:
        """The frames, as they come; waits for each. Iterated once."""

    def listen(
        self,
        *,
        notice: Callable[[Notice], None] | None = None,
        idle: Callable[[], bool | None] | None = None,
        taken_before: Callable[[str], bool] | None = None,
        ahead: Callable[[Image], PreparedField] | None = None,
    ) -> None:
        """Take what it may call while it is iterated; called before that. A source that has no use for it does nothing.

        Args:
            notice: told what happens besides frames.
            idle: called about ten times a second while nothing comes; True ends the iteration.
            taken_before: says of a file's hash whether its picture is known, which then need not be decoded. Called
                from any thread.
            ahead: makes of a picture what can be made before its turn comes, for `Frame.ahead`. Called from any thread,
                by several at once.
        """


def open_source(
    url: str,
    *,
    watch: bool = False,
    give_up_after_s: float | None = None,
    notice: Callable[[Notice], None] | None = None,
    idle: Callable[[], bool | None] | None = None,
) -> BaseSource:
    """Make the source that a URL means. Nothing is opened before it is iterated, but the URL is checked whole.

    Args:
        url: as in this package's docstring.
        watch: a folder goes on with files that arrive later, as with ``watch=1`` in its URL.
        give_up_after_s: a camera without a frame for that long is an error, as with ``give_up_after=``; None re-opens
            it for ever.
        notice: told what happens besides frames, between two of them.
        idle: called about ten times a second while nothing comes; True ends the iteration.
            Both are called on the thread that iterates; what they raise ends the iteration.

    Raises:
        SourceError: the URL, or a setting in it, means nothing; `watch` for what is not a folder.
        MissingFile: a folder or video that is not there.
    """
    parsed = SourceUrl.parse(url, known=tuple(_ROOMS))
    if watch and parsed.scheme != "folder":
        message = f"{parsed.name}: only folders can be watched; a camera goes on by itself. Leave out --watch"
        raise SourceError(message)
    if watch:
        parsed = replace(parsed, settings={**parsed.settings, "watch": "1"})
    if give_up_after_s is not None and parsed.scheme in _CAMERAS:
        parsed = replace(parsed, settings={**parsed.settings, "give_up_after": repr(float(give_up_after_s))})
    room = import_module(f".{_ROOMS[parsed.scheme]}", __name__)
    source: BaseSource = room.from_url(parsed, notice=notice, idle=idle)
    return source
