"""DATA that a locator is trained on: drawn photographs with boxes, and drawn pictures of one cell each."""

import csv

import pytest

from bloodcell_edge.files import write_bytes
from bloodcell_edge.imaging.drawn import LABELS, draw_field
from bloodcell_edge.imaging.image import encode_jpeg
from bloodcell_edge.runs import RunFolder

HARDLY = {"epochs": 2, "steps": 2, "batch": 4, "judged": 40}  # of a LocatorRecipe: Keras is loaded by what needs it
RED_CELL_PX = 50  # of drawn fields: 7.5 µm at 0.15 µm a pixel


@pytest.fixture(scope="session")
def boxed_fields(tmp_path_factory):
    """DATA of drawn photographs with a boxes.csv: 16 fields of one cell, and boxes of red cells as wide as they are."""
    folder = tmp_path_factory.mktemp("fields")
    with (folder / "boxes.csv").open("w", newline="") as boxes, (folder / "labels.csv").open("w", newline="") as labels:
        box, label = csv.writer(boxes), csv.writer(labels)
        box.writerow(["file", "kind", "x", "y", "width", "height"])
        label.writerow(["file", "label", "group"])
        for number in range(16):
            name = f"{number}.jpg"
            field = draw_field(600 + number, (LABELS[number % 4],))
            write_bytes(folder / name, encode_jpeg(field.image))
            (cell,) = field.cells
            box.writerow([name, "WBC", cell.x, cell.y, cell.width, cell.height])
            for red in range(2):
                box.writerow([name, "RBC", 20 + 60 * red, 30, RED_CELL_PX, RED_CELL_PX])
            label.writerow([name, cell.label, number])
    return folder


@pytest.fixture(scope="session")
def single_cells(tmp_path_factory):
    """DATA of drawn pictures of one cell each, in a folder per class."""
    folder = tmp_path_factory.mktemp("cells")
    for number in range(16):
        label = LABELS[number % 4]
        field = draw_field(700 + number, (label,))
        (cell,) = field.cells
        side = 150
        x = min(max(cell.x + cell.width // 2 - side // 2, 0), 320 - side)
        y = min(max(cell.y + cell.height // 2 - side // 2, 0), 240 - side)
        write_bytes(folder / label / f"{number}.jpg", encode_jpeg(field.image[y : y + side, x : x + side].copy()))
    return folder


@pytest.fixture(scope="session")
def locator_run(boxed_fields, single_cells, tmp_path_factory):
    """A run folder of a locator that was hardly trained."""
    from bloodcell_edge.training.locator.fit import train_locator
    from bloodcell_edge.training.locator.recipe import LocatorRecipe

    out = tmp_path_factory.mktemp("run") / "locator"
    return RunFolder(train_locator([boxed_fields, single_cells], LocatorRecipe(**HARDLY), out=out))
