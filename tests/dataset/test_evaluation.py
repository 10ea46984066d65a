from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bloodcell_edge.dataset.evaluation import evaluate_files
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.pictures import Dataset, count_by_label
from bloodcell_edge.errors import DataError, NoPictures
from bloodcell_edge.files import sha256_file
from bloodcell_edge.imaging.hashes import perceptual_hash
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.imaging.located import Box, Located
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.seen import collect
from bloodcell_edge.progress import Silent

LABELS = ("RED", "GREEN", "BLUE")
PER_CLASS = 4


def paint(path: Path, colour: int, seed: int) -> None:
    """A patchwork of its own, in shades of one of red, green, blue (0, 1, 2), or grey (3)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    patches = np.random.default_rng(seed).integers(60, 190, (5, 6, 1), np.uint8).repeat(3, axis=2)
    if colour < 3:
        patches //= 4
        patches[..., 2 - colour] = patches[..., 2 - colour] * 2 + 130
    large = cv2.resize(patches, (90, 75), interpolation=cv2.INTER_CUBIC)
    path.write_bytes(cv2.imencode(".png", large)[1].tobytes())


@pytest.fixture
def data(tmp_path) -> Path:
    """Four pictures of each of three classes, one of them (labelled GREEN) blue, and three of another class."""
    folder = tmp_path / "data"
    for number, label in enumerate(LABELS):
        for copy in range(PER_CLASS):
            paint(folder / label / f"{copy}.png", number, seed=10 * number + copy)
    paint(folder / "GREEN" / "0.png", 2, seed=77)
    for copy in range(3):
        paint(folder / "GREY" / f"{copy}.png", 3, seed=50 + copy)
    return folder


def trained_on(*files: Path) -> dict[str, str]:
    return collect([(sha256_file(file), perceptual_hash(read_image(file))) for file in files]).as_json()


def load(data: Path) -> Dataset:
    return load_data(data, labels=LABELS)


@pytest.fixture
def model(tiny_model):
    return Classifier.open(tiny_model("int8"))


def test_figures_of_pictures_that_were_not_seen(model, data):
    """Accuracy, confusion and classes of a model that is right on all but one picture."""
    answers = evaluate_files(model, load(data))
    found = answers.as_json("m.tflite")

    assert (found["model"], found["n"], found["accuracy"]) == ("m.tflite", 12, 11 / 12)
    assert found["confusion"] == [[4, 0, 0, 0], [0, 3, 1, 0], [0, 0, 4, 0]]
    assert found["per_class"]["GREEN"]["recall"] == 0.75
    assert (found["seen_in_training"], found["unreadable"]) == (0, [])
    assert answers.answers.scores.shape == (12, 3)
    assert [picture.file for picture in answers.answers.pictures][:5] == [
        "BLUE/0.png",
        "BLUE/1.png",
        "BLUE/2.png",
        "BLUE/3.png",
        "GREEN/0.png",
    ]


def test_the_json_has_the_keys_that_were_promised(model, data):
    """Every key of CLI.md is there."""
    found = evaluate_files(model, load(data)).as_json("m.tflite")

    assert set(found) >= set(
        "model n loss accuracy accuracy_interval interval_method n_groups balanced_accuracy labels per_class confusion "
        "ece ece_bins coverage accuracy_covered no_cell coverage_all cut seen_in_training unknown".split()
    )
    assert set(found["unknown"]) == {"n", "rejected", "unidentified", "no_cell"}
    assert found["ece_bins"] == 15


def test_seen_pictures_are_left_out_of_every_figure(tiny_model, data):
    """The file itself, a larger copy, a turned one: counted as seen, absent from n, also among unknowns."""
    image = cv2.imread(str(data / "BLUE/1.png"))
    cv2.imwrite(str(data / "RED/copy of blue.tif"), cv2.resize(image, (180, 150)))
    cv2.imwrite(str(data / "GREY/turned.png"), np.rot90(cv2.imread(str(data / "GREEN/2.png"))))
    model = Classifier.open(tiny_model(seen=trained_on(data / "BLUE/1.png", data / "GREEN/2.png", data / "GREY/0.png")))
    answers = evaluate_files(model, load(data))

    assert set(answers.seen) == {"BLUE/1.png", "RED/copy of blue.tif", "GREEN/2.png", "GREY/turned.png", "GREY/0.png"}
    assert answers.as_json("m")["seen_in_training"] == 5
    assert answers.evaluation.n == len(answers.answers.pictures) == len(answers.answers.scores) == 10
    assert answers.unknown["n"] == 2


def test_seen_pictures_can_be_kept(tiny_model, data):
    """--allow-seen counts every picture, and none as seen."""
    model = Classifier.open(tiny_model(seen=trained_on(data / "BLUE/1.png")))
    answers = evaluate_files(model, load(data), allow_seen=True, is_copy=lambda _: True)

    assert (answers.evaluation.n, answers.seen) == (12, ())


def test_a_further_test_for_copies(model, data):
    """What `is_copy` knows, such as copies turned by a few degrees, is left out too."""
    answers = evaluate_files(model, load(data), is_copy=lambda image: image[..., 0].mean() > 150)

    assert {file.partition("/")[0] for file in answers.seen} <= {"RED", "GREY"}
    assert {f"RED/{number}.png" for number in range(4)} <= set(answers.seen)
    assert answers.evaluation.per_class["RED"].n == 0


def test_all_seen_is_an_error(tiny_model, data):
    """A figure on training pictures alone is refused, and says what to do."""
    model = Classifier.open(tiny_model(seen=trained_on(*sorted(data.glob("[RGB]*/[0-9].png")))))
    with pytest.raises(DataError, match=r"trained on all 15 pictures; use others, or --allow-seen"):
        evaluate_files(model, load(data))


@pytest.mark.parametrize(("threshold", "rejected"), [(None, 0), (0.8, 3)])
def test_unknown_classes_are_counted(tiny_model, data, threshold, rejected):
    """Pictures of none of the classes are in no figure but "unknown": how many, and how many were turned away."""
    found = evaluate_files(Classifier.open(tiny_model(reject_threshold=threshold)), load(data)).as_json("m")

    assert found["n"] == 12
    assert found["unknown"] == {"n": 3, "rejected": rejected, "unidentified": rejected, "no_cell": 0}
    assert found["coverage"] == 1


def test_the_interval_is_by_photograph_where_groups_are_known(model, data, tmp_path):
    """With groups n_groups is theirs and the method says so; without, or with one missing, it is binomial."""
    dataset = load(data)
    rows = "\n".join(f"{picture.file},{picture.label}-{i // 2}" for i, picture in enumerate(dataset.pictures))
    (tmp_path / "groups.csv").write_text(f"file,group\n{rows}\n")
    grouped = evaluate_files(model, load_data(data, labels=LABELS, group_by=tmp_path / "groups.csv"))
    alone = evaluate_files(model, dataset)
    said = grouped.answers
    half = replace(said, pictures=(*said.pictures[:-1], alone.answers.pictures[-1])).figures(model.spec)
    found, other = grouped.as_json("m"), alone.as_json("m")

    assert (found["n_groups"], found["interval_method"]) == (6, "korn-graubard by photograph")
    assert (other["n_groups"], other["interval_method"]) == (None, "clopper-pearson")
    assert half.interval == alone.evaluation.interval
    assert found["accuracy"] == other["accuracy"]


def test_unreadable_pictures_are_named(model, data):
    """A truncated file is left out, by name and reason, and the rest is evaluated."""
    (data / "BLUE/0.png").write_bytes((data / "BLUE/0.png").read_bytes()[:100])
    found = evaluate_files(model, load(data)).as_json("m")

    assert found["n"] == 11
    assert [one["file"] for one in found["unreadable"]] == ["BLUE/0.png"]
    assert str(data / "BLUE/0.png") in found["unreadable"][0]["error"]


def test_no_labelled_picture_is_an_error(model, data):
    """Other classes alone, or nothing that can be read, give no figures."""
    for path in data.glob("[RGB]*/*.png"):
        path.write_bytes(b"") if path.parent.name != "GREY" else None
    with pytest.raises(NoPictures, match="no readable picture of RED, GREEN, BLUE"):
        evaluate_files(model, load(data))
    for path in data.glob("GREY/*.png"):
        path.write_bytes(b"")
    with pytest.raises(NoPictures, match="none of 15 pictures can be read"):
        evaluate_files(model, load(data))


def test_labels_must_be_the_models(model, data):
    """Data read with other labels, or another order, is refused with both."""
    with pytest.raises(
        DataError, match=r"read with labels \['BLUE', 'GREEN', 'RED'\], the model has \['RED', 'GREEN', 'B"
    ):
        evaluate_files(model, load_data(data, labels=("BLUE", "GREEN", "RED")))


def test_progress_counts_every_picture(model, data):
    """The bar moves once for each picture, unknown ones included."""

    class Listener(Silent):
        moves: list[tuple[int, int]] = []  # noqa: RUF012

        def bar(self, _):
            from contextlib import nullcontext

            return nullcontext(lambda done, total: self.moves.append((done, total)))

    evaluate_files(model, load(data), report=Listener())

    assert Listener.moves == [(done, 15) for done in range(1, 16)]


def test_pictures_are_counted_by_label(data):
    """count_by_label counts what it is given, in alphabetical order."""
    assert count_by_label(load(data).pictures) == {"BLUE": 4, "GREEN": 4, "RED": 4}
    assert count_by_label(()) == {}


def test_a_model_is_judged_with_its_own_locator(tiny_cell_model, data):
    """What finds its cells on a device finds them here, too."""
    opened, asked = Classifier.open(tiny_cell_model()), []

    def whole_picture(image, *, um_per_px=None):
        asked.append(image.shape)
        height, width = image.shape[:2]
        return Located((Box(0, 0, width, height, whole=True, touching=False),), None)

    model = Classifier(opened.spec, opened.interpreter, locator=whole_picture)
    assert evaluate_files(model, load(data)).as_json("m.tflite")["no_cell"] == 0
    assert asked == [(75, 90, 3)] * (3 * PER_CLASS + 3)
