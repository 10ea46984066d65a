"""Which picture files a folder holds, and in which order."""

from itertools import pairwise

from folders import lay
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.imaging.folder import natural_key, walk


def test_numbers_in_names_count(tmp_path):
    """field_2 comes before field_10; names that are naturally equal have one order."""
    names = ["field_10.png", "field_2.png", "Field_1.png", "field_02.png", "a/field_1.png"]
    lay(tmp_path, *names)

    assert [path.relative_to(tmp_path).as_posix() for path in walk(tmp_path)[0]] == [
        "a/field_1.png",
        "Field_1.png",
        "field_02.png",
        "field_2.png",
        "field_10.png",
    ]


@given(st.lists(st.text("aB1_0/. é٣²", max_size=8)))
def test_any_names_can_be_sorted(names):
    """Digits beside letters, other scripts' digits, superscripts: no two names fail to compare."""
    keys = [natural_key(name) for name in sorted(names, key=natural_key)]

    assert all(a <= b for a, b in pairwise(keys))


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_natural_order_is_numeric_order(a, b):
    """Names that differ in one number sort as the numbers do."""
    assert (natural_key(f"x{a}.png") < natural_key(f"x{b}.png")) == (a < b)
