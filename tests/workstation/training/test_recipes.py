"""Recipes: the original's exact values, and what the command line changes."""

from __future__ import annotations

import json

import pytest

from bloodcell_edge.errors import DataError
from bloodcell_edge.training.recipes import RECIPES, Augmentation, Recipe, choose_recipe


def test_original_is_the_project_this_grew_from():
    """Recipe `original` has exactly the values of the original project, and is trained on its leaky split too."""
    assert choose_recipe("original") == Recipe(
        name="original",
        view="frame",
        backbone="mobilenet_v2",
        alpha=1.0,
        size=224,
        weights="imagenet",
        pooling="max",
        hidden=256,
        dropout=0.0,
        head_epochs=15,
        fine_tune=0,
        fine_tune_epochs=0,
        batch=32,
        head_rate=1e-3,  # Adam's default
        weight_decay=0.0,  # Adam, not AdamW
        label_smoothing=0.0,
        patience=5,
        balance=False,
        augmentation=None,
        views=1,
        held_back=0.2,
        validation=0.2,
        seed=0,
    )
    assert choose_recipe("original").leaky_too


def test_field_chooses_nothing_by_a_validation_figure():
    """Recipe `field` augments all round, balances, unfreezes after the head, never stops early, and nothing leaks."""
    field = choose_recipe("field")
    assert field.augmentation == Augmentation(rotation_degrees=180.0)
    assert field.augmentation.flip
    changed = [name for name, limit in vars(field.augmentation).items() if limit]
    assert set(changed) == {
        "rotation_degrees", "flip", "zoom", "shift", "brightness", "contrast", "stain", "white",
    }  # fmt: skip
    assert (field.balance, field.patience, field.validation, field.leaky_too) == (True, None, 0.0, False)
    assert min(field.head_epochs, field.fine_tune_epochs) > 0
    assert field.fine_tune != 0


@pytest.mark.parametrize("name", list(RECIPES))
def test_nothing_asked_for_changes_nothing(name):
    """None leaves every value as it is, but that a recipe from nothing trains as such."""
    expected = RECIPES[name] if name != "drawn" else choose_recipe("drawn")
    assert choose_recipe(name, epochs=None, backbone=None, size=None, fine_tune=None, seed=None) == expected
    assert choose_recipe(name).name == name


def test_overrides_are_taken():
    """Each value of the command line stands in the recipe, zero too; the others stay."""
    changed = choose_recipe("field", backbone="resnet50", alpha=1.0, size=160, seed=0, fine_tune=3)
    assert (changed.backbone, changed.size, changed.fine_tune) == ("resnet50", 160, 3)
    assert choose_recipe("field", fine_tune=0).fine_tune == 0
    assert choose_recipe("field", seed=7) == Recipe(**{**vars(RECIPES["field"]), "seed": 7})


@pytest.mark.parametrize(
    ("name", "changes", "stage"),
    [
        ("original", {}, "head_epochs"),
        ("original", {"fine_tune": 4}, "fine_tune_epochs"),
        ("field", {}, "fine_tune_epochs"),
        ("field", {"fine_tune": 0}, "head_epochs"),
        ("field", {"weights": "none"}, "fine_tune_epochs"),
        ("drawn", {}, "fine_tune_epochs"),
        ("drawn", {"fine_tune": 0}, "head_epochs"),
    ],
)
def test_epochs_are_those_of_the_last_stage(name, changes, stage):
    """--epochs sets the stage that trains last and no other."""
    before, after = vars(choose_recipe(name, **changes)), vars(choose_recipe(name, epochs=3, **changes))
    assert after[stage] == 3
    assert {key for key in before if before[key] != after[key]} <= {stage}


@pytest.mark.parametrize("name", list(RECIPES))
def test_without_weights_all_of_it_trains(name):
    """--weights none turns any recipe to training from nothing: no frozen head stage, all blocks, no early stop."""
    recipe = choose_recipe(name, weights="none")
    assert (recipe.head_epochs, recipe.fine_tune, recipe.patience, recipe.validation) == (0, -1, None, 0.0)
    assert recipe.fine_tune_epochs >= 12
    assert recipe.leaky_too == (name == "original")


def test_blocks_asked_for_hold_without_weights():
    """--weights none --fine-tune N trains N blocks, and 0 the head alone, as asked."""
    assert choose_recipe("field", weights="none", fine_tune=5).fine_tune == 5
    head = choose_recipe("original", weights="none", fine_tune=0)
    assert (head.fine_tune, head.head_epochs, head.patience) == (0, 15, 5)


def test_fine_tuning_of_a_recipe_that_has_none_gets_epochs():
    """`original` with --fine-tune trains the backbone for as long as `field` does."""
    assert choose_recipe("original", fine_tune=2).fine_tune_epochs == RECIPES["field"].fine_tune_epochs


def test_unknown_recipe_names_those_there_are():
    """A recipe that does not exist is an error that lists the others."""
    with pytest.raises(DataError, match="no recipe 'bone'; there are original, field, blood, drawn"):
        choose_recipe("bone")


@pytest.mark.parametrize("name", list(RECIPES))
def test_json_holds_every_value(name):
    """A recipe written as JSON and read again is the same recipe."""
    values = json.loads(json.dumps(choose_recipe(name).as_json()))
    how = values.pop("augmentation")
    assert Recipe(augmentation=how and Augmentation(**how), **values) == choose_recipe(name)
