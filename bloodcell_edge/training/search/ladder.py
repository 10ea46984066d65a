"""Who judges which candidate next: the ladder of `bce search`, kept in one SQLite file.

Optuna proposes and remembers; it does not prune studies with several objectives, so the halving is our own. The ladder
has three rungs, each a study of its own, since accuracies of different rungs do not compare. Of every so many
candidates of rung 1 a third goes on to rung 2, of these a third to rung 3 (successive halving with eta 3: Jamieson and
Talwalkar 2016, AISTATS; Li et al. 2018, JMLR 18:185). The best are those of the first non-dominated fronts (Deb et al.
2002, NSGA-II), within a front the more accurate.

What comes next is read from the file alone, under a lock, so that several processes share the work. Who judges a
candidate holds a lock on a file of its own; the system frees it however the process ends, and the next one that looks
takes the candidate up again.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ... import machine
from ...errors import RuntimeMissing, StoreError
from ...progress import Reporter
from .rungs import RUNGS, Rung
from .space import Space, architecture, own_values, suggest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..recipes import Recipe

try:
    import optuna
    from sqlalchemy.exc import SQLAlchemyError
except ImportError as _error:
    _message = f'optuna cannot be imported ({_error}); bce search needs it: pip install "bloodcell-edge[train]"'
    raise RuntimeMissing(_message) from _error

STORAGE = "study.sqlite"
"""The file in a search's folder that holds all trials."""

TRIALS = 30
"""Candidates of rung 1 before the best of them go on: about an hour on two cores, with 10 on rung 2 and 3 on rung 3."""

ETA = 3
"""One of so many goes on to the next rung."""

_MOST_BEGUN = 3  # a trial that took its process down so often is given up
_LOCK_WAIT_S = 60  # for SQLite, when other processes write
_STATES = optuna.trial.TrialState

Measure = Callable[["Recipe", int], tuple[float, int]]
"""(recipe, number of labels) -> (ms of one int8 invoke, bytes of the int8 file); weights do not matter."""


