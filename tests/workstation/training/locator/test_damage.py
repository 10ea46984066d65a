import numpy as np
import pytest

from bloodcell_edge.training.locator.damage import DAMAGES, damaged
from bloodcell_edge.training.locator.scenes import Scene, SceneCell


def scene(*cells):
    rng = np.random.default_rng(0)
    pixels = rng.uniform(120, 220, (144, 192, 3)).astype(np.float32)
    return Scene(pixels, cells, 30.0)


def cell(x=80, y=60, side=30):
    return SceneCell(x, y, side, side, certain=True, seen=1.0, whole=(x, y, side, side))


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_changes_a_copy(name):
    """It changes what is seen, not the scene it was given, and gives float32 of the same shape."""
    before = scene(cell())
    pixels = before.pixels.copy()
    changed = [DAMAGES[name][1](before, np.random.default_rng(seed)) for seed in range(8)]

    assert np.array_equal(before.pixels, pixels)
    assert any(not np.array_equal(one.pixels, pixels) for one in changed)
    assert {(one.pixels.dtype, one.pixels.shape) for one in changed} == {(np.dtype(np.float32), (144, 192, 3))}
    assert all(one.red_cell_px == 30.0 for one in changed)


def test_what_is_left_out_does_not_happen():
    """Without any damage a scene stays as it is; levels are always 0 to 255."""
    before = scene()
    after = damaged(before, np.random.default_rng(1), without=frozenset(DAMAGES))

    assert np.array_equal(after.pixels, before.pixels)
    for seed in range(40):
        pixels = damaged(before, np.random.default_rng(seed)).pixels
        assert 0 <= pixels.min() <= pixels.max() <= 255


@pytest.mark.parametrize("name", ["border", "round"])
def test_what_is_hidden_is_not_asked_for(name):
    """Of cells that a border or a rim cuts less is seen, others stay as they were."""
    whole = [cell(x, y) for x in range(0, 162, 32) for y in range(0, 114, 28)]
    shares = []
    for seed in range(30):
        after = DAMAGES[name][1](scene(*whole), np.random.default_rng(seed))
        shares += [one.seen for one in after.cells]
    assert 0 < min(shares) < 0.5
    assert max(shares) == 1
