import numpy as np
import pytest

from bloodcell_edge.training.frameworks import tf
from bloodcell_edge.training.locator.network import (
    INPUT_SIZE,
    LOSSES,
    OUTPUTS,
    build_network,
    ruler_loss,
    shape_loss,
    white_loss,
)
from bloodcell_edge.training.locator.scenes import Scene, SceneCell
from bloodcell_edge.training.locator.targets import targets


@pytest.fixture(scope="module")
def truth():
    cell = SceneCell(40, 60, 32, 32, certain=True, seen=1.0, whole=(40, 60, 32, 32))
    scene = Scene(np.zeros((*INPUT_SIZE, 3), np.float32), (cell,), 20.0)
    return [tf.constant(plane[np.newaxis]) for plane in targets(scene)]


def test_the_network_gives_three_planes():
    """A point for every 4 pixels; heat is a probability and starts low, since few points are cells."""
    net = build_network()
    white, shape, ruler = net(np.full((1, *INPUT_SIZE, 3), 128, np.float32))

    assert net.output_names == list(OUTPUTS) == list(LOSSES)
    assert [plane.shape for plane in (white, shape, ruler)] == [(1, 36, 48, 1), (1, 36, 48, 5), (1, 36, 48, 2)]
    assert 0 < float(tf.reduce_max(white)) < 0.3
    assert net.count_params() < 120_000


def test_the_truth_costs_less_than_anything_else(truth):
    """Each loss is least, or nearly so, where the network says the truth, and grows with the mistake."""
    white, shape, ruler = truth
    heat = white[..., :1]
    said = tf.concat([tf.ones_like(ruler), ruler], -1)

    assert float(white_loss(white, heat)) < float(white_loss(white, heat * 0.5)) < float(white_loss(white, 1 - heat))
    assert float(shape_loss(shape, shape[..., :5])) == 0
    assert float(shape_loss(shape, shape[..., :5] + 0.5)) > float(shape_loss(shape, shape[..., :5] + 0.1)) > 0
    near, far = (tf.concat([tf.ones_like(ruler), ruler + by], -1) for by in (0.1, 0.5))
    assert float(ruler_loss(ruler, said)) < float(ruler_loss(ruler, near)) < float(ruler_loss(ruler, far))


def test_doubtful_places_cost_nothing(truth):
    """Where the weight is 0, heat is neither wanted nor forbidden."""
    white, _, _ = truth
    ignored = tf.concat([tf.zeros_like(white[..., :1]), tf.zeros_like(white[..., 1:])], -1)
    assert float(white_loss(ignored, white[..., :1])) == pytest.approx(0, abs=1e-6)
