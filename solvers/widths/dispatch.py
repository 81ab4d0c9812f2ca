"""`choose_widths`: one width per block, by any method, through one gate."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from fractions import Fraction

from problems.widths.problem import WidthProblem
from solvers.common.arguments import require_settings
from solvers.common.errors import SolverError
from solvers.showing.progress import shown_progress
from solvers.widths.baselines import halp, spdy, uniform
from solvers.widths.branching import WidthSearch
from solvers.widths.brute_force import look_at_all
from solvers.widths.gate import width_result_of
from solvers.widths.incumbent import WidthIncumbent
from solvers.widths.result import WidthProgress, WidthResult

DEFAULT_SECONDS = 60.0  # seconds: of a search; by hand


def choose_widths(
    problem: WidthProblem,
    method: str = "auto",
    *,
    time_limit: float = DEFAULT_SECONDS,
    seed: int = 0,
    progress: Callable[[WidthProgress], object] | bool | None = None,
) -> WidthResult:
    """One width per block within the budget, of as little loss as the method finds.

    Ctrl-C ends the search; the best choice so far is returned if there is one.

    Parameters
    ----------
    problem
        The problem.
    method
        ``"auto"`` (the default: a Lagrangian bound, then an exact search until the time limit), ``"lagrangian"`` (the
        bound and a local search), ``"cp-sat"``, ``"brute-force"``, or a published method that proves nothing:
        ``"uniform"``, ``"halp"``, ``"mdp"``, ``"spdy"``.
    time_limit
        Seconds. It is kept but for the step that is under way. Default 60.
    seed
        For `cp-sat`.
    progress
        A function is called at every better choice or bound. None, True or False: where a line shows loss and bound
        (`problems.showing.progress`).

    Raises
    ------
    UnreachableSpeedupError
        If no choice keeps the budget. It states the largest speedup that one can have, or a bound on it.
    SolverError
        If the method is unknown, a setting is out of its range, or no choice was found in time.

    Examples
    --------
    >>> from problems.widths.generators import residual_network
    >>> problem = residual_network(streams=(64, 128), depths=(2, 2), speedup=2.0)
    >>> found = choose_widths(problem)
    >>> found.status.value, found.bound == found.loss, found.speedup >= 2
    ('OPTIMAL', True, True)
    """
    if not isinstance(problem, WidthProblem):
        raise SolverError(f"problem is of type {type(problem).__name__}; give a problems.widths.problem.WidthProblem")
    require_settings(method=method, time_limit=time_limit, seed=seed, progress=progress)
    if method not in _METHODS:
        raise SolverError(f"there is no method {method!r}; choose one of {', '.join(_METHODS)}")
    with shown_progress("choose widths", progress, str) as tell:
        return _chosen(problem, method, time_limit, seed, tell)


def _chosen(
    problem: WidthProblem, method: str, time_limit: float, seed: int, progress: Callable[[WidthProgress], object]
) -> WidthResult:
    begin = time.perf_counter()
    incumbent = WidthIncumbent(problem, deadline=begin + time_limit, seed=seed, progress=progress)
    try:
        _METHODS[method](incumbent)
    except KeyboardInterrupt:
        if incumbent.choice is None:
            raise
    if incumbent.choice is None:
        raise SolverError(f"{method}: no choice within the budget in {time_limit:g} s; give more time, or use 'auto'")
    return width_result_of(
        problem,
        incumbent.choice,
        bound=incumbent.bound,
        method=method,
        seconds=time.perf_counter() - begin,
        certificate=incumbent.certificate,
    )


def least_time(problem: WidthProblem) -> int:
    """The least time that a choice can have, in nanoseconds, the fixed ones included.

    ``base / least_time`` is the largest speedup that can be asked for. If the structure is too large for an exact
    elimination, this is a bound: no choice takes less.
    """
    from solvers.widths.elimination import Elimination, Tree, Weights
    from solvers.widths.factors import graph_of
    from solvers.widths.relaxing import eliminable

    graph, buckets = eliminable(graph_of(problem))
    fastest = Elimination(Tree(graph, buckets), Weights(graph, None))
    return problem.fixed + fastest.least


def widths_at(problem: WidthProblem, multiplier: float) -> tuple[int, ...]:
    """The choice of least ``loss + multiplier * time``, whatever the budget is.

    If the structure is too large for an exact elimination, the choice is a good one, not always the best.

    Parameters
    ----------
    problem
        The problem.
    multiplier
        Units of loss per nanosecond, at least 0.

    Raises
    ------
    SolverError
        If the multiplier is no number of at least 0.

    Examples
    --------
    >>> from problems.widths.generators import residual_network
    >>> problem = residual_network(streams=(64, 128), depths=(2, 2), speedup=2.0)
    >>> widths_at(problem, 0.0) == problem.full_choice
    True
    """
    from solvers.widths.elimination import Elimination, Tree, Weights
    from solvers.widths.factors import graph_of
    from solvers.widths.relaxing import eliminable

    if not (math.isfinite(multiplier) and multiplier >= 0):
        raise SolverError(f"the multiplier is {multiplier}; give a number of at least 0")
    graph, buckets = eliminable(graph_of(problem))
    found = Elimination(Tree(graph, buckets), Weights(graph, Fraction(multiplier)))
    return tuple(found.assignment()[: problem.num_blocks])


def _auto(incumbent: WidthIncumbent) -> None:
    search = WidthSearch(incumbent)
    search.bound_and_fill(pairs=search.relaxed)
    search.close()


def _lagrangian(incumbent: WidthIncumbent) -> None:
    WidthSearch(incumbent).bound_and_fill()


def _cp_sat(incumbent: WidthIncumbent) -> None:
    from solvers.widths.width_model import solve_model

    solve_model(incumbent)


def _mdp(incumbent: WidthIncumbent) -> None:
    from solvers.widths.outer_approximation import approximate

    approximate(incumbent)


_METHODS: dict[str, Callable[[WidthIncumbent], None]] = {
    "auto": _auto,
    "lagrangian": _lagrangian,
    "cp-sat": _cp_sat,
    "brute-force": look_at_all,
    "uniform": uniform,
    "halp": halp,
    "mdp": _mdp,
    "spdy": spdy,
}
WIDTH_METHODS = tuple(_METHODS)
