"""What identifies an instance by its content: no field that changes the problem is left out of it."""

import dataclasses

import numpy as np
import pytest

from problems import Access, Block, Bundle, CostTable, Curve, Precedence, Problem, instance_to_dict
from problems.collection import LIBRARY
from problems.proofs import fingerprint
from problems.signatures import content_hash

TABLE = CostTable(Curve((3, 12), (100, 400)), 50, Curve((2, 4), (10, 20)))
BLOCKS = (
    Block("a", 4, removable=False),
    Block("b", 4, removable=False),
    Block("c", 3, pinned=True),
    Block("d", 3, required=(2,)),
)
ACCESSES = (
    Access("x", (0, 1, 2), np.array([1, 1, 0, 0, 0, 1, 1, 0, 1, 0, 0]), 2),
    Access("y", (3, 0, 1), np.array([1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0]), 3, TABLE),
)
PROBLEM = Problem(BLOCKS, ACCESSES, "p", (Bundle(((0,), (1,))),))


def with_block(b, **changes):
    blocks = list(BLOCKS)
    blocks[b] = dataclasses.replace(BLOCKS[b], **changes)
    return dataclasses.replace(PROBLEM, blocks=tuple(blocks))


def with_access(a, **changes):
    accesses = list(ACCESSES)
    accesses[a] = dataclasses.replace(ACCESSES[a], **changes)
    return dataclasses.replace(PROBLEM, accesses=tuple(accesses))


def with_table(**changes):
    return with_access(1, table=dataclasses.replace(TABLE, **changes))


def one_channel_more():
    """Block d has a fourth channel, which access x reads nothing of and access y keeps."""
    kept = np.insert(ACCESSES[1].kept, 3, True)
    accesses = (ACCESSES[0], dataclasses.replace(ACCESSES[1], kept=kept))
    return Problem((*BLOCKS[:3], Block("d", 4, required=(2,))), accesses, "p", PROBLEM.bundles)


CHANGES = {
    Block: {
        "size": [one_channel_more],
        "pinned": [lambda: with_block(2, pinned=False, removable=False)],
        "removable": [lambda: with_block(3, removable=False)],
        "required": [lambda: with_block(3, required=()), lambda: with_block(3, required=(1, 2))],
    },
    Access: {
        "blocks": [lambda: with_access(0, blocks=(1, 0, 2)), lambda: with_access(1, blocks=(3, 1, 0))],
        "kept": [lambda: with_access(1, kept=np.array([1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]))],
        "channel_size": [lambda: with_access(0, channel_size=1)],
        "table": [lambda: with_access(1, table=None)],
        "weight": [lambda: with_access(0, weight=2)],
    },
    CostTable: {
        "read": [
            lambda: with_table(read=Curve((3, 13), (100, 400))),
            lambda: with_table(read=Curve((3, 12), (100, 401))),
        ],
        "copy": [lambda: with_table(copy=51), lambda: with_table(copy=None), lambda: with_table(copy=0)],
        "pieces": [
            lambda: with_table(pieces=None),
            lambda: with_table(pieces=Curve((2, 5), (10, 20))),
            lambda: with_table(pieces=Curve((2, 4), (10, 21))),
        ],
    },
    Problem: {
        "blocks": [lambda: dataclasses.replace(PROBLEM, blocks=(*BLOCKS, Block("e", 1)))],
        "accesses": [lambda: dataclasses.replace(PROBLEM, accesses=ACCESSES[::-1])],
        "bundles": [lambda: dataclasses.replace(PROBLEM, bundles=())],
        "constraints": [lambda: dataclasses.replace(PROBLEM, bundles=(), constraints=(Precedence(0, 0, 1),))],
    },
    Bundle: {"units": [lambda: dataclasses.replace(PROBLEM, bundles=(Bundle(((1,), (0,))),))]},
}
NAMES = {
    Block: lambda: with_block(0, name="z"),
    Access: lambda: with_access(0, name="z"),
    Problem: lambda: dataclasses.replace(PROBLEM, name="z"),
}


def test_every_field_is_among_those_that_are_changed_here():
    """A field that comes later must be put among them, and into both hashes."""
    for kind, changes in CHANGES.items():
        assert {field.name for field in dataclasses.fields(kind)} == {*changes, *(["name"] if kind in NAMES else [])}


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind, own in CHANGES.items() for field in own])
def test_every_field_that_changes_the_problem_changes_hash_and_fingerprint(kind, field):
    for change in CHANGES[kind][field]:
        changed = change()
        assert changed != PROBLEM
        assert content_hash(changed) != content_hash(PROBLEM), field
        assert fingerprint(changed) != fingerprint(PROBLEM), field


def test_constraints_change_both_hashes():
    free = dataclasses.replace(PROBLEM, bundles=())
    found = [free, *(dataclasses.replace(free, constraints=(Precedence(0, *own),)) for own in ((0, 1), (1, 0)))]
    assert len({content_hash(own) for own in found}) == len({fingerprint(own) for own in found}) == 3


@pytest.mark.parametrize("kind", NAMES)
def test_names_are_in_the_fingerprint_alone_and_a_problems_own_in_neither(kind):
    """Proofs name accesses and blocks; what the library stores is the same by whatever name."""
    changed = NAMES[kind]()
    assert content_hash(changed) == content_hash(PROBLEM)
    assert (fingerprint(changed) == fingerprint(PROBLEM)) == (kind is Problem)


def test_all_that_a_file_says_is_in_the_fingerprint():
    """A part of instance files that is new must be put into it."""
    assert set(instance_to_dict(PROBLEM)) == {"format", "version", "name", "blocks", "accesses", "bundles"}


def test_without_bundles_the_fingerprint_is_that_of_files_written_before_there_were_any():
    """Stored proofs stay valid: the digest was taken before bundles were put in."""
    expected = "bd991bf8e887c77379deef544dddf17ef3b1fb163a4c81f927a1031ec5e1c105"
    assert fingerprint(LIBRARY.load("classical/random/8x8-s0")) == expected
