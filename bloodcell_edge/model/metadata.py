"""Standard TFLite Metadata (schema identifier M001), so that other TFLite clients find labels and normalization.

The model is unpacked and packed again with the classes that flatbuffers generated from its schema, which is what the
converter's own last step does. That step loses the alignment of the weights; here they begin at multiples of 16 bytes
again, as schema.fbs asks.

Field numbers below follow TensorFlow's metadata_schema.fbs 1.5.0 and schema.fbs version 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flatbuffers

from ..errors import ConversionError
from .flatbuffer import read_model, schema

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

METADATA_NAME = b"TFLITE_METADATA"
"""The entry of the model's metadata list under which TFLite clients look."""

_METADATA_IDENTIFIER, _MODEL_IDENTIFIER = b"M001", b"TFL3"
_PARSER_VERSION = "1.0.0"  # everything written here is known since the first release of the format
_FOUR = 4  # bytes of a float32 and of an offset
_ALIGNMENT = 16  # bytes; schema.fbs asks for it where weights begin (Buffer.data, force_align)

# Values of enumerations and unions of the metadata schema.
_RGB, _IMAGE_PROPERTIES, _FEATURE_PROPERTIES, _NORMALIZATION, _AXIS_LABELS = 1, 2, 1, 1, 2


def add_metadata(
    flatbuffer: bytes,
    *,
    name: str,
    description: str,
    version: str,
    labels_file: str = "labels.txt",
    author: str = "",
    license_text: str = "",
) -> bytes:
    """Describe an image classifier inside its own file.

    The input is described as raw RGB, 0..255 (mean 0, standard deviation 1: scaling is inside the graph), the output as
    probabilities whose labels stand one a line in an associated file. That file is not added here: it is appended as a
    zip member. Other metadata entries stay; an older TFLITE_METADATA is replaced.

    Args:
        flatbuffer: a TFLite model with one uint8 or float32 image input and one output, without a zip behind it.
        name: the model's name.
        description: one sentence for people.
        version: the model's version.
        labels_file: the name of the associated file.
        author: who made it; left out where empty.
        license_text: its licence; left out where empty.

    Returns:
        The flatbuffer with its metadata, a multiple of 16 bytes long; the same bytes for the same arguments.

    Raises:
        ConversionError: more than one input or output, or an input that is neither uint8 nor float32.
        SpecError: not a TFLite file.
        RuntimeMissing: neither ai-edge-litert nor tensorflow is installed.
    """
    _check_interface(read_model(flatbuffer))
    about = _About(name, description, version, labels_file, author, license_text)
    return _with_entry(flatbuffer, _metadata(about))


@dataclass(frozen=True)
class _About:
    """What `add_metadata` was told."""

    name: str
    description: str
    version: str
    labels_file: str
    author: str
    license_text: str


def _check_interface(model: Any) -> None:
    graph, types = model.Subgraphs(0), schema().TensorType
    if (graph.InputsLength(), graph.OutputsLength()) != (1, 1):
        message = f"expected one input and one output, found {graph.InputsLength()} and {graph.OutputsLength()}"
        raise ConversionError(message)
    if graph.Tensors(graph.Inputs(0)).Type() not in (types.UINT8, types.FLOAT32):
        message = "expected a uint8 or float32 input (image clients refuse others); convert it with bce convert"
        raise ConversionError(message)


# The metadata, a flatbuffer of its own.


def _metadata(about: _About) -> bytes:
    """The ModelMetadata flatbuffer."""
    builder = flatbuffers.Builder(1024)
    inputs, outputs = _tables(builder, [_input(builder)]), _tables(builder, [_output(builder, about)])
    graph = _table(builder, 10, {2: inputs, 3: outputs})
    fields = {
        0: builder.CreateString(about.name),
        1: builder.CreateString(about.description),
        2: builder.CreateString(about.version),
        3: _tables(builder, [graph]),
        7: builder.CreateString(_PARSER_VERSION),
    }
    for field, text in ((4, about.author), (5, about.license_text)):
        if text:
            fields[field] = builder.CreateString(text)
    builder.Finish(_table(builder, 8, fields), file_identifier=_METADATA_IDENTIFIER)
    return bytes(builder.Output())


