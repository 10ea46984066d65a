"""What a training run has to show, as one HTML file; its frame and its parts are in `html`."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BceError, DataError, MissingFile
from ..files import read_json, sha256_file
from ..model.file import read_model_file
from ..model.spec import ModelSpec, load_spec
from ..runs import RunFolder
from ..text import percent
from .html import (
    DRAWN,
    Tile,
    bullets,
    figure,
    hint,
    machine_table,
    page,
    paragraph,
    section,
    share,
    span,
    table,
    tiles,
    warning,
)

_SIDES = {"train": "Training", "validation": "Validation", "heldback": "Held back"}
_LEAKY = (
    "The leaky figure comes from a split by file, as the original project made it: copies of the same photograph stand "
    "on both sides, so the model was asked about photographs that it had learnt. It is shown for comparison only and "
    "says nothing about new photographs."
)
_PLOTS = {
    "curves": "Loss and accuracy after each epoch, on the pictures trained on and on others.",
    "confusion": "What the model said of the held-back pictures of each class. The counts are in the table above.",
    "reliability": "How often the model is right, by the score it gives, on the held-back pictures.",
    "mistakes": "The held-back pictures the model was surest of and wrong about.",
}
_RECIPE_WORDS = {
    "alpha": "Width of the backbone (alpha)",
    "augmentation": "Augmentation",
    "backbone": "Backbone",
    "balance": "Classes and photographs balanced",
    "batch": "Pictures a step",
    "dropout": "Dropout",
    "fine_tune": "Backbone blocks fine-tuned",
    "fine_tune_epochs": "Epochs of fine-tuning, at most",
    "fine_tune_rate": "Learning rate of fine-tuning",
    "head_epochs": "Epochs of the head, at most",
    "head_rate": "Learning rate of the head",
    "held_back": "Share of photographs held back",
    "hidden": "Units of the hidden layer",
    "label_smoothing": "Label smoothing",
    "name": "Recipe",
    "patience": "Patience of early stopping, in epochs",
    "pooling": "Pooling",
    "seed": "Seed",
    "size": "Input side, in pixels",
    "validation": "Share of the rest for validation",
    "view": "View",
    "views": "Augmented views of a picture for the head",
    "weight_decay": "Weight decay",
    "weights": "Starting weights, as asked for",
}


def run_report(run: RunFolder) -> str:
    """Put together everything a training run has to show.

    Args:
        run: a finished run. Parity, benchmark, converted files and plots may be missing: the page then says how to
            make them, or leaves them out.

    Returns:
        One HTML document that needs no other file.

    Raises:
        MissingFile: the run is not finished.
        DataError: a file of the run is not JSON, or lacks something.
        SpecError: spec.json cannot be understood.
    """
    metrics, config = _need(run.metrics), _need(run.config)
    if not run.spec.is_file():
        raise MissingFile(_unfinished(run.spec))
    spec, parity, benchmark = load_spec(run.spec), _maybe(run.parity), _maybe(run.benchmark)
    files = [_model_row(path) for path in run.tflite_files()]
    try:
        recipe = config["recipe"]
        sections = [
            _headlines(metrics, parity, files),
            section("What was trained", _trained(recipe, config, metrics, spec)),
            section("Pictures and photographs", *_data(metrics, spec)),
            section("Figures on held-back photographs", *_figures(metrics)),
            section("Does the small file say what the big one says?", *_parity(parity, run)),
            section("Files", *_files(files, run)),
            section("Speed", *_benchmark(benchmark, run)),
            section("Plots", *_plots(run.plots)),
            section("The recipe as it was run", _whole_recipe(recipe)),
            section("Hashes", _hashes(run)),
        ]
    except KeyError as error:
        message = f"{run.path}: a JSON file of this run lacks {error}; make it again with this bce"
        raise DataError(message) from error
    name = run.path.resolve().name
    return page(f"Training run {name}", sections, notice=DRAWN if spec.training.get("drawn") else "")


def _need(path: Path) -> Any:
    found = _maybe(path)
    if found is None:
        raise MissingFile(_unfinished(path))
    return found


def _unfinished(path: Path) -> str:
    return f"{path.parent}: no {path.name} here, expected a finished run folder; run bce train DATA (again: it goes on)"


def _maybe(path: Path) -> Any:
    """The content of a JSON file, None where there is none."""
    with suppress(MissingFile):
        return read_json(path, broken="not JSON ({error}); make it again, or delete it")
    return None


# Numbers as people read them.


def _fixed(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.2f} MB"


def _said(value: Any) -> str | None:
    """A value of the recipe in words."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {_said(one)}" for key, one in value.items())
    return None if value is None else str(value)


