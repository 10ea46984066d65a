import numpy as np

from bloodcell_edge.model.decode import FLOAT_SCALES, Decoder, Planes, as_bytes
from bloodcell_edge.training.locator.judge import THRESHOLDS, best, found_at
from bloodcell_edge.training.locator.scenes import Scene, SceneCell
from bloodcell_edge.training.locator.targets import targets

DECODER = Decoder(*FLOAT_SCALES[1:])


def scene(*cells):
    return Scene(np.zeros((144, 192, 3), np.float32), cells, 16.0)


def cell(x, y, *, certain=True):
    return SceneCell(x, y, 32, 32, certain, 1.0, (x, y, 32, 32))


def says(what, heat):
    """A network that knows the truth of a scene, with a heat of its own."""
    white, shape, ruler = targets(what)
    sure = np.concatenate([np.zeros_like(ruler), ruler], axis=-1)
    planes = Planes(
        np.ascontiguousarray(as_bytes(white[..., 0] * heat, FLOAT_SCALES[0])),
        as_bytes(shape[..., :5], FLOAT_SCALES[1]),
        as_bytes(sure, FLOAT_SCALES[2]),
    )
    return lambda pixels: planes  # noqa: ARG005


def test_cells_are_found_up_to_their_heat():
    """All of them where the threshold is below their heat, none above; boxes fit; the best threshold is below."""
    truth = scene(cell(20, 30), cell(100, 80))
    found = found_at(says(truth, 0.5), DECODER, [truth])

    assert [one.found for one in found] == [2 * (one.threshold <= 128) for one in found]
    assert all(one.wrong == 0 for one in found)
    assert found[0].iou > 0.95
    assert best(found).f1 == 1
    assert THRESHOLDS[0] <= best(found).threshold <= 128


def test_boxes_beside_cells_are_wrong_but_on_doubtful_ones():
    """What is found where no cell is lowers the precision; where a doubtful one is it does not count."""
    seen = scene(cell(20, 30), cell(100, 80))
    wrong = found_at(says(seen, 0.9), DECODER, [scene(cell(20, 30))])[0]
    doubtful = found_at(says(seen, 0.9), DECODER, [scene(cell(20, 30), cell(100, 80, certain=False))])[0]

    assert (wrong.found, wrong.wrong, wrong.precision, wrong.recall) == (1, 1, 0.5, 1.0)
    assert (doubtful.found, doubtful.wrong) == (1, 0)
