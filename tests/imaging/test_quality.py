from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bloodcell_edge.errors import PictureError
from bloodcell_edge.imaging.drawn import LABELS, UM_PER_PX, draw_field
from bloodcell_edge.imaging.image import read_image, resize
from bloodcell_edge.imaging.locate import locate
from bloodcell_edge.imaging.located import RED_CELL_UM
from bloodcell_edge.imaging.quality import QualityLimits, judge, sharpness

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, the photographs beside the clone")
RED_CELL_PX = RED_CELL_UM / UM_PER_PX


@pytest.fixture(scope="module")
def drawn():
    return [draw_field(seed, (LABELS[seed % 4],), size=(480, 640)).image for seed in range(12)]


def verdict(image, name, **options):
    return next(v for v in judge(image, red_cell_px=RED_CELL_PX, **options).verdicts if v.name == name)


def brighter(image, gain):
    return np.clip(image * np.array(gain), 0, 255).round().astype(np.uint8)


def test_a_field_is_judged_alike_whether_or_not_it_was_located(drawn):
    """Sizes that `locate` made serve its own picture, and no other."""
    located = locate(drawn[0])
    for image in drawn[:2]:
        assert judge(image, red_cell_px=located.red_cell_px, halves=located.halves) == judge(
            image, red_cell_px=located.red_cell_px
        )


def test_good_fields_pass(drawn):
    """Drawn fields pass every verdict, and then there is no reason to give."""
    for image in drawn:
        quality = judge(image, red_cell_px=RED_CELL_PX)
        assert quality.reason == ""
        assert quality.passed


def test_every_limit_has_its_verdict_with_number_and_limit(drawn):
    """The verdicts are those of QualityLimits, in its order, each with the limit it was held against."""
    limits = QualityLimits()
    assert {v.name: v.limit for v in judge(drawn[0]).verdicts} == vars(limits)
    assert list(vars(limits)) == [v.name for v in judge(drawn[0]).verdicts]


def test_blurred_fields_are_refused_for_focus(drawn):
    """Out of focus by a sixth of a red cell, at least 11 of 12 are refused, and the reason names focus and limit."""
    reasons = [judge(cv2.GaussianBlur(i, (0, 0), RED_CELL_PX / 6), red_cell_px=RED_CELL_PX).reason for i in drawn]
    assert sum(reason.startswith("focus") and "(limit 3.2)" in reason for reason in reasons) >= 11


def test_sharpness_falls_with_blur(drawn):
    """More blur, less sharpness, on each field."""
    for image in drawn:
        values = [sharpness(cv2.GaussianBlur(image, (0, 0), sigma), RED_CELL_PX) for sigma in (2, 4, 8)]
        assert values == sorted(values, reverse=True)


def test_sharpness_does_not_depend_on_contrast_or_magnification(drawn):
    """Half the contrast, or blurred and shown at half the size, changes sharpness by less than a fifth."""
    for image in drawn:
        soft = cv2.GaussianBlur(image, (0, 0), 4)
        usual = sharpness(soft, RED_CELL_PX)
        assert sharpness((soft // 2 + 100).astype(np.uint8), RED_CELL_PX) == pytest.approx(usual, rel=0.2)
        assert sharpness(resize(soft, (240, 320)), RED_CELL_PX / 2) == pytest.approx(usual, rel=0.2)


def test_dark_and_bright_fields_are_refused(drawn):
    """A fifth of the light is too dark, washed-out green is too bright, and the field as it is neither."""
    for image in drawn:
        assert not verdict(brighter(image, 0.2), "dark").passed
        assert not verdict(brighter(image, 2.5), "bright").passed
        assert verdict(image, "dark").passed
        assert verdict(image, "bright").passed


def test_a_colour_cast_is_refused_and_a_warm_lamp_is_not(drawn):
    """Three times more red than blue is a cast; half as much again is a lamp."""
    neutral = [brighter(image, 200 / np.percentile(image, 95, axis=(0, 1))) for image in drawn]
    assert not any(verdict(brighter(image, (1, 0.8, 1 / 3)), "cast").passed for image in neutral)
    assert all(verdict(brighter(image, (1, 0.9, 1 / 1.5)), "cast").passed for image in neutral)


def test_fields_without_cells_are_empty_under_uneven_light_too():
    """Glass with noise is empty, also where light falls off to a third in the corners; a field of cells is not."""
    rows, columns = np.linspace(-1, 1, 480), np.linspace(-1, 1, 640)
    light = 1 - 0.65 * (((rows * rows)[:, None] + columns * columns) / 2)[..., None]
    noise = np.random.default_rng(0).normal(0, 4, (480, 640, 3))
    for colour in ((205, 205, 205), (250, 228, 204), (200, 200, 150)):
        for field in (np.array(colour) + noise, np.array(colour) * light + noise):
            assert not verdict(np.clip(field, 0, 255).astype(np.uint8), "empty").passed


def test_a_field_seen_before_is_refused(drawn):
    """The same field with new sensor noise repeats; the others do not repeat each other."""
    prints = [judge(image).fingerprint for image in drawn]
    noise = np.random.default_rng(0).normal(0, 5, drawn[3].shape)
    again = np.clip(drawn[3] + noise, 0, 255).astype(np.uint8)
    assert not verdict(again, "repeated", earlier=prints).passed
    assert all(verdict(i, "repeated", earlier=prints[:k] + prints[k + 1 :]).passed for k, i in enumerate(drawn))


def test_without_earlier_fields_nothing_repeats(drawn):
    """With nothing to compare with, all 128 bits differ."""
    assert verdict(drawn[0], "repeated").number == 128


def test_limits_can_be_set(drawn):
    """A stricter limit refuses what passes else, and one that asks for nothing lets a black picture pass."""
    assert not verdict(drawn[0], "focus", limits=QualityLimits(focus=100)).passed
    nothing = QualityLimits(focus=0, dark=0, bright=1, cast=float("inf"), empty=0, repeated=0)
    assert judge(np.zeros((480, 640, 3), np.uint8), limits=nothing).passed


def test_a_black_frame_is_refused():
    """A camera that gives black gives no field, and the reason says so."""
    quality = judge(np.zeros((480, 640, 3), np.uint8))
    assert {v.name for v in quality.verdicts if not v.passed} == {"focus", "dark", "empty"}
    assert quality.reason == "focus 0 (limit 3.2), dark 0.00392 (limit 0.25), empty 0 (limit 0.03)"


@given(arrays.arrays(np.uint8, st.tuples(st.integers(16, 80), st.integers(16, 80), st.just(3))), st.floats(0.1, 500))
@settings(max_examples=60, deadline=None)
def test_any_picture_gets_finite_numbers(image, red_cell_px):
    """Whatever the pixels, every number is finite and the answer agrees with number and limit."""
    quality = judge(image, red_cell_px=red_cell_px)
    for v in quality.verdicts:
        assert np.isfinite(v.number)
        assert v.passed == (
            v.number <= v.limit if v.name in ("bright", "cast", "swapped", "negative") else v.number >= v.limit
        )
    assert quality.passed == (quality.reason == "")


@pytest.mark.parametrize("image", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3)), np.zeros((8, 64, 3), np.uint8)])
def test_what_is_not_an_rgb_picture_is_refused(image):
    """Grey, float and tiny pictures are an error that says what was expected."""
    with pytest.raises(PictureError, match="expected uint8 RGB"):
        judge(image)


