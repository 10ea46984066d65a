"""CSV tables with the columns that they must have, as spreadsheets of any country and age write them."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from ..errors import DataError, MissingFile

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8-sig"}  # byte order marks
_OLD = "cp1252"  # of Windows in Western Europe and America
_TOLD = {"utf-16": "UTF-16", "utf-16-le": "UTF-16", "utf-16-be": "UTF-16", _OLD: "Windows-1252"}


@dataclass(frozen=True)
class Table:
    """A CSV file.

    Attributes:
        rows: column -> text; what a row lacks is empty.
        understood: what of it is not usual, such as "semicolons, UTF-16, 3 empty rows"; empty for commas in UTF-8.
    """

    rows: list[dict[str, str]]
    understood: str


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of `read_table`.

    Raises:
        DataError, MissingFile: see `read_table`.
    """
    return read_table(path, columns).rows


def read_table(path: Path, columns: tuple[str, ...]) -> Table:
    """Read a CSV file that must have certain columns.

    Commas, semicolons, tabs or bars between them; UTF-8 with or without a byte order mark, UTF-16, or else
    Windows-1252; empty rows are passed over.

    Raises:
        DataError: it is not text, or a column is missing.
        MissingFile: it does not exist.
    """
    text, encoding = _text(path, columns)
    separator = _separator(text, columns)
    first, _, rest = text.partition("\n")
    if first.strip().lower() == f"sep={separator}".strip():
        text = rest
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), restval="", delimiter=separator)
        reader.fieldnames = found = [name.strip() for name in reader.fieldnames or ()]
        rows = [{name: row[name] for name in found} for row in reader]
    except csv.Error as error:
        message = f"{path}: not a CSV file ({error}); expected the columns {','.join(columns)}"
        raise DataError(message) from error
    if not set(columns) <= set(found):
        message = f"{path}: expected the columns {','.join(columns)}, found {','.join(found)[:80]!r}"
        raise DataError(message)
    full = [row for row in rows if any(value.strip() for value in row.values())]
    empty = len(rows) - len(full)
    told = (
        "" if separator == "," else _SEPARATORS[separator],
        _TOLD.get(encoding, ""),
        f"{empty} empty {'row' if empty == 1 else 'rows'}" if empty else "",
    )
    return Table(full, ", ".join(filter(None, told)))


def _text(path: Path, columns: tuple[str, ...]) -> tuple[str, str]:
    """What a file says, and in which encoding."""
    expected = f"expected a CSV with the columns {','.join(columns)}"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        message = f"{path}: no such file; {expected}"
        raise MissingFile(message) from error
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); {expected}"
        raise DataError(message) from error
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), _unmarked(data))
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError:
        pass
    if b"\0" in data or encoding != "utf-8":
        message = f"{path}: not a text file; {expected}"
        raise DataError(message)
    try:
        return data.decode(_OLD), _OLD
    except UnicodeDecodeError as error:
        message = f"{path}: neither UTF-8 nor UTF-16 nor Windows-1252 ({error}); {expected}"
        raise DataError(message) from error


def _unmarked(data: bytes) -> str:
    """Of a file without a byte order mark: every second byte of Latin text in UTF-16 is 0."""
    head = data[:200]
    if len(head) >= 2 and not any(head[1::2]) and all(head[0::2]):
        return "utf-16-le"
    if len(head) >= 2 and not any(head[0::2]) and all(head[1::2]):
        return "utf-16-be"
    return "utf-8"


def _separator(text: str, columns: tuple[str, ...]) -> str:
    """The one by which most of the columns are found in the first row; a comma where none is better."""
    lines = text.split("\n", 2)
    first = lines[0].strip().lower()
    if first.startswith("sep=") and first[4:5] in _SEPARATORS:
        return first[4:5]
    heads = {one: {name.strip().strip('"') for name in lines[0].split(one)} for one in _SEPARATORS}
    return max(_SEPARATORS, key=lambda one: len(heads[one] & set(columns)))
