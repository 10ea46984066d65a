"""Pictures as training takes them: opened once, prepared as on the device, in batches."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from labelled import files_and_one_that_is_none

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.errors import NoPictures
from bloodcell_edge.files import sha256_file
from bloodcell_edge.imaging.drawn import draw_folder
from bloodcell_edge.imaging.hashes import perceptual_hash
from bloodcell_edge.imaging.image import prepare, read_image
from bloodcell_edge.imaging.views import View
from bloodcell_edge.progress import SILENT
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.prepared import as_tensor_dataset, prepare_pictures, split_and_prepare
from bloodcell_edge.training.recipes import choose_recipe

FIELD, ORIGINAL = choose_recipe("field"), choose_recipe("original")


@pytest.fixture
def files(tmp_path):
    """Six readable pictures of two classes, and one that is not."""
    return files_and_one_that_is_none(tmp_path)


def test_pictures_are_prepared_as_on_the_device(files):
    """Pixels are those of image.prepare; aspect and hash are the file's; the unreadable one is named and left out."""
    prepared = prepare_pictures(files, View("frame", (16, 16)))
    good = [one for one in files if one is not files[3]]
    images = [read_image(one.path) for one in good]
    assert prepared.pictures == tuple(good)
    assert np.array_equal(prepared.pixels, [prepare(image, (16, 16)) for image in images])
    assert prepared.pixels.dtype == np.uint8
    assert prepared.aspects.tolist() == [image.shape[1] / image.shape[0] for image in images]
    assert np.array_equal(prepared.hashes[:, 0], [perceptual_hash(image) for image in images])
    assert [one.file for one in prepared.unreadable] == ["B/3.png"]
    assert prepared.targets(("B", "A")).tolist() == [1, 0, 1, 1, 0, 1]


def test_training_opens_each_picture_once(tmp_path):
    """Grouped, split, prepared, hashed and remembered in one pass: every file is opened once, not decoded again."""
    opened, watching = Counter(), True
    draw_folder(tmp_path / "pictures", per_class=3, seed=3, size=(120, 160))

    def hook(event, arguments):  # an audit hook stays until the process ends
        if watching and event == "open" and str(arguments[0]).startswith(str(tmp_path / "pictures")):
            opened[Path(arguments[0])] += 1

    data = load_data(tmp_path / "pictures")
    sys.addaudithook(hook)
    rows, prepared = split_and_prepare(data, replace(FIELD, size=32), RunFolder(tmp_path / "run"), SILENT)
    watching = False

    assert opened == {one.path: 1 for one in data.pictures}
    assert len(prepared.features) == len(rows) == 12
    assert [row.sha256 for row in rows] == [sha256_file(row.picture.path) for row in rows]


def test_nothing_readable(files):
    """Where no picture can be read it is an error."""
    with pytest.raises(NoPictures, match="none of 1 pictures"):
        prepare_pictures([files[3]], View("frame", (16, 16)))


def test_pipeline_gives_the_batches_of_direct_calls_in_order():
    """tf.data gives exactly what batches(step) gives, in order, twice the same, though it works ahead on threads."""

    def batches(step):
        rng = np.random.default_rng(step)
        return rng.integers(0, 256, (3 + step % 2, 8, 8, 3), np.uint8), rng.random((3 + step % 2, 4), np.float32)

    source = as_tensor_dataset(batches, 30, 8)
    assert int(source.cardinality()) == 30
    for _ in range(2):
        for step, (pixels, targets) in enumerate(source):
            expected = batches(step)
            assert pixels.numpy().dtype == np.uint8
            assert np.array_equal(pixels, expected[0])
            assert np.array_equal(targets, expected[1])
        assert step == 29
