"""Folders of one name that are two patients'."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest
from folders import lay
from store_writer import field, spec

from bloodcell_edge.errors import StoreError
from bloodcell_edge.files import sha256_file
from bloodcell_edge.slide.origin import note_folder, refuse_another_folder
from bloodcell_edge.slide.store import Store


@pytest.fixture
def taken(tmp_path):
    """A store with a slide "100x" taken from a folder of that name: the store, its reading and the folder."""
    folder = tmp_path / "A" / "100x"
    lay(folder, "1.png", "2.png")
    with closing(Store.open(tmp_path / "s.sqlite")) as store:
        reading = store.reading("100x", spec())
        store.add(reading, replace(field(1), path=str(folder / "1.png"), sha256=sha256_file(folder / "1.png")))
        store.flush()
        yield store, reading, folder


def test_another_patients_folder_is_refused(taken, tmp_path):
    """It shares nothing with the slide: both folders are named, and --slide; the slide's own goes on."""
    store, reading, folder = taken
    note_folder(store, reading, folder)
    note_folder(store, reading, folder)
    store.flush()
    other = tmp_path / "B" / "100x"
    lay(other, "3.png")
    (other / "3.png").write_bytes(b"another patient's")
    with pytest.raises(StoreError, match=rf"has it from {folder}, and none of its pictures is in {other}; .*--slide"):
        refuse_another_folder(store, "100x", other)
    refuse_another_folder(store, "100x", folder)
    refuse_another_folder(store, "new", other)
    assert [row["message"] for row in store.events()] == [str(folder)]


def test_a_folder_that_moved_goes_on(taken, tmp_path):
    """One of its pictures is enough, at whatever place."""
    store, _, folder = taken
    moved = folder.rename(tmp_path / "moved")
    refuse_another_folder(store, "100x", moved)


def test_a_store_of_earlier_tells_by_its_paths(taken, tmp_path):
    """Before folders were kept: what lies beside the pictures it has is the slide's."""
    store, _, folder = taken
    (folder / "1.png").unlink()
    refuse_another_folder(store, "100x", folder)
    lay(tmp_path / "B", "9.png")
    (tmp_path / "B" / "9.png").write_bytes(b"other")
    with pytest.raises(StoreError, match="--slide NAME"):
        refuse_another_folder(store, "100x", tmp_path / "B")
