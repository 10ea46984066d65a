"""``bce parity``: from paths to a report, written down where it belongs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from bloodcell_edge.dataset.asking import read_questions
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.dataset.split import held_back
from bloodcell_edge.errors import MissingFile
from bloodcell_edge.files import write_bytes, write_json
from bloodcell_edge.model.choose import choose_model
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.file import pack, read_model_file
from bloodcell_edge.progress import SILENT, Reporter
from bloodcell_edge.runs import KERAS_FILE, RunFolder
from bloodcell_edge.training.kerasmodel import KerasModel, open_keras

from .layers import LOOKED_AT, advice, agreement_afresh, worst_layers
from .parity import Candidate, GateLimits, answers_differ, compare
from .reports import CandidateParity, ParityReport
from .representative import choose_pictures
from .targets import Target


def prove(
    reference: str | Path | None = None,
    candidates: Sequence[str | Path] = (),
    data: str | Path | None = None,
    *,
    limits: GateLimits = GateLimits(),  # noqa: B008 - frozen
    report: Reporter = SILENT,
) -> ParityReport:
    """What `bce parity` does: compare files with the Keras model they came from, and keep the report.

    On a run's held-back pictures the report goes into the run folder, and into each file of the run that passed. Where
    the answers of an int8 file are beyond the limits, its layers are looked at.

    Args:
        reference: a .keras with spec.json beside it, a run folder, or None for the latest run.
        candidates: .tflite files; none means all beside the reference.
        data: labelled pictures; None means the run's held-back ones.
        limits: the gate.
        report: told how far it is.

    Raises:
        MissingFile: no model, no candidate, or no split to compare on.
    """
    path = choose_model(reference, prefer=KERAS_FILE).path
    run = RunFolder(path.parent)
    files = [Path(file) for file in candidates] or run.tflite_files()
    if not files:
        message = f"{run.path}: no .tflite beside the model to compare; run bce convert"
        raise MissingFile(message)
    model = open_keras(path)
    opened = [Candidate(file, Classifier.open(file)) for file in files]
    pictures = _held_back(run) if data is None else load_data(data, labels=model.spec.labels).only("test").pictures
    found = compare(model, path, opened, pictures, limits=limits, report=report)
    found = replace(
        found,
        candidates=tuple(
            _explained(one, model, pictures, limits, report)
            if one.target == Target.INT8.value and answers_differ(one, limits)
            else one
            for one in found.candidates
        ),
    )
    if data is None:
        _keep(found, run, limits, report)
    return found


def _explained(
    one: CandidateParity, model: KerasModel, pictures: Sequence[Picture], limits: GateLimits, report: Reporter
) -> CandidateParity:
    """With the layers that lose most, and what to try."""
    report.say(f"looking for the layers that lose most, to explain {Path(one.file).name}")
    some = choose_pictures(pictures, model.spec.labels, seed=0, samples=LOOKED_AT, allow_small=True)
    cells = read_questions(some, [model.spec.shown_as]).cells(model.spec.shown_as)
    pixels = np.stack([pixels for _, pixels in cells])
    layers, afresh = worst_layers(model.net, pixels), agreement_afresh(model.net, pixels)
    return replace(one, layers=layers, advice=advice(layers, afresh=afresh, min_agreement=limits.min_agreement))


def _held_back(run: RunFolder) -> list[Picture]:
    if not run.split.is_file():
        message = f"{run.split}: not there, so the held-back pictures are not known; give --data"
        raise MissingFile(message)
    return held_back(run.split)


def _keep(found: ParityReport, run: RunFolder, limits: GateLimits, report: Reporter) -> None:
    """Write the report into the run folder, and what passed into the run's files; one that refuses is no failure."""
    try:
        write_json(run.parity, found.as_json())
        for one in found.candidates:
            if one.passed and Path(one.file).resolve().parent == run.path.resolve():
                _write_into(Path(one.file), one, found, limits)
    except OSError as error:
        report.say(f"{run.path}: the report cannot be kept there ({error.strerror or error})")


def _write_into(path: Path, passed: CandidateParity, found: ParityReport, limits: GateLimits) -> None:
    """The proof travels with the file."""
    model = read_model_file(path)
    kept = ("accuracy", "accuracy_drop", "worst_recall_drop", "agreement", "max_abs_diff", "mean_abs_diff", "mcnemar_p")
    figures = {"n": found.n, "n_groups": found.n_groups, "reference_accuracy": found.reference_accuracy}
    figures |= {key: getattr(passed, key) for key in kept} | {"limits": asdict(limits)}
    write_bytes(path, pack(model.flatbuffer, model.spec.with_(parity=figures), model.locator))
