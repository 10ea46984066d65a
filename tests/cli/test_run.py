"""`bce run` as it is started on a device: lines, exit codes, signals, and what is in the file afterwards."""

from __future__ import annotations

import json
import os
import pty
import random
import re
import select
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from mjpeg_server import MjpegServer, jpeg, part

from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.slide.reader import Reader

BCE = Path(sys.executable).parent / "bce"
KEYS = ["field", "path", "taken_at", "status", "reason", "cells", "counts", "dropped", "not_evaluated"]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def save(path, seed, count=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), draw_field(seed, ("NEUTROPHIL",) * count).image[..., ::-1])


@pytest.fixture
def slides(tmp_path):
    """A folder of eight fields with two cells each."""
    for number in range(8):
        save(tmp_path / "A12" / f"{number}.png", number, 2)
    return tmp_path / "A12"


@pytest.fixture
def cells(tiny_cell_model):
    return str(tiny_cell_model())


def lines(text):
    return [json.loads(line) for line in text.splitlines()]


def table(path, columns="path, status, reason, n_cells", source="fields ORDER BY id"):
    with Reader.open(path) as reader:
        return [tuple(row) for row in reader.rows(f"SELECT {columns} FROM {source}")]


def counted(path):
    """All of the tables that does not depend on when it was done."""
    fields = table(path, "path, sha256, status, reason, n_cells, quality", "fields ORDER BY path")
    wanted = "path, label, score, x, y, mark, counted, scores, length(jpeg)"
    joined = "cells JOIN fields ON fields.id = field_id JOIN crops ON cell_id = cells.id ORDER BY path, x, y"
    return fields, table(path, wanted, joined)


