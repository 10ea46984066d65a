"""The learned locator, with a network whose weights are set by hand (see `made_locator`)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from made_locator import GROUND, SIZE, field, flatbuffer_of, locator_file, network, with_spec

from bloodcell_edge.errors import PictureError, SpecError
from bloodcell_edge.imaging.light import Halves
from bloodcell_edge.imaging.located import Box
from bloodcell_edge.model.archive import sha256_of
from bloodcell_edge.model.locator import (
    LearnedLocator,
    open_locator,
    pack_locator,
    shipped_locator,
    told,
    unpack_locator,
)

DIM = (*GROUND[:2], 45)
"""A ground whose red cells are 3 pixels wide."""
UNSURE = (20, *GROUND[1:])
"""One that tells little of its scale."""


@pytest.fixture(scope="module")
def locate(made_file):
    return LearnedLocator(made_file)


def rectangles(located):
    return [box.rectangle for box in located.cells]


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("target", ["float32", "int8"])
def test_cells_and_ruler_are_found_where_they_are(made_flatbuffers, target, plain):
    """From top to bottom, with the sizes of the network, in float and in integers, under both kinds of kernels."""
    locate = LearnedLocator(locator_file(made_flatbuffers[target]), plain=plain)
    image = field(*SIZE, (130, 90), (50, 62))
    before = image.copy()
    located = locate(image)
    assert located.cells == (Box(34, 46, 32, 32, True, False), Box(114, 74, 32, 32, True, False))
    assert located.red_cell_px == pytest.approx(16, rel=0.03)
    assert located.halves is not None
    assert located.halves.image is image
    assert (image == before).all()


@pytest.mark.parametrize("scale", [2, 3, 5, 8])
def test_boxes_and_ruler_are_in_pixels_of_the_picture(locate, scale):
    """Of a picture that is as much larger than the input; its red cells are as much larger."""
    located = locate(field(144 * scale, 192 * scale, (50 * scale, 62 * scale), scale=scale))
    (box,) = located.cells
    assert np.allclose(box.rectangle, np.array((34, 46, 32, 32)) * scale, atol=scale / 2)
    assert located.red_cell_px == pytest.approx(16 * scale, rel=0.03)


@pytest.mark.parametrize(("height", "width"), [(144, 100), (100, 192), (192, 144), (192, 60), (90, 90), (300, 300)])
def test_a_picture_of_any_shape_keeps_its_aspect(locate, height, width):
    """Wide, square and upright ones: a cell in their middle is as wide as high, and whole; padding holds none."""
    scale = max(round(min(max(height / 144, width / 192), max(height / 192, width / 144))), 1)
    (box,) = locate(field(height, width, (width // 2, height // 2), scale=scale)).cells
    assert abs(box.x + box.width / 2 - width / 2) <= 4 * scale
    assert abs(box.y + box.height / 2 - height / 2) <= 4 * scale
    assert abs(box.width - box.height) <= 2


def test_a_blank_picture_has_no_cell(locate):
    """Nothing is found where nothing is."""
    assert locate(field(*SIZE)).cells == ()


def test_a_cell_at_the_edge_is_cut(locate):
    """Its box ends there, less of it is seen, and it is not whole; at all four sides."""
    for middle in ((6, 70), (186, 70), (90, 6), (90, 138)):
        (box,) = locate(field(*SIZE, middle)).cells
        assert not box.whole
        assert 0.5 < box.seen < 0.9
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= 192
        assert box.y + box.height <= 144


def test_a_cell_a_pixel_from_the_edge_is_cut(locate):
    """The network is right to about a pixel, so a box that nearly reaches the edge reaches it."""
    (near,), (apart,) = (locate(field(144, width, (174, 70))).cells for width in (191, 192))
    assert (near.x, near.width, near.whole) == (158, 33, False)
    assert (apart.x, apart.width, apart.whole) == (158, 32, True)


def test_a_cell_at_a_dark_rim_is_cut(locate):
    """Behind a round field stop, a cell that reaches the dark is not whole; one in the middle is."""
    image = field(*SIZE, (98, 70), (42, 70))
    rows, columns = np.mgrid[:144, :192]
    image[(columns - 96) ** 2 + (rows - 72) ** 2 > 68**2] = 0
    whole = {box.x: box.whole for box in locate(image).cells}
    assert whole == {26: False, 82: True}


def test_cells_that_meet_are_marked(locate):
    """Both of two whose boxes nearly cover each other's gap; not a third."""
    located = locate(field(*SIZE, (50, 62), (78, 62), (150, 62)))
    assert [(box.x, box.touching) for box in located.cells] == [(34, True), (62, True), (134, False)]


