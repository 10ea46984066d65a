"""A flatbuffer with a zip behind it."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.errors import SpecError
from bloodcell_edge.model.archive import open_archive, seal, sha256_of

NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@given(st.binary(max_size=300), st.dictionaries(NAMES, st.binary(max_size=200), min_size=1, max_size=3))
def test_what_is_sealed_comes_out_again(flatbuffer, members):
    """Flatbuffer and members are what they were, and members that nobody asked for are given, too."""
    needed = list(members)[:1]
    assert open_archive(seal(flatbuffer, members, name="m"), needed, where="m", made_by="us") == (flatbuffer, members)


def test_nothing_in_it_hangs_on_clock_or_machine():
    """The same content gives the same bytes, uncompressed, behind a flatbuffer that stands at the front."""
    sealed = seal(b"front", {"a": b"1", "b": b"2"}, name="m")
    assert sealed == seal(b"front", {"a": b"1", "b": b"2"}, name="m")
    assert sealed.startswith(b"front")
    with zipfile.ZipFile(io.BytesIO(sealed)) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}


def test_nothing_is_sealed_twice():
    """A second zip would hide the first."""
    with pytest.raises(SpecError, match=r"^m: expected a TFLite model alone, found one with a zip behind it"):
        seal(seal(b"front", {"a": b"1"}, name="m"), {"a": b"1"}, name="m")


@pytest.mark.parametrize("content", [b"", b"front", seal(b"front", {"a": b"1"}, name="m")[:-9]])
def test_what_is_no_archive_is_refused(content):
    """Nothing, a bare flatbuffer and a file that was cut short say what was expected, and who makes such files."""
    with pytest.raises(SpecError, match=r"^m: no a inside \(.*\); expected a \.tflite made by us, copied whole$"):
        open_archive(content, ["a"], where="m", made_by="us")


def test_a_member_that_is_missing_is_named():
    """The archive is whole, but another one."""
    with pytest.raises(SpecError, match=r"^m: no b inside"):
        open_archive(seal(b"front", {"a": b"1"}, name="m"), ["b"], where="m", made_by="us")


def test_a_damaged_member_is_noticed():
    """The zip's own checksum does not fit."""
    sealed = bytearray(seal(b"front", {"a": b"content"}, name="m"))
    sealed[sealed.index(b"content")] ^= 1
    with pytest.raises(SpecError, match="CRC"):
        open_archive(bytes(sealed), ["a"], where="m", made_by="us")


def test_a_hash_is_over_all_parts():
    """One after the other, as if they were one."""
    assert sha256_of(b"a", b"b") == sha256_of(b"ab") != sha256_of(b"ba")
