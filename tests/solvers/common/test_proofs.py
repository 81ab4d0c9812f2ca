"""Tests of what solvers say about their bounds: true, checked by a checker that knows no solver, and minimal."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
import pytest
from solver_instances import ALL_OBJECTIVES, one_block, sets, several_blocks

from problems import OBJECTIVES, Access, Block, CostTable, Curve, Order, Problem
from problems.checker.proof_checks import Standing, check_proof
from problems.generators import planted_intervals, random_masks
from problems.proofs import Kind
from solvers import CpSat, Finding, solve
from solvers.common.proofs import claim
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.runs.run_potentials import run_potentials
from solvers.views.conflicts import at_most, conflicting_accesses
from solvers.views.view_test import ViewTest

CP_SAT = CpSat(max_deterministic_time=0.5)
SOLVERS = ["identity", "greedy", "brute-force", "placed-sets", CP_SAT]


def proven(problem, solver, objective):
    """A result with its proof, and how the checker's statements stand."""
    result = solve(problem, solver=solver, objective=objective, proof=True, time_limit=math.inf)
    if result.bound is None:
        assert result.proof is None
        return result, []
    assert (result.proof.bound, result.proof.objective.name) == (result.bound, result.evaluation.objective)
    return result, [own.standing for own in check_proof(problem, result.proof)]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("make", [one_block, several_blocks])
def test_no_proof_is_wrong_and_small_ones_are_verified(make, seed):
    """Every solver, every objective: nothing it says is refused, and prices are verified to the last claim."""
    problem = make(seed)
    for objective in ALL_OBJECTIVES:
        for solver in SOLVERS:
            _, standings = proven(problem, solver, objective)
            assert Standing.WRONG not in standings
            assert objective.counts_runs or set(standings) <= {Standing.VERIFIED}


@pytest.mark.parametrize("objective", ["copies", "span", "traffic", "runs"])
@pytest.mark.parametrize("seed", range(3))
def test_proofs_of_larger_instances_hold_witnesses(objective, seed):
    """Where no search is claimed every claim is verified: conflicts, groups and potentials can be checked."""
    problem = random_masks(48, 6, keep=0.4, seed=seed)
    result, standings = proven(problem, CP_SAT, objective)
    kinds = {own.kind for own in result.proof.claims}
    assert Standing.WRONG not in standings
    assert kinds & {Kind.CONFLICT, Kind.GROUP, Kind.RELAXATION}
    assert Kind.SEARCH in kinds or set(standings) == {Standing.VERIFIED}


def test_a_proof_is_made_only_if_wanted():
    assert solve(random_masks(16, 4), solver="cp-sat").proof is None
    result = solve(planted_intervals(32, 5), solver="cp-sat", proof=True)
    assert [own.kind for own in result.proof.claims] == [Kind.TRIVIAL] and result.bound == 0


def test_a_search_says_how_large_it_was():
    problem = random_masks(24, 5, keep=0.5, seed=3)
    for solver, figure in (("placed-sets", "states"), ("brute-force", "tried")):
        part = problem.restricted(range(3)) if solver == "placed-sets" else sets({0, 1}, {1, 2}, {0, 2})
        (own,) = solve(part, solver=solver, objective="span", proof=True).proof.claims
        assert own.kind is Kind.SEARCH and own.figures[figure] > 0 and own.text


@pytest.mark.parametrize("seed", range(40))
def test_the_conflict_named_is_minimal(seed):
    """Against brute force: the accesses cannot all be views, and without any one of them they can."""
    problem = (one_block, several_blocks)[seed % 2](seed)
    test = ViewTest(task_of(problem))
    everyone = range(len(problem.accesses))
    for size in everyone:
        for views in combinations(everyone, size + 1):
            conflict = test.conflict(list(views))
            assert (conflict is None) == can_be_views(problem, views)
            if conflict is not None:
                assert set(conflict) <= set(views) and not can_be_views(problem, conflict)
                for a in conflict:
                    assert can_be_views(problem, [other for other in conflict if other != a])


@pytest.mark.parametrize("seed", range(30))
def test_small_conflicts_hold_against_brute_force(seed):
    """Of every set with a limit no more accesses than that are views together."""
    problem = (one_block, several_blocks)[seed % 2](seed + 100)
    for limit, accesses in at_most(conflicting_accesses(problem, span_rows(problem))):
        for chosen in combinations(accesses, limit + 1):
            assert not can_be_views(problem, chosen)


