"""Do a few accesses cost at least so much? The checker's own shortest path, where every two of them share a channel.

Then all ranges have a common point: accesses only begin left of it and only end right of it. Seen from outside, an
order is two growing chains of sets, one from each end, and a channel pays for the smaller of the first two sets that
have all its accesses (docs/model.md, theorem 3). It shares no code with the solvers. There may be many channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from problems.checker.consecutive_ones import parts_of
from problems.objectives import Objective
from problems.problem import Problem

MAX_PAIRS = 2**29
"""Most pairs of sets that are looked at for one problem (seconds)."""

MAX_ACCESSES = 14
"""Most accesses of a problem."""


def cost_at_least(problem: Problem, objective: Objective, bound: int) -> bool | None:
    """Whether every order costs at least the bound; None if this test does not apply, or is too much work.

    It applies to prices, if all accesses have the same channel size, keep channels of one block that may be reordered,
    and share some pairwise.

    Examples
    --------
    >>> from problems import OBJECTIVES
    >>> from problems.generators import random_masks
    >>> problem = random_masks(64, 6)
    >>> [cost_at_least(problem, OBJECTIVES["span"], bound) for bound in (73, 74)]
    [True, False]
    """
    accesses = problem.accesses
    if objective.alpha is None or len(accesses) > MAX_ACCESSES or len({own.channel_size for own in accesses}) != 1:
        return None
    found = [parts_of(problem, a) for a in range(len(accesses))]
    parts = [own[0] for own, _ in found if len(own) == 1]
    if len(parts) < len(accesses) or len({part.block for part in parts}) > 1 or any(fixed for _, fixed in found):
        return None
    if any(part.from_start or part.to_end for part in parts):
        return None
    kept = np.stack([part.kept for part in parts])
    if not (kept.astype(np.int64) @ kept.T.astype(np.int64) > 0).all():
        return None
    size = accesses[0].channel_size
    if objective.gamma is None:
        return _all_read(kept, objective.alpha * size, bound)
    copying = [objective.gamma * size * access.num_kept for access in accesses]
    return _some_copied(kept, objective.alpha * size, copying, bound)


def _all_read(kept: np.ndarray, slope: int, bound: int) -> bool | None:
    """Whether reading all in place costs at least the bound."""
    if _pairs(len(kept)) > MAX_PAIRS:
        return None
    return slope * _least_excess(kept) >= bound


def _some_copied(kept: np.ndarray, slope: int, copying: list[int], bound: int) -> bool | None:
    """Whether every choice of copied accesses costs at least the bound, the others being read in place.

    If one access of t is left out, the others are over-read no more than before. So what t cost is at least the sum of
    the costs without each of them, divided by t - 1.
    """
    left = MAX_PAIRS
    num = len(kept)
    least: dict[tuple[int, ...], int] = {(): 0}
    for size in range(num + 1):
        for read in combinations(range(num), size):
            if size:
                smaller = [least[read[:i] + read[i + 1 :]] for i in range(size)]
                least[read] = max(smaller) if size == 1 else max(*smaller, -(-sum(smaller) // (size - 1)))
            copied = sum(copying) - sum(copying[a] for a in read)
            if least[read] + copied >= bound:
                continue
            left -= _pairs(size)
            if left < 0:
                return None
            least[read] = slope * _least_excess(kept[list(read)])
            if least[read] + copied < bound:
                return False
    return True


def _pairs(num: int) -> int:
    """Steps between pairs of sets of equal size."""
    pairs, count = 0, 1
    for k in range(num):
        pairs += count * count * (k + 1)
        count = count * (num - k) // (k + 1)
    return 4 * pairs


def _least_excess(kept: np.ndarray) -> int:
    """The least number of over-read channels of all accesses together, all read in place (bool, a row per access)."""
    num, width = kept.shape
    if num < 2:
        return 0
    labels = (np.int64(1) << np.arange(num)) @ kept
    inside = np.bincount(labels, minlength=1 << num).astype(np.int64)
    for a in range(num):
        halves = inside.reshape(-1, 2, 1 << a)
        halves[:, 1] += halves[:, 0]
    best = np.zeros((1, 1), dtype=np.int64)
    total = None
    for sets, before in _layers(num):
        if before is not None:
            best = _least_before(_least_before(best, before).T, before).T
        cost = width - inside[sets][:, np.newaxis] - inside[sets] + inside[sets[:, np.newaxis] & sets]
        best = best + cost
        total = best
    assert total is not None
    return int(total.min()) - int(kept.sum())


def _layers(num: int) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """The sets of 0 to num - 1 accesses, by size, and for each the places of the sets with one access less."""
    place = np.zeros(1 << num, dtype=np.int64)
    for size in range(num):
        chosen = [sum(1 << a for a in own) for own in combinations(range(num), size)]
        sets = np.array(chosen, dtype=np.int64)
        before = None
        if size:
            members = np.array(list(combinations(range(num), size)), dtype=np.int64)
            before = place[sets[:, np.newaxis] ^ (np.int64(1) << members)]
        place[sets] = np.arange(len(sets))
        yield sets, before


def _least_before(best: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Per set of the next size the least over the sets from which it grows (axis 0)."""
    least: np.ndarray = best[before[:, 0]]
    for k in range(1, before.shape[1]):
        least = np.minimum(least, best[before[:, k]])
    return least
