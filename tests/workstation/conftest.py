"""A tiny real model, trained once for all tests that need one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.imaging.drawn import draw_folder
from bloodcell_edge.progress import SILENT
from bloodcell_edge.runs import RunFolder, point_latest

PER_CLASS = 160
SIZE = 64
EPOCHS = 20


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 640 drawn fields, one folder a class; no cell is drawn on the way to another type."""
    folder = tmp_path_factory.mktemp("drawn") / "pictures"
    draw_folder(folder, per_class=PER_CLASS, seed=11, size=(120, 160), ambiguity=0.0)
    return folder


@pytest.fixture(scope="session")
def workspace(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/latest in it: a MobileNetV2 0.35 trained on drawn fields, int8 and float16 beside it."""
    from bloodcell_edge.training.fit import train
    from bloodcell_edge.training.kerasmodel import open_keras
    from bloodcell_edge.training.recipes import choose_recipe
    from convert.files import convert_files
    from convert.representative import representative_pictures
    from convert.targets import Target

    folder = tmp_path_factory.mktemp("workspace")
    run = RunFolder(folder / "runs" / "tiny")
    recipe = choose_recipe("drawn", size=SIZE, epochs=EPOCHS)
    train(load_data(drawn), recipe, run, drawn=True, report=SILENT)
    model = open_keras(run.model)
    samples = representative_pictures(run.model, model.spec, None, allow_small=False, report=SILENT)
    convert_files(model, [Target.INT8, Target.FLOAT16], run.path, representative=samples, report=SILENT)
    point_latest(run.path, latest=folder / "runs" / "latest")
    return folder


@pytest.fixture(scope="session")
def tiny_run(workspace: Path) -> RunFolder:
    """The run in `workspace`; not to be changed."""
    return RunFolder(workspace / "runs" / "tiny")


@pytest.fixture(scope="session")
def drawn_cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 200 drawn fields of 320 x 240, one folder a class, with red cells enough to measure by."""
    folder = tmp_path_factory.mktemp("cells") / "pictures"
    draw_folder(folder, per_class=50, seed=12, size=(240, 320), ambiguity=0.0)
    return folder


@pytest.fixture(scope="session")
def cell_run(drawn_cells: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run with view "cell", trained on crops of drawn cells, int8 and float16 beside it; not to be changed."""
    from bloodcell_edge.training.fit import train
    from bloodcell_edge.training.kerasmodel import open_keras
    from bloodcell_edge.training.recipes import choose_recipe
    from convert.files import convert_files
    from convert.representative import representative_pictures
    from convert.targets import Target

    run = RunFolder(tmp_path_factory.mktemp("cell-workspace") / "runs" / "cells")
    train(
        load_data(drawn_cells),
        choose_recipe("drawn", view="cell", size=SIZE, epochs=EPOCHS),
        run,
        drawn=True,
        report=SILENT,
    )
    model = open_keras(run.model)
    samples = representative_pictures(run.model, model.spec, None, allow_small=True, report=SILENT)
    convert_files(model, [Target.INT8, Target.FLOAT16], run.path, representative=samples, report=SILENT)
    return run


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
    from bloodcell_edge.dataset.pictures import Picture
    from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, Member, save_split
    from bloodcell_edge.files import sha256_file
    from bloodcell_edge.imaging.image import IMAGE_VERSION
    from bloodcell_edge.model.spec import ModelSpec, save_spec
    from bloodcell_edge.training.kerasmodel import open_keras
    from convert.files import convert_files
    from convert.targets import Target

    folder = tmp_path_factory.mktemp("colours")
    run = RunFolder(folder / "runs" / "colours")
    run.path.mkdir(parents=True)
    colour_net().save(run.model)
    save_spec(run.spec, ModelSpec("colours", tuple(COLOURS), "frame", (32, 32), "keras", IMAGE_VERSION))
    rows = []
    for path in draw_colours(folder / "pictures", per_class=80):
        picture = Picture(path, f"{path.parent.name}/{path.name}", path.parent.name, path.stem)
        rows.append(Member(picture, TRAIN if int(path.stem) < 30 else HELD_BACK, "", sha256_file(path)))
    save_split(run.split, rows)
    chosen = [row.picture for row in rows if row.split == TRAIN]
    targets = [Target.INT8, Target.FLOAT16]
    convert_files(open_keras(run.model), targets, run.path, representative=chosen, report=SILENT)
    return run


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
