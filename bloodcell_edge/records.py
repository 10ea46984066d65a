"""Frozen values that one package gives another: frames, fields, cells. Units are in the names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .errors import PictureError

if TYPE_CHECKING:
    from .imaging.image import Image
    from .imaging.located import Located
    from .imaging.quality import Quality
    from .imaging.views import Shown

UNIDENTIFIED = "UNIDENTIFIED"
"""The label of a cell that the model may not name: below the reject threshold, or marked."""

OTHER = "OTHER"
"""What the background's share is called among scores: of cells and things that are none of the labels."""

LOW_SCORE, OTHER_CELL = "low score", "other cell"
"""Reasons of UNIDENTIFIED besides the marks of `views`: the top score is too low; the background tops all labels."""

REASONS = {
    "edge": "cut by the edge",
    "touching": "touches another",
    LOW_SCORE: "score too low",
    OTHER_CELL: "none of these",
}
"""Each reason of UNIDENTIFIED in words."""

LARGEST_SCORE = 1.001
"""A float32 softmax may pass 1 by rounding; what is above is no probability."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture as a source gave it.

    Attributes:
        image: uint8 RGB, shape (height, width, 3), C-contiguous.
        taken_at: when, aware, UTC: a camera's exposure, or the time of a file.
        monotonic_ns: the same moment on the clock that never jumps (a file: when it was read), `time.monotonic_ns`.
        number: 1 for the first frame that the source gave out, then 2, ...
        path: the file; None for a camera.
        file_sha256: hash of the file's bytes; None for a camera.
        dropped: frames that the source has thrown away so far: overtaken by newer ones, too old, or broken.
        ahead: what was made of the image on the thread that decoded it, see `capture.Source.listen`, or None.

    Raises:
        PictureError: an image of another type or layout, or a time without a zone: the source has a bug.
    """

    image: Image
    taken_at: datetime
    monotonic_ns: int
    number: int
    path: Path | None = None
    file_sha256: str | None = None
    dropped: int = 0
    ahead: PreparedField | None = None

    def __post_init__(self) -> None:
        image = self.image
        if image.dtype != "uint8" or image.ndim != 3 or image.shape[2] != 3 or not image.flags.c_contiguous:
            found = f"{image.dtype} {image.shape}{'' if image.flags.c_contiguous else ', not contiguous'}"
            message = f"frame {self.number}: expected uint8 RGB (height, width, 3), C-contiguous, found {found}"
            raise PictureError(message)
        if self.taken_at.tzinfo is None:
            message = f"frame {self.number}: taken at {self.taken_at}, expected a time with its zone (UTC)"
            raise PictureError(message)

    @cached_property
    def sha256(self) -> str:
        """What the frame is known by: the hash of the file's bytes, or of a camera's pixels; hexadecimal."""
        return self.file_sha256 or hashlib.sha256(self.image.data).hexdigest()


@dataclass(frozen=True, eq=False)
class FieldLook:
    """What a field shows before its cells are named.

    Attributes:
        reason: why it is refused; empty where it is not.
        located: its cells; None where it is too small to look for any.
        quality: what the gate says; None likewise.
    """

    reason: str = ""
    located: Located | None = None
    quality: Quality | None = None


@dataclass(frozen=True, eq=False)
class PreparedField:
    """What can be made of a picture before its turn comes.

    Attributes:
        shown: what the model is to be asked about; nothing of a refused field.
        look: what the field shows.
        crops: (x, y, width, height) of a cell -> its surroundings, a JPEG file; empty where none are kept.
        took_ms: to make all this.
    """

    shown: tuple[Shown, ...]
    look: FieldLook = field(default_factory=FieldLook)
    crops: Mapping[tuple[int, int, int, int], bytes] = field(default_factory=dict)
    took_ms: float = 0.0


@dataclass(frozen=True)
class Notice:
    """Something that happened at a source and is worth a line in the store.

    Attributes:
        kind: "lost" and "back" (a camera or folder), "stale" (it gives only old frames), "setting" (a camera or folder
            does not do all that was asked), "unreadable" (a file that is no picture), "again" (content taken in
            before), "left out" (files, folders or pages that are not looked at, a time
            that is impossible), "ended" (a video stopped before its
            end), "full" (there is no room for results, or is again),
            "rule" (a slide goes on by an earlier rule), "microscope" (a field does not fit its slide).
        text: what, where and why, in one line.
        at: when it was noticed, aware, UTC.
        path: the file it is about, if any.
        sha256: of that file's bytes, where they could be read.
    """

    kind: Literal[
        "lost", "back", "stale", "setting", "unreadable", "again", "ended", "left out", "full", "rule", "microscope"
    ]
    text: str
    at: datetime
    path: Path | None = None
    sha256: str | None = None


