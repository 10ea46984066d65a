"""The rules that every other test relies on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SKIPS = """
import pytest

def test_plain_skip():
    pytest.skip("no camera")

@pytest.mark.may_skip
def test_allowed_skip():
    pytest.skip("no Python 3.10")

@pytest.mark.xfail(reason="known")
def test_expected_failure():
    assert False
"""


def run_pytest(folder: Path, *, ci: str) -> str:
    """Run pytest with the house's conftest.py in a folder, with CI set; what it printed."""
    conftest = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    (folder / "conftest.py").write_text(conftest, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    may_skip:\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", folder]
    result = subprocess.run(
        command, cwd=folder, env={**os.environ, "CI": ci}, capture_output=True, text=True, timeout=120, check=False
    )
    return result.stdout + result.stderr


def test_with_ci_a_skip_is_a_failure_unless_allowed(tmp_path):
    """CI=true turns a skip into a failure with its reason; may_skip and xfail are left as they are."""
    (tmp_path / "test_skips.py").write_text(SKIPS)

    output = run_pytest(tmp_path, ci="true")

    assert "1 failed, 1 skipped, 1 xfailed" in output
    assert "skipped, which is a failure with CI=true: Skipped: no camera" in output


def test_with_ci_a_module_that_skips_itself_is_an_error(tmp_path):
    """CI=true turns a module's importorskip into an error that names the missing package."""
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")

    output = run_pytest(tmp_path, ci="true")

    assert "1 error" in output
    assert "could not import 'no_such_package'" in output


def test_without_ci_a_skip_is_a_skip(tmp_path):
    """Without CI=true a skip stays a skip."""
    (tmp_path / "test_skips.py").write_text(SKIPS)

    assert "2 skipped, 1 xfailed" in run_pytest(tmp_path, ci="")


@pytest.mark.parametrize("variable", ["HOME", "KERAS_HOME", "MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"])
def test_tests_have_a_home_of_their_own(variable):
    """Nothing that a test starts can write to the user's HOME: each variable that leads there leads elsewhere."""
    assert "bce-home-" in os.environ[variable]


def test_bce_runs_in_the_test_s_folder(bce, tmp_path):
    """The fixture `bce` runs the installed script, text out, and leaves nothing in the test's folder."""
    result = bce("--help")

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("Usage: bce")
    assert list(tmp_path.iterdir()) == []
