"""Two devices, each an environment of its own without TensorFlow: old and new interpreter count a slide alike."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from bloodcell_edge.imaging.drawn import draw_folder
from bloodcell_edge.imaging.image import decode
from bloodcell_edge.imaging.located import overlap
from bloodcell_edge.model.locator import shipped_locator
from bloodcell_edge.slide.reader import Reader

pytestmark = pytest.mark.outside

ROOT = Path(__file__).resolve().parents[2]
NOT_SOURCE = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "runs", "bce-demo", "*.egg-info", "*.sqlite*")
OLD, NEW = "tflite-runtime", "ai-edge-litert"
LABELS_KEPT = {"int8": 0.8, "float16": 0.9}  # share of cells whose top label both interpreters agree on
RULER = 0.03  # share by which kernels may move it, see `test_both_find_the_same_cells`
OWN_TIMES = {"monotonic_ns", "latency_ms"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The package as a device gets it."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "tree", ignore=NOT_SOURCE)
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder]
    subprocess.run([*build, folder / "tree"], check=True, timeout=300)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def devices(environment, wheel) -> dict[str, Path]:
    """Runtime -> the Python of an install of it, as the README says: by the constraints file, or by setup.cfg."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    new = config["options"]["install_requires"].split("\n")
    old = (ROOT / "constraints" / "tflite-runtime.txt").read_text().splitlines()
    pythons = {
        NEW: environment(*filter(None, new)),
        OLD: environment(*(line for line in old if line and not line.startswith("#")), python="3.11"),
    }
    for python in pythons.values():
        install = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--force-reinstall", wheel]
        subprocess.run(install, check=True, timeout=300)
    return pythons


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Path:
    """60 drawn fields that no model was trained on, of two sizes, with room for red cells to measure by."""
    folder = tmp_path_factory.mktemp("pictures") / "slide"
    draw_folder(folder, per_class=10, seed=77, size=(240, 320))
    draw_folder(folder / "wide", per_class=5, seed=78, size=(320, 480))
    return folder


def test_each_device_has_the_runtime_it_is_meant_to_have(devices, cell_run):
    """tflite-runtime 2.14.0 runs under numpy 1, LiteRT under numpy 2, and neither has tensorflow."""
    program = (
        "import json, sys, importlib.util, numpy; from bloodcell_edge.model.interpreter import load_interpreter; "
        "print(json.dumps([load_interpreter(sys.argv[1]).runtime, numpy.__version__, "
        "[name for name in ('tensorflow', 'keras', 'matplotlib') if importlib.util.find_spec(name)]]))"
    )
    model = cell_run.path / "bloodcell-int8.tflite"
    found = {
        name: json.loads(subprocess.check_output([python, "-I", "-c", program, model], timeout=120))
        for name, python in devices.items()
    }
    assert found[OLD][0].split() == [OLD, "2.14.0"]
    assert found[OLD][1].startswith("1.")
    assert found[NEW][0].split()[0] == NEW
    assert int(found[NEW][1].split(".")[0]) >= 2
    assert found[OLD][2] == found[NEW][2] == []


def counted(python, model, slide, folder):
    """`bce run` of a device over a slide: the rows of its store, by table."""
    folder.mkdir()
    store = folder / "s.sqlite"
    command = [python.parent / "bce", "run", "--source", f"folder:{slide}?recursive=1", "--model", model]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [*command, "--store", store], capture_output=True, text=True, timeout=300, check=False, env=plain
    )
    assert done.returncode == 0, done.stderr
    with closing(Reader.open(store)) as reader:
        tables = ("slides", "models", "fields", "cells", "crops", "events")
        return {table: [dict(row) for row in reader.rows(f"SELECT * FROM {table} ORDER BY 1")] for table in tables}


def same_but_for(old, new, *left_out):
    """Rows of both are equal in every other column; True where there are any."""
    left = [{name: value for name, value in row.items() if name not in left_out} for row in old]
    right = [{name: value for name, value in row.items() if name not in left_out} for row in new]
    assert left == right
    return bool(left)


