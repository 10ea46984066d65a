"""Keras, one picture a call of ``predict``, as many scripts do it."""

from __future__ import annotations

from protocol import Labels, serve


def load(setup):  # noqa: D103
    import keras
    import numpy as np
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(setup["threads"])
    model, labels = keras.models.load_model(setup["model"], compile=False), setup["labels"]

    def crops(items) -> Labels:
        return [labels[model.predict(pixels[np.newaxis].astype(np.float32), verbose=0)[0].argmax()] for pixels in items]

    return {"crops": crops}


if __name__ == "__main__":
    serve(load)
