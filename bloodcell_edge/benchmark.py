"""How long one picture takes, stage by stage, for each model file and number of threads, on this very machine.

One loop does what a device does with a picture file: decode, resize, invoke. All cases (a file with a number of
threads) take turns picture by picture, so that a machine that warms up or gets busy slows each of them alike. The
first rounds are not counted, and since the pictures were read before, decoding is measured without the disk. A result
that something disturbed is marked invalid and says what; it is not left out.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import machine
from .classifier import Classifier
from .errors import BceError, DataError, MissingFile, NoPictures, PictureError
from .image import read_image
from .locate import locate
from .reporting import SILENT, Reporter

if TYPE_CHECKING:
    from numpy.typing import NDArray

STAGES = ("decode", "locate", "resize", "invoke")
"""What happens to a picture, in order; nothing lies between, so their sum is end to end."""

RUNS = 200
"""Default number of pictures per case."""

WARM_UP_ROUNDS = 10
"""Rounds before counting: caches fill, thread pools start, a sleeping clock wakes up."""

MIN_RUNS = 100
"""Fewer runs say nothing about the slowest in a hundred."""

MAX_SPREAD = 1.5
"""Largest p95 / p50 of invoke. The graph's work is the same for every picture, so what is above is disturbance: 1.05
to 1.3 was seen with a core of its own (x86, 0.25 to 4 ms, one thread), 2 to 5 where programs fought for the cores."""

_MOST_PICTURES = 64  # enough that no single one decides, few enough to be checked in a second
_PICTURES_WEIGHED = 8  # pictures after which the memory of a process no longer grows
_DRAWN_SIZE, _DRAWN_SEED = (480, 640), 20  # as a common camera gives it
_SHUFFLE_SEED = 0


@dataclass(frozen=True)
class Percentiles:
    """Order statistics of n measurements, in their unit."""

    n: int
    min: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Result:
    """One model file with one number of threads. Times in ms, 1 MB is 10^6 bytes.

    Attributes:
        file: as given.
        threads: cores for one invoke.
        target: "int8", "float16", ... as its spec says.
        interpreter: what ran it, with its version.
        stages_ms: median of each of `STAGES`; locate is 0.0 where the model takes whole pictures, resize and invoke
            are of all cells of a picture where it takes cells.
        end_to_end_ms: from a file name to scores.
        invoke_ms: of the interpreter alone, its input set and its output read.
        images_per_s: n over the sum of all end to end times, one picture after the other.
        rss_mb: the most memory that a process of its own held, which opened this file and ran a few pictures.
        why: what disturbed the measurement; empty where it is valid.
    """

    file: str
    threads: int
    target: str
    interpreter: str
    stages_ms: dict[str, float]
    end_to_end_ms: Percentiles
    invoke_ms: Percentiles
    images_per_s: float
    rss_mb: float | None
    why: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Nothing is known to have disturbed it."""
        return not self.why

    def as_json(self) -> dict[str, Any]:
        """One of the results of `bce benchmark --json`."""
        values = {**vars(self), "n": self.invoke_ms.n, "valid": self.valid, "why": "; ".join(self.why)}
        return {**values, "end_to_end_ms": vars(self.end_to_end_ms), "invoke_ms": vars(self.invoke_ms)}


@dataclass(frozen=True)
class BenchmarkReport:
    """All cases of one run.

    Attributes:
        machine: as `machine.describe` gave it before the run, and what went on during it.
        pictures: how many there were ("n") and their most common (height, width) in pixels ("size").
        results: file by file, each with every number of threads, in the order given.
    """

    machine: dict[str, Any]
    pictures: dict[str, Any]
    results: tuple[Result, ...]

    def as_json(self) -> dict[str, Any]:
        """The keys of `bce benchmark --json`."""
        return {
            "machine": self.machine,
            "pictures": self.pictures,
            "results": [result.as_json() for result in self.results],
        }


class Round(NamedTuple):
    """One picture for every case: its number, below 0 while warming up, the picture's, and the cases' in order."""

    number: int
    picture: int
    cases: tuple[int, ...]


