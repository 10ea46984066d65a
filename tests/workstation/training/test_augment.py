"""Augmentation: repeatable, within its limits, and true to the proportions of the field."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloodcell_edge.imaging.image import prepare
from bloodcell_edge.training.augment import _STAINS, augment, augment_batch
from bloodcell_edge.training.recipes import Augmentation

NOTHING = Augmentation(
    rotation_degrees=0.0, flip=False, zoom=0.0, shift=0.0, brightness=0.0, contrast=0.0, stain=0.0, white=0.0
)
GEOMETRY = replace(Augmentation(), brightness=0.0, contrast=0.0, stain=0.0, white=0.0)
SEEDS = range(40)


def noise(seed=0, size=48, low=0, high=256):
    """A uint8 picture of random pixels in low..high - 1."""
    return np.random.default_rng(seed).integers(low, high, (size, size, 3), np.uint8)


def variants(image, how, aspect=4 / 3):
    """The picture changed with each of SEEDS."""
    return [augment(image, how, aspect=aspect, size=len(image), rng=np.random.default_rng(seed)) for seed in SEEDS]


@given(seed=st.integers(0, 2**32), size=st.integers(2, 40), aspect=st.floats(0.4, 2.5))
@settings(max_examples=60, deadline=None)
def test_same_seed_same_bytes_and_input_untouched(seed, size, aspect):
    """A seed gives the same uint8 picture of the same shape twice, and the picture given is not changed."""
    image = noise(seed, size)
    before = image.copy()
    first, second = (
        augment(image, Augmentation(), aspect=aspect, size=size, rng=np.random.default_rng(seed)) for _ in range(2)
    )
    assert first.dtype == np.uint8
    assert first.shape == image.shape
    assert np.array_equal(first, second)
    assert np.array_equal(image, before)


def test_different_seeds_differ():
    """No two of 40 seeds give the same picture."""
    assert len({picture.tobytes() for picture in variants(noise(), Augmentation())}) == len(SEEDS)


@pytest.mark.parametrize("aspect", [0.75, 1.0, 4 / 3])
def test_all_limits_zero_is_the_picture_itself(aspect):
    """With every limit 0 each pixel comes back as it was, black and white too."""
    image = noise()
    image[0, :2] = [[0, 0, 0], [255, 255, 255]]
    assert all(np.array_equal(picture, image) for picture in variants(image, NOTHING, aspect))


@pytest.mark.parametrize("how", [GEOMETRY, replace(GEOMETRY, zoom=0.5, shift=0.4)])
def test_geometry_brings_no_black_wedges(how):
    """Turned, shrunk and shifted pictures hold no pixel darker or brighter than the picture they come from."""
    image = noise(low=120, high=200)
    for picture in variants(image, how):
        assert picture.min() >= image.min()
        assert picture.max() <= image.max()


def roundness(squeezed, aspect):
    """Short through long axis of the dark spot in a squeezed picture, after it is stretched to its field again."""
    height = squeezed.shape[0]
    field = cv2.resize(squeezed, (round(height * aspect), height), interpolation=cv2.INTER_LINEAR)
    rows, columns = np.nonzero(field[..., 0] < 128)
    return float(np.sqrt(np.divide(*np.linalg.eigvalsh(np.cov(rows, columns)))))


def disc(width, height):
    """A white field with a dark disc in its middle, so small that no mirrored edge ever shows a part of it."""
    field = np.full((height, width, 3), 255, np.uint8)
    return cv2.circle(field, (width // 2, height // 2), min(width, height) // 8, (0, 0, 0), -1)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (240, 320), (240, 240)])
def test_turning_keeps_circles_round(width, height):
    """A disc of a field is round after squeezing, turning and stretching; turned in the squeezed picture it is not."""
    aspect = width / height
    squeezed = prepare(disc(width, height), (128, 128))
    turned = variants(squeezed, replace(NOTHING, rotation_degrees=180.0), aspect)
    assert min(roundness(picture, aspect) for picture in turned) > 0.97
    if aspect != 1.0:
        naive = variants(squeezed, replace(NOTHING, rotation_degrees=180.0), 1.0)
        assert min(roundness(picture, aspect) for picture in naive) < 0.8, "this test would not notice"


def test_shift_and_zoom_stay_within_their_limits():
    """A disc's centre moves by no more than `shift` of the side, its diameter by no more than `zoom`, and both do."""
    squeezed = prepare(disc(320, 240), (128, 128))

    def place(picture):
        rows, columns = np.nonzero(picture[..., 0] < 128)
        return np.array([columns.mean(), rows.mean()]), np.sqrt(len(rows))

    centre, width = place(squeezed)
    moved = [place(picture)[0] - centre for picture in variants(squeezed, replace(NOTHING, shift=0.1))]
    zoomed = [place(picture)[1] / width for picture in variants(squeezed, replace(NOTHING, zoom=0.2))]
    assert 0.07 * 128 < np.abs(moved).max() <= 0.1 * 128 + 0.5
    assert 0.79 <= min(zoomed) < 0.85
    assert 1.15 < max(zoomed) <= 1.21


def test_flip_mirrors_about_half():
    """With flip alone a picture is either itself or its mirror image, and both happen."""
    image = noise()
    found = [np.array_equal(picture, image) for picture in variants(image, replace(NOTHING, flip=True))]
    mirrored = [np.array_equal(picture, image[:, ::-1]) for picture in variants(image, replace(NOTHING, flip=True))]
    assert all(one != other for one, other in zip(found, mirrored, strict=True))
    assert 8 < sum(mirrored) < 32


def grey(level=100):
    """A picture of one grey level."""
    return np.full((16, 16, 3), level, np.uint8)


