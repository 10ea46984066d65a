"""From the times of one interleaved run to ratios, and to a report that says where we lose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

MIN_AGREEMENT = 98.0
"""Percent of equal labels below which a time does not count; the same that ``bce parity`` asks of a small file."""

FEWEST_ROUNDS = 10


@dataclass(frozen=True)
class Measured:
    """One peer at one task.

    Attributes:
        peer, task: names.
        ms: an item, the mean of each round, in the order of the rounds.
        labels: of every item.
        peak_mb: the most memory its process ever held; None where nobody told.
    """

    peer: str
    task: str
    ms: tuple[float, ...]
    labels: tuple[str, ...]
    peak_mb: float | None = None


@dataclass(frozen=True)
class Target:
    """How many times as long a peer is wanted to take, at least.

    Attributes:
        peer, task: what is measured.
        against: whose time is 1.
        at: that one's task.
        least: wanted ratio.
        said: what is compared, for people.
    """

    peer: str
    task: str
    against: str
    at: str
    least: float
    said: str


@dataclass(frozen=True)
class Ratio:
    """One comparison of two that went through the same items in the same rounds.

    Attributes:
        target: what was wanted.
        ratio: median over the rounds of the peer's time by the other's in the same round; above 1 the peer is slower.
        low, high: 5 and 95 percent of the rounds.
        peer_ms, our_ms: medians, an item.
        agreement: percent of equal labels.
        n, rounds: items a round, and rounds.
    """

    target: Target
    ratio: float
    low: float
    high: float
    peer_ms: float
    our_ms: float
    agreement: float
    n: int
    rounds: int

    @property
    def counts(self) -> bool:
        """The labels agree."""
        return self.agreement >= MIN_AGREEMENT

    @property
    def verdict(self) -> str:
        """What to make of it."""
        if not self.counts:
            return f"does not count: labels agree on {self.agreement:.1f} % only"
        if self.ratio < min(self.target.least, 1.0):
            return "we lose"
        return "holds" if self.ratio >= self.target.least else "below the target"


def agreement(ours: Sequence[str], theirs: Sequence[str]) -> float:
    """Percent of equal labels; of a peer that did fewer items, those; 0 where there is none to compare."""
    common = min(len(ours), len(theirs))
    return 100 * sum(a == b for a, b in zip(ours, theirs, strict=False)) / common if common else 0.0


def rows(measured: Iterable[Measured], targets: Sequence[Target], *, reference: Mapping[str, str]) -> list[Ratio]:
    """The comparisons that can be made with what was measured.

    Args:
        measured: all peers at all their tasks, ours among them.
        targets: wanted.
        reference: task -> name of the peer whose labels are ours.

    Raises:
        ValueError: rounds of two that do not belong together.
    """
    known = {(one.peer, one.task): one for one in measured}
    found = []
    for target in targets:
        peer, other = known.get((target.peer, target.task)), known.get((target.against, target.at))
        if peer is None or other is None:
            continue
        if len(peer.ms) != len(other.ms):
            message = f"{peer.peer} has {len(peer.ms)} rounds, {other.peer} {len(other.ms)}"
            raise ValueError(message)
        ours = known.get((reference[target.task], target.task), other)
        ratios = np.array(peer.ms) / np.array(other.ms)
        low, ratio, high = (float(value) for value in np.percentile(ratios, (5, 50, 95)))
        found.append(
            Ratio(
                target, ratio, low, high, float(np.median(peer.ms)), float(np.median(other.ms)),
                min(agreement(ours.labels, peer.labels), agreement(ours.labels, other.labels)),
                len(peer.labels), len(peer.ms),
            )
        )  # fmt: skip
    return found


def losses(found: Sequence[Ratio], absent: Mapping[str, str]) -> list[str]:
    """Where we lose, what does not count, and who was not there; nothing where all targets hold."""
    said = []
    for row in found:
        if row.verdict != "holds":
            wanted = f"wanted at least {row.target.least:.2f}"
            said.append(f"{row.target.said}: {row.ratio:.2f} times, {wanted}: {row.verdict}")
    return [*said, *(f"{peer}: absent, {why}" for peer, why in absent.items())]


def text(found: Sequence[Ratio], absent: Mapping[str, str], *, doubts: Sequence[str] = ()) -> str:
    """The report as Markdown."""
    head = (
        "what",
        "it, ms",
        "against, ms",
        "times as long",
        "5-95 % of rounds",
        "wanted",
        "labels agree",
        "verdict",
    )
    cells = [
        (
            row.target.said,
            f"{row.peer_ms:.3f}",
            f"{row.our_ms:.3f}",
            f"{row.ratio:.2f}",
            f"{row.low:.2f}-{row.high:.2f}",
            f"{row.target.least:.2f}",
            f"{row.agreement:.1f} % of {row.n}",
            row.verdict,
        )
        for row in found
    ]
    table = ["| " + " | ".join(line) + " |" for line in (head, ("---",) * len(head), *cells)]
    lost = losses(found, absent) or ["nowhere, this time"]
    parts = [*table, "", "Where we lose, or could not compare:", *(f"- {line}" for line in lost)]
    if doubts:
        parts += ["", "Do not quote these figures:", *(f"- {line}" for line in doubts)]
    return "\n".join(parts)


def as_json(found: Sequence[Ratio]) -> list[dict[str, Any]]:
    """Plain values of the comparisons."""
    return [{**vars(row), "target": vars(row.target), "verdict": row.verdict} for row in found]
