"""Splits that keep photographs whole, and the table that says which picture is where."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from labelled import data_sets, files_and_one_that_is_none, picture

from bloodcell_edge.dataset.pictures import LABELS, Picture
from bloodcell_edge.dataset.split import (
    HELD_BACK,
    TRAIN,
    VALIDATION,
    Member,
    group_names,
    held_back,
    leaky_split,
    load_split,
    members,
    photographs_by_label,
    save_split,
    split_pictures,
    take_out,
)
from bloodcell_edge.errors import DataError, MissingFile
from bloodcell_edge.files import sha256_file
from bloodcell_edge.training.draws import balanced_weights
from bloodcell_edge.training.recipes import choose_recipe

FIELD, ORIGINAL = choose_recipe("field"), choose_recipe("original")


def majorities(pictures):
    """The groups of each label: a group is its commonest label's."""
    votes = defaultdict(Counter)
    for one in pictures:
        votes[one.group][one.label] += 1
    found = defaultdict(set)
    for group, counts in votes.items():
        found[min(counts, key=lambda label: (-counts[label], label))].add(group)
    return found


@given(pictures=data_sets(), seed=st.integers(0, 99), recipe=st.sampled_from([FIELD, ORIGINAL]))
@settings(max_examples=150, deadline=None)
def test_split_keeps_photographs_whole_and_classes_on_every_side(pictures, seed, recipe):
    """No group is on two sides; each class has groups on each side, in about the share that was asked for."""
    assume(all(len(majorities(pictures)[one.label]) >= 3 for one in pictures))
    sides = split_pictures(pictures, replace(recipe, seed=seed).split)
    sides_of = defaultdict(set)
    for one, side in zip(pictures, sides, strict=True):
        sides_of[one.group].add(side)
    assert all(len(found) == 1 for found in sides_of.values())
    expected = {TRAIN, HELD_BACK} | ({VALIDATION} if recipe.validation else set())
    for groups in majorities(pictures).values():
        count = Counter(side for group in groups for side in sides_of[group])
        assert set(count) == expected
        assert abs(count[HELD_BACK] - 0.2 * len(groups)) <= 0.5 or count[HELD_BACK] == 1
        rest = len(groups) - count[HELD_BACK]
        assert not recipe.validation or abs(count[VALIDATION] - 0.2 * rest) <= 0.5 or count[VALIDATION] == 1


@given(pictures=data_sets(), seed=st.integers(0, 99), shuffle=st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_of_pictures_does_not_matter(pictures, seed, shuffle):
    """The same pictures in another order, with their groups or without, are split alike."""
    assume(all(len(majorities(pictures)[one.label]) >= 3 for one in pictures))
    recipe = replace(ORIGINAL, seed=seed)
    for given_pictures in (pictures, [replace(one, group=None) for one in pictures]):
        other = shuffle.sample(given_pictures, len(given_pictures))
        sides = dict(
            zip([one.file for one in given_pictures], split_pictures(given_pictures, recipe.split), strict=True)
        )
        assert sides == dict(zip([one.file for one in other], split_pictures(other, recipe.split), strict=True))
        leaky = dict(zip([one.file for one in given_pictures], leaky_split(given_pictures), strict=True))
        assert leaky == dict(zip([one.file for one in other], leaky_split(other), strict=True))


def photographs(groups=10, copies=3, labels="AB"):
    """`groups` photographs of each label, `copies` pictures of each."""
    return [
        picture(f"{label}-{group}-{copy}", label, f"{label}{group}")
        for label in labels
        for group in range(groups)
        for copy in range(copies)
    ]


def test_seed_decides_the_split():
    """The same seed holds back the same photographs, another seed others."""
    pictures = photographs()
    splits = [tuple(split_pictures(pictures, replace(FIELD, seed=seed).split)) for seed in (0, 0, *range(1, 20))]
    assert splits[0] == splits[1]
    assert len(set(splits)) > 15


def test_a_split_may_have_a_seed_of_its_own():
    """With one split_seed, runs of different seeds hold back and validate on the same photographs."""
    pictures = photographs()
    splits = {tuple(split_pictures(pictures, replace(ORIGINAL, seed=seed, split_seed=3).split)) for seed in range(5)}
    assert splits == {tuple(split_pictures(pictures, replace(ORIGINAL, seed=3).split))}


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.99])
def test_take_out_never_takes_all_or_nothing(share):
    """At least one group of each class is chosen and one is not, whatever the share."""
    labels, groups = ["A"] * 4 + ["B"] * 2, list("abcdef")
    chosen = take_out(labels, groups, share, seed=1)
    assert 1 <= chosen[:4].sum() <= 3
    assert chosen[4:].sum() == 1


