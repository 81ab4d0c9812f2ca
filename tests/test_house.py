"""Tests of the house: floors and rooms import downwards only, without circles, and nobody's file is too long to read.

A floor is a package of the project, a room a folder in it. Imports inside functions and for types count as well. Doors
do not count: a floor's own ``__init__``, which shows what is in its rooms, and what starts a program.
"""

import ast
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from benchmarks.seeded_faults import FAULTS

ROOT = Path(__file__).resolve().parents[1]
FLOORS = ("problems", "solvers", "upscale_opt")
FOREIGN = {"problems": {"scipy", "ortools", "torch"}, "solvers": {"torch"}, "upscale_opt": set()}
DOORS = {*FLOORS, "upscale_opt.__main__", "problems.checking"}
MOST_LINES = 400


def name_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))}


def imports_of(name):
    """Modules of the project that a module imports, anywhere in it, and the foreign packages."""
    own, foreign = set(), set()
    for node in ast.walk(ast.parse(FILES[name].read_text())):
        named = []
        if isinstance(node, ast.Import):
            named = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            named = [member if member in FILES else node.module for member in members]
        own |= {module for module in named if module in FILES}
        foreign |= {module.partition(".")[0] for module in named if module not in FILES}
    return own - {name}, foreign


IMPORTS = {name: imports_of(name) for name in FILES}


def room_of(name):
    return name if FILES[name].name == "__init__.py" else name.rpartition(".")[0]


def circle_in(arrows):
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_rooms_import_without_circles():
    arrows = defaultdict(set)
    for name, (own, _) in IMPORTS.items():
        if name not in DOORS:
            arrows[room_of(name)] |= {room_of(other) for other in own - DOORS} - {room_of(name)}
    assert not circle_in(arrows)


def test_files_import_without_circles():
    assert not circle_in({name: own for name, (own, _) in IMPORTS.items() if name not in DOORS})


@pytest.mark.parametrize("floor", FLOORS)
def test_floors_import_downwards_only(floor):
    above = set(FLOORS[FLOORS.index(floor) + 1 :])
    for name, (own, foreign) in IMPORTS.items():
        if name.partition(".")[0] == floor:
            assert not {other.partition(".")[0] for other in own} & above, name
            assert not foreign & FOREIGN[floor] - ({"scipy", "ortools"} if floor != "problems" else set()), name


def test_every_room_says_what_is_in_it_and_is_installed():
    listed = (ROOT / "pyproject.toml").read_text()
    for name, path in FILES.items():
        if path.name == "__init__.py":
            assert ast.get_docstring(ast.parse(path.read_text())), f"{name} says nothing about itself"
            assert f'"{name}"' in listed, f"{name} is missing in pyproject.toml"
        assert (path.parent / "__init__.py").exists(), f"{path.parent} is no package"


@pytest.mark.parametrize("name", FILES)
def test_files_can_be_read_in_one_go(name):
    assert len(FILES[name].read_text().splitlines()) <= MOST_LINES


def test_seeded_faults_are_faults_of_lines_that_are_there():
    """``python -m benchmarks.seeded_faults`` makes them, and says which test detects each."""
    for fault in FAULTS:
        assert (ROOT / fault.file).read_text().count(fault.before) == 1, fault.what
        assert all((ROOT / "tests" / name).is_dir() for name in fault.tests), fault.what
