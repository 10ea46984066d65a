import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bloodcell_edge.errors import MissingFile, PictureError, RuntimeMissing, SpecError
from bloodcell_edge.model.interpreter import RUNTIME_VARIABLE, RUNTIMES, Interpreter, interpreter_of, load_interpreter

STEP = 1 / 256  # of an int8 file's probabilities
TARGETS = ("float32", "int8")


@pytest.fixture(scope="module")
def files(tiny_flatbuffers, tmp_path_factory):
    """The tiny flatbuffers as files, without a spec: an interpreter needs none."""
    folder = tmp_path_factory.mktemp("flatbuffers")
    for target, data in tiny_flatbuffers.items():
        (folder / target).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def opened(files):
    return {target: load_interpreter(files / target) for target in TARGETS}


def flat(*colour) -> np.ndarray:
    return np.full((64, 48, 3), colour, np.uint8)


@pytest.mark.parametrize("target", TARGETS)
def test_an_interpreter_says_what_the_file_takes_and_gives(files, target):
    """Input size, number of outputs, which runtime with its version, and why it was chosen."""
    interpreter = load_interpreter(files / target)

    assert (interpreter.input_size, interpreter.outputs) == ((64, 48), 3)
    assert interpreter.runtime.partition(" ")[0] in RUNTIMES
    assert interpreter.runtime.partition(" ")[2][0].isdecimal()
    assert interpreter.why == "the first that opens the file"
    assert repr(interpreter) == f"Interpreter({interpreter.runtime}, 64x48)"


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("target", TARGETS)
def test_a_model_in_memory_gives_the_files_scores(files, target, plain):
    """To the bit, with XNNPACK's kernels and with the built-in ones."""
    of_file = load_interpreter(files / target, plain=plain)
    of_bytes = interpreter_of((files / target).read_bytes(), plain=plain)

    assert (of_bytes.runtime, of_bytes.input_size) == (of_file.runtime, of_file.input_size)
    for pixels in np.random.default_rng(0).integers(0, 256, (20, 64, 48, 3), np.uint8):
        assert of_bytes.scores(pixels).tobytes() == of_file.scores(pixels).tobytes()


def test_bytes_that_are_no_model_are_refused():
    """The message says that it was a model in memory, and what each interpreter answered."""
    with pytest.raises(RuntimeMissing, match=r"^a model in memory: no interpreter opens it; tried ai-edge-litert: "):
        interpreter_of(b"no model")


@pytest.mark.parametrize("target", TARGETS)
@settings(deadline=None, max_examples=50)
@given(arrays.arrays(np.uint8, (64, 48, 3), elements=st.integers(0, 255), fill=st.integers(0, 255)))
def test_scores_are_probabilities(opened, target, pixels):
    """Any picture: float32 from 0 to 1 whose sum is 1 within a quantization step a label, the same every time."""
    before = pixels.copy()
    scores = opened[target].scores(pixels)

    assert (scores.dtype, scores.shape) == (np.float32, (3,))
    assert ((scores >= 0) & (scores <= 1)).all()
    assert abs(scores.sum() - 1) <= (3 * STEP if target == "int8" else 1e-5)
    np.testing.assert_array_equal(opened[target].scores(pixels), scores)
    np.testing.assert_array_equal(pixels, before)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("colour", "expected"), [((255, 0, 0), 0), ((0, 255, 0), 1), ((0, 0, 255), 2)])
def test_colours_arrive_in_order_and_whole(opened, target, colour, expected):
    """Pure colours reach the model as RGB 0..255: the softmax of +2, -2, -2 gives 96.5 % to the one that is full."""
    scores = opened[target].scores(flat(*colour))

    assert scores[expected] == pytest.approx(np.exp(4) / (np.exp(4) + 2), abs=2 * STEP)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_int8_says_what_float32_says(opened, colour):
    """The integer file answers any colour within three steps of the float file."""
    exact, rounded = opened["float32"].scores(flat(*colour)), opened["int8"].scores(flat(*colour))

    assert np.abs(exact - rounded).max() <= 3 * STEP


def test_answers_do_not_change_with_the_next_picture(opened):
    """The scores of one picture are a copy, not a window into the interpreter."""
    first = opened["float32"].scores(flat(255, 0, 0))
    kept = first.copy()
    opened["float32"].scores(flat(0, 0, 255))

    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("target", TARGETS)
