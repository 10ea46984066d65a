"""An emulated arm64 device, as a Raspberry Pi is one: it finds and names the same cells as this machine does.

A Debian user space runs under QEMU: no speed is measured on it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import cv2
import pytest

from bloodcell_edge.imaging.drawn import draw_folder
from bloodcell_edge.imaging.located import overlap
from bloodcell_edge.model.locator import shipped_locator

pytestmark = pytest.mark.outside

ROOT = Path(__file__).resolve().parents[2]
SUITE, PYTHON = "bookworm", "3.11"  # Raspberry Pi OS follows Debian
DEBIAN = "base-files,python3,python3-minimal,libpython3-stdlib,libstdc++6,libgcc-s1,zlib1g,libatomic1,libc6"
PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in (17, 27, 28, 34)))
PACKAGES = ("numpy", "opencv-python-headless", "ai-edge-litert", "click", "tifffile")
CPU = "cortex-a72"  # of a Raspberry Pi 4; QEMU's own choice has kernels that it computes wrongly
CORE = "processor\t: {}\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\n"
CLASSIFY = "import sys; from bloodcell_edge.cli import main; sys.argv[0] = 'bce'; main()"
PLAIN = """
import json, sys
from pathlib import Path
from bloodcell_edge.imaging.image import read_image
from bloodcell_edge.imaging.light import Halves
from bloodcell_edge.model.locator import LearnedLocator, shipped_locator
locator = LearnedLocator(shipped_locator().file, plain=True)
for file in sorted(Path(sys.argv[1]).iterdir()):
    seen = locator.sightings(Halves(read_image(file)))
    print(json.dumps([file.name, [[*peak.rectangle, peak.heat] for peak in seen.peaks], seen.red_cell_px]))
"""


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Path:
    """The root folder of a device: Debian's Python, the wheels that this machine has too, and this package."""
    missing = [name for name in ("qemu-aarch64-static", "mmdebstrap", "arch-test") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"an arm64 device is emulated by root, with qemu-user-static and mmdebstrap; not here: {missing}")
    folder = tmp_path_factory.mktemp("board")
    root = folder / "root"
    make = ["mmdebstrap", "--quiet", "--variant=extract", "--architectures=arm64", f"--include={DEBIAN}", SUITE, root]
    subprocess.run(make, check=True, timeout=300)
    pins = [f"{name}=={version(name)}" for name in PACKAGES]
    platforms = [part for platform in PLATFORMS for part in ("--platform", platform)]
    wheels = ["--only-binary=:all:", "--no-deps", "--python-version", PYTHON, *platforms, "-d", folder / "wheels"]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wheels, *pins], check=True, timeout=300)
    app = root / "opt/app"
    for wheel in (folder / "wheels").glob("*.whl"):
        shutil.unpack_archive(wheel, app, "zip")
    shutil.copytree(ROOT / "bloodcell_edge", app / "bloodcell_edge", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(shutil.which("qemu-aarch64-static") or "", root)
    describe(root)
    return root


def describe(root: Path) -> None:
    """What LiteRT asks of its machine: of the host's own /proc it would crash."""
    cpu = root / "sys/devices/system/cpu"
    for folder in (cpu, root / "proc", root / "tmp"):
        folder.mkdir(parents=True, exist_ok=True)
    (root / "proc/cpuinfo").write_text("".join(CORE.format(number) for number in range(4)))
    for name in ("possible", "present"):
        (cpu / name).write_text("0-3\n")


@pytest.fixture(scope="module")
def pictures(board, shared) -> Path:
    """Drawn fields and photographs, without loss, so that no decoder is asked too much."""
    folder = board / "opt/pictures"
    draw_folder(folder / "drawn", per_class=2, seed=79, size=(240, 320))
    (folder / "photos").mkdir()
    for file in sorted((shared / "data/photos").glob("*.jpg"))[::24]:
        cv2.imwrite(str(folder / "photos" / f"{file.stem}.png"), cv2.imread(str(file)))
    return folder


def on(root: Path | None, program: str, *arguments: str | Path) -> list[str]:
    """The lines that a program prints, on a device or here."""
    if root is None:
        command, paths = [sys.executable, "-c", program, *arguments], {}
    else:
        inside = [f"/{Path(each).relative_to(root)}" if Path(each).is_absolute() else each for each in arguments]
        emulated = ["chroot", root, "/qemu-aarch64-static", "-cpu", CPU, "/usr/bin/python3"]
        command, paths = [*emulated, "-c", program, *inside], {"PYTHONPATH": "/opt/app"}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=500, check=False, env={**os.environ, **paths}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_device_names_the_same_cells(board, pictures):
    """`bce classify --json`: the same files, boxes, scores, labels and reasons, to the last digit."""

    def answers(root):
        lines = [json.loads(line) for line in on(root, CLASSIFY, "classify", "--json", pictures)]
        return [{**line, "file": "/".join(Path(line["file"]).parts[-2:]), "ms": 0} for line in lines]

    here, there = answers(None), answers(board)
    assert len([line for line in here if line["box"]]) >= 16
    assert there == here


def test_built_in_kernels_find_the_same_cells_on_a_device(board, pictures):
    """As older devices run a locator: the same cells but those near the threshold, and nearly the same ruler."""
    here, there = ([json.loads(line) for line in on(root, PLAIN, pictures / "photos")] for root in (None, board))
    assert len(here) >= 10
    spec = shipped_locator().spec
    for (name, ours, our_ruler), (same_name, theirs, their_ruler) in zip(here, there, strict=True):
        assert name == same_name
        assert their_ruler == pytest.approx(our_ruler, rel=0.03)
        for some, others in ((ours, theirs), (theirs, ours)):
            sure = [cell for cell in some if cell[4] >= spec.threshold + spec.kernel_tolerance]
            assert all(any(overlap(cell[:4], other[:4]) > 0.5 for other in others) for cell in sure)
