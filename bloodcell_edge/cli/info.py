"""``bce info``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..text import interval, percent
from .terminal.options import echo_json, json_option, say_choice, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..model.spec import ModelSpec

_HEATS = 256  # a heat of so much is a probability of 1


@click.command()
@click.argument("model", required=False)
@json_option
def info(model: str | None, as_json: bool) -> None:
    """Model details: labels, figures, the oldest interpreter that runs it, and the model card.

    \b
    Example:
      bce info
      bce info bloodcell-int8.tflite --json
    """
    from ..model.card import sections
    from ..model.choose import choose_model
    from ..model.file import read_model_file
    from ..model.spec import load_spec

    path = say_choice(choose_model(model))
    is_keras = path.suffix == ".keras"
    spec = load_spec(path.with_name("spec.json")) if is_keras else read_model_file(path).spec
    if as_json:
        echo_json({"model": str(path), "bytes": path.stat().st_size, **spec.as_json()})
        return
    click.echo("\n".join(f"{name:<16} {text}" for name, text in lines(path, spec)))
    for section in sections(spec):
        click.echo(f"\n{section.title}")
        if section.head:
            click.echo(table(section.head, section.rows))
        for line in section.lines:
            click.echo(line)


def lines(path: Path, spec: ModelSpec) -> list[tuple[str, Any]]:
    """What a file is, a line a fact."""
    training, figures = spec.training, spec.figures
    found = [
        ("file", f"{path} ({path.stat().st_size:,} bytes)"),
        ("name", f"{spec.name}, {spec.target}"),
        ("intended use", spec.intended_use),
        ("labels", ", ".join(spec.labels)),
        ("input", f"{spec.input_size[0]} x {spec.input_size[1]} RGB 0..255, view {spec.view}"),
    ]
    if spec.min_runtime:
        found.append(("oldest runtime", f"TFLite {spec.min_runtime}"))
    if training.get("drawn"):
        found.append(("trained on", "drawn pictures; its figures say nothing about blood"))
    for key in ("recipe", "backbone", "alpha", "weights", "seed"):
        if key in training:
            found.append((key, training[key]))
    for label, count in training.get("photographs", {}).items():
        found.append((label.lower(), f"{training['pictures'][label]} pictures of {count} photographs"))
    if "accuracy" in figures:
        limits = interval(figures["accuracy_interval"], each=" %")
        found.append(
            (
                "held back",
                f"accuracy {percent(figures['accuracy'])} (95 % interval {limits}, "
                f"{figures['interval_method']}), n = {figures['n']}, {_measured_on(figures)}",
            )
        )
    if spec.target != "keras":
        found.append(("parity", _parity(spec)))
        missing = sorted(set(spec.labels) - {golden.label for golden in spec.golden})
        absent = f"; none found for {', '.join(missing)}" if missing else ""
        found.append(("other kernels", f"may move a score by up to {spec.kernel_tolerance:.3f}"))
        found += [("golden samples", f"{len(spec.golden)}{absent}"), ("sha256", spec.sha256)]
        found += _locator(path, spec)
    found += [("attribution", line) for line in spec.attribution]
    return found


def _locator(path: Path, spec: ModelSpec) -> list[tuple[str, Any]]:
    """What finds the cells for it."""
    if not spec.shown_as.needs_cells:
        return [("locator", "none: it takes whole pictures")]
    from ..model.file import read_model_file
    from ..model.locator import shipped_locator, unpack_locator

    carried = read_model_file(path).locator
    file = unpack_locator(carried, where=str(path)) if carried else shipped_locator().file
    own = file.spec
    height, width = own.input_size
    whose = "" if carried else "none inside, made by an older bce; the one that comes with bce: "
    pictures = sum(own.training.get("pictures", {}).get("train", {}).values())
    trained = f", trained on {pictures:,} pictures" if pictures else ""
    found = [
        ("locator", f"{whose}{own.name}, {own.target}, {len(file.content):,} bytes{trained}"),
        (
            "  input",
            f"{height} x {width} RGB 0..255; a cell from {own.threshold / _HEATS:.2f} on; red cells are the ruler",
        ),
        ("  sha256", own.sha256),
    ]
    if "recall" in own.figures:
        figures = own.figures
        said = (
            f"{percent(figures['recall'])} of {figures['cells']} cells found, {percent(figures['precision'])} of boxes"
        )
        found.insert(2, ("  held back", f"{said} are one, in damaged scenes"))
    return found


def _measured_on(figures: Mapping[str, Any]) -> str:
    return f"of the {figures['target']} file" if "target" in figures else "before conversion"


def _parity(spec: ModelSpec) -> str:
    if spec.parity is None:
        return "not proven; run bce parity"
    one = spec.parity
    return (
        f"holds on {one['n']} pictures: accuracy {one['accuracy']:.2f} % (drop {one['accuracy_drop']:+.2f}), "
        f"agreement {one['agreement']:.2f} %"
    )
