from __future__ import annotations

import flatbuffers
import numpy as np
import pytest

from convert import compat

pytestmark = pytest.mark.outside

RELEASE = "2.14.0"
MARGIN = 2 * 20 / 256  # between the two best scores: what other kernels may move on either side


@pytest.fixture(scope="module")
def python(environment):
    return environment(f"tflite-runtime=={RELEASE}", "numpy<2", python="3.11")


@pytest.mark.parametrize(("target", "tolerance"), [("int8", 20 / 256), ("float16", 1e-4)])
def test_tflite_runtime_gives_the_same_label(python, samples, run_script, target, tolerance):
    """tflite-runtime 2.14.0 runs the file, as compat says, and agrees with LiteRT on label and scores."""
    needed = compat.min_runtime(samples.files[target].read_bytes())
    assert [int(number) for number in needed.split(".")] <= [int(number) for number in RELEASE.split(".")]
    expected = samples.scores[target]
    found = np.array(run_script(python, "scores_by_tflite_runtime.py", samples.files[target], samples.pictures))
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    best, second = np.sort(expected, axis=1)[:, :-3:-1].T
    clear = best - second > MARGIN
    assert clear.sum() >= len(clear) / 2, "too few pictures with a clear label: the test proves nothing"
    assert (found.argmax(axis=1) == expected.argmax(axis=1))[clear].all()


def test_the_table_is_right_about_tflite_runtime(python, samples, run_script, tmp_path):
    """tflite-runtime 2.14.0 opens exactly the operator versions that FIRST_RELEASE dates 2.14.0 or before."""
    flatbuffer = samples.files["float16"].read_bytes()
    known = set()
    for name, releases in compat.FIRST_RELEASE.items():
        for version, release in enumerate(releases, start=1):
            file = tmp_path / f"{name}-{version}"
            file.write_bytes(_with_operator(flatbuffer, name, version))
            if tuple(map(int, release.split("."))) <= (2, 14, 0):
                known.add(file.name)
    assert set(run_script(python, "opened_by_tflite_runtime.py", tmp_path)) == known


def _with_operator(flatbuffer, name, version):
    """The model with one more operator code, which no node uses: interpreters look every code up all the same."""
    model = compat.schema().ModelT.InitFromObj(compat.read_model(flatbuffer))
    code = getattr(compat.schema().BuiltinOperator, name)
    model.operatorCodes.append(compat.schema().OperatorCodeT(min(code, 127), None, version, code))
    builder = flatbuffers.Builder(len(flatbuffer))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
