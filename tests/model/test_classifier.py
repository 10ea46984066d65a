import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_locator import field as painted
from made_locator import locator_file

from bloodcell_edge.errors import MissingFile, SpecError
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.image import prepare
from bloodcell_edge.imaging.located import Box, Located
from bloodcell_edge.imaging.views import Shown, View
from bloodcell_edge.model.classifier import Classifier, predict
from bloodcell_edge.model.file import pack
from bloodcell_edge.model.golden import digest
from bloodcell_edge.model.goldenfields import drawn_field
from bloodcell_edge.model.locator import shipped_locator, told
from bloodcell_edge.model.locatorspec import GoldenField
from bloodcell_edge.model.spec import RULES_RULER, ModelSpec
from bloodcell_edge.records import UNIDENTIFIED

LABELS = ("RED", "GREEN", "BLUE")
SPEC = ModelSpec("tiny", LABELS, "frame", (64, 48), "int8", 1)
COLOURS = {"RED": (250, 10, 10), "GREEN": (10, 250, 10), "BLUE": (10, 10, 250)}


@pytest.mark.parametrize("target", ["float32", "int8"])
@pytest.mark.parametrize("size", [(64, 48), (300, 200), (7, 5)])
def test_a_picture_of_any_size_is_named(tiny_model, target, size):
    """The right label, its score on top, all scores by label in order with sum 1, a time, no box, input unchanged."""
    classifier = Classifier.open(tiny_model(target))
    for label, colour in COLOURS.items():
        image = np.full((*size, 3), colour, np.uint8)
        (found,) = classifier.classify(image)

        assert found.label == label
        assert found.score == max(found.scores.values()) == found.scores[label] > 0.9
        assert tuple(found.scores) == LABELS
        assert sum(found.scores.values()) == pytest.approx(1, abs=3 / 256)
        assert found.box is None
        assert 0 < found.latency_ms < 1000
        assert (image == colour).all()


def test_a_path_is_a_picture(tiny_model, tmp_path):
    """A str or a Path is read; one that is not there says so."""
    classifier, path = Classifier.open(tiny_model()), tmp_path / "x.png"
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    assert cv2.imwrite(str(path), image[..., ::-1])
    (expected,) = classifier.classify(image)
    for named in (path, str(path)):
        (one,) = classifier.classify(named)
        assert one.scores == expected.scores
    with pytest.raises(MissingFile, match="no such file"):
        classifier.classify("not there.png")


def test_classify_and_scores_agree(tiny_model):
    """One picture through classify and prepared pictures through scores give the same numbers, in order."""
    classifier = Classifier.open(tiny_model("int8"), threads=2)
    images = [draw_field(seed, size=(60, 80)).image for seed in range(4)]
    rows = classifier.scores(np.stack([prepare(image, classifier.spec.input_size) for image in images]))

    assert (rows.dtype, rows.shape) == (np.float32, (4, 3))
    for image, row in zip(images, rows, strict=True):
        assert list(classifier.classify(image)[0].scores.values()) == row.tolist()


def test_no_pictures_give_no_rows(tiny_model):
    """An empty batch is answered by an empty one."""
    assert Classifier.open(tiny_model()).scores(np.empty((0, 64, 48, 3), np.uint8)).shape == (0, 3)


def test_it_says_what_it_is(tiny_model):
    """repr names model, target and interpreter."""
    assert repr(Classifier.open(tiny_model())).startswith("Classifier(tiny, int8, Interpreter(")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"labels": ("RED", "BLUE")}, r"outputs \(\(64, 48\), 2\) as its spec says, found \(\(64, 48\), 3\)"),
        ({"input_size": (48, 64)}, r"outputs \(\(48, 64\), 3\) as its spec says, found \(\(64, 48\), 3\)"),
    ],
)
def test_a_model_that_is_not_what_its_spec_says(tiny_model, changes, says):
    """Labels or input size that do not fit are refused, with expected and found."""
    path = tiny_model(**changes)
    with pytest.raises(SpecError, match=rf"{path.name}: .*{says}"):
        Classifier.open(path)


def test_bare_and_absent_files_are_refused(tiny_flatbuffers, tmp_path):
    """A .tflite without a spec says what to do; an absent one that it is absent."""
    (tmp_path / "bare.tflite").write_bytes(tiny_flatbuffers["int8"])
    with pytest.raises(SpecError, match=r"no bce\.json inside .* expected a \.tflite made by bce convert"):
        Classifier.open(tmp_path / "bare.tflite")
    with pytest.raises(MissingFile):
        Classifier.open(tmp_path / "absent.tflite")


@given(
    st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3),
    st.none() | st.floats(0, 1),
    st.sampled_from(["", "edge", "touching"]),
)
def test_below_the_threshold_or_marked_nobody_is_named(scores, threshold, mark):
    """The label is that of the highest score, UNIDENTIFIED where that is below the threshold or the cell is marked."""
    shown = Shown(np.zeros((64, 48, 3), np.uint8), (1, 2, 3, 4), mark)
    found = predict(scores, SPEC.with_(reject_threshold=threshold), shown, latency_ms=1.5)
    rejected = bool(mark) or (threshold is not None and max(scores) < threshold)

    assert found.label == (UNIDENTIFIED if rejected else LABELS[scores.index(max(scores))])
    assert found.score == max(scores)
    assert found.reason == (mark or ("low score" if rejected else ""))
    assert found.counted == (mark != "edge")
    assert found.other is None
    assert list(found.scores.items()) == list(zip(LABELS, scores, strict=True))
    assert (found.box, found.mark, found.latency_ms) == ((1, 2, 3, 4), mark, 1.5)


