"""ModelSpec: everything a device must know of a model besides its weights, and where the model comes from.

It travels inside the .tflite as ``bce.json`` (see `model.file`) and beside a Keras model as ``spec.json``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..errors import SpecError
from ..files import read_json, write_json
from ..imaging.views import View
from ..records import UNIDENTIFIED

SPEC_VERSION = 2
"""Raise when an older reader would misunderstand a newer spec."""

_FIRST_WITH_LOCATOR = 2  # version of the layout

KERNEL_TOLERANCE = 20 / 256
"""Least that another interpreter's kernels are allowed to move a score by: 0.0625 to 0.078 was measured between those
of LiteRT and tflite-runtime, x86 and arm64, on a network that quantizes badly. The same kernels give the same bits."""

RULES_RULER = 0.957
"""Measured: diameter of a red cell by the rules that located cells for files of version 1, over the true one. It is
0.918 on BCCD photographs and 0.997 on Barcelona's pictures (benchmarks/locate_truth.py --locator rules --only ruler);
this is the geometric mean, since models learnt from both alike. By so much a crop was smaller than its spec says."""

INTENDED_USE = "Research use only, not for diagnosis."


@dataclass(frozen=True)
class Golden:
    """A drawn picture and what the model answered when it was made, to be replayed on the device.

    Attributes:
        seed: for `drawn.draw_field`; no patient's picture travels in a model.
        drawn: the cell that was drawn.
        pixels_sha256: of the prepared RGB bytes.
        label: the answer.
        scores: probability of each label, in label order.
    """

    seed: int
    drawn: str
    pixels_sha256: str
    label: str
    scores: tuple[float, ...]


@dataclass(frozen=True)
class ModelSpec:
    """What a model is, takes and gives, and where it comes from.

    Attributes:
        name: what to call it.
        labels: classes in output order.
        view: one of `views.VIEWS`.
        input_size: (height, width) in pixels of the RGB 0..255 input.
        target: "keras", or the conversion target of a .tflite ("int8", "float16", ...).
        image_version: `image.IMAGE_VERSION` when it was trained.
        crop_um: side of the crop around a cell on the smear, µm, by the ruler of its training (see `shown_as`); None
            for view "frame".
        light: one of `views.LIGHTS`.
        background: there is one output more, for cells and things that are none of these; it is no label, and what it
            takes the labels lack: a low top score is UNIDENTIFIED.
        temperature: by which the logits were divided; inside the graph.
        reject_threshold: top score below which a picture is UNIDENTIFIED; None where none was fitted.
        training: recipe, backbone, starting weights, seed, data with counts by picture and by photograph.
        figures: measured on the held-back split; every figure with its n and interval.
        parity: the report that this file passed; None before `bce parity`.
        seen: hashes of the training pictures, see `seen`.
        split_sha256: of the run's split.csv.
        representative: the calibration pictures, a {"file", "sha256"} each; int8 only.
        kernel_tolerance: by which a score may differ between interpreters with other kernels, measured on this file.
        min_runtime: the oldest TFLite runtime that runs it, from its operators.
        golden: replayed at start.
        locator: of view "cell": what finds the cells for it, see `locator.told`: name, size, figures, hashes, kernel
            tolerance, golden fields; None for view "frame", and in files of version 1.
        attribution: sources that must be named, a line each.
        card: what the model card says besides, see `card`.
        intended_use: what it is for.
        bce_version: that made it.
        spec_version: of this layout.
        sha256: over flatbuffer, labels and this spec without the hash; empty outside a .tflite.
    """

    name: str
    labels: tuple[str, ...]
    view: str
    input_size: tuple[int, int]
    target: str
    image_version: int
    crop_um: float | None = None
    light: str = "camera"
    background: bool = False
    temperature: float = 1.0
    reject_threshold: float | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    parity: Mapping[str, Any] | None = None
    seen: Mapping[str, str] = field(default_factory=dict)
    split_sha256: str = ""
    representative: tuple[Mapping[str, str], ...] = ()
    kernel_tolerance: float = KERNEL_TOLERANCE
    min_runtime: str = ""
    golden: tuple[Golden, ...] = ()
    locator: Mapping[str, Any] | None = None
    attribution: tuple[str, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    intended_use: str = INTENDED_USE
    bce_version: str = ""
    spec_version: int = SPEC_VERSION
    sha256: str = ""

    def __post_init__(self) -> None:
        """Refuse values that no model can have."""
        named = all(isinstance(label, str) and label.strip() and label.isprintable() for label in self.labels)
        if not self.labels or len(set(self.labels)) != len(self.labels) or not named:
            message = f"spec {self.name}: labels must be different names of one line, found {list(self.labels)}"
            raise SpecError(message)
        if len(self.input_size) != 2 or not all(isinstance(side, int) and side > 0 for side in self.input_size):
            message = f"spec {self.name}: input_size must be (height, width) in pixels, found {self.input_size}"
            raise SpecError(message)
        if self.reject_threshold is not None and not 0 <= self.reject_threshold <= 1:
            message = f"spec {self.name}: reject_threshold must be 0 to 1, found {self.reject_threshold}"
            raise SpecError(message)
        try:
            self.shown_as  # noqa: B018  # refuses what cannot be shown
        except SpecError as error:
            message = f"spec {self.name}: {error}"
            raise SpecError(message) from error

    @property
    def by_rules(self) -> bool:
        """Whether its cells were located by rules in training, as those of all files of version 1 were."""
        return self.view == "cell" and self.spec_version < _FIRST_WITH_LOCATOR

    @property
    def shown_as(self) -> View:
        """How pictures are shown to this model; a crop is as large as it was in training, see `RULES_RULER`."""
        crop_um = self.crop_um * RULES_RULER if self.by_rules and self.crop_um else self.crop_um
        return View(self.view, self.input_size, crop_um, self.light)

    @property
    def note(self) -> str:
        """What a person should be told who uses it; empty where there is nothing."""
        if not self.by_rules:
            return ""
        return (
            f"{self.name} was made before models carried a locator: cells are found by the one that comes with bce, "
            f"and shown in crops of {self.shown_as.crop_um:.1f} µm, which by its ruler is what {self.crop_um:g} µm were"
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """What each output of the network stands for: the labels, and UNIDENTIFIED where there is a background."""
        return (*self.labels, UNIDENTIFIED) if self.background else self.labels

    def with_(self, **changes: Any) -> ModelSpec:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def with_locator(self, locator: Mapping[str, Any] | None) -> ModelSpec:
        """A copy of this version of the layout that tells of a locator; crops stay as large as `shown_as` has them."""
        return self.with_(locator=locator, crop_um=self.shown_as.crop_um, spec_version=SPEC_VERSION)

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def canonical(self) -> bytes:
        """The bytes that the hash covers: sorted keys, no white space, without the hash itself."""
        return canonical_json(self.as_json())


def canonical_json(values: Mapping[str, Any]) -> bytes:
    """The bytes that the hash of a spec covers, also of one with keys that this version does not know.

    Sorted keys, no white space, without the hash itself.
    """
    plain = json.loads(json.dumps(values, allow_nan=False))  # as it will be read: names of keys are text
    plain.pop("sha256", None)
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()


def spec_from_json(values: Any, *, where: str) -> ModelSpec:
    """Build a spec from parsed JSON; keys of later versions are left out.

    Args:
        values: what `ModelSpec.as_json` gave.
        where: the file, for messages.

    Raises:
        SpecError: not an object, a newer layout, or a key missing or wrong.
    """
    if not isinstance(values, dict):
        message = f"{where}: expected a JSON object, found {type(values).__name__}"
        raise SpecError(message)
    version = values.get("spec_version", SPEC_VERSION)
    if isinstance(version, int) and version > SPEC_VERSION:
        message = f"{where}: spec version {version}, this bce reads up to {SPEC_VERSION}; upgrade bce"
        raise SpecError(message)
    known = _known(ModelSpec, values)
    try:
        for key in _ROWS & known.keys():
            known[key] = _row(key, known[key])
        known["golden"] = tuple(_golden(one) for one in known.get("golden", ()))
        return ModelSpec(**known)
    except (TypeError, KeyError, AttributeError) as error:
        message = f"{where}: not a spec that this bce understands ({error}); convert the model again"
        raise SpecError(message) from error


_ROWS = frozenset({"labels", "input_size", "representative", "golden", "attribution"})
"""Keys whose values are lists in JSON, tuples here."""


def _known(kind: type[ModelSpec] | type[Golden], values: Mapping[str, Any]) -> dict[str, Any]:
    return {item.name: values[item.name] for item in fields(kind) if item.name in values}


def _row(key: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):  # a string would fall apart into its letters
        message = f"{key} is {type(value).__name__}, not a list"
        raise TypeError(message)
    return tuple(value)


def _golden(values: Mapping[str, Any]) -> Golden:
    return Golden(**{**_known(Golden, values), "scores": _row("scores", values["scores"])})


def load_spec(path: str | Path) -> ModelSpec:
    """Read the spec.json that stands beside a Keras model.

    Raises:
        MissingFile: it is not there.
        SpecError: it cannot be understood.
    """
    values = read_json(path, absent="no such file; a bare .keras needs --labels and --view", kind=SpecError)
    return spec_from_json(values, where=str(path))


def save_spec(path: str | Path, spec: ModelSpec) -> None:
    """Write a spec as readable JSON, whole or not at all."""
    write_json(path, spec.as_json())
