"""How a locator is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ...dataset.split import SplitRule
from .damage import DAMAGES

_DRAWN_SHARE = 0.1  # of scenes; drawn smears say little about blood


@dataclass(frozen=True)
class LocatorRecipe:
    """How a locator is trained.

    Attributes:
        epochs: stretches after which an interrupted run can go on.
        steps: batches in each.
        batch: scenes in a batch; each scene is shown twice, damaged differently.
        rate: highest learning rate; it rises over the first 100 batches and falls as half a cosine.
        weight_decay: of AdamW.
        split: which pictures are held back, as for a classifier.
        seed: of everything drawn.
        without: damages that are left out, see `DAMAGES`.
        judged: scenes of held-back pieces that the threshold is chosen by, and files are compared on.
    """

    epochs: int = 32
    steps: int = 250
    batch: int = 16
    rate: float = 2.5e-3
    weight_decay: float = 1e-4
    split: SplitRule = field(default_factory=SplitRule)
    seed: int = 0
    without: tuple[str, ...] = ()
    judged: int = 400

    def __post_init__(self) -> None:
        """Refuse what cannot be trained."""
        unknown = set(self.without) - set(DAMAGES)
        if unknown or min(self.epochs, self.steps, self.batch, self.judged) < 1 or self.batch % 2:
            message = (
                f"expected epochs and steps from 1, an even batch and damages of {', '.join(DAMAGES)}; "
                f"found {self.epochs}, {self.steps}, {self.batch} and {sorted(unknown)}"
            )
            raise ValueError(message)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"without": list(self.without)}

    def shares(self, sources: list[str]) -> dict[str, float]:
        """How often each source is drawn: drawn fields now and then, the others alike."""
        drawn = [name for name in sources if name == "drawn"]
        others = [name for name in sources if name != "drawn"]
        rest = 1.0 - _DRAWN_SHARE * bool(drawn)
        return {name: _DRAWN_SHARE if name in drawn else rest / len(others) for name in sources}