def benchmark(
    models: Sequence[Path],
    pictures: Sequence[Path],
    *,
    threads: Sequence[int] = (1,),
    runs: int = RUNS,
    report: Reporter = SILENT,
) -> BenchmarkReport:
    """Measure every model file with every number of threads.

    Args:
        models: .tflite files made by ``bce convert``.
        pictures: picture files; of many, some evenly spread ones are taken.
        threads: cores for one invoke.
        runs: pictures per case, after the warm-up.
        report: told of unreadable pictures and of progress.

    Raises:
        MissingFile: no model given, or one that does not exist.
        NoPictures: none given, or none that can be read.
        DataError: fewer than one run or thread.
        SpecError: a model that is damaged, or that answers differently on this machine.
        RuntimeMissing: no interpreter opens a model.
        BceError: a model that cannot be run in a process of its own.
    """
    _check(models, threads, runs)
    chosen, size = _readable(spread(pictures, min(runs, _MOST_PICTURES)), report)
    cases = [_Case.open(path, count) for path in dict.fromkeys(models) for count in dict.fromkeys(threads)]
    weights = [_weigh_apart(case, chosen[:_PICTURES_WEIGHED]) for case in cases]
    described, bits, before = machine.describe(), machine.throttled_bits(), machine.usage()
    times = _measure(cases, chosen, runs, report)
    other = machine.other_work(before, machine.usage())
    faults = machine.faults_between(bits, machine.throttled_bits())
    results = []
    for case, measured, weight in zip(cases, times, weights, strict=True):
        invoke = percentiles(measured[:, STAGES.index("invoke")])
        why = disturbances(invoke, case.threads, cores=described["cores_usable"], other_work=other, faults=faults)
        results.append(_result(case, measured, weight, why))
    during = {"other_work_cores": other, "throttled_during": list(faults)}
    return BenchmarkReport({**described, **during}, {"n": len(chosen), "size": list(size)}, tuple(results))


def default_pictures(folder: Path, n: int = 16) -> list[Path]:
    """Draw smear fields of 640 x 480 pixels into JPEG files, the same every time, where nobody gives pictures.

    Args:
        folder: made where it is missing.
        n: how many; the four cells take turns.
    """
    from .smear import LABELS, draw_folder

    each = {label: len(range(place, n, len(LABELS))) for place, label in enumerate(LABELS)}
    return draw_folder(Path(folder), per_class=each, seed=_DRAWN_SEED, size=_DRAWN_SIZE)


def percentiles(values: NDArray[np.float64]) -> Percentiles:
    """Order statistics of measurements, shape (n,), n at least 1.

    Between two measurements the percentile is interpolated linearly (Hyndman & Fan 1996, type 7; numpy's "linear").
    """
    p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99), method="linear"))
    return Percentiles(len(values), float(values.min()), p50, p95, p99)


def images_per_second(times_ms: NDArray[np.float64]) -> float:
    """Throughput of a loop that took these end to end times, in ms, one after the other."""
    return 1e3 * len(times_ms) / float(times_ms.sum())


def schedule(cases: int, pictures: int, runs: int, *, warm_up: int = WARM_UP_ROUNDS) -> Iterator[Round]:
    """Who takes which picture when: in every round each case takes the same picture once.

    The order within a round is shuffled, the same way every time: no case always comes after a certain other one,
    whose weights fill the cache, or always decodes the picture first.
    """
    shuffle = np.random.default_rng(_SHUFFLE_SEED)
    for number in range(-warm_up, runs):
        yield Round(number, number % pictures, tuple(shuffle.permutation(cases).tolist()))


