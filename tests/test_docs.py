"""README and help texts say what is true."""

from __future__ import annotations

import re

import click
import pytest
from readme_blocks import README, commands, commands_block, with_block

ROOT = README.parent


@pytest.mark.parametrize("name", commands())
def test_every_command_has_help_with_an_example(name: str) -> None:
    """Each command's help says what it does and shows a call of itself."""
    command = commands()[name]
    text = command.get_help(click.Context(command, info_name=name))
    assert "Example:" in text
    assert f"{name} " in text.split("Example:")[1]
    undocumented = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]
    assert undocumented == []


def test_the_readme_lists_every_command_as_it_is() -> None:
    """The README's table of commands is what the commands say of themselves (python tests/support/readme_blocks.py)."""
    text = README.read_text()
    assert with_block(text, "commands", commands_block()) == text
    assert all(f"`{name}" in text for name in commands())


def test_links_in_the_documents_lead_somewhere() -> None:
    """Every relative link of README, CHANGELOG and CONTRIBUTING exists."""
    for document in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text()):
            assert (ROOT / target).exists(), f"{document}: {target}"


def test_make_targets_named_in_the_documents_exist() -> None:
    """A `make something` in the documents is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    named = set(re.findall(r"`make ([a-z]+)", text)) | set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE))
    assert named <= targets


def test_the_readme_begins_with_the_two_commands_of_a_fresh_machine() -> None:
    """`make demo`, then `make test`, before anything is installed by hand."""
    text = README.read_text()
    assert 0 < text.index("\nmake demo ") < text.index("\nmake test ") < text.index("pip install")


def test_nobody_is_sent_to_a_registry() -> None:
    """The package is on none: the documents install it from a clone."""
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("benchmarks/**/*.md")):
        assert not re.search(r"pip install [^`\n]*bloodcell-edge", document.read_text()), document


def test_the_rooms_of_contributing_are_those_of_the_package() -> None:
    """Its table names every folder of the package, every small file, and no other."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rooms = set(re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)) - {"convert"}
    assert rooms == {path.parent.name for path in ROOT.glob("bloodcell_edge/*/__init__.py")}
    small = next(line for line in text.splitlines() if line.startswith("| the small files"))
    loose = {path.name for path in ROOT.glob("bloodcell_edge/*.py")} - {"__init__.py", "records.py"}
    assert set(re.findall(r"`(\w+\.py)`", small)) == loose


def test_the_changelog_has_this_version() -> None:
    """CHANGELOG.md has a heading for the version in the package."""
    from bloodcell_edge import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_examples_need_the_face_alone():
    """No example imports from inside the package: what a script needs, `bloodcell_edge` itself offers."""
    lines = [line for file in (ROOT / "examples").glob("*.py") for line in file.read_text().splitlines()]

    assert not [line for line in lines if re.match(r"\s*(from|import) (bloodcell_edge\.|convert)", line)]
    assert [line for line in lines if re.match(r"(from|import) bloodcell_edge\b", line)]
