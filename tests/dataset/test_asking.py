"""Asking models about labelled pictures: what is shown, what is said, what has no cell; without TensorFlow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from bloodcell_edge.dataset.asking import Answers, ask_while_reading, read_questions
from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.image import IMAGE_VERSION
from bloodcell_edge.model.calibration import NONE
from bloodcell_edge.model.spec import ModelSpec
from bloodcell_edge.progress import SILENT

LABELS = ("RED", "GREEN", "BLUE")


@dataclass(frozen=True)
class Colours:
    """A model that says how red, green and blue a picture is, and counts how often it is asked."""

    spec: ModelSpec
    asked: list[int]
    path: None = None

    def scores(self, pixels):
        self.asked.append(len(pixels))
        means = pixels.reshape(len(pixels), -1, 3).mean(axis=1)
        return (means / means.sum(axis=1, keepdims=True)).astype(np.float32)


def model(view="frame", size=8):
    crop_um = 20.0 if view == "cell" else None
    return Colours(ModelSpec(view, LABELS, view, (size, size), "int8", IMAGE_VERSION, crop_um=crop_um), [])


@pytest.fixture
def pictures(tmp_path):
    """A drawn field with a cell, a picture without one, one that is no picture, and another field, of another class."""
    images = {
        "a.png": draw_field(3, ("NEUTROPHIL",)).image,
        "b.png": np.full((240, 320, 3), 230, np.uint8),
        "c.png": None,
        "d.png": draw_field(4, ("MONOCYTE",)).image,
    }
    found = []
    for (name, image), label in zip(images.items(), ("RED", "GREEN", "BLUE", "GREY"), strict=True):
        path: Path = tmp_path / name
        path.write_bytes(b"none" if image is None else cv2.imencode(".png", image[..., ::-1])[1].tobytes())
        found.append(Picture(path, name, label, "cell 1" if name == "a.png" else None))
    return found


def answers_of(tops, *, found=True, marked=False, cut=False):
    """Answers with these top scores, all for the first label."""
    n = len(tops)
    scores = np.array([[top, (1 - top) / 2, (1 - top) / 2] for top in tops])
    pictures = tuple(Picture(Path(f"{i}.png"), f"{i}.png", "RED", str(i)) for i in range(n))
    there, marks, cuts = (np.broadcast_to(np.array(one, bool), n).copy() for one in (found, marked, cut))
    return Answers(pictures, np.where(there[:, None], scores, np.nan), there, marks, cuts)


def test_a_picture_without_a_cell_has_no_scores(pictures):
    """Its scores are NaN and it is not found; the model is asked once, about the others together."""
    cells = model("cell", 32)
    answers = read_questions(pictures, [cells.spec.shown_as]).ask(cells)

    assert [one.file for one in answers.pictures] == ["a.png", "b.png", "d.png"]
    assert answers.found.tolist() == [True, False, True]
    assert np.isnan(answers.scores).all(axis=1).tolist() == [False, True, False]
    assert cells.asked == [2]


def test_what_cannot_be_read_is_named(pictures):
    """The unreadable file is in no answer, and is told by name and reason."""
    questions = read_questions(pictures, [model().spec.shown_as])

    assert [one.file for one in questions.unreadable] == ["c.png"]
    assert "found a file that begins with b'none'" in questions.unreadable[0].error


def test_what_is_not_wanted_is_left_out(pictures):
    """`leave_out` sees each opened file, its hash too; what it turns away is named and not asked about."""
    seen = {}

    def leave_out(opened):
        seen[opened.picture.file] = opened.sha256
        return opened.picture.file == "d.png"

    questions = read_questions(pictures, [model().spec.shown_as], leave_out=leave_out)

    assert [one.file for one in questions.pictures] == ["a.png", "b.png"]
    assert [one.file for one in questions.left_out] == ["d.png"]
    assert {len(sha256) for sha256 in seen.values()} == {64}


def test_models_are_asked_alike_while_pictures_are_read(pictures):
    """Several models, each in its own view, say the same as when they are asked afterwards, about the same pictures."""
    frames, cells = model(), model("cell", 32)
    together, bad = ask_while_reading([frames, cells], pictures, SILENT)

    for one, said in zip((frames, cells), together, strict=True):
        alone = read_questions(pictures, [one.spec.shown_as]).ask(one)
        assert said.pictures == alone.pictures
        assert np.array_equal(said.scores, alone.scores, equal_nan=True)
        assert np.array_equal(said.found, alone.found)
    assert [one.file for one in bad] == ["c.png"]


def test_nothing_to_ask_about():
    """Without pictures there are answers to none, and no model is asked."""
    one = model()
    (answers,), bad = ask_while_reading([one], [], SILENT)

    assert (len(answers), answers.scores.shape, bad, one.asked) == (0, (0, 3), (), [])
    assert answers.rejections(0.5) == {"n": 0, "rejected": 0, "unidentified": 0, "no_cell": 0}


def test_named_are_cells_that_score_enough_and_have_no_mark():
    """A threshold is reached at equality; without one every cell that has no mark is named."""
    answers = answers_of([0.9, 0.5, 0.4, 0.9, 0.9], found=[1, 1, 1, 0, 1], marked=[0, 0, 0, 0, 1])

    assert answers.named(0.5).tolist() == [True, True, False, False, False]
    assert answers.named(None).tolist() == [True, True, True, False, False]
    assert answers.rejections(0.5) == {"n": 5, "rejected": 3, "unidentified": 2, "no_cell": 1}


def test_a_cut_cell_is_not_evaluated(tmp_path):
    """A picture of nothing but half a cell at its edge is marked and cut; the figures leave it out of the coverage."""
    drawn = draw_field(1, ("LYMPHOCYTE",), size=(480, 640))
    middle = drawn.cells[0].x + drawn.cells[0].width // 2
    path = tmp_path / "half.png"
    cv2.imwrite(str(path), drawn.image[:, middle:, ::-1])
    cells = model("cell", 32)
    answers = read_questions([Picture(path, path.name, "RED")], [cells.spec.shown_as]).ask(cells)

    assert (answers.found.tolist(), answers.marked.tolist(), answers.cut.tolist()) == ([True], [True], [True])
    assert answers.rejections(None) == {"n": 1, "rejected": 1, "unidentified": 1, "no_cell": 0}
    figures = answers_of([0.9, 0.8], marked=[1, 0], cut=[1, 0]).figures(model().spec)
    assert (figures.coverage, figures.coverage_all, figures.cut) == (1.0, 0.5, 1)


def test_truth_and_figures(pictures):
    """Labels become positions, other classes none; by photograph only where every picture's group is known."""
    answers = read_questions(pictures, [model().spec.shown_as]).ask(model())
    ours = answers.rows(answers.truth(LABELS) != NONE)

    assert answers.truth(LABELS).tolist() == [0, 1, NONE]
    assert [one.label for one in ours.pictures] == ["RED", "GREEN"]
    assert ours.figures(model().spec).interval.n_groups is None
    assert answers_of([0.9, 0.8]).figures(model().spec).interval.n_groups == 2
    assert answers_of([0.9, 0.8], found=[1, 0]).figures(model().spec).no_cell == 1
