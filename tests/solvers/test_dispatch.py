"""Proves what `solve` and the registry accept and refuse, and what importing the package does not do."""

from __future__ import annotations

import subprocess
import sys

import pytest
from solver_instances import sets

from problems import Objective, Order, ProblemError
from problems.generators import random_masks
from solvers import CpSat, Identity, SolverError, Status, register, registry, solve, solver_names


def test_unknown_solvers_are_refused_with_the_list_of_names() -> None:
    with pytest.raises(SolverError, match=r"'magic'.*identity, greedy, brute-force, placed-sets, .*cp-sat"):
        solve(random_masks(8, 2), solver="magic")


def test_unknown_objectives_are_refused() -> None:
    with pytest.raises(ProblemError, match="copies"):
        solve(random_masks(8, 2), objective="speed")


@pytest.mark.parametrize("time_limit", [0, -1, float("nan")])
def test_time_limits_must_be_positive(time_limit: float) -> None:
    with pytest.raises(SolverError, match="time limit"):
        solve(random_masks(8, 2), time_limit=time_limit)


def test_an_endless_time_limit_is_allowed() -> None:
    for objective in ("copies", "span", "runs"):
        assert solve(random_masks(16, 3), objective=objective, time_limit=float("inf")).status is Status.OPTIMAL


def test_hints_must_be_orders_of_the_problem() -> None:
    with pytest.raises(SolverError, match="hint"):
        solve(random_masks(8, 2), hint=Order([[0, 1]]))


def test_configurations_are_validated() -> None:
    with pytest.raises(SolverError, match="num_workers"):
        CpSat(num_workers=0)
    with pytest.raises(SolverError, match="max_deterministic_time"):
        CpSat(max_deterministic_time=0)


def test_users_can_register_a_solver_once(monkeypatch) -> None:
    monkeypatch.setattr(registry, "_FACTORIES", dict(registry._FACTORIES))
    register("mine", Identity)
    assert "mine" in solver_names()
    assert solve(random_masks(8, 2), solver="mine").order == Order.identity(random_masks(8, 2))
    for name in ("mine", "greedy"):
        with pytest.raises(SolverError, match="already"):
            register(name, Identity)


def test_heuristics_report_the_trivial_bound() -> None:
    problem = sets({0, 1}, {1, 2}, {2, 0, 3})
    result = solve(problem, solver="greedy")
    assert (result.objective, result.bound, result.gap, result.status) == (2, 0, 1.0, Status.FEASIBLE)
    assert solve(problem, solver="greedy", objective="runs").bound == 3
    result = solve(sets({0, 1}, {1, 2}), solver="identity")
    assert (result.objective, result.gap, result.status) == (0, 0.0, Status.OPTIMAL)


def test_importing_and_greedy_need_neither_torch_nor_ortools() -> None:
    code = (
        "import sys, solvers\n"
        "from problems.generators import random_masks\n"
        "for name in ('identity', 'greedy', 'brute-force', 'placed-sets'):\n"
        "    solvers.solve(random_masks(6, 2), solver=name)\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'torch', 'ortools'}, loaded & {'torch', 'ortools'}\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("solver", solver_names())
@pytest.mark.parametrize("prices", [{"alpha": 2**51}, {"gamma": 2**51}, {"alpha": 1, "gamma": 2**52}])
def test_prices_too_high_are_refused_before_anything_is_solved(solver, prices):
    with pytest.raises(ProblemError, match="could cost"):
        solve(random_masks(16, 4), solver=solver, objective=Objective("dear", **prices))


@pytest.mark.parametrize("prices", [{"alpha": 0}, {"gamma": 0}, {"alpha": 0, "gamma": 0}, {"alpha": 3, "gamma": 0}])
def test_what_is_free_costs_nothing(prices):
    for solver in ("auto", "greedy", "cp-sat", "milp", "pair-of-chains", "local-search"):
        result = solve(random_masks(16, 4), solver=solver, objective=Objective("free", **prices))
        assert (result.objective, result.bound, result.status) == (0, 0, Status.OPTIMAL)
