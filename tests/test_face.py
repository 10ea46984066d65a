"""`import bloodcell_edge`: what a script finds there."""

from __future__ import annotations

import subprocess
import sys

import pytest

import bloodcell_edge

HEAVY = ("convert", "prove", "train")
LIGHT = sorted(set(bloodcell_edge.__all__) - set(HEAVY))


@pytest.mark.parametrize("name", LIGHT)
def test_a_name_is_there(name):
    """Each name of the face that a device can use is found where it says, and is what it is called."""
    found = getattr(bloodcell_edge, name)

    assert getattr(found, "__name__", name) == name


def test_what_is_not_there_is_said():
    """A misspelt name is an AttributeError that names it."""
    with pytest.raises(AttributeError, match="no attribute 'clasify'"):
        bloodcell_edge.clasify  # noqa: B018


def test_the_face_costs_nothing():
    """Importing it loads neither numpy nor OpenCV nor TensorFlow."""
    code = "import sys, bloodcell_edge; print({'numpy', 'cv2', 'tensorflow', 'convert'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout == "set()\n"
