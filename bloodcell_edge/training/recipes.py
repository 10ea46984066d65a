"""Recipes: named, frozen values that say how a model is trained.

=========  =====================================================================================================
original   the project this grew from, exactly: whole frame squeezed to 224 px, frozen MobileNetV2, global max
           pooling, Dense 256 relu, Dense softmax, Adam, batch 32, up to 15 epochs, early stopping (patience 5).
           Trained twice: on the original's split by file, whose figure is leaky, and on a split by photograph.
blood      located cells under white light, from several sources at once, balanced by class, source and photograph,
           augmented by what differs between microscopes; pictures with a note on their label are not trained on;
           with an output for none of the classes, from the other class folders of DATA.
field      whole frame, split by photograph, balanced by photograph, augmented; the head first, on cached
           features, then the backbone, its last blocks first, with a cosine schedule. No figure of the held-back
           pictures chooses anything.
drawn      for `bce demo` without data: a quarter of the size, from nothing, on drawn pictures, in a minute or two.
=========  =====================================================================================================
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..dataset.split import SplitRule
from ..errors import DataError
from ..files import read_json, write_json
from ..imaging.views import CROP_UM, View


@dataclass(frozen=True)
class Augmentation:
    """How far a training picture is changed, each by a uniform draw.

    Attributes:
        rotation_degrees: either way; 180 is all round.
        flip: mirror half of the pictures.
        zoom: largest relative change of size, either way.
        shift: largest shift, as a share of the picture's side.
        brightness: largest relative change of all channels.
        contrast: largest relative change of the distance from the picture's mean.
        stain: largest relative change of each stain's optical density (Ruifrok and Johnston 2001 basis).
        white: largest relative change of each channel's white point.
        density: spread of the optical density of each channel, and of all: standard deviation of its logarithm.
        gamma: spread of the power that optical density is raised to, likewise; the middle, 0.6, stays.
        blur: share of pictures out of focus, or taken with fewer pixels.
        sharpen: share of pictures that a camera sharpened.
        noise: share of pictures with the noise of a sensor.
        jpeg: share of pictures that were compressed again.
    """

    rotation_degrees: float = 180.0
    flip: bool = True
    zoom: float = 0.15
    shift: float = 0.08
    brightness: float = 0.10
    contrast: float = 0.15
    stain: float = 0.20
    white: float = 0.06
    density: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    sharpen: float = 0.0
    noise: float = 0.0
    jpeg: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    Attributes:
        name: of the recipe.
        view: what one picture gives, see `views.VIEWS`.
        crop_um: side of the crop around a cell on the smear, µm, for view "cell".
        light: one of `views.LIGHTS`, for view "cell".
        backbone: a key of `backbone.BACKBONES`.
        alpha: width of the backbone, 1.0 is the published one.
        ends_at: the layer of the backbone that the pooling stands on; "" for its last. What lies behind is left out.
        size: input side in pixels.
        weights: "imagenet", "blood" (the shipped backbone), "none" or a weights file.
        pooling: "max" or "avg", over the backbone's last map.
        hidden: units of a Dense layer before the last one; 0 for none.
        dropout: share dropped before the last layer.
        head_epochs: with the backbone frozen, on cached features; 0 without pretrained weights.
        fine_tune: backbone blocks trained afterwards, counted from the last; -1 for all.
        fine_tune_epochs: passes of fine-tuning.
        batch: pictures a step.
        head_rate: learning rate of the head stage.
        fine_tune_rate: learning rate at the start of fine-tuning.
        weight_decay: of AdamW; 0 means Adam.
        label_smoothing: share of the target given to all classes.
        patience: epochs without a better validation loss before stopping, then the best weights are restored;
            None trains to the end and needs no validation pictures.
        draws: pictures that an epoch of fine-tuning shows; None for as many as there are.
        balance: draw classes equally, sources equally within a class, photographs equally within a source.
        noted: weight in these draws of a picture whose table has a note on it (such as a doubtful label); held back,
            it counts like any other.
        background: fit an output for none of the classes, where DATA has pictures of others; see `background`.
        augmentation: None for pictures as they are.
        views: augmented views of each picture for the head stage.
        held_back: share of photographs kept for figures only.
        validation: share of the remaining photographs that early stopping looks at.
        seed: of everything drawn.
        split_seed: of the split alone; None means `seed`. Runs of one split_seed hold back the same pictures.
    """

    name: str
    view: str = "frame"
    crop_um: float = CROP_UM
    light: str = "camera"
    backbone: str = "mobilenet_v2"
    alpha: float = 1.0
    ends_at: str = ""
    size: int = 224
    weights: str = "imagenet"
    pooling: str = "avg"
    hidden: int = 0
    dropout: float = 0.2
    head_epochs: int = 8
    fine_tune: int = -1
    fine_tune_epochs: int = 8
    batch: int = 32
    head_rate: float = 1e-3
    fine_tune_rate: float = 3e-4
    weight_decay: float = 1e-4
    label_smoothing: float = 0.1
    patience: int | None = None
    draws: int | None = None
    balance: bool = True
    noted: float = 1.0
    background: bool = False
    augmentation: Augmentation | None = Augmentation()
    views: int = 2
    held_back: float = 0.2
    validation: float = 0.0
    seed: int = 0
    split_seed: int | None = None

    @property
    def seed_of_split(self) -> int:
        """The seed that draws the split."""
        return self.seed if self.split_seed is None else self.split_seed

    @property
    def split(self) -> SplitRule:
        """How its pictures are split."""
        return SplitRule(self.held_back, self.validation, self.seed_of_split, self.leaky_too)

    @property
    def shown_as(self) -> View:
        """How pictures are shown to the model."""
        size = (self.size, self.size)
        return View("cell", size, self.crop_um, self.light) if self.view == "cell" else View(self.view, size)

    @property
    def margin(self) -> float:
        """How much wider than the crop what is augmented must be: turned all round, a square needs its diagonal."""
        return 1.5 if self.view == "cell" and self.augmentation is not None else 1.0

    @property
    def leaky_too(self) -> bool:
        """Also train on the original project's split by file first, for the figure that it would have printed."""
        return self.name == "original"

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


