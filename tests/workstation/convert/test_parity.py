from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.errors import NoPictures, SpecError
from bloodcell_edge.imaging.image import IMAGE_VERSION
from bloodcell_edge.model.spec import ModelSpec
from bloodcell_edge.progress import SILENT, Silent
from convert.parity import Candidate, GateLimits, answers_differ, compare, judge

LABELS = ("A", "B")
SPEC = ModelSpec("made up", LABELS, "frame", (4, 4), "int8", IMAGE_VERSION)


@pytest.fixture
def candidate(tmp_path):
    """A file of 7 bytes that says it is int8."""
    (tmp_path / "small.tflite").write_bytes(b"7 bytes")
    return Candidate(tmp_path / "small.tflite", SimpleNamespace(spec=SPEC))


def said(answers: np.ndarray, sure: float = 0.9) -> np.ndarray:
    """Scores that give each picture's top label `sure`."""
    scores = np.full((len(answers), 2), 1 - sure, np.float32)
    scores[np.arange(len(answers)), answers] = sure
    return scores


def named(n: int) -> list[Picture]:
    """Pictures that are nowhere."""
    return [Picture(Path(f"{i}.png"), f"{i}.png", "A") for i in range(n)]


def balanced(n: int) -> np.ndarray:
    """True labels: the first half A, the second B."""
    return np.repeat([0, 1], n // 2)


def changed(answers: np.ndarray, rows) -> np.ndarray:
    """Answers with the other label in some rows."""
    other = answers.copy()
    other[rows] = 1 - other[rows]
    return other


def judged(candidate, truth, expected, scores, **limits):
    return judge(candidate, named(len(truth)), truth, expected, scores, GateLimits(**limits))


def test_the_same_answers_pass(candidate):
    """Equal scores: no drop, full agreement, no difference, p = 1, no remark."""
    truth = balanced(200)

    found = judged(candidate, truth, said(truth), said(truth))

    assert found.passed
    assert (found.accuracy, found.accuracy_drop, found.worst_recall_drop, found.agreement) == (100, 0, 0, 100)
    assert (found.max_abs_diff, found.mean_abs_diff, found.mcnemar_p) == (0, 0, 1)
    assert (found.flipped, found.why) == ((), ())
    assert (found.target, found.bytes, found.file) == ("int8", 7, str(candidate.path))


def test_figures_of_a_made_up_case(candidate):
    """200 pictures; the reference errs on 10 of A. The candidate errs on 3 more of A, and mends 1 of those 10."""
    truth = balanced(200)
    before = changed(truth, np.arange(10))
    after = changed(changed(before, [10, 11, 12]), [0])

    found = judged(candidate, truth, said(before, 0.9), said(after, 0.7), max_drop=5, max_recall_drop=5)

    assert found.accuracy == pytest.approx(94.0)  # 188 of 200
    assert found.accuracy_drop == pytest.approx(1.0)  # 190 to 188
    assert found.recall_drops == {"A": pytest.approx(2.0), "B": pytest.approx(0.0)}  # 90 to 88 of 100
    assert found.worst_recall_drop == pytest.approx(2.0)
    assert found.agreement == pytest.approx(98.0)  # 4 of 200 changed
    assert found.flipped == ("0.png", "10.png", "11.png", "12.png")
    assert found.max_abs_diff == pytest.approx(0.6)  # 0.9 against 0.3
    assert found.mean_abs_diff == pytest.approx((196 * 0.2 + 4 * 0.6) / 200)
    assert found.mcnemar_p == pytest.approx(0.625)  # 3 against 1: 2 * (1 + 4) / 16
    assert found.passed


@pytest.mark.parametrize(
    ("rows", "passed"), [(2, True), (3, False)], ids=["1.0 point, at the limit", "1.5 points, beyond"]
)
def test_the_limit_itself_holds(candidate, rows, passed):
    """A drop of exactly the limit passes, as rounding must not decide; the next picture fails."""
    truth = balanced(200)
    after = changed(truth, np.r_[0:rows])

    found = judged(candidate, truth, said(truth), said(after), max_recall_drop=50, min_agreement=0)

    assert found.passed is passed
    assert found.why == (() if passed else ("accuracy drops by 1.50 points, limit 1",))


def test_a_class_that_suffers_fails(candidate):
    """3 of 100 pictures of a class lost, 3 of the other won: the accuracy stands, the recall gate fails."""
    truth = balanced(200)
    before, after = changed(truth, [100, 101, 102]), changed(truth, [0, 1, 2])

    found = judged(candidate, truth, said(before), said(after), min_agreement=90)

    assert found.accuracy_drop == 0
    assert not found.passed
    assert found.why == ("a class's recall drops by 3.00 points, limit 2",)


def test_flips_without_a_loss_fail(candidate):
    """As many answers mended as broken: accuracy and recalls stand, the agreement of 97 % fails."""
    truth = balanced(200)
    before, after = changed(truth, [0, 1, 2]), changed(truth, [3, 4, 5])

    found = judged(candidate, truth, said(before), said(after))

    assert (found.accuracy_drop, found.worst_recall_drop) == (0, 0)
    assert found.why == ("agreement 97.00 %, limit 98 %",)
    assert not found.passed


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_not_numbers_fail(candidate, bad):
    """A single NaN or infinite score among right answers fails, and counts as the largest difference there is."""
    truth = balanced(200)
    scores = said(truth)
    scores[7, truth[7]] = bad

    found = judged(candidate, truth, said(truth), scores)

    assert not found.passed
    assert found.why == ("scores that are not numbers (NaN or infinite)",)
    assert found.max_abs_diff == found.mean_abs_diff == 1.0


def test_a_reference_that_gives_no_numbers_fails(candidate):
    """NaN in the reference's scores fails too, although the candidate's are fine."""
    truth = balanced(200)

    assert not judged(candidate, truth, said(truth) * np.nan, said(truth)).passed


@pytest.mark.parametrize(("n", "passed"), [(98, False), (100, True)])
def test_few_pictures_prove_nothing(candidate, n, passed):
    """Below 100 pictures even equal answers fail, unless small sets are allowed."""
    truth = balanced(n)

    found = judged(candidate, truth, said(truth), said(truth))

    assert found.passed is passed
    assert any("98 pictures cannot prove anything, expected at least 100" in why for why in found.why) is not passed
    assert judged(candidate, truth, said(truth), said(truth), allow_small=True).passed
    assert not answers_differ(found, GateLimits())


def test_answers_that_differ_are_told_from_too_few(candidate):
    """`answers_differ` is True where a figure is beyond its limit, whatever the number of pictures."""
    truth = balanced(20)

    found = judged(candidate, truth, said(truth), said(1 - truth))

    assert answers_differ(found, GateLimits(allow_small=True))


def test_a_small_class_is_gated_on_agreement(candidate):
    """A class of 40 that loses one picture, 2.5 points, passes, and the report says that its recall is not gated."""
    truth = np.repeat([0, 1], [160, 40])

    found = judged(candidate, truth, said(truth), said(changed(truth, [199])))

    assert found.passed
    assert found.recall_drops["B"] == pytest.approx(2.5)
    assert found.worst_recall_drop == 0
    assert found.why == ("B: fewer than 50 pictures, gated on agreement, not on recall",)


def test_small_classes_are_said_together(candidate):
    """Several small classes are one remark."""
    truth = balanced(80)

    found = judged(candidate, truth, said(truth), said(truth), allow_small=True)

    assert found.why == ("A, B: fewer than 50 pictures, gated on agreement, not on recall",)


def test_a_class_of_fifty_is_gated_on_recall(candidate):
    """A class of 50 that loses two pictures, 4 points, fails."""
    truth = np.repeat([0, 1], [250, 50])

    found = judged(candidate, truth, said(truth), said(changed(truth, [298, 299])))

    assert found.why == ("a class's recall drops by 4.00 points, limit 2",)


def test_a_class_without_pictures_is_said(candidate):
    """Where a class has no picture, the report says that nothing is proven of it."""
    truth = np.zeros(200, int)

    found = judged(candidate, truth, said(truth), said(truth))

    assert found.recall_drops == {"A": 0}
    assert found.why == ("B: no picture, nothing is proven",)


# compare: from picture files


@dataclass
class ByRed:
    """Answers B where a picture is red; `size` is its input."""

    spec: ModelSpec
    threshold: float = 128

    def scores(self, pixels):
        return said((pixels[..., 0].mean(axis=(1, 2)) > self.threshold).astype(int))


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


@pytest.fixture
def reds(tmp_path):
    """100 flat pictures, as red as their number times 2.5; A below 50, B from 50 on; ten of each photograph."""
    from PIL import Image

    pictures = []
    for i in range(100):
        path = tmp_path / f"{i}.png"
        Image.new("RGB", (12, 10), (int(i * 2.5), 0, 0)).save(path)
        pictures.append(Picture(path, path.name, LABELS[i >= 50], f"photo {i // 10}"))
    return pictures


def test_files_are_compared(candidate, reds):
    """A candidate of another input size that draws the line elsewhere: the pictures between are flipped, by name."""
    other = Candidate(candidate.path, ByRed(SPEC.with_(input_size=(6, 8)), threshold=118))

    report = compare(ByRed(SPEC, 124), Path("model.keras"), [other], reds, limits=GateLimits(), report=SILENT)

    assert (report.n, report.n_groups, report.reference_accuracy) == (100, 10, 100)
    assert report.candidates[0].flipped == ("48.png", "49.png")
    assert report.candidates[0].accuracy_drop == pytest.approx(2)
    assert not report.passed
    assert report.reference_file == "model.keras"


def test_every_candidate_must_pass(candidate, reds):
    """One good and one bad candidate: the report as a whole fails; the good one alone passes."""
    good, bad = (Candidate(candidate.path, ByRed(SPEC, line)) for line in (124, 60))

    def passed(*candidates):
        found = compare(ByRed(SPEC, 124), Path("m"), candidates, reds, limits=GateLimits(), report=SILENT)
        return found.passed, [one.passed for one in found.candidates]

    assert passed(good) == (True, [True])
    assert passed(good, bad) == (False, [True, False])
    assert passed() == (False, [])  # nothing was proven


def test_unknown_photographs_are_not_counted(candidate, reds):
    """Where one picture's photograph is not known, the number of photographs is None."""
    reds[3] = Picture(reds[3].path, reds[3].file, reds[3].label)

    report = compare(ByRed(SPEC), Path("m"), [], reds, limits=GateLimits(), report=SILENT)

    assert report.n_groups is None


def test_unreadable_pictures_are_left_out_and_said(candidate, reds):
    """A broken file is named and not counted; the rest is compared."""
    reds[3].path.write_bytes(b"broken")
    listener = Listener()

    report = compare(ByRed(SPEC), Path("m"), [], reds, limits=GateLimits(), report=listener)

    assert report.n == 99
    assert any("3.png" in line for line in listener.said)


def test_models_are_asked_while_pictures_are_read(candidate, reds):
    """All models see the same pictures in the same order, in batches as Keras takes them; scores keep that order."""
    asked = {"reference": [], "candidate": []}

    @dataclass
    class Noting(ByRed):
        name: str = ""

        def scores(self, pixels):
            asked[self.name].append(pixels[:, 0, 0, 0].tolist())
            return super().scores(pixels)

    other = Candidate(candidate.path, Noting(SPEC, 124, "candidate"))
    report = compare(Noting(SPEC, 124, "reference"), Path("m"), [other], reds, limits=GateLimits(), report=SILENT)

    assert [len(batch) for batch in asked["reference"]] == [64, 36]
    assert asked["candidate"] == asked["reference"]
    assert [red for batch in asked["reference"] for red in batch] == [int(number * 2.5) for number in range(100)]
    assert (report.reference_accuracy, report.candidates[0].agreement) == (100, 100)


@pytest.mark.parametrize("failing", ["reference", "candidate"])
def test_a_model_that_fails_ends_the_comparison(candidate, reds, failing):
    """Its own error comes out, not one of the threads that ask."""

    class Failing(ByRed):
        def scores(self, pixels):
            message = f"out of memory with {len(pixels)}"
            raise RuntimeError(message)

    models = {name: (Failing if name == failing else ByRed)(SPEC) for name in ("reference", "candidate")}
    with pytest.raises(RuntimeError, match="out of memory with 64"):
        compare(
            models["reference"], Path("m"), [Candidate(candidate.path, models["candidate"])], reds,
            limits=GateLimits(), report=SILENT,
        )  # fmt: skip


def test_nothing_to_compare_on(candidate):
    """No picture is an error, not a gate that holds."""
    with pytest.raises(NoPictures, match="m: no picture of A, B to compare on"):
        compare(ByRed(SPEC), Path("m"), [], [], limits=GateLimits(), report=SILENT)


def test_other_labels_are_refused(candidate, reds):
    """A candidate with other labels, or the same in another order, is an error that shows both."""
    turned = Candidate(candidate.path, ByRed(SPEC.with_(labels=("B", "A"))))

    with pytest.raises(SpecError, match=r"small.tflite: labels \('B', 'A'\), the reference has \('A', 'B'\)"):
        compare(ByRed(SPEC), Path("m"), [turned], reds, limits=GateLimits(), report=SILENT)


def test_the_json_has_the_documented_keys(candidate, reds):
    """`as_json` has every key that CLI.md names, and plain values."""
    import json

    one = Candidate(candidate.path, ByRed(SPEC, 60))
    report = compare(ByRed(SPEC), Path("m"), [one], reds, limits=GateLimits(), report=SILENT)

    values = json.loads(json.dumps(report.as_json(), allow_nan=False))

    assert set(values) == {"passed", "n", "n_groups", "reference", "candidates"}
    assert set(values["reference"]) == {"file", "accuracy"}
    assert set(values["candidates"][0]) >= set(
        "file target bytes accuracy accuracy_drop worst_recall_drop agreement max_abs_diff mean_abs_diff mcnemar_p "
        "passed why".split()
    )
    assert isinstance(values["candidates"][0]["why"], str)
    assert values["candidates"][0]["flipped"]
