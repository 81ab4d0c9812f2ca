"""`choose_windows`: the windows of a stream, by local search, with a bound or a proof, through one gate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from problems import ProblemError
from problems.windows.problem import WindowProblem
from problems.windows.words import full_word, require_word
from solvers.common.arguments import require_problem, require_settings
from solvers.common.errors import SolverError
from solvers.windows.brute_force import MOST_BITS as MOST_BRUTE_BITS
from solvers.windows.brute_force import best_of_all_words
from solvers.windows.cells import TABLE_BITS, CellValues, cells_of, value_of
from solvers.windows.dual import DualBound, dual_bound
from solvers.windows.exact import search_paths
from solvers.windows.gate import windows_result_of
from solvers.windows.local_search import NUM_STARTS, WordSearch
from solvers.windows.projection import accesses_to_keep, projected
from solvers.windows.result import WindowProgress, WindowResult

_STATE_BITS = 10  # accesses: most that are not pinned for a dual bound over all of them: 300 steps take 3 to 4 s
_KEPT_BITS = 9  # accesses: that the bound of a larger problem is projected onto; by hand
_PROOF_BITS = 8  # accesses: most that are not pinned for which `auto` looks for a proof; by hand
_SEARCH_SHARE = 0.5  # share: of the time limit for the local search, if anything follows; by hand
_PROJECTION_SHARE = (
    0.8  # share: of the time left for projecting values, if there are too many accesses for a table; by hand
)
_DUAL_SHARE = 0.6  # share: of the time left for the dual bound, if branch and bound follows; by hand


def choose_windows(
    problem: WindowProblem,
    method: str = "auto",
    *,
    time_limit: float = 10.0,
    seed: int = 0,
    start: Sequence[int] | None = None,
    progress: Callable[[WindowProgress], None] | None = None,
) -> WindowResult:
    """An order of the channels, and a contiguous range per access, of small loss and price.

    Parameters
    ----------
    problem
        The problem.
    method
        ``"auto"`` (the default): local search, the dual bound, and for up to 8 accesses that are not pinned branch and
        bound. ``"local-search"``: no bound. ``"exact"``: as `auto`, for up to 12 accesses. ``"constrained"``: every
        window is full, so it is the best choice of one width; its bound is that of free sets if there are at most 12
        accesses. ``"brute-force"``: all words of up to 5 accesses.
    time_limit
        Seconds. `constrained` and `brute-force` have none. Setting up takes some more: with 20 accesses and 2048
        channels a move of the local search, which is not interrupted, takes about a second. Default 10.
    seed
        Of the random generator. The same seed gives the same result, unless time runs out.
    start
        A word to start from, for example `WindowResult.word` under other prices. The result is not worse than it. The
        local search then starts there and from full windows only.
    progress
        Called with a `WindowProgress` whenever a value or a bound has improved.

    Raises
    ------
    SolverError
        If the method is unknown or cannot be used for so many accesses, a parameter is out of its range, or the start
        is no word.

    Notes
    -----
    Along the stored channels every window opens once and closes once. So the optimum is the minimum over words of
    ``sum_c min over the word's cells C of V_c(C)``; docs/windows.md proves it.

    Examples
    --------
    >>> from problems.windows.generators import random_windows
    >>> problem = random_windows(12, 4)
    >>> result = choose_windows(problem)
    >>> result.status.name, choose_windows(problem, "constrained").value >= result.value
    ('OPTIMAL', True)
    """
    begun = time.perf_counter()
    require_problem(problem, WindowProblem)
    require_settings(method=method, time_limit=time_limit, seed=seed, progress=progress)
    if method not in WINDOW_METHODS:
        raise SolverError(f"there is no method {method!r}; choose one of {', '.join(WINDOW_METHODS)}")
    size = len(problem.free)
    if method in _MOST_BITS and size > _MOST_BITS[method]:
        raise SolverError(
            f"method {method!r} takes at most {_MOST_BITS[method]} accesses that are not pinned, not {size}; use 'auto'"
        )
    try:
        first = [] if start is None else [require_word(problem, start)]
    except ProblemError as error:
        raise SolverError(f"start: {error}") from error
    run = _Run(problem, begun, time_limit, seed, progress)
    if method == "constrained":
        run.take_full_windows()
    elif method == "brute-force":
        run.look_at_all_words()
    else:
        run.search([*first, full_word(problem)], alone=method == "local-search")
        if method != "local-search":
            run.bound_and_prove(prove=method == "exact" or size <= _PROOF_BITS)
    return run.result(method)


def windows_bound(problem: WindowProblem, *, time_limit: float = 10.0) -> float:
    """The bound of free sets: every access holds whichever channels it likes, contiguous or not.

    ``sum_c min_C V_c(C)``. Where time runs out, and with more than 22 accesses that are not pinned, losses of the
    channels that are left are bounded by 0.

    Parameters
    ----------
    problem
        The problem.
    time_limit
        Seconds. With 20 accesses about 20 ms per channel are needed. Default 10.

    Raises
    ------
    SolverError
        If a parameter is out of its range.
    """
    begun = time.perf_counter()
    require_problem(problem, WindowProblem)
    require_settings(time_limit=time_limit)
    values = CellValues(problem)
    return projected(problem, values.expansion, [], values.always, begun + time_limit).free_sets


class _Run:
    """One call of `choose_windows`: what is known so far."""

    def __init__(
        self,
        problem: WindowProblem,
        begun: float,
        time_limit: float,
        seed: int,
        progress: Callable[[WindowProgress], None] | None,
    ) -> None:
        self._problem, self._begun, self._progress = problem, begun, progress
        self._time_limit, self._rng = time_limit, np.random.default_rng(seed)
        self._values = CellValues(problem)
        self._word = full_word(problem)
        self._value: float | None = None
        self._bound: float | None = None
        self._allowed: np.ndarray | None = None
        self._stats: dict[str, Any] = {}

    def take_full_windows(self) -> None:
        """All windows hold every stored channel."""
        size = len(self._problem.free)
        self._allowed = np.arange(2 * size + 1) == size
        if self._values.has_table:
            self._bound = float(np.minimum(self._values.table.min(axis=0), self._values.always).sum())

    def look_at_all_words(self) -> None:
        """The best of all words."""
        events = best_of_all_words(self._values)
        value = value_of(self._values, events)
        self._take(events, value)
        self._raise_bound(value)

    def search(self, starts: Sequence[tuple[int, ...]], *, alone: bool) -> None:
        """Local search."""
        share = 1.0 if alone else _SEARCH_SHARE
        search = WordSearch(self._values, self._rng, self._begun + share * self._time_limit, self._report_value)
        search.run([self._values.events_of(word) for word in starts], NUM_STARTS if len(starts) == 1 else 0)
        self._take(search.events, search.value)

    def bound_and_prove(self, *, prove: bool) -> None:
        """The dual bound, and then branch and bound."""
        problem, values = self._problem, self._values
        size = len(values.bits)
        deadline = self._begun + self._time_limit
        whole = size <= _STATE_BITS or prove
        prove = prove and values.has_table
        if whole and values.has_table:
            table, always = values.table, values.always
            self._stats["bounded accesses"] = size
        else:
            kept = accesses_to_keep(problem, values.expansion, _KEPT_BITS, values.always)
            until = (1 - _PROJECTION_SHARE) * time.perf_counter() + _PROJECTION_SHARE * deadline
            projection = projected(problem, values.expansion, kept, values.always, until)
            table, always = projection.table, projection.always
            self._stats |= {"bounded accesses": len(kept), "bounded channels": projection.num_exact}
        least = float(np.minimum(table.min(axis=0), always).sum())
        self._stats["free sets"] = least
        self._raise_bound(least)
        now = time.perf_counter()
        dual = self._dual(table, always, now + (deadline - now) * (_DUAL_SHARE if prove else 1.0))
        if prove and self._value is not None and self._bound is not None:
            events = values.events_of(self._word)
            if self._value - self._bound <= problem.tolerance:
                return
            found = search_paths(
                table,
                always,
                dual.potentials,
                events,
                self._value,
                tolerance=problem.tolerance,
                deadline=deadline,
                report=self._report_value,
            )
            self._take(found.events, found.value)
            self._raise_bound(found.bound)
            self._stats["nodes"] = found.num_nodes

    def _dual(self, table: np.ndarray, always: np.ndarray, deadline: float) -> DualBound:
        events = self._values.events_of(self._word)
        costs = np.minimum(self._values.of(cells_of(events)).min(axis=0), self._values.always)
        dual = dual_bound(
            table,
            always,
            costs,
            float(costs.sum()),
            tolerance=self._problem.tolerance,
            deadline=deadline,
            report=self._raise_bound,
        )
        self._stats["dual bound"] = dual.bound
        return dual

    def result(self, method: str) -> WindowResult:
        """The result, through the gate."""
        return windows_result_of(
            self._problem,
            self._word,
            method=method,
            seconds=time.perf_counter() - self._begun,
            value=self._value,
            bound=self._bound,
            allowed=self._allowed,
            stats=self._stats,
        )

    def _take(self, events: list[int], value: float) -> None:
        self._word, self._value = self._values.word_of(events), value

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


WINDOW_METHODS = ("auto", "local-search", "exact", "constrained", "brute-force")
"""The methods of `choose_windows`."""

_MOST_BITS = {"exact": TABLE_BITS, "brute-force": MOST_BRUTE_BITS}