def test_a_given_scale_is_the_ruler(locate):
    """Whatever the picture's red cells say."""
    assert locate(field(*SIZE), um_per_px=0.25).red_cell_px == 30


def test_a_picture_that_tells_little_has_no_ruler(locate):
    """No red cells, no ruler; cells are found all the same."""
    located = locate(field(*SIZE, (50, 62), ground=UNSURE))
    assert located.red_cell_px is None


def test_small_cells_are_looked_for_in_parts(locate):
    """Where red cells are small in the input, boxes are as much finer, and the ruler stays in pixels of the picture."""
    middles = [(98, 122), (660, 300), (300, 420)]
    usual = locate(field(576, 768, *middles, scale=4))
    small = locate(field(576, 768, *middles, ground=DIM, scale=1))
    assert [box.width for box in usual.cells] == [128] * 3
    assert [box.width for box in small.cells] == [32] * 3
    for box, (x, y) in zip(small.cells, middles, strict=True):
        assert abs(box.x + 16 - x) <= 3
        assert abs(box.y + 16 - y) <= 3
    assert small.red_cell_px == pytest.approx(3.25, rel=0.05)


def test_no_cell_is_lost_or_doubled_where_parts_meet(locate):
    """Wherever a cell lies, across all seams: once, and whole."""
    for place in range(40, 700, 9):
        middle = place // 4 * 4 + 2, 40 + (place * 7) % 460
        cells = locate(field(576, 768, middle, ground=DIM, scale=1)).cells
        assert len(cells) == 1, middle
        assert cells[0].whole, middle


def test_a_picture_is_never_enlarged(locate):
    """Where it is as small as the input, it is looked at once however small its cells are."""
    seen = LearnedLocator(locate.file)
    calls = []
    ask = seen.planes
    seen.planes = lambda pixels: (calls.append(1), ask(pixels))[1]
    seen(field(*SIZE, ground=DIM))
    assert len(calls) == 1
    seen(field(288, 384, ground=DIM))
    assert len(calls) == 1 + 1 + 9


def test_a_given_scale_says_whether_to_look_in_parts(locate):
    """Not what the network takes the scale for."""
    image = field(576, 768, (100, 124), ground=DIM, scale=1)
    assert len(locate(image).cells) == 1
    assert locate(image, um_per_px=7.5 / 64).cells == ()


def test_a_tightly_cut_cell_is_looked_at_with_room_around_it(locate):
    """Where red cells would be so large that a cell fills the input, the picture is shown half as large."""
    image = field(*SIZE, (90, 70))
    (usual,), (tight,) = locate(image).cells, locate(image, um_per_px=7.5 / 50).cells
    assert (usual.width, tight.width) == (32, 64)
    assert abs(tight.x + 32 - 90) <= 4
    assert abs(tight.y + 32 - 70) <= 4


def test_several_threads_at_once_find_the_same(made_file):
    """As one after the other; each thread has its own interpreter."""
    images = [field(*SIZE, (20 + 9 * k, 30 + 5 * k)) for k in range(12)]
    expected = [LearnedLocator(made_file)(image) for image in images]
    locate, gate = LearnedLocator(made_file), threading.Barrier(4)

    def look(_):
        gate.wait(30)
        return [[locate(image) for image in images] for _ in range(20)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(look, range(4))) == [[expected] * 20] * 4


