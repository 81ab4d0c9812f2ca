"""Proves that nothing wrong passes the gate and that exact solvers keep their promises about start and order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
from solver_instances import one_block, sets, several_blocks

from problems import Order, evaluate
from problems.generators import random_masks
from solvers import Finding, SolverError, Status, Task, greedy_order, solve
from solvers.gate import displacement


@dataclass(frozen=True)
class Liar:
    """Claims what it is told to."""

    finding: Finding
    exact: bool = False
    name: ClassVar[str] = "liar"

    def solve(self, task: Task) -> Finding:
        return self.finding


PROBLEM = random_masks(16, 4)
GREEDY = greedy_order(PROBLEM)
VALUE = evaluate(PROBLEM, GREEDY).value


@pytest.mark.parametrize(
    ("finding", "message"),
    [
        (Finding(Order([GREEDY[0][:-1]])), "no valid order"),
        (Finding(Order([GREEDY[0] * 0])), "no valid order"),
        (Finding(Order([])), "no valid order"),
        (Finding(GREEDY, value=VALUE - 1), "claims copies"),
        (Finding(GREEDY, bound=VALUE + 1), "no order is below"),
        (Finding(GREEDY, bound=VALUE - 1, optimal=True), "to be optimal"),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
def test_a_false_claim_does_not_pass(finding: Finding, message: str, exact: bool) -> None:
    with pytest.raises(SolverError, match=message) as caught:
        solve(PROBLEM, solver=Liar(finding, exact))
    assert "liar" in str(caught.value)


def test_an_exact_solver_may_not_call_an_order_optimal_that_is_worse_than_its_start() -> None:
    problem = sets({0, 2}, {1, 3})
    with pytest.raises(SolverError, match="start"):
        solve(problem, solver=Liar(Finding(Order.identity(problem), optimal=True), exact=True))


def test_a_bound_above_the_start_does_not_pass() -> None:
    problem = sets({0, 2}, {1, 3})
    with pytest.raises(SolverError, match="start"):
        solve(problem, solver=Liar(Finding(Order.identity(problem), bound=1), exact=True))


def test_an_exact_solver_that_finds_nothing_returns_greedy_and_a_heuristic_is_left_alone() -> None:
    identity = Finding(Order.identity(PROBLEM))
    result = solve(PROBLEM, solver=Liar(identity, exact=True), objective="runs")
    assert result.order == GREEDY
    assert (result.status, result.bound, result.gap) == (Status.FEASIBLE, None, None)
    assert solve(PROBLEM, solver=Liar(identity), objective="runs").order == Order.identity(PROBLEM)


def test_a_better_hint_is_the_start_and_an_equal_one_is_not() -> None:
    best = solve(PROBLEM, solver="cp-sat", objective="runs").order
    nothing = Liar(Finding(GREEDY), exact=True)
    assert solve(PROBLEM, solver=nothing, objective="runs", hint=best).order == best
    turned = Order([GREEDY[0][::-1]])
    assert solve(PROBLEM, solver=nothing, objective="runs", hint=turned).order == GREEDY


def test_an_optimal_order_is_the_nearest_known() -> None:
    for seed in range(40):
        for problem in (one_block(seed), several_blocks(seed)):
            result = solve(problem, solver="placed-sets", objective="span")
            for other in (
                Order.identity(problem),
                greedy_order(problem),
                Order(b[::-1] for b in result.order.channels),
            ):
                pinned = any(block.pinned for block in problem.blocks)
                if pinned and other != Order.identity(problem):
                    continue
                if evaluate(problem, other, "span").value == result.value:
                    assert displacement(problem, result.order) <= displacement(problem, other)


def test_results_are_consistent() -> None:
    result = solve(PROBLEM, objective="span")
    assert result.value == result.evaluation.value == evaluate(PROBLEM, result.order, "span").value
    assert result.gap == (result.value - result.bound) / max(1, result.value)
    assert "auto: span" in str(result)
    assert replace(result, bound=None).gap is None
    with pytest.raises(AttributeError):
        result.bound = 0
