"""The do-nothing solver: the original order of the channels, as exported without any reordering.

A baseline for comparisons; its bound is the trivial one.
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

    def solve(self, task: Task) -> Finding:
        """The identity, with the trivial bound."""
        return Finding(Order.identity(task.problem), bound=task.trivial_bound)
