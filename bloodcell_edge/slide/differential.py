"""The differential count: how many of the cells are of each class, and how far that can be trusted.

Two shares stand side by side. The *share* is what the model called, of the cells that it identified; its exact interval
holds the luck of which cells were met, and nothing of the model's mistakes. The *corrected share* takes the mistakes
out by the model's own confusion matrix; its interval holds the luck of the test as well. A model that is right on 81 %
may report 8.8 % eosinophils where there are 3 %: only the second interval says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..records import UNIDENTIFIED
from ..statistics.intervals import binomial_interval
from .sampling import UNPLACED, Weighed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CELLS = 200
"""Identified cells below which no percentage is stated: the usual manual differential (CLSI H20-A2 has each of two
readers count 200; laboratories also count 100 or 400)."""

LEVEL = 0.95
SEED = 20260101
DRAWS = 10_000
"""Simulations behind a corrected interval. Another seed moves its ends by 1.5 % of its width, by 3 % where a class had
20 tests (standard deviations over 20 seeds, the worse end of the worst class)."""

_CALLED_PRIOR = 1.0
_CONFUSION_PRIOR = 0.5
_EM_STEPS, _EM_TOLERANCE = 5000, 1e-9


@dataclass(frozen=True)
class RelatedCode:
    """A LOINC term that is near, not equal: it is for a person's count, of all leukocytes."""

    code: str
    display: str


LOINC: Mapping[str, RelatedCode] = {
    "BASOPHIL": RelatedCode("707-0", "Basophils/Leukocytes in Blood by Manual count"),
    "EOSINOPHIL": RelatedCode("714-6", "Eosinophils/Leukocytes in Blood by Manual count"),
    "LYMPHOCYTE": RelatedCode("737-7", "Lymphocytes/Leukocytes in Blood by Manual count"),
    "MONOCYTE": RelatedCode("744-3", "Monocytes/Leukocytes in Blood by Manual count"),
    "NEUTROPHIL": RelatedCode("23761-0", "Neutrophils/Leukocytes in Blood by Manual count"),
    UNIDENTIFIED: RelatedCode("44095-8", "Unidentified cells/Leukocytes in Blood by Manual count"),
}
"""Terms of the manual differential (loinc.org/CODE), percent of leukocytes. 26511-6, 26450-7, 26478-8 and 26485-3 name
no method; 770-8, 713-8, 736-9 and 5905-5 are an analyser's; 26508-2, often given for neutrophils, is band forms."""


@dataclass(frozen=True)
class Share:
    """Percent with its 95 % interval, 0 <= low <= percent <= high <= 100."""

    percent: float
    low: float
    high: float


@dataclass(frozen=True)
class Correction:
    """What the corrected shares rest on.

    Attributes:
        shares: label -> corrected share.
        n: cells in it: those the model was asked about, UNIDENTIFIED ones by their top label.
        why_unweighed: why they all weigh the same; empty where each has the weight of its size, see `sampling`.
        test_cells: label -> test pictures behind its row of the confusion matrix.
        test_groups: photographs these came from; None where every picture counted as one.
    """

    shares: Mapping[str, Share]
    n: int
    test_cells: Mapping[str, int]
    test_groups: int | None
    why_unweighed: str = ""

    @property
    def weighing(self) -> str:
        """Whether cells are weighed by their size, in one sentence."""
        if self.why_unweighed:
            return f"corrected: all cells weigh the same, since {self.why_unweighed}"
        return "corrected: each cell is weighed by its size, since the edge cuts large ones more often"


