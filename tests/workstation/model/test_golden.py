from __future__ import annotations

import hashlib

import numpy as np
import pytest

from bloodcell_edge.imaging.drawn import LABELS, draw_field
from bloodcell_edge.imaging.image import prepare
from bloodcell_edge.imaging.views import View
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.golden import golden_samples, kernel_tolerance

VIEW, MARGIN = View("frame", (48, 48)), 2 * 20 / 256


class Brightness:
    """Answers by how bright a picture is: the darkest get the first label. Counts what it was asked."""

    def __init__(self, labels: int, sharpness: float):
        self.labels, self.sharpness, self.asked = labels, sharpness, 0

    def scores(self, pixels):
        self.asked += 1
        places = np.linspace(150, 230, self.labels)
        logits = -self.sharpness * np.abs(places - pixels.mean())
        return (np.exp(logits) / np.exp(logits).sum()).astype(np.float32)


@pytest.mark.parametrize("name", ["bloodcell-int8.tflite", "bloodcell-float16.tflite"])
def test_golden_samples_of_a_file_replay_to_the_bit(tiny_run, name):
    """Drawn again from its seed, each sample has the bytes and the scores that the file keeps, and a clear answer."""
    classifier = Classifier.open(tiny_run.path / name)
    golden = classifier.spec.golden

    assert golden
    assert len({one.label for one in golden}) == len(golden)
    for one in golden:
        pixels = prepare(draw_field(one.seed, (one.drawn,)).image, classifier.spec.input_size)
        assert hashlib.sha256(pixels.tobytes()).hexdigest() == one.pixels_sha256
        scores = classifier.interpreter.scores(pixels)
        assert tuple(map(float, scores)) == one.scores
        second, first = sorted(one.scores)[-2:]
        assert first - second > 2 * classifier.spec.kernel_tolerance
        assert classifier.spec.labels[int(np.argmax(one.scores))] == one.label


def test_samples_come_in_the_order_of_the_labels():
    """One sample a label, in label order; the search ends when all are found."""
    model = Brightness(2, sharpness=0.2)

    golden = golden_samples(model, ("DARK", "BRIGHT"), VIEW, margin=MARGIN)

    assert [one.label for one in golden] == ["DARK", "BRIGHT"]
    assert model.asked < 60


def test_the_search_is_the_same_each_time():
    """Samples are drawn from fixed seeds: twice the same."""
    first, second = (golden_samples(Brightness(2, sharpness=0.2), ("A", "B"), VIEW, margin=MARGIN) for _ in range(2))

    assert first == second


def test_an_unsure_model_has_no_samples():
    """Where no answer is clear by twice 20/256, there is no sample rather than a shaky one, and the search ends."""
    model = Brightness(4, sharpness=0.0)

    assert golden_samples(model, LABELS, VIEW, margin=MARGIN) == ()
    assert model.asked <= 240


@pytest.mark.parametrize(("target", "most"), [("int8", 0.5), ("float16", 20 / 256)])
def test_the_tolerance_is_what_other_kernels_do_to_this_file(tiny_run, drawn, target, most):
    """Scores with and without XNNPACK differ by less than the file says, on pictures that it was not measured on."""
    path = tiny_run.path / f"bloodcell-{target}.tflite"
    spec = Classifier.open(path).spec
    fields = [draw_field(50_000 + seed, (LABELS[seed % 4],), size=(120, 160)).image for seed in range(40)]
    pixels = np.stack([prepare(image, spec.input_size) for image in fields])

    assert 20 / 256 <= spec.kernel_tolerance <= most
    assert kernel_tolerance(path.read_bytes(), pixels) <= 1.5 * spec.kernel_tolerance
