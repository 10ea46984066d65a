from __future__ import annotations

import pytest
from html_page import Page
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.reports.charts import Axis, Series, axis, chart, log_ticks, ticks


def test_ticks_are_round_numbers_within():
    """0 to 10 and 0.3 to 1.1 have ticks at 2 and at 0.2; the ends belong to it."""
    assert ticks(0, 10) == (0, 2, 4, 6, 8, 10)
    assert ticks(0.3, 1.1) == pytest.approx((0.4, 0.6, 0.8, 1.0))


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_there_are_always_a_few_ticks(low, width):
    """Of any span there are 2 to 7 ticks, all within."""
    found = ticks(low, low + width)

    assert 2 <= len(found) <= 7
    assert all(low - 1e-6 * width <= value <= low + width * (1 + 1e-6) for value in found)


def test_ticks_of_a_logarithmic_axis():
    """0.4 to 30 has 0.5, 1, 2, 5, 10, 20; 4 to 11, with but two of these, has round numbers."""
    assert log_ticks(0.4, 30) == (0.5, 1, 2, 5, 10, 20)
    assert log_ticks(4, 11) == (4, 6, 8, 10)


def test_places_on_an_axis():
    """The ends are at 0 and 1, the middle at one half: of a logarithmic axis that is the geometric one."""
    assert [Axis("x", 10, 30).place(value) for value in (10, 20, 30)] == [0, 0.5, 1]
    assert [Axis("x", 1, 100, log=True).place(value) for value in (1, 10, 100)] == [0, 0.5, 1]


@given(st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=20), st.booleans(), st.booleans())
def test_an_axis_has_room_for_all_its_values(values, log, zero):
    """Every value lies within, also a lone one."""
    found = axis("x", values, log=log, zero=zero)

    assert all(0 <= found.place(value) <= 1 for value in values)


def test_a_chart_is_well_formed_and_fetches_nothing():
    """Names are escaped, every tag is closed, no script, and each line and mark is where its values are."""
    across, up = Axis("ms", 0, 10), Axis("<%>", 0, 100)
    source = chart("A & B", across, up, [Series("<b>", ((0, 0), (10, 100)), (1.0, 4.0)), Series("x", ((5, 50),))])
    page = Page(source)

    assert "<b>" not in source
    assert page.text.count("<%>") == 1
    assert page.fetched() == []
    lines = [one["points"] for one in page.named("polyline")]
    assert lines[0] == "64.0,292.0 720.0,12.0"
    radii = [float(one["r"]) for one in page.named("circle")]
    assert radii[1] == 2 * radii[0]


def test_lines_can_be_told_apart():
    """The first 12 lines differ in colour or in dashes."""
    lines = [Series(str(number), ((0, 0), (1, 1))) for number in range(12)]
    drawn = Page(chart("x", Axis("x", 0, 1), Axis("y", 0, 1), lines)).named("polyline")

    assert len({(one["stroke"], one.get("stroke-dasharray")) for one in drawn}) == 12


def test_a_small_difference_does_not_fill_the_axis():
    """97.3 and 97.6 on an axis of at least 5 points lie within a tenth of it, in its middle; a larger span stays."""
    found = axis("y", (97.3, 97.6), least=5)

    assert found.high - found.low == pytest.approx(5)
    assert found.place(97.45) == pytest.approx(0.5)
    assert axis("y", (90, 100), least=5) == axis("y", (90, 100))


def test_points_stand_as_points_in_the_legend():
    """A line for what is a line, a dot for what is a dot."""
    x, y = Axis("x", 0, 10), Axis("y", 0, 10)
    dot, line = (chart("c", x, y, [Series("one", ((1, 1), (2, 2)), (1, 1), joined=joined)]) for joined in (False, True))

    assert dot.count("<circle") == 3
    assert "<polyline" not in dot
    assert line.count("<circle") == 2
    assert "<polyline" in line
