"""Folders of pictures that tests lay out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

PNG = cv2.imencode(".png", np.full((4, 4, 3), 7, np.uint8))[1].tobytes()


def lay(root: Path, *files: str, data: bytes = PNG) -> Path:
    """Put the same small picture at each place below a folder."""
    for file in files:
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root
