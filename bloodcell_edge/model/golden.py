"""Golden samples: drawn pictures and what a model answered when it was made, replayed on every device.

A file that answers differently here runs on other kernels, another interpreter or another OpenCV than it was proven
with, or is damaged: better to refuse than to count by it.

A model of view "cell" is shown the cell where it was drawn, not where its locator finds it: other kernels may move a
box by a pixel, and then no pixels would be the same. What the locator finds is replayed by itself (`goldenfields`).
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ..errors import SpecError
from ..files import write_bytes
from ..imaging.located import RED_CELL_UM, Box, Located
from ..imaging.views import View
from ..version import __version__
from .goldenfields import FIELD_SIZE, drawn_field
from .interpreter import interpreter_of
from .spec import KERNEL_TOLERANCE, Golden

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..imaging.drawn import DrawnField
    from .spec import ModelSpec


_BEYOND = 1.5
"""How far beyond the largest difference that was seen one must still be allowed for: pictures differ."""
_TRIES = 60  # drawings of each class
_FIRST_SEED = 7_000_000  # far from the seeds of demos and tests


class Answering(Protocol):
    """Answers one prepared picture: an interpreter."""

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, shape (labels,), of uint8 RGB (height, width, 3)."""


@functools.lru_cache(maxsize=64)  # every target of a model is asked about the same drawings
def _drawn(seed: int, drawn: str) -> DrawnField:
    from ..imaging.drawn import draw_field  # numpy.random takes a while, and is needed once

    return draw_field(seed, (drawn,))


def drawn_pixels(seed: int, drawn: str, view: View, *, by_rules: bool = False) -> NDArray[np.uint8] | None:
    """A drawn cell as a model is shown it.

    Args:
        seed: of the drawing.
        drawn: the cell.
        view: how pictures are shown to the model.
        by_rules: where `locate` finds the cell, as files of version 1 were made; else where it was drawn.

    Returns:
        uint8 RGB, shape (*view.size, 3); None where the rules find no cell.
    """
    field = _drawn(seed, drawn)
    shown = view.show_labelled(field.image, _by_rules(field) if by_rules else _as_drawn(field))
    return None if shown is None else shown.pixels


def _as_drawn(field: DrawnField) -> Located:
    from ..imaging.drawn import UM_PER_PX

    cells = (Box(cell.x, cell.y, cell.width, cell.height, whole=True, touching=False) for cell in field.cells)
    return Located(tuple(cells), RED_CELL_UM / UM_PER_PX)


def _by_rules(field: DrawnField) -> Located:
    from ..imaging.locate import locate

    return locate(field.image)


def _pixels(one: Golden, view: View, *, by_rules: bool) -> NDArray[np.uint8] | None:
    """What was drawn and prepared at an earlier start by the same software, else now: drawing takes 5 ms each."""
    kept = _kept_file(one.seed, one.drawn, view)
    with suppress(OSError, ValueError):
        pixels = np.frombuffer(kept.read_bytes(), np.uint8).reshape(*view.size, 3)
        if digest(pixels) == one.pixels_sha256:
            return pixels
    fresh = drawn_pixels(one.seed, one.drawn, view, by_rules=by_rules)
    if fresh is not None:
        _keep(kept, fresh)
    return fresh


def kept_field(seed: int, drawn: tuple[str, ...]) -> NDArray[np.uint8]:
    """`goldenfields.drawn_field`, kept like the drawings of golden samples."""
    kept = _kept_file(seed, drawn)
    with suppress(OSError, ValueError):
        return np.frombuffer(kept.read_bytes(), np.uint8).reshape(*FIELD_SIZE, 3)
    fresh = drawn_field(seed, drawn)
    _keep(kept, fresh)
    return fresh


def _keep(file: Path, pixels: NDArray[np.uint8]) -> None:
    with suppress(OSError):  # a device may have nothing to write to
        write_bytes(file, pixels.tobytes())


def _kept_file(*drawing: object) -> Path:
    import cv2

    made_by = (__version__, np.__version__, cv2.__version__, platform.machine(), *drawing)
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bloodcell_edge"
    return folder / f"golden-{hashlib.sha256(repr(made_by).encode()).hexdigest()[:16]}.rgb"


