"""Which interpreters run a .tflite: operator versions read from the file against the releases that brought them.

An operator of a TFLite file carries a version, and an interpreter refuses the whole file where it does not know one of
them ("Didn't find op for builtin opcode 'FULLY_CONNECTED' version '12'"). Everything here reads the flatbuffer alone: a
zip behind it, as a finished model file has, does no harm.
"""

from __future__ import annotations

import functools
import logging
import re
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

from bloodcell_edge.errors import ConversionError, SpecError
from bloodcell_edge.model.flatbuffer import read_model, schema

log = logging.getLogger(__name__)

FIRST_RELEASE = {
    operator: tuple(releases.split())
    for operator, releases in {
        "ADD": "1.5.0 1.14.0 2.4.0 2.6.0 2.13.0",
        "AVERAGE_POOL_2D": "1.5.0 1.14.0 2.3.0",
        "CONCATENATION": "1.5.0 1.14.0 2.3.0 2.14.0",
        "CONV_2D": "1.5.0 1.14.0 1.14.0 2.3.0 2.4.0 2.9.0 2.11.0 2.15.0",
        "DEPTHWISE_CONV_2D": "1.5.0 1.12.0 1.14.0 2.2.0 2.3.0 2.3.0 2.11.0",
        "DEQUANTIZE": "1.13.1 1.14.0 1.15.0 2.2.0 2.7.0 2.18.0",
        "DIV": "1.6.0 2.3.0",
        "FULLY_CONNECTED": "1.5.0 1.10.0 1.14.0 1.14.0 2.0.0 2.1.0 2.3.0 2.3.0 2.3.0 2.11.0 2.15.0 2.17.0 2.18.0",
        "HARD_SWISH": "1.15.0",
        "LOGISTIC": "1.14.0 1.14.0 2.3.0",
        "MAX_POOL_2D": "1.5.0 1.14.0 2.3.0",
        "MEAN": "1.6.0 1.14.0 2.4.0",
        "MUL": "1.5.0 1.14.0 1.15.0 2.3.0 2.6.0 2.11.0 2.13.0",
        "PACK": "1.11.0 1.14.0 2.3.0 2.13.0",
        "PAD": "1.5.0 1.14.0 2.4.0 2.6.0",
        "QUANTIZE": "1.14.0 1.15.0 2.7.0",
        "REDUCE_MAX": "1.11.0 1.14.0 2.5.0",
        "RELU": "1.5.0 2.1.0 2.5.0",
        "RELU6": "1.5.0 1.14.0 2.5.0",
        "RESHAPE": "1.5.0",
        "SHAPE": "1.10.0",
        "SOFTMAX": "1.5.0 1.14.0 2.3.0",
        "STRIDED_SLICE": "1.6.0 1.14.0 2.1.0 2.2.0 2.5.0 2.6.0 2.14.0 2.14.0",
        "SUB": "1.6.0 1.14.0 2.3.0 2.4.0 2.4.0",
    }.items()
}
"""Operator -> the first TFLite release that runs its version 1, 2, 3, ...

The operators of the image classifiers of keras.applications. Facts from tflite/tools/versioning/runtime_version.cc of
LiteRT; tests/outside checks each against tflite-runtime 2.14.0, tests/workstation against the LiteRT installed.
"""

_CLAIM = b"min_runtime_version"
_FLOATS = frozenset({"FLOAT16", "FLOAT32", "FLOAT64", "BFLOAT16"})


@dataclass(frozen=True)
class Operator:
    """One kind of operator in a file.

    Attributes:
        name: as in the TFLite schema, e.g. "CONV_2D"; a custom operator's own name.
        version: what the interpreter must know.
        count: how many the graph holds.
        min_runtime: the first TFLite release that runs it, e.g. "2.3.0"; None where `FIRST_RELEASE` does not say.
    """

    name: str
    version: int
    count: int
    min_runtime: str | None


@dataclass(frozen=True)
class _Contents:
    """What is read from a flatbuffer: operators, tensors as (name, type), the release it says it needs ("" if none)."""

    operators: tuple[Operator, ...]
    tensors: tuple[tuple[str, str], ...]
    claim: str


def operators(flatbuffer: bytes) -> tuple[Operator, ...]:
    """The kinds of operators in a file, in alphabetical order.

    Args:
        flatbuffer: the bytes of a .tflite; a zip may follow.

    Raises:
        SpecError: not a TFLite file, or cut short.
        RuntimeMissing: neither ai-edge-litert nor tensorflow is installed.
    """
    return _contents(flatbuffer).operators


