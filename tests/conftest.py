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
