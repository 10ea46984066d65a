"""Reading a source URL and the settings in it; every mistake is said with what was expected."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints
from urllib.parse import parse_qsl

from ..errors import SourceError

T = TypeVar("T")

_NETWORK = ("rtsp", "http", "https")
_TRUTH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(frozen=True)
class SourceUrl:
    """A URL taken apart.

    Attributes:
        text: as it was typed.
        scheme: "folder", "camera", ...
        place: what the scheme is about: a folder, a number, or for the network the whole URL without our settings.
        settings: name -> value, both as typed.
    """

    text: str
    scheme: str
    place: str
    settings: dict[str, str]

    @property
    def name(self) -> str:
        """The URL as messages and the store may have it: without a user name and password."""
        return _nameless(self.text)

    @classmethod
    def parse(cls, text: str, *, known: tuple[str, ...]) -> SourceUrl:
        """Take a URL apart.

        Args:
            text: such as ``folder:slides/?recursive=1``; a path that begins with ``/dev/`` is a camera.
            known: the schemes there are.

        Raises:
            SourceError: an unknown scheme, nothing behind it, or settings that are not ``name=value``.
        """
        scheme, colon, rest = text.partition(":")
        if text.startswith("/dev/"):
            scheme, colon, rest = "camera", ":", text
        if not colon or scheme not in known:
            expected = ", ".join(f"{name}:…" for name in known)
            message = f"source {_nameless(text)!r}: expected {expected}; {_advice(text, known)}"
            raise SourceError(message)
        place, settings = (text if scheme in _NETWORK else rest), ""
        mark = "#" if scheme in _NETWORK else "?"
        if mark in place and (scheme in _NETWORK or "=" in place.rpartition(mark)[2]):
            place, _, settings = place.rpartition(mark)  # a folder may have a question mark in its name
        if not place or (scheme in _NETWORK and not place.startswith(f"{scheme}://")):
            message = f"source {_nameless(text)!r}: nothing to open; expected {_EXAMPLES[scheme]}"
            raise SourceError(message)
        return cls(text, scheme, place, _pairs(text, settings))

    def options(self, kind: type[T], **given: Any) -> T:
        """Fill a dataclass made of `option` fields with the settings.

        Args:
            kind: the dataclass; its fields are bool, int, float or str, or one of them or None.
            given: values that came by another way and win where they are not None.

        Raises:
            SourceError: a name that is none of its fields, a value that is not of its type, or out of its range.
        """
        types, rules = get_type_hints(kind), {rule.name: rule for rule in fields(kind)}  # type: ignore[arg-type]
        values = {}
        for name, text in self.settings.items():
            if name not in rules:
                near = difflib.get_close_matches(name, rules, 1)
                advice = f"did you mean {near[0]}?" if near else f"expected any of {', '.join(rules)}"
                message = f"source {self.name!r}: unknown setting {name!r}; {advice}"
                raise SourceError(message)
            values[name] = self._value(name, text, types[name], rules[name].metadata)
        return kind(**values | {name: value for name, value in given.items() if value is not None})

    def _value(self, name: str, text: str, hint: Any, rule: Any) -> Any:
        kind = next(k for k in get_args(hint) if k is not type(None)) if isinstance(hint, UnionType) else hint
        try:
            value = _TRUTH[text.lower()] if kind is bool else kind(text)
        except (KeyError, ValueError):
            value = None
        least, most, among = rule["least"], rule["most"], rule["among"]
        out_of_range = isinstance(value, (int, float)) and not least <= value <= most  # NaN is, too
        if value is None or out_of_range or (among and value not in among):
            if kind is bool:
                among = ("1", "0")
            bounds = " or ".join(among) or f"{'a whole' if kind is int else 'a'} number from {least:g} to {most:g}"
            message = f"source {self.name!r}: {name}: expected {bounds}, found {text!r}"
            raise SourceError(message)
        return value


def option(default: Any, *, least: float = -math.inf, most: float = math.inf, among: tuple[str, ...] = ()) -> Any:
    """A dataclass field that a URL can set: its default and what it may be."""
    return field(default=default, metadata={"least": least, "most": most, "among": among})


def _nameless(text: str) -> str:
    return re.sub(r"(?<=://)[^/]*@", "", text)


def _pairs(text: str, settings: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(settings, keep_blank_values=True, strict_parsing=bool(settings))
    except ValueError as error:
        message = f"source {_nameless(text)!r}: settings {settings!r}; expected name=value&name=value"
        raise SourceError(message) from error
    repeated = len(pairs) - len(dict(pairs))
    if repeated:
        message = f"source {_nameless(text)!r}: a setting is given twice; expected each once"
        raise SourceError(message)
    return dict(pairs)


_EXAMPLES = {
    "folder": "folder:DIR",
    "camera": "camera:0",
    "rtsp": "rtsp://HOST/PATH",
    "video": "video:FILE",
    "http": "http://HOST/PATH",
    "https": "https://HOST/PATH",
    "picamera": "picamera:0",
    "fake": "fake:smear",
}


def _advice(text: str, known: tuple[str, ...]) -> str:
    """What was probably meant."""
    path = Path(text.partition("?")[0])
    if path.is_dir():
        return f"did you mean folder:{text}?"
    if path.is_file():
        return f"did you mean video:{text}, or the folder it is in?"
    near = difflib.get_close_matches(text.partition(":")[0], known, 1)
    return f"did you mean {_EXAMPLES[near[0]]}?" if near else "for example fake:smear"
