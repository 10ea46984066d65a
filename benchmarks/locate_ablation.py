"""What the damages that a locator is trained under are worth: trained anew without some of them, and compared.

    python benchmarks/locate_ablation.py [--shared FOLDER] [--out FOLDER] [--epochs 3] [--only NAME,...]

Each network is trained shortly, by the recipe with one seed, on PBC and Raabin pictures (single cells of two
microscopes), without one of `GROUPS`; "none" is the recipe as it is, and "seed" is that with another seed: what lies
between these two is chance. It is judged on scenes laid from the photographs, which it has never seen: as they are, and
under each of the damages left out alone. A training that was finished is not repeated: remove its folder to do so.
Prints JSON as it goes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from locate_truth import SHARED

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.model.decode import FLOAT_SCALES, Decoder
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.locator.damage import DAMAGES
from bloodcell_edge.training.locator.fit import KerasLocator, train_locator
from bloodcell_edge.training.locator.judge import Found, found_at
from bloodcell_edge.training.locator.network import INPUT_SIZE
from bloodcell_edge.training.locator.pieces import by_source, pieces_of
from bloodcell_edge.training.locator.recipe import LocatorRecipe
from bloodcell_edge.training.locator.scenes import Scene, lay_scene

GROUPS = {
    "debris": ("debris",),
    "stain": ("stain",),
    "level": ("cast", "exposure", "gamma"),
    "uneven": ("vignette", "gradient", "flare"),
    "optics": ("blur", "halo"),
    "sensor": ("noise", "jpeg"),
    "surround": ("border", "round", "marks"),
}
"""Of `DAMAGES`, by where they come from."""

SCENES = 300
SEED = 7_000_000


def scenes_of(shared: Path) -> list[Scene]:
    """Laid from the photographs, undamaged."""
    sources = by_source(pieces_of(load_data(shared / "data/photos")))
    shares = {name: 1 / len(sources) for name in sources}
    return [lay_scene(sources, shares, INPUT_SIZE, np.random.default_rng((SEED, number))) for number in range(SCENES)]


def under(scenes: Sequence[Scene], name: str) -> list[Scene]:
    """The same under one damage."""
    _, apply = DAMAGES[name]
    hurt = (apply(scene, np.random.default_rng((SEED, number, 1))) for number, scene in enumerate(scenes))
    return [replace(scene, pixels=np.clip(scene.pixels, 0, 255)) for scene in hurt]


def trained(shared: Path, out: Path, recipe: LocatorRecipe) -> tuple[KerasLocator, int]:
    """A network of the recipe and its threshold; from its folder where that is finished."""
    if not (out / "metrics.json").is_file():
        train_locator([shared / "data/pbc", shared / "data/raabin"], recipe, out=out)
    threshold = json.loads((out / "metrics.json").read_text())["heldback"]["threshold"]
    return KerasLocator(keras.saving.load_model(out / "model.keras", compile=False)), threshold


def told(found: Sequence[Found], threshold: int) -> dict[str, object]:
    """At the network's own threshold, and the best there is."""
    own = next(one for one in found if one.threshold == threshold)
    return {"cells": own.cells, "recall": round(own.recall, 3), "precision": round(own.precision, 3),
            "f1": round(own.f1, 3), "best_f1": round(max(one.f1 for one in found), 3)}  # fmt: skip


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder that holds data/")
    parser.add_argument("--out", type=Path, default=Path("runs/ablation"), help="for the trained networks")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--only", default="", help="none, seed, or names of groups")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else ["none", "seed", *GROUPS]
    scenes, decoder = scenes_of(arguments.shared), Decoder(*FLOAT_SCALES[1:])
    for name in names:
        recipe = LocatorRecipe(epochs=arguments.epochs, seed=int(name == "seed"), without=GROUPS.get(name, ()))
        network, threshold = trained(arguments.shared, arguments.out / name, recipe)
        asked = GROUPS.get(name, tuple(DAMAGES))
        figures = {"plain": told(found_at(network, decoder, scenes), threshold)} | {
            one: told(found_at(network, decoder, under(scenes, one)), threshold) for one in asked
        }
        print(json.dumps({"without": name, "threshold": threshold, **figures}), flush=True)


if __name__ == "__main__":
    main()
