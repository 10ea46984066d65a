"""Tables as spreadsheets write them."""

from __future__ import annotations

import pytest

from bloodcell_edge.dataset.tables import read_table
from bloodcell_edge.errors import DataError

ROWS = [{"file": "mär.jpg", "label": "MONOCYTE"}, {"file": "n.jpg", "label": "NEUTROPHIL"}]
TEXT = "file{0}label\r\nmär.jpg{0}MONOCYTE\r\nn.jpg{0}NEUTROPHIL\r\n"


@pytest.mark.parametrize(
    ("separator", "encoding", "understood"),
    [
        (",", "utf-8", ""),
        (",", "utf-8-sig", ""),
        (";", "utf-8-sig", "semicolons"),
        ("\t", "utf-16", "tabs, UTF-16"),
        (",", "utf-16-le", "UTF-16"),
        ("|", "utf-16-be", "bars, UTF-16"),
        (";", "cp1252", "semicolons, Windows-1252"),
    ],
)
def test_separators_and_encodings(tmp_path, separator, encoding, understood):
    """Each gives the same rows, and what is not usual is told."""
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.format(separator).encode(encoding))
    table = read_table(path, ("file", "label"))
    assert (table.rows, table.understood) == (ROWS, understood)


def test_empty_rows_and_excels_own_line(tmp_path):
    """Rows without a value are passed over and counted; "sep=;" is no row."""
    path = tmp_path / "t.csv"
    path.write_text("sep=;\nfile;label\nn.jpg;NEUTROPHIL\n;\n ; \n", encoding="utf-8")
    table = read_table(path, ("file", "label"))
    assert (table.rows, table.understood) == (ROWS[1:], "semicolons, 2 empty rows")


def test_what_is_no_text_is_refused(tmp_path):
    """A picture, or a file with bytes that no encoding has."""
    path = tmp_path / "t.csv"
    for data in (b"\xff\xd8\xff\xe0\x00\x10JFIF", b"file,label\n\x81\x8d,x"):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"t\.csv: n(ot a text file|either UTF-8)"):
            read_table(path, ("file", "label"))
