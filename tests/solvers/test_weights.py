"""Proves that solvers, proofs and models treat an access with a weight as so many equal accesses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from solver_instances import one_block, several_blocks

from problems import OBJECTIVES, Objective, Order, Problem, ProblemError, evaluate
from problems.checker.proof_checks import Standing, check_proof
from problems.generators import with_tables
from solvers import SolverError, solve, trivial_bound
from solvers.explaining import explained

GOALS = list(OBJECTIVES.values())
EXACT = ("brute-force", "cp-sat", "auto")
SOLVERS = (*EXACT, "identity", "greedy", "pair-of-chains", "local-search", "beam", "lns")


def weighted(problem: Problem, seed: int) -> Problem:
    rng = np.random.default_rng(seed)
    return replace(problem, accesses=tuple(replace(own, weight=int(rng.integers(1, 4))) for own in problem.accesses))


def repeated(problem: Problem) -> Problem:
    accesses = []
    for access in problem.accesses:
        accesses += [replace(access, name=f"{access.name}.{k}", weight=1) for k in range(access.weight)]
    return Problem(problem.blocks, tuple(accesses), problem.name)


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.name)
@pytest.mark.parametrize("seeds", [range(1, 3), pytest.param(range(3, 40), marks=pytest.mark.slow)], ids=str)
def test_all_solvers_agree_with_repeated_accesses(goal: Objective, seeds: range) -> None:
    for seed in seeds:
        make = (one_block, several_blocks)[seed % 2]
        problem = weighted(with_tables(make(seed), concave=seed % 4 < 2, seed=seed), seed)
        often = repeated(problem)
        scale = goal.ticks_of(often) // goal.ticks_of(problem)
        assert trivial_bound(problem, goal) * scale <= trivial_bound(often, goal)
        least = solve(often, solver="brute-force", objective=goal).value
        for solver in SOLVERS:
            try:
                result = solve(problem, solver=solver, objective=goal, time_limit=5, proof=True)
            except SolverError as error:
                assert solver not in EXACT and "please report" not in str(error)
                continue
            assert result.value == evaluate(problem, result.order, goal).value and result.value * scale >= least
            if solver in EXACT:
                assert result.value * scale == least
            assert result.problem is problem
            if result.proof is not None:
                statements = check_proof(problem, result.proof)
                assert all(own.standing is not Standing.WRONG for own in statements)


def test_weights_change_the_best_order() -> None:
    rows = [[1, 1, 0], [0, 1, 1], [1, 0, 1]]
    for heavy in range(3):
        problem = Problem.from_matrix(rows, weights=[1 + 4 * (row == heavy) for row in range(3)])
        for goal in ("copies", "span", "runs"):
            cost = solve(problem, objective=goal).evaluation.accesses[heavy]
            assert cost.runs == 1 and cost.weight == 5


def test_a_weighted_solve_goes_on_from_its_result() -> None:
    problem = weighted(one_block(5), 1)
    first = solve(problem, objective="runs", proof=True)
    second = solve(problem, objective="runs", proof=True, resume=first, hint=Order.identity(problem))
    assert (second.value, second.bound) == (first.value, first.bound)
    assert explained(problem, objective="runs")


def test_too_many_repeated_accesses_are_refused_for_runs_only() -> None:
    problem = Problem.from_matrix([[1, 0, 1], [0, 1, 1]], weights=[20_000, 1])
    assert solve(problem, objective="span").value == 0
    with pytest.raises(ProblemError, match="divide the weights"):
        solve(problem, objective="runs")