def test_threads_do_not_change_the_answer(files, opened, target):
    """Two threads say what one says."""
    pixels = np.random.default_rng(2).integers(0, 256, (64, 48, 3), np.uint8)

    np.testing.assert_allclose(
        load_interpreter(files / target, threads=2).scores(pixels), opened[target].scores(pixels), atol=1e-6
    )


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(np.zeros((48, 64, 3), np.uint8), id="turned"),
        pytest.param(np.zeros((1, 64, 48, 3), np.uint8), id="batch"),
        pytest.param(np.zeros((64, 48), np.uint8), id="grey"),
        pytest.param(np.zeros((64, 48, 3), np.float32), id="float"),
    ],
)
def test_other_pixels_are_refused(opened, pixels):
    """Wrong size, a batch, grey, or floats (which would be cut to 0 and 1) are told with both shapes."""
    shape = " x ".join(map(str, pixels.shape))
    with pytest.raises(PictureError, match=f"takes uint8 pixels of 64 x 48 x 3, found {pixels.dtype} of {shape}; use"):
        opened["int8"].scores(pixels)


def test_a_runtime_can_be_named(files, monkeypatch):
    """BCE_RUNTIME chooses the only runtime to try, and the interpreter says so."""
    monkeypatch.setenv(RUNTIME_VARIABLE, "tensorflow")
    interpreter = load_interpreter(files / "float32")

    assert interpreter.runtime.startswith("tensorflow 2.")
    assert interpreter.why == "BCE_RUNTIME names it"


def test_an_empty_variable_names_none(files, monkeypatch):
    """BCE_RUNTIME= means what no BCE_RUNTIME means."""
    monkeypatch.setenv(RUNTIME_VARIABLE, "")

    assert load_interpreter(files / "int8").why == "the first that opens the file"


def test_an_unknown_runtime_is_an_error(files, monkeypatch):
    """A name that is no runtime is told with those that are."""
    monkeypatch.setenv(RUNTIME_VARIABLE, "tflite")
    with pytest.raises(RuntimeMissing, match=r"BCE_RUNTIME must be one of ai-edge-litert, .*, found 'tflite'"):
        load_interpreter(files / "int8")


def test_no_runtime_says_what_was_tried_and_what_to_install(files, monkeypatch):
    """Where no runtime can be imported the error names all three, and the command that installs one, in one line."""
    for module in RUNTIMES.values():
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(RuntimeMissing) as caught:
        load_interpreter(files / "int8")
    message = str(caught.value)

    assert all(f"{name}: not installed" in message for name in RUNTIMES)
    assert "pip install ai-edge-litert" in message
    assert "\n" not in message


def test_the_next_runtime_takes_over(files, monkeypatch):
    """Where the first cannot be imported, another one that is installed opens the file."""
    monkeypatch.setitem(sys.modules, RUNTIMES["ai-edge-litert"], None)

    assert load_interpreter(files / "int8").runtime.startswith(("tflite-runtime", "tensorflow"))


def test_a_runtime_that_imports_and_fails_is_passed_over(files, monkeypatch, tmp_path):
    """tflite-runtime under numpy 2 imports and fails at every construction: the others are tried, its words kept."""

    class Broken:
        def __init__(self, **_):
            message = "CreateWrapperFromFile returned a result\n  with an exception set"
            raise SystemError(message)

    for module in RUNTIMES.values():
        monkeypatch.setitem(sys.modules, module, type(sys)(module))
        monkeypatch.setattr(sys.modules[module], "Interpreter", Broken, raising=False)
    with pytest.raises(
        RuntimeMissing, match="tflite-runtime: CreateWrapperFromFile returned a result with an exception"
    ):
        load_interpreter(files / "int8")


def test_a_file_that_is_no_model_is_an_error(tmp_path, monkeypatch):
    """Text renamed to .tflite is refused with the runtime's reason."""
    monkeypatch.setenv(RUNTIME_VARIABLE, "ai-edge-litert")
    path = tmp_path / "model.tflite"
    path.write_bytes(b"no model at all " * 40)
    with pytest.raises(RuntimeMissing, match=r"model\.tflite: no interpreter opens it; tried ai-edge-litert: \w+"):
        load_interpreter(path)


