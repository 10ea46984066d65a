import json
import shutil

import numpy as np
import pytest

from bloodcell_edge.errors import OutputExists
from bloodcell_edge.progress import Silent
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.locator.fit import train_locator
from bloodcell_edge.training.locator.recipe import LocatorRecipe

RECIPE = LocatorRecipe(epochs=2, steps=2, batch=4)


class StoppedAfter(Silent):
    """Interrupts as a person does, after so many epochs."""

    def __init__(self, epochs):
        self.left = epochs

    def say(self, text):
        if text.startswith("locator "):
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt


@pytest.fixture(scope="module")
def run(fields, cells, tmp_path_factory):
    return RunFolder(train_locator([fields, cells], RECIPE, out=tmp_path_factory.mktemp("run") / "locator"))


def test_a_run_holds_what_others_need(run, fields, cells):
    """Model, recipe with its DATA, split, history and figures on held-back pictures."""
    metrics, config = json.loads(run.metrics.read_text()), json.loads(run.config.read_text())

    assert config["data"] == [str(fields), str(cells)]
    assert config["locator"]["steps"] == 2
    assert set(metrics["pictures"]) == {"train", "heldback"}
    assert metrics["pictures"]["heldback"][str(fields)] >= 3
    assert {"threshold", "recall", "precision", "f1", "scenes", "cells"} <= set(metrics["heldback"])
    assert len(run.history.read_text().splitlines()) == 3
    assert not run.state.exists()
    held_back = [row for row in run.split.read_text().splitlines() if row.endswith(",heldback")]
    assert len(held_back) >= 6


def test_an_interrupted_run_ends_as_if_it_was_not(run, fields, cells, tmp_path):
    """Stopped in the second epoch, the same call goes on, to the same weights."""
    out = tmp_path / "again"
    with pytest.raises(KeyboardInterrupt):
        train_locator([fields, cells], RECIPE, out=out, report=StoppedAfter(2))
    assert (out / "state/checkpoint.npz").is_file()
    train_locator([fields, cells], RECIPE, out=out)

    one, other = (keras.saving.load_model(where, compile=False) for where in (run.model, RunFolder(out).model))
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        assert np.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_what_is_there_is_not_trained_over(run, fields, cells, tmp_path):
    """A finished run, or an unfinished one of another recipe, is refused with what to do."""
    with pytest.raises(OutputExists, match="holds a finished run; give another --name, or --force"):
        train_locator([fields, cells], RECIPE, out=run.path)
    other = tmp_path / "other"
    shutil.copytree(run.path, other)
    RunFolder(other).metrics.unlink()
    with pytest.raises(OutputExists, match="an unfinished run of another recipe or data"):
        train_locator([fields], RECIPE, out=other)


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"batch": 3}, {"without": ("rain",)}])
def test_a_recipe_that_cannot_be_trained_is_refused(changes):
    """Every number and name is checked, and the error says what was expected."""
    with pytest.raises(ValueError, match="expected epochs and steps from 1, an even batch and damages of debris"):
        LocatorRecipe(**changes)
