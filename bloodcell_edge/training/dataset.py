"""From labelled pictures to batches: the split that keeps photographs whole, prepared pixels, balanced draws."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..data import Picture, Progress, Unreadable, read_rows, read_with
from ..errors import DataError
from ..files import sha256_file, write_text
from ..locate import locate
from ..seen import perceptual_hash

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..image import Image
    from ..views import View
    from .recipes import Recipe

TRAIN, VALIDATION, HELD_BACK = "train", "validation", "heldback"
_COLUMNS = ("file", "label", "group", "split", "leaky_split", "sha256", "um_per_px", "note", "source", "path")


@dataclass(frozen=True)
class Member:
    """One picture of a run: which side it is on, and what it is known by.

    Attributes:
        picture: with its group filled in.
        split: TRAIN, VALIDATION or HELD_BACK; photographs are never cut apart.
        leaky_split: TRAIN or VALIDATION as the original project cut them, by file; empty for other recipes.
        sha256: of the file.
    """

    picture: Picture
    split: str
    leaky_split: str
    sha256: str


@dataclass(frozen=True)
class Prepared:
    """Decoded and resized pictures, ready for the network.

    Attributes:
        pictures: one each, with label.
        pixels: uint8 RGB, shape (n, size, size, 3): what the view shows of each; black where no cell was found.
        aspects: width through height of what each shows, shape (n,).
        hashes: `seen.perceptual_hash` of each whole picture, shape (n, 16).
        found: bool, shape (n,): False where the view is of cells and the picture shows none.
        marked: bool, shape (n,): cells that are not named whatever the scores, see `views.Shown`.
        wide: uint8 RGB, shape (n, wider, wider, 3): the same at the same scale with a margin around, for augmentation;
            `pixels` itself where the recipe asks for none.
        unreadable: what could not be decoded.
    """

    pictures: tuple[Picture, ...]
    pixels: NDArray[np.uint8]
    aspects: NDArray[np.float64]
    hashes: NDArray[np.uint8]
    found: NDArray[np.bool_]
    marked: NDArray[np.bool_]
    wide: NDArray[np.uint8]
    unreadable: tuple[Unreadable, ...]

    def targets(self, labels: Sequence[str]) -> NDArray[np.int64]:
        """The position of each picture's label in `labels`, shape (n,)."""
        return np.array([labels.index(picture.label or "") for picture in self.pictures], np.int64)

    def rows(self, rows: NDArray[np.int64]) -> Prepared:
        """Some of them, in that order."""
        pictures = tuple(self.pictures[row] for row in rows)
        pixels, aspects, hashes = self.pixels[rows], self.aspects[rows], self.hashes[rows]
        wide = pixels if self.wide is self.pixels else self.wide[rows]
        return Prepared(pictures, pixels, aspects, hashes, self.found[rows], self.marked[rows], wide, ())


def prepare_pictures(
    pictures: Sequence[Picture], view: View, *, margin: float = 1.0, progress: Progress | None = None
) -> Prepared:
    """Read pictures once, the way the device does.

    Args:
        pictures: labelled.
        view: how the model is shown them.
        margin: keep crops so many times as wide for augmentation, see `View.show_labelled`.
        progress: called as pictures are done.

    Raises:
        NoPictures: none can be read.
    """
    done, bad = read_with(pictures, lambda picture, image: _prepared(picture, image, view, margin), progress=progress)
    read, rows = tuple(picture for picture, _ in done), [row for _, row in done]
    pixels = np.stack([row.pixels for row in rows])
    return Prepared(
        read,
        pixels,
        np.array([row.aspect for row in rows]),
        np.stack([row.known_by for row in rows]),
        np.array([row.found for row in rows], np.bool_),
        np.array([row.marked for row in rows], np.bool_),
        pixels if margin == 1.0 else np.stack([row.wide for row in rows]),
        tuple(bad),
    )


class _Row(NamedTuple):
    """One row of `Prepared`, but the picture."""

    pixels: Image
    wide: Image
    aspect: float
    known_by: NDArray[np.uint8]
    found: bool
    marked: bool


def _prepared(picture: Picture, image: Image, view: View, margin: float) -> _Row:
    known_by = perceptual_hash(image)
    if view.name == "frame":
        pixels = view.show(image)[0].pixels
        return _Row(pixels, pixels, image.shape[1] / image.shape[0], known_by, found=True, marked=False)
    located = locate(image, um_per_px=picture.um_per_px)
    shown = view.show_prominent(image, located)
    if shown is None:
        black = [np.zeros((round(side), round(side), 3), np.uint8) for side in (view.size[0], view.size[0] * margin)]
        return _Row(black[0], black[1], 1.0, known_by, found=False, marked=False)
    wide = shown if margin == 1.0 else view.show_prominent(image, located, margin=margin) or shown
    return _Row(shown.pixels, wide.pixels, 1.0, known_by, found=True, marked=bool(shown.mark))


