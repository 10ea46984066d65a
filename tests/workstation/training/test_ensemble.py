"""`bce ensemble`: several runs that answer together, judged on what none of them saw, and a student of theirs."""

from __future__ import annotations

import csv
import json
import re
import shutil
from contextlib import contextmanager
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from bloodcell_edge.dataset.pictures import LABELS, Picture
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, VALIDATION, Member, load_split, save_split, split_pictures
from bloodcell_edge.errors import DataError, MissingFile, OutputExists
from bloodcell_edge.files import write_json
from bloodcell_edge.model.spec import load_spec, save_spec
from bloodcell_edge.progress import SILENT
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.distill import HINTON, Distillation, Teacher
from bloodcell_edge.training.ensemble import (
    distill,
    ensemble_folder,
    evaluate_ensemble,
    open_ensemble,
    save_ensemble,
)
from bloodcell_edge.training.kerasmodel import open_keras
from bloodcell_edge.training.prepared import prepare_pictures
from bloodcell_edge.training.recipes import Recipe

RECIPE = Recipe(
    name="quick",
    alpha=0.35,
    size=32,
    weights="none",
    head_epochs=4,
    fine_tune=0,
    head_rate=0.3,
    label_smoothing=0.0,
    augmentation=None,
    views=1,
)
"""An untrained backbone and a head that learns in seconds which label is commonest."""


class Notes:
    """A reporter that keeps the lines, and interrupts when the epoch after `stop_after` more begins."""

    def __init__(self, stop_after=None):
        self.lines, self.left = [], stop_after

    def say(self, text):
        self.lines.append(text)

    @contextmanager
    def bar(self, title):
        if self.left is not None and re.search(r" \d+/\d+$", title):
            if not self.left:
                raise KeyboardInterrupt
            self.left -= 1
        yield lambda *_: None


@pytest.fixture(scope="module")
def pair(colours, tmp_path_factory):
    """Two runs of one split: the quick one, and one that is far less sure, and leans to NEUTROPHIL."""
    folder = tmp_path_factory.mktemp("pair") / "runs"
    for name in ("sure", "leaning"):
        shutil.copytree(colours.path, folder / name, ignore=shutil.ignore_patterns("*.tflite"))
        write_json(RunFolder(folder / name).config, {"recipe": RECIPE.as_json()})
    change_answers(RunFolder(folder / "leaning"), sureness=0.05, bias=(0, 0, 0, 1.5))
    return RunFolder(folder / "sure"), RunFolder(folder / "leaning")


@pytest.fixture
def own_pair(pair, tmp_path):
    """A copy of both runs in runs/, that a test may change."""
    for run in pair:
        shutil.copytree(run.path, tmp_path / "runs" / run.path.name)
    return tuple(RunFolder(tmp_path / "runs" / run.path.name) for run in pair)


def change_answers(run, *, sureness, bias):
    """Multiply a quick run's logits, and add to them."""
    net = open_keras(run.model).net
    kernel, old = net.get_layer("probability").get_weights()
    net.get_layer("probability").set_weights([sureness * kernel, sureness * old + np.array(bias)])
    net.save(run.model)


def paths(runs):
    """Of run folders."""
    return [run.path for run in runs]


def change_split(run, change):
    """Write a run's split anew, each row as `change` gives it; None leaves the row out."""
    changed = [change(row) for row in load_split(run.split)]
    save_split(run.split, [row for row in changed if row is not None])


def held_back(run):
    """Held-back rows of a run."""
    return [row for row in load_split(run.split) if row.split == HELD_BACK]


def test_the_average_is_that_of_the_probabilities(pair):
    """Each run answers for itself, and the ensemble says the mean, which moves some labels and not others."""
    ensemble = open_ensemble(paths(pair))
    answers = ensemble.answers(ensemble.held_back, SILENT)

    for own, run in zip(answers.by_member, pair, strict=True):
        model = open_keras(run.model)
        shown = prepare_pictures([row.picture for row in answers.rows], model.spec.shown_as)
        assert own.scores == pytest.approx(model.scores(shown.pixels), abs=1e-6)
    by_member = [own.scores for own in answers.by_member]
    assert answers.average.scores == pytest.approx(np.mean(by_member, axis=0), abs=1e-6)
    tops = [scores.argmax(axis=1) for scores in (answers.average.scores, *by_member)]
    assert np.array_equal(tops[0], tops[1])
    assert 0 < (tops[1] == tops[2]).mean() < 1


