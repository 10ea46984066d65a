"""The only place that prepares pixels: decode, colour order, resize. RGB uint8 everywhere behind it.

Training, calibration, parity, benchmark and the device all come through here, so that a difference in
decoding or resizing cannot hide between them. No function here changes its input.

Resizing uses ``INTER_LINEAR_EXACT`` only: it gives the same bytes on x86 and arm64 and under OpenCV 4.11 and 5.0,
which ``INTER_AREA`` and ``INTER_LINEAR`` do not.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import MissingFile, PictureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

IMAGE_VERSION = 1
"""Raise when the same file would give other pixels: caches and specs carry it."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
"""File name endings (lower case) that count as pictures."""

_JPEG, _PNG = b"\xff\xd8", b"\x89PNG\r\n\x1a\n"


def read_image(path: str | Path) -> Image:
    """Read one picture file.

    Args:
        path: a JPEG, PNG, TIFF or BMP file.

    Returns:
        uint8 RGB, shape (height, width, 3), C-contiguous.

    Raises:
        MissingFile: there is no such file.
        PictureError: it is empty, truncated or not a picture.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        message = f"{path}: no such file"
        raise MissingFile(message) from error
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror})"
        raise PictureError(message) from error
    return decode(data, name=str(path))


def decode(data: bytes, *, name: str = "picture") -> Image:
    """Decode the bytes of one picture file.

    Grey pictures get three equal channels, transparent ones are laid on white (the colour of an empty field), 16-bit
    ones are brought to 8 bit (see `to_8_bit`), EXIF rotation is applied, CMYK JPEGs become RGB.

    Args:
        data: the whole content of a file.
        name: what to call it in an error.

    Returns:
        uint8 RGB, shape (height, width, 3), C-contiguous.

    Raises:
        PictureError: empty, truncated or not a picture.
    """
    if not data:
        message = f"{name}: empty file, expected a picture"
        raise PictureError(message)
    if _is_cut_short(data):
        message = f"{name}: the file ends too early ({len(data)} bytes); copy it again"
        raise PictureError(message)
    pixels = _opencv_decode(data)
    if pixels is None or pixels.size == 0:
        message = f"{name}: not a picture that can be decoded (JPEG, PNG, TIFF or BMP expected)"
        raise PictureError(message)
    return pixels


def _opencv_decode(data: bytes) -> Image | None:
    """Decode with OpenCV; None where it cannot."""
    import cv2

    buffer = np.frombuffer(data, np.uint8)
    try:
        if not data.startswith(_JPEG):  # only the other formats can be transparent; this mode alone keeps alpha
            raw = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
            if raw is None:
                return None
            if raw.ndim == 3 and raw.shape[2] == 4:
                return _on_white(cv2.cvtColor(to_8_bit(raw), cv2.COLOR_BGRA2RGBA))
        pixels: Any = cv2.imdecode(buffer, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)  # applies EXIF rotation
        return None if pixels is None else np.ascontiguousarray(cv2.cvtColor(to_8_bit(pixels), cv2.COLOR_BGR2RGB))
    except (cv2.error, MemoryError):  # damaged headers can claim absurd sizes
        return None


def to_8_bit(pixels: NDArray[Any]) -> Image:
    """Bring pixels of any integer or float depth to 8 bit without clipping what a person would see.

    Microscope cameras put 10, 12 or 14 bit samples into 16-bit files. The depth is taken as the smallest of
    8, 10, 12, 14 and 16 that holds the brightest sample, which in a bright-field picture is near full scale.

    Args:
        pixels: any shape; uint8 is returned as it is. Floats are taken as 0..1.

    Returns:
        uint8 of the same shape.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if np.issubdtype(pixels.dtype, np.floating):
        scaled = np.nan_to_num(pixels) * 255.0
        return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    brightest = int(pixels.max())
    bits = next(bits for bits in (8, 10, 12, 14, 16, 32) if brightest < 2**bits)
    rounded = (pixels.astype(np.int64) * 255 + (2**bits - 1) // 2) // (2**bits - 1)
    return np.clip(rounded, 0, 255).astype(np.uint8)


def _on_white(rgba: Image) -> Image:
    alpha = rgba[..., 3:].astype(np.uint16)
    blended = rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((blended + 127) // 255).astype(np.uint8)


def _is_cut_short(data: bytes) -> bool:
    """True where the end that the format promises is missing; decoders would fill the rest with grey."""
    if data.startswith(_JPEG):
        scan = data.find(b"\xff\xda")  # inside entropy-coded data 0xFF is always followed by 0x00 or a restart
        return scan >= 0 and data.find(b"\xff\xd9", scan) < 0
    if data.startswith(_PNG):
        return b"IEND" not in data[-64:]
    if data.startswith(b"BM") and len(data) >= 6:
        return len(data) < int.from_bytes(data[2:6], "little")
    return False


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Resize to an exact size, the same bytes on every machine.

    Where an axis shrinks to half or less, it is halved first (bilinear at exactly one half is a box mean), so that no
    pixel is skipped; the rest is one bilinear step.

    Args:
        image: uint8, shape (height, width, 3).
        size: (height, width) in pixels.

    Returns:
        uint8 RGB, shape (*size, 3), C-contiguous; a copy even where the size fits.
    """
    import cv2

    height, width = size
    if image.shape[:2] == (height, width):
        return image.copy()
    while image.shape[0] >= 2 * height or image.shape[1] >= 2 * width:
        rows = image.shape[0] // 2 if image.shape[0] >= 2 * height else image.shape[0]
        columns = image.shape[1] // 2 if image.shape[1] >= 2 * width else image.shape[1]
        image = _linear_exact(image, rows, columns, cv2)
    return _linear_exact(image, height, width, cv2)


def _linear_exact(image: Image, height: int, width: int, cv2: Any) -> Image:
    resized: Image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return resized


def prepare(image: Image, size: tuple[int, int]) -> Image:
    """Turn a whole field into what a model with view "frame" takes: squeezed to its input size, aspect not kept.

    Args:
        image: uint8 RGB, shape (height, width, 3).
        size: the model's input (height, width).

    Returns:
        uint8 RGB, shape (*size, 3), 0..255. Rescaling happens inside the graph.
    """
    return resize(image, size)
