"""Writing so that nothing is ever half-written: beside the target, then renamed."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import OutputExists


@contextmanager
def beside(path: str | Path) -> Iterator[Path]:
    """Give a temporary path in the same folder; rename it to `path` when the block ends well, else remove it.

    The temporary name ends like the final one, since some writers go by the suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem[:40]}-{secrets.token_hex(6)}{path.suffix}")
    temporary.touch(exist_ok=False)  # unlike tempfile's private ones an ordinary file, with the permissions of others
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    with beside(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a whole UTF-8 text file or nothing."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as readable JSON, or nothing. NaN is refused: no reader outside Python takes it."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def refuse_existing(path: str | Path, *, force: bool) -> None:
    """Raise OutputExists where `path` exists and overwriting was not asked for."""
    if Path(path).exists() and not force:
        message = f"{path}: exists already; give --force to replace it, or another place"
        raise OutputExists(message)


def sha256_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