def test_brightness_stays_within_its_limit():
    """Brightness scales all channels alike, by at most the limit and by nearly that."""
    ratios = [picture / 100.0 for picture in variants(grey(), replace(NOTHING, brightness=0.2))]
    assert all(np.ptp(ratio) == 0 for ratio in ratios)
    assert 0.795 <= min(ratio.min() for ratio in ratios) < 0.85
    assert 1.15 < max(ratio.max() for ratio in ratios) <= 1.205


def test_white_point_moves_each_channel_within_its_limit():
    """White balance scales channels apart, each by at most exp(limit)."""
    means = np.array([picture.mean(axis=(0, 1)) for picture in variants(grey(), replace(NOTHING, white=0.2))]) / 101
    assert np.abs(np.log(means)).max() <= 0.2 + 0.02
    assert np.abs(np.log(means)).max() > 0.15
    assert np.ptp(means, axis=1).max() > 0.1


def test_contrast_scales_about_the_mean():
    """Contrast keeps the mean and scales the distance from it by at most the limit."""
    image = noise(low=80, high=170)
    pictures = variants(image, replace(NOTHING, contrast=0.3))
    spread = [picture.std() / image.std() for picture in pictures]
    assert all(abs(picture.mean() - image.mean()) < 0.5 for picture in pictures)
    assert 0.695 <= min(spread) < 0.8
    assert 1.2 < max(spread) <= 1.305


@pytest.mark.parametrize("stain", [0, 1])
def test_stain_changes_the_strength_of_a_stain_not_its_colour(stain):
    """A pixel coloured by one stain keeps that stain's hue; its optical density changes by at most the limit."""
    colour = np.exp(-0.6 * _STAINS[stain] / np.linalg.norm(_STAINS[stain])) * 256 - 1
    image = np.broadcast_to(np.rint(colour).astype(np.uint8), (16, 16, 3))
    density = -np.log((image[0, 0] + 1.0) / 256)
    changed = [-np.log((picture[0, 0] + 1.0) / 256) for picture in variants(image, replace(NOTHING, stain=0.3))]
    strength = [float(one @ density / (density @ density)) for one in changed]
    assert 0.69 <= min(strength) < 0.8
    assert 1.2 < max(strength) <= 1.31
    assert all(np.allclose(one, factor * density, atol=0.02) for one, factor in zip(changed, strength, strict=True))


def test_batch_is_each_picture_with_a_stream_of_its_own():
    """A picture of a batch is changed as it would be alone with its stream, whatever stands beside it."""
    pixels = np.stack([noise(seed) for seed in range(5)])
    aspects = np.array([1.0, 4 / 3, 0.75, 1.5, 1.0])
    batch = augment_batch(pixels, Augmentation(), aspects=aspects, size=48, seed=(3, 1))
    shorter = augment_batch(pixels[:2], Augmentation(), aspects=aspects[:2], size=48, seed=(3, 1))
    streams = np.random.SeedSequence((3, 1)).spawn(5)
    alone = [
        augment(picture, Augmentation(), aspect=aspect, size=48, rng=np.random.default_rng(stream))
        for picture, aspect, stream in zip(pixels, aspects, streams, strict=True)
    ]
    assert np.array_equal(batch, alone)
    assert np.array_equal(batch[:2], shorter)


def test_batches_of_other_seeds_differ():
    """The seed of a batch decides: the same twice the same, epoch or step changed all pictures changed."""
    pixels, aspects = np.stack([noise(seed) for seed in range(3)]), np.ones(3)
    one, same, other = (augment_batch(pixels, Augmentation(), aspects=aspects, size=48, seed=(0, e)) for e in (0, 0, 1))
    assert np.array_equal(one, same)
    assert all((one[i] != other[i]).any() for i in range(3))


CAMERA = replace(NOTHING, density=0.25, gamma=0.2, blur=0.5, sharpen=0.5, noise=0.5, jpeg=0.5)


def test_a_margin_lets_turned_corners_show_what_was_there():
    """A wide crop turned and cut to size shows its own pixels in the corners; a narrow one must mirror them."""
    wide = np.zeros((72, 72, 3), np.uint8)
    wide[12:60, 12:60] = 200  # what the narrow crop shows
    how = replace(NOTHING, rotation_degrees=180.0)
    narrow = np.ascontiguousarray(wide[12:60, 12:60])
    for seed in SEEDS:
        turned, mirrored = (
            augment(image, how, aspect=1.0, size=48, rng=np.random.default_rng(seed)) for image in (wide, narrow)
        )
        assert turned.shape == mirrored.shape == (48, 48, 3)
        assert (mirrored == 200).all()
    assert np.array_equal(augment(wide, NOTHING, aspect=1.0, size=48, rng=np.random.default_rng(0)), narrow)
    assert any((augment(wide, how, aspect=1.0, size=48, rng=np.random.default_rng(seed)) == 0).any() for seed in SEEDS)


@pytest.mark.parametrize("name", ["density", "gamma", "blur", "sharpen", "noise", "jpeg"])
def test_each_of_a_camera_changes_about_its_share(name):
    """Density and gamma change nearly every picture, the others about the share that is asked for."""
    image = cv2.GaussianBlur(noise(3), (0, 0), 2)
    changed = [not np.array_equal(picture, image) for picture in variants(image, replace(NOTHING, **{name: 0.5}), 1.0)]
    assert (sum(changed) >= 38) if name in ("density", "gamma") else (10 <= sum(changed) <= 30)


def test_camera_augmentation_is_repeatable():
    """The same seed gives the same bytes with all of them together."""
    first, second = variants(noise(), CAMERA, 1.0), variants(noise(), CAMERA, 1.0)
    assert np.array_equal(first, second)
