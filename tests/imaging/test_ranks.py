import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bloodcell_edge.imaging.ranks import by_level, level_ranked, level_reaching, ranked

PLANES = arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 255))
PARTS = st.integers(2, 200).flatmap(lambda of: st.tuples(st.integers(1, of - 1), st.just(of)))


@given(PLANES, PARTS)
def test_a_rank_is_a_place_in_the_sorted_values(plane, part):
    """From the values and from their counts alike: so many of them come before it."""
    ordered = sorted(plane.ravel().tolist())
    expected = ordered[len(ordered) * part[0] // part[1]]

    assert ranked(plane, *part) == expected
    assert level_ranked(by_level(plane), *part) == expected


@given(PLANES, PARTS)
def test_a_reached_level_is_the_lowest_that_so_many_do_not_exceed(plane, part):
    """At it, at least that share of the pixels is as dark or darker; one level below, fewer are."""
    level = level_reaching(by_level(plane), *part)

    assert np.count_nonzero(plane <= level) * part[1] >= plane.size * part[0]
    assert np.count_nonzero(plane < level) * part[1] < plane.size * part[0]


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_levels_are_counted_in_one_channel_and_where_the_mask_is_not_0(channel):
    """256 numbers, as numpy counts them."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    mask = (pixels[..., 0] > 100).astype(np.uint8)

    np.testing.assert_array_equal(by_level(pixels, channel), np.bincount(pixels[..., channel].ravel(), minlength=256))
    own = pixels[..., channel][mask == 1]
    np.testing.assert_array_equal(by_level(pixels, channel, mask), np.bincount(own, minlength=256))
