from __future__ import annotations

import json
from html import escape


def test_the_page_of_the_latest_run(bce, own_run):
    """Without arguments the latest run's page goes into its folder and stdout names it; again makes it anew."""
    for _ in range(2):
        result = bce("report")

        assert (result.returncode, result.stdout, result.stderr) == (0, "runs/latest/report.html\n", "")
    page = (own_run.path / "report.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "says nothing about blood" in page
    assert 'src="data:image/png;base64,' in page


def test_the_report_shows_the_parity(bce, bce_here, own_run):
    """After `bce parity`, passed or not, the page has its figures."""
    bce_here("parity")
    parity = json.loads(own_run.parity.read_text())

    bce("report")

    page = (own_run.path / "report.html").read_text()
    for one in parity["candidates"]:
        assert f"{one['agreement']:.1f} %" in page
        assert escape(one["why"]) in page


def test_another_place_is_not_overwritten(bce, own_run, tmp_path):
    """--out writes there; where something is there already, only --force replaces it."""
    first = bce("report", "runs/tiny", "--out", "page.html")
    (tmp_path / "page.html").write_text("mine")
    second = bce("report", "runs/tiny", "--out", "page.html")
    assert (tmp_path / "page.html").read_text() == "mine"
    third = bce("report", "runs/tiny", "--out", "page.html", "--force")

    assert [one.returncode for one in (first, second, third)] == [0, 1, 0]
    assert second.stderr == "bce: error: page.html: exists already; give --force to replace it, or another place\n"
    assert (tmp_path / "page.html").read_text() != "mine"


def test_an_unfinished_run_has_no_report(bce, own_run):
    """A run without figures is an error that says to train."""
    own_run.metrics.unlink()

    result = bce("report")

    assert (result.returncode, result.stdout) == (1, "")
    assert "expected a finished run folder; run bce train DATA" in result.stderr
