"""One tiny instance, all solvers, and the checks of every answer.

The oracle's values count as true. The checks compare with them the order, its value, the bound, the status and every
claim of the proof. A solver may refuse a problem if it says what to do instead; that is no contradiction, except for
`auto`. Any other error is a contradiction.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from oracles import CpSatDirect, CpSatEvents, Milp, PlacedSets

from benchmarks.agreement.instances import described, orders_at_random, random_document, random_goals
from benchmarks.agreement.oracle import GOALS, Goal, Oracle
from problems import (
    Objective,
    Order,
    Problem,
    ProblemError,
    evaluate,
    evaluate_batch,
    instance_from_dict,
    instance_to_dict,
    objective_named,
)
from problems.checker.proof_checks import Standing, check_proof
from problems.proof_files import proof_from_dict, proof_to_dict
from solvers import Auto, LargeNeighbourhoods, LocalSearch, Result, SolverError, Status, solve
from solvers.arranging import Arranging
from solvers.common.bounds import trivial_bound
from solvers.common.task import Solver
from solvers.registry import solver_named

QUICK: tuple[str | Solver, ...] = (
    *("identity", "greedy", "brute-force", "pair-of-chains", "beam"),
    *(PlacedSets(), LocalSearch(patience=2), LargeNeighbourhoods(patience=3, first=LocalSearch(patience=1))),
)
"""Solvers that take milliseconds. Each solves a share of the cases; `auto` solves all."""

SLOW: tuple[str | Solver, ...] = (
    *("cp-sat", CpSatDirect(), CpSatEvents(), Milp()),
    *(Arranging(Auto(), few=0), Arranging(CpSatDirect(), few=0)),
)
"""Solvers of which at most one solves a case: CP-SAT and HiGHS take ten times as long."""

QUICK_SHARE, SLOW_SHARE, PROOF_SHARE, HINT_SHARE = 0.4, 0.35, 0.3, 0.3
NUM_GOALS = 2
TIME_LIMIT = 2.0
"""Time limit in seconds per answer. An answer that was cut off must pass the same checks."""


@dataclass(frozen=True)
class Contradiction:
    """A false statement: what, for which objective, and by which solver."""

    objective: str
    who: str
    text: str

    def __str__(self) -> str:
        return f"{self.objective}, {self.who}: {self.text}"


@dataclass
class Outcome:
    """The outcome of one instance.

    Attributes
    ----------
    document
        The instance.
    contradictions
        The false statements; should be empty.
    counts
        Number of answers that were given, refused, proven optimal, ...
    """

    document: dict[str, Any]
    contradictions: list[Contradiction] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def check_seed(seed: int, *, num_goals: int = NUM_GOALS) -> Outcome:
    """Draw the instance of a seed, solve it for some objectives, and compare."""
    document = random_document(seed)
    outcome = Outcome(document)
    oracle, rng = Oracle(document), np.random.default_rng([seed, 2])
    try:
        problem = instance_from_dict(document)
        if instance_from_dict(instance_to_dict(problem)) != problem:
            outcome.contradictions.append(Contradiction("any", "instance file", "is another instance once written"))
    except ProblemError as error:
        outcome.contradictions.append(Contradiction("any", "instance file", f"is refused: {error}"))
        return outcome
    for name, goal in random_goals(document, seed, num_goals):
        custom = name not in GOALS
        objective = Objective(name, alpha=goal.alpha, gamma=goal.gamma) if custom else objective_named(name)
        label = f"{name} ({described(goal)})" if custom else name
        truth = oracle.least(goal)
        for who, text in _flaws(oracle, problem, goal, objective, truth, outcome.counts, rng):
            outcome.contradictions.append(Contradiction(label, who, text))
    return outcome


def _flaws(
    oracle: Oracle,
    problem: Problem,
    goal: Goal,
    objective: Objective,
    truth: Fraction,
    counts: Counter[str],
    rng: np.random.Generator,
) -> Iterator[tuple[str, str]]:
    """The false statements about one objective, with the solver that made each."""
    hint = None
    for _ in range(3):
        orders, arrangement = orders_at_random(oracle, rng)
        hint = Order(orders, arrangement)
        yield from (("evaluate", text) for text in _misjudged(oracle, problem, goal, objective, hint))
    ticks = evaluate(problem, Order.identity(problem), objective).ticks
    if Fraction(trivial_bound(problem, objective), ticks) > truth:
        yield "trivial bound", f"{trivial_bound(problem, objective)} / {ticks}, but the optimum is {truth}"
    for solver in _asked(rng):
        chosen = solver_named(solver)
        who = solver if isinstance(solver, str) else repr(solver)
        given = hint if rng.random() < HINT_SHARE else None
        proof = bool(rng.random() < PROOF_SHARE)
        proof = proof and not (problem.bundles or problem.constraints)  # there is no form for these proofs
        seed = int(rng.integers(1000))
        try:
            result = solve(
                problem, solver=chosen, objective=objective, time_limit=TIME_LIMIT, seed=seed, hint=given, proof=proof
            )
        except SolverError as error:
            if "please report" in str(error) or who == "auto":
                yield who, str(error)
            counts["refused"] += 1
            continue
        except Exception as error:
            yield who, f"raises {type(error).__name__}: {error}"
            continue
        counts["answers"] += 1
        counts["optimal"] += result.status is Status.OPTIMAL
        if who == "auto":
            counts["auto open"] += result.status is not Status.OPTIMAL
        yield from ((who, text) for text in _false(oracle, goal, result, truth))
        hinted = given is not None and who not in ("greedy", "identity")
        if hinted and result.value > evaluate(problem, given, objective).value:
            yield who, f"{result.value} is worse than its hint"
        if result.proof is not None:
            counts["proofs"] += 1
            if proof_from_dict(proof_to_dict(result.proof)) != result.proof:
                yield who, "its proof is another one once written"
            for statement in check_proof(problem, result.proof):
                if statement.standing is Standing.WRONG:
                    yield who, f"its proof is refused: {statement}"


def _asked(rng: np.random.Generator) -> list[str | Solver]:
    """`auto`, some of the quick solvers, and at most one slow solver."""
    asked = ["auto", *(solver for solver in QUICK if rng.random() < QUICK_SHARE)]
    return [*asked, SLOW[rng.integers(len(SLOW))]] if rng.random() < SLOW_SHARE else asked


def _misjudged(oracle: Oracle, problem: Problem, goal: Goal, objective: Objective, order: Order) -> Iterator[str]:
    """The differences between `problems.evaluate` and the oracle."""
    found = evaluate(problem, order, objective)
    expected = oracle.costs(*_plain(order), goal)
    for a, (cost, (span, runs, price)) in enumerate(zip(found.accesses, expected)):
        if (cost.span, cost.runs, Fraction(cost.cost, found.ticks)) != (span, runs, price):
            yield f"access {a}: {cost}, not span {span}, {runs} runs, cost {price}"
    if found.value != sum(cost.cost for cost in found.accesses):
        yield "the value is not the sum of the costs"
    if not order.arrangement:
        batch = evaluate_batch(problem, [own[np.newaxis] for own in order.channels], objective)
        if batch.tolist() != [found.value]:
            yield f"evaluate_batch says {batch.tolist()}, evaluate {found.value}"


def _false(oracle: Oracle, goal: Goal, result: Result, truth: Fraction) -> Iterator[str]:
    """The false statements of a result."""
    ticks = result.evaluation.ticks
    value = Fraction(result.value, ticks)
    try:
        own = oracle.cost(*_plain(result.order), goal)
    except ValueError as error:
        yield str(error)
        return
    if own != value:
        yield f"says {value}, its order costs {own}"
    if value < truth:
        yield f"says {value}, below the optimum {truth}"
    if result.bound is not None and Fraction(result.bound, ticks) > truth:
        yield f"bound {Fraction(result.bound, ticks)} is above the optimum {truth}, value {value}, {result.status}"
    if result.status is Status.OPTIMAL and value != truth:
        yield f"OPTIMAL {value}, but the optimum is {truth}"


def _plain(order: Order) -> tuple[list[list[int]], list[list[int]]]:
    return [own.tolist() for own in order.channels], [own.tolist() for own in order.arrangement]
