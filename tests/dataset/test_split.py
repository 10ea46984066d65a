from pathlib import Path

import pytest

from bloodcell_edge.dataset.pictures import Picture
from bloodcell_edge.dataset.split import HELD_BACK, TRAIN, VALIDATION, Member, held_back, save_split
from bloodcell_edge.errors import MissingFile


def test_held_back_are_the_pictures_of_that_side_in_order(tmp_path):
    """held_back gives what the split holds back, with all that a picture is known by, and nothing of other sides."""
    pictures = [
        Picture(tmp_path / f"{number}.png", f"{number}.png", "MONOCYTE", f"slide {number}", um_per_px=0.1, note="dim")
        for number in range(5)
    ]
    sides = (HELD_BACK, TRAIN, VALIDATION, HELD_BACK, TRAIN)
    rows = [Member(picture, side, "", "0" * 64) for picture, side in zip(pictures, sides, strict=True)]
    save_split(tmp_path / "split.csv", rows)

    assert held_back(tmp_path / "split.csv") == [pictures[0], pictures[3]]


def test_held_back_of_no_split(tmp_path: Path):
    """A split that is not there is named."""
    with pytest.raises(MissingFile, match=r"split\.csv: no such file"):
        held_back(tmp_path / "split.csv")
