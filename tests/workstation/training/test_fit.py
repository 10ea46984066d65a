"""`bce train`: a run folder, complete and nothing besides; interrupted or killed it goes on as if it had not been."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bloodcell_edge.dataset.audit import with_photographs
from bloodcell_edge.dataset.evaluation import evaluate_files
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.photographs import PhotographIndex
from bloodcell_edge.dataset.pictures import LABELS, Picture
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, VALIDATION, load_split
from bloodcell_edge.errors import DataError, MissingFile, OutputExists
from bloodcell_edge.files import sha256_file
from bloodcell_edge.imaging.drawn import draw_folder
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.model.seen import from_json
from bloodcell_edge.model.spec import load_spec
from bloodcell_edge.progress import SILENT
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.backbone import build_model
from bloodcell_edge.training.fit import train, weights_name
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.kerasmodel import open_keras
from bloodcell_edge.training.recipes import Augmentation, choose_recipe

PER_CLASS = 10
NARROW = {"alpha": 0.35, "size": 32}


class Notes:
    """A reporter that keeps the lines, and interrupts when the epoch after `stop_after` more begins."""

    def __init__(self, stop_after=None):
        self.lines, self.bars, self.left = [], [], stop_after

    def say(self, text):
        self.lines.append(text)

    @contextmanager
    def bar(self, title):
        self.bars.append(title)
        if self.left is not None and re.search(r" \d+/\d+$", title):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
        yield lambda *_: None


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """40 drawn fields; one is there twice, turned and mirrored, one does not decode, one class is none of the four."""
    folder = tmp_path_factory.mktemp("few")
    draw_folder(folder, per_class=PER_CLASS, seed=5, size=(120, 160))
    image = cv2.imread(str(folder / "MONOCYTE" / "monocyte-0003.jpg"))
    turn = cv2.getRotationMatrix2D((80, 60), 12, 1.0)
    cv2.imwrite(str(folder / "MONOCYTE" / "copy.jpg"), cv2.warpAffine(image[:, ::-1], turn, (160, 120)))
    (folder / "NEUTROPHIL" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "BASOPHIL").mkdir()
    shutil.copy(folder / "MONOCYTE" / "copy.jpg", folder / "BASOPHIL" / "other.jpg")
    return folder


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Weights of a narrow backbone: random, with the BatchNorm averages of noise, so that pictures get through."""
    shape = (NARROW["size"], NARROW["size"], 3)
    net = keras.applications.MobileNetV2(include_top=False, weights=None, alpha=NARROW["alpha"], input_shape=shape)
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    net(np.random.default_rng(1).uniform(-1, 1, (16, *shape)).astype(np.float32), training=True)
    path = tmp_path_factory.mktemp("start") / "start.weights.h5"
    net.save_weights(path)
    return path


@pytest.fixture(scope="module")
def original(start):
    """Recipe `original` on that backbone, in few but long steps."""
    recipe = choose_recipe("original", weights=str(start), epochs=3, **NARROW)
    return replace(recipe, head_rate=0.01, batch=8)


@pytest.fixture(scope="module")
def whole(few, original, tmp_path_factory):
    """A run of `original` that nothing interrupted, with what it said: (run, spec, notes)."""
    run, notes = RunFolder(tmp_path_factory.mktemp("whole") / "runs" / "one"), Notes()
    return run, train(load_data(few), original, run, report=notes), notes


def history(run):
    """Rows of history.csv: stage, and the numbers but for the seconds."""
    with run.history.open() as stream:
        rows = list(csv.DictReader(stream))
    keys = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate")
    return [row["stage"] for row in rows], np.array([[float(row[key]) for key in keys] for row in rows])


def same_history(run, other):
    """True where two runs went the same way, within what sums of floats in another order make."""
    (stages, numbers), (others, expected) = history(run), history(other)
    return stages == others and np.allclose(numbers, expected, rtol=1e-4, atol=1e-5)


def metrics(run):
    return json.loads(run.metrics.read_text())


def test_run_folder_is_complete(whole, original):
    """The folder holds model, spec, split, history, figures, recipe, photographs and plots, and no leftovers."""
    run, spec, _ = whole
    found = sorted(path.relative_to(run.path).as_posix() for path in run.path.rglob("*") if path.is_file())
    cached = [name for name in found if name.startswith("cache/")]
    assert [name for name in found if name not in cached] == sorted(
        """history.csv metrics.json model.keras photographs.npz plots/confusion.png plots/curves.png
        plots/mistakes.png plots/reliability.png recipe.json spec.json split.csv unreadable.json""".split()
    )
    assert len(cached) == 1, "one pass over the pictures serves the leaky and the grouped split"
    assert sorted(run.path.parent.parent.rglob("*")) == sorted([run.path.parent, run.path, *run.path.rglob("*")])
    assert load_spec(run.spec) == spec
    assert json.loads(run.config.read_text())["recipe"] == original.as_json()


