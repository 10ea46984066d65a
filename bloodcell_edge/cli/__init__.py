"""The command ``bce``: each command is a file of its own that parses, makes one library call, and prints.

Command modules import the libraries inside their callbacks, so that ``--help`` loads neither OpenCV nor TensorFlow.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from typing import NoReturn

import click

from .. import __version__
from ..errors import BceError, GateFailure
from .audit import audit
from .benchmark import benchmark
from .classify import classify
from .convert import convert
from .data import data
from .demo import demo
from .ensemble import ensemble
from .evaluate import evaluate
from .export import export
from .info import info
from .parity import parity
from .report import report
from .run import run
from .search import search
from .train import train

EXIT_ERROR, EXIT_BUG, EXIT_GATE, EXIT_INTERRUPTED = 1, 3, 4, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100})
@click.version_option(__version__, prog_name="bce")
def bce() -> None:
    """Blood cells on small devices: train, convert, prove, classify.

    Research use only, not for diagnosis.

    \b
    Example:
      bce train DATA && bce convert && bce parity
      bce classify slides/ --model runs/latest
    """


for _command in (
    demo, audit, data, train, search, ensemble, evaluate, convert, parity, classify, run, info, benchmark, report,
    export,
):  # fmt: skip
    bce.add_command(_command)


def main() -> NoReturn:
    """Run ``bce`` and exit: 0 ok, 1 expected error, 2 usage, 3 bug, 4 gate, 130 interrupted."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow's own chatter; before it is ever imported
    sys.exit(_run())


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
    with tempfile.NamedTemporaryFile("w", prefix="bce-bug-", suffix=".log", delete=False) as log:
        log.write(f"bce {__version__}, Python {sys.version}\n{' '.join(sys.argv)}\n\n")
        log.write("".join(traceback.format_exception(bug)))
    click.echo(f"bce: bug: {type(bug).__name__}: {bug}; please report it with {log.name}", err=True)
    return EXIT_BUG
