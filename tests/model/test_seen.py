import base64
import csv
import json
from functools import cache

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bloodcell_edge.errors import SpecError
from bloodcell_edge.imaging.drawn import LABELS, draw_field
from bloodcell_edge.imaging.hashes import all_hashes, perceptual_hash
from bloodcell_edge.imaging.image import decode, read_image, resize
from bloodcell_edge.model.seen import NEAR_BITS, Seen, collect, content_hash, distances, from_json

hashes = arrays.arrays(np.uint8, st.tuples(st.integers(0, 5), st.just(16)))


@cache
def drawn(count: int) -> list[np.ndarray]:
    return [draw_field(seed, (LABELS[seed % 4],)).image for seed in range(count)]


def saved_again(image: np.ndarray, quality: int) -> np.ndarray:
    return decode(cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())


def near(hashes: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Distances of pictures (n, 16) to the nearest view of another (8, 16), shape (n,)."""
    return np.stack([distances(hashes, view) for view in other]).min(axis=0)


def close_pairs(views: np.ndarray, groups: np.ndarray) -> tuple[int, int]:
    """How many pairs of pictures of different groups there are, and how many of them are taken for one picture."""
    pairs = hits = 0
    for i in range(len(views) - 1):
        others = groups[i + 1 :] != groups[i]
        pairs += int(others.sum())
        hits += int((near(views[i + 1 :, 0], views[i])[others] <= NEAR_BITS).sum())
    return pairs, hits


# Copies are known


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda image: image, id="the same pixels"),
        pytest.param(lambda image: saved_again(image, 90), id="saved as JPEG 90"),
        pytest.param(lambda image: saved_again(image, 50), id="saved as JPEG 50"),
        pytest.param(lambda image: resize(image, (120, 160)), id="half as large"),
        pytest.param(lambda image: resize(image, (400, 500)), id="larger"),
        pytest.param(lambda image: resize(image, (224, 224)), id="squeezed"),
        pytest.param(lambda image: image[:, ::-1], id="flipped"),
        pytest.param(lambda image: image[::-1], id="upside down"),
        pytest.param(lambda image: np.rot90(image), id="turned once"),
        pytest.param(lambda image: np.rot90(image, 2), id="turned twice"),
        pytest.param(lambda image: np.rot90(image, 3), id="turned three times"),
        pytest.param(lambda image: np.rot90(image[:, ::-1]), id="flipped and turned"),
        pytest.param(lambda image: np.clip(image * 1.1, 0, 255).astype(np.uint8), id="brighter"),
        pytest.param(
            lambda image: saved_again(resize(np.rot90(image), (200, 150)), 70), id="turned, smaller, saved again"
        ),
    ],
)
def test_a_copy_is_known(change):
    """Each of 40 drawn pictures is known again after one change, though no file of it is."""
    pictures = drawn(40)
    seen = collect([(f"{number:064x}", perceptual_hash(image)) for number, image in enumerate(pictures, 1)])

    assert all(seen.holds("f" * 64, all_hashes(np.ascontiguousarray(change(image)))) for image in pictures)


def test_the_same_file_is_known_by_its_content():
    """SHA-256 alone is enough, whatever the picture looks like."""
    seen = collect([("0123456789abcdef" * 4, perceptual_hash(drawn(1)[0]))])
    other = np.zeros((8, 16), np.uint8)

    assert seen.holds("0123456789abcdef" * 4, other)
    assert not seen.holds("1" * 64, other)


def test_even_pictures_are_alike():
    """Black, grey, white and almost even pictures have one stable hash: the last bit of a sum does not decide."""
    views = [all_hashes(np.full((30, 40, 3), level, np.uint8)) for level in (0, 1, 77, 128, 200, 255)]

    assert all((view == views[0]).all() for view in views)


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 50), st.integers(1, 50), st.just(3))))
def test_any_picture_has_eight_hashes(image):
    """Any size: uint8 (8, 16), the first of them perceptual_hash; the picture is not changed."""
    before = image.copy()
    views = all_hashes(image)

    assert (views.dtype, views.shape) == (np.uint8, (8, 16))
    np.testing.assert_array_equal(views[0], perceptual_hash(image))
    np.testing.assert_array_equal(image, before)


# Others are not


def test_drawn_pictures_are_told_apart():
    """Of 300 drawn pictures, 44,850 pairs in all eight positions, none is taken for another."""
    views = np.stack([all_hashes(image) for image in drawn(300)])

    assert close_pairs(views, np.arange(300)) == (44_850, 0)


@pytest.mark.shared
def test_photographs_are_told_apart(shared):
    """Of the 280 photographs behind blood-cells no two of different cells are taken for one."""
    with (shared / "data/photos/labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    views = np.stack([all_hashes(read_image(shared / "data/photos" / row["file"])) for row in rows])

    assert close_pairs(views, np.array([row["group"] for row in rows])) == (39_042, 0)


@pytest.mark.shared
def test_pictures_of_one_microscope_are_told_apart(shared):
    """Of 600 blood-cells pictures, 178,063 pairs of different cells, at most 6 in a million are taken for one."""
    with (shared / "data/blood-cells/sources.csv").open() as stream:
        rows = sorted(csv.DictReader(stream), key=lambda row: row["file"])[::5]
    views = np.stack([all_hashes(read_image(shared / "data/blood-cells" / row["file"])) for row in rows])
    pairs, hits = close_pairs(views, np.array([row["group"] for row in rows]))

    assert pairs == 178_063
    assert hits * 1e6 / pairs <= 6


@pytest.mark.shared
def test_real_copies_are_known(shared):
    """Of 600 copies of 200 blood-cells pictures, resized, turned, flipped and saved again, at least 99 % are known."""
    files = sorted((shared / "data/blood-cells/TRAIN").glob("*/*.jpeg"))[::15]
    dice, known = np.random.default_rng(0), []
    for file in files:
        image = read_image(file)
        for quality, size in ((50, (240, 320)), (80, (120, 160)), (90, (336, 448))):
            copy = np.rot90(resize(image, size), dice.integers(4))[:, :: dice.choice([1, -1])]
            known.append(
                int(near(perceptual_hash(image)[np.newaxis], all_hashes(saved_again(copy, quality)))[0]) <= NEAR_BITS
            )

    assert len(known) == 600
    assert np.mean(known) >= 0.99


# Distances and storage


@given(hashes, arrays.arrays(np.uint8, 16))
def test_distances_count_bits(many, one):
    """The distance is the number of differing bits, 0 to itself, at most 128."""
    expected = [sum(bin(int(a) ^ int(b)).count("1") for a, b in zip(row, one, strict=True)) for row in many]

    assert distances(many, one).tolist() == expected
    assert distances(one[np.newaxis], one).tolist() == [0]
    assert distances(one[np.newaxis], ~one).tolist() == [128]


@given(
    st.lists(st.tuples(st.text("0123456789abcdef", min_size=64, max_size=64), arrays.arrays(np.uint8, 16)), max_size=5)
)
def test_what_was_seen_survives_json(entries):
    """A spec's JSON gives back the same hashes; each entry is then known, and is 24 bytes long."""
    seen = collect(entries)
    again = from_json(json.loads(json.dumps(seen.as_json())))

    np.testing.assert_array_equal(again.content, seen.content)
    np.testing.assert_array_equal(again.perceptual, seen.perceptual)
    assert sum(len(base64.b64decode(text)) for text in seen.as_json().values()) == 24 * len(entries)
    assert all(again.holds(sha256, np.zeros((8, 16), np.uint8)) for sha256, _ in entries)


def test_the_stored_bytes_are_the_same_on_every_machine():
    """Content hashes are the first eight bytes of the SHA-256, big-endian, so that any reader can compare them."""
    seen = collect([("00112233445566778899" + "0" * 44, np.arange(16, dtype=np.uint8))])

    assert base64.b64decode(seen.as_json()["content"]).hex() == "0011223344556677"
    assert base64.b64decode(seen.as_json()["perceptual"]) == bytes(range(16))
    assert int(content_hash("f" * 64)) == 2**64 - 1


def test_a_model_that_says_nothing_has_seen_nothing():
    """An empty mapping holds nothing, and an empty collection survives."""
    for seen in (from_json({}), collect([]), from_json(collect([]).as_json())):
        assert isinstance(seen, Seen)
        assert (seen.content.shape, seen.perceptual.shape) == ((0,), (0, 16))
        assert not seen.holds("0" * 64, np.zeros((8, 16), np.uint8))


@pytest.mark.parametrize(
    "values",
    [
        {"content": "AAAA"},
        {"perceptual": "AAAA"},
        {"content": "no base64 at all!"},
        {"perceptual": "ä"},
        {"content": 7},
    ],
)
def test_hashes_that_cannot_be_read(values):
    """Hashes cut short, or text that is no base64, are an error: not a model that has seen nothing."""
    with pytest.raises(SpecError, match=r"hashes of the training pictures cannot be read .*; convert the model again"):
        from_json(values)
