"""The drawn smears: repeatable, labelled right, and with something to tell the classes by."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bloodcell_edge.errors import DataError
from bloodcell_edge.imaging import drawn as smear
from bloodcell_edge.imaging.drawn import LABELS, UM_PER_PX, DrawnCell, DrawnField, draw_field, draw_folder
from bloodcell_edge.imaging.image import read_image

GOLDEN = {  # (seed, height): digest
    (0, 240): "a06f868006a852f8",
    (1, 240): "a63feb90d83398b2",
    (2, 120): "7ac72f4d4764534d",
    (3, 480): "6e84a14ac6344152",
    (1099511627783, 240): "61bd90668be08841",
}


def digest(field: DrawnField) -> str:
    return hashlib.sha256(field.image.tobytes() + repr(field.cells).encode()).hexdigest()[:16]


def largest_nucleus(image: np.ndarray) -> tuple[np.ndarray, float]:
    """Mask of the largest connected dark violet patch, and its area in µm² at the default scale."""
    import cv2

    clear = np.percentile(image.reshape(-1, 3), 90, axis=0)
    share = image / clear
    dark = (share[..., 1] < 0.6) & (share[..., 2] > share[..., 1] * 1.3)  # red cells let as much green as blue through
    _, patches, stats, _ = cv2.connectedComponentsWithStats(dark.astype(np.uint8))
    if len(stats) == 1:
        return np.zeros(dark.shape, bool), 0.0
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    return patches == largest, float(stats[largest, cv2.CC_STAT_AREA]) * UM_PER_PX**2


def inside(field: DrawnField) -> np.ndarray:
    """The pixels in the first cell's box."""
    cell = field.cells[0]
    return field.image[cell.y : cell.y + cell.height, cell.x : cell.x + cell.width]


def redness(field: DrawnField) -> float:
    """Share of the box's pixels that eosin colours: green taken away, and more blue than red."""
    share = inside(field) / np.percentile(field.image.reshape(-1, 3), 90, axis=0)
    return float(np.mean((share[..., 1] < 0.75) & (share[..., 0] > share[..., 2] * 1.1)))


@pytest.mark.parametrize(("seed", "height"), list(GOLDEN))
def test_golden_bytes(seed, height):
    """A seed gives these very bytes on every machine, numpy and OpenCV; a change here changes every golden sample."""
    field = draw_field(seed, LABELS, size=(height, height * 4 // 3), um_per_px=0.15 * 240 / height, ambiguity=0.5)
    assert digest(field) == GOLDEN[seed, height]


def test_tables_stay_clear_of_rounding_edges():
    """No libm can tip an entry of the rounded tables: doubles are 1e-7 or finer there, edges 1e-4 and more away."""
    levels = [256 * 10 ** (-step / 1024) for step in range(4096)]
    sines = [1e9 * math.sin(2 * math.pi * k / 64) for k in range(64)]
    assert min(abs(value % 1 - 0.5) for value in levels + sines) > 1e-4
    assert smear._transmission().tolist() == [min(round(level), 255) for level in levels]
    assert smear._directions()[1].tolist() == [round(sine) / 1e9 for sine in sines]


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**64),
    labels=st.lists(st.sampled_from(LABELS), max_size=4),
    size=st.tuples(st.integers(16, 300), st.integers(16, 300)),
    um_per_px=st.floats(0.05, 2),
    ambiguity=st.floats(0, 1),
)
def test_any_field_is_as_asked_for(seed, labels, size, um_per_px, ambiguity):
    """Size, labels and their order are kept, boxes lie in the field, and drawing again gives the same."""
    field = draw_field(seed, labels, size=size, um_per_px=um_per_px, ambiguity=ambiguity)
    assert field.image.shape == (*size, 3)
    assert field.image.dtype == np.uint8
    assert field.image.flags.c_contiguous
    assert [cell.label for cell in field.cells] == labels
    assert field.seed == seed
    for cell in field.cells:
        assert 0 <= cell.x < cell.x + cell.width <= size[1]
        assert 0 <= cell.y < cell.y + cell.height <= size[0]
    assert digest(draw_field(seed, labels, size=size, um_per_px=um_per_px, ambiguity=ambiguity)) == digest(field)


def test_other_seeds_give_other_fields():
    """Fifty seeds give fifty pictures."""
    assert len({digest(draw_field(seed)) for seed in range(50)}) == 50


@pytest.mark.parametrize("label", LABELS)
def test_box_holds_the_whole_nucleus(label):
    """The largest dark violet patch is the nucleus, and in the box but for platelets that touch it."""
    for seed in range(15):
        field = draw_field(seed, (label,), ambiguity=0)
        patch, area = largest_nucleus(field.image)
        cell = field.cells[0]
        assert area > 20
        in_box = patch[cell.y : cell.y + cell.height, cell.x : cell.x + cell.width]
        assert in_box.sum() > 0.8 * patch.sum()