def test_group_names_are_compared_exactly():
    """Names that differ only by a trailing null are two groups, as are a picture's own and a named one."""
    chosen = take_out(["A"] * 2 + ["B"] * 2, ["a", "a\0", "b", "c"], 0.5, seed=0)
    assert chosen[:2].sum() == chosen[2:].sum() == 1
    assert len(set(group_names([picture(1, "A", "x"), picture(2, "A", None), picture(3, "A", None)]))) == 3


def test_conflicting_labels_stay_together():
    """A photograph with two labels counts for the commoner one, at equal counts for the first by name."""
    labels = ["A", "A", "B", "A", "B", "B", "A", "B"]
    groups = ["x", "x", "x", "y", "y", "z", "w", "v"]
    for seed in range(10):
        chosen = dict(zip(groups, take_out(labels, groups, 0.34, seed=seed), strict=True))
        assert sum(chosen[group] for group in "xyw") == 1, "x, y and w are A's"
        assert sum(chosen[group] for group in "zv") == 1, "z and v are B's"


@pytest.mark.parametrize(("recipe", "enough"), [(FIELD, 2), (ORIGINAL, 3)])
def test_too_few_photographs(recipe, enough):
    """A class of fewer photographs than sides is an error that names it, however many pictures show it."""
    few = photographs(groups=enough - 1, copies=9, labels="B") + photographs(labels="A")
    message = f"B: expected at least {enough} photographs, .* found {enough - 1} .*--labels"
    with pytest.raises(DataError, match=message):
        split_pictures(few, recipe.split)
    sides = split_pictures(photographs(groups=enough, labels="B") + photographs(labels="A"), recipe.split)
    assert HELD_BACK in sides[: 3 * enough]


def test_class_that_only_conflicts_is_refused():
    """A label that no photograph has for the most part could be on no side: an error, not a silent loss."""
    pictures = [*photographs(labels="A"), picture("odd", "B", "A0")]
    with pytest.raises(DataError, match=r"B: .* found 0"):
        split_pictures(pictures, FIELD.split)


def test_leaky_split_is_the_first_fifth_of_sorted_files():
    """Of each class the first fifth by plain name validates, rounded down but at least one; photographs are cut."""
    files = [f"_0_{number}.jpeg" for number in range(14)]
    pictures = [Picture(Path(file), f"{label}/{file}", label, "one") for label in "AB" for file in reversed(files)]
    pictures.append(Picture(Path("c"), "C/c.png", "C", "two"))
    sides = leaky_split(pictures)
    chosen = {one.file for one, side in zip(pictures, sides, strict=True) if side == VALIDATION}
    assert chosen == {"A/_0_0.jpeg", "A/_0_1.jpeg", "B/_0_0.jpeg", "B/_0_1.jpeg", "C/c.png"}
    assert set(sides) == {TRAIN, VALIDATION}
    assert "_0_10.jpeg" < "_0_2.jpeg", "plain order, not natural order, is the original's"


