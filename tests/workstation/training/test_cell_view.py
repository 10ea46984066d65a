"""View "cell" from training to the answer, on a small real model of drawn cells."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from bloodcell_edge.dataset.evaluation import evaluate_files
from bloodcell_edge.dataset.layouts import load_data
from bloodcell_edge.dataset.pooled import locate_pictures
from bloodcell_edge.files import sha256_file, write_bytes
from bloodcell_edge.imaging.drawn import LABELS, draw_field
from bloodcell_edge.imaging.image import encode_jpeg, read_image
from bloodcell_edge.imaging.located import RED_CELL_UM, Box, Located
from bloodcell_edge.model.classifier import Classifier
from bloodcell_edge.model.file import read_model_file
from bloodcell_edge.model.locator import shipped_locator, told
from bloodcell_edge.model.spec import SPEC_VERSION, load_spec
from bloodcell_edge.progress import SILENT
from bloodcell_edge.slide.reader import Reader
from bloodcell_edge.training.prepared import prepare_pictures
from convert.parity import GateLimits
from convert.proof import prove


def test_the_run_says_what_it_was_shown(cell_run):
    """Spec and files carry view and crop; the held-back figure is far above chance, over all held-back pictures."""
    spec = load_spec(cell_run.spec)
    assert (spec.view, spec.crop_um, spec.input_size) == ("cell", 20.0, (64, 64))
    assert spec.figures["n"] == 40
    assert spec.figures["accuracy"] > 0.6
    for file in cell_run.tflite_files():
        packed = Classifier.open(file).spec
        assert (packed.view, packed.crop_um) == ("cell", 20.0)
        assert packed.golden


def test_training_sees_what_the_device_sees(cell_run, drawn_cells):
    """The crop that training prepares is the crop that the view shows, to the byte."""
    view = load_spec(cell_run.spec).shown_as
    pictures = load_data(drawn_cells).pictures[::20]
    prepared, pooled = prepare_pictures(pictures, view), locate_pictures(pictures)
    for picture, pixels in zip(prepared.pictures, prepared.pixels, strict=True):
        shown = view.show_labelled(read_image(picture.path), pooled.located(picture))
        assert np.array_equal(pixels, shown.pixels)
    assert prepared.found.all()
    assert set(prepared.aspects) == {1.0}


def test_pictures_without_a_cell_count_as_wrong(cell_run, drawn_cells, tmp_path):
    """Ten pictures of which two show no cell: two in no_cell, neither right nor covered, n stays ten; unknowns too."""
    for label in LABELS[:2]:
        for number, path in enumerate(sorted((drawn_cells / label).iterdir())[:4]):
            (tmp_path / label).mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / label / f"{number}.jpg")
        (tmp_path / label / "empty.jpg").write_bytes(encode_jpeg(np.full((240, 320, 3), 230, np.uint8)))
    (tmp_path / "PLATELET").mkdir()
    (tmp_path / "PLATELET" / "empty.jpg").write_bytes(encode_jpeg(np.full((200, 320, 3), 230, np.uint8)))
    model = Classifier.open(cell_run.path / "bloodcell-int8.tflite")

    answers = evaluate_files(model, load_data(tmp_path), allow_seen=True)
    found = answers.evaluation
    assert (found.n, found.no_cell) == (10, 2)
    assert [row[-1] for row in found.confusion] == [1, 1, 0, 0]
    assert found.accuracy <= 0.8
    assert found.coverage <= 0.8
    assert answers.unknown == {"n": 1, "rejected": 1, "unidentified": 0, "no_cell": 1}
    assert len(answers.with_cell()[0]) == 8


def test_the_small_files_still_say_what_the_big_one_said(cell_run):
    """Parity from the picture files: the int8 and float16 files of crops agree with Keras on most held-back cells."""
    limits = GateLimits(max_drop=10, max_recall_drop=100, min_agreement=90, allow_small=True)
    report = prove(cell_run.model, [], None, limits=limits, report=SILENT)
    assert report.n == 40
    assert report.passed, report.as_json()
    assert report.as_json()["reference"]["accuracy"] > 60  # files of a network that says nothing agree as well


def test_classify_prints_a_line_a_cell(bce, cell_run, tmp_path):
    """Two cells give two lines with their boxes, an empty field one with label and box null, exit code 0."""
    (tmp_path / "two.jpg").write_bytes(encode_jpeg(draw_field(3, LABELS[:2], size=(480, 640)).image))
    (tmp_path / "empty.jpg").write_bytes(encode_jpeg(np.full((240, 320, 3), 230, np.uint8)))
    model = cell_run.path / "bloodcell-int8.tflite"

    result = bce("classify", "two.jpg", "empty.jpg", "--model", model, "--json", "--csv", "out.csv")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.returncode == 0, result.stderr
    assert [line["file"] for line in lines] == ["two.jpg", "two.jpg", "empty.jpg"]
    assert all(len(line["box"]) == 4 and line["label"] in (*LABELS, "UNIDENTIFIED") for line in lines[:2])
    assert lines[0]["box"] != lines[1]["box"]
    assert lines[2] == {"file": "empty.jpg", **dict.fromkeys(list(lines[0])[1:])}
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 4


def test_train_takes_the_view(bce_here, drawn_cells, drawn_backbone, tmp_path):
    """--view cell is what the run is trained with, in place of the recipe's, and is written into its spec."""
    for path in (path for label in LABELS for path in sorted((drawn_cells / label).iterdir())[:5]):
        write_bytes(tmp_path / "few" / path.parent.name / path.name, path.read_bytes())
    options = ("--recipe", "field", "--weights", drawn_backbone, "--alpha", "0.35", "--size", "64", "--fine-tune", "0")
    result = bce_here("train", "few", "--view", "cell", *options, "--epochs", "1", "--name", "cells")
    assert result.returncode == 0, result.stderr
    spec = load_spec(tmp_path / "runs" / "cells" / "spec.json")
    assert (spec.view, spec.crop_um) == ("cell", 20.0)


