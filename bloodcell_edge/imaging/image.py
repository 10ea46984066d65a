"""The only place that prepares pixels: decode, colour order, resize. RGB uint8 everywhere behind it.

Training, calibration, parity, benchmark and the device all come through here, so that a difference in
decoding or resizing cannot hide between them. No function here changes its input.

Resizing uses ``INTER_LINEAR_EXACT`` only: it gives the same bytes on x86 and arm64 and under OpenCV 4.11 and 5.0,
which ``INTER_AREA`` and ``INTER_LINEAR`` do not.
"""

from __future__ import annotations

import re
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import MissingFile, PictureError
from . import tiff

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

IMAGE_VERSION = 1
"""Raise when the same file would give other pixels: caches and specs carry it."""

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp"})
"""File name endings (lower case) that count as pictures."""

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_SIGNATURES = (_JPEG, _PNG, b"BM", *tiff.SIGNATURES)
"""How a file of each kind begins. What else OpenCV reads differs by machine, so it is not asked to."""

_KEPT_BYTES = 31 << 20  # just below the most that glibc raises its threshold to on 64 bits, 32 MiB

_BIT_DEPTHS = (8, 10, 12, 14, 16, 32)  # of samples; cameras put 10, 12 and 14 bits into 16

_HOT = 5_000  # one sample in so many may be brighter than the camera's full scale: a hot pixel
_BEYOND = 1.02  # times full scale that samples may still come to: noise, and an offset that was added
_DEEP, _NEAR_FULL = 255, 0.9  # of full scale, from which it is taken for what it is

_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # 0 or a restart follow 0xFF in coded data (T.81, B.1.1.5)
_END_OF_IMAGE = 0xD9
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOF markers: height and width (T.81, table B.1)
_MOST_PIXELS_PER_BYTE = 512  # a Huffman code is at least a bit, and each 8 x 8 block has one


class Decoded(NamedTuple):
    """A picture, uint8 RGB, shape (height, width, 3), and what of its file was left out, in words; empty: nothing."""

    image: Image
    left_out: str


def read_image(path: str | Path) -> Image:
    """Read one picture file.

    Args:
        path: a JPEG, PNG, TIFF, BMP or WebP file.

    Returns:
        uint8 RGB, shape (height, width, 3), C-contiguous.

    Raises:
        MissingFile: there is no such file.
        PictureError: it is empty, truncated or not a picture.
    """
    return decode(read_file(path), name=str(path))


