"""Small sets of accesses that cannot all be views, found all at once, and the inequalities they give.

Three rows lack the consecutive-ones property exactly if they contain the columns 110, 101, 011 or the columns
111, 100, 010, 001 (Tucker 1972, "A structure theorem for the consecutive 1's property").
"""

from __future__ import annotations

import numpy as np

from problems import Problem
from solvers.common.rows import Spans, class_bits
from solvers.views.consecutive import extended_rows


def conflicting_rows(bits: np.ndarray) -> np.ndarray:
    """Triples of rows that no order of the classes makes contiguous together.

    Parameters
    ----------
    bits
        bool, shape (num_classes, num_rows).

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
    inside = bits.T.astype(np.float32)
    outside = 1 - inside
    num_rows = len(inside)
    both_not = np.empty((num_rows,) * 3, dtype=bool)
    all_three = np.empty_like(both_not)
    alone = np.empty_like(both_not)
    for k in range(num_rows):
        both_not[:, :, k] = (inside * outside[k]) @ inside.T > 0
        all_three[:, :, k] = (inside * inside[k]) @ inside.T > 0
        alone[k] = (outside * inside[k]) @ outside.T > 0
    cycle = both_not & both_not.transpose(0, 2, 1) & both_not.transpose(2, 1, 0)
    star = all_three & alone & alone.transpose(1, 0, 2) & alone.transpose(2, 1, 0)
    return cycle | star


def conflicting_accesses(problem: Problem, spans: Spans) -> np.ndarray:
    """Triples of accesses that cannot all be views, as far as three rows of one block show it.

    Returns
    -------
    np.ndarray
        bool, shape (num_accesses,) * 3, symmetric, with repeated indices: ``[a, a, b]`` says that a and b cannot both
        be views, ``[a, a, a]`` that a cannot. A conflict of a few is marked for every larger set as well.
    """
    num = len(problem.accesses)
    conflict = np.zeros((num,) * 3, dtype=bool)
    hopeless = spans.fixed > 0
    conflict[hopeless] = True
    for b in range(len(problem.blocks)):
        rows = spans.of_block(b)
        if not rows:
            continue
        bits = class_bits(problem, b, (row.reader for row in rows))
        left = np.array([row.left for row in rows], dtype=bool)
        right = np.array([row.right for row in rows], dtype=bool)
        triples = np.argwhere(conflicting_rows(extended_rows(bits, left, right)))
        triples = triples[(np.diff(triples, axis=1) > 0).all(axis=1)]
        access = np.array([row.access for row in rows])
        real = triples < len(rows)
        triples, real = triples[real[:, 0]], real[real[:, 0]]  # at most two rows are virtual, and they come last
        triples = np.where(real, triples, triples[:, :1])
        conflict[tuple(access[triples].T)] = True
    conflict |= conflict.transpose(0, 2, 1)
    conflict |= conflict.transpose(1, 0, 2)
    conflict |= conflict.transpose(0, 2, 1)
    one = np.einsum("aaa->a", conflict)
    pair = np.einsum("aab->ab", conflict)
    pair = pair | pair.T | one[:, np.newaxis] | one
    return conflict | pair[:, :, np.newaxis] | pair[:, np.newaxis, :] | pair[np.newaxis]


def at_most(conflict: np.ndarray) -> list[tuple[int, tuple[int, ...]]]:
    """Inequalities that cover all conflicts: among these accesses at most so many are views.

    If every two (three) accesses of a set conflict, at most one (two) of the set are views; the sets are grown
    greedily until every conflict lies in one.

    Parameters
    ----------
    conflict
        As returned by `conflicting_accesses`.

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
    while open_pairs.any():
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
    while open_triples.any():
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