def _input(builder: Any) -> int:
    """TensorMetadata of the picture: RGB, 0..255, nothing to subtract or divide by."""
    normalization = _table(builder, 2, {0: _floats(builder, [0.0]), 1: _floats(builder, [1.0])})
    process = _table(builder, 2, {1: normalization}, small={0: _NORMALIZATION})
    image = _table(builder, 2, {}, small={0: _RGB})
    fields = {
        0: builder.CreateString("image"),
        1: builder.CreateString("RGB picture, 0 to 255, not normalized: the model scales it itself"),
        3: _table(builder, 3, {1: image}, small={0: _IMAGE_PROPERTIES}),
        4: _tables(builder, [process]),
        5: _table(builder, 2, {0: _floats(builder, [255.0]), 1: _floats(builder, [0.0])}),
    }
    return _table(builder, 7, fields)


def _output(builder: Any, about: _About) -> int:
    """TensorMetadata of the probabilities, with the file of their labels."""
    labels = {
        0: builder.CreateString(about.labels_file),
        1: builder.CreateString("one label a line, in the order of the output"),
    }
    fields = {
        0: builder.CreateString("probability"),
        1: builder.CreateString("probability of each label, 0 to 1"),
        3: _table(builder, 3, {1: _table(builder, 0, {})}, small={0: _FEATURE_PROPERTIES}),
        5: _table(builder, 2, {0: _floats(builder, [1.0]), 1: _floats(builder, [0.0])}),
        6: _tables(builder, [_table(builder, 5, labels, small={2: _AXIS_LABELS})]),
    }
    return _table(builder, 7, fields)


# The model, written anew with one more entry.


def _with_entry(flatbuffer: bytes, metadata: bytes) -> bytes:
    """The model with `metadata` in its metadata list, under `METADATA_NAME`."""
    model = schema().ModelT.InitFromObj(read_model(flatbuffer))
    kept = [entry for entry in model.metadata or [] if entry.name != METADATA_NAME]
    model.metadata = [*kept, schema().MetadataT(METADATA_NAME, len(model.buffers))]
    model.buffers = [*(_AlignedBuffer(buffer.data) for buffer in model.buffers), _AlignedBuffer(metadata)]
    builder = flatbuffers.Builder(len(flatbuffer) + len(metadata) + 65536)
    builder.Finish(model.Pack(builder), file_identifier=_MODEL_IDENTIFIER)
    return bytes(builder.Output())


@dataclass(frozen=True)
class _AlignedBuffer:
    """A model's buffer that packs itself where schema.fbs wants it; the generated class ignores force_align."""

    data: NDArray[np.uint8] | bytes | None

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the name that the generated classes call
        """Write the buffer; return its offset."""
        return _table(builder, 3, {} if self.data is None else {0: _blob(builder, bytes(self.data))})


# Short forms of what flatbuffers' builder does in several calls.


def _blob(builder: Any, content: bytes) -> int:
    """A byte vector whose content lies at a multiple of `_ALIGNMENT` bytes."""
    builder.Prep(_ALIGNMENT, len(content))
    return int(builder.CreateByteVector(content))


def _floats(builder: Any, values: Sequence[float]) -> int:
    builder.StartVector(_FOUR, len(values), _FOUR)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())


def _tables(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(_FOUR, len(offsets), _FOUR)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _table(
    builder: Any,
    size: int,
    offsets: Mapping[int, int],
    *,
    small: Mapping[int, int] | None = None,
) -> int:
    """A table of `size` fields: field -> offset, and field -> 8-bit number. What is not named keeps its default."""
    builder.StartObject(size)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, number in (small or {}).items():
        builder.PrependUint8Slot(field, number, 0)
    return int(builder.EndObject())
