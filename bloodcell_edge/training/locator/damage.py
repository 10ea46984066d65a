"""What a microscope, its lamp, its camera and the stain do to a scene, and what else lies on a slide.

Each damage is drawn by chance, alone and with others. Stain and light work on absorbance and transmitted light
(Beer-Lambert law), as they do on a slide. What a border, a rim or a text hides is no longer asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from .scenes import LEAST_SEEN, SMALLEST, Scene, SceneCell

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

_LAMP_HUES = (15, 28, 45, 110, 165)  # of OpenCV's 180: lamps and white balances that are often met

Damage = Callable[[Scene, np.random.Generator], Scene]


def damaged(scene: Scene, rng: np.random.Generator, *, without: frozenset[str] = frozenset()) -> Scene:
    """A scene under damages drawn by chance.

    Args:
        scene: as it was laid; not changed.
        rng: where chance comes from.
        without: names of `DAMAGES` that are left out, to see what each is worth.
    """
    for name, (chance, apply) in DAMAGES.items():
        if name not in without and rng.random() < chance:
            scene = apply(scene, rng)
    return replace(scene, pixels=np.clip(scene.pixels, 0, 255))


def _debris(scene: Scene, rng: np.random.Generator) -> Scene:
    """Platelet clumps, stain specks and dirt: blots of one to three ellipses, smaller than a red cell."""
    pixels = scene.pixels
    height, width = pixels.shape[:2]
    for _ in range(rng.integers(1, 6)):
        colour = np.array([rng.uniform(60, 200), rng.uniform(40, 140), rng.uniform(90, 200)], np.float32)
        spread = scene.red_cell_px * rng.uniform(0.08, 0.35)
        mask = np.zeros((height, width), np.float32)
        x, y = rng.integers(width), rng.integers(height)
        for _ in range(rng.integers(1, 4)):
            middle = (int(x + rng.normal() * spread), int(y + rng.normal() * spread))
            axes = (max(1, int(spread * rng.uniform(0.5, 1.2))), max(1, int(spread * rng.uniform(0.4, 1))))
            cv2.ellipse(mask, middle, axes, int(rng.integers(180)), 0, 360, 1.0, -1)
        soft = cv2.GaussianBlur(mask, (3, 3), 0.6)[..., None] * np.float32(rng.uniform(0.4, 1))
        pixels = pixels * (1 - soft) + colour * soft
    return replace(scene, pixels=pixels)


def _stain(scene: Scene, rng: np.random.Generator) -> Scene:
    """Other dyes, paler or denser; now and then a monochrome look."""
    absorbed = -np.log(np.clip(scene.pixels, 4, 255) / 250)
    mix = np.eye(3) * np.exp(rng.normal(0, 0.25, 3)) + rng.normal(0, 0.1, (3, 3))
    mix *= math.exp(rng.normal(0, 0.3))
    if rng.random() < 0.04:
        mix = np.ones((3, 3)) / 3 * mix.mean() * 3
    absorbed = np.clip(absorbed @ mix.T.astype(np.float32), -0.05, 3.5)
    if rng.random() < 0.3:  # a veil of stain is lost, or washed out
        absorbed = np.clip(absorbed - np.float32(rng.uniform(0, 0.06)), -0.02, 4)
    return replace(scene, pixels=250 * np.exp(-absorbed))


def _cast(scene: Scene, rng: np.random.Generator) -> Scene:
    """The lamp's colour and the camera's white balance."""
    hue = rng.uniform(0, 180) if rng.random() < 0.2 else float(rng.choice(_LAMP_HUES))
    colour = cv2.cvtColor(np.array([[[hue, rng.uniform(0, 130), 255]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0] / 255
    return replace(scene, pixels=scene.pixels * colour.astype(np.float32))


def _exposure(scene: Scene, rng: np.random.Generator) -> Scene:
    return replace(scene, pixels=scene.pixels * np.float32(rng.uniform(0.5, 1.1)))


def _vignette(scene: Scene, rng: np.random.Generator) -> Scene:
    """Light that falls off from somewhere near the middle, in each colour by itself."""
    x, y = _grid(scene)
    height, width = scene.pixels.shape[:2]
    middle_x, middle_y = rng.uniform(0.2, 0.8) * width, rng.uniform(0.2, 0.8) * height
    far = np.clip(((x - middle_x) ** 2 + (y - middle_y) ** 2) / (0.36 * width * width), 0, 1)[..., None]
    return replace(scene, pixels=scene.pixels * (1 - far * _by_colour(rng, 0.6)))


def _gradient(scene: Scene, rng: np.random.Generator) -> Scene:
    """Light from one side: a condenser out of centre."""
    x, y = _grid(scene)
    height, width = scene.pixels.shape[:2]
    turn = rng.uniform(0, 2 * math.pi)
    slope = (((x - width / 2) * math.cos(turn) + (y - height / 2) * math.sin(turn)) / width)[..., None]
    return replace(scene, pixels=scene.pixels * (1 + slope * _by_colour(rng, 0.5)))


def _flare(scene: Scene, rng: np.random.Generator) -> Scene:
    veil = rng.uniform(0, 0.25)
    return replace(scene, pixels=scene.pixels * np.float32(1 - veil) + np.float32(255 * veil * rng.uniform(0.5, 1)))


def _blur(scene: Scene, rng: np.random.Generator) -> Scene:
    most = max(0.5, min(2.0, 0.08 * scene.red_cell_px))
    blurred: Any = cv2.GaussianBlur(scene.pixels, (0, 0), rng.uniform(0.3, most))
    return replace(scene, pixels=blurred)


def _halo(scene: Scene, rng: np.random.Generator) -> Scene:
    """Bright and dark rims around everything: sharpening by the camera, a closed condenser."""
    spread = rng.uniform(0.5, max(0.8, 0.1 * scene.red_cell_px))
    rims = scene.pixels - cv2.GaussianBlur(scene.pixels, (0, 0), spread)
    return replace(scene, pixels=scene.pixels + rims * np.float32(rng.uniform(0.3, 2.2)))


def _gamma(scene: Scene, rng: np.random.Generator) -> Scene:
    toned = 255 * (np.clip(scene.pixels, 0, 255) / 255) ** np.float32(math.exp(rng.normal(0, 0.25)))
    return replace(scene, pixels=toned.astype(np.float32))


def _noise(scene: Scene, rng: np.random.Generator) -> Scene:
    height, width = scene.pixels.shape[:2]
    channels = 1 if rng.random() < 0.5 else 3
    noise = rng.standard_normal((height, width, channels), dtype=np.float32) * np.float32(rng.uniform(0, 9))
    return replace(scene, pixels=scene.pixels + noise)


def _jpeg(scene: Scene, rng: np.random.Generator) -> Scene:
    small = np.clip(scene.pixels, 0, 255).astype(np.uint8)
    _, packed = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))])
    read: Any = cv2.imdecode(packed, cv2.IMREAD_COLOR)
    return replace(scene, pixels=read.astype(np.float32))


def _border(scene: Scene, rng: np.random.Generator) -> Scene:
    """A flat strip along one or two edges: a frame, a software's bar."""
    for _ in range(1 + (rng.random() < 0.3)):
        height, width = scene.pixels.shape[:2]
        side = rng.integers(4)
        deep = int(rng.uniform(0.03, 0.25) * (width if side < 2 else height))
        left, right = (deep if side == 0 else 0), (width - deep if side == 1 else width)
        top, bottom = (deep if side == 2 else 0), (height - deep if side == 3 else height)
        pixels = np.full_like(scene.pixels, _surround(rng))
        pixels[top:bottom, left:right] = scene.pixels[top:bottom, left:right]
        cells = tuple(cell.cut(left, top, right, bottom) for cell in scene.cells)
        scene = replace(scene, pixels=pixels, cells=tuple(cell for cell in cells if cell is not None))
    return scene