def read_file(path: str | Path) -> bytes:
    """The bytes of a picture file, not decoded.

    Raises:
        MissingFile: there is no such file.
        PictureError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        message = f"{path}: no such file"
        raise MissingFile(message) from error
    except OSError as error:
        message = f"{path}: cannot be read ({error.strerror})"
        raise PictureError(message) from error


def decode(data: bytes, *, name: str = "picture") -> Image:
    """Decode the bytes of one picture file.

    Grey pictures get three equal channels, transparent ones are laid on white (the colour of an empty field), deeper
    ones are brought to 8 bit (see `to_8_bit`), EXIF rotation is applied, CMYK JPEGs become RGB.

    A JPEG that was damaged in its middle cannot be told from a whole one: OpenCV does not pass on that libjpeg noticed.

    Args:
        data: the whole content of a JPEG, PNG, TIFF (its first picture), BMP or WebP file, whatever its name.
        name: what to call it in an error.

    Returns:
        uint8 RGB, shape (height, width, 3), C-contiguous.

    Raises:
        PictureError: empty, truncated or not a picture.
    """
    return decode_picture(data, name=name).image


def decode_picture(data: bytes, *, name: str = "picture") -> Decoded:
    """As `decode`, and what of the file it leaves out.

    Args:
        data: as for `decode`.
        name: likewise.

    Raises:
        PictureError: likewise.
    """
    if not data:
        message = f"{name}: empty file, expected a picture; copy it again"
        raise PictureError(message)
    if not (data.startswith(_SIGNATURES) or _is_webp(data)):
        message = f"{name}: expected a JPEG, PNG, TIFF, BMP or WebP picture, found a file that begins with {data[:8]!r}"
        raise PictureError(message)
    if (data.startswith(_JPEG) and not _jpeg_is_whole(data)) or (data.startswith(_PNG) and not _png_chunks(data)):
        message = f"{name}: damaged, or ends too early ({len(data)} bytes found); copy it again"
        raise PictureError(message)
    if data.startswith(tiff.SIGNATURES):
        return _decode_tiff(data, name)
    pixels = _opencv_decode(data)
    if pixels is None:
        raise _undecodable(data, name)
    return Decoded(pixels, "")


def _undecodable(data: bytes, name: str) -> PictureError:
    return PictureError(
        f"{name}: cannot be decoded ({len(data)} bytes), damaged or of a rare kind; save it as 8-bit PNG"
    )


def _decode_tiff(data: bytes, name: str) -> Decoded:
    """By OpenCV, which turns it upright itself, where it reads the file rightly; else by tifffile."""
    found = tiff.read_tiff(data, name=name)
    pixels = _opencv_decode(data) if found.pixels is None else None
    if pixels is not None:
        return Decoded(pixels, found.left_out)
    if found.pixels is None:
        found = tiff.read_tiff(data, name=name, pixels_too=True)
    if found.pixels is None:
        raise _undecodable(data, name)
    return Decoded(_upright(_to_rgb(found.pixels), found.orientation), found.left_out)


def _is_webp(data: bytes) -> bool:
    """Of RIFF files those that hold a WebP picture (WebP Container Specification, "WebP file header")."""
    return data.startswith(b"RIFF") and data[8:12] == b"WEBP"


def _jpeg_is_whole(data: bytes) -> bool:
    """True where the end marker follows the last scan, and there are bytes enough for the size that is claimed.

    Decoders would fill what is missing with grey. Segments are stepped over by their length, since a thumbnail in one
    of them has an end marker of its own.
    """
    place, pixels = 2, 0
    while marker := _MARKER.search(data, place):
        code, segment = marker[1][0], marker.end()
        if code == _END_OF_IMAGE:
            return pixels <= _MOST_PIXELS_PER_BYTE * len(data)
        if code in _FRAMES:
            height, width = (int.from_bytes(data[segment + k : segment + k + 2], "big") for k in (3, 5))
            pixels = height * width
        place = segment + int.from_bytes(data[segment : segment + 2], "big")
    return False


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """The last chunk of each kind; empty where one is cut short or its checksum does not fit (PNG, section 5.3)."""
    view, place = memoryview(data), len(_PNG)
    chunks: dict[bytes, bytes] = {}
    while b"IEND" not in chunks:
        end = place + 8 + int.from_bytes(view[place : place + 4], "big")
        if len(data) < end + 4 or zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return {}
        chunks[bytes(view[place + 4 : place + 8])] = bytes(view[place + 8 : end])
        place = end + 4
    return chunks


def _exif_orientation(exif: bytes) -> int:
    """Tag 0x0112 of the first directory (TIFF 6.0, section 2); 1, which is upright, where there is none."""

    def number(place: int, size: int) -> int:
        return int.from_bytes(exif[place : place + size], "little" if exif.startswith(b"II") else "big")

    directory = number(4, 4)
    entries = (directory + 2 + 12 * entry for entry in range(number(directory, 2)))
    return next((number(entry + 8, 2) for entry in entries if number(entry, 2) == 0x0112), 1)


def _upright(image: Image, orientation: int) -> Image:
    """Turn and flip as an EXIF orientation says (1 to 8; others mean nothing)."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


@cache
def _opencv() -> Any:
    """The cv2 module, which from now on logs nothing: what cannot be decoded is an error that says so."""
    import cv2

    silence = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel  # OpenCV 5 moved it
    silence(0)
    _keep_memory()
    return cv2


def _keep_memory() -> None:
    """Have glibc keep what one picture took for the next, up to 62 MB, where it was used before anyway.

    It takes freed blocks to be worth keeping up to the size of the largest one that was ever freed (mallopt(3), the
    dynamic M_MMAP_THRESHOLD and M_TRIM_THRESHOLD), so a large one is freed here; unwritten, it takes no memory. Else
    each picture's pages are given back and faulted in again: 640 x 480 pixels of JPEG were decoded in 1.4 ms with 422
    page faults, and in 0.6 ms without (the least of 6 each, 64 photographs). Elsewhere it does nothing.
    """
    np.empty(_KEPT_BYTES, np.uint8)


def _opencv_decode(data: bytes) -> Image | None:
    """Decode with OpenCV; None where it cannot."""
    cv2 = _opencv()
    # The first mode applies EXIF rotation; only the second keeps depth and alpha, and it rotates TIFF alone.
    straight = getattr(cv2, "IMREAD_COLOR_RGB", None) if data.startswith(_JPEG) else None  # since 4.11; the same bytes
    mode = straight or (cv2.IMREAD_COLOR if data.startswith(_JPEG) else cv2.IMREAD_UNCHANGED)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
        if pixels is None:
            return None
        image: Image = _to_rgb(pixels) if straight is None else pixels
    except (cv2.error, MemoryError):  # damaged headers can claim absurd sizes
        return None
    if data.startswith(_PNG) and b"eXIf" in data:
        image = _upright(image, _exif_orientation(_png_chunks(data).get(b"eXIf", b"")))
    return image


def _to_rgb(pixels: NDArray[Any]) -> Image:
    """RGB of what OpenCV gives: grey (height, width), BGR or BGRA (height, width, channels), of any depth."""
    cv2 = _opencv()
    if pixels.ndim == 2:
        grey: Image = cv2.cvtColor(to_8_bit(pixels), cv2.COLOR_GRAY2RGB)
        return grey
    rgb: Image = cv2.cvtColor(to_8_bit(np.ascontiguousarray(pixels[..., :3])), cv2.COLOR_BGR2RGB)
    alpha = pixels[..., 3:]
    return (
        _on_white(rgb, alpha) if alpha.any() else rgb
    )  # all 0 is padding: a picture that is not seen would not be saved


