"""``bce train --locator``: from pictures with boxes to a run folder that holds a locator."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...dataset.split import HELD_BACK, TRAIN
from ...files import beside, write_csv, write_json
from ...model.decode import FLOAT_SCALES, Decoder, Planes, as_bytes
from ...progress import SILENT, Reporter
from ...runs import RunFolder
from ...version import __version__
from ..epochs import Checkpoint
from ..frameworks import keras, tf
from ..runfolder import free_run, named_run, refuse_taken
from .batches import batches
from .damage import damaged
from .judge import best, found_at
from .material import Material, Sources, read_material
from .network import INPUT_SIZE, LOSS_WEIGHTS, LOSSES, build_network
from .recipe import LocatorRecipe
from .scenes import Scene, lay_scene

if TYPE_CHECKING:
    from numpy.typing import NDArray

HISTORY_COLUMNS = ("epoch", "loss", "white_loss", "shape_loss", "ruler_loss", "learning_rate", "seconds")
"""Of history.csv."""

_JUDGED_SEED = 5_000_000  # far from those that training draws
_RISE = 100  # batches over which the learning rate rises


class KerasLocator:
    """A trained network as `Decoder` reads it."""

    def __init__(self, net: Any) -> None:
        """Wrap a network of `build_network`."""
        self._planes = tf.function(lambda pixels: net(pixels, training=False))  # ten times as fast as asking it plainly

    def __call__(self, pixels: NDArray[np.uint8]) -> Planes:
        """The planes of one input, uint8 RGB (height, width, 3)."""
        planes = self._planes(tf.constant(pixels[np.newaxis].astype(np.float32)))
        white, shape, ruler = (
            as_bytes(np.asarray(plane)[0], scale) for plane, scale in zip(planes, FLOAT_SCALES, strict=True)
        )
        return Planes(np.ascontiguousarray(white[..., 0]), shape, ruler)


def train_locator(
    data: str | Path | Sequence[str | Path],
    recipe: LocatorRecipe | None = None,
    *,
    name: str | None = None,
    out: str | Path | None = None,
    force: bool = False,
    report: Reporter = SILENT,
) -> Path:
    """What `bce train --locator` does: train on DATA and fill a folder under runs/; runs/latest stays as it is.

    An interrupted run goes on from its last epoch when the same is asked for again.

    Args:
        data: one or several DATA: photographs with a boxes.csv, or pictures of one cell each, see `pieces`.
        recipe: how; None for the usual way.
        name: of the folder in runs/; None for "locator" and a number.
        out: a folder to fill instead, wherever it is.
        force: train again what is there.
        report: told how far it is.

    Returns:
        The run folder.

    Raises:
        MissingFile, DataError, NoPictures: see `read_material`.
        OutputExists: the folder holds a finished run, or one of another recipe or data.
    """
    recipe = recipe or LocatorRecipe()
    paths = [data] if isinstance(data, str | Path) else list(data)
    config = {"locator": recipe.as_json(), "data": [str(Path(path).resolve()) for path in paths]}
    run = RunFolder(Path(out)) if out is not None else _folder(name, config)
    if force:
        shutil.rmtree(run.path, ignore_errors=True)
    refuse_taken(run, goes_on=_is_unfinished(run, config))
    report.log_to(run.log)
    try:
        _train(paths, recipe, run, config, report)
    except KeyboardInterrupt:
        report.say(f"stopped; the same command goes on from the last epoch, kept in {run.path}")
        raise
    return run.path


def _folder(name: str | None, config: Mapping[str, Any]) -> RunFolder:
    return named_run(name) if name is not None else free_run("locator", lambda run: _is_unfinished(run, config))


def _is_unfinished(run: RunFolder, config: Mapping[str, Any]) -> bool:
    return not run.metrics.is_file() and run.config.is_file() and json.loads(run.config.read_text()) == config


def _train(
    paths: Sequence[str | Path], recipe: LocatorRecipe, run: RunFolder, config: Mapping[str, Any], report: Reporter
) -> None:
    start = time.perf_counter()
    material = read_material(paths, recipe.split, report)
    _say(material, report)
    run.path.mkdir(parents=True, exist_ok=True)
    write_json(run.config, config)
    write_csv(run.split, ("path", "split"), sorted((str(path), side) for path, side in material.sides.items()))
    keras.utils.set_random_seed(recipe.seed)
    net = build_network()
    _compile(net, recipe)
    history = _fit(net, material.training, recipe, run, report)
    with beside(run.model) as temporary:
        keras.Model(net.input, net.output, name="locator").save(temporary)
    seconds = sum(row["seconds"] for row in history)
    judged = judge_network(KerasLocator(net), material.held_back or material.training, recipe)
    write_json(
        run.metrics,
        {
            "heldback": judged,
            "pictures": _counts(material),
            "seconds": round(seconds, 1),
            "all_seconds": round(time.perf_counter() - start, 1),
            "bce_version": __version__,
        },
    )
    shutil.rmtree(run.state, ignore_errors=True)


def judge_network(network: KerasLocator, sources: Sources, recipe: LocatorRecipe) -> dict[str, Any]:
    """What is found in scenes laid from held-back pieces, at the threshold that is best there."""
    decoder = Decoder(*FLOAT_SCALES[1:])
    chosen = best(found_at(network, decoder, judged_scenes(sources, recipe)))
    return {"scenes": recipe.judged, **chosen.as_json()}


def judged_scenes(sources: Sources, recipe: LocatorRecipe, count: int | None = None) -> list[Scene]:
    """Scenes damaged as in training, as many as the recipe says or are asked for; the same at every call."""
    shares = recipe.shares(sorted(sources))
    scenes = []
    for number in range(recipe.judged if count is None else count):
        rng = np.random.default_rng((_JUDGED_SEED, number))
        scenes.append(damaged(lay_scene(sources, shares, INPUT_SIZE, rng), rng))
    return scenes


def _say(material: Material, report: Reporter) -> None:
    for source, pieces in material.training.items():
        cells = sum(cell.certain for piece in pieces for cell in piece.cells)
        held_back = len(material.held_back.get(source, ()))
        report.say(
            f"{source}: {len(pieces)} pictures with {cells} white cells, {held_back} held back, "
            f"a red cell is {pieces[0].red_cell_px:.1f} px"
        )


def _counts(material: Material) -> dict[str, dict[str, int]]:
    sides = {TRAIN: material.training, HELD_BACK: material.held_back}
    return {side: {source: len(pieces) for source, pieces in of.items()} for side, of in sides.items()}


def _compile(net: Any, recipe: LocatorRecipe) -> None:
    rate = _Rate(recipe.rate, recipe.epochs * recipe.steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, clipnorm=5.0)
    net.compile(optimizer=optimizer, loss=LOSSES, loss_weights=LOSS_WEIGHTS, jit_compile=False)


def _fit(net: Any, sources: Sources, recipe: LocatorRecipe, run: RunFolder, report: Reporter) -> list[dict[str, Any]]:
    """Epoch by epoch, so that it can be interrupted after any of them."""
    checkpoint = Checkpoint.load(run.state / "checkpoint.npz", net)
    net.optimizer.build(net.trainable_variables)
    if checkpoint.epoch:
        checkpoint.resume_optimizer(net.optimizer)
    for epoch in range(checkpoint.epoch, recipe.epochs):
        row = _one_epoch(net, sources, recipe, epoch, report)
        checkpoint.history.append(row)
        checkpoint.epoch = epoch + 1
        checkpoint.save(net, net.optimizer)
        write_csv(run.history, HISTORY_COLUMNS, ([row[name] for name in HISTORY_COLUMNS] for row in checkpoint.history))
    return checkpoint.history


def _one_epoch(net: Any, sources: Sources, recipe: LocatorRecipe, epoch: int, report: Reporter) -> dict[str, Any]:
    start = time.perf_counter()
    title = f"locator {epoch + 1}/{recipe.epochs}"
    with report.bar(title) as progress:
        told: Any = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, **_: progress(batch + 1, recipe.steps)
        )
        data = batches(sources, recipe, epoch)
        fitted = net.fit(data, epochs=1, verbose=0, callbacks=[told], shuffle=False).history
    row = {"epoch": epoch + 1} | {name: float(values[0]) for name, values in fitted.items()}
    row["learning_rate"] = float(keras.ops.convert_to_numpy(net.optimizer.learning_rate))
    row["seconds"] = time.perf_counter() - start
    report.say(f"{title}: loss {row['loss']:.3f}, {row['seconds']:.0f} s")
    return row


@keras.saving.register_keras_serializable("bloodcell_edge")
class _Rate(keras.optimizers.schedules.LearningRateSchedule):  # type: ignore[misc]
    """A short linear rise, then half a cosine (Loshchilov and Hutter 2017)."""

    def __init__(self, highest: float, steps: int) -> None:
        self.highest, self.steps = highest, steps

    def __call__(self, step: Any) -> Any:
        step = tf.cast(step, tf.float32)
        wave = 0.5 * (1.0 + tf.cos(np.pi * tf.minimum(step / self.steps, 1.0)))
        return self.highest * wave * tf.minimum(1.0, (step + 1.0) / _RISE)

    def get_config(self) -> dict[str, Any]:
        return {"highest": self.highest, "steps": self.steps}
