"""Measure every model file with every number of threads, so that a machine that changes slows each of them alike.

One loop does what a device does with a picture file: decode, locate, resize, invoke. All cases (a file with a number of
threads) take turns picture by picture. The first rounds are not counted, and since the pictures were read before,
decoding is measured without the disk. Then the cases take turns folder by folder, and before all that process by
process. A result that something disturbed is marked invalid and says what; it is not left out.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import machine
from ..capture import open_source
from ..capture.folder import FolderOptions, FolderSource
from ..errors import DataError, MissingFile, NoPictures, PictureError
from ..imaging.image import read_image
from ..model.classifier import Classifier
from ..progress import SILENT, Reporter
from ..records import PreparedField
from ..slide.run import count_slide
from ..slide.store import Store
from . import apart
from .figures import (
    RUNS,
    SECONDS,
    STAGES,
    BenchmarkedFile,
    BenchmarkReport,
    Rates,
    Result,
    disturbances,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

WARM_UP_ROUNDS = 10
"""Rounds before counting: caches fill, thread pools start, a sleeping clock wakes up."""

STARTS = 3
"""Processes of each case."""

_MOST_PICTURES = 64  # enough that no single one decides, few enough to be checked in a second
_FEWEST_PASSES = 2  # of each case through the folder
_DRAWN_SIZE, _DRAWN_SEED = (480, 640), 20  # as a common camera gives it
_SHUFFLE_SEED = 0


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
    runs: int | None = None,
    report: Reporter = SILENT,
) -> BenchmarkReport:
    """Measure every model file with every number of threads.

    Args:
        models: .tflite files made by ``bce convert``.
        pictures: picture files; of many, some evenly spread ones are taken.
        threads: cores for one invoke.
        runs: pictures per case, after the warm-up; None: `RUNS`, or so many that each case took `SECONDS`.
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
    chosen, size = _readable(spread(pictures, min(runs or RUNS, _MOST_PICTURES)), report)
    cases = [Case.open(path, count) for path in dict.fromkeys(models) for count in dict.fromkeys(threads)]
    lives = _lives(cases, chosen)
    described, bits, before = machine.describe(), machine.throttled_bits(), machine.usage()
    times = _measure(cases, chosen, runs, report)
    rates = _rates(cases, chosen, len(times[0].counted), limited=runs is None)
    during = _during(before, bits)
    results = []
    for case, timed, rate, lived in zip(cases, times, rates, lives, strict=True):
        start, memory = apart.summed_up(lived)
        invoke = timed.counted[:, STAGES.index("invoke")]
        why = disturbances(
            invoke,
            float(timed.counted.sum()) / 1e3,
            case.threads,
            cores=described["cores_usable"],
            other_work=during["other_work_cores"],
            faults=during["throttled_during"],
            cells=timed.cells,
            clocks_mhz=(described["clock_mhz"], during["after"]["clock_mhz"]),
        )
        runtime = case.classifier.interpreter
        results.append(
            Result(
                case.model, case.threads, runtime.runtime, runtime.delegate, timed.counted, timed.warm_up,
                rate, start, memory, why,
            )
        )  # fmt: skip
    content = hashlib.sha256(b"".join(path.read_bytes() for path in chosen)).hexdigest()
    about = {"n": len(chosen), "size": list(size), "sha256": content}
    return BenchmarkReport({**described, **during}, about, tuple(results))


def default_pictures(folder: Path, n: int = 16) -> list[Path]:
    """Draw smear fields of 640 x 480 pixels into JPEG files, the same every time, where no pictures are given.

    Args:
        folder: made where it is missing.
        n: how many; the four cells take turns.
    """
    from ..imaging.drawn import LABELS, draw_folder

    each = {label: len(range(place, n, len(LABELS))) for place, label in enumerate(LABELS)}
    return draw_folder(Path(folder), per_class=each, seed=_DRAWN_SEED, size=_DRAWN_SIZE)


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


