"""``bce ensemble``: several runs that answer together, and one student that learns from them.

The probabilities are averaged (Lakshminarayanan, Pritzel and Blundell 2017, Simple and Scalable Predictive Uncertainty
Estimation using Deep Ensembles, NeurIPS). Runs may differ in seed, backbone, size and view, not in their labels, nor in
their split: they are judged on what all of them held back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..dataset.asking import Answers, read_questions
from ..dataset.pictures import Dataset, Picture, count_by_label
from ..dataset.split import (
    HELD_BACK,
    TRAIN,
    VALIDATION,
    Member,
    group_names,
    load_split,
    photographs_by_label,
    save_split,
    take_out,
)
from ..errors import DataError, MissingFile, OutputExists
from ..files import sha256_file, write_csv, write_json
from ..imaging.image import IMAGE_VERSION
from ..model.spec import ModelSpec, load_spec, save_spec
from ..progress import Reporter
from ..runs import RUNS, RunFolder
from ..statistics.metrics import Evaluation
from .distill import HINTON, Distillation, Teacher
from .fit import train
from .kerasmodel import KerasModel, open_keras
from .recipes import Recipe, load_recipe
from .runfolder import is_unfinished, named_run, run_config

if TYPE_CHECKING:
    from numpy.typing import NDArray


_MEMBERS = "ensemble.json"  # which runs, by the hash of their models
_TEACHER = "teacher.json"  # likewise, in the student's folder


@dataclass(frozen=True, eq=False)
class EnsembleAnswers:
    """What each run and their average say to pictures.

    Attributes:
        rows: the pictures.
        average: of the runs that see a cell; one is marked where every run that sees it has it marked.
        by_member: of each run.
    """

    rows: tuple[Member, ...]
    average: Answers
    by_member: tuple[Answers, ...]


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Runs that answer together; see `open_ensemble`.

    Attributes:
        members: the models of the runs.
        labels: that all of them have.
        rows: the split that all of them have, groups as the first run names them.
    """

    members: tuple[KerasModel, ...]
    labels: tuple[str, ...]
    rows: tuple[Member, ...]

    @property
    def held_back(self) -> tuple[Member, ...]:
        """Pictures that no run saw."""
        return tuple(row for row in self.rows if row.split == HELD_BACK)

    @property
    def training(self) -> tuple[Member, ...]:
        """All others."""
        return tuple(row for row in self.rows if row.split != HELD_BACK)

    def answers(self, rows: Sequence[Member], report: Reporter) -> EnsembleAnswers:
        """Ask every run about pictures, each as that run is shown them; pictures that cannot be read are left out.

        Args:
            rows: labelled pictures.
            report: told how far it is.

        Raises:
            NoPictures: none can be read.
        """
        views = [member.spec.shown_as for member in self.members]
        questions = read_questions([row.picture for row in rows], views, report=report)
        for one in questions.unreadable:
            report.say(f"left out: {one.error}")
        by_member = []
        with report.bar("ask") as progress:
            for number, member in enumerate(self.members, 1):
                by_member.append(questions.ask(member))
                progress(number, len(self.members))
        row_of = {id(row.picture): row for row in rows}
        read = tuple(row_of[id(picture)] for picture in questions.pictures)
        return EnsembleAnswers(read, averaged(by_member), tuple(by_member))


def averaged(answers: Sequence[Answers]) -> Answers:
    """The mean of what several models say to the same pictures, of those that see a cell."""
    found: NDArray[np.bool_] = np.stack([one.found for one in answers])
    named = found & ~np.stack([one.marked for one in answers])
    seen: NDArray[np.bool_] = np.asarray(found.any(axis=0), np.bool_)
    seeing = found.sum(axis=0)[:, np.newaxis]
    total = np.stack([np.where(one.found[:, np.newaxis], one.scores, 0) for one in answers]).sum(axis=0)
    scores = np.where(seen[:, np.newaxis], total / np.maximum(seeing, 1), np.nan).astype(np.float32)
    marked = np.asarray(seen & ~named.any(axis=0), np.bool_)
    cut = np.asarray(marked & np.stack([one.cut for one in answers]).any(axis=0), np.bool_)
    return Answers(answers[0].pictures, scores, seen, marked, cut)


