"""What the suites time: one network of fixed size and drawn pictures, so that runs of all machines are of one work.

    make bench                                   # writes .benchmarks/, prints a table
    .venv/bin/pytest-benchmark compare           # the runs that are there, side by side

The network has random weights: how fast it is does not depend on what it knows. For the speed of a real model file on
real pictures there is `bce benchmark`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bloodcell_edge.benchmark.measure import default_pictures
from bloodcell_edge.cli import ask_of_libraries
from bloodcell_edge.imaging.drawn import LABELS
from bloodcell_edge.imaging.image import IMAGE_VERSION, read_image
from bloodcell_edge.model.file import pack
from bloodcell_edge.model.locator import shipped_locator
from bloodcell_edge.model.spec import ModelSpec

SIZE = 128  # pixels
SPEC = ModelSpec("bench", LABELS, "cell", (SIZE, SIZE), "keras", IMAGE_VERSION, crop_um=20.0)


def pytest_configure() -> None:
    """Measure what `bce` does."""
    ask_of_libraries()


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Keep what a latency depends on beside every run."""
    from bloodcell_edge import machine

    machine_info["bloodcell_edge"] = machine.describe()


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
    """What the network is: cells of 20 µm at SIZE pixels."""
    return SPEC


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """16 drawn fields of 640 x 480 pixels as JPEG files."""
    return default_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="session")
def crops(pictures: list[Path]) -> NDArray[np.uint8]:
    """Their cells as the network takes them: uint8 (n, SIZE, SIZE, 3)."""
    images = [read_image(path) for path in pictures]
    return np.stack([one.pixels for image in images for one in SPEC.shown_as.show(image, shipped_locator()(image))])


@pytest.fixture(scope="session")
def recipe() -> Any:
    """Recipe "field" from random weights: all of MobileNetV2 1.0 trains."""
    from bloodcell_edge.training.recipes import choose_recipe

    return choose_recipe("field", view="cell", size=SIZE, weights="none")


@pytest.fixture(scope="session")
def net(recipe: Any) -> Any:
    """MobileNetV2 1.0 with four answers."""
    from bloodcell_edge.training.backbone import build_model

    return build_model(recipe, len(LABELS))[0]


@pytest.fixture(scope="session")
def models(net: Any, crops: NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The network as model files: target -> .tflite."""
    from convert.representative import with_full_range
    from convert.targets import Target
    from convert.tflite import to_tflite

    folder = tmp_path_factory.mktemp("models")
    found = {}
    for target in (Target.FLOAT32, Target.FLOAT16, Target.INT8):
        found[target.value] = folder / f"bloodcell-{target.value}.tflite"
        flatbuffer = to_tflite(net, target=target, representative=with_full_range(crops))
        found[target.value].write_bytes(pack(flatbuffer, SPEC.with_(target=target.value)))
    return found