def test_split_is_by_photograph_and_written_down(whole, few):
    """Every readable picture is in split.csv with its hash; copies are found, joined and never on two sides."""
    run, spec, _ = whole
    rows = load_split(run.split)
    assert len(rows) == 4 * PER_CLASS + 1
    assert all(row.sha256 == sha256_file(few / row.picture.file) for row in rows)
    sides = defaultdict(set)
    for row in rows:
        sides[row.picture.group].add(row.split)
    assert len(sides) == 4 * PER_CLASS
    assert all(len(found) == 1 for found in sides.values())
    groups = {row.picture.file: row.picture.group for row in rows}
    assert groups["MONOCYTE/copy.jpg"] == groups["MONOCYTE/monocyte-0003.jpg"]
    for label in LABELS:
        assert {row.split for row in rows if row.picture.label == label} == {TRAIN, VALIDATION, HELD_BACK}
    assert spec.split_sha256 == sha256_file(run.split)


def test_pictures_and_photographs_are_counted(whole):
    """Log, metrics and spec say how many pictures and photographs each class has, and what was left out and why."""
    run, spec, notes = whole
    found, rows = metrics(run), load_split(run.split)
    for side in (TRAIN, VALIDATION, HELD_BACK):
        of_side = [row.picture for row in rows if row.split == side]
        for label in LABELS:
            own = [one for one in of_side if one.label == label]
            assert found["pictures"][side][label] == len(own)
            assert found["photographs"][side][label] == len({one.group for one in own})
        photographs = len({one.group for one in of_side})
        (line,) = (line for line in notes.lines if line.startswith(f"{side}:"))
        assert f"{len(of_side)} pictures of {photographs} photographs" in line
    total = sum(found["pictures"][side]["MONOCYTE"] for side in found["pictures"])
    assert total == PER_CLASS + 1 == 1 + sum(found["photographs"][side]["MONOCYTE"] for side in found["photographs"])
    trained = sum(sum(found["pictures"][side].values()) for side in (TRAIN, VALIDATION))
    assert sum(spec.training["pictures"].values()) == trained
    assert [one["file"] for one in found["unreadable"]] == ["NEUTROPHIL/broken.jpg"]
    assert any(line.startswith("left out: ") and "broken.jpg" in line for line in notes.lines)
    assert "left out as none of these: 1 BASOPHIL" in notes.lines


def test_leaky_figure_stands_beside_the_grouped_one(whole):
    """`original` trains on its own split first; that figure is under "leaky" and in no other place."""
    run, spec, _ = whole
    stages, numbers = history(run)
    assert stages == ["leaky"] * 3 + ["head"] * 3
    leaky, rows = metrics(run)["leaky"], load_split(run.split)
    best = numbers[:3][numbers[:3, 3].argmin()]
    assert leaky["validation_loss"] == pytest.approx(best[3])
    assert leaky["validation_accuracy"] == pytest.approx(best[4])
    assert leaky["n"] == sum(row.leaky_split == VALIDATION for row in rows) == 8
    assert metrics(run)["heldback"]["n"] == sum(row.split == HELD_BACK for row in rows)
    assert "leaky" not in spec.figures
    assert not np.allclose(numbers[0, 1:], numbers[3, 1:]), "the grouped training is another one"


def test_figures_are_those_of_the_saved_model(whole, few):
    """The held-back figures in spec and metrics are what the saved model scores, asked again from the files."""
    run, spec, _ = whole
    held_back = tuple(row.picture for row in load_split(run.split) if row.split == HELD_BACK)
    found = evaluate_files(open_keras(run.model), replace(load_data(few), pictures=held_back, unknown=()))
    assert found.evaluation.accuracy == spec.figures["accuracy"] == metrics(run)["heldback"]["accuracy"]
    assert found.evaluation.loss == pytest.approx(spec.figures["loss"], rel=1e-4)
    assert found.evaluation.interval.method == spec.figures["interval_method"]
    assert spec.figures["n_groups"] == len({one.group for one in held_back})


