"""What the scripts in benchmarks/ compute from what they measure."""

from __future__ import annotations

import numpy as np
import pytest
from loop_ratios import ratio
from whole_slide import draw_slide, tenths, with_comment

from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.image import decode, encode_jpeg, read_image


def test_tenths_of_a_steady_run_are_alike():
    """1001 fields, one each 10 ms, are 100 a second in each tenth; where the last tenth takes twice as long, 50."""
    steady = [0.01 * number for number in range(1001)]
    slow = steady[:901] + [steady[900] + 0.02 * number for number in range(1, 101)]

    assert tenths(steady) == pytest.approx([100.0] * 10)
    assert tenths(slow) == pytest.approx([100.0] * 9 + [50.0])


def test_tenths_count_every_field():
    """Of a number that ten does not divide no field is lost: rates times durations give all of them."""
    moments = np.cumsum([0.0, *np.random.default_rng(1).uniform(0.5, 1.5, 37)])
    bounds = [round(part * 37 / 10) for part in range(11)]
    durations = np.diff(moments[bounds])

    assert float(np.dot(tenths(list(moments)), durations)) == pytest.approx(37)


def test_a_comment_changes_the_file_and_not_the_picture(tmp_path):
    """A JPEG with a comment of its own has other bytes and the same pixels; so a slide of 5 files has 5 contents."""
    image = draw_field(3).image
    jpeg = encode_jpeg(image)
    np.testing.assert_array_equal(decode(with_comment(jpeg, b"000007")), decode(jpeg))

    (tmp_path / "one.jpg").write_bytes(jpeg)
    draw_slide([tmp_path / "one.jpg"], 5, tmp_path / "slide")
    files = sorted((tmp_path / "slide").iterdir())
    assert len({path.read_bytes() for path in files}) == 5
    np.testing.assert_array_equal(read_image(files[-1]), decode(jpeg))


def test_a_ratio_line_judges_the_median():
    """Ratios 2, 3 and 10 have the median 3: at most 4, at least 2, not at least 3.5, although one round is far off."""
    line = ratio("x", [2, 3, 10], [1, 1, 1], most=4)
    assert " 3.000 " in line
    assert line.endswith("wanted <= 4    holds")
    assert ratio("x", [2, 3, 10], [1, 1, 1], least=2).endswith("wanted >= 2    holds")
    assert ratio("x", [2, 3, 10], [1, 1, 1], least=3.5).endswith("wanted >= 3.5  DOES NOT HOLD")
