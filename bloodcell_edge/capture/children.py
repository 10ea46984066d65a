"""The parent's end of a capture process (`child`): start it, take its frames, replace it where it hangs."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PictureError, SourceError
from ..imaging.image import decode
from .latest import Shot

if TYPE_CHECKING:
    from ..imaging.image import Image

_SCRIPT = Path(__file__).with_name("child.py")
_KILL_S = 1.0


class Ended(SourceError):
    """A recording has been read to its end; `expected` frames were announced (0: unknown)."""

    def __init__(self, message: str, expected: int) -> None:
        super().__init__(message)
        self.expected = expected


class ChildConnection:
    """One capture process.

    Args:
        name: the URL, for messages.
        python: the interpreter, and what goes before the script's name.
        kind, settings: as `child` has them.
        open_timeout_s: until the camera must be open; the start of a Python is part of it.
        read_timeout_s: until the next frame must be there.
        environment: added to the child's.
        started: told of the process as soon as there is one, also where the camera then is not opened.

    Raises:
        SourceError: it cannot be started, or the camera not opened in time.
    """

    def __init__(
        self,
        name: str,
        python: Sequence[str],
        kind: str,
        settings: dict[str, Any],
        *,
        open_timeout_s: float,
        read_timeout_s: float,
        environment: dict[str, str] | None = None,
        started: Callable[[subprocess.Popen[bytes]], None] | None = None,
    ) -> None:
        self._name = name
        self._read_timeout_s = read_timeout_s
        self._memory: mmap.mmap | None = None
        self._memory_fd = os.memfd_create("frames")  # goes with the last process that has it, however they end
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        handles = theirs.fileno(), self._memory_fd
        command = [*python, str(_SCRIPT), kind, *map(str, handles)]
        self._socket.send(json.dumps(settings).encode())
        try:
            self.process = subprocess.Popen(
                command,
                pass_fds=handles,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
                start_new_session=True,  # Ctrl-C is for the parent, which finishes the field in hand
            )
        except OSError as error:
            self._let_go()
            message = f"{name}: {command[0]} cannot be started ({error.strerror})"
            raise SourceError(message) from error
        finally:
            theirs.close()
        if started is not None:
            started(self.process)
        try:
            heard = self._hear(open_timeout_s, "could not be opened")
            self.notes: tuple[str, ...] = tuple(heard["open"])
            self.length_ms = float(heard.get("length_ms", 0.0))  # of a recording
        except BaseException:
            self.close()
            raise

    def shoot(self) -> Shot:
        """The next whole frame.

        Raises:
            Ended: the recording has no more.
            SourceError: none came in time, or the process is gone.
        """
        skipped, deadline = 0, time.monotonic() + self._read_timeout_s
        while True:
            message = self._hear(deadline - time.monotonic(), f"gave no frame ({skipped} broken ones)")
            try:
                image = None if "skip" in message else self._image(message)
            except PictureError:
                image = None
            if image is not None:
                break
            skipped += 1
        self.position_ms: float | None = message["position_ms"]
        taken_at = datetime.fromtimestamp(message["utc_ns"] / 1e9, timezone.utc)
        return Shot(image, message["monotonic_ns"], taken_at, skipped)

    def _image(self, message: dict[str, Any]) -> Image:
        """A copy of the frame that the child has put into the memory, which is the child's again; or PictureError."""
        size, shape = message["size"], message["shape"]
        if self._memory is None or len(self._memory) < size:
            self._memory = mmap.mmap(self._memory_fd, size, prot=mmap.PROT_READ)
        data = self._memory[:size]
        with contextlib.suppress(OSError):  # that the child is gone is heard at the next frame
            self._socket.send(b"+")
        if shape is None:
            return decode(data, name=self._name)
        image: Image = np.frombuffer(bytearray(data), np.uint8).reshape(shape)
        return image

    def _hear(self, timeout_s: float, failing: str) -> dict[str, Any]:
        """The child's next message; SourceError where it says nothing, that it failed, or that it is done."""
        self._socket.settimeout(max(timeout_s, 0.001))
        try:
            data = self._socket.recv(65_536)
        except TimeoutError as error:
            message = f"{self._name}: {failing} for {timeout_s:.1f} s, its capture process hangs and is replaced"
            raise SourceError(message) from error
        except OSError:
            data = b""
        if not data:
            code = self._end()
            message = f"{self._name}: its capture process ended ({code})"
            raise SourceError(message)
        heard: dict[str, Any] = json.loads(data)
        if "end" in heard:
            message = f"{self._name}: ended"
            raise Ended(message, int(max(heard["expected"], 0)))
        if "error" in heard:
            message = f"{self._name}: {heard['error']}"
            raise SourceError(message)
        return heard

    def abort(self) -> None:
        """Kill the process; a `shoot` that waits for it fails."""
        self.process.kill()

    def close(self) -> None:
        """Kill the process and let go of what was shared with it."""
        self.process.kill()
        self._end()
        self._let_go()

    def _end(self) -> str:
        """Wait for the process's end, but not long: one that sits in the kernel ends when its driver lets it."""
        try:
            code = self.process.wait(_KILL_S)
        except subprocess.TimeoutExpired:
            return "not yet: its driver holds it"
        return f"exit code {code}" if code >= 0 else f"signal {-code}"

    def _let_go(self) -> None:
        self._socket.close()
        if self._memory_fd >= 0:
            os.close(self._memory_fd)
            self._memory_fd = -1
        self._memory = None


class Replaceable:
    """Opens a capture process, and another one only when the one before has really gone.

    A process that a driver holds cannot even be killed; without this, each attempt would add one.
    """

    def __init__(self, name: str, python: Sequence[str], kind: str, settings: dict[str, Any], **options: Any) -> None:
        self._name = name
        self._make = partial(ChildConnection, name, python, kind, settings, started=self._remember, **options)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> ChildConnection:
        """Open it; SourceError where that fails."""
        if self._process is not None and self._process.poll() is None:
            message = f"{self._name}: the capture process {self._process.pid} cannot be ended, its driver holds it"
            raise SourceError(message)
        return self._make()

    def _remember(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