def test_empty_field_has_no_white_cell():
    """Without labels no dark violet patch is larger than two or three platelets."""
    for seed in range(30):
        field = draw_field(seed, ())
        assert field.cells == ()
        assert largest_nucleus(field.image)[1] < 15


def test_cells_have_their_size_in_um():
    """A box is as wide as the textbook's cell, at any scale."""
    for um_per_px in (0.1, 0.15, 0.3):
        for seed in range(10):
            monocyte, lymphocyte = draw_field(
                seed, ("MONOCYTE", "LYMPHOCYTE"), size=(480, 640), um_per_px=um_per_px, ambiguity=0
            ).cells
            assert 13 < np.sqrt(monocyte.width * monocyte.height) * um_per_px < 23
            assert 8 < np.sqrt(lymphocyte.width * lymphocyte.height) * um_per_px < 15


def test_white_cells_lie_apart_where_there_is_room():
    """Five cells in a large field: no two boxes' centres nearer than the cells are wide."""
    for seed in range(10):
        cells = draw_field(seed, (*LABELS, "NEUTROPHIL"), size=(480, 640)).cells
        for k, a in enumerate(cells):
            for b in cells[:k]:
                assert apart(a, b) >= min(a.width, a.height, b.width, b.height)


def apart(a: DrawnCell, b: DrawnCell) -> float:
    return math.hypot(a.x + a.width / 2 - b.x - b.width / 2, a.y + a.height / 2 - b.y - b.height / 2)


def test_eosinophils_are_redder_than_neutrophils():
    """One threshold on redness tells nearly all clear eosinophils from neutrophils, and fewer of the ambiguous."""

    def separable(ambiguity: float) -> float:
        eosinophils = [redness(draw_field(seed, ("EOSINOPHIL",), ambiguity=ambiguity)) for seed in range(40)]
        neutrophils = [redness(draw_field(seed, ("NEUTROPHIL",), ambiguity=ambiguity)) for seed in range(40, 80)]
        thresholds = eosinophils + neutrophils
        return max((np.mean(np.array(eosinophils) >= t) + np.mean(np.array(neutrophils) < t)) / 2 for t in thresholds)

    assert separable(0) >= 0.95
    assert separable(1) <= 0.85


def test_lymphocytes_are_mostly_nucleus_and_neutrophils_are_not():
    """The nucleus fills more of the usual clear lymphocyte's box than of nine in ten neutrophils'."""

    def share(seed: int, label: str) -> float:
        field = draw_field(seed, (label,), ambiguity=0)
        cell = field.cells[0]
        return largest_nucleus(field.image)[1] / (cell.width * cell.height * UM_PER_PX**2)

    lymphocytes = [share(seed, "LYMPHOCYTE") for seed in range(20)]
    neutrophils = [share(seed, "NEUTROPHIL") for seed in range(20)]
    assert np.median(lymphocytes) > np.quantile(neutrophils, 0.9)


def test_folder_has_one_class_per_folder(tmp_path):
    """Files lie where a reader of class folders looks, decode to the field, and nothing else is left behind."""
    calls = []
    files = draw_folder(tmp_path, per_class=2, seed=3, size=(60, 80), progress=lambda *done: calls.append(done))
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        f"{label}/{label.lower()}-000{number}.jpg" for label in LABELS for number in (1, 2)
    ]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(files)
    assert calls == [(done, 8) for done in range(1, 9)]
    assert {read_image(path).shape for path in files} == {(60, 80, 3)}


def test_folder_grows_without_changing(tmp_path):
    """More pictures per class leave the first ones as they were; another seed gives others."""
    few = draw_folder(tmp_path / "few", per_class={"MONOCYTE": 1}, seed=1, size=(60, 80))
    more = draw_folder(tmp_path / "more", per_class={"MONOCYTE": 2, "LYMPHOCYTE": 1}, seed=1, size=(60, 80))
    other = draw_folder(tmp_path / "other", per_class={"MONOCYTE": 1}, seed=2, size=(60, 80))
    assert [path.name for path in more] == ["lymphocyte-0001.jpg", "monocyte-0001.jpg", "monocyte-0002.jpg"]
    assert few[0].read_bytes() == more[1].read_bytes()
    assert few[0].read_bytes() != other[0].read_bytes()


def test_what_cannot_be_drawn_is_said(tmp_path):
    """Unknown labels, tiny fields and absurd scales are errors that name the value and what was expected."""
    with pytest.raises(DataError, match="cannot draw BASOPHIL; expected any of EOSINOPHIL"):
        draw_field(0, ("NEUTROPHIL", "BASOPHIL"))
    with pytest.raises(DataError, match="8 x 320 pixels; expected at least 16"):
        draw_field(0, (), size=(8, 320))
    with pytest.raises(DataError, match=r"at 15 µm per pixel; expected 0\.02 to 2"):
        draw_field(0, um_per_px=15)
    with pytest.raises(DataError, match="BASOPHIL"):
        draw_folder(tmp_path / "out", per_class={"BASOPHIL": 1}, seed=0)
    assert not (tmp_path / "out").exists()