def test_opening_and_running_leave_stderr_empty(files, tmp_path):
    """No runtime talks over our own lines, neither about its delegates nor about a file that it cannot open."""
    (tmp_path / "text").write_bytes(b"no model at all " * 40)
    program = (
        "import sys, numpy\n"
        "from bloodcell_edge.errors import RuntimeMissing\n"
        "from bloodcell_edge.model.interpreter import load_interpreter\n"
        "for path in sys.argv[1:3]:\n"
        "    load_interpreter(path).scores(numpy.zeros((64, 48, 3), numpy.uint8))\n"
        "try:\n    load_interpreter(sys.argv[3])\nexcept RuntimeMissing:\n    print('refused')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, files / "int8", files / "float32", tmp_path / "text"],
        env=os.environ | {RUNTIME_VARIABLE: "ai-edge-litert"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (result.returncode, result.stdout, result.stderr) == (0, "refused\n", "")


def test_an_absent_file_is_missing(tmp_path):
    """No file, no runtime is tried."""
    with pytest.raises(MissingFile, match=r"absent\.tflite: no such model file"):
        load_interpreter(tmp_path / "absent.tflite")


@pytest.mark.parametrize("shape", [(1, 64, 48, 1), (4, 64, 48, 3), (1, 10)])
def test_a_model_of_something_else_than_a_picture_is_refused(shape, tmp_path):
    """Grey input, a fixed batch or a plain vector are no RGB picture: told with the shape that was found."""

    class Native:
        def get_input_details(self):
            return [{"shape": np.array(shape), "dtype": np.uint8, "index": 0}]

        def get_output_details(self):
            return [{"shape": np.array([1, 4]), "dtype": np.float32, "index": 1}]

    with pytest.raises(SpecError, match="expected a uint8 or float32 input of 1 x height x width x 3, found"):
        Interpreter(Native(), runtime="none", why="a test", path=tmp_path)


@pytest.mark.parametrize(("kind", "scale", "zero_point"), [(np.int8, 1 / 256, -128), (np.uint8, 1 / 255, 0)])
def test_integer_outputs_are_dequantized(kind, scale, zero_point, tmp_path):
    """A file whose output is int8 or uint8 gives the same probabilities: (q - zero point) * scale, without overflow."""
    lowest, highest = np.iinfo(kind).min, np.iinfo(kind).max

    class Native:
        def get_input_details(self):
            return [{"shape": np.array([1, 2, 2, 3]), "dtype": np.uint8, "index": 0}]

        def get_output_details(self):
            return [{"shape": np.array([1, 2]), "dtype": kind, "index": 1, "quantization": (scale, zero_point)}]

        def set_tensor(self, _, pixels):
            assert pixels.shape == (1, 2, 2, 3)

        def invoke(self):
            pass

        def get_tensor(self, _):
            return np.array([[lowest, highest]], kind)

    interpreter = Interpreter(Native(), runtime="none", why="a test", path=tmp_path)

    assert interpreter.scores(np.zeros((2, 2, 3), np.uint8)) == pytest.approx([0, 255 * scale])


def test_the_delegate_is_named(tiny_model):
    """LiteRT hands the graph to XNNPACK, and keeps it with plain kernels."""
    if not load_interpreter(tiny_model()).runtime.startswith("ai-edge-litert"):
        pytest.skip("another runtime is installed")
    assert load_interpreter(tiny_model()).delegate == "XNNPACK"
    assert load_interpreter(tiny_model(), plain=True).delegate == "none"


@pytest.mark.parametrize("plain", [False, True])
def test_a_network_of_several_outputs_gives_each_as_it_is(made_flatbuffers, plain):
    """Integers with scale and zero point, floats with none; what they stand for is the same."""
    by_target = {}
    pixels = np.full((144, 192, 3), (250, 20, 100), np.uint8)
    for target in TARGETS:
        planes = interpreter_of(made_flatbuffers[target], plain=plain).planes(pixels)
        assert sorted(plane.shape for plane, _, _ in planes) == [(36, 48, 1), (36, 48, 2), (36, 48, 5)]
        assert {plane.dtype for plane, _, _ in planes} == {np.dtype("int8" if target == "int8" else "float32")}
        assert {bool(scale) for _, scale, _ in planes} == {target == "int8"}
        by_target[target] = {
            plane.shape[-1]: (plane.astype(float) - zero_point) * (scale or 1) for plane, scale, zero_point in planes
        }
    for channels, plane in by_target["int8"].items():
        assert np.abs(plane - by_target["float32"][channels]).max() < 0.06


def test_other_pixels_are_refused_for_planes_too(made_flatbuffers):
    """As for scores."""
    with pytest.raises(PictureError, match="takes uint8 pixels of 144 x 192 x 3"):
        interpreter_of(made_flatbuffers["int8"]).planes(np.zeros((64, 48, 3), np.uint8))
