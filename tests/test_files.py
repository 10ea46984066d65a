import hashlib
import json
import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.errors import DataError, MissingFile, OutputExists, SpecError
from bloodcell_edge.files import (
    beside,
    csv_text,
    read_json,
    refuse_existing,
    sha256_file,
    write_bytes,
    write_csv,
    write_json,
    write_text,
)


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_block_that_ends_well_makes_the_file(tmp_path):
    """The temporary stands in the same folder, hidden, with the same suffix, and is the file afterwards."""
    path = tmp_path / "new" / "model.tflite"
    with beside(path) as temporary:
        assert temporary.parent == path.parent
        assert (temporary.suffix, temporary.name[0]) == (".tflite", ".")
        temporary.write_bytes(b"whole")
        assert not path.exists()

    assert path.read_bytes() == b"whole"
    assert names(path.parent) == ["model.tflite"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_fails_leaves_what_was_there(tmp_path, error):
    """An error or an interrupt in the middle changes nothing and leaves nothing behind."""
    path = tmp_path / "history.csv"
    path.write_text("old")

    def fail():
        with beside(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["history.csv"]


def test_a_writer_may_make_its_own_file(tmp_path):
    """Writers that replace the temporary by a file of theirs, as Keras does, are fine."""
    with beside(tmp_path / "model.keras") as temporary:
        temporary.unlink()
        temporary.write_bytes(b"theirs")

    assert (tmp_path / "model.keras").read_bytes() == b"theirs"


def test_files_have_ordinary_permissions(tmp_path):
    """What is written can be read by whom the umask lets, as if it had been opened and written."""
    (tmp_path / "plain").write_bytes(b"")
    write_bytes(tmp_path / "ours", b"")

    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_the_umask_is_left_alone(tmp_path):
    """A file that another thread makes meanwhile does not become writable for all."""
    seen, done = set(), threading.Event()

    def others():
        number = 0
        while not done.is_set() and number < 20_000:
            path = tmp_path / f"other-{number % 7}"
            path.unlink(missing_ok=True)
            path.touch()
            seen.add(stat.S_IMODE(path.stat().st_mode))
            number += 1

    thread = threading.Thread(target=others)
    thread.start()
    for _ in range(300):
        write_bytes(tmp_path / "ours", b"x")
    done.set()
    thread.join()

    assert len(seen) == 1


@pytest.mark.parametrize("name", ["a" * 250 + ".csv", "no suffix", ".hidden", "ünïcode.json", "two.dots.tflite"])
def test_any_name_that_fits_can_be_written(tmp_path, name):
    """Long, hidden, dotted and accented names, and none at all after the dot."""
    write_text(tmp_path / name, "é")

    assert (tmp_path / name).read_bytes() == "é".encode()
    assert names(tmp_path) == [name]


def test_a_folder_in_the_way_is_an_error(tmp_path):
    """Where the name is a folder's nothing is written and nothing left behind."""
    (tmp_path / "out").mkdir()
    with pytest.raises(IsADirectoryError):
        write_bytes(tmp_path / "out", b"x")
    assert names(tmp_path) == ["out"]


def test_readers_never_see_half_a_file(tmp_path):
    """While a file is replaced 200 times whoever reads it sees one of the whole texts."""
    path, texts = tmp_path / "latest.json", ["a" * 100_000, "b" * 100_000]
    write_text(path, texts[0])
    stop = threading.Event()

    def replace():
        number = 0
        while not stop.is_set():
            number += 1
            write_text(path, texts[number % 2])

    thread = threading.Thread(target=replace)
    thread.start()
    read = {path.read_text() for _ in range(200)}
    stop.set()
    thread.join()

    assert read <= set(texts)


def test_json_is_plain_and_ends_with_a_line(tmp_path):
    """What is written is JSON that any reader takes; NaN, which is none, is refused before anything is written."""
    write_json(tmp_path / "a.json", {"ä": [1, 2.5, None]})

    assert json.loads((tmp_path / "a.json").read_bytes()) == {"ä": [1, 2.5, None]}
    assert (tmp_path / "a.json").read_text().endswith("}\n")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", {"loss": float("nan")})
    assert names(tmp_path) == ["a.json"]


def test_json_is_read_as_it_was_written(tmp_path):
    """read_json gives the value back."""
    write_json(tmp_path / "a.json", {"ä": [1, 2.5, None]})

    assert read_json(tmp_path / "a.json") == {"ä": [1, 2.5, None]}


def test_json_that_is_not_there_is_told_in_the_callers_words(tmp_path):
    """An absent file, a folder of its name, and a file where its folder should be."""
    (tmp_path / "file").write_text("{}")
    (tmp_path / "folder").mkdir()

    for path in (tmp_path / "a.json", tmp_path / "folder", tmp_path / "file" / "a.json"):
        with pytest.raises(MissingFile, match=f"^{path}: nothing here; make one$"):
            read_json(path, absent="nothing here; make one")


@pytest.mark.parametrize("content", [b"{", b"", b"\xff"])
def test_what_is_no_json_is_told_in_the_callers_words(tmp_path, content):
    """Broken JSON, an empty file and bytes that are no UTF-8: the path, what is wrong, and the error asked for."""
    path = tmp_path / "a.json"
    path.write_bytes(content)

    with pytest.raises(DataError, match=rf"^{path}: not JSON \(.+\)$"):
        read_json(path)
    with pytest.raises(SpecError, match=rf"^{path}: no spec \(.+\); make it again$"):
        read_json(path, broken="no spec ({error}); make it again", kind=SpecError)


def test_a_table_is_csv_with_plain_line_ends(tmp_path):
    """A line of names, a line a row; what needs quotes gets them, None is empty; lines end alike on every system."""
    text = csv_text(("file", "n"), [("a,b.jpg", 1), (None, 2.5)])

    assert text == 'file,n\n"a,b.jpg",1\n,2.5\n'
    write_csv(tmp_path / "a.csv", ("file", "n"), iter([("a,b.jpg", 1), (None, 2.5)]))
    assert (tmp_path / "a.csv").read_bytes() == text.encode()


def test_existing_files_are_refused_unless_forced(tmp_path):
    """refuse_existing names the file and --force; folders count; a new name and --force pass."""
    (tmp_path / "old").write_text("x")
    for path in (tmp_path / "old", tmp_path):
        with pytest.raises(OutputExists, match=f"{path}: exists already; give --force"):
            refuse_existing(path, force=False)
    refuse_existing(tmp_path / "old", force=True)
    refuse_existing(tmp_path / "new", force=False)


@given(st.binary(max_size=3000))
def test_sha256_is_that_of_the_bytes(data):
    """sha256_file says what hashlib says of the content."""
    read, write = os.pipe()
    with os.fdopen(write, "wb") as stream:
        stream.write(data)
    try:
        assert sha256_file(f"/dev/fd/{read}") == hashlib.sha256(data).hexdigest()
    finally:
        os.close(read)


def test_sha256_of_a_file_larger_than_a_block(tmp_path):
    """Files are hashed whole, not their first megabyte."""
    data = b"0123456789abcdef" * 200_000
    (tmp_path / "large").write_bytes(data)

    assert sha256_file(tmp_path / "large") == hashlib.sha256(data).hexdigest()
