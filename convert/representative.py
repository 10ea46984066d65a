"""The representative dataset: which training pictures the int8 conversion measures its ranges on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.dataset.reading import read_each
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, load_split
from bloodcell_edge.errors import ConversionError
from bloodcell_edge.files import sha256_file
from bloodcell_edge.model.spec import ModelSpec
from bloodcell_edge.progress import Reporter
from bloodcell_edge.runs import RunFolder

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLES = 200
"""How many pictures are taken where there are enough; more did not help (20, 100, 300 were measured alike)."""

FEWEST = 50
"""Below so many, ranges are a matter of luck."""


def choose_pictures(
    pictures: Sequence[Picture],
    labels: Sequence[str],
    *,
    seed: int,
    samples: int = SAMPLES,
    allow_small: bool = False,
) -> list[Picture]:
    """Choose pictures stratified by class, photographs not yet shown first.

    Args:
        pictures: training pictures with label, and group where known.
        labels: every class that must be there.
        seed: of the draw; the order of `pictures` does not matter.
        samples: how many to take, 100 to 500 are usual.
        allow_small: accept fewer than `FEWEST` pictures and classes without any.

    Raises:
        ConversionError: a class is missing, or there are fewer than `FEWEST` pictures.
    """
    queues = {label: _by_photograph([one for one in pictures if one.label == label], seed) for label in labels}
    empty = [label for label, queue in queues.items() if not queue]
    total = sum(map(len, queues.values()))
    if (empty or total < FEWEST) and not (allow_small and total):
        found = f"no picture of {', '.join(empty)}" if empty else f"{total} pictures"
        message = (
            f"representative dataset: expected at least {FEWEST} training pictures and every class, found {found}; "
            "give more pictures with --representative, or --allow-small to insist"
        )
        raise ConversionError(message)
    chosen: list[Picture] = []
    while len(chosen) < min(samples, total):
        for queue in queues.values():
            if queue and len(chosen) < samples:
                chosen.append(queue.pop())
    return chosen


def _by_photograph(pictures: list[Picture], seed: int) -> list[Picture]:
    """A stack whose top pictures show a photograph each, those below a second picture of each, and so on."""
    rng = np.random.default_rng(seed)
    in_order = sorted(pictures, key=lambda one: one.file)
    turns: dict[str, list[Picture]] = defaultdict(list)
    for number in rng.permutation(len(in_order)):
        turns[in_order[number].group or in_order[number].file].append(in_order[number])
    rounds = [picture for round_ in zip_longest(*turns.values()) for picture in round_ if picture is not None]
    return rounds[::-1]


def representative_pictures(
    model: Path, spec: ModelSpec, given: str | Path | None, *, allow_small: bool, report: Reporter
) -> list[Picture]:
    """Training pictures of the run that the model stands in, or of DATA without what the run holds back.

    A picture that is there twice counts once, and one that cannot be read makes room for another.

    Args:
        model: the .keras file.
        spec: its spec.
        given: DATA to take instead of the run's training pictures.
        allow_small: see `choose_pictures`.
        report: told what is left out.

    Raises:
        ConversionError: neither is there, or too few pictures.
    """
    split = RunFolder(model.parent).split
    rows = load_split(split) if split.is_file() else []
    if given is None:
        if not rows:
            message = f"{model}: no {split.name} beside it that names its training pictures; give --representative"
            raise ConversionError(message)
        found = [(row.picture, row.sha256) for row in rows if row.split == TRAIN]
    else:
        held_back = {row.sha256 for row in rows if row.split == HELD_BACK}
        dataset = load_data(given, labels=spec.labels).only("train")
        everything = [(picture, sha256_file(picture.path)) for picture in dataset.pictures]
        found = [(picture, sha256) for picture, sha256 in everything if sha256 not in held_back]
        if len(found) < len(everything):
            report.say(f"left out of the representative dataset: {len(everything) - len(found)} held-back pictures")
    return _readable_choice(_once(found), spec, allow_small=allow_small, report=report)


def _once(found: Sequence[tuple[Picture, str]]) -> list[Picture]:
    """One picture for each content, the first by name."""
    by_content = {sha256: picture for picture, sha256 in sorted(found, key=lambda one: one[0].file, reverse=True)}
    return list(by_content.values())


def _readable_choice(pictures: list[Picture], spec: ModelSpec, *, allow_small: bool, report: Reporter) -> list[Picture]:
    """`choose_pictures`, anew without what cannot be read."""
    while True:
        chosen = choose_pictures(pictures, spec.labels, seed=int(spec.training.get("seed", 0)), allow_small=allow_small)
        _, bad = read_each(chosen, lambda _: None)
        if not bad:
            return chosen
        for one in bad:
            report.say(f"left out of the representative dataset: {one.error}")
        lost = {one.file for one in bad}
        pictures = [picture for picture in pictures if picture.file not in lost]


def with_full_range(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add one black and one white picture, so that the input's range is calibrated to 0..255.

    Without them dark pixels clip, and clients that feed raw bytes are silently wrong.

    Args:
        pixels: uint8 RGB, shape (n, height, width, 3).
    """
    black = np.zeros_like(pixels[:1])
    return np.concatenate([pixels, black, black + 255])
