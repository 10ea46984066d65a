"""TensorFlow and Keras are imported in one place, quietly, and always as one."""

from __future__ import annotations

import os
import subprocess
import sys

CHATTY = {**os.environ, "KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "0", "PYTHONWARNINGS": "default"}


def run(code):
    """What a fresh process says, that wants another backend and all of TensorFlow's chatter: (stdout, stderr)."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=CHATTY, check=True)
    return done.stdout, done.stderr


def test_keras_runs_on_tensorflow_and_says_nothing():
    """Whatever backend the user prefers, ours is TensorFlow's; nothing is said on stdout or by native code."""
    out, err = run(
        "from bloodcell_edge.training.frameworks import keras, tf\n"
        "import sys; sys.stdout.write(keras.backend.backend() + str(keras.Input((2,)).shape))"
    )
    assert out == "tensorflow(None, 2)"
    assert "tensorflow/" not in err, "native lines name their source file"


def test_without_tensorflow_the_message_says_what_to_install():
    """Where TensorFlow cannot be imported the error is ours, with the reason and the extra to install."""
    out, err = run(
        "import sys; sys.modules['tensorflow'] = None\n"
        "from bloodcell_edge.errors import RuntimeMissing\n"
        "try:\n"
        "    import bloodcell_edge.training.frameworks\n"
        "except RuntimeMissing as error:\n"
        "    sys.stdout.write(str(error))"
    )
    assert out.startswith("TensorFlow cannot be imported (")
    assert out.endswith('pip install "bloodcell-edge[train]"')
    assert "Traceback" not in err
