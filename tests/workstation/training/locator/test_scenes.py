import numpy as np
import pytest

from bloodcell_edge.training.locator.pieces import by_source, drawn_pieces
from bloodcell_edge.training.locator.scenes import RED_CELL_RANGE, SceneCell, lay_scene

SIZE = (144, 192)
SOURCES = by_source(drawn_pieces(12))


def scenes(count, first=0):
    return [lay_scene(SOURCES, {"drawn": 1.0}, SIZE, np.random.default_rng((first, k))) for k in range(count)]


def test_a_scene_is_a_picture_with_cells_inside():
    """Pixels are levels of the size asked for; what is visible of a cell lies in the scene; the scale is in range."""
    found = scenes(60)
    cells = [cell for scene in found for cell in scene.cells]

    assert len(cells) > 60
    for scene in found:
        assert scene.pixels.shape == (*SIZE, 3)
        assert scene.pixels.dtype == np.float32
        assert 0 <= scene.pixels.min() <= scene.pixels.max() <= 256
    assert all(cell.x >= 0 and cell.y >= 0 for cell in cells)
    assert all(cell.x + cell.width <= SIZE[1] + 1e-3 and cell.y + cell.height <= SIZE[0] + 1e-3 for cell in cells)
    red = [scene.red_cell_px for scene in found]
    assert min(red) >= RED_CELL_RANGE[0] / 2
    assert max(red) <= 2 * RED_CELL_RANGE[1]  # of tightly cut cells
    assert max(red) / min(red) > 4


def test_the_same_seed_lays_the_same_scene():
    """Scenes are drawn by chance that can be repeated."""
    one, other = scenes(1)[0], scenes(1)[0]
    assert np.array_equal(one.pixels, other.pixels)
    assert one.cells == other.cells


def test_cells_stand_where_they_are_said_to_be():
    """Inside the boxes of certain cells it is darker in red than around: chromatin takes red light."""
    darker = []
    for scene in scenes(40, first=1):
        red = scene.pixels[..., 0]
        for cell in scene.cells:
            if cell.certain and min(cell.width, cell.height) > 12:
                x, y, width, height = (int(side) for side in cell.rectangle)
                darker.append(red[y : y + height, x : x + width].mean() < np.median(red))
    assert len(darker) > 20
    assert np.mean(darker) > 0.9


def test_what_is_cut_away_is_told():
    """A cell cut in half shows half; little is doubtful, next to nothing is no cell any more."""
    cell = SceneCell(10, 10, 20, 20, certain=True, seen=1.0, whole=(10, 10, 20, 20))
    half, sliver = cell.cut(20, 0, 100, 100), cell.cut(26, 0, 100, 100)

    assert half.rectangle == (20, 10, 10, 20)
    assert half.seen == pytest.approx(0.5, abs=0.03)
    assert half.certain
    assert not sliver.certain
    assert cell.cut(29, 0, 100, 100) is None
    assert half.cut(20, 20, 100, 100).seen == pytest.approx(0.25, abs=0.03)
