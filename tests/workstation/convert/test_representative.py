from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, load_split
from bloodcell_edge.errors import ConversionError, MissingFile, NoPictures
from bloodcell_edge.files import sha256_file
from bloodcell_edge.imaging.image import IMAGE_VERSION
from bloodcell_edge.model.spec import ModelSpec, load_spec
from bloodcell_edge.progress import SILENT, Silent
from convert.representative import FEWEST, SAMPLES, choose_pictures, representative_pictures, with_full_range

LABELS = ("A", "B", "C", "D")


class Listener(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)


def picture(label: str, photograph: int | None, number: int) -> Picture:
    """A picture that is not on the disk."""
    file = f"{label}/{photograph}-{number}.jpg"
    return Picture(Path(file), file, label, None if photograph is None else f"{label}{photograph}")


def pictures(photographs: int, copies: int, labels=LABELS) -> list[Picture]:
    """Several pictures of several photographs of each class."""
    return [picture(label, one, copy) for label in labels for one in range(photographs) for copy in range(copies)]


@pytest.fixture
def spec(tiny_run):
    """Of the tiny run."""
    return load_spec(tiny_run.spec)


def test_classes_are_taken_equally():
    """Of four classes with enough pictures, a quarter of the 200 is taken from each."""
    chosen = choose_pictures(pictures(100, 3), LABELS, seed=0)

    assert Counter(one.label for one in chosen) == dict.fromkeys(LABELS, SAMPLES // 4)
    assert len(set(chosen)) == SAMPLES


def test_a_small_class_is_taken_whole_and_the_others_fill_up():
    """A class with 3 pictures gives 3; the rest is shared by the others, one apart at most."""
    few = [picture("A", number, 0) for number in range(3)]

    counts = Counter(one.label for one in choose_pictures(few + pictures(100, 3, "BCD"), LABELS, seed=0))

    assert counts["A"] == 3
    assert sum(counts.values()) == SAMPLES
    assert max(counts[label] for label in "BCD") - min(counts[label] for label in "BCD") <= 1


@given(st.integers(1, 12), st.integers(1, 6), st.integers(0, 5), st.integers(1, 120))
def test_every_photograph_is_shown_once_before_any_is_shown_twice(photographs, copies, seed, samples):
    """Within a class, how often two photographs were taken differs by one at most."""
    chosen = choose_pictures(pictures(photographs, copies), LABELS, seed=seed, samples=samples, allow_small=True)

    for label in LABELS:
        times = Counter(one.group for one in chosen if one.label == label)
        counts = [times[f"{label}{number}"] for number in range(photographs)]
        assert max(counts) - min(counts) <= 1
    assert len(set(chosen)) == len(chosen) == min(samples, 4 * photographs * copies)


@given(st.randoms(use_true_random=False), st.integers(0, 9))
def test_the_order_of_the_pictures_does_not_matter(random, seed):
    """The same pictures in any order give the same choice in the same order."""
    given_ones = pictures(15, 2)
    shuffled = list(given_ones)
    random.shuffle(shuffled)

    assert choose_pictures(shuffled, LABELS, seed=seed) == choose_pictures(given_ones, LABELS, seed=seed)


def test_the_seed_draws():
    """Two seeds give two choices, one seed the same."""
    given_ones = pictures(100, 3)

    assert choose_pictures(given_ones, LABELS, seed=1) == choose_pictures(given_ones, LABELS, seed=1)
    assert choose_pictures(given_ones, LABELS, seed=1) != choose_pictures(given_ones, LABELS, seed=2)


def test_pictures_without_a_group_are_a_photograph_each():
    """Where nobody knows the photographs, every picture counts as one."""
    alone = [Picture(Path(f"{i}.jpg"), f"{i}.jpg", LABELS[i % 4]) for i in range(80)]

    assert set(choose_pictures(alone, LABELS, seed=0)) == set(alone)


@pytest.mark.parametrize(
    ("given_ones", "found"),
    [
        (pictures(20, 5, "ABC"), "no picture of D"),
        (pictures(20, 5, "A"), "no picture of B, C, D"),
        (pictures(12, 1), "48 pictures"),
        ([], "no picture of A, B, C, D"),
    ],
    ids=["a class missing", "one class only", "too few", "none"],
)
def test_too_little_is_refused(given_ones, found):
    """A missing class or fewer than 50 pictures is an error that says what was found and what to do."""
    with pytest.raises(ConversionError, match=f"at least {FEWEST} .*{found}.*--representative, or --allow-small"):
        choose_pictures(given_ones, LABELS, seed=0)


def test_too_little_is_taken_on_request():
    """`allow_small` takes a class missing and fewer than 50, but not nothing."""
    assert len(choose_pictures(pictures(12, 1), LABELS, seed=0, allow_small=True)) == 48
    assert len(choose_pictures(pictures(9, 1, "A"), LABELS, seed=0, allow_small=True)) == 9
    with pytest.raises(ConversionError):
        choose_pictures([], LABELS, seed=0, allow_small=True)


def test_fifty_are_enough():
    """Fifty pictures of all classes pass, 49 do not."""
    assert len(choose_pictures(pictures(13, 1)[:FEWEST], LABELS, seed=0)) == FEWEST
    with pytest.raises(ConversionError):
        choose_pictures(pictures(13, 1)[: FEWEST - 1], LABELS, seed=0)


def test_black_and_white_are_added():
    """One black and one white picture follow, so that the input is calibrated to 0..255; nothing else changes."""
    pixels = np.random.default_rng(0).integers(40, 200, (3, 8, 6, 3), dtype=np.uint8)

    full = with_full_range(pixels)

    assert full.shape == (5, 8, 6, 3)
    assert full.dtype == np.uint8
    assert np.array_equal(full[:3], pixels)
    assert (full[3] == 0).all()
    assert (full[4] == 255).all()


def test_a_run_gives_its_training_pictures_alone(tiny_run, spec):
    """Without DATA only pictures of the split's training side are taken, 50 a class."""
    side = {row.picture.file: row.split for row in load_split(tiny_run.split)}

    chosen = representative_pictures(tiny_run.model, spec, None, allow_small=False, report=SILENT)

    assert {side[one.file] for one in chosen} == {TRAIN}
    assert Counter(one.label for one in chosen) == dict.fromkeys(spec.labels, SAMPLES // 4)


def test_held_back_pictures_in_data_are_left_out_by_content(tiny_run, spec, tmp_path):
    """DATA with every picture of the run under new names gives none of the held-back ones, and says how many it had."""
    rows = load_split(tiny_run.split)
    for number, row in enumerate(rows):
        target = tmp_path / "data" / row.picture.label / f"renamed-{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(row.picture.path, target)
    held_back = {row.sha256 for row in rows if row.split == HELD_BACK}
    listener = Listener()

    chosen = representative_pictures(tiny_run.model, spec, tmp_path / "data", allow_small=False, report=listener)

    assert len(chosen) == SAMPLES
    assert not {sha256_file(one.path) for one in chosen} & held_back
    assert listener.said == [f"left out of the representative dataset: {len(held_back)} held-back pictures"]


def test_a_picture_that_is_there_twice_counts_once(tiny_run, spec, tmp_path):
    """Sixty copies of four pictures are four pictures: too few."""
    rows = load_split(tiny_run.split)
    for label in spec.labels:
        source = next(row.picture.path for row in rows if row.picture.label == label and row.split == TRAIN)
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(15):
            shutil.copy(source, tmp_path / "data" / label / f"{number}.jpg")

    with pytest.raises(ConversionError, match="found 4 pictures"):
        representative_pictures(tiny_run.model, spec, tmp_path / "data", allow_small=False, report=SILENT)


def test_an_unreadable_picture_makes_room_for_another(tiny_run, spec, drawn, tmp_path):
    """Pictures that do not decode are said by name and replaced; the classes stay equal."""
    shutil.copytree(drawn, tmp_path / "data")
    broken = sorted((tmp_path / "data" / "MONOCYTE").iterdir())[:100]
    for number, path in enumerate(broken):
        path.write_bytes(b"not a picture %d" % number)
    listener = Listener()

    chosen = representative_pictures(tiny_run.model, spec, tmp_path / "data", allow_small=False, report=listener)

    assert not {one.path for one in chosen} & set(broken)
    counts = Counter(one.label for one in chosen)
    assert len(chosen) == SAMPLES
    assert 0 < counts["MONOCYTE"] <= 60
    assert any(str(broken[0].parent) in line for line in listener.said)


def test_data_that_nobody_can_read_is_no_pictures(tiny_run, spec, tmp_path):
    """DATA of broken files is an error that names one."""
    for label in spec.labels:
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(20):
            (tmp_path / "data" / label / f"{number}.png").write_text(f"{label}{number}")

    with pytest.raises(NoPictures, match=r"none of 80 pictures can be read"):
        representative_pictures(tiny_run.model, spec, tmp_path / "data", allow_small=False, report=SILENT)


def test_a_model_without_a_split_needs_data(tmp_path):
    """A bare model's training pictures are not known: an error that names --representative."""
    spec = ModelSpec("bare", LABELS, "frame", (64, 64), "keras", IMAGE_VERSION)

    with pytest.raises(ConversionError, match=r"no split.csv beside it .*give --representative"):
        representative_pictures(tmp_path / "bare.keras", spec, None, allow_small=False, report=SILENT)
    with pytest.raises(MissingFile):
        representative_pictures(tmp_path / "bare.keras", spec, tmp_path / "no", allow_small=False, report=SILENT)
