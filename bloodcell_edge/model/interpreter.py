"""One way to open a .tflite, whatever interpreter is installed.

LiteRT first, then tflite-runtime, then TensorFlow. An interpreter counts as there only when it opens the file:
tflite-runtime 2.14 imports under numpy 2 and then fails at every construction.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MissingFile, PictureError, RuntimeMissing, SpecError
from ..quiet import quiet_stderr

if TYPE_CHECKING:
    from numpy.typing import NDArray

RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}
"""Distribution name -> module, in order of preference."""

RUNTIME_VARIABLE = "BCE_RUNTIME"
"""Environment variable that names the only runtime to try."""

_ANNOUNCED: set[str] = set()  # distributions that have told of their delegates in this process


class Interpreter:
    """A .tflite ready to run, one picture at a time.

    Attributes:
        runtime: the distribution that runs it, with its version.
        why: how it was chosen.
        input_size: (height, width) in pixels.
        outputs: how many probabilities it gives.
    """

    def __init__(self, native: Any, *, runtime: str, why: str, path: Path) -> None:
        """Wrap an allocated interpreter.

        Raises:
            SpecError: the input is not one uint8 or float32 RGB picture.
        """
        self._native, self.runtime, self.why = native, runtime, why
        entry, self._exits = native.get_input_details()[0], native.get_output_details()
        shape, self._dtype = tuple(int(side) for side in entry["shape"]), entry["dtype"]
        if len(shape) != 4 or shape[0] != 1 or shape[3] != 3 or self._dtype not in (np.uint8, np.float32):
            message = f"{path}: expected a uint8 or float32 input of 1 x height x width x 3, found {shape}"
            raise SpecError(message)
        self._entry = entry["index"]
        self.input_size = (shape[1], shape[2])
        self.outputs = int(self._exits[0]["shape"][-1])

    def __repr__(self) -> str:
        """Name the runtime and the input."""
        return f"Interpreter({self.runtime}, {self.input_size[0]}x{self.input_size[1]})"

    @property
    def delegate(self) -> str:
        """What runs the graph: "XNNPACK", "none" for the runtime's own kernels, "unknown" where it does not tell."""
        told = getattr(self._native, "_get_ops_details", None)  # a delegate stands among the operators as one more
        if told is None:
            return "unknown"
        return "XNNPACK" if any(operator["op_name"] == "DELEGATE" for operator in told()) else "none"

    def scores(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Run one picture.

        Args:
            pixels: uint8 RGB, shape (*input_size, 3), 0..255; scaling is inside the graph.

        Returns:
            float32 probabilities, shape (outputs,).

        Raises:
            PictureError: other pixels than these.
        """
        answer = self._run(pixels)[0]
        if answer.dtype != np.float32:
            scale, zero_point = self._exits[0]["quantization"]
            answer = (answer.astype(np.int64) - zero_point) * scale  # widened first: int8 minus int8 overflows
        return np.asarray(answer, np.float32)

    def planes(self, pixels: NDArray[np.uint8]) -> list[tuple[NDArray[Any], float, int]]:
        """Run one picture through a network with several outputs.

        Args:
            pixels: as for `scores`.

        Returns:
            Each output as the network gives it, shape (height, width, channels), with its scale and zero point; both
            are 0 where it gives floats. Interpreters differ in the order.

        Raises:
            PictureError: other pixels than these.
        """
        return [(plane, *exit_["quantization"]) for plane, exit_ in zip(self._run(pixels), self._exits, strict=True)]

    def _run(self, pixels: NDArray[np.uint8]) -> list[NDArray[Any]]:
        if pixels.shape != (*self.input_size, 3) or pixels.dtype != np.uint8:
            height, width = self.input_size
            message = (
                f"the model takes uint8 pixels of {height} x {width} x 3, found {pixels.dtype} of "
                f"{' x '.join(map(str, pixels.shape))}; use Classifier.show"
            )
            raise PictureError(message)
        self._native.set_tensor(self._entry, pixels[np.newaxis].astype(self._dtype, copy=False))
        self._native.invoke()
        return [self._native.get_tensor(exit_["index"])[0] for exit_ in self._exits]


def load_interpreter(path: str | Path, *, threads: int = 1, plain: bool = False) -> Interpreter:
    """Open a .tflite with the first interpreter that can.

    Args:
        path: the model file.
        threads: cores for one invoke.
        plain: with the built-in kernels alone, as tflite-runtime runs int8, not with XNNPACK's: slower.

    Raises:
        MissingFile: no such file.
        RuntimeMissing: no interpreter is installed, none opens the file, or `RUNTIME_VARIABLE` names an unknown one;
            says what each one answered.
        SpecError: its input is not an RGB picture.
    """
    path = Path(path)
    if not path.is_file():
        message = f"{path}: no such model file"
        raise MissingFile(message)
    return _opened(path, {"model_path": str(path)}, threads, plain=plain)


def interpreter_of(flatbuffer: bytes, *, threads: int = 1, plain: bool = False) -> Interpreter:
    """As `load_interpreter`, of a model that is in memory, as a converter gives it; the scores are the file's.

    Args:
        flatbuffer: the bytes of a .tflite.
        threads: cores for one invoke.
        plain: with the built-in kernels alone.

    Raises:
        RuntimeMissing: as `load_interpreter`.
        SpecError: its input is not an RGB picture.
    """
    return _opened(Path("a model in memory"), {"model_content": flatbuffer}, threads, plain=plain)


def _opened(path: Path, model: Mapping[str, str | bytes], threads: int, *, plain: bool) -> Interpreter:
    """The first interpreter that takes what `model` names; `path` is for messages."""
    only = os.environ.get(RUNTIME_VARIABLE)
    if only and only not in RUNTIMES:
        message = f"{RUNTIME_VARIABLE} must be one of {', '.join(RUNTIMES)}, found {only!r}; unset it to try them all"
        raise RuntimeMissing(message)
    answers: list[str] = []
    for distribution in [only] if only else RUNTIMES:
        construct = partial(_construct, RUNTIMES[distribution], model, threads, plain=plain)
        native = _quietly(distribution, construct, plain=plain)
        if isinstance(native, str):
            answers.append(f"{distribution}: {native}")
            continue
        why = f"{RUNTIME_VARIABLE} names it" if only else "the first that opens the file"
        return Interpreter(native, runtime=f"{distribution} {_version(distribution)}", why=why, path=path)
    message = (
        f"{path}: no interpreter opens it; tried {'; '.join(answers)}. Where none is installed: "
        "pip install ai-edge-litert (64-bit), or tflite-runtime with numpy<2 (see README); else copy the file again"
    )
    raise RuntimeMissing(message)


def _quietly(distribution: str, construct: Callable[[], Any], *, plain: bool) -> Any:
    """Construct the first interpreter of a process quietly: it tells of its delegates, and no later one does.

    Later ones are made on threads, whose neighbours may have something to say on stderr.
    """
    if distribution in _ANNOUNCED:
        return construct()
    with quiet_stderr():
        native = construct()
    if not isinstance(native, str) and not plain:
        _ANNOUNCED.add(distribution)
    return native


def _construct(module: str, model: Mapping[str, str | bytes], threads: int, *, plain: bool) -> Any:
    """A native interpreter with its memory allocated; a string that says why not where there is none."""
    try:
        package = importlib.import_module(module)
        constructor: Callable[..., Any] = package.Interpreter
        kernels = package.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain else None
        options = {} if kernels is None else {"experimental_op_resolver_type": kernels}
        native = constructor(**model, num_threads=threads, **options)
        native.allocate_tensors()
    except ImportError as error:
        return f"not installed ({error})"
    except (AttributeError, ValueError, RuntimeError, SystemError) as error:  # of native modules and constructors
        return " ".join(str(error).split()) or type(error).__name__
    return native


def _version(distribution: str) -> str:
    """As its package says; importlib.metadata would take 10 ms of every start."""
    package = sys.modules[RUNTIMES[distribution].partition(".")[0]]
    return str(getattr(package, "__version__", "(unknown version)"))
