"""The solver `identity`: the original order of the channels, without any reordering. Its bound is the trivial one.

It is for comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from problems import Order
from solvers.common.task import Finding, Task


@dataclass(frozen=True)
class Identity:
    """Returns the original order.

    Examples
    --------
    >>> from problems.generators import random_masks
    >>> from solvers import solve
    >>> solve(random_masks(8, 2), solver=Identity()).order[0].tolist()
    [0, 2, 3, 5, 6, 7]
    """

    name: ClassVar[str] = "identity"
    exact: ClassVar[bool] = False
    keeps_constraints: ClassVar[bool] = True

    def solve(self, task: Task) -> Finding:
        """The identity, with the trivial bound."""
        return Finding(Order.identity(task.problem), bound=task.trivial_bound)
