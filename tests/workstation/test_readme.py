"""The README's commands and the examples do what they say, on the tiny run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from readme_blocks import README

from bloodcell_edge.files import write_bytes
from bloodcell_edge.runs import RunFolder

EXAMPLES = README.parent / "examples"
FAST = "--recipe field --alpha 0.35 --size 64 --fine-tune 0 --epochs 8 --name blood-1".split()

Bce = Callable[..., "subprocess.CompletedProcess[str]"]


def shell_commands(first: str) -> list[list[str]]:
    """The commands of the README's shell block that begins with a text, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    block = next(block for block in blocks if block.startswith(first))
    return [shlex.split(line, comments=True) for line in block.splitlines()]


@pytest.fixture
def drawn_few(drawn: Path, tmp_path: Path) -> Path:
    """`DATA` beside the working folder, a part of the drawn pictures, and `slides/` with three of them."""
    for label in ("EOSINOPHIL", "LYMPHOCYTE", "MONOCYTE", "NEUTROPHIL"):
        for number, path in enumerate(sorted((drawn / label).iterdir())[:20]):
            write_bytes(tmp_path / "DATA" / label / path.name, path.read_bytes())
            if number < 1:
                write_bytes(tmp_path / "slides" / path.name.replace(".", f"-{label}."), path.read_bytes())
    return tmp_path


@pytest.mark.long
def test_the_readmes_way_from_pictures_to_answers(drawn_few: Path, drawn_backbone: Path, bce_here: Bce) -> None:
    """The commands under "Your own pictures" run one after the other as they stand there."""
    codes = {}
    for _, name, *arguments in shell_commands("bce audit DATA"):
        extra = {"train": [*FAST, "--weights", drawn_backbone], "parity": ["--allow-small"]}.get(name, [])
        done = bce_here(name, *arguments, *extra)
        codes[name] = done.returncode
        assert "bug" not in done.stderr, done.stderr
        assert done.returncode == 0 or name == "parity", done.stderr  # so few pictures may well not hold
    assert list(codes) == ["audit", "train", "convert", "parity", "classify"]
    assert codes["parity"] in (0, 4)
    assert (drawn_few / "runs" / "latest" / "bloodcell-int8.tflite").is_file()


def test_the_readmes_script_runs(own_run: RunFolder, tmp_path: Path, drawn: Path) -> None:
    """The Python block of the README names the cell of a field."""
    picture = next(iter(sorted((drawn / "MONOCYTE").iterdir())))
    write_bytes(tmp_path / "field_01.jpg", picture.read_bytes())
    script = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert script is not None
    done = subprocess.run([sys.executable, "-c", script[1]], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"[A-Z]+ 0\.\d+ None\n", done.stdout)


def run_example(name: str, *arguments: Path) -> str:
    """What an example prints."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_example_classify_folder(tiny_run: RunFolder, drawn: Path, tmp_path: Path) -> None:
    """examples/classify_folder.py names every picture, and a broken one by its error."""
    for path in sorted((drawn / "LYMPHOCYTE").iterdir())[:3]:
        write_bytes(tmp_path / path.name, path.read_bytes())
    write_bytes(tmp_path / "broken.jpg", b"not a picture")
    lines = run_example("classify_folder.py", tiny_run.path / "bloodcell-int8.tflite", tmp_path).splitlines()
    assert len(lines) == 4
    assert "broken.jpg" in lines[0]


def test_example_read_spec(tiny_run: RunFolder) -> None:
    """examples/read_spec.py reads labels and spec with the standard library."""
    said = run_example("read_spec.py", tiny_run.path / "bloodcell-int8.tflite")
    assert said.startswith("EOSINOPHIL, LYMPHOCYTE, MONOCYTE, NEUTROPHIL\nint8, 64 px, Research use only")


@pytest.mark.long
def test_example_train_convert_prove(drawn_few: Path) -> None:
    """examples/train_convert_prove.py does the main job as a script."""
    assert "int8 agreement" in run_example("train_convert_prove.py", drawn_few / "DATA", drawn_few / "own")
