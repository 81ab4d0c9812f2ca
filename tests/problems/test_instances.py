"""Tests that instance files round-trip exactly and that every defect is named."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from problems import ProblemError, instance_from_dict, instance_to_dict, read_instance, write_instance
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
    from problems import Access, Problem

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
    r"accesses\[0\]: field 'blocks' must list indices from 0 to 1": lambda d: d["accesses"][0].update(blocks=[2]),
    r"accesses\[0\]: field 'channel_size' must be int": lambda d: d["accesses"][0].update(channel_size=1.5),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "no upscale_opt.instance file"),
        ('{"format": "upscale_opt.plan", "version": 1}', "no upscale_opt.instance file"),
        ('{"format": "upscale_opt.instance"}', "field 'version' is None"),
        ('{"format": "upscale_opt.instance", "version": true}', "field 'version' is True"),
        ('{"format": "upscale_opt.instance", "version": 2}', "newer than the 1"),
        ("\ufffe", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_files_of_another_kind_are_refused(text, message, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ProblemError, match=message):
        read_instance(path)


def test_unreadable_and_unwritable_paths_are_named(tmp_path):
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


def test_the_ground_floor_needs_numpy_only():
    script = "import sys, problems.generators\nassert not {'torch', 'scipy', 'ortools'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
