"""Networks in run folders that many tests share, and the pictures they know.

Each is made once, by whichever of pytest's workers needs it first. No fixture trains a network from nothing: they
stand on drawn_backbone.npz, or have weights set by hand, and so answer alike on every machine.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bloodcell_edge.runs import RunFolder, point_latest

if TYPE_CHECKING:
    from bloodcell_edge.training.recipes import Recipe
    from convert.targets import Target

LEARNT = {"workspace", "cell_run", "three"}
"""Fixtures whose networks have learnt something: a test that asks for one is marked `trains`."""

PER_CLASS = 160
SIZE = 64
HEAD_EPOCHS = 12
BACKBONE = Path(__file__).with_name("drawn_backbone.npz")


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark what stands on something learnt, so that it can be run under another instruction set too (.ci/run)."""
    if LEARNT & set(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.trains)


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that all workers share; `make` fills it, in the first worker that asks, while the others wait."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / name, shared / f"{name}.done"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a failed attempt left
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def head_recipe(weights: Path, **changes: Any) -> Recipe:
    """Recipe `drawn` with a backbone that is given: only the head learns, from pictures as they are, in seconds."""
    from bloodcell_edge.training.recipes import choose_recipe

    recipe = choose_recipe("drawn", weights=str(weights), size=SIZE, fine_tune=0, epochs=HEAD_EPOCHS, **changes)
    return replace(recipe, head_rate=3e-3, augmentation=None, views=1)


def train_head(
    pictures: Path, run: RunFolder, recipe: Recipe, *, labels: Sequence[str] | None = None, brief: bool = False
) -> None:
    """Train a run on drawn pictures, each a photograph of its own, which then nobody has to find out."""
    from bloodcell_edge.dataset.layouts import load_data
    from bloodcell_edge.progress import SILENT
    from bloodcell_edge.training.fit import train

    data = load_data(pictures) if labels is None else load_data(pictures, labels=labels)
    known, unknown = ([replace(one, group=one.file) for one in side] for side in (data.pictures, data.unknown))
    data = replace(data, pictures=tuple(known), unknown=tuple(unknown))
    train(data, recipe, run, drawn=True, brief=brief, report=SILENT)


def convert_run(run: RunFolder, *targets: Target, allow_small: bool = False) -> None:
    """The files of a run, beside its model: measured on its training pictures, not calibrated."""
    from bloodcell_edge.progress import SILENT
    from bloodcell_edge.training.kerasmodel import open_keras
    from convert.files import convert_files
    from convert.representative import representative_pictures
    from convert.targets import Target

    model = open_keras(run.model)
    samples = representative_pictures(run.model, model.spec, None, allow_small=allow_small, report=SILENT)
    chosen = targets or (Target.INT8, Target.FLOAT16)
    convert_files(model, list(chosen), run.path, representative=samples, report=SILENT)


@pytest.fixture(scope="session")
def drawn_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights file of a MobileNetV2 0.35 that was trained on drawings, as `--weights` takes it."""

    def make(folder: Path) -> None:
        import keras

        net = keras.applications.MobileNetV2(include_top=False, weights=None, alpha=0.35, input_shape=(SIZE, SIZE, 3))
        with np.load(BACKBONE) as stored:
            net.set_weights([stored[name].astype(np.float32) for name in sorted(stored.files)])
        net.save_weights(folder / "drawn.weights.h5")

    return made_once(tmp_path_factory, "drawn-backbone", make) / "drawn.weights.h5"


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 640 drawn fields, one folder a class; no cell is drawn on the way to another type."""
    from bloodcell_edge.imaging.drawn import draw_folder

    def make(folder: Path) -> None:
        draw_folder(folder / "pictures", per_class=PER_CLASS, seed=11, size=(120, 160), ambiguity=0.0)

    return made_once(tmp_path_factory, "drawn", make) / "pictures"