# The sections of a training run.


@dataclass(frozen=True)
class _ModelRow:
    """A converted file: what it says of itself, or why it cannot be believed."""

    path: Path
    target: str
    min_runtime: str
    error: str = ""


def _model_row(path: Path) -> _ModelRow:
    try:
        spec = read_model_file(path).spec
    except BceError as error:
        return _ModelRow(path, "unknown", "unknown", str(error))
    return _ModelRow(path, spec.target, spec.min_runtime or "unknown")


def _headlines(metrics: Mapping[str, Any], parity: Any, files: Sequence[_ModelRow]) -> str:
    """The few figures to see first, none without its n."""
    held = metrics["heldback"]
    shown = [Tile("Accuracy on held-back photographs", share(held["accuracy"]), _measured(held))]
    if leaky := metrics.get("leaky"):
        note = f"{leaky['n']} pictures, copies of photographs trained on. Not a figure of merit."
        shown.append(Tile("Leaky validation accuracy", share(leaky["validation_accuracy"]), note, bad=True))
    if parity is not None:
        note = f"{len(parity['candidates'])} small files against the Keras model, {parity['n']} pictures"
        word = "passed" if parity["passed"] else "failed"
        shown.append(Tile("Parity gate", word, note, bad=not parity["passed"]))
    for row in files:
        shown.append(Tile(f"Size, {row.target}", _size(row.path.stat().st_size), row.path.name, bad=bool(row.error)))
    return tiles(shown)


def _measured(held: Mapping[str, Any]) -> str:
    photographs = f" of {held['n_groups']} photographs" if held["n_groups"] is not None else ""
    interval = f"95 % interval {span(held['accuracy_interval'])} ({held['interval_method']})"
    return f"{held['n']} pictures{photographs}, {interval}"


def _trained(recipe: Mapping[str, Any], config: Mapping[str, Any], metrics: Mapping[str, Any], spec: ModelSpec) -> str:
    height, width = spec.input_size
    rows = [
        ("Recipe", recipe["name"]),
        ("Backbone", f"{recipe['backbone']}, width {recipe['alpha']}"),
        ("Starting weights", metrics["weights"]),
        ("Labels", ", ".join(spec.labels)),
        ("Input", f"{width} x {height} pixels, view {spec.view}"),
        ("Data", config["data"]),
        ("Seed", recipe["seed"]),
        ("Time", f"{metrics['seconds'] / 60:.1f} minutes"),
        ("Made with", f"bloodcell_edge {spec.bce_version}" if spec.bce_version else None),
    ]
    return table("The model, and where it comes from", ("What", "Value"), rows, kind="words")


def _whole_recipe(recipe: Mapping[str, Any]) -> str:
    rows = [(_RECIPE_WORDS.get(key, key.replace("_", " ").capitalize()), _asked(key, recipe[key])) for key in recipe]
    return table("Every setting, so that it can be done again", ("What", "Value"), rows, kind="words")


def _asked(key: str, value: Any) -> str | None:
    return "all" if key == "fine_tune" and value == -1 else _said(value)


def _data(metrics: Mapping[str, Any], spec: ModelSpec) -> Iterable[str]:
    pictures, photographs = metrics["pictures"], metrics["photographs"]
    sides = [side for side in _SIDES if any(pictures.get(side, {}).values())]
    columns = [counts.get(side, {}) for side in sides for counts in (pictures, photographs)]
    rows: list[list[object]] = [[label, *(column.get(label, 0) for column in columns)] for label in spec.labels]
    rows.append(["Sum", *(sum(column.values()) for column in columns)])
    yield table(
        "Pictures and the photographs they show, by class. No photograph is on two sides.",
        ("Class", *("pictures", "photographs") * len(sides)),
        rows,
        over=[("", 1), *((_SIDES[side], 2) for side in sides)],
    )
    unreadable = [f"{one['file']}: {one['error']}" for one in metrics["unreadable"]]
    yield bullets(f"Left out, since they could not be read ({len(unreadable)}):", unreadable)
    yield bullets("Sources that must be named:", spec.attribution)


