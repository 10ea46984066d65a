"""A recipe as a file: what `bce search` found, for `bce train --recipe-file`."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from ..errors import DataError, MissingFile
from ..files import write_json
from .recipes import Augmentation, Recipe


def save_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe down."""
    write_json(path, recipe.as_json())


def load_recipe(path: Path) -> Recipe:
    """Read what `save_recipe` wrote, or the recipe.json of a run; what is missing is as in `Recipe`.

    Raises:
        MissingFile: no such file.
        DataError: not JSON, or not of a recipe.
    """
    if not path.is_file():
        message = f"{path}: no such file; expected a recipe as bce search writes it"
        raise MissingFile(message)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        message = f"{path}: not a JSON file ({error}); expected a recipe as bce search writes it"
        raise DataError(message) from error
    if isinstance(values, dict) and isinstance(values.get("recipe"), dict):  # beside what else a run is known by
        values = values["recipe"]
    known = {field.name for field in fields(Recipe)}
    if not isinstance(values, dict) or "name" not in values or not set(values) <= known:
        strange = ", ".join(sorted(set(values) - known)) if isinstance(values, dict) else type(values).__name__
        message = f"{path}: expected a recipe with a name and the fields {', '.join(sorted(known))}; found {strange}"
        raise DataError(message)
    try:
        how = values.get("augmentation")
        return Recipe(**{**values, **({"augmentation": Augmentation(**how)} if isinstance(how, dict) else {})})
    except TypeError as error:
        message = f"{path}: not a recipe ({error}); expected one as bce search writes it"
        raise DataError(message) from error
