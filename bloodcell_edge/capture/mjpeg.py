"""MJPEG over HTTP, read by ourselves.

Why not by OpenCV, measured with opencv-python-headless 5.0 on a loopback server: a JPEG that was cut in half comes back
as a good frame, and its missing half is not grey but filled from the frame before, so that no look at the pixels tells
it (3 of 3 halves); when the camera changes its resolution, frames are silently squeezed into the old one, so that cells
change their size (6 of 6 frames); 30 kB of garbage end the stream. Here every JPEG is checked for being whole before it
is decoded, the size is the picture's own, and after garbage the next boundary is looked for.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import select
import socket
import time
from contextlib import ExitStack
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from ..errors import PictureError, SourceError
from ..imaging.image import decode
from ..text import now
from .latest import LatestFrameOptions, LatestFrameSource, Shot
from .url import SourceUrl

_BLOCK = 65_536
_CATCH_UP_S = 0.1  # for what waited in the socket; a server without pauses would never let it run dry
_BIGGEST_PART = 32 * 2**20  # a JPEG of 100 megapixels
_LONGEST_HEADERS = 8192
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_LENGTH = re.compile(rb"(?i)content-length:[ \t]*(\d{1,9})")


def from_url(url: SourceUrl, **callbacks: Any) -> LatestFrameSource:
    """The source of an ``http://`` or ``https://`` URL; `callbacks` are `notice` and `idle` of `open_source`."""
    options = url.options(LatestFrameOptions)
    try:
        split = urlsplit(url.place)
        host = split.port is None or split.hostname  # a port that is no number is noticed when it is asked for
    except ValueError:
        host = None
    if not host or not split.hostname:
        message = f"source {url.name!r}: expected {url.scheme}://HOST[:PORT]/PATH"
        raise SourceError(message)

    def connect() -> MjpegConnection:
        return MjpegConnection(split, options.open_timeout_ms / 1000, options.read_timeout_ms / 1000)

    return LatestFrameSource(url.name, connect, options, **callbacks)


