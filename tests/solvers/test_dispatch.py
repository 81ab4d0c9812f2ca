"""Proves what `solve` and the registry accept and refuse, and what importing the package does not do."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from solver_instances import sets

from problems import Access, Block, Objective, Order, Problem, ProblemError, evaluate
from problems.collection import best_known, load
from problems.generators import grouped_masks, random_masks
from problems.solutions import read_solutions, write_solutions
from solvers import (
    CpSat,
    Identity,
    SolveInterrupted,
    SolverError,
    Status,
    greedy_order,
    register,
    registry,
    solve,
    solver_names,
    solving,
)


def test_unknown_solvers_are_refused_with_the_list_of_names() -> None:
    with pytest.raises(SolverError, match=r"'magic'.*identity, greedy, brute-force, pair-of-chains, .*cp-sat"):
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"seed": True}, "seed is True"),
        ({"seed": None}, "seed is None"),
        ({"time_limit": "10"}, "time_limit is '10'"),
        ({"time_limit": None}, "time_limit is None"),
        ({"time_limit": True}, "time_limit is True"),
        ({"hint": [[0, 1]]}, "hint is of type list"),
        ({"progress": "bar"}, "progress is 'bar'"),
        ({"solver": 7}, "solver is 7"),
        ({"solver": None}, "solver is None"),
        ({"solver": CpSat}, "solver is of type type"),
        ({"objective": ["copies"]}, "objective is of type list"),
    ],
)
def test_odd_settings_are_one_sentence_of_our_own(options, message) -> None:
    """For every solver: also those that never look at a seed, a hint or a clock."""
    for solver in ("greedy", "auto", "lns", "cp-sat"):
        with pytest.raises((SolverError, ProblemError), match=re.escape(message)):
            solve(random_masks(8, 2), **{"solver": solver, **options})


def test_what_is_no_problem_is_refused() -> None:
    for odd in (None, "layer1.json", random_masks(8, 2).blocks):
        with pytest.raises(SolverError, match=r"give a problems\.Problem"):
            solve(odd)


def two_components() -> Problem:
    """Two groups of accesses that have no channel in common, so that `auto` takes the problem apart."""
    parts = [random_masks(60, 14, keep=0.5, seed=seed) for seed in (1, 2)]
    accesses = []
    for k, part in enumerate(parts):
        for access in part.accesses:
            kept = np.zeros(120, dtype=bool)
            kept[60 * k : 60 * (k + 1)] = access.kept
            accesses.append(Access(f"{k}-{access.name}", (0,), kept))
    return Problem((Block("x", 120),), tuple(accesses), "two components")


INTERRUPTED = {
    "whole": (lambda: random_masks(120, 18, seed=3), ("auto", "beam", "lns", "local-search", "cp-sat")),
    "components": (two_components, ("auto",)),
    "bundles": (lambda: grouped_masks(4, 24, 6, whole=0, seed=4), ("auto", "cp-sat")),
}


@pytest.mark.parametrize(("kind", "solver"), [(kind, own) for kind in INTERRUPTED for own in INTERRUPTED[kind][1]])
def test_an_interrupt_brings_the_best_order_so_far(kind, solver) -> None:
    """Ctrl-C at the first order that is better than the start; of a part, as soon as it is told, not at its end."""
    problem = INTERRUPTED[kind][0]()
    start = min(
        evaluate(problem, order, "span").value for order in (greedy_order(problem), greedy_order(problem.arranged([])))
    )
    told = []

    def stop(progress) -> None:
        told.append(progress)
        offers = [frame.name for frame in traceback.extract_stack()].count("offer")
        if progress.value < start and (kind == "whole" or offers == 3):
            raise KeyboardInterrupt

    with pytest.raises(SolveInterrupted) as caught:
        solve(problem, solver=solver, objective="span", time_limit=60, progress=stop)
    assert isinstance(caught.value, KeyboardInterrupt)
    result = caught.value.result
    assert result.value == evaluate(problem, result.order, "span").value == min(own.value for own in told)
    assert result.value < start and result.status is Status.FEASIBLE
    assert 0 <= result.bound == max(own.bound or 0 for own in told) <= result.value


def test_an_interrupt_before_anything_is_known_leaves_the_original_order(monkeypatch) -> None:
    def stop(task, share) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(solving, "greedy_in_time", stop)
    problem = random_masks(16, 4, seed=1)
    with pytest.raises(SolveInterrupted) as caught:
        solve(problem, objective="span")
    assert caught.value.result.order == Order.identity(problem)


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
    assert (result.value, result.bound, result.gap, result.status) == (2, 0, 1.0, Status.FEASIBLE)
    assert solve(problem, solver="greedy", objective="runs").bound == 3
    result = solve(sets({0, 1}, {1, 2}), solver="identity")
    assert (result.value, result.gap, result.status) == (0, 0.0, Status.OPTIMAL)


def test_importing_and_greedy_need_neither_torch_nor_ortools() -> None:
    code = (
        "import sys, solvers\n"
        "from problems.generators import random_masks\n"
        "for name in ('identity', 'greedy', 'brute-force', 'pair-of-chains'):\n"
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
        assert (result.value, result.bound, result.status) == (0, 0, Status.OPTIMAL)


def test_names_that_moved_are_unknown_to_users() -> None:
    """They are witnesses of the tests (`oracles`), which make them known; a fresh process does not know them."""
    moved = ("milp", "cp-sat-direct", "cp-sat-events", "placed-sets")
    code = (
        "from problems.generators import random_masks\n"
        "from solvers import SolverError, solve\n"
        f"for name in {moved}:\n"
        "    try:\n"
        "        solve(random_masks(8, 2), solver=name)\n"
        "    except SolverError as error:\n"
        "        print(error)\n"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    lines = printed.splitlines()
    assert len(lines) == len(moved)
    for name, line in zip(moved, lines):
        assert line.startswith(f"there is no solver {name!r}; choose one of identity, greedy, ")


def test_solution_files_may_name_solvers_that_moved(tmp_path: Path) -> None:
    """Best-known solutions say who found them; nobody asks the registry whether that solver is there."""
    name = "classical/random/8x8-s0"
    found = best_known(name, "span")
    assert found is not None
    write_solutions({"span": dataclasses.replace(found, solver="milp")}, load(name), tmp_path / "x.sol.json")
    assert read_solutions(tmp_path / "x.sol.json", load(name))["span"].solver == "milp"
