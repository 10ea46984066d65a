"""One self-describing .tflite: the flatbuffer, and behind it labels, spec and locator (see `archive`)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import MissingFile, SpecError
from .archive import open_archive, read_member, refuse_changed, seal, sha256_of
from .spec import ModelSpec, canonical_json, spec_from_json

LABELS_FILE = "labels.txt"
SPEC_FILE = "bce.json"
LOCATOR_FILE = "locator.tflite"


@dataclass(frozen=True)
class ModelFile:
    """A .tflite taken apart.

    Attributes:
        path: where it was read from.
        flatbuffer: the TFLite model alone.
        spec: what it says of itself; `ModelSpec.sha256` was checked.
        locator: the file of the locator that it carries; empty where it carries none.
    """

    path: Path
    flatbuffer: bytes
    spec: ModelSpec
    locator: bytes = b""


def model_sha256(flatbuffer: bytes, spec: ModelSpec) -> str:
    """SHA-256 over the flatbuffer, labels.txt and the canonical spec without its own hash.

    The spec holds the locator's hash, so that this one covers the locator, too.
    """
    return sha256_of(flatbuffer, _labels_text(spec), spec.canonical())


def pack(flatbuffer: bytes, spec: ModelSpec, locator: bytes = b"") -> bytes:
    """Put a flatbuffer, its labels, its spec and its locator into one file's bytes.

    Args:
        flatbuffer: a TFLite model without a zip behind it.
        spec: its description; the hash is filled in.
        locator: the bytes of the file that `ModelSpec.locator` tells of; empty where the view needs none.

    Raises:
        SpecError: there is a zip behind the flatbuffer already; another locator than the spec tells of.
    """
    _check_locator(spec, locator, where=spec.name)
    sealed = spec.with_(sha256=model_sha256(flatbuffer, spec))
    members = {LABELS_FILE: _labels_text(spec), SPEC_FILE: json.dumps(sealed.as_json(), sort_keys=True).encode()}
    return seal(flatbuffer, members | ({LOCATOR_FILE: locator} if locator else {}), name=spec.name)


def _check_locator(spec: ModelSpec, locator: bytes, *, where: str) -> None:
    expected = str((spec.locator or {}).get("file_sha256", ""))
    found = sha256_of(locator) if locator else ""
    if expected != found:
        message = (
            f"{where}: the locator inside is not what {SPEC_FILE} tells of (hash expected {expected[:12] or 'none'}, "
            f"found {found[:12] or 'none'}); copy the file again or run bce convert"
        )
        raise SpecError(message)


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
    flatbuffer, members = open_archive(data, (LABELS_FILE, SPEC_FILE), where=str(path), made_by="bce convert")
    labels = members[LABELS_FILE]
    values = read_member(members, SPEC_FILE, where=str(path), made_by="bce convert")
    spec = spec_from_json(values, where=f"{path}:{SPEC_FILE}")
    found = sha256_of(flatbuffer, labels, canonical_json(values))  # of what is there, keys of later versions included
    refuse_changed(spec.sha256, found, where=str(path))
    if labels != _labels_text(spec):
        message = f"{path}: {LABELS_FILE} must be {list(spec.outputs)} as in {SPEC_FILE}, found {labels[:80]!r}"
        raise SpecError(message)
    locator = members.get(LOCATOR_FILE, b"")
    _check_locator(spec, locator, where=str(path))
    return ModelFile(path, flatbuffer, spec, locator)


def _labels_text(spec: ModelSpec) -> bytes:
    return "".join(f"{label}\n" for label in spec.outputs).encode()
