import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from bloodcell_edge.errors import MissingFile, OutputExists
from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.model.locator import open_locator
from bloodcell_edge.runs import RunFolder
from convert.compat import float_tensors, input_quantization
from convert.locator import LocatorLimits, convert_locator, prove_locator

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def converted(locator_run, tmp_path_factory):
    """A copy of the run with its int8 and float16 files."""
    run = RunFolder(tmp_path_factory.mktemp("converted") / "locator")
    shutil.copytree(locator_run.path, run.path)
    return run, convert_locator(run.path)


def opened(file):
    return open_locator(file.read_bytes(), where=str(file))


def test_each_target_is_a_file_that_describes_itself(converted, locator_run):
    """Names, input, threshold, figures and where it comes from stand inside; the hash is of all that."""
    _, made = converted
    assert [one.file.name for one in made] == ["locator-int8.tflite", "locator-float16.tflite"]
    for one in made:
        spec = opened(one.file).spec
        assert (spec.name, spec.target, spec.input_size) == ("locator", one.target.value, (144, 192))
        assert spec.threshold == json.loads(locator_run.metrics.read_text())["heldback"]["threshold"]
        assert spec.training["pictures"]["train"]
        assert spec.kernel_tolerance >= 10
        assert spec.min_runtime == one.min_runtime


def test_int8_is_integers_from_end_to_end(converted):
    """Raw bytes in, planes of integers out, no float tensor between: every device reckons alike."""
    _, made = converted
    flatbuffer = opened(made[0].file).file.flatbuffer
    assert not float_tensors(flatbuffer)
    assert input_quantization(flatbuffer) == (1.0, 0)


def test_both_files_see_nearly_the_same(converted):
    """Heats of int8 and float16 lie close together on a drawn field."""
    image = draw_field(5, ("NEUTROPHIL", "LYMPHOCYTE"), size=(144, 192)).image
    (int8, _), (float16, _) = (opened(one.file).planes(image) for one in converted[1])
    difference = np.abs(int8.white.astype(int) - float16.white.astype(int))
    assert np.percentile(difference, 99) <= 16
    assert int8.white.shape == float16.white.shape == (36, 48)


def test_what_is_there_is_kept(converted):
    """A second conversion is refused, with --force it writes the same file again."""
    run, made = converted
    before = made[0].file.read_bytes()
    with pytest.raises(OutputExists):
        convert_locator(run.path, ["int8"])
    convert_locator(run.path, ["int8"], force=True)
    assert opened(made[0].file).file.flatbuffer == open_locator(before, where="before").file.flatbuffer


def test_the_gate_compares_cell_by_cell(converted):
    """A file that passes keeps its figures; limits that nothing can hold refuse it and say why."""
    run, made = converted
    loose = LocatorLimits(100.0, 100.0, 0.0)
    found = prove_locator(run.path, limits=loose)

    assert [one.target for one in found] == ["float16", "int8"]
    assert all(one.passed and one.n > 50 for one in found)
    assert opened(made[0].file).spec.parity["agreement"] == found[1].agreement
    assert json.loads(run.parity.read_text())["passed"] is True
    (refused,) = prove_locator(run.path, [made[0].file], limits=LocatorLimits(-100.0, -100.0, 101.0))
    assert not refused.passed
    assert "recall falls by" in refused.why
    assert "precision falls by" in refused.why
    assert "agreement" in refused.why


def test_a_run_without_files_or_unfinished_says_what_to_do(locator_run, tmp_path):
    """Nothing to compare, or nothing to convert yet: one line with the command to run."""
    run = RunFolder(tmp_path / "run")
    shutil.copytree(locator_run.path, run.path)
    with pytest.raises(MissingFile, match="run bce convert"):
        prove_locator(run.path)
    run.metrics.unlink()
    with pytest.raises(MissingFile, match="give the same bce train --locator again"):
        convert_locator(run.path)


@pytest.mark.timeout(1800)
def test_the_commands_take_a_locators_run(bce, boxed_fields, workspace):
    """Train, convert and parity by the command: JSON with the same keys, exit code 4 where the gate does not hold."""
    trained = bce("train", "--locator", str(boxed_fields), "--epochs", "1", "--name", "l", "--json", timeout=900)
    assert trained.returncode == 0, trained.stderr
    said = json.loads(trained.stdout)
    assert said["run"] == "runs/l"
    assert {"threshold", "recall", "precision"} <= set(said["heldback"])
    assert not Path("runs/latest").is_symlink()
    files = json.loads(bce("convert", "runs/l", "--int8", "--json", timeout=300).stdout)["files"]
    assert [one["file"] for one in files] == ["runs/l/locator-int8.tflite"]
    proven = bce("parity", "runs/l", "--json", timeout=300)
    assert set(json.loads(proven.stdout)) == {"passed", "candidates"}
    assert proven.returncode == (0 if json.loads(proven.stdout)["passed"] else 4)


def test_options_of_a_classifier_are_refused_beside_locator(bce, boxed_fields):
    """What would have no effect is a usage error that names it."""
    result = bce("train", "--locator", str(boxed_fields), "--recipe", "field")
    assert result.returncode == 2
    assert "--recipe is of a classifier; --locator takes --name, --epochs and --seed" in result.stderr
