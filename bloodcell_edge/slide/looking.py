"""What is made of one picture: its cells, the gate's verdicts, what the model is shown, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..errors import PictureError
from ..imaging.image import encode_jpeg
from ..imaging.located import RED_CELL_UM
from ..imaging.quality import QualityLimits, judge
from ..imaging.views import CROP_UM, clipped, crop, window
from ..records import CellResult, FieldLook, PreparedField

if TYPE_CHECKING:
    from ..imaging.image import Image
    from ..imaging.located import Located, Rectangle
    from ..model.classifier import Classifier
    from ..model.microscope import FirstLook, Microscope
    from ..records import Frame, Prediction


@dataclass(frozen=True, eq=False)
class Waiting:
    """A field that was looked at, by its own scale, and is not named yet, or is named again."""

    frame: Frame
    look: FieldLook
    took_ms: float


@dataclass(frozen=True, eq=False)
class Looking:
    """How the pictures of a run are looked at. It keeps nothing of them; any thread may ask.

    Attributes:
        classifier: finds the cells and names them.
        um_per_px: scale, µm per pixel; None: each picture's red cells tell it.
        limits: of the quality gate.
        crops: keep each cell's picture.
        least_seen: share of a cell below which it is not evaluated.
    """

    classifier: Classifier
    um_per_px: float | None
    limits: QualityLimits
    crops: bool
    least_seen: float

    def look(self, image: Image, earlier: Sequence[bytes] | None) -> FieldLook:
        """Find the cells, and judge the field; `earlier` are fingerprints of fields that it may not repeat."""
        try:
            located = self.classifier.locator(image, um_per_px=self.um_per_px)
            quality = judge(
                image,
                red_cell_px=located.red_cell_px,
                earlier=earlier,
                limits=self.limits,
                halves=located.halves,
            )
        except PictureError as error:  # too small
            return FieldLook(str(error))
        return FieldLook(quality.reason, located, quality)

    def prepared(self, image: Image, look: FieldLook) -> PreparedField:
        """What the model and the store are to have of a field; nothing of a refused one."""
        if look.reason or look.located is None:
            return PreparedField((), look)
        shown = self.classifier.spec.shown_as.show(image, look.located, least_seen=self.least_seen)
        keeps = self.crops and any(one.box for one in shown)
        return PreparedField(shown, look, self._crops(image, look.located) if keeps else {})

    def _crops(self, image: Image, located: Located) -> dict[Rectangle, bytes]:
        """The surroundings of each cell as they are in the picture, JPEG files."""
        side_um = self.classifier.spec.shown_as.crop_um or CROP_UM
        size = image.shape[:2]
        squares = {box.rectangle: window(box, size, located.red_cell_px, side_um) for box in located.cells}
        return {box: encode_jpeg(crop(image, clipped(square, size))) for box, square in squares.items()}

    def cells(self, ready: PreparedField, counts: Callable[[Prediction], bool]) -> tuple[CellResult, ...]:
        """What the model says of the cells of a field; `counts` says of each whether it is counted there."""
        return tuple(
            CellResult(
                one.label,
                one.score,
                one.scores,
                one.box,
                one.mark,
                counted=counts(one),
                crop=None if one.box is None else ready.crops.get(one.box),
                reason=one.reason,
                other=one.other,
            )
            for one in self.classifier.answer(ready.shown)
        )


def shared(look: FieldLook, first: FirstLook, microscope: Microscope) -> FieldLook:
    """A look by the scale of its slide."""
    return look if look.located is None else replace(look, located=microscope.applied(first, look.located))


def scale_of(red_cell_px: float | None) -> float | None:
    """µm per pixel, by the diameter of a red cell in pixels."""
    return RED_CELL_UM / red_cell_px if red_cell_px else None
