from __future__ import annotations

import pytest

from bloodcell_edge.model.microscope import POOL, REMEMBERED, FirstLook, Microscope
from bloodcell_edge.model.together import Before, Together

SIZE = (240, 320)


def look(red_cell_px=50.0):
    return FirstLook(SIZE, red_cell_px, (230, 230, 230))


def rulers(taken):
    return [one.rulers[SIZE].red_cell_px if one.rulers else None for _, _, one in taken]


def test_the_first_block_is_named_at_once():
    """Nothing can be named before it is complete; then all of it by all of it, refused fields in their places."""
    together = Together(4)
    for number in range(3):
        together.add(number, look(40.0 + number))
    together.add(3, None)
    assert not together.complete
    assert together.waiting == [0, 1, 2, 3]
    together.add(4, look(43.0))
    assert together.complete

    taken = together.take()
    assert [one for one, _, _ in taken] == [0, 1, 2, 3, 4]
    assert [first is None for _, first, _ in taken] == [False, False, False, True, False]
    assert rulers(taken) == [pytest.approx(41.5, abs=0.01)] * 5
    assert together.waiting == together.take() == []


def test_later_fields_know_the_blocks_before_them():
    """The fifth to eighth know the first four, the ninth knows eight; each is named when it comes."""
    together, seen = Together(POOL), []
    for number in range(3 * POOL):
        together.add(number, look(40.0 if number < POOL else 48.0))
        if together.complete:
            seen += rulers(together.take())
    assert seen == [40.0] * 2 * POOL + [pytest.approx((40 * 48) ** 0.5, abs=0.01)] * POOL


def test_each_of_the_first_that_come_alone_knows_those_before_it():
    """A camera's fields are named as they come; the estimate is made anew with each, and after 20 once in 20."""
    together, seen = Together(1), []
    for number in range(3 * POOL):
        together.add(number, look(40.0 + number % 7))
        assert together.complete
        seen += [one.fields for _, _, one in together.take()]
    assert seen == [1, *range(1, POOL), *[POOL] * POOL, *[2 * POOL] * POOL]


def test_a_long_slide_holds_the_last_fields_alone():
    """After 10,000 fields the estimate is of the last whole blocks, and follows what has changed."""
    together = Together(POOL)
    for number in range(10_000):
        together.add(number, look(40.0 if number < 9_000 else 48.0))
        if together.complete:
            last = together.take()[-1][2]
    assert last.fields == REMEMBERED
    assert last.rulers[SIZE].red_cell_px == 48.0
    assert len(together._looks) < 2 * REMEMBERED


@pytest.mark.parametrize("block", [1, 4, POOL])
@pytest.mark.parametrize("stop", [1, 3, 20, 27, 260, 300])
def test_a_slide_that_goes_on_ends_as_if_it_had_not_stopped(stop, block):
    """Whatever was named when a run stopped, later fields get the estimates that they would have got."""
    looks = [look(40.0 + (7 * number) % 5) for number in range(310)]

    def named(together, some):
        found = []
        for one in some:
            together.add(one, one)
            if together.complete:
                found += rulers(together.take())
        return found + rulers(together.take())

    whole = named(Together(block), looks)
    before = Before(stop, SIZE, tuple(looks[:stop][-REMEMBERED - POOL :]))
    rest = named(Together(block, before=before), looks[stop:])
    assert rest == whole[stop:]


def test_a_given_microscope_is_believed():
    """Nothing waits, and the fields say nothing of it."""
    together = Together(given=Microscope.of([look(30.0)] * 5))
    together.add(0, look())
    assert together.complete
    assert rulers(together.take()) == [30.0]


def test_what_is_left_is_named_at_the_end():
    """A folder of fewer fields than a block: all of them by all of them."""
    together = Together()
    for number in range(5):
        together.add(number, look(40.0 + number))
    assert not together.complete
    assert set(rulers(together.take())) == {42.0}
