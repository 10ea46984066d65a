"""Epochs: a training that is interrupted anywhere ends as if it had not been."""

from __future__ import annotations

import csv
from contextlib import contextmanager

import numpy as np
import pytest

from bloodcell_edge.progress import SILENT
from bloodcell_edge.training.epochs import HISTORY_COLUMNS, Checkpoint, Stage, run_stage
from bloodcell_edge.training.frameworks import keras

EPOCHS = 4
X = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
Y = np.eye(3, dtype=np.float32)[np.random.default_rng(1).integers(0, 3, 64)]


class Stops:
    """A reporter that interrupts: at line number `line`, or when bar number `bar` is asked for."""

    def __init__(self, *, line=None, bar=None):
        self.line, self.bar_number, self.lines, self.steps = line, bar, [], []

    def say(self, text):
        self.lines.append(text)
        if len(self.lines) == self.line:
            raise KeyboardInterrupt

    @contextmanager
    def bar(self, title):
        assert title
        if self.bar_number is not None:
            self.bar_number -= 1
            if not self.bar_number:
                raise KeyboardInterrupt
        yield lambda done, total: self.steps.append((done, total))


def build():
    """A model with everything that has a state: BatchNorm, Dropout and its random numbers; the same each time."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((6,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(8, activation="relu")(inputs))
    return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(keras.layers.Dropout(0.4, seed=1)(x)))


def loss(model):
    """Cross-entropy of all of X."""
    return float(-np.log((np.asarray(model(X, training=False)) * Y).sum(axis=1)).mean())


def stages(model, *, patience=None, losses=None):
    """Two stages with a rate and an optimizer of their own; `losses` stands in for what validation says."""
    said = {} if losses is None else dict(enumerate(losses))
    calls = iter(range(1000))

    def make(name, rate):
        def begin(fresh):
            optimizer = keras.optimizers.AdamW(rate)
            # eagerly: so small a model trains faster than its graph is traced
            model.compile(optimizer, "categorical_crossentropy", metrics=["accuracy"], run_eagerly=True)
            return model

        def batches(epoch):
            order = np.random.default_rng(epoch).permutation(64)
            return {"x": X[order], "y": Y[order], "batch_size": 32, "shuffle": False}

        def validate():
            return said.get(next(calls), loss(model)), 0.5

        return Stage(name, begin, EPOCHS, batches, validate, patience)

    return [make("first", 1e-2), make("second", 1e-3)]


def train(folder, report=SILENT, **options):
    """Train or go on in a folder, as fit does; gives the model and its checkpoint."""
    model = build()
    checkpoint = Checkpoint.load(folder / "state" / "checkpoint.npz", model)
    for number, stage in enumerate(stages(model, **options)):
        run_stage(number, stage, model, checkpoint, history=folder / "history.csv", report=report)
    return model, checkpoint


def numbers(checkpoint):
    """The numbers of a history without what the clock says."""
    return [[row[key] for key in HISTORY_COLUMNS if key not in ("stage", "seconds")] for row in checkpoint.history]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nothing interrupts."""
    return train(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize(
    "stop",
    [*({"line": line} for line in (1, 4, 5, 8)), *({"bar": bar} for bar in (2, 4, 5, 8))],
    ids=lambda stop: "-".join(map(str, *stop.items())),
)
def test_interrupted_training_ends_as_if_it_had_not_been(whole, tmp_path, stop):
    """Stopped before an epoch is saved (line) or before one begins (bar), it ends with the same weights and history."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Stops(**stop))
    model, checkpoint = train(tmp_path)
    np.testing.assert_allclose(numbers(checkpoint), numbers(whole[1]), rtol=1e-5)
    for one, other in zip(model.get_weights(), whole[0].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_epochs_that_are_done_are_not_trained_again(tmp_path):
    """What goes on after the third epoch begins with the fourth."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Stops(bar=4))
    later = Stops()
    train(tmp_path, later)
    assert [line.split(":")[0] for line in later.lines][:3] == ["first 4/4", "second 1/4", "second 2/4"]
    assert later.steps[:5] == [(1, 2), (2, 2), (1, 2), (2, 2), (1, 2)], "steps of each epoch"
    nothing = Stops()
    train(tmp_path, nothing)
    assert nothing.lines == []


def test_history_has_a_row_an_epoch(whole, tmp_path):
    """history.csv is there after the first epoch, whole at the end, and says what the checkpoint says."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Stops(bar=2))
    assert len(read(tmp_path)) == 1
    _, checkpoint = train(tmp_path)
    rows = read(tmp_path)
    assert tuple(rows[0]) == HISTORY_COLUMNS
    assert [(row["stage"], int(row["epoch"])) for row in rows] == [
        (name, epoch) for name in ("first", "second") for epoch in range(1, EPOCHS + 1)
    ]
    assert [float(row["loss"]) for row in rows] == [row["loss"] for row in checkpoint.history]
    assert [float(row["learning_rate"]) for row in rows] == pytest.approx([1e-2] * EPOCHS + [1e-3] * EPOCHS)
    assert all(float(row["seconds"]) > 0 for row in rows)


def read(folder):
    with (folder / "history.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_early_stopping_restores_the_best_weights(tmp_path):
    """Patience 2 stops two epochs after the lowest loss, and its weights stay, where it was interrupted too."""
    losses = [1.0, 0.5, 0.5, 0.7, 0.4, 0.6, 0.7]  # 0.5 again is no better; the best of the second stage is its first
    epochs = [*(("first", epoch) for epoch in (1, 2, 3, 4)), *(("second", epoch) for epoch in (1, 2, 3))]
    model, checkpoint = train(tmp_path / "whole", patience=2, losses=losses)
    assert [(row["stage"], row["epoch"]) for row in checkpoint.history] == epochs
    kept = best_of_two_stages()
    for one, other in zip(model.get_weights(), kept, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    with pytest.raises(KeyboardInterrupt):  # after the third epoch, whose weights are not the best
        train(tmp_path / "cut", Stops(bar=4), patience=2, losses=losses[:3])
    again, cut = train(tmp_path / "cut", patience=2, losses=losses[3:])
    assert [(row["stage"], row["epoch"], row["val_loss"]) for row in cut.history] == [
        (*epoch, value) for epoch, value in zip(epochs, losses, strict=True)
    ]
    for one, other in zip(again.get_weights(), kept, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def best_of_two_stages():
    """The weights after two epochs of the first stage and one of the second, trained without any of ours."""
    model = build()
    for stage, epochs in zip(stages(model), (2, 1), strict=True):
        net = stage.begin(True)
        for epoch in range(epochs):
            net.fit(**stage.batches(epoch), epochs=1, verbose=0)
    return model.get_weights()


def test_without_patience_the_last_weights_stay(tmp_path):
    """A rising validation loss changes nothing where no patience is asked for."""
    model, checkpoint = train(tmp_path, losses=[0.1, *[9.0] * 7])
    assert len(checkpoint.history) == 2 * EPOCHS
    plain = build()
    for stage in stages(plain):
        net = stage.begin(True)
        for epoch in range(EPOCHS):
            net.fit(**stage.batches(epoch), epochs=1, verbose=0)
    for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_checkpoint_is_whole_or_not_there(tmp_path):
    """Nothing but the checkpoint stays in its folder: what is half-written has another name and is removed."""
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, Stops(line=3))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["checkpoint.npz"]