def test_a_run_that_sees_no_cell_does_not_count(own_pair):
    """Where one run sees no cell the other's word stands; where none does the picture is wrong and not covered."""
    spec = load_spec(own_pair[1].spec)
    save_spec(own_pair[1].spec, spec.with_(view="cell", crop_um=20.0))  # there are no cells in flat colours
    found = evaluate_ensemble(open_ensemble(paths(own_pair)), SILENT)
    assert [own.found.sum() for own in found.answers.by_member] == [200, 0]
    assert np.array_equal(found.answers.average.scores, found.answers.by_member[0].scores)
    assert (found.average.no_cell, found.average.accuracy) == (0, found.by_member[0].accuracy)
    assert (found.by_member[1].no_cell, found.by_member[1].accuracy, found.by_member[1].coverage) == (200, 0, 0)

    save_spec(own_pair[0].spec, spec.with_(view="cell", crop_um=20.0))
    found = evaluate_ensemble(open_ensemble(paths(own_pair)), SILENT)
    assert (found.average.n, found.average.no_cell, found.average.coverage) == (200, 200, 0)


def test_figures_are_on_the_held_back_pictures(pair):
    """Accuracies of the runs and of their average are those worked out by hand, by photograph."""
    found = evaluate_ensemble(open_ensemble(paths(pair)), SILENT)

    truth = np.array([LABELS.index(row.picture.label) for row in found.answers.rows])
    assert found.average.n == len(held_back(pair[0])) == 200
    assert found.average.interval.n_groups == 50
    answers = (found.answers.average, *found.answers.by_member)
    for evaluation, own in zip((found.average, *found.by_member), answers, strict=True):
        assert evaluation.accuracy == (own.scores.argmax(axis=1) == truth).mean()
    assert found.by_member[1].accuracy < found.average.accuracy == 1.0


@pytest.mark.parametrize("side", [TRAIN, VALIDATION, None])
def test_runs_of_other_splits_are_refused(own_pair, side):
    """A picture that one run held back and another saw, or never had, is an error that names --split-seed."""
    first = held_back(own_pair[0])[0].sha256

    def moved(row):
        if row.sha256 != first:
            return row
        return None if side is None else replace(row, split=side)

    change_split(own_pair[1], moved)
    with pytest.raises(DataError, match=r"leaning: expected the split of .*sure.* otherwise: 1; .*--split-seed"):
        open_ensemble(paths(own_pair))


def test_validation_pictures_do_not_set_runs_apart(own_pair):
    """Which of the pictures that were seen one run stops by, and what it calls photographs, may differ."""
    change_split(
        own_pair[1],
        lambda row: replace(row, split=row.split if row.split == HELD_BACK else VALIDATION, picture=renamed(row)),
    )
    ensemble = open_ensemble(paths(own_pair))
    assert ensemble.rows == tuple(load_split(own_pair[0].split))
    assert (len(ensemble.held_back), len(ensemble.training)) == (200, 120)


def renamed(row):
    """Its picture, of another group."""
    return replace(row.picture, group=f"x{row.picture.group}")


def test_runs_that_disagree_on_a_label_are_refused(own_pair):
    """One picture with two labels is an error that names it."""
    first = load_split(own_pair[0].split)[0]
    other = next(label for label in LABELS if label != first.picture.label)
    change_split(
        own_pair[1],
        lambda row: replace(row, picture=replace(row.picture, label=other)) if row.sha256 == first.sha256 else row,
    )
    with pytest.raises(DataError, match=r"leaning: expected the split of .* otherwise: 1;"):
        open_ensemble(paths(own_pair))


def test_what_is_no_ensemble_is_refused(own_pair, tmp_path):
    """One run, one twice, labels that differ, a folder without a model: each an error that says which."""
    sure, leaning = paths(own_pair)
    for few in ([], [sure], [sure, sure], [sure, leaning, sure / ".." / "sure"]):
        with pytest.raises(DataError, match="expected two different runs"):
            open_ensemble(few)
    with pytest.raises(MissingFile, match=r"nothing: expected a finished run, with model.keras and split.csv"):
        open_ensemble([sure, tmp_path / "nothing"])
    spec = load_spec(own_pair[1].spec)
    save_spec(own_pair[1].spec, spec.with_(labels=spec.labels[::-1]))
    with pytest.raises(DataError, match="need the same labels in the same order"):
        open_ensemble([sure, leaning])


