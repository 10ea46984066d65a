"""Which module of a package imports which, as its source says it, and where that goes round in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

Graph = Mapping[str, set[str]]


def import_graph(package: Path) -> dict[str, set[str]]:
    """Module -> the modules of the same package that it imports, anywhere but under TYPE_CHECKING.

    Names are dotted, the package's own first; a package's ``__init__`` has the package's name.
    """
    files = {_name(package, path): path for path in sorted(package.rglob("*.py"))}
    return {name: set(_imported(name, path, set(files))) - {name} for name, path in files.items()}


def by_room(graph: Graph) -> dict[str, set[str]]:
    """The same of the first folders of a package; a module that lies loose in it is a room by itself."""
    rooms: dict[str, set[str]] = {}
    for name, imported in graph.items():
        rooms.setdefault(_room(name), set()).update(_room(other) for other in imported)
    return {room: others - {room} for room, others in rooms.items()}


def inside(graph: Graph, room: str) -> dict[str, set[str]]:
    """The part of a graph that lies in one room, its ``__init__`` and folders in it included."""
    own = {name for name in graph if name == room or name.startswith(f"{room}.")}
    return {name: graph[name] & own for name in own}


def circles(graph: Graph) -> list[list[str]]:
    """The members of each circle, sorted: what can be reached from each other."""
    reached = {name: _reachable(graph, name) for name in graph}
    found = {frozenset(other for other in reached[name] if name in reached.get(other, ())) for name in graph}
    return sorted(sorted(circle) for circle in found if circle)


def _name(package: Path, path: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def _imported(name: str, path: Path, known: set[str]) -> Iterator[str]:
    here = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in _run(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = here.split(".")[: len(here.split(".")) - node.level + 1] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        for one in names:  # a name in a module counts as the module
            module = one if one in known else one.rpartition(".")[0]
            if module in known:
                yield module


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that may run, inside functions too: not what stands under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
            for other in node.orelse:
                yield other
                yield from _run(other)
        else:
            yield node
            yield from _run(node)


def _reachable(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [*graph[start]]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += graph.get(name, ())
    return found
