"""Classical instances, from generators: intervals with and without outliers, random matrices, concats, groups.

`classical/blocks` has the shapes of the published matrices of consecutive block minimisation, with seeds of our own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.library.candidates import Candidate, Origin
from problems import Problem
from problems.generators import (
    BLOCK_GROUPS,
    block_matrix,
    grouped_masks,
    planted_intervals,
    planted_outliers,
    random_concat,
    random_matrix,
    with_tables,
)

PLANTED = ((16, 8), (32, 12), (64, 16), (128, 24), (256, 40))
"""Channels and accesses."""

OUTLIERS = ((32, 10, 1), (32, 10, 2), (32, 10, 4), (64, 16, 2), (64, 16, 4), (64, 16, 8), (128, 24, 4), (128, 24, 8))
"""Channels, accesses, and channels that are outside the intervals."""

SQUARE = {8: 3, 10: 3, 13: 10, 16: 10, 20: 10, 24: 5, 32: 5}
"""Per size of the square matrix, the number of seeds. Half of the entries are ones."""

SPARSE = ((20, 40, 0.1), (40, 40, 0.05), (40, 40, 0.1), (50, 100, 0.02), (50, 100, 0.05), (100, 100, 0.02))
"""Accesses, channels, and share of ones: for the objective `runs`."""

CONCATS = ((3, 8, 5), (3, 24, 6), (5, 16, 8))
"""Blocks, channels of each, accesses."""

GROUPS = ((4, 3, 4), (5, 2, 6), (8, 4, 5), (16, 2, 6), (32, 4, 8))
"""Groups, channels of each, accesses: bundles, whose units may change places."""


_OBJECTIVES = {"blocks": ("runs",)}
"""Kinds that are there for some objectives only."""


def classical_candidates() -> Iterator[Candidate]:
    """All classical instances."""
    for n, a in PLANTED:
        yield from _seeds(3, "planted", f"{a}x{n}", planted_intervals, n, a)
    for n, a, k in OUTLIERS:
        yield from _seeds(3, "outliers", f"{a}x{n}-k{k}", planted_outliers, n, a, outliers=k)
    for n, number in SQUARE.items():
        yield from _seeds(number, "random", f"{n}x{n}", random_matrix, n, n, density=0.5)
    for a, n, density in SPARSE:
        yield from _seeds(3, "sparse", f"{a}x{n}-d{density:.2f}", random_matrix, n, a, density=density)
    for b, n, a in CONCATS:
        yield from _seeds(3, "concat", f"{a}x{b}x{n}", random_concat, b, n, a, pinned=0.2)
    for g, n, a in GROUPS:
        yield from _seeds(3, "grouped", f"{a}x{g}x{n}", grouped_masks, g, n, a)
    for g, n, a in GROUPS:
        yield from _seeds(4, "grouped-tables", f"{a}x{g}x{n}", grouped_masks_with_tables, g, n, a)
    for group, (n, density) in BLOCK_GROUPS.items():
        yield from _seeds(3, "blocks", f"100x{n}-d{density:.2f}", block_matrix, group)


def grouped_masks_with_tables(num_groups: int, group_size: int, num_accesses: int, *, seed: int) -> Problem:
    """The instances with tables: concave costs if the seed is even, least launch times and steps if it is odd."""
    problem = grouped_masks(num_groups, group_size, num_accesses, seed=100 + seed)
    return with_tables(problem, concave=seed % 2 == 0, seed=seed)


def _seeds(
    number: int, kind: str, size: str, generator: Callable[..., Problem], *sizes: int | str, **options: Any
) -> Iterator[Candidate]:
    """The instances of one size with the seeds 0 to `number` - 1."""
    for seed in range(number):
        arguments = [*map(repr, sizes), *(f"{name}={value}" for name, value in options.items()), f"seed={seed}"]
        source = f"{generator.__module__}.{generator.__name__}({', '.join(arguments)})"
        problem = generator(*sizes, **options, seed=seed)
        origin = Origin(f"classical/{kind}", source, seed, objectives=_OBJECTIVES.get(kind))
        yield Candidate.of(problem, f"classical/{kind}/{size}-s{seed}", origin)