def ranked(values: NDArray[np.float64]) -> tuple[list[int], NDArray[np.int64]]:
    """Best first: by front, within a front by the first objective.

    Args:
        values: shape (n, 3): balanced accuracy, to be high; latency and bytes, to be low.

    Returns:
        Positions in that order; the front of each position, 0 for what nothing dominates.
    """
    losses = values * (-1.0, 1.0, 1.0)
    no_worse = np.array((losses[:, None] <= losses[None]).all(axis=2))
    dominates: NDArray[np.bool_] = no_worse & ~no_worse.T
    front, left = np.full(len(values), -1, np.int64), np.ones(len(values), np.bool_)
    number = 0
    while left.any():
        free = left & ~dominates[left].any(axis=0)
        front[free], left = number, left & ~free
        number += 1
    return sorted(range(len(values)), key=lambda place: (front[place], losses[place, 0], place)), front


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that the system frees when the process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turn what goes wrong with the SQLite file into one line: damaged, read-only, in use, no room on the disk.

    Raises:
        StoreError: in place of SQLAlchemy's and Optuna's own errors.
    """
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        raise _not_a_storage(folder, error) from error


def _not_a_storage(folder: Path, error: Exception) -> StoreError:
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) and error.__cause__ else error
    why = next(iter(str(cause).splitlines()), type(cause).__name__)
    message = (
        f"{folder / STORAGE}: expected the writable SQLite file of a search, found otherwise ({why}); put a copy of it "
        "back, give another --name, or --force to begin again"
    )
    return StoreError(message)


@dataclass(frozen=True)
class Job:
    """A candidate to be judged, held by the lock on its file."""

    rung: Rung
    trial: Any
    candidate: int
    chosen: dict[str, Any]
    lock: IO[bytes]


class Ladder:
    """The studies of all rungs in one file, and who works on what."""

    def __init__(self, folder: Path, space: Space, recipe: Recipe) -> None:
        self._folder, self._space, self._recipe = folder, space, recipe

    def __enter__(self) -> Ladder:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        url, wait = f"sqlite:///{(self._folder / STORAGE).resolve()}", {"timeout": _LOCK_WAIT_S}
        with self._deciding():
            try:
                self._storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": wait})
            except RuntimeError as error:  # only here: of another version of Optuna
                raise _not_a_storage(self._folder, error) from error
            self.studies = {
                rung.number: optuna.create_study(
                    storage=self._storage,
                    study_name=f"rung {rung.number}",
                    directions=["maximize", "minimize", "minimize"],
                    load_if_exists=True,
                )
                for rung in RUNGS
            }
            if not self.trials(1):  # the recipe itself is the first candidate: what the others are compared with
                self.studies[1].enqueue_trial(own_values(self._recipe, self._space), user_attrs={"candidate": 0})
        return self

    def __exit__(self, *_: object) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def _deciding(self) -> AbstractContextManager[None]:
        return locked(self._folder / "study.lock")

    def trials(self, rung: int, *states: Any) -> list[Any]:
        """Trials of a rung in these states, or all, in order."""
        return list(self.studies[rung].get_trials(deepcopy=False, states=states or None))

    def done(self, rung: int) -> list[Any]:
        """Trials of a rung that were judged."""
        return self.trials(rung, _STATES.COMPLETE)

    def claim(self, per_bracket: int, brackets: int | None) -> tuple[Job | None, bool]:
        """The next candidate to judge, the highest rung first, if any; and whether other processes judge some.

        Args:
            per_bracket: candidates of rung 1 of which the best go on together.
            brackets: how often; None for ever.
        """
        with self._deciding():
            job = self._next(per_bracket, brackets)
            return job, any(self.trials(rung.number, _STATES.RUNNING) for rung in RUNGS)

    def _next(self, per_bracket: int, brackets: int | None) -> Job | None:
        for rung in reversed(RUNGS):
            self._take_back(rung)
            if rung.number > 1 and not self._waiting(rung):
                self._promote(rung.number, per_bracket)
            enough = brackets is not None and len(self._candidates(1)) >= per_bracket * brackets
            if self._waiting(rung) or (rung.number == 1 and not enough):
                return self._ask(rung)
        return None

    def _waiting(self, rung: Rung) -> list[Any]:
        return self.trials(rung.number, _STATES.WAITING)

    def _ask(self, rung: Rung) -> Job:
        study, waiting = self.studies[rung.number], self._waiting(rung)
        candidate = candidate_of(waiting[0]) if waiting else max(self._candidates(1), default=-1) + 1
        seed = np.random.SeedSequence((self._recipe.seed, rung.number, candidate))
        # a sampler of its own for each trial, so that a study that goes on proposes what it would have proposed
        study.sampler = optuna.samplers.TPESampler(seed=int(seed.generate_state(1)[0]))
        trial = study.ask()  # what waits longest, else a new one
        trial.set_user_attr("candidate", candidate)
        lock = self._claim_file(rung.number, trial.number).open("ab")
        fcntl.flock(lock, fcntl.LOCK_EX)
        chosen = suggest(trial, self._space, rung.number)
        return Job(rung, trial, candidate, chosen, lock)

    def _claim_file(self, rung: int, number: int) -> Path:
        path = self._folder / "claims" / f"{rung}-{number}.lock"
        path.parent.mkdir(exist_ok=True)
        return path

    def _take_back(self, rung: Rung) -> None:
        """Put trials into the queue again whose process is gone."""
        for trial in self.trials(rung.number, _STATES.RUNNING):
            path = self._claim_file(rung.number, trial.number)
            with path.open("ab") as stream:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                begun = trial.user_attrs.get("begun", 0) + (not trial.user_attrs.get("let go", False))
                again = {"candidate": candidate_of(trial), "begun": begun}
                waits = again["candidate"] in map(
                    candidate_of, self._waiting(rung)
                )  # killed between the two steps below
                if begun < _MOST_BEGUN and not waits:
                    self.studies[rung.number].enqueue_trial(trial.params, user_attrs=again)
                self.studies[rung.number].tell(trial.number, state=_STATES.FAIL)
                path.unlink(missing_ok=True)

    def let_go(self, job: Job) -> None:
        """Leave a trial to the next process, without blaming it."""
        with job.lock:
            job.trial.set_user_attr("let go", True)

    def tell(self, job: Job, values: tuple[float, float, int] | None, **notes: Any) -> None:
        """Write a result down; None where the candidate could not be judged."""
        for name, value in notes.items():
            job.trial.set_user_attr(name, value)
        study = self.studies[job.rung.number]
        if values is None:
            study.tell(job.trial, state=_STATES.FAIL)
        else:
            study.tell(job.trial, [float(value) for value in values])
        self._claim_file(job.rung.number, job.trial.number).unlink(missing_ok=True)
        job.lock.close()

    def _candidates(self, rung: int) -> set[int]:
        """Candidates that ever stood on a rung."""
        return {candidate_of(trial) for trial in self.trials(rung)}

    def failed(self, rung: int) -> set[int]:
        """Candidates of a rung that were given up."""
        others = (_STATES.COMPLETE, _STATES.RUNNING, _STATES.WAITING)
        return self._candidates(rung) - {candidate_of(trial) for trial in self.trials(rung, *others)}

    def _promote(self, rung: int, per_bracket: int) -> None:
        """Let the best of the rung below that has not gone on yet go on, where a bracket is full and has room."""
        below = self.done(rung - 1)
        full = (len(below) + len(self.failed(rung - 1))) // share(per_bracket, rung - 1)
        gone = self._candidates(rung)
        if len(gone) >= full * share(per_bracket, rung):
            return
        order, _ = ranked(np.array([trial.values for trial in below]).reshape(-1, 3))
        best = next((below[place] for place in order if candidate_of(below[place]) not in gone), None)
        if best is not None:
            self.studies[rung].enqueue_trial(best.params, user_attrs={"candidate": candidate_of(best)})

    def cost(self, recipe: Recipe, labels: int, measure: Measure, report: Reporter) -> tuple[float, int, str]:
        """What an architecture costs on this kind of machine: ms, bytes, the machine; measured once for all trials."""
        cpu = str(machine.describe()["cpu"])
        study, key = self.studies[1], f"cost {json.dumps([*architecture(recipe).values(), labels, cpu])}"
        with locked(self._folder / "cost.lock"):  # two clocks at once would disturb each other
            known = study.user_attrs.get(key)
            if known is None:
                known = [float(value) for value in measure(recipe, labels)]
                study.set_user_attr(key, known)
                what = f"{recipe.backbone} {recipe.alpha:g}, {recipe.size} px, {recipe.pooling}, hidden {recipe.hidden}"
                report.say(f"{what}: int8 {known[0]:.2f} ms, {known[1] / 1e6:.2f} MB")
        return known[0], int(known[1]), cpu


def candidate_of(trial: Any) -> int:
    """The number that a candidate keeps on every rung and however often it is begun."""
    return int(trial.user_attrs.get("candidate", trial.number))


def share(per_bracket: int, rung: int) -> int:
    """How many of a bracket stand on a rung."""
    return max(per_bracket // int(ETA ** (rung - 1)), 1)
