"""Blood-cell classification from smear photographs to a small device, with proof at every step.

    >>> import bloodcell_edge
    >>> classifier = bloodcell_edge.load_model("runs/latest")          # doctest: +SKIP
    >>> classifier.classify(bloodcell_edge.read_image("field.jpg"))    # doctest: +SKIP

What `bce run` does, as a script: ``open_source`` gives the pictures, ``run`` counts their cells into a ``Store``; see
`bloodcell_edge.slide.run`.

The names that scripts need are loaded when they are first used, so that ``import bloodcell_edge`` costs no numpy, no
OpenCV and no TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from .capture import open_source as open_source
    from .imaging.image import read_image as read_image
    from .model.classifier import Classifier
    from .slide.run import run as run
    from .slide.store import Store as Store

__all__ = ["Store", "__version__", "load_model", "open_source", "read_image", "run"]

_ROOMS = {"Store": "slide.store", "open_source": "capture", "read_image": "imaging.image", "run": "slide.run"}


def load_model(model: str | Path | None = None, *, threads: int = 1) -> Classifier:
    """Open a model for a script, found as the commands find it.

    Args:
        model: a .tflite, a run folder, the name of a shipped model, or None for the default.
        threads: cores for one picture.

    Raises:
        MissingFile: there is no such model.
        SpecError: damaged, or without a spec.
        RuntimeMissing: no interpreter opens it.
    """
    from .model.choose import choose_model
    from .model.classifier import Classifier

    return Classifier.open(choose_model(model).path, threads=threads)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        from importlib import import_module

        return getattr(import_module(f".{_ROOMS[name]}", __name__), name)
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
