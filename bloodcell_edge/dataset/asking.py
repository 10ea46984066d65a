"""The one place where a model is asked about labelled pictures, from the files on.

A picture stands for its most prominent cell, or with view "frame" for itself; what a view shows of it and what a model
says of that are kept apart (`Questions`, `Answers`), so that several models can be asked about pictures read once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from ..imaging.views import EDGE
from ..model.calibration import NONE
from ..progress import SILENT, Reporter
from ..statistics.metrics import Evaluation, evaluate
from .pictures import Picture, Unreadable
from .pooled import PooledPictures, locate_pictures
from .reading import Opened, read_one_by_one
from .split import group_names

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from ..imaging.image import Image
    from ..imaging.located import Locator
    from ..imaging.views import Shown, View
    from ..model.spec import ModelSpec

T = TypeVar("T")

_TOGETHER = 64  # pictures that are asked about at once, as many as a Keras model takes in one batch


class Predictor(Protocol):
    """A Keras model or a .tflite: both answer prepared pictures."""

    @property
    def spec(self) -> ModelSpec:
        """What the model says of itself."""

    @property
    def path(self) -> Path | None:
        """Of its file; None where it was made in memory."""

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32 (n, labels), of uint8 RGB pictures (n, height, width, 3)."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says to labelled pictures.

    Attributes:
        pictures: that were asked about, n of them.
        scores: probabilities, shape (n, labels); NaN where no cell was found.
        found: bool, shape (n,): where there is a cell, or the view is of whole pictures.
        marked: bool, shape (n,): cells that are UNIDENTIFIED whatever the scores, see `views.Shown`.
        cut: bool, shape (n,): those of them that are not evaluated, too little is seen of them.
    """

    pictures: tuple[Picture, ...]
    scores: NDArray[np.floating[Any]]
    found: NDArray[np.bool_]
    marked: NDArray[np.bool_]
    cut: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def groups(self) -> tuple[str, ...]:
        """What may not be split, a name for each picture."""
        return tuple(group_names(self.pictures))

    def rows(self, chosen: NDArray[np.bool_]) -> Answers:
        """Some of them: `chosen` is bool, shape (n,)."""
        pictures = tuple(picture for picture, keep in zip(self.pictures, chosen, strict=True) if keep)
        return Answers(pictures, self.scores[chosen], self.found[chosen], self.marked[chosen], self.cut[chosen])

    def truth(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """Positions of the true labels, `NONE` for pictures of none of them; shape (n,)."""
        positions = {label: place for place, label in enumerate(labels)}
        return np.array([positions.get(picture.label or "", NONE) for picture in self.pictures], np.int64)

    def named(self, reject_threshold: float | None) -> NDArray[np.bool_]:
        """Where a label is given, bool, shape (n,): there is a cell, it is not marked, and its top score is enough."""
        top = np.where(self.found, self.scores.max(axis=1, initial=-1.0, where=self.found[:, None]), -1.0)
        return np.asarray(self.found & ~self.marked & (top >= (reject_threshold or 0.0)), np.bool_)

    def rejections(self, reject_threshold: float | None) -> dict[str, int]:
        """How many are given no label: "n" pictures, "rejected" of them, which is "unidentified" plus "no_cell"."""
        no_cell = int((~self.found).sum())
        rejected = int((~self.named(reject_threshold)).sum())
        return {"n": len(self), "rejected": rejected, "unidentified": rejected - no_cell, "no_cell": no_cell}

    def figures(self, spec: ModelSpec) -> Evaluation:
        """Every figure, by photograph where each picture's group is known.

        Raises:
            NoPictures: none was asked about.
            ValueError: a picture of none of the labels, or scores that are no probabilities.
        """
        known = all(picture.group is not None for picture in self.pictures)
        return evaluate(
            self.truth(spec.labels),
            self.scores,
            spec.labels,
            no_cell=~self.found,
            marked=self.marked,
            cut=self.cut,
            groups=[picture.group for picture in self.pictures] if known else None,
            reject_threshold=spec.reject_threshold,
        )


@dataclass(frozen=True, eq=False)
class Questions:
    """Labelled pictures as models are shown them.

    Attributes:
        pictures: that could be read, n of them.
        shown: for each view, what it shows of each picture; None where no cell is found.
        left_out: pictures that were not wanted, see `read_questions`.
        unreadable: what could not be decoded.
    """

    pictures: tuple[Picture, ...]
    shown: Mapping[View, tuple[Shown | None, ...]]
    left_out: tuple[Picture, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()

    def rows(self, chosen: NDArray[np.bool_]) -> Questions:
        """Some of them: `chosen` is bool, shape (n,)."""
        pictures = tuple(picture for picture, keep in zip(self.pictures, chosen, strict=True) if keep)
        shown = {
            view: tuple(one for one, keep in zip(column, chosen, strict=True) if keep)
            for view, column in self.shown.items()
        }
        return Questions(pictures, shown, self.left_out, self.unreadable)

    def cells(self, view: View) -> list[tuple[Picture, Image]]:
        """The pictures in which a view finds a cell, and its pixels."""
        both = zip(self.pictures, self.shown[view], strict=True)
        return [(picture, one.pixels) for picture, one in both if one is not None]

    def ask(self, model: Predictor) -> Answers:
        """What a model says; it is asked once, about all cells together."""
        shown = self.shown[model.spec.shown_as]
        found = np.array([one is not None for one in shown], np.bool_)
        marked = np.array([one is not None and bool(one.mark) for one in shown], np.bool_)
        cut = np.array([one is not None and one.mark == EDGE for one in shown], np.bool_)
        if not found.any():
            return Answers(self.pictures, np.full((len(shown), len(model.spec.labels)), np.nan), found, marked, cut)
        given = model.scores(np.stack([one.pixels for one in shown if one is not None]))
        scores = np.full((len(shown), given.shape[1]), np.nan, given.dtype)
        scores[found] = given
        return Answers(self.pictures, scores, found, marked, cut)


def read_questions(
    pictures: Sequence[Picture],
    views: Iterable[View],
    *,
    locate: Locator | None = None,
    leave_out: Callable[[Opened], bool] | None = None,
    report: Reporter = SILENT,
) -> Questions:
    """Read pictures once, as every one of the views shows them.

    Args:
        pictures: labelled.
        views: of the models that will be asked.
        locate: finds the cells, None for the shipped locator.
        leave_out: says of a picture whether it is not wanted; called on several threads.
        report: told how far it is.

    Raises:
        NoPictures: pictures were given and none can be read.
    """
    wanted = tuple(dict.fromkeys(views))
    pooled = _pooled(pictures, wanted, locate, report)

    def use(opened: Opened) -> dict[View, Shown | None] | None:
        if leave_out is not None and leave_out(opened):
            return None
        return _shown(opened, wanted, pooled)

    bad: list[Unreadable] = []
    with report.bar("read") as progress:
        read = list(read_one_by_one(pictures, use, bad, progress=progress))
    kept = [(picture, shown) for picture, shown in read if shown is not None]
    left_out = tuple(picture for picture, shown in read if shown is None)
    return _questions(kept, wanted, left_out, tuple(bad))


def _pooled(
    pictures: Sequence[Picture], views: Sequence[View], locate: Locator | None, report: Reporter
) -> PooledPictures | None:
    """None where no view asks for cells."""
    if not any(view.needs_cells for view in views):
        return None
    with report.bar("locate") as progress:
        return locate_pictures(pictures, locate, progress=progress)


def _shown(opened: Opened, views: Sequence[View], pooled: PooledPictures | None) -> dict[View, Shown | None]:
    """A picture in each view."""
    located = None if pooled is None else pooled.located(opened.picture)
    return {view: view.show_labelled(opened.image, located) for view in views}


def ask_while_reading(
    models: Sequence[Predictor], pictures: Sequence[Picture], report: Reporter, *, locate: Locator | None = None
) -> tuple[tuple[Answers, ...], tuple[Unreadable, ...]]:
    """What each model says to the same pictures, and what could not be read.

    The first pictures are asked about while others are read. The first model, TensorFlow's, leaves some of its cores
    idle, and the others run on one: together they take less than in turns.

    Args:
        models: each in its own view.
        pictures: labelled.
        report: told how far it is.
        locate: finds the cells for all of them, None for the shipped locator.

    Raises:
        NoPictures: pictures were given and none can be read.
    """
    views = tuple(dict.fromkeys(model.spec.shown_as for model in models))
    pooled = _pooled(pictures, views, locate, report)
    bad: list[Unreadable] = []
    parts: list[list[Future[Answers]]] = [[] for _ in models]
    with _threads("asks the first model", "asks the others") as (first, rest), report.bar("read") as progress:
        read = read_one_by_one(pictures, lambda opened: _shown(opened, views, pooled), bad, progress=progress)
        for batch in _batches(read):
            questions = _questions(batch, views)
            for place, model in enumerate(models):
                parts[place].append((rest if place else first).submit(questions.ask, model))
        answers = tuple(
            _joined([part.result() for part in own], len(model.spec.labels))
            for model, own in zip(models, parts, strict=True)
        )
    return answers, tuple(bad)


def _questions(
    read: Sequence[tuple[Picture, Mapping[View, Shown | None]]],
    views: Sequence[View],
    left_out: tuple[Picture, ...] = (),
    bad: tuple[Unreadable, ...] = (),
) -> Questions:
    shown = {view: tuple(row[view] for _, row in read) for view in views}
    return Questions(tuple(picture for picture, _ in read), shown, left_out, bad)


def _joined(parts: Sequence[Answers], labels: int) -> Answers:
    if not parts:
        return Answers((), np.empty((0, labels)), *(np.empty(0, np.bool_) for _ in range(3)))
    return Answers(
        tuple(picture for part in parts for picture in part.pictures),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.found for part in parts]),
        np.concatenate([part.marked for part in parts]),
        np.concatenate([part.cut for part in parts]),
    )


@contextmanager
def _threads(*names: str) -> Iterator[list[ThreadPoolExecutor]]:
    """Pools of a thread each; an error or an interrupt waits for what they are at, not for all they were given."""
    pools = [ThreadPoolExecutor(1, thread_name_prefix=name) for name in names]
    try:
        yield pools
    finally:
        for pool in pools:
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in pools:
            pool.shutdown()


def _batches(rows: Iterable[T]) -> Iterator[list[T]]:
    left = iter(rows)
    while batch := list(islice(left, _TOGETHER)):
        yield batch
