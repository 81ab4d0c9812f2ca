"""The best order and the best bound a search has so far; every improvement is reported once.

Values are always those of `problems.evaluate`, never a model's.
"""

from __future__ import annotations

from problems import Order
from solvers.task import Task


class Incumbent:
    """Starts with the task's start and trivial bound, and only ever improves.

    Attributes
    ----------
    order, value
        The best order and its value.
    bound
        No order has a smaller value.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.order = task.start
        self.value = task.start_value
        self.bound = min(task.trivial_bound, self.value)

    @property
    def closed(self) -> bool:
        """Whether the bound meets the value."""
        return self.bound >= self.value

    def offer(self, order: Order) -> bool:
        """Take an order if it is strictly better; says whether it was."""
        value = self._task.value(order)
        if value >= self.value:
            return False
        self.order, self.value = order, value
        self._task.report(self.value, min(self.bound, self.value))
        return True

    def raise_bound(self, bound: int) -> None:
        """Take a proven bound if it is better."""
        if bound > self.bound:
            self.bound = bound
            self._task.report(self.value, self.bound)
