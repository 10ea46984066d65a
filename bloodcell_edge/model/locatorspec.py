"""LocatorSpec: what a locator says of itself; it travels as ``locator.json`` in the zip behind the .tflite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from ..errors import SpecError
from .decode import STRIDE

LOCATOR_SPEC_VERSION = 1
"""Raise when an older reader would misunderstand a newer spec."""

_LEAST_SIDE, _MOST_HEAT = 32, 255


@dataclass(frozen=True)
class GoldenField:
    """A drawn field and what a locator found in it when it was made, to be found again on the device.

    Attributes:
        seed: for `drawn.draw_field`.
        drawn: the cells that were drawn.
        pixels_sha256: of the drawn RGB bytes.
        boxes: (x, y, width, height, heat) of each cell found.
        red_cell_px: diameter of a red cell, pixels.
    """

    seed: int
    drawn: tuple[str, ...]
    pixels_sha256: str
    boxes: tuple[tuple[int, int, int, int, int], ...]
    red_cell_px: float


@dataclass(frozen=True)
class LocatorSpec:
    """What a locator is, and where it comes from.

    Attributes:
        name: what to call it.
        target: the conversion target of the file ("int8", "float16", ...).
        input_size: (height, width) in pixels of the RGB 0..255 input.
        image_version: `image.IMAGE_VERSION` when it was trained.
        threshold: least heat of a cell, 1..255 (probability times 256).
        kernel_tolerance: by how much a heat may differ between interpreters with other kernels, measured on this file.
        training: data with counts of pictures, seed, steps.
        figures: measured on held-back pictures.
        parity: the report that this file passed; None before ``bce parity``.
        golden: found again at start.
        min_runtime: the oldest TFLite runtime that runs it.
        attribution: sources that must be named, a line each.
        bce_version: that made it.
        spec_version: of this layout.
        sha256: over the flatbuffer and this spec without the hash; empty outside a .tflite.
    """

    name: str
    target: str
    input_size: tuple[int, int]
    image_version: int
    threshold: int
    kernel_tolerance: int = 0
    training: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] | None = None
    golden: tuple[GoldenField, ...] = ()
    min_runtime: str = ""
    attribution: tuple[str, ...] = ()
    bce_version: str = ""
    spec_version: int = LOCATOR_SPEC_VERSION
    sha256: str = ""

    def __post_init__(self) -> None:
        """Refuse values that no locator can have."""
        if not all(isinstance(side, int) and side >= _LEAST_SIDE and side % STRIDE == 0 for side in self.input_size):
            message = (
                f"locator {self.name}: input_size must be (height, width) in pixels, multiples of {STRIDE} from "
                f"{_LEAST_SIDE} on, found {self.input_size}"
            )
            raise SpecError(message)
        if not isinstance(self.threshold, int) or not 1 <= self.threshold <= _MOST_HEAT:
            message = f"locator {self.name}: threshold must be 1 to {_MOST_HEAT}, found {self.threshold}"
            raise SpecError(message)
        if not isinstance(self.kernel_tolerance, int) or not 0 <= self.kernel_tolerance <= _MOST_HEAT:
            message = f"locator {self.name}: kernel_tolerance must be 0 to {_MOST_HEAT}, found {self.kernel_tolerance}"
            raise SpecError(message)

    def with_(self, **changes: Any) -> LocatorSpec:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def locator_spec_from_json(values: Any, *, where: str) -> LocatorSpec:
    """Build a spec from parsed JSON; keys of later versions are left out.

    Args:
        values: what `LocatorSpec.as_json` gave.
        where: the file, for messages.

    Raises:
        SpecError: not an object, a newer layout, or a key missing or wrong.
    """
    version = values.get("spec_version", LOCATOR_SPEC_VERSION) if isinstance(values, dict) else None
    if not isinstance(version, int) or version > LOCATOR_SPEC_VERSION:
        message = f"{where}: expected a locator's spec of version {LOCATOR_SPEC_VERSION}, found {version}; upgrade bce"
        raise SpecError(message)
    known = {item.name: values[item.name] for item in fields(LocatorSpec) if item.name in values}
    try:
        height, width = known["input_size"]
        known["input_size"] = (int(height), int(width))
        known["attribution"] = tuple(known.get("attribution", ()))
        known["golden"] = tuple(_golden(one) for one in known.get("golden", ()))
        return LocatorSpec(**known)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        message = f"{where}: not a locator's spec that this bce understands ({error}); convert it again"
        raise SpecError(message) from error


def _golden(values: Mapping[str, Any]) -> GoldenField:
    known = {item.name: values[item.name] for item in fields(GoldenField) if item.name in values}
    boxes = tuple((int(x), int(y), int(width), int(height), int(heat)) for x, y, width, height, heat in known["boxes"])
    return GoldenField(**{**known, "drawn": tuple(known["drawn"]), "boxes": boxes})
