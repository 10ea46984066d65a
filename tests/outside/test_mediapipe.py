from __future__ import annotations

import json

import numpy as np
import pytest

from convert import compat

pytestmark = pytest.mark.outside

LABELS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")


@pytest.fixture(scope="module")
def python(environment):
    return environment("mediapipe>=1.2.2")


@pytest.mark.parametrize(("target", "tolerance"), [("int8", 1e-6), ("float16", 1e-4)])
def test_mediapipe_gives_the_same_scores_and_labels(python, samples, run_script, target, tolerance):
    """MediaPipe's ImageClassifier reads our labels in the file and gives LiteRT's scores for the same pixels."""
    answers = run_script(python, "scores_by_mediapipe.py", samples.files[target], samples.pictures)
    assert {tuple(sorted(answer)) for answer in answers} == {LABELS}, json.dumps(answers[0])
    found = np.array([[answer[label] for label in LABELS] for answer in answers], np.float32)
    np.testing.assert_allclose(found, samples.scores[target], rtol=0, atol=tolerance)
    assert set(found.argmax(axis=1)) == set(range(len(LABELS))), "the test model does not use all its labels"


def test_the_uint8_input_takes_raw_pixels(samples):
    """The int8 file's input has scale 1 and zero point 0: MediaPipe feeds raw pixels whatever stands there."""
    assert compat.input_quantization(samples.files["int8"].read_bytes()) == (1.0, 0)
