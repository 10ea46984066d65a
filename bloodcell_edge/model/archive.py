"""A .tflite with a zip behind it.

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
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import SpecError

# What zipfile raises on damage: besides its own error those for an encrypted, compressed or cut member.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, KeyError, ValueError, RuntimeError, OSError, EOFError, struct.error)
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed time, so that the same content gives the same bytes


def sha256_of(*parts: bytes) -> str:
    """SHA-256 over all parts, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def seal(flatbuffer: bytes, members: Mapping[str, bytes], *, name: str) -> bytes:
    """Put files behind a flatbuffer, uncompressed.

    Args:
        flatbuffer: a TFLite model without a zip behind it.
        members: name of each file -> its bytes, in order.
        name: of the model, for messages.

    Raises:
        SpecError: there is a zip behind it already.
    """
    if zipfile.is_zipfile(io.BytesIO(flatbuffer)):
        message = f"{name}: expected a TFLite model alone, found one with a zip behind it; take it apart first"
        raise SpecError(message)
    content = io.BytesIO(flatbuffer)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member, _ZIP_EPOCH), data)
    return content.getvalue()


def open_archive(content: bytes, needed: Sequence[str], *, where: str, made_by: str) -> tuple[bytes, dict[str, bytes]]:
    """The flatbuffer and the files behind it.

    Args:
        content: the bytes of the file.
        needed: members that must be there; others are given, too.
        where: the file, for messages.
        made_by: what makes such files, for messages.

    Raises:
        SpecError: no zip, a damaged one, or one without what is needed.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in {*needed, *archive.namelist()}}
            flatbuffer = content[: min(entry.header_offset for entry in archive.infolist())]
    except _ZIP_ERRORS as error:
        message = f"{where}: no {needed[-1]} inside ({error}); expected a .tflite made by {made_by}, copied whole"
        raise SpecError(message) from error
    return flatbuffer, members


def read_member(members: Mapping[str, bytes], name: str, *, where: str, made_by: str) -> Any:
    """What a JSON file behind a flatbuffer says.

    Args:
        members: as `open_archive` gives them.
        name: of the JSON file.
        where: the file, for messages.
        made_by: what makes such files, for messages.

    Raises:
        SpecError: it is no JSON.
    """
    try:
        return json.loads(members[name])
    except ValueError as error:
        message = f"{where}: no {name} inside ({error}); expected a .tflite made by {made_by}, copied whole"
        raise SpecError(message) from error


def refuse_changed(expected: str, found: str, *, where: str) -> None:
    """Raise SpecError where the hash of what is in a file is not the one that its spec tells."""
    if expected != found:
        message = (
            f"{where}: damaged or changed since it was made (hash expected {expected[:12]}.., found {found[:12]}..); "
            "copy it again or run bce convert"
        )
        raise SpecError(message)