def spread(pictures: Sequence[Path], most: int) -> list[Path]:
    """At most so many pictures, evenly spread, since folders come class by class."""
    count = min(len(pictures), most)
    return [pictures[number * len(pictures) // count] for number in range(count)]


def disturbances(
    invoke: Percentiles, threads: int, *, cores: int, other_work: float | None, faults: Sequence[str]
) -> tuple[str, ...]:
    """Why a result is not to be trusted; empty where nothing speaks against it.

    Args:
        invoke: of one case.
        threads: that one invoke may use.
        cores: that this process may use.
        other_work: cores kept busy by others during the run; None where nobody knows, then the spread alone judges.
        faults: what slowed the processor down.
    """
    why = []
    if faults:
        why.append(f"the processor was slowed down: {', '.join(faults)}")
    if threads > cores:
        why.append(f"{threads} threads on {cores} cores")
    most = work_allowed(threads, cores)
    if other_work is not None and other_work > most:
        why.append(
            f"other programs kept {other_work:.2f} of {cores} cores busy (limit {most:.2f} with {threads} threads)"
        )
    if invoke.p95 > MAX_SPREAD * invoke.p50:
        why.append(f"invoke p95 is {invoke.p95 / invoke.p50:.2f} times p50 (limit {MAX_SPREAD})")
    if invoke.n < MIN_RUNS:
        why.append(f"{invoke.n} runs, expected at least {MIN_RUNS} for p99")
    return tuple(why)


def work_allowed(threads: int, cores: int) -> float:
    """Cores that other programs may keep busy: what the threads leave free and a tenth, at most a quarter of all.

    A tenth is what services do in the background. A quarter, and not all that is free: programs that wait for a core
    show only what they were given, memory and caches are shared, and a busy processor clocks lower.
    """
    return min(cores / 4, max(cores - threads, 0) + cores / 10)


def peak_memory_mb(model: str, threads: int, pictures: Iterable[str]) -> float | None:
    """Open a model, run some pictures, and say what the most memory was that this process ever held, in MB."""
    classifier = Classifier.open(model, threads=threads)
    for picture in pictures:
        classifier.classify(read_image(picture))
    return machine.peak_memory_mb()


class _Case(NamedTuple):
    path: Path
    threads: int
    classifier: Classifier

    @classmethod
    def open(cls, path: Path, threads: int) -> _Case:
        return cls(path, threads, Classifier.open(path, threads=threads))

    def run(self, picture: Path) -> tuple[float, float, float, float]:
        """Seconds of each of `STAGES` for one picture file."""
        start = time.perf_counter()
        image = read_image(picture)
        decoded = time.perf_counter()
        located, looked = None, decoded
        if self.classifier.spec.view == "cell":
            located, looked = locate(image), time.perf_counter()
        shown = self.classifier.spec.shown_as.show(image, located)
        resized = time.perf_counter()
        for one in shown:
            self.classifier.interpreter.scores(one.pixels)
        end = time.perf_counter()
        return decoded - start, looked - decoded, resized - looked, end - resized


def _check(models: Sequence[Path], threads: Sequence[int], runs: int) -> None:
    if not models:
        message = "no model to measure; expected at least one .tflite made by bce convert"
        raise MissingFile(message)
    if runs < 1 or not threads or min(threads) < 1:
        message = f"expected at least 1 run and 1 thread, found {runs} runs and threads {list(threads)}"
        raise DataError(message)


def _readable(pictures: Sequence[Path], report: Reporter) -> tuple[list[Path], tuple[int, int]]:
    """The pictures that can be decoded, and the most common (height, width) in pixels."""
    sizes: dict[Path, tuple[int, int]] = {}
    for path in pictures:
        try:
            height, width, _ = read_image(path).shape
        except (PictureError, MissingFile) as error:
            report.say(f"left out: {error}")
        else:
            sizes[path] = (height, width)
    if not sizes:
        message = f"none of {len(pictures)} pictures can be read" if pictures else "no pictures to measure with"
        raise NoPictures(message)
    return list(sizes), Counter(sizes.values()).most_common(1)[0][0]


def _measure(cases: Sequence[_Case], pictures: Sequence[Path], runs: int, report: Reporter) -> NDArray[np.float64]:
    """Times in ms, shape (cases, runs, stages)."""
    times = np.empty((len(cases), runs, len(STAGES)))
    with report.bar("benchmark") as progress:
        for number, picture, order in schedule(len(cases), len(pictures), runs):
            for case in order:
                seconds = cases[case].run(pictures[picture])
                if number >= 0:
                    times[case, number] = seconds
            if number >= 0:
                progress(number + 1, runs)
    return times * 1e3


def _result(case: _Case, times: NDArray[np.float64], rss_mb: float | None, why: tuple[str, ...]) -> Result:
    """Figures of one case from its times in ms, shape (runs, stages)."""
    end_to_end = times.sum(axis=1)
    return Result(
        file=str(case.path),
        threads=case.threads,
        target=case.classifier.spec.target,
        interpreter=case.classifier.interpreter.runtime,
        stages_ms={stage: float(median) for stage, median in zip(STAGES, np.median(times, axis=0), strict=True)},
        end_to_end_ms=percentiles(end_to_end),
        invoke_ms=percentiles(times[:, STAGES.index("invoke")]),
        images_per_s=images_per_second(end_to_end),
        rss_mb=rss_mb,
        why=why,
    )


_CHILD = """
import sys
from bloodcell_edge.benchmark import peak_memory_mb
print(peak_memory_mb(sys.argv[1], int(sys.argv[2]), sys.argv[3:]) or "")
"""


def _weigh_apart(case: _Case, pictures: Sequence[Path]) -> float | None:
    """`peak_memory_mb` of a process that does nothing else."""
    command = [sys.executable, "-c", _CHILD, str(case.path), str(case.threads), *map(str, pictures)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        message = f"{case.path}: a process of its own that runs it ended with {done.returncode} ({said})"
        raise BceError(message)
    answer = done.stdout.strip()
    return float(answer) if answer else None
