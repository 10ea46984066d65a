from __future__ import annotations

import json
import shutil

import cv2
import pytest

from bloodcell_edge.dataset.split import HELD_BACK, load_split
from bloodcell_edge.imaging.drawn import draw_folder

KEYS = set(
    "model n loss accuracy accuracy_interval interval_method n_groups balanced_accuracy labels per_class confusion ece "
    "ece_bins coverage accuracy_covered no_cell seen_in_training unknown coverage_all cut".split()
)
CHOICE = "model: runs/latest/bloodcell-int8.tflite (of the run folder runs/latest)\n"


@pytest.fixture
def data(colours):
    """The folder that `colours` came from: 80 pictures a class; its spec names no training pictures."""
    return colours.path.parents[1] / "pictures"


def test_json_has_the_documented_keys(bce, own_colours, data):
    """--json: one document with at least the keys of CLI.md; fractions, the confusion with a column for no cell."""
    result = bce("evaluate", "runs/latest", data, "--json")

    values = json.loads(result.stdout)
    assert (result.returncode, result.stderr) == (0, CHOICE)
    assert set(values) >= KEYS
    assert values["model"] == "runs/latest/bloodcell-int8.tflite"
    assert (values["n"], values["accuracy"], values["seen_in_training"], values["no_cell"]) == (320, 1.0, 0, 0)
    assert values["unknown"] == {"n": 0, "rejected": 0, "unidentified": 0, "no_cell": 0}
    assert values["ece_bins"] == 15
    assert set(values["per_class"]["MONOCYTE"]) == {"n", "precision", "recall", "f1", "specificity"}
    assert values["confusion"] == [[80 * (row == column) for column in range(5)] for row in range(4)]
    low, high = values["accuracy_interval"]
    assert 0.98 < low < high == 1.0


def test_the_table_has_the_same_figures(bce, own_colours, data):
    """Without --json: n, accuracy with interval and method, a line a class, the confusion."""
    result = bce("evaluate", "runs/latest", data)

    rows = [line.split() for line in result.stdout.splitlines()]
    assert result.returncode == 0
    assert result.stdout.startswith("n = 320, accuracy 100.0 % (95 % interval ")
    assert ["MONOCYTE", "80", *["100.0", "%"] * 4] in rows
    assert ["MONOCYTE", "0", "0", "80", "0", "0"] in rows


def test_keras_and_tflite_agree(bce_here, own_colours, data):
    """The .keras and its float16 file say the same of the same pictures, the losses equal to 4 digits."""
    found = {}
    for name in ("model.keras", "bloodcell-float16.tflite"):
        result = bce_here("evaluate", own_colours.path / name, data, "--json")
        assert result.returncode == 0, result.stderr
        found[name] = json.loads(result.stdout)

    keras, float16 = found.values()
    assert keras["confusion"] == float16["confusion"]
    assert keras["loss"] == pytest.approx(float16["loss"], rel=1e-4)
    assert keras["ece"] == pytest.approx(float16["ece"], abs=1e-5)


def test_keras_through_the_script(bce, own_colours, data):
    """A .keras through the installed script: JSON alone on stdout, the choice alone on stderr, no chatter."""
    result = bce("evaluate", "runs/latest/model.keras", data, "--json", timeout=300)

    assert (result.returncode, result.stderr) == (0, "model: runs/latest/model.keras (given)\n")
    assert json.loads(result.stdout)["accuracy"] == 1.0


def test_training_pictures_are_left_out(bce, own_run, drawn, tmp_path):
    """On the folder it was trained on, a run's file is judged on the held-back pictures alone.

    Four of these are in another class's folder now, so that there are mistakes, however much was learnt.
    """
    rows = load_split(own_run.split)
    held_back = sum(row.split == HELD_BACK for row in rows)
    shutil.copytree(drawn, tmp_path / "data")
    for row in [row for row in rows if row.split == HELD_BACK and row.picture.label == "MONOCYTE"][:4]:
        (tmp_path / "data" / row.picture.file).rename(tmp_path / "data" / "LYMPHOCYTE" / row.picture.path.name)

    result = bce("evaluate", "runs/latest", "data", "--json")

    values = json.loads(result.stdout)
    assert values["n"] == held_back
    assert values["seen_in_training"] == len(rows) - held_back
    assert 0.7 < values["accuracy"] < 1


def test_a_file_away_from_its_run_knows_its_training_pictures(bce, own_run, drawn, tmp_path):
    """The hashes travel in the file: copied elsewhere, it still leaves out what it was trained on."""
    shutil.copy(own_run.path / "bloodcell-int8.tflite", tmp_path / "alone.tflite")

    values = json.loads(bce("evaluate", "alone.tflite", drawn, "--json").stdout)

    assert values["n"] + values["seen_in_training"] == 640
    assert values["n"] <= sum(row.split == HELD_BACK for row in load_split(own_run.split))


def test_seen_pictures_on_request(bce, own_run, drawn):
    """--allow-seen judges on all pictures and leaves none out."""
    values = json.loads(bce("evaluate", "runs/latest", drawn, "--allow-seen", "--json").stdout)

    assert (values["n"], values["seen_in_training"]) == (640, 0)


