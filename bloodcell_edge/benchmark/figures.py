"""What measured times say: order statistics, throughput, and whether something disturbed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STAGES = ("decode", "locate", "resize", "invoke")
"""What happens to a picture, in order; nothing lies between, so their sum is end to end."""

RUNS, SECONDS = 200, 10.0
"""Enough pictures of one case, and enough time for one: a case that has neither says little about its slowest."""

MAX_SPREAD = 1.5
"""Largest p95 / p50 of invoke. The graph's work is the same for every cell, so what is above is disturbance: 1.05
to 1.3 was seen with a core of its own (x86, 0.25 to 4 ms, one thread), 2 to 5 where programs fought for the cores."""

MIN_CLOCK = 0.9
"""Least share of its clock that a processor must have kept: below it was slowed down, by heat or by its supply."""


@dataclass(frozen=True)
class Percentiles:
    """Order statistics of n measurements, in their unit."""

    n: int
    min: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Start:
    """How long it takes until something is there, in processes that do nothing else. Files were read before.

    Attributes:
        cold_ms: from starting Python to the first answer, the median of n.
        load_ms: of that, opening the model: read, check its hash, allocate, replay its golden samples.
        n: processes.
    """

    cold_ms: float
    load_ms: float
    n: int


@dataclass(frozen=True)
class Memory:
    """Of a process that opens the file and runs some pictures, MB (10^6 bytes); None where the system does not tell.

    Attributes:
        peak: the most it ever held.
        steady: what it held after the last picture.
    """

    peak: float | None
    steady: float | None


@dataclass(frozen=True)
class Rates:
    """Pictures a second.

    Attributes:
        folder: of a folder whose next pictures are decoded while the model works (`capture.folder`).
        stored: the same as ``bce run`` does it: judged, with crops, written to a store that survives a power cut.
    """

    folder: float
    stored: float


@dataclass(frozen=True)
class BenchmarkedFile:
    """What is known of a file without running it.

    Attributes:
        path: as given.
        target: "int8", "float16", ... as its spec says.
        sha256: of the model, as its spec says.
        bytes: of the file.
        accuracy: on its run's held-back pictures, percent, as `bce parity` wrote into it; None before.
        accuracy_n: of how many pictures.
    """

    path: str
    target: str
    sha256: str
    bytes: int
    accuracy: float | None
    accuracy_n: int | None

    @property
    def proven(self) -> bool:
        """``bce parity`` holds for it: only then its figures stand in the file."""
        return self.accuracy is not None


@dataclass(frozen=True)
class Result:
    """One model file with one number of threads. Times in ms.

    Attributes:
        model: the file.
        threads: cores for one invoke.
        interpreter: what ran it, with its version.
        delegate: what the interpreter hands the graph to ("XNNPACK"), "none" for its own kernels.
        times_ms: of each counted picture, shape (n, stages). locate is 0 where the model takes whole pictures; resize
            and invoke are of all cells of a picture where it takes cells.
        warm_up_ms: end to end times of the pictures before, that count nowhere, shape (m,).
        rates: throughput.
        start: cold start.
        memory: of a process of its own.
        why: what disturbed the measurement; empty where it is valid.
    """

    model: BenchmarkedFile
    threads: int
    interpreter: str
    delegate: str
    times_ms: NDArray[np.float64]
    warm_up_ms: NDArray[np.float64]
    rates: Rates
    start: Start
    memory: Memory
    why: tuple[str, ...]

    @property
    def valid(self) -> bool:
        """Nothing is known to have disturbed it."""
        return not self.why

    @property
    def end_to_end_ms(self) -> NDArray[np.float64]:
        """From a file name to scores, of each picture."""
        total: NDArray[np.float64] = self.times_ms.sum(axis=1)
        return total

    @property
    def invoke_ms(self) -> NDArray[np.float64]:
        """Of the interpreter alone, its input set and its output read, of each picture."""
        return self.times_ms[:, STAGES.index("invoke")]

    def as_json(self) -> dict[str, Any]:
        """One of the results of ``bce benchmark --json``."""
        stages = {stage: percentiles(self.times_ms[:, column]) for column, stage in enumerate(STAGES)}
        invoke, end_to_end = stages["invoke"], percentiles(self.end_to_end_ms)
        model = self.model
        return {
            "file": model.path,
            "threads": self.threads,
            "target": model.target,
            "model_sha256": model.sha256,
            "bytes": model.bytes,
            "accuracy": {"percent": model.accuracy, "n": model.accuracy_n},
            "interpreter": self.interpreter,
            "delegate": self.delegate,
            "n": end_to_end.n,
            "stages_ms": {stage: found.p50 for stage, found in stages.items()},
            "stages": {stage: vars(found) for stage, found in stages.items()},
            "end_to_end_ms": vars(end_to_end),
            "invoke_ms": vars(invoke),
            "images_per_s": self.rates.folder,
            "images_per_s_stored": self.rates.stored,
            "images_per_s_one_by_one": images_per_second(self.end_to_end_ms),
            "rss_mb": self.memory.peak,
            "steady_mb": self.memory.steady,
            "cold_start_ms": self.start.cold_ms,
            "load_ms": self.start.load_ms,
            "starts": self.start.n,
            "warm_up": {"n": len(self.warm_up_ms), "first_ms": _first(self.warm_up_ms)},
            "quantiles_ms": {
                "end_to_end": quantiles(self.end_to_end_ms),
                "invoke": quantiles(self.invoke_ms),
            },
            "valid": self.valid,
            "why": "; ".join(self.why),
        }


@dataclass(frozen=True)
class BenchmarkReport:
    """All cases of one run.

    Attributes:
        machine: as `machine.describe` gave it before the run, and what went on during it.
        pictures: how many there were ("n"), their most common (height, width) in pixels ("size"), and the hash of
            their files ("sha256").
        results: file by file, each with every number of threads, in the order given.
    """

    machine: dict[str, Any]
    pictures: dict[str, Any]
    results: tuple[Result, ...]

    def as_json(self) -> dict[str, Any]:
        """The keys of ``bce benchmark --json``."""
        return {
            "machine": self.machine,
            "pictures": self.pictures,
            "results": [result.as_json() for result in self.results],
        }


def percentiles(values: NDArray[np.float64]) -> Percentiles:
    """Order statistics of measurements, shape (n,), n at least 1.

    Between two measurements the percentile is interpolated linearly (Hyndman & Fan 1996, type 7; numpy's "linear").
    """
    p50, p95, p99 = (float(value) for value in np.percentile(values, (50, 95, 99), method="linear"))
    return Percentiles(len(values), float(values.min()), p50, p95, p99)


def quantiles(values: NDArray[np.float64]) -> list[float]:
    """0, 1, ... 100 percent of the measurements are at most so large: 101 numbers, enough to draw them."""
    return [round(float(value), 4) for value in np.percentile(values, range(101), method="linear")]


def images_per_second(times_ms: NDArray[np.float64]) -> float:
    """Throughput of a loop that took these times, in ms, one after the other."""
    return 1e3 * len(times_ms) / float(times_ms.sum())


def disturbances(
    invoke_ms: NDArray[np.float64],
    seconds: float,
    threads: int,
    *,
    cores: int,
    other_work: float | None,
    faults: Sequence[str],
    clocks_mhz: tuple[float | None, float | None] = (None, None),
    cells: NDArray[np.int64] | None = None,
) -> tuple[str, ...]:
    """Why a result is not to be trusted; empty where nothing speaks against it.

    Args:
        invoke_ms: of one case, shape (n,).
        seconds: that the pictures of this case took.
        threads: that one invoke may use.
        cores: that this process may use.
        other_work: cores kept busy by others during the run; None where it is not known; then the spread alone judges.
        faults: what slowed the processor down.
        clocks_mhz: before and after.
        cells: how often the network was asked about each picture, shape (n,); None: once.
    """
    asked = np.ones(len(invoke_ms), np.int64) if cells is None else cells
    each_ms = invoke_ms[asked > 0] / asked[asked > 0]
    before, after = clocks_mhz
    most = work_allowed(threads, cores)
    why = []
    if faults:
        why.append(f"the processor was slowed down: {', '.join(faults)}")
    if before is not None and after is not None and after < MIN_CLOCK * before:
        why.append(f"the clock fell from {before:.0f} to {after:.0f} MHz (limit {100 * MIN_CLOCK:.0f} %)")
    if threads > cores:
        why.append(f"{threads} threads on {cores} cores")
    if other_work is not None and other_work > most:
        why.append(
            f"other programs kept {other_work:.2f} of {cores} cores busy (limit {most:.2f} with {threads} threads)"
        )
    if not len(each_ms):
        why.append("no picture shows a cell, so the network was never asked; give others with --data")
    elif (each := percentiles(each_ms)).p95 > MAX_SPREAD * each.p50:
        why.append(f"invoke p95 is {each.p95 / each.p50:.2f} times p50 (limit {MAX_SPREAD})")
    if len(invoke_ms) < RUNS and seconds < SECONDS:
        why.append(f"{len(invoke_ms)} runs in {seconds:.1f} s, expected at least {RUNS} or {SECONDS:.0f} s")
    return tuple(why)


def work_allowed(threads: int, cores: int) -> float:
    """Cores that other programs may keep busy: what the threads leave free and a tenth, at most a quarter of all.

    A tenth is what services do in the background. A quarter, and not all that is free: programs that wait for a core
    show only what they were given, memory and caches are shared, and a busy processor clocks lower.
    """
    return min(cores / 4, max(cores - threads, 0) + cores / 10)


def _first(values: NDArray[np.float64]) -> float | None:
    return float(values[0]) if len(values) else None
