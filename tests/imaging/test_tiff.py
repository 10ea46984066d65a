"""TIFF files of every kind: the right pixels or one clear error, and the same at every read."""

from __future__ import annotations

import io

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from bloodcell_edge.errors import PictureError
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.image import decode, decode_picture

FIELD = draw_field(5, ["NEUTROPHIL"], size=(80, 112)).image
FIELD[0, :3] = [[0, 0, 0], [255, 255, 255], [255, 255, 255]]  # full scale, so that the depth is certain
GREY = FIELD[..., 1]


def saved(*pages, **options) -> bytes:
    """The bytes of a TIFF of these pages, each with the options."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(
        stream, byteorder=options.pop("byteorder", "<"), bigtiff=options.pop("bigtiff", False)
    ) as writer:
        for page in pages:
            writer.write(page, **options)
    return stream.getvalue()


def decoded(data: bytes) -> np.ndarray | str:
    """The picture, or what the error says."""
    try:
        return decode(data, name="x.tif")
    except PictureError as error:
        return str(error)


def deep(pixels: np.ndarray, depth: str) -> np.ndarray:
    """8-bit samples in another depth: "float32", or bits in uint16."""
    if depth == "float32":
        return (pixels / 255).astype(np.float32)
    if depth == "8":
        return pixels
    full = 2 ** int(depth) - 1
    return ((pixels.astype(np.uint32) * full + 127) // 255).astype(np.uint16)


@settings(deadline=None)  # the first draw imports tifffile
@given(
    depth=st.sampled_from(["8", "12", "14", "16", "float32"]),
    planes=st.sampled_from(["contig", "separate"]),
    colour=st.booleans(),
    tiled=st.booleans(),
    compression=st.sampled_from([None, "zlib", "lzma"]),
    byteorder=st.sampled_from("<>"),
    bigtiff=st.booleans(),
)
def test_every_kind_gives_the_picture(depth, planes, colour, tiled, compression, byteorder, bigtiff):
    """Depths, planes, strips and tiles, compressions, byte orders: the picture that was saved, twice."""
    pixels = deep(FIELD if colour else GREY, depth)
    kind = {"photometric": "rgb", "planarconfig": planes} if colour else {"photometric": "minisblack"}
    laid = np.moveaxis(pixels, 2, 0) if colour and planes == "separate" else pixels
    tile = {"tile": (16, 32)} if tiled else {"rowsperstrip": 13}
    data = saved(
        laid.astype(laid.dtype.newbyteorder(byteorder)),
        **kind, **tile, compression=compression, byteorder=byteorder, bigtiff=bigtiff, metadata=None,
    )  # fmt: skip
    expected = FIELD if colour else np.repeat(GREY[..., None], 3, 2)
    found = decode(data)
    assert np.abs(found.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(decode(data), found)


@pytest.mark.parametrize("depth", ["8", "16", "float32"])
def test_separate_planes_are_joined(depth):
    """Which OpenCV reads as a third of the picture and memory that nobody wrote."""
    data = saved(np.moveaxis(deep(FIELD, depth), 2, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(decode(data), FIELD)


@pytest.mark.parametrize("bits", [8, 16])
def test_white_may_be_zero(bits):
    """Grey pictures of either photometric interpretation look alike."""
    samples = deep(GREY, str(bits))
    negative = saved((2**bits - 1 - samples).astype(samples.dtype), photometric="miniswhite")
    np.testing.assert_array_equal(decode(negative), decode(saved(samples, photometric="minisblack")))


def test_channels_on_pages_are_joined():
    """By ImageJ's and by OME's words, in the order of their names where they are colours; two are an error."""
    planes = np.moveaxis(FIELD, 2, 0)
    stream = io.BytesIO()
    tifffile.imwrite(stream, planes, imagej=True, metadata={"axes": "CYX", "mode": "composite"})
    np.testing.assert_array_equal(decode(stream.getvalue()), FIELD)
    for names, order in ((["a", "b", "c"], [0, 1, 2]), (["Blue", "Green", "Red"], [2, 1, 0])):
        stream = io.BytesIO()
        about = {"axes": "CYX", "Channel": {"Name": names}}
        tifffile.imwrite(stream, planes[order], ome=True, photometric="minisblack", metadata=about)
        np.testing.assert_array_equal(decode(stream.getvalue()), FIELD)
    stream = io.BytesIO()
    tifffile.imwrite(stream, planes[:2], imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(
        PictureError, match=r"x\.tif: 2 channels, expected red, green and blue; save it as an 8-bit RGB"
    ):
        decode(stream.getvalue(), name="x.tif")


def test_grey_pages_without_a_word_are_an_error():
    """Nothing says whether three grey pages are colours, depths or times."""
    data = saved(*np.moveaxis(FIELD, 2, 0), photometric="minisblack", metadata=None)
    with pytest.raises(PictureError, match=r"x\.tif: 3 grey pages, and nothing in the file says that they are red"):
        decode(data, name="x.tif")


def test_further_pages_are_told():
    """The first page is the picture; how many others there are is said."""
    other = FIELD[::-1].copy()
    assert decode_picture(saved(FIELD, photometric="rgb")).left_out == ""
    assert decode_picture(saved(FIELD, other, photometric="rgb", metadata=None)).left_out == "1 further page left out"
    image, left_out = decode_picture(saved(FIELD, other, other, photometric="rgb", metadata=None))
    np.testing.assert_array_equal(image, FIELD)
    assert left_out == "2 further pages left out"


def test_a_thumbnail_is_not_the_picture():
    """Whether it comes first or last, it is passed over, and is no page that is left out."""
    small = np.ascontiguousarray(FIELD[::4, ::4])
    for first in (True, False):
        stream = io.BytesIO()
        with tifffile.TiffWriter(stream) as writer:
            for page, kind in ((small, 1), (FIELD, 0)) if first else ((FIELD, 0), (small, 1)):
                writer.write(page, photometric="rgb", subfiletype=kind, metadata=None)
        image, left_out = decode_picture(stream.getvalue())
        np.testing.assert_array_equal(image, FIELD)
        assert left_out == ""


@settings(deadline=None)
@given(st.data())
def test_a_damaged_header_is_an_error_or_a_picture(data):
    """Any byte of the header and directory may be any other: never another exception."""
    whole = bytearray(saved(np.moveaxis(FIELD, 2, 0), photometric="rgb", planarconfig="separate", metadata=None))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(4, 320))] = data.draw(st.integers(0, 255))
    found = decoded(bytes(whole[: data.draw(st.integers(8, len(whole)))]))
    if isinstance(found, str):
        assert found.startswith("x.tif: ")
        assert "\n" not in found
    else:
        assert found.ndim == 3


def test_separate_planes_are_turned_as_the_file_says():
    """The orientation tag holds for what tifffile reads, as it does for what OpenCV reads."""
    tag = [(274, "H", 1, 3, True)]  # turned by half
    planes = saved(np.moveaxis(FIELD, 2, 0), photometric="rgb", planarconfig="separate", extratags=tag, metadata=None)
    usual = saved(FIELD, photometric="rgb", extratags=tag, metadata=None)
    np.testing.assert_array_equal(decode(planes), FIELD[::-1, ::-1])
    np.testing.assert_array_equal(decode(usual), FIELD[::-1, ::-1])