class Running:
    """`bce run` in the background, its lines as they come."""

    def __init__(self, folder, *arguments, **options):
        command = [BCE, "run", *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            **options,
        )
        self.lines, self.said = [], []
        self.threads = [
            threading.Thread(target=lambda: self.lines.extend(map(json.loads, self.process.stdout))),
            threading.Thread(target=lambda: self.said.extend(self.process.stderr)),
        ]
        for thread in self.threads:
            thread.start()

    def until(self, true, within_s=30):
        deadline = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < deadline, (self.lines[-2:], self.said)
            time.sleep(0.01)

    def end(self, number=None):
        """The exit code, after a signal if one is given."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(30)
        for thread in self.threads:
            thread.join()
        self.process.stdout.close()
        self.process.stderr.close()
        return code


@pytest.fixture
def running(tmp_path):
    made = []

    def start(*arguments, **options):
        made.append(Running(tmp_path, *arguments, **options))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.end()


def test_a_line_for_each_field(bce, slides, cells, tmp_path):
    """Exactly the documented keys, in the order of the files, counts that grow; all else is on stderr."""
    result = bce("run", "--source", "folder:A12", "--model", cells)

    found = lines(result.stdout)
    assert result.returncode == 0, result.stderr
    assert [list(line) for line in found] == [KEYS] * 8
    assert [line["path"] for line in found] == [f"A12/{n}.png" for n in range(8)]
    assert [line["field"] for line in found] == list(range(1, 9))
    assert {line["status"] for line in found} == {"used"}
    assert set(found[0]["counts"]) == {"RED", "GREEN", "BLUE", "UNIDENTIFIED"}
    totals = [sum(line["counts"].values()) for line in found]
    assert totals == list(np.cumsum([len(line["cells"]) for line in found]))
    cell = found[0]["cells"][0]
    assert set(cell) == {"label", "score", "scores", "box", "mark", "counted", "reason"}
    assert cell["box"][2] > 20
    assert f"model: {cells} (given)" in result.stderr
    assert re.search(r"insufficient cells: \d+ identified, 200 asked for", result.stderr)
    assert table(tmp_path / "bloodcell.sqlite", "name", "slides") == [("A12",)]
    assert table(tmp_path / "bloodcell.sqlite", "count(*)", "fields") == [(8,)]


def test_the_same_folder_again_adds_nothing(bce, slides, cells, tmp_path):
    """No line, the same tables, the same count, and it says so; exit 0."""
    first = bce("run", "--source", "folder:A12", "--model", cells)
    before = counted(tmp_path / "bloodcell.sqlite")
    again = bce("run", "--source", "folder:A12", "--model", cells)

    assert (again.returncode, again.stdout) == (0, "")
    assert "taken in before, not counted again: 8 pictures" in again.stderr
    assert counted(tmp_path / "bloodcell.sqlite") == before
    assert again.stderr.partition("slide A12")[2] == first.stderr.partition("slide A12")[2]


def test_nothing_taken_in_is_said(bce, slides, cells):
    """A camera that ends before its stage came to rest gave no field: no line, no count, and it says so."""
    result = bce("run", "--source", "fake:smear?count=1&fps=0", "--model", cells, "--on-change")

    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.endswith("no field was taken in\n")


def test_pictures_of_a_folder_are_not_chosen_among(bce, slides, cells):
    """--every, --on-change and --on-key are for cameras: with a folder they are wrong usage, and nothing is lost."""
    for options in (("--every", "5"), ("--on-change",), ("--on-key",)):
        result = bce("run", "--source", "folder:A12", "--model", cells, *options)
        assert result.returncode == 2
        assert "a folder's pictures all count" in result.stderr


def test_files_that_cannot_be_used(bce, slides, cells, tmp_path):
    """A damaged file is a line on stderr and exit code 1; a blurred one and a tiny one are refused; the rest counts."""
    (slides / "1.png").write_bytes((slides / "1.png").read_bytes()[:2000])
    (slides / "2.jpg").write_bytes(b"")
    cv2.imwrite(str(slides / "3.png"), cv2.GaussianBlur(cv2.imread(str(slides / "3.png")), (0, 0), 8))
    cv2.imwrite(str(slides / "4.png"), np.full((12, 12, 3), 200, np.uint8))
    result = bce("run", "--source", "folder:A12", "--model", cells)

    assert result.returncode == 1
    assert re.search(r"^unreadable: A12/1.png: damaged", result.stderr, re.MULTILINE)
    assert re.search(r"^unreadable: A12/2.jpg: empty file", result.stderr, re.MULTILINE)
    assert result.stderr.endswith("bce: error: 2 of the files could not be read; their lines say why\n")
    refused = {line["path"]: line["reason"] for line in lines(result.stdout) if line["status"] == "refused"}
    assert list(refused) == ["A12/3.png", "A12/4.png"]
    assert refused["A12/3.png"].startswith("focus ")
    assert "at least 16 pixels" in refused["A12/4.png"]
    assert len(table(tmp_path / "bloodcell.sqlite")) == 7
    assert table(tmp_path / "bloodcell.sqlite", "kind", "events") == [("source",), *[("unreadable",)] * 2]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--source", "fake:smear", "--every", "inf"), "every inf seconds: expected more than 0"),
        (("--source", "folder:nowhere"), "folder:nowhere: no such folder"),
        (("--source", "folder:empty"), "folder:empty: no picture in it; expected .bmp"),
        (("--source", "A12"), "did you mean folder:A12?"),
        (("--source", "fokder:A12"), "did you mean folder:DIR?"),
        (("--source", "fake:smear?cels=3"), "unknown setting 'cels'; did you mean cells?"),
        (("--source", "fake:smear", "--watch"), "only folders can be watched"),
        (("--source", "folder:A12", "--store", "text.txt"), "text.txt: expected a store, found a file that begins"),
        (("--source", "folder:A12", "--store", "nowhere.txt/s.sqlite"), ""),
        (("--source", "fake:smear", "--on-key"), "standard input is no terminal"),
        (("--source", "http://127.0.0.1:9/x.mjpg", "--give-up-after", "0.3"), "given up"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_done_is_one_line(bce, slides, cells, tmp_path, arguments, says):
    """Exit 1, nothing on stdout, and the last line of stderr says what and where."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("shopping list")
    (tmp_path / "nowhere.txt").write_text("")
    result = bce("run", "--model", cells, *arguments)

    assert (result.returncode, result.stdout) == (1, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith("bce: error: ")
    assert says in last
    assert len(result.stderr.splitlines()) <= 3  # the model, and that the camera is lost
    assert (tmp_path / "text.txt").read_text() == "shopping list"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--every", "1", "--on-key"),
        ("--every", "-1"),
        ("--cells", "0"),
        ("--limit", "focus"),
        ("--limit", "sharpness=3"),
        ("--limit", "focus=nan"),
        ("--um-per-px", "0"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(bce, arguments):
    """What the options cannot mean is explained before anything is opened."""
    result = bce("run", "--source", "fake:smear", *arguments)

    assert result.returncode == 2
    assert "Error: " in result.stderr
    assert result.stdout == ""


def test_limits_and_the_scale_are_settable(bce, slides, cells, tmp_path):
    """--limit refuses what it says, by its number; --um-per-px is the scale in the store."""
    result = bce("run", "--source", "folder:A12", "--model", cells, "--limit", "focus=50", "--limit", "empty=0")
    assert {line["status"] for line in lines(result.stdout)} == {"refused"}
    assert all("(limit 50)" in line["reason"] for line in lines(result.stdout))
    n = len(lines(result.stdout))
    assert (
        f"fields refused on this slide, which count nothing: focus {n} (--limit NAME=N moves a limit)" in result.stderr
    )

    bce("run", "--source", "folder:A12", "--model", cells, "--slide", "b", "--um-per-px", "0.15", "--crop-mb", "0")
    ends = "fields JOIN slides ON slides.id = slide_id WHERE name = 'b'"
    assert {round(row[0], 6) for row in table(tmp_path / "bloodcell.sqlite", "um_per_px", ends)} == {0.15}
    assert table(tmp_path / "bloodcell.sqlite", "count(*)", "crops") == [(0,)]


def test_a_model_of_whole_pictures_says_so_once(bce, slides, tiny_model):
    """One result a picture, box null, and one line that this is no count of cells."""
    result = bce("run", "--source", "folder:A12", "--model", tiny_model())

    assert result.returncode == 0
    assert [[cell["box"] for cell in line["cells"]] for line in lines(result.stdout)] == [[None]] * 8
    assert result.stderr.count("not countable as cells") == 1
    assert "insufficient pictures: 8 identified" in result.stderr


def test_a_camera_stops_at_so_many_cells(bce, cells, tmp_path):
    """A drawn camera that never ends stops with a message; the slide bears the time, percentages are stated."""
    result = bce("run", "--source", "fake:smear?fps=0&cells=3", "--model", cells, "--cells", "20")

    assert result.returncode == 0
    counts = lines(result.stdout)[-1]["counts"]
    assert sum(counts.values()) - counts["UNIDENTIFIED"] >= 20
    assert "stopped: 20 cells are identified" in result.stderr
    assert re.search(r"^RED +\d+ +[\d.]+ % +[\d.]+ to [\d.]+ %", result.stderr, re.MULTILINE)
    (name,) = table(tmp_path / "bloodcell.sqlite", "name", "slides")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", name[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_field_in_hand(running, cells, tmp_path, number):
    """Exit 130; every line that was shown is in the file, every field of the file was shown, and the count is said."""
    run = running("--source", "fake:smear?fps=20", "--model", cells, "--cells", "100000")
    run.until(lambda: len(run.lines) >= 3)
    code = run.end(number)

    assert code == 130, run.said
    assert [row[0] for row in table(tmp_path / "bloodcell.sqlite")] == [line["path"] for line in run.lines]
    assert "insufficient cells" in "".join(run.said)
    assert "interrupted" not in "".join(run.said)


def test_killed_anywhere_and_run_again(running, bce, cells, tmp_path):
    """kill -9 between commits, six times: what was shown is safe, and the end is that of a run that was not killed."""
    for number in range(60):
        save(tmp_path / "big" / f"{number}.png", number % 7 + 1000 * number, 1 + number % 2)
    whole = bce("run", "--source", "folder:big", "--model", cells, "--store", "whole.sqlite")
    assert whole.returncode == 0
    dice, shown, cut = random.Random(3), 0, 0
    for _ in range(6):
        run = running("--source", "folder:big", "--model", cells)
        wanted = dice.randint(1, 8)
        run.until(lambda run=run, wanted=wanted: len(run.lines) >= wanted or run.process.poll() is not None)
        cut += run.end(signal.SIGKILL) == -signal.SIGKILL
        shown += len(run.lines)
        assert len(table(tmp_path / "bloodcell.sqlite")) >= shown
    last = bce("run", "--source", "folder:big", "--model", cells)

    assert last.returncode == 0
    assert cut >= 2
    assert counted(tmp_path / "bloodcell.sqlite") == counted(tmp_path / "whole.sqlite")
    assert last.stderr.partition("\nclass")[2] == whole.stderr.partition("\nclass")[2]


def test_a_watched_folder_goes_on(running, slides, cells, tmp_path):
    """What is there, then what arrives; a signal ends it."""
    run = running("--source", "folder:A12", "--model", cells, "--watch")
    run.until(lambda: len(run.lines) == 8)
    save(tmp_path / "beside" / "new.png", 100)
    (tmp_path / "beside" / "new.png").rename(slides / "new.png")
    run.until(lambda: len(run.lines) == 9)

    assert run.lines[-1]["path"] == "A12/new.png"
    assert run.end(signal.SIGTERM) == 130


class SmearServer(MjpegServer):
    """Gives drawn fields as a camera over a stage does: each rests for a second."""

    FIELDS = [jpeg(draw_field(seed, ("NEUTROPHIL",) * 2).image) for seed in range(1, 9)]  # noqa: RUF012

    def _bytes(self, number, dice):  # noqa: ARG002
        return part(self.FIELDS[int(time.monotonic()) % len(self.FIELDS)])


def test_a_camera_on_the_network_that_is_lost_and_back(running, cells, tmp_path):
    """Fields are taken once at rest; the loss and the return are told, and events; it goes on by itself."""
    with SmearServer() as server:
        run = running("--source", server.url, "--model", cells, "--slide", "net")
        run.until(lambda: len(run.lines) >= 2)
        server.stop()
        run.until(lambda: any(text.startswith("lost: ") for text in run.said))
        before = len(run.lines)
        server.start()
        run.until(lambda: any(text.startswith("back: ") for text in run.said))
        run.until(lambda: len(run.lines) > before + 1)
        assert run.end(signal.SIGINT) == 130

    assert len(run.lines) < 20  # of 25 frames a second
    assert run.lines[0]["path"] == f"{server.url} frame {run.lines[0]['path'].split()[-1]}"
    assert {kind for (kind,) in table(tmp_path / "bloodcell.sqlite", "kind", "events")} >= {"lost", "back"}


def on_a_terminal(command, folder, *, interrupt_after=None, environment=None):
    """What a command writes on a terminal of 80 columns, and its exit code."""
    child, terminal = pty.fork()
    if not child:
        os.chdir(folder)
        os.execve(command[0], list(map(str, command)), {**os.environ, "COLUMNS": "80", **(environment or {})})
    said, start = b"", time.monotonic()
    while time.monotonic() - start < 60:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                said += os.read(terminal, 65_536)
            except OSError:
                break
        if interrupt_after is not None and said.count(interrupt_after) >= 3:
            os.write(terminal, b"\x03")
            interrupt_after = None
    _, status = os.waitpid(child, 0)
    os.close(terminal)
    return said.decode(), os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_has_one_live_line(cells, tmp_path, rich):
    """Counts and rates on one line that is drawn again, with rich and without; Ctrl-C ends it with the count."""
    (tmp_path / "without" / "rich").mkdir(parents=True)
    (tmp_path / "without" / "rich" / "__init__.py").write_text("raise ImportError")
    environment = {} if rich else {"PYTHONPATH": str(tmp_path / "without")}
    command = [BCE, "run", "--source", "fake:smear?fps=10", "--model", cells]
    said, code = on_a_terminal(command, tmp_path, interrupt_after=b" of 200 cells", environment=environment)

    assert code == 130, said
    assert re.search(r"\d+ of 200 cells · \d+ fields, 0 refused, [\d.]+ a second · 0 frames dropped", said)
    assert "{" not in said
    live, _, count = said.partition("slide ")
    assert live.count("\n") <= 4
    assert "insufficient cells" in count
    assert ("\x1b[" in live) == rich


def test_refused_fields_stay_on_the_terminal(slides, cells, tmp_path):
    """A refusal and an unreadable file, whatever its name, have lines of their own above the live line."""
    cv2.imwrite(str(slides / "3.png"), np.full((240, 320, 3), 230, np.uint8))
    (slides / os.fsdecode(b"\xff.png")).write_bytes(b"")
    said, code = on_a_terminal([BCE, "run", "--source", "folder:A12", "--model", cells], tmp_path)

    assert code == 1
    assert "refused: A12/3.png: focus 0 (limit" in said
    assert "unreadable: A12/\\udcff.png: empty file" in said


def test_a_closed_pipe_ends_it(cells, tmp_path):
    """`bce run | head -1` ends by itself, without a traceback, and the file is whole."""
    command = f"{BCE} run --source 'fake:smear?fps=0' --model {cells} --cells 1000000 | head -1"
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=60)

    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
    assert "bug" not in done.stderr
    assert len(table(tmp_path / "bloodcell.sqlite")) >= 1


def example(name, *arguments, timeout=60):
    command = [sys.executable, EXAMPLES / name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=timeout)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_example_watch_folder(slides, cells, tmp_path):
    """examples/watch_folder.py shows each picture as it is counted."""
    said = example("watch_folder.py", cells, slides, tmp_path / "s.sqlite", 8)
    assert [line.split()[:2] for line in said.splitlines()] == [[f"{slides}/{n}.png", "used"] for n in range(8)]


def test_example_run_camera(cells, tmp_path):
    """examples/run_camera.py counts until there are enough."""
    said = example("run_camera.py", cells, tmp_path / "s.sqlite", "fake:smear?fps=0", 12)
    assert re.search(r"^RED: \d+ % \(\d+ to \d+\)\n", said)
    assert re.search(r"\d+ unidentified, \d+ fields, 0 refused, ok\n$", said)


def test_example_own_source(cells, tmp_path):
    """examples/own_source.py takes pictures from arrays."""
    files = [tmp_path / f"{seed}.npy" for seed in range(3)]
    for seed, file in enumerate(files):
        np.save(file, draw_field(seed, ("NEUTROPHIL",)).image)
    said = example("own_source.py", cells, tmp_path / "s.sqlite", *files)
    assert "used=3, refused=0" in said
    assert "ended='source'" in said


def test_two_patients_folders_of_one_name_are_two_slides(bce, cells, tmp_path):
    """The second is refused by both names unless it is given a name; the first goes on as it did."""
    for patient in ("A", "B"):
        save(tmp_path / patient / "100x" / "1.png", ord(patient))
    run = ("run", "--model", cells, "--store", "s.sqlite")
    assert bce(*run, "--source", "folder:A/100x").returncode == 0
    other = bce(*run, "--source", "folder:B/100x")
    assert other.returncode == 1
    assert f"{tmp_path}/A/100x" in other.stderr
    assert f"{tmp_path}/B/100x" in other.stderr
    assert "--slide NAME" in other.stderr
    assert bce(*run, "--source", "folder:B/100x", "--slide", "B").returncode == 0
    assert bce(*run, "--source", "folder:A/100x").returncode == 0
    assert table(tmp_path / "s.sqlite", "name", "slides") == [("100x",), ("B",)]


def test_the_target_belongs_to_the_slide(bce, slides, cells, tmp_path):
    """What run was told, report, export and the next run go by; how many more fields it takes is said."""
    run = ("run", "--model", cells, "--source", f"folder:{slides}")
    first = bce(*run)
    assert "200 asked for" in first.stderr
    assert re.search(r"about \d+ more fields like these would do", first.stderr)
    told = bce(*run, "--cells", "3")
    assert "insufficient" not in told.stderr
    assert "insufficient" not in bce(*run).stderr
    (reading,) = json.loads(bce("export", "--json").stdout)["readings"]
    assert reading["differential"]["status"] == "ok"
    assert bce("report", "--out", "r.html").returncode == 0
    assert "insufficient" not in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "200 asked for" in bce("export", "--json", "--cells", "200").stdout
