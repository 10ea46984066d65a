"""A whole slide in one run: memory stays flat, and the last tenth is as fast as the first.

    python benchmarks/whole_slide.py [--model FILE.tflite] [--data FOLDER] [--fields 10000] [--work DIR]

`bce run`'s loop with a store takes in so many fields. No two files are equal, or they would be known again: each is one
of the pictures with a comment of its own in the JPEG, which takes some 60 kB a field under --work.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from bloodcell_edge import machine
from bloodcell_edge.benchmark.measure import default_pictures
from bloodcell_edge.capture import open_source
from bloodcell_edge.cli import ask_of_libraries
from bloodcell_edge.imaging.folder import picture_files
from bloodcell_edge.model.choose import choose_model
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.slide.run import FieldProgress, count_slide
from bloodcell_edge.slide.store import Store

PARTS = 10
WANTED = 0.95


def with_comment(jpeg: bytes, text: bytes) -> bytes:
    """The same picture with a comment segment behind its start (T.81, B.2.4.5)."""
    return jpeg[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + jpeg[2:]


def draw_slide(pictures: Sequence[Path], fields: int, folder: Path) -> None:
    """Fill a folder with files of different content."""
    folder.mkdir()
    contents = [path.read_bytes() for path in pictures if path.suffix.lower() in (".jpg", ".jpeg")]
    if not contents:
        message = "no JPEG among the pictures, whose files carry a number as a comment; give others with --data"
        raise SystemExit(message)
    for number in range(fields):
        name = f"{number:06}"
        (folder / f"{name}.jpg").write_bytes(with_comment(contents[number % len(contents)], name.encode()))


def tenths(moments: Sequence[float]) -> list[float]:
    """Fields a second in each tenth of a run, from its start and the moment of each field, seconds."""
    bounds = [round(part * (len(moments) - 1) / PARTS) for part in range(PARTS + 1)]
    return [(b - a) / (moments[b] - moments[a]) for a, b in pairwise(bounds)]


def main() -> None:
    """Measure, and print."""
    ask_of_libraries()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a .tflite (default: shipped, else of runs/latest)")
    parser.add_argument("--data", type=Path, help="JPEG pictures (default: drawn ones)")
    parser.add_argument("--fields", type=int, default=10_000, help="default 10000")
    parser.add_argument("--work", type=Path, help="where the files go for the time being")
    options = parser.parse_args()
    if options.fields <= PARTS:
        parser.error(f"--fields must be more than {PARTS}, found {options.fields}")
    classifier = Classifier.open(choose_model(options.model).path)
    with tempfile.TemporaryDirectory(dir=options.work) as place:
        pictures = picture_files([options.data]) if options.data else default_pictures(Path(place) / "drawn")
        folder = Path(place) / "slide"
        draw_slide(pictures, options.fields, folder)
        moments, held = [time.perf_counter()], []

        def on_field(_: FieldProgress) -> None:
            moments.append(time.perf_counter())
            if len(moments) % max(options.fields // PARTS, 1) == 1:
                held.append(machine.memory_mb() or 0.0)

        before = machine.usage()
        with open_source(f"folder:{folder}") as source, Store.open(Path(place) / "s.sqlite") as store:
            done = count_slide(source, classifier, store, slide="whole", on_field=on_field)
        other = machine.other_work(before, machine.usage())
    rates = tenths(moments)
    print(
        f"{machine.describe()['cpu']}, {done.used} fields used, {done.refused} refused, "
        f"{moments[-1] - moments[0]:.0f} s"
    )
    print("fields a second in each tenth: " + " ".join(f"{rate:.0f}" for rate in rates))
    print("memory after each tenth, MB:   " + " ".join(f"{mb:.0f}" for mb in held))
    share = rates[-1] / rates[0]
    print(f"last tenth / first: {share:.3f}, wanted >= {WANTED}: {'holds' if share >= WANTED else 'DOES NOT HOLD'}")
    print(f"other programs kept {other if other is None else round(other, 2)} cores busy")


if __name__ == "__main__":
    main()
