"""Keeping native libraries from talking over our own lines on stderr."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator

# Else one thread takes the other's file for the real descriptor, and brings that back.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Catch what C++ code writes to file descriptor 2; where the block fails, let it out.

    The descriptor belongs to the whole process: use it around start-up and conversion, not while threads work.
    """
    with _ONE_AT_A_TIME:
        if sys.stderr is None:  # started with stderr closed: nobody listens
            yield
        else:
            with _caught():
                yield


@contextlib.contextmanager
def _caught() -> Iterator[None]:
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        try:
            os.dup2(kept.fileno(), 2)  # inside: an interrupt just after it must bring stderr back
            yield
        except BaseException:
            os.dup2(saved, 2)
            kept.seek(0)
            with os.fdopen(os.dup(2), "wb") as stderr:
                shutil.copyfileobj(kept, stderr)
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