@dataclass(frozen=True)
class Differential:
    """The count of a slide by one model.

    Attributes:
        labels: classes in the model's order.
        counts: label -> identified cells.
        unidentified: cells that the model may not name.
        unidentified_share: of all counted cells; None without any.
        shares: label -> share of the identified cells; None without any.
        cells: identified cells asked for.
        unit: "cells", or "pictures" for a model that takes the whole picture.
        correction: None where `why_uncorrected` says why.
        why_uncorrected: empty where there is a correction.
        not_evaluated: cells of which the edge leaves too little; neither in the counts nor in `unidentified`.
        earlier_rule: by which other rule than today's cut cells are counted, in words; empty where by today's.
    """

    labels: tuple[str, ...]
    counts: Mapping[str, int]
    unidentified: int
    unidentified_share: Share | None
    shares: Mapping[str, Share | None]
    cells: int
    unit: str
    correction: Correction | None
    why_uncorrected: str
    not_evaluated: int = 0
    earlier_rule: str = ""

    @property
    def identified(self) -> int:
        """Number of identified cells: the denominator of the shares."""
        return sum(self.counts.values())

    @property
    def sufficient(self) -> bool:
        """True where there are cells enough to state percentages."""
        return self.identified >= self.cells

    @property
    def status(self) -> str:
        """Say "ok", or "insufficient cells" with the two numbers."""
        if self.sufficient:
            return "ok"
        return f"insufficient {self.unit}: {self.identified} identified, {self.cells} asked for"

    @property
    def denominator(self) -> str:
        """The denominator of the shares, in words."""
        names = ", ".join(self.labels)
        return f"identified {self.unit} of the labels {names}; {UNIDENTIFIED} and other cells are not in it"

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values; percentages are null below the minimum, their intervals stay."""
        return {
            "status": self.status,
            "sufficient": self.sufficient,
            "cells": self.cells,
            "unit": self.unit,
            "labels": list(self.labels),
            "denominator": self.denominator,
            "identified": self.identified,
            "unidentified": {
                "n": self.unidentified,
                **self._share_json(self.unidentified_share),
                "denominator": f"all counted {self.unit}",
                "related_code": _code_json(UNIDENTIFIED),
            },
            "not_evaluated": {"n": self.not_evaluated, "reason": "edge", "earlier_rule": self.earlier_rule},
            "interval_method": "clopper-pearson",
            "level": LEVEL,
            "shares": {label: self._class_json(label) for label in self.labels},
            "correction": self._correction_json(),
        }

    def _class_json(self, label: str) -> dict[str, Any]:
        corrected = self.correction.shares[label] if self.correction else None
        return {
            "n": self.counts[label],
            **self._share_json(self.shares[label]),
            "corrected": self._share_json(corrected) if corrected else None,
            "related_code": _code_json(label),
        }

    def _share_json(self, share: Share | None) -> dict[str, Any]:
        return {
            "percent": share.percent if share and self.sufficient else None,
            "interval": [share.low, share.high] if share else None,
        }

    def _correction_json(self) -> dict[str, Any]:
        if self.correction is None:
            return {"applied": False, "why": self.why_uncorrected}
        return {
            "applied": True,
            "method": "maximum likelihood under the model's confusion matrix",
            "interval_method": f"simulated counts and confusion matrices, {DRAWS} draws, seed {SEED}",
            "denominator": f"{self.unit} that the model was asked about, {UNIDENTIFIED} ones by their top label",
            "n": self.correction.n,
            "weighed_by_size": not self.correction.why_unweighed,
            "why_unweighed": self.correction.why_unweighed,
            "test_cells": dict(self.correction.test_cells),
            "test_groups": self.correction.test_groups,
        }


def _code_json(label: str) -> dict[str, str] | None:
    related = LOINC.get(label)
    return {"system": "http://loinc.org", "code": related.code, "display": related.display} if related else None


def differential(
    counts: Mapping[str, int],
    *,
    labels: Sequence[str],
    unidentified: int = 0,
    called: Mapping[str, int] | None = None,
    cells: int = CELLS,
    figures: Mapping[str, Any] | None = None,
    unit: str = "cells",
    not_evaluated: int = 0,
    earlier_rule: str = "",
    weighed: Weighed | str = UNPLACED,
) -> Differential:
    """Count, with exact intervals and, where the model brings its confusion matrix, corrected shares.

    Args:
        counts: label -> identified cells; labels that are missing count 0.
        labels: the model's classes.
        unidentified: cells below the reject threshold or marked.
        called: label -> cells that had it as top label, rejected or not, since a confusion matrix ignores rejection;
            None where nothing was rejected.
        cells: identified cells below which no percentage is stated.
        figures: `ModelSpec.figures`: "confusion" (rows true, columns predicted in the order of labels, last column no
            cell), and with it "n" and "n_groups" where several test pictures show one photograph.
        unit: "cells" or "pictures".
        not_evaluated: cells that the edge cuts, in none of the counts.
        earlier_rule: see `Differential`.
        weighed: the cells of `called` by the chance to be counted, see `sampling.weigh`; or why all weigh the same.

    Raises:
        ValueError: a count of something that is no label, or below 0.
    """
    labels = tuple(labels)
    counts = _checked("counts", counts, labels)
    n = sum(counts.values())
    total = n + unidentified
    correction = _correct(_checked("called", called or counts, labels), labels, figures or {}, weighed)
    return Differential(
        labels=labels,
        counts=counts,
        unidentified=unidentified,
        unidentified_share=_exact(unidentified, total),
        shares={label: _exact(count, n) for label, count in counts.items()},
        cells=cells,
        unit=unit,
        correction=None if isinstance(correction, str) else correction,
        why_uncorrected=correction if isinstance(correction, str) else "",
        not_evaluated=not_evaluated,
        earlier_rule=earlier_rule,
    )


def _checked(name: str, counts: Mapping[str, int], labels: tuple[str, ...]) -> dict[str, int]:
    if not set(counts) <= set(labels) or min(counts.values(), default=0) < 0:
        message = f"{name}: expected numbers from 0 of {', '.join(labels)}, found {dict(counts)}"
        raise ValueError(message)
    return {label: int(counts.get(label, 0)) for label in labels}


def _exact(k: int, n: int) -> Share | None:
    if not n:
        return None
    low, high = binomial_interval(k, n, LEVEL)
    return Share(100.0 * k / n, 100.0 * low, 100.0 * high)


def _correct(
    called: Mapping[str, int], labels: tuple[str, ...], figures: Mapping[str, Any], weighed: Weighed | str
) -> Correction | str:
    """The correction, or why there is none."""
    if not sum(called.values()):
        return "nothing counted"
    if not figures.get("confusion"):
        return "the model brings no confusion matrix"
    confusion = np.asarray(figures["confusion"], np.float64)
    if confusion.shape != (len(labels), len(labels) + 1):
        return f"the model's confusion matrix has shape {confusion.shape} for {len(labels)} labels"
    tested = confusion[:, :-1]  # what was found: shares are of found cells
    if not tested.sum(axis=1).all():
        untested = [label for label, n in zip(labels, tested.sum(axis=1), strict=True) if not n]
        return f"the model was not tested on {', '.join(untested)}"
    groups = figures.get("n_groups")
    grouped = groups is not None and 0 < groups < confusion.sum()
    numbers = np.array([called[label] for label in labels], np.float64)
    n = int(numbers.sum())
    if isinstance(weighed, Weighed):
        sums = np.array([weighed.sums.get(label, 0.0) for label in labels], np.float64)
        numbers = sums * (weighed.n / sums.sum())
    shares = corrected_shares(numbers, tested * (groups / confusion.sum() if grouped else 1.0))
    return Correction(
        shares=dict(zip(labels, shares, strict=True)),
        n=n,
        test_cells=dict(zip(labels, tested.sum(axis=1).astype(int).tolist(), strict=True)),
        test_groups=groups if grouped else None,
        why_unweighed=weighed if isinstance(weighed, str) else "",
    )


def corrected_shares(called: Floats, confusion: Floats) -> tuple[Share, ...]:
    """True shares behind what a model called, with 95 % intervals.

    The expected shares of calls are q = p P, p the true shares and P[i, j] the chance that a cell of class i is called
    j. The estimate is the most likely p: p = q inv(P), the matrix form of Rogan & Gladen 1978 (American Journal of
    Epidemiology 107:71-76), where that is a distribution, else the best on the simplex by EM (the multinomial case of
    Saerens, Latinne & Decaestecker 2002, Neural Computation 14:21-41).

    The interval simulates both sources of luck: q from Dirichlet(called + 1), each row of P from Dirichlet(its tests +
    1/2), and takes the central 95 % of q inv(P), cut to 0..100 after that, since cutting before pulls the ends in
    where a class is nearly absent. Over 600 simulations each of 4 blood pictures with 5 sizes of test (20 to 5000 cells
    a class) and slide (100 to 1000 cells), 93.3 to 99.5 % of the intervals of a class held the truth, 95.9 % in the
    mean (a binomial error of 1 point); tests/slide/test_differential.py repeats some of it.

    Rows count as independent tests: give effective numbers where several pictures show one cell.

    Args:
        called: cells by label, float64, shape (labels,), sum above 0; weighed ones, so many as would be as sure.
        confusion: tests, rows true, columns called, float64, shape (labels, labels), no row empty; need not be whole.

    Returns:
        One for each label; the estimates sum to 100.
    """
    estimate = most_likely_shares(called, confusion)
    rng = np.random.default_rng(SEED)
    rows = rng.standard_gamma(np.broadcast_to(confusion + _CONFUSION_PRIOR, (DRAWS, *confusion.shape)))
    rows /= rows.sum(axis=-1, keepdims=True)
    calls = rng.dirichlet(called + _CALLED_PRIOR, DRAWS)
    drawn = np.linalg.solve(rows.swapaxes(1, 2), calls[:, :, None])[:, :, 0]  # drawn matrices are never singular
    tail = (1.0 - LEVEL) / 2.0
    low, high = np.clip(np.quantile(drawn, [tail, 1.0 - tail], axis=0), 0.0, 1.0)
    ends = zip(100.0 * estimate, 100.0 * np.minimum(low, estimate), 100.0 * np.maximum(high, estimate), strict=True)
    return tuple(Share(float(percent), float(lowest), float(highest)) for percent, lowest, highest in ends)


def most_likely_shares(called: Floats, confusion: Floats) -> Floats:
    """The estimate of `corrected_shares`, as fractions; float64, shape (labels,), sum 1.

    A label that was never called in the tests counts as half a test called right: else no share could explain it.
    """
    tests = confusion + np.diag(np.where(confusion.any(axis=0), 0.0, 0.5))
    chances = tests / tests.sum(axis=1, keepdims=True)
    seen = called / called.sum()
    shares: Floats = seen @ np.linalg.pinv(chances)
    if shares.min() >= 0.0 and np.allclose(shares @ chances, seen, atol=1e-9):
        return _normal(shares)
    shares = np.full(len(called), 1.0 / len(called))
    for _ in range(_EM_STEPS):
        expected = shares @ chances
        ratio = np.divide(seen, expected, out=np.zeros_like(seen), where=expected > 0.0)
        better = shares * (chances @ ratio)
        if np.abs(better - shares).max() < _EM_TOLERANCE:
            break
        shares = better
    return _normal(shares)


def _normal(shares: Floats) -> Floats:
    normal: Floats = shares / shares.sum()
    return normal
