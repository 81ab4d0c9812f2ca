"""Tests of the library that comes with the package: every file is what the index and the solutions say."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from problems import OBJECTIVES, ProblemError, read_instance, read_width_problem
from problems.archives import Archive, write_archive
from problems.collection import LIBRARY, Collection, best_known, load, names, save, solutions
from problems.signatures import content_hash, signature_form
from problems.solutions import read_solutions

DIRECTORY = LIBRARY.directory
MAX_BYTES = 12 * 10**6
MAX_FILES = 60


SAMPLE = [pytest.param(40, id="every fortieth"), pytest.param(1, id="all", marks=pytest.mark.slow)]


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
    """Every instance and its solutions are in the archive of its family, and nothing else is anywhere."""
    archives = {path.stem: Archive(path).names for path in (DIRECTORY / "archives").glob("*.zip")}
    assert archives.keys() == {family.replace("/", "-") for family in LIBRARY.families}
    for family in LIBRARY.families:
        expected = {f"{name}{end}" for name in _exactly(family) for end in (".json", ".sol.json")}
        assert archives[family.replace("/", "-")] == expected
    loose = {path for path in DIRECTORY.rglob("*.json") if path.parent != DIRECTORY / "widths"}
    assert loose == {DIRECTORY / "index.json"}


@pytest.mark.parametrize("path", sorted((DIRECTORY / "widths").glob("*.json")), ids=lambda path: path.stem)
def test_width_problems_of_real_networks_can_be_read(path):
    problem = read_width_problem(path)
    assert problem.name == path.stem and problem.evaluate(problem.full_choice).time == problem.base


def test_the_library_stays_small():
    files = [path for path in DIRECTORY.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES and len(files) <= MAX_FILES


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


def test_saved_instances_are_files_in_the_documented_format(tmp_path):
    name = names()[0]
    instance, solved = save(name, tmp_path)
    assert read_instance(instance) == load(name)
    assert read_solutions(solved, load(name)).keys() == solutions(name).keys()
    assert [path.parent for path in save(name, tmp_path / "new" / "one")] == [tmp_path / "new" / "one"] * 2
    with pytest.raises(ProblemError, match=r"cannot write to .*; choose another directory"):
        save(name, instance)


@pytest.fixture
def copied(tmp_path):
    """A library of three instances of two families, as loose files."""
    chosen = [*names("classical/random")[:2], names("classical/planted")[0]]
    collection = Collection(tmp_path)
    collection.write_index(LIBRARY.entry(name) for name in chosen)
    for name in chosen:
        collection.path(name).parent.mkdir(parents=True, exist_ok=True)
        save(name, collection.path(name).parent)
    return collection


def test_packed_files_are_the_same_and_no_folder_stays(copied):
    before = {name: (copied.load(name), copied.stated(name)) for name in copied.names()}
    assert copied.pack() == 6
    files = {path.relative_to(copied.directory).as_posix() for path in copied.directory.rglob("*")}
    assert files == {"index.json", "archives", "archives/classical-random.zip", "archives/classical-planted.zip"}
    again = Collection(copied.directory)
    for collection in (copied, again):
        assert {name: (collection.load(name), collection.stated(name)) for name in copied.names()} == before
    content = {path: path.read_bytes() for path in (copied.directory / "archives").iterdir()}
    assert again.pack() == 0 and {path: path.read_bytes() for path in content} == content


def test_a_loose_file_counts_more_than_the_archive_until_it_is_packed(copied):
    copied.pack()
    name = copied.names()[0]
    known = copied.solutions(name)
    copied.write_solutions(name, {"copies": known["copies"]}, copied.load(name))
    assert copied.solutions(name).keys() == {"copies"}
    assert copied.pack() == 1 and Collection(copied.directory).solutions(name).keys() == {"copies"}


def test_what_is_dropped_is_gone_from_the_archive(copied):
    copied.pack()
    first, second, _ = copied.names()
    copied.drop([first], solutions_only=True)
    assert copied.solutions(first) == {} and copied.load(first) == load(first)
    copied.drop([second])
    with pytest.raises(ProblemError, match=r"is missing, also in .*classical-random\.zip; restore the archive"):
        copied.load(second)


def test_families_that_the_index_has_no_more_leave_the_archives(copied):
    copied.pack()
    kept = copied.names()[:1]
    copied.write_index(LIBRARY.entry(name) for name in kept)
    again = Collection(copied.directory)
    assert again.pack() == 0
    (path,) = (copied.directory / "archives").iterdir()
    assert Archive(path).names == {f"{kept[0]}.json", f"{kept[0]}.sol.json"}


@pytest.mark.parametrize("cut", [0, 10, 200])
def test_a_damaged_archive_is_one_sentence(copied, cut):
    copied.pack()
    path = copied.directory / "archives" / "classical-random.zip"
    content = path.read_bytes()
    path.write_bytes(content[:cut] if cut < 100 else content[:60] + bytes(cut) + content[60 + cut :])
    with pytest.raises(ProblemError, match=r"classical-random.zip.*restore the") as error:
        Collection(copied.directory).load(copied.names()[0])
    assert "\n" not in str(error.value)


def test_equal_files_make_equal_archives(tmp_path):
    files = {"b": b"2" * 100, "a": b"1"}
    for name in ("x", "y"):
        write_archive(dict(reversed(files.items())) if name == "y" else files, tmp_path / name)
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()
    with pytest.raises(ProblemError, match="no file 'c'"):
        Archive(tmp_path / "x").read("c")


def _exactly(family):
    return [name for name in names() if LIBRARY.entry(name).family == family]