def open_ensemble(runs: Sequence[Path]) -> Ensemble:
    """Open several runs of the same split.

    Args:
        runs: run folders.

    Raises:
        DataError: fewer than two, one twice, labels that differ, or splits that do.
        MissingFile: not a finished run.
    """
    folders = [RunFolder(path) for path in runs]
    if len({folder.path.resolve() for folder in folders}) < max(len(folders), 2):
        message = f"expected two different runs or more, found {', '.join(map(str, runs)) or 'none'}"
        raise DataError(message)
    for folder in folders:
        if not folder.model.is_file() or not folder.split.is_file():
            message = f"{folder.path}: expected a finished run, with {folder.model.name} and {folder.split.name}"
            raise MissingFile(message)
    splits = [load_split(folder.split) for folder in folders]
    for folder, split in zip(folders[1:], splits[1:], strict=True):
        _refuse_other_split(folder, split, folders[0], splits[0])
    members = tuple(open_keras(folder.model) for folder in folders)
    labels = members[0].spec.labels
    for member in members[1:]:
        if member.spec.labels != labels:
            message = (
                f"{member.path.parent}: has the labels {', '.join(member.spec.labels)}, but {folders[0].path} "
                f"{', '.join(labels)}; runs that answer together need the same labels in the same order"
            )
            raise DataError(message)
    return Ensemble(members, labels, tuple(splits[0]))


def _refuse_other_split(run: RunFolder, split: Sequence[Member], first: RunFolder, other: Sequence[Member]) -> None:
    """Both must hold the same pictures back, under the same labels; which of the rest validates may differ."""
    ours, theirs = ({(row.sha256, row.picture.label, row.split == HELD_BACK) for row in one} for one in (split, other))
    differing = {sha256 for sha256, *_ in ours ^ theirs}
    if differing:
        message = (
            f"{run.path}: expected the split of {first.path}, found pictures held back, trained on or labelled "
            f"otherwise: {len(differing)}; train both on the same DATA with the same --split-seed"
        )
        raise DataError(message)


@dataclass(frozen=True, eq=False)
class EnsembleFigures:
    """How good an ensemble is on the pictures that its runs held back.

    Attributes:
        answers: to these.
        average: figures of the average.
        by_member: figures of each run on the same pictures.
    """

    answers: EnsembleAnswers
    average: Evaluation
    by_member: tuple[Evaluation, ...]


def evaluate_ensemble(ensemble: Ensemble, report: Reporter) -> EnsembleFigures:
    """Figures of the average and of each run, by photograph.

    Raises:
        NoPictures: no held-back picture can be read.
    """
    answers = ensemble.answers(ensemble.held_back, report)
    by_member = zip(ensemble.members, answers.by_member, strict=True)
    return EnsembleFigures(
        answers,
        answers.average.figures(_bare_spec(ensemble)),
        tuple(said.figures(member.spec) for member, said in by_member),
    )


def _bare_spec(ensemble: Ensemble) -> ModelSpec:
    """Labels and no reject threshold: none is fitted to an average."""
    view = ensemble.members[0].spec.shown_as
    return ModelSpec("ensemble", ensemble.labels, "frame", view.size, "keras", IMAGE_VERSION)


def ensemble_folder(name: str | None, ensemble: Ensemble, *, force: bool = False) -> RunFolder:
    """The named folder; else that of the same runs, else a new number. Nothing is made here.

    Raises:
        DataError: the name is not one of a folder in runs/, or of one of the runs themselves.
        OutputExists: the named folder holds something else, and `force` is not given.
    """
    who, own = _who(ensemble), {member.path.parent.resolve() for member in ensemble.members}

    def is_one_of_them(run: RunFolder) -> bool:
        return bool({run.path.resolve(), student_folder(run).path.resolve()} & own)

    if name is not None:
        run = named_run(name)
        if is_one_of_them(run):
            message = f"--name {name!r}: {run.path} or its student is one of the runs; give another --name"
            raise DataError(message)
        if not force and not _is_free_or_same(run, who):
            message = f"{run.path}: holds something else; give another --name, or --force"
            raise OutputExists(message)
        return run
    number = 1
    while is_one_of_them(run := RunFolder(RUNS / f"ensemble-{number}")) or not _is_free_or_same(run, who):
        number += 1
    return run


def student_folder(run: RunFolder) -> RunFolder:
    """Where the student of an ensemble stands: beside it."""
    return RunFolder(run.path.with_name(f"{run.path.name}-student"))


def _is_free_or_same(run: RunFolder, who: list[dict[str, str]]) -> bool:
    members = run.path / _MEMBERS
    return not run.path.exists() or (members.is_file() and json.loads(members.read_text())["members"] == who)


def _who(ensemble: Ensemble) -> list[dict[str, str]]:
    return [
        {"run": os.path.normpath(member.path.parent), "model_sha256": sha256_file(member.path)}
        for member in ensemble.members
    ]


