"""``bce classify``: answers to files and folders, a line each, as text, CSV or JSON."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol

from ..closing import Closing
from ..errors import MissingFile, PictureError
from ..files import beside
from ..imaging.folder import picture_files
from ..imaging.image import decode_picture, read_file
from ..records import REASONS, Prediction, with_other
from ..text import inert, printable
from .microscope import FirstLook, Microscope
from .together import Together

if TYPE_CHECKING:
    from ..imaging.image import Image
    from ..imaging.located import Located
    from .classifier import Classifier


class Sink(AbstractContextManager["Sink"], Protocol):
    """Someone who takes answers; used as a context manager."""

    def answer(self, file: str, prediction: Prediction) -> None:
        """One cell of a file."""

    def no_cell(self, file: str) -> None:
        """A picture in which no cell is found."""

    def error(self, file: str, reason: str) -> None:
        """A file that cannot be read."""


Sinks = list[Sink]


class JsonSink(Closing):
    """JSON Lines."""

    def __init__(self, stream: IO[str]) -> None:
        """Write to an open text stream."""
        self._stream = stream

    def answer(self, file: str, prediction: Prediction) -> None:
        """Keys as in ``bce classify --json``."""
        self._line(
            {
                "file": file,
                "label": prediction.label,
                "score": round(prediction.score, 6),
                "scores": {
                    label: round(score, 6) for label, score in with_other(prediction.scores, prediction.other).items()
                },
                "box": None if prediction.box is None else list(prediction.box),
                "ms": round(prediction.latency_ms, 3),
                "mark": prediction.mark,
                "counted": prediction.counted,
                "reason": prediction.reason,
            }
        )

    def no_cell(self, file: str) -> None:
        """The keys of an answer, without one."""
        keys = ("label", "score", "scores", "box", "ms", "mark", "counted", "reason")
        self._line({"file": file, **dict.fromkeys(keys)})

    def error(self, file: str, reason: str) -> None:
        """Keys ``file`` and ``error``."""
        self._line({"file": file, "error": reason})

    def _line(self, value: dict[str, object]) -> None:
        self._stream.write(json.dumps(value) + "\n")
        self._stream.flush()  # the reader of a pipe sees every answer at once


class TableSink(Closing):
    """Columns for people."""

    def __init__(self, stream: IO[str]) -> None:
        """Write to an open text stream."""
        self._stream = stream

    def __enter__(self) -> TableSink:
        self._stream.write(f"{'label':<13} {'score':>6} {'ms':>7}  file\n")
        return self

    def answer(self, file: str, prediction: Prediction) -> None:
        """Label, score, milliseconds, file, and of an UNIDENTIFIED cell why."""
        why = REASONS.get(prediction.reason, prediction.reason)
        told = why if prediction.counted else f"not evaluated: {why}"
        line = f"{prediction.label:<13} {prediction.score:>6.3f} {prediction.latency_ms:>7.2f}  {printable(file)}"
        self._stream.write(f"{line}  ({told})\n" if told else f"{line}\n")

    def no_cell(self, file: str) -> None:
        """A line that says so."""
        self._stream.write(f"{'no cell':<13} {'-':>6} {'-':>7}  {printable(file)}\n")

    def error(self, file: str, reason: str) -> None:  # noqa: ARG002
        """The reason in place of an answer; it names the file."""
        self._stream.write(f"{'error':<13} {'-':>6} {'-':>7}  {printable(reason)}\n")


class CsvSink:
    """A CSV file, there when all is done."""

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        """Write to a file; existing ones are replaced."""
        self._path, self._labels, self._stack = path, tuple(labels), ExitStack()

    def __enter__(self) -> CsvSink:
        temporary = self._stack.enter_context(beside(self._path))
        stream = temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace")  # names may be no UTF-8
        self._writer = csv.writer(self._stack.enter_context(stream))
        last = ["x", "y", "width", "height", "ms", "error", "mark", "counted", "reason"]
        self._writer.writerow(["file", "label", "score", *self._labels, *last])
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def answer(self, file: str, prediction: Prediction) -> None:
        """A row a cell."""
        scores = [f"{prediction.scores[label]:.6f}" for label in self._labels]
        box = prediction.box or ("", "", "", "")
        row = [
            inert(file),
            prediction.label,
            f"{prediction.score:.6f}",
            *scores,
            *box,
            f"{prediction.latency_ms:.3f}",
            "",
        ]
        self._writer.writerow([*row, prediction.mark, int(prediction.counted), prediction.reason])

    def no_cell(self, file: str) -> None:
        """A row with the file alone."""
        self.error(file, "")

    def error(self, file: str, reason: str) -> None:
        """A row with the reason alone."""
        self._writer.writerow([inert(file), *[""] * (len(self._labels) + 7), reason, "", "", ""])


Say = Callable[[str], None] | None


def classify_paths(classifier: Classifier, paths: Sequence[Path], sinks: Sequence[Sink], *, say: Say = None) -> int:
    """Classify every picture and tell the sinks, one at a time.

    Args:
        classifier: an open model.
        paths: files and folders.
        sinks: who is told.
        say: told in a line what of a folder or file was left out.

    Returns:
        How many files could not be read.

    Raises:
        MissingFile, NoPictures: see `picture_files`.
    """
    files = picture_files(paths, say=say)
    failed = 0
    with ExitStack() as stack:
        told = [stack.enter_context(sink) for sink in sinks]
        for file, answer in _answers(classifier, files, say):
            failed += isinstance(answer, str)
            for sink in told:
                _tell(sink, str(file), answer)
    return failed


def _tell(sink: Sink, file: str, answer: tuple[Prediction, ...] | str) -> None:
    if isinstance(answer, str):
        sink.error(file, answer)
    elif not answer:
        sink.no_cell(file)
    else:
        for cell in answer:
            sink.answer(file, cell)


def _answers(
    classifier: Classifier, files: Sequence[Path], say: Say
) -> Iterator[tuple[Path, tuple[Prediction, ...] | str]]:
    """What is said of each file; the pictures of a folder share a microscope, as the fields of a slide do."""
    answer = _together if classifier.spec.shown_as.needs_cells else _one_by_one
    for _, some in groupby(files, key=lambda file: file.parent):
        yield from answer(classifier, list(some), say)


def _one_by_one(
    classifier: Classifier, files: Iterable[Path], say: Say
) -> Iterator[tuple[Path, tuple[Prediction, ...] | str]]:
    for file in files:
        try:
            yield file, classifier.classify(_read(file, say))
        except (PictureError, MissingFile) as error:
            yield file, str(error)


@dataclass(frozen=True, eq=False)
class _Looked:
    """A picture in which cells were located, and what it says of its microscope."""

    image: Image
    located: Located
    first: FirstLook
    seconds: float


def _together(
    classifier: Classifier, files: Sequence[Path], say: Say
) -> Iterator[tuple[Path, tuple[Prediction, ...] | str]]:
    """A block of pictures is looked at before any of it is named, by `model.together`'s rule."""
    waiting: Together[tuple[Path, _Looked | str]] = Together()
    for number, file in enumerate(files, 1):
        looked = _look(classifier, file, say)
        waiting.add((file, looked), None if isinstance(looked, str) else looked.first)
        if waiting.complete or number == len(files):
            for (one, seen), _, known in waiting.take():
                yield one, seen if isinstance(seen, str) else _named(classifier, seen, known)


def _read(file: Path, say: Say) -> Image:
    decoded = decode_picture(read_file(file), name=str(file))
    if decoded.left_out and say is not None:
        say(f"{file}: {decoded.left_out}")
    return decoded.image


def _look(classifier: Classifier, file: Path, say: Say) -> _Looked | str:
    begun = time.perf_counter()
    try:
        image = _read(file, say)
        begun = time.perf_counter()
        located = classifier.locator(image)
    except (PictureError, MissingFile) as error:
        return str(error)
    return _Looked(image, located, FirstLook.of(image, located), time.perf_counter() - begun)


def _named(classifier: Classifier, seen: _Looked, known: Microscope) -> tuple[Prediction, ...]:
    begun = time.perf_counter() - seen.seconds  # of both looks, not of the wait between them
    return classifier.answer(classifier.show(seen.image, known.applied(seen.first, seen.located)), begun=begun)
