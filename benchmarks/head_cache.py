"""How much faster the head of recipe `original` trains on cached features than through the frozen backbone.

Both ways train the same head for 15 epochs (no early stopping) on the same pictures at 224 px, with the validation
pictures evaluated after each epoch; decoding is not counted. The cached way pays for its one pass over the pictures.

    python benchmarks/head_cache.py ../shared/data/blood-cells --weights WEIGHTS --pictures 1000
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.split import leaky_split
from bloodcell_edge.training.backbone import build_model
from bloodcell_edge.training.features import frozen_features
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.prepared import prepare_pictures
from bloodcell_edge.training.recipes import choose_recipe

EPOCHS = 15


def compiled(net):
    """As recipe `original` trains."""
    net.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return net


def main():
    """Measure both ways in one run and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--pictures", type=int, default=1000)
    arguments = parser.parse_args()

    recipe = choose_recipe("original", weights=arguments.weights)
    dataset = load_data(arguments.data).only("train")
    step = max(len(dataset.pictures) // arguments.pictures, 1)
    pictures = dataset.pictures[::step][: arguments.pictures]
    prepared = prepare_pictures(pictures, recipe.shown_as)
    targets = prepared.targets(dataset.labels)
    validation = np.array(leaky_split(prepared.pictures)) == "validation"
    keras.utils.set_random_seed(0)

    model, features, head = build_model(recipe, len(dataset.labels))
    initial = head.get_weights()
    compiled(head)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        names = [str(number) for number in range(len(targets))]
        found = frozen_features(features, prepared, names, recipe, augmented=False, cache=Path(cache))[:, 0]
    data = (found[validation], targets[validation])
    fitted = head.fit(
        found[~validation],
        targets[~validation],
        epochs=EPOCHS,
        batch_size=recipe.batch,
        validation_data=data,
        verbose=0,
    )
    cached = time.perf_counter() - start

    head.set_weights(initial)
    for layer in features.layers:
        layer.trainable = False
    compiled(model)
    start = time.perf_counter()
    pixels = prepared.pixels
    whole = model.fit(
        pixels[~validation].astype(np.float32),
        targets[~validation],
        epochs=EPOCHS,
        batch_size=recipe.batch,
        validation_data=(pixels[validation].astype(np.float32), targets[validation]),
        verbose=0,
    )
    uncached = time.perf_counter() - start
    print(
        json.dumps(
            {
                "pictures": len(targets),
                "epochs": EPOCHS,
                "cached_s": round(cached, 1),
                "uncached_s": round(uncached, 1),
                "ratio": round(uncached / cached, 2),
                "last_loss_cached": round(fitted.history["loss"][-1], 3),
                "last_loss_uncached": round(whole.history["loss"][-1], 3),
            }
        )
    )


if __name__ == "__main__":
    main()
