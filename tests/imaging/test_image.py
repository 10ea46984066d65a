import hashlib
import io
import random
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageOps

from bloodcell_edge.errors import MissingFile, PictureError
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.image import SUFFIXES, decode, prepare, read_image, resize, to_8_bit

FIELD = draw_field(3, size=(60, 90)).image
RED = np.full((20, 30, 3), (255, 0, 0), np.uint8)
FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
images = arrays.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)))


def saved(image, kind, **options) -> bytes:
    """A picture (array or PIL image) as the bytes of a file."""
    stream = io.BytesIO()
    picture = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    picture.save(stream, kind, **options)
    return stream.getvalue()


def exif(orientation) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def tiff(samples: np.ndarray, *, alpha: int | None = None) -> bytes:
    """An uncompressed TIFF of any sample type (TIFF 6.0), directory first, as PIL cannot write it.

    `alpha` is what ExtraSamples says of the fourth channel: 0 unspecified, 2 alpha.
    """
    height, width, channels = samples.shape
    bits = samples.dtype.itemsize * 8
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    short, long = 3, 4
    entries = [(256, long, [width]), (257, long, [height]), (258, short, [bits] * channels), (259, short, [1])]
    entries += [(262, short, [2 if channels > 1 else 1]), (273, long, [0]), (277, short, [channels])]
    entries += [(278, long, [height]), (279, long, [samples.nbytes])]
    entries += [(338, short, [alpha])] * (alpha is not None) + [(339, short, [kind] * channels)]
    after = 8 + 2 + 12 * len(entries) + 4
    start = after + sum(2 * len(values) for _, _, values in entries if len(values) > 2)
    directory, far = struct.pack("<H", len(entries)), b""
    for tag, form, values in entries:
        numbers = [start] if tag == 273 else values
        packed = struct.pack(f"<{len(numbers)}{'H' if form == short else 'I'}", *numbers)
        if len(packed) > 4:
            packed, far = struct.pack("<I", after + len(far)), far + packed
        directory += struct.pack("<HHI", tag, form, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0\x08\0\0\0" + directory + bytes(4) + far + samples.astype(samples.dtype.newbyteorder("<")).tobytes()


# Formats


@pytest.mark.parametrize("kind", FORMATS)
def test_pure_red_comes_back_red(kind):
    """Colour order is RGB behind decode, whatever the format; JPEG may be off by one."""
    found = decode(saved(RED, kind, **({"quality": 100, "subsampling": 0} if kind == "JPEG" else {})))

    assert np.abs(found.astype(int) - RED).max() <= (1 if kind == "JPEG" else 0)
    assert (found.dtype, found.flags.c_contiguous) == (np.uint8, True)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [(kind, mode) for kind in ("PNG", "TIFF", "BMP") for mode in ("1", "L", "P", "RGB", "RGBA")]
    + [("PNG", "LA"), ("TIFF", "LA"), ("TIFF", "CMYK")],
)
def test_lossless_files_decode_as_another_reader_decodes_them(kind, mode):
    """One bit, grey, palette, opaque alpha and CMYK give the pixels that Pillow gives."""
    picture = Image.fromarray(FIELD).convert(mode)

    np.testing.assert_array_equal(decode(saved(picture, kind)), np.array(picture.convert("RGB")))


