import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.text import inert, interval, percent


def test_shares_are_told_in_per_cent():
    """One digit after the point; what stands for None is the caller's."""
    assert (percent(0.976), percent(1), percent(0.0)) == ("97.6 %", "100.0 %", "0.0 %")
    assert (percent(None), percent(None, absent="none")) == ("-", "none")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({}, "97.1 to 98.0"),
        ({"between": "–"}, "97.1–98.0"),
        ({"each": " %"}, "97.1 % to 98.0 %"),
    ],
)
def test_intervals_are_told_in_per_cent(how, said):
    """As the place asks for; the bounds may be of any sequence."""
    assert interval((0.971, 0.98), **how) == interval([0.971, 0.98], **how) == said
    assert interval(None, **how) == "-"
    assert interval(None, absent="none", **how) == "none"


@given(st.floats(0, 100))
def test_what_is_in_per_cent_already_is_only_rounded(number):
    """To the last bit: 100 / 100 * x is x."""
    assert percent(number, whole=100) == f"{number:.1f} %"
    assert interval((0, number), whole=100) == f"0.0 to {number:.1f}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-x.png", "'-x.png"),
        ("@a", "'@a"),
        ("a=b.png", "a=b.png"),
        ("", ""),
    ],
)
def test_a_spreadsheet_runs_nothing(text, told):
    """What a spreadsheet would take for a formula is text."""
    assert inert(text) == told
