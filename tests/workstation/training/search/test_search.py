"""`bce search`: honest folds, a ladder that several processes share, and nothing lost by a kill."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bloodcell_edge.dataset.layouts import load_all, load_data
from bloodcell_edge.dataset.pictures import LABELS, Picture
from bloodcell_edge.dataset.split import Member
from bloodcell_edge.errors import DataError, MissingFile, OutputExists, StoreError
from bloodcell_edge.imaging.drawn import draw_folder
from bloodcell_edge.imaging.image import read_image, resize
from bloodcell_edge.progress import SILENT
from bloodcell_edge.training.backbone import build_model
from bloodcell_edge.training.frameworks import keras
from bloodcell_edge.training.recipes import Augmentation, Recipe, choose_recipe, load_recipe, save_recipe
from bloodcell_edge.training.search.ladder import Ladder, ranked
from bloodcell_edge.training.search.rungs import RUNGS, Judge, make_folds, some_pictures
from bloodcell_edge.training.search.search import search
from bloodcell_edge.training.search.space import (
    KEPT,
    SCALED,
    Space,
    architecture,
    recipe_of,
    scaled,
    space_with_weights,
)
from convert.cost import int8_cost
from convert.representative import with_full_range
from convert.targets import Target
from convert.tflite import to_tflite

SPACE = Space((("mobilenet_v2", 0.35),), (32, 64))
pytestmark = pytest.mark.long  # a search trains many

RECIPE = choose_recipe("field", alpha=0.35, size=64, weights="pretrained.weights.h5")


def rows(*counts, labels=LABELS, per_group=3):
    """Pictures that are not there: so many photographs of each class in each source, each shown `per_group` times."""
    return [
        Member(Picture(Path(name), name, label, f"{source}-{label}-{group}", source=source), "", "", name)
        for source, count in zip(("", "b", "c"), counts, strict=False)
        for label in labels
        for group in range(count)
        for name in [f"{source}-{label}-{group}-{copy}.jpg" for copy in range(per_group)]
    ]


def groups(members, places):
    return {members[place].picture.group for place in places}


def test_several_sources_are_left_out_one_after_the_other():
    """Each fold is judged by one whole source and trained on all others."""
    members = rows(4, 5, 6)

    folds = make_folds(members, LABELS, first="a", seed=0)

    assert [fold.name for fold in folds] == ["a", "b", "c"]
    for own, fold in zip(("", "b", "c"), folds, strict=True):
        assert {members[place].picture.source for place in fold.judge} == {own}
        assert {members[place].picture.source for place in fold.train} == {"", "b", "c"} - {own}
        assert len(fold.train) + len(fold.judge) == len(members)


def test_a_photograph_in_two_sources_is_not_trained_on_where_it_judges():
    """A group that the left-out source has too is left out of the training side."""
    members = rows(4, 4)
    members[0] = replace(members[0], picture=replace(members[0].picture, group=members[-1].picture.group))

    for fold in make_folds(members, LABELS, first="a", seed=0):
        assert not groups(members, fold.train) & groups(members, fold.judge)


@given(count=st.integers(3, 9), seed=st.integers(0, 99))
def test_a_single_source_is_dealt_into_thirds_by_photograph(count, seed):
    """Every picture judges once, no photograph is cut, and every part has every class."""
    members = rows(count)

    folds = make_folds(members, LABELS, first="a", seed=seed)

    assert sorted(np.concatenate([fold.judge for fold in folds])) == list(range(len(members)))
    for fold in folds:
        assert not groups(members, fold.train) & groups(members, fold.judge)
        assert {members[place].picture.label for place in fold.judge} == set(LABELS)


def test_pictures_with_a_note_do_not_judge_where_they_are_not_wanted():
    """They are left out of the judging side alone, and only where the caller says so."""
    members = rows(4, 4)
    members[0] = replace(members[0], picture=replace(members[0].picture, note="suspect"))

    for noted in (True, False):
        here, there = make_folds(members, LABELS, first="a", noted=noted, seed=0)
        assert (0 in here.judge) == noted
        assert 0 in there.train


def test_a_class_that_only_one_source_has_is_refused():
    """Leaving that source out would leave nothing of the class to train on: the error names both."""
    members = [*rows(4), *rows(0, 4, labels=LABELS[:3])]

    with pytest.raises(DataError, match=r"^a: without it there is no NEUTROPHIL"):
        make_folds(members, LABELS, first="a", seed=0)


@given(most=st.integers(4, 60), seed=st.integers(0, 9))
def test_some_pictures_are_of_all_classes_alike_and_of_many_photographs(most, seed):
    """Of each class and source the same number, and a second picture of a photograph only after one of each."""
    members = rows(5, 7)

    chosen = some_pictures(members, most, seed)

    assert list(chosen) == list(some_pictures(members, most, seed))
    for source, photographs in (("", 5), ("b", 7)):
        for label in LABELS:
            own = [members[place] for place in chosen if members[place].picture.source == source]
            own = [row for row in own if row.picture.label == label]
            assert len(own) == min(most // 4, 3 * photographs)
            assert len({row.picture.group for row in own}) == min(len(own), photographs)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=12))
def test_ranking_puts_what_nothing_beats_first(values):
    """Front 0 is what no other dominates; nothing stands before what dominates it; accuracy decides within a front."""
    array = np.array(values, np.float64).reshape(-1, 3)
    order, front = ranked(array)

    def beats(one, other):
        no_worse = one[0] >= other[0] and one[1] <= other[1] and one[2] <= other[2]
        return no_worse and tuple(one) != tuple(other)

    assert sorted(order) == list(range(len(values)))
    for place, one in enumerate(values):
        assert (front[place] == 0) == (not any(beats(other, one) for other in values))
        assert all(order.index(place) < order.index(other) for other in range(len(values)) if beats(one, values[other]))
    keys = [(front[place], -array[place, 0]) for place in order]
    assert keys == sorted(keys)


def accuracy_of(job):
    """A figure that is another for every candidate, the higher the larger its head's rate."""
    return job.chosen["head_rate"] * 50


