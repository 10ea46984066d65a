import pytest

from bloodcell_edge.closing import Closing


class Held(Closing):
    """Counts how often it is closed."""

    closed = 0

    def close(self) -> None:
        """Once more."""
        self.closed += 1


def test_the_end_of_a_block_closes():
    """The block gets the object itself, which is closed once, at its end."""
    held = Held()
    with held as given:
        assert given is held
        assert held.closed == 0

    assert held.closed == 1


def test_an_error_closes_too_and_goes_on():
    """What the block raises is not swallowed."""
    held = Held()
    with pytest.raises(ZeroDivisionError), held:
        _ = 1 / 0

    assert held.closed == 1


def test_nothing_to_let_go_of():
    """Without a close of its own, the end of the block does nothing."""
    with Closing() as given:
        assert isinstance(given, Closing)
