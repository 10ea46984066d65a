"""Which pictures an epoch shows: balanced draws, and their order."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from labelled import data_sets, picture

from bloodcell_edge.errors import DataError
from bloodcell_edge.training.draws import balanced_weights, epoch_order


@given(pictures=data_sets(at_least=1))
@settings(max_examples=100, deadline=None)
def test_balanced_weights(pictures):
    """Weights sum to 1: equal for classes, equal for photographs within a class, equal for pictures within one."""
    weights = balanced_weights(pictures)
    by_class, by_photograph = Counter(), defaultdict(Counter)
    for one, weight in zip(pictures, weights, strict=True):
        by_class[one.label] += weight
        by_photograph[one.label][one.group] += weight
    assert weights.shape == (len(pictures),)
    assert sum(by_class.values()) == pytest.approx(1)
    assert list(by_class.values()) == pytest.approx([1 / len(by_class)] * len(by_class))
    for groups in by_photograph.values():
        assert list(groups.values()) == pytest.approx([1 / len(by_class) / len(groups)] * len(groups))
    for key in {(one.label, one.group) for one in pictures}:
        own = weights[[i for i, one in enumerate(pictures) if (one.label, one.group) == key]]
        assert np.ptp(own) == 0


def test_sources_are_equal_within_a_class():
    """Ten photographs of one source weigh as much as one of another; a class of one source weighs as much as others."""
    many = [picture(i, "A", f"a{i}") for i in range(10)]
    one = [replace(picture(10, "A", "b"), source="other"), picture(11, "B", "c")]
    weights = balanced_weights([*many, *one])
    assert weights[:10] == pytest.approx([0.025] * 10)
    assert weights[10:] == pytest.approx([0.25, 0.5])


@pytest.mark.parametrize("noted", [0.0, 0.25, 1.0])
def test_noted_pictures_weigh_less(noted):
    """A photograph with a note weighs that share of one without; a photograph is not lost by one noted copy."""
    plain, doubtful = picture(0, "A", "a"), replace(picture(1, "A", "b"), note="looks like B")
    copies = [replace(picture(2, "B", "c"), note="blurred"), picture(3, "B", "c")]
    weights = balanced_weights([plain, doubtful, *copies], noted=noted)
    assert weights[1] / weights[0] == pytest.approx(noted)
    assert weights[0] + weights[1] == pytest.approx(weights[2] + weights[3]) == pytest.approx(0.5)


def test_a_class_of_doubtful_pictures_alone_is_refused():
    """Where notes leave nothing of a class, the error names it."""
    with pytest.raises(DataError, match="A: every picture has a note"):
        balanced_weights([replace(picture(0, "A", "a"), note="?"), picture(1, "B", "b")], noted=0.0)


def test_epoch_order():
    """Without weights an epoch shows each picture once; with weights n draws by them; the seed decides both."""
    assert sorted(epoch_order(50, None, (0, 1, 2))) == list(range(50))
    assert np.array_equal(epoch_order(50, None, (0, 1, 2)), epoch_order(50, None, (0, 1, 2)))
    assert not np.array_equal(epoch_order(50, None, (0, 1, 2)), epoch_order(50, None, (0, 1, 3)))
    drawn = epoch_order(4000, np.r_[0.5, np.full(3999, 0.5 / 3999)], (0,))
    assert 1850 < (drawn == 0).sum() < 2150
    assert drawn.shape == (4000,)
