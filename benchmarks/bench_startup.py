"""How long it takes until something is there, and how large the install of a device is.

    python benchmarks/bench_startup.py [--model MODEL]

``import bloodcell_edge`` and ``bce --help`` against ``python -c "import click"``, which the project wants to be 3 at
most; ``bce classify one.jpg`` against a bare script that imports numpy, OpenCV and the same interpreter, opens the same
file and invokes it once on the same picture, wanted to be 1.5 at most. All commands run in turn, round after round, so
that a busy machine slows each of them alike; printed are medians, and the ratio to the one they are measured against.
All find their modules compiled, as pip leaves them, also where this tree is installed as editable.

The install is what the base requirements of the package bring, with what these bring, as their files are on this disk.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bloodcell_edge.errors import MissingFile
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.imaging.image import encode_jpeg
from bloodcell_edge.model.choose import choose_model
from bloodcell_edge.model.interpreter import RUNTIMES, load_interpreter

BCE = str(Path(sys.executable).parent / "bce")
CLICK = "python -c 'import click'"
STARTS: dict[str, list[str]] = {
    CLICK: [sys.executable, "-c", "import click"],
    "python -c pass": [sys.executable, "-c", "pass"],
    "import bloodcell_edge": [sys.executable, "-c", "import bloodcell_edge"],
    "bce --help": [BCE, "--help"],
}
BARE = """
import sys
import numpy as np
import cv2
from {module} import Interpreter
interpreter = Interpreter(sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
entry, exit_ = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
height, width = entry["shape"][1:3]
pixels = cv2.resize(cv2.imread(sys.argv[2])[..., ::-1], (width, height))
interpreter.set_tensor(entry["index"], pixels[np.newaxis].astype(entry["dtype"]))
interpreter.invoke()
print(interpreter.get_tensor(exit_["index"]))
"""


def cold_starts(model: Path, picture: Path) -> dict[str, list[str]]:
    """The bare script first, then what is measured against it; both run the same interpreter."""
    runtime = load_interpreter(model).runtime.split()[0]
    bare = [sys.executable, "-c", BARE.format(module=RUNTIMES[runtime]), str(model), str(picture)]
    return {
        f"bare script, {runtime}": bare,
        "bce classify one.jpg": [BCE, "classify", str(picture), "--model", str(model)],
    }


def measure(commands: dict[str, list[str]], rounds: int) -> dict[str, list[float]]:
    """Run every command once a round, after one round that is not counted; seconds each took, by name."""
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as compiled:
        environment = {**kept, "PYTHONPYCACHEPREFIX": compiled}
        for count in range(rounds + 1):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(
                    command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
                )
                if count:
                    seconds[name].append(time.perf_counter() - start)
    return seconds


def show(title: str, seconds: dict[str, list[float]]) -> None:
    """Print a line for each command; the first is what the others are compared with."""
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = next(iter(medians.values()))
    count = len(next(iter(seconds.values())))
    print(f"{title}, median of n = {count} interleaved runs, Python {sys.version.split()[0]}")
    for name, median in medians.items():
        print(f"  {name:30} {1000 * median:7.1f} ms   {median / base:5.2f} x")


def device_install(name: str = "bloodcell-edge") -> dict[str, int]:
    """Bytes on disk of a distribution and of all that it asks for here without extras, by name."""
    sizes: dict[str, int] = {}
    wanted = [name]
    while wanted:
        found = metadata.distribution(wanted.pop())
        key = canonicalize_name(found.metadata["Name"])
        if key in sizes:
            continue
        sizes[key] = _size(found) if key != name else _own_size()
        needs = map(Requirement, found.requires or ())
        wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return sizes


def _size(found: metadata.Distribution) -> int:
    """What `du --apparent-size` would add up: every file that the installer wrote, byte code included."""
    paths = (Path(str(file.locate())) for file in found.files or ())
    return sum(path.stat().st_size for path in paths if path.exists())


def _own_size() -> int:
    """The sources of this tree, which may be an editable install."""
    root = Path(__file__).resolve().parents[1]
    return sum(path.stat().st_size for name in ("bloodcell_edge", "convert") for path in (root / name).rglob("*.py"))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="how often each command is run (default 20)")
    parser.add_argument("--model", help="for the cold start, as bce takes it (default: shipped, else of runs/latest)")
    options = parser.parse_args()
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

    show("start-up", measure(STARTS, options.rounds))
    try:
        model = choose_model(options.model).path
    except MissingFile as missing:
        print(f"cold start: not measured, {missing}")
    else:
        with tempfile.TemporaryDirectory() as folder:
            picture = Path(folder) / "one.jpg"
            picture.write_bytes(encode_jpeg(draw_field(1).image))
            show(f"cold start with {model}", measure(cold_starts(model, picture), options.rounds))
    sizes = device_install()
    print(f"install of a device: {sum(sizes.values()) / 1e6:.1f} MB")
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"  {name:30} {size / 1e6:7.1f} MB")


if __name__ == "__main__":
    main()