def test_training_pictures_are_known_again(whole, few):
    """The model knows every picture it was trained on or stopped by, and a turned copy of one, but none held back."""
    run, spec, _ = whole
    seen, index = from_json(spec.seen), PhotographIndex.load(run.index)
    rows = load_split(run.split)
    assert len(seen.content) == sum(row.split != HELD_BACK for row in rows)
    for row in rows:
        image = read_image(few / row.picture.file)
        nothing_alike = np.zeros((0, 16), np.uint8)
        assert seen.holds(row.sha256, nothing_alike) == (row.split != HELD_BACK)
        assert (index.find(cv2.flip(image, 0)) is not None) == (row.split != HELD_BACK)


def test_saved_model_takes_raw_pictures(whole):
    """The saved model takes (n, size, size, 3) of 0..255, called directly too, and gives probabilities."""
    model = open_keras(whole[0].model)
    scores = np.asarray(model.net(np.full((2, 32, 32, 3), 255.0, np.float32), training=False))
    assert scores.shape == (2, 4)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-5)


@pytest.mark.long
def test_run_interrupted_after_every_epoch(few, original, whole, tmp_path):
    """Stopped each time one epoch is done, the run ends with the history, split and figures of the whole run."""
    run = RunFolder(tmp_path / "cut")
    for _ in range(6):
        notes = Notes(stop_after=1)
        try:
            train(load_data(few), original, run, report=notes)
            break
        except KeyboardInterrupt:
            assert run.state.is_dir()
            assert not run.metrics.exists()
    assert run.metrics.is_file(), "six epochs want no more than six goes"
    assert "features of the frozen backbone" in notes.bars
    assert any("going on with the split" in line for line in notes.lines)
    assert "find photographs" not in notes.bars
    assert same_history(run, whole[0])
    assert run.split.read_bytes() == whole[0].split.read_bytes()
    assert metrics(run)["leaky"] == pytest.approx(metrics(whole[0])["leaky"], rel=1e-4)
    assert metrics(run)["heldback"]["accuracy"] == metrics(whole[0])["heldback"]["accuracy"]
    assert metrics(run)["unreadable"] == metrics(whole[0])["unreadable"]
    assert not run.state.exists()


@pytest.mark.long
def test_seed_decides(few, original, whole, tmp_path):
    """The same seed gives the same split and nearly the same figures, in a folder of another name; another does not."""
    again, other = RunFolder(tmp_path / "again"), RunFolder(tmp_path / "other")
    train(load_data(few), original, again, report=SILENT)
    assert again.split.read_bytes() == whole[0].split.read_bytes()
    assert same_history(again, whole[0])
    with pytest.raises(KeyboardInterrupt):
        train(load_data(few), replace(original, seed=1), other, report=Notes(stop_after=0))
    assert other.split.read_bytes() != whole[0].split.read_bytes()


def test_finished_run_is_not_overwritten(few, original, whole):
    """A second run into the same folder is refused, and changes nothing there."""
    before = {path: path.stat().st_mtime_ns for path in whole[0].path.rglob("*")}
    with pytest.raises(OutputExists, match="holds a finished run; give another --name, or --force"):
        train(load_data(few), original, whole[0], report=SILENT)
    assert {path: path.stat().st_mtime_ns for path in whole[0].path.rglob("*")} == before


@pytest.fixture
def unfinished(few, original, tmp_path):
    """A run that was stopped before its first epoch, on data of its own: (run, data)."""
    shutil.copytree(few, tmp_path / "data")
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train(load_data(tmp_path / "data"), original, run, report=Notes(stop_after=0))
    return run, tmp_path / "data"


def test_unfinished_run_goes_on_with_nothing_else(unfinished, original):
    """Another recipe, other labels, more pictures, or pictures that changed: refused, and the run stays as it is."""
    run, data = unfinished
    before = run.config.read_bytes(), run.split.read_bytes()
    dataset = load_data(data)
    others = [
        (dataset, replace(original, seed=1)),
        (load_data(data, labels=LABELS[:3]), original),
        (replace(dataset, pictures=dataset.pictures[1:]), original),
        (replace(dataset, pictures=(replace(dataset.pictures[0], group="x"), *dataset.pictures[1:])), original),
    ]
    for other, recipe in others:
        with pytest.raises(OutputExists, match="holds an unfinished run of another recipe or data"):
            train(other, recipe, run, report=SILENT)
    file = data / "MONOCYTE" / "copy.jpg"
    for change in (lambda: shutil.copy(data / "MONOCYTE" / "monocyte-0001.jpg", file), file.unlink):
        change()
        with pytest.raises(DataError, match=r"1 pictures are gone or have changed .*the first: MONOCYTE/copy.jpg"):
            train(dataset, original, run, report=SILENT)
    assert (run.config.read_bytes(), run.split.read_bytes()) == before