def to_8_bit(pixels: NDArray[Any]) -> Image:
    """Bring pixels of any integer or float depth to 8 bit without clipping what a person would see.

    Microscope cameras put 10, 12 or 14 bit samples into 16-bit files. The depth is taken as the smallest of
    8, 10, 12, 14 and 16 that holds the brightest samples, but for a few of hot pixels. In a bright-field picture they
    are near full scale: where they are not, what is deeper than 8 bit is stretched until they are, so that the pictures
    of one camera look alike on both sides of a depth.

    Args:
        pixels: any shape; uint8 is returned as it is. Floats are taken as 0..1, where they go beyond as integers are.
            NaN and infinities are black and white.

    Returns:
        uint8 of the same shape.
    """
    if pixels.dtype == np.uint8:
        return pixels
    brightest, most = _brightest(pixels)
    scales = [2**bits - 1 for bits in _BIT_DEPTHS]
    if np.issubdtype(pixels.dtype, np.floating):
        scales = [1, *scales]
    full = next((scale for scale in scales if brightest <= scale * _BEYOND), scales[-1])
    near = most if most <= full * _BEYOND else brightest
    if full > _DEEP and near < _NEAR_FULL * full:
        full = round(near / _NEAR_FULL)
    return _scaled(pixels, full)


def _brightest(pixels: NDArray[Any]) -> tuple[float, float]:
    """The brightest sample but for a few, and the brightest of all; both 0 where none is brighter."""
    finite = pixels[np.isfinite(pixels)] if np.issubdtype(pixels.dtype, np.floating) else pixels.ravel()
    if not finite.size:
        return 0.0, 0.0
    place = finite.size - 1 - finite.size // _HOT
    return max(float(np.partition(finite, place)[place]), 0.0), max(float(finite.max()), 0.0)


def _scaled(pixels: NDArray[Any], full: int) -> Image:
    """uint8 of samples where `full` is white, rounded."""
    if pixels.dtype == np.uint16:  # a table, since large pictures of 64-bit numbers do not fit a small machine
        samples = np.minimum(np.arange(2**16), full)
        table: Image = ((samples * 255 + full // 2) // full).astype(np.uint8)
        return table.take(pixels)
    within = np.clip(np.nan_to_num(pixels.astype(np.float64), nan=0.0), 0, full)
    return np.floor(within * 255 / full + 0.5).astype(np.uint8)


def _on_white(rgb: Image, alpha: NDArray[Any]) -> Image:
    """Lay (height, width, 3) on white by alpha (height, width, 1), which fills its type."""
    full = np.iinfo(alpha.dtype).max if np.issubdtype(alpha.dtype, np.integer) else 1
    opacity = (alpha if alpha.dtype == np.uint8 else _scaled(alpha, int(full))).astype(np.uint16)
    blended = rgb * opacity + 255 * (255 - opacity)
    return ((blended + 127) // 255).astype(np.uint8)


def resize(image: Image, size: tuple[int, int]) -> Image:
    """Resize to an exact size, the same bytes on every machine.

    Where an axis shrinks to half or less, it is halved first (bilinear at exactly one half is a box mean; an odd length
    is rounded up), so that no pixel is skipped; the rest is one bilinear step.

    Args:
        image: uint8, shape (height, width, 3).
        size: (height, width) in pixels.

    Returns:
        uint8 RGB, shape (*size, 3), C-contiguous; a copy even where the size fits.

    Raises:
        PictureError: a size without pixels.
    """
    height, width = size
    if min(height, width, *image.shape[:2]) < 1:
        message = f"cannot resize {image.shape[0]} x {image.shape[1]} to {height} x {width}; expected 1 x 1 or more"
        raise PictureError(message)
    if image.shape[:2] == (height, width):
        return image.copy()
    while image.shape[0] >= 2 * height or image.shape[1] >= 2 * width:
        rows, columns = (
            (now + 1) // 2 if now >= 2 * then else now for now, then in zip(image.shape, size, strict=False)
        )
        image = _linear_exact(image, rows, columns)
    return image if image.shape[:2] == (height, width) else _linear_exact(image, height, width)


def _linear_exact(image: Image, height: int, width: int) -> Image:
    cv2 = _opencv()
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


def encode_jpeg(image: Image, *, quality: int = 90) -> bytes:
    """The bytes of a JPEG file.

    Args:
        image: uint8 RGB, shape (height, width, 3).
        quality: 1 to 100; at 90 a crop of 100 x 100 pixels takes some 4 kB.
    """
    cv2 = _opencv()
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        message = f"cannot write {image.dtype} of shape {image.shape} as JPEG; expected uint8 RGB (height, width, 3)"
        raise PictureError(message)
    return bytes(data)