def take_out(labels: Sequence[str], groups: Sequence[str], share: float, *, seed: int) -> NDArray[np.bool_]:
    """Choose whole groups, the same share of every class's groups, at least one and never all.

    Args:
        labels: class of each picture, shape (n,).
        groups: photograph of each picture; a group with two labels counts for the commoner one.
        share: of the groups of each class, 0..1.
        seed: of the draw; the same pictures in another order give the same groups.

    Returns:
        bool, shape (n,): True for pictures of the chosen groups.

    Raises:
        DataError: a class has fewer than two groups of its own.
    """
    by_label = _groups_by_label(labels, groups)
    _refuse_few(by_label, needed=2, why="to hold one back")
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for candidates in by_label.values():
        count = min(max(round(share * len(candidates)), 1), len(candidates) - 1)
        chosen.update(candidates[place] for place in rng.permutation(len(candidates))[:count])
    return np.array([group in chosen for group in groups])


def _groups_by_label(labels: Sequence[str], groups: Sequence[str]) -> dict[str, list[str]]:
    """Every label's groups, both sorted; a group with two labels is the commoner one's, at equal counts the first's."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        votes[group][label] += 1
    by_label: dict[str, list[str]] = {label: [] for label in sorted(set(labels))}
    for group in sorted(votes):
        by_label[max(sorted(votes[group]), key=votes[group].__getitem__)].append(group)
    return by_label


def _refuse_few(by_label: dict[str, list[str]], *, needed: int, why: str) -> None:
    """DataError where a class has too few photographs to be on every side."""
    for label, groups in by_label.items():
        if len(groups) < needed:
            message = (
                f"{label}: expected at least {needed} photographs, {why}, found {len(groups)} (however many pictures "
                "show it); add pictures of others, or leave the class out with --labels"
            )
            raise DataError(message)


def group_names(pictures: Sequence[Picture]) -> list[str]:
    """What may not be split, one name a picture; a picture without a group stands for itself alone."""
    return [picture.group or f"\0{picture.file}" for picture in pictures]


def split_pictures(pictures: Sequence[Picture], recipe: Recipe) -> list[str]:
    """The side of each picture: held back for figures, validation for early stopping, the rest for training.

    Raises:
        DataError: a class has too few photographs to be on every side.
    """
    labels, groups = [picture.label or "" for picture in pictures], group_names(pictures)
    if recipe.validation:
        why = "to train on one, stop by one and hold one back"
        _refuse_few(_groups_by_label(labels, groups), needed=3, why=why)
    held_back = take_out(labels, groups, recipe.held_back, seed=recipe.seed_of_split)
    sides = np.where(held_back, HELD_BACK, TRAIN).astype(object)
    rest = np.flatnonzero(~held_back)
    if recipe.validation:
        of_rest = [labels[i] for i in rest], [groups[i] for i in rest]
        inner = take_out(*of_rest, recipe.validation, seed=recipe.seed_of_split + 1)
        sides[rest[inner]] = VALIDATION
    return [str(side) for side in sides]


def leaky_split(pictures: Sequence[Picture], share: float = 0.2) -> list[str]:
    """The original project's split: the first fifth of each class's sorted files validates, the rest trains.

    The fifth is rounded down, as Keras's ImageDataGenerator does, but is one file at least. Photographs are cut apart:
    a figure from this split may only stand under a name that says leaky.
    """
    places: dict[str | None, list[int]] = defaultdict(list)
    for place, picture in enumerate(pictures):
        places[picture.label].append(place)
    sides = [TRAIN] * len(pictures)
    for own in places.values():
        for place in sorted(own, key=lambda place: pictures[place].file)[: max(int(share * len(own)), 1)]:
            sides[place] = VALIDATION
    return sides


def members(pictures: Sequence[Picture], recipe: Recipe) -> list[Member]:
    """Split readable pictures with known groups.

    Raises:
        DataError: a class is too small to hold something back.
    """
    leaky = leaky_split(pictures) if recipe.leaky_too else [""] * len(pictures)
    rows = zip(pictures, split_pictures(pictures, recipe), leaky, strict=True)
    return [Member(picture, side, other, sha256_file(picture.path)) for picture, side, other in rows]


def save_split(path: Path, rows: Sequence[Member]) -> None:
    """Write the split down, a row a picture."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for row in rows:
        one = row.picture
        values = (
            one.file,
            one.label,
            one.group,
            row.split,
            row.leaky_split,
            row.sha256,
            one.um_per_px,
            one.note,
            one.source,
            one.path.resolve(),
        )
        writer.writerow(values)
    write_text(path, stream.getvalue())