def test_twice_the_same_is_the_same(locate):
    """And a copy of a picture gives what the picture gives."""
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), np.uint8)
    assert locate(image) == locate(image.copy()) == locate(image)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((144, 192), np.uint8),
        np.zeros((144, 192, 4), np.uint8),
        np.zeros((144, 192, 3), np.float32),
        np.zeros((15, 192, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(locate, image):
    """What was expected, what was found."""
    with pytest.raises(PictureError, match=rf"^cannot look for cells in {image.dtype} of shape .*; expected uint8 RGB"):
        locate(image)


@pytest.mark.parametrize("um_per_px", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_must_be_positive(locate, um_per_px):
    """And finite."""
    with pytest.raises(PictureError, match="expected a positive number"):
        locate(field(*SIZE), um_per_px=um_per_px)


@pytest.mark.parametrize("size", [(16, 16), (16, 2000), (2000, 16), (31, 47), (1001, 777)])
def test_pictures_of_any_size_are_looked_at(locate, size):
    """The smallest, strips and odd sizes; boxes stay inside."""
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    for box in locate(image).cells:
        assert box.x >= 0
        assert box.y >= 0
        assert box.x + box.width <= size[1]
        assert box.y + box.height <= size[0]


# The file.


def test_what_is_packed_comes_out_again(made_file):
    """Flatbuffer and spec, sealed; the same content gives the same bytes."""
    again = unpack_locator(made_file.content, where="f")
    assert (again.flatbuffer, again.spec) == (made_file.flatbuffer, made_file.spec)
    assert pack_locator(made_file.flatbuffer, made_file.spec) == made_file.content
    assert made_file.spec.sha256


def test_a_changed_spec_is_refused(made_file):
    """With the hash that was expected and the one that was found."""
    with pytest.raises(
        SpecError,
        match=rf"^f: damaged or changed since it was made \(hash expected {made_file.spec.sha256[:12]}\.\., found",
    ):
        unpack_locator(with_spec(made_file, threshold=1), where="f")


def test_damage_is_refused(made_file):
    """Every changed byte of the flatbuffer, a cut, another file, nothing."""
    content, length = made_file.content, len(made_file.flatbuffer)
    for place in range(0, length, 97):
        damaged = bytearray(content)
        damaged[place] ^= 4
        with pytest.raises(SpecError, match=r"^f: damaged"):
            unpack_locator(bytes(damaged), where="f")
    for other in (content[:-20], made_file.flatbuffer, b"text", b""):
        with pytest.raises(SpecError, match=r"^f: no locator\.json inside"):
            unpack_locator(other, where="f")


def test_a_spec_that_is_no_json_is_refused(made_file):
    """In one line."""
    from bloodcell_edge.model.archive import seal

    with pytest.raises(SpecError, match=r"^f: no locator\.json inside \(.*copied whole"):
        unpack_locator(seal(made_file.flatbuffer, {"locator.json": b"{"}, name="m"), where="f")


def test_a_network_that_is_not_what_its_spec_says_is_refused(made_flatbuffers):
    """Another input size, with expected and found, at the first look."""
    locate = LearnedLocator(locator_file(made_flatbuffers["int8"], input_size=(96, 128)))
    with pytest.raises(SpecError, match=r"expected an input of \(96, 128\) as its spec says, found \(144, 192\)"):
        locate(field(*SIZE))


def test_a_network_that_is_no_locator_is_refused():
    """Other outputs, with expected and found, at the first look."""
    locate = LearnedLocator(locator_file(flatbuffer_of(network(channels=(1, 4, 2)))))
    with pytest.raises(
        SpecError, match=r"expected outputs of 36 x 48 x 1, .* found 36 x 48 x 1, 36 x 48 x 2, 36 x 48 x 4$"
    ):
        locate(field(*SIZE))


def test_a_model_is_told_of_its_locator(made_file):
    """Name, both hashes, tolerance and golden fields, as plain values."""
    found = told(made_file)
    assert found["name"] == "made"
    assert found["sha256"] == made_file.spec.sha256
    assert found["file_sha256"] == sha256_of(made_file.content)
    assert (found["kernel_tolerance"], list(found["golden"])) == (10, [])


def test_it_says_what_it_is(made_file):
    """repr names it with the head of its hash."""
    assert repr(LearnedLocator(made_file)) == f"LearnedLocator(made, int8, {made_file.spec.sha256[:12]})"
    assert repr(open_locator(made_file.content, where="f")) == repr(LearnedLocator(made_file))


def test_the_shipped_one_is_opened_once():
    """It is whole, proven to run here, and kept."""
    shipped = shipped_locator()
    assert shipped_locator() is shipped
    assert shipped.spec.golden
    assert shipped.sightings(Halves(field(*SIZE))).red_cell_px > 0
