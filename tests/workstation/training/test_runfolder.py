"""Which folder a run fills: a new one, or that of the same run, interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bloodcell_edge.dataset.pictures import Dataset, Picture
from bloodcell_edge.errors import DataError
from bloodcell_edge.files import write_json
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.recipes import choose_recipe
from bloodcell_edge.training.runfolder import is_unfinished, new_run_folder, run_config

FIELD = choose_recipe("field")
DATA = Dataset(Path("data"), ("A", "B"), (Picture(Path("data/1.png"), "1.png", "A"), Picture(Path("2"), "2.png", "B")))


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)


def begin(name, recipe=FIELD, dataset=DATA, *, finish=False):
    """What a run leaves when it is interrupted, or done."""
    run = RunFolder(Path("runs", name))
    write_json(run.config, run_config(recipe, dataset))
    if finish:
        write_json(run.metrics, {})
    return run


def test_first_run_has_number_1_and_nothing_is_made():
    """Without a name the folder is called by the recipe and a number; asking makes nothing."""
    assert new_run_folder(None, FIELD, DATA) == RunFolder(Path("runs/field-1"))
    assert list(Path.cwd().iterdir()) == []


def test_finished_runs_are_left_alone():
    """After a finished run comes the next number; gaps are filled; a longer number is no obstacle."""
    begin("field-1", finish=True)
    begin("field-3", finish=True)
    begin("original-2", finish=True)
    assert new_run_folder(None, FIELD, DATA).path.name == "field-2"
    begin("field-2", finish=True)
    assert new_run_folder(None, FIELD, DATA).path.name == "field-4"


def test_interrupted_run_goes_on():
    """An unfinished run of the same recipe and data is taken, wherever it stands; of another one it is passed over."""
    begin("field-1", replace(FIELD, seed=1))
    begin("field-2", finish=True)
    begin("field-3")
    assert new_run_folder(None, FIELD, DATA).path.name == "field-3"
    assert new_run_folder(None, replace(FIELD, seed=1), DATA).path.name == "field-1"
    assert new_run_folder(None, replace(FIELD, seed=2), DATA).path.name == "field-4"


def test_run_that_failed_before_it_began_is_taken_over():
    """A folder with a log alone holds no run; one with anything else is somebody's."""
    for number in (1, 2):
        Path(f"runs/field-{number}").mkdir(parents=True)
    Path("runs/field-1/notes.txt").write_text("mine")
    Path("runs/field-2/train.log").write_text("bce: error")
    assert new_run_folder(None, FIELD, DATA).path.name == "field-2"


def test_name_is_taken_as_it_is():
    """--name is a folder in runs/, there or not: whether it may be filled is seen later."""
    begin("mine", finish=True)
    assert new_run_folder("mine", FIELD, DATA) == RunFolder(Path("runs/mine"))
    assert new_run_folder("my run 2", FIELD, DATA) == RunFolder(Path("runs/my run 2"))


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "a/b", "/tmp/x", "latest"])
def test_names_that_lead_elsewhere(name):
    """A name that is no folder of its own in runs/ is refused: --force would delete what is there."""
    with pytest.raises(DataError, match=r"--name .*: expected the name of a folder to be made in runs/"):
        new_run_folder(name, FIELD, DATA)


def test_configuration_tells_runs_apart():
    """Recipe, labels, files, their labels and groups each make another run; the same ones, read again, do not."""
    run = begin("one")
    first, second = DATA.pictures
    others = [
        (replace(FIELD, alpha=0.5), DATA),
        (replace(FIELD, augmentation=None), DATA),
        (FIELD, replace(DATA, root=Path("elsewhere"))),
        (FIELD, replace(DATA, labels=("B", "A"))),
        (FIELD, replace(DATA, pictures=(first,))),
        (FIELD, replace(DATA, pictures=(first, replace(second, file="3.png")))),
        (FIELD, replace(DATA, pictures=(first, replace(second, label="A")))),
        (FIELD, replace(DATA, pictures=(first, replace(second, group="1")))),
    ]
    assert is_unfinished(run, run_config(FIELD, DATA))
    assert not any(is_unfinished(run, run_config(*other)) for other in others)
    write_json(run.metrics, {})
    assert not is_unfinished(run, run_config(FIELD, DATA))