def _figures(metrics: Mapping[str, Any]) -> Iterable[str]:
    held, leaky = metrics["heldback"], metrics.get("leaky")
    rows = _summary(held, leaky)
    if leaky:
        yield warning(_LEAKY)
        yield table("The same recipe, measured twice", ("", "Held back, by photograph", "Leaky validation"), rows)
    else:
        yield table("On pictures of photographs not trained on", ("", "Held back"), [row[:2] for row in rows])
    intervals = held.get("recall_intervals", {})
    yield table(
        "By class, with the 95 % interval of the recall, made like that of the accuracy",
        ("Class", "n", "Recall", "Interval", "Precision", "F1", "Specificity"),
        [
            (label, one["n"], share(one["recall"]), span(intervals.get(label)), share(one["precision"]),
             share(one["f1"]), share(one["specificity"]))
            for label, one in held["per_class"].items()
        ],
    )  # fmt: skip
    yield _confusion(held)


def _summary(held: Mapping[str, Any], leaky: Mapping[str, Any] | None) -> list[tuple[str, object, object]]:
    """Rows (name, held back, leaky)."""
    other = leaky or {"n": None, "validation_accuracy": None, "validation_loss": None}
    rows: list[tuple[str, object, object]] = [
        ("Pictures (n)", held["n"], other["n"]),
        ("Photographs", held["n_groups"], None),
        ("Accuracy", share(held["accuracy"]), share(other["validation_accuracy"])),
        ("95 % interval", span(held["accuracy_interval"]), None),
        ("Method of the interval", held["interval_method"], None),
        ("Loss (cross-entropy)", _fixed(held["loss"], 3), _fixed(other["validation_loss"], 3)),
        ("Balanced accuracy", share(held["balanced_accuracy"]), None),
        (f"Calibration error ({held['ece_bins']} bins)", share(held["ece"]), None),
        ("Coverage (not rejected), of evaluated cells", share(held["coverage"]), None),
        ("Accuracy where covered", share(held["accuracy_covered"]), None),
        ("Pictures without a cell", held["no_cell"], None),
        ("Cut by the edge, not evaluated", held.get("cut"), None),
    ]
    unknown = held.get("unknown")
    if unknown and unknown["n"]:
        rows.append(("Pictures of other classes, rejected", f"{unknown['rejected']} of {unknown['n']}", None))
    return rows


def _confusion(held: Mapping[str, Any]) -> str:
    """Counts; the last column only where some picture had no cell."""
    counts, columns = held["confusion"], [*held["labels"], "no cell"]
    if not any(row[-1] for row in counts):
        counts, columns = [row[:-1] for row in counts], columns[:-1]
    rows = [(label, *row) for label, row in zip(held["labels"], counts, strict=True)]
    return table("What the model said (columns) of the pictures of each true class (rows)", ("True", *columns), rows)


def _parity(parity: Any, run: RunFolder) -> Iterable[str]:
    if parity is None:
        convert = "" if run.tflite_files() else f"bce convert {_quoted(run)} && "
        yield hint("Not compared yet. To do that:", f"{convert}bce parity {_quoted(run)}")
        return
    photographs = f" of {parity['n_groups']} photographs" if parity["n_groups"] is not None else ""
    reference = parity["reference"]
    yield paragraph(
        f"{parity['n']} held-back pictures{photographs}, read from their files by each model. The reference "
        f"{Path(reference['file']).name} is right on {percent(reference['accuracy'], whole=100)} of them. "
        "Drops are in points."
    )
    failed = [Path(one["file"]).name for one in parity["candidates"] if not one["passed"]]
    if failed:
        yield warning(f"The gate did not hold for {', '.join(failed)}: do not use that on a device.")
    elif not parity["passed"]:
        yield warning(f"Every file passed, but {parity['n']} pictures are too few to prove it.")
    yield table(
        "Each small file against the reference",
        ("File", "Gate", "Agreement", "Accuracy", "Drop", "Worst recall drop", "Largest difference of a score",
         "Mean difference", "McNemar p"),
        [
            (Path(one["file"]).name, "✓ passed" if one["passed"] else "✗ failed", percent(one["agreement"], whole=100),
             percent(one["accuracy"], whole=100), _fixed(one["accuracy_drop"], 2), _fixed(one["worst_recall_drop"], 2),
             _fixed(one["max_abs_diff"], 3), _fixed(one["mean_abs_diff"], 4), _fixed(one["mcnemar_p"], 3))
            for one in parity["candidates"]
        ],
    )  # fmt: skip
    yield bullets("What the gate said:", [f"{Path(one['file']).name}: {one['why']}" for one in parity["candidates"]
                                        if one["why"]])  # fmt: skip
    for one in parity["candidates"]:
        flipped = one.get("flipped", ())
        yield bullets(f"{Path(one['file']).name} names these {len(flipped)} pictures otherwise:", flipped)