def with_other(scores: Mapping[str, float], other: float | None) -> dict[str, float]:
    """Scores as they are written: of the labels, and under `OTHER` the background's share where there is one."""
    return dict(scores) if other is None or OTHER in scores else {**scores, OTHER: other}


@dataclass(frozen=True)
class Prediction:
    """What a model says of one picture or one cell.

    Attributes:
        label: a class, or UNIDENTIFIED.
        score: the top probability, 0..1, also where the label is UNIDENTIFIED.
        scores: probability of each label.
        box: (x, y, width, height) in pixels of the picture; None where the model takes the whole picture.
        latency_ms: preparing and invoking, without decoding; of a picture with several cells, each one's share.
        mark: why the cell may not be named, see `views.Shown`; empty where it may.
        reason: of UNIDENTIFIED, one of `REASONS`; else empty.
        counted: False for a cell that is not evaluated: too little is seen of it.
        other: share of the background, where the model has one.
    """

    label: str
    score: float
    scores: dict[str, float]
    box: tuple[int, int, int, int] | None
    latency_ms: float
    mark: str = ""
    reason: str = ""
    counted: bool = True
    other: float | None = None


@dataclass(frozen=True)
class CellResult:
    """One cell of a field, as it goes into the store.

    Attributes:
        label: a class, or UNIDENTIFIED.
        score: the top probability, 0..1, also where the label is UNIDENTIFIED.
        scores: probability of each label.
        box: (x, y, width, height) in pixels of the field; None where the model takes the whole picture.
        mark: why the gate does not let it be named ("edge" or "touching"); empty where it does.
        counted: False for a cell that was counted in an earlier field, or is not evaluated: too little is seen of it.
        crop: the cell's picture, a whole JPEG file; None where none is to be kept.
        reason: of UNIDENTIFIED, one of `REASONS`; else empty.
        other: share of the background, where the model has one.

    Raises:
        ValueError: no scores, or a marked cell that has a class.
    """

    label: str
    score: float
    scores: dict[str, float]
    box: tuple[int, int, int, int] | None = None
    mark: str = ""
    counted: bool = True
    crop: bytes | None = None
    reason: str = ""
    other: float | None = None

    def __post_init__(self) -> None:
        if not self.scores or not 0.0 <= self.score <= LARGEST_SCORE:
            message = f"cell {self.label}: expected a probability of each label, found {self.score} of {self.scores}"
            raise ValueError(message)
        if self.mark and self.label != UNIDENTIFIED:
            message = f"cell marked {self.mark!r}: expected the label {UNIDENTIFIED}, found {self.label}"
            raise ValueError(message)

    @property
    def top(self) -> str:
        """The label with the highest score, rejected or not; the first of equals."""
        return max(self.scores, key=self.scores.__getitem__)


@dataclass(frozen=True)
class FieldResult:
    """One picture taken in, used or refused, as it goes into the store.

    Attributes:
        path: of the file, or what the source calls the frame.
        sha256: what the picture is known by, hexadecimal: `Frame.sha256`.
        taken_at: when, aware; kept as UTC.
        status: "used" or "refused".
        reason: why it was refused; empty where it was used.
        cells: what was found in it, none where refused.
        monotonic_ns: the same moment on the clock that never jumps; None where it is not known.
        size: (width, height) in pixels; None where it could not be decoded.
        um_per_px: its scale; None where it is not known.
        quality: the numbers behind the gate's verdict, by name.
        latency_ms: from the frame to this result; None where not measured.
        fingerprint: by which the same field is known again though its pixels differ, see `quality.Quality`; None where
            it cannot come again.
        first_look: what it says of the microscope by itself, see `model.microscope.FirstLook.as_text`; empty where the
            slide's fields are not looked at together.

    Raises:
        ValueError: a time without a zone, another status, a refusal with cells or without a reason.
    """

    path: str
    sha256: str
    taken_at: datetime
    status: Literal["used", "refused"] = "used"
    reason: str = ""
    cells: tuple[CellResult, ...] = ()
    monotonic_ns: int | None = None
    size: tuple[int, int] | None = None
    um_per_px: float | None = None
    quality: dict[str, float] = field(default_factory=dict)
    latency_ms: float | None = None
    fingerprint: bytes | None = None
    first_look: str = ""

    def __post_init__(self) -> None:
        if self.taken_at.tzinfo is None:
            message = f"field {self.path}: taken at {self.taken_at}, expected a time with its zone (UTC)"
            raise ValueError(message)
        refused = self.status == "refused"
        if self.status not in ("used", "refused") or refused != bool(self.reason) or (refused and self.cells):
            found = f"{self.status!r}, reason {self.reason!r}, {len(self.cells)} cells"
            message = f"field {self.path}: expected used, or refused with a reason and without cells, found {found}"
            raise ValueError(message)
