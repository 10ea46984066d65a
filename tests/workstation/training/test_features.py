"""The cache of a frozen backbone's features: the same arrays, without asking the backbone again."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.training import features as module
from bloodcell_edge.training.augment import augment_batch
from bloodcell_edge.training.features import frozen_features
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.prepared import Prepared
from bloodcell_edge.training.recipes import choose_recipe

N, SIZE, WIDTH = 70, 8, 5
FIELD = choose_recipe("field", size=SIZE)  # augments, 2 views
ORIGINAL = choose_recipe("original", size=SIZE)  # does not


class Counted:
    """A network that counts the batches it is asked about."""

    def __init__(self, net):
        self.net, self.batches = net, 0

    def __getattr__(self, name):
        return getattr(self.net, name)

    def predict_on_batch(self, x):
        self.batches += 1
        return self.net.predict_on_batch(x)


@pytest.fixture
def net():
    """A small frozen network with its count at 0."""
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Conv2D(WIDTH, 3, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    return Counted(keras.Sequential([keras.Input((SIZE, SIZE, 3)), *layers]))


@pytest.fixture
def prepared():
    """Prepared pictures of random pixels: more than one batch."""
    pixels = np.random.default_rng(2).integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)
    pictures = tuple(Picture(Path(f"{i}.png"), f"{i}.png", "A", str(i)) for i in range(N))
    return Prepared(
        pictures,
        pixels,
        np.full(N, 4 / 3),
        ("",) * N,
        np.zeros((N, 8, 16), np.uint8),
        np.ones(N, bool),
        np.zeros(N, bool),
        np.zeros(N, bool),
        pixels,
        (),
    )


HASHES = [f"{i:064x}" for i in range(N)]


def run(net, prepared, recipe, cache, *, augmented=True, sha256=HASHES, **options):
    """The features, and how many batches the network was asked about for them."""
    net.batches = 0
    found = frozen_features(net, prepared, sha256, recipe, augmented=augmented, cache=cache, **options)
    return found, net.batches


@pytest.mark.parametrize(("recipe", "augmented", "views"), [(FIELD, True, 2), (FIELD, False, 1), (ORIGINAL, True, 1)])
def test_features_are_the_networks_and_come_from_the_cache(net, prepared, tmp_path, recipe, augmented, views):
    """One view as it is, or augmented ones; asked for again they are the same to the bit and nothing is computed."""
    ticks = []
    first, asked = run(net, prepared, recipe, tmp_path, augmented=augmented, progress=lambda *at: ticks.append(at))
    again, asked_again = run(
        net, prepared, recipe, tmp_path, augmented=augmented, progress=lambda *_: pytest.fail("not from the cache")
    )
    assert first.shape == (N, views, WIDTH)
    assert first.dtype == np.float32
    assert (asked, asked_again) == (2 * views, 0)
    assert ticks[-1] == (N * views, N * views)
    assert np.array_equal(first, again)
    plain = net.predict_on_batch(prepared.pixels.astype(np.float32))
    assert np.allclose(first[:, 0], plain, atol=1e-4) == (views == 1)


def test_views_are_those_of_augment_batch(net, prepared, tmp_path):
    """A view is what the network says of augment_batch with the seed of recipe, view and place, and views differ."""
    found, _ = run(net, prepared, FIELD, tmp_path)
    for view in range(2):
        how = {"aspects": prepared.aspects[64:], "size": SIZE, "seed": (FIELD.seed, view, 64)}
        pixels = augment_batch(prepared.pixels[64:], FIELD.augmentation, **how)
        assert np.allclose(found[64:, view], net.predict_on_batch(pixels.astype(np.float32)), atol=1e-4)
    assert not np.allclose(found[:, 0], found[:, 1], atol=0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": [*HASHES[:-1], "f" * 64]},
        {"sha256": HASHES[::-1]},
        {"recipe": replace(FIELD, seed=1)},
        {"recipe": replace(FIELD, size=9)},
        {"recipe": replace(FIELD, pooling="max")},
        {"recipe": replace(FIELD, views=1)},
        {"recipe": replace(FIELD, augmentation=replace(FIELD.augmentation, zoom=0.3))},
        {"augmented": False},
    ],
)
def test_another_key_is_computed_again(net, prepared, tmp_path, change):
    """Other content or order of content, seed, size, pooling, views or augmentation do not get the cached features."""
    run(net, prepared, FIELD, tmp_path)
    _, asked = run(net, prepared, **{"recipe": FIELD, "cache": tmp_path, **change})
    assert asked > 0
    assert run(net, prepared, FIELD, tmp_path)[1] == 0, "the first ones are kept"


def test_other_weights_and_another_image_version_are_computed_again(net, prepared, tmp_path, monkeypatch):
    """A change of the backbone's weights, or of how pixels are prepared, makes other features."""
    first, _ = run(net, prepared, FIELD, tmp_path)
    monkeypatch.setattr(module, "IMAGE_VERSION", module.IMAGE_VERSION + 1)
    assert run(net, prepared, FIELD, tmp_path)[1] == 4
    monkeypatch.undo()
    net.net.set_weights([value * 2 for value in net.get_weights()])
    other, asked = run(net, prepared, FIELD, tmp_path)
    assert asked == 4
    assert not np.allclose(first, other)


def test_what_cannot_matter_does_not(net, prepared, tmp_path):
    """Features of plain pictures serve every seed and learning rate."""
    run(net, prepared, ORIGINAL, tmp_path, augmented=False)
    assert run(net, prepared, replace(ORIGINAL, seed=9, head_rate=0.1, hidden=8), tmp_path, augmented=False)[1] == 0


def test_small_limit_keeps_fewer_views_but_one(net, prepared, tmp_path, monkeypatch):
    """Above the limit fewer augmented views are made, at least one."""
    of_one_view = N * WIDTH * 4
    shapes = []
    for limit in (2 * of_one_view, 2 * of_one_view - 1, 1):
        monkeypatch.setattr(module, "CACHE_BYTES", limit)
        shapes.append(run(net, prepared, replace(FIELD, views=3), tmp_path)[0].shape)
    assert shapes == [(N, 2, WIDTH), (N, 1, WIDTH), (N, 1, WIDTH)]


def test_full_cache_drops_the_oldest(net, prepared, tmp_path, monkeypatch):
    """Where new features do not fit beside the old ones, the oldest files go first, and no half-written one stays."""
    monkeypatch.setattr(module, "CACHE_BYTES", 2 * N * WIDTH * 4 + 1000)  # two files of one view, with their headers
    recipes = [replace(FIELD, seed=seed, views=1) for seed in range(3)]
    for age, recipe in enumerate(recipes[:2]):
        before = set(tmp_path.iterdir())
        run(net, prepared, recipe, tmp_path)
        (new,) = set(tmp_path.iterdir()) - before
        os.utime(new, (1000 + age, 1000 + age))
    run(net, prepared, recipes[2], tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    assert run(net, prepared, recipes[2], tmp_path)[1] == run(net, prepared, recipes[1], tmp_path)[1] == 0
    assert run(net, prepared, recipes[0], tmp_path)[1] > 0
