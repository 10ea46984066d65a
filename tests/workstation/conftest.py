"""A tiny real model, trained once for all tests that need one."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bloodcell_edge.data import load_data
from bloodcell_edge.reporting import SILENT
from bloodcell_edge.runs import RunFolder, point_latest
from bloodcell_edge.smear import draw_folder

PER_CLASS = 160
SIZE = 64


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 640 drawn fields, one folder a class."""
    folder = tmp_path_factory.mktemp("drawn") / "pictures"
    draw_folder(folder, per_class=PER_CLASS, seed=11, size=(120, 160))
    return folder


@pytest.fixture(scope="session")
def workspace(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/latest in it: a MobileNetV2 0.35 trained on drawn fields, int8 and float16 beside it."""
    from bloodcell_edge.training.fit import train
    from bloodcell_edge.training.kerasmodel import open_keras
    from bloodcell_edge.training.recipes import choose_recipe
    from convert.export import convert_files
    from convert.representative import representative_pictures
    from convert.targets import Target

    folder = tmp_path_factory.mktemp("workspace")
    run = RunFolder(folder / "runs" / "tiny")
    recipe = choose_recipe("drawn", size=SIZE, epochs=8)
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


@pytest.fixture
def own_run(tiny_run: RunFolder, tmp_path: Path) -> RunFolder:
    """A copy of the run that a test may change."""
    shutil.copytree(tiny_run.path, tmp_path / "runs" / "tiny")
    point_latest(tmp_path / "runs" / "tiny", latest=tmp_path / "runs" / "latest")
    return RunFolder(tmp_path / "runs" / "tiny")