def _files(files: Sequence[_ModelRow], run: RunFolder) -> Iterable[str]:
    rows: list[tuple[object, ...]] = [
        (row.path.name, row.target, row.path.stat().st_size, _size(row.path.stat().st_size), row.min_runtime)
        for row in files
    ]
    if run.model.is_file():
        n_bytes = run.model.stat().st_size
        rows.insert(0, (run.model.name, "keras", n_bytes, _size(n_bytes), "workstation only"))
    if rows:
        yield table("Model files", ("File", "Target", "Bytes", "Size", "Oldest runtime that runs it"), rows)
    for row in files:
        if row.error:
            yield warning(row.error)
    if not files:
        yield hint("No small file was made yet. To do that:", f"bce convert {_quoted(run)}")


def _benchmark(benchmark: Any, run: RunFolder) -> Iterable[str]:
    if benchmark is None:
        command = f"bce benchmark {_quoted(run)} --json > {shlex.quote(str(run.benchmark))}"
        yield hint("Not measured yet. To do that, on the device itself:", command)
        return
    yield machine_table(benchmark["machine"])
    stages = list(dict.fromkeys(stage for one in benchmark["results"] for stage in one["stages_ms"]))
    percentiles = ("p50", "p95", "p99")
    yield table(
        "Milliseconds a picture",
        ("File", "threads", "valid", *stages, *percentiles, *percentiles, "pictures a second", "memory, MB"),
        [_benchmark_row(one, stages, percentiles) for one in benchmark["results"]],
        over=[("", 3), ("Stages", len(stages)), ("Start to end", 3), ("Network alone", 3), ("", 2)],
    )
    invalid = [f"{Path(one['file']).name}, {one['threads']} threads: {one['why']}"
               for one in benchmark["results"] if not one["valid"]]  # fmt: skip
    yield bullets("Do not quote these figures:", invalid)


def _benchmark_row(one: Mapping[str, Any], stages: Sequence[str], percentiles: Sequence[str]) -> list[object]:
    return [
        Path(one["file"]).name,
        one["threads"],
        "✓ yes" if one["valid"] else "✗ no",
        *(_fixed(one["stages_ms"].get(stage), 2) for stage in stages),
        *(_fixed(one[part][name], 2) for part in ("end_to_end_ms", "invoke_ms") for name in percentiles),
        _fixed(one["images_per_s"], 1),
        _fixed(one["rss_mb"], 0),
    ]


def _plots(folder: Path) -> Iterable[str]:
    found = sorted(folder.glob("*.png"), key=lambda path: (_position(path.stem), path.name))
    for path in found:
        yield figure(path.read_bytes(), _PLOTS.get(path.stem, path.stem.replace("_", " ").capitalize()))
    if not found:
        yield paragraph("This run has no plots.")


def _position(stem: str) -> int:
    return list(_PLOTS).index(stem) if stem in _PLOTS else len(_PLOTS)


def _hashes(run: RunFolder) -> str:
    named = [run.model, *run.tflite_files(), run.spec, run.split, run.metrics, run.parity, run.benchmark]
    rows = [(path.name, sha256_file(path)) for path in named if path.is_file()]
    return table("SHA-256 of the files that this report speaks of", ("File", "SHA-256"), rows, kind="words hashes")


def _quoted(run: RunFolder) -> str:
    """The run folder as a shell takes it."""
    return shlex.quote(str(run.path))
