"""Which model a command means."""

from pathlib import Path

import pytest

from bloodcell_edge.errors import MissingFile
from bloodcell_edge.model import choose
from bloodcell_edge.model.choose import DEVICE_FILE, choose_model
from bloodcell_edge.runs import LATEST, point_latest


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, and a package that ships no model."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(choose, "SHIPPED", tmp_path / "package" / "models")
    return tmp_path


def make(*files: str) -> None:
    for file in files:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_bytes(b"model")


def test_without_any_model_the_error_says_what_to_do(here):
    """No argument, nothing shipped, no runs/latest: what was looked for, and the commands that make one."""
    with pytest.raises(
        MissingFile, match=rf"no runs/latest/{DEVICE_FILE} here; run bce train DATA and bce convert, or"
    ):
        choose_model(None)
    with pytest.raises(MissingFile, match=r"no runs/latest/model\.keras here; run bce train DATA$"):
        choose_model(None, prefer="model.keras")


def test_the_latest_run_is_the_default(here):
    """Without an argument the int8 file of runs/latest, or what is preferred, and it says why."""
    make(f"runs/one/{DEVICE_FILE}", "runs/one/model.keras")
    point_latest(Path("runs/one"))

    assert str(choose_model(None)) == f"model: runs/latest/{DEVICE_FILE} (the latest run)"
    assert choose_model(None, prefer="model.keras").path == LATEST / "model.keras"


def test_a_shipped_model_comes_first(here):
    """Where the package ships the int8 file it is taken before runs/latest; convert and parity still take the run."""
    make(f"package/models/{DEVICE_FILE}", f"runs/latest/{DEVICE_FILE}", "runs/latest/model.keras")

    assert choose_model(None).path == here / "package/models" / DEVICE_FILE
    assert choose_model(None).why == "shipped with bce"
    assert choose_model(None, prefer="model.keras").path == LATEST / "model.keras"


def test_a_file_is_taken_as_it_is(here):
    """A path to a file wins over everything, whatever its suffix."""
    make("a.tflite", "sub/b.keras", f"package/models/{DEVICE_FILE}", "package/models/a.tflite")

    assert choose_model("a.tflite").path == Path("a.tflite")
    assert choose_model(Path("sub/b.keras")).why == "given"


def test_a_run_folder_gives_its_file(here):
    """A folder means the int8 file in it, or what is preferred."""
    make(f"runs/one/{DEVICE_FILE}", "runs/one/model.keras")

    assert choose_model("runs/one").path == Path("runs/one") / DEVICE_FILE
    assert choose_model("runs/one").why == "of the run folder runs/one"
    assert choose_model("runs/one", prefer="model.keras").path == Path("runs/one/model.keras")


@pytest.mark.parametrize("name", ["bloodcell-float16", "bloodcell-float16.tflite"])
def test_a_shipped_model_has_a_name(here, name):
    """With or without its suffix; a path with a folder in it is no name."""
    make("package/models/bloodcell-float16.tflite")

    assert choose_model(name).path == here / "package/models/bloodcell-float16.tflite"
    with pytest.raises(MissingFile):
        choose_model(f"sub/{name}")


@pytest.mark.parametrize(
    ("prefer", "says"),
    [
        (DEVICE_FILE, rf"expected {DEVICE_FILE} in this run folder, found bloodcell-float16\.tflite; run bce convert"),
        ("model.keras", r"expected model\.keras in this run folder, found bloodcell-float16\.tflite; run bce train"),
    ],
)
def test_a_folder_without_the_file_is_an_error(here, prefer, says):
    """What was expected, what is there instead, and the command that makes it."""
    make("runs/one/bloodcell-float16.tflite")
    with pytest.raises(MissingFile, match=f"runs/one: {says}, or name a file"):
        choose_model("runs/one", prefer=prefer)


def test_what_is_nothing_is_an_error(here):
    """A name that is no file, folder or shipped model says which of them were expected."""
    with pytest.raises(
        MissingFile, match=r"blood: no such model; expected a \.keras or \.tflite file, a run folder, or"
    ):
        choose_model("blood")