def spoil(folder):
    for path in (folder / "LYMPHOCYTE").iterdir():
        path.write_bytes(b"\x89PNG no picture")


def leave_one(folder):
    for path in sorted((folder / "LYMPHOCYTE").iterdir())[1:]:
        path.unlink()


@pytest.mark.parametrize(
    ("change", "options", "error", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "LYMPHOCYTE"), {}, DataError, "no readable picture of LYMPHOCYTE"),
        (spoil, {}, DataError, "no readable picture of LYMPHOCYTE; add some, or name .* --labels"),
        (leave_one, {}, DataError, "LYMPHOCYTE: expected at least 3 photographs, .* found 1"),
        (None, {"weights": "gone.weights.h5"}, MissingFile, "gone.weights.h5: no such weights file"),
        (None, {"backbone": "vgg"}, DataError, "no backbone 'vgg'"),
    ],
    ids=["no folder", "all unreadable", "one photograph", "no weights", "no backbone"],
)
def test_what_cannot_be_trained_leaves_nothing_behind(few, original, tmp_path, change, options, error, message):
    """Classes that are missing or too small, and what cannot be built, are errors before anything is written."""
    data = shutil.copytree(few, tmp_path / "data")
    if change:
        change(data)
    with pytest.raises(error, match=message):
        train(load_data(data), replace(original, **options), RunFolder(tmp_path / "run"), report=SILENT)
    assert not (tmp_path / "run").exists()


def test_groups_that_were_given_are_kept(few):
    """Where every picture has a group nothing is searched: the groups are the user's, copies or not."""
    pictures = [replace(one, group=one.file[:3]) for one in load_data(few).pictures]
    notes = Notes()
    assert with_photographs(pictures, notes) == pictures
    assert notes.bars == []


def test_groups_given_for_some_join_those_that_are_found(few):
    """A group given for some pictures holds, also through a copy that has none; None, None are not one photograph."""
    names = ["monocyte-0001.jpg", "monocyte-0002.jpg", "monocyte-0003.jpg", "monocyte-0004.jpg", "copy.jpg"]
    given = [None, "cell 7", None, "", "cell 7"]
    pictures = [
        Picture(few / "MONOCYTE" / name, name, "MONOCYTE", group) for name, group in zip(names, given, strict=True)
    ]
    one, two, three, four, copy = (picture.group for picture in with_photographs(pictures, SILENT))
    assert two == three == copy, "0002 and the copy are one cell, and the copy shows 0003"
    assert len({one, two, four}) == 3
    assert all((one, two, four))


@pytest.mark.long
@pytest.mark.trains
def test_field_trains_by_stages_and_goes_on_in_the_middle(few, start, tmp_path):
    """From a weights file the head comes first, then half the blocks, then all, under one falling rate; resumed alike.

    BatchNorm keeps the averages of the file to the bit, and the results say which weights they started from.
    """
    recipe = choose_recipe("field", weights=str(start), fine_tune=4, epochs=3, **NARROW)
    recipe = replace(recipe, head_epochs=1, batch=16, augmentation=Augmentation(rotation_degrees=90.0))
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    spec = train(load_data(few), recipe, whole, report=SILENT)
    stages, numbers = history(whole)
    assert stages == ["head", "fine-tune 2 blocks", "fine-tune 4 blocks", "fine-tune 4 blocks"]
    assert numbers[:, 0].tolist() == [1, 1, 1, 2]
    assert numbers[0, 5] == pytest.approx(recipe.head_rate)
    assert numbers[1, 5] > numbers[2, 5] > numbers[3, 5] == 0, "the rate that each epoch ends with"
    assert spec.training["weights"] == f"start.weights.h5 (sha256 {sha256_file(start)[:12]})"
    assert "leaky" not in metrics(whole)
    before, _, _ = build_model(recipe, 4)
    after = open_keras(whole.model).net
    for layer in before.layers:
        pairs = zip(layer.get_weights(), after.get_layer(layer.name).get_weights(), strict=True)
        stays = all(np.array_equal(*pair) for pair in pairs)
        if isinstance(layer, keras.layers.BatchNormalization) or layer.name in ("Conv1", "block_13_expand"):
            assert stays, layer.name
        if layer.name in ("block_14_project", "block_16_expand", "Conv_1", "logits"):
            assert not stays, layer.name

    with pytest.raises(KeyboardInterrupt):
        train(load_data(few), recipe, cut, report=Notes(stop_after=3))
    assert len(history(cut)[0]) == 3
    again = train(load_data(few), recipe, cut, report=SILENT)
    assert same_history(cut, whole)
    assert again.figures["loss"] == pytest.approx(spec.figures["loss"], rel=1e-4)