def save_ensemble(run: RunFolder, ensemble: Ensemble, found: EnsembleFigures) -> dict[str, Any]:
    """Fill a folder like a run's: members, split, every average score, and the figures, which come last.

    Returns:
        What metrics.json holds.
    """
    who = _who(ensemble)
    write_json(run.path / _MEMBERS, {"labels": list(ensemble.labels), "members": who})
    save_split(run.split, ensemble.rows)
    _save_scores(run.path / "scores.csv", ensemble.labels, found.answers)
    pictures = [row.picture for row in found.answers.rows]
    metrics = {
        "heldback": {"model": str(run.path), **found.average.as_json()},
        "members": [
            {"model": one["run"], **evaluation.as_json()} for one, evaluation in zip(who, found.by_member, strict=True)
        ],
        "pictures": {HELD_BACK: count_by_label(pictures)},
        "photographs": {HELD_BACK: photographs_by_label(pictures)},
    }
    write_json(run.metrics, metrics)
    return metrics


def _save_scores(path: Path, labels: Sequence[str], answers: EnsembleAnswers) -> None:
    rows = []
    for row, scores, found in zip(answers.rows, answers.average.scores, answers.average.found, strict=True):
        told = [f"{score:.6f}" for score in scores] if found else [""] * len(labels)
        rows.append([row.picture.file, row.picture.label, row.picture.group, *told])
    write_csv(path, ["file", "label", "group", *labels], rows)


def distill(
    ensemble: Ensemble,
    recipe: Recipe,
    run: RunFolder,
    *,
    how: Distillation = HINTON,
    report: Reporter,
) -> ModelSpec:
    """Train one student on what the ensemble says of the training pictures, and fill a run folder.

    The student holds back what the runs held back, so that its figures stand beside the ensemble's. An interrupted
    student goes on.

    Args:
        ensemble: the teachers.
        recipe: of the student; its name gets "-distilled".
        run: the folder to fill.
        how: temperature and weight.
        report: told how far it is.

    Raises:
        OutputExists: the folder holds a finished run, or one of other teachers, recipe or data.
        DataError: see `train`.
    """
    first = RunFolder(ensemble.members[0].path.parent)
    others: tuple[Picture, ...] = ()
    if first.unknown.is_file():  # pictures of none of the classes are split anew: by the same seed, so alike
        others = tuple(row.picture for row in load_split(first.unknown))
        recipe = replace(recipe, split_seed=load_recipe(first.config).seed_of_split)
    recipe = replace(recipe, name=f"{recipe.name}-distilled")
    rows = _student_split(ensemble, recipe)
    pictures = tuple(row.picture for row in rows)
    root = Path(os.path.commonpath([str(picture.path.resolve().parent) for picture in pictures]))
    dataset = Dataset(root, ensemble.labels, pictures, unknown=others)
    taught = {"members": _who(ensemble), **asdict(how)}
    _begin(run, recipe, dataset, rows, taught)
    report.say(f"asking {len(ensemble.members)} teachers about {len(ensemble.training)} training pictures")
    answers = ensemble.answers([row for row in rows if row.split == TRAIN], report)
    answered = zip(answers.rows, answers.average.scores, answers.average.found, strict=True)
    scores = {row.sha256: one for row, one, seen in answered if seen}
    drawn = any(member.spec.training.get("drawn") for member in ensemble.members)
    train(dataset, recipe, run, drawn=drawn, teacher=Teacher(scores, how), report=report)
    spec = load_spec(run.spec)
    spec = spec.with_(training={**spec.training, "teacher": taught})
    save_spec(run.spec, spec)
    return spec


def _student_split(ensemble: Ensemble, recipe: Recipe) -> list[Member]:
    """Held back as for the ensemble; of the rest a part for early stopping, where the recipe asks for one."""
    training = [replace(row, split=TRAIN, leaky_split="") for row in ensemble.training]
    if recipe.validation:
        labels = [row.picture.label or "" for row in training]
        groups = group_names([row.picture for row in training])
        inner = take_out(labels, groups, recipe.validation, seed=recipe.seed_of_split + 1)
        training = [replace(row, split=VALIDATION) if out else row for row, out in zip(training, inner, strict=True)]
    return [*training, *(replace(row, leaky_split="") for row in ensemble.held_back)]


def _begin(run: RunFolder, recipe: Recipe, dataset: Dataset, rows: Sequence[Member], taught: Mapping[str, Any]) -> None:
    """Write the split down as an interrupted run's, which `train` goes on with; refuse a folder of something else."""
    config, teacher = run_config(recipe, dataset), run.path / _TEACHER
    if run.metrics.is_file() or (run.path / _MEMBERS).is_file():
        message = f"{run.path}: holds a finished run; give another --name, or --force"
        raise OutputExists(message)
    if run.config.is_file():
        same = teacher.is_file() and json.loads(teacher.read_text()) == json.loads(json.dumps(taught))
        if not (same and is_unfinished(run, config)):
            message = f"{run.path}: holds an unfinished run of another recipe, data or teachers; give another --name"
            raise OutputExists(message)
        return
    write_json(teacher, taught)
    save_split(run.split, rows)
    write_json(run.unreadable, [])
    write_json(run.config, config)  # last: it says that the others are there
