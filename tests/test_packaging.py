"""The wheel: what is in it, what it asks for, and that the old interpreter's way of installing holds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
import zipfile
from email import message_from_string
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints" / "tflite-runtime.txt"
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "runs", "bce-demo", "*.egg-info", "*.sqlite*")

MACHINES = {  # what a board calls itself, and the Python its system comes with -> the interpreter it gets
    ("x86_64", "3.13"): {"ai-edge-litert"},
    ("aarch64", "3.10"): {"ai-edge-litert"},
    ("aarch64", "3.13"): {"ai-edge-litert"},
    ("armv7l", "3.11"): {"tflite-runtime"},
    ("armv7l", "3.13"): set(),
    ("armv6l", "3.11"): set(),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the whole tree, tests and all."""
    folder = tmp_path_factory.mktemp("packaging")
    shutil.copytree(ROOT, folder / "tree", ignore=NOT_SOURCE)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder]
    subprocess.run([*build, folder / "tree"], check=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def files(wheel: Path) -> list[PurePosixPath]:
    """The paths of all files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return [PurePosixPath(name) for name in archive.namelist()]


def dist_info(wheel: Path, name: str) -> str:
    """The text of one file of the wheel's .dist-info folder."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (path for path in archive.namelist() if path.endswith(f".dist-info/{name}"))
        return archive.read(path).decode()


@pytest.fixture(scope="module")
def requirements(wheel: Path) -> list[Requirement]:
    """What the wheel asks for, extras included."""
    return [Requirement(line) for line in message_from_string(dist_info(wheel, "METADATA")).get_all("Requires-Dist")]


def asked_for(requirements: list[Requirement], *, machine: str, python: str, extra: str = "") -> dict[str, Requirement]:
    """The requirements that hold on one machine, by name."""
    environment = {"platform_machine": machine, "python_version": python, "sys_platform": "linux", "extra": extra}
    return {need.name: need for need in requirements if need.marker is None or need.marker.evaluate(environment)}


def test_the_wheel_has_two_packages_and_nothing_else(files):
    """The top-level names are exactly bloodcell_edge, convert and the .dist-info folder."""
    names = {path.parts[0] for path in files}

    assert {name for name in names if not name.endswith(".dist-info")} == {"bloodcell_edge", "convert"}
    assert len(names) == 3


def test_every_module_is_in_the_wheel(files):
    """Each .py file of the two packages travels, sub-packages included."""
    sources = {path.relative_to(ROOT) for name in ("bloodcell_edge", "convert") for path in (ROOT / name).rglob("*.py")}

    assert {str(path) for path in sources} == {str(path) for path in files if path.suffix == ".py"}


def test_the_wheel_carries_code_and_models_only(files):
    """No picture, test or cache is inside: code, what describes the wheel, and what stands in model/shipped/."""
    inside = [path for path in files if not path.parts[0].endswith(".dist-info")]
    models = [path for path in inside if path.parent == PurePosixPath("bloodcell_edge", "model", "shipped")]

    assert {path.suffix for path in inside if path not in models} <= {".py", ".typed"}
    assert {path.suffix for path in models} == {".tflite", ".npz", ".csv", ".md"}
    assert not [path for path in inside if path.name.startswith(("test_", "conftest"))]


@pytest.mark.parametrize("package", ["bloodcell_edge", "convert"])
def test_both_packages_say_that_they_are_typed(files, package):
    """py.typed is there, so that a user's mypy reads our types."""
    assert PurePosixPath(package, "py.typed") in files


def test_the_wheel_brings_the_command_and_the_licence(wheel):
    """`bce` is the one console script, and the licence's text travels along."""
    assert dist_info(wheel, "entry_points.txt").split() == ["[console_scripts]", "bce", "=", "bloodcell_edge.cli:main"]
    with zipfile.ZipFile(wheel) as archive:
        (licence,) = (name for name in archive.namelist() if name.endswith("LICENSE"))
        assert archive.read(licence) == (ROOT / "LICENSE").read_bytes()


def test_the_version_is_the_package_s(wheel):
    """The wheel's version is bloodcell_edge.__version__."""
    import bloodcell_edge

    assert message_from_string(dist_info(wheel, "METADATA"))["Version"] == bloodcell_edge.__version__


@pytest.mark.parametrize(("machine", "python"), MACHINES)
def test_a_device_gets_one_interpreter_and_no_tensorflow(requirements, machine, python):
    """The base install is numpy, OpenCV, click and the one interpreter that has wheels for the machine."""
    names = set(asked_for(requirements, machine=machine, python=python))

    assert names == {"numpy", "opencv-python-headless", "click", "tifffile"} | MACHINES[machine, python]


def test_tflite_runtime_never_meets_numpy_2(requirements):
    """Where tflite-runtime is asked for, numpy 2, under which it cannot make an Interpreter, is ruled out."""
    needs = asked_for(requirements, machine="armv7l", python="3.11")

    assert not needs["numpy"].specifier.contains(Version("2.0.0"))
    assert needs["numpy"].specifier.contains(Version("1.24.2"))  # Debian 12's, as 32-bit boards have it


def test_tensorflow_comes_with_train_and_dev_contains_train(requirements):
    """[train] adds TensorFlow and [dev] adds [train]."""
    train = asked_for(requirements, machine="x86_64", python="3.11", extra="train")
    dev = asked_for(requirements, machine="x86_64", python="3.11", extra="dev")

    assert {"tensorflow", "keras", "matplotlib", "flatbuffers", "kagglehub"} <= set(train)
    assert dev["bloodcell-edge"].extras == {"train", "watch"}


def constraint_lines() -> list[Requirement]:
    """The requirements in constraints/tflite-runtime.txt."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_the_constraints_name_what_setup_cfg_names(requirements):
    """constraints/tflite-runtime.txt lists the base install with the interpreter exchanged, as 32-bit boards get it."""
    assert {need.name for need in constraint_lines()} == set(asked_for(requirements, machine="armv7l", python="3.11"))


@pytest.mark.outside
@pytest.mark.may_skip
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="tflite-runtime 2.14 has no wheel for Python 3.12 and later")
def test_the_documented_way_onto_tflite_runtime(wheel, tmp_path):
    """As constraints/tflite-runtime.txt says: it installs, `bce --help` runs, the interpreter refuses junk by itself.

    A broken pair of tflite-runtime and numpy fails any Interpreter(...) with SystemError, never with ValueError.
    """
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]

    subprocess.run([*pip, "-r", CONSTRAINTS], check=True, timeout=600)
    subprocess.run([*pip, "--no-deps", wheel], check=True, timeout=300)

    help_text = subprocess.run([python.with_name("bce"), "--help"], check=True, capture_output=True, text=True).stdout
    assert re.match(r"Usage: bce", help_text)
    probe = "from tflite_runtime.interpreter import Interpreter; Interpreter(model_content=b'junk')"
    result = subprocess.run([python, "-c", probe], capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1].startswith("ValueError: Model provided has model identifier")
