import shutil
import threading
from pathlib import Path

import pytest

from bloodcell_edge.errors import OutputExists
from bloodcell_edge.runs import LATEST, RunFolder, point_latest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(*files: str) -> None:
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_bytes(b"model")


# runs/latest


def test_latest_is_a_relative_link(here):
    """runs/latest leads to the run, says only its name, and survives the move of the folder that holds both."""
    make("runs/one/model.keras")
    point_latest(Path("runs/one"))

    assert LATEST.readlink() == Path("one")
    shutil.move("runs", "elsewhere")
    assert Path("elsewhere/latest/model.keras").read_bytes() == b"model"


def test_latest_moves_on(here):
    """The next run replaces the link, and the same run may be named again."""
    make("runs/one/x", "runs/two/x")
    for name in ("one", "two", "two"):
        point_latest(Path("runs") / name)
        assert LATEST.resolve().name == name
    assert sorted(path.name for path in Path("runs").iterdir()) == ["latest", "one", "two"]


def test_latest_may_lead_elsewhere(here):
    """A run outside runs/, given absolutely, is found too; runs/ is made where it is not there."""
    make("far/away/model.keras")
    point_latest((here / "far" / "away").absolute())

    assert (LATEST / "model.keras").is_file()
    assert not LATEST.readlink().is_absolute()


def test_a_link_that_leads_nowhere_is_replaced(here):
    """A run that was deleted does not stand in the way of the next."""
    make("runs/two/x")
    LATEST.symlink_to("one")
    point_latest(Path("runs/two"))

    assert LATEST.resolve().name == "two"


def test_a_folder_called_latest_is_not_touched(here):
    """Copied without its links, latest may be a folder: told in one line, and left as it is."""
    make("runs/one/x", "runs/latest/model.keras")
    with pytest.raises(OutputExists, match="runs/latest: expected a link to the latest run, found a folder; rename it"):
        point_latest(Path("runs/one"))
    assert sorted(path.name for path in Path("runs").iterdir()) == ["latest", "one"]


def test_latest_is_never_absent(here):
    """While the link moves 500 times, whoever looks finds one of the runs."""
    make("runs/one/model.keras", "runs/two/model.keras")
    point_latest(Path("runs/one"))
    stop = threading.Event()

    def move():
        while not stop.is_set():
            for name in ("two", "one"):
                point_latest(Path("runs") / name)

    thread = threading.Thread(target=move)
    thread.start()
    seen = [(LATEST / "model.keras").is_file() for _ in range(500)]
    stop.set()
    thread.join()

    assert all(seen)


# Which model


def test_a_run_folder_names_its_files(here):
    """Every name is inside, all are different, and converted files are listed in order."""
    run = RunFolder(Path("runs/one"))
    names = [getattr(run, name) for name, value in vars(RunFolder).items() if isinstance(value, property)]
    make("runs/one/b.tflite", "runs/one/a.tflite", "runs/one/model.keras")

    assert len(set(names)) == len(names)
    assert {path.parent for path in names} == {Path("runs/one")}
    assert [path.name for path in run.tflite_files()] == ["a.tflite", "b.tflite"]
