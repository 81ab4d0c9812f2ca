"""Tests that instance files round-trip exactly and that every defect is named."""

import json
import os
import stat
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import (
    Access,
    Block,
    Problem,
    ProblemError,
    instance_from_dict,
    instance_to_dict,
    read_instance,
    write_instance,
)
from problems.files import write_text_atomically
from problems.generators import disjoint_masks, nested_masks, planted_intervals, random_concat, random_masks


@given(
    blocks=st.integers(1, 4),
    channels=st.integers(1, 9),
    accesses=st.integers(0, 5),
    pinned=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=100, deadline=None, derandomize=True)
def test_round_trips_are_exact(blocks, channels, accesses, pinned, seed):
    problem = random_concat(blocks, channels, accesses, pinned=pinned, seed=seed)
    assert instance_from_dict(json.loads(json.dumps(instance_to_dict(problem)))) == problem


def test_odd_names_numpy_values_and_lone_parts_survive_a_file(tmp_path):
    """Any text as a name, NumPy's own scalars, a block nobody reads, no access at all."""
    blocks = (
        Block('a "b"\n\\', np.int64(2), pinned=np.bool_(True)),
        Block("Größe \U0001f600", 3, removable=np.bool_(False)),
    )
    access = Access("", (np.int64(0), np.int64(0)), np.array([1, 0, 0, 1]), channel_size=np.int64(49))
    for number, problem in enumerate((Problem(blocks, (access,), name="\ud800"), Problem(blocks, ()))):
        path = tmp_path / f"{number}.json"
        write_instance(problem, path)
        assert read_instance(path) == problem


@given(pinned=st.floats(0, 1), keep=st.floats(0.05, 1), correlation=st.floats(0, 1), seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None, derandomize=True)
def test_files_of_concatenations_round_trip_exactly(tmp_path_factory, pinned, keep, correlation, seed):
    """And the text is a function of the problem: writing what was read gives the same bytes."""
    path = tmp_path_factory.mktemp("files") / "a.json"
    problem = random_concat(3, 6, 4, pinned=pinned, keep=keep, correlation=correlation, seed=seed)
    write_instance(problem, path)
    text = path.read_bytes()
    again = read_instance(path)
    write_instance(again, path)
    assert again == problem and path.read_bytes() == text


@pytest.mark.parametrize("make", [random_masks, planted_intervals, nested_masks, disjoint_masks])
def test_files_round_trip_exactly(make, tmp_path):
    problem = make(40, 5, seed=3)
    write_instance(problem, tmp_path / "a.json")
    assert read_instance(tmp_path / "a.json") == problem
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_channels_sorted_by_signature_take_one_entry_per_class():
    document = instance_to_dict(nested_masks(50, 3, seed=1))
    problem = instance_from_dict(document)
    order = np.concatenate(problem.classes.members)
    removed = np.setdiff1d(np.arange(50), order)
    positions = np.concatenate([order, removed]).astype(int)
    accesses = tuple(Access(access.name, (0,), access.kept[positions]) for access in problem.accesses)
    compact = instance_to_dict(Problem(problem.blocks, accesses))
    assert len(compact["blocks"][0]["channels"]) == len(problem.classes) + (removed.size > 0)


def broken(change):
    document = instance_to_dict(random_concat(2, 4, 3, seed=1))
    change(document)
    return document


DEFECTS = {
    "lacks the field 'blocks'": lambda d: d.pop("blocks"),
    "field 'accesses' must be list": lambda d: d.update(accesses={}),
    "unknown field 'colour'": lambda d: d.update(colour="red"),
    r"blocks\[1\] lacks the field 'pinned'": lambda d: d["blocks"][1].pop("pinned"),
    r"blocks\[0\]: field 'pinned' must be bool": lambda d: d["blocks"][0].update(pinned=1),
    r"blocks\[0\] has an unknown field": lambda d: d["blocks"][0].update(extra=1),
    r"blocks\[0\]: field 'channels\[0\]' must be": lambda d: d["blocks"][0].update(channels=[[1]]),
    r"blocks\[0\]: field 'channels\[1\]' counts 0": lambda d: d["blocks"][0].update(channels=[[3, []], [0, []]]),
    r"field 'channels\[0\]' names readers \[99\]": lambda d: d["blocks"][0].update(channels=[[3, [99]]]),
    r"block 'block0' has size 0": lambda d: d["blocks"][0].update(channels=[]),
    r"accesses\[2\] lacks the field 'name'": lambda d: d["accesses"][2].pop("name"),
    r"accesses\[0\]: field 'blocks' must list indices into the 2 blocks": lambda d: d["accesses"][0].update(blocks=[2]),
    r"accesses\[0\]: field 'channel_size' must be int": lambda d: d["accesses"][0].update(channel_size=1.5),
    r"counts 1000000000000000000000000000000 channels": lambda d: d["blocks"][0].update(channels=[[10**30, []]]),
    r"has size 30000000; it can have at most": lambda d: d["blocks"][0].update(channels=[[10**7, []]] * 3),
    r"blocks\[1\] must be an object, not list": lambda d: d["blocks"].__setitem__(1, []),
    r"accesses\[1\] must be an object, not int": lambda d: d["accesses"].__setitem__(1, 7),
    r"accesses\[1\] has an unknown field 'cost'": lambda d: d["accesses"][1].update(cost=[1, 2]),
    r"field 'channels\[0\]' names readers \[True\]": lambda d: d["blocks"][0].update(channels=[[3, [True]]]),
    r"accesses\[1\]: field 'blocks' must list indices .* at least one": lambda d: d["accesses"][1].update(blocks=[]),
    r"channel_size is 36893488147419103232": lambda d: d["accesses"][0].update(channel_size=2**65),
    r"channel_size is 0": lambda d: d["accesses"][0].update(channel_size=0),
    r"two access entries": lambda d: d["accesses"][1].update(name="access0"),
}


