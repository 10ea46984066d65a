"""The plots of a run: written whole, of the size they promise, and about the data they were given."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.statistics.metrics import evaluate
from bloodcell_edge.training.plots import plot_confusion, plot_curves, plot_mistakes, plot_reliability, save_plots
from bloodcell_edge.training.sheet import BLUE, ORANGE, PURPLE

LABELS = ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL")


def history(*stages, final=0.3):
    """Rows of so many (name, epochs), the loss falling to `final`."""
    rows = []
    for name, epochs in stages:
        for epoch, loss in enumerate(np.linspace(1.2, final, epochs), 1):
            values = {"loss": loss, "accuracy": 1 - loss / 2, "val_loss": loss + 0.2, "val_accuracy": 0.9 - loss / 2}
            rows.append({"stage": name, "epoch": epoch, **values})
    return rows


def answers(n=200, *, spread=1.5, seed=1):
    """True labels (n,) and probabilities (n, 4) that are right more often than not."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(len(LABELS), size=n)
    logits = rng.normal(size=(n, len(LABELS))) * spread
    logits[np.arange(n), truth] += 2.0
    scores = np.exp(logits)
    return truth, scores / scores.sum(axis=1, keepdims=True)


def colours(path):
    """How many pixels have exactly each colour, as {"#rrggbb": n}."""
    found, counts = np.unique(read_image(path).reshape(-1, 3), axis=0, return_counts=True)
    return {f"#{r:02x}{g:02x}{b:02x}": int(n) for (r, g, b), n in zip(found.tolist(), counts, strict=True)}


def write_picture(path, colour):
    """A picture of one RGB colour, 64 x 48."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((48, 64, 3), colour[::-1], np.uint8))
    return path


def one_hot(*labels):
    """Scores of pictures of which the model is quite sure, falling a little from one to the next."""
    scores = np.full((len(labels), len(LABELS)), 0.01)
    for row, label in enumerate(labels):
        scores[row, LABELS.index(label)] = 0.95 - 0.1 * row
    return scores


def size(path):
    """(width, height) in pixels."""
    return read_image(path).shape[1::-1]


@pytest.fixture
def evaluation():
    truth, scores = answers()
    return evaluate(truth, scores, LABELS)


def test_save_plots_writes_all_four_and_leaves_nothing_else(tmp_path, evaluation):
    """The folder is made and holds the four PNGs, whole, and no temporary file."""
    picture = Picture(write_picture(tmp_path / "a.png", (200, 40, 90)), "a.png", "MONOCYTE")
    folder = tmp_path / "run" / "plots"
    save_plots(folder, history=history(("head", 3)), evaluation=evaluation, pictures=[picture],
               scores=one_hot("NEUTROPHIL"))  # fmt: skip

    assert sorted(path.name for path in folder.iterdir()) == [
        "confusion.png", "curves.png", "mistakes.png", "reliability.png",
    ]  # fmt: skip
    assert all(len(colours(path)) > 50 for path in folder.iterdir())


def test_without_a_history_there_are_no_curves(tmp_path, evaluation):
    """A model that was only evaluated has no epochs to draw: the other three plots are made."""
    picture = Picture(write_picture(tmp_path / "a.png", (200, 40, 90)), "a.png", "MONOCYTE")
    save_plots(tmp_path / "plots", evaluation=evaluation, pictures=[picture], scores=one_hot("NEUTROPHIL"))

    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert names == ["confusion.png", "mistakes.png", "reliability.png"]


def test_a_plot_replaces_an_older_one_only_when_it_is_whole(tmp_path):
    """A history that cannot be drawn raises and leaves the plot that was there, and no other file."""
    path = tmp_path / "curves.png"
    path.write_bytes(b"older")
    with pytest.raises(KeyError, match="val_loss"):
        plot_curves([{"stage": "head", "epoch": 1, "loss": 1.0, "accuracy": 0.5}], path)

    assert [one.name for one in tmp_path.iterdir()] == ["curves.png"]
    assert path.read_bytes() == b"older"


def test_the_same_data_gives_the_same_bytes(tmp_path, evaluation):
    """A plot holds no date and no chance, so that two runs can be compared."""
    for name in ("a.png", "b.png"):
        plot_reliability(evaluation, tmp_path / name)

    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_curves_have_their_size_and_follow_the_history(tmp_path):
    """960 x 720 pixels, other epochs another picture, and numbers may come as a CSV's text."""
    rows = history(("head", 8), ("fine-tune 12 blocks", 8))
    plot_curves(rows, tmp_path / "a.png")
    plot_curves([{key: str(value) for key, value in row.items()} for row in rows], tmp_path / "text.png")
    plot_curves(history(("head", 8), ("fine-tune 12 blocks", 8), final=0.8), tmp_path / "b.png")

    assert size(tmp_path / "a.png") == (960, 720)
    assert np.array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "text.png"))
    assert not np.array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png"))


