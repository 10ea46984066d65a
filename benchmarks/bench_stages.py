"""Each stage between a picture file and a row in the store."""

from __future__ import annotations

from itertools import cycle

import pytest

from bloodcell_edge.capture import open_source
from bloodcell_edge.capture.folder import FolderOptions, FolderSource
from bloodcell_edge.imaging.image import encode_jpeg, read_image
from bloodcell_edge.imaging.quality import judge
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.interpreter import load_interpreter
from bloodcell_edge.model.locator import shipped_locator
from bloodcell_edge.records import PreparedField
from bloodcell_edge.slide.run import count_slide
from bloodcell_edge.slide.store import Store

TARGETS = ("int8", "float16", "float32")


@pytest.mark.benchmark(group="stages")
def bench_decode(benchmark, pictures):
    """A 640 x 480 JPEG, from the file to RGB."""
    turn = cycle(pictures)
    benchmark(lambda: read_image(next(turn)))


@pytest.mark.benchmark(group="stages")
def bench_locate(benchmark, pictures):
    """The white cells of a field, and its scale."""
    turn, locate = cycle([read_image(path) for path in pictures]), shipped_locator()
    benchmark(lambda: locate(next(turn)))


@pytest.mark.benchmark(group="stages")
def bench_quality(benchmark, pictures):
    """Whether a field is good enough."""
    images = [read_image(path) for path in pictures]
    turn = cycle([(image, shipped_locator()(image).red_cell_px) for image in images])

    def look():
        image, red_cell_px = next(turn)
        return judge(image, red_cell_px=red_cell_px, earlier=())

    benchmark(look)


@pytest.mark.benchmark(group="stages")
def bench_crop_and_resize(benchmark, spec, pictures):
    """All cells of a field as the network takes them."""
    images = [read_image(path) for path in pictures]
    turn = cycle([(image, shipped_locator()(image)) for image in images])
    benchmark(lambda: spec.shown_as.show(*next(turn)))


@pytest.mark.benchmark(group="stages")
def bench_encode_crop(benchmark, crops):
    """A cell's picture as the store keeps it."""
    turn = cycle(crops)
    benchmark(lambda: encode_jpeg(next(turn)))


@pytest.mark.benchmark(group="invoke")
@pytest.mark.parametrize("target", TARGETS)
def bench_invoke(benchmark, models, crops, target):
    """One cell, one thread."""
    interpreter, turn = load_interpreter(models[target]), cycle(crops)
    benchmark(lambda: interpreter.scores(next(turn)))


@pytest.mark.benchmark(group="invoke")
def bench_bare_invoke(benchmark, models, crops):
    """The limit: set_tensor, invoke, get_tensor of the int8 file and nothing else."""
    native = load_interpreter(models["int8"])._native
    entry, exit_ = native.get_input_details()[0]["index"], native.get_output_details()[0]["index"]
    turn = cycle([pixels[None] for pixels in crops])

    def bare():
        native.set_tensor(entry, next(turn))
        native.invoke()
        return native.get_tensor(exit_)

    benchmark(bare)


@pytest.mark.benchmark(group="whole")
def bench_classify(benchmark, models, pictures):
    """From a file name to predictions: decode, locate, resize, invoke."""
    classifier, turn = Classifier.open(models["int8"]), cycle(pictures)
    benchmark(lambda: classifier.classify(read_image(next(turn))))


@pytest.mark.benchmark(group="whole")
def bench_folder(benchmark, models, pictures, tmp_path):
    """All 16 files of a folder, the next ones decoded and located meanwhile."""
    classifier, folder = Classifier.open(models["int8"]), _folder(pictures, tmp_path)

    def loop():
        with FolderSource(str(folder), folder, FolderOptions()) as source:
            source.listen(ahead=lambda image: PreparedField(classifier.show(image)))
            return [classifier.answer(frame.ahead.shown) for frame in source]

    benchmark(loop)


@pytest.mark.benchmark(group="whole")
def bench_run(benchmark, models, pictures, tmp_path):
    """The same 16 files as `bce run` takes them in, on a slide of its own each time, with the store's commits."""
    classifier, folder = Classifier.open(models["int8"]), _folder(pictures, tmp_path)
    slides = cycle(range(10**9))
    with Store.open(tmp_path / "results.sqlite") as store:

        def loop():
            with open_source(f"folder:{folder}") as source:
                return count_slide(source, classifier, store, slide=str(next(slides)))

        benchmark(loop)


@pytest.mark.benchmark(group="start")
@pytest.mark.parametrize("target", TARGETS)
def bench_open(benchmark, models, target):
    """Open a model file: read, check its hash, allocate."""
    benchmark(lambda: Classifier.open(models[target]))


def _folder(pictures, place):
    folder = place / "folder"
    folder.mkdir()
    for path in pictures:
        (folder / path.name).symlink_to(path)
    return folder