@pytest.mark.parametrize("message", DEFECTS)
def test_every_defect_is_named(message, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(broken(DEFECTS[message])))
    with pytest.raises(ProblemError, match=message) as caught:
        read_instance(path)
    assert str(path) in str(caught.value)


def places(document, path=()):
    """Every place in a JSON document, as the keys and indices that lead there."""
    if path:
        yield path
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in entries:
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))
        else:
            yield (*path, key)


ORIGINAL = instance_to_dict(random_concat(2, 4, 3, pinned=0.5, seed=1))
WRONG = [None, True, -1, 0, 3, 10**12, 10**30, 1.5, float("nan"), "", "x", [], [[]], ["0"], {}, {"a": 1}]


@pytest.mark.parametrize("place", list(places(ORIGINAL)), ids=lambda place: "-".join(map(str, place)))
def test_any_value_anywhere_is_a_problem_or_one_clear_sentence(place, tmp_path):
    """Each place of a document takes each wrong value, or is left out: never another kind of error."""
    path = tmp_path / "a.json"
    refused = 0
    for value in [*WRONG, KeyError]:
        document = json.loads(json.dumps(ORIGINAL))
        inner = document
        for key in place[:-1]:
            inner = inner[key]
        if value is KeyError:
            del inner[place[-1]]
        else:
            inner[place[-1]] = value
        path.write_text(json.dumps(document))
        try:
            problem = read_instance(path)
        except ProblemError as error:
            refused += 1
            assert str(path) in str(error) and "\n" not in str(error)
            if value is KeyError and isinstance(place[-1], str):
                assert repr(place[-1]) in str(error)
        else:
            assert instance_from_dict(instance_to_dict(problem)) == problem
    assert refused > len(WRONG) // 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "no upscale_opt.instance file"),
        ('{"format": "upscale_opt.plan", "version": 1}', "no upscale_opt.instance file"),
        ('{"format": "upscale_opt.instance"}', "field 'version' is None"),
        ('{"format": "upscale_opt.instance", "version": true}', "field 'version' is True"),
        ('{"format": "upscale_opt.instance", "version": 0}', "field 'version' is 0"),
        ('{"format": "upscale_opt.instance", "version": 1.0}', "field 'version' is 1.0"),
        ('{"format": "upscale_opt.instance", "version": 6}', "newer than the 5"),
        ("\ufffe", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_files_of_another_kind_are_refused(text, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProblemError, match=message):
        read_instance(path)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ProblemError, match=r"a\.json is not valid JSON"):
        read_instance(path)


def test_unreadable_and_unwritable_paths_are_named(tmp_path):
    with pytest.raises(ProblemError, match="cannot read"):
        read_instance(tmp_path)
    with pytest.raises(ProblemError, match=r"cannot write .*directory"):
        write_instance(random_masks(4, 2), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(ProblemError, match="choose a writable path"):
        write_instance(random_masks(4, 2), tmp_path / "file" / "a.json")
    with pytest.raises(ProblemError, match=r"cannot read .*absent\.json"):
        read_instance(tmp_path / "absent.json")
    with pytest.raises(ProblemError, match="choose a writable path"):
        write_instance(random_masks(4, 2), tmp_path / "no" / "a.json")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ProblemError, match="No space left"):
        write_text_atomically("new", path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("failing", ["fchmod", "fdopen"])
def test_a_write_that_fails_before_the_end_leaves_nothing_either(failing, tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(ProblemError, match=r"cannot write .*a\.json: No space left"):
        write_text_atomically("new", tmp_path / "a.json")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text("old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text_atomically("new", path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_a_symbolic_link_stays_a_link(tmp_path):
    """The file it names is written, wherever that is."""
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "a.json", tmp_path / "link.json"
    target.write_text("old")
    link.symlink_to(target)
    write_text_atomically("new", link)
    assert link.is_symlink() and target.read_text() == "new"
    assert [entry.name for entry in target.parent.iterdir()] == ["a.json"]


def test_a_pipe_is_written_to_and_not_replaced(tmp_path):
    """So that /dev/stdout and /dev/null work as outputs and outlive them."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text_atomically("new", pipe)
        assert os.read(reader, 10) == b"new"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [entry.name for entry in tmp_path.iterdir()] == ["pipe"]


def test_the_ground_floor_needs_numpy_only():
    """Whatever importing all of it loads beside NumPy comes with Python."""
    script = """
import sys, numpy
before = set(sys.modules)
import problems, problems.generators, problems.files
loaded = {name.partition(".")[0] for name in set(sys.modules) - before}
foreign = loaded - {"problems", "numpy"} - set(sys.stdlib_module_names)
assert not foreign, foreign
assert not {"torch", "scipy", "ortools"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
