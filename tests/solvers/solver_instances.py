"""Seeded random instances that the tests of the solvers share: small ones with every feature of the model."""

from __future__ import annotations

import numpy as np

from problems import OBJECTIVES, Access, Block, Objective, Problem

ALL_OBJECTIVES = [
    *(objective for objective in OBJECTIVES.values() if not objective.uses_tables),
    Objective("mixed", alpha=2, gamma=3),
]


def one_block(seed: int, *, max_channels: int = 7, max_accesses: int = 4) -> Problem:
    """One block; sometimes with channels nobody keeps, sometimes with weighted accesses."""
    rng = np.random.default_rng([1, seed])
    size = int(rng.integers(2, max_channels + 1))
    block = Block("x", size, removable=bool(rng.random() < 0.7))
    return Problem((block,), _accesses(rng, (block,), max_accesses, max_slots=1), f"one-block-{seed}")


def several_blocks(seed: int, *, max_channels: int = 5, max_accesses: int = 4, max_blocks: int = 3) -> Problem:
    """Two or more blocks: pinned, not removable, read twice, in any order."""
    rng = np.random.default_rng([2, seed])
    blocks = tuple(
        Block(
            f"b{b}",
            int(rng.integers(1, max_channels + 1)),
            pinned=bool(rng.random() < 0.2),
            removable=bool(rng.random() < 0.7),
        )
        for b in range(int(rng.integers(2, max_blocks + 1)))
    )
    return Problem(blocks, _accesses(rng, blocks, max_accesses, max_slots=3), f"several-blocks-{seed}")


def sets(*members: set[int]) -> Problem:
    """One block with an access for every set of channels."""
    size = max(map(max, members)) + 1
    kept = [np.isin(np.arange(size), list(own)) for own in members]
    return Problem((Block("x", size),), tuple(Access(f"a{i}", (0,), row) for i, row in enumerate(kept)))


def _accesses(
    rng: np.random.Generator, blocks: tuple[Block, ...], max_accesses: int, max_slots: int
) -> tuple[Access, ...]:
    accesses = []
    for a in range(int(rng.integers(1, max_accesses + 1))):
        reads = tuple(int(b) for b in rng.integers(0, len(blocks), int(rng.integers(1, max_slots + 1))))
        kept = rng.random(sum(blocks[b].size for b in reads)) < rng.choice([0.3, 0.5, 0.8])
        kept[rng.integers(len(kept))] = True
        accesses.append(Access(f"a{a}", reads, kept, int(rng.choice([1, 1, 1, 4]))))
    return tuple(accesses)
