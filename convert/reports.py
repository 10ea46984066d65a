"""What `bce parity` reports: how each small file compares with the Keras model, and which layers lose most."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class LayerError:
    """How much of a layer's output is lost by quantizing it.

    Attributes:
        layer: its name in the Keras model.
        operator: its TFLite operator.
        error: root mean squared error in quantization steps; rounding alone gives 0.29 (one step over root 12).
    """

    layer: str
    operator: str
    error: float


@dataclass(frozen=True)
class CandidateParity:
    """How one small file compares with the reference, in percent.

    Attributes:
        file: the candidate.
        target: what it was converted to.
        bytes: file size.
        accuracy: of the candidate.
        accuracy_drop: reference minus candidate, in points.
        worst_recall_drop: the largest drop of a class's recall, in points, over classes large enough to gate.
        recall_drops: label -> drop in points.
        agreement: pictures with the same top label.
        max_abs_diff: largest difference of a probability, 0..1.
        mean_abs_diff: mean difference of a probability, 0..1.
        mcnemar_p: exact two-sided p of "both are equally often right".
        flipped: pictures whose top label changed.
        passed: the gate held.
        why: what did not hold, and what was gated otherwise.
        layers: where the gate failed on an int8 file, the layers that lose most, worst first.
        advice: what to try then.
    """

    file: str
    target: str
    bytes: int
    accuracy: float
    accuracy_drop: float
    worst_recall_drop: float
    recall_drops: dict[str, float]
    agreement: float
    max_abs_diff: float
    mean_abs_diff: float
    mcnemar_p: float
    flipped: tuple[str, ...]
    passed: bool
    why: tuple[str, ...]
    layers: tuple[LayerError, ...] = ()
    advice: str = ""


@dataclass(frozen=True)
class ParityReport:
    """The reference and every candidate on the same pictures, percentages 0..100.

    Attributes:
        passed: every candidate passed and there were pictures enough to say so.
        n: pictures.
        n_groups: photographs; None where that is not known.
        reference_file: the Keras model.
        reference_accuracy: its accuracy.
        candidates: one each.
    """

    passed: bool
    n: int
    n_groups: int | None
    reference_file: str
    reference_accuracy: float
    candidates: tuple[CandidateParity, ...]

    def as_json(self) -> dict[str, Any]:
        """The keys of `bce parity --json`."""
        return {
            "passed": self.passed,
            "n": self.n,
            "n_groups": self.n_groups,
            "reference": {"file": self.reference_file, "accuracy": self.reference_accuracy},
            "candidates": [
                {**asdict(candidate), "flipped": list(candidate.flipped), "why": "; ".join(candidate.why)}
                for candidate in self.candidates
            ],
        }
