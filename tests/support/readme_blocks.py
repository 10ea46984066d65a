"""The parts of README.md that are made, not written: python tests/support/readme_blocks.py writes them anew."""

from __future__ import annotations

import re
from pathlib import Path

import click

README = Path(__file__).resolve().parents[2] / "README.md"


def commands(group: click.Group | None = None, prefix: str = "bce") -> dict[str, click.Command]:
    """Every command by its whole name."""
    if group is None:
        from bloodcell_edge.cli import bce

        group = bce
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= commands(command, f"{prefix} {name}")
        else:
            found[f"{prefix} {name}"] = command
    return found


def commands_block() -> str:
    """A table of the commands: how they are called, and the first sentence of their help."""
    rows = ["| command | what it does |", "|---|---|"]
    for name, command in commands().items():
        context = click.Context(command, info_name=name)
        arguments = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
        sentence = (command.help or "").split("\n\n")[0].replace("\n", " ")
        rows.append(f"| `{' '.join([name, *arguments])}` | {sentence} |")
    return "\n".join([*rows, "", "Each one's options: `bce COMMAND --help`."])


def with_block(text: str, name: str, content: str) -> str:
    """A text with what stands between the marks of a block replaced."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{content}\n{match[2]}", text)


if __name__ == "__main__":
    README.write_text(with_block(README.read_text(), "commands", commands_block()))
