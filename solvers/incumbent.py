"""The best order and the best bound a search has so far; every improvement is reported once.

Values are always those of `problems.evaluate`, never a model's.
"""

from __future__ import annotations

from problems import Order, Proof
from solvers.proofs import Reason, search_proof, trivial_proof
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
        self._reason: Reason = lambda bound: trivial_proof(task.problem, task.objective, bound)

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

    def raise_bound(self, bound: int, reason: Reason | None = None) -> None:
        """Take a proven bound if it is better; the reason is asked if a proof of it is wanted in the end."""
        if bound > self.bound:
            self.bound = bound
            self._reason = reason or self._plainly
            self._task.report(self.value, self.bound)

    def proof(self) -> Proof | None:
        """Why the bound holds; None if nobody wants to know."""
        return self._reason(self.bound) if self._task.want_proof else None

    def _plainly(self, bound: int) -> Proof:
        return search_proof(self._task.objective, bound, "the search ruled out everything cheaper")