def climb(ladder, trials, brackets=1, most=99):
    """Judge until nothing is left; the jobs in order."""
    jobs = []
    while len(jobs) < most:
        job, others = ladder.claim(trials, brackets)
        if job is None:
            assert not others
            break
        jobs.append((job.rung.number, job.candidate, dict(job.chosen), accuracy_of(job)))
        ladder.tell(job, (accuracy_of(job), 1.0, 1000), by_fold={}, n=1, cpu="", seconds=0.0)
    return jobs


def test_the_best_third_of_each_rung_goes_on(tmp_path):
    """Of 9 candidates 3 reach rung 2 and 1 reaches rung 3: the best ones, with their values and numbers kept."""
    with Ladder(tmp_path, SPACE, RECIPE) as ladder:
        jobs = climb(ladder, 9)

    by_rung = {number: [job for job in jobs if job[0] == number] for number in (1, 2, 3)}
    assert [len(by_rung[number]) for number in (1, 2, 3)] == [9, 3, 1]
    best = sorted(by_rung[1], key=lambda job: -job[3])
    assert {job[1] for job in by_rung[2]} == {job[1] for job in best[:3]}
    assert by_rung[3][0][1] == best[0][1]
    first = {job[1]: job[2] for job in by_rung[1]}
    second = {job[1]: job[2] for job in by_rung[2]}
    assert all(job[2].items() >= first[job[1]].items() for job in by_rung[2])
    assert by_rung[3][0][2] == second[by_rung[3][0][1]]