def close(old, new, *left_out):
    """Numbers by name, equal but for the last digits, which other releases of numpy and OpenCV may round otherwise."""
    one, other = ({name: n for name, n in json.loads(text).items() if name not in left_out} for text in (old, new))
    return one == pytest.approx(other, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("target", ["int8", "float16"])
def test_both_devices_count_the_same(devices, cell_run, slide, tmp_path, target):
    """The same fields and cells, but where a heat lies near the threshold; boxes, scale and crops nearly the same."""
    model = cell_run.path / f"bloodcell-{target}.tflite"
    old, new = (counted(devices[name], model, slide, tmp_path / name) for name in (OLD, NEW))

    same_fields(old, new)
    pairs = same_cells(old, new)
    # a box that lies a pixel elsewhere gives other pixels: a small network may call a few of them otherwise
    same = [a["top"] == b["top"] for a, b in pairs]
    assert np.mean(same) >= LABELS_KEPT[target], np.mean(same)
    assert len({row["top"] for row in new["cells"]}) >= 3
    crops = [{crop["cell_id"]: decode(crop["jpeg"]) for crop in one["crops"]} for one in (old, new)]
    for a, b in pairs:
        ours, theirs = crops[0][a["id"]], crops[1][b["id"]]
        assert max(abs(one - other) for one, other in zip(ours.shape, theirs.shape, strict=True)) <= 6


def same_fields(old, new):
    """Pictures and what the gate decided; how often it halves one hangs on the ruler, which kernels move a little."""
    assert same_but_for(old["slides"], new["slides"], "created_at")
    assert same_but_for(old["models"], new["models"], "added_at")
    assert same_but_for(old["fields"], new["fields"], *OWN_TIMES, "quality", "um_per_px", "first_look", "n_cells")
    for a, b in zip(old["fields"], new["fields"], strict=True):
        assert close(a["quality"], b["quality"], "focus", "empty", "colour", "swapped", "negative")
        assert a["um_per_px"] == pytest.approx(b["um_per_px"], rel=RULER)
    assert [event["kind"] for one in (old, new) for event in one["events"]] == ["source"] * 2
    assert all(len(one["crops"]) == len(one["cells"]) for one in (old, new))


def same_cells(old, new):
    """Cells of both, by place; each but a few has one in the other, marked and counted alike."""

    def box(row):
        return row["x"], row["y"], row["width"], row["height"]

    pairs = [
        (a, b)
        for a in old["cells"]
        for b in new["cells"]
        if a["field_id"] == b["field_id"] and overlap(box(a), box(b)) > 0.7
    ]
    assert len(pairs) >= 40
    assert len(pairs) >= 0.95 * max(len(old["cells"]), len(new["cells"]))
    assert all((a["mark"], a["counted"]) == (b["mark"], b["counted"]) for a, b in pairs)
    return pairs


LOCATED = """
import json
from bloodcell_edge.imaging.drawn import LABELS, draw_field
from bloodcell_edge.imaging.light import Halves
from bloodcell_edge.model.locator import shipped_locator
found = []
for number in range(60):
    drawn = [LABELS[(number + k) % 4] for k in range(3)]
    seen = shipped_locator().sightings(Halves(draw_field(80_000 + number, drawn, size=(480, 640)).image))
    found.append([[[*peak.rectangle, peak.heat] for peak in seen.peaks], seen.red_cell_px])
print(json.dumps(found))
"""


def test_both_find_the_same_cells(devices):
    """In 60 drawn fields, but those near the threshold, and nearly the same ruler: kernels move heats a little."""
    both = [
        json.loads(subprocess.check_output([devices[name], "-I", "-c", LOCATED], timeout=120)) for name in (OLD, NEW)
    ]
    spec = shipped_locator().spec
    for fields in zip(*both, strict=True):
        (old, old_ruler), (new, new_ruler) = fields
        assert old_ruler == pytest.approx(new_ruler, rel=RULER)
        for some, others in ((old, new), (new, old)):
            sure = [cell for cell in some if cell[4] >= spec.threshold + spec.kernel_tolerance]
            assert all(any(overlap(cell[:4], other[:4]) > 0.5 for other in others) for cell in sure)
    assert sum(len(cells) for cells, _ in both[0]) >= 150


WITHOUT_XNNPACK = """
import importlib, json, sys
import numpy as np
from bloodcell_edge.model.file import read_model_file
from bloodcell_edge.imaging.drawn import LABELS
from bloodcell_edge.model.golden import drawn_pixels
native = importlib.import_module(sys.argv[2])
kernels = native.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
view = read_model_file(sys.argv[1]).spec.shown_as
interpreter = native.Interpreter(sys.argv[1], experimental_op_resolver_type=kernels)
interpreter.allocate_tensors()
entry, exit_ = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
scores = []
for number in range(60):
    pixels = drawn_pixels(90_000 + number, LABELS[number % 4], view)
    interpreter.set_tensor(entry, pixels[np.newaxis])
    interpreter.invoke()
    scores.append(interpreter.get_tensor(exit_)[0].tolist())
print(json.dumps(scores))
"""


def test_only_xnnpack_tells_int8_apart(devices, cell_run):
    """Without XNNPACK, LiteRT gives an int8 file the scores of tflite-runtime, to the bit: 60 drawn cells."""
    modules = {OLD: "tflite_runtime.interpreter", NEW: "ai_edge_litert.interpreter"}
    old, new = (
        json.loads(
            subprocess.check_output(
                [devices[name], "-I", "-c", WITHOUT_XNNPACK, cell_run.path / "bloodcell-int8.tflite", modules[name]],
                timeout=120,
            )
        )
        for name in (OLD, NEW)
    )
    assert len(old) == 60
    assert old == new
