"""Decoding labelled pictures on all cores, each file opened once."""

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from folders import PNG, lay

from bloodcell_edge.dataset.pictures import LABELS, Picture
from bloodcell_edge.dataset.reading import read_each
from bloodcell_edge.errors import NoPictures
from bloodcell_edge.imaging.folder import list_folder


def pictures_of(folder: Path) -> list[Picture]:
    return [Picture(path, path.name, LABELS[0]) for path in list_folder(folder).files]


def test_unreadable_pictures_are_counted_and_named(tmp_path):
    """Empty, truncated, renamed and missing files are told by name with a reason; the others keep their order."""
    lay(tmp_path, "1.png", "3.png", "5.png")
    for name, data in (("2.png", b""), ("4.png", PNG[:40]), ("6.jpg", b"text")):
        (tmp_path / name).write_bytes(data)
    calls = []
    pictures = [*pictures_of(tmp_path), Picture(tmp_path / "gone.png", "gone.png")]
    done, bad = read_each(pictures, np.mean, progress=lambda *call: calls.append(call))

    assert [(picture.file, value) for picture, value in done] == [("1.png", 7), ("3.png", 7), ("5.png", 7)]
    assert [one.file for one in bad] == ["2.png", "4.png", "6.jpg", "gone.png"]
    assert all(str(tmp_path / one.file) in one.error for one in bad)
    assert calls == [(number, 7) for number in range(1, 8)]


def test_nothing_readable_is_an_error(tmp_path):
    """When all of them are bad the error says how many and why the first; nothing asked for is no error."""
    lay(tmp_path, "1.png", "2.png", data=b"text")
    with pytest.raises(NoPictures, match=r"none of 2 pictures can be read; the first: .*1\.png"):
        read_each(pictures_of(tmp_path), np.mean)

    assert read_each([], np.mean) == ([], [])


@pytest.mark.timeout(20)
def test_an_interrupt_does_not_wait_for_the_rest(tmp_path):
    """Control-C while many pictures wait stops at once: those that are not begun are never read."""
    lay(tmp_path, "1.png")
    begun = []

    def use(_):
        begun.append(threading.get_ident())
        time.sleep(0.02)

    def interrupt(done, _):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        read_each(pictures_of(tmp_path) * 1000, use, progress=interrupt)

    assert 3 <= len(begun) < 100


def test_a_failure_in_use_is_not_an_unreadable_picture(tmp_path):
    """Only what the picture is to blame for is collected: other errors come through."""
    lay(tmp_path, "1.png")
    with pytest.raises(ZeroDivisionError):
        read_each(pictures_of(tmp_path), lambda _: 1 / 0)
