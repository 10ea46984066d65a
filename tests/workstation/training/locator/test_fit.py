import json
import shutil

import numpy as np
import pytest
from locator_data import HARDLY

from bloodcell_edge.errors import OutputExists
from bloodcell_edge.progress import Silent
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.locator.fit import train_locator
from bloodcell_edge.training.locator.recipe import LocatorRecipe

RECIPE = LocatorRecipe(**HARDLY)


class StoppedAfter(Silent):
    """Interrupts as a person does, after so many epochs."""

    def __init__(self, epochs):
        self.left = epochs

    def say(self, text):
        if text.startswith("locator "):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


def test_a_run_holds_what_others_need(locator_run, boxed_fields, single_cells):
    """Model, recipe with its DATA, split, history and figures on held-back pictures."""
    metrics, config = json.loads(locator_run.metrics.read_text()), json.loads(locator_run.config.read_text())

    assert config["data"] == [str(boxed_fields), str(single_cells)]
    assert config["locator"]["steps"] == 2
    assert set(metrics["pictures"]) == {"train", "heldback"}
    assert metrics["pictures"]["heldback"][str(boxed_fields)] >= 3
    assert {"threshold", "recall", "precision", "f1", "scenes", "cells"} <= set(metrics["heldback"])
    assert len(locator_run.history.read_text().splitlines()) == 3
    assert not locator_run.state.exists()
    held_back = [row for row in locator_run.split.read_text().splitlines() if row.endswith(",heldback")]
    assert len(held_back) >= 6


@pytest.mark.long
def test_an_interrupted_run_ends_as_if_it_was_not(locator_run, boxed_fields, single_cells, tmp_path):
    """Stopped in the second epoch, the same call goes on, to the same weights."""
    out = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        train_locator([boxed_fields, single_cells], RECIPE, out=out, report=StoppedAfter(2))
    assert (out / "state/checkpoint.npz").is_file()
    train_locator([boxed_fields, single_cells], RECIPE, out=out)

    one, other = (keras.saving.load_model(where, compile=False) for where in (locator_run.model, RunFolder(out).model))
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        assert np.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_what_is_there_is_not_trained_over(locator_run, boxed_fields, single_cells, tmp_path):
    """A finished run, or an unfinished one of another recipe, is refused with what to do."""
    with pytest.raises(OutputExists, match="holds a finished run; give another --name, or --force"):
        train_locator([boxed_fields, single_cells], RECIPE, out=locator_run.path)
    other = tmp_path / "other"
    shutil.copytree(locator_run.path, other)
    RunFolder(other).metrics.unlink()
    with pytest.raises(OutputExists, match="an unfinished run of another recipe or data"):
        train_locator([boxed_fields], RECIPE, out=other)


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"batch": 3}, {"without": ("rain",)}])
def test_a_recipe_that_cannot_be_trained_is_refused(changes):
    """Every number and name is checked, and the error says what was expected."""
    with pytest.raises(ValueError, match="expected epochs and steps from 1, an even batch and damages of debris"):
        LocatorRecipe(**changes)
