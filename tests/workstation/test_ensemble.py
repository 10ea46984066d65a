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

from bloodcell_edge.data import LABELS, load_data
from bloodcell_edge.errors import DataError, MissingFile, OutputExists
from bloodcell_edge.evaluation import figures
from bloodcell_edge.reporting import SILENT
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.spec import load_spec, save_spec
from bloodcell_edge.training.dataset import HELD_BACK, TRAIN, VALIDATION, load_split, prepare_pictures, save_split
from bloodcell_edge.training.distill import HINTON, Distillation, Teacher
from bloodcell_edge.training.ensemble import (
    distill,
    ensemble_folder,
    evaluate_ensemble,
    open_ensemble,
    save_ensemble,
)
from bloodcell_edge.training.fit import train
from bloodcell_edge.training.kerasmodel import open_keras
from bloodcell_edge.training.recipefile import load_recipe
from bloodcell_edge.training.recipes import choose_recipe
from convert.export import convert_files
from convert.parity import Limits
from convert.proof import prove
from convert.representative import representative_pictures
from convert.targets import Target


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
def pair(drawn_cells, tmp_path_factory):
    """Two runs of one split that are shown different things: whole frames of 48 px, and crops of 32 px."""
    folder = tmp_path_factory.mktemp("pair") / "runs"
    dataset = load_data(drawn_cells)
    pictures = tuple(replace(one, group=one.path.stem) for one in dataset.pictures[::2])
    for name, changes in {"frames": {"size": 48}, "crops": {"view": "cell", "size": 32}}.items():
        recipe = choose_recipe("drawn", epochs=4, **changes)
        train(replace(dataset, pictures=pictures), recipe, RunFolder(folder / name), drawn=True, report=SILENT)
    return RunFolder(folder / "frames"), RunFolder(folder / "crops")


@pytest.fixture
def own_pair(pair, tmp_path):
    """A copy of both runs in runs/, that a test may change."""
    for run in pair:
        shutil.copytree(run.path, tmp_path / "runs" / run.path.name)
    return tuple(RunFolder(tmp_path / "runs" / run.path.name) for run in pair)


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
    """Each run answers what it is shown; where both see a cell the ensemble says their mean, else what the one says."""
    ensemble = open_ensemble(paths(pair))
    rows = held_back(pair[0])
    answers = ensemble.answers(rows, SILENT)

    for number, run in enumerate(pair):
        model = open_keras(run.model)
        shown = prepare_pictures([row.picture for row in rows], model.spec.shown_as)
        assert np.array_equal(answers.found[number], shown.found)
        expected = model.scores(shown.pixels[shown.found])
        assert answers.by_member[number][shown.found] == pytest.approx(expected, abs=1e-6)
    both = answers.found.all(axis=0)
    assert both.sum() > 10
    assert answers.scores[both] == pytest.approx(answers.by_member.mean(axis=0)[both], abs=1e-6)
    assert answers.scores[~both] == pytest.approx(answers.by_member.sum(axis=0)[~both], abs=1e-6)


def test_figures_are_on_the_pictures_that_all_held_back(pair):
    """With one split, n is what each run held back, and a run's figures here are those that its training gave."""
    found = evaluate_ensemble(open_ensemble(paths(pair)), SILENT)

    assert found.average.n == len(held_back(pair[0])) == 20
    for run, evaluation in zip(pair, found.by_member, strict=True):
        ours, theirs = evaluation.as_json(), load_spec(run.spec).figures
        assert ours["confusion"] == [list(row) for row in theirs["confusion"]]
        assert ours["accuracy_interval"] == list(theirs["accuracy_interval"])
    pictures = [row.picture for row in found.answers.rows]
    seen = found.answers.found.any(axis=0)
    again = figures(pictures, found.answers.scores, load_spec(pair[0].spec), no_cell=~seen)
    assert again.confusion == found.average.confusion