@pytest.mark.parametrize(("mode", "options"), [("L", {}), ("CMYK", {}), ("RGB", {"progressive": True})])
def test_jpegs_decode_nearly_as_another_reader_decodes_them(mode, options):
    """Grey, CMYK and progressive JPEGs differ from Pillow's reading by rounding alone."""
    data = saved(Image.fromarray(FIELD).convert(mode), "JPEG", quality=95, **options)
    found, expected = decode(data).astype(int), np.array(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

    assert np.abs(found - expected).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA"), ("TIFF", "RGB"), ("TIFF", "RGBA")]
)
def test_exif_rotation_is_applied(kind, mode, orientation):
    """Each of the eight orientations comes out upright, also where the picture has alpha."""
    data = saved(Image.fromarray(FIELD).convert(mode), kind, exif=exif(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")

    np.testing.assert_array_equal(decode(data), np.array(upright))


def test_transparent_parts_are_white():
    """Alpha 0 shows white, 255 the colour, 51 a fifth of it; in colour, grey and palette pictures."""
    red = np.dstack([RED, np.zeros(RED.shape[:2], np.uint8)])
    red[0, :, 3], red[1, :, 3] = 255, 51
    grey = Image.fromarray(red).convert("LA")
    palette = Image.fromarray(RED).convert("P")

    assert decode(saved(red, "PNG"))[[0, 1, 2], 0].tolist() == [[255, 0, 0], [255, 204, 204], [255, 255, 255]]
    assert decode(saved(grey, "PNG"))[[0, 2], 0].tolist() == [[76, 76, 76], [255, 255, 255]]
    assert decode(saved(palette, "PNG", transparency=bytes(256)[:-1]))[0, 0].tolist() in ([255, 0, 0], [255, 255, 255])


def test_an_alpha_that_is_zero_everywhere_is_padding():
    """32-bit pictures whose fourth byte nobody filled are not white: TIFF without a meaning for it, and BMP."""
    padded = np.dstack([RED, np.zeros(RED.shape[:2], np.uint8)])
    blue_green_red = padded[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    header = struct.pack("<IiiHHIIiiII", 40, 30, 20, 1, 32, 3, len(blue_green_red), 0, 0, 0, 0) + masks
    bmp = b"BM" + struct.pack("<IHHI", 14 + len(header) + len(blue_green_red), 0, 0, 14 + len(header))

    np.testing.assert_array_equal(decode(tiff(padded, alpha=0)), RED)
    np.testing.assert_array_equal(decode(bmp + header + blue_green_red), RED)


@pytest.mark.parametrize("kind", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_deep_samples_use_the_whole_range(kind, bits):
    """10, 12, 14 and 16 bit samples in 16-bit files give the picture that 8 bit ones would."""
    field = FIELD.copy()
    field[0, 0] = 255
    deep = (field.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    data = cv2.imencode(kind, deep[..., ::-1])[1].tobytes()

    np.testing.assert_array_equal(decode(data), field)


def test_alpha_of_a_deep_picture_has_its_own_depth():
    """12 bit colours beside a 16 bit alpha are not darkened by it."""
    deep = np.dstack([RED // 255 * np.uint16(4095), np.full(RED.shape[:2], 65535, np.uint16)])

    np.testing.assert_array_equal(decode(tiff(deep, alpha=2)), RED)


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(FIELD / 255, id="double 0..1"),
        pytest.param((FIELD / 255).astype(np.float32), id="float 0..1"),
        pytest.param(FIELD.astype(np.float32), id="float 0..255"),
        pytest.param(FIELD.astype(np.int16), id="int16"),
        pytest.param((FIELD / 255).astype(np.float32)[..., 1:2], id="grey float"),
    ],
)
def test_float_and_signed_tiffs_decode(samples):
    """Floats of 0..1 or 0..255 and signed integers give the 8-bit picture that they stand for."""
    expected = FIELD if samples.shape[2] == 3 else np.repeat(FIELD[..., 1:2], 3, axis=2)

    np.testing.assert_array_equal(decode(tiff(samples)), expected)


def test_nan_is_black_and_infinity_white():
    """A float picture with holes decodes, and its holes do not change the rest."""
    samples = np.full((2, 2, 1), 0.2, np.float32)
    samples[0] = [[np.nan], [np.inf]]

    assert decode(tiff(samples))[..., 0].tolist() == [[0, 255], [51, 51]]


def test_one_pixel_is_a_picture():
    """1 x 1 decodes in every format."""
    for kind in FORMATS:
        assert decode(saved(RED[:1, :1], kind)).shape == (1, 1, 3)


def test_what_follows_a_whole_picture_does_not_matter():
    """Bytes behind the end of a JPEG or PNG, as cameras and downloads leave them, change nothing."""
    for kind in ("JPEG", "PNG"):
        data = saved(FIELD, kind)
        np.testing.assert_array_equal(decode(data + b"more" * 100), decode(data))


def test_fill_bytes_before_a_marker_do_not_matter():
    """0xFF may be repeated before any marker of a JPEG, the last one too (T.81, B.1.1.2)."""
    data = saved(FIELD, "JPEG")
    filled = data[:2] + b"\xff\xff" + data[2:-2] + b"\xff\xff" + data[-2:]

    np.testing.assert_array_equal(decode(filled), decode(data))


# Damage


def thumbnailed() -> bytes:
    """A JPEG with a JPEG inside its EXIF segment, as cameras write them."""
    tags = exif(1)
    small = saved(RED, "JPEG")
    tags.get_ifd(0x0112)
    block = tags.tobytes() + small
    return saved(FIELD, "JPEG", exif=block)


WHOLE = {
    "JPEG": saved(FIELD, "JPEG"),
    "progressive JPEG": saved(FIELD, "JPEG", progressive=True),
    "JPEG with restarts": cv2.imencode(".jpg", FIELD, [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes(),
    "JPEG with a thumbnail": thumbnailed(),
    "PNG": saved(FIELD, "PNG"),
    "BMP": saved(FIELD, "BMP"),
    "TIFF, directory last": saved(FIELD, "TIFF"),
    "TIFF, directory first": tiff(FIELD),
    "TIFF, LZW": saved(FIELD, "TIFF", compression="tiff_lzw"),
    "TIFF, deflate": saved(FIELD, "TIFF", compression="tiff_adobe_deflate"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_ends_too_early_is_an_error(kind):
    """Cut at every tenth byte, and before the last, no file gives a picture: never one that is half grey."""
    data = WHOLE[kind]
    assert decode(data).shape == FIELD.shape
    for length in [*range(0, len(data), 10), len(data) - 1]:
        with pytest.raises(PictureError):
            decode(data[:length])


def test_the_thumbnail_is_inside():
    """The file that the test above cuts does hold a second whole JPEG, with its own end marker."""
    data = WHOLE["JPEG with a thumbnail"]

    assert data.count(b"\xff\xd8\xff") == 2
    assert data.index(b"\xff\xd9") < data.rindex(b"\xff\xda")


def claim(kind, height, width) -> bytes:
    """A small file whose header claims another size, checksums mended."""
    data = bytearray(WHOLE.get(kind) or tiff(RED))
    if kind == "JPEG":
        place = data.index(b"\xff\xc0") + 5
        data[place : place + 4] = struct.pack(">HH", height, width)
    elif kind == "PNG":
        data[16:24] = struct.pack(">II", width, height)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    elif kind == "BMP":
        data[18:26] = struct.pack("<ii", width, height)
    else:
        data[18:22], data[30:34] = struct.pack("<I", width), struct.pack("<I", height)
    return bytes(data)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("side", [0, 5000, 30000, 65000])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
def test_a_header_that_claims_too_much_is_an_error(kind, side):
    """A kilobyte that says it is 65000 x 65000, or 0 x 0, is refused at once."""
    with pytest.raises(PictureError):
        decode(claim(kind, side, side))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty file"),
        (b"label,file\n", "begins with b'label,fi'"),
        (saved(RED, "GIF"), "begins with b'GIF8"),
        (b"\xff\xd8\xff\xd9", "cannot be decoded"),
        (b"BM", "cannot be decoded"),
        (WHOLE["PNG"][:100], "100 bytes found"),
        (WHOLE["PNG"].replace(b"IDAT", b"IDAX", 1), "damaged"),
    ],
)
def test_an_error_names_the_file_and_what_was_found(tmp_path, data, says):
    """What is no picture is told in one line, with the file's name, whatever its suffix says."""
    path = tmp_path / "renamed.jpg"
    path.write_bytes(data)
    with pytest.raises(PictureError) as caught:
        read_image(path)

    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_file_is_missing_and_a_folder_no_picture(tmp_path):
    """Both are errors of ours that name the path."""
    with pytest.raises(MissingFile, match=r"absent\.jpg: no such file"):
        read_image(tmp_path / "absent.jpg")
    with pytest.raises(PictureError, match="cannot be read"):
        read_image(tmp_path)


@pytest.mark.parametrize("kind", WHOLE)
def test_damaged_bytes_give_a_picture_or_our_error(kind):
    """50 files of each kind with 1 to 20 changed bytes raise nothing but PictureError, and pictures are well formed."""
    dice = random.Random(kind)
    for _ in range(50):
        data = bytearray(WHOLE[kind])
        for _ in range(dice.choice((1, 3, 20))):
            data[dice.randrange(dice.choice((300, len(data))))] = dice.randrange(256)
        try:
            image = decode(bytes(data))
        except PictureError:
            continue
        assert (image.dtype, image.ndim, image.shape[2], image.flags.c_contiguous) == (np.uint8, 3, 3, True)


@given(
    st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*"])
)
def test_any_bytes_behind_any_signature(data, signature):
    """Noise raises PictureError alone."""
    with pytest.raises(PictureError):
        decode(signature + data)


def test_bad_files_leave_stderr_empty():
    """Neither OpenCV nor libpng nor libtiff writes to stderr about truncated, changed or renamed files."""
    program = """
import sys, pathlib
from bloodcell_edge.errors import PictureError
from bloodcell_edge.imaging.image import decode
for data in eval(sys.stdin.read()):
    try:
        decode(data)
    except PictureError:
        continue
    raise SystemExit("decoded")
"""
    bad = [data[:length] for data in WHOLE.values() for length in (20, len(data) // 2, len(data) - 1)]
    bad += [WHOLE["PNG"].replace(b"IDAT", b"IDAX", 1), b"text", claim("TIFF", 65000, 65000), claim("BMP", 5000, 5000)]
    result = subprocess.run(
        [sys.executable, "-c", program], input=repr(bad), capture_output=True, text=True, timeout=60, check=False
    )

    assert (result.returncode, result.stderr) == (0, "")


def test_decoding_leaves_the_bytes_alone():
    """Bytes in, the same bytes still there, and a picture of one's own that may be written to."""
    for data in WHOLE.values():
        before = bytes(bytearray(data))
        image = decode(data)
        image[:] = 0
        assert data == before
        assert decode(data).any()


# Depth


@given(
    arrays.arrays(st.sampled_from([np.uint8, np.uint16, np.int16, np.int32, np.uint32, np.float32, np.float64]), (3, 4))
)
def test_to_8_bit_keeps_shape_order_and_input(pixels):
    """Any samples: uint8 of the same shape, brighter stays at least as bright, input unchanged, no warning."""
    before = pixels.copy()
    found = to_8_bit(pixels)
    known = np.isfinite(pixels)
    order = np.argsort(pixels[known], kind="stable")

    assert (found.dtype, found.shape) == (np.uint8, pixels.shape)
    assert (np.diff(found[known][order].astype(int)) >= 0).all()
    np.testing.assert_array_equal(pixels, before)


@given(st.sampled_from([10, 12, 14, 16]), st.data())
def test_to_8_bit_rounds_to_the_nearest(bits, data):
    """A sample v of b bits becomes 255 v / (2^b - 1), rounded: white is 255, black is 0."""
    value = data.draw(st.integers(0, 2**bits - 1))
    found = to_8_bit(np.array([0, value, 2**bits - 1], np.uint16))

    assert found[[0, 2]].tolist() == [0, 255]
    assert abs(int(found[1]) - 255 * value / (2**bits - 1)) <= 0.5


# Resizing


@settings(deadline=None)
@given(images, st.integers(1, 60), st.integers(1, 60))
def test_resize_gives_the_size_asked_for(image, height, width):
    """Any size to any size: exact shape, contiguous, a copy, within the range of the input, input unchanged."""
    before = image.copy()
    found = resize(image, (height, width))

    assert found.shape == (height, width, 3)
    assert (found.dtype, found.flags.c_contiguous, np.shares_memory(found, image)) == (np.uint8, True, False)
    assert image.min() <= found.min() <= found.max() <= image.max()
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(prepare(image, (height, width)), found)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
def test_halving_is_the_mean_of_four(quarter):
    """Twice as large in each direction shrinks to the mean of each 2 x 2 square, rounded to the nearest."""
    dice = np.random.default_rng(quarter.size)
    large = np.clip(
        quarter.repeat(2, 0).repeat(2, 1) + dice.integers(0, 30, (quarter.shape[0] * 2, quarter.shape[1] * 2, 3)),
        0,
        255,
    ).astype(np.uint8)
    squares = large.reshape(quarter.shape[0], 2, quarter.shape[1], 2, 3).astype(int).sum(axis=(1, 3))

    np.testing.assert_array_equal(resize(large, quarter.shape[:2]), (squares + 2) // 4)


@pytest.mark.parametrize("length", range(1, 60))
def test_halving_skips_no_pixel(length):
    """A white pixel leaves a trace wherever it stands in a row of black ones, down to half the row, odd lengths too."""
    rows = np.zeros((length, length, 3), np.uint8)
    rows[np.arange(length), np.arange(length)] = 255
    for shorter in range((length + 1) // 2, length + 1):
        assert all(resize(row[np.newaxis], (1, shorter)).any() for row in rows)


def test_resize_takes_views():
    """Flipped, transposed and cut views give what their copies give."""
    for view in (FIELD[::-1], FIELD[:, ::-1], FIELD.swapaxes(0, 1), FIELD[3:50:2, 5:80], FIELD[..., ::-1]):
        np.testing.assert_array_equal(resize(view, (17, 23)), resize(view.copy(), (17, 23)))
        assert resize(view, view.shape[:2]).flags.c_contiguous


def test_a_long_strip_can_be_resized():
    """Lengths over 32767 pixels, where OpenCV has had limits, shrink and grow."""
    assert resize(np.zeros((1, 70_000, 3), np.uint8), (5, 7)).shape == (5, 7, 3)
    assert resize(np.zeros((70_000, 2, 3), np.uint8), (60_000, 3)).shape == (60_000, 3, 3)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-1, 5)])
def test_no_pixels_cannot_be_asked_for(size):
    """A side of nothing is an error that says so, not a loop without end."""
    with pytest.raises(PictureError, match="expected 1 x 1 or more"):
        resize(RED, size)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((96, 96), "14a382b47ac96545"),
        ((128, 128), "f491a9cc2c27dc69"),
        ((224, 224), "0a96ed053146e8dc"),
        ((500, 333), "aaa4c95b9ee77649"),
        ((30, 30), "df5a060ecda1fc1f"),
    ],
)
def test_golden_bytes(size, expected):
    """A drawn field prepared to a size has these very bytes on every machine; a change raises IMAGE_VERSION."""
    prepared = prepare(draw_field(1, size=(241, 321)).image, size)

    assert hashlib.sha256(prepared.tobytes()).hexdigest()[:16] == expected


def test_suffixes_are_those_that_decode(tmp_path):
    """A picture saved under each suffix is read."""
    for suffix in SUFFIXES:
        path = tmp_path / f"field{suffix}"
        Image.fromarray(FIELD).save(path)
        assert read_image(path).shape == FIELD.shape