def _round(scene: Scene, rng: np.random.Generator) -> Scene:
    """A round field with any surround."""
    x, y = _grid(scene)
    height, width = scene.pixels.shape[:2]
    radius = rng.uniform(0.3, 0.62) * width
    middle_x, middle_y = width / 2 + rng.normal() * 8, height / 2 + rng.normal() * 8
    inside = np.clip((radius - np.hypot(x - middle_x, y - middle_y)) / rng.uniform(1, 6), 0, 1)[..., None]
    pixels = scene.pixels * inside + _surround(rng) * (1 - inside)
    cells = [_within_disc(cell, middle_x, middle_y, radius) for cell in scene.cells]
    return replace(scene, pixels=pixels, cells=tuple(cell for cell in cells if cell is not None))


def _marks(scene: Scene, rng: np.random.Generator) -> Scene:
    """Burned-in text, a scale bar, a pointer; never a cell."""
    height, width = scene.pixels.shape[:2]
    pixels = np.ascontiguousarray(np.clip(scene.pixels, 0, 255).astype(np.uint8))
    colour = [float(rng.choice([0, 255]))] * 3 if rng.random() < 0.7 else rng.uniform(0, 255, 3).tolist()
    if rng.random() < 0.5:
        x, y, long = int(rng.integers(width - 40)), int(rng.integers(8, height - 4)), int(rng.integers(15, 60))
        cv2.line(pixels, (x, y), (x + long, y), colour, int(rng.integers(1, 4)))
    if rng.random() < 0.3:
        end = (int(rng.integers(width)), int(rng.integers(height)))
        turn, reach = rng.uniform(0, 2 * math.pi), rng.uniform(15, 90)
        begin = (int(end[0] + reach * math.cos(turn)), int(end[1] + reach * math.sin(turn)))
        cv2.line(pixels, begin, end, colour, int(rng.integers(1, 4)))
    if rng.random() < 0.6:
        text = "".join(rng.choice(list("0123456789 :/-umXA"), size=rng.integers(3, 14)))
        place = (int(rng.integers(width - 30)), int(rng.integers(8, height)))
        size = rng.uniform(0.25, 0.6)
        if rng.random() < 0.3:  # on a box of its own
            long = int(26 * size * len(text) * 0.7)
            back = [255.0 - one for one in colour]
            cv2.rectangle(pixels, (place[0] - 2, place[1] - int(26 * size)), (place[0] + long, place[1] + 3), back, -1)
        cv2.putText(pixels, text, place, int(rng.choice([0, 1, 2])), size, colour, 1, cv2.LINE_AA)
    return replace(scene, pixels=pixels.astype(np.float32))


