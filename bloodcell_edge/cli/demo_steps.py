"""The steps of ``bce demo``, each one the library call of a command."""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..text import interval, percent
from .terminal.options import Terminal, table

if TYPE_CHECKING:
    from ..dataset.pictures import Dataset
    from ..runs import RunFolder
    from ..training.recipes import Recipe

PER_CLASS = 500  # drawn pictures; the fifth that is held back gives the gate its 400
DRAWN_SEED = 1
SLIDE = "fake:smear?cells=8&fps=0&count=60&seed=1&width=640&height=480"
"""The drawn slide that is counted at the end: cells enough for percentages, in a few seconds."""


@dataclass
class Demo:
    """One run of the demo.

    Attributes:
        out: folder that everything goes into.
        terminal: told how far it is.
        data: labelled pictures, None for drawn ones.
        weights: what to start from, None for the default.
        group_by: CSV that says which photograph a picture shows.
    """

    out: Path
    terminal: Terminal
    data: Path | None = None
    weights: str | None = None
    group_by: Path | None = None
    _start: float = field(default_factory=time.perf_counter)

    def run(self) -> bool:
        """All steps; False where a gate did not hold."""
        from ..runs import RunFolder

        run = RunFolder(self.out / "run")
        shutil.rmtree(run.path, ignore_errors=True)
        dataset = self._audit(self._pictures())
        self._train(dataset, run)
        self._convert(run)
        held = self._parity(run)
        self._benchmark(run)
        self._classify(run)
        self._count()
        self._report(run)
        return held

    @property
    def store(self) -> Path:
        """Where the drawn slide is counted into."""
        return self.out / "slide.sqlite"

    def _say(self, title: str) -> None:
        self.terminal.say(f"\n== {title} ({time.perf_counter() - self._start:.0f} s)")

    def _pictures(self) -> Path:
        if self.data is not None:
            return self.data
        from ..imaging.drawn import LABELS, draw_folder

        folder = self.out / "pictures"
        self._say(
            f"draw {PER_CLASS * len(LABELS)} smear fields (drawn pictures: no figure below says anything of blood)"
        )
        shutil.rmtree(folder, ignore_errors=True)
        with self.terminal.bar("draw") as progress:
            draw_folder(folder, per_class=PER_CLASS, seed=DRAWN_SEED, progress=progress)
        return folder

    def _audit(self, folder: Path) -> Dataset:
        from ..dataset.audit import audit
        from ..dataset.layouts import load_data
        from .audit import summary

        self._say("audit")
        dataset = load_data(folder, group_by=self.group_by)
        with self.terminal.bar("find photographs") as progress:
            found = audit(dataset, progress=progress)
        click.echo(summary(found, dataset.labels))
        grouped = [
            replace(picture, group=str(found.group_of[picture.file]))
            for picture in dataset.pictures
            if picture.file in found.group_of
        ]
        return replace(dataset, pictures=tuple(grouped), unreadable=found.unreadable).only("train")

    def _recipe(self) -> Recipe:
        from ..training.recipes import choose_recipe

        if self.data is not None:
            return choose_recipe("blood", weights=self.weights)
        return choose_recipe("drawn", weights=self.weights)

    def _train(self, dataset: Dataset, run: RunFolder) -> None:
        from ..training.fit import train

        recipe = self._recipe()
        self._say(f"train: recipe {recipe.name}, {recipe.backbone} {recipe.alpha:g}, {recipe.size} px")
        self.terminal.log_to(run.log)
        found = train(dataset, recipe, run, drawn=self.data is None, report=self.terminal).figures
        click.echo(
            f"held back: accuracy {percent(found['accuracy'])} (95 % interval "
            f"{interval(found['accuracy_interval'], each=' %')}, {found['interval_method']}), n = {found['n']}"
        )

    def _convert(self, run: RunFolder) -> None:
        from convert.files import convert

        self._say("convert")
        rows = [(one.file.name, f"{one.bytes:,}", one.min_runtime) for one in convert(run.path, report=self.terminal)]
        click.echo(table(("file", "bytes", "oldest runtime"), rows))

    def _parity(self, run: RunFolder) -> bool:
        from convert.proof import prove

        from .parity import summary

        self._say("parity")
        found = prove(run.path, report=self.terminal)
        click.echo(summary(found))
        return found.passed

    def _benchmark(self, run: RunFolder) -> None:
        from ..benchmark.measure import benchmark
        from ..files import write_json
        from .terminal.benchmark import summary

        self._say("benchmark")
        found = benchmark(run.tflite_files(), self._held_back(run, 16), report=self.terminal)
        write_json(run.benchmark, found.as_json())
        click.echo(summary(found))

    def _classify(self, run: RunFolder) -> None:
        from ..model.answers import TableSink, classify_paths
        from ..model.choose import DEVICE_FILE
        from ..model.classifier import Classifier

        self._say("classify a few held-back pictures with the int8 file")
        classify_paths(Classifier.open(run.path / DEVICE_FILE), self._held_back(run, 8), [TableSink(sys.stdout)])

    def _count(self) -> None:
        """What all of this is for: a slide is counted as `bce run` does it, with the shipped model."""
        from ..capture import open_source
        from ..model.choose import choose_model
        from ..model.classifier import Classifier
        from ..slide.run import count_slide
        from ..slide.store import Store
        from .terminal.screen import differential_text

        self._say("count a drawn slide with the shipped model (bce run)")
        for file in self.out.glob(f"{self.store.name}*"):
            file.unlink()
        classifier = Classifier.open(choose_model(None).path)
        with open_source(SLIDE) as fields, Store.open(self.store) as store:
            done = count_slide(fields, classifier, store, slide="drawn")
            counted = differential_text(store.differential(done.reading))
        click.echo(f"{done.used} fields used, {done.refused} refused\n{counted}")

    def _report(self, run: RunFolder) -> None:
        from ..files import write_text
        from ..reports.slide import slide_report
        from ..reports.training import run_report
        from ..slide.reader import Reader

        self._say("reports: of the training, and of the slide")
        pages = self.out / "report.html", self.out / "slide.html"
        write_text(pages[0], run_report(run))
        with Reader.open(self.store) as store:
            write_text(pages[1], slide_report(store, "drawn"))
        for page in pages:
            click.echo(str(page))

    def _held_back(self, run: RunFolder, n: int) -> list[Path]:
        """Some held-back pictures, spread over the classes."""
        from ..dataset.split import held_back

        paths = [picture.path for picture in held_back(run.split)]
        return paths[:: max(len(paths) // n, 1)][:n]
