"""What `bce search` chooses from: values of a recipe, a few more with every rung."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import BceError, DataError, MissingFile
from ..backbone import build_model
from ..recipes import Augmentation, Recipe

BACKBONES = (
    ("mobilenet_v2", 0.35),
    ("mobilenet_v2", 0.5),
    ("mobilenet_v2", 0.75),
    ("mobilenet_v2", 1.0),
    ("mobilenet_v3_small", 1.0),
    ("mobilenet_v3_large", 1.0),
    ("efficientnet_v2_b0", 1.0),
)
"""(backbone, alpha) that suit a small device; those without weights are left out of a search, which says so."""

SIZES = (96, 128, 160, 224)

SCALED = (
    "zoom", "shift", "brightness", "contrast", "stain", "white", "density", "gamma", "blur", "sharpen", "noise", "jpeg",
)  # fmt: skip
"""Limits, spreads and shares of `Augmentation` that its strength multiplies; none becomes more than 1."""

KEPT = ("rotation_degrees", "flip")
"""Limits that it leaves alone: a smear has no up and no down."""

_ARCHITECTURE = ("backbone", "alpha", "size", "pooling", "hidden")


@dataclass(frozen=True)
class Space:
    """The values that a search may give to a recipe; pairs of `head_rate` and the like are lowest and highest.

    Attributes:
        backbones: (backbone, alpha), each with weights to start from.
        sizes: input sides, pixels.
        pooling: see `Recipe`.
        hidden: likewise.
        dropout: likewise.
        head_rate: likewise; drawn on a logarithmic scale.
        strength: of the augmentation, 1 is the recipe's own.
        fine_tune: backbone blocks, see `Recipe`; from rung 2 on.
        fine_tune_rate: likewise; drawn on a logarithmic scale.
    """

    backbones: tuple[tuple[str, float], ...]
    sizes: tuple[int, ...] = SIZES
    pooling: tuple[str, ...] = ("avg", "max")
    hidden: tuple[int, ...] = (0, 128)
    dropout: tuple[float, float] = (0.0, 0.5)
    head_rate: tuple[float, float] = (3e-4, 1e-2)
    strength: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
    fine_tune: tuple[int, ...] = (3, 6, 12, -1)
    fine_tune_rate: tuple[float, float] = (5e-5, 1e-3)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {key: [list(one) if isinstance(one, tuple) else one for one in own] for key, own in asdict(self).items()}


def space_with_weights(
    recipe: Recipe, sizes: Sequence[int], labels: int, backbones: Sequence[tuple[str, float]] = BACKBONES
) -> tuple[Space, dict[str, str]]:
    """The space of those backbones that the recipe's weights fit; and of the others, by name, why not.

    Raises:
        DataError: weights "none", since frozen features of a network that has learnt nothing rank nothing; or weights
            that fit no backbone.
        MissingFile: a weights file that is not there.
    """
    if recipe.weights == "none":
        message = "bce search --weights none: expected pretrained weights, for rung 1 trains heads on frozen features"
        raise DataError(message)
    if Path(recipe.weights).suffix and not Path(recipe.weights).is_file():
        message = f"{recipe.weights}: no such weights file; expected a .weights.h5 of a backbone without its top"
        raise MissingFile(message)
    fitting: list[tuple[str, float]] = []
    left_out: dict[str, str] = {}
    for backbone, alpha in backbones:
        try:
            build_model(replace(recipe, backbone=backbone, alpha=alpha, size=max(sizes)), labels)
            fitting.append((backbone, alpha))
        except BceError as error:
            left_out[backbone_name(backbone, alpha)] = str(error)
    if not fitting:
        message = f"--weights {recipe.weights}: fits none of {', '.join(left_out)}; {next(iter(left_out.values()))}"
        raise DataError(message)
    return Space(tuple(fitting), tuple(sizes)), left_out


def backbone_name(backbone: str, alpha: float) -> str:
    """Backbone and width as one word, as trials hold it."""
    return f"{backbone}:{alpha:g}"


def suggest(trial: Any, space: Space, rung: int) -> dict[str, Any]:
    """Let a trial choose; what it was enqueued with is what it chooses.

    Args:
        trial: of Optuna.
        space: to choose from.
        rung: 1 chooses what frozen features can tell, 2 and 3 also how to fine-tune.
    """
    names = [backbone_name(*one) for one in space.backbones]
    chosen = {
        "backbone": trial.suggest_categorical("backbone", names),
        "size": trial.suggest_categorical("size", space.sizes),
        "pooling": trial.suggest_categorical("pooling", space.pooling),
        "hidden": trial.suggest_categorical("hidden", space.hidden),
        "dropout": trial.suggest_float("dropout", *space.dropout),
        "head_rate": trial.suggest_float("head_rate", *space.head_rate, log=True),
        "strength": trial.suggest_categorical("strength", space.strength),
    }
    if rung > 1:
        chosen["fine_tune"] = trial.suggest_categorical("fine_tune", space.fine_tune)
        chosen["fine_tune_rate"] = trial.suggest_float("fine_tune_rate", *space.fine_tune_rate, log=True)
    return chosen


def own_values(recipe: Recipe, space: Space) -> dict[str, Any]:
    """What a trial would have to choose in rung 1 to be the recipe itself, as far as the space holds it."""
    name = backbone_name(recipe.backbone, recipe.alpha)
    low, high = space.head_rate
    wanted: dict[str, tuple[Any, bool]] = {
        "backbone": (name, name in [backbone_name(*one) for one in space.backbones]),
        "size": (recipe.size, recipe.size in space.sizes),
        "pooling": (recipe.pooling, recipe.pooling in space.pooling),
        "hidden": (recipe.hidden, recipe.hidden in space.hidden),
        "dropout": (recipe.dropout, space.dropout[0] <= recipe.dropout <= space.dropout[1]),
        "head_rate": (recipe.head_rate, low <= recipe.head_rate <= high),
        "strength": (1.0, 1.0 in space.strength),
    }
    return {key: value for key, (value, inside) in wanted.items() if inside}


def recipe_of(base: Recipe, chosen: Mapping[str, Any]) -> Recipe:
    """The recipe that a trial's choice makes of another one."""
    values = dict(chosen)
    backbone, _, alpha = values.pop("backbone").partition(":")
    augmentation = scaled(base.augmentation, values.pop("strength"))
    return replace(base, backbone=backbone, alpha=float(alpha), augmentation=augmentation, **values)


def scaled(how: Augmentation | None, strength: float) -> Augmentation | None:
    """Augmentation with all limits but those of geometry without scale multiplied."""
    if how is None:
        return None
    return replace(how, **{name: min(getattr(how, name) * strength, 1.0) for name in SCALED})


def architecture(recipe: Recipe) -> dict[str, Any]:
    """What of a recipe changes the size and the speed of its int8 file."""
    return {name: getattr(recipe, name) for name in _ARCHITECTURE}
