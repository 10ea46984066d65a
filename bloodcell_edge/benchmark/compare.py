"""A run against one of earlier: slower is a fault, and much faster is suspicious.

What came out faster by more than the tolerance measured something else, such as another picture or another model, or
the reference was disturbed: both are to be looked at before anybody is glad.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..errors import DataError, MissingFile

TOLERANCE = 30.0
"""Percent. Medians of one machine at different times of day differed by up to a quarter."""

_SAME_MACHINE = ("cpu", "board", "architecture", "python_bits")
_COMPARED: Mapping[str, tuple[str, ...]] = {
    "invoke p50": ("invoke_ms", "p50"),
    "end to end p50": ("end_to_end_ms", "p50"),
}


@dataclass(frozen=True)
class ComparedTime:
    """One time of one case, then and now, in ms."""

    file: str
    threads: int
    what: str
    reference_ms: float
    now_ms: float
    verdict: Literal["same", "slower", "faster"]

    @property
    def ratio(self) -> float:
        """Above 1 is slower than the reference."""
        return self.now_ms / self.reference_ms


@dataclass(frozen=True)
class Comparison:
    """All times that both have.

    Attributes:
        reference: its file.
        tolerance: percent.
        rows: file by file.
        notes: what else must be known: disturbed measurements, other models, cases that only one of both has.
    """

    reference: str
    tolerance: float
    rows: tuple[ComparedTime, ...]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Nothing is slower or faster than the tolerance allows."""
        return all(row.verdict == "same" for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """``comparison`` of ``bce benchmark --compare --json``."""
        rows = [{**vars(row), "ratio": row.ratio} for row in self.rows]
        return {**vars(self), "rows": rows, "notes": list(self.notes), "passed": self.passed}


def load_reference(path: Path) -> dict[str, Any]:
    """Read what ``bce benchmark --json`` printed.

    Raises:
        MissingFile: no such file.
        DataError: something else is in it.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        for one in values["results"]:
            _refuse_no_time(one["file"], one["threads"], *(one[part][name] for part, name in _COMPARED.values()))
        values["machine"].get("cpu")
        values.get("pictures", {}).get("size")
    except FileNotFoundError as error:
        message = f"{path}: no such reference; make one with bce benchmark --json > {path}"
        raise MissingFile(message) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        message = f"{path}: expected what bce benchmark --json prints, found something else ({error!r})"
        raise DataError(message) from error
    return dict(values)


def compare(
    now: Mapping[str, Any], reference: Mapping[str, Any], *, name: str, tolerance: float = TOLERANCE
) -> Comparison:
    """Put two runs side by side.

    Args:
        now: as `BenchmarkReport.as_json` gives it.
        reference: the same, of earlier.
        name: of the reference, for messages.
        tolerance: percent by which a median may be above the reference, or the reference above it.

    Raises:
        DataError: of another machine or pictures of another size, or without a case in common.
    """
    refuse_other_machine(now["machine"], reference, name)
    _refuse_other_size(now, reference, name)
    rows: list[ComparedTime] = []
    here, there = (values.get("pictures", {}).get("sha256") for values in (now, reference))
    notes = []
    if here and there and here != there:
        notes.append(f"{name} is of other pictures, whose cells and files differ; give --data as then")
    found = []
    for one in now["results"]:
        then = _same_case(one, now["results"], reference["results"])
        case = f"{one['file']}, {one['threads']} threads"
        if then is None:
            notes.append(f"{case}: not in {name}")
            continue
        found.append(then)
        rows += [_row(one, then, what, keys, tolerance) for what, keys in _COMPARED.items()]
        notes += _doubts(case, one, then, name)
    if not rows:
        message = f"{name}: none of the files and thread counts measured now is in it; name those it was made with"
        raise DataError(message)
    gone = [then for then in reference["results"] if all(then is not one for one in found)]
    notes += [f"{then['file']}, {then['threads']} threads: in {name} only" for then in gone]
    return Comparison(name, tolerance, tuple(rows), tuple(notes))


def verdict(ratio: float, tolerance: float) -> Literal["same", "slower", "faster"]:
    """What a time that is `ratio` times that of earlier means, with a tolerance in percent either way."""
    most = 1 + tolerance / 100
    return "slower" if ratio > most else "faster" if ratio < 1 / most else "same"


def _refuse_no_time(file: str, threads: int, *times_ms: float) -> None:
    if not all(time_ms > 0 for time_ms in times_ms):
        message = f"{file}, {threads} threads: times must be above 0 ms, found {times_ms}"
        raise ValueError(message)


def _row(
    now: Mapping[str, Any], then: Mapping[str, Any], what: str, keys: Sequence[str], tolerance: float
) -> ComparedTime:
    part, name = keys
    a, b = float(then[part][name]), float(now[part][name])
    return ComparedTime(now["file"], now["threads"], what, a, b, verdict(b / a, tolerance))


def refuse_other_machine(machine: Mapping[str, Any], reference: Mapping[str, Any], name: str) -> None:
    """DataError where a reference is of another machine than this one, as `machine.describe` tells."""
    for key in _SAME_MACHINE:
        here, there = machine.get(key), reference["machine"].get(key)
        if here is not None and there is not None and here != there:
            message = f"{name}: measured on another machine ({key} {there}, here {here}); make a reference on this one"
            raise DataError(message)


def _refuse_other_size(now: Mapping[str, Any], reference: Mapping[str, Any], name: str) -> None:
    here, there = (values.get("pictures", {}).get("size") for values in (now, reference))
    if here and there and list(here) != list(there):
        message = f"{name}: measured with pictures of {there}, now of {here} (height, width); give --data as then"
        raise DataError(message)


def _same_case(
    one: Mapping[str, Any], now: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """The same file and threads; the same file name where no path is the same and each run has it once."""
    same = [then for then in reference if (then["file"], then["threads"]) == (one["file"], one["threads"])]
    ours, theirs = ([other for other in among if _name(other) == _name(one)] for among in (now, reference))
    return next(iter(same or (theirs if len(ours) == len(theirs) == 1 else [])), None)


def _name(case: Mapping[str, Any]) -> tuple[str, int]:
    return Path(case["file"]).name, case["threads"]


def _doubts(case: str, now: Mapping[str, Any], then: Mapping[str, Any], name: str) -> list[str]:
    """Why the figures of a case may not mean what they seem to."""
    doubts = []
    if now.get("model_sha256") != then.get("model_sha256"):
        doubts.append(f"{case}: {name} is of another model in a file of this name")
    if now.get("interpreter") != then.get("interpreter"):
        doubts.append(f"{case}: {now.get('interpreter')} now, {then.get('interpreter')} in {name}")
    doubts += [f"{case}: disturbed {when} ({values['why']})"
               for when, values in (("now", now), (f"in {name}", then)) if values.get("valid") is False]  # fmt: skip
    return doubts