def load_split(path: Path) -> list[Member]:
    """Read what `save_split` wrote.

    Raises:
        DataError: a column is missing.
        MissingFile: there is no such file.
    """
    return [
        Member(
            Picture(
                Path(row["path"]),
                row["file"],
                row["label"],
                row["group"] or None,
                um_per_px=float(row["um_per_px"]) if row["um_per_px"] else None,
                note=row["note"],
                source=row["source"],
            ),
            row["split"],
            row["leaky_split"],
            row["sha256"],
        )
        for row in read_rows(path, _COLUMNS)
    ]


def photographs_by_label(pictures: Sequence[Picture]) -> dict[str, int]:
    """How many photographs, not only how many pictures, each class has."""
    pairs = {(picture.label or "", group) for picture, group in zip(pictures, group_names(pictures), strict=True)}
    return dict(sorted(Counter(label for label, _ in pairs).items()))


def balanced_weights(pictures: Sequence[Picture], *, noted: float = 1.0) -> NDArray[np.float64]:
    """Chance of each picture to be drawn: classes equal, sources equal within a class, photographs within a source.

    Args:
        pictures: with label, group and source.
        noted: weight of a picture with a note, whose label may be doubtful, against one without; 0 leaves them out.

    Returns:
        float64, shape (n,), sums to 1.

    Raises:
        DataError: a class has nothing but pictures with notes, and these are left out.
    """
    labels, sources, groups = [p.label for p in pictures], [p.source for p in pictures], group_names(pictures)
    photographs = list(zip(labels, sources, groups, strict=True))
    weights = np.array([noted if picture.note else 1.0 for picture in pictures])
    largest = dict.fromkeys(photographs, 0.0)
    for photograph, weight in zip(photographs, weights, strict=True):
        largest[photograph] = max(largest[photograph], weight)
    weights = _shared(weights, photographs) * np.array([largest[photograph] for photograph in photographs])
    weights = _shared(_shared(weights, list(zip(labels, sources, strict=True))), labels)
    return _summing_to_one(weights, labels)


def _shared(weights: NDArray[np.float64], names: Sequence[Hashable]) -> NDArray[np.float64]:
    """Weights that sum to 1 under each name, or are all 0."""
    totals: dict[Hashable, float] = defaultdict(float)
    for name, weight in zip(names, weights, strict=True):
        totals[name] += weight
    return np.array([weight / (totals[name] or 1.0) for name, weight in zip(names, weights, strict=True)])


def _summing_to_one(weights: NDArray[np.float64], labels: list[str | None]) -> NDArray[np.float64]:
    left = {label for label, weight in zip(labels, weights, strict=True) if weight}
    empty = sorted(str(label) for label in set(labels) - left)
    if empty:
        message = f"{', '.join(empty)}: every picture has a note, and the recipe leaves those out; add others"
        raise DataError(message)
    normal: NDArray[np.float64] = weights / weights.sum()
    return normal


def epoch_order(
    n: int, weights: NDArray[np.float64] | None, seed: tuple[int, ...], *, draws: int | None = None
) -> NDArray[np.int64]:
    """Which pictures one epoch shows, in which order: shuffles, or draws by weight. int64, shape (draws or n,)."""
    rng = np.random.default_rng(seed)
    length = n if draws is None else draws
    if weights is not None:
        return rng.choice(n, length, p=weights)
    return np.concatenate([rng.permutation(n) for _ in range(-(-length // n))])[:length]


def as_tensor_dataset(batches: Any, steps: int, size: int) -> Any:
    """A tf.data pipeline that makes batches on a thread of its own while the network trains.

    Args:
        batches: ``batches(step) -> (uint8 pixels (n, size, size, 3), targets (n, labels))``.
        steps: number of batches.
        size: input side in pixels.
    """
    from .frameworks import tf

    def make(step: Any) -> Any:
        return tf.numpy_function(lambda number: batches(int(number)), [step], (tf.uint8, tf.float32))

    def shaped(pixels: Any, targets: Any) -> Any:
        return tf.ensure_shape(pixels, (None, size, size, 3)), tf.ensure_shape(targets, (None, None))

    source = tf.data.Dataset.range(steps).map(make, num_parallel_calls=2, deterministic=True)
    return source.map(shaped).prefetch(4)
