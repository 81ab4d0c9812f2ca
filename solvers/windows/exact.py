"""Branch and bound over the paths of states that the dual bound does not exclude.

A node is the beginning of a word. Per channel it knows the least value of a cell so far, cur_c. Two bounds hold for all
words that begin so: ``sum_c min(cur_c, nu_c)`` less the largest gain of the rest of the path (as in the dual bound),
and ``sum_c`` of the least of cur_c and of all cells that the state can still reach. Of a word and its mirror image only
one is looked at: the first access to open has a lower number than the last to close. They need not be the same one. For
if a word begins with a b and ends with a, then b a in place of a b adds the cell {b} and loses none: {a} is at the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from problems.windows.states import states_of

_BATCH_BYTES = 2**23  # bytes: of the least values of the nodes that are expanded together; by hand
_REACH_BYTES = 2**28  # bytes: most for the least values that every state can still reach; by hand


@dataclass(frozen=True)
class SearchedPaths:
    """What is known after the search.

    Attributes
    ----------
    events
        The best word, in bits; the given one if none is better.
    value
        Its value.
    bound
        No word has a smaller value.
    num_nodes
        Nodes whose bounds were computed.
    """

    events: list[int]
    value: float
    bound: float
    num_nodes: int


@dataclass(frozen=True)
class _Nodes:
    """Nodes of one depth, side by side."""

    states: np.ndarray
    words: np.ndarray
    least: np.ndarray
    bounds: np.ndarray

    def __len__(self) -> int:
        return len(self.states)

    def __getitem__(self, which: slice | np.ndarray) -> _Nodes:
        return _Nodes(self.states[which], self.words[which], self.least[which], self.bounds[which])


def search_paths(
    table: np.ndarray,
    always: np.ndarray,
    potentials: np.ndarray,
    events: list[int],
    value: float,
    *,
    tolerance: float,
    deadline: float,
    report: Callable[[float], None],
) -> SearchedPaths:
    """The best word, by depth-first search in batches.

    Parameters
    ----------
    table
        Values of all cells, shape (cells, channels).
    always
        Per channel the cost that every word offers.
    potentials
        nu of the dual bound.
    events, value
        A good word of bits, and its value.
    tolerance
        Words that are better by less are not looked for.
    deadline
        A reading of ``time.perf_counter``, in seconds. After it the bound is that of the open nodes.
    report
        Called with the value of every better word.
    """
    tree = _Tree(table, potentials)
    batch = max(1, _BATCH_BYTES // (8 * table.shape[1]))
    stack = [tree.root(always)]
    num_nodes = 0
    while stack and time.perf_counter() < deadline:
        nodes = stack.pop()
        if len(nodes) > batch:
            stack.append(nodes[:-batch])
            nodes = nodes[-batch:]
        children = tree.children(nodes[nodes.bounds < value - tolerance])
        num_nodes += len(children)
        if not len(children):
            continue
        if tree.are_words(children):
            best = int(np.argmin(children.bounds))
            if children.bounds[best] < value:
                value, events = float(children.bounds[best]), children.words[best].tolist()
                report(value)
            continue
        children = children[children.bounds < value - tolerance]
        if len(children):
            stack.append(children[np.argsort(-children.bounds, kind="stable")])
    bound = min([value, *(float(nodes.bounds.min()) for nodes in stack)])
    return SearchedPaths(events, value, bound, num_nodes)


class _Tree:
    """Nodes, their children and their bounds."""

    def __init__(self, table: np.ndarray, potentials: np.ndarray) -> None:
        self._table, self._potentials = table, potentials
        self._states = states_of(int(table.shape[0]).bit_length() - 1)
        gains = np.maximum(potentials - table, 0).sum(axis=1)
        self._ahead = self._states.most_ahead(gains)[:-1] - gains[self._states.open]
        size = 8 * (self._states.end + 2) * table.shape[1]
        self._reach = self._states.least_ahead(table) if size <= _REACH_BYTES else None

    def root(self, always: np.ndarray) -> _Nodes:
        """The node with the empty beginning."""
        return _Nodes(
            np.zeros(1, dtype=np.int64), np.zeros((1, 0), dtype=np.int8), always[np.newaxis], np.full(1, -np.inf)
        )

    def are_words(self, nodes: _Nodes) -> bool:
        """Whether nodes are whole words. Then their bounds are their values."""
        return nodes.words.shape[1] == 2 * self._states.num_bits

    def children(self, nodes: _Nodes) -> _Nodes:
        """All children of nodes of one depth."""
        states = self._states
        after = states.next[nodes.states]
        first = nodes.words[:, :1] if nodes.words.shape[1] else np.arange(states.num_bits)[np.newaxis]
        least_last = first + (states.num_bits > 1)
        mirrored = (states.highest[np.minimum(after, states.end)] < least_last) & (after != states.end)
        parents, bits = np.nonzero((after <= states.end) & ~mirrored)
        after = after[parents, bits]
        least = np.minimum(nodes.least[parents], self._table[states.open[after]])
        bounds = np.minimum(least, self._potentials).sum(axis=1) - self._ahead[after]
        if self._reach is not None:
            bounds = np.maximum(bounds, np.minimum(least, self._reach[after]).sum(axis=1))
        words = np.concatenate([nodes.words[parents], bits[:, np.newaxis].astype(np.int8)], axis=1)
        found = _Nodes(after, words, least, bounds)
        return replace(found, bounds=least.sum(axis=1)) if self.are_words(found) else found
