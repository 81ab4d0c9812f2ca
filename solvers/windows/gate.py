"""The gate for windows: a word becomes a `WindowResult` here, or an error that names the method.

No figure of a method is taken on trust. The windows are laid out, and their value is computed again from the problem.
Values and bounds are sums of floating-point numbers, so they are compared up to ``problem.tolerance``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from problems import ProblemError
from problems.windows.decision import evaluate_windows
from problems.windows.problem import WindowProblem
from problems.windows.words import NOT_STORED, cells_of_word, windows_of_word
from solvers.common.errors import SolverError
from solvers.common.result import Status
from solvers.windows.result import WindowResult


def windows_result_of(
    problem: WindowProblem,
    word: tuple[int, ...],
    *,
    method: str,
    seconds: float,
    value: float | None = None,
    bound: float | None = None,
    allowed: np.ndarray | None = None,
    stats: dict[str, Any] | None = None,
) -> WindowResult:
    """Check a word, put every channel into its best cell, and make the result.

    Parameters
    ----------
    problem
        What was solved.
    word
        The word that was found.
    method, seconds, stats
        As in `WindowResult`.
    value
        What the method claims the word to be worth; None: nothing.
    bound
        What the method claims no windows to be below; None: nothing.
    allowed
        Boolean, shape (events + 1,): the cells that channels may have. Default: all.

    Raises
    ------
    SolverError
        If the word is none, its value is not the one claimed, or the bound lies above it. This is an error in the
        method, not in the problem.
    """
    try:
        cells = best_cells(problem, word, allowed)
        windows = windows_of_word(problem, word, cells)
        totals = evaluate_windows(problem, windows)
    except ProblemError as error:
        raise SolverError(f"method {method!r} returned no valid windows: {error}; please report this") from error
    tolerance = problem.tolerance
    if value is not None and not abs(value - totals.value) <= tolerance:
        raise SolverError(
            f"method {method!r} claims the value {value:.12g}, but its windows have {totals.value:.12g}; please report "
            "this"
        )
    if bound is not None and not bound <= totals.value + tolerance:
        raise SolverError(
            f"method {method!r} claims that no windows are below {bound:.12g}, but its own have {totals.value:.12g}; "
            "please report this"
        )
    bound = None if bound is None else min(bound, totals.value)
    optimal = bound is not None and totals.value - bound <= tolerance
    return WindowResult(
        problem=problem,
        word=tuple(int(access) for access in word),
        cells=cells,
        windows=windows,
        value=totals.value,
        loss=totals.loss,
        price=totals.price,
        bound=bound,
        status=Status.OPTIMAL if optimal else Status.FEASIBLE,
        method=method,
        seconds=seconds,
        stats=stats or {},
    )


def best_cells(problem: WindowProblem, word: tuple[int, ...], allowed: np.ndarray | None = None) -> np.ndarray:
    """Per channel the best cell of a word, or `NOT_STORED`. Ties: not stored, then the first cell.

    Raises
    ------
    ProblemError
        If the word is none, or lacks the cell of all accesses while a channel is full.
    """
    values = problem.values(cells_of_word(problem, word))
    if allowed is not None:
        values[~allowed] = np.inf
    cells = np.argmin(values, axis=0)
    least = values[cells, np.arange(problem.num_channels)]
    if not np.isfinite(least[problem.full]).all():
        raise ProblemError("a channel is full, but in this word not all accesses are open at once")
    cells[problem.dropped <= least] = NOT_STORED
    return cells
