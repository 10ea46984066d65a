"""One self-describing .tflite: the flatbuffer, and behind it as an uncompressed zip ``labels.txt`` and ``bce.json``.

TFLite interpreters read the flatbuffer from the front and never see the zip; `zipfile` reads from the end and never
sees the flatbuffer. So a device needs the standard library alone to know what a file is.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingFile, SpecError
from .spec import ModelSpec, canonical_json, spec_from_json

LABELS_FILE = "labels.txt"
SPEC_FILE = "bce.json"
# What zipfile raises on damage: besides its own error those for an encrypted, compressed or cut member.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError, OSError, EOFError, struct.error)
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that the same content gives the same bytes


@dataclass(frozen=True)
class ModelFile:
    """A .tflite taken apart.

    Attributes:
        path: where it was read from.
        flatbuffer: the TFLite model alone.
        spec: what it says of itself; `ModelSpec.sha256` was checked.
    """

    path: Path
    flatbuffer: bytes
    spec: ModelSpec


def model_sha256(flatbuffer: bytes, spec: ModelSpec) -> str:
    """SHA-256 over the flatbuffer, labels.txt and the canonical spec without its own hash."""
    return _sha256(flatbuffer, _labels_text(spec), spec.canonical())


def _sha256(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def pack(flatbuffer: bytes, spec: ModelSpec) -> bytes:
    """Put a flatbuffer, its labels and its spec into one file's bytes.

    Args:
        flatbuffer: a TFLite model without a zip behind it.
        spec: its description; the hash is filled in.

    Raises:
        SpecError: there is a zip behind it already.
    """
    if zipfile.is_zipfile(io.BytesIO(flatbuffer)):
        message = f"{spec.name}: expected a TFLite model alone, found one with a zip behind it; take it apart first"
        raise SpecError(message)
    sealed = spec.with_(sha256=model_sha256(flatbuffer, spec))
    content = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(LABELS_FILE, _ZIP_EPOCH), _labels_text(spec))
        archive.writestr(zipfile.ZipInfo(SPEC_FILE, _ZIP_EPOCH), json.dumps(sealed.as_json(), sort_keys=True))
    return content.getvalue()


def read_model_file(path: str | Path) -> ModelFile:
    """Take a .tflite apart and check that its parts belong together.

    Raises:
        MissingFile: no such file.
        SpecError: no spec inside, or its hash or labels do not fit the rest.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        message = f"{path}: no such model file"
        raise MissingFile(message) from error
    return unpack(data, path)


def unpack(data: bytes, path: Path) -> ModelFile:
    """`read_model_file` on bytes; `path` is for messages."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            labels = archive.read(LABELS_FILE)
            values = json.loads(archive.read(SPEC_FILE))
            flatbuffer = data[: min(entry.header_offset for entry in archive.infolist())]
    except _ZIP_ERRORS as error:
        message = f"{path}: no {SPEC_FILE} inside ({error}); expected a .tflite made by bce convert, copied whole"
        raise SpecError(message) from error
    spec = spec_from_json(values, where=f"{path}:{SPEC_FILE}")
    found = _sha256(flatbuffer, labels, canonical_json(values))  # of what is there, keys of later versions included
    if spec.sha256 != found:
        message = (
            f"{path}: damaged or changed since it was made (hash expected {spec.sha256[:12]}.., "
            f"found {found[:12]}..); copy it again or run bce convert"
        )
        raise SpecError(message)
    if labels != _labels_text(spec):
        message = f"{path}: {LABELS_FILE} must be {list(spec.outputs)} as in {SPEC_FILE}, found {labels[:80]!r}"
        raise SpecError(message)
    return ModelFile(path, flatbuffer, spec)


def _labels_text(spec: ModelSpec) -> bytes:
    return "".join(f"{label}\n" for label in spec.outputs).encode()
