"""Makes drawn_backbone.npz, the backbone that the tests' networks stand on: a MobileNetV2 0.35 that knows drawings.

    python tests/support/drawn_backbone.py

trains it from nothing in some minutes, on drawn pictures alone: whole fields and single cells, none of which a test
draws. With a backbone that is given, a test's network needs a head only: seconds in place of minutes, and an optimum
that is the same on every machine but for the last digits.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from bloodcell_edge.cli.terminal.options import Terminal
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.files import write_bytes
from bloodcell_edge.imaging.drawn import LABELS, draw_field
from bloodcell_edge.imaging.image import encode_jpeg
from bloodcell_edge.imaging.locate import locate
from bloodcell_edge.imaging.views import View
from bloodcell_edge.runs import RunFolder
from bloodcell_edge.training.backbone import save_backbone
from bloodcell_edge.training.fit import train
from bloodcell_edge.training.kerasmodel import open_keras
from bloodcell_edge.training.recipes import choose_recipe

FILE = Path(__file__).with_suffix(".npz")
SIZE = 64
PER_CLASS = 200  # fields, and as many cells
EPOCHS = 16
FIRST_SEED = 700_000  # away from what tests draw
CELL = View("cell", (SIZE, SIZE), 20.0)


def draw(folder: Path) -> None:
    """LABEL/NUMBER.jpg: fields of 160 x 120, and cells as view "cell" shows them."""
    for place, label in enumerate(LABELS):
        for number in range(PER_CLASS):
            seed = FIRST_SEED + 10_000 * place + 2 * number
            field = draw_field(seed, (label,), size=(120, 160), ambiguity=0.0).image
            image = draw_field(seed + 1, (label,), size=(240, 320), ambiguity=0.0).image
            cell = CELL.show_labelled(image, locate(image))
            write_bytes(folder / label / f"field-{number}.jpg", encode_jpeg(field))
            if cell is not None:
                write_bytes(folder / label / f"cell-{number}.jpg", encode_jpeg(cell.pixels))


def main() -> None:
    """Draw, train, keep the backbone, and say how well the whole network did."""
    with tempfile.TemporaryDirectory() as work:
        draw(Path(work, "pictures"))
        run = RunFolder(Path(work, "run"))
        recipe = choose_recipe("drawn", size=SIZE, epochs=EPOCHS)
        spec = train(load_data(Path(work, "pictures")), recipe, run, drawn=True, brief=True, report=Terminal())
        save_backbone(open_keras(run.model).net, FILE)
    right = f"{spec.figures['accuracy']:.3f} right of {spec.figures['n']} held back"
    click.echo(f"{FILE}: {FILE.stat().st_size} bytes; {right}")


if __name__ == "__main__":
    main()
