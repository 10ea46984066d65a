"""Training a network epoch by epoch, so that it can be interrupted after any of them and go on."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import beside, write_csv
from ..progress import Reporter
from .frameworks import keras

if TYPE_CHECKING:
    from numpy.typing import NDArray

HISTORY_COLUMNS = (
    "stage", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "seconds",
)  # fmt: skip
"""Of history.csv. val_ is what `Stage.validate` gives, learning_rate what the epoch ends with."""


@dataclass(frozen=True)
class Stage:
    """One stretch of training with one optimizer.

    Attributes:
        name: for the history.
        begin: gives the compiled network; told whether the stage starts afresh or goes on.
        epochs: how many.
        batches: ``batches(epoch)`` gives the arguments of ``net.fit`` for that epoch.
        validate: gives (loss, accuracy) of the validation or held-back pictures.
        patience: see `Recipe.patience`.
    """

    name: str
    begin: Callable[[bool], Any]
    epochs: int
    batches: Callable[[int], dict[str, Any]]
    validate: Callable[[], tuple[float, float]]
    patience: int | None = None


@dataclass
class Checkpoint:
    """What is needed to go on: variables of network and optimizer, where we are, the best weights so far.

    Variables are known by their place: the names of some depend on what else the process has built.

    Attributes:
        path: one .npz; written beside and renamed, so that there is always a whole one.
        history: rows as in `HISTORY_COLUMNS`.
        stage: number of the stage in hand.
        epoch: epochs of it that are done.
        best: variables of the best epoch, where a stage has patience.
    """

    path: Path
    history: list[dict[str, Any]] = field(default_factory=list)
    stage: int = 0
    epoch: int = 0
    best: list[NDArray[Any]] = field(default_factory=list)
    _optimizer: list[NDArray[Any]] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path, model: Any) -> Checkpoint:
        """Read a checkpoint into a model; a fresh one where there is none."""
        if not path.is_file():
            return cls(path)
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        meta = json.loads(str(arrays.pop("meta")))
        lists = {kind: [arrays[f"{kind}/{i}"] for i in range(count)] for kind, count in meta["lists"].items()}
        _restore(model, lists["model"])
        return cls(path, meta["history"], meta["stage"], meta["epoch"], lists["best"], lists["optimizer"])

    def save(self, model: Any, optimizer: Any | None) -> None:
        """Write everything down."""
        steps = [] if optimizer is None else _values(optimizer)
        lists = {"model": _values(model), "best": self.best, "optimizer": steps}
        arrays: dict[str, Any] = {f"{kind}/{i}": value for kind in lists for i, value in enumerate(lists[kind])}
        counts = {kind: len(values) for kind, values in lists.items()}
        meta = {"history": self.history, "stage": self.stage, "epoch": self.epoch, "lists": counts}
        arrays["meta"] = np.array(json.dumps(meta))
        with beside(self.path) as temporary, temporary.open("wb") as stream:
            np.savez(stream, **arrays)

    def resume_optimizer(self, optimizer: Any) -> None:
        """Put an optimizer where it was."""
        _restore(optimizer, self._optimizer)
        self._optimizer = []


def _values(owner: Any) -> list[NDArray[Any]]:
    """Copies of all variables of a model or an optimizer, the state of its random numbers included."""
    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in owner.variables]


def _restore(owner: Any, values: list[NDArray[Any]]) -> None:
    for variable, value in zip(owner.variables, values, strict=True):
        variable.assign(value)


def run_stage(
    number: int, stage: Stage, model: Any, checkpoint: Checkpoint, *, history: Path, report: Reporter
) -> None:
    """Train one stage from where the checkpoint says to its end, saving after every epoch.

    Args:
        number: of the stage in the run.
        stage: what to train.
        model: the whole model, which is saved; what the stage trains is a part of it.
        checkpoint: where we are; moved on.
        history: CSV file that is rewritten after every epoch.
        report: told how far it is.
    """
    if checkpoint.stage > number:
        return
    net = stage.begin(checkpoint.epoch == 0)
    net.optimizer.build(net.trainable_variables)
    if checkpoint.epoch:
        checkpoint.resume_optimizer(net.optimizer)
    rows = [row for row in checkpoint.history if row["stage"] == stage.name]
    while checkpoint.epoch < stage.epochs and not _is_stuck(rows, stage.patience):
        lowest = min((row["val_loss"] for row in rows), default=math.inf)
        row = _one_epoch(stage, net, checkpoint.epoch, report)
        rows.append(row)
        checkpoint.history.append(row)
        checkpoint.epoch += 1
        if stage.patience is not None and row["val_loss"] < lowest:
            checkpoint.best = _values(model)
        checkpoint.save(model, net.optimizer)
        save_history(history, checkpoint.history)
    if checkpoint.best:
        _restore(model, checkpoint.best)
    checkpoint.stage, checkpoint.epoch, checkpoint.best = number + 1, 0, []
    checkpoint.save(model, None)


def _one_epoch(stage: Stage, net: Any, epoch: int, report: Reporter) -> dict[str, Any]:
    start = time.perf_counter()
    title = f"{stage.name} {epoch + 1}/{stage.epochs}"
    with report.bar(title) as progress:
        callback: Any = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, **_: progress(batch + 1, callback.params["steps"])
        )
        fitted = net.fit(**stage.batches(epoch), epochs=1, verbose=0, callbacks=[callback]).history
    loss, accuracy = stage.validate()
    row = {
        "stage": stage.name,
        "epoch": epoch + 1,
        "loss": float(fitted["loss"][0]),
        "accuracy": float(fitted["accuracy"][0]),
        "val_loss": loss,
        "val_accuracy": accuracy,
        "learning_rate": float(keras.ops.convert_to_numpy(net.optimizer.learning_rate)),
        "seconds": time.perf_counter() - start,
    }
    report.say(
        f"{title}: loss {row['loss']:.3f}, accuracy {row['accuracy']:.3f}, "
        f"val loss {loss:.3f}, val accuracy {accuracy:.3f}, {row['seconds']:.0f} s"
    )
    return row


def _is_stuck(rows: list[dict[str, Any]], patience: int | None) -> bool:
    """True where the best validation loss is `patience` epochs old."""
    if patience is None or not rows:
        return False
    losses = [row["val_loss"] for row in rows]
    return len(losses) - 1 - losses.index(min(losses)) >= patience


def save_history(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write history.csv."""
    write_csv(path, HISTORY_COLUMNS, ([row.get(name, "") for name in HISTORY_COLUMNS] for row in rows))