def test_only_a_leaky_stage_is_drawn_in_the_leaky_colour(tmp_path):
    """Purple is there where a stage is called leaky and nowhere else; its validation is never in the honest colour."""
    plot_curves(history(("leaky", 6), ("head", 6)), tmp_path / "both.png")
    plot_curves(history(("leaky", 6)), tmp_path / "leaky.png")
    plot_curves(history(("head", 6)), tmp_path / "honest.png")
    both, leaky, honest = (colours(tmp_path / f"{name}.png") for name in ("both", "leaky", "honest"))

    assert all(seen.get(BLUE, 0) > 500 for seen in (both, leaky, honest))
    assert [seen.get(PURPLE, 0) > 500 for seen in (both, leaky, honest)] == [True, True, False]
    assert [seen.get(ORANGE, 0) > 200 for seen in (both, leaky, honest)] == [True, False, True]


@pytest.mark.parametrize("rows", [[], history(("head", 1))])
def test_curves_of_hardly_any_epoch_are_drawn(tmp_path, rows):
    """No epoch, or one, is no error."""
    plot_curves(rows, tmp_path / "curves.png")

    assert len(colours(tmp_path / "curves.png")) > 20


def test_confusion_has_a_no_cell_column_only_where_a_picture_had_none(tmp_path):
    """Four classes are 760 x 560 pixels; pictures without a cell make it a column wider."""
    truth, scores = answers()
    plot_confusion(evaluate(truth, scores, LABELS), tmp_path / "without.png")
    plot_confusion(evaluate(truth, scores, LABELS, no_cell=np.arange(200) < 5), tmp_path / "with.png")

    width, height = size(tmp_path / "without.png")
    assert (width, height) == (760, 560)
    assert size(tmp_path / "with.png") == (196 + 5 * 128 + 36, height)


def test_confusion_is_blue_where_right_and_orange_where_wrong(tmp_path):
    """All right fills the diagonal with full blue and no orange; all wrong the other way round."""
    truth, wrong = np.arange(4).repeat(5), (np.arange(4).repeat(5) + 1) % 4
    plot_confusion(evaluate(truth, np.eye(4)[truth], LABELS), tmp_path / "right.png")
    plot_confusion(evaluate(truth, np.eye(4)[wrong], LABELS), tmp_path / "wrong.png")
    right, wrong_ones = colours(tmp_path / "right.png"), colours(tmp_path / "wrong.png")

    cells = 4 * 128 * 96
    assert right[BLUE] > 0.8 * cells > 0 == right.get(ORANGE, 0)
    assert wrong_ones[ORANGE] > 0.8 * cells > 0 == wrong_ones.get(BLUE, 0)


def test_confusion_of_a_class_without_pictures_is_drawn(tmp_path):
    """A row of nothing divides by nothing."""
    plot_confusion(evaluate(np.zeros(3, np.int64), np.eye(4)[[0, 0, 1]], LABELS), tmp_path / "one.png")

    assert size(tmp_path / "one.png") == (760, 560)


def test_reliability_has_its_size_and_follows_the_scores(tmp_path, evaluation):
    """760 x 720 pixels; bolder scores of the same answers give another diagram."""
    truth, scores = answers(spread=3.0)
    plot_reliability(evaluation, tmp_path / "a.png")
    plot_reliability(evaluate(truth, scores, LABELS), tmp_path / "b.png")

    assert size(tmp_path / "a.png") == (760, 720)
    assert not np.array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png"))


