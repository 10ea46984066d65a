"""What OpenCV reads wrongly, or not at all, of a TIFF file: planes, channels on pages, thumbnails, white that is zero.

OpenCV takes the first page as it stands. tifffile, which needs numpy alone, knows what the pages of a file are to each
other; it is asked for the pixels too where they do not lie side by side. Compressed samples beyond deflate and PackBits
it cannot read; OpenCV's libtiff can, where red, green and blue lie side by side.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import PictureError

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How a TIFF begins: of either byte order, and with offsets of 4 bytes or 8."""

_COLOURS = ("red", "green", "blue")
_CHANNEL = re.compile(r"<Channel\b[^>]*?\bName=\"([^\"]*)\"")
_WHITE_IS_ZERO, _RGB = 0, 2  # PhotometricInterpretation (TIFF 6.0)
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_ORIENTATION = 274  # tag
_SEPARATE = 2  # PlanarConfiguration
_SAVE = "save it as an 8-bit RGB TIFF or PNG"


@dataclass(frozen=True, eq=False)
class Tiff:
    """The picture of a TIFF file.

    Attributes:
        pixels: shape (height, width), or (height, width, 3 or 4) in the order blue, green, red, alpha, as OpenCV has
            it; of any depth. None where OpenCV reads the file's first page rightly.
        left_out: what else is in the file, in words; empty where nothing is.
        orientation: how the pixels lie, as EXIF numbers it; 1 is upright.
    """

    pixels: NDArray[Any] | None
    left_out: str = ""
    orientation: int = 1


def read_tiff(data: bytes, *, name: str, pixels_too: bool = False) -> Tiff:
    """Find the picture of a TIFF file among its pages, and read it where OpenCV would not.

    Thumbnails and masks are no pictures. Grey pages that are red, green and blue channels by the file's own words
    (ImageJ's, OME's) are joined. Of several pictures it is the first.

    Args:
        data: the whole file.
        name: what to call it in an error.
        pixels_too: read the pixels whatever OpenCV may think of them: it has refused the file.

    Raises:
        PictureError: damaged; grey pages of which nothing says what they are; samples that cannot be read.
    """
    import logging

    import tifffile  # 30 ms, for those who have such files

    logging.getLogger("tifffile").disabled = True  # what it cannot read is an error that says so
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return _picture(file, name, pixels_too)
    except PictureError:
        raise
    except Exception as error:
        message = f"{name}: a TIFF that cannot be read ({_in_short(error)}); copy it again, or {_SAVE}"
        raise PictureError(message) from error


def _in_short(error: Exception) -> str:
    """Its first line, as far as it tells; it may quote the whole header."""
    return (str(error).splitlines() or [""])[0][:120] or type(error).__name__


def _picture(file: Any, name: str, pixels_too: bool) -> Tiff:
    joined = _channels(file, name)
    if joined is not None:
        return joined
    pages = list(file.pages)
    pictures = [page for page in pages if not int(page.subfiletype) & (_REDUCED | _MASK)] or pages[:1]
    if not pictures:
        message = f"{name}: a TIFF without a page; copy it again"
        raise PictureError(message)
    page = pictures[0]
    _refuse_grey_pages(pictures, name)
    further = len(pictures) - 1
    left_out = f"{further} further page{'s' * (further > 1)} left out" if further else ""
    usual = page is pages[0] and page.planarconfig != _SEPARATE and not _is_deep_negative(page)
    if usual and not pixels_too:
        return Tiff(None, left_out)
    lies = page.tags.get(_ORIENTATION)
    return Tiff(_pixels(page, name), left_out, 1 if lies is None else int(lies.value))


def _is_deep_negative(page: Any) -> bool:
    """White is zero, in samples of which OpenCV leaves that to be seen to."""
    return int(page.photometric) == _WHITE_IS_ZERO and page.bitspersample > 8


def _refuse_grey_pages(pictures: list[Any], name: str) -> None:
    """Several grey pages may be channels, depths or times: nothing says which of them a smear would look like."""
    grey = [page for page in pictures if page.samplesperpixel == 1 and page.photometric in (0, 1)]
    if len(pictures) > 1 and len(grey) == len(pictures):
        message = (
            f"{name}: {len(grey)} grey pages, and nothing in the file says that they are red, green and blue; {_SAVE}"
        )
        raise PictureError(message)


def _channels(file: Any, name: str) -> Tiff | None:
    """The picture of a file whose pages are channels by its own words; None where they are not."""
    if not (file.is_imagej or file.is_ome) or not file.series:
        return None
    series = file.series[0]
    sizes = dict(zip(series.axes, series.shape, strict=True))
    if "S" in sizes or sizes.get("C", 1) == 1:
        return None
    if sizes["C"] != len(_COLOURS):
        message = f"{name}: {sizes['C']} channels, expected red, green and blue; {_SAVE}"
        raise PictureError(message)
    pixels = series.asarray()
    for axis, letter in reversed(list(enumerate(series.axes))):
        if letter not in "CYX":
            pixels = pixels.take(0, axis)
    kept = [letter for letter in series.axes if letter in "CYX"]
    pixels = np.transpose(pixels, [kept.index(letter) for letter in "YXC"])
    others = int(np.prod([size for letter, size in sizes.items() if letter not in "CYX"])) - 1
    left_out = f"{others} further picture{'s' * (others > 1)} left out" if others else ""
    return Tiff(np.ascontiguousarray(pixels[..., _blue_green_red(file)]), left_out)


def _blue_green_red(file: Any) -> list[int]:
    """Where blue, green and red are among the channels: by their names, or in the usual order."""
    names = [str(label) for label in (file.imagej_metadata or {}).get("Labels", ())]
    if file.is_ome:
        names = _CHANNEL.findall(file.ome_metadata or "")
    lower = [name.strip().lower() for name in names[: len(_COLOURS)]]
    order = [lower.index(colour) for colour in _COLOURS] if sorted(lower) == sorted(_COLOURS) else [0, 1, 2]
    return order[::-1]


def _pixels(page: Any, name: str) -> NDArray[Any]:
    """Of one page, as OpenCV would give them."""
    try:
        pixels: NDArray[Any] = page.asarray()
    except ValueError as error:  # a codec that is not installed
        if "imagecodecs" not in str(error):
            raise
        kind = getattr(page.compression, "name", page.compression)
        where = "in separate planes" if page.planarconfig == _SEPARATE else "behind another page"
        message = f"{name}: {kind} compression {where} cannot be read; {_SAVE}"
        raise PictureError(message) from error
    if page.planarconfig == _SEPARATE and pixels.ndim == 3:
        pixels = np.moveaxis(pixels, 0, 2)
    if int(page.photometric) == _WHITE_IS_ZERO:
        pixels = _inverted(pixels, page)
    if pixels.ndim == 2:
        return np.ascontiguousarray(pixels)
    if int(page.photometric) != _RGB or pixels.shape[2] not in (3, 4):
        kind = getattr(page.photometric, "name", page.photometric)
        message = f"{name}: {pixels.shape[2]} samples a pixel, {kind}; expected red, green and blue; {_SAVE}"
        raise PictureError(message)
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


def _inverted(pixels: NDArray[Any], page: Any) -> NDArray[Any]:
    """Of samples where 0 is white those where 0 is black."""
    if pixels.dtype == np.bool_:
        return np.where(pixels, 0, 255).astype(np.uint8)
    full = 2**page.bitspersample - 1 if np.issubdtype(pixels.dtype, np.unsignedinteger) else pixels.max()
    inverted: NDArray[Any] = (full - pixels).astype(pixels.dtype)
    return inverted
