"""A locator whose weights are set by hand: it reads what tests paint, and so hangs on nothing that was learnt.

It looks at blocks of 4 x 4 pixels. Purple is a white cell, 32 pixels wide and high and seen whole; the more blue a
picture, the larger its red cells; the more red, the surer it is of that.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from bloodcell_edge.model.locator import LocatorFile

SIZE = (144, 192)
GROUND = (220, 235, 191)
"""Where nothing lies: its red cells are as wide as 16 pixels, and it is sure of it."""
THRESHOLD = 128


def network(size: tuple[int, int] = SIZE, channels: tuple[int, ...] = (1, 5, 2)) -> Any:
    """The Keras network; other channels are of no use but to be refused."""
    import keras

    entry = keras.Input((*size, 3))
    mean = keras.layers.AveragePooling2D(4)(entry)
    heads = [
        keras.layers.Conv2D(count, 1, activation="sigmoid" if number == 0 else None, name=name)
        for number, (name, count) in enumerate(zip(("white", "shape", "ruler"), channels, strict=False))
    ]
    net = keras.Model(entry, [head(mean) for head in heads])
    if channels == (1, 5, 2):
        white, shape, ruler = heads
        white.set_weights([np.reshape([0.1, -0.1, 0.0], (1, 1, 3, 1)), np.array([-10.0])])
        shape.set_weights([np.zeros((1, 1, 3, 5)), np.array([0.0, 0.0, 0.0, 0.0, 1.0])])
        sure, diameter = [1 / 64, 0.0, 0.0], [0.0, 0.0, 1 / 64]
        ruler.set_weights([np.reshape([sure, diameter], (2, 3)).T[None, None], np.array([-2.0, -3.0])])
    return net


def flatbuffer_of(net: Any, target: str = "int8") -> bytes:
    """As a .tflite."""
    from convert.targets import Target
    from convert.tflite import to_tflite

    blocks = np.random.default_rng(1).integers(0, 256, (20, 9, 12, 3), np.uint8)
    height, width = net.input_shape[1:3]
    samples = np.repeat(np.repeat(blocks, height // 9, 1), width // 12, 2)
    samples[0], samples[1], samples[2] = 0, 255, (255, 0, 128)
    return to_tflite(net, target=Target(target), representative=samples, planes=True)


@pytest.fixture(scope="session")
def made_flatbuffers() -> dict[str, bytes]:
    """The network as TFLite models without a spec: "float32" and "int8"."""
    pytest.importorskip("tensorflow")
    return {target: flatbuffer_of(network(), target) for target in ("float32", "int8")}


@pytest.fixture(scope="session")
def made_file(made_flatbuffers: dict[str, bytes]) -> LocatorFile:
    """The int8 network with its spec."""
    return locator_file(made_flatbuffers["int8"])


def locator_file(flatbuffer: bytes, **changes: Any) -> LocatorFile:
    """A flatbuffer with a spec."""
    from bloodcell_edge.model.locator import pack_locator, unpack_locator
    from bloodcell_edge.model.locatorspec import LocatorSpec

    spec = LocatorSpec("made", "int8", SIZE, 1, THRESHOLD, kernel_tolerance=10).with_(**changes)
    return unpack_locator(pack_locator(flatbuffer, spec), where="made.tflite")


def field(
    height: int, width: int, *middles: tuple[int, int], ground: tuple[int, int, int] = GROUND, scale: int = 1
) -> Any:
    """A picture with a cell around each (x, y), uint8 RGB; `scale` pixels of it are one of the input."""
    picture = np.full((height, width, 3), ground, np.uint8)
    for x, y in middles:
        for reach, green in ((6 * scale, 110), (2 * scale, 20)):
            picture[max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach, 1] = green
    return picture


def with_spec(file: LocatorFile, **changes: Any) -> bytes:
    """The bytes of a file whose spec was changed by hand, and not sealed again."""
    from bloodcell_edge.model.archive import seal
    from bloodcell_edge.model.locator import SPEC_FILE

    values = json.dumps(file.spec.as_json() | changes).encode()
    return seal(file.flatbuffer, {SPEC_FILE: values}, name="made")