@pytest.mark.parametrize(
    ("scores", "mark", "label", "reason"),
    [
        ([0.2, 0.1, 0.1, 0.6], "", UNIDENTIFIED, "other cell"),
        ([0.4, 0.1, 0.1, 0.4], "", UNIDENTIFIED, "low score"),
        ([0.2, 0.1, 0.1, 0.6], "touching", UNIDENTIFIED, "touching"),
        ([0.6, 0.1, 0.1, 0.2], "", "RED", ""),
    ],
)
def test_the_background_is_a_reason_and_no_label(scores, mark, label, reason):
    """Where it tops all labels an UNIDENTIFIED cell is another one; its share stands beside those of the labels."""
    spec = SPEC.with_(reject_threshold=0.5, background=True)
    found = predict(scores, spec, Shown(np.zeros((64, 48, 3), np.uint8), None, mark), latency_ms=1)

    assert (found.label, found.reason, found.other) == (label, reason, scores[3])
    assert found.scores == dict(zip(LABELS, scores[:3], strict=True))


def test_the_threshold_of_the_file_is_used(tiny_model):
    """A grey picture, one third each, is UNIDENTIFIED by a file that rejects below one half, and named by another."""
    grey = np.full((64, 48, 3), 128, np.uint8)

    assert Classifier.open(tiny_model(reject_threshold=0.5)).classify(grey)[0].label == UNIDENTIFIED
    assert Classifier.open(tiny_model()).classify(grey)[0].label in LABELS


def test_scores_must_be_as_many_as_labels():
    """A wrong number of scores is a mistake, not a shorter answer."""
    with pytest.raises(ValueError, match="zip"):
        predict([0.5, 0.5], SPEC, Shown(np.zeros((64, 48, 3), np.uint8), None), latency_ms=1)


def test_a_model_of_cells_names_each(tiny_model):
    """View "cell" answers for each cell, with its box, none in an empty field; half a cell is not evaluated."""
    classifier = Classifier.open(tiny_model(view="cell", crop_um=20.0))
    field = draw_field(3, ("NEUTROPHIL", "LYMPHOCYTE"), size=(480, 640)).image
    whole = classifier.classify(field)
    x, _, width, _ = whole[0].box
    cut = classifier.classify(np.ascontiguousarray(field[:, x + width // 2 :]))
    seen = classifier.classify(np.ascontiguousarray(field[:, x + width // 8 :]))

    assert len(whole) == 2
    assert all(cell.label in LABELS and not cell.mark for cell in whole)
    assert [cell.label for cell in cut if cell.box[0] == 0] == [UNIDENTIFIED]
    assert [(cell.mark, cell.counted) for cell in cut if cell.box[0] == 0] == [("edge", False)]
    assert [(cell.mark, cell.counted) for cell in seen if cell.box[0] == 0] == [("", True)]
    assert classifier.classify(np.full((240, 320, 3), 230, np.uint8)) == ()


@pytest.fixture
def with_locator(tiny_flatbuffers, tmp_path):
    """Write a model of cells that carries a locator: ``with_locator(file, ...)``."""

    def write(file, **changes):
        spec = SPEC.with_(view="cell", crop_um=20.0, locator=told(file), **changes)
        path = tmp_path / "carries.tflite"
        path.write_bytes(pack(tiny_flatbuffers["int8"], spec, file.content))
        return path

    return write


def test_a_model_looks_with_its_own_locator(with_locator, made_file):
    """The one inside, not the one that comes along; without one, that."""
    path = with_locator(made_file)
    opened = Classifier.open(path)
    assert opened.locator.spec == made_file.spec
    found = opened.classify(painted(144, 192, (130, 90), (50, 62)))
    assert [cell.box for cell in found] == [(34, 46, 32, 32), (114, 74, 32, 32)]


def test_a_model_without_a_locator_looks_with_the_shipped_one(tiny_cell_model):
    """Of whatever version it is; an older one in crops as large as those of its training."""
    for version in (1, 2):
        opened = Classifier.open(tiny_cell_model(spec_version=version))
        assert opened.locator is shipped_locator()
    field = draw_field(3, ("NEUTROPHIL",))
    (cell,) = field.cells
    located = Located((Box(cell.x, cell.y, cell.width, cell.height, whole=True, touching=False),), 50.0)
    old, new = (Classifier.open(tiny_cell_model(spec_version=version)) for version in (1, 2))
    assert old.spec.crop_um == new.spec.crop_um
    for opened, crop_um in ((old, 20 * RULES_RULER), (new, 20)):
        (shown,) = opened.show(field.image, located)
        (expected,) = View("cell", (64, 48), crop_um).show(field.image, located)
        assert (shown.pixels == expected.pixels).all()


def test_a_locator_that_finds_otherwise_is_refused(with_locator, made_flatbuffers):
    """A golden field whose cells this machine does not find stops the model, unless nobody asks."""
    image = drawn_field(8, ("MONOCYTE",))
    golden = GoldenField(8, ("MONOCYTE",), digest(image), ((10, 20, 30, 40, 250),), 50.0)
    path = with_locator(locator_file(made_flatbuffers["int8"], golden=(golden,)))
    with pytest.raises(SpecError, match=r"carries\.tflite: in golden field 8 its locator found 30x40 at \(10, 20\)"):
        Classifier.open(path)
    assert Classifier.open(path, check=False).locator.spec.golden == (golden,)
