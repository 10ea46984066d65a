"""The only loop: source -> trigger -> locate -> quality -> classify -> overlap -> store -> `on_field`.

    with open_source("folder:slides/A12") as source, Store.open("bloodcell.sqlite") as store:
        done = count_slide(source, load_model(), store, slide="A12")
        print(store.differential(done.reading).status)

What is counted:

- Every cell of a used field, once. One that touches another, or scores too low, is UNIDENTIFIED.
- A cell of which too little is seen (`views.LEAST_SEEN`), because the picture's edge or the rim of the light cuts it,
  is not evaluated: kept with its mark, and neither in the classes nor in the share unidentified. Their number is
  stated.
- Under a moving stage (`Settings.overlap`) a cell is counted in the first field that shows enough of it. What two
  fields share should have room for a cell: three drawn scans of 36 fields with 30 % overlap counted 365 of 366 cells
  at 640 x 480 pixels, but 158 of 167 at 320 x 240, where a cell is about as wide as what two fields share.
- What fields share is remembered by the run that takes them in. Where the pictures of an earlier run come again, as
  those of a folder do, it is remembered anew. Those of a camera do not: only the fields themselves are known again.
  Going on with such a slide, begin where it was left or on a fresh field.
- A slide goes on by the rule that it was begun with (`Reading.rule`): before version 2 of the store every cut cell was
  UNIDENTIFIED, and without overlap counted so.
- A refused field is kept with the reason and counts nothing.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from ..capture.overlap import Overlap
from ..capture.triggers import EveryFrame, FieldChange, Trigger
from ..errors import DiskFull, SourceError
from ..imaging.located import Box
from ..imaging.quality import QualityLimits
from ..imaging.views import EDGE, LEAST_SEEN, NONE_CUT
from ..model.microscope import POOL, FirstLook, Microscope, block_of
from ..model.together import Together
from ..records import UNIDENTIFIED, CellResult, FieldLook, FieldResult, Notice, PreparedField
from ..text import now, plain
from .differential import CELLS
from .looking import Looking, Waiting, scale_of, shared
from .reader import CUT_UNIDENTIFIED, Reading

if TYPE_CHECKING:
    from ..capture import Source
    from ..imaging.image import Image
    from ..imaging.located import Rectangle
    from ..model.classifier import Classifier
    from ..records import Frame, Prediction
    from .rows import Stored
    from .store import Store

_REMEMBERED = 400  # fields that a new one may not repeat: as many as Overlap remembers
_RETRY_S = 0.5  # between attempts while the disk is full


@dataclass(frozen=True)
class Settings:
    """How fields are taken in and counted.

    Attributes:
        cells: identified cells at which a camera is stopped, and below which no percentage is stated. Files go to the
            end.
        overlap: the same field and the same cell may come again, and are counted once; None: where a stage lies under
            a camera.
        um_per_px: scale, µm per pixel; None: each picture's red cells tell it.
        limits: of the quality gate; `repeated` is asked for with overlap only.
        crops: keep each cell's picture.
        together: files that are looked at together before any is named, see `model.microscope`. In a folder that is
            watched, and of a camera, each is named when it comes, by those before it, and the first `POOL` once more.
        profile: what is known of the microscope; None: the fields tell it.
    """

    cells: int = CELLS
    overlap: bool | None = None
    um_per_px: float | None = None
    limits: QualityLimits = field(default_factory=QualityLimits)
    crops: bool = True
    together: int = POOL
    profile: Microscope | None = None


@dataclass(frozen=True)
class FieldProgress:
    """A field that is safe in the store, and the slide so far.

    Attributes:
        field_id: in the table fields.
        field: used or refused.
        counts: label -> cells counted on this slide by this model up to this field, UNIDENTIFIED last.
        dropped: frames that the source has thrown away so far.
        not_evaluated: cells of this slide that the edge cuts, up to this field; they are in no count.
    """

    field_id: int
    field: FieldResult
    counts: Mapping[str, int]
    dropped: int
    not_evaluated: int = 0


@dataclass(frozen=True)
class Outcome:
    """What a run did.

    Attributes:
        reading: slide and model.
        used, refused: fields added.
        again: pictures that were in the store already.
        unreadable: files that are no pictures.
        ended: why: the source had no more, it was asked to stop, or there are cells enough.
    """

    reading: Reading
    used: int
    refused: int
    again: int
    unreadable: int
    ended: Literal["source", "stop", "cells"]


def count_slide(
    source: Source,
    classifier: Classifier,
    store: Store,
    *,
    slide: str,
    settings: Settings | None = None,
    trigger: Trigger | None = None,
    on_field: Callable[[FieldProgress], None] | None = None,
    on_notice: Callable[[Notice], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Outcome:
    """Take in what a source gives, until it ends, is stopped, or there are cells enough.

    While the disk is full nothing is taken in; it goes on when there is room.

    Args:
        source: inside its ``with``.
        classifier: an open model.
        store: open to write.
        slide: what is counted together; going on with one that is in the store adds what is missing.
        settings: other than the usual ones.
        trigger: which frames are taken in, closed at the end; None: each field once at rest where a stage lies under a
            camera, else all.
        on_field: told of each field once it is safe in the store, perhaps on another thread, never by two at once.
        on_notice: told what happens besides; each notice is an event in the store, too.
        stop: asked between fields, and about ten times a second; True ends the run.

    Raises:
        SourceError, NoPictures: the source fails, see `open_source`.
        StoreError: results cannot be written.
        SpecError: the model has no hash.
    """
    loop = _Loop(
        source,
        classifier,
        store,
        store.reading(slide, classifier.spec, file=str(classifier.path or "")),
        settings or Settings(),
        on_field or _nothing,
        on_notice or _nothing,
        stop or _never,
    )
    with store.telling(loop.committed), trigger or (FieldChange() if source.live else EveryFrame()) as wanted:
        return loop.run(wanted)


@dataclass(eq=False)
class _Loop:
    """One run: what it was given, see `count_slide`, and where it is."""

    _source: Source
    _classifier: Classifier
    _store: Store
    _reading: Reading
    _settings: Settings
    _on_field: Callable[[FieldProgress], None]
    _on_notice: Callable[[Notice], None]
    _stop: Callable[[], bool]

    def __post_init__(self) -> None:
        overlap, limits = self._settings.overlap, self._settings.limits
        self._overlap = Overlap() if (self._source.live if overlap is None else overlap) else None
        known = [] if self._overlap is None else self._store.fingerprints(self._reading, _REMEMBERED)
        self._fingerprints: deque[bytes] = deque(known, maxlen=_REMEMBERED)
        self._counts = self._store.counts(self._reading)
        self._not_evaluated = self._store.not_evaluated(self._reading)
        self._looking = Looking(
            self._classifier,
            um_per_px=self._settings.um_per_px,
            limits=replace(limits, repeated=0) if self._overlap is None else limits,
            crops=self._settings.crops,
            least_seen=NONE_CUT if self._reading.rule == CUT_UNIDENTIFIED else LEAST_SEEN,
        )
        self._uncommitted: deque[tuple[FieldResult, dict[str, int], int, int]] = deque()
        self._statuses = {"used": 0, "refused": 0}
        self._again = self._unreadable = 0
        self._together: Together[Waiting] | None = None  # made with the first frame
        self._first_named: dict[str, tuple[Waiting, FirstLook]] | None = None  # by picture; to be named again
        self._contradicted = False

    @property
    def _pools(self) -> bool:
        """Whether fields share what they know of the microscope: of a model of cells, where no scale is given."""
        return self._classifier.spec.shown_as.needs_cells and self._settings.um_per_px is None

    def _pooled(self, frame: Frame) -> Together[Waiting]:
        """Of a slide's files the first wait for each other; what comes as it is taken is named as it comes.

        So is what may show a cell again: which of two fields counts it hangs on their order.
        """
        waits = frame.file_sha256 is not None and not self._source.endless and self._overlap is None
        before, given = self._store.before(self._reading), self._settings.profile
        if not waits and given is None and before.count < POOL:
            self._first_named = {}
        return Together(self._settings.together if waits else 1, before=before, given=given)

    def run(self, wanted: Trigger) -> Outcome:
        """Until it ends."""
        self._listen()
        if self._reading.rule == CUT_UNIDENTIFIED:
            told = f"slide {self._reading.slide} was begun by an earlier bce and goes on by its rule"
            more = f"{self._reading.earlier_rule}; another --slide counts by the present one"
            self._noticed(Notice("rule", f"{told}: {more}", now()))
        try:
            ended = self._frames(wanted)
            self._name_waiting()
            if self._first_named and self._together is not None:
                self._name_again(self._together.said())
            self._write(self._store.flush)
        except SourceError as error:
            self._name_waiting()
            self._event("given up", str(error))
            raise
        return Outcome(self._reading, **self._statuses, again=self._again, unreadable=self._unreadable, ended=ended)

    def _listen(self) -> None:
        """A source tells what happens, and need not decode what is known; under overlap one must look, and in order."""
        alone = self._overlap is None
        self._source.listen(
            notice=self._noticed,
            idle=lambda: bool(self._stop()),
            taken_before=partial(self._store.has, self._reading) if alone else None,
            ahead=self._ready if alone else None,
        )

    def _frames(self, wanted: Trigger) -> Literal["source", "stop", "cells"]:
        for frame in self._source:
            if self._stop():
                return "stop"
            if self._enough(frame):  # since an earlier run
                return "cells"
            if wanted(frame) and not self._take(frame):
                wanted.refused()
            if self._enough(frame):
                return "cells"
        return "stop" if self._stop() else "source"

    def _enough(self, frame: Frame) -> bool:
        """Cameras and recordings end at so many identified cells, files go to the end."""
        identified = sum(self._counts.values()) - self._counts[UNIDENTIFIED]
        return frame.file_sha256 is None and identified >= self._settings.cells

    def _take(self, frame: Frame) -> bool:
        """Take in one picture; False where it was refused for what another look may mend."""
        start = time.perf_counter()
        before = self._store.status(self._reading, frame.sha256)
        if before is not None:
            self._again += 1
            self._event("again", f"{self._path(frame)}: this picture was taken in before")
        if before is not None and self._overlap is None:
            return True
        ready = frame.ahead
        look = self._look(frame.image) if ready is None else ready.look
        if self._pools:
            self._together = self._together or self._pooled(frame)
        if before is not None:
            if before == "used":
                self._unseen(frame, look)  # the next fields may share cells with it
                self._see_again(frame, look)
        elif self._together is not None:
            took_ms = (time.perf_counter() - start) * 1e3 + (0.0 if ready is None else ready.took_ms)
            self._wait(self._together, frame, look, took_ms)
        else:
            new = self._new(frame, look)
            ready = ready or self._looking.prepared(frame.image, look)
            cells = self._cells(ready, new)
            self._add(frame, look, cells, (time.perf_counter() - start) * 1e3 + ready.took_ms)
        return look.quality is None or all(one.passed for one in look.quality.verdicts if one.name != "repeated")

    def _see_again(self, frame: Frame, look: FieldLook) -> None:
        """A field of an earlier run, among the first ones, comes again: it can be named once more with the others."""
        firsts = self._first_named
        if firsts is not None and frame.sha256 not in firsts and look.located is not None:
            used = replace(look, reason="")  # which it is now for being a repetition
            firsts[frame.sha256] = Waiting(frame, used, 0.0), FirstLook.of(frame.image, look.located)

    def _wait(self, together: Together[Waiting], frame: Frame, look: FieldLook, took_ms: float) -> None:
        """Let a field wait until the first ones can be named together; after that, name each when it comes."""
        if any(one.frame.sha256 == frame.sha256 for one in together.waiting):
            self._again += 1
            self._event("again", f"{self._path(frame)}: this picture was taken in before")
            return
        first = None if look.reason or look.located is None else FirstLook.of(frame.image, look.located)
        together.add(Waiting(frame, look, took_ms), first)
        if together.complete:
            self._name_waiting()

    def _name_waiting(self) -> None:
        """Name the fields that wait, by what is known of their microscope."""
        if self._together is None:
            return
        for field_, first, microscope in self._together.take():
            start, look = time.perf_counter(), field_.look
            if first is not None:
                self._contradict(field_, microscope.contradiction(first))
                look = shared(look, first, microscope)
            new = self._new(field_.frame, look)
            cells = self._cells(self._looking.prepared(field_.frame.image, look), new)
            took_ms = field_.took_ms + (time.perf_counter() - start) * 1e3
            self._add(field_.frame, look, cells, took_ms, first)
            if first is not None and self._first_named is not None:
                self._first_named[field_.frame.sha256] = field_, first
                if self._together.count >= block_of(first.size):
                    self._name_again(self._together.said())

    def _name_again(self, microscope: Microscope) -> None:
        """Name the first fields of a camera once more: each was named when it came, by the few before it."""
        fields, self._first_named = self._first_named or {}, None
        self._write(self._store.flush)
        stored = defaultdict(list)
        for row in self._store.cells(self._reading):
            stored[row["sha256"]].append(row)
        changed = 0
        for sha256, (field_, first) in fields.items():
            before = {(row["x"], row["y"], row["width"], row["height"]): row for row in stored[sha256]}
            counted = frozenset(box for box, row in before.items() if row["counted"])
            cells = self._cells(
                self._looking.prepared(field_.frame.image, shared(field_.look, first, microscope)), counted
            )
            scale = scale_of(microscope.red_cell_px(first))
            self._write(partial(self._store.rename, self._reading, sha256, um_per_px=scale, cells=cells))
            labels = {cell.box: cell.label for cell in cells}
            changed += sum(labels.get(box) != row["label"] for box, row in before.items())
        self._write(self._store.flush)
        self._counts = self._store.counts(self._reading)
        self._not_evaluated = self._store.not_evaluated(self._reading)
        if changed:
            self._event(
                "microscope", f"{changed} cells of the first {len(fields)} fields are named anew by all of them"
            )

    def _contradict(self, field_: Waiting, why: str) -> None:
        """A field that does not fit its slide is an event; a person is told of the first one."""
        if not why:
            return
        text = f"{self._path(field_.frame)}: {why}"
        if self._contradicted:
            self._event("microscope", text)
        else:
            self._contradicted = True
            self._noticed(Notice("microscope", text, now(), field_.frame.path))

    def _ready(self, image: Image) -> PreparedField:
        """All that is made of a picture which depends on no other one; called from any thread, by several at once."""
        start = time.perf_counter()
        look = self._look(image)
        ready = PreparedField((), look) if self._pools else self._looking.prepared(image, look)
        if look.located is not None:  # a third of the picture's memory, which would wait with it for its turn
            look = replace(look, located=replace(look.located, halves=None))
        return replace(ready, look=look, took_ms=(time.perf_counter() - start) * 1e3)

    def _look(self, image: Image) -> FieldLook:
        return self._looking.look(image, None if self._overlap is None else self._fingerprints)

    def _new(self, frame: Frame, look: FieldLook) -> frozenset[Rectangle] | None:
        """Boxes that were not counted before, None for all; remembers a field where it may come again."""
        if self._overlap is None:
            return None
        if look.reason or look.quality is None or look.located is None:
            return frozenset()
        self._fingerprints.append(look.quality.fingerprint)
        return self._unseen(frame, look)

    def _unseen(self, frame: Frame, look: FieldLook) -> frozenset[Rectangle]:
        """Boxes of cells, seen well enough, that no field before has shown so; from now on they are known."""
        if self._overlap is None or look.located is None:
            return frozenset()
        size = frame.image.shape
        seen = [box.rectangle for box in look.located.cells if box.whole and _is_well_inside(box, size)]
        return frozenset(self._overlap.new_cells(frame, seen))

    def _cells(self, ready: PreparedField, new: frozenset[Rectangle] | None) -> tuple[CellResult, ...]:
        """What the model says of the cells of a field; `new` as `_new` gives it."""
        return self._looking.cells(ready, lambda cell: self._counts_one(cell, new))

    def _counts_one(self, cell: Prediction, new: frozenset[Rectangle] | None) -> bool:
        """Whether a cell is counted in this field: evaluated by the slide's rule, and not counted in an earlier one."""
        evaluated = cell.counted or self._reading.rule == CUT_UNIDENTIFIED
        return evaluated and (cell.box is None or new is None or cell.box in new)

    def _add(
        self,
        frame: Frame,
        look: FieldLook,
        cells: tuple[CellResult, ...],
        latency_ms: float,
        first: FirstLook | None = None,
    ) -> None:
        """Into the store, and for `committed` to show."""
        height, width = frame.image.shape[:2]
        result = FieldResult(
            self._path(frame),
            frame.sha256,
            frame.taken_at,
            "refused" if look.reason else "used",
            look.reason,
            cells,
            frame.monotonic_ns,
            (width, height),
            scale_of(look.located.red_cell_px if look.located else None),
            {verdict.name: verdict.number for verdict in look.quality.verdicts} if look.quality else {},
            latency_ms,
            look.quality.fingerprint if look.quality and self._overlap is not None else None,
            "" if first is None else first.as_text(),
        )
        counts = dict(self._counts)
        for cell in cells:
            counts[cell.label] += cell.counted
        cut = self._not_evaluated + sum(cell.mark == EDGE and not cell.counted for cell in cells)
        self._uncommitted.append((result, counts, frame.dropped, cut))
        self._write(lambda: self._store.add(self._reading, result))
        self._counts, self._not_evaluated = counts, cut
        self._statuses[result.status] += 1

    def committed(self, group: Sequence[Stored]) -> None:
        """Show fields that are safe now; called by the store, in the order they were added."""
        for stored in group:
            if not self._uncommitted or stored.field is not self._uncommitted[0][0]:
                continue  # not added by this run
            result, counts, dropped, cut = self._uncommitted.popleft()
            if not stored.again:
                self._on_field(FieldProgress(stored.field_id, result, counts, dropped, cut))

    def _path(self, frame: Frame) -> str:
        """The file as it was named, or the source and the frame's number. Names that are no UTF-8 are escaped."""
        named = self._source.name if frame.file_sha256 is None else str(frame.path)
        return plain(named if frame.file_sha256 else f"{named} frame {frame.number}")

    def _noticed(self, notice: Notice) -> None:
        """Something happened at the source."""
        self._again += notice.kind == "again"
        self._unreadable += notice.kind == "unreadable"
        self._event(notice.kind, notice.text)
        self._on_notice(notice)

    def _event(self, kind: str, text: str) -> None:
        self._write(lambda: self._store.event(kind, plain(text), reading=self._reading))

    def _write(self, write: Callable[[], None]) -> None:
        """Write to the store; while its disk is full, wait until there is room or the run is stopped."""
        full = False
        while True:
            try:
                write()
                break
            except DiskFull as error:
                if self._stop():
                    raise
                if not full:
                    self._on_notice(Notice("full", str(error), now()))
                full = True
                time.sleep(_RETRY_S)
        if full:
            self._noticed(Notice("full", f"{self._store.path}: there is room on its disk again, going on", now()))


def _is_well_inside(box: Box, size: tuple[int, ...]) -> bool:
    """Away from the edge of a field of (height, width) by a tenth of the cell: what is nearer may be cut unseen."""
    margin = max(box.width, box.height) // 10
    return (
        box.x >= margin
        and box.y >= margin
        and box.x + box.width <= size[1] - margin
        and box.y + box.height <= size[0] - margin
    )


def _nothing(_: object) -> None:
    """No listener was given."""


def _never() -> bool:
    """It is never asked to stop."""
    return False
