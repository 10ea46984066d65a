"""Batches of scenes, made while the network trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..frameworks import tf
from .damage import damaged
from .network import INPUT_SIZE
from .pieces import Piece
from .recipe import LocatorRecipe
from .scenes import Scene, lay_scene
from .targets import RULER, SHAPE, STRIDE, WHITE, targets

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOOKS = 2  # at each scene, damaged differently: laying one takes as long as two damages


def batches(sources: Mapping[str, Sequence[Piece]], recipe: LocatorRecipe, epoch: int) -> Any:
    """A tf.data pipeline of one epoch: (pixels, (white, shape, ruler)), all float32."""

    def make(step: Any) -> tuple[NDArray[np.float32], ...]:
        return _batch(sources, recipe, (recipe.seed, epoch, int(step)))

    grid = tuple(side // STRIDE for side in INPUT_SIZE)

    def shaped(pixels: Any, *planes: Any) -> Any:
        pixels = tf.ensure_shape(pixels, (recipe.batch, *INPUT_SIZE, 3))
        channels = (WHITE, SHAPE, RULER)
        return pixels, tuple(
            tf.ensure_shape(plane, (recipe.batch, *grid, count)) for plane, count in zip(planes, channels, strict=True)
        )

    def call(step: Any) -> Any:
        return tf.numpy_function(make, [step], (tf.float32,) * 4)

    made = tf.data.Dataset.range(recipe.steps).map(call, num_parallel_calls=2, deterministic=True)
    return made.map(shaped).prefetch(4)


def _batch(
    sources: Mapping[str, Sequence[Piece]], recipe: LocatorRecipe, seed: tuple[int, ...]
) -> tuple[NDArray[np.float32], ...]:
    rng = np.random.default_rng(seed)
    shares = recipe.shares(sorted(sources))
    scenes: list[Scene] = []
    while len(scenes) < recipe.batch:
        scene = lay_scene(sources, shares, INPUT_SIZE, rng)
        scenes += [damaged(scene, rng, without=frozenset(recipe.without)) for _ in range(_LOOKS)]
    planes = zip(*(targets(scene) for scene in scenes), strict=True)
    return np.stack([scene.pixels for scene in scenes]), *(np.stack(plane) for plane in planes)
