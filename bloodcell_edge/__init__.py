"""Blood-cell classification from smear photographs to a small device, with proof at every step.

    >>> import bloodcell_edge
    >>> classifier = bloodcell_edge.load_model("runs/latest")          # doctest: +SKIP
    >>> classifier.classify(bloodcell_edge.read_image("field.jpg"))    # doctest: +SKIP

A script gets what the commands give, each in one call: ``count_slide`` is `bce run`; ``train``, ``convert``, ``prove``
and ``evaluate`` are `bce train`, `convert`, `parity` and `evaluate`. The first three of these load TensorFlow.

Names are loaded when they are first used, so that ``import bloodcell_edge`` costs no numpy, no OpenCV and no
TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from convert.files import convert as convert
    from convert.proof import prove as prove

    from .capture import open_source as open_source
    from .dataset.evaluation import Evaluated
    from .errors import PictureError as PictureError
    from .imaging.image import read_image as read_image
    from .model.classifier import Classifier as Classifier
    from .progress import Reporter
    from .records import Frame as Frame
    from .slide.export import export_csv as export_csv
    from .slide.reader import Reader as Reader
    from .slide.run import Settings as Settings
    from .slide.run import count_slide as count_slide
    from .slide.store import Store as Store
    from .training.fit import train_data as train

__all__ = [
    "Classifier", "Frame", "PictureError", "Reader", "Settings", "Store", "__version__", "convert", "count_slide",
    "evaluate", "export_csv", "load_model", "open_source", "prove", "read_image", "train",
]  # fmt: skip

_WHERE = {
    "Classifier": ("bloodcell_edge.model.classifier", "Classifier"),
    "Frame": ("bloodcell_edge.records", "Frame"),
    "PictureError": ("bloodcell_edge.errors", "PictureError"),
    "Reader": ("bloodcell_edge.slide.reader", "Reader"),
    "Settings": ("bloodcell_edge.slide.run", "Settings"),
    "Store": ("bloodcell_edge.slide.store", "Store"),
    "convert": ("convert.files", "convert"),
    "count_slide": ("bloodcell_edge.slide.run", "count_slide"),
    "export_csv": ("bloodcell_edge.slide.export", "export_csv"),
    "open_source": ("bloodcell_edge.capture", "open_source"),
    "prove": ("convert.proof", "prove"),
    "read_image": ("bloodcell_edge.imaging.image", "read_image"),
    "train": ("bloodcell_edge.training.fit", "train_data"),
}


def load_model(model: str | Path | None = None, *, threads: int | None = 1) -> Classifier:
    """Open a model for a device, found as the commands find it.

    Args:
        model: a .tflite, a run folder, the name of a shipped model, or None for the default.
        threads: cores for one picture; None for the fastest, which is measured.

    Raises:
        MissingFile: there is no such model.
        SpecError: damaged, or without a spec.
        RuntimeMissing: no interpreter opens it.
    """
    from .model.choose import choose_model
    from .model.classifier import Classifier

    return Classifier.open(choose_model(model).path, threads=threads)


def evaluate(
    data: str | Path,
    model: str | Path | None = None,
    *,
    group_by: str | Path | None = None,
    allow_seen: bool = False,
    report: Reporter | None = None,
) -> Evaluated:
    """How good a model is on labelled pictures, as `bce evaluate` says it.

    Pictures that the model was trained on, and turned copies of them, are left out.

    Args:
        data: a folder or CSV file of labelled pictures; of one with TRAIN and TEST, TEST.
        model: a .tflite or .keras, a run folder, the name of a shipped model, or None for the default.
        group_by: a CSV with the columns ``file,group``.
        allow_seen: keep pictures that the model was trained on.
        report: told how far it is.

    Raises:
        MissingFile, SpecError, RuntimeMissing: there is no such model, or it cannot be opened.
        MissingFile, DataError, NoPictures: DATA cannot be used, or every picture was seen.
    """
    from .dataset.evaluation import evaluate_data
    from .model.choose import choose_model
    from .progress import SILENT

    # By name, since the import rules keep training/ out of what runs on the device.
    open_model = import_module("bloodcell_edge.training.opening").open_model
    opened = open_model(choose_model(model).path)
    return evaluate_data(opened, data, group_by=group_by, allow_seen=allow_seen, report=report or SILENT)


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        module, own_name = _WHERE[name]
        return getattr(import_module(module), own_name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