def passes(pictures: int, runs: int) -> int:
    """How often a folder is gone through so that each case sees about `runs` pictures."""
    return max(_FEWEST_PASSES, -(-runs // pictures))


class Case(NamedTuple):
    """A file with a number of threads, open."""

    model: BenchmarkedFile
    threads: int
    classifier: Classifier

    @classmethod
    def open(cls, path: Path, threads: int) -> Case:
        """Open it."""
        classifier = Classifier.open(path, threads=threads)
        spec, parity = classifier.spec, classifier.spec.parity or {}
        model = BenchmarkedFile(
            str(path), spec.target, spec.sha256, path.stat().st_size, parity.get("accuracy"), parity.get("n")
        )
        return cls(model, threads, classifier)

    def run(self, picture: Path) -> tuple[tuple[float, float, float, float], int]:
        """Seconds of each of `STAGES` for one picture file, and how often the network was asked."""
        start = time.perf_counter()
        image = read_image(picture)
        decoded = time.perf_counter()
        located, looked = None, decoded
        if self.classifier.spec.shown_as.needs_cells:
            located, looked = self.classifier.locator(image), time.perf_counter()
        shown = self.classifier.show(image, located)
        resized = time.perf_counter()
        for one in shown:
            self.classifier.interpreter.scores(one.pixels)
        end = time.perf_counter()
        return (decoded - start, looked - decoded, resized - looked, end - resized), len(shown)

    def folder_seconds(self, folder: Path) -> float:
        """How long it takes to name all pictures of a folder, the next ones decoded and located meanwhile."""
        start = time.perf_counter()
        with FolderSource(str(folder), folder, FolderOptions()) as source:
            source.listen(ahead=lambda image: PreparedField(self.classifier.show(image)))
            for frame in source:
                self.classifier.answer(frame.ahead.shown if frame.ahead else self.classifier.show(frame.image))
        return time.perf_counter() - start

    def stored_seconds(self, folder: Path) -> float:
        """How long ``bce run`` takes for it, from an open store to a written one."""
        with TemporaryDirectory() as place, Store.open(Path(place) / "results.sqlite") as store:
            start = time.perf_counter()
            with open_source(f"folder:{folder}") as source:
                count_slide(source, self.classifier, store, slide="benchmark")
            return time.perf_counter() - start


@dataclass(frozen=True)
class Times:
    """Of one case, in ms: each counted picture's stages, shape (n, stages); warm-up pictures end to end, shape (m,).

    And how often the network was asked about each counted picture, shape (n,).
    """

    counted: NDArray[np.float64]
    cells: NDArray[np.int64]
    warm_up: NDArray[np.float64]


def _check(models: Sequence[Path], threads: Sequence[int], runs: int | None) -> None:
    if not models:
        message = "no model to measure; expected at least one .tflite made by bce convert"
        raise MissingFile(message)
    if (runs is not None and runs < 1) or not threads or min(threads) < 1:
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


def _lives(cases: Sequence[Case], pictures: Sequence[Path]) -> list[list[apart.Life]]:
    """Processes of each case, started in turns."""
    lives: list[list[apart.Life]] = [[] for _ in cases]
    for turn in schedule(len(cases), 1, STARTS, warm_up=0):
        for number in turn.cases:
            case = cases[number]
            lives[number].append(apart.live(Path(case.model.path), case.threads, pictures))
    return lives


def _measure(cases: Sequence[Case], pictures: Sequence[Path], runs: int | None, report: Reporter) -> list[Times]:
    """Times of each case; without a number of runs, rounds end when there are enough or every case had its time."""
    warm_up: list[NDArray[np.float64]] = []
    counted: list[NDArray[np.float64]] = []
    asked: list[NDArray[np.int64]] = []
    spent_s = np.zeros(len(cases))
    with report.bar("benchmark") as progress:
        for turn in schedule(len(cases), len(pictures), runs or RUNS):
            seconds, cells = np.empty((len(cases), len(STAGES))), np.empty(len(cases), np.int64)
            for case in turn.cases:
                seconds[case], cells[case] = cases[case].run(pictures[turn.picture])
            (counted if turn.number >= 0 else warm_up).append(seconds * 1e3)
            if turn.number >= 0:
                asked.append(cells)
                spent_s += seconds.sum(axis=1)
                progress(turn.number + 1, runs or RUNS)
            if runs is None and spent_s.min() >= SECONDS:
                break
    times, before, cells = np.stack(counted), np.stack(warm_up).sum(axis=2), np.stack(asked)
    return [Times(times[:, case], cells[:, case], before[:, case]) for case in range(len(cases))]


def _rates(cases: Sequence[Case], pictures: Sequence[Path], runs: int, *, limited: bool) -> list[Rates]:
    """Throughput of each case, in turns."""
    folder_s: list[list[float]] = [[] for _ in cases]
    stored_s: list[list[float]] = [[] for _ in cases]
    end = time.perf_counter() + SECONDS * len(cases)
    with folder_of(pictures) as folder:
        for turn in schedule(len(cases), 1, passes(len(pictures), runs), warm_up=0):
            for case in turn.cases:
                folder_s[case].append(cases[case].folder_seconds(folder))
                stored_s[case].append(cases[case].stored_seconds(folder))
            if limited and time.perf_counter() > end:
                break
    return [Rates(*(rate(one, len(pictures)) for one in both)) for both in zip(folder_s, stored_s, strict=True)]


def rate(seconds: Sequence[float], pictures: int) -> float:
    """Pictures a second of passes that took so long each."""
    return pictures * len(seconds) / sum(seconds)


@contextmanager
def folder_of(pictures: Sequence[Path]) -> Iterator[Path]:
    """A folder with links to the pictures, in their order, for as long as it is needed."""
    with TemporaryDirectory() as place:
        for number, picture in enumerate(pictures):
            (Path(place) / f"{number:06}{picture.suffix}").symlink_to(picture.resolve())
        yield Path(place)


def _during(before: machine.Usage, bits: int | None) -> dict[str, Any]:
    """What went on in the machine since it was described."""
    after = machine.describe()
    return {
        "other_work_cores": machine.other_work(before, machine.usage()),
        "throttled_during": list(machine.faults_between(bits, machine.throttled_bits())),
        "after": {key: after[key] for key in ("clock_mhz", "temperature_c", "throttled", "load")},
    }
