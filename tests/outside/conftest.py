"""Environments of their own for readers from outside, and model files to give them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from trained import cell_run, drawn_backbone, drawn_cells  # noqa: F401 - fixtures

from bloodcell_edge.model.metadata import add_metadata

LABELS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")
SIZE = 96  # pixels
PICTURES = 80
COLOURS = np.array([(220, 60, 60), (60, 200, 80), (70, 80, 220), (120, 30, 140)])  # RGB, one for each label

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """Model files, pictures, and what the LiteRT installed here says of them.

    Attributes:
        files: target -> .tflite with metadata and labels.
        pictures: .npy, uint8 (n, SIZE, SIZE, 3).
        scores: target -> float32 (n, len(LABELS)).
    """

    files: dict[str, Path]
    pictures: Path
    scores: dict[str, Scores]


@pytest.fixture(scope="session")
def environment(pytestconfig: pytest.Config) -> Callable[..., Path]:
    """Make a virtual environment once and keep it in pytest's cache: ``environment("numpy<2", python="3.11")``.

    Returns the path of its Python. Skips where pip cannot install (with CI=true a skip is a failure).
    """

    def make(*requirements: str, python: str | None = None) -> Path:
        base = _python(python)
        key = hashlib.sha256(repr((base, *requirements)).encode()).hexdigest()[:12]
        folder = pytestconfig.cache.mkdir(f"outside-{key}") / "venv"
        inside, done = folder / "bin" / "python", folder / "done"
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            _run(base, "-m", "venv", folder)
            _run(inside, "-m", "pip", "install", "--quiet", "--only-binary=:all:", *requirements)
            done.touch()
        return inside

    return make


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """A small net as int8 and float16 files, and pictures that it tells apart."""
    folder = tmp_path_factory.mktemp("samples")
    pictures = _pictures()
    model = _network(pictures)
    files, scores = {}, {}
    for target in ("int8", "float16"):
        files[target] = folder / f"{target}.tflite"
        files[target].write_bytes(_with_labels(_convert(model, target, pictures)))
        scores[target] = _litert_scores(files[target], pictures)
    np.save(folder / "pictures.npy", pictures)
    return Samples(files, folder / "pictures.npy", scores)


@pytest.fixture(scope="session")
def run_script() -> Callable[..., Any]:
    """Run a script of this folder in an environment and read the JSON it prints."""

    def run(python: Path, script: str, *arguments: str | Path) -> Any:
        command = [python, "-I", Path(__file__).with_name(script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def _python(version: str | None) -> str:
    if version is None or sys.version.startswith(f"{version}."):
        return sys.executable
    found = shutil.which(f"python{version}")
    if found is None:
        pytest.skip(f"no python{version} on this machine, and the package has no wheel for others")
    return found


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(map(str, command))}: {done.stderr.strip()[-300:]}")


def _pictures() -> NDArray[np.uint8]:
    """Pictures of the four colours in turn, each with a blob of another: uint8 (PICTURES, SIZE, SIZE, 3)."""
    rng = np.random.default_rng(20)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    pictures = np.empty((PICTURES, SIZE, SIZE, 3))
    for index, picture in enumerate(pictures):
        picture[:] = COLOURS[index % len(COLOURS)] + rng.normal(0, 15, 3)
        row, column, radius = rng.uniform((36, 36, 20), (60, 60, 32))
        blob = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / radius**2)[..., np.newaxis]
        picture += blob / 2 * (rng.uniform(0, 255, 3) - picture) + rng.normal(0, 4, picture.shape)
    return pictures.clip(0, 255).round().astype(np.uint8)


def _network(pictures: NDArray[np.uint8]) -> Any:
    """MobileNetV2 with random weights that tells the colours apart, without training.

    A net of random weights amplifies every rounding until int8 answers at random. Depthwise kernels that average and
    BatchNorm that keeps ReLU6 in its linear middle make it pass colours on; ridge regression sets the last layer.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own
        import keras
    keras.utils.set_random_seed(7)
    shape = (SIZE, SIZE, 3)
    base = keras.applications.MobileNetV2(input_shape=shape, alpha=0.35, include_top=False, weights=None)
    for layer in base.layers:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            layer.kernel.assign(np.abs(layer.kernel))
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0  # one pass in training mode replaces the moving statistics
            layer.beta.assign(np.full(layer.beta.shape, 0.0 if "project" in layer.name else 4.0))
    entry = keras.Input(shape)
    features = keras.layers.GlobalAveragePooling2D()(base(keras.layers.Rescaling(1 / 127.5, -1)(entry)))
    body = keras.Model(entry, features)
    body(pictures.astype(np.float32), training=True)
    model = keras.Model(entry, keras.layers.Dense(len(LABELS), activation="softmax")(features))
    model.layers[-1].set_weights(_ridge(body.predict(pictures.astype(np.float32), verbose=0)))
    return model


def _ridge(features: Scores) -> tuple[Scores, Scores]:
    """Kernel and bias that tell from the features of `_pictures` which colour they show."""
    centre = features.mean(axis=0)
    spread = features - centre
    wanted = np.eye(len(LABELS))[np.arange(len(features)) % len(LABELS)] - 1 / len(LABELS)
    kernel = 3 * np.linalg.solve(spread.T @ spread + 100 * np.eye(len(centre)), spread.T @ wanted)
    return kernel.astype(np.float32), (-centre @ kernel).astype(np.float32)


def _convert(model: Any, target: str, pictures: NDArray[np.uint8]) -> bytes:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TensorFlow's own
        import tensorflow as tf

        signature = tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32)
        graph = tf.function(model, autograph=False).get_concrete_function(signature)
        # Not with the model as second argument: a Keras 3 model's variables would stay outside the file.
        converter = tf.lite.TFLiteConverter.from_concrete_functions([graph])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        if target == "float16":
            converter.target_spec.supported_types = [tf.float16]
        else:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = tf.uint8
            converter.representative_dataset = lambda: _representative(pictures)
        return bytes(converter.convert())


def _representative(pictures: NDArray[np.uint8]) -> Iterator[list[Scores]]:
    """The pictures, a black and a white one, so that the input's scale becomes 1 and its zero point 0."""
    for picture in (*pictures, np.zeros_like(pictures[0]), np.full_like(pictures[0], 255)):
        yield [picture[np.newaxis].astype(np.float32)]


def _with_labels(flatbuffer: bytes) -> bytes:
    described = add_metadata(flatbuffer, name="test", description="four random classes", version="1")
    content = io.BytesIO(described)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        archive.writestr("labels.txt", "".join(f"{label}\n" for label in LABELS))
        archive.writestr("bce.json", "{}")  # as finished model files have; readers from outside must pass it over
    return content.getvalue()


def _litert_scores(file: Path, pictures: NDArray[np.uint8]) -> Scores:
    from bloodcell_edge.model.interpreter import load_interpreter

    interpreter = load_interpreter(file)
    return np.stack([interpreter.scores(picture) for picture in pictures])
