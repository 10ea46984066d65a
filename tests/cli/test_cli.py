from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bloodcell_edge

COMMANDS = (
    "audit benchmark classify convert data demo ensemble evaluate export info parity report run search train"
).split()


CALL = "from bloodcell_edge.cli.info import info\ninfo.callback = body\ncli.main()"


def run_changed(tmp_path: Path, change: str, *arguments: str, **options):
    """Run `bce` in a process of its own whose command `info` does something else: the body of a function."""
    code = f"import os, sys, time, click\nfrom bloodcell_edge import cli, errors\ndef body(**_):\n    {change}\n"
    code += CALL
    command = [sys.executable, "-c", code, "info", *arguments]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    return subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False, **options
    )


def test_the_group_lists_its_commands(bce):
    """`bce --help` names every command once, with what it does."""
    result = bce("--help")

    listed = re.findall(r"^  (\w+) {2,}\S", result.stdout.partition("Commands:")[2], re.MULTILINE)
    assert result.returncode == 0
    assert sorted(listed) == COMMANDS
    assert "not for diagnosis" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself_with_an_example(bce, command):
    """`bce COMMAND -h` exits 0 and ends in an example that begins with the command."""
    result = bce(command, "-h")

    assert result.returncode == 0
    assert f"bce {command}" in result.stdout.partition("Example:")[2]
    assert result.stderr == ""


def test_the_version_is_the_package_s(bce):
    """`bce --version` says what the package says."""
    result = bce("--version")

    assert (result.returncode, result.stdout) == (0, f"bce, version {bloodcell_edge.__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("audit",),
        ("classify",),
        ("info", "--nonsense"),
        ("evaluate", "a", "b", "c"),
        ("benchmark", "--threads", "two"),
        ("benchmark", "--threads", "0"),
        ("benchmark", "--runs", "0"),
        ("train", "x", "--recipe", "soup"),
        ("train", "x", "--labels", "ONE"),
        ("convert", "--view", "sideways"),
        ("parity", "--max-drop", "little"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(bce, arguments):
    """What the command line cannot mean is explained on stderr, exit 2; nothing on stdout."""
    result = bce(*arguments)

    assert result.returncode == 2
    assert "Usage: bce" in result.stderr
    assert "Error: " in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("audit", "nowhere"), "nowhere: no such folder or file"),
        (("classify", "x.jpg", "--model", "nowhere.tflite"), "nowhere.tflite: no such model"),
        (("convert",), "no model given and no runs/latest/model.keras here; run bce train DATA"),
        (("parity",), "no model given and no runs/latest/model.keras here; run bce train DATA"),
        (("report",), "expected a finished run folder; run bce train DATA"),
        (("train", "nowhere"), "nowhere: no such folder or file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_expected_error_is_one_line(bce, arguments, says, tmp_path):
    """In an empty folder each command says what is missing and what to do: one line on stderr, exit 1, nothing made."""
    result = bce(*arguments)

    assert result.returncode == 1, result.stderr
    assert re.fullmatch(r"bce: error: .*\n", result.stderr)
    assert says in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_system_is_one_line(tmp_path):
    """An OSError names its file and is an expected error, without a traceback."""
    result = run_changed(tmp_path, "open('/proc/nowhere')")

    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "bce: error: /proc/nowhere: No such file or directory\n"


def test_a_bug_leaves_a_log(tmp_path):
    """An unexpected exception exits 3 with one line that names a log; the log has traceback, version and arguments."""
    result = run_changed(tmp_path, "{}['injected']", "--json")

    assert (result.returncode, result.stdout) == (3, "")
    found = re.fullmatch(r"bce: bug: KeyError: 'injected'; please report it with (\S+)\n", result.stderr)
    assert found, result.stderr
    log = Path(found[1]).read_text()
    assert Path(found[1]).parent == tmp_path
    assert f"bce {bloodcell_edge.__version__}, Python {sys.version.split()[0]}" in log
    assert "info --json" in log
    assert log.rstrip().endswith("KeyError: 'injected'")
    assert "Traceback" in log


def test_a_gate_that_fails_exits_4(tmp_path):
    """A GateFailure is one line that says gate, exit 4."""
    result = run_changed(tmp_path, "raise errors.GateFailure('agreement 50 %, limit 98 %')")

    assert result.returncode == 4
    assert result.stderr == "bce: gate: agreement 50 %, limit 98 %\n"


def test_an_interrupt_exits_130(tmp_path):
    """SIGINT while a command works: one short line, no traceback, exit 130."""
    code = "import time\nfrom bloodcell_edge import cli\n"
    code += "def body(**_):\n    print('ready', flush=True)\n    time.sleep(100)\n" + CALL
    with subprocess.Popen(
        [sys.executable, "-c", code, "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)

    assert process.returncode == 130
    assert stderr.split() == ["bce:", "interrupted"]


def test_a_closed_pipe_is_quiet(tmp_path):
    """A reader that has seen enough ends the command without a word."""
    code = "from bloodcell_edge import cli\nimport click\n"
    code += "def body(**_):\n    while True: click.echo('line')\n" + CALL
    with subprocess.Popen(
        [sys.executable, "-c", code, "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        stderr = process.stderr.read()
        code = process.wait(60)

    assert stderr == ""
    assert code == 1


def test_a_table_lines_up():
    """The first column is flush left, the others flush right, as wide as their widest cell."""
    from bloodcell_edge.cli.terminal.options import table

    assert table(("file", "n"), [("a", "100"), ("longer", "7")]) == "file      n\na       100\nlonger    7"


def test_percent_of_nothing_is_a_dash():
    """A share that is not defined is a dash, not 0 %."""
    from bloodcell_edge.text import percent

    assert (percent(None), percent(0.0), percent(0.9876)) == ("-", "0.0 %", "98.8 %")


def test_labels_are_read_in_order():
    """--labels are capitals in the order given; one alone, or one twice, is refused."""
    import click

    from bloodcell_edge.cli.terminal.options import parse_labels

    assert parse_labels(None) is None
    assert parse_labels(" neutrophil, Other ") == ("NEUTROPHIL", "OTHER")
    for wrong in ("A", "A,a", "", ","):
        with pytest.raises(click.BadParameter, match="at least two different labels"):
            parse_labels(wrong)
