"""Objectives in a given order: the second is minimised among the best orders for the first, and so on.

Every search after the first minimises a weighted sum of objectives (`problems.combined`). Its factors are so large
that a unit of an objective outweighs everything behind it. So any solver that knows cost tables can be asked.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from problems import Objective, Order, Problem, ProblemError, evaluate, in_units, objective_named
from problems.combined import Term, combined
from problems.showing.reprs import shown
from solvers.common.arguments import require_problem, require_settings
from solvers.common.bounds import trivial_bound
from solvers.common.errors import SolverError
from solvers.common.result import Result, Status
from solvers.common.task import Finding, Solver
from solvers.dispatch import solve
from solvers.gate import result_of

_ALONE_SHARE = 0.3  # share: of the time of an objective, for a bound without regard to those before it; by hand


@shown
@dataclass(frozen=True)
class LexicographicResult:
    """An order that is good for several objectives, the first of which counts most.

    Attributes
    ----------
    results
        One per objective, all with the same order. The bound of the first holds for all orders. The bound of a later
        one holds for the orders that are not worse than this one for any objective before it.
    searches
        The solves as they ran: the first objective's, then those of weighted sums. `Result.problem` is the problem that
        was solved, and `Result.proof` one of it.
    alone
        The solves of the second objective and of those behind it, each for itself; their bounds hold for all orders.
    """

    results: tuple[Result, ...]
    searches: tuple[Result, ...]
    alone: tuple[Result, ...] = ()

    @property
    def order(self) -> Order:
        """The order."""
        return self.results[0].order

    @property
    def values(self) -> tuple[int, ...]:
        """Its value for every objective; for tables in ticks."""
        return tuple(result.value for result in self.results)

    @property
    def status(self) -> Status:
        """OPTIMAL if every objective's bound meets its value: then no order is better for the objectives in turn."""
        proven = all(result.status is Status.OPTIMAL for result in self.results)
        return Status.OPTIMAL if proven else Status.FEASIBLE

    def __str__(self) -> str:
        return "; ".join(_said(result, k, self.results[:k]) for k, result in enumerate(self.results))


def solve_lexicographic(
    problem: Problem,
    objectives: Sequence[str | Objective],
    *,
    solver: str | Solver = "auto",
    time_limit: float = 10.0,
    seed: int = 0,
    hint: Order | Sequence[Order] | None = None,
    proof: bool = False,
    workers: int | None = None,
) -> LexicographicResult:
    """Minimise the first objective, then the second among the best orders for the first, and so on.

    If the first is not proven optimal in time, the second is minimised among the orders that are not worse than the
    best one found; a search may then find a better value of the first, too.

    Parameters
    ----------
    problem
        The problem.
    objectives
        Names or `problems.Objective`, each once; the one that counts most comes first.
    solver
        As for `solve`. All but the first search minimise costs from tables; those with `runs` among the objectives
        count runs in pieces, which only `auto` and `brute-force` place exactly.
    time_limit
        Seconds for everything. Every objective gets an equal share of what is left. A part of it goes to a search for
        the objective by itself, whose bound holds for all orders.
    seed, hint, proof, workers
        As for `solve`. Proofs are those of the searches.

    Returns
    -------
    LexicographicResult
        The order, with value, bound and status for every objective.

    Raises
    ------
    SolverError
        As for `solve`; if there is no objective, or one occurs twice; or if the values are too large to be added up
        exactly.
    SolveInterrupted
        On Ctrl-C: its result is that of the search at hand, whose order is one of the problem.
    problems.ProblemError
        If an objective is unknown, or needs cost tables that an access lacks.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> problem = random_masks(24, 4, seed=1)
    >>> solve(problem, objective="copies").evaluation.span
    72
    >>> result = solve_lexicographic(problem, ("copies", "span"))
    >>> result.values, str(result.status), result.results[1].evaluation.span
    ((24, 10), 'OPTIMAL', 58)
    """
    require_problem(problem)
    require_settings(time_limit=time_limit)
    goals = _goals(problem, objectives)
    deadline = time.perf_counter() + time_limit
    search = partial(solve, solver=solver, seed=seed, proof=proof, workers=workers)
    searches = [search(problem, objective=goals[0], hint=hint, time_limit=time_limit / len(goals))]
    alone: list[Result] = []
    terms = [[Term(goals[0], 1)]]
    least = [trivial_bound(problem, goal) for goal in goals]
    order = searches[0].order
    known = [hint] if isinstance(hint, Order) else list(hint or ())
    for k in range(1, len(goals)):
        left = max(deadline - time.perf_counter(), time_limit / 100) / (len(goals) - k)
        hints = [order, *known]
        alone.append(search(problem, objective=goals[k], hint=hints, time_limit=_ALONE_SHARE * left))
        least[k] = max(least[k], alone[-1].bound or 0)
        order = min((order, alone[-1].order), key=lambda own: _values(problem, goals, own))
        found = _results(problem, goals, order, terms, searches, least)
        terms.append(_terms(_values(problem, goals, order), goals[: k + 1], least))
        try:
            both = combined(problem, terms[k])
        except ProblemError as error:
            raise SolverError(
                f"the objectives {', '.join(goal.name for goal in goals[: k + 1])} cannot be added up exactly: {error}"
            ) from error
        bound = _least(terms[k], found, least)
        left = max(deadline - time.perf_counter(), time_limit / 100) / (len(goals) - k)
        searches.append(search(both, objective="latency", hint=[order, *known], lower_bound=bound, time_limit=left))
        order = min((order, searches[k].order), key=lambda own: _values(problem, goals, own))
    results = _results(problem, goals, order, terms, searches, least)
    return LexicographicResult(tuple(results), tuple(searches), tuple(alone))