def test_weights_are_called_by_what_they_are(tmp_path):
    """A file is named with the head of its hash, anything else as it is."""
    (tmp_path / "w.h5").write_bytes(b"w")
    assert weights_name(str(tmp_path / "w.h5")) == "w.h5 (sha256 50e721e49c01)"
    assert weights_name("imagenet") == "imagenet"


def test_tiny_run_is_good_enough_to_prove_things_on(tiny_run):
    """The session's model is right on at least 85 % of its held-back drawn pictures, and says that they are drawn."""
    spec = load_spec(tiny_run.spec)
    assert spec.figures["n"] == 128
    assert spec.figures["accuracy"] >= 0.85
    assert spec.training["drawn"] is True


# through the installed script

SMALL = ("--weights", "none", "--alpha", "0.35", "--size", "64")


def test_train_command(few, tmp_path, bce):
    """Two epochs from nothing: exit 0, runs/latest, JSON alone on stdout, a log, `original`'s leaky figure too."""
    home = set(Path(os.environ["HOME"]).rglob("*"))
    done = bce("train", few, "--recipe", "original", *SMALL, "--epochs", "1", "--json", timeout=600)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    run = RunFolder(tmp_path / document["run"])
    assert document["run"] == "runs/original-1"
    assert document["heldback"]["n"] == 8
    assert (tmp_path / "runs" / "latest").resolve() == run.path.resolve()
    assert history(run)[0] == ["leaky", "fine-tune all blocks"]
    assert metrics(run)["leaky"]["n"] == 8
    assert metrics(run)["weights"] == load_spec(run.spec).training["weights"] == "none"
    log = run.log.read_text()
    assert all(line in log.splitlines() for line in done.stderr.splitlines())
    assert "broken.jpg" in log
    assert "leaky 1/1: loss " in log
    assert "\x1b" not in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"runs"}
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"original-1", "latest"}
    left = {path for path in set(Path(os.environ["HOME"]).rglob("*")) - home if ".matplotlib" not in path.parts}
    assert left == set()


@pytest.mark.long
def test_killed_run_goes_on(few, start, tmp_path, bce, bce_here):
    """kill -9 at a random moment of training: the same command ends with the history of a run that was not killed."""
    narrow = ("--alpha", "0.35", "--size", "32")
    command = ("train", few, "--recipe", "original", "--weights", start, *narrow, "--epochs", "12")
    assert bce_here(*command, "--name", "whole").returncode == 0
    killed, whole = RunFolder(tmp_path / "runs" / "killed"), RunFolder(tmp_path / "runs" / "whole")
    script = Path(sys.executable).parent / "bce"
    process = subprocess.Popen([script, *command, "--name", "killed"], cwd=tmp_path, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 300
    while not killed.history.is_file() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    delay = random.random()
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, f"it was done in {delay:.3f} s after its first epoch"
    done = bce(*command, "--name", "killed", timeout=600)
    assert done.returncode == 0, done.stderr
    assert "going on with the split of 41 pictures" in done.stderr
    assert same_history(killed, whole), f"killed {delay:.3f} s after the first epoch"
    assert metrics(killed)["leaky"] == pytest.approx(metrics(whole)["leaky"], rel=1e-4)
    again = bce_here(*command, "--name", "killed")
    assert again.returncode == 1
    assert re.fullmatch(r"bce: error: runs/killed: holds a finished run; .* --force .*\n", again.stderr)


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: shutil.rmtree(folder / "LYMPHOCYTE"), "no readable picture of LYMPHOCYTE; add some, or "),
        (empty, "expected one folder per class .* found no folder at all"),
        (leave_one, "LYMPHOCYTE: expected at least 2 photographs, .* found 1 .*--labels"),
    ],
    ids=["no class folder", "empty folder", "one photograph"],
)
def test_data_that_will_not_do(few, tmp_path, bce, change, message):
    """A class without a folder, an empty folder, a class with one photograph: exit 1, one line that says what to do."""
    data = shutil.copytree(few, tmp_path / "data")
    (data / "NEUTROPHIL" / "broken.jpg").unlink()
    shutil.rmtree(data / "BASOPHIL")
    change(data)
    done = bce("train", data, *SMALL, "--epochs", "1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert re.fullmatch(rf"bce: error: .*{message}.*\n", done.stderr), done.stderr
