"""Best-known solutions: per objective an order, its value, its bound, and the solvers that found them.

They are stored in files (`problems.solution_files`, docs/formats.md). Reading and writing check the order and compute
its value again. Only bounds are taken on trust.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from problems.conversions import text, whole_number
from problems.errors import ProblemError
from problems.evaluation import evaluate
from problems.files import read_bytes, write_text_atomically
from problems.objectives import OBJECTIVES
from problems.order import Order
from problems.problem import Problem
from problems.signatures import content_hash
from problems.solution_files import FIELDS, FORMAT, VERSION, StatedSolution, require_date, runs_of, stated_in


@dataclass(frozen=True)
class Solution:
    """The best known order and bound for one objective of one instance.

    Parameters
    ----------
    order
        The order.
    value
        Its value; for `latency` in ticks (a nanosecond is `Problem.ticks` ticks).
    bound
        No order has a smaller value than this; None if no bound is known.
    solver, bound_solver
        The solver that found the order, and the solver that proved the bound (None without a bound).
    version
        Version of upscale_opt at the last improvement.
    date
        Date of the last improvement, as YYYY-MM-DD.

    Raises
    ------
    ProblemError
        If the bound lies above the value, or a field is of the wrong type. The message names the field.
    """

    order: Order
    value: int
    bound: int | None
    solver: str
    bound_solver: str | None
    version: str
    date: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", whole_number(self.value, "field 'value'"))
        if self.bound is not None:
            object.__setattr__(self, "bound", whole_number(self.bound, "field 'bound'"))
        for name in ("solver", "version") if self.bound_solver is None else ("solver", "bound_solver", "version"):
            text(getattr(self, name), f"field {name!r}")
        if self.bound is not None and self.bound > self.value:
            raise ProblemError(f"field 'bound' is {self.bound}, above the value {self.value}; one of them is wrong")
        if (self.bound is None) != (self.bound_solver is None):
            raise ProblemError("the fields 'bound' and 'bound_solver' go together; give both, or null for both")
        require_date(self.date)

    @property
    def proven(self) -> bool:
        """Whether the bound equals the value: no order is better."""
        return self.bound == self.value

    @property
    def gap(self) -> float | None:
        """``(value - bound) / max(1, value)``; None without a bound."""
        return None if self.bound is None else (self.value - self.bound) / max(1, self.value)

    def joined(self, other: Solution) -> Solution:
        """The better of the two orders with the better of the two bounds; `self` if `other` improves neither.

        Raises
        ------
        ProblemError
            If the bound of one lies above the value of the other. Then one of them is wrong.
        """
        order = other if other.value < self.value else self
        tighter = other.bound is not None and (self.bound is None or other.bound > self.bound)
        if order is self and not tighter:
            return self
        bound = other if tighter else self
        return Solution(
            order.order, order.value, bound.bound, order.solver, bound.bound_solver, other.version, other.date
        )

    def __str__(self) -> str:
        known = "proven optimal" if self.proven else "no bound" if self.bound is None else f"bound {self.bound}"
        return f"{self.value} ({known}) by {self.solver}, {self.date}"

    def require_valid(self, problem: Problem, objective: str) -> None:
        """Raise `ProblemError` unless the order is valid for the problem and has the value for the objective."""
        if objective not in OBJECTIVES:
            raise ProblemError(f"there is no objective {objective!r}; choose one of {', '.join(OBJECTIVES)}")
        value = evaluate(problem, self.order, objective).value
        if value != self.value:
            raise ProblemError(f"field 'value' is {self.value}, but the order has {value}; solve the instance again")


def read_solutions(path: str | Path, problem: Problem) -> dict[str, Solution]:
    """Read the solutions in a file, by objective, and check them against the problem.

    Raises
    ------
    ProblemError
        If the file cannot be read, belongs to another instance, or a field is wrong. The message names the field.
    """
    return solutions_in(read_bytes(path), path, problem)


def solutions_in(content: bytes, where: str | Path, problem: Problem) -> dict[str, Solution]:
    """As `read_solutions`, for the content of a file; `where` names the file in errors."""
    stated = stated_in(content, where)
    try:
        if stated.instance != content_hash(problem):
            raise ProblemError("field 'instance' is the hash of another instance; solve this one again")
        return {goal: _believed(own, problem, goal) for goal, own in stated.solutions.items()}
    except ProblemError as error:
        raise ProblemError(f"{where}: {error}") from error


def write_solutions(solutions: Mapping[str, Solution], problem: Problem, path: str | Path) -> None:
    """Write solutions by objective, atomically, after checking every one of them against the problem.

    Orders are written with the channels of each class ascending, which changes no value.

    Raises
    ------
    ProblemError
        If an order is not valid, its value is not the one given, or the path cannot be written.
    """
    lines = []
    for objective in sorted(solutions, key=[*OBJECTIVES].index):
        solution = solutions[objective]
        solution.require_valid(problem, objective)
        values = {field: getattr(solution, field) for field in FIELDS[:-1]}
        values["order"] = runs_of(_tidy(problem, solution.order))
        if solution.order.arrangement:
            values["arrangement"] = [units.tolist() for units in solution.order.arrangement]
        lines.append(f'  "{objective}": ' + json.dumps(values, separators=(",", ":")))
    head = json.dumps({"format": FORMAT, "version": VERSION, "instance": content_hash(problem)})
    write_text_atomically(head[:-1] + ',\n "solutions": {\n' + ",\n".join(lines) + "\n }}\n", path)


def _believed(stated: StatedSolution, problem: Problem, objective: str) -> Solution:
    """The solution of one objective in a file, after everything but the bound has been checked."""
    try:
        _require_stored(stated.order, problem)
        solution = Solution(
            stated.order,
            stated.value,
            stated.bound,
            stated.solver,
            stated.bound_solver,
            stated.version,
            stated.date,
        )
        if stated.proven != solution.proven:
            raise ProblemError(
                f"field 'proven' is {str(stated.proven).lower()}, but the value is {stated.value} and the bound "
                f"{stated.bound}"
            )
        solution.require_valid(problem, objective)
        return solution
    except ProblemError as error:
        raise ProblemError(f"solutions.{objective}: {error}") from error


def _require_stored(order: Order, problem: Problem) -> None:
    """Raise unless, for every block, the order has as many channels as are stored."""
    if len(order) != len(problem.blocks):
        raise ProblemError(f"field 'order' has {len(order)} blocks, but the instance has {len(problem.blocks)}")
    for b, (channels, stored) in enumerate(zip(order.channels, problem.stored, strict=True)):
        if len(channels) != len(stored):
            raise ProblemError(
                f"field 'order[{b}]' lists {len(channels)} channels; it must list the {len(stored)} stored ones, once "
                "each"
            )


def _tidy(problem: Problem, order: Order) -> Order:
    """The same order of classes, the channels of each class ascending."""
    labels = [np.zeros(block.size, dtype=np.int64) for block in problem.blocks]
    for s, members in enumerate(problem.classes.members):
        labels[problem.classes.block[s]][members] = s
    tidied = []
    for channels, label in zip(order.channels, labels, strict=True):
        own = label[channels]
        result = np.empty_like(channels)
        result[np.argsort(own, kind="stable")] = channels[np.lexsort((channels, own))]
        tidied.append(result)
    return Order(tidied, order.arrangement)
