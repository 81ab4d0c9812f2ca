"""Proves that the solvers that keep constraints find the best order that keeps them, and that the others refuse."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize._highspy import _core as highs
from solver_instances import one_block, several_blocks

from problems import OBJECTIVES, FixedPlace, Objective, Order, Precedence, Problem, ProblemError, evaluate_batch
from problems.constraints import first_broken
from problems.generators import with_tables
from solvers import (
    SolverError,
    greedy_order,
    read_result,
    solve,
    solve_lexicographic,
    solver_names,
    trivial_bound,
    write_model,
    write_result,
)
from solvers.explaining import explained

KEEPING = ("auto", "cp-sat", "brute-force", "identity")


def instance(seed: int) -> Problem:
    """A tiny problem with tables and with constraints that some order keeps."""
    rng = np.random.default_rng(seed)
    make = one_block if seed % 2 else several_blocks
    problem = with_tables(make(seed, max_channels=5 if seed % 2 else 3), concave=seed % 3 > 0, seed=seed)
    while True:
        found: list[FixedPlace | Precedence] = []
        for _ in range(int(rng.integers(1, 4))):
            b = int(rng.integers(len(problem.blocks)))
            stored = problem.stored[b]
            if problem.blocks[b].pinned or len(stored) < 2:
                continue
            i, j = rng.choice(stored, 2, replace=False).tolist()
            place = int(rng.integers(-len(stored), len(stored)))
            found.append(FixedPlace(b, i, place) if rng.random() < 0.5 else Precedence(b, i, j))
        try:
            return replace(problem, constraints=tuple(found))
        except ProblemError:
            continue


def allowed_orders(problem: Problem) -> list[np.ndarray]:
    """Per block the orders that keep the constraints, all combinations."""
    own = [
        [np.array(s)] if block.pinned else [np.array(p) for p in permutations(s.tolist())]
        for block, s in zip(problem.blocks, problem.stored)
    ]
    orders = [rows for rows in product(*own) if first_broken(problem.constraints, rows) is None]
    return [np.stack(rows) for rows in zip(*orders)]


@pytest.mark.parametrize("goal", [*OBJECTIVES.values(), Objective("mixed", alpha=2, gamma=3)], ids=lambda own: own.name)
@pytest.mark.parametrize("seeds", [range(2), pytest.param(range(2, 60), marks=pytest.mark.slow)], ids=["few", "many"])
def test_the_best_order_that_keeps_constraints_is_found(goal: Objective, seeds: range) -> None:
    for seed in seeds:
        problem = instance(seed)
        least = int(evaluate_batch(problem, allowed_orders(problem), goal).min())
        assert trivial_bound(problem, goal) <= least
        for solver in KEEPING:
            result = solve(problem, solver=solver, objective=goal, time_limit=20)
            result.order.require_valid(problem)
            assert result.bound is not None and result.bound <= least <= result.value
            assert solver == "identity" or result.value == result.bound == least


def optimum(path: Path) -> float:
    """What HiGHS finds. Its presolve sometimes misses its own tolerance by a millionth, and then it gives no value."""
    for presolve in ("choose", "off"):
        other = highs._Highs()
        other.setOptionValue("output_flag", False)
        other.setOptionValue("presolve", presolve)
        other.readModel(str(path))
        other.run()
        if other.getModelStatus() == highs.HighsModelStatus.kOptimal:
            break
    return float(other.getObjectiveValue())


@pytest.mark.parametrize("seeds", [range(1), pytest.param(range(1, 30), marks=pytest.mark.slow)], ids=["few", "many"])
def test_written_models_have_the_constraints(tmp_path: Path, seeds: range) -> None:
    for seed in seeds:
        problem = instance(seed)
        for goal in ("runs", "span"):
            written = write_model(problem, tmp_path / "m.lp", goal)
            best = solve(problem, objective=goal, solver="brute-force").value
            assert written.offset + written.unit * round(optimum(tmp_path / "m.lp")) == best
        assert write_model(problem, tmp_path / "m.pb", "latency").num_variables > 0


def test_other_solvers_refuse_constraints() -> None:
    problem = Problem.from_matrix([[1, 0, 1], [0, 1, 1]], constraints=[FixedPlace(0, 2, 0)])
    for solver in set(solver_names()) - set(KEEPING):
        with pytest.raises(SolverError, match="does not keep them; choose 'auto'"):
            solve(problem, solver=solver)
    with pytest.raises(SolverError, match="does not keep them"):
        greedy_order(problem)
    with pytest.raises(SolverError, match="constraints"):
        explained(problem)
    with pytest.raises(ProblemError, match="no form"):
        solve(problem, proof=True)
    with pytest.raises(SolverError, match="hint is no order"):
        solve(problem, hint=Order([[0, 1, 2]]))


def test_a_result_with_constraints_survives_its_file(tmp_path: Path) -> None:
    problem = Problem.from_matrix(
        [[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 0, 1]], weights=[1, 2, 1], constraints=[Precedence(0, 3, 0)]
    )
    result = solve(problem, objective="runs")
    write_result(result, tmp_path / "r.json")
    again = read_result(tmp_path / "r.json", problem)
    assert (again.order, again.value, again.bound) == (result.order, result.value, result.bound)
    assert solve(problem, objective="runs", resume=tmp_path / "r.json").value == result.value
    both = solve_lexicographic(problem, ("runs", "span"))
    assert both.values[0] == result.value
    both.order.require_valid(problem)
