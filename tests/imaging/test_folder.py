"""Which picture files a folder holds, and in which order."""

from itertools import pairwise

from folders import lay
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.imaging.folder import list_folder, natural_key


def test_numbers_in_names_count(tmp_path):
    """field_2 comes before field_10; names that are naturally equal have one order."""
    names = ["field_10.png", "field_2.png", "Field_1.png", "field_02.png", "a/field_1.png"]
    lay(tmp_path, *names)

    assert [path.relative_to(tmp_path).as_posix() for path in list_folder(tmp_path).files] == [
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


def test_what_is_left_out_is_counted_by_its_ending(tmp_path):
    """Files of other kinds are told with their endings; hidden ones, and what a NAS keeps for itself, are not."""
    lay(
        tmp_path, "a.JFIF", "b.heic", "c.HEIC", "d.txt", "notes", ".e.png", "Thumbs.db", "@eaDir/a.jpg",
        "#recycle/b.jpg", "$RECYCLE.BIN/c.jpg", "deeper/d.webp",
    )  # fmt: skip
    every = list_folder(tmp_path)
    assert [path.name for path in every.files] == ["a.JFIF", "d.webp"]
    assert every.left_out == "4 files left out: 2 .heic, 1 without an ending, 1 .txt"
    assert every.skipped == 6

    flat = list_folder(tmp_path, recursive=False)
    assert [path.name for path in flat.files] == ["a.JFIF"]
    assert flat.left_out.endswith("1 .txt; 1 folder not looked into")
    assert list_folder(tmp_path / "deeper").left_out == ""


def test_a_link_to_nothing_is_listed(tmp_path):
    """So that reading it says that it cannot be read."""
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    assert [path.name for path in list_folder(tmp_path).files] == ["gone.png"]
