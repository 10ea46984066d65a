"""From Keras to .tflite, and the gate between them."""

from __future__ import annotations

from pathlib import Path

import pytest

from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.file import pack, read_model_file
from bloodcell_edge.model.locator import shipped_locator
from bloodcell_edge.progress import SILENT
from bloodcell_edge.training.kerasmodel import KerasModel
from convert.parity import Candidate, GateLimits, compare
from convert.representative import with_full_range
from convert.targets import Target
from convert.tflite import to_tflite

ROUNDS = 3


@pytest.mark.benchmark(group="convert")
@pytest.mark.parametrize("target", [Target.INT8, Target.FLOAT16, Target.FLOAT32], ids=lambda target: target.value)
def bench_convert(benchmark, net, crops, target):
    """MobileNetV2 1.0, calibrated on the cells of 16 fields."""
    samples = with_full_range(crops)
    benchmark.pedantic(lambda: to_tflite(net, target=target, representative=samples), rounds=ROUNDS)


@pytest.mark.benchmark(group="convert")
def bench_pack(benchmark, models):
    """Put the spec and the hash into a file."""
    model = read_model_file(models["int8"])
    benchmark(lambda: pack(model.flatbuffer, model.spec))


@pytest.mark.benchmark(group="parity")
def bench_parity(benchmark, spec, net, models, pictures):
    """Keras against int8, from 16 picture files."""
    labelled = [Picture(path, path.name, path.parent.name, path.stem) for path in pictures]
    reference = KerasModel(net, spec, Path("model.keras"))
    candidate = Candidate(models["int8"], Classifier.open(models["int8"]))
    limits = GateLimits(allow_small=True)
    run = (reference, reference.path, [candidate], labelled)
    benchmark.pedantic(lambda: compare(*run, limits=limits, report=SILENT), rounds=ROUNDS, warmup_rounds=1)


@pytest.mark.benchmark(group="parity")
def bench_bare_inference(benchmark, spec, net, models, pictures, crops):
    """The limit: both models over the same cells, and nothing else."""
    reference, candidate = KerasModel(net, spec, Path("model.keras")), Classifier.open(models["int8"])
    pixels = crops[: sum(bool(shipped_locator()(read_image(path)).cells) for path in pictures)]
    benchmark.pedantic(lambda: (reference.scores(pixels), candidate.scores(pixels)), rounds=ROUNDS, warmup_rounds=1)
