"""Seeded random instances: correlated masks, random matrices, planted intervals, nested and disjoint sets, concats.

Every function returns the same `Problem` for the same arguments. `planted_intervals`, `nested_masks` and
`disjoint_masks` have an order in which every access is a view. `planted_outliers` differs from such an instance in a
few channels. `with_tables` adds cost tables to any problem.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from problems.bundles import Bundle
from problems.costs import CostTable, Curve
from problems.errors import ProblemError
from problems.problem import Access, Block, Problem


def random_masks(
    num_channels: int, num_accesses: int, *, keep: float = 0.5, correlation: float = 0.0, seed: int = 0
) -> Problem:
    """One block; every access keeps the highest-scoring channels of its own score.

    The scores of two accesses have the given correlation: each is the sum of a shared normal part and its own. Trained
    weights look similar: a channel that matters to one consumer tends to matter to the next.

    Parameters
    ----------
    num_channels, num_accesses
        Size of the instance.
    keep
        Share of channels that each access keeps, in (0, 1]; at least one channel.
    correlation
        Between 0 (independent masks) and 1 (all masks equal).
    seed
        Of the random generator.

    Raises
    ------
    ProblemError
        If `keep` or `correlation` is out of range.
    """
    rng = np.random.default_rng(seed)
    scores = _correlated_scores(rng, num_accesses, num_channels, correlation)
    return _one_block(_top(scores, keep), f"random-{num_channels}x{num_accesses}-k{keep}-c{correlation}-s{seed}")


def random_matrix(num_channels: int, num_accesses: int, *, density: float = 0.5, seed: int = 0) -> Problem:
    """One block; every access keeps every channel with the same probability, independently.

    This is the classical random 0-1 matrix of the consecutive-ones literature, with a row per access. An access that
    would keep nothing keeps one channel.

    Parameters
    ----------
    num_channels, num_accesses
        Size of the matrix: columns and rows.
    density
        Probability of a one, between 0 and 1.
    seed
        Of the random generator.

    Raises
    ------
    ProblemError
        If `density` is out of range.
    """
    _require_share("density", density)
    rng = np.random.default_rng(seed)
    kept = rng.random((num_accesses, num_channels)) < density
    spare = rng.integers(num_channels, size=num_accesses)
    kept[np.arange(num_accesses), spare] |= ~kept.any(axis=1)
    return _one_block(kept, f"matrix-{num_accesses}x{num_channels}-d{density}-s{seed}")


BLOCK_GROUPS = {
    "a": (200, 0.02),
    "b": (200, 0.05),
    "c": (200, 0.1),
    "d": (500, 0.02),
    "e": (500, 0.05),
    "f": (500, 0.1),
    "g": (1000, 0.02),
    "h": (1000, 0.05),
    "i": (1000, 0.1),
}
"""Columns and share of ones of `block_matrix`, by group."""


def block_matrix(group: str, *, seed: int = 0) -> Problem:
    """A random matrix as in the benchmarks of consecutive block minimisation.

    The benchmark matrices have 100 rows. They have 200 columns (groups a to c), 500 (d to f) or 1000 (g to i), and
    about 2, 5 and 10 % of ones in turn; these shares are estimated from the published values. Sources: Haddadi,
    Chenche, Cheraitia and Guessoum ("Polynomial-time local-improvement algorithm for Consecutive Block Minimization",
    Inf. Process. Lett. 115, 2015); Soares et al. (Comput. Oper. Res. 120, 2020). `problems.read_matrix` reads their
    files.

    Parameters
    ----------
    group
        ``"a"`` to ``"i"``.
    seed
        Of the random generator.

    Raises
    ------
    ProblemError
        If there is no such group.

    Examples
    --------
    >>> print(block_matrix("a"))
    cbm-a-s0: 1 block, 200 channels (173 stored), 100 accesses, 158 classes
    """
    if group not in BLOCK_GROUPS:
        raise ProblemError(f"there is no group {group!r} of matrices; the groups are {', '.join(BLOCK_GROUPS)}")
    num_columns, density = BLOCK_GROUPS[group]
    problem = random_matrix(num_columns, 100, density=density, seed=seed)
    return dataclasses.replace(problem, name=f"cbm-{group}-s{seed}")


def planted_intervals(num_channels: int, num_accesses: int, *, seed: int = 0) -> Problem:
    """One block; the kept sets are random intervals of a line. The channels are then shuffled."""
    rng = np.random.default_rng(seed)
    kept = _intervals(rng, num_channels, num_accesses)
    return _one_block(kept[:, rng.permutation(num_channels)], f"planted-{num_channels}x{num_accesses}-s{seed}")


def planted_outliers(num_channels: int, num_accesses: int, *, outliers: int, seed: int = 0) -> Problem:
    """As `planted_intervals`, but every access keeps some channels at random, whatever its interval.

    An access that would keep nothing keeps one channel.

    Parameters
    ----------
    num_channels, num_accesses
        Size of the instance.
    outliers
        Number of channels that each access keeps with probability one half.
    seed
        Of the random generator.

    Raises
    ------
    ProblemError
        If there are more outliers than channels.
    """
    if not 0 <= outliers <= num_channels:
        raise ProblemError(f"outliers is {outliers}; it must lie between 0 and the {num_channels} channels")
    rng = np.random.default_rng(seed)
    kept = _intervals(rng, num_channels, num_accesses)
    chosen = rng.choice(num_channels, size=outliers, replace=False)
    kept[:, chosen] = rng.random((num_accesses, outliers)) < 0.5
    spare = rng.integers(num_channels, size=num_accesses)
    kept[np.arange(num_accesses), spare] |= ~kept.any(axis=1)
    name = f"outliers-{num_channels}x{num_accesses}-k{outliers}-s{seed}"
    return _one_block(kept[:, rng.permutation(num_channels)], name)


def nested_masks(num_channels: int, num_accesses: int, *, seed: int = 0) -> Problem:
    """One block; each kept set contains the next one."""
    rng = np.random.default_rng(seed)
    sizes = np.sort(rng.integers(1, num_channels + 1, size=num_accesses))[::-1]
    rank = rng.permutation(num_channels)
    return _one_block(rank[np.newaxis] < sizes[:, np.newaxis], f"nested-{num_channels}x{num_accesses}-s{seed}")


def disjoint_masks(num_channels: int, num_accesses: int, *, seed: int = 0) -> Problem:
    """One block; no channel is kept by two accesses.

    Raises
    ------
    ProblemError
        If there are fewer channels than accesses.
    """
    if num_channels < num_accesses:
        raise ProblemError(f"{num_accesses} disjoint accesses need at least as many channels, not {num_channels}")
    rng = np.random.default_rng(seed)
    owner = np.concatenate([np.arange(num_accesses), rng.integers(0, num_accesses, num_channels - num_accesses)])
    kept = rng.permutation(owner)[np.newaxis] == np.arange(num_accesses)[:, np.newaxis]
    return _one_block(kept, f"disjoint-{num_channels}x{num_accesses}-s{seed}")


def random_concat(
    num_blocks: int,
    num_channels: int,
    num_accesses: int,
    *,
    keep: float = 0.5,
    correlation: float = 0.0,
    pinned: float = 0.0,
    seed: int = 0,
) -> Problem:
    """Several blocks; every access reads a random concatenation of them, sometimes one block twice.

    Parameters
    ----------
    num_blocks, num_channels, num_accesses
        Size of the instance; `num_channels` is the size of each block.
    keep, correlation
        As in `random_masks`, over all positions of an access.
    pinned
        Probability that a block is pinned. A block is not removable with half that probability.
    seed
        Of the random generator.

    Raises
    ------
    ProblemError
        If `keep`, `correlation` or `pinned` is out of range.
    """
    _require_share("correlation", correlation)
    _require_share("pinned", pinned)
    rng = np.random.default_rng(seed)
    blocks = []
    for b in range(num_blocks):
        is_pinned = bool(rng.random() < pinned)
        blocks.append(Block(f"block{b}", num_channels, pinned=is_pinned, removable=bool(rng.random() >= pinned / 2)))
    shared = rng.standard_normal((num_blocks, num_channels))
    accesses = []
    for a in range(num_accesses):
        length = int(rng.integers(1, min(num_blocks, 3) + 1))
        reads = tuple(int(b) for b in rng.choice(num_blocks, size=length, replace=bool(rng.random() < 0.2)))
        own = rng.standard_normal(length * num_channels)
        scores = np.sqrt(correlation) * shared[list(reads)].ravel() + np.sqrt(1 - correlation) * own
        accesses.append(Access(f"access{a}", reads, _top(scores[np.newaxis], keep)[0]))
    return Problem(tuple(blocks), tuple(accesses), f"concat-{num_blocks}x{num_channels}x{num_accesses}-s{seed}")


def grouped_masks(
    num_groups: int, group_size: int, num_accesses: int, *, keep: float = 0.5, whole: float = 0.5, seed: int = 0
) -> Problem:
    """The input and output groups of a grouped convolution, and one more block. The groups may change places.

    An access reads the inputs, the outputs, or a concatenation of the outputs, the other block and the inputs. No
    channel of a group is removed.

    Parameters
    ----------
    num_groups, group_size, num_accesses
        Size of the instance; the other block has as many channels as a group.
    keep
        Share of channels, or of groups, that each access keeps.
    whole
        Probability that an access keeps whole groups.
    seed
        Of the random generator.

    Raises
    ------
    ProblemError
        If `keep` or `whole` is out of range, or there are fewer than two groups.

    Examples
    --------
    >>> problem = grouped_masks(3, 4, 5)
    >>> print(problem.bundles[0])
    3 units of 2 blocks
    """
    _require_share("whole", whole)
    rng = np.random.default_rng(seed)
    names = [f"{side}{g}" for side in ("input", "output") for g in range(num_groups)]
    blocks = [*(Block(name, group_size, removable=False) for name in names), Block("other", group_size)]
    inputs, outputs = tuple(range(num_groups)), tuple(range(num_groups, 2 * num_groups))
    accesses = []
    for a in range(num_accesses):
        reads = [inputs, outputs, (*outputs, 2 * num_groups, *inputs)][int(rng.integers(3))]
        by_group = rng.random() < whole
        kept = _top(rng.standard_normal((1, len(reads) * (1 if by_group else group_size))), keep)[0]
        accesses.append(Access(f"access{a}", reads, kept.repeat(group_size if by_group else 1)))
    bundle = Bundle(tuple(zip(inputs, outputs, strict=True)))
    name = f"grouped-{num_groups}x{group_size}x{num_accesses}-k{keep}-s{seed}"
    return Problem(tuple(blocks), tuple(accesses), name, (bundle,))


def with_tables(problem: Problem, *, concave: bool = True, points: int | None = None, seed: int = 0) -> Problem:
    """The same problem with a random cost table for every access.

    The grid points are multiples of 8 (all, or some of them) and the two ends. Concave tables have decreasing slopes,
    and a copy that costs as much as over-reading a random share of the channels. The others look like real kernels:
    a least launch time, steps, and pieces.

    Parameters
    ----------
    problem
        The problem. Tables that it has are replaced.
    concave
        Whether costs are concave in the span.
    points
        Most points of a grid, at least 2, spread evenly. Default: no limit.
    seed
        Of the random generator.

    Raises
    ------
    ProblemError
        If `points` is less than 2.

    Examples
    --------
    >>> problem = with_tables(random_masks(32, 2))
    >>> [access.table.read.is_concave for access in problem.accesses]
    [True, True]
    """
    if points is not None and points < 2:
        raise ProblemError(f"points is {points}; a grid has at least 2, its ends")
    rng = np.random.default_rng(seed)
    accesses = []
    for access in problem.accesses:
        width = sum(len(problem.stored[b]) for b in access.blocks)
        spans = np.unique([1, *range(8, width, 8), width])
        if points is not None and points < len(spans):
            spans = spans[np.linspace(0, len(spans) - 1, points).round().astype(np.int64)]
        slopes = rng.integers(0, 12, len(spans) - 1) + (20 if concave else 0)
        slopes = np.sort(slopes)[::-1] if concave else slopes * rng.integers(0, 3, len(slopes))
        costs = int(rng.integers(100, 2000)) + np.concatenate([[0], np.cumsum(slopes * np.diff(spans))])
        copy = int((costs[-1] - costs[0]) * rng.uniform(0.2, 1.2))
        pieces = None if concave else Curve((2, 5), (copy // 3, copy))
        table = CostTable(Curve(spans, costs), copy, pieces)
        accesses.append(dataclasses.replace(access, table=table))
    return dataclasses.replace(problem, accesses=tuple(accesses))


def _intervals(rng: np.random.Generator, num_channels: int, num_accesses: int) -> np.ndarray:
    """Random intervals of a line, none empty; bool, shape (num_accesses, num_channels)."""
    ends = np.sort(rng.integers(0, num_channels + 1, size=(num_accesses, 2)), axis=1)
    ends[:, 1] = np.maximum(ends[:, 1], ends[:, 0] + 1)
    ends -= (ends[:, 1:] > num_channels).astype(ends.dtype)
    line = np.arange(num_channels)
    return (line >= ends[:, :1]) & (line < ends[:, 1:])


def _correlated_scores(rng: np.random.Generator, rows: int, columns: int, correlation: float) -> np.ndarray:
    _require_share("correlation", correlation)
    own = rng.standard_normal((rows, columns))
    return np.sqrt(correlation) * rng.standard_normal(columns) + np.sqrt(1 - correlation) * own


def _require_share(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ProblemError(f"{name} is {share}; it must lie between 0 and 1")


def _top(scores: np.ndarray, keep: float) -> np.ndarray:
    """The highest-scoring share of each row; bool, same shape."""
    if not 0 < keep <= 1:
        raise ProblemError(f"keep is {keep}; it must lie above 0 and at most at 1")
    count = max(1, round(keep * scores.shape[1]))
    kept = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(kept, np.argsort(-scores, axis=1, kind="stable")[:, :count], True, axis=1)
    return kept


def _one_block(kept: np.ndarray, name: str) -> Problem:
    accesses = tuple(Access(f"access{a}", (0,), row) for a, row in enumerate(kept))
    return Problem((Block("block0", kept.shape[1]),), accesses, name)
