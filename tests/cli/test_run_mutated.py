"""Damaged picture files: each is a result or a line with its error, for `bce run` and `bce classify` alike."""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
import pytest

from bloodcell_edge.imaging.drawn import draw_field
from bloodcell_edge.slide.reader import Reader

BCE = Path(sys.executable).parent / "bce"
HUGE = 30_000  # pixels a side: 2.7 GB as RGB, below the 2**30 pixels at which OpenCV refuses by itself
MOST_MB = 400  # beyond what whole files of the same kinds take, in the worst moment
TIFF_PLAIN, TIFF_LZW, TIFF_DEFLATE = 1, 5, 8
TIFF_WIDTH, TIFF_HEIGHT = 256, 257


def encodings(image, deep):
    """Files of one drawn field, by name ending: of each kind a few."""
    tiff = cv2.IMWRITE_TIFF_COMPRESSION
    wanted = [
        (".jpg", image, []),
        (".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_OPTIMIZE, 1]),
        (".jpg", image[..., 0], [cv2.IMWRITE_JPEG_RST_INTERVAL, 4]),
        (".png", image, []),
        (".png", np.dstack([image, image[..., :1]]), []),
        (".png", deep, []),
        (".tif", image, [tiff, TIFF_PLAIN]),
        (".tif", image, [tiff, TIFF_LZW]),
        (".tif", deep, [tiff, TIFF_DEFLATE]),
        (".bmp", image, []),
        (".bmp", image[..., 0], []),
    ]
    return [(ending, bytes(cv2.imencode(ending, pixels, options)[1])) for ending, pixels, options in wanted]


def flipped(data, chance):
    """A few bytes changed anywhere."""
    return _changed(data, chance, len(data))


def flipped_in_front(data, chance):
    """A few bytes changed where headers are."""
    return _changed(data, chance, min(len(data), 200))


def _changed(data, chance, end):
    changed = bytearray(data)
    for _ in range(chance.choice((1, 2, 5, 20))):
        changed[chance.randrange(2, end)] = chance.randrange(256)
    return bytes(changed)


def cut(data, chance):
    """The end is missing."""
    return data[: chance.randrange(1, len(data))]


def holed(data, chance):
    """A stretch of zeros, as from a disk block that was never written."""
    start, length = chance.randrange(len(data)), chance.choice((1, 16, 512, 4096))
    return data[:start] + bytes(min(length, len(data) - start)) + data[start + length :]


def shifted(data, chance):
    """Bytes too many, or some missing, in the middle."""
    place = chance.randrange(4, len(data))
    return (
        data[:place] + (chance.randbytes(chance.randrange(1, 40)) if chance.random() < 0.5 else b"") + data[place + 3 :]
    )


def garbage(data, chance):
    """The first bytes are right, nothing else."""
    return data[: chance.choice((2, 4, 8, 30))] + chance.randbytes(len(data))


def huge(data, chance):
    """A size is claimed that the file does not hold, its checksums in order."""
    height, width = chance.choice([(HUGE, HUGE), (HUGE, 60), (65_000, 16_000), (2**31 - 1, 2**31 - 1)])
    if data.startswith(b"\xff\xd8"):
        place = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
        return data[: place + 5] + struct.pack(">HH", height & 0xFFFF, width & 0xFFFF) + data[place + 9 :]
    if data.startswith(b"\x89PNG"):
        header = b"IHDR" + struct.pack(">II", height, width) + data[24:29]
        return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]
    if data.startswith(b"BM"):
        return data[:18] + struct.pack("<ii", width, chance.choice((height, -height))) + data[26:]
    return _with_tag(_with_tag(data, TIFF_WIDTH, width), TIFF_HEIGHT, height)


def _with_tag(data, tag, value):
    """A little-endian TIFF whose first directory has another value for a tag."""
    (directory,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, directory)
    changed = bytearray(data)
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", data, place)[0] == tag:
            struct.pack_into("<HIi", changed, place + 2, 4, 1, value)
    return bytes(changed)


def empty(data, chance):
    """Nothing at all."""
    return b""


MUTATIONS = (flipped, flipped_in_front, cut, holed, shifted, garbage, huge)


