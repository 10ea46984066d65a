"""A fine-tuning step, and what brings its pictures."""

from __future__ import annotations

from itertools import count

import keras
import numpy as np
import pytest

from bloodcell_edge.imaging.drawn import LABELS
from bloodcell_edge.training.augment import augment_batch
from bloodcell_edge.training.backbone import build_model

ROUNDS = 5


@pytest.fixture(scope="module")
def batch(crops, recipe):
    """Pixels with their margin, (batch, wide, wide, 3), and targets (batch, labels)."""
    size = recipe.size
    wide = round(size * recipe.margin)
    pixels = np.stack(
        [np.pad(pixels, [((wide - size + 1) // 2, (wide - size) // 2)] * 2 + [(0, 0)]) for pixels in crops]
    )
    rows = np.arange(recipe.batch) % len(pixels)
    return pixels[rows], np.eye(len(LABELS), dtype=np.float32)[rows % len(LABELS)]


@pytest.mark.benchmark(group="training")
def bench_augment(benchmark, batch, recipe):
    """One batch of the recipe's size."""
    pixels, _ = batch
    seed, aspects = count(), np.ones(len(pixels))
    benchmark(lambda: augment_batch(pixels, recipe.augmentation, aspects=aspects, size=recipe.size, seed=(next(seed),)))


@pytest.mark.benchmark(group="training")
def bench_step(benchmark, batch, recipe):
    """Forward, backward and update of all layers on one batch."""
    pixels, targets = batch
    model = build_model(recipe, len(LABELS))[0]  # of its own: it learns
    model.compile(optimizer=keras.optimizers.Adam(1e-4), loss="categorical_crossentropy")
    ready = pixels[:, : recipe.size, : recipe.size].astype(np.float32)
    benchmark.pedantic(lambda: model.train_on_batch(ready, targets), rounds=ROUNDS, warmup_rounds=2)


@pytest.mark.benchmark(group="training")
def bench_validate(benchmark, batch, net, recipe):
    """The same batch, forward only."""
    ready = batch[0][:, : recipe.size, : recipe.size].astype(np.float32)
    benchmark.pedantic(lambda: net.predict_on_batch(ready), rounds=ROUNDS, warmup_rounds=2)
