"""What all tests share: a HOME of their own, ../shared, the installed `bce`, and no silent skips with CI=true."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
IN_CI = os.environ.get("CI") == "true"

_home = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Give the session a HOME that is removed at its end, before Keras or matplotlib can read the real one."""
    home = Path(tempfile.mkdtemp(prefix="bce-home-"))
    config.stash[_home] = home
    os.environ |= {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "KERAS_HOME": str(home / ".keras"),
        "MPLCONFIGDIR": str(home / ".matplotlib"),
        "MPLBACKEND": "agg",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the session's HOME."""
    shutil.rmtree(config.stash[_home], ignore_errors=True)


def pytest_report_header() -> str:
    """Say which bloodcell_edge is tested: the tree's or an installed wheel's."""
    import bloodcell_edge

    return f"bloodcell_edge: {bloodcell_edge.__version__} from {Path(bloodcell_edge.__file__).parent}"


def _fail_if_skipped(report: Any) -> None:
    """With CI=true a skip hides what was to be proven: make it a failure that tells the reason."""
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure with CI=true: {report.longrepr[2]}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Turn a skipped test into a failed one with CI=true, unless it is marked may_skip."""
    report = yield
    if not item.get_closest_marker("may_skip"):
        _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """The same for a whole module that skips itself, as pytest.importorskip does."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder ../shared beside the clone (with CI=true it must be there)."""
    folder = ROOT.parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip("no ../shared beside the clone: the real pictures and weights are there")
    return folder


@pytest.fixture
def bce(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed `bce` script in tmp_path: ``bce("classify", path, timeout=60)``, output as text.

    Keywords are those of subprocess.run, `env` adds to the environment.
    """
    script = Path(sys.executable).parent / "bce"
    if not script.exists():
        pytest.fail(f"{script} is not there: install the project into this environment (make test does)")

    def run(*arguments: str | Path, timeout: float = 120, **options: Any) -> subprocess.CompletedProcess[str]:
        options["env"] = {**os.environ, **options.get("env", {})}
        options = {"cwd": tmp_path, "stdin": subprocess.DEVNULL, **options}
        if "input" in options:
            del options["stdin"]
        command = [script, *arguments]
        return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=timeout, check=False, **options)

    return run


@pytest.fixture
def bce_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `bce` as the fixture `bce` does, but inside this process, which need not load TensorFlow again."""

    def run(*arguments: str | Path, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        from bloodcell_edge import cli

        command = ["bce", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        monkeypatch.chdir(cwd)
        capfd.readouterr()  # what came before is not this command's
        with pytest.raises(SystemExit) as leaving:
            cli.main()
        return subprocess.CompletedProcess(command, leaving.value.code, *capfd.readouterr())

    return run


TINY_SIZE = (64, 48)


@pytest.fixture(scope="session")
def tiny_flatbuffers() -> dict[str, bytes]:
    """Real TFLite models of a few kB, untrained, without a spec: "float32" and "int8".

    64 x 48 RGB 0..255 in; three probabilities out, which say how red, green and blue the picture is.
    """
    pytest.importorskip("tensorflow")
    import keras
    import numpy as np

    from convert.targets import Target
    from convert.tflite import to_tflite

    net = keras.Sequential([
        keras.Input((*TINY_SIZE, 3)),
        keras.layers.Rescaling(1 / 127.5, -1),
        keras.layers.Conv2D(3, 1, use_bias=False),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax", use_bias=False),
    ])  # fmt: skip
    net.set_weights([np.eye(3)[np.newaxis, np.newaxis], 2 * np.eye(3)])
    samples = np.random.default_rng(1).integers(0, 256, (20, 1, 1, 3), np.uint8).repeat(64, 1).repeat(48, 2)
    samples[0], samples[1] = 0, 255
    targets = (Target.FLOAT32, Target.INT8)
    return {target.value: to_tflite(net, target=target, representative=samples) for target in targets}


@pytest.fixture
def tiny_model(tiny_flatbuffers: dict[str, bytes], tmp_path: Path) -> Callable[..., Path]:
    """Write a model file as `bce convert` would: ``tiny_model("int8", name="a.tflite", reject_threshold=0.5)``."""
    from bloodcell_edge.imaging.image import IMAGE_VERSION
    from bloodcell_edge.model.file import pack
    from bloodcell_edge.model.spec import ModelSpec

    def write(target: str = "int8", *, name: str = "bloodcell-int8.tflite", **changes: Any) -> Path:
        spec = ModelSpec("tiny", ("RED", "GREEN", "BLUE"), "frame", TINY_SIZE, target, IMAGE_VERSION)
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(tiny_flatbuffers[target], spec.with_(**changes)))
        return path

    return write


@pytest.fixture
def tiny_cell_model(tiny_model: Callable[..., Path]) -> Callable[..., Path]:
    """The same with view "cell": says of each located cell how red, green and blue its surroundings are."""

    def write(target: str = "int8", *, name: str = "cell-int8.tflite", **changes: Any) -> Path:
        return tiny_model(target, name=name, **{"view": "cell", "crop_um": 20.0, **changes})

    return write
