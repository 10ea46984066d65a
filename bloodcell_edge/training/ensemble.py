"""``bce ensemble``: several runs that answer together, and one student that learns from them.

The probabilities are averaged (Lakshminarayanan, Pritzel and Blundell 2017, Simple and Scalable Predictive Uncertainty
Estimation using Deep Ensembles, NeurIPS). Runs may differ in seed, backbone, size and view, not in their labels. They
are judged on the pictures that all of them held back: one that any of them saw is left out.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Dataset, Picture, read_with
from ..errors import DataError, MissingFile, OutputExists
from ..evaluation import count_by_label, figures
from ..files import sha256_file, write_json, write_text
from ..image import IMAGE_VERSION
from ..metrics import Evaluation
from ..reporting import Reporter
from ..runs import LATEST, RUNS, RunFolder
from ..seen import all_hashes, from_json
from ..spec import ModelSpec, load_spec, save_spec
from .audit import PhotographIndex
from .dataset import (
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
from .distill import HINTON, Distillation, Teacher
from .fit import train
from .kerasmodel import KerasModel, open_keras
from .recipes import Augmentation, Recipe
from .runfolder import is_unfinished, run_config

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..image import Image
    from ..views import Shown, View

_MEMBERS = "ensemble.json"  # which runs, by the hash of their models
_TEACHER = "teacher.json"  # likewise, in the student's folder


@dataclass(frozen=True, eq=False)
class EnsembleMember:
    """One run of an ensemble.

    Attributes:
        run: its folder.
        model: its Keras model.
        rows: its split.
    """

    run: RunFolder
    model: KerasModel
    rows: tuple[Member, ...]


@dataclass(frozen=True)
class CommonSplit:
    """What the pictures of several runs are to all of them together; groups are joined over the runs.

    Attributes:
        held_back: pictures that every run that had them held back, and no photograph of which any run saw.
        training: pictures whose photograph some run saw.
        trained_on: pictures that one run held back and another saw; they are in `training`.
    """

    held_back: tuple[Member, ...]
    training: tuple[Member, ...]
    trained_on: int


@dataclass(frozen=True, eq=False)
class EnsembleAnswers:
    """What each run and their average say to pictures.

    Attributes:
        rows: the pictures.
        scores: average of the runs that see a cell, float32, shape (n, labels); 0 where none does.
        by_member: float32, shape (members, n, labels); 0 where that run sees no cell.
        found: bool, shape (members, n): which run sees a cell.
        marked: bool, shape (members, n): cells that are not named whatever the scores.
    """

    rows: tuple[Member, ...]
    scores: NDArray[np.float32]
    by_member: NDArray[np.float32]
    found: NDArray[np.bool_]
    marked: NDArray[np.bool_]

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Where any run sees a cell, shape (n,)."""
        return np.asarray(self.found.any(axis=0), np.bool_)

    @property
    def not_named(self) -> NDArray[np.bool_]:
        """Where every run that sees a cell has it marked, shape (n,)."""
        return self.seen & ~np.asarray((self.found & ~self.marked).any(axis=0), np.bool_)


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Runs that answer together; see `open_ensemble`.

    Attributes:
        members: the runs.
        labels: that all of them have.
    """

    members: tuple[EnsembleMember, ...]
    labels: tuple[str, ...]

    def answers(self, rows: Sequence[Member], report: Reporter) -> EnsembleAnswers:
        """Ask every run about pictures, each as that run is shown them; pictures that cannot be read are left out.

        Args:
            rows: labelled pictures.
            report: told how far it is.

        Raises:
            NoPictures: none can be read.
        """
        views = list(dict.fromkeys(member.model.spec.shown_as for member in self.members))
        with report.bar("read") as progress:
            done, bad = read_with(
                [row.picture for row in rows], lambda one, image: _shown(one, image, views), progress=progress
            )
        for one in bad:
            report.say(f"left out: {one.error}")
        row_of = {id(row.picture): row for row in rows}
        read = tuple(row_of[id(picture)] for picture, _ in done)
        each = []
        with report.bar("ask") as progress:
            for number, member in enumerate(self.members, 1):
                each.append(_asked(member.model, [shown[member.model.spec.shown_as] for _, shown in done]))
                progress(number, len(self.members))
        by_member, found, marked = (np.stack(column) for column in zip(*each, strict=True))
        seeing = np.maximum(found.sum(axis=0), 1)[:, np.newaxis]
        average = (by_member.sum(axis=0) / seeing).astype(np.float32)
        return EnsembleAnswers(read, average, by_member, found, marked)


def _shown(picture: Picture, image: Image, views: Sequence[View]) -> dict[View, Shown | None]:
    return {view: view.show_labelled(image, picture.um_per_px) for view in views}


def _asked(
    model: KerasModel, shown: Sequence[Shown | None]
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Scores, whether there is a cell, whether it is marked."""
    found = np.array([one is not None for one in shown], np.bool_)
    scores = np.zeros((len(shown), len(model.spec.labels)), np.float32)
    if found.any():
        scores[found] = model.scores(np.stack([one.pixels for one in shown if one is not None]))
    return scores, found, np.array([one is not None and bool(one.mark) for one in shown], np.bool_)