def test_exported_crops_show_the_model_what_the_field_did(bce_here, cell_run, drawn_cells, tmp_path):
    """A crop read back with its scale gives the pixels that were classified, but for JPEG; its label is the answer.

    Where in a crop its cell is found again is the locator's business, and not asked here.
    """
    model = Classifier.open(cell_run.path / "bloodcell-int8.tflite")
    result = bce_here("run", "--source", f"folder:{drawn_cells}?recursive=1", "--model", cell_run.path, "--slide", "S")
    assert result.returncode == 0, result.stderr
    assert bce_here("export", "--crops", "crops").returncode == 0

    crops = load_data(tmp_path / "crops")
    assert len(crops.pictures) > 100
    assert all(picture.um_per_px for picture in crops.pictures)
    view, close = model.spec.shown_as, []
    with Reader.open(tmp_path / "bloodcell.sqlite") as reader:
        (reading,) = reader.readings()
        told = {(row["sha256"][:16], row["x"], row["y"]): row for row in reader.cells(reading)}
        scales = {row["sha256"][:16]: row["um_per_px"] for row in reader.fields(reading)}
    fields = {sha256_file(path)[:16]: path for path in drawn_cells.rglob("*.jpg")}
    for picture in crops.pictures[::5]:
        rows = [row for (sha256, *_), row in told.items() if sha256 == picture.group and row["mark"] == ""]
        if len(rows) != 1:
            continue
        (row,) = rows
        assert row["label"] == picture.label
        assert picture.um_per_px == pytest.approx(scales[picture.group], rel=0.01)
        crop = read_image(picture.path)
        box = Box(row["x"], row["y"], row["width"], row["height"], whole=True, touching=False)
        red_cell_px = RED_CELL_UM / scales[picture.group]
        field = read_image(fields[picture.group])
        (before,) = view.show(field, Located((box,), red_cell_px))
        place = cv2.matchTemplate(field, crop, cv2.TM_SQDIFF)
        _, _, (x, y), _ = cv2.minMaxLoc(place)
        (shown,) = view.show(crop, Located((replace(box, x=box.x - x, y=box.y - y),), red_cell_px))
        close.append(np.abs(shown.pixels.astype(int) - before.pixels).mean())
    assert len(close) > 10
    assert {picture.label for picture in crops.pictures} >= set(LABELS)
    assert max(close) < 2


def test_run_and_files_tell_of_their_locator(cell_run):
    """The spec has the hash of what located its crops; each file carries the whole of it."""
    shipped = shipped_locator()
    assert load_spec(cell_run.spec).training["locator"] == shipped.spec.sha256
    for file in cell_run.tflite_files():
        packed = read_model_file(file)
        assert packed.locator == shipped.file.content
        assert packed.spec.locator == told(shipped.file)
        assert packed.spec.spec_version == SPEC_VERSION