def test_pictures_without_a_group_are_photographs_of_their_own():
    """None and an empty name join nothing: each such picture counts, weighs and is split as a photograph."""
    pictures = [picture(i, "A", None if i % 2 else "") for i in range(10)] + photographs(groups=5, copies=2, labels="B")
    assert photographs_by_label(pictures) == {"A": 10, "B": 5}
    assert balanced_weights(pictures)[:10] == pytest.approx([0.05] * 10)
    assert split_pictures(pictures, FIELD.split)[:10].count(HELD_BACK) == 2


def test_photographs_are_counted_once_for_each_label():
    """Copies of one photograph count once, and a photograph with two labels for both."""
    pictures = [*photographs(groups=4, copies=5, labels="A"), picture("odd", "B", "A0")]
    assert photographs_by_label(pictures) == {"A": 4, "B": 1}


@pytest.fixture
def files(tmp_path):
    """Six readable pictures of two classes, and one that is not."""
    return files_and_one_that_is_none(tmp_path)


@pytest.mark.parametrize("recipe", [FIELD, ORIGINAL])
def test_split_is_written_and_read_again(files, tmp_path, recipe):
    """What save_split writes load_split gives back: side, leaky side for `original` alone, hash, group and path."""
    odd = replace(files[0], file='A/with, "quotes".png', group="ü\n1")
    pictures = [odd, *files[1:], *(replace(one, file=f"x{one.file}", group=f"x{one.group}") for one in files)]
    rows = members(pictures, recipe.split)
    assert {row.leaky_split for row in rows} == ({TRAIN, VALIDATION} if recipe is ORIGINAL else {""})
    assert [row.sha256 for row in rows] == [sha256_file(one.path) for one in pictures]
    save_split(tmp_path / "split.csv", [*rows, Member(replace(odd, group=None), TRAIN, "", "0")])
    *again, lonely = load_split(tmp_path / "split.csv")
    assert again == rows
    assert lonely.picture.group is None


def test_split_that_is_none(tmp_path):
    """A file without the columns, or no file, is an error that says so."""
    (tmp_path / "split.csv").write_text("file,label\na,b\n")
    with pytest.raises(DataError, match="expected the columns"):
        load_split(tmp_path / "split.csv")
    with pytest.raises(MissingFile):
        load_split(tmp_path / "none.csv")


def test_each_source_gives_its_share():
    """Of two sources the smaller gives a fifth of each class too, not what chance makes of a common draw."""
    sizes = {"": 400, "small": 15}
    pictures = [
        Picture(Path(f"{source}{label}{n}.png"), f"{source}{label}{n}.png", label, f"{source}{label}{n}", source=source)
        for source, size in sizes.items()
        for label in LABELS
        for n in range(size)
    ]
    sides = split_pictures(pictures, FIELD.split)
    for source, size in sizes.items():
        for label in LABELS:
            own = [
                side for one, side in zip(pictures, sides, strict=True) if (one.source, one.label) == (source, label)
            ]
            assert own.count(HELD_BACK) == size // 5


def test_held_back_are_the_pictures_of_that_side_in_order(tmp_path):
    """held_back gives what the split holds back, with all that a picture is known by, and nothing of other sides."""
    pictures = [
        Picture(tmp_path / f"{number}.png", f"{number}.png", "MONOCYTE", f"slide {number}", um_per_px=0.1, note="dim")
        for number in range(5)
    ]
    sides = (HELD_BACK, TRAIN, VALIDATION, HELD_BACK, TRAIN)
    rows = [Member(picture, side, "", "0" * 64) for picture, side in zip(pictures, sides, strict=True)]
    save_split(tmp_path / "split.csv", rows)

    assert held_back(tmp_path / "split.csv") == [pictures[0], pictures[3]]


def test_held_back_of_no_split(tmp_path: Path):
    """A split that is not there is named."""
    with pytest.raises(MissingFile, match=r"split\.csv: no such file"):
        held_back(tmp_path / "split.csv")
