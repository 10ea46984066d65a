"""quiet_stderr: native chatter is kept back, and let out where something went wrong."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from bloodcell_edge.model.choose import DEVICE_FILE, SHIPPED
from bloodcell_edge.model.interpreter import load_interpreter
from bloodcell_edge.quiet import quiet_stderr

CHATTER = b"W0000 native chatter\n"


def test_native_chatter_is_kept_back(capfd):
    """What C++ code writes to descriptor 2 inside the block is not seen; what comes before and after it is."""
    os.write(2, b"before\n")
    with quiet_stderr():
        os.write(2, CHATTER)
        subprocess.run([sys.executable, "-c", "import os; os.write(2, b'of a child')"], check=True)
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"


def test_stdout_is_not_touched(capfd):
    """Answers on descriptor 1 get through."""
    with quiet_stderr():
        os.write(1, b"answer\n")
    assert capfd.readouterr().out == "answer\n"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_chatter_is_let_out_where_the_block_fails(capfd, error):
    """An error, or an interruption, goes on, and all that was kept back is seen, however long."""

    def fail():
        with quiet_stderr():
            os.write(2, CHATTER * 10_000)
            raise error

    with pytest.raises(error):
        fail()
    assert capfd.readouterr().err == CHATTER.decode() * 10_000


def test_threads_that_keep_quiet_give_stderr_back(capfd):
    """Many at once, each for its own time: in the end what is written is seen."""

    def keep_quiet(number):
        with quiet_stderr():
            time.sleep(0.001 * (number % 3))
            os.write(2, CHATTER)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(keep_quiet, range(60)))
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_interpreters_of_threads_take_nothing_from_stderr(capfd):
    """The first one of a process keeps its announcement back; what is said while threads make others is all heard."""
    model = SHIPPED / DEVICE_FILE
    load_interpreter(model)

    def say(number):
        load_interpreter(model)
        os.write(2, b"%d\n" % number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(say, range(40)))
    assert sorted(map(int, capfd.readouterr().err.split())) == list(range(40))


def test_descriptors_are_given_back():
    """A hundred blocks, half of them failing, leave no descriptor open."""
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for number in range(100):
        try:
            with quiet_stderr():
                if number % 2:
                    raise ValueError
        except ValueError:
            pass
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before


def test_blocks_may_stand_in_each_other(capfd):
    """A block inside a block keeps its chatter back and leaves the outer one as it was."""
    with quiet_stderr():
        with quiet_stderr():
            os.write(2, CHATTER)
        os.write(2, CHATTER)
    assert capfd.readouterr().err == ""


def test_closed_stderr_is_no_error():
    """In a process started with stderr closed the block runs."""
    code = "from bloodcell_edge.quiet import quiet_stderr\nwith quiet_stderr():\n    print('ran')"
    command = f'{sys.executable} -c "{code}" 2>&-'
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, check=True)
    assert done.stdout == b"ran\n"


def test_an_interrupt_at_the_worst_moment_brings_stderr_back(capfd, monkeypatch):
    """Interrupted just after the descriptor was turned away, what is said afterwards is heard."""
    turn = os.dup2

    def interrupted(fd, fd2):
        turn(fd, fd2)
        monkeypatch.setattr(os, "dup2", turn)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "dup2", interrupted)
    with pytest.raises(KeyboardInterrupt), quiet_stderr():
        pytest.fail("the block must not begin")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"
