"""The one place that imports TensorFlow and Keras, without their start-up chatter."""

from __future__ import annotations

import logging
import os

from ..errors import RuntimeMissing
from ..quiet import quiet_stderr

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever the user's keras.json says: the converter reads no other

try:
    with quiet_stderr():
        import tensorflow as tf

        tf.constant(0)  # the devices speak when they are first asked
        import keras
except ImportError as _error:
    _message = (
        f"TensorFlow cannot be imported ({_error}); training and conversion need it: "
        'pip install "bloodcell-edge[train]"'
    )
    raise RuntimeMissing(_message) from _error

logging.getLogger("absl").setLevel(logging.ERROR)
logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of every new network in a process that trains many

__all__ = ["keras", "tf"]
