"""CSV tables with the columns that they must have."""

from __future__ import annotations

import csv
from pathlib import Path

from ..errors import DataError, MissingFile


def read_rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file that must have certain columns; what a row lacks is empty.

    Raises:
        DataError: it is not text, or a column is missing.
        MissingFile: it does not exist.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, restval="")
            reader.fieldnames = found = [name.strip() for name in reader.fieldnames or ()]
            rows = [{name: row[name] for name in found} for row in reader]
    except FileNotFoundError as error:
        message = f"{path}: no such file; expected a CSV with the columns {','.join(columns)}"
        raise MissingFile(message) from error
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror}); expected a CSV with the columns {','.join(columns)}"
        raise DataError(message) from error
    except (UnicodeDecodeError, csv.Error) as error:
        message = f"{path}: not a CSV file in UTF-8 ({error}); expected the columns {','.join(columns)}"
        raise DataError(message) from error
    if not set(columns) <= set(found):
        message = f"{path}: expected the columns {','.join(columns)}, found {','.join(found)[:80]!r}"
        raise DataError(message)
    return rows
