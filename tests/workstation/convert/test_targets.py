from __future__ import annotations

import re

import pytest

from convert import targets
from convert.targets import Target


def table() -> dict[str, list[str]]:
    """The rows of the table in the module's docstring: target -> weights, activations, input, output, samples."""
    rows = re.findall(r"^(\w+) {2,}(.+)$", targets.__doc__ or "", re.MULTILINE)
    return {name: re.split(r" {2,}", rest.strip()) for name, rest in rows if name != "target"}


def test_the_table_names_every_target():
    """The table in the docstring has a row for each target and no other."""
    assert list(table()) == [target.value for target in Target]


@pytest.mark.parametrize("target", Target)
def test_a_target_needs_samples_where_the_table_says_so(target):
    """`needs_samples` is what the table's last column says."""
    assert target.needs_samples is table()[target.value][-1].startswith("needed")


@pytest.mark.parametrize("target", Target)
def test_a_file_is_named_after_its_target(target):
    """`bce convert` writes bloodcell-<target>.tflite, and the device file is the int8 one."""
    from bloodcell_edge.model.choose import DEVICE_FILE

    assert target.file_name == f"bloodcell-{target.value}.tflite"
    assert (target.file_name == DEVICE_FILE) is (target is Target.INT8)
