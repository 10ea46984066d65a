"""``bce search``: which architecture and which rates give the best accuracy for their latency and size.

`space` says what there is to choose, `rungs` how good a choice is, `ladder` who goes on; here a
process works until nothing is left, and writes down what was found. However it ends, the next one goes on: trainings
from their last epoch.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...dataset.audit import with_photographs
from ...dataset.photograph import picture_features
from ...dataset.pictures import Dataset
from ...dataset.reading import read_opened
from ...dataset.split import Member, load_split, save_split
from ...errors import BceError, DataError, OutputExists
from ...files import read_json, sha256_file, write_json, write_text
from ...progress import Progress, Reporter
from ...text import percent
from ..fit import weights_name
from ..frameworks import keras
from ..recipes import save_recipe
from ..runfolder import run_config
from .found import Found, as_csv, rows_of
from .ladder import TRIALS, Job, Ladder, Measure, locked, storage_errors
from .plot import plot_search
from .rungs import RUNGS, Judge, Judged, make_folds
from .space import Space, recipe_of

if TYPE_CHECKING:
    from ..recipes import Recipe

SEARCHES = Path("searches")

_MOST_FAILED = 3  # in a row: then it is not the candidates
_PATIENCE_S = 1.0  # between two looks whether other processes have made work


class _TimeIsUp(Exception):
    """The minutes are over; raised where an epoch would begin."""


def search(
    paths: Sequence[Path],
    dataset: Dataset,
    recipe: Recipe,
    space: Space,
    folder: Path,
    *,
    measure: Measure,
    minutes: float | None = None,
    trials: int | None = None,
    report: Reporter,
) -> Found:
    """Begin a study, or go on with the one in the folder, until it is done or the time is up.

    Args:
        paths: DATA; with several of them each is left out in turn.
        dataset: all of them together, as `layouts.load_all` gives it.
        recipe: what the candidates are variants of; its seed is the study's.
        space: what they may differ in.
        folder: of the study.
        measure: what an architecture costs.
        minutes: no epoch and no candidate begins later; None: no limit.
        trials: candidates of rung 1 in all, of which the best go on; None: `TRIALS`, and as many again, and so on
            until the minutes are over, or once where there is no limit.
        report: told how far it is.

    Raises:
        DataError: a DATA given twice, classes or photographs too few to leave some out, or pictures that changed since
            the study began.
        OutputExists: the folder holds a study of something else.
        StoreError: its SQLite file cannot be read or written.
    """
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    _refuse_twice(paths)
    rows = _begin(paths, dataset, recipe, space, folder, report)
    first = paths[0].as_posix()
    folds = make_folds(rows, dataset.labels, first=first, noted=bool(recipe.noted), seed=recipe.seed)
    judge = Judge(rows, dataset.labels, folds, folder=folder, seed=recipe.seed)
    per_bracket, brackets = trials or TRIALS, 1 if trials or minutes is None else None
    with storage_errors(folder), Ladder(folder, space, recipe) as ladder:
        worker = _Worker(ladder, judge, recipe, len(dataset.labels), measure, _Watched(report, deadline))
        try:
            finished = worker.work(per_bracket, brackets)
        except KeyboardInterrupt:
            _write_down(ladder, recipe, folder, finished=False)
            report.say(f"stopped; the same command goes on, from the last epoch, with what is in {folder}")
            raise
        return _write_down(ladder, recipe, folder, finished=finished)


def _refuse_twice(paths: Sequence[Path]) -> None:
    twice = [path.as_posix() for path, count in Counter(path.resolve() for path in paths).items() if count > 1]
    if twice:
        message = f"{twice[0]}: given twice, so that it would judge what was trained on it; name each DATA once"
        raise DataError(message)


def _begin(
    paths: Sequence[Path], dataset: Dataset, recipe: Recipe, space: Space, folder: Path, report: Reporter
) -> list[Member]:
    """The pictures of the study with group and source: found once, then read from its folder."""
    config = {
        **run_config(recipe, dataset),
        "sources": [path.resolve().as_posix() for path in paths],
        "weights": weights_name(recipe.weights),
        "space": space.as_json(),
    }
    config_file, listed = folder / "config.json", folder / "pictures.csv"
    with locked(folder / "begin.lock"):
        if config_file.is_file():
            _refuse_another(config_file, config)
            rows = load_split(listed)
            changed = [row.picture.file for row in rows if not _is_as_it_was(row)]
            if changed:
                message = f"{folder}: {len(changed)} pictures are gone or have changed (the first: {changed[0]})"
                raise DataError(message)
            report.say(f"{folder}: going on with {len(rows)} pictures")
            return rows
        rows = _listed(dataset, report)
        save_split(listed, rows)
        write_json(config_file, config)
    return rows


def _refuse_another(path: Path, config: Mapping[str, Any]) -> None:
    """Raise where a folder was begun with something else, naming what differs."""
    broken = "expected what a search began with, found no JSON object ({error}); give --force to begin again"
    begun = read_json(path, broken=broken)
    if not isinstance(begun, dict):
        message = f"{path}: {broken.format(error=type(begun).__name__)}"
        raise DataError(message)
    wanted = json.loads(json.dumps(config))
    other = [key for key in wanted if begun.get(key) != wanted[key]]
    if other:
        message = (
            f"{path.parent}: holds a search begun with something else ({', '.join(other)}); give another --name, or "
            "--force to begin again"
        )
        raise OutputExists(message)


def _is_as_it_was(row: Member) -> bool:
    return row.picture.path.is_file() and sha256_file(row.picture.path) == row.sha256


def _listed(dataset: Dataset, report: Reporter) -> list[Member]:
    """Every readable picture with its photograph; which side it is on is another question in every fold."""
    with report.bar("read") as progress:
        known = all(picture.group for picture in dataset.pictures)
        done, bad = read_opened(
            dataset.pictures,
            lambda opened: (opened.sha256, None if known else picture_features(opened.image)),
            progress=progress,
        )
    for one in (*dataset.unreadable, *bad):
        report.say(f"left out: {one.error}")
    features = [one for _, (_, one) in done if one is not None]
    pictures = with_photographs([picture for picture, _ in done], report, features)
    return [Member(picture, "", "", sha256) for picture, (_, (sha256, _)) in zip(pictures, done, strict=True)]


@dataclass
class _Watched:
    """A reporter that raises where an epoch would begin after the time is up: everything before it is saved."""

    report: Reporter
    deadline: float | None

    def say(self, text: str) -> None:
        self.report.say(text)

    def log_to(self, path: Path) -> None:
        self.report.log_to(path)

    def bar(self, title: str) -> AbstractContextManager[Progress]:
        self.check()
        return self.report.bar(title)

    def check(self) -> None:
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise _TimeIsUp


@dataclass
class _Worker:
    """Judges one candidate after the other."""

    ladder: Ladder
    judge: Judge
    recipe: Recipe
    labels: int
    measure: Measure
    report: _Watched

    def work(self, per_bracket: int, brackets: int | None) -> bool:
        """Work until nothing is left (True) or the time is up (False)."""
        failures = 0
        while True:
            try:
                self.report.check()
                job, others = self.ladder.claim(per_bracket, brackets)
                if job is None and others:  # what they find may let others go on
                    time.sleep(_PATIENCE_S)
                    continue
                if job is None:
                    return True
                with job.lock:  # free for others however it ends
                    judged = self._do(job)
                failures = 0 if judged else failures + 1
            except _TimeIsUp:
                return False
            if failures == _MOST_FAILED:
                message = f"{failures} candidates in a row could not be judged; the log says why"
                raise BceError(message)

    def _do(self, job: Job) -> bool:
        """Judge a candidate; False where that is not possible."""
        start = time.monotonic()
        recipe = recipe_of(self.recipe, job.chosen)
        title = f"rung {job.rung.number}, candidate {job.candidate}"
        try:
            latency, size, cpu = self.ladder.cost(recipe, self.labels, self.measure, self.report)
            found = self.judge.judge(recipe, job.rung, job.candidate, self.report)
        except (_TimeIsUp, KeyboardInterrupt):
            self.ladder.let_go(job)
            raise
        except BceError as error:
            self.ladder.tell(job, None, why=str(error))
            self.report.say(f"{title}: left out: {error}")
            return False
        notes = {"by_fold": found.by_fold, "n": found.n, "cpu": cpu, "seconds": round(time.monotonic() - start, 1)}
        self.ladder.tell(job, (found.balanced_accuracy, latency, size), **notes)
        self.report.say(f"{title}: {_figures(found)}, {latency:.2f} ms, {size / 1e6:.2f} MB; {notes['seconds']:.0f} s")
        for path in self.judge.run_folders(job.rung, job.candidate):
            shutil.rmtree(path, ignore_errors=True)
        keras.backend.clear_session()
        return True


def _figures(found: Judged) -> str:
    each = ", ".join(f"{name} {100 * share:.1f}" for name, share in found.by_fold.items())
    return f"balanced accuracy {percent(found.balanced_accuracy)} (left out: {each}; n = {found.n})"


def _write_down(ladder: Ladder, recipe: Recipe, folder: Path, *, finished: bool) -> Found:
    """trials.csv, front.csv, front.png, and a recipe for every candidate on the front."""
    rows = tuple(row for rung in RUNGS for row in rows_of(rung.number, ladder.done(rung.number)))
    failed = sum(len(ladder.failed(rung.number)) for rung in RUNGS)
    found = Found(folder, rows, failed, None, finished)
    write_text(folder / "trials.csv", as_csv(rows))
    write_text(folder / "front.csv", as_csv(found.front()))
    for row in found.front():
        save_recipe(folder / "recipes" / f"candidate-{row.candidate}.json", recipe_of(recipe, row.chosen))
    if not rows:
        return found
    best = folder / "best.json"
    save_recipe(best, recipe_of(recipe, found.front()[0].chosen))
    plot_search(rows, folder / "front.png")
    return replace(found, best=best)


def new_folder(name: str, *, force: bool) -> Path:
    """Where a study of a name stands; with `force` what is there is removed.

    Raises:
        DataError: the name is not one of a folder.
    """
    if name in ("", ".", "..") or "/" in name:
        message = f"--name {name!r}: expected the name of a folder to be made in {SEARCHES}/, without a slash"
        raise DataError(message)
    folder = SEARCHES / name
    if force:
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
    return folder