def _grid(scene: Scene) -> tuple[Floats, Floats]:
    height, width = scene.pixels.shape[:2]
    return np.arange(width, dtype=np.float32)[None], np.arange(height, dtype=np.float32)[:, None]


def _by_colour(rng: np.random.Generator, most: float) -> Floats:
    return (rng.uniform(0, most) * rng.uniform(0.5, 1, 3)).astype(np.float32)


def _surround(rng: np.random.Generator) -> Floats:
    """Black, white, any grey; rarely a colour."""
    if rng.random() < 0.15:
        return rng.uniform(0, 255, 3).astype(np.float32)
    grey = float(rng.choice([0, 0, 12, 255])) if rng.random() < 0.5 else rng.uniform(0, 255)
    return np.full(3, grey, np.float32)


def _within_disc(cell: SceneCell, middle_x: float, middle_y: float, radius: float) -> SceneCell | None:
    """What of a cell lies in a disc."""
    across, down = cell.points()
    shown = cell.inside()
    lit = shown & (np.hypot(across - middle_x, down - middle_y) < radius)
    if lit.sum() == shown.sum():
        return cell
    if not lit.any():
        return None
    across, down = across[lit], down[lit]
    x, y, width, height = float(across.min()), float(down.min()), float(np.ptp(across)), float(np.ptp(down))
    if width < SMALLEST or height < SMALLEST:
        return None
    share = float(lit.sum() / shown.sum())
    certain = cell.certain and share > LEAST_SEEN
    return replace(cell, x=x, y=y, width=width, height=height, certain=certain, seen=cell.seen * share)


DAMAGES: dict[str, tuple[float, Damage]] = {
    "debris": (0.25, _debris),
    "stain": (0.9, _stain),
    "cast": (0.75, _cast),
    "exposure": (0.8, _exposure),
    "vignette": (0.5, _vignette),
    "gradient": (0.3, _gradient),
    "flare": (0.2, _flare),
    "blur": (0.45, _blur),
    "halo": (0.4, _halo),
    "gamma": (0.6, _gamma),
    "noise": (0.45, _noise),
    "border": (0.12, _border),
    "round": (0.15, _round),
    "marks": (0.18, _marks),
    "jpeg": (0.5, _jpeg),
}
"""In the order in which they happen, from slide to file: how often each is drawn, and what it does."""