class Parts:
    """Cuts a multipart stream into its bodies; bytes in, bodies out, no waiting.

    What is between a body and the next boundary is skipped. A body is over where its Content-Length says, at the next
    boundary if that comes earlier, or, without a length, also where the bytes that have come end like a JPEG.

    Args:
        boundary: as the Content-Type names it; dashes before it are ignored, since cameras disagree about them.
    """

    def __init__(self, boundary: str) -> None:
        self._mark = b"--" + boundary.strip().lstrip("-").encode("latin-1", "replace")
        self._buffer = bytearray()
        self._length: int | None = None
        self._inside = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take what came; the bodies that it completes.

        Raises:
            SourceError: 32 MiB without an end: this is no MJPEG stream.
        """
        self._buffer += data
        bodies = []
        while (body := self._body() if self._inside else self._skip_headers()) is not None:
            if body:
                bodies.append(body)
        if len(self._buffer) > _BIGGEST_PART:
            message = f"a part of more than {_BIGGEST_PART} bytes; expected JPEG pictures"
            raise SourceError(message)
        return bodies

    def _skip_headers(self) -> bytes | None:
        """Go to the beginning of the next body and return b""; None where more bytes are needed."""
        start = self._buffer.find(self._mark)
        if start < 0:
            del self._buffer[: -len(self._mark)]
            return None
        end = _BLANK_LINE.search(self._buffer, start)
        if end is None:
            if len(self._buffer) - start > _LONGEST_HEADERS:  # not a boundary, but garbage that looks like one
                del self._buffer[: start + len(self._mark)]
                return b""
            return None
        length = _LENGTH.search(self._buffer, start, end.start())
        self._length = int(length[1]) if length else None
        del self._buffer[: end.end()]
        self._inside = True
        return b""

    def _body(self) -> bytes | None:
        """The body that the buffer begins with; None where more bytes are needed."""
        reach = len(self._buffer) if self._length is None else min(self._length, len(self._buffer))
        end = self._buffer.find(b"\n" + self._mark, 0, reach)
        if end < 0:
            if self._length is None:
                if not self._buffer.rstrip(b"\r\n").endswith(b"\xff\xd9"):
                    return None
                end = len(self._buffer)
            elif len(self._buffer) < self._length:
                return None
            else:
                end = self._length
        body = bytes(self._buffer[:end])
        del self._buffer[:end]
        self._inside = False
        return body


class MjpegConnection:
    """One open stream.

    Args:
        url: taken apart; a user name and password in it are sent (Basic).
        open_timeout_s: until the server has answered.
        read_timeout_s: until the next whole picture is there.

    Raises:
        SourceError: no connection, or an answer that is no MJPEG stream.
    """

    notes: tuple[str, ...] = ()

    def __init__(self, url: SplitResult, open_timeout_s: float, read_timeout_s: float) -> None:
        assert url.hostname is not None  # from_url has looked
        self._name = f"{url.scheme}://{url.hostname}{'' if url.port is None else f':{url.port}'}{url.path}"
        self._read_timeout_s = read_timeout_s
        kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        self._http = kind(url.hostname, url.port, timeout=open_timeout_s)
        with ExitStack() as undo:
            undo.callback(self._http.close)
            try:
                self._socket, self._response = self._ask(url)
            except (OSError, http.client.HTTPException) as error:
                message = f"{self._name}: cannot be opened ({_reason(error)})"
                raise SourceError(message) from error
            undo.callback(self._response.close)
            self._parts = Parts(self._boundary())
            undo.pop_all()

    def _ask(self, url: SplitResult) -> tuple[socket.socket, http.client.HTTPResponse]:
        headers = {"Accept": "multipart/x-mixed-replace"}
        if url.username is not None:
            pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self._http.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""), headers=headers)
        stream: Any = self._http.sock  # the response may take it over and set this to None
        return stream, self._http.getresponse()

    def _boundary(self) -> str:
        answer = self._response
        if answer.status != http.client.OK:
            where = f", to {answer.headers['Location']}" if answer.headers["Location"] else ""
            message = f"{self._name}: expected a stream, the server answers {answer.status} {answer.reason}{where}"
            raise SourceError(message)
        boundary = answer.headers.get_param("boundary")
        if answer.headers.get_content_maintype() != "multipart" or not isinstance(boundary, str):
            found = answer.headers["Content-Type"]
            message = f"{self._name}: expected multipart/x-mixed-replace (MJPEG), found {found}; is this the stream?"
            raise SourceError(message)
        return boundary

    def shoot(self) -> Shot:
        """The newest whole picture of those that have arrived; waits for one where there is none.

        Raises:
            SourceError: none within the read timeout, or the stream ended.
        """
        deadline, broken = time.monotonic() + self._read_timeout_s, 0
        while True:
            bodies, arrived_ns, arrived_at = self._arrived(deadline, broken)
            for place, body in enumerate(reversed(bodies)):
                try:
                    image = decode(body, name=self._name)
                except PictureError:
                    broken += 1
                else:
                    return Shot(image, arrived_ns, arrived_at, broken + len(bodies) - 1 - place)

    def _arrived(self, deadline: float, broken: int) -> tuple[list[bytes], int, Any]:
        """At least one body, with all that came meanwhile: what waited in a socket is old, and not decoded."""
        bodies: list[bytes] = []
        until = deadline
        while not bodies or (time.monotonic() < until and self._waiting()):
            left = deadline - time.monotonic()
            try:
                if left <= 0:
                    raise TimeoutError
                self._socket.settimeout(left)
                data = self._response.read1(_BLOCK)
            except TimeoutError as error:
                found = f", {broken} broken ones came" if broken else ""
                message = f"{self._name}: no picture for {self._read_timeout_s:.1f} s{found}"
                raise SourceError(message) from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                message = f"{self._name}: the stream broke off ({_reason(error)})"
                raise SourceError(message) from error
            if not data:
                message = f"{self._name}: the server ended the stream"
                raise SourceError(message)
            if new := self._parts.feed(data):
                until = until if bodies else min(deadline, time.monotonic() + _CATCH_UP_S)
                bodies, arrived_ns, arrived_at = bodies + new, time.monotonic_ns(), now()
        return bodies, arrived_ns, arrived_at

    def _waiting(self) -> bool:
        return bool(select.select([self._socket], [], [], 0)[0])

    def abort(self) -> None:
        """Cut the connection; a `shoot` that waits on it fails."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self._response.close()
        self._http.close()


def _reason(error: Exception) -> str:
    return str(error) or type(error).__name__
