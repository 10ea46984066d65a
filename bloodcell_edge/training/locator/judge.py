"""How well a network finds the cells of scenes: recall, precision, and the threshold that is best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...imaging.located import matches
from ...model.decode import Decoder, Peak, Planes
from .scenes import Scene, SceneCell

if TYPE_CHECKING:
    from numpy.typing import NDArray

THRESHOLDS = tuple(range(51, 193, 3))
"""Heats, 0..255, that are tried."""

_NEARLY = 0.005  # of `f_half`

Network = Callable[["NDArray[np.uint8]"], Planes]


@dataclass(frozen=True)
class Found:
    """Cells found in scenes at one threshold.

    Attributes:
        threshold: heat, 0..255.
        cells: white cells that are asked for.
        found: of these, with a box that fits.
        wrong: boxes beside them; those on doubtful cells do not count.
        iou: median over the boxes that fit.
    """

    threshold: int
    cells: int
    found: int
    wrong: int
    iou: float

    @property
    def recall(self) -> float:
        """Share of the cells that are found."""
        return self.found / max(self.cells, 1)

    @property
    def precision(self) -> float:
        """Share of the boxes that are cells."""
        return self.found / max(self.found + self.wrong, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        return 2 * self.found / max(self.cells + self.found + self.wrong, 1)

    @property
    def f_half(self) -> float:
        """The same with the precision weighing twice (van Rijsbergen 1979, beta 1/2): a false cell is counted."""
        return 1.25 * self.found / max(0.25 * self.cells + self.found + self.wrong, 1)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"recall": self.recall, "precision": self.precision, "f1": self.f1}


def found_at(network: Network, decoder: Decoder, scenes: Sequence[Scene]) -> list[Found]:
    """What is found at each threshold of `THRESHOLDS`.

    A cell that a higher threshold leaves out takes no other one away: the surest comes first. So one look is enough.
    """
    seen = [(_peaks(network, decoder, scene), scene) for scene in scenes]
    return [_found(seen, threshold) for threshold in THRESHOLDS]


def _peaks(network: Network, decoder: Decoder, scene: Scene) -> list[Peak]:
    size = (scene.pixels.shape[0], scene.pixels.shape[1])
    return decoder.peaks(network(scene.pixels.astype(np.uint8)), THRESHOLDS[0], size)


def best(found: Sequence[Found]) -> Found:
    """Of those with nearly the highest `f_half` the lowest threshold: scenes are harder than slides."""
    top = max(one.f_half for one in found)
    return next(one for one in found if one.f_half >= top - _NEARLY)


def _found(seen: Sequence[tuple[list[Peak], Scene]], threshold: int) -> Found:
    cells = hits = wrong = 0
    fits: list[float] = []
    for all_peaks, scene in seen:
        peaks = [peak for peak in all_peaks if peak.heat >= threshold]
        certain = [cell for cell in scene.cells if cell.certain]
        pairs = matches([peak.rectangle for peak in peaks], [cell.rectangle for cell in certain])
        doubtful = [cell for cell in scene.cells if not cell.certain]
        cells, hits, fits = cells + len(certain), hits + len(pairs), fits + [fit for fit, *_ in pairs]
        taken = {number for _, number, _ in pairs}
        wrong += sum(
            number not in taken and not any(_holds(cell, peak) for cell in doubtful)
            for number, peak in enumerate(peaks)
        )
    return Found(threshold, cells, hits, wrong, float(np.median(fits)) if fits else 0.0)


def _holds(cell: SceneCell, peak: Peak) -> bool:
    """The middle of a box lies in a cell's."""
    x, y, width, height = peak.rectangle
    across, down = x + width / 2 - cell.x, y + height / 2 - cell.y
    return 0 <= across <= cell.width and 0 <= down <= cell.height
