"""Tests of the library that comes with the package: every file is what the index and the solutions say."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from problems import OBJECTIVES, ProblemError, read_instance, read_width_problem
from problems.collection import LIBRARY, Collection, best_known, load, names, solutions
from problems.signatures import content_hash, signature_form

DIRECTORY = LIBRARY.directory
MAX_BYTES = 20 * 10**6


SAMPLE = [pytest.param(8, id="every eighth"), pytest.param(1, id="all", marks=pytest.mark.slow)]


@pytest.mark.parametrize("step", SAMPLE)
def test_every_instance_loads_and_is_what_the_index_says(step):
    """Its name, sizes and hash; it is stored in signature form; and no content is there twice."""
    hashes = set()
    entries = dict(list(LIBRARY.entries.items())[::step])
    for name, entry in entries.items():
        problem = load(name)
        assert problem.name == name and content_hash(problem) == entry.hash, name
        sizes = (len(problem.blocks), problem.num_stored, len(problem.accesses), len(problem.classes))
        assert sizes == (entry.blocks, entry.channels, entry.accesses, entry.classes), name
        assert entry.tables == all(access.table is not None for access in problem.accesses), name
        assert signature_form(problem) == problem, name
        hashes.add(entry.hash)
    assert len(hashes) == len(entries)
    assert len({entry.hash for entry in LIBRARY.entries.values()}) == len(LIBRARY.entries)


@pytest.mark.parametrize("step", SAMPLE)
def test_every_solution_re_evaluates(step):
    """Every instance has one for every objective it is there for; reading checks order, value, bound and hash."""
    for name in names()[::step]:
        assert set(solutions(name)) == set(LIBRARY.objectives(name)), name


def test_the_files_are_those_of_the_index():
    expected = {LIBRARY.path(name) for name in names()} | {LIBRARY.solutions_path(name) for name in names()}
    orders = {path for path in DIRECTORY.rglob("*.json") if path.parent != DIRECTORY / "widths"}
    assert orders == expected | {DIRECTORY / "index.json"}


@pytest.mark.parametrize("path", sorted((DIRECTORY / "widths").glob("*.json")), ids=lambda path: path.stem)
def test_width_problems_of_real_networks_can_be_read(path):
    problem = read_width_problem(path)
    assert problem.name == path.stem and problem.evaluate(problem.full_choice).time == problem.base


def test_the_library_stays_small():
    assert sum(path.stat().st_size for path in DIRECTORY.rglob("*") if path.is_file()) <= MAX_BYTES


def test_the_library_is_packaged():
    """Every file of it matches a pattern of the package's data."""
    root = Path(__file__).parents[2]
    patterns = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["problems"]
    packaged = {path for pattern in patterns for path in DIRECTORY.parent.glob(pattern)}
    assert {path for path in DIRECTORY.rglob("*") if path.is_file()} <= packaged


def test_numpy_is_enough():
    """With every other package of the project blocked."""
    blocked = ("torch", "torchvision", "ortools", "scipy", "matplotlib", "tqdm", "solvers", "upscale_opt")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
        "from problems.collection import best_known, load, names\n"
        "print(load('resnet50/l2-0.50/layer2'), len(names('classical')), best_known(names()[0], 'span').value)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert ran.returncode == 0 and ran.stdout.startswith("resnet50/l2-0.50/layer2: 1 block, 512 channels"), ran.stderr


def test_families_are_selected_by_name_or_group():
    assert sorted(names()) == sorted(name for family in LIBRARY.families for name in _exactly(family))
    assert set(names("classical")) == {name for name in names() if name.startswith("classical/")}
    assert set(names("l2")) == set(_exactly("l2"))
    with pytest.raises(ProblemError, match=r"no family 'l3'; choose one of .*l2"):
        names("l3")


def test_the_description_has_the_number_of_instances_of_every_family():
    text = (DIRECTORY / "README.md").read_text()
    for family in LIBRARY.families:
        assert f"`{family}` ({len(_exactly(family))})" in text


def test_wrong_names_have_near_matches():
    with pytest.raises(ProblemError, match=r"did you mean .*resnet50/l2-0.50/layer2"):
        load("resnet50/l2-0.5/layer2")
    with pytest.raises(ProblemError, match="no objective 'speed'"):
        best_known(names()[0], "speed")


def test_objectives_follow_the_tables():
    """`latency` needs tables; the others are asked of the same instance without them."""
    for name in (names("l2")[0], names("l2-steps")[0]):
        objectives = LIBRARY.objectives(name)
        assert ("latency" in objectives) == LIBRARY.entry(name).tables
        assert all(OBJECTIVES[objective].uses_tables == LIBRARY.entry(name).tables for objective in objectives)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entries: entries[0].update(hash=5), r"instances\[0\]: field 'hash' must be str"),
        (lambda entries: entries[0].update(colour="red"), r"instances\[0\] has an unknown field 'colour'"),
        (lambda entries: entries[1].pop("seed"), r"instances\[1\] lacks the field 'seed'"),
        (lambda entries: entries.append(entries[0]), r"instances\[2\]: field 'name' is .* a second time"),
    ],
)
def test_defects_of_an_index_are_named(tmp_path, change, message):
    document = json.loads((DIRECTORY / "index.json").read_text())
    document["instances"] = document["instances"][:2]
    change(document["instances"])
    (tmp_path / "index.json").write_text(json.dumps(document))
    with pytest.raises(ProblemError, match=message):
        Collection(tmp_path).names()


def test_an_index_survives_a_file(tmp_path):
    collection = Collection(tmp_path)
    collection.write_index(LIBRARY.entries.values())
    assert collection.entries == LIBRARY.entries


def test_instances_are_files_in_the_documented_format():
    name = names()[0]
    assert read_instance(DIRECTORY / f"{name}.json") == load(name)


def _exactly(family):
    return [name for name in names() if LIBRARY.entry(name).family == family]
