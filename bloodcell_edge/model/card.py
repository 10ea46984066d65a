"""The model card: what a model file says of itself, in sections, for `bce info` and for shipped/README.md.

Everything in it stands in the file's spec; what a training run cannot know of itself (other microscopes, licences,
known failures) is put there when a model is shipped, see benchmarks/ship/ship.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import text

if TYPE_CHECKING:
    from .spec import ModelSpec


@dataclass(frozen=True)
class Section:
    """A part of the card.

    Attributes:
        title: of the part.
        lines: sentences.
        head: of its table; empty where there is none.
        rows: of the table, as long as its head.
    """

    title: str
    lines: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def sections(spec: ModelSpec) -> list[Section]:
    """The parts that the spec has something for, in the order of a card."""
    return [
        *_sources(spec.card.get("sources", ())),
        *_held_back(spec),
        *_elsewhere(spec.card.get("elsewhere", ())),
        *_ingredients(spec.card.get("ingredients", ())),
        *_calibration(spec.figures),
        *_rejection(spec.figures, spec.card.get("unseen_unknown", {})),
        *_latency(spec.card.get("latency", ())),
        *_sentences("What was chosen on which pictures", spec.card.get("choices", ())),
        *_sentences("Known failures", spec.card.get("failures", ())),
        *_sentences("Labels", spec.card.get("label_issues", ())),
    ]


def as_markdown(parts: Sequence[Section], *, level: int = 3) -> str:
    """Sections as Markdown, headings of the given level."""
    blocks = []
    for part in parts:
        blocks.append(f"{'#' * level} {part.title}")
        if part.head:
            rule = tuple("---" for _ in part.head)
            blocks.append("\n".join(f"| {' | '.join(row)} |" for row in (part.head, rule, *part.rows)))
        blocks += ["\n".join(f"- {line}" for line in part.lines)] if part.lines else []
    return "\n\n".join(blocks)


def share(value: float | None) -> str:
    """A fraction as per cent."""
    return text.percent(value, absent="none")


def interval(bounds: Sequence[float] | None) -> str:
    """Bounds of a 95 % interval, as fractions."""
    return text.interval(bounds, absent="none")


def _sources(sources: Sequence[Mapping[str, Any]]) -> Iterator[Section]:
    if not sources:
        return
    head = ("source", "licence", "class", "trained on", "held back")
    rows = [
        (one["name"], one["licence"], label.lower(), _counted(trained), _counted(held_back))
        for one in sources
        for label, (trained, held_back) in one["counts"].items()
        if trained[0] or held_back[0]
    ]
    lines = tuple(one["citation"] for one in sources if one.get("citation"))
    yield Section("Data, in pictures (of so many photographs)", lines, head, tuple(rows))


def _counted(counts: Sequence[int]) -> str:
    return f"{counts[0]} ({counts[1]})"


def _held_back(spec: ModelSpec) -> Iterator[Section]:
    found = spec.figures
    if "per_class" not in found:
        return
    rows = [
        (
            label.lower(),
            str(one["n"]),
            share(one["recall"]),
            interval(found.get("recall_intervals", {}).get(label)),
            share(one["precision"]),
            share(one["f1"]),
        )
        for label, one in found["per_class"].items()
    ]
    photographs = "" if found.get("n_groups") is None else f" of {found['n_groups']} photographs"
    overall = (
        f"accuracy {share(found['accuracy'])} ({interval(found['accuracy_interval'])}, {found['interval_method']}), "
        f"balanced {share(found['balanced_accuracy'])}, n = {found['n']}{photographs}, {found['no_cell']} without a "
        f"cell; measured on the {found.get('target', 'keras')} file"
    )
    sources = tuple(
        f"{one['source']}: accuracy {share(one['accuracy'])} ({interval(one['accuracy_interval'])}), balanced "
        f"{share(one['balanced_accuracy'])}, n = {one['n']}"
        for one in found.get("by_source", ())
    )
    head = ("class", "n", "recall", "95 % interval", "precision", "F1")
    yield Section("Held-back pictures of the same microscopes", (overall, *sources), head, tuple(rows))


def _elsewhere(rows: Sequence[Mapping[str, Any]]) -> Iterator[Section]:
    if not rows:
        return
    head = ("trained on", "epochs", "tested on", "labels", "n", "balanced accuracy", "accuracy", "95 % interval")
    table = tuple(
        (
            one["trained_on"],
            str(one["epochs"]),
            one["tested_on"],
            one["labels"],
            str(one["n"]),
            share(one["balanced_accuracy"]),
            share(one["accuracy"]),
            interval(one["accuracy_interval"]),
        )
        for one in rows
    )
    line = "A new laboratory is another microscope: expect this there, not the figures above, until you have measured."
    yield Section("Another microscope: the same recipe, one source left out", (line,), head, table)


def _ingredients(rows: Sequence[Mapping[str, Any]]) -> Iterator[Section]:
    if not rows:
        return
    directions = tuple(key for key in rows[0] if key not in ("what", "seeds"))
    head = ("recipe", *directions, "mean", "seeds")
    table = []
    for one in rows:
        values = [float(one[key]) for key in directions]
        mean = sum(values) / len(values)
        table.append((str(one["what"]), *(share(value) for value in values), share(mean), str(one["seeds"])))
    yield Section("What each ingredient adds (balanced accuracy, short runs)", (), head, tuple(table))


def _calibration(figures: Mapping[str, Any]) -> Iterator[Section]:
    found = figures.get("calibration")
    if found:
        line = (
            f"expected calibration error {found['ece']:.3f} (15 bins; {found['ece_before']:.3f} as trained), "
            f"temperature {found['temperature']:.3f}, fitted on the {found['target']} file, n = {found['n']}, "
            f"{found['fitted_on']}"
        )
        yield Section("Calibration", (line,))


def _rejection(figures: Mapping[str, Any], unseen: Mapping[str, Any]) -> Iterator[Section]:
    found = figures.get("rejection")
    if not found:
        return
    lines = [
        f"top score below {found['threshold']:.3f}: UNIDENTIFIED. Coverage {share(found['coverage'])} "
        f"({interval(found['coverage_interval'])}), mistakes among what is named {share(found['risk'])}, "
        f"n = {found['n']}; {found['fitted_on']}"
    ]
    if found.get("unknown"):
        lines.append(
            f"of {found['unknown']} held-back pictures of other classes {share(found['unknown_rejected'])} are rejected"
        )
    if unseen:
        each = ", ".join(f"{name.lower()} {share(value)}" for name, value in unseen["by_class"].items())
        lines.append(
            f"of a class never trained on (each left out in turn) {share(unseen['mean'])} of cells are rejected where "
            f"{share(unseen['kept'])} of the four's are kept: {each}"
        )
    yield Section("Rejection", tuple(lines))


def _latency(rows: Sequence[Mapping[str, Any]]) -> Iterator[Section]:
    if rows:
        head = ("machine", "threads", "invoke, median ms", "end to end, median ms")
        table = tuple(
            (one["machine"], str(one["threads"]), f"{one['invoke_ms']:.2f}", f"{one['end_to_end_ms']:.2f}")
            for one in rows
        )
        yield Section("Latency", (), head, table)


def _sentences(title: str, lines: Sequence[str]) -> Iterator[Section]:
    if lines:
        yield Section(title, tuple(lines))