def test_the_folder_holds_what_the_figures_came_from(pair, tmp_path, monkeypatch):
    """metrics.json, the split, and scores from which the accuracy can be worked out again."""
    monkeypatch.chdir(tmp_path)
    ensemble = open_ensemble(paths(pair))
    found = evaluate_ensemble(ensemble, SILENT)
    run = ensemble_folder(None, ensemble)
    metrics = save_ensemble(run, ensemble, found)

    assert run.path.name == "ensemble-1"
    assert json.loads(run.metrics.read_text()) == json.loads(json.dumps(metrics))
    with (run.path / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    right = [max(LABELS, key=lambda label: float(row[label] or 0)) == row["label"] and row["MONOCYTE"] for row in rows]
    assert sum(map(bool, right)) / len(rows) == metrics["heldback"]["accuracy"]
    assert {row.sha256 for row in held_back(run)} == {row.sha256 for row in held_back(pair[0])}
    assert len(load_split(run.split)) == 320


def test_the_same_runs_give_the_same_folder(own_pair, monkeypatch):
    """Without a name, the folder of these runs is found again, others get a number; a name that is taken is refused."""
    monkeypatch.chdir(own_pair[0].path.parents[1])
    ensemble, turned = open_ensemble(paths(own_pair)), open_ensemble(paths(own_pair)[::-1])
    save_ensemble(ensemble_folder(None, ensemble), ensemble, evaluate_ensemble(ensemble, SILENT))

    assert ensemble_folder(None, ensemble).path.name == "ensemble-1"
    assert ensemble_folder(None, turned).path.name == "ensemble-2"
    with pytest.raises(OutputExists, match="holds something else"):
        ensemble_folder("ensemble-1", turned)
    assert ensemble_folder("ensemble-1", turned, force=True).path.name == "ensemble-1"
    for name in ("", "..", "latest", "a/b", "sure"):
        with pytest.raises(DataError, match="--name"):
            ensemble_folder(name, ensemble)


def test_the_loss_is_hintons():
    """T squared times the cross-entropy at temperature T, and the labels' cross-entropy at 1, weighed."""
    rng = np.random.default_rng(3)
    logits, taught = rng.normal(0, 2, (2, 5, 4))
    hard = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0]]
    names = list("abcde")
    scores = softmax(taught).astype(np.float32)
    teacher = Teacher(dict(zip(names, scores, strict=True)), Distillation(temperature=3.0, hard=0.25))

    targets = teacher.targets(names, hard)
    found = np.asarray(teacher.loss(0.0)(targets, keras.ops.convert_to_tensor(softmax(logits).astype(np.float32))))

    soft = -(softmax(taught / 3) * np.log(softmax(logits / 3))).sum(axis=1)
    labelled = -np.log(softmax(logits)[np.arange(5), hard.argmax(axis=1)])
    assert targets[:, :4] == pytest.approx(hard)
    assert targets[:, 4:] == pytest.approx(softmax(taught / 3), abs=1e-5)
    assert found == pytest.approx((9 * soft + 0.25 * labelled) / 1.25, rel=1e-4)