def min_runtime(flatbuffer: bytes) -> str:
    """The oldest TFLite release that runs a file, e.g. "2.3.0".

    Where an operator is not in `FIRST_RELEASE`, what the file says of itself counts too, and a warning is logged: the
    answer is then a lower bound.

    Args:
        flatbuffer: the bytes of a .tflite; a zip may follow.

    Raises:
        ConversionError: an operator is unknown and the file says nothing of itself.
        SpecError, RuntimeMissing: as `operators`.
    """
    contents = _contents(flatbuffer)
    needs = [operator.min_runtime for operator in contents.operators if operator.min_runtime]
    unknown = [f"{operator.name} v{operator.version}" for operator in contents.operators if not operator.min_runtime]
    if unknown and not contents.claim:
        message = (
            f"no known release runs {', '.join(unknown)}, and the file has no {_CLAIM.decode()} of its own; "
            "convert it with bce convert"
        )
        raise ConversionError(message)
    if unknown:
        log.warning("%s not in the table: going by the file's own claim, %s", ", ".join(unknown), contents.claim)
        needs.append(contents.claim)
    return max(needs, key=_ordered, default="1.5.0")


def float_tensors(flatbuffer: bytes) -> tuple[str, ...]:
    """The names of all floating-point tensors. A full-integer file with float output has one: its output.

    Args:
        flatbuffer: the bytes of a .tflite; a zip may follow.

    Raises:
        SpecError, RuntimeMissing: as `operators`.
    """
    return tuple(name for name, kind in _contents(flatbuffer).tensors if kind in _FLOATS)


def input_quantization(flatbuffer: bytes) -> tuple[float, int] | None:
    """Scale and zero point of the input, None where it is not quantized.

    (1.0, 0) for a uint8 input means that it takes raw pixels. Clients such as MediaPipe feed raw pixels whatever stands
    there, so any other values make them silently wrong.

    Args:
        flatbuffer: the bytes of a .tflite; a zip may follow.

    Raises:
        SpecError, RuntimeMissing: as `operators`.
    """
    graph = read_model(flatbuffer).Subgraphs(0)
    quantization = graph.Tensors(graph.Inputs(0)).Quantization()
    if quantization is None or not quantization.ScaleLength():
        return None
    return float(quantization.Scale(0)), int(quantization.ZeroPoint(0))


def _contents(flatbuffer: bytes) -> _Contents:
    model = read_model(flatbuffer)
    try:
        graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
        return _Contents(_operators(model, graphs), _tensors(graphs), _claim(model))
    except (struct.error, IndexError, TypeError, ValueError) as error:  # what flatbuffers raises past the end
        message = f"a TFLite file cut short or damaged ({len(flatbuffer)} bytes, {error}); copy or convert it again"
        raise SpecError(message) from error


def _operators(model: Any, graphs: list[Any]) -> tuple[Operator, ...]:
    used = Counter(graph.Operators(index).OpcodeIndex() for graph in graphs for index in range(graph.OperatorsLength()))
    counts: Counter[tuple[str, int]] = Counter()
    for index, count in used.items():
        code = model.OperatorCodes(index)
        counts[_operator_name(code), code.Version()] += count
    return tuple(
        Operator(name, version, count, _first_release(name, version))
        for (name, version), count in sorted(counts.items())
    )


def _operator_name(code: Any) -> str:
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # files from before codes over 127 have the old one
    if builtin == schema().BuiltinOperator.CUSTOM:
        return (code.CustomCode() or b"CUSTOM").decode()
    return _names("BuiltinOperator").get(builtin, f"BUILTIN_{builtin}")


def _first_release(name: str, version: int) -> str | None:
    releases = FIRST_RELEASE.get(name, ())
    return releases[version - 1] if 1 <= version <= len(releases) else None


def _tensors(graphs: list[Any]) -> tuple[tuple[str, str], ...]:
    types = _names("TensorType")
    tensors = (graph.Tensors(index) for graph in graphs for index in range(graph.TensorsLength()))
    return tuple((tensor.Name().decode(), types.get(tensor.Type(), f"TYPE_{tensor.Type()}")) for tensor in tensors)


def _claim(model: Any) -> str:
    """What the converter wrote under min_runtime_version, without its padding of zero bytes."""
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        if entry.Name() == _CLAIM:
            buffer = model.Buffers(entry.Buffer())
            padded = bytes(buffer.Data(place) for place in range(buffer.DataLength()))
            return padded.rstrip(b"\0").decode("ascii", "replace")
    return ""


@functools.cache
def _names(enumeration: str) -> dict[int, str]:
    members = vars(getattr(schema(), enumeration))
    return {number: name for name, number in members.items() if isinstance(number, int)}


def _ordered(release: str) -> tuple[int, int, int]:
    """A release as numbers, so that 2.14 comes after 2.4."""
    major, minor, patch = ([int(number) for number in re.findall(r"\d+", release)] + [0, 0, 0])[:3]
    return major, minor, patch
