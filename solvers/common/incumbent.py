"""The best order and the best bound a search has so far; every improvement is reported once.

Values are always those of `problems.evaluate`, never a model's. A bound above a value is an error in whoever proved it,
and is said to be one: nothing is cut to fit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from problems import Claim, Order
from solvers.common.errors import SolverError
from solvers.common.proofs import Reason
from solvers.common.result import Progress
from solvers.common.task import Finding, Task


class Incumbent:
    """Starts with the task's start and trivial bound, and only ever improves.

    Attributes
    ----------
    order, value
        The best order and its value.
    bound
        No order has a smaller value.

    Raises
    ------
    SolverError
        If the task's trivial bound lies above the value of its start; likewise `offer` and `raise_bound`.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self.order = task.start
        self.value = task.start_value
        self.bound = task.trivial_bound
        self._reasons: dict[str, tuple[int, Reason]] = {}
        self._require_consistent("the trivial bound")
        if task.want_proof and task.claims_heard is not None:
            task.claims_heard(self.claims)

    @property
    def closed(self) -> bool:
        """Whether the bound meets the value."""
        return self.bound == self.value

    def offer(self, order: Order) -> bool:
        """Take an order if it is strictly better; says whether it was."""
        if order is self.order:
            return False
        value = self._task.value(order)
        if value >= self.value:
            return False
        self.order, self.value = order, value
        self._require_consistent("what is known so far")
        self._task.report(self.value, self.bound, self.order)
        return True

    def offer_from(
        self, order_of: Callable[[Order], Order], bound_of: Callable[[int], int] | None = None
    ) -> Callable[[Progress], None]:
        """A progress callback for a task on a part of the problem, or on another form of it: nothing waits for its end.

        Parameters
        ----------
        order_of
            Makes an order of this problem from one of that task's.
        bound_of
            Makes a bound for this problem from one for that task's; None if there is none.
        """

        def offer(progress: Progress) -> None:
            if progress.order is not None:
                self.offer(order_of(progress.order))
            if bound_of is not None and progress.bound is not None:
                self.tell_bound(bound_of(progress.bound))

        return offer

    def tell_bound(self, bound: int) -> None:
        """Report a bound that a search still works on; it is taken when the search says what it rests on."""
        if self.bound < bound <= self.value:
            self._task.report(self.value, bound, self.order)

    def raise_bound(
        self, bound: int, reason: Reason | None = None, *, method: str = "", of_better: bool = False
    ) -> None:
        """Take a proven bound if it is better.

        Parameters
        ----------
        bound
            The bound.
        reason
            Asked for the claims behind it if a proof is wanted in the end.
        method
            The reason replaces earlier ones of the same method; those of other methods stay beside it.
        of_better
            The search left out orders that are no better than the incumbent, so that the bound is one on the others
            only: all together are bounded by the smaller of it and the incumbent's value. Otherwise it is one on every
            order, and if it lies above the incumbent's value the proof is wrong.
        """
        if of_better:
            bound = min(bound, self.value)
        if bound > self.bound:
            self.bound = bound
            self._require_consistent(method or "a search")
            if reason is not None:
                self._reasons[method] = (bound, reason)
            self._task.report(self.value, self.bound, self.order)

    def _require_consistent(self, method: str) -> None:
        if self.bound > self.value:
            raise SolverError(
                f"{self._task.problem.name}, {self._task.objective.name}: {method} says that no order is below "
                f"{self.bound}, but one has {self.value}; please report this with the instance"
            )

    def claims(self) -> tuple[Claim, ...]:
        """Why the bound holds, as far as reasons were given; nothing if nobody wants to know."""
        if not self._task.want_proof:
            return ()
        return tuple(claim for bound, reason in self._reasons.values() for claim in reason(bound))

    def finding(self, stats: dict[str, Any] | None = None) -> Finding:
        """What a solver hands back: the order and the bound, with figures for reports."""
        return Finding(
            self.order,
            self.bound,
            optimal=self.closed,
            value=self.value,
            stats=stats or {},
            claims=self.claims(),
        )
