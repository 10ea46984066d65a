"""Small files: writing so that nothing is ever half-written (beside the target, then renamed), and reading JSON."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import BceError, DataError, MissingFile, OutputExists


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


def read_json(
    path: str | Path,
    *,
    absent: str = "no such file",
    broken: str = "not JSON ({error})",
    kind: type[BceError] = DataError,
) -> Any:
    """The value that a JSON file holds.

    Args:
        path: of the file.
        absent: what to say, after the path, where there is no such file.
        broken: what to say, after the path, where it is not JSON; ``{error}`` in it becomes what is wrong.
        kind: the error to raise then.

    Raises:
        MissingFile: no such file.
        BceError: of that kind: not JSON in UTF-8.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        message = f"{path}: {absent}"
        raise MissingFile(message) from error
    except ValueError as error:  # of JSON and of UTF-8
        message = f"{path}: {broken.format(error=error)}"
        raise kind(message) from error


def csv_text(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV with a line of names, lines ending in a line feed alone; None becomes empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue()


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write a table as `csv_text` makes it, whole or not at all."""
    write_text(path, csv_text(columns, rows))


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
