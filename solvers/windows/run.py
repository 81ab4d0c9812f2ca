"""One call of `choose_windows`: what is known so far, and the methods that add to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from problems.windows.problem import WindowProblem
from problems.windows.words import full_word
from solvers.windows.brute_force import best_of_all_words
from solvers.windows.cells import CellValues, cells_of, value_of
from solvers.windows.dual import dual_bound
from solvers.windows.exact import search_paths
from solvers.windows.gate import windows_result_of
from solvers.windows.local_search import NUM_STARTS, WordSearch
from solvers.windows.projection import accesses_to_keep, projected
from solvers.windows.result import WindowProgress, WindowResult

_STATE_BITS = 10  # accesses: most that are not pinned for a dual bound over all of them: 300 steps take 3 to 4 s
_KEPT_BITS = 9  # accesses: that the bound of a larger problem is projected onto; by hand
_SEARCH_SHARE = 0.5  # share: of the time limit for the local search, if anything follows; by hand
_PROJECTION_SHARE = 0.8  # share: of the time left for projecting values, if there is no table of all cells; by hand
_DUAL_SHARE = 0.6  # share: of the time left for the dual bound, if branch and bound follows; by hand


class WindowRun:
    """The best word and the best bound of one call.

    Parameters
    ----------
    problem
        What is solved.
    begun
        The reading of ``time.perf_counter`` at the start of the call.
    time_limit, seed, progress
        As in `solvers.windows.dispatch.choose_windows`.
    """

    def __init__(
        self,
        problem: WindowProblem,
        begun: float,
        time_limit: float,
        seed: int,
        progress: Callable[[WindowProgress], object] | None,
    ) -> None:
        self._problem, self._begun, self._progress = problem, begun, progress
        self._time_limit, self._rng = time_limit, np.random.default_rng(seed)
        self._values = CellValues(problem)
        self._events = self._values.events_of(full_word(problem))
        self._value: float | None = None
        self._bound: float | None = None
        self._allowed: np.ndarray | None = None
        self._stats: dict[str, Any] = {}

    def take_full_windows(self) -> None:
        """All windows hold every stored channel."""
        size = len(self._values.bits)
        self._allowed = np.arange(2 * size + 1) == size
        if self._values.has_table:
            self._raise_bound(float(np.minimum(self._values.table.min(axis=0), self._values.always).sum()))

    def look_at_all_words(self) -> None:
        """The best of all words."""
        self._events = best_of_all_words(self._values)
        value = value_of(self._values, self._events)
        self._report_value(value)
        self._raise_bound(value)

    def search(self, starts: Sequence[tuple[int, ...]], *, alone: bool) -> None:
        """Local search from some words. If it is not `alone`, it leaves time for the bound."""
        share = 1.0 if alone else _SEARCH_SHARE
        search = WordSearch(self._values, self._rng, self._begun + share * self._time_limit, self._report_value)
        search.run([self._values.events_of(word) for word in starts], NUM_STARTS if len(starts) == 1 else 0)
        self._events, self._value = search.events, search.value

    def bound_and_prove(self, *, prove: bool) -> None:
        """The dual bound; then branch and bound, if `prove` and there is a table of all cells."""
        values, tolerance = self._values, self._problem.tolerance
        deadline = self._begun + self._time_limit
        exact = values.has_table and (prove or len(values.bits) <= _STATE_BITS)
        table, always = (values.table, values.always) if exact else self._projected(deadline)
        self._stats["bounded accesses"] = int(table.shape[0]).bit_length() - 1
        self._stats["free sets"] = float(np.minimum(table.min(axis=0), always).sum())
        self._raise_bound(self._stats["free sets"])
        costs = np.minimum(values.of(cells_of(self._events)).min(axis=0), values.always)
        value = float(costs.sum())
        now = time.perf_counter()
        until = now + (deadline - now) * (_DUAL_SHARE if prove and exact else 1.0)
        dual = dual_bound(table, always, costs, value, tolerance=tolerance, deadline=until, report=self._raise_bound)
        self._stats["dual bound"] = dual.bound
        if not exact:
            return
        if dual.value < value - tolerance:
            self._events, value = dual.events, dual.value
            self._report_value(value)
        if not prove or value - dual.bound <= tolerance:
            return
        found = search_paths(
            table,
            always,
            dual.potentials,
            self._events,
            value,
            tolerance=tolerance,
            deadline=deadline,
            report=self._report_value,
        )
        self._events, self._value = found.events, found.value
        self._raise_bound(found.bound)
        self._stats["nodes"] = found.num_nodes

    def result(self, method: str) -> WindowResult:
        """The result, through the gate."""
        return windows_result_of(
            self._problem,
            self._values.word_of(self._events),
            method=method,
            seconds=time.perf_counter() - self._begun,
            value=self._value,
            bound=self._bound,
            allowed=self._allowed,
            stats=self._stats,
        )

    def _projected(self, deadline: float) -> tuple[np.ndarray, np.ndarray]:
        """Lower bounds of the values of the cells of some accesses, and of what every word offers."""
        values = self._values
        kept = accesses_to_keep(self._problem, values.expansion, _KEPT_BITS, values.always)
        now = time.perf_counter()
        until = now + (deadline - now) * _PROJECTION_SHARE
        projection = projected(self._problem, values.expansion, kept, values.always, until)
        self._stats["bounded channels"] = projection.num_exact
        return projection.table, projection.always

    def _raise_bound(self, bound: float) -> None:
        if self._bound is None or bound > self._bound:
            self._bound = bound
            self._report()

    def _report_value(self, value: float) -> None:
        self._value = value
        self._report()

    def _report(self) -> None:
        if self._progress is not None:
            self._progress(WindowProgress(time.perf_counter() - self._begun, self._value, self._bound))
