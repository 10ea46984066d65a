"""Which file and how many threads to use on this device, by what was measured on it.

int8 is the fastest on most processors, not on all (some old ones have no instruction for it), and more threads are not
always faster: so it is measured, not believed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .figures import Result, percentiles

WORTH_IT = 0.9
"""Share of the time that a costlier choice (more threads, or a larger file) must stay below to be worth its cost."""


@dataclass(frozen=True)
class Recommendation:
    """What to use.

    Attributes:
        result: of the file and number of threads.
        why: a sentence for each choice that was made.
    """

    result: Result
    why: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """``recommendation`` of ``bce benchmark --recommend --json``."""
        model, result = self.result.model, self.result
        return {"file": model.path, "threads": result.threads, "valid": result.valid, "why": "; ".join(self.why)}


def recommend(results: Sequence[Result]) -> Recommendation:
    """The fastest start to end, but no more threads and no larger file than pay.

    Files that ``bce parity`` proved come before others, and undisturbed measurements before disturbed ones.

    Args:
        results: at least one.
    """
    proven, said = _only(results, lambda result: result.model.proven, "bce parity has not proven", "any of them")
    valid, also = _only(proven, lambda result: result.valid, "something disturbed the measurement of", "all of them")
    left = sorted(valid, key=lambda result: (result.threads, result.model.bytes))
    chosen = left[0]
    for other in left[1:]:
        if _ms(other) < WORTH_IT * _ms(chosen):
            chosen = other
    return Recommendation(chosen, (*said, *also, _reason(chosen, left)))


def _only(
    results: Sequence[Result], good: Callable[[Result], bool], but: str, none: str
) -> tuple[list[Result], tuple[str, ...]]:
    """Those that are good and a word about the others; all where none is, with a word about that."""
    kept = [result for result in results if good(result)]
    if not kept:
        return list(results), (f"careful: {but} {none}",)
    left_out = [_name(result) for result in results if not good(result)]
    return kept, ((f"left out: {but} {', '.join(left_out)}",) if left_out else ())


def _reason(chosen: Result, among: Sequence[Result]) -> str:
    """Why this one, against the others."""
    others = [result for result in among if result is not chosen]
    if not others:
        return f"{_ms(chosen):.2f} ms a picture, the only one to choose"
    fastest = min(others, key=_ms)
    ratio = _ms(fastest) / _ms(chosen)
    versus = f"{_name(fastest)} takes {ratio:.2f} times as long"
    if ratio < 1:
        versus += f", not worth {'more threads' if fastest.threads > chosen.threads else 'a larger file'}"
    return f"{_ms(chosen):.2f} ms a picture; {versus}"


def _ms(result: Result) -> float:
    return percentiles(result.end_to_end_ms).p50


def _name(result: Result) -> str:
    return f"{result.model.path} with {result.threads} thread{'s' if result.threads > 1 else ''}"