def softmax(logits):
    """Of each row."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def test_without_a_teachers_answer_the_label_teaches():
    """A picture that the teacher did not see has its label as soft target too; accuracy is by labels alone."""
    teacher = Teacher({"a": np.array([0.2, 0.8], np.float32)})
    targets = teacher.targets(["a", "b"], np.eye(2, dtype=np.float32))
    assert targets[1] == pytest.approx([0, 1, 0, 1], abs=1e-3)
    assert np.asarray(teacher.accuracy(targets, np.array([[0.6, 0.4], [0.6, 0.4]], np.float32))).tolist() == [1, 0]


@pytest.mark.long
@pytest.mark.trains
def test_a_student_is_a_run_like_any_other(own_pair, tmp_path):
    """Interrupted, it goes on; it holds back what its teachers did, says who they are, and what they say, not labels.

    The teachers call everything a NEUTROPHIL, and so does the student of them alone, with labels equally common.
    """
    for run in own_pair:
        change_answers(run, sureness=0.01, bias=(0, 0, 0, 3))
    unknown = [Picture(path, path.name, "PLATELET", path.name) for path in draw_platelets(tmp_path / "others")]
    sides = split_pictures(unknown, RECIPE.split)
    save_split(own_pair[0].unknown, [Member(one, side, "", "") for one, side in zip(unknown, sides, strict=True)])
    ensemble, run, how = open_ensemble(paths(own_pair)), RunFolder(tmp_path / "student"), Distillation(hard=0.0)
    recipe = replace(RECIPE, background=True, seed=5)
    with pytest.raises(KeyboardInterrupt):
        distill(ensemble, recipe, run, how=how, report=Notes(stop_after=2))
    with pytest.raises(OutputExists, match="another recipe, data or teachers"):
        distill(ensemble, recipe, run, report=SILENT)

    spec = distill(ensemble, recipe, run, how=how, report=SILENT)

    with pytest.raises(OutputExists, match="holds a finished run"):
        distill(ensemble, recipe, run, how=how, report=SILENT)
    assert spec == load_spec(run.spec)
    assert (spec.training["recipe"], spec.figures["n"]) == ("quick-distilled", 200)
    assert {row.sha256 for row in held_back(run)} == {row.sha256 for row in held_back(own_pair[0])}
    assert spec.background
    assert [row.split for row in load_split(run.unknown)] == sides  # its own seed is another
    taught = spec.training["teacher"]
    assert [one["run"] for one in taught["members"]] == [str(one.path) for one in own_pair]
    assert (taught["temperature"], taught["hard"]) == (HINTON.temperature, 0.0)
    assert len(run.history.read_text().splitlines()) == 1 + RECIPE.head_epochs
    student = open_keras(run.model)
    shown = prepare_pictures([row.picture for row in ensemble.training], spec.shown_as)
    assert (student.scores(shown.pixels).argmax(axis=1) == LABELS.index("NEUTROPHIL")).all()


def draw_platelets(folder):
    """Eight grey pictures with noise."""
    folder.mkdir()
    for number in range(8):
        pixels = np.random.default_rng(number).integers(90, 160, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def test_the_command(bce_here, own_pair, tmp_path):
    """JSON has run, figures of the average and of each run; nothing moves runs/latest."""
    result = bce_here("ensemble", "runs/sure", "runs/leaning", "--json")
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout)
    assert values["run"] == "runs/ensemble-1"
    assert [one["model"] for one in values["members"]] == ["runs/sure", "runs/leaning"]
    assert values["heldback"]["n"] == values["members"][0]["n"] == 200
    assert values["student"] is None
    assert not (tmp_path / "runs" / "latest").exists()


@pytest.mark.long
def test_the_command_distills(bce_here, own_pair, tmp_path):
    """--distill trains a student by the first run's recipe, runs/latest points at it, and the table has its line."""
    command = ("ensemble", "runs/sure", "runs/leaning", "--name", "both", "--distill")
    result = bce_here(*command)
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [line[0] for line in lines] == ["runs/sure", "runs/leaning", "average", "runs/both-student"]
    assert {line[1] for line in lines} == {"200"}
    assert (tmp_path / "runs" / "latest").resolve() == tmp_path / "runs" / "both-student"
    assert load_spec(tmp_path / "runs" / "both-student" / "spec.json").training["recipe"] == "quick-distilled"
    again = bce_here(*command)
    assert (again.returncode, again.stdout) == (1, "")
    assert "runs/both-student: holds a finished run; give another --name, or --force" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("runs/sure",), 1, "expected two different runs"),
        (("runs/sure", "runs/none"), 1, "runs/none: expected a finished run"),
        (("runs/sure", "runs/leaning", "--recipe", "field"), 2, "give --distill too"),
        (("runs/sure", "runs/leaning", "--distill", "--size", "32"), 2, "give --recipe too"),
        ((), 2, "Missing argument"),
    ],
)
def test_the_command_refuses(bce_here, own_pair, arguments, code, said):
    """What cannot be done is one line, with the exit code of its kind."""
    result = bce_here("ensemble", *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert said in result.stderr
