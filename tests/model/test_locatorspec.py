"""What a locator says of itself."""

from __future__ import annotations

import json

import pytest

from bloodcell_edge.errors import SpecError
from bloodcell_edge.model.locatorspec import GoldenField, LocatorSpec, locator_spec_from_json

SPEC = LocatorSpec(
    "loc",
    "int8",
    (144, 192),
    1,
    96,
    kernel_tolerance=12,
    training={"seed": 1},
    figures={"recall": 0.99},
    golden=(GoldenField(3, ("MONOCYTE",), "ab", ((1, 2, 3, 4, 200),), 45.5),),
    attribution=("a source",),
    sha256="ab",
)


def read(**changes):
    values = json.loads(json.dumps(SPEC.as_json())) | changes
    return locator_spec_from_json(values, where="f.tflite")


def test_what_is_written_is_read_again():
    """Through JSON, tuples and golden fields included; keys of later versions are left out."""
    assert read() == SPEC
    assert read(colour_of_the_box="red") == SPEC
    golden = [SPEC.as_json()["golden"][0] | {"light": "day"}]
    assert read(golden=golden) == SPEC


def test_a_newer_layout_is_refused():
    """It says which version was found, and what to do."""
    with pytest.raises(SpecError, match=r"^f\.tflite: expected a locator's spec of version 1, found 9; upgrade bce$"):
        read(spec_version=9)


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_what_is_no_object_is_refused(values):
    """In one line."""
    with pytest.raises(SpecError, match=r"^f\.tflite: expected a locator's spec"):
        locator_spec_from_json(values, where="f.tflite")


@pytest.mark.parametrize(
    "changes",
    [
        {"input_size": 144},
        {"input_size": [144]},
        {"input_size": ["a", "b"]},
        {"golden": [{"seed": 1}]},
        {"golden": [{**SPEC.as_json()["golden"][0], "boxes": [[1, 2, 3]]}]},
        {"attribution": None},
    ],
)
def test_values_of_another_kind_are_refused(changes):
    """They name the file and say what to do."""
    with pytest.raises(SpecError, match=r"^f\.tflite: not a locator's spec that this bce understands \(.*convert it"):
        read(**changes)


def test_a_missing_key_is_refused():
    """Threshold and size have no usual value."""
    values = SPEC.as_json()
    del values["threshold"]
    with pytest.raises(SpecError, match="threshold"):
        locator_spec_from_json(values, where="f.tflite")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"threshold": 0}, "threshold must be 1 to 255, found 0"),
        ({"threshold": 256}, "threshold must be 1 to 255, found 256"),
        ({"threshold": 0.5}, r"threshold must be 1 to 255, found 0\.5"),
        ({"kernel_tolerance": -1}, "kernel_tolerance must be 0 to 255, found -1"),
        ({"input_size": (145, 192)}, r"multiples of 4 from 32 on, found \(145, 192\)"),
        ({"input_size": (4, 192)}, r"multiples of 4 from 32 on, found \(4, 192\)"),
    ],
)
def test_values_that_no_locator_can_have_are_refused(changes, says):
    """Expected and found."""
    with pytest.raises(SpecError, match=f"^locator loc: .*{says}$"):
        SPEC.with_(**changes)