@pytest.fixture(scope="session")
def workspace(drawn: Path, drawn_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/latest in it: a MobileNetV2 0.35 that knows drawn fields, int8 and float16 beside it."""

    def make(folder: Path) -> None:
        run = RunFolder(folder / "runs" / "tiny")
        train_head(drawn, run, head_recipe(drawn_backbone))
        convert_run(run)
        point_latest(run.path, latest=folder / "runs" / "latest")

    return made_once(tmp_path_factory, "workspace", make)


@pytest.fixture(scope="session")
def tiny_run(workspace: Path) -> RunFolder:
    """The run in `workspace`; not to be changed."""
    return RunFolder(workspace / "runs" / "tiny")


@pytest.fixture(scope="session")
def drawn_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 200 drawn fields of 320 x 240, one folder a class, with red cells enough to measure by."""
    from bloodcell_edge.imaging.drawn import draw_folder

    def make(folder: Path) -> None:
        draw_folder(folder / "pictures", per_class=50, seed=12, size=(240, 320), ambiguity=0.0)

    return made_once(tmp_path_factory, "drawn-cells", make) / "pictures"


@pytest.fixture(scope="session")
def cell_run(drawn_cells: Path, drawn_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with view "cell" that knows crops of drawn cells, int8 and float16 beside it; not to be changed."""

    def make(folder: Path) -> None:
        run = RunFolder(folder / "runs" / "cells")
        train_head(drawn_cells, run, head_recipe(drawn_backbone, view="cell"), brief=True)
        convert_run(run, allow_small=True)

    return RunFolder(made_once(tmp_path_factory, "cell-workspace", make) / "runs" / "cells")


@pytest.fixture
def own_run(tiny_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run that a test may change."""
    shutil.copytree(tiny_run.path, tmp_path / "runs" / "tiny")
    point_latest(tmp_path / "runs" / "tiny", latest=tmp_path / "runs" / "latest")
    return RunFolder(tmp_path / "runs" / "tiny")


COLOURS = {  # RGB; the first is faint in what the network looks at, the others strong
    "EOSINOPHIL": (120, 100, 100),
    "LYMPHOCYTE": (60, 200, 160),
    "MONOCYTE": (60, 160, 200),
    "NEUTROPHIL": (200, 200, 60),
}


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run folder whose network, with weights set by hand, tells flat colours apart; `pictures` beside it.

    Converted in a second, sure of itself, and with 50 held-back pictures a class: enough for every gate.
    """
    return RunFolder(made_once(tmp_path_factory, "colours", make_colours) / "runs" / "colours")


def make_colours(folder: Path) -> None:
    """Fill the folder of `colours`."""
    from bloodcell_edge.dataset.pictures import Picture
    from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, Member, save_split
    from bloodcell_edge.files import sha256_file
    from bloodcell_edge.imaging.image import IMAGE_VERSION
    from bloodcell_edge.model.spec import ModelSpec, save_spec

    run = RunFolder(folder / "runs" / "colours")
    run.path.mkdir(parents=True)
    colour_net().save(run.model)
    save_spec(run.spec, ModelSpec("colours", tuple(COLOURS), "frame", (32, 32), "keras", IMAGE_VERSION))
    rows = []
    for path in draw_colours(folder / "pictures", per_class=80):
        picture = Picture(path, f"{path.parent.name}/{path.name}", path.parent.name, path.stem)
        rows.append(Member(picture, TRAIN if int(path.stem) < 30 else HELD_BACK, "", sha256_file(path)))
    save_split(run.split, rows)
    convert_run(run)


def colour_net() -> Any:
    """A Keras model that answers with the colour of `COLOURS` that a picture is most like."""
    import keras

    net = keras.Sequential(
        [
            keras.Input((32, 32, 3), name="image"),
            keras.layers.Rescaling(1 / 255, name="scale"),
            keras.layers.Conv2D(4, 1, activation="relu", name="hues"),
            keras.layers.GlobalAveragePooling2D(name="pool"),
            keras.layers.Dense(4, activation="softmax", name="probability"),
        ]
    )
    # how far one channel, or red and green together, stand out from the others: nothing in black, grey and white
    hues = np.array([[1, -0.5, -0.5], [-0.5, 1, -0.5], [-0.5, -0.5, 1], [0.5, 0.5, -1]], np.float32)
    net.get_layer("hues").set_weights([hues.T[None, None], np.zeros(4, np.float32)])
    net.get_layer("probability").set_weights([100 * np.eye(4, dtype=np.float32), np.zeros(4, np.float32)])
    return net


def draw_colours(folder: Path, *, per_class: int) -> list[Path]:
    """Flat pictures of each of `COLOURS` with a little noise, as LABEL/NUMBER.png."""
    from PIL import Image

    rng = np.random.default_rng(5)
    files = []
    for label, colour in COLOURS.items():
        (folder / label).mkdir(parents=True)
        for number in range(per_class):
            pixels = np.clip(colour + rng.normal(0, 3, (32, 32, 3)), 0, 255).astype(np.uint8)
            files.append(folder / label / f"{number}.png")
            Image.fromarray(pixels).save(files[-1])
    return files


@pytest.fixture
def own_colours(colours: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of `colours` that a test may change; `tmp_path` is where its runs/latest is."""
    shutil.copytree(colours.path, tmp_path / "runs" / "colours")
    point_latest(tmp_path / "runs" / "colours", latest=tmp_path / "runs" / "latest")
    return RunFolder(tmp_path / "runs" / "colours")
