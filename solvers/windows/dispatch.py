"""`choose_windows`: the windows of a stream, by local search, with a bound or a proof, through one gate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from problems import ProblemError
from problems.windows.problem import WindowProblem
from problems.windows.words import full_word, require_word
from solvers.common.arguments import require_problem, require_settings
from solvers.common.errors import SolverError
from solvers.showing.progress import shown_progress
from solvers.windows.brute_force import MOST_BITS as MOST_BRUTE_BITS
from solvers.windows.cells import TABLE_BITS, CellValues
from solvers.windows.projection import projected
from solvers.windows.result import WindowProgress, WindowResult
from solvers.windows.run import WindowRun

_PROOF_BITS = 8  # accesses: most that are not pinned for which `auto` looks for a proof; by hand


def choose_windows(
    problem: WindowProblem,
    method: str = "auto",
    *,
    time_limit: float = 10.0,
    seed: int = 0,
    start: Sequence[int] | None = None,
    progress: Callable[[WindowProgress], object] | bool | None = None,
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
        A function is called with a `WindowProgress` whenever a value or a bound has improved. None, True or
        False: where a line shows it (`problems.showing.progress`).

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
    with shown_progress("choose windows", progress, str) as tell:
        run = WindowRun(problem, begun, time_limit, seed, tell)
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


WINDOW_METHODS = ("auto", "local-search", "exact", "constrained", "brute-force")
"""The methods of `choose_windows`."""

_MOST_BITS = {"exact": TABLE_BITS, "brute-force": MOST_BRUTE_BITS}
