"""What the scripts in benchmarks/ compute from what they measure."""

from __future__ import annotations

from dataclasses import replace

import click
import numpy as np
import pytest
from cut_cells import CORNERS, SIDES, Asked, cut
from cut_cells import table as cut_table
from leave_one_source_out import changed, summary
from loop_ratios import ratio
from whole_slide import draw_slide, tenths, with_comment

from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.image import decode, encode_jpeg, read_image
from bloodcell_edge.training.recipes import choose_recipe


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


@pytest.mark.parametrize("share", [0.9, 0.5, 0.3])
def test_a_cell_is_cut_to_the_share_that_is_asked_for(share):
    """Of a disc in its box so much is left at each side and at each corner, and the box of what is seen is told."""
    rows, columns = np.indices((400, 500))
    disc = ((columns - 250) ** 2 + (rows - 200) ** 2 < 100**2).astype(np.uint8)
    for side in (*SIDES, *CORNERS):
        image, (x, y, width, height) = cut(disc, (150, 100, 200, 200), side, share)
        assert image.sum() / disc.sum() == pytest.approx(share, abs=0.01)
        assert image[y : y + height, x : x + width].sum() == image.sum()
        assert (x == 0 or x + width == image.shape[1]) == (side[0] != 0)
        assert (y == 0 or y + height == image.shape[0]) == (side[1] != 0)


def test_a_table_tells_found_named_and_right():
    """Two pictures of a class and one of another, cut alike: who is found, named, right, and who is rejected."""
    about = Asked("a", "MONOCYTE", known=True, corner=False, left=0.7)
    asked = [
        replace(about, seen=0.8, said="MONOCYTE", named=True),
        replace(about, seen=0.6, said="NEUTROPHIL", named=True),
        replace(about, file="b", seen=0.7, said="MONOCYTE"),
        replace(about, file="b"),
        replace(about, file="c", truth="PLATELET", known=False, seen=0.7, said="LYMPHOCYTE", named=False),
    ]
    (row,) = cut_table(asked, by_seen=False)

    assert (row["share"], row["n"], row["found"], row["n_others"]) == (0.7, 4, 0.75, 1)
    assert (row["named"], row["accuracy"], row["accuracy_all"]) == pytest.approx((2 / 3, 0.5, 2 / 3))
    assert (row["others_rejected"], row["taken_for"]) == (1.0, pytest.approx(0.7))
    assert [one["share"] for one in cut_table(asked, by_seen=True)] == [0.8, 0.6]


def test_a_ratio_line_judges_the_median():
    """Ratios 2, 3 and 10 have the median 3: at most 4, at least 2, not at least 3.5, although one round is far off."""
    line = ratio("x", [2, 3, 10], [1, 1, 1], most=4)
    assert " 3.000 " in line
    assert line.endswith("wanted <= 4    holds")
    assert ratio("x", [2, 3, 10], [1, 1, 1], least=2).endswith("wanted >= 2    holds")
    assert ratio("x", [2, 3, 10], [1, 1, 1], least=3.5).endswith("wanted >= 3.5  DOES NOT HOLD")


def test_a_recipe_is_changed_by_name():
    """Fields of the recipe and of its augmentation; what is no field, or has no value, is refused."""
    recipe = changed(
        choose_recipe("blood"), ["size=96", "ends_at=block_10_expand_relu", "zoom=0.4", "background=false"]
    )
    assert (recipe.size, recipe.ends_at, recipe.background) == (96, "block_10_expand_relu", False)
    assert recipe.augmentation == replace(choose_recipe("blood").augmentation, zoom=0.4)
    for wrong in ("sighs=96", "size", "size="):
        with pytest.raises(click.BadParameter, match="expected FIELD=VALUE"):
            changed(recipe, [wrong])


def test_the_summary_is_of_sources_left_out_alone():
    """Doubtful labels, and what only measures, count in neither mean nor worst."""

    def line(source, balanced, labels="without notes", *, counts=True):
        return {"tested_on": source, "balanced_accuracy": balanced, "labels": labels, "counts": counts}

    lines = [line("a", 0.1, "all"), line("a", 0.8), line("b", 0.6), line("measured", 0.2, counts=False)]
    assert summary(lines) == {"mean": pytest.approx(0.7), "worst": 0.6, "sources": {"a": 0.8, "b": 0.6}}
