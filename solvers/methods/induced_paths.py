"""The heaviest induced path of a small directed graph: the step that UPSCALE's greedy repeats.

A path is induced as in the paper's search: after a path goes from a node to one successor, it must avoid the node's
other successors. The search is a depth-first branch and bound on bit masks.
"""

from __future__ import annotations

import numpy as np

from solvers.common.clock import time_now
from solvers.common.errors import SolverError


class OutOfTimeError(SolverError):
    """The deadline passed during the search for paths."""

    def __init__(self) -> None:
        super().__init__("the deadline passed before the search of paths ended; give it more time")


class PathSearch:
    """Repeated searches of one graph, with one limit of expanded nodes for all.

    Parameters
    ----------
    gain
        int, shape (num_nodes, num_nodes): what a step from node u to v adds to a path's value; at least 1 on edges.
    edges
        bool, shape (num_nodes, num_nodes): ``edges[u, v]`` if a path may go from u to v.
    value
        int, shape (num_nodes,): value of a path of one node.
    max_expansions
        After this many expanded nodes the search returns the best path so far.
    deadline
        A `time.perf_counter` reading, after which the search gives up.
    """

    def __init__(
        self,
        gain: np.ndarray,
        edges: np.ndarray,
        value: np.ndarray,
        max_expansions: int,
        deadline: float = np.inf,
    ) -> None:
        self._deadline = deadline
        self._gain = gain.tolist()
        self._value = value.tolist()
        self._successors = [np.flatnonzero(row).tolist() for row in edges]
        self._mask = [sum(1 << v for v in row) for row in self._successors]
        on_edges = np.where(edges, gain, 0)
        self._best_gain = on_edges.max(axis=0, initial=0).tolist()
        self._best_step = on_edges.max(axis=1, initial=0).tolist()
        self.expansions_left = max_expansions

    def heaviest(self, covered: int) -> tuple[int, ...]:
        """The first heaviest induced path that avoids the nodes of the bit mask `covered`.

        Sources and successors are tried in ascending order, and only a strictly heavier path replaces an earlier one.
        So ties are broken as in the plain enumeration. Branches that cannot beat the best path are cut: a path gains
        at most the best step into each node that is still allowed.
        """
        best_value = -1
        best_path: tuple[int, ...] = ()
        for source in range(len(self._value)):
            if time_now() >= self._deadline:
                raise OutOfTimeError
            if covered >> source & 1:
                continue
            allowed = ~covered & ~(1 << source) & ((1 << len(self._value)) - 1)
            stack: list[tuple[tuple[int, ...], int, int]] = [((source,), self._value[source], allowed)]
            while stack:
                path, value, allowed = stack.pop()
                if value > best_value:
                    best_value, best_path = value, path
                here = path[-1]
                if not self._mask[here] & allowed or self.expansions_left <= 0:
                    continue
                self.expansions_left -= 1
                if time_now() >= self._deadline:
                    raise OutOfTimeError
                beyond = allowed & ~self._mask[here]
                rest = self._potential(beyond)
                if value + self._best_step[here] + rest <= best_value:
                    continue
                gain = self._gain[here]
                stack.extend(
                    ((*path, v), value + gain[v], beyond)
                    for v in reversed(self._successors[here])
                    if allowed >> v & 1 and value + gain[v] + rest > best_value
                )
        return best_path

    def _potential(self, allowed: int) -> int:
        """Upper bound on what a path can still gain inside a set of nodes."""
        total = 0
        while allowed:
            low = allowed & -allowed
            total += self._best_gain[low.bit_length() - 1]
            allowed ^= low
        return total


def heaviest_paths(
    gain: np.ndarray, edges: np.ndarray, value: np.ndarray, *, max_expansions: int, deadline: float = np.inf
) -> list[tuple[int, ...]]:
    """Take heaviest induced paths, each avoiding the nodes of those before, until every node is covered.

    Parameters and errors as in `PathSearch`.

    Examples
    --------
    >>> edges = ~np.eye(3, dtype=bool)
    >>> value = np.array([1, 2, 2])
    >>> heaviest_paths(np.tile(value, (3, 1)), edges, value, max_expansions=1000)
    [(1, 2), (0,)]
    """
    search = PathSearch(gain, edges, value, max_expansions, deadline)
    covered, paths = 0, []
    while covered != (1 << len(value)) - 1:
        path = search.heaviest(covered)
        covered |= sum(1 << v for v in path)
        paths.append(path)
    return paths