@needs_shared
def test_photographs_pass_and_blurred_ones_do_not():
    """Of 40 photographs at most 2 are refused; blurred by an eighth of a red cell at least 36 are."""
    images = [read_image(file) for file in sorted((SHARED / "photos").glob("*.jpg"))[::7]]
    refused = [not judge(image, red_cell_px=95).passed for image in images]
    blurred = [not judge(cv2.GaussianBlur(image, (0, 0), 95 / 8), red_cell_px=95).passed for image in images]
    assert len(images) == 40
    assert sum(refused) <= 2
    assert sum(blurred) >= 36


def test_without_earlier_fields_no_fingerprint_is_taken(drawn):
    """None for earlier fields: the same verdicts as with none of them, and nothing to compare with later."""
    asked, spared = judge(drawn[0], earlier=()), judge(drawn[0], earlier=None)

    assert spared.verdicts == asked.verdicts
    assert (len(asked.fingerprint), spared.fingerprint) == (16, b"")


@pytest.mark.parametrize("seed", range(1, 5))
def test_what_cannot_be_a_stained_field_is_told(seed):
    """Without colour, with red and blue exchanged, a negative: each is refused for that, the field itself is not."""
    field = draw_field(seed, ["NEUTROPHIL", "LYMPHOCYTE"], size=(240, 320)).image
    grey = np.repeat(field[..., 1:2], 3, axis=2)
    for image, name in ((grey, "colour"), (field[..., ::-1].copy(), "swapped"), (255 - field, "negative")):
        assert not verdict(image, name).passed
        assert verdict(field, name).passed


def test_a_drawn_border_is_no_negative():
    """A flat dark surround is common, but no brightness of the field."""
    field = draw_field(3, ["NEUTROPHIL"], size=(240, 320)).image
    framed = np.full((360, 480, 3), 60, np.uint8)
    framed[60:300, 80:400] = field
    assert verdict(framed, "negative").passed


def test_photographs_are_stained_fields(shared):
    """Of 40 photographs none is refused as none, of the same spoiled all are but one or two."""
    refused = dict.fromkeys(("colour", "swapped", "negative", "as taken"), 0)
    files = sorted((shared / "data/photos").glob("*.jpg"))[::7]
    for file in files:
        image = read_image(file)
        grey = np.repeat(image[..., 1:2], 3, axis=2)
        refused["colour"] += not verdict(grey, "colour").passed
        refused["swapped"] += not verdict(image[..., ::-1].copy(), "swapped").passed
        refused["negative"] += not verdict(255 - image, "negative").passed
        refused["as taken"] += not all(verdict(image, name).passed for name in ("colour", "swapped", "negative"))
    n = len(files)
    assert (refused["colour"], refused["as taken"]) == (n, 0)
    assert min(refused["swapped"], refused["negative"]) >= n - 2
