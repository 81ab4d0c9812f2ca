"""The road for runs: tours and circuits through the classes. They also solve problems of few classes at once."""

from __future__ import annotations

from collections.abc import Iterator

from solvers.common.task import Solver, Task
from solvers.roads.steps import Step, asking


def runs_road(task: Task, cp_sat: Solver) -> Iterator[Step]:
    """The steps for the objective `runs`.

    Parameters
    ----------
    task
        Problem, objective and deadline.
    cp_sat
        The search over tours and circuits. Its bounds have proofs that can be checked.
    """
    yield Step(cp_sat.name, "tours through the classes, by branch and cut; then circuits", asking(cp_sat))