def digest(pixels: NDArray[np.uint8]) -> str:
    """What prepared pixels are known by."""
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def replay(model: Answering, spec: ModelSpec, *, name: str, runtime: str) -> float:
    """Ask a model its golden samples again.

    Args:
        model: on this machine.
        spec: with the samples.
        name: of the file, for messages.
        runtime: what runs it, for messages.

    Returns:
        The largest difference of a score, 0 where every bit is the same or there are no samples.

    Raises:
        SpecError: a picture is prepared, or answered, otherwise than when the model was made.
    """
    return max((_difference(model, one, spec, name, runtime) for one in spec.golden), default=0.0)


def _difference(model: Answering, one: Golden, spec: ModelSpec, name: str, runtime: str) -> float:
    view = View(spec.view, spec.input_size, spec.crop_um, spec.light) if spec.by_rules else spec.shown_as
    pixels = _pixels(one, view, by_rules=spec.by_rules)
    if pixels is None or digest(pixels) != one.pixels_sha256:
        found = "finds no cell in" if pixels is None else "prepares other pixels of"
        message = (
            f"{name}: this machine {found} golden sample {one.drawn} {one.seed} than the one the model was made on; "
            "its OpenCV or numpy differs, or the model is of another bce: install the versions of setup.cfg, or "
            "convert it again"
        )
        raise SpecError(message)
    scores = model.scores(pixels)
    difference = float(np.abs(scores - np.array(one.scores, np.float32)).max())
    label = spec.outputs[int(np.argmax(scores))]
    if label != one.label or not difference <= spec.kernel_tolerance:  # NaN is no small difference
        message = (
            f"{name}: golden sample {one.drawn} {one.seed} was {one.label} when the model was made, is {label} here, "
            f"a score differs by {difference:.3f} (limit {spec.kernel_tolerance:.3f}) with {runtime}; do not use it "
            "here: try another interpreter (README), or copy the file again"
        )
        raise SpecError(message)
    return difference


def kernel_tolerance(flatbuffer: bytes, samples: NDArray[np.uint8]) -> float:
    """By how much scores of a file differ between XNNPACK's kernels and the built-in ones, which older devices run.

    Args:
        flatbuffer: the bytes of the file.
        samples: uint8 RGB, shape (n, height, width, 3): the representative dataset.

    Returns:
        1.5 times the largest difference on the samples, and `KERNEL_TOLERANCE` at least.
    """
    usual, plain = interpreter_of(flatbuffer), interpreter_of(flatbuffer, plain=True)
    largest = max(float(np.abs(usual.scores(one) - plain.scores(one)).max()) for one in samples)
    return max(_BEYOND * largest, KERNEL_TOLERANCE)


def golden_samples(model: Answering, labels: Sequence[str], view: View, *, margin: float) -> tuple[Golden, ...]:
    """One drawn picture for each label that the model gives clearly.

    A model trained on photographs may never give some label to a drawing; that label then has no sample, which
    `bce info` says.

    Args:
        model: the converted file itself, ``scores((height, width, 3)) -> (labels,)``.
        labels: in output order.
        view: how pictures are shown to it.
        margin: least distance of the two best scores: twice the tolerance, since both may move and the label must hold.
    """
    from ..imaging.drawn import LABELS as DRAWN_LABELS  # numpy.random takes a while; no device comes here

    found: dict[str, Golden] = {}
    for number in range(_TRIES * len(DRAWN_LABELS)):
        if len(found) == len(labels):
            break
        seed, drawn = _FIRST_SEED + number, DRAWN_LABELS[number % len(DRAWN_LABELS)]
        pixels = drawn_pixels(seed, drawn, view)
        if pixels is None:
            continue
        scores = model.scores(pixels)
        label = labels[int(np.argmax(scores))]
        second, first = np.sort(scores)[-2:] if len(scores) > 1 else (0.0, scores[0])
        if label not in found and first - second > margin:
            found[label] = Golden(seed, drawn, digest(pixels), label, tuple(float(score) for score in scores))
    return tuple(found[label] for label in labels if label in found)
