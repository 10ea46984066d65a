"""The same file and the same pictures, against what people would use instead, in one interleaved run.

    python benchmarks/peers/run.py --work DIR [--model FILE.tflite] [--data FOLDER] [--rounds 15] [--out report.json]

Every peer is a process of its own, in an environment of its own that this script makes under --work and keeps, on the
same cores. In each round every peer goes once through the items of a task, in shuffled order, while the others wait. A
time counts where the labels agree with ours. A peer that cannot be installed or does not run is reported as absent.

Tasks: "crops" (pixels of the model's size are there already), "crop files" (a PNG for each cell), "fields" (the JPEGs
as they are; the plain loop is given our boxes), "folder" (ours over the same files, the next ones decoded meanwhile).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from environments import AbsentError, environment, installed
from ratios import FEWEST_ROUNDS, Measured, Target, as_json, rows, text

from bloodcell_edge import machine
from bloodcell_edge.benchmark.figures import work_allowed
from bloodcell_edge.benchmark.measure import default_pictures, spread
from bloodcell_edge.errors import PictureError
from bloodcell_edge.files import sha256_file, write_json
from bloodcell_edge.imaging.folder import picture_files
from bloodcell_edge.imaging.image import read_image, resize
from bloodcell_edge.imaging.views import crop, window
from bloodcell_edge.model.choose import choose_model
from bloodcell_edge.model.file import read_model_file
from bloodcell_edge.model.interpreter import load_interpreter
from bloodcell_edge.model.locator import shipped_locator
from bloodcell_edge.model.spec import ModelSpec

HERE = Path(__file__).parent
OURS, BARE, FLOAT = "bloodcell_edge", "bare loop", "bare loop, float32"
KERAS_ITEMS = 8  # a round; it takes 50 times as long

TARGETS = (
    Target(BARE, "crops", OURS, "crops", 1 / 1.05, "bare loop of set_tensor, invoke, get_tensor"),
    Target(FLOAT, "crops", BARE, "crops", 1.8, "the same loop, float32 file"),
    Target("MediaPipe", "crops", OURS, "crops", 2.0, "MediaPipe, crops"),
    Target("MediaPipe", "crop files", OURS, "crop files", 2.0, "MediaPipe, crop files"),
    Target("OpenVINO", "crops", OURS, "crops", 1.2, "OpenVINO, the .tflite"),
    Target("ONNX Runtime", "crops", OURS, "crops", 1.2, "ONNX Runtime, converted"),
    Target("Keras", "crops", OURS, "crops", 60.0, "Keras predict, one picture"),
    Target("plain loop", "crop files", OURS, "crop files", 1.0, "plain loop (PIL), crop files"),
    Target("plain loop", "fields", OURS, "fields", 3.0, "plain loop (PIL, our boxes), whole fields"),
    Target("plain loop", "fields", OURS, "folder", 3.0, "plain loop (PIL, our boxes), against our folder loop"),
)


@dataclass(frozen=True)
class Peer:
    """What to run.

    Attributes:
        name: for people.
        script: beside this file.
        requirements: of its environment; none: this one.
        model: which form of the model: "tflite", "float32", "onnx", "keras".
        limit: items of a counted round, at most; the labels of all are compared.
    """

    name: str
    script: str
    requirements: tuple[str, ...] = ()
    model: str = "tflite"
    limit: int = 10**6


def peers(interpreter: str) -> list[Peer]:
    """All of them; `interpreter` is what we run, as pip names it."""
    return [
        Peer(OURS, "peer_ours.py"),
        Peer(BARE, "peer_bare.py"),
        Peer(FLOAT, "peer_bare.py", model="float32"),
        Peer("plain loop", "peer_plain.py", (interpreter, "numpy", "pillow")),
        Peer("MediaPipe", "peer_mediapipe.py", ("mediapipe>=1.2.2",)),
        Peer("OpenVINO", "peer_openvino.py", ("openvino",)),
        Peer("ONNX Runtime", "peer_onnxruntime.py", ("onnxruntime", "numpy"), model="onnx"),
        Peer("Keras", "peer_keras.py", model="keras", limit=KERAS_ITEMS),
    ]


@dataclass
class Running:
    """A peer whose process has answered, and what it was measured with."""

    peer: Peer
    process: subprocess.Popen[str]
    tasks: list[str]
    load_ms: float
    versions: dict[str, str]
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    measured: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def ask(self, task: str, *, limit: int | None = None) -> dict[str, Any]:
        """Let it do a task once, or the first items of it.

        Raises:
            AbsentError: it failed, or is gone.
        """
        return _ask(self.process, json.dumps({"task": task, "limit": limit}))


def _ask(process: subprocess.Popen[str], line: str) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
    except OSError as error:
        answer = json.dumps({"error": str(error)})
    if not answer:
        answer = json.dumps({"error": f"its process ended with {process.wait()}"})
    values: dict[str, Any] = json.loads(answer)
    if "error" in values:
        raise AbsentError(values["error"])
    return values


def prepare(spec: ModelSpec, pictures: Sequence[Path], folder: Path) -> dict[str, str]:
    """Write what every peer is given into a folder, emptied before: task -> file of its items.

    Pictures without a cell are left out, as are those with a crop that reaches over the picture's edge.
    """
    fields, crops, files = [], [], []
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("fields", "crops"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        try:
            image = read_image(picture)
        except PictureError:
            continue
        height, width = image.shape[:2]
        squares = [(0, 0, width, height)]
        if spec.view == "cell":
            found = shipped_locator()(image)
            squares = [
                window(box, image.shape[:2], found.red_cell_px, spec.shown_as.crop_um or 0) for box in found.cells
            ]
        if not squares or any(x < 0 or y < 0 or x + w > width or y + h > height for x, y, w, h in squares):
            continue
        link = folder / "fields" / f"{len(fields):06}{picture.suffix}"
        link.symlink_to(picture.resolve())
        fields.append({"file": str(link), "windows": squares, "crop": spec.view == "cell"})
        for square in squares:
            pixels = crop(image, square)
            files.append(str(folder / "crops" / f"{len(files):06}.png"))
            _write_png(Path(files[-1]), pixels)
            crops.append(resize(pixels, spec.input_size))
    if not crops:
        message = "no picture with a cell that lies within it; give others with --data"
        raise SystemExit(message)
    np.save(folder / "crops.npy", np.stack(crops))
    (folder / "fields.json").write_text(json.dumps(fields))
    (folder / "files.json").write_text(json.dumps(files))
    paths = {"crops": "crops.npy", "crop files": "files.json", "fields": "fields.json", "folder": "fields.json"}
    return {task: str(folder / name) for task, name in paths.items()}


def _write_png(path: Path, pixels: Any) -> None:
    import cv2

    cv2.imwrite(str(path), pixels[..., ::-1])


def model_files(tflite: Path, keras: Path, work: Path, needed: Collection[str]) -> dict[str, Path | AbsentError]:
    """The forms of the model that peers take; where one cannot be made, why."""
    found: dict[str, Path | AbsentError] = {"tflite": tflite}
    found["keras"] = keras if keras.is_file() else AbsentError(f"{keras} is not there")
    for form, make in (("float32", _float32), ("onnx", _onnx)):
        if form not in needed:
            continue
        try:
            found[form] = make(tflite, keras, work)
        except (AbsentError, subprocess.CalledProcessError) as error:
            said = error.stderr.strip().splitlines()[-1] if isinstance(error, subprocess.CalledProcessError) else error
            found[form] = AbsentError(f"the model cannot be made: {said}")
    return found


def _float32(_: Path, keras: Path, work: Path) -> Path:
    if not keras.is_file():
        message = f"{keras} is not there"
        raise AbsentError(message)
    folder = work / f"float32-{sha256_file(keras)[:12]}"
    made = folder / "bloodcell-float32.tflite"
    if not made.is_file():
        code = "from bloodcell_edge.cli import main; main()"
        command = [sys.executable, "-c", code, "convert", str(keras), "--float32", "--out", str(folder)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    return made


def _onnx(tflite: Path, _: Path, work: Path) -> Path:
    python = environment(work, "tf2onnx", ("tf2onnx", f"tensorflow=={version('tensorflow')}"))
    made = work / f"{tflite.stem}-{sha256_file(tflite)[:12]}.onnx"
    if not made.is_file():
        command = [python, "-m", "tf2onnx.convert", "--tflite", tflite, "--output", made, "--opset", "17"]
        subprocess.run(command, check=True, capture_output=True, text=True)
    return made


def start(peer: Peer, model: Path, setup: dict[str, Any], work: Path) -> Running:
    """Make its environment and start its process.

    Raises:
        AbsentError: it cannot be installed, or does not open the model.
    """
    python = environment(work, peer.script.removesuffix(".py"), peer.requirements)
    command = [python, HERE / peer.script]
    with (work / f"{peer.name}.log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        answer = _ask(process, json.dumps({**setup, "model": str(model)}))
    except AbsentError:
        with process:  # closes its pipes
            process.kill()
        raise
    wanted = {"ai-edge-litert", "mediapipe", "openvino", "onnxruntime", "keras", "tensorflow", "numpy", "pillow"}
    versions = {name: version for name, version in installed(python).items() if name in wanted}
    return Running(peer, process, answer["tasks"], answer["load_ms"], versions)


def measure(running: list[Running], rounds: int) -> dict[str, str]:
    """Rounds of each task, the first for labels and not counted.

    Peers that fail are taken out, and returned with the reason.
    """
    failed: dict[str, str] = {}
    shuffle = np.random.default_rng(0)
    for task in sorted({task for one in running for task in one.tasks}):
        able = [one for one in running if task in one.tasks]
        for number in range(-1, rounds):
            for place in shuffle.permutation(len(able)):
                one = able[place]
                if one.peer.name in failed:
                    continue
                try:
                    answer = one.ask(task, limit=None if number < 0 else one.peer.limit)
                except AbsentError as error:
                    failed[one.peer.name] = f"{task}: {error}"
                    continue
                if number < 0:
                    one.labels[task] = tuple(answer["labels"])
                else:
                    one.measured.setdefault(task, []).append(answer)
    return failed


def collected(running: Sequence[Running], failed: dict[str, str]) -> list[Measured]:
    """What was measured of those that did not fail."""
    return [
        Measured(
            one.peer.name,
            task,
            tuple(1e3 * answer["seconds"] / answer["items"] for answer in answers),
            one.labels[task],
            answers[-1]["peak_mb"],
        )
        for one in running
        if one.peer.name not in failed
        for task, answers in one.measured.items()
    ]


@contextlib.contextmanager
def ended(running: Sequence[Running]) -> Iterator[None]:
    """Close what was started."""
    try:
        yield
    finally:
        for one in running:
            with one.process as process:  # closes its pipes, which ends it
                assert process.stdin is not None
                with contextlib.suppress(OSError):
                    process.stdin.close()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def doubts(other: float | None, faults: Sequence[str], threads: int, rounds: int) -> list[str]:
    """What disturbed the run."""
    cores = len(machine.usable_cores())
    said = [f"the processor was slowed down: {', '.join(faults)}"] if faults else []
    if other is not None and other > work_allowed(threads, cores):
        said.append(f"other programs kept {other:.2f} of {cores} cores busy")
    if rounds < FEWEST_ROUNDS:
        said.append(f"{rounds} rounds, expected at least {FEWEST_ROUNDS}")
    return said


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="keeps environments and inputs from run to run")
    parser.add_argument("--model", help="int8 .tflite, or a run folder (default: shipped, else of runs/latest)")
    parser.add_argument("--keras", type=Path, help="the model.keras it was made of (default: beside it)")
    parser.add_argument("--data", type=Path, help="pictures (default: drawn ones)")
    parser.add_argument("--fields", type=int, default=280, help="pictures of them to use, at most (default 280)")
    parser.add_argument("--rounds", type=int, default=15, help="default 15")
    parser.add_argument("--threads", type=int, default=1, help="cores for everybody (default 1)")
    parser.add_argument("--cores", help="numbers of these cores, as 0,1 (default: the first usable ones)")
    parser.add_argument("--peers", help="only these, comma-separated (ours are always there)")
    parser.add_argument("--out", type=Path, help="write all of it as JSON")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)

    model = choose_model(options.model).path
    spec = read_model_file(model).spec
    keras = options.keras or model.parent / "model.keras"
    pictures = picture_files([options.data]) if options.data else default_pictures(options.work / "drawn")
    tasks = prepare(spec, spread(pictures, options.fields), options.work / f"inputs-{spec.sha256[:12]}")
    usable = sorted(machine.usable_cores())
    cores = [int(core) for core in options.cores.split(",")] if options.cores else usable[: options.threads]
    setup = {
        "labels": spec.outputs,
        "size": spec.input_size,
        "threads": options.threads,
        "cores": cores,
        "tasks": tasks,
    }
    running, absent = [], {}
    every = peers("==".join(load_interpreter(model).runtime.split()))
    known = {peer.name for peer in every}
    wanted = {OURS, BARE, *options.peers.split(",")} if options.peers else known
    if wanted - known:
        parser.error(f"no peer {', '.join(sorted(wanted - known))}; there are {', '.join(sorted(known))}")
    forms = model_files(model, keras, options.work, {peer.model for peer in every if peer.name in wanted})
    for peer in every:
        if peer.name not in wanted:
            absent[peer.name] = "left out by --peers"
            continue
        form = forms[peer.model]
        print(f"starting {peer.name}", file=sys.stderr)
        try:
            if isinstance(form, AbsentError):
                raise form
            running.append(start(peer, form, setup, options.work))
        except AbsentError as error:
            absent[peer.name] = str(error)
    described, bits, before = machine.describe(), machine.throttled_bits(), _busy(running)
    with ended(running):
        absent |= measure(running, options.rounds)
        after = _busy(running)
    other = machine.other_work(before, after)
    slowed = machine.faults_between(bits, machine.throttled_bits())
    measured = collected(running, absent)
    found = rows(measured, TARGETS, reference=dict.fromkeys(tasks, OURS))
    said = doubts(other, slowed, options.threads, options.rounds)
    print(f"{described['cpu']}, cores {cores}, {options.threads} threads, n = {options.rounds} interleaved rounds\n")
    print(text(found, absent, doubts=said))
    if options.out:
        details = {one.peer.name: {"versions": one.versions, "load_ms": one.load_ms} for one in running}
        write_json(
            options.out,
            {
                "machine": {**described, "other_work_cores": other, "load_after": machine.describe()["load"]},
                "model": {"file": model.name, "sha256": spec.sha256},
                "pictures": len(json.loads(Path(tasks["fields"]).read_text())),
                "cores": cores,
                "threads": options.threads,
                "peers": details,
                "absent": absent,
                "rows": as_json(found),
                "measured": [vars(one) for one in measured],
                "doubts": said,
            },
        )


def _busy(running: Sequence[Running]) -> machine.Usage:
    """The clocks of the machine, with the time of the peers counted as our own."""
    now = machine.usage()
    return machine.Usage(now.wall, now.busy, now.own + sum(_seconds_of(one.process.pid) for one in running))


def _seconds_of(pid: int) -> float:
    """User and system time of a process, from /proc (man proc(5), fields 14 and 15)."""
    import os

    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
