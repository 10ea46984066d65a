"""Give the shipped models the shipped locator, and measure them again with it.

    python benchmarks/ship/relocate.py [--data ../shared/data] [--locator FILE]

The weights stay as they are. What changes is which crops they are shown, so every figure that stands in the files is
measured again on the same held-back pictures (those of predictions.csv): the figures of `bce evaluate`, by source. The
reject threshold, the temperature and the parity report are those of the earlier crops, and the card says so.
"""

from __future__ import annotations

from pathlib import Path

import click
from ship import PREDICTIONS, RAABIN, SMALL_FILE, SOURCES, as_csv, ask, by_source, load_predictions, own_figures
from ship import readme as readme_of

from bloodcell_edge.dataset.pictures import LABELS, Picture
from bloodcell_edge.errors import DataError
from bloodcell_edge.files import write_bytes, write_text
from bloodcell_edge.model import locator as locators
from bloodcell_edge.model.choose import DEVICE_FILE, SHIPPED
from bloodcell_edge.model.file import pack, read_model_file
from bloodcell_edge.model.golden import golden_samples
from bloodcell_edge.model.interpreter import interpreter_of
from bloodcell_edge.model.spec import SPEC_VERSION

_DATA = Path(__file__).resolve().parents[3] / "shared/data"
_CHOSEN_BEFORE = (
    "Temperature, reject threshold and parity with Keras were measured on crops of the locator before this one; the "
    "other figures of the table are by the locator inside."
)


def held_back(data: Path) -> list[Picture]:
    """The pictures of predictions.csv, where they lie here.

    Raises:
        DataError: one is not there.
    """
    found = []
    for row in load_predictions(SHIPPED / PREDICTIONS, LABELS).pictures:
        folder = data / row.source
        name = Path(row.file).name
        places = [path for path in (folder / name, folder / (row.label or "") / name) if path.is_file()]
        if not places:
            message = f"{folder}: {name} of {PREDICTIONS} is not there"
            raise DataError(message)
        found.append(Picture(places[0], row.file, row.label, row.group, note=row.note, source=row.source))
    return found


def as_shipped(content: bytes) -> bytes:
    """A locator as it is shipped: by its usual name, with whom to thank, and without where the pictures lay."""
    file = locators.unpack_locator(content, where="locator")
    pictures = {
        side: {Path(source).name: count for source, count in counts.items()}
        for side, counts in file.spec.training["pictures"].items()
    }
    parity = None if file.spec.parity is None else {**file.spec.parity, "file": locators.SHIPPED}
    spec = file.spec.with_(
        name="locator",
        training={**file.spec.training, "pictures": pictures},
        parity=parity,
        attribution=tuple(source.citation for source in (*SOURCES, RAABIN)),
    )
    return locators.pack_locator(file.flatbuffer, spec)


def relocated(file: Path, pictures: list[Picture], locator: bytes) -> tuple[bytes, str]:
    """A shipped file with its locator and figures, and its predictions as CSV."""
    model = read_model_file(file)
    own = locators.unpack_locator(locator, where="locator")
    told = locators.told(own)
    spec = model.spec.with_(locator=told, spec_version=SPEC_VERSION, golden=(), crop_um=model.spec.shown_as.crop_um)
    margin = 2 * spec.kernel_tolerance
    golden = golden_samples(interpreter_of(model.flatbuffer), spec.outputs, spec.shown_as, margin=margin)
    write_bytes(file, pack(model.flatbuffer, spec.with_(golden=golden), locator))
    answers = ask(file, pictures)
    kept = {key: spec.figures[key] for key in ("calibration", "rejection") if key in spec.figures}
    figures = {**own_figures(answers, spec), "by_source": by_source(answers, spec), "target": spec.target, **kept}
    choices = [one for one in spec.card.get("choices", ()) if one != _CHOSEN_BEFORE]
    card = {**spec.card, "choices": [*choices, _CHOSEN_BEFORE]}
    return pack(model.flatbuffer, spec.with_(golden=golden, figures=figures, card=card), locator), as_csv(
        answers, spec.labels
    )


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), default=_DATA)
@click.option("--locator", type=click.Path(path_type=Path, exists=True), help="To ship.  [default: the shipped one]")
def main(data: Path, locator: Path | None) -> None:
    """Do it to every shipped file."""
    place = SHIPPED / locators.SHIPPED
    if locator is not None:
        write_bytes(place, as_shipped(locator.read_bytes()))
    content, pictures = place.read_bytes(), held_back(data)
    for file in sorted(SHIPPED.glob("bloodcell-*.tflite")):
        made, predictions = relocated(file, pictures, content)
        write_bytes(file, made)
        if file.name == DEVICE_FILE:
            write_text(SHIPPED / PREDICTIONS, predictions)
        click.echo(f"{file}")
    write_text(SHIPPED / "README.md", readme_of([SHIPPED / DEVICE_FILE, SHIPPED / SMALL_FILE]))


if __name__ == "__main__":
    main()
