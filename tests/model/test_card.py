"""The model card: what stands in a spec, in sections that a terminal and a README show alike."""

from __future__ import annotations

from bloodcell_edge.imaging.image import IMAGE_VERSION
from bloodcell_edge.model.card import Section, as_markdown, interval, sections, share
from bloodcell_edge.model.spec import ModelSpec

LABELS = ("LYMPHOCYTE", "NEUTROPHIL")
ONE = {"n": 10, "recall": 0.9, "precision": 0.75, "f1": 0.818, "specificity": 0.7}
FIGURES = {
    "n": 20,
    "n_groups": 12,
    "accuracy": 0.85,
    "accuracy_interval": [0.621, 0.968],
    "interval_method": "exact",
    "balanced_accuracy": 0.85,
    "no_cell": 1,
    "target": "int8",
    "per_class": dict.fromkeys(LABELS, ONE),
    "recall_intervals": {"LYMPHOCYTE": [0.555, 0.998], "NEUTROPHIL": None},
}
CALIBRATION = {"ece": 0.0123, "ece_before": 0.08, "temperature": 0.7, "target": "int8", "n": 19, "fitted_on": "half"}
REJECTION = {
    "threshold": 0.6,
    "coverage": 0.95,
    "coverage_interval": [0.9, 0.98],
    "risk": 0.01,
    "n": 20,
    "fitted_on": "half",
    "unknown": 8,
    "unknown_rejected": 0.875,
}


def spec(**changes):
    return ModelSpec("made", LABELS, "frame", (32, 32), "int8", IMAGE_VERSION).with_(**changes)


def by_title(found):
    return {section.title: section for section in found}


def test_a_spec_that_says_nothing_has_no_sections():
    """No figure, no section: a card makes nothing up."""
    assert sections(spec()) == []


def test_figures_stand_with_n_and_interval():
    """The held-back table has a row a class, with its n and its interval; the line names the file measured."""
    (found,) = sections(spec(figures=FIGURES))
    assert found.rows[0] == ("lymphocyte", "10", "90.0 %", "55.5 to 99.8", "75.0 %", "81.8 %")
    assert found.rows[1][3] == "none"
    assert "n = 20 of 12 photographs" in found.lines[0]
    assert "measured on the int8 file" in found.lines[0]


def test_calibration_and_rejection_say_where_they_were_fitted():
    """Each has its sentence; other classes stand beside the coverage."""
    found = by_title(sections(spec(figures={"calibration": CALIBRATION, "rejection": REJECTION})))
    assert "error 0.012" in found["Calibration"].lines[0]
    assert found["Rejection"].lines[0].endswith("n = 20; half")
    assert found["Rejection"].lines[1] == "of 8 held-back pictures of other classes 87.5 % are rejected"


def test_the_mean_of_ingredients_is_of_all_directions():
    """Each row has the mean of its own directions."""
    rows = [{"what": "bare", "a to b": 0.5, "b to a": 0.7, "seeds": 1}]
    (found,) = sections(spec(card={"ingredients": rows}))
    assert found.head == ("recipe", "a to b", "b to a", "mean", "seeds")
    assert found.rows == (("bare", "50.0 %", "70.0 %", "60.0 %", "1"),)


def test_markdown_has_a_rule_below_the_head():
    """Tables are Markdown's, lines a list, titles headings."""
    text = as_markdown([Section("Title", ("One.",), ("a", "b"), (("1", "2"),))], level=2)
    assert text == "## Title\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n- One."


def test_what_is_undefined_is_called_none():
    """No figure is never 0."""
    assert (share(None), interval(None)) == ("none", "none")
