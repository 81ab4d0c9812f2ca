"""Small sets of accesses that cannot all be views, found all at once, and the inequalities they give.

Three rows lack the consecutive-ones property exactly if they contain the columns 110, 101, 011 or the columns
111, 100, 010, 001 (Tucker 1972, "A structure theorem for the consecutive 1's property").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from problems import Problem
from solvers.common.block_rows import span_blocks
from solvers.common.clock import time_now
from solvers.common.rows import Spans
from solvers.views.consecutive import extended_rows

MOST_ACCESSES = 128  # accesses: whose triples are looked at, 2 million; with more, time limits were missed

_MOST_CLASSES = 1024  # classes: a sample of so many is looked at for conflicts; by hand


@dataclass(frozen=True, eq=False)
class SmallConflicts:
    """Conflicts of up to three accesses, as far as they are known.

    Attributes
    ----------
    accesses
        int: the accesses looked at, ascending.
    triples
        bool, shape (len(accesses),) * 3: as `conflicting_accesses` returns it, of these accesses.
    """

    accesses: np.ndarray
    triples: np.ndarray

    def forbid(self, access: int, views: Sequence[int]) -> bool:
        """Whether an access is known to be in conflict with one or two others (indices of the problem)."""
        i = int(np.searchsorted(self.accesses, access))
        if i == len(self.accesses) or self.accesses[i] != access:
            return False
        if self.triples[i, i, i]:
            return True
        known = np.flatnonzero(np.isin(self.accesses, views))
        return bool(self.triples[i][np.ix_(known, known)].any())

    def limits(self, *, deadline: float = np.inf) -> list[tuple[int, tuple[int, ...]]]:
        """Inequalities that cover the conflicts, see `at_most`; not all of them if the deadline passes."""
        found = at_most(self.triples, deadline=deadline)
        return [(limit, tuple(self.accesses[list(own)].tolist())) for limit, own in found]


def small_conflicts(
    problem: Problem, spans: Spans, price: np.ndarray, *, deadline: float = np.inf, most: int = MOST_ACCESSES
) -> SmallConflicts:
    """Conflicts of the dearest accesses.

    Parameters
    ----------
    problem, spans
        The problem, taken apart.
    price
        int, shape (num_accesses,): what it costs that an access is no view.
    deadline
        A `time.perf_counter` reading; fewer conflicts are known if it passes.
    most
        Accesses that are looked at.
    """
    chosen = np.sort(np.argsort(-price, kind="stable")[:most])
    return SmallConflicts(chosen, conflicting_accesses(problem, spans, chosen, deadline=deadline))


def conflicting_rows(bits: np.ndarray, *, deadline: float = np.inf) -> np.ndarray:
    """Triples of rows that no order of the classes makes contiguous together.

    Parameters
    ----------
    bits
        bool, shape (num_classes, num_rows). If there are very many classes some of them are looked at.
    deadline
        A `time.perf_counter` reading; conflicts of the last rows are missing if it passes.

    Returns
    -------
    np.ndarray
        bool, shape (num_rows, num_rows, num_rows), symmetric; False where two indices are equal.

    Examples
    --------
    >>> triangle = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]], dtype=bool)
    >>> bool(conflicting_rows(triangle)[0, 1, 2])
    True
    """
    if len(bits) > _MOST_CLASSES:
        bits = bits[np.linspace(0, len(bits) - 1, _MOST_CLASSES).astype(np.int64)]
    inside = bits.T.astype(np.float32)
    outside = 1 - inside
    num_rows = len(inside)
    both_not, all_three, alone = (np.zeros((num_rows,) * 3, dtype=bool) for _ in range(3))
    for k in range(num_rows):
        if time_now() >= deadline:
            break
        both_not[:, :, k] = (inside * outside[k]) @ inside.T > 0
        all_three[:, :, k] = (inside * inside[k]) @ inside.T > 0
        alone[k] = (outside * inside[k]) @ outside.T > 0
    cycle = both_not & both_not.transpose(0, 2, 1) & both_not.transpose(2, 1, 0)
    star = all_three & alone & alone.transpose(1, 0, 2) & alone.transpose(2, 1, 0)
    return cycle | star


def conflicting_accesses(
    problem: Problem, spans: Spans, chosen: np.ndarray | None = None, *, deadline: float = np.inf
) -> np.ndarray:
    """Triples of accesses that cannot all be views, as far as three rows of one block show it.

    Parameters
    ----------
    problem, spans
        The problem, taken apart.
    chosen
        int, ascending: the accesses to look at, which are numbered in this order. Default: all.
    deadline
        A `time.perf_counter` reading; some conflicts are missing if it passes.

    Returns
    -------
    np.ndarray
        bool, shape (len(chosen),) * 3, symmetric, with repeated indices: ``[a, a, b]`` says that a and b cannot both
        be views, ``[a, a, a]`` that a cannot. A conflict of a few is marked for every larger set as well.
    """
    if chosen is None:
        chosen = np.arange(len(problem.accesses))
    number = np.full(len(problem.accesses), -1)
    number[chosen] = np.arange(len(chosen))
    conflict = np.zeros((len(chosen),) * 3, dtype=bool)
    hopeless = spans.fixed[chosen] > 0
    conflict[hopeless] = True
    for block in span_blocks(problem, spans):
        access = number[block.access]
        if (access < 0).all() or time_now() >= deadline:
            continue
        rows, own = block.rows, np.flatnonzero(access >= 0)
        extended = extended_rows(rows.bits[:, own], rows.left[own], rows.right[own])
        found = conflicting_rows(extended, deadline=deadline)
        place = np.arange(len(found))
        found &= (place[:, np.newaxis, np.newaxis] < place[:, np.newaxis]) & (place[:, np.newaxis] < place)
        triples = np.argwhere(found)
        real = triples < len(own)
        triples, real = triples[real[:, 0]], real[real[:, 0]]  # at most two rows are virtual, and they come last
        triples = np.where(real, triples, triples[:, :1])
        conflict[tuple(access[own][triples].T)] = True
    conflict |= conflict.transpose(0, 2, 1)
    conflict |= conflict.transpose(1, 0, 2)
    conflict |= conflict.transpose(0, 2, 1)
    one = np.einsum("aaa->a", conflict)
    pair = np.einsum("aab->ab", conflict)
    pair = pair | pair.T | one[:, np.newaxis] | one
    return conflict | pair[:, :, np.newaxis] | pair[:, np.newaxis, :] | pair[np.newaxis]


def at_most(conflict: np.ndarray, *, deadline: float = np.inf) -> list[tuple[int, tuple[int, ...]]]:
    """Inequalities that cover all conflicts: among these accesses at most so many are views.

    If every two (three) accesses of a set conflict, at most one (two) of the set are views; the sets are grown
    greedily until every conflict lies in one.

    Parameters
    ----------
    conflict
        As returned by `conflicting_accesses`.
    deadline
        A `time.perf_counter` reading; some conflicts are not covered if it passes.

    Returns
    -------
    list
        Pairs (limit, accesses) with limit 0, 1 or 2.

    Examples
    --------
    >>> at_most(np.ones((4, 4, 4), dtype=bool) & False)
    []
    """
    num = len(conflict)
    one = np.einsum("aaa->a", conflict)
    found: list[tuple[int, tuple[int, ...]]] = [(0, (int(a),)) for a in np.flatnonzero(one)]
    alive = ~one
    pair = np.einsum("aab->ab", conflict) & alive[:, np.newaxis] & alive & ~np.eye(num, dtype=bool)
    open_pairs = np.triu(pair)
    while open_pairs.any() and time_now() < deadline:
        clique = [int(a) for a in np.unravel_index(int(open_pairs.argmax()), pair.shape)]
        fits = pair[clique].all(axis=0)
        while fits.any():
            clique.append(int(fits.argmax()))
            fits &= pair[clique[-1]]
        open_pairs[np.ix_(clique, clique)] = False
        found.append((1, tuple(sorted(clique))))

    idx = np.arange(num)
    distinct = (idx[:, None, None] < idx[:, None]) & (idx[:, None] < idx)
    implied = pair[:, :, np.newaxis] | pair[:, np.newaxis, :] | pair[np.newaxis]
    triple = conflict & alive[:, None, None] & alive[:, None] & alive
    open_triples = triple & ~implied & distinct
    while open_triples.any() and time_now() < deadline:
        clique = [int(a) for a in np.unravel_index(int(open_triples.argmax()), triple.shape)]
        fits = _fitting(triple, clique)
        while fits.any():
            clique.append(int(fits.argmax()))
            fits &= triple[clique[-1]][clique[:-1]].all(axis=0)
            fits[clique] = False
        open_triples[np.ix_(clique, clique, clique)] = False
        found.append((2, tuple(sorted(clique))))
    return found


def _fitting(triple: np.ndarray, clique: list[int]) -> np.ndarray:
    """Accesses that conflict with every two of the three given."""
    a, b, c = clique
    fits = triple[a, b] & triple[a, c] & triple[b, c]
    fits[clique] = False
    return fits
