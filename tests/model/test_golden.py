"""Golden samples replayed by `Classifier.open`."""

from __future__ import annotations

import numpy as np
import pytest

from bloodcell_edge.errors import SpecError
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.locate import locate
from bloodcell_edge.imaging.located import Box, Located
from bloodcell_edge.imaging.views import View
from bloodcell_edge.model import golden
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.golden import digest, drawn_pixels, replay
from bloodcell_edge.model.interpreter import load_interpreter
from bloodcell_edge.model.spec import Golden


def sample(path, spec, *, seed=7, drawn="NEUTROPHIL", **changes):
    """A golden sample as conversion makes it."""
    pixels = drawn_pixels(seed, drawn, spec.shown_as)
    scores = load_interpreter(path).scores(pixels)
    made = Golden(seed, drawn, digest(pixels), spec.labels[int(scores.argmax())], tuple(map(float, scores)))
    return Golden(**{**vars(made), **changes})


@pytest.fixture(params=["frame", "cell"])
def model(request, tiny_model):
    """Write a tiny model of either view with golden samples: ``model(scores=...)``."""
    view = {"view": request.param, "crop_um": 20.0 if request.param == "cell" else None}

    def write(**changes):
        bare = tiny_model(**view)
        spec = Classifier.open(bare).spec
        return tiny_model(golden=(sample(bare, spec), sample(bare, spec, seed=8, **changes)), **view)

    return write


def test_a_file_that_answers_as_it_did_is_opened(model):
    """On the machine that made it every bit is the same."""
    classifier = Classifier.open(model())
    found = replay(classifier.interpreter, classifier.spec, name="m", runtime="r")
    assert found == 0
    assert len(classifier.spec.golden) == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"scores": (0.05, 0.05, 0.9)}, r"golden sample NEUTROPHIL 8 was \w+ .* differs by 0\.\d+ \(limit 0\.078\)"),
        ({"label": "BLUE"}, r"was BLUE when the model was made, is \w+ here"),
        ({"pixels_sha256": "0" * 64}, "prepares other pixels of golden sample NEUTROPHIL 8"),
    ],
)
def test_a_file_that_answers_otherwise_is_refused(model, changes, says):
    """Other scores, another label, NaN or other pixels are refused, naming sample, both answers and what to do."""
    path = model(**changes)
    with pytest.raises(SpecError, match=rf"{path.name}: .*{says}"):
        Classifier.open(path)
    assert Classifier.open(path, check=False).spec.golden


def test_the_tolerance_is_that_of_other_kernels(model):
    """A score that differs by 19/256 passes, the same label given; one by 21/256 does not."""
    path = model()
    spec, interpreter = Classifier.open(path).spec, load_interpreter(path)
    one = spec.golden[0]
    top = int(np.argmax(one.scores))

    def moved(by):
        scores = tuple(score + (by if place == top else 0) for place, score in enumerate(one.scores))
        return spec.with_(golden=(Golden(**{**vars(one), "scores": scores}),))

    assert replay(interpreter, moved(19 / 256), name="m", runtime="r") == pytest.approx(19 / 256, abs=1e-6)
    with pytest.raises(SpecError):
        replay(interpreter, moved(21 / 256), name="m", runtime="r")


def test_a_cell_is_shown_where_it_was_drawn():
    """So the pixels hang on no kernels; the rules, by which files of version 1 were made, see it a little otherwise."""
    view = View("cell", (96, 96), 20.0)
    field = draw_field(7_000_001, ("LYMPHOCYTE",))
    (cell,) = field.cells
    box = Box(cell.x, cell.y, cell.width, cell.height, whole=True, touching=False)
    shown = view.show_labelled(field.image, Located((box,), 50.0))
    assert (drawn_pixels(7_000_001, "LYMPHOCYTE", view) == shown.pixels).all()
    by_rules = view.show_labelled(field.image, locate(field.image)).pixels
    assert (drawn_pixels(7_000_001, "LYMPHOCYTE", view, by_rules=True) == by_rules).all()
    assert (by_rules != shown.pixels).any()


def test_a_file_of_version_1_is_replayed_as_it_was_made(tiny_cell_model):
    """Its samples were located by rules, in crops as large as its spec says; with others it is refused."""
    spec = Classifier.open(tiny_cell_model()).spec

    def golden_sample(view, **how):
        pixels = drawn_pixels(7, "NEUTROPHIL", view, **how)
        scores = load_interpreter(tiny_cell_model()).scores(pixels)
        return Golden(7, "NEUTROPHIL", digest(pixels), spec.labels[int(scores.argmax())], tuple(map(float, scores)))

    path = tiny_cell_model(spec_version=1, golden=(golden_sample(spec.shown_as, by_rules=True),))
    assert Classifier.open(path).spec.spec_version == 1
    path = tiny_cell_model(spec_version=1, golden=(golden_sample(spec.shown_as),))
    with pytest.raises(SpecError, match="prepares other pixels"):
        Classifier.open(path)


def test_a_damaged_drawing_that_was_kept_is_drawn_again(monkeypatch, tmp_path):
    """What lies in the cache is known by its hash."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    drawn = golden.kept_field(7, ("MONOCYTE",))
    (kept,) = tmp_path.rglob("*.rgb")
    assert (golden.kept_field(7, ("MONOCYTE",)) == drawn).all()
    content = bytearray(kept.read_bytes())
    content[1000] ^= 1
    for damaged in (bytes(content), b"", kept.read_bytes()[:-1]):
        kept.write_bytes(damaged)
        assert (golden.kept_field(7, ("MONOCYTE",)) == drawn).all()
        assert kept.read_bytes() != damaged


def test_rules_that_find_nothing_are_noticed(tiny_cell_model, monkeypatch, tmp_path):
    """Where this machine finds no cell in a golden sample of version 1, the file is refused."""
    path = tiny_cell_model(spec_version=1, golden=(Golden(7, "NEUTROPHIL", "0" * 64, "RED", (1.0, 0.0, 0.0)),))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing kept"))
    monkeypatch.setattr(golden, "drawn_pixels", lambda *_, **__: None)
    with pytest.raises(SpecError, match="finds no cell in golden sample"):
        Classifier.open(path)


def test_threads_are_chosen_by_trying(tiny_model):
    """Without a number of threads, the answers are those of one thread."""
    path, image = tiny_model(), np.full((64, 48, 3), (250, 10, 10), np.uint8)
    assert (
        Classifier.open(path, threads=None).classify(image)[0].scores == Classifier.open(path).classify(image)[0].scores
    )
