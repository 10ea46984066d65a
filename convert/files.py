"""``bce convert``: the files that stand beside a Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bloodcell_edge.dataset.asking import read_questions
from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.errors import ConversionError, SpecError
from bloodcell_edge.files import refuse_existing, sha256_file, write_bytes
from bloodcell_edge.model.choose import choose_model
from bloodcell_edge.model.file import pack
from bloodcell_edge.model.golden import golden_samples, kernel_tolerance
from bloodcell_edge.model.interpreter import interpreter_of
from bloodcell_edge.model.locator import shipped_locator, told
from bloodcell_edge.model.metadata import add_metadata
from bloodcell_edge.model.spec import KERNEL_TOLERANCE, ModelSpec
from bloodcell_edge.progress import SILENT, Reporter
from bloodcell_edge.runs import KERAS_FILE
from bloodcell_edge.training.kerasmodel import KerasModel, open_keras

from .calibrate import calibrate, calibration_pictures
from .compat import min_runtime
from .representative import representative_pictures, with_full_range
from .targets import Target
from .tflite import to_tflite

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Converted:
    """A file that was made.

    Attributes:
        file: where it is.
        target: what it is.
        bytes: its size.
        min_runtime: the oldest TFLite release that runs it.
    """

    file: Path
    target: Target
    bytes: int
    min_runtime: str


def convert(
    model: str | Path | None = None,
    *,
    targets: Sequence[Target | str] = (Target.INT8, Target.FLOAT16),
    out: str | Path | None = None,
    representative: str | Path | None = None,
    allow_small: bool = False,
    labels: Sequence[str] | None = None,
    view: str | None = None,
    force: bool = False,
    report: Reporter = SILENT,
) -> list[Converted]:
    """What `bce convert` does: choose the representative dataset, calibrate, convert, and write the files.

    The int8 file of a run is calibrated on the pictures that the run held back; temperature and reject threshold go
    into all files made with it. The Keras model stays as it was trained.

    Args:
        model: a .keras, a run folder, or None for the latest run.
        targets: what to make of it; names such as "int8" will do.
        out: folder for the files; None for the model's own.
        representative: DATA to take the representative dataset from; None for the run's training pictures.
        allow_small: accept fewer than 50 representative pictures, or a class missing.
        labels: classes in output order, for a bare .keras without spec.json.
        view: "frame" or "cell", likewise.
        force: overwrite what is there.
        report: told how far it is.

    Raises:
        MissingFile: there is no such model.
        SpecError: it is not a model, or `labels` are not those of its spec.
        OutputExists: a file is there and `force` is not given; nothing is converted then.
        ConversionError: it cannot be converted, or calibrated.
    """
    path = choose_model(model, prefer=KERAS_FILE).path
    wanted = [Target(target) for target in targets]
    given = None if labels is None else tuple(labels)
    keras_model = open_keras(path, labels=given, view=view)
    if given not in (None, keras_model.spec.labels):
        message = (
            f"{path}: --labels {','.join(given or ())}, but its spec.json says {','.join(keras_model.spec.labels)}"
        )
        raise SpecError(message)
    samples = (
        representative_pictures(path, keras_model.spec, representative, allow_small=allow_small, report=report)
        if any(target.needs_samples for target in wanted)
        else []
    )
    return convert_files(
        keras_model,
        wanted,
        path.parent if out is None else Path(out),
        representative=samples,
        calibration=calibration_pictures(path, wanted, report),
        force=force,
        report=report,
    )


def convert_files(
    model: KerasModel,
    targets: Sequence[Target],
    out: Path,
    *,
    representative: Sequence[Picture] = (),
    calibration: Sequence[Picture] = (),
    force: bool = False,
    report: Reporter,
) -> list[Converted]:
    """Convert to several targets; the files are written when all of them are made, each whole or not at all.

    Args:
        model: what to convert.
        targets: what to make of it.
        out: folder for the files.
        representative: chosen training pictures, see `choose_pictures`; needed for int8.
        calibration: held-back pictures to fit temperature and reject threshold on, see `calibrate`; both go into all
            files, not into the model. Empty, or no int8 among the targets: the files say what the model says.
        force: overwrite what is there.
        report: told how far it is.

    Raises:
        OutputExists: a file is there and `force` is not given; nothing is converted then.
        ConversionError: see `to_tflite`; int8 without a readable representative picture.
    """
    for target in targets:
        refuse_existing(out / target.file_name, force=force)
    samples: NDArray[np.uint8] | None = None
    listed: tuple[dict[str, str], ...] = ()
    trained_with = model.spec.training.get("locator")
    if trained_with and trained_with != shipped_locator().spec.sha256:
        carried = shipped_locator().spec.sha256
        report.say(f"trained on crops of locator {trained_with[:12]}, the files carry {carried[:12]}")
    if any(target.needs_samples for target in targets):
        samples, listed = _samples(representative, model.spec, report)
    net, about, ready = model.net, model.spec, {}
    if calibration and samples is not None:
        done = calibrate(net, about, samples, calibration, report)
        net, about, ready = done.net, done.spec, {Target.INT8: done.int8}
    made: dict[Converted, bytes] = {}
    for target in targets:
        report.say(f"converting to {target.value}")
        flatbuffer = ready.get(target) or to_tflite(
            net, target=target, representative=samples if target.needs_samples else None
        )
        used = (listed, samples) if target.needs_samples else ((), None)
        spec = _spec(flatbuffer, about, target, *used)
        data = pack(_described(flatbuffer, spec), spec, shipped_locator().file.content if spec.locator else b"")
        made[Converted(out / target.file_name, target, len(data), spec.min_runtime)] = data
    for one, data in made.items():
        write_bytes(one.file, data)
    return list(made)


def _samples(
    pictures: Sequence[Picture], spec: ModelSpec, report: Reporter
) -> tuple[NDArray[np.uint8], tuple[dict[str, str], ...]]:
    """Pixels of the representative dataset, and its list for the spec."""
    if not pictures:
        message = f"{spec.name}: int8 needs a representative dataset, found no picture"
        raise ConversionError(message)
    read = read_questions(pictures, [spec.shown_as])
    for one in read.unreadable:
        report.say(f"left out of the representative dataset: {one.error}")
    cells = read.cells(spec.shown_as)
    if not cells:
        message = f"{spec.name}: int8 needs a representative dataset, found no cell in {len(read.pictures)} pictures"
        raise ConversionError(message)
    if without := len(read.pictures) - len(cells):
        report.say(f"left out of the representative dataset: {without} pictures without a cell")
    listed = tuple({"file": picture.file, "sha256": sha256_file(picture.path)} for picture, _ in cells)
    return with_full_range(np.stack([pixels for _, pixels in cells])), listed


def _spec(
    flatbuffer: bytes,
    spec: ModelSpec,
    target: Target,
    representative: tuple[dict[str, str], ...],
    samples: NDArray[np.uint8] | None,
) -> ModelSpec:
    bare = spec.with_locator(told(shipped_locator().file) if spec.shown_as.needs_cells else None).with_(
        target=target.value,
        representative=representative,
        min_runtime=min_runtime(flatbuffer),
        parity=None,
        golden=(),
    )
    file = _described(flatbuffer, bare)
    tolerance = KERNEL_TOLERANCE if samples is None else kernel_tolerance(file, samples)
    golden = golden_samples(interpreter_of(file), spec.outputs, spec.shown_as, margin=2 * tolerance)
    return bare.with_(golden=golden, kernel_tolerance=tolerance)


def _described(flatbuffer: bytes, spec: ModelSpec) -> bytes:
    return add_metadata(
        flatbuffer,
        name=f"bloodcell {spec.name} {spec.target}",
        description=f"White blood cells: {', '.join(spec.labels)}. {spec.intended_use}",
        version=spec.bce_version or "1",
    )
