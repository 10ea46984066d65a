"""Features of a frozen backbone, computed once and kept in the run folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import beside
from ..imaging.image import IMAGE_VERSION
from ..progress import Progress
from .augment import augment_batch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .prepared import Prepared
    from .recipes import Recipe

CACHE_BYTES = 2 << 30
"""Most that the cached features of one run may take; above it fewer augmented views are kept, at least one."""

_BATCH = 64


def frozen_features(
    features: Any,
    prepared: Prepared,
    sha256: Sequence[str],
    recipe: Recipe,
    *,
    augmented: bool,
    cache: Path,
    progress: Progress | None = None,
) -> NDArray[np.float32]:
    """What the frozen backbone makes of every picture, from the cache where it is there.

    Args:
        features: the backbone with its pooling; a Keras model.
        prepared: the pictures.
        sha256: of their files, in the same order; part of the cache's key.
        recipe: says size, augmentation and number of views.
        augmented: `recipe.views` augmented views of each picture, else one as it is.
        cache: folder of the run.
        progress: called as batches are done, not at all where the cache serves.

    Returns:
        float32, shape (n, views, width).
    """
    n, width = len(prepared.pixels), int(features.output_shape[-1])
    views = min(recipe.views, max(CACHE_BYTES // max(n * width * 4, 1), 1)) if augmented and recipe.augmentation else 1
    path = cache / f"features-{_key(features, sha256, recipe, augmented, views)}.npy"
    if path.is_file():
        return np.asarray(np.load(path))
    made = np.empty((n, views, width), np.float32)
    for view in range(views):
        for start in range(0, n, _BATCH):
            batch = prepared.pixels[start : start + _BATCH]
            if augmented and recipe.augmentation is not None:
                batch = prepared.wide[start : start + _BATCH]
                aspects = prepared.aspects[start : start + _BATCH]
                seed = (recipe.seed, view, start)
                batch = augment_batch(batch, recipe.augmentation, aspects=aspects, size=recipe.size, seed=seed)
            made[start : start + len(batch), view] = features.predict_on_batch(batch.astype(np.float32))
            if progress is not None:
                progress(view * n + start + len(batch), views * n)
    _drop_old(cache, made.nbytes)
    with beside(path) as temporary:
        np.save(temporary, made)
    return made


def _key(features: Any, sha256: Sequence[str], recipe: Recipe, augmented: bool, views: int) -> str:
    """Hash of everything that the features depend on."""
    digest = hashlib.sha256()
    for weight in features.get_weights():
        digest.update(np.ascontiguousarray(weight).tobytes())
    how = recipe.as_json() if augmented else {}
    rest = [IMAGE_VERSION, recipe.size, recipe.pooling, views, how.get("augmentation"), how.get("seed"), list(sha256)]
    digest.update(json.dumps(rest).encode())
    return digest.hexdigest()[:16]


def _drop_old(cache: Path, wanted: int) -> None:
    """Delete the oldest cached features until `wanted` more bytes fit."""
    kept = sorted(cache.glob("features-*.npy"), key=lambda path: path.stat().st_mtime)
    total = sum(path.stat().st_size for path in kept)
    while kept and total + wanted > CACHE_BYTES:
        total -= kept[0].stat().st_size
        kept.pop(0).unlink(missing_ok=True)  # where several processes share the folder, one is first
