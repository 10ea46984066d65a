"""`--weights blood`: training starts from the shipped backbone, and is never judged on what that was trained on."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from bloodcell_edge.dataset import taught as shipped
from bloodcell_edge.dataset.audit import with_photographs
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, load_split, members
from bloodcell_edge.dataset.taught import never_held_back
from bloodcell_edge.errors import DataError
from bloodcell_edge.imaging.hashes import all_hashes
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.model.choose import DEVICE_FILE
from bloodcell_edge.progress import SILENT
from bloodcell_edge.training.backbone import BLOOD_WEIGHTS, build_model, save_backbone
from bloodcell_edge.training.recipes import choose_recipe

SMALL = {"size": 64, "dropout": 0.0}


class Lines:
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def test_the_shipped_backbone_is_taken(tmp_path):
    """The weights of the model that is built are those of backbone.npz: kept again, every array is the same."""
    model, _, _ = build_model(choose_recipe("blood", weights="blood", **SMALL), 4)
    save_backbone(model, tmp_path / "again.npz")
    with np.load(BLOOD_WEIGHTS) as given, np.load(tmp_path / "again.npz") as again:
        assert given.files == again.files
        for name in given.files:
            np.testing.assert_array_equal(given[name], again[name])


@pytest.mark.parametrize("other", [{"alpha": 0.5}, {"backbone": "mobilenet_v3_small"}])
def test_other_networks_have_no_such_weights(other):
    """Another width or family: one line that says what the shipped backbone is."""
    recipe = choose_recipe("blood", weights="blood", **SMALL, **other)
    with pytest.raises(DataError, match=r"--weights blood: the shipped backbone is MobileNetV2 with --alpha 1.0"):
        build_model(recipe, 4)


def test_a_backbone_that_ends_early():
    """`Recipe.ends_at` leaves out what lies behind a layer, and keeps the weights of what lies before."""
    whole, _, _ = build_model(choose_recipe("blood", weights="blood", **SMALL), 4)
    cut, features, _ = build_model(choose_recipe("blood", weights="blood", ends_at="block_3_expand_relu", **SMALL), 4)
    assert features.output.shape[-1] == 144
    assert len(cut.layers) < len(whole.layers)
    layer = "block_2_depthwise"
    np.testing.assert_array_equal(cut.get_layer(layer).get_weights()[0], whole.get_layer(layer).get_weights()[0])


def test_a_layer_that_is_not_there():
    """A wrong name of a layer is one line."""
    with pytest.raises(DataError, match="no layer 'block_99' for the backbone to end at"):
        build_model(choose_recipe("blood", weights="none", ends_at="block_99", **SMALL), 4)


def hashes_of(rows):
    """The hashes of each picture, turned and flipped."""
    return np.array([all_hashes(read_image(row.picture.path)) for row in rows])


@pytest.fixture
def as_shipped(cell_run, tmp_path, monkeypatch):
    """The run on drawn cells in the place of the shipped model."""
    shutil.copyfile(cell_run.path / DEVICE_FILE, tmp_path / DEVICE_FILE)
    monkeypatch.setattr(shipped, "SHIPPED", tmp_path)
    return cell_run


@pytest.mark.long
def test_what_it_was_trained_on_is_not_held_back(as_shipped, drawn_cells):
    """Pictures on the training side of the shipped model go there again, whatever the seed draws; the rest stays."""
    pictures = with_photographs(load_data(drawn_cells).pictures, SILENT)
    rows = members(pictures, choose_recipe("drawn", seed=5).split)
    trained = {row.sha256 for row in load_split(as_shipped.split) if row.split == TRAIN}
    report = Lines()

    found = never_held_back(rows, hashes_of(rows), report)

    held_back = {row.sha256 for row in found if row.split == HELD_BACK}
    assert held_back
    assert not held_back & trained
    before = {row.sha256 for row in rows if row.split == HELD_BACK}
    assert held_back == before - trained
    assert f"{len(before & trained)} of {len(before)} pictures not held back" in report.said[0]


@pytest.mark.long
def test_nothing_left_to_be_judged_on_is_an_error(as_shipped):
    """Where the shipped model was trained on everything there is no honest figure: one line, and what to do."""
    rows = [row for row in load_split(as_shipped.split) if row.split == TRAIN]
    held_back = [replace(row, split=HELD_BACK) if place % 5 == 0 else row for place, row in enumerate(rows)]
    with pytest.raises(DataError, match=r"is left to be held back.*--weights imagenet"):
        never_held_back(held_back, hashes_of(held_back), Lines())