def open_ensemble(runs: Sequence[Path]) -> Ensemble:
    """Open the models and splits of several runs.

    Args:
        runs: run folders.

    Raises:
        DataError: fewer than two, one twice, or labels that differ.
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
    members = tuple(EnsembleMember(run, open_keras(run.model), tuple(load_split(run.split))) for run in folders)
    labels = members[0].model.spec.labels
    for member in members[1:]:
        if member.model.spec.labels != labels:
            message = (
                f"{member.run.path}: has the labels {', '.join(member.model.spec.labels)}, but {folders[0].path} "
                f"{', '.join(labels)}; runs that answer together need the same labels in the same order"
            )
            raise DataError(message)
    return Ensemble(members, labels)


def common_split(ensemble: Ensemble, report: Reporter) -> CommonSplit:
    """Which pictures no run saw, by the splits of all and by the hashes of what each was trained on.

    Photographs are joined over the runs: what one run calls one photograph stays together. A picture that is in no
    split of some run is looked for among what that run saw, and left out altogether where it, or a copy, is there.

    Raises:
        DataError: the runs disagree on a label, or hold no picture of some class back together.
    """
    pictures, seen = _joined(ensemble.members)
    held_by_some = {row.sha256 for member in ensemble.members for row in member.rows if row.split == HELD_BACK}
    training = tuple(row for row in pictures if seen[row.picture.group or ""])
    trained_on = sum(row.sha256 in held_by_some for row in training)
    if trained_on:
        report.say(f"not judged on: {trained_on} pictures that one run held back and another saw")
    unseen = [row for row in pictures if not seen[row.picture.group or ""]]
    copies = _copies(ensemble.members, unseen, report)
    if copies:
        report.say(f"left out: {len(copies)} pictures that some run saw a copy of")
    held_back = tuple(row for row in unseen if row.sha256 not in copies)
    counts = {label: sum(row.picture.label == label for row in held_back) for label in ensemble.labels}
    empty = [label for label, count in counts.items() if not count]
    if empty:
        message = (
            f"these runs hold back no picture of {', '.join(empty)} in common ({len(held_back)} pictures of other "
            "classes); train them on the same split: the same DATA, --group-by and --seed"
        )
        raise DataError(message)
    return CommonSplit(held_back, training, trained_on)


def _joined(members: Sequence[EnsembleMember]) -> tuple[list[Member], dict[str, bool]]:
    """Every picture once, with its group over all runs; and which of these groups some run saw."""
    parent: dict[Any, Any] = {}

    def root(node: Any) -> Any:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    first: dict[str, Member] = {}
    for number, member in enumerate(members):
        for row, group in zip(member.rows, group_names([row.picture for row in member.rows]), strict=True):
            parent[root((number, group))] = root(row.sha256)
            if first.setdefault(row.sha256, row).picture.label != row.picture.label:
                message = (
                    f"{row.picture.file} is {row.picture.label} in {member.run.path}, but "
                    f"{first[row.sha256].picture.label} in another run; train both on the same labels"
                )
                raise DataError(message)
    names: dict[Any, str] = {}
    for sha256, row in first.items():
        names.setdefault(root(sha256), row.picture.group or row.picture.file)
    if len(set(names.values())) < len(names):  # two runs give one name to different photographs
        names = {node: f"{name} {number}" for number, (node, name) in enumerate(names.items())}
    seen: dict[str, bool] = defaultdict(bool)
    for member in members:
        for row in member.rows:
            seen[names[root(row.sha256)]] |= row.split != HELD_BACK
    joined = [replace(row, picture=replace(row.picture, group=names[root(sha256)])) for sha256, row in first.items()]
    return joined, seen


def _copies(members: Sequence[EnsembleMember], rows: Sequence[Member], report: Reporter) -> set[str]:
    """SHA-256 of the pictures that are in no split of some run, but that it was trained on, or on a copy."""
    tests = {}
    for number, member in enumerate(members):
        own = {row.sha256 for row in member.rows}
        strangers = {row.sha256 for row in rows} - own
        if strangers:
            tests[number] = strangers, _seen_test(member)
    asked = [row for row in rows if any(row.sha256 in strangers for strangers, _ in tests.values())]
    if not asked:
        return set()
    names = {id(row.picture): row.sha256 for row in asked}

    def is_copy(picture: Picture, image: Image) -> bool:
        sha256 = names[id(picture)]
        return any(sha256 in strangers and saw(sha256, image) for strangers, saw in tests.values())

    with report.bar("look for copies") as progress:
        done, _ = read_with([row.picture for row in asked], is_copy, progress=progress)
    return {names[id(picture)] for picture, copy in done if copy}


def _seen_test(member: EnsembleMember) -> Callable[[str, Image], bool]:
    """Whether a run was trained on a picture, by its hashes, and by local features where the run kept them."""
    known, one_at_a_time = from_json(member.model.spec.seen), Lock()
    index = PhotographIndex.load(member.run.index) if member.run.index.is_file() else None

    def saw(sha256: str, image: Image) -> bool:
        if known.holds(sha256, all_hashes(image)):
            return True
        with one_at_a_time:  # pictures are read on several threads, the index is for one
            return index is not None and index.find(image) is not None

    return saw


@dataclass(frozen=True, eq=False)
class EnsembleFigures:
    """How good an ensemble is on the pictures that all its runs held back.

    Attributes:
        split: which pictures.
        answers: to the held-back ones.
        average: figures of the average.
        by_member: figures of each run on the same pictures.
    """

    split: CommonSplit
    answers: EnsembleAnswers
    average: Evaluation
    by_member: tuple[Evaluation, ...]


def evaluate_ensemble(ensemble: Ensemble, report: Reporter) -> EnsembleFigures:
    """Figures of the average and of each run, by photograph.

    Raises:
        DataError: see `common_split`.
    """
    split = common_split(ensemble, report)
    answers = ensemble.answers(split.held_back, report)
    pictures = [row.picture for row in answers.rows]
    bare = _bare_spec(ensemble)
    average = figures(pictures, answers.scores, bare, no_cell=~answers.seen, marked=answers.not_named)
    each = zip(ensemble.members, answers.by_member, answers.found, answers.marked, strict=True)
    by_member = tuple(
        figures(pictures, scores, member.model.spec, no_cell=~there, marked=not_named)
        for member, scores, there, not_named in each
    )
    return EnsembleFigures(split, answers, average, by_member)


def _bare_spec(ensemble: Ensemble) -> ModelSpec:
    """Labels and no reject threshold: none is fitted to an average."""
    view = ensemble.members[0].model.spec.shown_as
    return ModelSpec("ensemble", ensemble.labels, "frame", view.size, "keras", IMAGE_VERSION)


def ensemble_folder(name: str | None, ensemble: Ensemble, *, force: bool = False) -> RunFolder:
    """The named folder; else that of the same runs, else a new number. Nothing is made here.

    Raises:
        DataError: the name is not one of a folder in runs/.
        OutputExists: the named folder holds something else, and `force` is not given.
    """
    who = _who(ensemble)
    if name is not None:
        if name in ("", ".", "..", LATEST.name) or "/" in name:
            message = f"--name {name!r}: expected the name of a folder to be made in {RUNS}/, without a slash"
            raise DataError(message)
        run = RunFolder(RUNS / name)
        if not force and not _is_free_or_same(run, who):
            message = f"{run.path}: holds something else; give another --name, or --force"
            raise OutputExists(message)
        return run
    number = 1
    while not _is_free_or_same(run := RunFolder(RUNS / f"ensemble-{number}"), who):
        number += 1
    return run


def _is_free_or_same(run: RunFolder, who: list[dict[str, str]]) -> bool:
    members = run.path / _MEMBERS
    return not run.path.exists() or (members.is_file() and json.loads(members.read_text())["members"] == who)


def _who(ensemble: Ensemble) -> list[dict[str, str]]:
    return [
        {"run": os.path.normpath(member.run.path), "model_sha256": sha256_file(member.run.model)}
        for member in ensemble.members
    ]


def save_ensemble(run: RunFolder, ensemble: Ensemble, found: EnsembleFigures) -> dict[str, Any]:
    """Fill a folder like a run's: members, split, every average score, and the figures, which come last.

    Returns:
        What metrics.json holds.
    """
    who = _who(ensemble)
    rows = (*found.split.held_back, *(replace(row, split=TRAIN) for row in found.split.training))
    write_json(run.path / _MEMBERS, {"labels": list(ensemble.labels), "members": who})
    save_split(run.split, rows)
    _save_scores(run.path / "scores.csv", ensemble.labels, found.answers)
    pictures = [row.picture for row in found.answers.rows]
    metrics = {
        "heldback": {"model": str(run.path), **found.average.as_json()},
        "members": [
            {"model": one["run"], **evaluation.as_json()} for one, evaluation in zip(who, found.by_member, strict=True)
        ],
        "pictures": {HELD_BACK: count_by_label(pictures)},
        "photographs": {HELD_BACK: photographs_by_label(pictures)},
        "trained_on_by_some": found.split.trained_on,
    }
    write_json(run.metrics, metrics)
    return metrics


def _save_scores(path: Path, labels: Sequence[str], answers: EnsembleAnswers) -> None:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["file", "label", "group", *labels])
    for row, scores, found in zip(answers.rows, answers.scores, answers.seen, strict=True):
        told = [f"{score:.6f}" for score in scores] if found else [""] * len(labels)
        writer.writerow([row.picture.file, row.picture.label, row.picture.group, *told])
    write_text(path, stream.getvalue())


def recipe_of(run: RunFolder) -> Recipe:
    """The recipe that a run was trained by; what it does not say is as usual.

    Raises:
        MissingFile: the run does not say.
        DataError: it cannot be understood.
    """
    try:
        values = json.loads(run.config.read_text(encoding="utf-8"))["recipe"]
        augmentation = values.get("augmentation")
        known = {**values, "augmentation": augmentation and Augmentation(**_known(Augmentation, augmentation))}
        return Recipe(**_known(Recipe, known))
    except FileNotFoundError as error:
        message = f"{run.config}: no such file; give --recipe"
        raise MissingFile(message) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{run.config}: not a recipe that this bce understands ({error}); give --recipe"
        raise DataError(message) from error


def _known(kind: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {item.name: values[item.name] for item in fields(kind) if item.name in values}


def distill(
    ensemble: Ensemble,
    split: CommonSplit,
    recipe: Recipe,
    run: RunFolder,
    *,
    how: Distillation = HINTON,
    report: Reporter,
) -> ModelSpec:
    """Train one student on what the ensemble says of the training pictures, and fill a run folder.

    The student holds back what all the runs held back, so that its figures stand beside the ensemble's. An interrupted
    student goes on.

    Args:
        ensemble: the teachers.
        split: of `common_split`.
        recipe: of the student; its name gets "-distilled".
        run: the folder to fill.
        how: temperature and weight.
        report: told how far it is.

    Raises:
        OutputExists: the folder holds a finished run, or one of other teachers, recipe or data.
        DataError: see `train`.
    """
    recipe = replace(recipe, name=f"{recipe.name}-distilled")
    rows = _student_split(split, recipe)
    pictures = tuple(row.picture for row in rows)
    root = Path(os.path.commonpath([str(picture.path.resolve().parent) for picture in pictures]))
    dataset = Dataset(root, ensemble.labels, pictures)
    taught = {"members": _who(ensemble), **asdict(how)}
    _begin(run, recipe, dataset, rows, taught)
    report.say(f"asking {len(ensemble.members)} teachers about {len(split.training)} training pictures")
    answers = ensemble.answers([row for row in rows if row.split == TRAIN], report)
    answered = zip(answers.rows, answers.scores, answers.seen, strict=True)
    scores = {row.sha256: one for row, one, seen in answered if seen}
    drawn = any(member.model.spec.training.get("drawn") for member in ensemble.members)
    train(dataset, recipe, run, drawn=drawn, teacher=Teacher(scores, how), report=report)
    spec = load_spec(run.spec)
    spec = spec.with_(training={**spec.training, "teacher": taught})
    save_spec(run.spec, spec)
    return spec


def _student_split(split: CommonSplit, recipe: Recipe) -> list[Member]:
    """Held back as for the ensemble; of the rest a part for early stopping, where the recipe asks for one."""
    training = [replace(row, split=TRAIN, leaky_split="") for row in split.training]
    if recipe.validation:
        labels = [row.picture.label or "" for row in training]
        groups = group_names([row.picture for row in training])
        inner = take_out(labels, groups, recipe.validation, seed=recipe.seed + 1)
        training = [replace(row, split=VALIDATION) if out else row for row, out in zip(training, inner, strict=True)]
    return [*training, *(replace(row, leaky_split="") for row in split.held_back)]


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
    write_json(run.path / "unreadable.json", [])
    write_json(run.config, config)  # last: it says that the others are there
