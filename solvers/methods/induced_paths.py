"""The heaviest induced path of a small directed graph: the step UPSCALE's greedy repeats.

A path is induced in the sense of the paper's search: once it leaves a node for one successor, the node's other
successors are out of bounds for the rest of the path. Depth-first branch and bound over bit masks.
"""

from __future__ import annotations

import time

import numpy as np

from solvers.common.errors import SolverError


class OutOfTimeError(SolverError):
    """The deadline passed while paths were searched."""

    def __init__(self) -> None:
        super().__init__("the deadline passed before the search of paths ended; give it more time")


class PathSearch:
    """Searches one graph repeatedly, with a common budget of expanded nodes.

    Parameters
    ----------
    gain
        int, shape (num_nodes, num_nodes): what entering node v from u adds to a path's value; at least 1 on edges.
    edges
        bool, shape (num_nodes, num_nodes): ``edges[u, v]`` if a path may go from u to v.
    value
        int, shape (num_nodes,): value of a path of one node.
    max_expansions
        After so many expanded nodes the search takes the best path it has.
    deadline
        A `time.perf_counter` reading, after which it gives up.
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

        Sources and successors are tried in ascending order and only a strictly heavier path replaces an earlier one,
        so ties fall as in the plain enumeration. Branches that cannot beat the best path are cut: a path gains no
        more than the best entry into each node still allowed.
        """
        best_value = -1
        best_path: tuple[int, ...] = ()
        for source in range(len(self._value)):
            if time.perf_counter() >= self._deadline:
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
                if time.perf_counter() >= self._deadline:
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
