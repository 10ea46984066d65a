"""How good a model is on labelled picture files, of which it has seen none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, NoPictures
from ..imaging.hashes import all_hashes
from ..model.classifier import Classifier
from ..model.seen import from_json
from ..progress import SILENT, Reporter
from ..runs import RunFolder
from ..statistics.metrics import Evaluation
from .asking import Answers, Predictor, read_questions
from .layouts import load_data
from .pictures import Dataset, Picture, Unreadable
from .reading import Opened

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.image import Image


@dataclass(frozen=True)
class Evaluated:
    """How good a model was on labelled pictures.

    Attributes:
        answers: what it said to the pictures of its labels.
        evaluation: the figures on them.
        unknown: pictures of other classes: how many were asked about ("n"), and of those how many were "rejected",
            which is "unidentified" plus "no_cell".
        seen: pictures left out, of other classes too, since the model was trained on them or on a copy.
        unreadable: what could not be decoded.
    """

    answers: Answers
    evaluation: Evaluation
    unknown: dict[str, int]
    seen: tuple[str, ...]
    unreadable: tuple[Unreadable, ...]

    def with_cell(self) -> tuple[list[Picture], NDArray[np.floating[Any]]]:
        """The pictures in which a cell was found, and their scores."""
        there = self.answers.rows(self.answers.found)
        return list(there.pictures), there.scores

    def as_json(self, model: str) -> dict[str, Any]:
        """The keys of `bce evaluate --json`."""
        return {
            "model": model,
            **self.evaluation.as_json(),
            "seen_in_training": len(self.seen),
            "unknown": self.unknown,
            "unreadable": [vars(one) for one in self.unreadable],
        }


def evaluate_data(
    model: Predictor,
    data: str | Path,
    *,
    group_by: str | Path | None = None,
    allow_seen: bool = False,
    report: Reporter = SILENT,
) -> Evaluated:
    """What `bce evaluate` does: `evaluate_files` on DATA, of which test counts where it has one, else val.

    Args:
        model: see `evaluate_files`.
        data: a folder or CSV file, see `layouts`.
        group_by: a CSV with the columns ``file,group``.
        allow_seen: keep pictures that the model was trained on.
        report: told how far it is.

    Raises:
        MissingFile, DataError, NoPictures: see `load_data` and `evaluate_files`.
    """
    dataset, side = load_data(data, labels=model.spec.labels, group_by=group_by).held_out()
    for note in (*dataset.notes, *([f"{data}: measured on its {side} pictures"] if side else [])):
        report.say(note)
    return evaluate_files(model, dataset, allow_seen=allow_seen, report=report)


def evaluate_files(
    model: Predictor,
    dataset: Dataset,
    *,
    allow_seen: bool = False,
    is_copy: Callable[[Image], bool] | None = None,
    report: Reporter = SILENT,
) -> Evaluated:
    """Ask a model about every labelled picture that it has not seen, and work out the figures.

    A picture was seen where its file, or a near copy of it, was trained on, as the model's spec says; and where it is a
    turned or sheared copy of a training photograph, as the run folder says that the model stands in.

    Args:
        model: asked about each picture's most prominent cell, or with view "frame" about the whole.
        dataset: pictures of the model's labels; those of other classes count as unknowns.
        allow_seen: keep pictures that the model was trained on.
        is_copy: another test for copies in place of the run folder's.
        report: told how far it is.

    Raises:
        DataError: labels that are not the model's, or every picture was seen.
        NoPictures: no labelled picture can be read.
    """
    labels = model.spec.labels
    if dataset.labels != labels:
        message = f"{dataset.root}: read with labels {list(dataset.labels)}, the model has {list(labels)}"
        raise DataError(message)
    questions = read_questions(
        [*dataset.pictures, *dataset.unknown],
        [model.spec.shown_as],
        locate=model.locator if isinstance(model, Classifier) else None,
        leave_out=None if allow_seen else _seen_test(model, is_copy),
        report=report,
    )
    seen = tuple(picture.file for picture in questions.left_out)
    ours = np.array([picture.label in labels for picture in questions.pictures], np.bool_)
    if not ours.any():
        if seen:
            message = f"{dataset.root}: the model was trained on all {len(seen)} pictures; use others, or --allow-seen"
            raise DataError(message)
        message = f"{dataset.root}: no readable picture of {', '.join(labels)}"
        raise NoPictures(message)
    answers, others = questions.rows(ours).ask(model), questions.rows(~ours).ask(model)
    return Evaluated(
        answers,
        answers.figures(model.spec),
        others.rejections(model.spec.reject_threshold),
        seen,
        (*dataset.unreadable, *questions.unreadable),
    )


def _seen_test(model: Predictor, is_copy: Callable[[Image], bool] | None) -> Callable[[Opened], bool]:
    """Whether a model was trained on a picture, by its spec and by what its run folder remembers."""
    known, turned = from_json(model.spec.seen), is_copy or copy_test(model.path)

    def was_seen(opened: Opened) -> bool:
        if known.holds(opened.sha256, all_hashes(opened.image)):
            return True
        return turned is not None and turned(opened.image)

    return was_seen


def copy_test(path: Path | None) -> Callable[[Image], bool] | None:
    """The test for turned copies of training photographs, where the model stands in the run folder that has them."""
    if path is None:
        return None

    index_file = RunFolder(path.parent).index
    if not index_file.is_file():
        return None
    from .photographs import PhotographIndex

    index, one_at_a_time = PhotographIndex.load(index_file), Lock()

    def is_copy(image: Image) -> bool:
        with one_at_a_time:  # pictures are read on several threads, the index is for one
            return index.find(image) is not None

    return is_copy
