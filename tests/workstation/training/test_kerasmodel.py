"""A Keras model opened with its spec: what it answers, and what is refused."""

from __future__ import annotations

import shutil
import zipfile

import numpy as np
import pytest

from bloodcell_edge.errors import MissingFile, SpecError
from bloodcell_edge.model.spec import ModelSpec, load_spec, save_spec
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.kerasmodel import KerasModel, open_keras

LABELS = ("A", "B", "C")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small model for 6 x 8 pictures with its spec beside it."""
    folder = tmp_path_factory.mktemp("saved")
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")]
    keras.Sequential([keras.Input((6, 8, 3)), *layers]).save(folder / "model.keras")
    save_spec(folder / "spec.json", ModelSpec("small", LABELS, "frame", (6, 8), "keras", 1))
    return folder


@pytest.fixture
def own(saved, tmp_path):
    """A copy of that folder."""
    return shutil.copytree(saved, tmp_path / "own")


def pictures(n):
    return np.random.default_rng(2).integers(0, 256, (n, 6, 8, 3), np.uint8)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 130])
def test_scores_are_the_networks_in_order(saved, n):
    """However many pictures, each gets the network's probabilities for it, float32 (n, labels); the input stays."""
    model, pixels = open_keras(saved / "model.keras"), pictures(n)
    before = pixels.copy()
    scores = model.scores(pixels)
    assert (scores.shape, scores.dtype) == ((n, 3), np.float32)
    np.testing.assert_allclose(scores, model.net(pixels.astype(np.float32), training=False), atol=1e-6)
    assert np.array_equal(pixels, before)


def test_no_pictures_no_scores(saved):
    """No picture gives an empty array of the right width."""
    assert open_keras(saved / "model.keras").scores(pictures(0)).shape == (0, 3)


def test_opened_with_its_spec(saved):
    """The spec is the one beside the file, and the path the one given."""
    model = open_keras(str(saved / "model.keras"))
    assert isinstance(model, KerasModel)
    assert model.spec == load_spec(saved / "spec.json")
    assert model.path == saved / "model.keras"


def test_bare_file_needs_labels_and_view(own):
    """Without spec.json labels and view must be given; then name and size are the file's own."""
    (own / "spec.json").unlink()
    for options in ({}, {"labels": LABELS}, {"view": "frame"}):
        with pytest.raises(MissingFile, match=r"a bare .keras needs --labels and --view"):
            open_keras(own / "model.keras", **options)
    spec = open_keras(own / "model.keras", labels=LABELS, view="frame").spec
    assert (spec.name, spec.labels, spec.view, spec.input_size, spec.target) == (
        "model",
        LABELS,
        "frame",
        (6, 8),
        "keras",
    )
    with pytest.raises(SpecError, match=r"outputs \(6, 8, 3, 2\) as its spec says, found \(6, 8, 3, 3\)"):
        open_keras(own / "model.keras", labels=("A", "B"), view="frame")


@pytest.mark.parametrize("change", [{"labels": ("A", "B")}, {"input_size": (8, 6)}])
def test_spec_that_does_not_fit(own, change):
    """A spec with other labels or another size than the network's is refused, saying both."""
    save_spec(own / "spec.json", load_spec(own / "spec.json").with_(**change))
    with pytest.raises(SpecError, match=r"expected height, width, channels, outputs .* found \(6, 8, 3, 3\)"):
        open_keras(own / "model.keras")


@pytest.mark.parametrize("content", ["empty", "text", "half", "other zip", "hollow zip"])
def test_file_that_is_no_model(own, content):
    """What Keras cannot open is one line that names the file."""
    path = own / "model.keras"
    if "zip" in content:
        with zipfile.ZipFile(path, "w") as archive:
            for name in ("config.json", "metadata.json") if content == "hollow zip" else ("readme.txt",):
                archive.writestr(name, "{}")
    else:
        path.write_bytes({"empty": b"", "text": b"hello", "half": path.read_bytes()[:2000]}[content])
    with pytest.raises(SpecError, match=r"model.keras: not a Keras model that can be opened \(.+\)$") as caught:
        open_keras(path)
    assert "\n" not in str(caught.value)


def test_network_that_takes_no_pictures(own):
    """A network with an input of another kind is refused, labels or not."""
    keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)]).save(own / "flat.keras")
    with pytest.raises(
        SpecError, match=r"flat.keras: expected an input of \(None, height, width, 3\), found \(None, 8\)"
    ):
        open_keras(own / "flat.keras")


def test_missing_model(tmp_path):
    """A model that is not there is named."""
    with pytest.raises(MissingFile, match=r"gone.keras: no such model"):
        open_keras(tmp_path / "gone.keras")
