from __future__ import annotations

import re

NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": ""}
"""A proxy at the discard port, where nobody listens: every connection is refused at once."""


def test_without_a_network_kaggle_is_an_error(bce, tmp_path):
    """`bce data kaggle` without a network: one line that says why and what to do, exit 1, nothing left behind."""
    result = bce("data", "kaggle", "--out", "blood", env=NO_NETWORK)

    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"bce: error: paultimothymooney/blood-cells cannot be fetched \(.*\).*\n", result.stderr)
    assert "unpack it into blood, and run bce audit blood" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_not_replaced(bce, tmp_path):
    """Where the folder is there already, nothing is fetched and nothing touched."""
    (tmp_path / "blood").mkdir()
    (tmp_path / "blood" / "mine.txt").write_text("mine")

    result = bce("data", "kaggle", "--out", "blood", env=NO_NETWORK)

    assert result.returncode == 1
    assert result.stderr == "bce: error: blood: exists already; give --force to replace it, or another place\n"
    assert (tmp_path / "blood" / "mine.txt").read_text() == "mine"


def test_a_failed_fetch_keeps_what_was_there(bce, tmp_path):
    """With --force the old folder stands until the new one is whole."""
    (tmp_path / "blood").mkdir()

    result = bce("data", "kaggle", "--out", "blood", "--force", env=NO_NETWORK)

    assert result.returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["blood"]
