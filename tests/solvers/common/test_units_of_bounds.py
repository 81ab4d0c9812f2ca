"""Bounds of parts of a problem that has cost tables, for objectives that do not use them: a unit is a unit there.

The tables need many ticks a nanosecond, and parts need fewer than the whole; whoever multiplies bounds by ticks all the
same claims what is false.
"""

import dataclasses

import numpy as np
import pytest

from problems import OBJECTIVES, Access, Block, Bundle, CostTable, Curve, Problem, ProblemError, evaluate
from problems.generators import grouped_masks
from solvers import solve, trivial_bound
from solvers.common.components import components
from solvers.common.loosening import loosened

WITHOUT_TABLES = [name for name, objective in OBJECTIVES.items() if not objective.uses_tables]


def with_ticks(problem, ticks):
    """The problem with a table for every access; table a needs so many ticks a nanosecond."""
    accesses = []
    for a, access in enumerate(problem.accesses):
        width = sum(len(problem.stored[b]) for b in access.blocks)
        need = ticks[a % len(ticks)]
        read = Curve((access.num_kept, max(width, access.num_kept) + need), (10, 10 + width))
        need = read.denominator if need > 1 else 1
        table = CostTable(read if need > 1 else Curve((0, width + 1), (5, 5 + width + 1)), 3)
        accesses.append(dataclasses.replace(access, table=table))
    return dataclasses.replace(problem, accesses=tuple(accesses))


def without_tables(problem):
    accesses = tuple(dataclasses.replace(access, table=None) for access in problem.accesses)
    return dataclasses.replace(problem, accesses=accesses)


def apart(seed):
    """Two blocks that no access reads together: two parts, of which the first needs fewer ticks."""
    rng = np.random.default_rng(seed)
    accesses = []
    for a in range(8):
        kept = rng.random(6) < 0.5
        kept[rng.integers(6)] = True
        accesses.append(Access(f"a{a}", (a % 2,), kept))
    return with_ticks(Problem((Block("x", 6), Block("y", 6)), tuple(accesses)), [1, 97])


def bundled(seed):
    """Groups that may change places; what the looser problem leaves out has the table that needs most ticks."""
    problem = grouped_masks(3, 2, 3, seed=seed)
    between = Access("between", (0, 6, 1, 2), np.random.default_rng(seed).random(8) < 0.7)
    own = Problem(problem.blocks, (*problem.accesses, between), problem.name, problem.bundles)
    return with_ticks(own, [1, 1, 1, 89])


@pytest.mark.parametrize("objective", WITHOUT_TABLES)
@pytest.mark.parametrize("seed", range(4))
def test_parts_are_added_up_as_without_tables(seed, objective):
    problem = apart(seed)
    parts = components(problem)
    assert len(parts) == 2 and {part.problem.ticks for part in parts} != {problem.ticks}
    found, plain = solve(problem, objective=objective), solve(without_tables(problem), objective=objective)
    assert (found.value, found.bound) == (plain.value, plain.bound)


@pytest.mark.parametrize("objective", WITHOUT_TABLES)
@pytest.mark.parametrize("seed", range(4))
def test_bundles_are_bounded_as_without_tables(seed, objective):
    problem, goal = bundled(seed), OBJECTIVES[objective]
    assert loosened(problem).problem.ticks < problem.ticks
    assert trivial_bound(problem, goal) == trivial_bound(without_tables(problem), goal)
    truth = solve(without_tables(problem), solver="brute-force", objective=objective).value
    for solver in ("brute-force", "auto", "cp-sat"):
        found = solve(problem, solver=solver, objective=objective)
        assert found.bound == found.value == truth, solver


@pytest.mark.parametrize("seed", range(4))
def test_times_of_parts_are_converted(seed):
    """With tables a unit of a part is several of the whole."""
    problem, goal = apart(seed), OBJECTIVES["latency"]
    part = components(problem)[0].problem
    assert goal.converted(1, part=part, whole=problem) == problem.ticks // part.ticks > 1
    assert OBJECTIVES["span"].converted(1, part=part, whole=problem) == 1
    with pytest.raises(ProblemError, match="is no part of"):
        goal.converted(1, part=problem, whole=part)
    for own in (problem, bundled(seed)):
        found = solve(own, objective="latency")
        assert found.bound == found.value == solve(own, solver="brute-force", objective="latency").value
        assert found.value == evaluate(own, found.order, "latency").value


def test_an_instance_whose_units_change_places_and_whose_tables_need_ticks():
    """Found by chance: an access reads the units in another order than the others, next to a block of its own."""
    blocks = tuple(Block(name, 3, removable=False) for name in ("u", "v", "w"))
    reads = {
        "p": ((2, 1, 0), [1, 1, 1, 1, 1, 0, 1, 1, 1], 50),
        "q": ((2, 1, 0), [0, 1, 1, 0, 0, 1, 0, 1, 0], 1),
        "r": ((0, 2, 1), [1, 1, 1, 1, 1, 1, 1, 0, 1], 7),
        "s": ((0, 1, 2), [0, 0, 1, 0, 0, 1, 0, 1, 1], 1),
    }
    accesses = tuple(Access(name, own, np.array(kept), size) for name, (own, kept, size) in reads.items())
    problem = with_ticks(Problem(blocks, accesses, bundles=(Bundle(((0,), (1,))),)), [5, 1, 3, 7])
    for objective in WITHOUT_TABLES:
        truth = solve(without_tables(problem), solver="brute-force", objective=objective)
        for solver in ("auto", "brute-force", "cp-sat-direct"):
            found = solve(problem, solver=solver, objective=objective)
            assert (found.value, found.bound) == (truth.value, truth.value), (objective, solver)
