"""What our loops cost beside what they must do: ratios of one interleaved run.

    python benchmarks/loop_ratios.py [--model FILE.tflite] [--data FOLDER] [--rounds 15]

On one core, then on two, each in a process of its own: the stages of each picture, the bare invoke of the same cells,
the loop of ``bce classify``, the folder loop that looks ahead, and ``bce run`` with its store. In each round each of
them goes once through the same pictures, in shuffled order. Printed are medians over the rounds of ratios within a
round, with 5 and 95 percent of the rounds; what compares processes (the last two lines of two cores) is of rounds at
different times.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bloodcell_edge import machine
from bloodcell_edge.benchmark.figures import STAGES, work_allowed
from bloodcell_edge.benchmark.measure import Case, default_pictures, folder_of, spread
from bloodcell_edge.cli import ask_of_libraries
from bloodcell_edge.closing import Closing
from bloodcell_edge.imaging.folder import picture_files
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.model.answers import classify_paths
from bloodcell_edge.model.choose import choose_model

LOOPS = ("stages", "invoke", "our invoke", "bare invoke", "classify", "folder", "stored")


class Nobody(Closing):
    """A sink that drops every answer."""

    def answer(self, file, prediction):
        """Drop it."""

    no_cell = error = answer


def invoke_loops(case: Case, pictures: Sequence[Path]) -> tuple[Callable[[], float], Callable[[], float]]:
    """Seconds of all cells of the pictures, ready as pixels: our `scores`; set_tensor, invoke, get_tensor alone."""
    interpreter = case.classifier.interpreter
    native = interpreter._native
    entry, exit_ = native.get_input_details()[0], native.get_output_details()[0]["index"]
    shown = [one.pixels for path in pictures for one in case.classifier.show(read_image(path))]
    ready = [pixels[np.newaxis].astype(entry["dtype"]) for pixels in shown]

    def ours() -> float:
        start = time.perf_counter()
        for pixels in shown:
            interpreter.scores(pixels)
        return time.perf_counter() - start

    def bare() -> float:
        start = time.perf_counter()
        for pixels in ready:
            native.set_tensor(entry["index"], pixels)
            native.invoke()
            native.get_tensor(exit_)
        return time.perf_counter() - start

    return ours, bare


def measure(model: Path, pictures: Sequence[Path], rounds: int) -> dict[str, list[float]]:
    """Seconds of each of `LOOPS` in each round, after one that is not counted."""
    case = Case.open(model, 1)
    ours, bare = invoke_loops(case, pictures)
    found: dict[str, list[float]] = {name: [] for name in LOOPS}
    with folder_of(pictures) as folder:

        def classify() -> float:
            start = time.perf_counter()
            classify_paths(case.classifier, [folder], [Nobody()])
            return time.perf_counter() - start

        loops: dict[str, Callable[[], float]] = {
            "our invoke": ours,
            "bare invoke": bare,
            "classify": classify,
            "folder": lambda: case.folder_seconds(folder),
            "stored": lambda: case.stored_seconds(folder),
        }
        shuffle = np.random.default_rng(0)
        for number in range(-1, rounds):
            took = {}
            for place in shuffle.permutation(len(loops) + 1):
                if place == len(loops):
                    stages = np.sum([case.run(path)[0] for path in pictures], axis=0)
                    took |= {"stages": float(stages.sum()), "invoke": float(stages[STAGES.index("invoke")])}
                else:
                    name = list(loops)[place]
                    took[name] = loops[name]()
            for name in LOOPS if number >= 0 else ():
                found[name].append(took[name])
    return found


def child(cores: Sequence[int], arguments: Sequence[str]) -> dict[str, list[float]]:
    """`measure` in a process on these cores."""
    command = [sys.executable, __file__, "--on", ",".join(map(str, cores)), *arguments]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))


def ratio(
    name: str, above: Sequence[float], below: Sequence[float], *, most: float = math.inf, least: float = 0.0
) -> str:
    """A line about a ratio, and whether it is where it is wanted, if it is wanted anywhere."""
    ratios = np.array(above) / np.array(below)
    low, middle, high = np.percentile(ratios, (5, 50, 95))
    found = f"  {name:62} {middle:6.3f}  ({low:.3f}-{high:.3f})"
    if not least and most == math.inf:
        return found
    wanted = f">= {least:g}" if least else f"<= {most:g}"
    return f"{found}  wanted {wanted:7} {'holds' if least <= middle <= most else 'DOES NOT HOLD'}"


def _say(*arguments: Any, **limits: float) -> None:
    print(ratio(*arguments, **limits))


def main() -> None:
    """Measure, and print."""
    ask_of_libraries()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a .tflite (default: shipped, else of runs/latest)")
    parser.add_argument("--data", type=Path, help="pictures (default: drawn ones)")
    parser.add_argument("--pictures", type=int, default=48, help="of them (default 48)")
    parser.add_argument("--rounds", type=int, default=15, help="default 15")
    parser.add_argument("--on", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.on:
        os.sched_setaffinity(0, [int(core) for core in options.on.split(",")])
    with tempfile.TemporaryDirectory() as place:
        pictures = default_pictures(Path(place)) if options.data is None else picture_files([options.data])
        chosen = spread(pictures, options.pictures)
        if options.on:
            print(json.dumps(measure(choose_model(options.model).path, chosen, options.rounds)))
            return
    cores, before = sorted(machine.usable_cores()), machine.usage()
    load = os.getloadavg()[0]
    one, *more = (child(cores[:count], sys.argv[1:]) for count in (1, 2) if count <= len(cores))
    print(f"{machine.describe()['cpu']}, n = {options.rounds} rounds of {len(chosen)} pictures, load before {load:.1f}")
    print("one core")
    bare = one[
        "bare invoke"
    ]  # over and over; amid other work the same invoke takes longer, its weights leave the cache
    _say("decode, locate, crop, invoke / bare invoke of the same cells", one["stages"], bare, most=4)
    _say("decode, locate, crop, invoke / the invoke amid them", one["stages"], one["invoke"], most=4)
    _say("the same with the store (bce run) / bare invoke", one["stored"], bare, most=6)
    _say("bce classify / the sum of its stages", one["classify"], one["stages"], most=1.05)
    _say("our invoke / bare invoke", one["our invoke"], bare, most=1.05)
    for two in more:
        print("two cores")
        _say("pictures a second: folder loop / one after the other", two["stages"], two["folder"], least=1.5)
        _say("pictures a second: folder loop on two cores / on one", one["folder"], two["folder"], least=1.5)
        with ThreadPoolExecutor(2) as pool:
            left, right = pool.map(lambda core: child([core], sys.argv[1:])["stages"], cores[:2])
        together = 1 / (1 / np.array(left) + 1 / np.array(right))
        _say("pictures a second: two processes, a core each / one of them", one["stages"], together.tolist())
    print("pictures a second, median")
    for name in LOOPS:
        rates = ", ".join(f"{len(chosen) / np.median(times[name]):7.0f}" for times in (one, *more))
        print(f"  {name:20} {rates}   (one core, two cores)")
    _say_other_work(before)


def _say_other_work(before: machine.Usage) -> None:
    """Whether the run can be quoted."""
    after, cores = machine.usage(), len(machine.usable_cores())
    ours = os.times()
    busy = machine.Usage(after.wall, after.busy, after.own + ours.children_user + ours.children_system)
    other = machine.other_work(before, busy)
    if other is not None and other > work_allowed(1, cores):
        print(f"Do not quote these: other programs kept {other:.2f} of {cores} cores busy")


if __name__ == "__main__":
    main()