@pytest.mark.parametrize("side", [TRAIN, VALIDATION, None])
def test_runs_of_other_splits_are_refused(own_pair, side):
    """A picture that one run held back and another saw, or never had, is an error that names --split-seed."""
    first = held_back(own_pair[0])[0].sha256

    def moved(row):
        if row.sha256 != first:
            return row
        return None if side is None else replace(row, split=side)

    change_split(own_pair[1], moved)
    with pytest.raises(DataError, match=r"crops: 1 pictures are not held back.*frames.*--split-seed"):
        open_ensemble(paths(own_pair))


def test_validation_pictures_do_not_set_runs_apart(own_pair):
    """Which of the pictures that were seen one run stops by, and what it calls photographs, may differ."""
    change_split(
        own_pair[1],
        lambda row: replace(row, split=row.split if row.split == HELD_BACK else VALIDATION, picture=renamed(row)),
    )
    ensemble = open_ensemble(paths(own_pair))
    assert ensemble.rows == tuple(load_split(own_pair[0].split))
    assert (len(ensemble.held_back), len(ensemble.training)) == (20, 80)


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
    with pytest.raises(DataError, match="crops: 1 pictures are not held back, trained on and labelled as in"):
        open_ensemble(paths(own_pair))


def test_what_is_no_ensemble_is_refused(own_pair, tmp_path):
    """One run, one twice, labels that differ, a folder without a model: each an error that says which."""
    frames, crops = paths(own_pair)
    for few in ([], [frames], [frames, frames], [frames, crops, frames / ".." / "frames"]):
        with pytest.raises(DataError, match="expected two different runs"):
            open_ensemble(few)
    with pytest.raises(MissingFile, match=r"nothing: expected a finished run, with model.keras and split.csv"):
        open_ensemble([frames, tmp_path / "nothing"])
    spec = load_spec(own_pair[1].spec)
    save_spec(own_pair[1].spec, spec.with_(labels=spec.labels[::-1]))
    with pytest.raises(DataError, match="need the same labels in the same order"):
        open_ensemble([frames, crops])


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
    assert len(load_split(run.split)) == 100


def test_the_same_runs_give_the_same_folder(pair, tmp_path, monkeypatch):
    """Without a name, the folder of these runs is found again, others get a number; a name that is taken is refused."""
    monkeypatch.chdir(tmp_path)
    ensemble, turned = open_ensemble(paths(pair)), open_ensemble(paths(pair)[::-1])
    save_ensemble(ensemble_folder(None, ensemble), ensemble, evaluate_ensemble(ensemble, SILENT))

    assert ensemble_folder(None, ensemble).path.name == "ensemble-1"
    assert ensemble_folder(None, turned).path.name == "ensemble-2"
    with pytest.raises(OutputExists, match="holds something else"):
        ensemble_folder("ensemble-1", turned)
    assert ensemble_folder("ensemble-1", turned, force=True).path.name == "ensemble-1"
    for name in ("", "..", "latest", "a/b"):
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


@pytest.fixture(scope="module")
def student(pair, tmp_path_factory):
    """A student of both runs, by the recipe of the second, with what was said."""
    run, notes = RunFolder(tmp_path_factory.mktemp("student") / "runs" / "student"), Notes()
    spec = distill(open_ensemble(paths(pair)), load_recipe(pair[1].config), run, report=notes)
    return run, spec, notes


def test_a_student_is_a_run_like_any_other(student, pair):
    """It holds back what all teachers held back, says who taught it, converts, and its small files pass parity."""
    run, spec, _ = student

    assert spec == load_spec(run.spec)
    assert {row.sha256 for row in held_back(run)} == {row.sha256 for row in held_back(pair[0])}
    assert spec.figures["n"] == 20
    assert (spec.view, spec.input_size) == ("cell", (32, 32))
    assert spec.training["recipe"] == "drawn-distilled"
    assert spec.training["drawn"]
    taught = spec.training["teacher"]
    assert len(taught["members"]) == 2
    assert (taught["temperature"], taught["hard"]) == (HINTON.temperature, HINTON.hard)

    model = open_keras(run.model)
    samples = representative_pictures(run.model, spec, None, allow_small=True, report=SILENT)
    convert_files(model, [Target.FLOAT16], run.path, representative=samples, report=SILENT)
    report = prove(run.model, [], None, limits=Limits(max_drop=5, min_agreement=95, allow_small=True), report=SILENT)
    assert report.n == 20
    assert report.passed, report.as_json()


