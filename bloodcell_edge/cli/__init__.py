"""The command ``bce``: each command is a file of its own that parses, makes one library call, and prints.

Command modules import the libraries inside their callbacks, so that ``--help`` loads neither OpenCV nor TensorFlow.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import traceback
from importlib import import_module
from typing import NoReturn

import click

from ..errors import BceError, GateFailure
from ..version import __version__

EXIT_ERROR, EXIT_BUG, EXIT_GATE, EXIT_INTERRUPTED = 1, 3, 4, 130


COMMANDS = (
    "demo", "audit", "data", "train", "search", "ensemble", "evaluate", "convert", "parity", "classify", "run", "info",
    "benchmark", "report", "export",
)  # fmt: skip
"""In the order of the work; each is a module of this package with a command of the same name."""


class _Commands(click.Group):
    """Loads the one command that is called: all of them take 15 ms, which counts on a device."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f".{cmd_name}", __name__), cmd_name)
        return command


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100},
)
@click.version_option(__version__, prog_name="bce")
def bce() -> None:
    """Blood cells on small devices: train, convert, prove, classify.

    Research use only, not for diagnosis.

    \b
    Example:
      bce train DATA && bce convert && bce parity
      bce classify slides/ --model runs/latest
    """


def main() -> NoReturn:
    """Run ``bce`` and exit: 0 ok, 1 expected error, 2 usage, 3 bug, 4 gate, 130 interrupted."""
    ask_of_libraries()
    _speak_any_encoding()
    sys.exit(_run())


def _speak_any_encoding() -> None:
    """Letters that a terminal's or a pipe's encoding lacks are escaped, as on stderr: no name ends a run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def ask_of_libraries() -> None:
    """Before they are imported, unless the environment says otherwise: TensorFlow's silence, and one core of OpenCV.

    Pictures are read on several threads anyway. OpenCV's own wait for each other by spinning: with them 1,000 pictures
    were read on two threads no faster, and took 3.9 ms of the processor each instead of 3.0.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")


def _run() -> int:
    try:
        return int(bce.main(prog_name="bce", standalone_mode=False) or 0)
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("bce: interrupted", err=True)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader has seen enough, as in `bce classify ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except GateFailure as failure:
        click.echo(f"bce: gate: {failure}", err=True)
        return EXIT_GATE
    except BceError as error:
        click.echo(f"bce: error: {error}", err=True)
        return EXIT_ERROR
    except OSError as error:
        click.echo(f"bce: error: {error.filename or 'system'}: {error.strerror or error}", err=True)
        return EXIT_ERROR
    except Exception as bug:  # noqa: BLE001  # the one edge where everything ends
        return _log_bug(bug)


def _log_bug(bug: Exception) -> int:
    with tempfile.NamedTemporaryFile(
        "w", prefix="bce-bug-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
    ) as log:
        log.write(f"bce {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n")
        log.write("".join(traceback.format_exception(bug)))
    click.echo(f"bce: bug: {type(bug).__name__}: {bug}; please report it with {log.name}", err=True)
    return EXIT_BUG
