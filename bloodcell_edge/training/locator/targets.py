"""What the network is asked to say of a scene, on its grid of points."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .scenes import Scene, SceneCell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Planes = NDArray[np.float32]

STRIDE, WHITE_CELL_UNIT, RED_CELL_UNIT = 4, 32.0, 16.0
WHITE, SHAPE, RULER = 2, 7, 1
"""Channels of the three targets: (heat, weight); (dx, dy, log2 width, log2 height, share seen,
weight, weight of the share seen); log2 red-cell diameter."""

_SPREAD = 0.12  # standard deviation of a peak, share of the cell's size
_LEAST_SPREAD = 0.6  # grid points
_SHAPED = 0.4  # of a peak, above which a point knows the shape of its cell
_KNOWN = 0.3  # of a peak, above which a doubtful cell beside it does not count
_SMALLEST_CELL = 0.75  # red cells; less of a cell is not asked for


def targets(scene: Scene) -> tuple[Planes, Planes, Planes]:
    """The three targets, float32, shape (height / STRIDE, width / STRIDE, channels)."""
    height, width = (side // STRIDE for side in scene.pixels.shape[:2])
    white, shape = np.zeros((height, width, WHITE), np.float32), np.zeros((height, width, SHAPE), np.float32)
    ruler = np.full((height, width, RULER), math.log2(scene.red_cell_px / RED_CELL_UNIT), np.float32)
    white[..., 1] = 1
    certain = [cell for cell in scene.cells if _is_asked_for(cell, scene)]
    for cell in scene.cells:
        if cell not in certain:
            rows, columns = _points(cell)
            white[rows, columns, 1] = 0
    for cell in sorted(certain, key=lambda cell: -cell.width * cell.height):
        _draw(cell, white, shape)
    return white, shape, ruler


def _is_asked_for(cell: SceneCell, scene: Scene) -> bool:
    return cell.certain and max(cell.width, cell.height) >= _SMALLEST_CELL * scene.red_cell_px


def _points(cell: SceneCell) -> tuple[slice, slice]:
    return (
        slice(int(cell.y / STRIDE), math.ceil((cell.y + cell.height) / STRIDE)),
        slice(int(cell.x / STRIDE), math.ceil((cell.x + cell.width) / STRIDE)),
    )


def _draw(cell: SceneCell, white: Planes, shape: Planes) -> None:
    height, width = white.shape[:2]
    x, y = (cell.x + cell.width / 2) / STRIDE - 0.5, (cell.y + cell.height / 2) / STRIDE - 0.5
    across = np.arange(width, dtype=np.float32)[None] - np.float32(x)
    down = np.arange(height, dtype=np.float32)[:, None] - np.float32(y)
    spread_x, spread_y = (max(_LEAST_SPREAD, _SPREAD * side / STRIDE) for side in (cell.width, cell.height))
    peak = np.exp(-(across**2 / (2 * spread_x**2) + down**2 / (2 * spread_y**2)))
    peak[min(max(round(y), 0), height - 1), min(max(round(x), 0), width - 1)] = 1
    mine = (peak > shape[..., 5]) & (peak > _SHAPED)
    white[..., 0] = np.maximum(white[..., 0], peak)
    white[..., 1][peak > _KNOWN] = 1
    shape[..., 0][mine] = -np.broadcast_to(across, peak.shape)[mine]
    shape[..., 1][mine] = -np.broadcast_to(down, peak.shape)[mine]
    shape[..., 2][mine] = math.log2(cell.width / WHITE_CELL_UNIT)
    shape[..., 3][mine] = math.log2(cell.height / WHITE_CELL_UNIT)
    known = cell.whole is not None
    shape[..., 4][mine] = cell.seen if known else 0
    shape[..., 5][mine] = peak[mine]
    shape[..., 6][mine] = peak[mine] * known
