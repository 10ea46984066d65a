"""``bce convert`` and ``bce parity`` of a locator's run: the files that stand beside its Keras model, and their proof.

What a converted locator finds is compared with what the Keras network finds, in the same scenes and pictures, cell by
cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bloodcell_edge.dataset.split import SplitRule
from bloodcell_edge.dataset.tables import read_rows
from bloodcell_edge.errors import MissingFile
from bloodcell_edge.files import read_json, refuse_existing, write_bytes, write_json
from bloodcell_edge.imaging.image import IMAGE_VERSION
from bloodcell_edge.imaging.located import matches
from bloodcell_edge.model.decode import FLOAT_SCALES, Decoder
from bloodcell_edge.model.goldenfields import golden_fields, heat_tolerance
from bloodcell_edge.model.locator import LearnedLocator, open_locator, pack_locator
from bloodcell_edge.model.locatorspec import LocatorSpec
from bloodcell_edge.progress import SILENT, Reporter
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.locator.fit import KerasLocator, judged_scenes
from bloodcell_edge.training.locator.material import Material, material_of
from bloodcell_edge.training.locator.network import INPUT_SIZE
from bloodcell_edge.training.locator.recipe import LocatorRecipe
from bloodcell_edge.version import __version__

from .compat import min_runtime
from .files import Converted
from .representative import with_full_range
from .targets import Target
from .tflite import to_tflite

if TYPE_CHECKING:
    from numpy.typing import NDArray

REPRESENTATIVE = 200
"""Scenes of the representative dataset, laid from training pictures; black and white come to it."""


@dataclass(frozen=True)
class LocatorLimits:
    """What a converted locator may lose, percent."""

    max_recall_drop: float = 1.0
    max_precision_drop: float = 1.0
    min_agreement: float = 98.0


@dataclass(frozen=True)
class LocatorParity:
    """A converted locator against the Keras network, on the same scenes of held-back pictures.

    Attributes:
        file: the candidate.
        target: what it is.
        n: cells that are asked for.
        recall, precision: of the candidate, percent.
        recall_drop, precision_drop: below the reference, percentage points.
        agreement: cells that both find, of those that either finds, percent.
        iou: median intersection over union of these.
        ruler: median ratio of a red cell's diameter, candidate over reference.
        passed: whether all limits hold.
        why: which does not; empty where it passed.
    """

    file: str
    target: str
    n: int
    recall: float
    precision: float
    recall_drop: float
    precision_drop: float
    agreement: float
    iou: float
    ruler: float
    passed: bool
    why: str

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _material(run: RunFolder, report: Reporter) -> tuple[LocatorRecipe, Material]:
    """What a run was trained on, read again."""
    config = read_json(run.config)
    values = dict(config["locator"])
    values |= {"split": SplitRule(**values["split"]), "without": tuple(values["without"])}
    recipe = LocatorRecipe(**values)
    sides = {Path(row["path"]): row["split"] for row in read_rows(run.split, ("path", "split"))}
    return recipe, material_of(config["data"], sides, report)


def convert_locator(
    folder: str | Path,
    targets: Sequence[Target | str] = (Target.INT8, Target.FLOAT16),
    *,
    out: str | Path | None = None,
    force: bool = False,
    report: Reporter = SILENT,
) -> list[Converted]:
    """Convert a trained locator.

    Args:
        folder: the run folder of ``bce train --locator``.
        targets: what to make; names such as "int8" will do.
        out: folder for the files, ``locator-<target>.tflite``; None for the run's own.
        force: overwrite what is there.
        report: told how far it is.

    Raises:
        OutputExists: a file is there and `force` is not given; nothing is converted then.
        MissingFile: the run is not finished.
        ConversionError: see `to_tflite`.
    """
    run = RunFolder(Path(folder))
    wanted = [Target(target) for target in targets]
    files = {target: Path(out or run.path) / f"locator-{target.value}.tflite" for target in wanted}
    for file in files.values():
        refuse_existing(file, force=force)
    if not run.metrics.is_file():
        message = f"{run.path}: the run is not finished; give the same bce train --locator again"
        raise MissingFile(message)
    metrics = read_json(run.metrics)
    net = keras.saving.load_model(run.model, compile=False)
    recipe, material = _material(run, report)
    samples = with_full_range(_pixels(material, recipe))
    spec = LocatorSpec(
        run.path.name, "keras", INPUT_SIZE, IMAGE_VERSION, int(metrics["heldback"]["threshold"]),
        training={"pictures": metrics["pictures"], "epochs": recipe.epochs, "steps": recipe.steps, "seed": recipe.seed},
        figures=metrics["heldback"], bce_version=__version__,
    )  # fmt: skip
    made = []
    for target, file in files.items():
        report.say(f"converting to {target.value}")
        flatbuffer = to_tflite(net, target=target, representative=samples, planes=True)
        write_bytes(file, _described(flatbuffer, spec.with_(target=target.value), samples))
        made.append(Converted(file, target, file.stat().st_size, min_runtime(flatbuffer)))
    return made


def _pixels(material: Material, recipe: LocatorRecipe) -> NDArray[np.uint8]:
    scenes = judged_scenes(material.training, recipe, REPRESENTATIVE)
    return np.stack([scene.pixels.astype(np.uint8) for scene in scenes])


def _described(flatbuffer: bytes, spec: LocatorSpec, samples: NDArray[np.uint8]) -> bytes:
    """With tolerance and golden fields, measured on the file itself."""
    bare = spec.with_(kernel_tolerance=heat_tolerance(flatbuffer, samples), min_runtime=min_runtime(flatbuffer))
    locator = open_locator(pack_locator(flatbuffer, bare), where=spec.name)
    return pack_locator(flatbuffer, bare.with_(golden=golden_fields(locator)))


def prove_locator(
    folder: str | Path,
    candidates: Sequence[Path] = (),
    *,
    limits: LocatorLimits = LocatorLimits(),
    report: Reporter = SILENT,
) -> list[LocatorParity]:
    """Compare converted locators with the Keras network they came from; what passes keeps its figures.

    Args:
        folder: the run folder of ``bce train --locator``.
        candidates: .tflite files; none means all beside the model.
        limits: the gate.
        report: told how far it is.

    Raises:
        MissingFile: no candidate.
        SpecError: one that is no locator.
    """
    run = RunFolder(Path(folder))
    files = [*candidates] or run.tflite_files()
    if not files:
        message = f"{run.path}: no .tflite beside the model to compare; run bce convert"
        raise MissingFile(message)
    recipe, material = _material(run, report)
    scenes = judged_scenes(material.held_back or material.training, recipe)
    network = KerasLocator(keras.saving.load_model(run.model, compile=False))
    found = []
    for file in files:
        locator = open_locator(file.read_bytes(), where=str(file))
        one = _compared(network, locator, file, scenes, limits)
        found.append(one)
        if one.passed:
            parity = one.as_json() | {"limits": asdict(limits)}
            write_bytes(file, pack_locator(locator.file.flatbuffer, locator.spec.with_(parity=parity)))
    write_json(run.parity, {"passed": all(one.passed for one in found), "candidates": [one.as_json() for one in found]})
    return found


def _compared(
    network: KerasLocator, locator: LearnedLocator, file: Path, scenes: Sequence[Any], limits: LocatorLimits
) -> LocatorParity:
    threshold, reference = locator.spec.threshold, Decoder(*FLOAT_SCALES[1:])
    cells = ours = theirs = shared = either = our_boxes = their_boxes = 0
    fits: list[float] = []
    rulers: list[float] = []
    for scene in scenes:
        pixels = scene.pixels.astype(np.uint8)
        size = (pixels.shape[0], pixels.shape[1])
        wanted = [cell.rectangle for cell in scene.cells if cell.certain]
        planes = network(pixels)
        keras_peaks = reference.peaks(planes, threshold, size)
        own, decoder = locator.planes(pixels)
        peaks = decoder.peaks(own, threshold, size)
        rulers.append(decoder.red_cell(own, size) / reference.red_cell(planes, size))
        found, expected = ([peak.rectangle for peak in some] for some in (peaks, keras_peaks))
        pairs = matches(found, expected)
        shared, fits = shared + len(pairs), fits + [fit for fit, *_ in pairs]
        either += len(peaks) + len(keras_peaks) - len(pairs)
        cells += len(wanted)
        ours, theirs = ours + len(matches(found, wanted)), theirs + len(matches(expected, wanted))
        our_boxes, their_boxes = our_boxes + len(peaks), their_boxes + len(keras_peaks)
    recall, precision = 100 * ours / max(cells, 1), 100 * ours / max(our_boxes, 1)
    drop = 100 * theirs / max(cells, 1) - recall
    less_precise = 100 * theirs / max(their_boxes, 1) - precision
    agreement = 100 * shared / max(either, 1)
    why = _why(drop, less_precise, agreement, limits)
    return LocatorParity(
        str(file), locator.spec.target, cells, recall, precision, drop, less_precise, agreement,
        float(np.median(fits)) if fits else 0.0, float(np.median(rulers)), not why, why,
    )  # fmt: skip


def _why(recall_drop: float, precision_drop: float, agreement: float, limits: LocatorLimits) -> str:
    reasons = [
        f"recall falls by {recall_drop:.1f} points (limit {limits.max_recall_drop})"
        if recall_drop > limits.max_recall_drop
        else "",
        f"precision falls by {precision_drop:.1f} points (limit {limits.max_precision_drop})"
        if precision_drop > limits.max_precision_drop
        else "",
        f"agreement {agreement:.1f} % (limit {limits.min_agreement})" if agreement < limits.min_agreement else "",
    ]
    return "; ".join(reason for reason in reasons if reason)