RECIPES = {
    "original": Recipe(
        name="original",
        pooling="max",
        hidden=256,
        dropout=0.0,
        head_epochs=15,
        fine_tune=0,
        fine_tune_epochs=0,
        weight_decay=0.0,
        label_smoothing=0.0,
        patience=5,
        balance=False,
        augmentation=None,
        views=1,
        validation=0.2,
    ),
    "field": Recipe(name="field"),
    "blood": Recipe(
        name="blood",
        view="cell",
        light="white",
        size=128,
        fine_tune_epochs=14,
        draws=4096,
        noted=0.0,
        background=True,
        # what differs between microscopes: stain, lamp, focus, pixels, camera
        augmentation=Augmentation(
            contrast=0.2, stain=0.3, white=0.08, density=0.25, gamma=0.2, blur=0.5, sharpen=0.2, noise=0.3, jpeg=0.5
        ),
    ),
    "drawn": Recipe(
        name="drawn",
        alpha=0.35,
        size=96,
        weights="none",
        dropout=0.0,
        fine_tune_epochs=16,
        label_smoothing=0.01,
        # the drawings vary by themselves
        augmentation=Augmentation(zoom=0.05, shift=0.02, brightness=0.02, contrast=0.03, stain=0.04, white=0.01),
    ),
}


def choose_recipe(name: str, *, epochs: int | None = None, **changes: Any) -> Recipe:
    """A recipe with what the command line changes; None leaves a value as it is.

    Args:
        name: a key of `RECIPES`.
        epochs: of the last stage that trains: fine-tuning where there is any, else the head.
        **changes: fields of `Recipe`. Where `weights` becomes "none", all blocks train from the first step on, unless
            `fine_tune` says how many; with 0 the head trains on a backbone that has learnt nothing.

    Raises:
        DataError: an unknown recipe.
    """
    if name not in RECIPES:
        message = f"no recipe {name!r}; there are {', '.join(RECIPES)}"
        raise DataError(message)
    changes = {key: value for key, value in changes.items() if value is not None}
    recipe = replace(RECIPES[name], **changes)
    if recipe.weights == "none" and changes.get("fine_tune") != 0:
        recipe = _from_nothing(recipe, blocks=changes.get("fine_tune", -1))
    if recipe.fine_tune and not recipe.fine_tune_epochs:
        recipe = replace(recipe, fine_tune_epochs=RECIPES["field"].fine_tune_epochs)
    if epochs is not None:
        tunes = recipe.fine_tune != 0
        recipe = replace(recipe, fine_tune_epochs=epochs) if tunes else replace(recipe, head_epochs=epochs)
    return recipe


def _from_nothing(recipe: Recipe, *, blocks: int) -> Recipe:
    """Without pretrained weights nothing is worth freezing: all of it trains, in larger and more steps."""
    return replace(
        recipe,
        head_epochs=0,
        fine_tune=blocks,
        fine_tune_epochs=max(recipe.fine_tune_epochs, 12),
        fine_tune_rate=3e-3,
        batch=16,
        patience=None,
        validation=0.0,
    )


def save_recipe(path: Path, recipe: Recipe) -> None:
    """Write a recipe down."""
    write_json(path, recipe.as_json())


def load_recipe(path: Path) -> Recipe:
    """Read what `save_recipe` wrote, or the recipe.json of a run; what is missing is as in `Recipe`.

    Raises:
        MissingFile: no such file.
        DataError: not JSON, or not of a recipe.
    """
    expected = "expected a recipe as bce search writes it"
    values = read_json(path, absent=f"no such file; {expected}", broken=f"not a JSON file ({{error}}); {expected}")
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
