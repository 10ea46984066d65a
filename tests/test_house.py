"""The house is in order: no file is too long to be read at once, and imports go one way."""

from pathlib import Path

import pytest
from import_graph import by_room, circles, import_graph, inside

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 500
LONG = {"bloodcell_edge/imaging/locate.py", "bloodcell_edge/imaging/drawn.py"}  # one method each, not to be cut
PACKAGES = ("bloodcell_edge", "convert")


def too_long(folder: Path, most: int) -> list[str]:
    """The Python files below a folder with more lines than that, from the folder's parent on."""
    files = sorted(folder.rglob("*.py"))
    return [
        path.relative_to(folder.parent).as_posix()
        for path in files
        if len(path.read_text(encoding="utf-8").splitlines()) > most
    ]


@pytest.mark.parametrize("package", PACKAGES)
def test_no_file_is_too_long(package):
    """500 lines at most."""
    assert set(too_long(ROOT / package, LONGEST)) - LONG == set()


@pytest.mark.parametrize("package", PACKAGES)
def test_no_room_needs_itself_through_another(package):
    """Folders, and the modules that lie loose, import each other one way, also inside functions."""
    assert circles(by_room(import_graph(ROOT / package))) == []


@pytest.mark.parametrize(
    "room", sorted(f"bloodcell_edge.{path.parent.name}" for path in ROOT.glob("bloodcell_edge/*/__init__.py"))
)
def test_modules_of_a_room_import_one_way(room):
    """No module of a folder needs itself through another of it."""
    assert circles(inside(import_graph(ROOT / "bloodcell_edge"), room)) == []


@pytest.fixture
def made_up(tmp_path):
    """A package of three rooms and a loose module, one line a file."""
    package = tmp_path / "made"
    files = {
        "__init__.py": "",
        "loose.py": "import json",
        "low/__init__.py": "",
        "low/a.py": "from ..loose import b",
        "low/b.py": "from .a import c",
        "high/__init__.py": "from ..low import b",
        "high/c.py": "import made.low.a\nfrom . import d",
        "high/d.py": "VALUE = 1",
        "high/deep/__init__.py": "",
        "high/deep/e.py": "from ...low.b import x\nfrom ..d import VALUE",
    }
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return package


def test_the_graph_is_what_the_source_says(made_up):
    """Relative and absolute imports, of modules and of names in them; not of other packages."""
    assert import_graph(made_up) == {
        "made": set(),
        "made.loose": set(),
        "made.low": set(),
        "made.low.a": {"made.loose"},
        "made.low.b": {"made.low.a"},
        "made.high": {"made.low.b"},
        "made.high.c": {"made.low.a", "made.high.d"},
        "made.high.d": set(),
        "made.high.deep": set(),
        "made.high.deep.e": {"made.low.b", "made.high.d"},
    }
    rooms = by_room(import_graph(made_up))
    assert rooms == {"made": set(), "made.loose": set(), "made.low": {"made.loose"}, "made.high": {"made.low"}}
    assert circles(rooms) == []


@pytest.mark.parametrize(
    "line",
    ["from .high import d", "import made.high.d", "def late():\n    from .high.d import VALUE\n    return VALUE"],
)
def test_a_circle_of_rooms_is_found(made_up, line):
    """However the import is written, and inside a function too."""
    (made_up / "loose.py").write_text(line + "\n")

    assert circles(by_room(import_graph(made_up))) == [["made.high", "made.loose", "made.low"]]
    assert circles(inside(import_graph(made_up), "made.high")) == []


def test_a_circle_inside_a_room_is_found(made_up):
    """Between two modules of one folder; the rooms are in order."""
    (made_up / "high" / "d.py").write_text("from .deep import e\n")

    assert circles(inside(import_graph(made_up), "made.high")) == [["made.high.d", "made.high.deep.e"]]
    assert circles(by_room(import_graph(made_up))) == []


@pytest.mark.parametrize("guard", ["TYPE_CHECKING", "typing.TYPE_CHECKING"])
def test_types_make_no_circle(made_up, guard):
    """What stands under TYPE_CHECKING is not there when the code runs; what stands under its else is."""
    (made_up / "loose.py").write_text(f"if {guard}:\n    from .high import d\n")
    assert circles(by_room(import_graph(made_up))) == []

    (made_up / "loose.py").write_text(f"if {guard}:\n    pass\nelse:\n    from .high import d\n")
    assert circles(by_room(import_graph(made_up))) != []


def test_a_long_file_is_found(made_up):
    """By its path from the package on; a file of just so many lines is not."""
    (made_up / "high" / "d.py").write_text("x = 1\n" * 6)
    (made_up / "high" / "c.py").write_text("x = 1\n" * 5)

    assert too_long(made_up, 5) == ["made/high/d.py"]