def mutants(folder, count, seed):
    """Write so many damaged files, no two alike but for the empty ones, by kind of damage in turn; their names."""
    folder.mkdir()
    chance, seen, names = random.Random(seed), set(), []
    while len(names) < count:
        number = len(names)
        image = draw_field(number % 20, ("NEUTROPHIL",), size=(64, 96), um_per_px=0.4).image
        ending, whole = chance.choice(encodings(image, image.astype(np.uint16) * 16))
        damage = empty if number % 100 == 50 else MUTATIONS[number % len(MUTATIONS)]
        data = damage(whole, chance)
        if damage in (garbage, cut) and chance.random() < 0.2:  # the head of one kind on the body of another
            data = data[:16] + chance.choice(encodings(image, image.astype(np.uint16)))[1][16:]
        if (data in seen and data) or data == whole:
            continue
        seen.add(data)
        names.append(f"{number:04}-{damage.__name__}{ending}")
        (folder / names[-1]).write_bytes(data)
        os.utime(folder / names[-1], (1.7e9, 1.7e9))  # old, so that nobody waits for the rest of it
    return names


def measured(folder, *arguments):
    """Run `bce` with its outputs in files; the exit code, both outputs, and the most memory it held, MB."""
    peak_kb = 0
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        with subprocess.Popen([BCE, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err) as process:
            while process.poll() is None:
                peak_kb = max(peak_kb, peak_of(process))
                time.sleep(0.02)
        out.seek(0)
        err.seek(0)
        return process.returncode, out.read(), err.read(), round(peak_kb / 1000)


def peak_of(process):
    """The most memory that a process held so far, kB; wait4 would tell that of pytest, from before the exec."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def both_commands(model, folder, pictures):
    """Run and classify a folder; checks what holds for any. Gives status by name, from each, and the peaks in MB."""
    store = folder / f"{pictures.name}.sqlite"
    taken, shown, said, run_mb = measured(
        folder, "run", "--source", f"folder:{pictures}", "--model", model, "--store", store
    )
    assert taken in (0, 1), said
    assert "Traceback" not in said
    with closing(Reader.open(store)) as reader:
        run = {Path(row["path"]).name: row["status"] for row in reader.rows("SELECT path, status FROM fields")}
        for row in (row for row in reader.events() if row["kind"] == "unreadable"):
            path, _, error = row["message"].partition(": ")
            assert error
            assert f"{row['kind']}: {row['message']}" in said.splitlines()
            assert run.setdefault(Path(path).name, row["kind"]) == row["kind"]
    assert len(shown.splitlines()) == sum(status in ("used", "refused") for status in run.values())

    named, shown, said, classify_mb = measured(folder, "classify", pictures, "--model", model, "--json")
    assert named in (0, 1), said
    assert "Traceback" not in said
    lines = [json.loads(line) for line in shown.splitlines()]
    classify = {Path(line["file"]).name: "unreadable" if "error" in line else "used" for line in lines}
    assert (taken, named) == (("unreadable" in run.values()), ("unreadable" in classify.values()))
    return run, classify, (run_mb, classify_mb)


def survive(model, folder, count):
    """Damaged files, after whole ones of the same kinds have shown what memory these take."""
    (folder / "whole").mkdir()
    image = draw_field(1, ("NEUTROPHIL",), size=(64, 96), um_per_px=0.4).image
    for number, (ending, data) in enumerate(encodings(image, image.astype(np.uint16) * 16)):
        (folder / "whole" / f"{number}{ending}").write_bytes(data)
    run, classify, usual = both_commands(model, folder, folder / "whole")
    assert set(classify.values()) == {"used"}
    assert "unreadable" not in run.values()

    names = mutants(folder / "damaged", count, seed=20261123)
    run, classify, peak = both_commands(model, folder, folder / "damaged")

    assert set(run) == set(classify) == set(names), "a file was passed over"
    assert Counter(run.values())["unreadable"] > count / 4
    assert Counter(classify.values())["used"] > count / 10
    print(f"{count} damaged files: run {Counter(run.values())}, classify {Counter(classify.values())},")  # noqa: T201
    print(f"peak MB {peak}, whole files {usual}")  # noqa: T201
    assert all(mb < before + MOST_MB for mb, before in zip(peak, usual, strict=True))


@pytest.mark.timeout(120)
def test_60_damaged_files_are_results_or_errors(tiny_cell_model, tmp_path):
    """60 damaged JPEG, PNG, TIFF and BMP files: each a result or an error line, no crash, no hang, no blow-up."""
    survive(tiny_cell_model(), tmp_path, 60)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_1000_damaged_files_are_results_or_errors(tiny_cell_model, tmp_path):
    """1,000 damaged JPEG, PNG, TIFF and BMP files: the same."""
    survive(tiny_cell_model(), tmp_path, 1_000)