def test_nothing_but_training_pictures(bce, own_run, tmp_path):
    """Where every picture was trained on: exit 1, and the two ways out."""
    for row in load_split(own_run.split)[:60]:
        if row.split != HELD_BACK:
            target = tmp_path / "data" / row.picture.label / row.picture.path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(row.picture.path, target)

    result = bce("evaluate", "runs/latest", "data", "--json")

    assert (result.returncode, result.stdout) == (1, "")
    assert "use others, or --allow-seen" in result.stderr


def test_a_turned_copy_was_seen(bce, own_run, tmp_path):
    """A training photograph turned by 15 degrees counts as seen, thanks to the features in the run folder."""
    draw_folder(tmp_path / "data", per_class=1, seed=99, size=(120, 160))
    source = next(row.picture.path for row in load_split(own_run.split) if row.split != HELD_BACK)
    picture = cv2.imread(str(source))
    turn = cv2.getRotationMatrix2D((80, 60), 15, 1)
    cv2.imwrite(str(tmp_path / "data" / "MONOCYTE" / "turned.png"), cv2.warpAffine(picture, turn, (160, 120)))

    values = json.loads(bce("evaluate", "runs/latest", "data", "--json").stdout)

    assert (values["n"], values["seen_in_training"]) == (4, 1)


def test_plots_are_written(bce, own_colours, data, tmp_path):
    """--plots writes confusion, reliability and mistakes as PNG, and no curves: nothing was trained."""
    result = bce("evaluate", "runs/latest", data, "--plots", "plots")

    assert result.returncode == 0, result.stderr
    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert names == ["confusion.png", "mistakes.png", "reliability.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "plots").iterdir())


def test_one_class_only(bce, own_colours, data, tmp_path):
    """DATA with pictures of one class: what is not defined is null, the rest stands."""
    (tmp_path / "one").mkdir()
    shutil.copytree(data / "MONOCYTE", tmp_path / "one" / "MONOCYTE")

    values = json.loads(bce("evaluate", "runs/latest", "one", "--json").stdout)

    assert (values["n"], values["accuracy"], values["balanced_accuracy"]) == (80, 1.0, 1.0)
    assert values["per_class"]["MONOCYTE"]["specificity"] is None
    assert values["per_class"]["NEUTROPHIL"]["recall"] is None


def test_other_classes_are_none_of_these(bce, own_colours, data, tmp_path):
    """A folder BASOPHIL counts as unknown in JSON and in the table, never as a class."""
    shutil.copytree(data, tmp_path / "data")
    shutil.copytree(data / "MONOCYTE", tmp_path / "data" / "BASOPHIL")

    values = json.loads(bce("evaluate", "runs/latest", "data", "--json").stdout)
    text = bce("evaluate", "runs/latest", "data").stdout

    assert (values["n"], values["unknown"]["n"]) == (320, 80)
    assert "none of these: n = 80, 0 of them rejected" in text


def test_unreadable_pictures_are_named(bce, own_colours, data, tmp_path):
    """A broken file is a line on stderr and stands in the JSON; the rest is judged."""
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "MONOCYTE" / "7.png").write_bytes(b"no picture")

    result = bce("evaluate", "runs/latest", "data", "--json")

    values = json.loads(result.stdout)
    assert (result.returncode, values["n"]) == (0, 319)
    assert values["unreadable"][0]["file"] == "MONOCYTE/7.png"
    assert "left out: " in result.stderr
    assert "MONOCYTE/7.png" in result.stderr


def test_groups_give_an_interval_by_photograph(bce, own_colours, data, tmp_path):
    """--group-by makes the interval one by photograph, and counts them."""
    files = sorted(path.relative_to(data).as_posix() for path in data.rglob("*.png"))
    rows = [f"{file},{number // 8}" for number, file in enumerate(files)]
    (tmp_path / "groups.csv").write_text("\n".join(["file,group", *rows]))

    values = json.loads(bce("evaluate", "runs/latest", data, "--group-by", "groups.csv", "--json").stdout)

    assert values["n_groups"] == 40
    assert "photograph" in values["interval_method"] or "group" in values["interval_method"]


def test_labels_that_are_not_there(bce, own_colours, tmp_path):
    """DATA without any class of the model is an error that shows both."""
    (tmp_path / "data" / "CAT").mkdir(parents=True)

    result = bce("evaluate", "runs/latest", "data")

    assert result.returncode == 1
    assert "expected one folder per class (EOSINOPHIL, LYMPHOCYTE, MONOCYTE, NEUTROPHIL), found CAT" in result.stderr


def test_a_run_without_files(bce, own_colours, data):
    """A run folder that was not converted: exit 1, and what to do."""
    for path in own_colours.tflite_files():
        path.unlink()

    result = bce("evaluate", "runs/colours", data)

    assert (result.returncode, result.stdout) == (1, "")
    assert "expected bloodcell-int8.tflite in this run folder" in result.stderr
    assert "bce convert" in result.stderr
