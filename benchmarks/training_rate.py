"""Whether the input pipeline brakes training.

    python benchmarks/training_rate.py [--steps 20] [--rounds 5] [--batch 32]

Pictures a second of a fine-tuning epoch of recipe "field" (all of MobileNetV2 1.0 at 128 px trains; every batch is
augmented anew, as `bce train` does it), against the same steps with one constant batch in memory. In turns.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from typing import Any

import keras
import numpy as np

from bloodcell_edge import machine
from bloodcell_edge.imaging.drawn import LABELS
from bloodcell_edge.training.augment import augment_batch
from bloodcell_edge.training.backbone import build_model
from bloodcell_edge.training.prepared import as_tensor_dataset
from bloodcell_edge.training.recipes import choose_recipe

WANTED = 0.9
SIZE, PICTURES = 128, 256


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20, help="of an epoch (default 20)")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--batch", type=int, default=32, help="default 32")
    options = parser.parse_args()
    recipe = choose_recipe("field", view="cell", size=SIZE, weights="none")
    model = build_model(recipe, len(LABELS))[0]
    model.compile(optimizer=keras.optimizers.AdamW(1e-4), loss="categorical_crossentropy", jit_compile=False)
    wide = round(SIZE * recipe.margin)
    chance = np.random.default_rng(0)
    pixels = chance.integers(0, 256, (PICTURES, wide, wide, 3), np.uint8)
    targets = np.eye(len(LABELS), dtype=np.float32)[chance.integers(0, len(LABELS), PICTURES)]
    rows = np.arange(options.batch) % PICTURES
    constant = np.ascontiguousarray(pixels[rows, :SIZE, :SIZE]), targets[rows]

    def augmented(epoch: int, step: int) -> Any:
        taken = (np.arange(options.batch) + step * options.batch) % PICTURES
        shown = augment_batch(
            pixels[taken], recipe.augmentation, aspects=np.ones(len(taken)), size=SIZE, seed=(epoch, step)
        )
        return shown, targets[taken]

    def seconds(batches: Any) -> float:
        start = time.perf_counter()
        model.fit(as_tensor_dataset(batches, options.steps, SIZE), shuffle=False, verbose=0)
        return time.perf_counter() - start

    sources = {"pipeline": lambda epoch: partial(augmented, epoch), "constant": lambda _: lambda _: constant}
    took: dict[str, list[float]] = {name: [] for name in sources}
    before = machine.usage()
    for epoch in range(-1, options.rounds):  # the first is not counted: the graph is traced
        for name in sources if epoch % 2 else reversed(sources):
            spent = seconds(sources[name](epoch + 1))
            if epoch >= 0:
                took[name].append(spent)
    other = machine.other_work(before, machine.usage())
    ratio = float(np.median(np.array(took["constant"]) / np.array(took["pipeline"])))
    rates = {name: options.steps * options.batch / float(np.median(times)) for name, times in took.items()}
    print(
        f"{machine.describe()['cpu']}, n = {options.rounds} epochs of {options.steps} x {options.batch} pictures each"
    )
    print(f"with the input pipeline {rates['pipeline']:.1f}, constant batch {rates['constant']:.1f} pictures a second")
    print(f"ratio {ratio:.3f}, wanted >= {WANTED}: {'holds' if ratio >= WANTED else 'DOES NOT HOLD'}; "
          f"{other or 0:.2f} cores were busy otherwise")  # fmt: skip


if __name__ == "__main__":
    main()
