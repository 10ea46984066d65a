"""What is inside a .tflite: the root table of its flatbuffer, and the classes that read it."""

from __future__ import annotations

import functools
import importlib
from typing import Any

from ..errors import RuntimeMissing, SpecError

_IDENTIFIER = b"TFL3"


@functools.cache
def schema() -> Any:
    """The model schema's generated classes, from ai-edge-litert or tensorflow, whichever is installed.

    Raises:
        RuntimeMissing: neither is.
    """
    for module in ("ai_edge_litert.schema_py_generated", "tensorflow.lite.python.schema_py_generated"):
        try:
            return importlib.import_module(module)
        except ImportError:
            continue
    message = "reading a .tflite's operators needs ai-edge-litert or tensorflow: pip install ai-edge-litert"
    raise RuntimeMissing(message)


def read_model(flatbuffer: bytes) -> Any:
    """The root table (`schema().Model`) of a TFLite file.

    Raises:
        SpecError: the bytes are not a TFLite file.
        RuntimeMissing: as `schema`.
    """
    if flatbuffer[4:8] != _IDENTIFIER:
        message = f"not a TFLite file: expected {_IDENTIFIER!r} at byte 4, found {flatbuffer[4:8]!r}"
        raise SpecError(message)
    return schema().Model.GetRootAs(flatbuffer, 0)
