"""What a student learns from a teacher: soft targets beside the true labels.

Hinton, Vinyals and Dean 2015, Distilling the Knowledge in a Neural Network, arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .frameworks import keras

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LEAST = 1e-7  # probability whose logarithm is taken; what Keras's own cross-entropy clips at


@dataclass(frozen=True)
class Distillation:
    """How much of the teacher a student is shown.

    The values are those of Hinton 2015, section 4, for one student of an ensemble; they are not tuned here.

    Attributes:
        temperature: that teacher's and student's logits are divided by, so that the small probabilities count.
        hard: weight of the true labels against 1 for the teacher.
    """

    temperature: float = 2.0
    hard: float = 0.5


HINTON = Distillation()


@dataclass(frozen=True, eq=False)
class Teacher:
    """Probabilities of training pictures, by the SHA-256 of their files, and how to learn from them.

    Attributes:
        scores: float32, shape (labels,) each. A picture that is not there is taught by its label alone.
        how: the weights.
    """

    scores: Mapping[str, NDArray[np.float32]]
    how: Distillation = HINTON

    def targets(self, sha256: Sequence[str], hard: NDArray[np.float32]) -> NDArray[np.float32]:
        """What `loss` takes as truth: labels and, beside them, the teacher's softened probabilities.

        Args:
            sha256: of the pictures' files, n of them.
            hard: their labels, one-hot, shape (n, labels).

        Returns:
            float32, shape (n, 2 x labels).
        """
        taught = np.stack([self.scores.get(name, row) for name, row in zip(sha256, hard, strict=True)])
        powers = np.maximum(taught, _LEAST) ** (1.0 / self.how.temperature)
        return np.concatenate([hard, powers / powers.sum(axis=1, keepdims=True)], axis=1, dtype=np.float32)

    def loss(self, label_smoothing: float) -> Callable[[Any, Any], Any]:
        """Cross-entropy with the softened teacher, times temperature squared, and with the labels (section 2).

        The student's logits are the logarithms of its probabilities, up to a constant that softmax does not see.

        Args:
            label_smoothing: of the labels' part.
        """
        labelled = keras.losses.CategoricalCrossentropy(label_smoothing=label_smoothing, reduction=None)
        temperature, weight = self.how.temperature, self.how.hard

        def distillation(truth: Any, scores: Any) -> Any:
            hard, soft = keras.ops.split(truth, 2, axis=1)
            logits = keras.ops.log(keras.ops.maximum(scores, _LEAST))
            told = -keras.ops.sum(soft * keras.ops.log_softmax(logits / temperature, axis=1), axis=1)
            return (temperature**2 * told + weight * labelled(hard, scores)) / (1.0 + weight)

        return distillation

    @staticmethod
    def accuracy(truth: Any, scores: Any) -> Any:
        """Share of right answers, by the labels alone."""
        hard, _ = keras.ops.split(truth, 2, axis=1)
        return keras.metrics.categorical_accuracy(hard, scores)