def test_a_student_says_what_its_teachers_say(student, pair, tmp_path):
    """Taught by labels the other way round, a student of the same recipe learns those: the teacher's word is heard."""
    run, spec, _ = student
    ensemble = open_ensemble(paths(pair))
    alone = RunFolder(tmp_path / "alone")
    distill(ensemble, load_recipe(pair[1].config), alone, how=Distillation(temperature=1.0, hard=1e6), report=SILENT)
    rows = [row for row in load_split(run.split) if row.split == TRAIN]
    answers = ensemble.answers(rows, SILENT)
    crops = prepare_pictures([row.picture for row in rows], spec.shown_as)

    def distance(folder):
        scores = open_keras(folder.model).scores(crops.pixels)
        return np.abs(scores - answers.scores)[crops.found].mean()

    assert distance(run) < distance(alone)


def test_an_interrupted_student_goes_on(student, pair, tmp_path):
    """Stopped after two epochs and begun again, the student ends as one that nothing stopped."""
    whole, spec, _ = student
    ensemble = open_ensemble(paths(pair))
    recipe, run = load_recipe(pair[1].config), RunFolder(tmp_path / "again")
    with pytest.raises(KeyboardInterrupt):
        distill(ensemble, recipe, run, report=Notes(stop_after=2))
    with pytest.raises(OutputExists, match="other"):
        distill(ensemble, recipe, run, how=Distillation(temperature=5.0), report=SILENT)

    again = distill(ensemble, recipe, run, report=SILENT)

    assert again.figures["confusion"] == spec.figures["confusion"]
    one, other = (open_keras(folder.model).net.get_weights() for folder in (whole, run))
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    with pytest.raises(OutputExists, match="holds a finished run"):
        distill(ensemble, recipe, run, report=SILENT)


def test_the_command(bce_here, own_pair, tmp_path):
    """JSON has run, figures of the average and of each run; nothing moves runs/latest."""
    result = bce_here("ensemble", "runs/frames", "runs/crops", "--json")
    assert result.returncode == 0, result.stderr
    values = json.loads(result.stdout)
    assert values["run"] == "runs/ensemble-1"
    assert [one["model"] for one in values["members"]] == ["runs/frames", "runs/crops"]
    assert values["heldback"]["n"] == values["members"][0]["n"] == 20
    assert values["student"] is None
    assert not (tmp_path / "runs" / "latest").exists()


def test_the_command_distills(bce_here, own_pair, tmp_path):
    """--distill trains a student beside the ensemble, which runs/latest points at; the table has a line for each."""
    command = ("ensemble", "runs/frames", "runs/crops", "--name", "both", "--distill")
    options = ("--recipe", "field", "--weights", "none", "--alpha", "0.35", "--size", "32", "--epochs", "1")
    result = bce_here(*command, *options)
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()[1:]]
    assert [line[0] for line in lines] == ["runs/frames", "runs/crops", "average", "runs/both-student"]
    assert {line[1] for line in lines} == {"20"}
    assert (tmp_path / "runs" / "latest").resolve() == tmp_path / "runs" / "both-student"
    again = bce_here(*command, *options)
    assert (again.returncode, again.stdout) == (1, "")
    assert "runs/both-student: holds a finished run; give another --name, or --force" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("runs/frames",), 1, "expected two different runs"),
        (("runs/frames", "runs/none"), 1, "runs/none: expected a finished run"),
        (("runs/frames", "runs/crops", "--recipe", "field"), 2, "give --distill too"),
        (("runs/frames", "runs/crops", "--distill", "--size", "32"), 2, "give --recipe too"),
        ((), 2, "Missing argument"),
    ],
)
def test_the_command_refuses(bce_here, own_pair, arguments, code, said):
    """What cannot be done is one line, with the exit code of its kind."""
    result = bce_here("ensemble", *arguments)
    assert (result.returncode, result.stdout) == (code, "")
    assert said in result.stderr