def _goals(problem: Problem, objectives: Sequence[str | Objective]) -> list[Objective]:
    if isinstance(objectives, (str, Objective)) or not isinstance(objectives, Sequence) or not objectives:
        raise SolverError(f"the objectives are {objectives!r}; give a list of them, the most important one first")
    goals = [objective_named(objective) for objective in objectives]
    if len(set(goals)) < len(goals):
        raise SolverError(f"an objective occurs twice in {[goal.name for goal in goals]}; give each once")
    for goal in goals:
        evaluate(problem, Order.identity(problem), goal)  # refuses accesses without tables before any work
    return goals


def _values(problem: Problem, goals: Sequence[Objective], order: Order) -> tuple[int, ...]:
    return tuple(evaluate(problem, order, goal).value for goal in goals)


def _terms(values: Sequence[int], goals: Sequence[Objective], least: Sequence[int]) -> list[Term]:
    """Factors by which a unit of an objective outweighs what the objectives behind it could save."""
    terms: list[Term] = []
    outweighed = 0
    for goal, value, bound in reversed(list(zip(goals, values, least))):
        terms.insert(0, Term(goal, outweighed + 1))
        outweighed += terms[0].factor * (value - bound)
    return terms


def _least(terms: Sequence[Term], found: Sequence[Result], least: Sequence[int]) -> int:
    """A bound on the weighted sum: proven values, the bound of the objective after them, bounds for all orders."""
    proven = [result.status is Status.OPTIMAL for result in found]
    first_open = proven.index(False) if False in proven else len(found)
    total = 0
    for k, (term, bound) in enumerate(zip(terms, least)):
        own = found[k].bound if k <= first_open and k < len(found) else None
        total += term.factor * (bound if own is None else own)
    return total


def _results(
    problem: Problem,
    goals: Sequence[Objective],
    order: Order,
    terms: Sequence[Sequence[Term]],
    searches: Sequence[Result],
    least: Sequence[int],
) -> list[Result]:
    """What is known of an order for every objective that was searched for.

    Let B bound the sum of factor times value. Orders that are not worse than this one for the objectives before pay at
    least B less the factors times the values of this one.
    """
    values = _values(problem, goals, order)
    results = []
    for k, (own, search) in enumerate(zip(terms, searches, strict=True)):
        bound = least[k]
        if search.bound is not None:
            before = sum(term.factor * value for term, value in zip(own[:k], values))
            bound = max(bound, search.bound - before)
        result = result_of(
            problem,
            goals[k],
            Finding(order, bound, stats=search.stats),
            solver=search.solver,
            runtime=search.runtime,
            stop_reason=search.stop_reason,
            seed=search.seed,
        )
        results.append(dataclasses.replace(result, proof=search.proof) if k == 0 else result)
    return results


def _said(result: Result, k: int, before: Sequence[Result]) -> str:
    """An objective in a line: what its bound is worth depends on those before it."""
    value = in_units(result.value, result.evaluation.ticks)
    if k == 0:
        among = ""
    elif all(own.status is Status.OPTIMAL for own in before):
        among = " among the best orders before"
    else:
        among = " among orders not worse than the best found before"
    bound = "no bound" if result.bound is None else f"bound {in_units(result.bound, result.evaluation.ticks)}"
    return f"{result.evaluation.objective} {value} {result.status} ({bound}){among}"