def test_reliability_without_any_cell_is_drawn(tmp_path):
    """Nothing to calibrate is no error: no bar, and the error is a dash."""
    truth, scores = answers(4)
    plot_reliability(evaluate(truth, scores, LABELS, no_cell=np.ones(4, np.bool_)), tmp_path / "none.png")

    assert size(tmp_path / "none.png") == (760, 720)


def test_mistakes_show_the_wrong_pictures_surest_first(tmp_path):
    """Two wrong pictures stand left to right by score, four to a row; a right one is not shown."""
    shades = {"a.png": (250, 0, 0), "b.png": (0, 200, 0), "c.png": (0, 0, 250)}
    pictures = [Picture(write_picture(tmp_path / name, rgb), name, "MONOCYTE") for name, rgb in shades.items()]
    scores = one_hot("NEUTROPHIL", "MONOCYTE", "LYMPHOCYTE")
    scores[2, LABELS.index("LYMPHOCYTE")] = 0.99  # the last is the surest
    plot_mistakes(pictures, scores, LABELS, tmp_path / "mistakes.png")
    sheet = read_image(tmp_path / "mistakes.png")

    tiles = [sheet[84:258, left : left + 230].reshape(-1, 3).tolist() for left in (12, 242, 472, 702)]
    assert [0, 0, 250] in tiles[0]
    assert [250, 0, 0] in tiles[1]
    assert all(pixel == [255, 255, 255] for pixel in tiles[2] + tiles[3])
    assert [0, 200, 0] not in sheet.reshape(-1, 3).tolist()
    assert size(tmp_path / "mistakes.png") == (944, 92 + 230)


@pytest.mark.parametrize(("wrong", "rows"), [(0, 0), (4, 1), (5, 2), (6, 2)])
def test_sheet_grows_with_the_mistakes_up_to_most(tmp_path, wrong, rows):
    """A row for each four mistakes, never more than `most` of them; none gives a strip that says so."""
    path = write_picture(tmp_path / "a.png", (120, 60, 140))
    pictures = [Picture(path, "a.png", "MONOCYTE")] * 8
    said = ["NEUTROPHIL"] * wrong + ["MONOCYTE"] * (8 - wrong)
    plot_mistakes(pictures, one_hot(*said), LABELS, tmp_path / "sheet.png", most=5)

    assert size(tmp_path / "sheet.png") == (944, 92 + 230 * rows)
    assert len(colours(tmp_path / "sheet.png")) > 20


@pytest.mark.parametrize("file", ["$x_{$.png", "血液\n.png", "b\udcff.png", "deep/" * 40 + "a.png"])
def test_any_file_name_can_be_captioned(tmp_path, file):
    """Formula signs, letters that the font lacks, broken UTF-8 and long paths are no error and no warning."""
    picture = Picture(write_picture(tmp_path / "a.png", (120, 60, 140)), file, "MONOCYTE")
    plot_mistakes([picture], one_hot("NEUTROPHIL"), LABELS, tmp_path / "sheet.png")

    assert size(tmp_path / "sheet.png") == (944, 322)


def test_a_picture_that_is_gone_leaves_its_place_empty(tmp_path):
    """A file that was moved since training does not cost the sheet."""
    pictures = [
        Picture(tmp_path / "gone.png", "gone.png", "MONOCYTE"),
        Picture(write_picture(tmp_path / "a.png", (250, 0, 0)), "a.png", "MONOCYTE"),
    ]
    plot_mistakes(pictures, one_hot("NEUTROPHIL", "NEUTROPHIL"), LABELS, tmp_path / "sheet.png")
    sheet = read_image(tmp_path / "sheet.png")

    assert [250, 0, 0] not in sheet[:, :242].reshape(-1, 3).tolist()
    assert [250, 0, 0] in sheet[:, 242:472].reshape(-1, 3).tolist()


def test_scores_that_do_not_fit_the_pictures_are_refused(tmp_path):
    """One row of scores for each picture, one column for each label."""
    with pytest.raises(ValueError, match=r"expected scores of shape \(1, 4\), found \(2, 4\)"):
        plot_mistakes([Picture(Path("a.png"), "a.png")], np.ones((2, 4)), LABELS, tmp_path / "sheet.png")