@pytest.mark.parametrize("seed", range(20))
def test_potentials_are_tight(seed):
    """Their sum is the assignment's bound: where that is the optimum, the checker verifies it without a search."""
    problem = random_masks(16, 4, seed=seed)
    (own,) = run_potentials(problem)
    best = solve(problem, solver=CP_SAT, objective="runs", proof=True)
    assert sum(own.leave) + sum(own.enter) <= best.value
    assert best.proof.claims[0].kind is Kind.RELAXATION
    assert best.proof.claims[0].bound == sum(own.leave) + sum(own.enter)


@dataclass(frozen=True)
class Stating:
    """A solver that returns the start and a bound, with claims made by a function."""

    bound: int
    make: object = None
    name: ClassVar[str] = "stating"
    exact: ClassVar[bool] = True

    def solve(self, task):
        claims = () if self.make is None else self.make(task.problem)
        return Finding(task.start, self.bound, stats={"nodes": 7, "note": "text", "ok": True}, claims=claims)


def two_triangles():
    """Two blocks, each with three accesses that cannot all be views."""
    kept = [np.isin(range(3), own) for own in ([0, 1], [1, 2], [0, 2])]
    accesses = [Access(f"{name}{i}", (b,), row) for b, name in enumerate("xy") for i, row in enumerate(kept)]
    return Problem((Block("x", 3), Block("y", 3)), tuple(accesses))


def test_claims_about_disjoint_accesses_add_up():
    """The interface other solvers use: a method, a bound, accesses and a size each."""

    def claims(problem):
        return [
            claim(problem, "search", 1, "path over pairs of chains", [0, 1, 2], states=900),
            claim(problem, "relaxation", 1, "bisection", [5, 3, 4], rounds=3),
        ]

    result, standings = proven(two_triangles(), Stating(2, claims), "span")
    assert len(result.proof.claims) == 2 and set(standings) == {Standing.VERIFIED}
    assert str(result.proof).splitlines()[1:] == [
        "  x0, x1 and x2 together cost at least 1: path over pairs of chains (states 900)",
        "  y0, y1 and y2 together cost at least 1: bisection (rounds 3)",
    ]


def test_claims_that_do_not_give_the_bound_are_completed_by_the_gate():
    """A search by the solver, with the figures among its stats; also without any claims."""
    for make in (None, lambda problem: [claim(problem, "search", 1, "half of it", [0, 1, 2])]):
        result, standings = proven(two_triangles(), Stating(2, make), "span")
        last = result.proof.claims[-1]
        assert (last.kind, last.bound, last.text, last.figures) == ("search", 2, "search by stating", {"nodes": 7})
        assert set(standings) == {Standing.VERIFIED}


def test_a_lying_solver_is_found_out_by_the_checker():
    """A bound above the optimum but not above the solver's own order passes the gate, not the checker."""
    kept = [np.isin(range(4), own) for own in ([0, 2], [1, 3])]
    problem = Problem((Block("x", 4),), tuple(Access(f"a{i}", (0,), row) for i, row in enumerate(kept)))

    class Lying(Stating):
        exact = False

        def solve(self, task):
            return Finding(Order.identity(task.problem), 2, value=2)

    assert solve(problem, solver="cp-sat", objective="span").value == 0
    _, standings = proven(problem, Lying(2), "span")
    assert standings[-1] is Standing.WRONG


def test_tables_are_proven_in_ticks():
    """The bound is in ticks of the problem; the words are in nanoseconds."""
    reads = (Curve((2, 4), (10, 15)), Curve((2, 3, 4), (8, 12, 12)), Curve((2, 4), (0, 7)))
    tables = [CostTable(read, copy) for read, copy in zip(reads, (9, 9, None))]
    kept = [np.isin(range(4), own) for own in ([0, 2], [1, 2], [0, 1])]
    accesses = tuple(Access(f"a{i}", (0,), row, table=table) for i, (row, table) in enumerate(zip(kept, tables)))
    problem = Problem((Block("x", 4, removable=False),), accesses)
    result, standings = proven(problem, "brute-force", "latency")
    assert problem.ticks == 2 == result.proof.ticks and set(standings) == {Standing.VERIFIED}
    assert f"latency >= {result.bound / 2:g}" in str(result.proof)


def task_of(problem):
    return Task(
        problem, OBJECTIVES["copies"], start=Order.identity(problem), started=0.0, deadline=math.inf, want_proof=True
    )


def can_be_views(problem, accesses):
    """Whether some order makes all of the accesses views."""
    part = problem.restricted(sorted(accesses))
    return solve(part, solver="brute-force", objective="copies", time_limit=math.inf).value == 0
