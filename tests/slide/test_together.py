from __future__ import annotations

import pytest

from bloodcell_edge.model.microscope import FirstLook, Microscope
from bloodcell_edge.records import FieldLook
from bloodcell_edge.slide.together import Together, Waiting


class Picture:
    """As much of a frame as is asked for."""

    def __init__(self, number):
        self.sha256 = f"{number:064}"


def field(number, red_cell_px=50.0, *, used=True):
    first = FirstLook((240, 320), red_cell_px, (230, 230, 230)) if used else None
    return Waiting(Picture(number), FieldLook("" if used else "blurred"), first, 1.0)


def rulers(taken):
    return [one.rulers[240, 320].red_cell_px if one.rulers else None for _, one in taken]


def test_the_first_block_is_named_at_once():
    """Nothing can be named before it is complete; then all of it by all of it, refused fields in their places."""
    together = Together([], 4)
    for number in range(3):
        together.add(field(number, 40.0 + number))
    together.add(field(3, used=False))
    assert not together.complete
    assert together.waits(f"{2:064}")
    together.add(field(4, 43.0))
    assert together.complete

    taken = together.take()
    assert [one.frame.sha256[-1] for one, _ in taken] == ["0", "1", "2", "3", "4"]
    assert rulers(taken) == [pytest.approx(41.5, abs=0.01)] * 5
    assert not together.waits(f"{2:064}")
    assert together.take() == []


def test_later_fields_know_the_blocks_before_them():
    """The fifth to eighth know the first four, the ninth knows eight; each is named when it comes."""
    together, seen = Together([], 4), []
    for number in range(12):
        together.add(field(number, 40.0 if number < 4 else 48.0))
        if together.complete:
            seen += rulers(together.take())
    assert seen == [40.0] * 8 + [pytest.approx((40 * 48) ** 0.5, abs=0.01)] * 4


@pytest.mark.parametrize("stop", [1, 3, 4, 6, 9])
def test_a_slide_that_goes_on_ends_as_if_it_had_not_stopped(stop):
    """Whatever was named when a run stopped, later fields get the estimates that they would have got."""
    numbers = [40.0 + (7 * number) % 5 for number in range(12)]

    def named(together, some):
        found = []
        for number, red in some:
            together.add(field(number, red))
            if together.complete:
                found += rulers(together.take())
        return found + rulers(together.take())

    whole = named(Together([], 4), enumerate(numbers))
    known = [field(number, red).first for number, red in enumerate(numbers[:stop])]
    rest = named(Together(known, 4), list(enumerate(numbers))[stop:])
    assert rest == whole[stop:]


def test_a_given_microscope_is_believed():
    """Nothing waits, and the fields say nothing of it."""
    given = Microscope.of([FirstLook((240, 320), 30.0, (0, 0, 0))] * 5)
    together = Together([], 20, given)
    together.add(field(0))
    assert together.complete
    assert rulers(together.take()) == [30.0]


def test_what_is_left_is_named_at_the_end():
    """A folder of fewer fields than a block: all of them by all of them."""
    together = Together([], 20)
    for number in range(5):
        together.add(field(number, 40.0 + number))
    assert not together.complete
    assert set(rulers(together.take())) == {42.0}
