"""Which methods `auto` would ask about a problem, why, in which order and for how long: listed, not run.

The steps are those that `auto` itself walks (`solvers.roads`), so that nothing is said twice.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from problems import Objective, Order, Problem, objective_named
from problems.weights import without_weights
from solvers.arranging import Arranging, suited
from solvers.common.arguments import require_problem, require_settings
from solvers.common.block_rows import span_blocks
from solvers.common.errors import SolverError
from solvers.common.loosening import loosened
from solvers.common.rows import span_rows
from solvers.common.task import Task
from solvers.roads.auto import Auto, in_turn, parts_of
from solvers.roads.steps import Road, Stage, Step


@dataclass(frozen=True)
class Listed:
    """A step as it is printed.

    Attributes
    ----------
    method, why, share, taken
        Those of the `Step`, or of a `Stage`, whose steps follow.
    depth
        In how many stages it lies.
    is_stage
        Whether it is a stage.
    """

    method: str
    why: str
    share: float
    taken: bool
    depth: int
    is_stage: bool

    def __str__(self) -> str:
        share = f"{self.share:.0%}" if self.taken else "not asked"
        return f"{'  ' * self.depth}{self.method + (':' if self.is_stage else ''):18} {share:>9}  {self.why}"


@dataclass(frozen=True)
class Leg:
    """One part of a problem with the steps that it meets.

    Attributes
    ----------
    title
        Which part it is.
    facts
        What was measured of it.
    steps
        In order.
    """

    title: str
    facts: tuple[str, ...]
    steps: tuple[Listed, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that are asked, in order, as long as the gap is open and there is time."""
        return tuple(own.method for own in self.steps if own.taken and not own.is_stage)

    def __str__(self) -> str:
        lines = [self.title, *(f"  {fact}" for fact in self.facts)]
        return "\n".join([*lines, *(f"  {k:2} {own}" for k, own in enumerate(self.steps, 1))])


def explained(problem: Problem, *, objective: str | Objective = "copies", time_limit: float = 10.0) -> tuple[Leg, ...]:
    """What the solver `auto` would ask, part by part.

    Whether there is time for a method is judged as if every part and step before it used up its share.

    Parameters
    ----------
    problem, objective, time_limit
        As for `solvers.solve`; seconds.

    Raises
    ------
    SolverError
        If an argument is of the wrong kind, or the problem has constraints.
    problems.ProblemError
        If the objective is unknown, or its costs come from tables and an access has none.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> for leg in explained(random_masks(64, 9), objective="runs"):
    ...     print(leg.methods)
    ('cp-sat',)
    """
    require_problem(problem)
    require_settings(objective=objective, time_limit=time_limit)
    goal = objective_named(objective)
    goal.ticks_of(problem)
    if problem.constraints:
        raise SolverError(f"{problem.name} has constraints; `auto` asks CP-SAT to place its channels, and nothing else")
    now = time.perf_counter()
    problem = without_weights(problem, goal)
    task = Task(problem, goal, Order.identity(problem), now, now + time_limit)
    task.costs(task.start)  # refuses accesses without tables
    solver = suited(Auto(), problem)
    if not isinstance(solver, Arranging):
        return tuple(_legs(Auto(), task, ""))
    in_place = problem.arranged(tuple(np.arange(len(own.units)) for own in problem.bundles))
    legs = [Leg("the problem, whose units may change places", _facts(task), tuple(_listed(solver.road, task)))]
    for title, own in (("units in given places", in_place), ("the looser problem", loosened(problem).problem)):
        legs += _legs(Auto(), dataclasses.replace(task, problem=own, start=Order.identity(own)), f"{title}: ")
    return tuple(legs)


def _legs(auto: Auto, task: Task, prefix: str) -> Iterator[Leg]:
    """The parts of a problem without bundles."""
    parts = parts_of(task)
    if not parts:
        yield Leg(f"{prefix}every order costs the same", _facts(task), ())
    left = 1.0
    for k, (part, share) in enumerate(in_turn(parts), 1):
        stage = auto.stage(own := _part_task(task, part.problem, left * share))
        number = "" if len(parts) == 1 else f"part {k} of {len(parts)}, {left * share:.1%} of the time, "
        yield Leg(f"{prefix}{number}road {stage.name}: {stage.why}", _facts(own), tuple(_listed(stage.road, own)))
        left *= 1 - share


def _part_task(task: Task, part: Problem, share: float) -> Task:
    """The task of a part of a problem, with its share of the time."""
    if part is task.problem:
        return task
    return dataclasses.replace(task.within(share), problem=part, start=Order.identity(part))


def _listed(road: Road, task: Task, depth: int = 0) -> Iterator[Listed]:
    """Every step of a road, those of its stages after them."""
    for step in road(task):
        if isinstance(step, Step):
            yield Listed(step.method, step.why, step.share, step.taken, depth, False)
        elif isinstance(step, Stage):
            yield Listed(step.name, step.why, step.share, True, depth, True)
            yield from _listed(step.road, task.within(step.share), depth + 1)


def _facts(task: Task) -> tuple[str, ...]:
    """What the choice of methods depends on."""
    problem = task.problem
    classes = [len(problem.classes.of_block(b)) for b in range(len(problem.blocks))]
    facts = [
        f"{len(problem.blocks)} blocks, {len(problem.accesses)} accesses, {len(problem.bundles)} bundles, "
        f"{sum(classes)} classes of channels ({max(classes, default=0)} in the largest block)"
    ]
    if not task.objective.counts_runs and not problem.bundles:
        blocks = span_blocks(problem, span_rows(problem))
        rows = [block.rows.num_rows for block in blocks]
        pairs = sum(math.comb(number, 2) for number in rows)
        meeting = sum(_meeting(block.rows.bits) for block in blocks)
        facts.append(
            f"{sum(rows)} rows whose span depends on the order ({max(rows, default=0)} in the largest block); "
            f"{meeting} of {pairs} pairs of rows of a block share a class"
        )
    return tuple(facts)


def _meeting(bits: np.ndarray) -> int:
    """How many pairs of rows share a class; bits is bool, shape (num_classes, num_rows)."""
    number = bits.astype(np.int64)
    return int(np.count_nonzero(np.triu(number.T @ number, 1)))