def test_more_trials_later_go_on_where_it_ended(tmp_path):
    """A ladder that was climbed with 3 and is opened again with 9 judges no candidate twice on a rung."""
    with Ladder(tmp_path, SPACE, RECIPE) as ladder:
        jobs = climb(ladder, 3)
    with Ladder(tmp_path, SPACE, RECIPE) as ladder:
        jobs += climb(ladder, 9)
        assert climb(ladder, 9) == []

    assert len({job[:2] for job in jobs}) == len(jobs)
    assert [sum(job[0] == number for job in jobs) for number in (1, 2, 3)] == [9, 3, 1]


def test_brackets_repeat_where_no_number_was_given(tmp_path):
    """Without an end the next bracket begins after the best of the first have gone on."""
    with Ladder(tmp_path, SPACE, RECIPE) as ladder:
        jobs = climb(ladder, 3, brackets=None, most=10)

    assert [job[0] for job in jobs] == [1, 1, 1, 2, 3, 1, 1, 1, 2, 3]


def test_the_first_candidate_is_the_recipe_itself(tmp_path):
    """Candidate 0 has the recipe's own values, so that the others are compared with it."""
    with Ladder(tmp_path, SPACE, RECIPE) as ladder:
        job, _ = ladder.claim(3, 1)

        ladder.let_go(job)

    assert job.candidate == 0
    assert recipe_of(RECIPE, job.chosen) == RECIPE


def test_the_same_seed_proposes_the_same(tmp_path):
    """Two ladders of one seed see the same candidates, one of another seed others."""
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        with Ladder(tmp_path / name, SPACE, replace(RECIPE, seed=seed)) as ladder:
            found.append(climb(ladder, 12))

    assert found[0] == found[1] != found[2]


def test_two_workers_never_judge_the_same_candidate(tmp_path):
    """What one process holds another does not get; where nothing else is left, it is told that others work."""
    with Ladder(tmp_path, SPACE, RECIPE) as one, Ladder(tmp_path, SPACE, RECIPE) as other:
        first, _ = one.claim(2, 1)
        second, _ = other.claim(2, 1)
        none, others = other.claim(2, 1)
        one.let_go(first)
        other.let_go(second)

    assert {first.candidate, second.candidate} == {0, 1}
    assert none is None
    assert others


