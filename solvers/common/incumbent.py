"""The best order and the best bound a search has so far; every improvement is reported once.

Values are always those of `problems.evaluate`, never a model's.
"""

from __future__ import annotations

from typing import Any

from problems import Claim, Order
from solvers.common.proofs import Reason
from solvers.common.task import Finding, Task


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
        self._reasons: dict[str, tuple[int, Reason]] = {}

    @property
    def closed(self) -> bool:
        """Whether the bound meets the value."""
        return self.bound >= self.value

    def offer(self, order: Order) -> bool:
        """Take an order if it is strictly better; says whether it was."""
        if order is self.order:
            return False
        value = self._task.value(order)
        if value >= self.value:
            return False
        self.order, self.value = order, value
        self._task.report(self.value, min(self.bound, self.value))
        return True

    def raise_bound(self, bound: int, reason: Reason | None = None, *, method: str = "") -> None:
        """Take a proven bound if it is better.

        Parameters
        ----------
        bound
            The bound.
        reason
            Asked for the claims behind it if a proof is wanted in the end.
        method
            The reason replaces earlier ones of the same method; those of other methods stay beside it.
        """
        if bound > self.bound:
            self.bound = bound
            if reason is not None:
                self._reasons[method] = (bound, reason)
            self._task.report(self.value, self.bound)

    def claims(self) -> tuple[Claim, ...]:
        """Why the bound holds, as far as reasons were given; nothing if nobody wants to know."""
        if not self._task.want_proof:
            return ()
        return tuple(claim for bound, reason in self._reasons.values() for claim in reason(bound))

    def finding(self, stats: dict[str, Any] | None = None) -> Finding:
        """What a solver hands back: the order and the bound, with figures for reports."""
        return Finding(
            self.order,
            min(self.bound, self.value),
            optimal=self.closed,
            objective=self.value,
            stats=stats or {},
            claims=self.claims(),
        )
