"""The parts of a page: whatever goes in stays text, and what is missing or long is said."""

from __future__ import annotations

import base64

import pytest
from html_page import Page
from hypothesis import example, given
from hypothesis import strategies as st

from bloodcell_edge.model.spec import INTENDED_USE
from bloodcell_edge.reports.html import (
    MOST_ITEMS,
    Tile,
    bullets,
    data_uri,
    figure,
    hint,
    page,
    paragraph,
    section,
    share,
    span,
    table,
    tiles,
    warning,
)

HOSTILE = 'a"><script>alert(1)</script>&amp;$title'
TEXT = st.text(st.characters(exclude_categories=["C"]), min_size=1)  # control characters are no text of a page


def whole(text):
    """A page with every part, all with one text."""
    parts = [paragraph(text), warning(text), hint(text, text), bullets(text, [text]), figure(b"", text)]
    parts += [table(text, (text, text), [(text, text)], over=[(text, 2)]), tiles([Tile(text, text, text)])]
    return Page(page(text, [section(text, *parts)], notice=text))


@given(TEXT)
@example(HOSTILE)
def test_whatever_goes_in_stays_text(text):
    """Any text, in any part, is read back as it went in, and makes no tag of its own."""
    found = whole(text)

    assert [tag for tag, _ in found.tags] == [tag for tag, _ in whole("x").tags]
    assert found.tables[text] == [[text], [text, text], [text, text]]
    assert found.text.count(text) >= 15
    assert found.named("img")[0]["alt"] == text


def test_a_page_says_what_it_is_for_and_what_must_be_read_first():
    """Title, intended use and notice stand above the sections; without a notice there is none."""
    text = Page(page("Slide 1", [section("Count")], notice="Drawn.")).text

    assert text.index("Slide 1") < text.index(INTENDED_USE) < text.index("Drawn.") < text.index("Count")
    assert not [one for one in Page(page("Slide 1", [])).named("p") if one.get("class") == "warn"]


def test_a_surrogate_of_a_file_name_does_not_break_the_page():
    """A name that is not UTF-8 comes as a lone surrogate, and the page can still be written."""
    assert "a?b" in page("a\udcffb", []).encode().decode()


def test_headings_have_the_level_asked_for_and_empty_parts_are_left_out():
    """A section's heading is h2 unless said otherwise; an empty part leaves no line."""
    assert section("One", "", paragraph("x")) == "<section>\n<h2>One</h2>\n<p>x</p>\n</section>"
    assert "<h3>Two</h3>" in section("Two", level=3)


def test_a_long_list_is_cut_and_says_so():
    """Beyond its length a list ends with how many more there are; without items there is no list."""
    found = Page(page("x", [bullets("Files", [f"{n}.png" for n in range(MOST_ITEMS + 7)])]))

    assert len(found.named("li")) == MOST_ITEMS + 1
    assert "and 7 more" in found.text
    assert bullets("Files", []) == ""


def test_none_is_a_dash():
    """What is not known is a dash in tables and tiles, not the word None."""
    found = Page(page("x", [table("t", ("a", "b"), [("row", None)]), tiles([Tile("n", None, "")])]))

    assert found.table("t")["row"] == ["–"]
    assert found.text.count("–") == 2
    assert "None" not in found.text


def test_a_picture_travels_inside():
    """The bytes of a picture are in its address."""
    kind, _, data = data_uri(b"\xff\xd8jpeg", "jpeg").partition(",")

    assert (kind, base64.b64decode(data)) == ("data:image/jpeg;base64", b"\xff\xd8jpeg")


@pytest.mark.parametrize(("fraction", "said"), [(None, None), (0.0, "0.0 %"), (0.8731, "87.3 %"), (1.0, "100.0 %")])
def test_fractions_are_said_in_percent(fraction, said):
    """A fraction has one digit behind the point and the sign; an interval has it once."""
    assert share(fraction) == said
    assert span(None if fraction is None else (0.0, fraction)) == (said and f"0.0–{said}")