CLAIM_AND_DIE = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_search import Ladder, SPACE, RECIPE
with Ladder(Path(sys.argv[1]), SPACE, RECIPE) as ladder:
    held = ladder.claim(2, 1), ladder.claim(2, 1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_held_is_taken_up_again(tmp_path):
    """After SIGKILL the next process gets the same candidates with the same values, and none is lost or doubled."""
    died = subprocess.run(
        [sys.executable, "-c", CLAIM_AND_DIE, tmp_path, Path(__file__).parent], timeout=120, check=False
    )
    assert died.returncode == -signal.SIGKILL
    (tmp_path / "same").mkdir()
    with Ladder(tmp_path / "same", SPACE, RECIPE) as ladder:
        wanted = climb(ladder, 3)

    with Ladder(tmp_path, SPACE, RECIPE) as ladder:
        jobs = climb(ladder, 3)

    assert jobs == wanted
    assert len(jobs) == 5


def test_a_candidate_that_takes_its_process_down_is_given_up(tmp_path):
    """Begun three times and never ended, a candidate counts as failed and the search goes on without it."""
    with Ladder(tmp_path, SPACE, RECIPE) as ladder:
        for _ in range(3):
            job, _ = ladder.claim(1, 1)
            assert job.candidate == 0
            job.lock.close()  # as the system does when a process ends
        job, _ = ladder.claim(2, 1)
        ladder.let_go(job)
        assert job.candidate == 1
        assert ladder.failed(1) == {0}


def test_a_candidate_that_was_let_go_is_not_blamed(tmp_path):
    """However often the clock or Ctrl-C stopped it, it is begun again."""
    with Ladder(tmp_path, SPACE, RECIPE) as ladder:
        for _ in range(5):
            job, _ = ladder.claim(1, 1)
            assert job.candidate == 0
            ladder.let_go(job)


def test_every_limit_of_augmentation_is_scaled_or_kept_on_purpose():
    """A field that is added to Augmentation must be put into one of the two lists."""
    assert {field.name for field in fields(Augmentation)} == {*SCALED, *KEPT}


def test_strength_scales_the_limits():
    """Twice the strength is twice every limit, at most 1; none stays none."""
    how = scaled(Augmentation(zoom=0.1, stain=0.7), 2.0)

    assert (how.zoom, how.stain, how.rotation_degrees) == (0.2, 1.0, 180.0)
    assert scaled(None, 2.0) is None


def test_a_recipe_survives_its_file(tmp_path):
    """What is saved is read back equal; other files are refused with their name."""
    recipe = recipe_of(RECIPE, {"backbone": "mobilenet_v2:0.35", "size": 96, "strength": 1.5, "hidden": 128})
    save_recipe(tmp_path / "a.json", recipe)
    assert load_recipe(tmp_path / "a.json") == recipe

    with pytest.raises(MissingFile, match=r"b\.json"):
        load_recipe(tmp_path / "b.json")
    for text in ("{", "[]", '{"alpha": 1.0}', '{"name": "x", "colour": 1}', '{"name": "x", "augmentation": {"y": 1}}'):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(DataError, match=r"b\.json"):
            load_recipe(tmp_path / "b.json")


@pytest.fixture(scope="module")
def labs(tmp_path_factory):
    """Two folders of drawn fields."""
    folder = tmp_path_factory.mktemp("labs")
    for number, name in enumerate(("here", "there")):
        draw_folder(folder / name, per_class=8, seed=30 + number, size=(120, 160), ambiguity=0.0)
    return [folder / "here", folder / "there"]


@pytest.fixture(scope="module")
def weights(labs, tmp_path_factory):
    """A weights file of random kernels whose BatchNorm has seen drawn fields: made in a second, and tells something."""
    keras.utils.set_random_seed(3)
    base = keras.applications.MobileNetV2(alpha=0.35, include_top=False, weights=None, input_shape=(64, 64, 3))
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    fields = [resize(read_image(path), (64, 64)) for path in sorted(labs[0].rglob("*.*"))]
    base(np.stack(fields) / np.float32(127.5) - 1, training=True)
    path = tmp_path_factory.mktemp("weights") / "random.weights.h5"
    base.save_weights(path)
    return path


def test_only_backbones_with_weights_are_offered(weights):
    """A weights file leaves all backbones out that it does not fit, and each is named with the reason."""
    widths = (("mobilenet_v2", 0.35), ("mobilenet_v2", 0.5), ("mobilenet_v3_small", 1.0))

    space, left_out = space_with_weights(replace(RECIPE, weights=str(weights)), (64,), 4, widths)

    assert space.backbones == (("mobilenet_v2", 0.35),)
    assert set(left_out) == {"mobilenet_v2:0.5", "mobilenet_v3_small:1"}
    assert all("does not fit" in why for why in left_out.values())
    with pytest.raises(DataError, match=r"fits none of mobilenet_v2:0\.5"):
        space_with_weights(replace(RECIPE, weights=str(weights)), (64,), 4, widths[1:2])


def test_a_search_without_weights_is_refused(tmp_path):
    """Frozen features of nothing rank nothing; a file that is not there is named."""
    with pytest.raises(DataError, match="pretrained"):
        space_with_weights(replace(RECIPE, weights="none"), (64,), 4)
    with pytest.raises(MissingFile, match=r"gone\.weights\.h5"):
        space_with_weights(replace(RECIPE, weights=str(tmp_path / "gone.weights.h5")), (64,), 4)


def test_an_untrained_network_costs_what_one_with_other_weights_does(weights, labs):
    """Size of the untrained int8 file is within 2 % of one with weights, and a larger input takes longer."""
    recipe = Recipe("x", alpha=0.35, size=64, weights=str(weights))
    model, _, _ = build_model(recipe, 4)
    fields = np.stack([resize(read_image(path), (64, 64)) for path in sorted(labs[0].rglob("*.*"))])
    other = len(to_tflite(model, target=Target.INT8, representative=with_full_range(fields)))

    small, large = int8_cost(recipe, 4), int8_cost(replace(recipe, size=192), 4)

    assert small.bytes == pytest.approx(other, rel=0.02)
    assert 0 < small.latency_ms < large.latency_ms


def by_architecture(recipe, labels):
    """A clock that always shows the same, so that two searches can be compared."""
    return recipe.size / 100 + recipe.hidden / 1000, 1000 * labels + recipe.hidden


def run(labs, weights, folder, *, trials=3, report=SILENT, measure=by_architecture, **changes):
    """A search as small as they come."""
    brief = {"head_epochs": 2, "fine_tune_epochs": 2, **changes}
    recipe = replace(RECIPE, weights=str(weights), **brief)
    dataset = load_all(labs, subset="train")
    return search(labs, dataset, recipe, SPACE, folder, measure=measure, trials=trials, report=report)


@pytest.fixture(scope="module")
def study(labs, weights, tmp_path_factory):
    """A finished search: 3 candidates on rung 1, one on rung 2, one on rung 3."""
    return run(labs, weights, tmp_path_factory.mktemp("study"))


def test_a_search_fills_its_folder_and_tidies_up(study):
    """Tables, plot and recipes are there, trainings in hand are gone, and nothing half-written is left."""
    names = {path.name for path in study.folder.iterdir()}

    assert {"trials.csv", "front.csv", "front.png", "best.json", "recipes", "study.sqlite"} <= names
    assert not list((study.folder / "trials").iterdir())
    assert not list((study.folder / "claims").iterdir())
    assert study.finished
    assert study.counts() == {1: 3, 2: 1, 3: 1}
    assert read_image(study.folder / "front.png").shape == (720, 960, 3)


def test_figures_are_of_every_picture_that_was_left_out(study, labs):
    """Each row is judged by all 64 pictures, fold by fold, and its figure is the mean of the folds."""
    for row in study.rows:
        assert row.n == 64
        assert list(row.by_fold) == [lab.as_posix() for lab in labs]
        assert row.balanced_accuracy == pytest.approx(np.mean(list(row.by_fold.values())))


def test_heads_on_frozen_features_tell_colours_apart(colours, weights, tmp_path):
    """A head judges flat colours of a source that it has not seen, by features of the right pictures."""
    pictures = load_data(colours.path.parents[1] / "pictures").pictures
    members = [
        Member(replace(picture, group=picture.file, source="b" if number % 2 else ""), "", "", picture.file)
        for number, picture in enumerate(pictures)
    ]
    recipe = replace(RECIPE, weights=str(weights), size=32, head_epochs=10, head_rate=1e-2, augmentation=None)
    folds = make_folds(members, LABELS, first="a", seed=0)

    found = Judge(members, LABELS, folds, folder=tmp_path, seed=0).judge(recipe, RUNGS[0], 0, SILENT)

    assert (list(found.by_fold), found.n) == (["a", "b"], 320)
    assert found.balanced_accuracy > 0.7  # of chance 0.25


def test_the_tables_say_what_was_found(study):
    """trials.csv holds every row, front.csv those of the front; best.json is the recipe of the most accurate."""
    with (study.folder / "trials.csv").open() as stream:
        listed = list(csv.DictReader(stream))
    with (study.folder / "front.csv").open() as stream:
        front = list(csv.DictReader(stream))

    assert [(int(row["rung"]), int(row["candidate"])) for row in listed] == [(r.rung, r.candidate) for r in study.rows]
    assert [int(row["candidate"]) for row in front] == [row.candidate for row in study.front()]
    best = load_recipe(study.best)
    assert {key: str(value) for key, value in architecture(best).items()}.items() <= front[0].items() | {
        ("alpha", str(best.alpha))
    }
    assert best.fine_tune_rate == pytest.approx(float(front[0]["fine_tune_rate"]))
    assert (best.held_back, best.head_epochs) == (0.2, 2)  # the recipe's own, not the rung's


def test_a_finished_search_has_nothing_left_to_do(study, labs, weights):
    """The same command again judges nothing and finds the same."""
    assert run(labs, weights, study.folder) == study


def test_another_search_in_the_same_folder_is_refused(study, labs, weights):
    """Other data, another recipe or space is not mixed into a study."""
    with pytest.raises(OutputExists, match=r"\(recipe\).*--name"):
        run(labs, weights, study.folder, seed=1)
    with pytest.raises(OutputExists, match=r"\(data, n, pictures_sha256, sources\).*--name"):
        run(labs[:1], weights, study.folder)


def test_one_data_given_twice_is_refused(labs, weights, tmp_path):
    """Left out under one name it would be trained on under the other: the error names it."""
    with pytest.raises(DataError, match=r"here: given twice"):
        run([labs[0], labs[0] / "../here"], weights, tmp_path)


def test_a_damaged_storage_is_one_clear_error(labs, weights, tmp_path):
    """Bytes that are no SQLite file, and a config that is no JSON, are refused with their path and what to do."""
    (tmp_path / "study.sqlite").write_bytes(b"no database " * 400)
    with pytest.raises(StoreError, match=r"study\.sqlite: expected .* file is not a database.* --force") as caught:
        run(labs, weights, tmp_path)
    assert "\n" not in str(caught.value)

    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json: .*--force"):
        run(labs, weights, tmp_path)


def test_a_storage_that_breaks_under_way_is_one_clear_error(labs, weights, tmp_path):
    """Where the file is overwritten while a candidate is judged, the search says so, not SQLAlchemy."""

    def break_it(recipe, labels):
        (tmp_path / "study.sqlite").write_bytes(b"no database " * 400)
        return by_architecture(recipe, labels)

    with pytest.raises(StoreError, match=r"study\.sqlite: "):
        run(labs, weights, tmp_path, measure=break_it)


def test_the_clock_stops_a_search_that_then_goes_on(labs, weights, tmp_path):
    """With no time at all nothing is judged, the answer says it is not finished, and the folder can be gone on with."""
    dataset, recipe = load_all(labs, subset="train"), replace(RECIPE, weights=str(weights))
    found = search(
        labs, dataset, recipe, SPACE, tmp_path, measure=by_architecture, minutes=1e-9, trials=3, report=SILENT
    )

    assert not found.finished
    assert found.rows == ()
    assert found.best is None


STOPPED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bloodcell_edge.cli.terminal.options import Terminal
from test_search import run
run([Path(sys.argv[2]), Path(sys.argv[3])], sys.argv[4], Path(sys.argv[5]), report=Terminal())
"""


def stop_at(command, how, *texts):
    """Run a command until it has said these things on stderr, one after the other, and signal it; all it said."""
    with subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8", env=os.environ) as process:
        said, awaited = [], list(texts)
        for line in process.stderr:
            said.append(line)
            if awaited and awaited[0] in line:
                del awaited[0]
                if not awaited:
                    process.send_signal(how)
        process.wait()
    assert process.returncode == -how, "".join(said)[-2000:]
    return "".join(said)


def figures(found):
    return [(row.rung, row.candidate, row.chosen, row.by_fold, row.front) for row in found.rows]


def test_a_stopped_search_goes_on_and_finds_the_same(study, labs, weights, tmp_path):
    """Killed on rung 1, stopped by Ctrl-C between epochs of rung 3, it ends with the figures of one that was not."""
    command = [sys.executable, "-c", STOPPED, str(Path(__file__).parent), *map(str, labs), str(weights), str(tmp_path)]
    stop_at(command, signal.SIGKILL, "rung 1, candidate 1: ")
    said = stop_at(command, signal.SIGINT, "rung 3, candidate", "head 1/2")

    assert "stopped; the same command goes on" in said
    with (tmp_path / "trials.csv").open() as stream:
        assert [row["rung"] for row in csv.DictReader(stream)] == ["1", "1", "1", "2"]
    assert figures(run(labs, weights, tmp_path)) == figures(study)


TOGETHER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bloodcell_edge.cli.terminal.options import Terminal
from test_search import by_architecture, run
labs, weights, folder = [Path(sys.argv[2]), Path(sys.argv[3])], sys.argv[4], Path(sys.argv[5])

def measure(recipe, labels):  # the first result waits until both processes hold a candidate
    met, until = folder / "met", time.monotonic() + 300
    while not met.exists() and len(list((folder / "claims").iterdir())) < 2:
        assert time.monotonic() < until
        time.sleep(0.05)
    met.touch()
    return by_architecture(recipe, labels)

found = run(labs, weights, folder, report=Terminal(), measure=measure)
assert found.finished
"""


def test_two_processes_share_a_search(study, labs, weights, tmp_path):
    """Both judge, none judges what the other does, both end, and what they find is what one process finds alone."""
    command = [sys.executable, "-c", TOGETHER, str(Path(__file__).parent), *map(str, labs), str(weights), str(tmp_path)]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8") for _ in range(2)]
    said = [process.communicate(timeout=600)[1] for process in both]

    assert [process.returncode for process in both] == [0, 0], "\n\n".join(said)
    judged = [re.findall(r"rung (\d), candidate (\d+): balanced", text) for text in said]
    assert all(judged)
    assert sorted(judged[0] + judged[1]) == sorted((str(row.rung), str(row.candidate)) for row in study.rows)
    assert figures(run(labs, weights, tmp_path)) == figures(study)


def test_the_command_prints_the_front_and_how_to_train_it(labs, weights, bce_here, tmp_path):
    """`bce search --json` has the front and a `bce train` command, which trains exactly that recipe."""
    options = ["--recipe", "field", "--weights", weights, "--sizes", "32", "--trials", "1"]
    done = bce_here("search", *labs, *options, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)

    assert found["judged"] == {"1": 1, "2": 1, "3": 1}
    assert found["finished"] is True
    assert "for want of weights: mobilenet_v2:0.5, " in done.stderr
    assert found["front"][0]["latency_ms"] > 0
    table = bce_here("search", *labs, *options)
    assert found["command"] in table.stdout
    assert table.stdout.startswith("searches/search: judged rung 1: 1, rung 2: 1, rung 3: 1; 0 left out; done\n")

    best = load_recipe(tmp_path / found["best"])
    assert (best.size, best.head_epochs, best.held_back) == (32, 8, 0.2)
    save_recipe(tmp_path / found["best"], replace(best, head_epochs=1, fine_tune_epochs=1))  # the rest is as it was
    words = found["command"].split()
    assert words[:2] == ["bce", "train"]
    trained = bce_here(*words[1:], "--name", "again")
    assert trained.returncode == 0, trained.stderr
    assert json.loads((tmp_path / "runs/again/recipe.json").read_text())["recipe"] == json.loads(
        (tmp_path / found["best"]).read_text()
    )
    refused = bce_here(*words[1:], "--seed", "3")
    assert refused.returncode == 2
    assert "--seed changes the recipe" in refused.stderr


def test_sizes_that_are_none_are_a_usage_error(bce_here, labs):
    """--sizes takes numbers from 32 to 1024."""
    for text in ("16", "96,", "large"):
        done = bce_here("search", *labs, "--sizes", text)
        assert done.returncode == 2
        assert "32 to 1024" in done.stderr


def test_the_rungs_grow():
    """Each rung has no fewer steps of fine-tuning than the one below, the last the most pictures."""
    short = [rung.shortened(choose_recipe("blood", weights="none")) for rung in RUNGS[1:]]
    steps = [one.fine_tune_epochs * one.draws for one in short]

    assert steps == sorted(steps)
    assert RUNGS[-1].pictures == max(rung.pictures for rung in RUNGS)
    assert not any(one.background for one in short)
