"""Fetching the Kaggle set: whole or not at all. `bce data kaggle` without a network is in test_cli_data.py."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from bloodcell_edge.dataset.kaggle import KAGGLE_SET, fetch_kaggle
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.errors import DownloadError, OutputExists, RuntimeMissing
from bloodcell_edge.imaging.drawn import draw_folder


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    """Kaggle as this machine has it: a folder laid out as the set unpacks, behind kagglehub's one function."""
    cached = tmp_path / "cached"
    draw_folder(cached / "dataset2-master" / "dataset2-master" / "images" / "TRAIN", per_class=1, seed=1, size=(60, 80))
    service = SimpleNamespace(asked=[], error=None)

    def dataset_download(name):
        service.asked.append(name)
        if service.error is not None:
            raise service.error
        return str(cached)

    service.dataset_download = dataset_download
    monkeypatch.setitem(sys.modules, "kagglehub", service)
    return service


def test_set_is_fetched_and_can_be_read(kaggle, tmp_path):
    """The folder that comes back is DATA as it is, nothing else is left, and kagglehub's own copy stays."""
    out = fetch_kaggle(tmp_path / "data" / "blood")
    assert out == tmp_path / "data" / "blood"
    assert kaggle.asked == [KAGGLE_SET]
    assert len(load_data(out).pictures) == 4
    assert [path.name for path in out.parent.iterdir()] == ["blood"]
    assert (tmp_path / "cached" / "dataset2-master").is_dir()


def test_existing_folder_is_kept_without_force(kaggle, tmp_path):
    """A folder that is there is not touched, nor is anything fetched; with force it is replaced."""
    out = tmp_path / "blood"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputExists, match="blood: exists already; give --force"):
        fetch_kaggle(out)
    assert kaggle.asked == []
    fetch_kaggle(out, force=True)
    assert [path.name for path in out.iterdir()] == ["dataset2-master"]


def test_leftovers_of_an_earlier_copy_are_no_obstacle(kaggle, tmp_path):
    """A copy that was cut short before is made afresh."""
    (tmp_path / ".blood-partial").mkdir()
    (tmp_path / ".blood-partial" / "half").write_text("x")
    assert [path.name for path in fetch_kaggle(tmp_path / "blood").iterdir()] == ["dataset2-master"]


@pytest.mark.parametrize("error", [OSError("no route\nto host"), RuntimeError(""), ValueError("403")])
def test_failure_says_what_to_do(kaggle, tmp_path, error):
    """Whatever kagglehub raises is one line with the reason and the way by hand; nothing is made."""
    kaggle.error = error
    with pytest.raises(
        DownloadError, match=r"cannot be fetched \(.+\)\. Download it where there is .* unpack"
    ) as caught:
        fetch_kaggle(tmp_path / "blood")
    assert "\n" not in str(caught.value)
    assert type(error).__name__ in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["cached"]


def test_without_kagglehub(monkeypatch, tmp_path):
    """Where kagglehub is not installed the message says what to install."""
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(RuntimeMissing, match=r'kagglehub is not installed; pip install "bloodcell-edge\[train\]"'):
        fetch_kaggle(tmp_path / "blood")
